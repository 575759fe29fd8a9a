"""A small, complete file system in memory, to test the FUSE package with; it also counts what the kernel did.

`calls` counts operations by name, `lookups` is the kernel's count of each inode number, `handles` the open
handles. `hooks` replaces an operation for one test: it is called with the operation's arguments.
"""

import errno
import os
import stat
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from loligo_fuse import (
    ROOT_ID,
    Answer,
    Attributes,
    Context,
    DirectoryEntry,
    Negotiated,
    Opened,
    Operations,
    SetAttributes,
    StatFs,
)

RENAME_NOREPLACE = 1
RENAME_EXCHANGE = 2


@dataclass(slots=True)
class Inode:
    ino: int
    mode: int
    uid: int
    gid: int
    rdev: int = 0
    nlink: int = 1
    generation: int = 1
    block_size: int = 4096
    atime_ns: int = 0
    mtime_ns: int = 0
    ctime_ns: int = 0
    data: bytearray = field(default_factory=bytearray)
    entries: dict[bytes, "Inode"] = field(default_factory=dict)
    xattrs: dict[bytes, bytes] = field(default_factory=dict)

    @property
    def size(self) -> int:
        return len(self.data)

    @property
    def blocks(self) -> int:
        return -(-len(self.data) // 512)


class MemoryFilesystem(Operations):
    entry_timeout_s = 3600.0
    attribute_timeout_s = 3600.0
    negative_timeout_s = 3600.0

    def __init__(self) -> None:
        root = Inode(ROOT_ID, stat.S_IFDIR | 0o755, os.getuid(), os.getgid(), nlink=2)
        self.inodes = {ROOT_ID: root}
        self.negotiated: Negotiated | None = None
        self.destroyed = 0
        self.calls: Counter[str] = Counter()
        self.lookups: Counter[int] = Counter()
        self.handles: set[int] = set()
        self.hooks: dict[str, Callable[..., Any]] = {}
        self._next_ino = ROOT_ID + 1
        self._next_handle = 1

    def __getattribute__(self, name: str) -> Any:
        value = object.__getattribute__(self, name)
        if name.startswith("_") or name not in Operations.__dict__ or not callable(value):
            return value
        object.__getattribute__(self, "calls")[name] += 1
        return object.__getattribute__(self, "hooks").get(name, value)

    def _inode(self, ino: int) -> Inode:
        try:
            return self.inodes[ino]
        except KeyError:
            raise OSError(errno.ESTALE, "no such inode") from None

    def _child(self, parent: int, name: bytes) -> Inode:
        try:
            return self._inode(parent).entries[name]
        except KeyError:
            raise OSError(errno.ENOENT, "no such name") from None

    def _add(self, ctx: Context, parent: int, name: bytes, mode: int, rdev: int = 0) -> Inode:
        directory = self._inode(parent)
        if name in directory.entries:
            raise OSError(errno.EEXIST, "exists")
        now_ns = time.time_ns()
        inode = Inode(self._next_ino, mode, ctx.uid, ctx.gid, rdev)
        self._next_ino += 1
        inode.atime_ns = inode.mtime_ns = inode.ctime_ns = now_ns
        self.inodes[inode.ino] = directory.entries[name] = inode
        directory.mtime_ns = directory.ctime_ns = now_ns
        if stat.S_ISDIR(mode):
            inode.nlink = 2
            directory.nlink += 1
        self.lookups[inode.ino] += 1
        return inode

    def _drop(self, directory: Inode, name: bytes) -> None:
        inode = directory.entries.pop(name)
        inode.ctime_ns = directory.mtime_ns = directory.ctime_ns = time.time_ns()
        if stat.S_ISDIR(inode.mode):
            inode.nlink = 0
            directory.nlink -= 1
        else:
            inode.nlink -= 1

    def _open(self, flags: int = 0) -> Opened:
        opened = Opened(self._next_handle, flags)
        self._next_handle += 1
        self.handles.add(opened.handle)
        return opened

    def init(self, negotiated: Negotiated) -> None:
        self.negotiated = negotiated

    def destroy(self) -> None:
        self.destroyed += 1

    def lookup(self, ctx: Context, parent: int, name: bytes) -> Answer[Attributes | None]:
        inode = self._inode(parent).entries.get(name)
        if inode is not None:
            self.lookups[inode.ino] += 1
        return inode

    def forget(self, inos: Sequence[tuple[int, int]]) -> None:
        for ino, count in inos:
            self.lookups[ino] -= count
            if not self.lookups[ino]:
                del self.lookups[ino]
                if ino != ROOT_ID and not self.inodes[ino].nlink:
                    del self.inodes[ino]

    def getattr(self, ctx: Context, ino: int, handle: int | None) -> Answer[Attributes]:
        return self._inode(ino)

    def setattr(self, ctx: Context, ino: int, change: SetAttributes, handle: int | None) -> Answer[Attributes]:
        inode = self._inode(ino)
        if change.mode is not None:
            inode.mode = stat.S_IFMT(inode.mode) | stat.S_IMODE(change.mode)
        if change.uid is not None:
            inode.uid = change.uid
        if change.gid is not None:
            inode.gid = change.gid
        if change.size is not None:
            del inode.data[change.size :]
            inode.data.extend(bytes(change.size - len(inode.data)))
            inode.mtime_ns = time.time_ns()
        if change.atime_ns is not None:
            inode.atime_ns = change.atime_ns
        if change.mtime_ns is not None:
            inode.mtime_ns = change.mtime_ns
        if change.kill_suidgid:
            inode.mode &= ~(stat.S_ISUID | stat.S_ISGID)
        inode.ctime_ns = time.time_ns()
        return inode

    def readlink(self, ctx: Context, ino: int) -> Answer[bytes]:
        return bytes(self._inode(ino).data)

    def symlink(self, ctx: Context, parent: int, name: bytes, target: bytes) -> Answer[Attributes]:
        inode = self._add(ctx, parent, name, stat.S_IFLNK | 0o777)
        inode.data[:] = target
        return inode

    def mknod(self, ctx: Context, parent: int, name: bytes, mode: int, rdev: int, umask: int) -> Answer[Attributes]:
        return self._add(ctx, parent, name, mode & ~umask, rdev)

    def mkdir(self, ctx: Context, parent: int, name: bytes, mode: int, umask: int) -> Answer[Attributes]:
        return self._add(ctx, parent, name, stat.S_IFDIR | mode & ~umask)

    def unlink(self, ctx: Context, parent: int, name: bytes) -> Answer[None]:
        self._child(parent, name)
        self._drop(self._inode(parent), name)
        return None

    def rmdir(self, ctx: Context, parent: int, name: bytes) -> Answer[None]:
        if self._child(parent, name).entries:
            raise OSError(errno.ENOTEMPTY, "not empty")
        self._drop(self._inode(parent), name)
        return None

    def rename(
        self,
        ctx: Context,
        parent: int,
        name: bytes,
        new_parent: int,
        new_name: bytes,
        flags: int,
    ) -> Answer[None]:
        inode = self._child(parent, name)
        source, target = self._inode(parent), self._inode(new_parent)
        victim = target.entries.get(new_name)
        if flags == RENAME_EXCHANGE:
            if victim is None:
                raise OSError(errno.ENOENT, "nothing to exchange with")
            source.entries[name], target.entries[new_name] = victim, inode
            return None
        if flags & ~RENAME_NOREPLACE:
            raise OSError(errno.EINVAL, "unknown flags")
        if victim is not None:
            if flags:
                raise OSError(errno.EEXIST, "exists")
            self._drop(target, new_name)
        del source.entries[name]
        target.entries[new_name] = inode
        if stat.S_ISDIR(inode.mode):
            source.nlink -= 1
            target.nlink += 1
        return None

    def link(self, ctx: Context, ino: int, new_parent: int, new_name: bytes) -> Answer[Attributes]:
        inode = self._inode(ino)
        self._inode(new_parent).entries[new_name] = inode
        inode.nlink += 1
        self.lookups[ino] += 1
        return inode

    def open(self, ctx: Context, ino: int, flags: int) -> Answer[Opened]:
        if flags & os.O_TRUNC:
            self._inode(ino).data.clear()
        return self._open()

    def create(
        self, ctx: Context, parent: int, name: bytes, mode: int, umask: int, flags: int
    ) -> Answer[tuple[Attributes, Opened]]:
        return self._add(ctx, parent, name, mode & ~umask), self._open()

    def tmpfile(
        self, ctx: Context, parent: int, mode: int, umask: int, flags: int
    ) -> Answer[tuple[Attributes, Opened]]:
        name = b"temporary file without a name"
        inode = self._add(ctx, parent, name, mode & ~umask)
        self._drop(self._inode(parent), name)
        return inode, self._open()

    def read(
        self, ctx: Context, ino: int, handle: int, offset: int, size: int
    ) -> Answer[bytes | bytearray | memoryview | Sequence[bytes | bytearray | memoryview]]:
        return bytes(memoryview(self._inode(ino).data)[offset : offset + size])

    def write(
        self,
        ctx: Context,
        ino: int,
        handle: int,
        offset: int,
        data: memoryview,
        kill_suidgid: bool,
        flags: int,
    ) -> Answer[int]:
        inode = self._inode(ino)
        if offset > len(inode.data):
            inode.data.extend(bytes(offset - len(inode.data)))
        inode.data[offset : offset + len(data)] = data
        inode.mtime_ns = inode.ctime_ns = time.time_ns()
        if kill_suidgid:
            inode.mode &= ~(stat.S_ISUID | stat.S_ISGID)
        return len(data)

    def release(self, ctx: Context, ino: int, handle: int) -> Answer[None]:
        self.handles.remove(handle)
        return None

    def opendir(self, ctx: Context, ino: int, flags: int) -> Answer[Opened]:
        return self._open()

    def releasedir(self, ctx: Context, ino: int, handle: int) -> Answer[None]:
        self.handles.remove(handle)
        return None

    def readdir(self, ctx: Context, ino: int, handle: int, cookie: int, plus: bool) -> Answer[Iterator[DirectoryEntry]]:
        return self._entries(self._inode(ino), cookie, plus)

    def _entries(self, directory: Inode, cookie: int, plus: bool) -> Iterator[DirectoryEntry]:
        # Positions as cookies do for tests that do not change a directory while they list it.
        for index, name in enumerate([b".", b"..", *directory.entries][cookie:], start=cookie):
            inode = directory.entries.get(name)
            if inode is None:
                yield name, index + 1, directory.ino, directory.mode, None
            else:
                yield name, index + 1, inode.ino, inode.mode, inode if plus else None
                if plus:
                    self.lookups[inode.ino] += 1

    def statfs(self, ctx: Context, ino: int) -> Answer[StatFs]:
        return StatFs(4096, 1000, 600, 500, 70, 60, 255)

    def getxattr(self, ctx: Context, ino: int, name: bytes) -> Answer[bytes]:
        try:
            return self._inode(ino).xattrs[name]
        except KeyError:
            raise OSError(errno.ENODATA, "no such attribute") from None

    def setxattr(
        self,
        ctx: Context,
        ino: int,
        name: bytes,
        value: bytes,
        flags: int,
        acl_kill_sgid: bool,
    ) -> Answer[None]:
        xattrs = self._inode(ino).xattrs
        if flags & os.XATTR_CREATE and name in xattrs:
            raise OSError(errno.EEXIST, "exists")
        if flags & os.XATTR_REPLACE and name not in xattrs:
            raise OSError(errno.ENODATA, "no such attribute")
        xattrs[name] = value
        return None

    def listxattr(self, ctx: Context, ino: int) -> Answer[list[bytes]]:
        return list(self._inode(ino).xattrs)

    def removexattr(self, ctx: Context, ino: int, name: bytes) -> Answer[None]:
        self.getxattr(ctx, ino, name)
        del self._inode(ino).xattrs[name]
        return None

    def fallocate(self, ctx: Context, ino: int, handle: int, offset: int, length: int, mode: int) -> Answer[None]:
        if mode:
            raise OSError(errno.EOPNOTSUPP, "only plain allocation")
        data = self._inode(ino).data
        data.extend(bytes(max(0, offset + length - len(data))))
        return None

    def lseek(self, ctx: Context, ino: int, handle: int, offset: int, whence: int) -> Answer[int]:
        size = self._inode(ino).size
        if offset >= size:
            raise OSError(errno.ENXIO, "behind the end")
        return offset if whence == os.SEEK_DATA else size
