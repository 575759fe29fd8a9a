"""What a file system implements: one method a FUSE request, by inode number.

Rules:

- All methods are synchronous and are called on the thread that runs the session, one at a time. A method
  that has to wait returns a ``concurrent.futures.Future`` of its result at once instead; whichever thread
  completes it sends the reply, and other requests are served meanwhile.
- ``OSError(errno)`` is an answer. Any other exception is a bug: it is logged, the caller gets EIO, and the
  session lives on.
- The defaults answer ENOSYS. After one ENOSYS the kernel stops asking for these: open and opendir (it
  then opens without asking and does not release), flush, fsync and fsyncdir (then taken for done), access, the xattr
  calls, fallocate, lseek. For the others it is the caller's error.
- An inode number handed out by lookup, mknod, mkdir, symlink, link, create, tmpfile, or readdir with attributes is
  remembered by the kernel and counted, until ``forget`` gives the count back.
- A caller that is killed while its future is pending is let go at once only if the request changes nothing: the questions
  (lookup, getattr, read, lseek, ...), flush, and the syncs. Whatever makes, changes, moves or removes something, open
  and write among them, is answered when it is done, and until then the caller cannot die, as on a local disk. Answered
  early, the kernel would believe that nothing happened, and keep names, sizes and pages from before the change.
- `interrupted` may let a caller go on top of that, by completing the future with OSError(EINTR).
- The result of a question that was let go has nobody to go to. The session then undoes what the kernel would have
  undone: it calls ``forget`` for an inode number and ``releasedir`` for a handle, on the thread that completed
  the future. Likewise, with ``release``, if the kernel refuses a reply.

What it does not do: permission checks (mount with ``default_permissions``) and, if `locks` is not set, locks: the kernel
keeps them.
"""

import errno
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from typing import Any, TypeAlias, TypeVar

from loligo_fuse.protocol.encode import Buffer, DirectoryEntry
from loligo_fuse.protocol.negotiation import Negotiated
from loligo_fuse.protocol.values import Attributes, Context, FileLock, Opened, SetAttributes, StatFs

_T = TypeVar("_T")

# A result now, or later.
Answer: TypeAlias = _T | Future[_T]


def _not_implemented() -> OSError:
    return OSError(errno.ENOSYS, "not implemented")


