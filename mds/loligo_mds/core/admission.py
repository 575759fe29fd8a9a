"""What a session may ask, checked before a request reaches the shard: it comes from another machine, and may be anything
that the wire can carry.

Three kinds of checks, in this order:

1. The request makes sense: names, sizes, flags, inode numbers within what can be, beyond the ranges that the types of
   the wire have. The handlers rely on that.
2. A session that only reads changes nothing.
3. A session whose root lies below the volume's touches nothing but what is below it. A directory is followed up to the
   root. A file counts where its record says that it has a name; where that does not tell, it counts if the session has it
   open, or was given it by an answer: the last GRANTED_MAX of those are known.

Permissions are not looked at: the client's kernel has done that, for users whom only it knows.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from errno import E2BIG, EACCES, EFBIG, EINVAL, ENAMETOOLONG, ENFILE, ENOENT, ERANGE, EROFS
from stat import S_IFBLK, S_IFCHR, S_IFDIR, S_IFIFO, S_IFLNK, S_IFREG, S_IFSOCK
from typing import Any

from loligo_mds.core import requests
from loligo_mds.core.batches import is_all_below
from loligo_mds.core.events import HeldLock, Hold
from loligo_mds.core.limits import (
    FILE_MAX_BYTES,
    GRANTED_MAX,
    INLINE_MAX_BYTES,
    LIMITED_DEPTH_MAX,
    NAME_MAX_BYTES,
    OPEN_FILES_MAX,
    OPEN_RETURNED_MAX,
    SETTLE_MAX,
    SYMLINK_MAX_BYTES,
    XATTR_NAME_MAX_BYTES,
    XATTR_VALUE_MAX_BYTES,
)
from loligo_mds.core.state import ShardState
from loligo_trash.batch import Word
from loligo_trash.rate import RATE_MAX
from loligo_wire.attributes import RECORD_SIZE, Attributes
from loligo_wire.ids import COUNTER_BITS, COUNTER_MAX, ROOT_INO
from loligo_wire.locks import END

#: A number of eight bytes, and one more has to be one, too.
BATCH_MAX = (1 << 63) - 1
_KINDS = frozenset({S_IFREG, S_IFDIR, S_IFLNK, S_IFIFO, S_IFSOCK, S_IFCHR, S_IFBLK})
_PERMISSIONS = 0o7777
_TYPE = 0o170000
_MODE = _TYPE | _PERMISSIONS
_XATTR_FLAGS = 3
_RENAME_FLAGS = 3


@dataclass(slots=True)
class SessionLimits:
    """`session`: whom the limits are for. `granted`: inodes given to it by answers, oldest first, for `note_answer`."""

    root_ino: int = ROOT_INO
    read_only: bool = False
    session: int = 0
    granted: dict[int, None] = field(default_factory=dict)


def admit(state: ShardState, limits: SessionLimits, request: Any) -> int:
    """0, or the errno to refuse it with."""
    kind = type(request)
    check = _CHECKS.get(kind)
    if check is None:
        return EINVAL
    errno = check(state, request)
    if errno:
        return errno
    if limits.read_only and (kind in _WRITING or (kind is requests.Open and request.writes)):
        return EROFS
    if kind in _OPENING and len(state.session_files.get(limits.session, ())) >= OPEN_FILES_MAX:
        return ENFILE
    return _within(state, limits, request) if limits.root_ino != ROOT_INO else 0


def admit_holds(state: ShardState, limits: SessionLimits, holds: list[Hold]) -> list[Hold]:
    """Those of them that the session may have open: whoever has a file open may use it wherever it lies.

    Only after a restart it is believed about a file without a name: where that was, nobody can tell.
    """
    told_below = state.reclaim_below if limits.session in state.reclaiming else 0
    kept = []
    for hold in holds[:OPEN_FILES_MAX]:
        if not _is_ino(state, hold.ino) or hold.count < 1:
            continue
        if limits.root_ino != ROOT_INO and not _is_below(state, limits, hold.ino):
            found = state.find_inode(hold.ino)
            if found is None or found.nlink or hold.ino >= told_below:
                continue
        if limits.read_only:
            hold.writes = hold.claimed = False
        kept.append(hold)
    return kept


def admit_locks(held: list[HeldLock]) -> list[HeldLock]:
    """Those of them that there can be; whether the session has the file open the shard knows."""
    return [lock for lock in held if 0 <= lock.start <= lock.end <= END]


def note_answer(limits: SessionLimits, answer: Any) -> None:
    """Remember what a session whose root is below the volume's was given."""
    if limits.root_ino == ROOT_INO:
        return
    if type(answer) is list:
        for entry in answer:
            if type(entry) is tuple and entry[3] != S_IFDIR:
                _grant(limits, entry[2])
    elif type(answer) is Attributes and not answer.is_directory:
        _grant(limits, answer.ino)


def _grant(limits: SessionLimits, ino: int) -> None:
    granted = limits.granted
    granted.pop(ino, None)
    if len(granted) >= GRANTED_MAX:
        del granted[next(iter(granted))]
    granted[ino] = None


# -- what makes sense -----------------------------------------------------------------------------------------------

