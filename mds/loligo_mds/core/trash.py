"""What was removed and is kept: removing is moving into the trash, in the same step.

The trash is a second name-space beside the one of DENTRY. A row of TRASH says that in some batch (`loligo_trash.batch`) a name
was removed from a directory, and what it named. The inode stays as it is, with its content, but for its link count; `trashed`
counts the rows that name it. A directory that was removed is *dead*, and so is all that still lies below it. What was removed
from it before, in the same batch, is found by its inode number, so the batch of an `rm -rf` is a tree, as before; of a
directory that was moved here as a whole (`RemoveTree`), entries below it are as they were.

Invariants
1. An inode is there as long as it has a name, or a row of TRASH, or somebody has it open.
2. A name is in a batch once. A batch has a record as long as it has rows, which counts them; it is purged when it is due, and
   never before, unless somebody asks for that.
3. Of each directory from which a batch has something, and which is not in the batch itself, a row of TRASH_PLACE says where it
was.
4. Nothing is made, moved to or removed in a directory that is dead, and nobody has a lease of it. Its `parent` and `name` say
where it was.
5. A row of TRASH_DUE for each batch that is not paused, among those of its priority, at a time when it may be due, or earlier.
Those whose rate is limited have rows apart: so who has to pass by what rests need not pass by all of it.

How long what is kept is said by directories (`loligo_trash.policy`).
"""

from collections.abc import Iterable, Iterator
from heapq import merge
from itertools import chain
from stat import S_IFDIR, S_IFMT
from struct import Struct
from typing import Any, Final

from loligo_mds.core.entries import decode_entry, entry_key, first_key_behind
from loligo_mds.core.limits import LISTING_PAGE_MAX
from loligo_mds.core.requests import ListPlaces, LookInTrash, ReadTrash
from loligo_mds.core.state import InvariantBroken, ShardState, ino_key, ino_of_key
from loligo_mds.core.tables import Table
from loligo_trash.batch import FLAG_COUNTED, PRIORITIES, Batch, Word, decode_batch
from loligo_trash.places import WAY_MAX_BYTES, Step, encode_place, mtime_of
from loligo_trash.policy import DEFAULT_POLICY, MINIMUM_AGE_NAME, RETENTION_NAME, Policy, parse_time
from loligo_wire.attributes import FLAG_TRASH_POLICY, Attributes
from loligo_wire.ids import ROOT_INO

_TRASH: Final = int(Table.TRASH)
_PLACE: Final = int(Table.TRASH_PLACE)
_BATCH: Final = int(Table.TRASH_BATCH)
_DUE: Final = int(Table.TRASH_DUE)
_DENTRY: Final = int(Table.DENTRY)

_PAIR: Final = Struct(">QQ").pack
_PLACED: Final = Struct(">QQ").unpack_from
#: ino, type, when it was removed, inodes that went with it, the sizes of files among them.
_BURIED: Final = Struct(">QBqQQ")
BURIED_BYTES: Final = _BURIED.size
#: What the keys of TRASH_DUE begin with, before the time, by priority: without and with a limit of the rate.
_DUE_PREFIXES: Final = {Word.HIGH: b"\0\3", Word.NORMAL: b"\1\4", Word.LOW: b"\2\5"}
DUE_PREFIXES: Final = b"".join(_DUE_PREFIXES.values())
#: Batches that a removal may still belong to, of which it is remembered in which directories they have places.
_JOINABLE_MAX: Final = 1024
_PLACES_KNOWN_MAX: Final = 4096
_POLICIES_MAX: Final = 1 << 14
_ALIVE_MAX: Final = 1 << 16

#: name, cookie, ino, file type bits, attributes
TrashEntry = tuple[bytes, int, int, int, Attributes]


class Buried:
    """A row of TRASH; `key`: from the directory on."""

    __slots__ = ("cookie", "directory", "ino", "inodes", "kind", "name", "removed_ns", "size_bytes")

    def __init__(self, key: bytes, row: bytes) -> None:
        self.directory, self.cookie = _PLACED(key)
        self.name = key[16:]
        self.ino, kind, self.removed_ns, self.inodes, self.size_bytes = _BURIED.unpack(row)
        self.kind = kind << 12


class Joinable:
    """A batch that may grow. `places`: directories of which it is known that it has a row of TRASH_PLACE."""

    __slots__ = ("batch", "places")

    def __init__(self, batch: Batch) -> None:
        self.batch = batch
        self.places: set[int] = set()


