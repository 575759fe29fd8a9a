"""The driver on a real store: what a failing disk does to it, and volumes that were left with much to clear up."""

import threading
from collections.abc import Iterator, Sequence
from errno import EIO, ENOENT, ENOSPC
from pathlib import Path

import lmdb
import pytest

from loligo_mds.core.effects import Recall, RemoveObjects, RepairObjects, Reply, Resume
from loligo_mds.core.events import Repaired, SessionEnded, SessionOpened, SessionRestated, Submitted
from loligo_mds.core.invariants import check_shard
from loligo_mds.core.requests import (
    Create,
    CreateUnnamed,
    GetAttributes,
    GetUsage,
    Lookup,
    Open,
    Publish,
    Request,
    Unsettle,
    Usage,
    Yielded,
)
from loligo_mds.core.shard import Shard, initialise
from loligo_mds.core.tables import Table, Write
from loligo_mds.shell.driver import ShardDriver
from loligo_mds.store import shard_store
from loligo_mds.store.errors import StoreFailed, StoreFull
from loligo_mds.store.lmdb_tables import LmdbTables
from loligo_mds.store.shard_store import ShardStore
from loligo_wire.ids import ROOT_INO
from store.steps import UUID, abandon, segment

R = int(ROOT_INO)
BLOCK_BYTES = 4096
FILE = 0o100644


class Driven:
    """A shard that is open."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = ShardStore.open(str(folder))
        self.removed: list[RemoveObjects] = []
        self.repaired: list[RepairObjects] = []
        shard = Shard(0, self.store, BLOCK_BYTES)
        self.driver = ShardDriver(self.store, shard, self.removed.append, self.repaired.append)

    def damage_journal(self) -> None:
        """Behind the store's back: one byte of the first record."""
        with open(segment(self.folder), "r+b") as file:
            file.seek(560)
            byte = file.read(1)
            file.seek(560)
            file.write(bytes([byte[0] ^ 1]))

    def refused(self, request: Request, errno: int) -> None:
        with pytest.raises(OSError) as caught:
            self.driver.submit(1, request)
        assert caught.value.errno == errno

    def check_stopped(self) -> None:
        position = self.store.position
        self.refused(Create(R, b"more", FILE, 0, 0), EIO)
        self.refused(GetAttributes(R), EIO)
        with pytest.raises(OSError) as caught:
            self.driver.sync()
        assert caught.value.errno == EIO
        self.driver.checkpoint(only_if_due=False)
        self.driver.trim_memory()
        self.driver.end(1)
        assert self.store.position == position


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "volume"
    ShardStore.create(str(path), UUID)
    store = ShardStore.open(str(path))
    for effect in initialise(store, 1, 0, 0):
        store.append(effect.writes)
    store.close()
    return path


@pytest.fixture
def driven(folder: Path) -> Iterator[Driven]:
    """Started, with a file; left as a crash does."""
    driven = Driven(folder)
    driven.driver.start(1)
    driven.driver.submit(1, Create(R, b"f", FILE, 0, 0))
    yield driven
    abandon(driven.store)


def fail_commits(monkeypatch: pytest.MonkeyPatch) -> None:
    def commit(self: LmdbTables, position: int) -> None:
        self._txn.abort()
        raise lmdb.DiskError("the disk does not answer")

    monkeypatch.setattr(LmdbTables, "commit", commit)