_Check = Callable[[ShardState, Any], int]


def _is_ino(state: ShardState, ino: int) -> bool:
    return ino >> COUNTER_BITS == state.shard and ino & COUNTER_MAX != 0


def _check_ino(state: ShardState, request: Any) -> int:
    ino = request.ino
    return 0 if ino >> COUNTER_BITS == state.shard and ino & COUNTER_MAX else EINVAL


def _check_name(state: ShardState, parent: int, name: bytes) -> int:
    if not _is_ino(state, parent) or not name or b"/" in name or b"\0" in name:
        return EINVAL
    return ENAMETOOLONG if len(name) > NAME_MAX_BYTES else 0


def _check_new_name(state: ShardState, parent: int, name: bytes) -> int:
    """A name that is to be: one that stands for another is none."""
    return EINVAL if name in (b".", b"..") else _check_name(state, parent, name)


def _check_entry(state: ShardState, request: Any) -> int:
    return _check_name(state, request.parent, request.name)


def _check_mode(request: Any) -> int:
    """A umask takes permissions away, nothing else."""
    return EINVAL if request.mode & ~_MODE or request.umask & ~_PERMISSIONS else 0


def _create(state: ShardState, request: requests.Create) -> int:
    if request.mode & _TYPE not in _KINDS:
        return EINVAL
    if len(request.target) > SYMLINK_MAX_BYTES:
        return ENAMETOOLONG
    if request.became and len(request.became) != RECORD_SIZE:
        return EINVAL
    if request.inline is not None and len(request.inline) > INLINE_MAX_BYTES:
        return EINVAL
    if request.unsettled_end > FILE_MAX_BYTES:
        return EFBIG
    if (request.inline is not None or request.unsettled_end) and request.mode & _TYPE != S_IFREG:
        return EINVAL
    return _check_new_name(state, request.parent, request.name) or _check_mode(request)


def _create_unnamed(state: ShardState, request: requests.CreateUnnamed) -> int:
    return _check_mode(request) if _is_ino(state, request.parent) else EINVAL


def _set_attributes(state: ShardState, request: requests.SetAttributes) -> int:
    if request.size is not None and not 0 <= request.size <= FILE_MAX_BYTES:
        return EFBIG
    return _check_ino(state, request)


def _rename(state: ShardState, request: requests.Rename) -> int:
    if request.flags & ~_RENAME_FLAGS:
        return EINVAL
    return _check_new_name(state, request.parent, request.name) or _check_new_name(
        state, request.new_parent, request.new_name
    )


def _link(state: ShardState, request: requests.Link) -> int:
    return _check_ino(state, request) or _check_new_name(state, request.new_parent, request.new_name)


def _xattr(state: ShardState, request: Any) -> int:
    return ERANGE if len(request.name) > XATTR_NAME_MAX_BYTES else _check_ino(state, request)


def _set_xattr(state: ShardState, request: requests.SetXattr) -> int:
    if request.flags & ~_XATTR_FLAGS:
        return EINVAL
    return E2BIG if len(request.value) > XATTR_VALUE_MAX_BYTES else _xattr(state, request)


def _close(state: ShardState, request: requests.Close) -> int:
    return _check_ino(state, request) if request.count > 0 else EINVAL


def _unsettle(state: ShardState, request: requests.Unsettle) -> int:
    return _check_ino(state, request) if 0 <= request.end <= FILE_MAX_BYTES else EFBIG


def _publish(state: ShardState, request: requests.Publish) -> int:
    if not 0 <= request.size <= FILE_MAX_BYTES:
        return EFBIG
    if request.inline is not None and len(request.inline) > INLINE_MAX_BYTES:
        return EINVAL
    return _check_ino(state, request)


def _reported(state: ShardState, request: requests.Reported) -> int:
    if request.size is not None and not 0 <= request.size <= FILE_MAX_BYTES:
        return EFBIG
    return _check_ino(state, request)


def _lease_returned(state: ShardState, request: requests.LeaseReturned) -> int:
    if len(request.open) > OPEN_RETURNED_MAX or not all(_is_ino(state, ino) for ino in request.open):
        return EINVAL
    return _check_ino(state, request)


def _lock(state: ShardState, request: Any) -> int:
    return _check_ino(state, request) if 0 <= request.start <= request.end <= END else EINVAL


def _settle(state: ShardState, request: requests.Settle) -> int:
    inos = request.inos
    return 0 if len(inos) <= SETTLE_MAX and all(_is_ino(state, ino) for ino in inos) else EINVAL


def _remove_tree(state: ShardState, request: requests.RemoveTree) -> int:
    if len(request.label) > NAME_MAX_BYTES:
        return ENAMETOOLONG
    return _check_new_name(state, request.parent, request.name)


def _check_batch(state: ShardState, request: Any) -> int:
    return 0 if request.batch <= BATCH_MAX else EINVAL


def _purge_batch(state: ShardState, request: requests.PurgeBatch) -> int:
    rate_max = RATE_MAX if request.word == Word.RATE else 0
    return _check_batch(state, request) if request.word <= max(Word) and request.rate <= rate_max else EINVAL


