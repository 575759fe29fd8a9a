"""Keeps glibc from holding on to memory that this process has freed.

Buffers of a MiB and more come and go on many threads here, librados' own included. By default glibc gives every thread an
arena of its own, and keeps what is freed in each: a mount that once had 50 MiB under way stays at 200 for good.
"""

import ctypes

_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_M_ARENA_MAX = -8
_ARENAS = 2
#: Buffers below are cut from the heap and used again: to map and unmap each would cost a page fault for every 4 KiB.
_MAPPED_FROM_BYTES = 16 << 20
#: Free memory at the heap's end beyond this goes back at once, the rest with `trim_heap`.
_KEPT_BYTES = 32 << 20

_libc = ctypes.CDLL(None)


def bound_heap() -> None:
    """Once, at the start of a process that moves data, before it has threads. Nothing happens on other C libraries."""
    if hasattr(_libc, "mallopt"):
        _libc.mallopt(_M_ARENA_MAX, _ARENAS)
        _libc.mallopt(_M_MMAP_THRESHOLD, _MAPPED_FROM_BYTES)
        _libc.mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)


def trim_heap() -> None:
    """Give back what is free inside the heap. Takes up to some milliseconds: now and then, not on a hot path."""
    if hasattr(_libc, "malloc_trim"):
        _libc.malloc_trim(0)
