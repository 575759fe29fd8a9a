"""The data path, case by case: who is told of an error, who waits and wakes, and what the races leave behind."""

from collections.abc import Callable
from concurrent.futures import Future
from errno import EFBIG, EIO, ENOSPC
from random import Random
from typing import Any

import pytest

from loligo_client.shell.file_data import FileData
from loligo_client.shell.reshaping import FALLOC_KEEP_SIZE, FALLOC_PUNCH_HOLE
from loligo_mds.core.limits import FILE_MAX_BYTES
from loligo_mds.core.requests import ListUnsettled, Publish, Request, SetAttributes, Settle, Unsettle
from unit.data_lab import ALL_ROWS, BLOCK_BYTES, DIRTY_LIMIT_BYTES, DataLab

BLOCK = bytes(range(BLOCK_BYTES))


@pytest.fixture
def lab() -> Any:
    lab = DataLab()
    yield lab
    try:
        lab.check()
    finally:
        lab.abandon()


def fails(kind: str, errno: int) -> Any:
    return lambda asked: errno if asked == kind else 0


def refuses(kind: type, errno: int) -> Any:
    def fault(request: Request) -> int:
        return errno if type(request) is kind else 0

    return fault


def works(_: object) -> int:
    return 0


def stored(lab: DataLab, file: FileData) -> bytes:
    """The content as a later process would find it."""
    return b"".join(data for (ino, _), data in sorted(lab.store.objects.items()) if ino == file.ino)


def rows(lab: DataLab) -> list[int]:
    return [row[0] for row in lab.metadata.call(ListUnsettled(0, ALL_ROWS))]


# -- errors ---------------------------------------------------------------------------------------------------------


def test_fsync_tells_of_an_error_once_and_a_later_one_succeeds(lab: DataLab) -> None:
    file = lab.create(b"f")
    lab.store.fault = fails("write", ENOSPC)
    lab.write(file, 0, BLOCK * 3)
    with pytest.raises(OSError) as told:
        lab.fsync(file)
    assert told.value.errno == ENOSPC
    lab.quiet()
    lab.store.fault = works
    assert lab.wait(lab.write(file, 3 * BLOCK_BYTES, b"more")) == 4, "it was told already"
    lab.fsync(file)
    assert stored(lab, file) == BLOCK * 3 + b"more"


def test_the_next_write_tells_of_an_error_and_takes_nothing(lab: DataLab) -> None:
    file = lab.create(b"f")
    lab.store.fault = fails("write", EIO)
    lab.write(file, 0, BLOCK * 3)
    lab.quiet()
    with pytest.raises(OSError) as told:
        lab.write(file, 3 * BLOCK_BYTES, b"refused")
    assert told.value.errno == EIO
    assert file.size == 3 * BLOCK_BYTES
    lab.store.fault = works
    assert lab.write(file, 3 * BLOCK_BYTES, b"taken") == 5
    lab.fsync(file)
    assert stored(lab, file) == BLOCK * 3 + b"taken"


def test_flush_tells_of_an_error(lab: DataLab) -> None:
    file = lab.create(b"f")
    lab.store.fault = fails("write", ENOSPC)
    lab.write(file, 0, BLOCK * 2)
    lab.quiet()
    with pytest.raises(OSError):
        lab.data.flush(file)
    lab.store.fault = works
    lab.wait(lab.data.flush(file))
    lab.quiet()
    assert stored(lab, file) == BLOCK * 2


def test_who_waits_for_what_is_left_of_a_round_hears_why_it_failed_though_others_were_told(lab: DataLab) -> None:
    file = lab.create(b"f")
    lab.write(file, 0, BLOCK * 2)
    lab.store.run(0, ENOSPC)  # the other block is still in flight
    with pytest.raises(OSError) as first:
        lab.data.flush(file)
    with pytest.raises(OSError) as second:
        lab.fsync(file)
    assert first.value.errno == second.value.errno == ENOSPC
    lab.fsync(file)
    assert stored(lab, file) == BLOCK * 2