def _in_trash(state: ShardState, request: Any) -> int:
    return _check_batch(state, request) if _is_ino(state, request.directory) else EINVAL


def _look_in_trash(state: ShardState, request: requests.LookInTrash) -> int:
    return _check_batch(state, request) or _check_name(state, request.directory, request.name)


def _fill_in(state: ShardState, request: requests.FillIn) -> int:
    return _check_batch(state, request) or _check_ino(state, request)


def _restore(state: ShardState, request: requests.Restore) -> int:
    return (
        _check_batch(state, request)
        or _check_name(state, request.directory, request.name)
        or _check_new_name(state, request.new_parent, request.new_name)
    )


def _list_batches(state: ShardState, request: requests.ListBatches | requests.ListRemoved) -> int:
    return 0 if request.after <= BATCH_MAX and (not request.below or _is_ino(state, request.below)) else EINVAL


def _list_places(state: ShardState, request: requests.ListPlaces) -> int:
    return _check_batch(state, request) if request.after <= BATCH_MAX else EINVAL


def _anything(state: ShardState, request: Any) -> int:
    return 0


#: What is not here is for the shard's own process.
_CHECKS: dict[type, _Check] = {
    requests.Lookup: _check_entry,
    requests.GetAttributes: _check_ino,
    requests.SetAttributes: _set_attributes,
    requests.RecordAccess: _check_ino,
    requests.Create: _create,
    requests.CreateUnnamed: _create_unnamed,
    requests.Unlink: _check_entry,
    requests.RemoveDirectory: _check_entry,
    requests.RemoveTree: _remove_tree,
    requests.Rename: _rename,
    requests.Link: _link,
    requests.ReadLink: _check_ino,
    requests.ReadDirectory: _check_ino,
    requests.GetXattr: _xattr,
    requests.ListXattrs: _check_ino,
    requests.SetXattr: _set_xattr,
    requests.RemoveXattr: _xattr,
    requests.Open: _check_ino,
    requests.Close: _close,
    requests.Claim: _check_ino,
    requests.Release: _check_ino,
    requests.Yielded: _check_ino,
    requests.Reported: _reported,
    requests.LeaseReturned: _lease_returned,
    requests.ReserveInodes: _anything,
    requests.SetLock: _lock,
    requests.GetLock: _lock,
    requests.CancelLock: _check_ino,
    requests.ReadInline: _check_ino,
    requests.Unsettle: _unsettle,
    requests.Publish: _publish,
    requests.Settle: _settle,
    requests.ListBatches: _list_batches,
    requests.ListRemoved: _list_batches,
    requests.ListPlaces: _list_places,
    requests.ReadTrash: _in_trash,
    requests.LookInTrash: _look_in_trash,
    requests.FillIn: _fill_in,
    requests.Restore: _restore,
    requests.PurgeBatch: _purge_batch,
    requests.GetUsage: _anything,
}

#: What a session may not do that only reads.
_WRITING = (requests.WRITING - {requests.Close, requests.LeaseReturned}) | {requests.Claim}
_OPENING = frozenset({requests.Open, requests.Create, requests.CreateUnnamed})


# -- what lies below a root -----------------------------------------------------------------------------------------

#: Their `ino` need not be looked at: they end something, or say nothing of the inode.
_HARMLESS = frozenset(
    {
        requests.Close,
        requests.Release,
        requests.Yielded,
        requests.Reported,
        requests.ReserveInodes,
        requests.GetUsage,
    }
)


def _within(state: ShardState, limits: SessionLimits, request: Any) -> int:
    kind = type(request)
    if kind is requests.LeaseReturned:
        request.open = [ino for ino in request.open if _is_below(state, limits, ino)]
        return 0
    if kind in _HARMLESS:
        return 0
    if kind is requests.Settle:
        # A file may have gone since, or have been moved away: the others are settled all the same.
        request.inos = [ino for ino in request.inos if _is_below(state, limits, ino)]
        return 0
    if kind in (requests.ListBatches, requests.ListRemoved):
        request.below = limits.root_ino  # it sees no others
        return 0
    if kind is requests.Lookup and request.name == b".." and request.parent == limits.root_ino:
        return EACCES
    if kind in (requests.ListPlaces, requests.PurgeBatch) and not is_all_below(state, request.batch, limits.root_ino):
        return EACCES
    for name in ("ino", "parent", "new_parent", "directory"):
        ino = getattr(request, name, None)
        if ino is not None and not _is_below(state, limits, ino):
            return EACCES if state.find_inode(ino) is not None else ENOENT
    return 0


def _is_below(state: ShardState, limits: SessionLimits, ino: int) -> bool:
    """Whether the inode is the session's root or lies below it."""
    root = limits.root_ino
    if ino == root:
        return True
    found = state.find_inode(ino)
    if found is None:
        return False
    if not found.is_directory and (ino in limits.granted or ino in state.session_files.get(limits.session, ())):
        return True
    for _ in range(LIMITED_DEPTH_MAX):
        if found is None or not found.parent:
            return False
        if found.parent == root:
            return True
        found = state.find_inode(found.parent)
    return False