def row_key(batch: int, directory: int, name: bytes) -> bytes:
    return ino_key(batch) + entry_key(directory, name)


# -- dead or alive ----------------------------------------------------------------------------------------------------


def is_alive(state: ShardState, directory: Attributes) -> bool:
    """Whether a path leads from the root to the directory."""
    alive = state.alive
    found: Attributes | None = directory
    way = []
    while found is not None and found.ino not in alive:
        if found.ino == ROOT_INO:
            break
        if found.trashed or not found.parent:
            return False
        way.append(found.ino)
        found = state.find_inode(found.parent)
    if found is None:
        return False
    if len(alive) + len(way) > _ALIVE_MAX:
        alive.clear()
    alive.update(way)
    return True


def _row_above(state: ShardState, batch: int, ino: int) -> Buried | None:
    """Of a directory that is dead because the batch has it, or one above: the row of that."""
    found = state.find_inode(ino)
    while found is not None and not found.trashed and found.ino not in state.alive and found.parent:
        found = state.find_inode(found.parent)
    if found is None or not (found.trashed and found.is_directory):
        return None
    row = find_buried(state, batch, found.parent, found.name)
    return row if row is not None and row.ino == found.ino else None  # another may have had the name in that batch


def find_left(state: ShardState, batch: int, directory: int, name: bytes) -> Attributes | None:
    """What has that name in a directory that is dead because the batch has it, or one above."""
    if _row_above(state, batch, directory) is None:
        return None
    ino = state.find_entry(directory, name)
    return state.find_inode(ino) if ino else None


# -- policies -----------------------------------------------------------------------------------------------------------


def policy_of(state: ShardState, directory: Attributes) -> Policy:
    """What holds for files in the directory, and for itself."""
    known = state.policies
    policy = known.get(directory.ino)
    if policy is not None:
        return policy
    way = []
    found: Attributes | None = directory
    while found is not None and policy is None:
        way.append(found)
        found = state.find_inode(found.parent) if found.parent else None
        policy = known.get(found.ino) if found is not None else None
    policy = policy or DEFAULT_POLICY
    if len(known) + len(way) > _POLICIES_MAX:
        known.clear()
    for step in reversed(way):
        policy = known[step.ino] = _with_own(state, policy, step)
    return policy


def _with_own(state: ShardState, policy: Policy, attributes: Attributes) -> Policy:
    """What the inode says itself goes before what is said above."""
    if not attributes.flags & FLAG_TRASH_POLICY:
        return policy
    key = ino_key(attributes.ino)
    retention = state.tables.get(Table.XATTR, key + RETENTION_NAME)
    minimum_age = state.tables.get(Table.XATTR, key + MINIMUM_AGE_NAME)
    return Policy(
        policy.retention_ns if retention is None else parse_time(retention),
        policy.minimum_age_ns if minimum_age is None else parse_time(minimum_age),
    )


# -- burying ------------------------------------------------------------------------------------------------------------


def bury(state: ShardState, asked: Any, directory: Attributes, name: bytes, changed: Attributes) -> bool:
    """The name in `directory` is gone, and `changed` (a copy, which the caller stores) has lost it. Whether it is kept; then it
    counts that. `asked`: the request, which says whose. Times are the shard's: one that was promised is the client's word.
    """
    if not (state.keeps_trash and state.has_room_for_trash):
        return False
    now_ns = state.now_ns
    policy = policy_of(state, changed if changed.is_directory else directory)
    if not changed.is_directory:
        policy = _with_own(state, policy, changed)
    if not policy.retention_ns:
        return False
    joinable = _joinable(state, asked, policy.retention_ns, directory.ino, name, now_ns)
    # What seems to be from the future was made by a client whose clock is ahead: nobody knows how old it is, so it is kept.
    if 0 <= now_ns - changed.btime_ns < policy.minimum_age_ns and not (
        changed.is_directory and joinable is not None and _has_place(state, joinable, changed.ino)
    ):
        return False
    if joinable is None:
        joinable = _begin(state, asked, policy.retention_ns, now_ns)
    _put_row(state, joinable, directory, name, changed, now_ns)
    return True


