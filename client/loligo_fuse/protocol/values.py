"""The values that cross between the kernel and a file system, in the shape a file system wants them.

Times are signed nanoseconds since 1970, sizes bytes, names `bytes`. All mutable and slotted: they are made
on every request, and a frozen dataclass costs three times as much to create.
"""

from dataclasses import dataclass
from typing import Protocol


class Context:
    """Who asks. `unique` identifies the request; `reply_limit_bytes` is how much answer the kernel takes.

    An operation may say how long its answer may be believed, when that is not for as long as others (`Operations`): names, or
    that there is no such name, for `entry_timeout_s`, attributes for `attribute_timeout_s`.
    `lock_owner`: for flush, whose record locks on the file end; for release, whose flock, or None.
    `changes`: this request does, though others of its kind do not; so who asks waits for the answer even if he is killed.
    """

    __slots__ = (
        "attribute_timeout_s",
        "changes",
        "entry_timeout_s",
        "gid",
        "lock_owner",
        "pid",
        "reply_limit_bytes",
        "uid",
        "unique",
    )

    def __init__(self, uid: int, gid: int, pid: int, unique: int, reply_limit_bytes: int = 0) -> None:
        self.uid = uid
        self.gid = gid
        self.pid = pid
        self.unique = unique
        self.reply_limit_bytes = reply_limit_bytes
        self.attribute_timeout_s: float | None = None
        self.entry_timeout_s: float | None = None
        self.lock_owner: int | None = None
        self.changes = False


class Attributes(Protocol):
    """What the kernel wants to know of an inode. Any object with these attributes will do.

    `blocks` counts 512 bytes each, `block_size` is the preferred I/O size, `rdev` is in `os.makedev` form.
    """

    @property
    def ino(self) -> int: ...
    @property
    def generation(self) -> int: ...
    @property
    def mode(self) -> int: ...
    @property
    def nlink(self) -> int: ...
    @property
    def uid(self) -> int: ...
    @property
    def gid(self) -> int: ...
    @property
    def rdev(self) -> int: ...
    @property
    def size(self) -> int: ...
    @property
    def blocks(self) -> int: ...
    @property
    def block_size(self) -> int: ...
    @property
    def atime_ns(self) -> int: ...
    @property
    def mtime_ns(self) -> int: ...
    @property
    def ctime_ns(self) -> int: ...


@dataclass(slots=True)
class SetAttributes:
    """What a setattr changes; None leaves an attribute as it is."""

    mode: int | None = None
    uid: int | None = None
    gid: int | None = None
    size: int | None = None
    atime_ns: int | None = None
    mtime_ns: int | None = None
    ctime_ns: int | None = None
    kill_suidgid: bool = False


@dataclass(slots=True)
class Opened:
    """An open file or directory: a handle of the file system's choosing and FOPEN_* bits."""

    handle: int = 0
    flags: int = 0


@dataclass(slots=True)
class FileLock:
    """On the bytes `start` to `end`, the last included; 2^63 - 1 is the end of the file, wherever that is.

    `kind` is F_RDLCK, F_WRLCK or F_UNLCK.
    """

    start: int
    end: int
    kind: int
    pid: int


@dataclass(slots=True)
class StatFs:
    """`blocks`, `blocks_free` and `blocks_available` count `block_size` bytes each."""

    block_size: int
    blocks: int
    blocks_free: int
    blocks_available: int
    files: int
    files_free: int
    name_max: int = 255
