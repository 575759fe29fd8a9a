"""The journal: what the tables have learned since their last commit, one record a step, in one file.

Owns the folder `journal/` of a volume:

    <position, 16 hex digits>.segment    the records from that position on; exactly one is in use
    spare                                allocated ahead: the next segment

A segment serves from one checkpoint to the next. The checkpoint that takes the tables to position P turns the spare
into segment P+1, commits the tables with P, and removes the segment before; so the tables name the segment to
replay, and a missing one is noticed. Space is allocated ahead in pieces, so `append` cannot run out of it, and
unwritten space reads as zeros.

Format (little-endian). A segment:

    offset  size
    0       8     magic "LOLIGOJ\\n"
    8       4     format version u32
    12      16    volume uuid
    28      8     position u64 of the first record
    36      24    the oldest loligo that reads this, ASCII, padded with zeros
    60      4     crc32 of bytes 0..60
    512           records; each begins at a multiple of 8, after zeros

A record, `length` bytes:

    0       4     length u32, from here to the end marker
    4       4     crc32 of bytes 8..36, begun with length ^ the crc32 of the segment's head
    8       8     position u64: one more than the record before
    16      8     position u64 that had been synced when this was written
    24      4     crc32 of the writes
    28      2     number of writes u16
    30      2     number of 512-byte sectors that hold nothing but zeros of this record
    32      4     magic "RECD"
    36            writes: table u8, key length u16, value length u32 (0xFFFFFFFF: deleted), key, value
    length-1  1   end marker 0xE5

After a power loss a disk holds any subset of the sectors written since the last fdatasync; the others are zeros.
That tells a torn tail from damage:
- A record is *torn* if a sector of it, or all from some byte of it on, is zeros and should not be. Whatever follows
  it is cut off with it, as nobody was promised it; a log line says so. But if a later record says that this one had
  been synced, it was promised: damage.
- Any other record whose checksum fails was damaged after it was written: JournalCorrupt, and nothing is touched.

Rules: all but `sync` under the caller's lock; `sync` from any thread without it. After a failed write or fsync nobody
knows what the disk holds: the journal raises StoreFailed from then on, and a new open finds out.
"""

import errno
import logging
import os
import re
import threading
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from struct import Struct

from loligo_mds.core.tables import Write
from loligo_mds.store.errors import (
    FormatTooNew,
    JournalCorrupt,
    JournalMissing,
    StoreFailed,
    VolumeMismatch,
)
from loligo_runtime.failpoint import declare, failpoint

log = logging.getLogger(__name__)

FORMAT_VERSION = 1
#: The oldest loligo that reads FORMAT_VERSION.
FORMAT_NEEDS = b"0.1.0"

#: Space is allocated in pieces of this size.
PIECE_BYTES = 4 << 20
#: The longest record. The core keeps a step's writes below it.
MAX_RECORD_BYTES = 1 << 20

SECTOR_BYTES = 512
FIRST_RECORD = 512
_SEGMENT_MAGIC = b"LOLIGOJ\n"
_SEGMENT_HEAD = Struct("<8sI16sQ24s")
_CRC = Struct("<I")
_RECORD_MAGIC = b"RECD"
_RECORD_START = Struct("<II")
_RECORD_REST = Struct("<QQIHH4s")
_HEAD_BYTES = _RECORD_START.size + _RECORD_REST.size
_MAGIC_AT = _HEAD_BYTES - len(_RECORD_MAGIC)
_WRITE = Struct("<BHI")
_WRITE_BYTES = _WRITE.size
_DELETED = 0xFFFFFFFF
_END = 0xE5
#: The end marker and the zeros up to the next multiple of 8, by the length of the rest modulo 8.
_TAILS = [bytes([_END]) + bytes(-(rest + 1) % 8) for rest in range(8)]
_ZERO_SECTOR = bytes(SECTOR_BYTES)
_SOME_HEAD = b"\xff" * _HEAD_BYTES
_SOME_END = bytes([_END])

_SPARE = "spare"
_SUFFIX = ".segment"
_SEGMENT_NAME = re.compile(r"[0-9a-f]{16}\.segment")

declare(
    "journal.append.before",
    "journal.append.after",
    "journal.sync.before",
    "journal.sync.after",
    "journal.extend.before",
    "journal.extend.after",
    "journal.spare.before",
    "journal.spare.created",
    "journal.spare.after",
    "journal.prepare.before",
    "journal.prepare.written",
    "journal.prepare.renamed",
    "journal.prepare.after",
    "journal.discard.before",
    "journal.discard.after",
    "journal.cut.before",
    "journal.cut.zeroed",
    "journal.cut.after",
)


