"""What the handlers of a shard share: the tables, the write set of the step under way, counters, a cache of inodes, and
what is known in memory only: who has what open.

Invariants: a row is changed only through `put` and `delete` here, so the write set is complete; counters go into the
write set of every step that changes them; the cache holds exactly what the table holds.
"""

from collections.abc import Iterator
from errno import ENAMETOOLONG, ENOENT
from struct import Struct
from typing import TYPE_CHECKING

from loligo_mds.core.effects import Effect, RemoveObjects
from loligo_mds.core.entries import decode_entry, encode_entry, entry_key
from loligo_mds.core.limits import INODE_CACHE_MAX, NAME_MAX_BYTES
from loligo_mds.core.tables import Table, Tables, Write
from loligo_wire.attributes import Attributes, decode_attributes
from loligo_wire.ids import FIRST_FREE_COUNTER, ShardId, make_ino

if TYPE_CHECKING:
    from loligo_mds.core.lease import Busy, Lease, Parked
    from loligo_mds.core.locks import FileLocks, SessionLocks
    from loligo_mds.core.open_file import OpenFile
    from loligo_mds.core.trash import Joinable
    from loligo_trash.policy import Policy
    from loligo_wire.locks import Lock

COUNTERS_KEY = b"counters"
#: Next inode counter, inodes, bytes; next batch, inodes and bytes in the trash. Rows of earlier versions end before those.
_COUNTERS = Struct("<QQQQQQ")
COUNTERS_BYTES = _COUNTERS.size
COUNTERS_BEFORE_TRASH_BYTES = 24

ino_key = Struct(">Q").pack
ino_of_key = Struct(">Q").unpack_from

_INODE = int(Table.INODE)
_META = int(Table.META)
_DENTRY = int(Table.DENTRY)


class Refused(Exception):
    """The request cannot be granted: a POSIX answer, not a fault."""

    def __init__(self, errno: int) -> None:
        self.errno = errno


class InvariantBroken(Exception):
    """The shard's own records contradict each other: it must stop before it makes things worse."""


