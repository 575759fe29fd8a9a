"""The second transport: the same file system on pyfuse3, the binding on libfuse. A protocol adapter only.

`Pyfuse3Session` stands where `loligo_fuse.Session` does: the mount was made by `loligo_fuse.mount`, libfuse gets its
descriptor, the caller closes it after `run`. One in a process at a time: pyfuse3 keeps its session in globals.

Rules:

- Every answer goes through `_Adapter._answer`, the one place where OSError becomes FUSEError, where a bug becomes a log entry
  and EIO, and where a future is awaited (its thread wakes the trio loop; no thread is kept waiting).
- A request that waits for a future holds up no others: up to `TASKS_MAX` are under way. (One task alone would save 5 to 10 %
  of each call, and serve nobody during an fsync.)

What libfuse and pyfuse3 leave out, and what stands in for it here:

- fallocate, SEEK_DATA and SEEK_HOLE, O_TMPFILE: EOPNOTSUPP or the kernel's own fallback. syncfs never reaches the file system.
- Interrupts: every request is answered when it is done, and a killed caller waits for that, even in fsync.
- Set-user-id and set-group-id bits: the kernel clears them itself, with a SETATTR of the mode, except where a file is
  truncated by open or gets an ACL. There the caller's identity decides.
- Read-ahead: libfuse repeats the kernel's first offer of 128 KiB; `set_read_ahead` works once the mount answers.
- The umask: libfuse cannot ask the kernel not to apply it. The mount option "acl" (MS_POSIXACL; mount(2) only) does;
  without it a default ACL is narrowed by the umask too.
"""

import errno
import logging
import os
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from typing import Any

import pyfuse3
import trio

from loligo_fuse import (
    FOPEN_DIRECT_IO,
    FOPEN_KEEP_CACHE,
    OPEN_KILL_SUIDGID,
    ROOT_ID,
    Context,
    DirectoryEntry,
    Opened,
    Operations,
)
from loligo_fuse import SetAttributes as Change
from loligo_fuse.protocol.encode import encode_inval_entry, encode_inval_inode

log = logging.getLogger(__name__)

TASKS_MAX = 64
#: For requests of which pyfuse3 does not tell who asks.
_NOBODY_IN_PARTICULAR = Context(0, 0, 0, 0)
_ACCESS_ACL = b"system.posix_acl_access"
#: Requests are counted by what they call.
_CALLS = frozenset(name for name, member in vars(Operations).items() if callable(member))


def _is_news(record: logging.LogRecord) -> bool:
    """pyfuse3 logs an error when the kernel has given up the request that it replies to: nobody has to know."""
    return not (record.levelno == logging.ERROR and os.strerror(errno.ENOENT) in (record.args or ()))


logging.getLogger("pyfuse3").addFilter(_is_news)


class Pyfuse3Session:
    """Serves one mount on descriptor `fd` with `operations`; methods as those of `loligo_fuse.Session`."""

    def __init__(self, fd: int, operations: Operations) -> None:
        self._fd = fd
        self._operations = operations
        self._lock = threading.Lock()
        self._token: trio.lowlevel.TrioToken | None = None
        self._scope = trio.CancelScope()
        self._stopping = False
        self._calls: Counter[str] = Counter()

    @property
    def calls(self) -> dict[str, int]:
        """How many requests of which kind there were, of those that there were."""
        return {name.upper(): count for name, count in self._calls.items()}

    def run(self) -> None:
        """Serve until unmounted or stopped."""
        # libfuse closes what it was given.
        pyfuse3.init(_Adapter(self._operations, self._calls), f"/dev/fd/{os.dup(self._fd)}", set())
        try:
            trio.run(self._serve, restrict_keyboard_interrupt_to_checkpoints=True)
        finally:
            pyfuse3.close(unmount=False)
            self._operations.destroy()

    async def _serve(self) -> None:
        with self._lock:
            self._token = trio.lowlevel.current_trio_token()
            if self._stopping:
                return
        with self._scope:
            await pyfuse3.main(min_tasks=1, max_tasks=TASKS_MAX)

    def stop(self) -> None:
        """Make `run` return soon, from any thread. The mount is dead when the descriptor is closed."""
        with self._lock:
            self._stopping = True
            token = self._token
        if token is not None:
            with suppress(trio.RunFinishedError):
                token.run_sync_soon(self._scope.cancel)

    def notify_inval_inode(self, ino: int, offset: int, length: int) -> bool:
        """Drop cached attributes and data. May block; not from an operation. Whether it is cached."""
        return self._notify(encode_inval_inode(ino, offset, length))

    def notify_inval_entry(self, parent: int, name: bytes) -> None:
        """Drop a cached name, present or absent. May block; not from an operation."""
        self._notify(encode_inval_entry(parent, name))

    def notify_expire_entry(self, parent: int, name: bytes) -> None:
        """Have a cached name looked up again at its next use. May block; not from an operation."""
        self._notify(encode_inval_entry(parent, name, expire=True))

    def notify_inval_attributes(self, ino: int) -> bool:
        """Drop cached attributes. Waits for nothing, so an operation may call it before it answers."""
        return self._notify(encode_inval_inode(ino, -1, 0))

    def _notify(self, message: bytes) -> bool:
        try:
            os.write(self._fd, message)
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENODEV, errno.ECONNABORTED):
                raise
            return False
        return True


