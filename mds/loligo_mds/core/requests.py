"""What can be asked of a shard, one class a question. Names are bytes, inode numbers int, times ns.

`CHANGING` are those that change something; `RECLAIMING` those among them that give space back, so they may use the last of
it on a full disk. Answers are named behind each class; any may be refused with an errno instead.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from loligo_trash.batch import Word
from loligo_wire.attributes import Attributes


@dataclass(slots=True)
class Lookup:
    """-> Attributes, or None if there is no such name."""

    parent: int
    name: bytes


@dataclass(slots=True)
class GetAttributes:
    """-> Attributes"""

    ino: int


@dataclass(slots=True)
class SetAttributes:
    """None leaves an attribute alone. -> Attributes

    `size` changes the record only; whoever asks looks after the objects (see `core.content`).
    `drop_privileges` clears set-user-id, and set-group-id where the group may execute.
    """

    ino: int
    mode: int | None = None
    uid: int | None = None
    gid: int | None = None
    size: int | None = None
    atime_ns: int | None = None
    mtime_ns: int | None = None
    drop_privileges: bool = False


@dataclass(slots=True)
class RecordAccess:
    """The content was read: atime alone moves, not ctime. -> Attributes"""

    ino: int
    atime_ns: int


@dataclass(slots=True)
class Create:
    """A new inode of the type in `mode`, named `name`. `target` is a symbolic link's. -> Attributes

    With `hold` the asking session has it open from the start. `new_ino`: one of those reserved for it; 0: any.

    Of what was promised and not sent at once, what has become of it since: `became`, its record, of which permissions, owner,
    group and times count; `inline`, its content; `unsettled_end` as of Unsettle, 0: nothing was said.
    """

    parent: int
    name: bytes
    mode: int
    uid: int
    gid: int
    umask: int = 0
    rdev: int = 0
    target: bytes = b""
    hold: bool = False
    new_ino: int = 0
    became: bytes = b""
    inline: bytes | None = None
    unsettled_end: int = 0


@dataclass(slots=True)
class CreateUnnamed:
    """O_TMPFILE: a file without a name, held open by the asking session. -> Attributes"""

    parent: int
    mode: int
    uid: int
    gid: int
    umask: int = 0


@dataclass(slots=True)
class Unlink:
    """-> Attributes of the inode as it is now; nlink 0 if that was its last name.

    `uid`, `pid`: whose process removes it, here and below: what it removes together is kept together (`core.trash`).
    """

    parent: int
    name: bytes
    uid: int = 0
    pid: int = 0


@dataclass(slots=True)
class RemoveDirectory:
    """-> Attributes of the directory that is gone, nlink 0."""

    parent: int
    name: bytes
    uid: int = 0
    pid: int = 0


@dataclass(slots=True)
class RemoveTree:
    """Into the trash with a directory and all that is in it, as a batch with that label. -> Attributes as of RemoveDirectory"""

    parent: int
    name: bytes
    uid: int = 0
    pid: int = 0
    label: bytes = b""


@dataclass(slots=True)
class Rename:
    """-> Attributes of the inode that lost its name at the destination, or None"""

    parent: int
    name: bytes
    new_parent: int
    new_name: bytes
    flags: int = 0
    uid: int = 0
    pid: int = 0


@dataclass(slots=True)
class Link:
    """-> Attributes"""

    ino: int
    new_parent: int
    new_name: bytes


@dataclass(slots=True)
class ReadLink:
    """-> bytes"""

    ino: int


@dataclass(slots=True)
class ReadDirectory:
    """-> a list of (name, cookie, ino, file type bits of mode, Attributes or None), in cookie order, behind
    `after_cookie`; an empty list is the end. `with_attributes` fills in the last column, but for files of which another
    session may know better what they are.
    """

    ino: int
    after_cookie: int
    count: int
    with_attributes: bool = False


@dataclass(slots=True)
class GetXattr:
    """-> bytes"""

    ino: int
    name: bytes


@dataclass(slots=True)
class ListXattrs:
    """-> list of names"""

    ino: int


@dataclass(slots=True)
class SetXattr:
    """`flags` as in setxattr(2). `kill_sgid`: an access ACL set by one outside the group. -> Attributes"""

    ino: int
    name: bytes
    value: bytes
    flags: int = 0
    kill_sgid: bool = False


@dataclass(slots=True)
class RemoveXattr:
    """-> Attributes"""

    ino: int
    name: bytes


@dataclass(slots=True)
class Open:
    """The asking session holds the inode: it outlives its last name until `Close`. -> Opened

    `writes`: it is going to change the content. The answer may have to wait until others have yielded; see `core.opens`.
    """

    ino: int
    writes: bool = False


@dataclass(slots=True)
class Opened:
    """`contended`: others have the file open too, and somebody writes; see `core.opens` for what that forbids.

    `inline`: as `ReadInline` would answer now; None: ask, if need be. Servers may fill it in.
    """

    attributes: Attributes
    contended: bool = False
    inline: bytes | None = None


@dataclass(slots=True)
class Close:
    """Ends `count` Opens. -> None"""

    ino: int
    count: int = 1


@dataclass(slots=True)
class Claim:
    """The asking session wants a contended file, that it has open, for itself. -> Attributes, when the others have yielded"""

    ino: int


@dataclass(slots=True)
class Release:
    """Ends a `Claim`. -> None"""

    ino: int


@dataclass(slots=True)
class Yielded:
    """Answers a Recall: what this session has written to the file is stored and published, and it touches the
    file no more until it is told to resume. -> None
    """

    ino: int


@dataclass(slots=True)
class Reported:
    """Answers a Report: whatever this session had promised its callers about the file was asked before this, but for what it
    has written and not published: by that the file has this size (None: what the shard knows) and this mtime. -> None
    """

    ino: int
    size: int | None = None
    mtime_ns: int | None = None


@dataclass(slots=True)
class LeaseReturned:
    """This session believes nothing any more that the lease of `ino` covers; or, if `attributes_of` was recalled, nothing of
    that inode's attributes. `kept`: it keeps the lease, but not for itself alone; `was_exclusive`: until now it had, and what
    it has promised under it was asked before; `again`: it may have said so on an earlier connection; `open`: inodes that it has
    been reading under it, and has open from now on, once more than is known. See `core.leases`. -> None, always
    """

    ino: int
    attributes_of: int = 0
    kept: bool = False
    was_exclusive: bool = False
    again: bool = False
    open: Sequence[int] = ()


@dataclass(slots=True)
class ReserveInodes:
    """Numbers for what the session promises to make (`core.delegations`), instead of those that it has left. -> Reserved"""

    count: int


@dataclass(slots=True)
class Reserved:
    """`count` inode numbers from `first` on, to be used in order."""

    first: int
    count: int


@dataclass(slots=True)
class SetLock:
    """`owner` takes or gives up (`unlock`) a lock on the bytes `start` to `end`, the last included. See `core.locks`. -> None

    `whole`: flock's. `waits`: until it can be had; else EAGAIN. `pid`: for who asks who has it. `wait`: to cancel it by.
    """

    ino: int
    owner: int
    start: int
    end: int
    exclusive: bool = False
    unlock: bool = False
    whole: bool = False
    waits: bool = False
    pid: int = 0
    wait: int = 0


@dataclass(slots=True)
class GetLock:
    """-> a record lock that is in the way of this one, or None"""

    ino: int
    owner: int
    start: int
    end: int
    exclusive: bool = False
    pid: int = 0


@dataclass(slots=True)
class CancelLock:
    """The session does not wait any longer for the SetLock of that number. -> None, always"""

    ino: int
    wait: int


@dataclass(slots=True)
class ReadInline:
    """-> bytes of a file whose content lives with its inode"""

    ino: int


@dataclass(slots=True)
class Unsettle:
    """Before objects of a file are written or removed: up to byte `end` they may disagree with its size. -> None"""

    ino: int
    end: int


@dataclass(slots=True)
class Publish:
    """Written data survives a crash of its writer: record what the file is now. -> Attributes

    `inline` is the whole content if it is to live with the inode, None if it is in objects: then the file does not shrink,
    whatever `size` says, because others may have written further. `mtime_ns` is when the data was written, None if mtime
    was set to something else since. `sparse` says that some byte was left out.
    """

    ino: int
    size: int
    mtime_ns: int | None
    inline: bytes | None = None
    sparse: bool = False


@dataclass(slots=True)
class Settle:
    """Objects and sizes of these inodes, at most SETTLE_MAX, agree again, durably. -> None"""

    inos: list[int]


@dataclass(slots=True)
class ListUnsettled:
    """-> list of (ino, start, end, block size, Attributes or None if the inode is gone), at most `count`, in order,
    with ino > `after`
    """

    after: int
    count: int


@dataclass(slots=True)
class ListBatches:
    """-> list of batch (8 bytes) ‖ its record (`loligo_trash.batch`), at most `count`, in order, with a number > `after`. A row
    without a record says how far was looked. None: there are no more.

    `uid`: of who removed them; 0: of everybody. `below`: only those of which everything was removed below this directory; 0:
    all.
    """

    after: int
    count: int
    uid: int = 0
    below: int = 0


@dataclass(slots=True)
class ListRemoved:
    """As ListBatches, with paths of what they have, from `below` or the root of the volume. -> list of rows of
    `loligo_trash.told`, and in between those without a record
    """

    after: int
    count: int
    uid: int = 0
    below: int = 0


@dataclass(slots=True)
class ListPlaces:
    """-> list of directory (8 bytes) ‖ its record (`loligo_trash.places`): from where a batch has something, in order, behind
    `after`
    """

    batch: int
    after: int
    count: int


@dataclass(slots=True)
class ReadTrash:
    """-> as ReadDirectory with attributes: what a batch has of a directory, and what is still in it if it was removed, too."""

    batch: int
    directory: int
    after_cookie: int
    count: int


@dataclass(slots=True)
class LookInTrash:
    """-> Attributes, or None, of one name of that."""

    batch: int
    directory: int
    name: bytes


@dataclass(slots=True)
class FillIn:
    """Before a directory is restored: some of what was removed from it before, in that batch, goes back into it. -> Attributes
    of the directory
    """

    batch: int
    ino: int


@dataclass(slots=True)
class Restore:
    """What was removed as `name` from `directory` gets a name again. -> Attributes; ENOTEMPTY: `FillIn` first."""

    batch: int
    directory: int
    name: bytes
    new_parent: int
    new_name: bytes


@dataclass(slots=True)
class PurgeBatch:
    """A batch need not be kept any longer, or what else is said of its being purged (`loligo_trash.batch.Word`). -> None

    `rate`: inodes a second, with `Word.RATE`.
    """

    batch: int
    word: int = Word.PURGE
    rate: int = 0


@dataclass(slots=True)
class Purge:
    """Of the shard's own process: remove some of what is due, some `count` names and inodes. -> Purged"""

    count: int