def test_what_is_stored_after_all_is_no_error(lab: DataLab) -> None:
    file = lab.create(b"f")
    lab.store.fault = fails("write", ENOSPC)
    lab.write(file, 0, BLOCK)
    lab.quiet()
    lab.store.fault = works
    lab.data.tick(1 << 40)
    lab.quiet()
    lab.fsync(file)
    assert stored(lab, file) == BLOCK


@pytest.mark.parametrize(
    ("kind", "data"),
    [(Publish, b"small"), (Publish, BLOCK * 2), (Unsettle, BLOCK * 2)],
    ids=["inline", "size", "doubt"],
)
def test_the_metadata_may_have_no_room(lab: DataLab, kind: type, data: bytes) -> None:
    file = lab.create(b"f")
    lab.metadata.fault = refuses(kind, ENOSPC)
    lab.write(file, 0, data)
    with pytest.raises(OSError) as told:
        lab.fsync(file)
    assert told.value.errno == ENOSPC
    lab.metadata.fault = works
    lab.fsync(file)
    assert lab.stat(file.ino).size == len(data)
    assert lab.content(file) == data


def test_who_syncs_a_file_hears_that_it_could_not_be_made(lab: DataLab, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is promised, and its content with it: the server says so when it is asked to sync."""
    told: list[Callable[[BaseException | None], object]] = []

    def when_made(ino: int, tell: Callable[[BaseException | None], object]) -> bool:
        told.append(tell)
        return True

    monkeypatch.setattr(lab.metadata, "when_made", when_made)
    file = lab.create(b"f")
    lab.write(file, 0, b"inline")
    monkeypatch.setattr(lab.metadata, "sync", lambda: told[0](OSError(ENOSPC, "no room")))
    with pytest.raises(OSError) as refused:
        lab.fsync(file)
    assert refused.value.errno == ENOSPC


def refused_at_close(lab: DataLab) -> FileData:
    """A closed file of which block 1 is stored, and block 0 is not."""
    file = lab.create(b"f")
    lab.write(file, 0, b"inline")
    lab.fsync(file)
    lab.write(file, 10, BLOCK * 3)
    lab.store.run_all()
    assert (file.ino, 1) in lab.store.objects
    lab.store.fault = fails("write", ENOSPC)
    lab.data.close(file)
    lab.quiet()
    return file


def test_the_bytes_of_a_closed_file_are_tried_again_until_they_are_stored(lab: DataLab) -> None:
    file = refused_at_close(lab)
    for seconds in range(1, 20):
        lab.data.tick(seconds << 50)
        lab.quiet()
    again = lab.open(b"f")
    assert again is file
    assert lab.content(again) == b"inline" + bytes(4) + BLOCK * 3
    lab.data.close(again)
    lab.quiet()
    lab.store.fault = works
    lab.data.tick(20 << 50)
    lab.quiet()
    assert lab.lost == []
    later = lab.open(b"f")
    assert later is not file
    assert lab.content(later) == b"inline" + bytes(4) + BLOCK * 3
    lab.data.close(later)
    lab.quiet()
    lab.settle()
    lab.check_at_rest()


def test_bytes_that_cannot_be_stored_at_the_end_are_lost_and_the_file_is_what_it_was(lab: DataLab) -> None:
    file = refused_at_close(lab)
    with pytest.raises(OSError) as told:
        lab.drain()
    assert told.value.errno == ENOSPC
    assert lab.lost == [file.ino]
    lab.store.fault = works
    lab.settle()
    again = lab.open(b"f")
    assert again is not file
    assert lab.content(again) == b"inline"
    lab.data.close(again)
    lab.quiet()
    lab.check_at_rest()


def test_a_truncation_that_fails_leaves_the_file_alone(lab: DataLab) -> None:
    file = lab.create(b"f")
    lab.write(file, 0, b"inline")
    lab.data.close(file)
    lab.quiet()
    lab.store.fault = fails("write", ENOSPC)
    answer = lab.start(lab.data.set_size(SetAttributes(file.ino, size=1000)))
    opened = lab.open(b"f")
    with pytest.raises(OSError):
        lab.wait(answer)
    lab.store.fault = works
    lab.fsync(opened)
    assert lab.content(opened) == b"inline"


def test_a_full_disk_does_not_keep_a_file_from_being_emptied(lab: DataLab) -> None:
    """What cannot be stored, and is to go, is not in the way."""
    file = lab.create(b"f")
    lab.write(file, 0, BLOCK * 2)
    lab.fsync(file)
    lab.store.fault = fails("write", ENOSPC)
    lab.write(file, 2 * BLOCK_BYTES, BLOCK * 3)
    with pytest.raises(OSError):
        lab.fsync(file)
    assert lab.set_size(file.ino, 0).size == 0
    assert lab.content(file) == b""
    lab.fsync(file)
    lab.store.fault = works
    lab.set_size(file.ino, 5 * BLOCK_BYTES)
    assert lab.content(file) == bytes(5 * BLOCK_BYTES)
    lab.data.close(file)
    lab.drain()
    lab.check_at_rest()


def test_a_full_disk_bounds_what_is_buffered(lab: DataLab) -> None:
    file = lab.create(b"f")
    lab.store.fault = fails("write", ENOSPC)
    taken = refused = 0
    for number in range(200):
        try:
            taken += lab.wait(lab.write(file, taken, BLOCK))
        except OSError:
            refused += 1
        if number % 50 == 0:
            lab.data.tick(number << 40)
    assert refused > 100
    assert lab.data._writing.dirty_bytes < 2 * DIRTY_LIMIT_BYTES
    lab.quiet()
    lab.store.fault = works
    lab.data.tick(1 << 60)
    lab.quiet()
    lab.fsync(file)
    assert stored(lab, file) == BLOCK * (taken // BLOCK_BYTES)


def test_missing_bytes_are_an_error_not_zeros(lab: DataLab) -> None:
    file = lab.create(b"f")
    lab.write(file, 0, BLOCK * 3)
    lab.fsync(file)
    del lab.store.objects[file.ino, 1]
    with pytest.raises(OSError) as told:
        lab.content(file)
    assert told.value.errno == EIO
    assert lab.read(file, 0, BLOCK_BYTES) == BLOCK


def test_bytes_that_were_cut_off_and_written_anew_while_they_were_read_are_no_damage(lab: DataLab) -> None:
    file = lab.create(b"f")
    lab.write(file, 0, BLOCK * 3)
    lab.fsync(file)
    reading = lab.data.read(file, 0, 3 * BLOCK_BYTES)
    assert isinstance(reading, Future)
    cut: Any = lab.start(lab.data.set_size(SetAttributes(file.ino, size=0)))
    lab.store.wait_for(cut.done, stop_at=("read",))
    lab.write(file, 0, BLOCK[::-1] * 3)
    assert not reading.done()
    assert b"".join(lab.wait(reading)) == BLOCK[::-1] * 3


def test_limits(lab: DataLab) -> None:
    file = lab.create(b"f")
    assert lab.write(file, 0, b"") == 0
    with pytest.raises(OSError) as told:
        lab.write(file, FILE_MAX_BYTES, b"x")
    assert told.value.errno == EFBIG
    with pytest.raises(OSError):
        lab.set_size(file.ino, FILE_MAX_BYTES + 1)


# -- waiting for room -----------------------------------------------------------------------------------------------


def write_until_it_waits(lab: DataLab, file: FileData) -> Future[int]:
    offset = file.size
    while True:
        answer = lab.write(file, offset, BLOCK[:40])
        if isinstance(answer, Future):
            assert not answer.done()
            return answer
        offset += 200  # an extent of its own
        assert offset < 100_000


def test_a_writer_waits_for_room_and_wakes(lab: DataLab) -> None:
    waiting = write_until_it_waits(lab, lab.create(b"f"))
    assert lab.wait(waiting) == 40


def test_a_writer_wakes_when_what_is_left_was_written_behind_a_block_in_flight(lab: DataLab) -> None:
    file = lab.create(b"f")
    indexes = range(8)
    for index in indexes:
        lab.write(file, index * BLOCK_BYTES, BLOCK)
    assert len(lab.store.pending) == len(indexes)
    waiting: Any = None
    for index in indexes:  # all of it dirty again, and none of it may be taken
        waiting = lab.write(file, index * BLOCK_BYTES, BLOCK)
    assert isinstance(waiting, Future)
    assert lab.wait(waiting) == BLOCK_BYTES


def test_a_writer_is_told_by_its_next_call_when_nothing_can_be_stored(lab: DataLab) -> None:
    file = lab.create(b"f")
    lab.store.fault = fails("write", ENOSPC)
    assert lab.wait(write_until_it_waits(lab, file)) == 40
    with pytest.raises(OSError) as told:
        lab.write(file, 0, b"x")
    assert told.value.errno == ENOSPC


def test_a_writer_does_not_wait_for_another_file_that_cannot_be_stored(lab: DataLab) -> None:
    stuck, free = lab.create(b"stuck"), lab.create(b"free")
    lab.store.fault = fails("write", ENOSPC)
    lab.wait(write_until_it_waits(lab, stuck))
    lab.store.fault = works
    lab.metadata.fault = lambda request: ENOSPC if getattr(request, "ino", 0) == stuck.ino else 0
    lab.store.fault = lambda kind: ENOSPC if kind == "write" and blocked["is"] else 0
    blocked = {"is": True}
    lab.data.tick(1 << 40)
    lab.quiet()
    blocked["is"] = False
    for offset in range(0, 3000, 300):
        assert lab.wait(lab.write(free, offset, BLOCK)) == BLOCK_BYTES
    lab.metadata.fault = works


@pytest.mark.parametrize("at_once", [False, True])
def test_a_writer_wakes_when_the_end_of_an_exclusive_operation_makes_room(at_once: bool) -> None:
    lab = DataLab()
    lab.store.at_once = at_once
    try:
        busy, other = lab.create(b"busy"), lab.create(b"other")
        lab.write(busy, 0, BLOCK * 2)
        lab.fsync(busy)
        hole = lab.start(lab.data.allocate(busy, 0, BLOCK_BYTES, FALLOC_PUNCH_HOLE | FALLOC_KEEP_SIZE, 1))
        for block in range(DIRTY_LIMIT_BYTES // BLOCK_BYTES):
            lab.write(busy, block * BLOCK_BYTES, BLOCK)
        answer = lab.write(other, 0, BLOCK * 30)
        lab.wait(hole)
        assert lab.wait(answer) == 30 * BLOCK_BYTES
    finally:
        lab.abandon()


class LandsWhenLookedAt(Future[None]):
    """It is not done when first asked, and done at once afterwards: the store's thread was in between."""

    def done(self) -> bool:
        if super().done():
            return True
        self.set_result(None)
        return False


def test_a_block_may_land_while_it_is_being_sent(lab: DataLab, monkeypatch: pytest.MonkeyPatch) -> None:
    file = lab.create(b"f")
    blocks = range(3)
    for index in blocks:
        lab.write(file, index * BLOCK_BYTES, b"some of it")
    sent = []

    def write(ino: int, index: int, offset: int, data: bytes) -> Future[None]:
        sent.append(index)
        return LandsWhenLookedAt()

    with monkeypatch.context() as patch:
        patch.setattr(lab.store, "write", write)
        assert lab.data.fsync(file) is not None
    assert sorted(sent) == list(blocks)
    assert not file.buffer


def test_many_wait_for_a_file_whose_exclusive_operation_is_queued_behind_them(lab: DataLab) -> None:
    """As many as the pool has threads: none of those may wait."""
    file = lab.create(b"f")
    lab.write(file, 0, BLOCK + b"rest")
    lab.data.flush(file)
    lab.write(file, 0, b"again")
    waiting = [lab.data.sync_all() for _ in range(20)]
    waiting += [lab.data.when_stored(file) for _ in range(20)]
    cut = lab.start(lab.data.set_size(SetAttributes(file.ino, size=10)))
    for answer in [*waiting, cut]:
        lab.wait(answer)
    assert lab.content(file) == (b"again" + BLOCK[5:])[:10]


# -- sync -----------------------------------------------------------------------------------------------------------


def durable(lab: DataLab, file: FileData) -> bytes:
    return b"".join(data for (ino, _), data in sorted(lab.store.durable.items()) if ino == file.ino)


def test_fsync_covers_what_was_written_before_the_file_was_opened(lab: DataLab) -> None:
    file = lab.create(b"f")
    lab.write(file, 0, BLOCK * 2)
    lab.data.close(file)
    lab.quiet()
    again = lab.open(b"f")
    assert durable(lab, again) == b""
    lab.fsync(again)
    assert durable(lab, again) == BLOCK * 2


def test_an_fsync_that_fails_is_made_up_for_by_the_next(lab: DataLab) -> None:
    file = lab.create(b"f")
    lab.write(file, 0, BLOCK)
    lab.store.fault = fails("sync", EIO)
    with pytest.raises(OSError):
        lab.fsync(file)
    lab.store.fault = works
    lab.fsync(file)
    assert durable(lab, file) == BLOCK


def test_an_fsync_does_not_end_before_another_that_covers_its_bytes(lab: DataLab) -> None:
    file = lab.create(b"f")
    lab.write(file, 0, BLOCK)
    first = lab.data.fsync(file)
    lab.store.wait_for(lambda: any(call.kind == "sync" for call in lab.store.pending))
    lab.wait(lab.data.fsync(file))
    assert durable(lab, file) == BLOCK
    lab.wait(first)


def test_a_block_that_lands_while_another_fsync_syncs_is_covered_by_the_next(lab: DataLab) -> None:
    file = lab.create(b"f")
    lab.write(file, 0, BLOCK)
    first = lab.data.fsync(file)
    lab.store.run()
    lab.write(file, 0, BLOCK[::-1])  # in flight while the first fsync looks for blocks to sync
    lab.store.wait_for(lambda: any(call.kind == "sync" for call in lab.store.pending), stop_at=("sync",))
    lab.wait(first)
    lab.fsync(file)
    assert durable(lab, file) == BLOCK[::-1]


def test_fsync_covers_what_was_cut_off(lab: DataLab) -> None:
    file = lab.create(b"f")
    lab.write(file, 0, BLOCK * 3)
    lab.fsync(file)
    lab.set_size(file.ino, 10)
    lab.set_size(file.ino, 3 * BLOCK_BYTES)
    lab.fsync(file)
    assert durable(lab, file) == BLOCK[:10]


# -- settling -------------------------------------------------------------------------------------------------------


def settle_until_it_syncs(lab: DataLab) -> Future[None]:
    settled = lab.data._pool.submit(lab.data.settle)
    lab.store.wait_for(lambda: any(call.kind == "sync_all" for call in lab.store.pending), stop_at=("sync_all",))
    return settled


def test_a_file_that_is_cut_while_it_is_settled_stays_in_doubt(lab: DataLab) -> None:
    file = lab.create(b"f")
    lab.write(file, 0, BLOCK * 3)
    lab.wait(lab.data.flush(file))
    lab.quiet()
    settled = settle_until_it_syncs(lab)
    cut = lab.start(lab.data.set_size(SetAttributes(file.ino, size=BLOCK_BYTES)))
    lab.store.wait_for(lambda: any(call.kind == "remove" for call in lab.store.pending), stop_at=("remove", "sync_all"))
    lab.store.run(next(at for at, call in enumerate(lab.store.pending) if call.kind == "sync_all"))
    lab.store.wait_for(lambda: not lab.data._settling._settling, stop_at=("remove",))
    assert rows(lab) == [file.ino]
    lab.wait(cut)
    lab.wait(settled)
    lab.settle()
    assert rows(lab) == []


def test_the_objects_of_a_removed_file_stay_in_doubt_until_they_are_gone(lab: DataLab) -> None:
    file = lab.create(b"f")
    lab.write(file, 0, BLOCK * 3)
    lab.data.close(file)
    lab.quiet()
    lab.store.fault = fails("remove", EIO)
    lab.unlink(b"f")
    lab.quiet()
    lab.settle()
    assert rows(lab) == [file.ino], "they could not be removed: the next mount tries again"
    after = DataLab(lab.store, lab.metadata.journal)
    lab.store.fault = works
    after.run_blocking(after.keeper.reconcile)
    after.close()
    assert lab.store.objects == {}


def test_a_row_that_settling_lost_to_a_write_is_settled_later(lab: DataLab) -> None:
    file = lab.create(b"f")
    lab.write(file, 0, BLOCK * 3)
    lab.data.close(file)
    lab.quiet()
    again = lab.open(b"f")
    lab.write(again, 0, BLOCK)
    lab.data.close(again)
    lab.quiet()
    lab.settle()
    assert rows(lab) == []


def test_settling_asks_only_for_what_was_synced(lab: DataLab) -> None:
    asked: list[Settle] = []

    def watch(request: Request) -> int:
        if isinstance(request, Settle):
            asked.append(request)
        return 0

    lab.metadata.fault = watch
    one, other = lab.create(b"one"), lab.create(b"other")
    for file in (one, other):
        lab.write(file, 0, BLOCK)
        lab.data.flush(file)
    lab.quiet()
    settled = settle_until_it_syncs(lab)
    lab.write(other, 0, BLOCK)
    lab.store.run(next(at for at, call in enumerate(lab.store.pending) if call.kind == "sync_all"))
    lab.store.wait_for(lambda: bool(asked), stop_at=("write",))
    assert asked[0].inos == [one.ino]
    lab.wait(settled)


# -- names ----------------------------------------------------------------------------------------------------------


def test_unlinked_while_open_with_bytes_in_flight(lab: DataLab) -> None:
    file = lab.create(b"f")
    lab.write(file, 0, BLOCK * 3)
    lab.unlink(b"f")
    assert lab.content(file) == BLOCK * 3
    lab.data.close(file)
    lab.quiet()
    lab.drain()
    lab.check_at_rest()
    assert lab.store.objects == {}


@pytest.mark.parametrize("failed", [0, 1], ids=["none has failed", "one has failed"])
@pytest.mark.parametrize("waits", [False, True], ids=["nobody waits", "somebody waits"])
def test_unlinked_with_bytes_in_flight_that_cannot_be_stored(lab: DataLab, waits: bool, failed: int) -> None:
    """Nobody wants them any more, so nothing is wrong: the file goes, and with it what it takes up."""
    file = lab.create(b"f")
    lab.store.fault = fails("write", ENOSPC)
    lab.write(file, 0, BLOCK * 3)
    for _ in range(failed):
        lab.store.run(0)
    lab.data.close(file)
    lab.unlink(b"f")
    assert file.buffer.in_flight
    stored = lab.data.when_stored(file) if waits else None
    lab.quiet()
    assert lab.data.find(file.ino) is None
    if stored is not None:
        lab.wait(stored)
    lab.store.fault = works
    lab.drain()
    lab.check_at_rest()
    assert lab.store.objects == {}


def test_unlinked_while_a_block_is_in_flight_and_the_metadata_refuses_its_size() -> None:
    lab = DataLab(later=True)
    try:
        file = lab.create(b"f")

        def run(kind: str) -> None:
            while (
                at := next((at for at, call in enumerate(lab.store.pending) if call.kind == kind), None)
            ) is not None:
                lab.store.run(at)

        lab.write(file, 0, BLOCK)
        run("metadata")
        run("write")
        lab.write(file, BLOCK_BYTES, BLOCK)
        assert file.publishing and file.buffer.in_flight
        lab.data.close(file)
        lab.data.unlinked(file.ino)
        lab.metadata.fault = refuses(Publish, EIO)
        run("metadata")
        assert not file.publishing
        lab.metadata.fault = works
        run("write")
        assert lab.data.find(file.ino) is None
    finally:
        lab.abandon()


def test_unlinked_while_a_closed_file_is_cut(lab: DataLab) -> None:
    file = lab.create(b"f")
    lab.write(file, 0, b"inline")
    lab.data.close(file)
    cut = lab.start(lab.data.set_size(SetAttributes(file.ino, size=500)))
    lab.unlink(b"f")
    lab.wait(cut)
    lab.quiet()
    lab.drain()
    lab.check_at_rest()
    assert lab.store.objects == {}


def test_bytes_written_while_the_file_is_cut_leave_nothing_beyond_its_size(lab: DataLab) -> None:
    file = lab.create(b"f")
    lab.write(file, 0, BLOCK * 3)
    lab.fsync(file)
    cut = lab.start(lab.data.set_size(SetAttributes(file.ino, size=10)))
    lab.write(file, 2 * BLOCK_BYTES, BLOCK)
    lab.wait(cut)
    lab.fsync(file)
    size = lab.stat(file.ino).size
    assert len(lab.content(file)) == size
    lab.data.close(file)
    lab.drain()
    lab.quiet()
    lab.check_at_rest()


def test_an_inline_file_is_whole_whatever_part_of_it_has_outgrown_the_inode(lab: DataLab) -> None:
    file = lab.create(b"f")
    lab.write(file, 0, b"inline")
    lab.fsync(file)
    lab.write(file, 6, BLOCK * 3)
    lab.data.flush(file)
    lab.store.run(next(at for at, call in enumerate(lab.store.pending) if call.key == (file.ino, 1)))
    lab.store.run(0, EIO)
    lab.store.run_all()
    after = lab.crashed(Random(1), power=False)
    try:
        found = after.open(b"f")
        assert after.content(found)[:6] == b"inline"
    finally:
        after.abandon()


def test_the_first_object_of_an_inline_file_is_announced(lab: DataLab) -> None:
    file = lab.create(b"f")
    lab.write(file, 0, b"inline")
    lab.fsync(file)
    cut = lab.start(lab.data.set_size(SetAttributes(file.ino, size=1000)))
    lab.store.wait_for(lambda: any(call.kind == "write" for call in lab.store.pending), stop_at=("write",))
    assert rows(lab) == [file.ino], "the object would be a stray if the process died now"
    lab.wait(cut)


@pytest.mark.parametrize("seed", range(5))
def test_what_is_being_published_is_not_published_again_for_who_waits(seed: int) -> None:
    """Who waits until nothing is under way would wait for ever."""
    lab = DataLab(later=True, choose=Random(seed))
    try:
        file = lab.create(b"f")
        lab.write(file, 0, BLOCK * 3)
        assert lab.data.flush(file) is None
        lab.store.wait_for(lambda: file.publishing, lab.choose)
        lab.wait(lab.data.when_stored(file))
        assert file.clean and not file.publishing
        lab.data.close(file)
    finally:
        lab.abandon()
