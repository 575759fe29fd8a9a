"""The file system as the kernel sees it: each FUSE operation in terms of metadata requests and the data path.

One class for every transport; both the native session and pyfuse3 call these methods. It decides nothing about names
and attributes (the metadata core does) and nothing about when bytes move (the data path does); it keeps what belongs to
this mount alone: open handles, removed inodes that the kernel still remembers, and when atime moves. What is not of the volume
(`control_files`) it tells by the inode number, and hands on.

Operations that go on with an answer of the metadata are tasks (see `tasks`), so it may be in this process or far away.
Attributes are shown to the data path when they arrive, before anything else: a later answer may be newer.

Node ids are inode numbers, and listing positions are cookies of names, so nothing here has to be remembered for the
kernel's sake; handles are the one exception.

A mount that is the volume's only one lets the kernel keep names, attributes, pages and listings for as long as it likes:
every change goes through it. Otherwise it does so with what a lease covers (`core.leased`), and asks again for the rest each
time; and a file that was closed is as it was written for whoever looks at it next.

atime follows relatime: it moves when bytes or names are fetched from here and it is not newer than mtime and ctime, or
a day old. What the kernel answers from its own cache does not move it.
"""

import fcntl
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from errno import (
    EACCES,
    EBADF,
    EBUSY,
    EEXIST,
    EINVAL,
    EISDIR,
    ENODATA,
    ENOENT,
    ENOLCK,
    ENOSPC,
    ENOSYS,
    EPERM,
    EROFS,
    ESTALE,
)
from stat import S_IFDIR, S_IFLNK, S_IFREG, S_ISVTX
from typing import Any

from loligo_client.core.leased import Leased
from loligo_client.shell.control_files import ControlFiles
from loligo_client.shell.data_path import DataPath
from loligo_client.shell.file_data import FileData
from loligo_client.shell.locks import Locks
from loligo_client.shell.moved_directories import MovedDirectories
from loligo_client.shell.own_names import OWN_NAMES, RMTREE_XATTR, TRASH_INO, TRASH_NAME, check_inode, check_name
from loligo_client.shell.reading import Data
from loligo_client.shell.recalls import DIRECTORY_NAMES_S
from loligo_client.shell.statistics import Metric, Statistics
from loligo_client.shell.tasks import Metadata, Task, awaited
from loligo_client.shell.trash_files import TrashFiles
from loligo_fuse import (
    FOPEN_KEEP_CACHE,
    FOPEN_NOFLUSH,
    OPEN_KILL_SUIDGID,
    Answer,
    Context,
    DirectoryEntry,
    FileLock,
    Opened,
    Operations,
    StatFs,
)
from loligo_fuse import SetAttributes as Change
from loligo_mds.core.limits import LISTING_PAGE_MAX, NAME_MAX_BYTES
from loligo_mds.core.namespace import RENAME_EXCHANGE, RENAME_NOREPLACE
from loligo_mds.core.requests import (
    Create,
    CreateUnnamed,
    GetAttributes,
    GetLock,
    GetUsage,
    GetXattr,
    Link,
    ListXattrs,
    Lookup,
    ReadDirectory,
    ReadLink,
    RecordAccess,
    RemoveDirectory,
    RemoveTree,
    RemoveXattr,
    Rename,
    SetAttributes,
    SetLock,
    SetXattr,
    Unlink,
)
from loligo_runtime.clock import Clock
from loligo_runtime.failpoint import declare, failpoint
from loligo_trash.policy import POLICY_NAMES
from loligo_wire.attributes import FLAG_XATTR, Attributes, clamp_ns
from loligo_wire.ids import FIRST_CLIENT_INO, ROOT_INO

log = logging.getLogger(__name__)

_DAY_NS = 24 * 3600 * 1_000_000_000
#: Ten years: as good as for ever, and far from what overflows in a kernel.
_FOR_EVER_S = 315_360_000.0
_DOT_COOKIE = 1
_DOTDOT_COOKIE = 2
#: What an entry of a listing takes in a reply, about; so many are fetched at least.
_ENTRY_BYTES = 40
_ENTRY_PLUS_BYTES = 168
_ENTRIES_MIN = 24
_ENDS_MAX = 1024
_OUR_XATTRS = b"loligo."
#: What statfs answers for "inodes that may still be made".
_FILES_FREE = 1 << 40

declare("rename.stored", "rename.after")


def _nothing_to_drop(ino: int) -> Future[None]:
    done: Future[None] = Future()
    done.set_result(None)
    return done


def may_move_out(uid: int, gid: int, directory: Attributes, above: Attributes) -> bool:
    """What the kernel asks of whoever moves a directory elsewhere, but for groups that are not his first one, and ACLs: it does
    not tell us of those.
    """
    if uid == 0:
        return True

    def may_write(found: Attributes) -> bool:
        shift = 6 if found.uid == uid else 3 if found.gid == gid else 0
        return found.mode >> shift & 3 == 3

    is_sticky = bool(above.mode & S_ISVTX) and uid not in (above.uid, directory.uid)
    return may_write(above) and may_write(directory) and not is_sticky


class Handle:
    """An open file. `flushes`: who closes it waits for what `flush` has to say.

    `lockers`: owners of record locks that were taken through it; those that no `flush` names, of F_OFD_SETLK, have them until
    `release`.
    """

    __slots__ = ("file", "flushes", "lockers", "no_atime", "writes")

    def __init__(self, file: FileData, no_atime: bool, writes: bool, flushes: bool) -> None:
        self.file = file
        self.no_atime = no_atime
        self.writes = writes
        self.flushes = flushes
        self.lockers: set[int] = set()