def _context(ctx: Any) -> Context:
    return Context(ctx.uid, ctx.gid, ctx.pid, 0)


def _or(timeout_s: float | None, default_s: float) -> float:
    return default_s if timeout_s is None else timeout_s


class _Adapter(pyfuse3.Operations):
    supports_dot_lookup = True
    enable_writeback_cache = False
    enable_acl = True

    def __init__(self, operations: Operations, calls: Counter[str]) -> None:
        super().__init__()
        self._to = operations
        self._calls = calls
        self._entry_timeout_s = operations.entry_timeout_s
        self._attribute_timeout_s = operations.attribute_timeout_s
        self._negative_timeout_s = operations.negative_timeout_s
        #: pyfuse3 names an open file by its handle alone. A directory's handle is its inode number: `Operations.opendir`
        #: is not asked.
        self._inos: dict[int, int] = {}

    async def _answer(self, call: Callable[..., Any], *arguments: Any) -> Any:
        if call.__name__ in _CALLS:
            self._calls[call.__name__] += 1
        try:
            answer = call(*arguments)
            return await _result(answer) if isinstance(answer, Future) else answer
        except OSError as error:
            raise pyfuse3.FUSEError(error.errno or errno.EIO) from None
        except Exception:
            log.exception("%s%r failed", call.__name__, arguments)
            raise pyfuse3.FUSEError(errno.EIO) from None

    # -- attributes -----------------------------------------------------------------------------------------------

    def _entry(self, context: Context, attributes: Any) -> Any:
        entry = pyfuse3.EntryAttributes()
        entry.entry_timeout = _or(context.entry_timeout_s, self._entry_timeout_s)
        entry.attr_timeout = _or(context.attribute_timeout_s, self._attribute_timeout_s)
        entry.st_ino = attributes.ino
        entry.generation = attributes.generation
        entry.st_mode = attributes.mode
        entry.generation = attributes.generation
        entry.st_nlink = attributes.nlink
        entry.st_uid = attributes.uid
        entry.st_gid = attributes.gid
        entry.st_rdev = attributes.rdev
        entry.st_size = attributes.size
        entry.st_blocks = attributes.blocks
        entry.st_blksize = attributes.block_size
        entry.st_atime_ns = attributes.atime_ns
        entry.st_mtime_ns = attributes.mtime_ns
        entry.st_ctime_ns = attributes.ctime_ns
        return entry

    async def getattr(self, inode: int, ctx: Any) -> Any:
        context = _context(ctx)
        return self._entry(context, await self._answer(self._to.getattr, context, inode, None))

    async def setattr(self, inode: int, attr: Any, fields: Any, fh: int | None, ctx: Any) -> Any:
        change = Change(
            mode=attr.st_mode if fields.update_mode else None,
            uid=attr.st_uid if fields.update_uid else None,
            gid=attr.st_gid if fields.update_gid else None,
            size=attr.st_size if fields.update_size else None,
            atime_ns=attr.st_atime_ns if fields.update_atime else None,
            mtime_ns=attr.st_mtime_ns if fields.update_mtime else None,
        )
        context = _context(ctx)
        return self._entry(context, await self._answer(self._to.setattr, context, inode, change, fh))

    async def statfs(self, ctx: Any) -> Any:
        found = await self._answer(self._to.statfs, _context(ctx), ROOT_ID)
        reply = pyfuse3.StatvfsData()
        reply.f_bsize = reply.f_frsize = found.block_size
        reply.f_blocks = found.blocks
        reply.f_bfree = found.blocks_free
        reply.f_bavail = found.blocks_available
        reply.f_files = found.files
        reply.f_ffree = reply.f_favail = found.files_free
        reply.f_namemax = found.name_max
        return reply

    # -- names ----------------------------------------------------------------------------------------------------

    async def lookup(self, parent_inode: int, name: bytes, ctx: Any) -> Any:
        context = _context(ctx)
        found = await self._answer(self._to.lookup, context, parent_inode, name)
        if found is not None:
            return self._entry(context, found)
        timeout_s = _or(context.entry_timeout_s, self._negative_timeout_s)
        if not timeout_s:
            raise pyfuse3.FUSEError(errno.ENOENT)
        missing = pyfuse3.EntryAttributes()
        missing.st_ino = 0
        missing.entry_timeout = timeout_s
        return missing

    async def forget(self, inode_list: Sequence[tuple[int, int]]) -> None:
        self._calls["forget"] += 1
        try:
            self._to.forget(inode_list)
        except Exception:
            log.exception("forget failed")  # nobody waits for an answer

    async def mknod(self, parent_inode: int, name: bytes, mode: int, rdev: int, ctx: Any) -> Any:
        to, context = self._to.mknod, _context(ctx)
        return self._entry(context, await self._answer(to, context, parent_inode, name, mode, rdev, ctx.umask))

    async def mkdir(self, parent_inode: int, name: bytes, mode: int, ctx: Any) -> Any:
        to, context = self._to.mkdir, _context(ctx)
        return self._entry(context, await self._answer(to, context, parent_inode, name, mode, ctx.umask))

    async def symlink(self, parent_inode: int, name: bytes, target: bytes, ctx: Any) -> Any:
        to, context = self._to.symlink, _context(ctx)
        return self._entry(context, await self._answer(to, context, parent_inode, name, target))

    async def readlink(self, inode: int, ctx: Any) -> bytes:
        target: bytes = await self._answer(self._to.readlink, _context(ctx), inode)
        return target

    async def link(self, inode: int, new_parent_inode: int, new_name: bytes, ctx: Any) -> Any:
        to, context = self._to.link, _context(ctx)
        return self._entry(context, await self._answer(to, context, inode, new_parent_inode, new_name))

    async def unlink(self, parent_inode: int, name: bytes, ctx: Any) -> None:
        await self._answer(self._to.unlink, _context(ctx), parent_inode, name)

    async def rmdir(self, parent_inode: int, name: bytes, ctx: Any) -> None:
        await self._answer(self._to.rmdir, _context(ctx), parent_inode, name)

    async def rename(
        self, parent_inode_old: int, name_old: bytes, parent_inode_new: int, name_new: bytes, flags: int, ctx: Any
    ) -> None:
        to = self._to.rename
        await self._answer(to, _context(ctx), parent_inode_old, name_old, parent_inode_new, name_new, flags)

    # -- listings -------------------------------------------------------------------------------------------------

    async def opendir(self, inode: int, ctx: Any) -> int:
        self._calls["opendir"] += 1
        return inode

    async def readdir(self, fh: int, start_id: int, token: Any) -> None:
        context = Context(0, 0, 0, 0)
        listing = await self._answer(self._to.readdir, context, fh, 0, start_id, True)
        await self._answer(self._fill, context, listing, token)

    def _fill(self, context: Context, listing: Iterable[DirectoryEntry], token: Any) -> None:
        # An entry that does not fit was not handed out: the listing is dropped there, not resumed.
        for name, next_cookie, child, mode, attributes in listing:
            if attributes is None:  # "." and "..", and what is to be asked for
                entry = pyfuse3.EntryAttributes()
                entry.entry_timeout = entry.attr_timeout = 0
                entry.st_ino = child
                entry.st_mode = mode
            else:
                entry = self._entry(context, attributes)
            if not pyfuse3.readdir_reply(token, name, entry, next_cookie):
                break

    async def releasedir(self, fh: int) -> None:
        self._calls["releasedir"] += 1

    async def fsyncdir(self, fh: int, datasync: bool) -> None:
        await self._answer(self._to.fsyncdir, _NOBODY_IN_PARTICULAR, fh, 0, datasync)

    # -- open files -----------------------------------------------------------------------------------------------

    def _file_info(self, ino: int, opened: Opened) -> Any:
        self._inos[opened.handle] = ino
        return pyfuse3.FileInfo(
            fh=opened.handle,
            keep_cache=bool(opened.flags & FOPEN_KEEP_CACHE),
            direct_io=bool(opened.flags & FOPEN_DIRECT_IO),
        )

    async def open(self, inode: int, flags: int, ctx: Any) -> Any:
        if flags & os.O_TRUNC and ctx.uid:
            flags |= OPEN_KILL_SUIDGID
        return self._file_info(inode, await self._answer(self._to.open, _context(ctx), inode, flags))

    async def create(self, parent_inode: int, name: bytes, mode: int, flags: int, ctx: Any) -> Any:
        to, context = self._to.create, _context(ctx)
        made, opened = await self._answer(to, context, parent_inode, name, mode, ctx.umask, flags)
        return self._file_info(made.ino, opened), self._entry(context, made)

    async def read(self, fh: int, off: int, size: int) -> Any:
        pieces = await self._answer(self._to.read, _NOBODY_IN_PARTICULAR, self._inos.get(fh, 0), fh, off, size)
        if isinstance(pieces, (bytes, bytearray, memoryview)):
            return pieces
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    async def write(self, fh: int, off: int, buf: bytes) -> int:
        to = self._to.write
        ino = self._inos.get(fh, 0)
        length: int = await self._answer(to, _NOBODY_IN_PARTICULAR, ino, fh, off, memoryview(buf), False, 0)
        return length

    async def flush(self, fh: int) -> None:
        await self._answer(self._to.flush, _NOBODY_IN_PARTICULAR, self._inos.get(fh, 0), fh)

    async def release(self, fh: int) -> None:
        await self._answer(self._to.release, _NOBODY_IN_PARTICULAR, self._inos.pop(fh, 0), fh)

    async def fsync(self, fh: int, datasync: bool) -> None:
        await self._answer(self._to.fsync, _NOBODY_IN_PARTICULAR, self._inos.get(fh, 0), fh, datasync)

    # -- extended attributes --------------------------------------------------------------------------------------

    async def getxattr(self, inode: int, name: bytes, ctx: Any) -> bytes:
        value: bytes = await self._answer(self._to.getxattr, _context(ctx), inode, name)
        return value

    async def setxattr(self, inode: int, name: bytes, value: bytes, ctx: Any) -> None:
        # pyfuse3 has seen to XATTR_CREATE and XATTR_REPLACE, by asking for the attribute first.
        kill = name == _ACCESS_ACL and ctx.uid != 0 and not await self._is_of_group(inode, ctx)
        await self._answer(self._to.setxattr, _context(ctx), inode, name, value, 0, kill)

    async def _is_of_group(self, inode: int, ctx: Any) -> bool:
        """Whether the caller is in the file's group: only then an ACL leaves set-group-id alone."""
        owner = await self._answer(self._to.getattr, _context(ctx), inode, None)
        return owner.gid == ctx.gid or owner.gid in await self._answer(pyfuse3.get_sup_groups, ctx.pid)

    async def listxattr(self, inode: int, ctx: Any) -> list[bytes]:
        names: list[bytes] = await self._answer(self._to.listxattr, _context(ctx), inode)
        return names

    async def removexattr(self, inode: int, name: bytes, ctx: Any) -> None:
        await self._answer(self._to.removexattr, _context(ctx), inode, name)


async def _result(future: "Future[Any]") -> Any:
    if not future.done():
        done = trio.Event()
        token = trio.lowlevel.current_trio_token()

        def wake(_: "Future[Any]") -> None:
            with suppress(trio.RunFinishedError):
                token.run_sync_soon(done.set)

        future.add_done_callback(wake)
        await done.wait()
    return future.result()
