"""What Python's `os` does not offer for files on a local disk: a read that waits for a moment only, a hole that is punched."""

import ctypes
import errno
import os
import time
from typing import Final

#: Reads up to this size that miss the page cache are worth a moment's wait for the disk.
QUICK_READ_BYTES: Final = 64 << 10
QUICK_READ_NS: Final = 100_000

_PUNCH_HOLE_KEEP_SIZE: Final = 0x02 | 0x01

_libc = ctypes.CDLL(None, use_errno=True)
_libc.fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)


def read_soon(fd: int, part: tuple[memoryview], offset: int) -> int:
    """What the page cache has, or, of a short read, what the disk brings within a moment: how many bytes. BlockingIOError if
    that would take longer, OSError (EOPNOTSUPP) on file systems that cannot tell.

    A fast disk answers sooner than another thread wakes up and hands over what it read.
    """
    try:
        return os.preadv(fd, part, offset, os.RWF_NOWAIT)
    except BlockingIOError:
        if len(part[0]) > QUICK_READ_BYTES:
            raise
    os.posix_fadvise(fd, offset, len(part[0]), os.POSIX_FADV_WILLNEED)
    until_ns = time.perf_counter_ns() + QUICK_READ_NS
    while True:
        try:
            return os.preadv(fd, part, offset, os.RWF_NOWAIT)
        except BlockingIOError:
            if time.perf_counter_ns() > until_ns:
                raise


def punch(fd: int, offset: int, length: int) -> bool:
    """Make a range read as zeros and give its space back; False if the file system has no holes. OSError."""
    if _libc.fallocate(fd, _PUNCH_HOLE_KEEP_SIZE, offset, length) == 0:
        return True
    code = ctypes.get_errno()
    if code == errno.EOPNOTSUPP:
        return False
    raise OSError(code, os.strerror(code))