def bury_tree(state: ShardState, asked: Any, directory: Attributes, name: bytes, changed: Attributes) -> None:
    """As `bury`, of a directory with all that is in it: a batch of its own, also if it is to be purged at once."""
    now_ns = state.now_ns
    retention_ns = policy_of(state, changed).retention_ns
    joinable = Joinable(_batch(state, asked, retention_ns, now_ns, asked.label or name))
    _put_row(state, joinable, directory, name, changed, now_ns)
    state.alive.clear()


def _joinable(
    state: ShardState, asked: Any, retention_ns: int, directory: int, name: bytes, now_ns: int
) -> Joinable | None:
    joinable = state.joinable.get((state.asking, asked.uid, asked.pid, retention_ns))
    if joinable is None or not joinable.batch.takes(asked.uid, asked.pid, state.asking, retention_ns, now_ns):
        return None
    if state.tables.get(_TRASH, row_key(joinable.batch.id, directory, name)) is not None:
        return None
    return joinable


def _begin(state: ShardState, asked: Any, retention_ns: int, now_ns: int) -> Joinable:
    joinable = Joinable(_batch(state, asked, retention_ns, now_ns))
    remember(state, joinable)
    return joinable


def remember(state: ShardState, joinable: Joinable) -> None:
    key = _key_of(joinable.batch)
    state.joinable.pop(key, None)
    if len(state.joinable) >= _JOINABLE_MAX:
        del state.joinable[next(iter(state.joinable))]
    state.joinable[key] = joinable


def _key_of(batch: Batch) -> tuple[int, int, int, int]:
    return batch.session, batch.uid, batch.pid, batch.retention_ns


def _batch(state: ShardState, asked: Any, retention_ns: int, now_ns: int, label: bytes = b"") -> Batch:
    batch = Batch(state.allocate_batch(), asked.uid, asked.pid, state.asking, now_ns, now_ns, retention_ns, label=label)
    put_due(state, batch)
    return batch


def _put_row(
    state: ShardState, joinable: Joinable, directory: Attributes, name: bytes, changed: Attributes, now_ns: int
) -> None:
    batch = joinable.batch
    if not _has_place(state, joinable, directory.ino):
        was = encode_place(directory.mtime_ns, _way_to(state, directory))
        state.put(_PLACE, _PAIR(batch.id, directory.ino), was)
        joinable.places.add(directory.ino)
    if changed.is_directory:
        place = state.tables.get(_PLACE, _PAIR(batch.id, changed.ino))
        if place is not None:  # from now on its own row leads there
            changed.mtime_ns = mtime_of(place)
            state.delete(_PLACE, _PAIR(batch.id, changed.ino))
            joinable.places.discard(changed.ino)
        state.alive.discard(changed.ino)
        changed.trashed = 1
        inodes, size_bytes = 1, 0
    else:
        changed.trashed += 1
        inodes = int(changed.nlink == 0)
        size_bytes = changed.size if inodes and changed.is_file else 0
    row = _BURIED.pack(changed.ino, S_IFMT(changed.mode) >> 12, now_ns, inodes, size_bytes)
    state.put(_TRASH, row_key(batch.id, directory.ino, name), row)
    batch.last_ns = max(batch.last_ns, now_ns)
    count(state, batch, 1, inodes, size_bytes)


def count(state: ShardState, batch: Batch, names: int, inodes: int, size_bytes: int) -> None:
    """More is in it, or less; it is stored."""
    batch.names += names
    batch.inodes += inodes
    batch.size_bytes += size_bytes
    state.count_trash(inodes, size_bytes)
    put_batch(state, batch)


def recount(state: ShardState, batch: Batch, buried: Buried, inodes: int, size_bytes: int) -> None:
    """So much is left of a directory with what is below it. It is stored, and nobody counts that again."""
    batch.flags |= FLAG_COUNTED
    count(state, batch, 0, inodes - buried.inodes, size_bytes - buried.size_bytes)
    buried.inodes, buried.size_bytes = inodes, size_bytes
    row = _BURIED.pack(buried.ino, buried.kind >> 12, buried.removed_ns, inodes, size_bytes)
    state.put(_TRASH, row_key(batch.id, buried.directory, buried.name), row)


def put_batch(state: ShardState, batch: Batch) -> None:
    state.put(_BATCH, ino_key(batch.id), batch.encode())


def due_key(batch: Batch) -> bytes | None:
    """Where TRASH_DUE has it; None: nowhere, it is paused."""
    if batch.is_paused:
        return None
    return _due_prefix(batch.priority, batch.rate > 0) + _PAIR(max(0, batch.due_ns), batch.id)