class Operations:
    """Subclass this. `name` is one path component, `handle` what open or opendir chose."""

    # How long the kernel may believe a name, attributes, and that a name does not exist without asking
    # again. Read once, when the session starts. 0 for the last means ENOENT, remembered not at all.
    entry_timeout_s: float = 1.0
    attribute_timeout_s: float = 1.0
    negative_timeout_s: float = 0.0
    # Whether locks are to be asked for here, because others have the files, too. Read once, likewise.
    locks: bool = False

    def init(self, negotiated: Negotiated) -> None:
        """Before the first request."""

    def destroy(self) -> None:
        """After the last request: unmounted, or the session was stopped."""

    def interrupted(self, future: Future[Any]) -> bool:
        """The thread that waits for `future`, which an operation returned, got a signal of any kind.

        True: ask again in a moment, if the future is not done by then.
        """
        return False

    def lookup(self, ctx: Context, parent: int, name: bytes) -> Answer[Attributes | None]:
        """None: no such name. `name` may be b"." or b".." when the mount is exported by NFS."""
        raise _not_implemented()

    def forget(self, inos: Sequence[tuple[int, int]]) -> None:
        """The kernel gives back counts of inode numbers: pairs (ino, count)."""

    def getattr(self, ctx: Context, ino: int, handle: int | None) -> Answer[Attributes]:
        raise _not_implemented()

    def setattr(self, ctx: Context, ino: int, change: SetAttributes, handle: int | None) -> Answer[Attributes]:
        """All changes or none. Returns the attributes afterwards."""
        raise _not_implemented()

    def readlink(self, ctx: Context, ino: int) -> Answer[bytes]:
        raise _not_implemented()

    def symlink(self, ctx: Context, parent: int, name: bytes, target: bytes) -> Answer[Attributes]:
        raise _not_implemented()

    def mknod(self, ctx: Context, parent: int, name: bytes, mode: int, rdev: int, umask: int) -> Answer[Attributes]:
        """`mode` is not yet masked by `umask`: a default ACL on the parent replaces the umask."""
        raise _not_implemented()

    def mkdir(self, ctx: Context, parent: int, name: bytes, mode: int, umask: int) -> Answer[Attributes]:
        raise _not_implemented()

    def unlink(self, ctx: Context, parent: int, name: bytes) -> Answer[None]:
        raise _not_implemented()

    def rmdir(self, ctx: Context, parent: int, name: bytes) -> Answer[None]:
        raise _not_implemented()

    def rename(
        self,
        ctx: Context,
        parent: int,
        name: bytes,
        new_parent: int,
        new_name: bytes,
        flags: int,
    ) -> Answer[None]:
        """`flags`: RENAME_NOREPLACE (1), RENAME_EXCHANGE (2). EINVAL for those not supported."""
        raise _not_implemented()

    def link(self, ctx: Context, ino: int, new_parent: int, new_name: bytes) -> Answer[Attributes]:
        raise _not_implemented()

    def open(self, ctx: Context, ino: int, flags: int) -> Answer[Opened]:
        """`flags`: O_* bits. O_TRUNC is ours to do, and OPEN_KILL_SUIDGID may come with it."""
        raise _not_implemented()

    def create(
        self, ctx: Context, parent: int, name: bytes, mode: int, umask: int, flags: int
    ) -> Answer[tuple[Attributes, Opened]]:
        """Make and open. Opens an existing file unless O_EXCL is set."""
        raise _not_implemented()

    def tmpfile(
        self, ctx: Context, parent: int, mode: int, umask: int, flags: int
    ) -> Answer[tuple[Attributes, Opened]]:
        """O_TMPFILE: a file without a name in `parent`'s file system."""
        raise _not_implemented()

    def read(self, ctx: Context, ino: int, handle: int, offset: int, size: int) -> Answer[Buffer | Sequence[Buffer]]:
        """At most `size` bytes, less only at the end of the file. Pieces are sent without joining them."""
        raise _not_implemented()

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
        """How many bytes were written. `data` is valid only during this call: copy what is kept.

        `flags` are the O_* bits of the open file, 0 of what was written to a mapping or if the transport is not told; with
        O_APPEND, `offset` is where the kernel believes the end to be. `kill_suidgid`: take away set-user-id and (if
        group-executable) set-group-id.
        """
        raise _not_implemented()

    def flush(self, ctx: Context, ino: int, handle: int) -> Answer[None]:
        """At every close of a descriptor; its error is close's error. Record locks of `ctx.lock_owner` on the file end."""
        raise _not_implemented()

    def release(self, ctx: Context, ino: int, handle: int) -> Answer[None]:
        """The last use of the handle. Nobody sees an error. If `ctx.lock_owner` is not None, its flock ends."""
        raise _not_implemented()

    def fsync(self, ctx: Context, ino: int, handle: int, datasync: bool) -> Answer[None]:
        raise _not_implemented()

    def opendir(self, ctx: Context, ino: int, flags: int) -> Answer[Opened]:
        """ENOSYS: readdir gets handle 0, and the kernel keeps listings cached until they are invalidated."""
        raise _not_implemented()

    def readdir(self, ctx: Context, ino: int, handle: int, cookie: int, plus: bool) -> Answer[Iterator[DirectoryEntry]]:
        """Entries after the one that had `cookie`; 0 is the beginning. "." and ".." are ours to list.

        Yields (name, next_cookie, ino, mode, attributes): attributes only if `plus`, and None for "." and
        "..". The session pulls until one does not fit: with `plus`, an entry counts as handed out (see
        `forget`) when the generator is resumed after yielding it, not when it is closed.
        """
        raise _not_implemented()

    def releasedir(self, ctx: Context, ino: int, handle: int) -> Answer[None]:
        raise _not_implemented()

    def fsyncdir(self, ctx: Context, ino: int, handle: int, datasync: bool) -> Answer[None]:
        raise _not_implemented()

    def statfs(self, ctx: Context, ino: int) -> Answer[StatFs]:
        raise _not_implemented()

    def syncfs(self, ctx: Context, ino: int) -> Answer[None]:
        raise _not_implemented()

    def access(self, ctx: Context, ino: int, mask: int) -> Answer[None]:
        """Not asked with default_permissions."""
        raise _not_implemented()

    def getxattr(self, ctx: Context, ino: int, name: bytes) -> Answer[bytes]:
        """The whole value; ENODATA without one. The session fits it to the caller's buffer."""
        raise _not_implemented()

    def setxattr(
        self,
        ctx: Context,
        ino: int,
        name: bytes,
        value: bytes,
        flags: int,
        acl_kill_sgid: bool,
    ) -> Answer[None]:
        """`flags`: XATTR_CREATE, XATTR_REPLACE. `acl_kill_sgid`: this ACL also takes away set-group-id."""
        raise _not_implemented()

    def listxattr(self, ctx: Context, ino: int) -> Answer[list[bytes]]:
        raise _not_implemented()

    def removexattr(self, ctx: Context, ino: int, name: bytes) -> Answer[None]:
        raise _not_implemented()

    def getlk(self, ctx: Context, ino: int, handle: int, owner: int, lock: FileLock) -> Answer[FileLock | None]:
        """A record lock of another owner that is in the way of this one; None: it can be had."""
        raise _not_implemented()

    def setlk(
        self, ctx: Context, ino: int, handle: int, owner: int, lock: FileLock, flock: bool, waits: bool
    ) -> Answer[None]:
        """Take, or (F_UNLCK) give up. EAGAIN if it cannot be had, but if it `waits`; then EDEADLK if that would be for ever.

        Who waits may be `interrupted`.
        """
        raise _not_implemented()

    def fallocate(self, ctx: Context, ino: int, handle: int, offset: int, length: int, mode: int) -> Answer[None]:
        raise _not_implemented()

    def lseek(self, ctx: Context, ino: int, handle: int, offset: int, whence: int) -> Answer[int]:
        """SEEK_DATA and SEEK_HOLE only."""
        raise _not_implemented()
