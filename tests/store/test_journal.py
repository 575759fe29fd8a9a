"""The journal's format, and how it tells a torn tail from damage."""

import os
import struct
import threading
import zlib
from pathlib import Path
from random import Random

import pytest

from loligo_mds.core.tables import Write
from loligo_mds.store.errors import (
    FormatTooNew,
    JournalCorrupt,
    JournalMissing,
    StoreError,
    StoreFailed,
    VolumeMismatch,
)
from loligo_mds.store.journal import (
    FIRST_RECORD,
    SECTOR_BYTES,
    Journal,
    Tail,
    create_journal,
    read_segment,
    segment_path,
    verify_journal,
)
from store.steps import UUID, step_writes

STEPS = 12
#: Sectors of zeros that are meant: the hard case for telling lost bytes from written ones.
ZEROS: list[Write] = [(4, b"zeros", bytes(3000)), (1, b"after", b"x")]
EXPECTED: list[list[Write]] = [step_writes(5, number) for number in range(1, STEPS)]
EXPECTED.insert(2, ZEROS)
EXPECTED[-1] = ZEROS
assert len(EXPECTED) == STEPS


def open_journal(folder: Path) -> Journal:
    return Journal(str(folder), UUID, verify_journal(str(folder), UUID, 0))


def write_some(folder: Path, synced_at: int = 0) -> bytes:
    """A journal of all steps, of which the first `synced_at` are synced. The segment's bytes up to its last."""
    create_journal(str(folder), UUID)
    journal = open_journal(folder)
    for writes in EXPECTED:
        if journal.append(writes) == synced_at:
            journal.sync(synced_at)
    journal.close()
    data = Path(segment_path(str(folder), 1)).read_bytes()
    return data[: len(data.rstrip(b"\0"))]


def read(tmp_path: Path, data: bytes) -> Tail:
    """`read_segment` of a segment of these bytes."""
    path = tmp_path / "some.segment"
    path.write_bytes(data)
    return read_segment(str(path), UUID, 1)


def decoded(tail: Tail) -> list[list[Write]]:
    return [list(record.decode()) for record in tail.records]


