"""System calls that Python does not offer, on the path or descriptor as the kernel takes them. Errors are OSError."""

import ctypes
import os
import struct
from collections.abc import Iterator

RENAME_NOREPLACE = 1
RENAME_EXCHANGE = 2
FALLOC_KEEP_SIZE = 0x01
FALLOC_PUNCH_HOLE = 0x02
FALLOC_COLLAPSE_RANGE = 0x08
FALLOC_ZERO_RANGE = 0x10

_AT_FDCWD = -100
_GETDENTS64 = 217 if os.uname().machine == "x86_64" else 61

_libc = ctypes.CDLL(None, use_errno=True)
_libc.opendir.restype = _libc.readdir64.restype = ctypes.c_void_p
_libc.readdir64.argtypes = _libc.closedir.argtypes = _libc.telldir.argtypes = [ctypes.c_void_p]
_libc.telldir.restype = ctypes.c_long
_libc.seekdir.argtypes = [ctypes.c_void_p, ctypes.c_long]
_libc.getxattr.restype = _libc.listxattr.restype = ctypes.c_ssize_t
_libc.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
_libc.syscall.restype = ctypes.c_long


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def renameat2(source: bytes, target: bytes, flags: int) -> None:
    _checked(_libc.renameat2(_AT_FDCWD, source, _AT_FDCWD, target, flags))


def fallocate(fd: int, mode: int, offset: int, length: int) -> None:
    _checked(_libc.fallocate(fd, mode, offset, length))


def syncfs(fd: int) -> None:
    _checked(_libc.syncfs(fd))


def getxattr(path: bytes, name: bytes, size: int) -> int:
    """The length that the call returns for a buffer of `size` bytes; 0 asks for the length."""
    return _checked(_libc.getxattr(path, name, ctypes.create_string_buffer(size) if size else None, size))


def listxattr(path: bytes, size: int) -> int:
    return _checked(_libc.listxattr(path, ctypes.create_string_buffer(size) if size else None, size))


def getdents(fd: int, size: int) -> list[tuple[bytes, int]]:
    """One getdents64: (name, position after it) of as many entries as fit into `size` bytes; [] at the end."""
    buffer = ctypes.create_string_buffer(size)
    length = _checked(_libc.syscall(ctypes.c_long(_GETDENTS64), fd, buffer, ctypes.c_size_t(size)))
    return list(_entries(buffer.raw[:length]))


def _entries(raw: bytes) -> Iterator[tuple[bytes, int]]:
    at = 0
    while at < len(raw):
        _, position, length, _ = struct.unpack_from("=QqHB", raw, at)
        yield raw[at + 19 : at + length].split(b"\0", 1)[0], position
        at += length


class DirectoryStream:
    """opendir(3) and its company."""

    def __init__(self, path: bytes) -> None:
        stream = _libc.opendir(path)
        if not stream:
            _checked(-1)
        self._stream = stream

    def read(self) -> bytes | None:
        """The next name; None at the end."""
        entry = _libc.readdir64(self._stream)
        return ctypes.string_at(entry + 19) if entry else None

    def tell(self) -> int:
        position: int = _libc.telldir(self._stream)
        return position

    def seek(self, position: int) -> None:
        _libc.seekdir(self._stream, position)

    def close(self) -> None:
        _libc.closedir(self._stream)
