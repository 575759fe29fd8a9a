"""Gives back the memory of a file that is mapped into this process.

Pages of a mapped file that were read once count as this process's memory until the kernel needs them, which on a large
machine is never; an operator sees a process that only grows. The pages themselves belong to the page cache: dropping
them from the process costs a minor fault each when they are needed again, and no I/O.

The kernel is told addresses that were looked up just before. Whoever calls this sees to it that the file's mappings stay
in their places meanwhile (for the tables: with the lock of the core): what is mapped there instead could lose its content.
"""

import ctypes
import os

_MADV_DONTNEED = 4

_libc = ctypes.CDLL(None, use_errno=True)
_libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]


def mapped_file_bytes() -> int:
    """How much of this process's resident memory is pages of files."""
    with open("/proc/self/statm", "rb") as file:
        return int(file.read().split()[2]) * os.sysconf("SC_PAGESIZE")


def drop_mapped_pages(path: str) -> None:
    """Take the pages of the shared, read-only mappings of the file at `path` out of this process.

    None of them may come or go while this runs.
    """
    wanted = os.fsencode(os.path.realpath(path))
    with open("/proc/self/maps", "rb") as file:
        lines = file.readlines()
    for line in lines:
        fields = line.rstrip(b"\n").split(None, 5)
        if len(fields) == 6 and fields[5] == wanted and fields[1] == b"r--s":
            low, high = (int(address, 16) for address in fields[0].split(b"-"))
            if _libc.madvise(low, high - low, _MADV_DONTNEED) != 0:
                raise OSError(ctypes.get_errno(), "madvise")