def starts(data: bytes) -> list[int]:
    """Offsets of the records."""
    offsets = []
    at = FIRST_RECORD
    while at < len(data):
        offsets.append(at)
        at += -(-struct.unpack_from("<I", data, at)[0] // 8) * 8
    return offsets


def test_the_format_is_the_one_described(tmp_path: Path) -> None:
    folder = tmp_path / "journal"
    create_journal(str(folder), UUID)
    journal = open_journal(folder)
    assert journal.append([(1, b"key", b"value"), (2, b"gone", None)]) == 1
    journal.close()
    data = (folder / "0000000000000001.segment").read_bytes()
    head = b"LOLIGOJ\n" + struct.pack("<I16sQ24s", 1, UUID, 1, b"0.1.0")
    seed = zlib.crc32(head)
    body = struct.pack("<BHI", 1, 3, 5) + b"keyvalue" + struct.pack("<BHI", 2, 4, 0xFFFFFFFF) + b"gone"
    rest = struct.pack("<QQIHH4s", 1, 0, zlib.crc32(body), 2, 0, b"RECD")
    length = 8 + len(rest) + len(body) + 1
    record = struct.pack("<II", length, zlib.crc32(rest, length ^ seed)) + rest + body + b"\xe5"
    assert data == (head + struct.pack("<I", seed)).ljust(512, b"\0") + record.ljust(len(data) - 512, b"\0")
    assert len(data) == 4 << 20


def test_what_was_appended_is_read(tmp_path: Path) -> None:
    tail = read(tmp_path, write_some(tmp_path / "journal", synced_at=7))
    assert decoded(tail) == EXPECTED
    assert [record.position for record in tail.records] == list(range(1, STEPS + 1))
    assert [record.synced for record in tail.records] == [0] * 7 + [7] * 5
    assert tail.torn_bytes == 0


@pytest.mark.parametrize("mask", [0x01, 0xFF])
def test_a_flipped_byte_anywhere_is_refused(tmp_path: Path, mask: int) -> None:
    data = write_some(tmp_path / "journal")
    for offset in range(len(data)):
        damaged = bytearray(data)
        damaged[offset] ^= mask
        with pytest.raises(StoreError) as caught:
            read(tmp_path, bytes(damaged) + bytes(1000))
        if offset >= FIRST_RECORD:
            assert isinstance(caught.value, JournalCorrupt)
            assert caught.value.offset == max(at for at in starts(data) if at <= offset)
            assert f"byte {caught.value.offset}, record {caught.value.position}" in str(caught.value)


@pytest.mark.parametrize("filled_up", [False, True], ids=["short file", "zeros"])
def test_cut_at_any_byte_a_prefix_is_left(tmp_path: Path, filled_up: bool) -> None:
    data = write_some(tmp_path / "journal")
    ends = [*starts(data)[1:], len(data)]
    for cut in range(FIRST_RECORD, len(data)):
        tail = read(tmp_path, data[:cut].ljust(64 << 10 if filled_up else 0, b"\0"))
        whole = sum(end <= cut for end in ends)
        # The last bytes of a record may be padding, or the marker alone: then it is whole as well.
        assert len(tail.records) in (whole, whole + 1)
        assert decoded(tail) == EXPECTED[: len(tail.records)]


def test_any_lost_sectors_leave_a_prefix_with_all_that_was_synced(tmp_path: Path) -> None:
    random = Random(1)
    for attempt in range(60):
        synced_at = random.randint(0, STEPS)
        folder = tmp_path / f"journal{attempt}"
        data = bytearray(write_some(folder, synced_at))
        at = [*starts(bytes(data)), len(data)][synced_at]
        for sector in range(at // SECTOR_BYTES, len(data) // SECTOR_BYTES + 1):
            if random.random() < 0.4:
                begin = max(at, sector * SECTOR_BYTES)
                end = min(len(data), (sector + 1) * SECTOR_BYTES)
                data[begin:end] = bytes(max(0, end - begin))
        tail = read(tmp_path, bytes(data).ljust(64 << 10, b"\0"))
        assert synced_at <= len(tail.records) <= STEPS
        assert decoded(tail) == EXPECTED[: len(tail.records)]


def test_a_lost_sector_that_had_been_synced_is_refused(tmp_path: Path) -> None:
    data = bytearray(write_some(tmp_path / "journal", synced_at=6))
    sector = starts(bytes(data))[5] // SECTOR_BYTES * SECTOR_BYTES
    data[sector : sector + SECTOR_BYTES] = bytes(SECTOR_BYTES)
    with pytest.raises(JournalCorrupt, match="knows them synced"):
        read(tmp_path, bytes(data))


def test_a_missing_record_is_a_gap(tmp_path: Path) -> None:
    data = write_some(tmp_path / "journal")
    at = starts(data)
    for cut in range(len(at) - 1):
        with pytest.raises(JournalCorrupt, match=r"a gap \(record") as caught:
            read(tmp_path, data[: at[cut]] + data[at[cut + 1] :])
        assert caught.value.position == cut + 1


def test_a_torn_tail_is_cut_and_said_and_then_gone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = tmp_path / "journal"
    data = write_some(folder)
    path = Path(segment_path(str(folder), 1))
    cut = len(data) - 10
    path.write_bytes(data[:cut].ljust(64 << 10, b"\0"))
    journal = open_journal(folder)
    assert journal.position == journal.synced == STEPS - 1
    dropped = cut - starts(data)[-1]
    assert f"cut off {dropped} bytes behind record {STEPS - 1}" in caplog.text
    assert journal.append(EXPECTED[-1]) == STEPS
    journal.close()
    assert decoded(read_segment(str(path), UUID, 1)) == EXPECTED
    assert not path.read_bytes()[len(data) :].strip(b"\0")


def test_a_user_who_stores_a_journal_in_a_file_does_no_harm(tmp_path: Path) -> None:
    other = write_some(tmp_path / "other", synced_at=3)
    folder = tmp_path / "journal"
    create_journal(str(folder), bytes(16))
    journal = Journal(str(folder), bytes(16), verify_journal(str(folder), bytes(16), 0))
    for shift in range(8):
        journal.append([(4, b"ino", bytes(shift) + other)])
    journal.close()
    path = Path(segment_path(str(folder), 1))
    data = bytearray(path.read_bytes())
    data[FIRST_RECORD : 2 * SECTOR_BYTES] = bytes(SECTOR_BYTES)
    data[FIRST_RECORD + len(other) + 50 :] = b""
    path.write_bytes(data)
    assert read_segment(str(path), bytes(16), 1).records == []


def test_a_segment_of_another_kind_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "journal"
    write_some(folder)
    path = Path(segment_path(str(folder), 1))
    with pytest.raises(VolumeMismatch, match=r"is of volume 0001.*put back the files"):
        read_segment(str(path), bytes(16), 1)
    with pytest.raises(JournalMissing, match=r"is missing.*restore"):
        verify_journal(str(folder), UUID, STEPS + 1)
    path.rename(segment_path(str(folder), 2))
    with pytest.raises(JournalCorrupt, match="renamed"):
        verify_journal(str(folder), UUID, 1)


def test_a_newer_segment_says_which_loligo_it_needs(tmp_path: Path) -> None:
    head = b"LOLIGOJ\n" + struct.pack("<I16sQ24s", 2, UUID, 1, b"7.3.0")
    data = (head + struct.pack("<I", zlib.crc32(head))).ljust(FIRST_RECORD, b"\0")
    with pytest.raises(FormatTooNew, match=r"use loligo 7\.3\.0 or newer"):
        read(tmp_path, data)


def test_one_fdatasync_serves_all_who_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "journal"
    create_journal(str(folder), UUID)
    journal = open_journal(folder)
    entered, go_on, calls = threading.Event(), threading.Event(), []
    real = os.fdatasync

    def slow(fd: int) -> None:
        calls.append(journal.position)
        if len(calls) == 1:
            entered.set()
            assert go_on.wait(10)
        real(fd)

    monkeypatch.setattr(os, "fdatasync", slow)
    threads = [threading.Thread(target=journal.sync, args=(journal.append([(1, b"k", b"v")]),))]
    threads[0].start()
    assert entered.wait(10)
    threads += [threading.Thread(target=journal.sync, args=(journal.append([(1, b"k", b"v")]),)) for _ in range(8)]
    assert journal.synced == 0
    for thread in threads[1:]:
        thread.start()
    go_on.set()
    for thread in threads:
        thread.join(10)
    assert journal.synced == 9
    assert calls == [1, 9]
    journal.close()


def test_after_a_failed_write_or_sync_the_journal_refuses(tmp_path: Path) -> None:
    for failing in ("append", "sync"):
        folder = tmp_path / failing
        create_journal(str(folder), UUID)
        journal = open_journal(folder)
        journal.append([(1, b"k", b"v")])
        # A descriptor that refuses: /dev/full has no space to write, and a pipe cannot be synced.
        other = os.open("/dev/full", os.O_RDWR) if failing == "append" else os.pipe()[1]
        os.dup2(other, journal._fd)
        with pytest.raises(StoreFailed, match="open the volume again"):
            if failing == "append":
                journal.append([(1, b"k", b"v")])
            else:
                journal.sync(1)
        assert journal.position == 1
        assert journal.synced == 0
        with pytest.raises(StoreFailed):
            journal.append([(1, b"k", b"v")])
        with pytest.raises(StoreFailed):
            journal.sync(1)
        journal.close()
        os.close(other)
        again = open_journal(folder)
        assert again.position == 1
        again.close()


def test_a_step_too_large_for_a_record_is_refused_before_it_is_written(tmp_path: Path) -> None:
    folder = tmp_path / "journal"
    create_journal(str(folder), UUID)
    journal = open_journal(folder)
    for writes in ([(1, b"k", bytes(1 << 20))], [(1, b"k", None)] * 65536):
        with pytest.raises(ValueError, match="a step of"):
            journal.append(writes)
    assert journal.append([(1, b"k", None)] * 65535) == 1
    journal.close()
    assert len(decoded(verify_journal(str(folder), UUID, 0))[0]) == 65535
