"""A file system that does nothing, on both transports: what is left is the transport's own cost.

Every answer is a constant or a function of the name: a name with `f` is a file, one with `d` a
directory, any other is missing until it is created (the kernel remembers that, we do not). Node
numbers of directories have a bit of their own, so that nothing needs to be stored. The pyfuse3 one is
written against pyfuse3 itself, with no layer of ours between.
"""

import errno
import os
import stat
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import pyfuse3
import trio

from loligo_fuse import Context, Opened, Operations, Session, SetAttributes, mount

LISTED = 100
PAGE_BYTES = 4_096
LONG_S = 3600.0
SIZE_BYTES = 1 << 30

_TIME_NS = 1_700_000_000_000_000_000


class _Fixed:
    """Attributes that never change; only the number and the mode are set before each answer."""

    generation = 0
    nlink = 1
    uid = gid = rdev = 0
    size = SIZE_BYTES
    blocks = 0
    block_size = PAGE_BYTES
    atime_ns = mtime_ns = ctime_ns = _TIME_NS

    __slots__ = ("ino", "mode")

    def __init__(self) -> None:
        self.ino = 0
        self.mode = 0


_DIRECTORY_BIT = 1 << 40
_ROOT = 1


def _number(parent: int, name: bytes, directory: bool) -> int:
    number = zlib.crc32(name, parent & 0xFFFFFFFF) + 2
    return number | _DIRECTORY_BIT if directory else number


def _is_directory(number: int) -> bool:
    return number == _ROOT or bool(number & _DIRECTORY_BIT)


def _mode(number: int) -> int:
    return stat.S_IFDIR | 0o755 if _is_directory(number) else stat.S_IFREG | 0o644


def _listed_name(number: int) -> bytes:
    return b"file_%03d" % number


class DoesNothing(Operations):
    """Served by loligo_fuse."""

    entry_timeout_s = attribute_timeout_s = negative_timeout_s = LONG_S

    def __init__(self) -> None:
        self._fixed = _Fixed()
        self._opened = Opened(0, 0)
        self._page = bytes(PAGE_BYTES)

    def _attributes(self, number: int) -> _Fixed:
        fixed = self._fixed
        fixed.ino = number
        fixed.mode = _mode(number)
        return fixed

    def _named(self, parent: int, name: bytes, directory: bool) -> _Fixed:
        return self._attributes(_number(parent, name, directory))

    def lookup(self, ctx: Context, parent: int, name: bytes) -> _Fixed | None:
        first = name[:1]
        return self._named(parent, name, first == b"d") if first in b"fd" else None

    def getattr(self, ctx: Context, ino: int, handle: int | None) -> _Fixed:
        return self._attributes(ino)

    def setattr(self, ctx: Context, ino: int, change: SetAttributes, handle: int | None) -> _Fixed:
        return self._attributes(ino)

    def mkdir(self, ctx: Context, parent: int, name: bytes, mode: int, umask: int) -> _Fixed:
        return self._named(parent, name, True)

    def unlink(self, ctx: Context, parent: int, name: bytes) -> None:
        return None

    def rename(self, ctx: Context, parent: int, name: bytes, new_parent: int, new_name: bytes, flags: int) -> None:
        return None

    def open(self, ctx: Context, ino: int, flags: int) -> Opened:
        return self._opened

    def create(
        self, ctx: Context, parent: int, name: bytes, mode: int, umask: int, flags: int
    ) -> tuple[_Fixed, Opened]:
        return self._named(parent, name, False), self._opened

    def read(self, ctx: Context, ino: int, handle: int, offset: int, size: int) -> bytes:
        return self._page if size == PAGE_BYTES else bytes(size)

    def write(
        self,
        ctx: Context,
        ino: int,
        handle: int,
        offset: int,
        data: memoryview,
        kill_suidgid: bool,
        flags: int,
    ) -> int:
        return len(data)

    def release(self, ctx: Context, ino: int, handle: int) -> None:
        return None

    def readdir(
        self, ctx: Context, ino: int, handle: int, cookie: int, plus: bool
    ) -> Iterator[tuple[bytes, int, int, int, _Fixed | None]]:
        for number in range(cookie, LISTED):
            name = _listed_name(number)
            fixed = self._named(ino, name, False)
            yield name, number + 1, fixed.ino, fixed.mode, fixed if plus else None

    def getxattr(self, ctx: Context, ino: int, name: bytes) -> bytes:
        return b"value"

    def setxattr(self, ctx: Context, ino: int, name: bytes, value: bytes, flags: int, acl_kill_sgid: bool) -> None:
        return None