@dataclass(slots=True)
class Purged:
    """`batch`: which one; 0: nothing is due, or not before `rest_ns` have passed. Names and inodes removed, and the sizes of
    files among them. No names: others have been asked to forget what they believe of the next one, and have not answered.
    """

    batch: int
    names: int = 0
    inodes: int = 0
    size_bytes: int = 0
    rest_ns: int = 0


@dataclass(slots=True)
class Survey:
    """Of the shard's own process: what is in a directory that is dead, in slices of `count` entries. -> Surveyed

    `directory` 0: what was removed itself, in batch `batch`. `after`: where the last slice ended; empty: at the beginning.
    """

    batch: int
    directory: int
    after: bytes
    count: int


@dataclass(slots=True)
class Surveyed:
    """Inodes with one name, and the sizes of files among them; directories to go on with; (ino, links, size) for each name of
    an inode that has several. `after` empty: that is all.
    """

    inodes: int = 0
    size_bytes: int = 0
    directories: list[int] = field(default_factory=list)
    linked: list[tuple[int, int, int]] = field(default_factory=list)
    after: bytes = b""


@dataclass(slots=True)
class CountTree:
    """Of the shard's own process: so much is in a directory that was removed as a whole, itself included. -> whether that is
    of use still: it may be restored by now, or purged in part.
    """

    batch: int
    inodes: int
    size_bytes: int


