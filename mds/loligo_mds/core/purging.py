"""Out of the trash for good: batches that are due and not paused lose their rows, and inodes that nothing names any more go, a
step's worth at a time. Where it goes on is told by the rows that are left, so a crash costs nothing and nothing is removed
twice.

A batch whose rate is limited (`loligo_trash.rate`) rests after each of its steps, and whose turn is next goes meanwhile. Until
when it rests is in memory only: a restart costs one step before its time.

Objects follow as those of any removed inode (`core.content`, `shell.keeper`); what somebody has open goes when he closes it.
"""

from dataclasses import dataclass
from errno import ENOENT
from itertools import chain, islice
from stat import S_IFDIR
from typing import Final

from loligo_mds.core import inodes, leases, trash
from loligo_mds.core.entries import decode_entry
from loligo_mds.core.limits import STEP_WRITES_MAX
from loligo_mds.core.requests import Purge, PurgeBatch, Purged
from loligo_mds.core.state import InvariantBroken, Refused, ShardState, ino_key, ino_of_key
from loligo_mds.core.tables import Table
from loligo_mds.core.trash import Buried
from loligo_trash.batch import FLAG_PARTLY, Batch
from loligo_trash.rate import rest_left_ns, rest_until, slice_inodes
from loligo_wire.attributes import Attributes

_DENTRY: Final = int(Table.DENTRY)

#: More than so many due batches nobody counts.
BACKLOG_TOLD: Final = 10_000
#: Batches whose rate is limited that go at the same time: others of them wait until one of these is gone.
LIMITED_AT_ONCE_MAX: Final = 256
_RESTING_MAX: Final = 4 * LIMITED_AT_ONCE_MAX


def purge_batch(state: ShardState, request: PurgeBatch, now_ns: int) -> None:
    batch = trash.find_batch(state, request.batch)
    if batch is None:
        raise Refused(ENOENT)
    if batch.hear(request.word, request.rate):
        trash.put_batch(state, batch)
        trash.put_due(state, batch)


def purge(state: ShardState, request: Purge, now_ns: int) -> Purged:
    """What lies deepest down goes first, so what is left is in a place that is known, should it be kept after all."""
    batch, rest_ns = _due(state, now_ns)
    if batch is None:
        return Purged(0, rest_ns=rest_ns)
    purged = Purged(batch.id)
    if state.being_restored.get(batch.id, 0) > now_ns:
        return purged
    if batch.rate:
        request = Purge(min(request.count, 2 * slice_inodes(batch.rate)))  # a file is a name and an inode
    while batch.names and not _is_enough(state, request, purged):
        row = next(state.scan_prefix(Table.TRASH_PLACE, ino_key(batch.id)), None)
        if row is None:
            raise InvariantBroken(f"batch {batch.id} has names, and none of them a place")
        if not _purge_below(state, request, batch, ino_of_key(row[0], 8)[0], purged):
            break
    if batch.rate:
        _rest(state, batch, purged.inodes, now_ns)
    return purged


def _rest(state: ShardState, batch: Batch, inodes: int, now_ns: int) -> None:
    before_ns = state.resting.pop(batch.id, 0)
    if not batch.names:
        return
    if len(state.resting) >= _RESTING_MAX:
        state.resting.clear()
    state.resting[batch.id] = rest_until(batch.rate, before_ns, now_ns, inodes)


def _is_enough(state: ShardState, request: Purge, purged: Purged) -> bool:
    return purged.names + purged.inodes >= max(1, request.count) or len(state.writes) >= STEP_WRITES_MAX


def _purge_below(state: ShardState, request: Purge, batch: Batch, place: int, purged: Purged) -> bool:
    """Some of what the batch has from one place. False: what is next has to wait for another step."""
    emptied: dict[int, None] = {}
    waits = False
    for buried in trash.rows_below(state, batch.id, place, max(1, request.count)):
        waits = _is_enough(state, request, purged) or (
            buried.kind == S_IFDIR and not _emptied(state, request, batch, buried, purged)
        )
        if waits:
            break
        batch.flags |= FLAG_PARTLY
        left = trash.take_out(state, batch, buried)
        emptied[buried.directory] = None
        purged.names += 1
        _let_go(state, left, purged)
    trash.taken_out(state, batch, emptied)
    return not waits