def _serve_native(mountpoint: str) -> None:
    fd = mount(mountpoint, fsname="nothing", subtype="nothing", options=["default_permissions"])
    try:
        Session(fd, DoesNothing()).run()
    finally:
        os.close(fd)


class DoesNothingForPyfuse3(pyfuse3.Operations):
    """Served by pyfuse3; handles are node numbers, so that readdir knows what it lists."""

    async def lookup(self, parent_inode: int, name: bytes, ctx: Any) -> Any:
        first = name[:1]
        return _entry(_number(parent_inode, name, first == b"d") if first in b"fd" else 0)

    async def getattr(self, inode: int, ctx: Any) -> Any:
        return _entry(inode)

    async def setattr(self, inode: int, attr: Any, fields: Any, fh: int | None, ctx: Any) -> Any:
        return _entry(inode)

    async def mkdir(self, parent_inode: int, name: bytes, mode: int, ctx: Any) -> Any:
        return _entry(_number(parent_inode, name, True))

    async def unlink(self, parent_inode: int, name: bytes, ctx: Any) -> None:
        return None

    async def rename(
        self,
        parent_inode_old: int,
        name_old: bytes,
        parent_inode_new: int,
        name_new: bytes,
        flags: int,
        ctx: Any,
    ) -> None:
        return None

    async def open(self, inode: int, flags: int, ctx: Any) -> Any:
        return pyfuse3.FileInfo(fh=inode)

    async def create(self, parent_inode: int, name: bytes, mode: int, flags: int, ctx: Any) -> Any:
        number = _number(parent_inode, name, False)
        return pyfuse3.FileInfo(fh=number), _entry(number)

    async def read(self, fh: int, off: int, size: int) -> bytes:
        return bytes(size)

    async def write(self, fh: int, off: int, buf: bytes) -> int:
        return len(buf)

    async def flush(self, fh: int) -> None:
        raise pyfuse3.FUSEError(errno.ENOSYS)

    async def fsync(self, fh: int, datasync: bool) -> None:
        raise pyfuse3.FUSEError(errno.ENOSYS)

    async def release(self, fh: int) -> None:
        return None

    async def opendir(self, inode: int, ctx: Any) -> int:
        return inode

    async def readdir(self, fh: int, start_id: int, token: Any) -> None:
        for number in range(start_id, LISTED):
            name = _listed_name(number)
            if not pyfuse3.readdir_reply(token, name, _entry(_number(fh, name, False)), number + 1):
                return

    async def releasedir(self, fh: int) -> None:
        return None

    async def getxattr(self, inode: int, name: bytes, ctx: Any) -> bytes:
        return b"value"

    async def setxattr(self, inode: int, name: bytes, value: bytes, ctx: Any) -> None:
        return None

    async def forget(self, inode_list: Any) -> None:
        return None


def _entry(number: int) -> Any:
    """Node number 0 is a negative entry."""
    entry = pyfuse3.EntryAttributes()
    entry.st_ino = number
    entry.st_mode = _mode(number)
    entry.st_nlink = 1
    entry.st_size = SIZE_BYTES
    entry.st_atime_ns = entry.st_mtime_ns = entry.st_ctime_ns = _TIME_NS
    entry.entry_timeout = entry.attr_timeout = LONG_S
    return entry


def _serve_pyfuse3(mountpoint: str) -> None:
    options = {*pyfuse3.default_options, "fsname=nothing", "default_permissions"}
    pyfuse3.init(DoesNothingForPyfuse3(), mountpoint, options)
    try:
        trio.run(pyfuse3.main)
    finally:
        pyfuse3.close(unmount=False)


# Transport -> what a process of its own runs to mount and serve, until it is unmounted.
TRANSPORTS: dict[str, Callable[[str], None]] = {
    "native": _serve_native,
    "pyfuse3": _serve_pyfuse3,
}
