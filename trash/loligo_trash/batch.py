"""A batch: what was removed together, and is restored, kept and purged as one.

Removals belong together if the same process of the same user asks for them through the same mount, without a long pause: so one
``rm -rf`` is one batch, however many files it removes. A name is in a batch once only; whoever removes another file of that
name begins the next batch.

Record (table TRASH_BATCH, big-endian), 68 bytes and the label:

====== ==== ============================================================================================
offset size field
====== ==== ============================================================================================
0      4    uid of who removed it
4      4    process id there; 0: not known
8      8    session
16     8    when the first was removed, ns since 1970
24     8    when the last was removed
32     8    how long it is kept from then on, ns
40     8    names in it
48     8    inodes that it keeps
56     8    sizes of the files among those, in bytes, as far as they were counted
64     4    flags, the lower 12 bits; and how many inodes of it may go in a second (`loligo_trash.rate`), 0: any number
68     …    label: what the directory was called that was moved here as a whole, if it was
====== ==== ============================================================================================
"""

from dataclasses import dataclass
from enum import IntEnum
from struct import Struct
from typing import Final

_RECORD: Final = Struct(">IIQqqQQQQI")
RECORD_BYTES: Final = _RECORD.size
_FLAG_BITS: Final = 12

#: Somebody has asked for it to be purged now.
FLAG_PURGED: Final = 1
#: Of a directory that was moved here as a whole: what is below it is counted, as far as it ever will be.
FLAG_COUNTED: Final = 2
#: Nothing of it is purged.
FLAG_PAUSED: Final = 4
#: Neither: it is purged when its turn comes.
FLAG_HIGH: Final = 8
FLAG_LOW: Final = 16
#: Some of it was purged, and the rest is left.
FLAG_PARTLY: Final = 32


class Word(IntEnum):
    """What a batch may be told about its being purged. The numbers are those of the wire."""

    #: Now. A pause is over: who says so later than "pause" means it.
    PURGE = 0
    #: Not before its time, after all.
    KEEP = 1
    #: Not until it is resumed, whatever the time.
    PAUSE = 2
    RESUME = 3
    #: Before others that may be purged by now, or after them.
    HIGH = 4
    NORMAL = 5
    LOW = 6
    #: No faster than so many inodes a second, which are said along with it; 0: as fast as can be.
    RATE = 7


#: Flags that a word sets, and flags that it clears.
_MEANINGS: Final[dict[int, tuple[int, int]]] = {
    Word.PURGE: (FLAG_PURGED, FLAG_PAUSED),
    Word.KEEP: (0, FLAG_PURGED),
    Word.PAUSE: (FLAG_PAUSED, 0),
    Word.RESUME: (0, FLAG_PAUSED),
    Word.HIGH: (FLAG_HIGH, FLAG_LOW),
    Word.NORMAL: (0, FLAG_HIGH | FLAG_LOW),
    Word.LOW: (FLAG_LOW, FLAG_HIGH),
}
#: In this order batches are purged.
PRIORITIES: Final = (Word.HIGH, Word.NORMAL, Word.LOW)

#: Removals further apart than this do not belong together.
PAUSE_NS: Final = 30_000_000_000
#: Nor does what is removed so long after the first: a process that removes something every few seconds would never be done.
LENGTH_MAX_NS: Final = 6 * 3600 * 1_000_000_000


@dataclass(slots=True)
class Batch:
    id: int
    uid: int
    pid: int
    session: int
    first_ns: int
    last_ns: int
    retention_ns: int
    names: int = 0
    inodes: int = 0
    size_bytes: int = 0
    flags: int = 0
    label: bytes = b""
    #: Inodes a second; 0: as many as can be.
    rate: int = 0

    @property
    def due_ns(self) -> int:
        """From then on it may be purged, unless it is paused."""
        return 0 if self.flags & FLAG_PURGED else self.last_ns + self.retention_ns

    @property
    def is_partly_purged(self) -> bool:
        return bool(self.flags & FLAG_PARTLY)

    @property
    def is_paused(self) -> bool:
        return bool(self.flags & FLAG_PAUSED)

    @property
    def priority(self) -> Word:
        if self.flags & FLAG_HIGH:
            return Word.HIGH
        return Word.LOW if self.flags & FLAG_LOW else Word.NORMAL

    def hear(self, word: int, rate: int = 0) -> bool:
        """Whether it changes anything. `rate`: what `Word.RATE` says."""
        before = self.flags, self.rate
        if word == Word.RATE:
            self.rate = rate
        else:
            sets, clears = _MEANINGS[word]
            self.flags = self.flags & ~clears | sets
        return (self.flags, self.rate) != before

    def takes(self, uid: int, pid: int, session: int, retention_ns: int, now_ns: int) -> bool:
        """Whether what is removed now belongs to it."""
        return (
            self.uid == uid
            and self.pid == pid
            and self.session == session
            and self.retention_ns == retention_ns
            and not self.flags
            and not self.rate
            and not self.label
            and now_ns - self.last_ns <= PAUSE_NS
            and now_ns - self.first_ns <= LENGTH_MAX_NS
        )

    def encode(self) -> bytes:
        return (
            _RECORD.pack(
                self.uid,
                self.pid,
                self.session,
                self.first_ns,
                self.last_ns,
                self.retention_ns,
                self.names,
                self.inodes,
                self.size_bytes,
                self.rate << _FLAG_BITS | self.flags,
            )
            + self.label
        )


def decode_batch(id: int, record: bytes) -> Batch:
    """Inverse of `Batch.encode`. struct.error when the record is too short."""
    uid, pid, session, first_ns, last_ns, retention_ns, names, inodes, size_bytes, flags = _RECORD.unpack_from(record)
    return Batch(
        id,
        uid,
        pid,
        session,
        first_ns,
        last_ns,
        retention_ns,
        names,
        inodes,
        size_bytes,
        flags & (1 << _FLAG_BITS) - 1,
        record[RECORD_BYTES:],
        flags >> _FLAG_BITS,
    )