@dataclass(slots=True)
class Record:
    position: int
    synced: int
    length: int
    count: int
    writes: bytes

    def decode(self) -> Iterator[Write]:
        at = 0
        writes = self.writes
        for _ in range(self.count):
            table, key_length, value_length = _WRITE.unpack_from(writes, at)
            at += _WRITE_BYTES
            key = writes[at : at + key_length]
            at += key_length
            if value_length == _DELETED:
                yield table, key, None
            else:
                yield table, key, writes[at : at + value_length]
                at += value_length


@dataclass(slots=True)
class Tail:
    """What a segment holds, as `read_segment` found it."""

    first: int  # position that it begins with
    records: list[Record]
    end: int  # offset behind the last good record
    torn_bytes: int  # from there to the last byte that is not zero; 0: nothing was torn

    @property
    def position(self) -> int:
        """Of its last record."""
        return self.first - 1 + len(self.records)


# Reading.


def segment_path(folder: str, first: int) -> str:
    return f"{folder}/{first:016x}{_SUFFIX}"


def read_segment(path: str, volume_uuid: bytes, first: int) -> Tail:
    """Verify the whole segment that begins with position `first`.

    JournalMissing, JournalCorrupt, FormatTooNew, VolumeMismatch. Changes nothing.
    """
    try:
        with open(path, "rb") as file:
            data = file.read()
    except FileNotFoundError as error:
        raise JournalMissing(
            f"{path} is missing, and the tables need it: restore the volume's folder from a backup; "
            f"what was done after record {first - 1} is only there"
        ) from error
    seed = _check_head(path, data, volume_uuid, first)
    records: list[Record] = []
    at = FIRST_RECORD
    position = first
    while True:
        record = _record_at(data, at, seed)
        if record is None:
            break
        if record.position != position:
            raise JournalCorrupt(path, at, position, f"a gap (record {record.position} is in its place)")
        records.append(record)
        position += 1
        at += -(-record.length // 8) * 8
    written = len(data.rstrip(b"\0"))
    if written <= at:
        return Tail(first, records, at, 0)
    if not _is_torn(data, at, seed):
        raise JournalCorrupt(path, at, position, "a checksum does not fit: a byte was changed")
    for record in _records_after(data, at, seed):
        if record.position <= position:
            raise JournalCorrupt(path, at, position, "the order of the records was changed")
        if record.synced >= position:
            raise JournalCorrupt(path, at, position, f"bytes were lost (record {record.position} knows them synced)")
    return Tail(first, records, at, written - at)


def verify_journal(folder: str, volume_uuid: bytes, committed: int) -> Tail:
    """What to replay on tables that contain everything up to record `committed`. Errors as `read_segment`."""
    try:
        segments = _segments(folder)
    except FileNotFoundError as error:
        raise JournalMissing(f"{folder} is missing: restore the volume's folder from a backup") from error
    first = max((first for first, _ in segments if first <= committed + 1), default=committed + 1)
    path = segment_path(folder, first)
    tail = read_segment(path, volume_uuid, first)
    if tail.position < committed:
        raise JournalMissing(
            f"{path} ends with record {tail.position}, the tables contain {committed}, and the segment that "
            "follows is missing: restore the volume's folder from a backup"
        )
    for first, path in segments:
        if first > committed + 1:
            # Prepared for a checkpoint that did not come: empty.
            with open(path, "rb") as file:
                file.seek(FIRST_RECORD)
                if file.read().strip(b"\0"):
                    raise JournalCorrupt(path, FIRST_RECORD, first, f"the tables end before it, with {committed},")
    return tail


def _segments(folder: str) -> list[tuple[int, str]]:
    return [
        (int(name[: -len(_SUFFIX)], 16), f"{folder}/{name}")
        for name in sorted(os.listdir(folder))
        if _SEGMENT_NAME.fullmatch(name)
    ]


def _check_head(path: str, data: bytes, volume_uuid: bytes, first: int) -> int:
    """The seed of the segment's records: another segment's, or those in a user's file, are none here."""
    size = _SEGMENT_HEAD.size
    if len(data) < size + _CRC.size or data[: len(_SEGMENT_MAGIC)] != _SEGMENT_MAGIC:
        raise JournalCorrupt(path, 0, first, "not a journal segment (its head is not there)")
    _, version, uuid, position, needs = _SEGMENT_HEAD.unpack_from(data)
    if data[size + _CRC.size : FIRST_RECORD].strip(b"\0"):
        raise JournalCorrupt(path, size + _CRC.size, first, "bytes behind its head were changed")
    seed: int = _CRC.unpack_from(data, size)[0]
    if zlib.crc32(data[:size]) != seed:
        raise JournalCorrupt(path, 0, first, "the checksum of its head does not fit")
    if version > FORMAT_VERSION:
        needs_text = needs.rstrip(b"\0").decode("ascii", "replace")
        raise FormatTooNew(path, version, needs_text, FORMAT_VERSION)
    if uuid != volume_uuid:
        raise VolumeMismatch(
            f"{path} is of volume {uuid.hex()}, the tables are of {volume_uuid.hex()}: put back the "
            "files that belong together"
        )
    if position != first:
        raise JournalCorrupt(path, 0, first, f"it begins with record {position} (renamed?)")
    return seed


def _record_at(data: bytes, at: int, seed: int) -> Record | None:
    """The whole and sound record at `at`, or None."""
    body = at + _HEAD_BYTES
    if body > len(data):
        return None
    length, head_crc = _RECORD_START.unpack_from(data, at)
    if zlib.crc32(data[at + _RECORD_START.size : body], length ^ seed) != head_crc:
        return None
    position, synced, writes_crc, count, _, _ = _RECORD_REST.unpack_from(data, at + _RECORD_START.size)
    end = at + length
    # A marker of zero is a last byte that did not make it to the disk; the writes are whole all the same.
    if end > len(data) or data[end - 1] not in (_END, 0):
        return None
    writes = data[body : end - 1]
    if zlib.crc32(writes) != writes_crc or data[end : end + -end % 8].strip(b"\0"):
        return None
    return Record(position, synced, length, count, writes)


def _is_torn(data: bytes, at: int, seed: int) -> bool:
    """Whether what is wrong at `at` can be sectors that were never written, see the module's docstring."""
    body = at + _HEAD_BYTES
    if body > len(data):
        return True
    length, head_crc = _RECORD_START.unpack_from(data, at)
    head = data[at:body]
    if zlib.crc32(head[_RECORD_START.size :], length ^ seed) == head_crc:
        end = at + length
        zero_sectors = _RECORD_REST.unpack_from(data, at + _RECORD_START.size)[4]
        if end > len(data) or _zero_sectors(data[at:end], at) > zero_sectors:
            return True
    else:
        end = body
        if _zero_sectors(head, at) > 0:
            return True
    # All that was to come in its last sector is missing.
    return not data[end - 1 : end - 1 + SECTOR_BYTES - (end - 1) % SECTOR_BYTES].rstrip(b"\0")


def _zero_sectors(piece: bytes, at: int) -> int:
    """In how many sectors `piece`, which lies at offset `at`, has nothing but zeros."""
    count = 0
    begin = 0
    while begin < len(piece):
        end = begin + SECTOR_BYTES - (at + begin) % SECTOR_BYTES
        if not piece[begin:end].rstrip(b"\0"):
            count += 1
        begin = end
    return count


def _records_after(data: bytes, at: int, seed: int) -> Iterator[Record]:
    """The sound records behind a bad one."""
    magic_at = at
    while (magic_at := data.find(_RECORD_MAGIC, magic_at + 1)) >= 0:
        start = magic_at - _MAGIC_AT
        if start > at and start % 8 == 0 and (record := _record_at(data, start, seed)):
            yield record


# Writing.


class Journal:
    """The segment in use, open for appending."""

    __slots__ = (
        "_failed",
        "_fd",
        "_first",
        "_folder",
        "_next_fd",
        "_next_first",
        "_seed",
        "_sync_lock",
        "_uuid",
        "allocated",
        "offset",
        "position",
        "synced",
    )

    def __init__(self, folder: str, volume_uuid: bytes, tail: Tail) -> None:
        """Go on behind `tail`, which `verify_journal` found. Everything in it is synced then."""
        self._folder = folder
        self._uuid = volume_uuid
        self._first = tail.first
        self._seed = _seed(volume_uuid, tail.first)
        self._failed: OSError | None = None
        self._sync_lock = threading.Lock()
        self._next_fd = -1
        self._next_first = 0
        #: Position of the last record.
        self.position = tail.position
        #: Where the next record goes.
        self.offset = tail.end
        path = segment_path(folder, tail.first)
        self._fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            self._cut(path, tail)
            #: Up to here the space belongs to the file.
            self.allocated = self._own_space()
            self._remove_leftovers()
        except BaseException:
            os.close(self._fd)
            raise
        #: Everything up to this position is on disk.
        self.synced = self.position

    def _cut(self, path: str, tail: Tail) -> None:
        if tail.torn_bytes:
            log.warning(
                "%s: cut off %d bytes behind record %d: they were being written when the machine stopped, "
                "and nobody had been told that they are safe",
                path,
                tail.torn_bytes,
                self.position,
            )
            failpoint("journal.cut.before")
            os.pwrite(self._fd, bytes(tail.torn_bytes), tail.end)
            failpoint("journal.cut.zeroed")
        # After a kill -9 the records may be in the page cache only.
        os.fdatasync(self._fd)
        failpoint("journal.cut.after")

    def _own_space(self) -> int:
        """Behind the last record the file may be sparse (a copied folder) or too short (a torn one)."""
        size = os.fstat(self._fd).st_size
        if size <= self.offset:
            return self.offset
        try:
            os.posix_fallocate(self._fd, self.offset, size - self.offset)
        except OSError:
            return self.offset
        return size

    def _remove_leftovers(self) -> None:
        """Segments of before the last checkpoint, or prepared for one that did not come.

        They do no harm, see `verify_journal`: what cannot be removed waits for the next checkpoint, or the next open.
        """
        try:
            for first, path in _segments(self._folder):
                if first != self._first:
                    failpoint("journal.discard.before")
                    os.unlink(path)
                    failpoint("journal.discard.after")
        except OSError as error:
            log.warning("%s: a segment that is not needed any more stays for now: %s", self._folder, error)

    def close(self) -> None:
        with self._sync_lock:
            os.close(self._fd)
            if self._next_fd >= 0:
                os.close(self._next_fd)
            self._fd = self._next_fd = -1

    def raise_if_failed(self) -> None:
        if self._failed is not None:
            raise StoreFailed(
                f"the journal in {self._folder} failed ({self._failed}): end this process, look after the "
                "disk, and open the volume again; all that was acknowledged is found again then"
            ) from self._failed

    @property
    def used_bytes(self) -> int:
        return self.offset - FIRST_RECORD

    def append(self, writes: Sequence[Write]) -> int:
        """Write one record; it survives this process when this returns, and the machine after `sync`.

        Returns its position. StoreFailed if the disk refused; ValueError if the step is too large for a record.
        """
        parts = []
        for table, key, value in writes:
            if value is None:
                parts.append(_WRITE.pack(table, len(key), _DELETED))
                parts.append(key)
            else:
                parts.append(_WRITE.pack(table, len(key), len(value)))
                parts.append(key)
                parts.append(value)
        body = b"".join(parts)
        length = _HEAD_BYTES + len(body) + 1
        if length > MAX_RECORD_BYTES or len(writes) > 0xFFFF:
            raise ValueError(f"a step of {len(writes)} writes, {length} bytes: at most {MAX_RECORD_BYTES}")
        offset = self.offset
        zero_sectors = 0
        if _ZERO_SECTOR in body:
            # Its head and its end marker are not zeros, whatever they will be.
            zero_sectors = _zero_sectors(b"%b%b%b" % (_SOME_HEAD, body, _SOME_END), offset)
        position = self.position + 1
        rest = _RECORD_REST.pack(position, self.synced, zlib.crc32(body), len(writes), zero_sectors, _RECORD_MAGIC)
        record = b"".join(
            (
                _RECORD_START.pack(length, zlib.crc32(rest, length ^ self._seed)),
                rest,
                body,
                _TAILS[(length - 1) & 7],
            )
        )
        if self._failed is not None:
            self.raise_if_failed()
        failpoint("journal.append.before")
        try:
            written = os.pwrite(self._fd, record, offset)
            if written != len(record):
                raise OSError(f"{written} of {len(record)} bytes were written")
        except OSError as error:
            self._failed = error
            self.raise_if_failed()
        failpoint("journal.append.after")
        self.offset = offset + len(record)
        self.position = position
        return position

    def sync(self, position: int) -> None:
        """Return when every record up to `position` survives a power loss. One fdatasync serves all who wait."""
        if self.synced >= position:
            return
        with self._sync_lock:
            # Who waited here was mostly served by the one before.
            if self.synced >= position:
                return
            self.raise_if_failed()
            written = self.position
            failpoint("journal.sync.before")
            try:
                os.fdatasync(self._fd)
            except OSError as error:
                self._failed = error
                self.raise_if_failed()
            failpoint("journal.sync.after")
            self.synced = max(self.synced, written)

    # Space, and the change of segments.

    @property
    def free_bytes(self) -> int:
        return self.allocated - self.offset

    def extend(self) -> bool:
        """Allocate one more piece. False if the disk is full."""
        failpoint("journal.extend.before")
        if not _allocate(self._fd, self.allocated, PIECE_BYTES):
            return False
        failpoint("journal.extend.after")
        self.allocated += PIECE_BYTES
        return True

    def ensure_spare(self) -> bool:
        """Whether the next segment has its space. False if the disk is full."""
        path = f"{self._folder}/{_SPARE}"
        if os.path.exists(path):
            return True
        return make_spare(self._folder)

    def prepare(self) -> bool:
        """Turn the spare into the segment behind the last record. False if there is none: the disk is full."""
        if not self.ensure_spare():
            return False
        first = self.position + 1
        spare = f"{self._folder}/{_SPARE}"
        path = segment_path(self._folder, first)
        failpoint("journal.prepare.before")
        fd = os.open(spare, os.O_RDWR | os.O_CLOEXEC)
        try:
            os.pwrite(fd, _segment_head(self._uuid, first), 0)
            failpoint("journal.prepare.written")
            os.fsync(fd)
            os.rename(spare, path)
            failpoint("journal.prepare.renamed")
            fsync_folder(self._folder)
        except BaseException:
            os.close(fd)
            raise
        failpoint("journal.prepare.after")
        self._next_fd, self._next_first = fd, first
        return True

    def unprepare(self) -> None:
        """The checkpoint failed: go on in the segment in use, and keep the other one as the spare."""
        os.close(self._next_fd)
        self._next_fd = -1
        os.rename(segment_path(self._folder, self._next_first), f"{self._folder}/{_SPARE}")

    def switch(self) -> None:
        """The tables hold every record: go on in the prepared segment, remove the one before."""
        with self._sync_lock:
            os.close(self._fd)
            self._fd, self._next_fd = self._next_fd, -1
            self.synced = self.position
        self._first = self._next_first
        self._seed = _seed(self._uuid, self._first)
        self.offset = FIRST_RECORD
        self.allocated = os.fstat(self._fd).st_size
        self._remove_leftovers()

    def read(self) -> Tail:
        """What has been appended since the last checkpoint."""
        return read_segment(segment_path(self._folder, self._first), self._uuid, self._first)


def create_journal(folder: str, volume_uuid: bytes) -> None:
    """Make the folder with the first segment and a spare. OSError (ENOSPC: a piece of 4 MiB is needed for each)."""
    os.makedirs(folder, exist_ok=True)
    path = segment_path(folder, 1)
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        os.posix_fallocate(fd, 0, PIECE_BYTES)
        os.pwrite(fd, _segment_head(volume_uuid, 1), 0)
        os.fsync(fd)
    finally:
        os.close(fd)
    if not make_spare(folder):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), folder)
    fsync_folder(folder)