def _due_prefix(priority: Word, is_limited: bool) -> bytes:
    prefixes = _DUE_PREFIXES[priority]
    return prefixes[1:] if is_limited else prefixes[:1]


def put_due(state: ShardState, batch: Batch) -> None:
    """It begins, or its time, its priority, its pause or its rate has changed. Rows of before are dropped when they are met."""
    key = due_key(batch)
    if key is not None:
        state.put(_DUE, key, b"")


def batch_due(key: bytes) -> int:
    """Of a row of TRASH_DUE: which batch it is about."""
    return int.from_bytes(key[-8:])


def turn(key: bytes) -> tuple[int, bytes]:
    """Of two rows of TRASH_DUE, the one whose turn is less goes first."""
    return next(turn for turn, priority in enumerate(PRIORITIES) if key[0] in _DUE_PREFIXES[priority]), key[1:]


def rows_due(state: ShardState, now_ns: int, is_limited: bool) -> Iterator[tuple[bytes, int]]:
    """(key, batch) of what may be due, in the order of purging: of those whose rate is limited, or of the others. Valid until
    the next change.
    """
    for priority in PRIORITIES:
        prefix = _due_prefix(priority, is_limited)
        for key, _ in state.scan_prefix(_DUE, prefix):
            at_ns, id = _PLACED(key, len(prefix))
            if at_ns > now_ns:
                break
            yield key, id


def _has_place(state: ShardState, joinable: Joinable, directory: int) -> bool:
    places = joinable.places
    if directory in places:
        return True
    if state.tables.get(_PLACE, _PAIR(joinable.batch.id, directory)) is None:
        return False
    if len(places) >= _PLACES_KNOWN_MAX:
        places.clear()
    places.add(directory)
    return True


def _way_to(state: ShardState, directory: Attributes) -> list[Step]:
    root = state.find_inode(ROOT_INO)
    if root is None:
        raise InvariantBroken("there is no root directory")
    way: list[Step] = []
    room = WAY_MAX_BYTES - _step(root).size
    found = directory
    while found.ino != ROOT_INO:
        step = _step(found)
        room -= step.size
        above = state.find_inode(found.parent)
        if room < 0 or above is None:
            break
        way.append(step)
        found = above
    return [_step(root), *reversed(way)]


def _step(directory: Attributes) -> Step:
    return Step(directory.ino, directory.mode, directory.uid, directory.gid, directory.name)


def load(state: ShardState) -> None:
    """After a start: what is removed next may belong to a batch of before."""
    for key, record in state.tables.scan(_BATCH, ino_key(max(0, state.next_batch - _JOINABLE_MAX))):
        batch = decode_batch(ino_of_key(key)[0], record)
        if not batch.label:
            remember(state, Joinable(batch))


# -- taking out -----------------------------------------------------------------------------------------------------------


def find_batch(state: ShardState, id: int) -> Batch | None:
    """To be read, or changed and stored: there is one object for each."""
    record = state.tables.get(_BATCH, ino_key(id))
    if record is None:
        return None
    batch = decode_batch(id, record)
    joinable = state.joinable.get(_key_of(batch))
    return joinable.batch if joinable is not None and joinable.batch.id == id else batch


def first_buried(state: ShardState, batch: int) -> Buried | None:
    """Any row of it; of a directory that was moved here as a whole there is one."""
    key, row = next(state.scan_prefix(_TRASH, ino_key(batch)), (b"", b""))
    return Buried(key[8:], row) if key else None


def find_buried(state: ShardState, batch: int, directory: int, name: bytes) -> Buried | None:
    key = row_key(batch, directory, name)
    row = state.tables.get(_TRASH, key)
    return Buried(key[8:], row) if row is not None else None


def take_out(state: ShardState, batch: Batch, buried: Buried) -> Attributes:
    """The row is gone; a copy of its inode, one less in `trashed`, which the caller stores or removes."""
    state.delete(_TRASH, row_key(batch.id, buried.directory, buried.name))
    found = state.find_inode(buried.ino)
    if found is None or not found.trashed:
        raise InvariantBroken(f"{buried.name!r} is in the trash, and its inode {buried.ino} does not say so: {found}")
    changed = found.copy()
    changed.trashed -= 1
    batch.names -= 1
    batch.inodes -= buried.inodes
    batch.size_bytes -= buried.size_bytes
    state.count_trash(-buried.inodes, -buried.size_bytes)
    return changed


