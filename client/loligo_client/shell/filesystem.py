"""The file system as the kernel sees it: each FUSE operation in terms of metadata requests and the data path.

One class for every transport; both the native session and pyfuse3 call these methods. It decides nothing about names
and attributes (the metadata core does) and nothing about when bytes move (the data path does); it keeps what belongs to
this mount alone: open handles, removed inodes that the kernel still remembers, and when atime moves.

Node ids are inode numbers, and listing positions are cookies of names, so nothing here has to be remembered for the
kernel's sake; handles are the one exception.

This mount is the volume's only one, so the kernel may keep names, attributes, pages and listings for as long as it
likes: every change goes through it.

atime follows relatime: it moves when bytes or names are fetched from here and it is not newer than mtime and ctime, or
a day old. What the kernel answers from its own cache does not move it.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from errno import EBADF, EEXIST, EINVAL, EISDIR, ENODATA, ENOENT, ENOSPC
from stat import S_IFDIR, S_IFLNK, S_IFREG, S_ISGID, S_ISUID
from typing import Any

from loligo_client.shell.data_path import DataPath, Metadata
from loligo_client.shell.file_data import FileData
from loligo_client.shell.pending import transformed
from loligo_fuse import (
    FOPEN_KEEP_CACHE,
    FOPEN_NOFLUSH,
    OPEN_KILL_SUIDGID,
    Answer,
    Buffer,
    Context,
    DirectoryEntry,
    Opened,
    Operations,
    StatFs,
)
from loligo_fuse import SetAttributes as Change
from loligo_mds.core.limits import LISTING_PAGE_MAX, NAME_MAX_BYTES
from loligo_mds.core.requests import (
    Create,
    CreateUnnamed,
    GetAttributes,
    GetUsage,
    GetXattr,
    Link,
    ListXattrs,
    Lookup,
    ReadDirectory,
    ReadLink,
    RecordAccess,
    RemoveDirectory,
    RemoveXattr,
    Rename,
    SetAttributes,
    SetXattr,
    Unlink,
)
from loligo_runtime.clock import Clock
from loligo_runtime.failpoint import declare, failpoint
from loligo_wire.attributes import FLAG_XATTR, Attributes
from loligo_wire.ids import ROOT_INO

_DAY_NS = 24 * 3600 * 1_000_000_000
#: Ten years: as good as for ever, and far from what overflows in a kernel.
_FOR_EVER_S = 315_360_000.0
_DOT_COOKIE = 1
_DOTDOT_COOKIE = 2
_FIRST_PAGE = 32
#: What statfs answers for "inodes that may still be made".
_FILES_FREE = 1 << 40

declare("rename.stored", "rename.after")


class Handle:
    """An open file."""

    __slots__ = ("file", "no_atime", "writes")

    def __init__(self, file: FileData, no_atime: bool, writes: bool) -> None:
        self.file = file
        self.no_atime = no_atime
        self.writes = writes


class FileSystem(Operations):
    entry_timeout_s = _FOR_EVER_S
    attribute_timeout_s = _FOR_EVER_S
    negative_timeout_s = _FOR_EVER_S

    def __init__(
        self,
        metadata: Metadata,
        data: DataPath,
        clock: Clock,
        *,
        update_atime: bool,
    ) -> None:
        self._call = metadata.call
        self._lock = metadata.lock
        self._data = data
        self._now_ns = clock.time_ns
        self._update_atime = update_atime
        self._handles: dict[int, Handle] = {}
        self._next_handle = 1
        #: Tells the kernel to ask for an inode's attributes again; whoever mounts sets it. It must wait for nothing.
        self.forget_attributes: Callable[[int], None] = lambda ino: None
        #: Inodes that are gone, as they were last, until the kernel forgets them: someone may stand in a removed
        #: directory, or hold a descriptor that is good for fstat only.
        self._removed: dict[int, Attributes] = {}

    # -- names ----------------------------------------------------------------------------------------------------

    def lookup(self, ctx: Context, parent: int, name: bytes) -> Attributes | None:
        with self._lock:
            try:
                found: Attributes | None = self._call(Lookup(parent, name))
            except OSError as error:
                if error.errno == ENOENT and parent in self._removed:
                    return None
                raise
            return None if found is None else self._data.attributes(found)

    def forget(self, inos: Sequence[tuple[int, int]]) -> None:
        # Only what is gone is remembered here, and the kernel can forget that only once.
        removed = self._removed
        if removed:
            with self._lock:
                for ino, _ in inos:
                    removed.pop(ino, None)

    def mknod(self, ctx: Context, parent: int, name: bytes, mode: int, rdev: int, umask: int) -> Attributes:
        made: Attributes = self._call(Create(parent, name, mode, ctx.uid, ctx.gid, umask, rdev))
        return made

    def mkdir(self, ctx: Context, parent: int, name: bytes, mode: int, umask: int) -> Attributes:
        made: Attributes = self._call(Create(parent, name, S_IFDIR | mode & 0o7777, ctx.uid, ctx.gid, umask))
        return made

    def symlink(self, ctx: Context, parent: int, name: bytes, target: bytes) -> Attributes:
        made: Attributes = self._call(Create(parent, name, S_IFLNK | 0o777, ctx.uid, ctx.gid, target=target))
        return made

    def readlink(self, ctx: Context, ino: int) -> bytes:
        target: bytes = self._call(ReadLink(ino))
        return target

    def link(self, ctx: Context, ino: int, new_parent: int, new_name: bytes) -> Attributes:
        with self._lock:
            linked: Attributes = self._call(Link(ino, new_parent, new_name))
            file = self._data.find(ino)
            if file is not None:
                file.unlinked = False
            return self._data.attributes(linked)

    def unlink(self, ctx: Context, parent: int, name: bytes) -> None:
        with self._lock:
            self._note_removed(self._call(Unlink(parent, name)))

    def rmdir(self, ctx: Context, parent: int, name: bytes) -> None:
        with self._lock:
            self._note_removed(self._call(RemoveDirectory(parent, name)))

    def rename(
        self, ctx: Context, parent: int, name: bytes, new_parent: int, new_name: bytes, flags: int
    ) -> Answer[None]:
        request = Rename(parent, name, new_parent, new_name, flags)
        with self._lock:
            moved = self._call(Lookup(parent, name))
            file = self._data.find(moved.ino) if moved is not None else None
            if file is None or file.clean or self._call(Lookup(new_parent, new_name)) is None:
                self._rename(request)
                return None
            # The usual way to replace a file in one piece: were the name to move before the bytes are stored, a crash
            # could leave neither the old content nor the new.
            return self._data.when_stored(file, lambda: self._rename_stored(request))

    def _rename_stored(self, request: Rename) -> None:
        failpoint("rename.stored")
        self._rename(request)
        failpoint("rename.after")

    def _rename(self, request: Rename) -> None:
        with self._lock:
            replaced = self._call(request)
            if replaced is not None:
                self._note_removed(replaced)

    def _note_removed(self, attributes: Attributes) -> None:
        if attributes.nlink == 0:
            self._removed[attributes.ino] = attributes
            self._data.unlinked(attributes.ino)

    # -- attributes -----------------------------------------------------------------------------------------------

    def getattr(self, ctx: Context, ino: int, handle: int | None) -> Attributes:
        with self._lock:
            try:
                return self._data.attributes(self._call(GetAttributes(ino)))
            except OSError as error:
                removed = self._removed.get(ino)
                if removed is None or error.errno != ENOENT:
                    raise
                return removed

    def setattr(self, ctx: Context, ino: int, change: Change, handle: int | None) -> Attributes | Future[Any]:
        request = SetAttributes(
            ino,
            change.mode,
            change.uid,
            change.gid,
            change.size,
            change.atime_ns,
            change.mtime_ns,
            change.kill_suidgid,
        )
        with self._lock:
            if change.size is not None:
                return self._data.set_size(request)
            changed: Attributes = self._call(request)
            if change.mtime_ns is not None:
                self._data.mtime_was_set(ino)
            return self._data.attributes(changed)

    def statfs(self, ctx: Context, ino: int) -> StatFs:
        total, free = self._data.space
        usage = self._call(GetUsage())
        unit = 4096
        return StatFs(
            unit,
            total // unit,
            free // unit,
            free // unit,
            usage.inodes + _FILES_FREE,
            _FILES_FREE,
            NAME_MAX_BYTES,
        )

    # -- listings -------------------------------------------------------------------------------------------------

    def readdir(self, ctx: Context, ino: int, handle: int, cookie: int, plus: bool) -> Iterator[DirectoryEntry]:
        # Errors must be raised here, not while the listing is packed, so the first page is fetched at once.
        with self._lock:
            if ino in self._removed:
                return iter(())
            page = self._page(ino, cookie, _FIRST_PAGE, plus)
            directory: Attributes = self._call(GetAttributes(ino))
            if cookie == 0:
                self._note_access(directory)
        return self._listing(directory, cookie, page, plus)

    def _listing(self, directory: Attributes, cookie: int, page: list[Any], plus: bool) -> Iterator[DirectoryEntry]:
        if cookie < _DOT_COOKIE:
            yield b".", _DOT_COOKIE, directory.ino, S_IFDIR, None
        if cookie < _DOTDOT_COOKIE:
            yield b"..", _DOTDOT_COOKIE, directory.parent or ROOT_INO, S_IFDIR, None
        count = _FIRST_PAGE
        while page:
            yield from page
            count = min(2 * count, LISTING_PAGE_MAX)
            with self._lock:
                page = self._page(directory.ino, page[-1][1], count, plus)

    def _page(self, ino: int, cookie: int, count: int, plus: bool) -> list[Any]:
        """Entries as applications should see them. Called with the lock: what is published between the two steps would be
        in neither.
        """
        page: list[Any] = self._call(ReadDirectory(ino, cookie, count, plus))
        if not plus:
            return page
        adjust = self._data.attributes
        return [(name, at, child, kind, adjust(attributes)) for name, at, child, kind, attributes in page]

    def fsyncdir(self, ctx: Context, ino: int, handle: int, datasync: bool) -> Answer[None]:
        return self._data.sync_metadata()

    # -- open files -----------------------------------------------------------------------------------------------

    def open(self, ctx: Context, ino: int, flags: int) -> Opened | Future[Any]:
        with self._lock:
            file = self._data.open(ino)
            opened = self._opened(file, flags)
            if not flags & os.O_TRUNC:
                return opened
            try:
                if flags & OPEN_KILL_SUIDGID:
                    self._drop_privileges(ino)
                truncated = self._data.set_size(SetAttributes(ino, size=0))
            except OSError:
                self._close(opened.handle)
                raise
            if isinstance(truncated, Future):
                return transformed(truncated, lambda _: opened, lambda: self._close(opened.handle))
            return opened

    def create(
        self, ctx: Context, parent: int, name: bytes, mode: int, umask: int, flags: int
    ) -> tuple[Attributes, Opened] | Future[Any]:
        with self._lock:
            request = Create(parent, name, S_IFREG | mode & 0o7777, ctx.uid, ctx.gid, umask, hold=True)
            try:
                made: Attributes = self._call(request)
            except OSError as error:
                if error.errno != EEXIST or flags & os.O_EXCL:
                    raise
                found = self.lookup(ctx, parent, name)
                if found is None:
                    raise
                if found.is_directory:
                    raise OSError(EISDIR, "a directory") from None
                opened = self.open(ctx, found.ino, flags)
                if isinstance(opened, Future):
                    return transformed(opened, lambda result: (self.getattr(ctx, found.ino, None), result))
                return self.getattr(ctx, found.ino, None), opened
            return made, self._opened(self._data.opened(made), flags)

    def tmpfile(self, ctx: Context, parent: int, mode: int, umask: int, flags: int) -> tuple[Attributes, Opened]:
        with self._lock:
            made: Attributes = self._call(CreateUnnamed(parent, S_IFREG | mode & 0o7777, ctx.uid, ctx.gid, umask))
            file = self._data.opened(made)
            file.unlinked = True
            return made, self._opened(file, flags)

    def _opened(self, file: FileData, flags: int) -> Opened:
        handle = self._next_handle
        self._next_handle = handle + 1
        writes = flags & os.O_ACCMODE != os.O_RDONLY
        self._handles[handle] = Handle(file, not self._update_atime or bool(flags & os.O_NOATIME), writes)
        if not writes:
            return Opened(handle, FOPEN_KEEP_CACHE | FOPEN_NOFLUSH)
        return Opened(handle, FOPEN_KEEP_CACHE)

    def _handle(self, handle: int) -> Handle:
        found = self._handles.get(handle)
        if found is None:
            raise OSError(EBADF, "no such handle")
        return found

    def _close(self, handle: int) -> None:
        with self._lock:
            self._data.close(self._handles.pop(handle).file)

    def read(self, ctx: Context, ino: int, handle: int, offset: int, size: int) -> Sequence[Buffer] | Future[Any]:
        found = self._handle(handle)
        if not found.no_atime:
            found.no_atime = True  # once is enough for one open
            with self._lock:
                self._note_access(self._call(GetAttributes(found.file.ino)))
        return self._data.read(found.file, offset, size)

    def write(
        self, ctx: Context, ino: int, handle: int, offset: int, data: memoryview, kill_suidgid: bool, flags: int
    ) -> Answer[int]:
        file = self._handle(handle).file
        with self._lock:
            if kill_suidgid:
                self._drop_privileges(file.ino)
            return self._data.write(file, offset, data, self._now_ns())

    def _drop_privileges(self, ino: int) -> None:
        """An ordinary user changes the content: what it runs as must not outlive it.

        Replies to write, open and fallocate carry no attributes, so the kernel is told beforehand: with the old mode in
        its cache it would run the new content as the file's owner.
        """
        before = self._call(GetAttributes(ino)).mode
        if before & (S_ISUID | S_ISGID):
            changed: Attributes = self._call(SetAttributes(ino, drop_privileges=True))
            if changed.mode != before:
                self.forget_attributes(ino)

    def flush(self, ctx: Context, ino: int, handle: int) -> Answer[None]:
        found = self._handle(handle)
        # What could not be stored is told to those who wrote it, not to a reader that closes.
        return self._data.flush(found.file) if found.writes else None

    def release(self, ctx: Context, ino: int, handle: int) -> None:
        self._handle(handle)
        self._close(handle)

    def fsync(self, ctx: Context, ino: int, handle: int, datasync: bool) -> Answer[None]:
        return self._data.fsync(self._handle(handle).file)

    def syncfs(self, ctx: Context, ino: int) -> Answer[None]:
        return self._data.sync_all()

    def fallocate(self, ctx: Context, ino: int, handle: int, offset: int, length: int, mode: int) -> Answer[None]:
        file = self._handle(handle).file
        with self._lock:
            if ctx.uid:  # the kernel says so for writes and truncation only
                self._drop_privileges(file.ino)
            return self._data.allocate(file, offset, length, mode, self._now_ns())

    def lseek(self, ctx: Context, ino: int, handle: int, offset: int, whence: int) -> Answer[int]:
        if whence not in (os.SEEK_DATA, os.SEEK_HOLE):
            raise OSError(EINVAL, "only SEEK_DATA and SEEK_HOLE are asked of a file system")
        return self._data.seek(self._handle(handle).file, offset, whence)

    def _note_access(self, attributes: Attributes) -> None:
        if self._is_atime_due(attributes):
            try:
                self._call(RecordAccess(attributes.ino, self._now_ns()))
            except OSError as error:
                if error.errno != ENOSPC:  # a full disk can be read
                    raise

    def _is_atime_due(self, attributes: Attributes) -> bool:
        if not self._update_atime:
            return False
        atime_ns = attributes.atime_ns
        return (
            atime_ns <= attributes.mtime_ns or atime_ns <= attributes.ctime_ns or self._now_ns() - atime_ns >= _DAY_NS
        )

    # -- extended attributes --------------------------------------------------------------------------------------

    def getxattr(self, ctx: Context, ino: int, name: bytes) -> bytes:
        with self._lock:
            # Asked for each file that is written, so an inode that has none is told from its flags.
            if name == b"security.capability" and not self._call(GetAttributes(ino)).flags & FLAG_XATTR:
                raise OSError(ENODATA, "no such attribute")
            value: bytes = self._call(GetXattr(ino, name))
            return value

    def listxattr(self, ctx: Context, ino: int) -> list[bytes]:
        names: list[bytes] = self._call(ListXattrs(ino))
        return names if ctx.uid == 0 else [name for name in names if not name.startswith(b"trusted.")]

    def setxattr(self, ctx: Context, ino: int, name: bytes, value: bytes, flags: int, acl_kill_sgid: bool) -> None:
        self._call(SetXattr(ino, name, value, flags, acl_kill_sgid))

    def removexattr(self, ctx: Context, ino: int, name: bytes) -> None:
        self._call(RemoveXattr(ino, name))