class ShardState:
    __slots__ = (
        "_cache",
        "_counters_changed",
        "acknowledged",
        "alive",
        "applied",
        "asked_about",
        "asking",
        "asking_id",
        "being_restored",
        "block_bytes",
        "busy_leases",
        "delegations",
        "effects",
        "ended_delegations",
        "files",
        "has_room_for_trash",
        "inode_count",
        "joinable",
        "keeps_trash",
        "knots",
        "lease_grace",
        "lease_takers",
        "leases",
        "locks",
        "next_batch",
        "next_counter",
        "notices",
        "now_ns",
        "parked",
        "policies",
        "promised",
        "reclaim_below",
        "reclaiming",
        "refused_promises",
        "reserved",
        "resting",
        "retries",
        "room_is_low",
        "session_files",
        "session_leases",
        "session_locks",
        "shard",
        "size_bytes",
        "stated_locks",
        "swept",
        "tables",
        "trash_bytes",
        "trash_inodes",
        "undelegated",
        "unstated",
        "waited_for",
        "waited_for_locks",
        "writes",
    )

    def __init__(self, shard: int, tables: Tables, block_bytes: int) -> None:
        self.shard = shard
        #: Block size of new files.
        self.block_bytes = block_bytes
        self.tables = tables
        self.writes: list[Write] = []
        #: What the step under way wants done besides its journal record and its reply.
        self.effects: list[Effect] = []
        #: What it has to say to others, behind its reply: recalls, resumptions, answers to requests that waited.
        self.notices: list[Effect] = []
        #: The session whose request is under way, 0 being the shard's own process, and the request's id.
        self.asking = 0
        self.asking_id = 0
        #: Of the step under way.
        self.now_ns = 0

        # See `core.opens`. In memory only, because sessions state it anew when they come back.
        self.files: dict[int, OpenFile] = {}
        self.session_files: dict[int, dict[int, OpenFile]] = {}
        #: Those of `files` with requests that wait.
        self.waited_for: dict[int, OpenFile] = {}
        #: Those of `files` with questions that wait for their owner. See `core.news`.
        self.asked_about: dict[int, OpenFile] = {}

        # See `core.locks`: what is locked, by inode and by session, and waited for; and what sessions that are coming back have
        # stated so far: (inode, whole, lock).
        self.locks: dict[int, FileLocks] = {}
        self.session_locks: dict[int, SessionLocks] = {}
        self.waited_for_locks: dict[int, FileLocks] = {}
        self.stated_locks: dict[int, list[tuple[int, bool, Lock]]] = {}

        # See `core.leases`.
        #: Sessions that take them.
        self.lease_takers: set[int] = set()
        #: lease -> session -> what it has of it, and the same the other way round.
        self.leases: dict[int, dict[int, Lease]] = {}
        self.session_leases: dict[int, dict[int, Lease]] = {}
        #: lease -> (session, id) -> the request that waits for it to come back.
        self.parked: dict[int, dict[tuple[int, int], Parked]] = {}
        #: Sessions that may hold leases from before the shard restarted.
        self.lease_grace: dict[int, None] = {}
        self.busy_leases: dict[int, Busy] = {}
        #: session -> when it was refused with ESTALE.
        self.knots: dict[int, int] = {}
        #: What the step under way lets go on.
        self.retries: list[Effect] = []
        #: lease -> the session that has it for itself, as table DELEGATION has it. See `core.delegations`.
        self.delegations: dict[int, int] = {}
        #: None is granted then.
        self.room_is_low = False
        #: Those that are over, and have a row still.
        self.ended_delegations: dict[int, None] = {}
        #: session -> the first of its promises that was refused: its sequence, and the errno.
        self.refused_promises: dict[int, tuple[int, int]] = {}
        #: session -> delegations that it had before its connection was lost, of which it has said nothing so far.
        self.undelegated: dict[int, dict[int, None]] = {}

        # See `core.sessions`.
        #: session -> last sequence applied, as far as it was asked for.
        self.applied: dict[int, int] = {}
        #: session -> inode numbers reserved for it: the next one, and the end.
        self.reserved: dict[int, tuple[int, int]] = {}
        #: session -> all answers up to this sequence have been received, as far as is known.
        self.acknowledged: dict[int, int] = {}
        #: Sessions that may still state what they have open since the shard restarted.
        self.reclaiming: dict[int, None] = {}
        #: While there are any: inodes below this number may be open at one of them.
        self.reclaim_below = 0
        #: How far the clearing up behind the last of them has come: a table, and the last inode looked at.
        self.swept = (0, 0)
        #: session -> inodes that it had open, of which its restatement under way has said nothing so far.
        self.unstated: dict[int, dict[int, None]] = {}
        #: session -> sequence -> inode that it has open by an answer that it may not have got.
        self.promised: dict[int, dict[int, int]] = {}
        self._cache: dict[int, Attributes] = {}
        self._counters_changed = False
        self.next_counter = FIRST_FREE_COUNTER
        self.inode_count = 0
        self.size_bytes = 0

        # See `core.trash`.
        #: Whether what is removed may be kept at all.
        self.keeps_trash = True
        #: Rows have plenty of room: else what is removed makes some.
        self.has_room_for_trash = True
        self.next_batch = 1
        self.trash_inodes = 0
        self.trash_bytes = 0
        #: (session, uid, pid, retention) -> the batch that such a removal may belong to.
        self.joinable: dict[tuple[int, int, int, int], Joinable] = {}
        #: What holds in directories, as far as it was asked.
        self.policies: dict[int, Policy] = {}
        #: Batch -> until when it is left to who restores it.
        self.being_restored: dict[int, int] = {}
        #: Batch whose rate is limited -> until when it rests (`loligo_trash.rate`).
        self.resting: dict[int, int] = {}
        #: Directories of which it is known that a path leads there.
        self.alive: set[int] = set()

        stored = tables.get(_META, COUNTERS_KEY)
        if stored is not None:
            self.next_counter, self.inode_count, self.size_bytes, batch, self.trash_inodes, self.trash_bytes = (
                _COUNTERS.unpack(stored.ljust(COUNTERS_BYTES, b"\0"))
            )
            self.next_batch = batch or 1

    # -- rows -------------------------------------------------------------------------------------------------

    def put(self, table: int, key: bytes, value: bytes) -> None:
        self.tables.put(table, key, value)
        self.writes.append((table, key, value))

    def delete(self, table: int, key: bytes) -> None:
        self.tables.delete(table, key)
        self.writes.append((table, key, None))

    def scan_prefix(self, table: int, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        for key, value in self.tables.scan(table, prefix):
            if not key.startswith(prefix):
                return
            yield key, value

    def take_writes(self) -> list[Write]:
        """The write set of the step, counters included; the next step starts with an empty one."""
        if self._counters_changed:
            self._counters_changed = False
            self.put(
                _META,
                COUNTERS_KEY,
                _COUNTERS.pack(
                    self.next_counter,
                    self.inode_count,
                    self.size_bytes,
                    self.next_batch,
                    self.trash_inodes,
                    self.trash_bytes,
                ),
            )
        writes = self.writes
        self.writes = []
        return writes

    # -- directory entries --------------------------------------------------------------------------------------

    def find_entry(self, directory: int, name: bytes) -> int:
        """The inode of that name; 0: there is none."""
        if len(name) > NAME_MAX_BYTES:
            raise Refused(ENAMETOOLONG)
        row = self.tables.get(_DENTRY, entry_key(directory, name))
        return decode_entry(row)[0] if row is not None else 0

    def put_entry(self, directory: int, name: bytes, attributes: Attributes) -> None:
        self.put(_DENTRY, entry_key(directory, name), encode_entry(attributes))

    def delete_entry(self, directory: int, name: bytes) -> None:
        self.delete(_DENTRY, entry_key(directory, name))

    # -- inodes -----------------------------------------------------------------------------------------------

    def find_inode(self, ino: int) -> Attributes | None:
        attributes = self._cache.get(ino)
        if attributes is None:
            record = self.tables.get(_INODE, ino_key(ino))
            if record is None:
                return None
            attributes = decode_attributes(ino, record)
            self._remember(attributes)
        return attributes

    def put_inode(self, attributes: Attributes) -> None:
        """Store a new or changed inode. The caller made it or copied it, and leaves it alone from now on."""
        self.put(_INODE, ino_key(attributes.ino), attributes.encode())
        self._remember(attributes)

    def delete_inode(self, attributes: Attributes) -> None:
        self.delete(_INODE, ino_key(attributes.ino))
        self._cache.pop(attributes.ino, None)
        self.count(-1, -attributes.size if attributes.is_file else 0)

    def _remember(self, attributes: Attributes) -> None:
        cache = self._cache
        if len(cache) >= INODE_CACHE_MAX and attributes.ino not in cache:
            del cache[next(iter(cache))]
        cache[attributes.ino] = attributes

    def allocate_ino(self) -> int:
        return self.allocate_inos(1)

    def allocate_inos(self, count: int) -> int:
        """The first of them."""
        counter = self.next_counter
        self.next_counter = counter + count
        self._counters_changed = True
        return make_ino(ShardId(self.shard), counter)

    def allocate_batch(self) -> int:
        batch = self.next_batch
        self.next_batch = batch + 1
        self._counters_changed = True
        return batch

    def count_trash(self, inodes: int, size_bytes: int) -> None:
        self.trash_inodes += inodes
        self.trash_bytes += size_bytes
        self._counters_changed = True

    def count(self, inodes: int, size_bytes: int) -> None:
        self.inode_count += inodes
        self.size_bytes += size_bytes
        self._counters_changed = True

    def inode(self, ino: int) -> Attributes:
        attributes = self._cache.get(ino) or self.find_inode(ino)
        if attributes is None:
            raise Refused(ENOENT)
        return attributes

    # -- effects ----------------------------------------------------------------------------------------------

    def remove_objects(self, attributes: Attributes, end: int) -> None:
        self.effects.append(RemoveObjects(attributes.ino, end, attributes.block_bytes))