def make_spare(folder: str) -> bool:
    """A spare is complete or absent. False if the disk is full, or there is another obstacle."""
    new = f"{folder}/{_SPARE}.new"
    failpoint("journal.spare.before")
    try:
        fd = os.open(new, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            failpoint("journal.spare.created")
            complete = _allocate(fd, 0, PIECE_BYTES)
        finally:
            os.close(fd)
        if complete:
            os.rename(new, f"{folder}/{_SPARE}")
            failpoint("journal.spare.after")
        else:
            os.unlink(new)
    except OSError as error:
        log.info("no spare segment: %s", error)
        return False
    return complete


def _allocate(fd: int, offset: int, size: int) -> bool:
    try:
        os.posix_fallocate(fd, offset, size)
    except OSError as error:
        log.info("no space for %d bytes of journal: %s", size, error)
        return False
    return True


def _segment_head(volume_uuid: bytes, first: int) -> bytes:
    head = _SEGMENT_HEAD.pack(_SEGMENT_MAGIC, FORMAT_VERSION, volume_uuid, first, FORMAT_NEEDS)
    return head + _CRC.pack(zlib.crc32(head))


def _seed(volume_uuid: bytes, first: int) -> int:
    return zlib.crc32(_segment_head(volume_uuid, first)[: _SEGMENT_HEAD.size])


def fsync_folder(path: str) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