def _due(state: ShardState, now_ns: int) -> tuple[Batch | None, int]:
    """Of those of the highest priority that do not rest the batch that has been due for longest; if there is none, for how long
    (ns) those that do rest, the first of them. Rows that came too early are put where they belong, and those of batches that
    are paused go: to resume one makes another.
    """
    for _ in range(STEP_WRITES_MAX // 2):
        key, id, rest_ns = _row_due(state, now_ns)
        if not key:
            return None, rest_ns
        batch = trash.find_batch(state, id)
        if batch is not None and trash.due_key(batch) == key:
            return batch, 0
        state.delete(Table.TRASH_DUE, key)
        if batch is not None:
            trash.put_due(state, batch)
    return None, 0


def _row_due(state: ShardState, now_ns: int) -> tuple[bytes, int, int]:
    """(key, batch, 0) of the row whose turn it is, or (none, 0, how long the first of what rests does so)."""
    found = list(islice(trash.rows_due(state, now_ns, is_limited=False), 1))
    rest_ns = 0
    for key, id in islice(trash.rows_due(state, now_ns, is_limited=True), LIMITED_AT_ONCE_MAX):
        left_ns = rest_left_ns(state.resting.get(id, 0), now_ns)
        if not left_ns:
            found.append((key, id))
            break
        rest_ns = min(rest_ns or left_ns, left_ns)
    if not found:
        return b"", 0, rest_ns
    return *min(found, key=lambda row: trash.turn(row[0])), 0


@dataclass(frozen=True, slots=True)
class Backlog:
    """Batches that are due, not paused and not purged, at most BACKLOG_TOLD; and since when the oldest is due that nobody has
    asked to be purged: 0 if there is none.
    """

    batches: int
    oldest_due_ns: int


def backlog(state: ShardState, now_ns: int) -> Backlog:
    ids: dict[int, None] = {}
    oldest_ns = 0
    rows = chain(trash.rows_due(state, now_ns, is_limited=False), trash.rows_due(state, now_ns, is_limited=True))
    for _, id in islice(rows, BACKLOG_TOLD):
        batch = trash.find_batch(state, id)
        if batch is None or batch.is_paused or batch.due_ns > now_ns:
            continue
        ids[id] = None
        if batch.due_ns:
            oldest_ns = min(oldest_ns or batch.due_ns, batch.due_ns)
    return Backlog(len(ids), oldest_ns)


def _let_go(state: ShardState, left: Attributes, purged: Purged) -> None:
    """`left`: a copy of what has lost a name for good."""
    if not left.is_directory and not left.is_unnamed:
        state.put_inode(left)
        return
    purged.inodes += 1
    purged.size_bytes += left.size if left.is_file else 0
    leases.lose(state, left.ino)
    if left.is_directory:
        inodes.remove_inode(state, left)
    else:
        inodes.unlinked(state, left)


def _emptied(state: ShardState, request: Purge, batch: Batch, buried: Buried, purged: Purged) -> bool:
    """Whether nothing is left in the dead directory; if something is, its row says less. It may never have been counted: then
    it says 1 inode and 0 bytes to the end.
    """
    inodes_before, bytes_before = purged.inodes, purged.size_bytes
    if _empty(state, request, buried.ino, purged):
        return True
    if purged.inodes > inodes_before:
        batch.flags |= FLAG_PARTLY
    inodes_left = max(1, buried.inodes - (purged.inodes - inodes_before))
    trash.recount(state, batch, buried, inodes_left, max(0, buried.size_bytes - (purged.size_bytes - bytes_before)))
    return False


def _empty(state: ShardState, request: Purge, top: int, purged: Purged) -> bool:
    """Remove some of what lies below the dead directory. Whether nothing is left there.

    What lies there may still be believed by who had leases when it died, and files by who looks at other names of theirs.
    """
    way = [top]
    while way:
        ino = way[-1]
        if not leases.is_forgotten(state, ino):
            return False
        before = state.inode(ino)
        left = before.copy()
        waits = False
        for key, value in list(islice(state.scan_prefix(_DENTRY, ino_key(ino)), max(1, request.count))):
            child = state.inode(decode_entry(value)[0]).copy()
            if child.is_directory and child.size:
                way.append(child.ino)
                break
            waits = _is_enough(state, request, purged) or not leases.is_forgotten(state, child.ino)
            if waits:
                break
            state.delete(_DENTRY, key)
            purged.names += 1
            left.size -= 1
            left.nlink -= int(child.is_directory)
            if not child.is_directory:
                child.nlink -= 1
                child.parent = 0 if child.parent == ino else child.parent
            _let_go(state, child, purged)
        if left.size != before.size:
            state.put_inode(left)
        if waits:
            return False
        if way[-1] == ino and not left.size:
            way.pop()
    return True