def left(state: ShardState, batch: Batch, directory: int, moved: Attributes) -> None:
    """It is about to leave a dead directory. What is below it, if it is one itself, nobody counts: the batch goes on saying
    that it has that.
    """
    row = _row_above(state, batch.id, directory)
    if row is not None and batch.flags & FLAG_COUNTED and (moved.is_directory or moved.nlink == 1):
        size_bytes = moved.size if moved.is_file else 0
        recount(state, batch, row, max(1, row.inodes - 1), max(0, row.size_bytes - size_bytes))


def taken_out(state: ShardState, batch: Batch, directories: Iterable[int]) -> None:
    """Rows of these directories were taken out of it: it is stored, or is no more."""
    joinable = state.joinable.get(_key_of(batch))
    if joinable is not None and joinable.batch is not batch:
        joinable = None
    for directory in directories:
        key = _PAIR(batch.id, directory)
        if next(rows(state, batch.id, directory), None) is None and state.tables.get(_PLACE, key) is not None:
            state.delete(_PLACE, key)
            if joinable is not None:
                joinable.places.discard(directory)
    if batch.names:
        put_batch(state, batch)
        return
    state.delete(_BATCH, ino_key(batch.id))
    if joinable is not None:
        del state.joinable[_key_of(batch)]


def rows(state: ShardState, batch: int, directory: int, after_cookie: int = 0) -> Iterator[Buried]:
    """What it has of that directory, in the order of cookies. Valid until the next change."""
    first = ino_key(batch) + first_key_behind(directory, after_cookie)
    for key, row in state.tables.scan(_TRASH, first):
        if not key.startswith(first[:16]):
            return
        yield Buried(key[8:], row)


def rows_below(state: ShardState, batch: int, directory: int, limit: int) -> list[Buried]:
    """Rows of the directory and of the dead ones in it, those deepest down first; the first `limit` of them."""
    found: list[Buried] = []
    stack: list[Iterator[Buried]] = [rows(state, batch, directory)]
    above: list[Buried] = []
    while stack and len(found) < limit:
        row = next(stack[-1], None)
        if row is None:
            stack.pop()
            if above:
                found.append(above.pop())
            continue
        inner = rows(state, batch, row.ino) if row.kind == S_IFDIR else iter(())
        first = next(inner, None)
        if first is not None:
            above.append(row)
            stack.append(chain([first], inner))
        else:
            found.append(row)
    return found


# -- looking --------------------------------------------------------------------------------------------------------------


def list_places(state: ShardState, request: ListPlaces, now_ns: int) -> list[bytes]:
    count = max(1, min(request.count, LISTING_PAGE_MAX))
    page: list[bytes] = []
    for key, record in state.tables.scan(_PLACE, _PAIR(request.batch, request.after + 1)):
        if not key.startswith(ino_key(request.batch)) or len(page) >= count:
            break
        page.append(key[8:] + record)
    return page


def look_in_trash(state: ShardState, request: LookInTrash, now_ns: int) -> Attributes | None:
    buried = find_buried(state, request.batch, request.directory, request.name)
    if buried is not None:
        return state.find_inode(buried.ino)
    return find_left(state, request.batch, request.directory, request.name)


def read_trash(state: ShardState, request: ReadTrash, now_ns: int) -> list[TrashEntry]:
    """What was removed from the directory in that batch, and what is still in it, if the batch has the directory."""
    count = max(1, min(request.count, LISTING_PAGE_MAX))
    after, ino = request.after_cookie, request.directory
    found = ((row.cookie, row.name, row.ino, row.kind) for row in rows(state, request.batch, ino, after))
    left = _left_in(state, ino, after) if _row_above(state, request.batch, ino) else iter(())
    page: list[TrashEntry] = []
    for cookie, name, child, kind in merge(found, left):
        if len(page) >= count and page[-1][1] != cookie:
            break
        attributes = state.find_inode(child)
        if attributes is None:
            raise InvariantBroken(f"{name!r} is in the trash, and inode {child} does not exist")
        page.append((name, cookie, child, kind, attributes))
    return page


def _left_in(state: ShardState, directory: int, after_cookie: int) -> Iterator[tuple[int, bytes, int, int]]:
    for key, value in state.tables.scan(_DENTRY, first_key_behind(directory, after_cookie)):
        if not key.startswith(ino_key(directory)):
            return
        yield int.from_bytes(key[8:16]), key[16:], *decode_entry(value)