@dataclass(slots=True)
class GetUsage:
    """-> Usage"""


@dataclass(slots=True)
class Usage:
    """What the volume holds: inodes of every type, and the sizes of its files added up; and what of it is in the trash."""

    inodes: int
    size_bytes: int
    trash_inodes: int = 0
    trash_bytes: int = 0


Request = (
    Lookup
    | GetAttributes
    | SetAttributes
    | RecordAccess
    | Create
    | CreateUnnamed
    | Unlink
    | RemoveDirectory
    | RemoveTree
    | Rename
    | Link
    | ReadLink
    | ReadDirectory
    | GetXattr
    | ListXattrs
    | SetXattr
    | RemoveXattr
    | Open
    | Close
    | Claim
    | Release
    | Yielded
    | Reported
    | LeaseReturned
    | ReserveInodes
    | SetLock
    | GetLock
    | CancelLock
    | ReadInline
    | Unsettle
    | Publish
    | Settle
    | ListUnsettled
    | ListBatches
    | ListRemoved
    | ListPlaces
    | ReadTrash
    | LookInTrash
    | FillIn
    | Restore
    | PurgeBatch
    | Purge
    | Survey
    | CountTree
    | GetUsage
)

#: Close may remove an inode whose last name is gone.
CHANGING = frozenset(
    {
        SetAttributes,
        RecordAccess,
        Create,
        CreateUnnamed,
        Unlink,
        RemoveDirectory,
        RemoveTree,
        Rename,
        Link,
        FillIn,
        Restore,
        PurgeBatch,
        Purge,
        CountTree,
        SetXattr,
        RemoveXattr,
        Close,
        Unsettle,
        Publish,
        Settle,
    }
)
#: Those that leave something in the journal: with a lease the last hold of a file may go.
WRITING = CHANGING | {ReserveInodes, LeaseReturned}
#: Those that change what is in directories, or list it, and the fields that name the directories.
IN_DIRECTORIES: dict[type, tuple[str, ...]] = {
    ReadDirectory: ("ino",),
    Create: ("parent",),
    Unlink: ("parent",),
    RemoveDirectory: ("parent",),
    RemoveTree: ("parent",),
    Restore: ("new_parent",),
    Rename: ("parent", "new_parent"),
    Link: ("new_parent",),
}
#: What they take a name from may be kept.
REMOVING = frozenset({Unlink, RemoveDirectory, Rename})
RECLAIMING = frozenset(
    {Unlink, RemoveDirectory, RemoveTree, RemoveXattr, Close, LeaseReturned, Settle, PurgeBatch, Purge, CountTree}
)
#: What was said with these is part of what a session states when it comes back, so they are not sent again.
STATED_BY_HOLDS = frozenset({Close, Release, Yielded, Reported, LeaseReturned})