def scarce(store: ShardStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next step has to make a checkpoint for its room."""
    monkeypatch.setattr(shard_store, "JOURNAL_LIMIT_BYTES", 0)
    store._free_until = -1


# -- a disk that fails ----------------------------------------------------------------------------------------------


def test_tables_that_cannot_be_rebuilt_in_a_checkpoint_are_not_served(
    driven: Driven, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail_commits(monkeypatch)
    driven.damage_journal()
    with pytest.raises(OSError) as caught:
        driven.driver.checkpoint(only_if_due=False)
    assert caught.value.errno == EIO
    assert isinstance(caught.value.__cause__, StoreFailed)
    driven.check_stopped()


def test_tables_that_cannot_be_rebuilt_for_a_step_are_not_served(
    driven: Driven, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail_commits(monkeypatch)
    scarce(driven.store, monkeypatch)
    driven.damage_journal()
    driven.refused(Create(R, b"g", FILE, 0, 0), EIO)
    driven.check_stopped()


def test_tables_that_are_rebuilt_are_served(driven: Driven, monkeypatch: pytest.MonkeyPatch) -> None:
    fail_commits(monkeypatch)
    driven.driver.checkpoint(only_if_due=False)
    scarce(driven.store, monkeypatch)
    driven.refused(Create(R, b"g", FILE, 0, 0), ENOSPC)
    assert driven.driver.submit(1, GetUsage()) == Usage(2, 0)
    monkeypatch.undo()
    driven.driver.submit(1, Create(R, b"g", FILE, 0, 0))
    assert check_shard(driven.store) == []


def test_tables_that_cannot_be_rebuilt_at_the_start_are_not_served(
    driven: Driven, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail_commits(monkeypatch)
    scarce(driven.store, monkeypatch)
    monkeypatch.setattr(shard_store, "LAST_RESERVE_BYTES", 64 << 20)  # or a step that frees space would do without
    driven.damage_journal()
    with pytest.raises(StoreFailed, match="cannot be rebuilt"):
        driven.driver.start(1)
    driven.check_stopped()


def test_tables_that_cannot_be_rebuilt_at_the_end_are_not_closed(
    driven: Driven, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail_commits(monkeypatch)
    scarce(driven.store, monkeypatch)
    monkeypatch.setattr(shard_store, "LAST_RESERVE_BYTES", 64 << 20)
    driven.damage_journal()
    with pytest.raises(OSError) as caught:
        driven.driver.end(1)
    assert caught.value.errno == EIO
    driven.check_stopped()


def test_the_store_is_closed_though_there_is_no_room_to_end_the_session(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    driven = Driven(folder)
    driven.driver.start(1)
    ino = driven.driver.submit(1, CreateUnnamed(R, FILE, 0, 0)).ino

    def full(self: ShardStore, reclaiming: bool) -> None:
        raise StoreFull("scripted")

    monkeypatch.setattr(ShardStore, "_make_room", full)
    driven.store._free_until = -1
    driven.driver.end(1)
    monkeypatch.undo()
    driven = Driven(folder)
    assert driven.store.get(Table.ORPHAN, ino.to_bytes(8)) is not None
    driven.driver.start(1)
    driven.refused(GetAttributes(ino), 2)
    driven.driver.end(1)


# -- much to clear up -----------------------------------------------------------------------------------------------

#: As one record they would be too long: three rows for each.
ORPHANS = 20_000


@pytest.mark.parametrize("crash", [True, False])
def test_a_volume_with_many_files_open_and_unlinked_opens_again(folder: Path, crash: bool) -> None:
    driven = Driven(folder)
    driven.driver.start(1)
    with driven.driver.lock:
        for _ in range(ORPHANS):
            ino = driven.driver.submit(1, CreateUnnamed(R, FILE, 0, 0)).ino
            driven.driver.submit(1, Publish(ino, 9000, 1))
    assert driven.driver.submit(1, GetUsage()) == Usage(1 + ORPHANS, ORPHANS * 9000)
    if crash:
        abandon(driven.store)
    else:
        driven.driver.end(1)
        assert len(driven.removed) == ORPHANS
    driven = Driven(folder)
    driven.driver.start(1)
    assert len(driven.removed) == (ORPHANS if crash else 0)
    assert driven.driver.submit(1, GetUsage()) == Usage(1, 0)
    assert len([1 for _ in driven.store.scan(Table.UNSETTLED, b"")]) == ORPHANS
    assert check_shard(driven.store) == []
    driven.driver.end(1)


def test_room_is_made_for_every_step_of_an_event(driven: Driven, monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(5):
        driven.driver.submit(1, CreateUnnamed(R, FILE, 0, 0))
    monkeypatch.setattr("loligo_mds.core.sessions.STEP_WRITES_MAX", 1)
    taken: list[str] = []
    reserve, append = ShardStore.reserve, ShardStore.append

    def watched_reserve(self: ShardStore, reclaiming: bool) -> None:
        taken.append("reserve")
        reserve(self, reclaiming)

    def watched_append(self: ShardStore, writes: Sequence[Write]) -> int:
        taken.append("append")
        return append(self, writes)

    monkeypatch.setattr(ShardStore, "reserve", watched_reserve)
    monkeypatch.setattr(ShardStore, "append", watched_append)
    driven.driver.step(SessionEnded(1))
    assert taken[:10] == ["reserve", "append"] * 5
    assert driven.driver.submit(1, GetUsage()) == Usage(2, 0)


# -- what a server needs --------------------------------------------------------------------------------------------


def serve(driven: Driven, *sessions: int) -> None:
    for session in sessions:
        assert driven.driver.step(SessionOpened(session, b"client %d" % session)) == []


def ino_of(driven: Driven, name: bytes) -> int:
    return int(driven.driver.ask(Lookup(R, name)).ino)


def test_a_step_returns_what_is_for_sessions(driven: Driven) -> None:
    serve(driven, 2, 3)
    f = ino_of(driven, b"f")
    driven.driver.step(Submitted(2, 0, Open(f, True), id=1))
    assert driven.driver.step(Submitted(3, 0, Open(f), id=2)) == [Recall(2, f)]
    reply, opened, resumed = driven.driver.step(Submitted(2, 0, Yielded(f), id=3))
    assert reply == Reply(2, 3, None)
    assert isinstance(opened, Reply) and (opened.session, opened.id, opened.value.contended) == (3, 2, True)
    assert isinstance(resumed, Resume) and resumed.session == 2
    assert (driven.driver.open_files(2), driven.driver.open_files(4)) == (1, 0)


def test_sessions_are_known_after_a_restart(folder: Path) -> None:
    driven = Driven(folder)
    driven.driver.start()
    serve(driven, 2, 3)
    reply = driven.driver.step(Submitted(2, 1, CreateUnnamed(R, FILE, 0, 0), id=7))[0]
    assert isinstance(reply, Reply)
    driven.driver.end()
    again = Driven(folder)
    assert again.driver.sessions() == {2: b"client 2", 3: b"client 3"}
    again.driver.start(surviving=(2,))
    assert again.driver.sessions() == {2: b"client 2"}
    assert again.driver.step(SessionRestated(2, [])) == []
    repeated = again.driver.step(Submitted(2, 1, CreateUnnamed(R, FILE, 0, 0), id=8))
    assert repeated == [Reply(2, 8, reply.value, repeated=True)]
    again.driver.end()
    third = Driven(folder)
    third.driver.start(surviving=(2,))
    third.driver.step(SessionRestated(2, [], acknowledged=1))
    assert third.driver.ask(GetUsage()) == Usage(1, 0)
    third.driver.end()


def test_a_file_is_given_to_be_repaired(driven: Driven) -> None:
    serve(driven, 2)
    f = ino_of(driven, b"f")
    driven.driver.step(Submitted(2, 0, Open(f, True)))
    driven.driver.step(Submitted(2, 0, Unsettle(f, 9000)))
    assert driven.driver.step(SessionEnded(2)) == []
    assert driven.repaired == [RepairObjects(f)]
    serve(driven, 3)
    assert driven.driver.step(Submitted(3, 0, Open(f), id=5)) == []
    (reply,) = driven.driver.step(Repaired(f))
    assert isinstance(reply, Reply) and (reply.session, reply.id, reply.errno) == (3, 5, 0)


def no_room(monkeypatch: pytest.MonkeyPatch, driven: Driven) -> None:
    def full(self: ShardStore, reclaiming: bool) -> None:
        raise StoreFull("scripted")

    monkeypatch.setattr(ShardStore, "_make_room", full)
    driven.store._free_until = -1


def test_a_request_without_room_is_refused_and_a_repetition_needs_none(
    driven: Driven, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve(driven, 2)
    create = Create(R, b"g", FILE, 0, 0)
    (made,) = driven.driver.step(Submitted(2, 1, create, id=1))
    assert isinstance(made, Reply)
    no_room(monkeypatch, driven)
    assert driven.driver.step(Submitted(2, 2, Create(R, b"h", FILE, 0, 0), id=2)) == [Reply(2, 2, None, ENOSPC)]
    assert driven.driver.step(Submitted(2, 1, create, id=3)) == [Reply(2, 3, made.value, repeated=True)]
    with pytest.raises(OSError) as caught:
        driven.driver.step(SessionOpened(3, b"client 3"))
    assert caught.value.errno == ENOSPC
    assert not driven.driver.stopped


def test_an_end_without_room_is_made_up_for(driven: Driven, monkeypatch: pytest.MonkeyPatch) -> None:
    serve(driven, 2, 3)
    (made,) = driven.driver.step(Submitted(2, 1, CreateUnnamed(R, FILE, 0, 0), id=1))
    assert isinstance(made, Reply)
    no_room(monkeypatch, driven)
    assert driven.driver.step(SessionEnded(2)) == []
    assert driven.driver.open_files(2) == 1
    monkeypatch.undo()
    driven.driver.step(Submitted(3, 0, GetUsage(), id=1))
    assert driven.driver.open_files(2) == 0
    driven.refused(GetAttributes(made.value.ino), ENOENT)


def test_a_stopped_shard_refuses_every_step(driven: Driven, monkeypatch: pytest.MonkeyPatch) -> None:
    serve(driven, 2)

    def fail(self: ShardStore, writes: Sequence[Write]) -> int:
        raise OSError(EIO, "scripted")

    monkeypatch.setattr(ShardStore, "append", fail)
    assert driven.driver.step(Submitted(2, 1, Create(R, b"g", FILE, 0, 0), id=4)) == [Reply(2, 4, None, EIO)]
    assert driven.driver.stopped
    assert driven.driver.step(Submitted(2, 0, GetUsage(), id=5)) == [Reply(2, 5, None, EIO)]
    with pytest.raises(OSError) as caught:
        driven.driver.step(SessionEnded(2))
    assert caught.value.errno == EIO


# -- memory ---------------------------------------------------------------------------------------------------------


def test_memory_is_given_back_under_the_lock(driven: Driven, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing may move the map while its addresses are used."""
    free: list[bool] = []

    def look() -> int:
        def try_lock() -> None:
            got = driven.driver.lock.acquire(blocking=False)
            if got:
                driven.driver.lock.release()
            free.append(got)

        other = threading.Thread(target=try_lock)
        other.start()
        other.join()
        return 0

    monkeypatch.setattr(shard_store, "mapped_file_bytes", look)
    driven.driver.trim_memory()
    assert free == [False]
