"""Where tests make their folders.

Nearly all make volumes, and on a disk they wait for its syncs most of the time, which is not what they are about. So temporary
files are in memory if there is plenty of it, unless TMPDIR says otherwise. What is about a disk, or too large, says so: `DISK`.
"""

import os
import tempfile
from typing import Final

#: A file system on a disk, in any case.
DISK: Final = "/var/tmp"
_MEMORY: Final = "/dev/shm"
_MEMORY_MIN_BYTES: Final = 8 << 30


def work_in_memory() -> None:
    """For this process, and those that it starts."""
    if "TMPDIR" in os.environ or not os.path.ismount(_MEMORY):
        return
    room = os.statvfs(_MEMORY)
    if room.f_bavail * room.f_frsize >= _MEMORY_MIN_BYTES:
        os.environ["TMPDIR"] = tempfile.tempdir = _MEMORY