class FileSystem(Operations):
    def __init__(
        self,
        metadata: Metadata,
        data: DataPath,
        clock: Clock,
        *,
        update_atime: bool,
        leased: Leased | None = None,
        moved: MovedDirectories | None = None,
        locks: Locks | None = None,
    ) -> None:
        """`leased`: what the kernel may believe; None: everything, nobody else has the volume.

        `moved`: where others move directories that the kernel has.

        `locks`: of a volume that others lock, too; else the kernel keeps them.
        """
        self._ask = metadata.ask
        self._lock = metadata.lock
        self._run = data.tasks.run
        self._metadata = metadata
        self._data = data
        self._now_ns = clock.time_ns
        self._update_atime = update_atime
        self._leased = leased
        self._moved = moved
        self._locks = locks
        #: The root of the mount, as it was last.
        self._root: Attributes | None = None
        self._bytes_read = self._bytes_written = 0
        #: Of the whole mount; whoever else has something to tell adds it.
        self.statistics = Statistics()
        self.statistics.add(self._metrics)
        self._control = ControlFiles({b"stats": self.statistics.text}, clock.time_ns)
        self._trash = TrashFiles(clock.time_ns, metadata.root_ino, data.attributes)
        self.locks = locks is not None
        self._is_shared = leased is not None
        self.entry_timeout_s = self.attribute_timeout_s = _FOR_EVER_S if leased is None else 0.0
        self.negative_timeout_s = self.entry_timeout_s
        #: Directories of which somebody was given the last page, and where it ended: he asks for more once, to find none.
        self._ends: dict[int, int] = {}
        self._handles: dict[int, Handle] = {}
        self._next_handle = 1
        #: Tells the kernel to ask for an inode's attributes again; whoever mounts sets it. It must wait for nothing.
        self.forget_attributes: Callable[[int], object] = lambda ino: None
        #: Tells the kernel to drop what it has cached of a listing. It must wait for nothing that an operation has.
        self.forget_listing: Callable[[int], None] = lambda ino: None
        #: Tells the kernel to drop a name; done when it has. Whoever mounts sets it.
        self.forget_name: Callable[[int, bytes], Future[None]] = lambda parent, name: _nothing_to_drop(parent)
        #: Whether something is mounted on a path from the root, or below, as the process with that id sees it. Whoever
        #: mounts sets it.
        self.has_mounts: Callable[[bytes, int], bool] = lambda path, pid: False
        #: Directories of which the kernel has a page of a listing that no lease covered.
        self._unsure_listings: set[int] = set()
        #: Inodes whose atime is on its way to the metadata.
        self._accessed: set[int] = set()
        #: Tells the kernel to drop what it has cached of an inode; done when it has. Whoever mounts sets it.
        self.drop_pages: Callable[[int], Future[None]] = _nothing_to_drop
        #: Somebody who waits for this future was interrupted: true if he may be let go. Whoever knows the way sets it.
        self.let_go: Callable[[Future[Any]], bool] = lambda future: False
        #: Inodes that are gone, as they were last, until the kernel forgets them: someone may stand in a removed
        #: directory, or hold a descriptor that is good for fstat only.
        self._removed: dict[int, Attributes] = {}

    # -- what the kernel may believe --------------------------------------------------------------------------------

    def _tell_name(self, ctx: Context, parent: int, name: bytes, found: Attributes | None) -> Attributes | None:
        """`found`, as the answer about a name."""
        leased = self._leased
        if leased is not None:
            if leased.believes_name(parent, name):
                is_directory = found is not None and found.is_directory
                ctx.entry_timeout_s = DIRECTORY_NAMES_S if is_directory else _FOR_EVER_S
            if found is not None:
                self._tell(ctx, found)
                if self._moved is not None and found.is_directory and name not in (b".", b".."):
                    self._moved.told(found.ino, (parent, name), ctx.pid)
        return found

    def _tell(self, ctx: Context, attributes: Attributes) -> Attributes:
        if self._leased is not None and self._leased.believes(attributes):
            ctx.attribute_timeout_s = _FOR_EVER_S
        return attributes

    # -- names ----------------------------------------------------------------------------------------------------

    def lookup(self, ctx: Context, parent: int, name: bytes) -> Answer[Any]:
        if parent >= TRASH_INO or (parent == ROOT_INO and name == TRASH_NAME):
            return self._run(self._trash.lookup(ctx, parent, name))
        if parent >= FIRST_CLIENT_INO or (parent == ROOT_INO and name in OWN_NAMES):
            return self._control.lookup(ctx, parent, name)
        if self._leased is not None and not (self._moved is not None and self._moved.may_begin_anew(ctx.pid)):
            is_known, found = self._known(self._leased, parent, name)
            if is_known:
                return self._tell_name(ctx, parent, name, found)
        return self._run(self._lookup(ctx, parent, name))

    def _known(self, leased: Leased, parent: int, name: bytes) -> tuple[bool, Attributes | None]:
        """As `Leased.find`; but of a file that is written here, or was just read, the metadata may not know all yet."""
        is_known, found = leased.find(parent, name)
        if found is not None:
            if found.ino in self._accessed or self._data.is_written(found.ino):
                return False, None
            with self._lock:
                found = self._data.attributes(found)
        return is_known, found

    def _lookup(self, ctx: Context, parent: int, name: bytes) -> Task[Attributes | None]:
        looked_at = self._moved.asked((parent, name), ctx.pid) if self._moved is not None else None
        if looked_at is not None:
            yield looked_at
        leased = self._leased
        try:
            if leased is not None and leased.wants_listing(parent):
                yield from self._list(leased, parent)
                is_known, found = self._known(leased, parent, name)
                if is_known:
                    return self._tell_name(ctx, parent, name, found)
            found = yield Lookup(parent, name)
        except OSError as error:
            if error.errno == ENOENT and parent in self._removed:
                return None
            raise
        self._tell_name(ctx, parent, name, found)
        return None if found is None else self._data.attributes(found)

    def _list(self, leased: Leased, directory: int) -> Task[None]:
        """All names there, with attributes: sooner or later most of them will be asked for."""
        listed_to = -1
        while not leased.is_whole(directory) and leased.listed_to(directory) > listed_to:
            listed_to = leased.listed_to(directory)
            yield ReadDirectory(directory, listed_to, LISTING_PAGE_MAX, True)

    def forget(self, inos: Sequence[tuple[int, int]]) -> None:
        # Of the volume only what is gone is remembered here, and the kernel can forget that only once.
        removed = self._removed
        if self._moved is not None:
            self._moved.forgotten(inos)
        with self._lock:
            for ino, count in inos:
                if ino >= TRASH_INO:
                    self._trash.forget(ino, count)
                elif removed:
                    removed.pop(ino, None)

    def mknod(self, ctx: Context, parent: int, name: bytes, mode: int, rdev: int, umask: int) -> Answer[Any]:
        check_name(parent, name)
        return self._run(self._make(ctx, Create(parent, name, mode, ctx.uid, ctx.gid, umask, rdev)))

    def mkdir(self, ctx: Context, parent: int, name: bytes, mode: int, umask: int) -> Answer[Any]:
        check_name(parent, name)
        return self._run(self._make(ctx, Create(parent, name, S_IFDIR | mode & 0o7777, ctx.uid, ctx.gid, umask)))

    def symlink(self, ctx: Context, parent: int, name: bytes, target: bytes) -> Answer[Any]:
        check_name(parent, name)
        return self._run(self._make(ctx, Create(parent, name, S_IFLNK | 0o777, ctx.uid, ctx.gid, target=target)))

    def _make(self, ctx: Context, request: Create) -> Task[Attributes]:
        made: Attributes = yield request
        self._tell_name(ctx, request.parent, request.name, made)
        return made

    def readlink(self, ctx: Context, ino: int) -> Answer[Any]:
        return self._ask(ReadLink(self._trash.inode(ino) if ino >= TRASH_INO else ino))

    def link(self, ctx: Context, ino: int, new_parent: int, new_name: bytes) -> Answer[Any]:
        check_inode(ino)
        check_name(new_parent, new_name)
        return self._run(self._link(ctx, Link(ino, new_parent, new_name)))

    def _link(self, ctx: Context, request: Link) -> Task[Attributes]:
        file = yield from self._data.opened_for(request.ino)
        try:
            linked = yield request
        finally:
            self._let_go_of(file)
        self._tell_name(ctx, request.new_parent, request.new_name, linked)
        file = self._data.find(request.ino)
        if file is not None:
            file.unlinked = False
        return self._data.attributes(linked)

    def unlink(self, ctx: Context, parent: int, name: bytes) -> Answer[None]:
        if parent >= TRASH_INO:
            raise OSError(EPERM, "only whole batches are purged: rmdir .trash/BATCH")
        check_name(parent, name)
        return self._run(self._remove(Unlink(parent, name, ctx.uid, ctx.pid)))

    def rmdir(self, ctx: Context, parent: int, name: bytes) -> Answer[None]:
        if parent >= TRASH_INO:
            return self._run(self._trash.purge(parent, name))
        check_name(parent, name)
        return self._run(self._remove(RemoveDirectory(parent, name, ctx.uid, ctx.pid)))

    def _remove(self, request: Unlink | RemoveDirectory | RemoveTree) -> Task[None]:
        file = None
        if type(request) is Unlink:
            file = yield from self._opened_for(request.parent, request.name)
        try:
            self._note_removed((yield request))
        finally:
            self._let_go_of(file)

    def _opened_for(self, parent: int, name: bytes) -> Task[FileData | None]:
        """Of a file that is open under a lease the metadata must know before a name of it changes."""
        found = (yield from self._find(parent, name)) if self._data.has_leased_opens else None
        return None if found is None else (yield from self._data.opened_for(found.ino))

    def _let_go_of(self, file: FileData | None) -> None:
        if file is not None:
            self._data.close(file)

    def rename(
        self, ctx: Context, parent: int, name: bytes, new_parent: int, new_name: bytes, flags: int
    ) -> Answer[None]:
        if new_parent >= TRASH_INO:
            check_name(parent, name)
            if (
                new_parent > TRASH_INO or flags & ~RENAME_NOREPLACE
            ):  # `mv` always gives that, and nothing is ever replaced
                raise OSError(EROFS, "what is to be thrown away is moved to .trash itself")
            return self._run(self._throw_away(ctx, parent, name, new_name))
        check_name(new_parent, new_name)
        if parent >= TRASH_INO:
            return self._run(self._restore(parent, name, new_parent, new_name, flags))
        check_name(parent, name)
        return self._run(self._rename(Rename(parent, name, new_parent, new_name, flags, ctx.uid, ctx.pid)))

    def _rename(self, request: Rename) -> Task[None]:
        if self._data.has_unclean:
            yield from self._store_first(request)
        files = []
        try:
            if self._data.has_leased_opens:
                moved = yield from self._find(request.parent, request.name)
                replaced = yield from self._find(request.new_parent, request.new_name)
                for found in (moved, replaced, moved):  # the last may have been opened meanwhile
                    if found is not None:
                        files.append((yield from self._data.opened_for(found.ino)))
            gone = yield request
        finally:
            for file in files:
                self._let_go_of(file)
        if self._moved is not None:
            source, destination = (request.parent, request.name), (request.new_parent, request.new_name)
            self._moved.renamed(source, destination, bool(request.flags & RENAME_EXCHANGE))
        if gone is not None:
            self._note_removed(gone)
        failpoint("rename.after")

    def _store_first(self, request: Rename) -> Task[None]:
        """The usual way to replace a file in one piece: were the name to move before the bytes are stored, a crash could leave
        neither the old content nor the new.
        """
        moved = yield from self._find(request.parent, request.name)
        file = self._data.find(moved.ino) if moved is not None else None
        if file is None or file.clean:
            return
        replaced = yield from self._find(request.new_parent, request.new_name)
        if replaced is not None:
            yield self._data.when_stored(file)
            failpoint("rename.stored")

    def _find(self, parent: int, name: bytes) -> Task[Attributes | None]:
        """What has that name; its attributes may be others by now."""
        is_known, found = self._leased.find(parent, name) if self._leased is not None else (False, None)
        return found if is_known else (yield Lookup(parent, name))

    def _note_removed(self, attributes: Attributes) -> None:
        if attributes.nlink == 0:
            self._removed[attributes.ino] = attributes
            if not attributes.trashed:  # else its bytes are to be kept, as those of any other file
                self._data.unlinked(attributes.ino)

    # -- the trash --------------------------------------------------------------------------------------------------

    def _throw_away(self, ctx: Context, parent: int, name: bytes, label: bytes) -> Task[None]:
        """Moved to the trash: a directory with all that is in it."""
        found = yield from self._find(parent, name)
        if found is None:
            raise OSError(ENOENT, "no such name")
        if not found.is_directory:
            yield from self._remove(Unlink(parent, name, ctx.uid, ctx.pid))
            return
        yield from self._check_nothing_mounted(ctx, found)
        yield from self._remove(RemoveTree(parent, name, ctx.uid, ctx.pid, label))
        self.forget_name(TRASH_INO, label)  # the kernel takes it for the directory itself

    def _remove_tree(self, ctx: Context, ino: int, label: bytes) -> Task[None]:
        """By an extended attribute, for who sees nothing but the directory. Whoever could move it away may do that."""
        directory = yield GetAttributes(ino)
        if not directory.is_directory or ino == ROOT_INO:
            raise OSError(EINVAL, "the root of a mount cannot be removed" if ino == ROOT_INO else "no directory")
        above = yield GetAttributes(directory.parent)
        if not may_move_out(ctx.uid, ctx.gid, directory, above):
            raise OSError(EACCES, "it needs leave to write in the directory above, and to own this one")
        yield from self._check_nothing_mounted(ctx, directory)
        yield from self._remove(RemoveTree(directory.parent, directory.name, ctx.uid, ctx.pid, label))
        yield self.forget_name(directory.parent, directory.name)

    def _check_nothing_mounted(self, ctx: Context, directory: Attributes) -> Task[None]:
        """The kernel unmounts what is on names that it has to forget, and a tmpfs is lost with that."""
        path = b""
        at = directory
        while at.ino not in (ROOT_INO, self._metadata.root_ino):
            path = b"/" + at.name + path
            known = self._leased.directory(at.parent) if self._leased is not None else None
            at = known if known is not None else (yield GetAttributes(at.parent))
        if self.has_mounts(path, ctx.pid):
            raise OSError(EBUSY, "something is mounted there")

    def _restore(self, parent: int, name: bytes, new_parent: int, new_name: bytes, flags: int) -> Task[None]:
        restored = yield from self._trash.restore(parent, name, new_parent, new_name, flags)
        self._removed.pop(restored.ino, None)
        if restored.nlink > 1 and not restored.is_directory:
            self.forget_attributes(restored.ino)

    # -- attributes -----------------------------------------------------------------------------------------------

    def getattr(self, ctx: Context, ino: int, handle: int | None) -> Answer[Any]:
        if ino >= FIRST_CLIENT_INO:
            return self._run(self._trash.getattr(ctx, ino)) if ino >= TRASH_INO else self._control.getattr(ctx, ino)
        leased = self._leased
        if leased is not None:
            directory = leased.directory(ino)
            if directory is not None:
                if ino == ROOT_INO:
                    self._root = directory
                return self._tell(ctx, directory)
            if ino == ROOT_INO and self._root is not None and self._metadata.is_away:
                return self._root  # on the way to `.loligo`, which can be read now, too
            file = self._data.find(ino)
            if file is None:
                known = leased.file(ino) if ino not in self._accessed else None
                if known is not None:
                    return self._tell(ctx, known)
            elif ino not in self._accessed and not (file.changed or file.telling):
                seen = file.seen
                if leased.believes(seen):
                    return self._tell(ctx, seen)
        return self._run(self._getattr(ctx, ino))

    def _getattr(self, ctx: Context, ino: int) -> Task[Attributes]:
        try:
            stored = yield GetAttributes(ino)
        except OSError as error:
            removed = self._removed.get(ino)
            if removed is None or error.errno != ENOENT:
                raise self._gone(error) from None
            return removed
        if ino == ROOT_INO:
            self._root = stored
        self._tell(ctx, stored)
        return self._data.attributes(stored)

    def _gone(self, error: OSError) -> OSError:
        """What another client has removed, or replaced, is ESTALE: the kernel then looks its name up again, or makes it."""
        return OSError(ESTALE, "it is gone") if self._is_shared and error.errno == ENOENT else error

    def setattr(self, ctx: Context, ino: int, change: Change, handle: int | None) -> Answer[Any]:
        check_inode(ino)
        request = SetAttributes(
            ino,
            change.mode,
            change.uid,
            change.gid,
            change.size,
            None if change.atime_ns is None else clamp_ns(change.atime_ns),
            None if change.mtime_ns is None else clamp_ns(change.mtime_ns),
            change.kill_suidgid,
        )
        if change.size is None:
            with self._lock:
                file = self._data.find(ino)
                if file is not None and self._data.may_change_lazily(file, request):
                    ctx.attribute_timeout_s = 0.0  # the metadata may decide on ctime
                    return self._data.change_lazily(file, request, self._now_ns())
            return self._run(self._change(ctx, request))
        found = self._handles.get(handle) if handle is not None else None
        return self._run(self._set_size(ctx, request, None if found is None else found.file))

    def _change(self, ctx: Context, request: SetAttributes) -> Task[Attributes]:
        if request.mtime_ns is not None:
            self._data.mtime_will_be_set(request.ino)
        try:
            changed = yield request
        except OSError as error:
            raise self._gone(error) from None
        self._tell(ctx, changed)
        return self._data.attributes(changed)

    def _set_size(self, ctx: Context, request: SetAttributes, file: FileData | None) -> Task[Attributes]:
        return self._tell(ctx, (yield from self._data.set_size(request, file)))

    def statfs(self, ctx: Context, ino: int) -> Answer[StatFs]:
        return self._run(self._statfs())

    def _statfs(self) -> Task[StatFs]:
        usage = yield GetUsage()
        total, free = self._data.space
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

    def readdir(self, ctx: Context, ino: int, handle: int, cookie: int, plus: bool) -> Answer[Iterator[DirectoryEntry]]:
        entry_bytes = _ENTRY_PLUS_BYTES if plus else _ENTRY_BYTES
        count = min(max(_ENTRIES_MIN, ctx.reply_limit_bytes // entry_bytes), LISTING_PAGE_MAX)
        if ino >= TRASH_INO:
            return self._run(self._read_trash(ctx, ino, cookie, count))
        if ino >= FIRST_CLIENT_INO:
            return self._control.readdir(cookie)
        return self._run(self._readdir(ctx, ino, cookie, count, plus))

    def _readdir(self, ctx: Context, ino: int, cookie: int, count: int, plus: bool) -> Task[Iterator[DirectoryEntry]]:
        """What the reply has room for, about; the kernel asks for the rest. Nothing is the end."""
        if self._ends.pop(ino, None) == cookie:
            return self._end_of_listing(ino)
        try:
            page = yield ReadDirectory(ino, cookie, count, plus)
        except OSError as error:
            if error.errno == ENOENT and ino in self._removed:
                return iter(())
            raise
        if not page and ino in self._removed:
            return iter(())
        is_last = len(page) < count
        if ino == ROOT_INO:
            page = [entry for entry in page if entry[0] not in OWN_NAMES]
        if plus:
            # At once: what is published later would be in neither.
            seen = self._as_listed
            page = [
                (name, at, child, kind, None if attributes is None else seen(attributes))
                for name, at, child, kind, attributes in page
            ]
        if self._leased is not None and not self._leased.holds(ino):
            self._unsure_listings.add(ino)
            if len(self._unsure_listings) > _ENDS_MAX:
                self.forget_listing(self._unsure_listings.pop())  # it may never come to its end
        if is_last:
            self._ends[ino] = page[-1][1] if page else max(cookie, _DOTDOT_COOKIE)
            if len(self._ends) > _ENDS_MAX:
                del self._ends[next(iter(self._ends))]
        if cookie >= _DOTDOT_COOKIE:
            return self._told(ctx, ino, page) if page else self._end_of_listing(ino)
        leased = self._leased
        directory = (leased.directory(ino) if leased is not None else None) or (yield GetAttributes(ino))
        entries: list[DirectoryEntry] = [(b"..", _DOTDOT_COOKIE, directory.parent or ROOT_INO, S_IFDIR, None)]
        if cookie < _DOT_COOKIE:
            entries.insert(0, (b".", _DOT_COOKIE, directory.ino, S_IFDIR, None))
        if cookie == 0:
            self._note_access(directory)
        return self._told(ctx, ino, entries + page)

    def _read_trash(self, ctx: Context, ino: int, cookie: int, count: int) -> Task[Iterator[DirectoryEntry]]:
        entries = list((yield from self._trash.readdir(ctx, ino, cookie, count)))
        if not entries:
            self.forget_listing(ino)  # the kernel would keep it
        return iter(entries)

    def _as_listed(self, attributes: Attributes) -> Attributes | None:
        """None: who wants to know asks, because what was listed may have been known here before something was published."""
        if self._is_shared and self._data.is_written(attributes.ino):
            return None
        return self._data.attributes(attributes)

    def _told(self, ctx: Context, directory: int, page: list[DirectoryEntry]) -> Iterator[DirectoryEntry]:
        """The kernel may believe names and attributes that come with a listing as if it had looked them up."""
        leased = self._leased
        if leased is None:
            yield from page
            return
        for entry in page:
            attributes: Any = entry[4]
            if attributes is not None:
                leased.told(directory, entry[0])
                ctx.entry_timeout_s = ctx.attribute_timeout_s = None
                self._tell_name(ctx, directory, entry[0], attributes)
            yield entry

    def _end_of_listing(self, directory: int) -> Iterator[DirectoryEntry]:
        """The kernel keeps the listing now, until it is told to forget it: at once, if no lease covers all of it."""
        leased = self._leased
        if leased is not None and (directory in self._unsure_listings or not leased.is_whole(directory)):
            self._unsure_listings.discard(directory)
            self.forget_listing(directory)
        return iter(())

    def fsyncdir(self, ctx: Context, ino: int, handle: int, datasync: bool) -> Answer[None]:
        return self._data.sync_metadata()

    # -- open files -----------------------------------------------------------------------------------------------

    def open(self, ctx: Context, ino: int, flags: int) -> Answer[Opened]:
        if ino >= TRASH_INO:
            return self._run(self._open(self._trash.real(ino, flags), flags | os.O_NOATIME, in_trash=True))
        if ino >= FIRST_CLIENT_INO:
            return self._control.open(ino, flags)
        return self._run(self._open(ino, flags))

    def _open(self, ino: int, flags: int, *, in_trash: bool = False) -> Task[Opened]:
        writes = flags & os.O_ACCMODE != os.O_RDONLY or bool(flags & os.O_TRUNC)
        try:
            file, keeps_pages = yield from self._data.open(ino, writes)
        except OSError as error:
            raise self._gone(error) from None
        if self._is_shared and file.seen.nlink == 0 and file.opens == 1 and not in_trash:
            self._data.close(file)  # it is there only because somebody else still has it open
            raise OSError(ESTALE, "the file is gone")
        opened = self._opened(file, flags, keeps_pages and not in_trash)
        if flags & os.O_TRUNC:
            try:
                if flags & OPEN_KILL_SUIDGID and file.privileged:
                    yield from self._drop_privileges(file)
                yield from self._data.set_size(SetAttributes(ino, size=0), file)
            except OSError:
                self._close(opened.handle)
                raise
        return opened

    def create(self, ctx: Context, parent: int, name: bytes, mode: int, umask: int, flags: int) -> Answer[Any]:
        check_name(parent, name)
        request = Create(parent, name, S_IFREG | mode & 0o7777, ctx.uid, ctx.gid, umask, hold=True)
        return self._run(self._create(ctx, request, flags))

    def _create(self, ctx: Context, request: Create, flags: int) -> Task[tuple[Attributes, Opened]]:
        try:
            made = yield request
        except OSError as error:
            if error.errno != EEXIST or flags & os.O_EXCL:
                raise
            found = yield Lookup(request.parent, request.name)
            if found is None:
                raise
            if found.is_directory:
                raise OSError(EISDIR, "a directory") from None
            self._tell_name(ctx, request.parent, request.name, found)
            opened = yield from self._open(found.ino, flags)
            try:
                return (yield from self._getattr(ctx, found.ino)), opened
            except OSError:
                self._close(opened.handle)
                raise
        self._tell_name(ctx, request.parent, request.name, made)
        return made, self._opened(self._data.opened(made), flags, True)

    def tmpfile(self, ctx: Context, parent: int, mode: int, umask: int, flags: int) -> Answer[Any]:
        check_inode(parent)
        return self._run(self._tmpfile(CreateUnnamed(parent, S_IFREG | mode & 0o7777, ctx.uid, ctx.gid, umask), flags))

    def _tmpfile(self, request: CreateUnnamed, flags: int) -> Task[tuple[Attributes, Opened]]:
        made = yield request
        file = self._data.opened(made)
        file.unlinked = True
        return made, self._opened(file, flags, True)

    def _opened(self, file: FileData, flags: int, keeps_pages: bool) -> Opened:
        handle = self._next_handle
        self._next_handle = handle + 1
        writes = flags & os.O_ACCMODE != os.O_RDONLY
        # A local file system with room to spare has nothing to say at a close, either; `release` stores what is left.
        flushes = writes and (self._is_shared or self._data.space_is_low)
        self._handles[handle] = Handle(file, not self._update_atime or bool(flags & os.O_NOATIME), writes, flushes)
        keep = FOPEN_KEEP_CACHE if keeps_pages else 0
        # Record locks end with a close, also of who only reads.
        return Opened(handle, keep if flushes or self.locks else keep | FOPEN_NOFLUSH)

    def _handle(self, handle: int) -> Handle:
        found = self._handles.get(handle)
        if found is None:
            raise OSError(EBADF, "no such handle")
        return found

    def _metrics(self) -> Iterator[Metric]:
        yield Metric(
            "read_bytes", "What read requests of the kernel were answered with.", self._bytes_read, counts=True
        )
        yield Metric("written_bytes", "What the kernel asked to write.", self._bytes_written, counts=True)
        yield Metric("open_handles", "Files that programs have open here.", len(self._handles))

    def _close(self, handle: int) -> None:
        with self._lock:
            self._data.close(self._handles.pop(handle).file)

    def read(self, ctx: Context, ino: int, handle: int, offset: int, size: int) -> Answer[Any]:
        if FIRST_CLIENT_INO <= ino < TRASH_INO:
            return self._control.read(handle, offset, size)
        found = self._handle(handle)
        file = found.file
        if not found.no_atime:
            found.no_atime = True  # once is enough for one open
            with self._lock:
                self._note_access(file.seen)
        pieces = self._data.read(file, offset, size)
        if isinstance(pieces, Future):
            pieces.add_done_callback(self._count_read)
        else:
            self._bytes_read += sum(map(len, pieces))
        return pieces

    def _count_read(self, pieces: Future[list[Data]]) -> None:
        if pieces.exception() is None:
            self._bytes_read += sum(map(len, pieces.result()))

    def write(
        self, ctx: Context, ino: int, handle: int, offset: int, data: memoryview, kill_suidgid: bool, flags: int
    ) -> Answer[int]:
        found = self._handle(handle)
        file = found.file
        self._bytes_written += len(data)
        # Space has become low since the file was opened, and its close will not tell what came of that.
        through = self._data.space_is_low and not found.flushes
        # Not what comes out of a mapping: that has a place, and no flags.
        if flags & os.O_APPEND and self._is_shared and (file.contended or file.recalled or offset != file.size):
            return self._run(self._append(file, bytes(data), kill_suidgid and file.privileged, through))
        if kill_suidgid and file.privileged:
            return self._run(self._write_as_nobody(file, offset, bytes(data), through))
        return self._data.write(file, offset, data, self._now_ns(), through=through)

    def _append(self, file: FileData, data: bytes, as_nobody: bool, through: bool) -> Task[int]:
        """The kernel does not know where the end is that others have moved."""
        if as_nobody:
            yield from self._drop_privileges(file)
        return (yield from self._data.append(file, data, self._now_ns(), through=through))

    def _write_as_nobody(self, file: FileData, offset: int, data: bytes, through: bool) -> Task[int]:
        yield from self._drop_privileges(file)
        taken = self._data.write(file, offset, data, self._now_ns(), through=through)
        return (yield taken) if isinstance(taken, Future) else taken

    def _drop_privileges(self, file: FileData) -> Task[None]:
        """An ordinary user changes the content: what it runs as must not outlive it.

        Replies to write, open and fallocate carry no attributes, so the kernel is told beforehand: with the old mode in
        its cache it would run the new content as the file's owner.
        """
        before = file.seen.mode
        changed = yield SetAttributes(file.ino, drop_privileges=True)
        self._data.attributes(changed)
        if changed.mode != before:
            self.forget_attributes(file.ino)

    def flush(self, ctx: Context, ino: int, handle: int) -> Answer[None]:
        if ino >= FIRST_CLIENT_INO:
            return None
        found = self._handle(handle)
        if self._locks is not None and ctx.lock_owner is not None:
            with self._lock:
                found.lockers.discard(ctx.lock_owner)
                gives_up = self._locks.of(ino, ctx.lock_owner, whole=False)
            if gives_up is not None:
                return self._run(self._flush_and_unlock(found, gives_up))
        # What could not be stored is told to those who wrote it, not to a reader that closes.
        return self._data.flush(found.file) if found.writes else None

    def _flush_and_unlock(self, handle: Handle, gives_up: SetLock) -> Task[None]:
        try:
            flushed = self._data.flush(handle.file) if handle.writes else None
            if flushed is not None:
                yield flushed
        finally:
            yield from self._set_lock(gives_up)

    def release(self, ctx: Context, ino: int, handle: int) -> None:
        if FIRST_CLIENT_INO <= ino < TRASH_INO:
            self._control.release(handle)
            return
        found = self._handle(handle)
        try:
            if self._locks is not None:
                with self._lock:
                    over = [self._locks.of(ino, owner, whole=False) for owner in found.lockers]
                    if ctx.lock_owner is not None:
                        over.append(self._locks.of(ino, ctx.lock_owner, whole=True))
                    for gives_up in over:
                        if gives_up is not None:
                            self._run(self._set_lock(gives_up))
        finally:
            self._close(handle)

    def fsync(self, ctx: Context, ino: int, handle: int, datasync: bool) -> Answer[None]:
        if ino >= FIRST_CLIENT_INO:
            return None
        return self._data.fsync(self._handle(handle).file)

    def syncfs(self, ctx: Context, ino: int) -> Answer[None]:
        return self._data.sync_all()

    def fallocate(self, ctx: Context, ino: int, handle: int, offset: int, length: int, mode: int) -> Answer[None]:
        file = self._handle(handle).file
        # Who is root the kernel says for writes and truncation only.
        return self._run(self._fallocate(file, offset, length, mode, ctx.uid != 0))

    def _fallocate(self, file: FileData, offset: int, length: int, mode: int, as_nobody: bool) -> Task[None]:
        if as_nobody and file.privileged:
            yield from self._drop_privileges(file)
        yield from self._data.allocate(file, offset, length, mode, self._now_ns())

    def lseek(self, ctx: Context, ino: int, handle: int, offset: int, whence: int) -> Answer[int]:
        if FIRST_CLIENT_INO <= ino < TRASH_INO or whence not in (os.SEEK_DATA, os.SEEK_HOLE):
            raise OSError(EINVAL, "only SEEK_DATA and SEEK_HOLE are asked of a file system")
        return self._run(self._data.seek(self._handle(handle).file, offset, whence))

    def getlk(self, ctx: Context, ino: int, handle: int, owner: int, lock: FileLock) -> Answer[FileLock | None]:
        if ino >= FIRST_CLIENT_INO:
            raise OSError(ENOLCK, "it is not for locking")
        return self._run(
            self._get_lock(GetLock(ino, owner, lock.start, lock.end, lock.kind == fcntl.F_WRLCK, lock.pid))
        )

    def _get_lock(self, request: GetLock) -> Task[FileLock | None]:
        found = yield request
        if found is None:
            return None
        return FileLock(found.start, found.end, fcntl.F_WRLCK if found.exclusive else fcntl.F_RDLCK, found.pid)

    def setlk(
        self, ctx: Context, ino: int, handle: int, owner: int, lock: FileLock, flock: bool, waits: bool
    ) -> Answer[None]:
        if ino >= FIRST_CLIENT_INO:
            raise OSError(ENOLCK, "it is not for locking")
        request = SetLock(
            ino,
            owner,
            lock.start,
            lock.end,
            exclusive=lock.kind == fcntl.F_WRLCK,
            unlock=lock.kind == fcntl.F_UNLCK,
            whole=flock,
            waits=waits,
            pid=lock.pid,
        )
        if not flock:
            self._handle(handle).lockers.add(owner)
        return self._run(self._set_lock(request))

    def _set_lock(self, request: SetLock) -> Task[None]:
        if self._locks is None:
            raise OSError(ENOSYS, "the kernel keeps locks")
        if request.unlock:
            yield from self._locks.set(request)
            return
        opened = yield from self._data.opened_for(request.ino)
        try:
            yield from self._locks.set(request)
        finally:
            self._let_go_of(opened)
        file = self._data.find(request.ino)
        if file is not None and file.contended:
            # What others have written until now is to be seen, and how long the file is.
            self._data.attributes((yield GetAttributes(request.ino)))
            yield self.drop_pages(request.ino)

    def interrupted(self, future: Future[Any]) -> bool:
        waits_for = awaited(future)
        if self._locks is not None and not self._metadata.is_away and self._locks.cancel(waits_for):
            return True
        return self.let_go(waits_for)

    # -- atime ----------------------------------------------------------------------------------------------------

    def _note_access(self, attributes: Attributes) -> None:
        """Nobody waits for it."""
        if self._is_atime_due(attributes):
            self._accessed.add(attributes.ino)
            self._run(self._record_access(RecordAccess(attributes.ino, self._now_ns())))

    def _record_access(self, request: RecordAccess) -> Task[None]:
        try:
            recorded = yield request
        except OSError as error:
            if error.errno not in (ENOSPC, ENOENT):  # a full disk can be read
                log.info("atime of inode %d: %s", request.ino, error)
        else:
            self._data.attributes(recorded)
        finally:
            self._accessed.discard(request.ino)

    def _is_atime_due(self, attributes: Attributes) -> bool:
        if not self._update_atime:
            return False
        atime_ns = attributes.atime_ns
        return (
            atime_ns <= attributes.mtime_ns or atime_ns <= attributes.ctime_ns or self._now_ns() - atime_ns >= _DAY_NS
        )

    # -- extended attributes --------------------------------------------------------------------------------------

    def getxattr(self, ctx: Context, ino: int, name: bytes) -> Answer[Any]:
        if ino >= TRASH_INO:
            return self._run(self._trash.getxattr(ctx, ino, name))
        if ino >= FIRST_CLIENT_INO:
            raise OSError(ENODATA, "no such attribute")
        # Asked for each file that is written, so an inode that has none is told from its flags.
        if name == b"security.capability":
            return self._run(self._get_capability(ino))
        return self._ask(GetXattr(ino, name))

    def _get_capability(self, ino: int) -> Task[bytes]:
        file = self._data.find(ino)
        attributes = file.seen if file is not None else (yield GetAttributes(ino))
        if not attributes.flags & FLAG_XATTR:
            raise OSError(ENODATA, "no such attribute")
        value: bytes = yield GetXattr(ino, b"security.capability")
        return value

    def listxattr(self, ctx: Context, ino: int) -> Answer[list[bytes]]:
        if ino >= TRASH_INO:
            return self._run(self._trash.listxattr(ino))
        if ino >= FIRST_CLIENT_INO:
            return []
        return self._run(self._listxattr(ino, ctx.uid == 0))

    def _listxattr(self, ino: int, trusted: bool) -> Task[list[bytes]]:
        """Without those of ours: who copies a file with all that it has could not set them elsewhere."""
        names: list[bytes] = yield ListXattrs(ino)
        names = [name for name in names if not name.startswith(_OUR_XATTRS)]
        return names if trusted else [name for name in names if not name.startswith(b"trusted.")]

    def setxattr(
        self, ctx: Context, ino: int, name: bytes, value: bytes, flags: int, acl_kill_sgid: bool
    ) -> Answer[None]:
        if ino >= TRASH_INO:
            return self._run(self._trash.setxattr(ctx, ino, name, value))
        check_inode(ino)
        if name == RMTREE_XATTR:
            return self._run(self._remove_tree(ctx, ino, value))
        request = SetXattr(ino, name, value, flags, acl_kill_sgid)
        return self._run(self._change_policy(ctx, request) if name in POLICY_NAMES else self._change_xattr(request))

    def removexattr(self, ctx: Context, ino: int, name: bytes) -> Answer[None]:
        check_inode(ino)
        request = RemoveXattr(ino, name)
        return self._run(self._change_policy(ctx, request) if name in POLICY_NAMES else self._change_xattr(request))

    def _change_policy(self, ctx: Context, request: SetXattr | RemoveXattr) -> Task[None]:
        """What is kept of the files is for their owner to say; the kernel asks for no more than leave to write."""
        found = yield GetAttributes(request.ino)
        if ctx.uid not in (0, found.uid):
            raise OSError(EPERM, "it is the owner's to say")
        yield from self._change_xattr(request)

    def _change_xattr(self, request: SetXattr | RemoveXattr) -> Task[None]:
        self._data.attributes((yield request))
