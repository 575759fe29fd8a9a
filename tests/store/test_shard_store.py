"""The store as a whole: opening, refusing, recovering, checkpoints."""

import json
import os
import select
import shutil
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random

import lmdb
import pytest

from loligo_mds.core.tables import Table
from loligo_mds.store import journal, lmdb_tables, shard_store
from loligo_mds.store.errors import (
    FormatTooNew,
    JournalCorrupt,
    JournalMissing,
    NotOurs,
    NoVolume,
    StoreError,
    StoreFull,
    TablesMissing,
    VolumeBusy,
    VolumeExists,
    VolumeMismatch,
)
from loligo_mds.store.journal import Journal
from loligo_mds.store.shard_store import ShardStore
from store.steps import (
    UUID,
    abandon,
    apply,
    contents,
    files,
    model_after,
    segment,
    step_writes,
    take,
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "volume"
    ShardStore.create(str(path), UUID)
    return path


def grow(folder: Path, seed: int, count: int, leave: bool = False) -> None:
    """Take `count` steps on an empty volume; `leave` it as a crash does."""
    store = ShardStore.open(str(folder))
    for number in range(1, count + 1):
        assert take(store, step_writes(seed, number)) == number
    if leave:
        abandon(store)
    else:
        store.close()


def test_what_was_done_is_there_after_close(folder: Path) -> None:
    grow(folder, seed=1, count=50)
    store = ShardStore.open(str(folder))
    assert store.volume_uuid == UUID
    assert store.position == store.synced_position == 50
    assert contents(store) == model_after(1, 50)
    assert store.check() == []
    store.close()


def test_what_was_appended_is_there_after_a_kill(folder: Path) -> None:
    grow(folder, seed=2, count=70, leave=True)
    for _ in range(2):
        store = ShardStore.open(str(folder))
        assert store.position == store.synced_position == 70
        assert contents(store) == model_after(2, 70)
        abandon(store)


def test_what_was_not_appended_is_gone_after_a_kill(folder: Path) -> None:
    store = ShardStore.open(str(folder))
    take(store, [(1, b"a", b"1")])
    apply(store, [(1, b"b", b"2")])
    abandon(store)
    store = ShardStore.open(str(folder))
    assert contents(store) == {(1, b"a"): b"1"}
    store.close()


def test_a_checkpoint_empties_the_journal(folder: Path) -> None:
    store = ShardStore.open(str(folder))
    assert not store.needs_checkpoint
    for number in range(1, 8001):
        take(store, [(table, struct.pack(">QB", number, table), b"v") for table in range(1, 5)])
        assert store.needs_checkpoint == (number > 6000)
    assert store.synced_position == 0
    assert store.checkpoint()
    assert not store.needs_checkpoint
    assert store.synced_position == store.position == 8000
    assert segment(folder).name == f"{8001:016x}.segment"
    assert not segment(folder).read_bytes()[512:].strip(b"\0")
    take(store, [(1, b"after", b"")])
    abandon(store)
    store = ShardStore.open(str(folder))
    assert len(contents(store)) == 4 * 8000 + 1
    store.close()


def test_much_journal_asks_for_a_checkpoint_too(folder: Path) -> None:
    store = ShardStore.open(str(folder))
    for number in range(9):
        assert not store.needs_checkpoint
        take(store, [(4, b"%d" % number, bytes(1_000_000))])
    assert store.needs_checkpoint
    store.close()


def test_a_volume_from_before_there_were_clients(folder: Path) -> None:
    grow(folder, seed=1, count=5)
    env = lmdb.open(str(folder / "tables.mdb"), subdir=False, max_dbs=len(Table), lock=False)
    with env.begin(write=True) as txn:
        txn.drop(env.open_db(b"client", txn=txn), delete=True)
    env.close()
    store = ShardStore.open(str(folder))
    assert store.get(Table.CLIENT, b"s") is None
    store.close()
    store = ShardStore.open(str(folder))
    take(store, [(Table.CLIENT, b"s", b"who")])
    store.close()
    store = ShardStore.open(str(folder))
    assert store.get(Table.CLIENT, b"s") == b"who"
    assert store.check() == []
    store.close()


def test_a_step_without_writes_needs_no_record(folder: Path) -> None:
    store = ShardStore.open(str(folder))
    assert store.append([]) == 0
    assert take(store, [(1, b"k", b"v")]) == 1
    assert store.append([]) == 1
    store.sync(1)
    assert store.synced_position == 1
    store.close()


def test_tables_of_any_size(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The map doubles ahead of the file."""
    monkeypatch.setattr(lmdb_tables, "MAP_BYTES", 16 << 20)
    store = ShardStore.open(str(folder))
    for number in range(1, 91):
        take(store, [(4, b"%d" % number, b"%d" % number * 200_000)])
        if number % 10 == 0:
            assert store.checkpoint()
    assert (folder / "tables.mdb").stat().st_size > 24 << 20
    assert store.get(4, b"7") == b"7" * 200_000
    store.close()
    store = ShardStore.open(str(folder))
    assert store.check() == []
    store.close()


HOLDER = """
import sys
sys.path[:0] = sys.argv[2:]
from loligo_mds.store.shard_store import ShardStore
store = ShardStore.open(sys.argv[1])
print("open", flush=True)
sys.stdin.readline()
store.close()
"""


@pytest.fixture
def holder(folder: Path) -> Iterator["subprocess.Popen[str]"]:
    """Another process that has the volume open, until it is written to."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(folder), *sys.path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin and process.stdout
    try:
        assert process.stdout.readline() == "open\n"
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()


def test_a_volume_in_use_names_the_process(folder: Path, holder: "subprocess.Popen[str]") -> None:
    with pytest.raises(VolumeBusy, match=f"in use by process {holder.pid}: stop it") as caught:
        ShardStore.open(str(folder))
    assert caught.value.pid == holder.pid
    with pytest.raises(VolumeBusy):
        ShardStore.create(str(folder), UUID)
    assert json.loads((folder / "lock").read_text())["pid"] == holder.pid
    began = time.monotonic()
    with pytest.raises(VolumeBusy):
        ShardStore.open(str(folder), wait_s=0.2)
    assert time.monotonic() - began >= 0.2


def test_open_waits_for_the_other_process(folder: Path, holder: "subprocess.Popen[str]") -> None:
    assert holder.stdin and holder.stdout
    holder.stdin.write("end\n")
    holder.stdin.flush()
    ShardStore.open(str(folder), wait_s=30).close()
    assert select.select([holder.stdout], [], [], 30)[0]


def test_a_killed_process_holds_nothing(folder: Path, holder: "subprocess.Popen[str]") -> None:
    holder.kill()
    holder.wait()
    ShardStore.open(str(folder)).close()


def test_two_opens_in_one_process(folder: Path) -> None:
    store = ShardStore.open(str(folder))
    with pytest.raises(VolumeBusy, match=str(os.getpid())):
        ShardStore.open(str(folder))
    store.close()


def test_create_takes_no_folder_that_holds_something(folder: Path, tmp_path: Path) -> None:
    before = files(folder)
    with pytest.raises(VolumeExists, match="holds a volume already"):
        ShardStore.create(str(folder), UUID)
    grow(folder, seed=1, count=3, leave=True)
    (folder / "tables.mdb").rename(tmp_path / "away")
    with pytest.raises(VolumeExists, match=r"restore its tables\.mdb"):
        ShardStore.create(str(folder), UUID)
    (tmp_path / "away").rename(folder / "tables.mdb")
    other = tmp_path / "other"
    other.mkdir()
    (other / "thesis.tex").write_text("x")
    with pytest.raises(VolumeExists, match=r"not empty \(thesis\.tex\)"):
        ShardStore.create(str(other), UUID)
    assert files(folder).keys() == before.keys()
    with pytest.raises(ValueError, match="16 bytes"):
        ShardStore.create(str(tmp_path / "third"), b"short")


def damage_tables_text(folder: Path) -> None:
    (folder / "tables.mdb").write_bytes(b"this is no LMDB file" * 1000)


def damage_tables_empty(folder: Path) -> None:
    (folder / "tables.mdb").write_bytes(b"")


def damage_tables_foreign(folder: Path) -> None:
    path = folder / "tables.mdb"
    path.unlink()
    with lmdb.open(str(path), subdir=False, lock=False, max_dbs=1) as env:
        env.open_db(b"theirs")


def rewrite_meta(folder: Path, key: bytes, value: bytes | None) -> None:
    path = str(folder / "tables.mdb")
    with lmdb.open(path, subdir=False, lock=False, max_dbs=20) as env, env.begin(write=True) as txn:
        meta = env.open_db(b"meta", txn=txn)
        if value is None:
            txn.delete(key, db=meta)
        else:
            txn.put(key, value, db=meta)


def damage_format_row(folder: Path) -> None:
    rewrite_meta(folder, b"store.format", None)


def damage_position_row(folder: Path) -> None:
    rewrite_meta(folder, b"store.position", None)


def damage_newer(folder: Path) -> None:
    rewrite_meta(folder, b"store.format", struct.pack("<I16s", 9, UUID) + b"4.2.0")


def damage_uuid(folder: Path) -> None:
    rewrite_meta(folder, b"store.format", struct.pack("<I16s", 1, bytes(16)) + b"0.1.0")


def damage_older_tables(folder: Path) -> None:
    rewrite_meta(folder, b"store.position", struct.pack("<Q", 10))


def damage_newer_tables(folder: Path) -> None:
    rewrite_meta(folder, b"store.position", struct.pack("<Q", 1000))


def damage_no_tables(folder: Path) -> None:
    (folder / "tables.mdb").unlink()


def damage_no_journal(folder: Path) -> None:
    shutil.rmtree(folder / "journal")


def damage_no_segment(folder: Path) -> None:
    segment(folder).unlink()


def damage_segment(folder: Path) -> None:
    data = bytearray(segment(folder).read_bytes())
    data[600] ^= 4
    segment(folder).write_bytes(data)


def damage_foreign_folder(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()
    (folder / "thesis.tex").write_text("x")


@pytest.mark.parametrize(
    ("damage", "error", "says"),
    [
        (damage_tables_text, NotOurs, r"tables\.mdb is not a file of tables .*restore"),
        (damage_tables_empty, NotOurs, r"tables\.mdb is empty: restore"),
        (damage_tables_foreign, NotOurs, "is LMDB, but not loligo's"),
        (damage_format_row, NotOurs, r"not loligo's \(no format in it\)"),
        (damage_position_row, NotOurs, "holds no journal position"),
        (damage_newer, FormatTooNew, r"has format 9, .*use loligo 4\.2\.0 or newer"),
        (damage_uuid, VolumeMismatch, "put back the files that belong together"),
        (damage_older_tables, JournalMissing, "is missing, and the tables need it"),
        (damage_newer_tables, JournalMissing, "the tables contain 1000"),
        (damage_no_tables, TablesMissing, r"a journal but no tables\.mdb"),
        (damage_no_journal, JournalMissing, "is missing"),
        (damage_no_segment, JournalMissing, "is missing"),
        (damage_segment, JournalCorrupt, r"byte 512, record 21\. Nothing was changed"),
        (damage_foreign_folder, NoVolume, "holds no volume"),
    ],
)
def test_a_damaged_volume_is_refused_and_left_as_it_is(
    folder: Path, damage: object, error: type[StoreError], says: str
) -> None:
    store = ShardStore.open(str(folder))
    for number in range(1, 41):
        take(store, step_writes(3, number))
        if number == 20:
            assert store.checkpoint()
    abandon(store)
    assert callable(damage)
    damage(folder)
    before = files(folder)
    for _ in range(2):
        with pytest.raises(error, match=says):
            ShardStore.open(str(folder))
        assert files(folder) == before


def test_a_missing_folder_is_no_volume(tmp_path: Path) -> None:
    with pytest.raises(NoVolume, match="create one, or correct the path"):
        ShardStore.open(str(tmp_path / "nowhere"))
    assert not (tmp_path / "nowhere").exists()


def test_records_in_a_later_segment_are_not_thrown_away(folder: Path, tmp_path: Path) -> None:
    """The tables were put back from an older copy."""
    shutil.copytree(folder, tmp_path / "copy")
    grow(folder, seed=1, count=5)
    store = ShardStore.open(str(folder))
    take(store, [(1, b"k", b"v")])
    abandon(store)
    shutil.copy(tmp_path / "copy/tables.mdb", folder / "tables.mdb")
    shutil.copy(tmp_path / "copy/journal" / f"{1:016x}.segment", folder / "journal")
    before = files(folder)
    with pytest.raises(JournalCorrupt, match="the tables end before it, with 0"):
        ShardStore.open(str(folder))
    assert files(folder) == before


def test_an_old_segment_that_came_back_after_a_power_loss_does_no_harm(folder: Path, tmp_path: Path) -> None:
    grow(folder, seed=1, count=5, leave=True)
    old = segment(folder)
    shutil.copy(old, tmp_path / old.name)
    store = ShardStore.open(str(folder))
    assert store.checkpoint()
    take(store, step_writes(1, 6))
    abandon(store)
    shutil.copy(tmp_path / old.name, old)
    store = ShardStore.open(str(folder))
    assert contents(store) == model_after(1, 6)
    store.close()
    assert not old.exists()


def test_a_power_loss_leaves_a_prefix_with_all_that_was_synced(folder: Path, tmp_path: Path) -> None:
    """Any subset of the sectors written since the last sync is on the disk."""
    random = Random(7)
    store = ShardStore.open(str(folder))
    on_disk = segment(folder).read_bytes()
    lost = 0
    for number in range(1, 121):
        position = take(store, step_writes(4, number))
        event = random.random()
        if event < 0.15:
            store.sync(position)
            on_disk = segment(folder).read_bytes()
        elif event < 0.2:
            assert store.checkpoint()
            on_disk = segment(folder).read_bytes()
        copy = tmp_path / "copy"
        shutil.copytree(folder, copy)
        now = segment(folder).read_bytes()
        mixed = bytearray(on_disk)
        share = random.choice([0.1, 0.5, 0.9])
        for at in range(0, len(now.rstrip(b"\0")), 512):
            if random.random() < share:
                mixed[at : at + 512] = now[at : at + 512]
        segment(copy).write_bytes(mixed)
        found = ShardStore.open(str(copy))
        assert store.synced_position <= found.position <= position
        lost += position - found.position
        assert contents(found) == model_after(4, found.position)
        # And it goes on from there.
        take(found, [(1, b"next", b"step")])
        abandon(found)
        found = ShardStore.open(str(copy))
        assert found.get(1, b"next") == b"step"
        abandon(found)
        shutil.rmtree(copy)
    store.close()
    assert lost > 50, "the test lost nothing, so it showed nothing"


def test_a_copy_with_a_sparse_or_short_journal_opens(folder: Path) -> None:
    grow(folder, seed=5, count=30, leave=True)
    path = segment(folder)
    data = path.read_bytes().rstrip(b"\0")
    path.write_bytes(data)
    (folder / "journal/spare").unlink()
    store = ShardStore.open(str(folder))
    assert contents(store) == model_after(5, 30)
    for number in range(31, 61):
        take(store, step_writes(5, number))
    abandon(store)
    store = ShardStore.open(str(folder))
    assert contents(store) == model_after(5, 60)
    store.close()


def test_a_scan_left_open_over_a_checkpoint_and_a_close(folder: Path) -> None:
    store = ShardStore.open(str(folder))
    take(store, [(1, b"%03d" % number, b"v") for number in range(300)])
    scans = [store.scan(Table.INODE, b"") for _ in range(50)]
    for scan in scans:
        next(scan)
    assert store.checkpoint()
    del scans[:25]
    take(store, [(1, b"more", b"v")])
    store.close()
    del scans


def test_the_transaction_moves_between_threads(folder: Path) -> None:
    """One lock around the steps, sync outside it, checkpoints in between."""
    store = ShardStore.open(str(folder))
    core_lock = threading.Lock()
    failures: list[str] = []

    def work() -> None:
        for _ in range(150):
            with core_lock:
                number = store.position + 1
                position = take(store, step_writes(8, number))
                if number % 40 == 0 and not store.checkpoint():
                    failures.append("checkpoint")
            store.sync(position)
            if store.synced_position < position:
                failures.append(f"sync {position}")

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert store.position == 600
    assert contents(store) == model_after(8, 600)
    abandon(store)
    store = ShardStore.open(str(folder))
    assert contents(store) == model_after(8, 600)
    store.close()


def test_check_finds_a_journal_changed_behind_our_back(folder: Path) -> None:
    store = ShardStore.open(str(folder))
    for number in range(1, 11):
        take(store, step_writes(6, number))
    assert store.check() == []
    damage_segment(folder)
    assert len(store.check()) == 1
    assert "a byte was changed" in store.check()[0]
    abandon(store)


def test_a_failed_checkpoint_on_a_full_journal_folder_goes_on(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A later checkpoint is asked for again, not at every step."""
    store = ShardStore.open(str(folder))
    monkeypatch.setattr(shard_store, "CHECKPOINT_KEYS", 80)
    monkeypatch.setattr(Journal, "prepare", lambda self: False)
    take(store, [(1, b"%d" % number, b"v") for number in range(100)])
    assert not store.checkpoint()
    assert not store.needs_checkpoint
    take(store, [(1, b"%d" % number, b"w") for number in range(100)])
    assert store.needs_checkpoint
    monkeypatch.undo()
    assert store.checkpoint()
    assert store.get(1, b"7") == b"w"
    store.close()


@pytest.mark.parametrize("crash", [True, False])
def test_an_old_segment_that_cannot_be_removed_stays_for_now(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, crash: bool
) -> None:
    store = ShardStore.open(str(folder))
    while store._journal.allocated < 3 * journal.PIECE_BYTES:
        take(store, [(1, b"large", os.urandom(900_000))])
    old = segment(folder)
    unlink = os.unlink

    def refuse(path: str) -> None:
        if path.endswith(".segment"):
            raise PermissionError(1, "not permitted", path)
        unlink(path)

    monkeypatch.setattr(os, "unlink", refuse)
    assert store.checkpoint()
    assert old.exists()
    assert "stays for now" in caplog.text
    for number in range(6):
        take(store, [(1, b"%d" % number, bytes(900_000))])
        assert store._journal.free_bytes >= 0, "a step was let in where the journal had no space"
    if crash:
        abandon(store)
        store = ShardStore.open(str(folder))
        assert old.exists()
    monkeypatch.undo()
    take(store, [(1, b"last", b"row")])
    assert store.checkpoint()
    assert not old.exists()
    segment(folder)
    store.close()
    store = ShardStore.open(str(folder))
    assert store.get(1, b"5") == bytes(900_000)
    assert store.get(1, b"last") == b"row"
    store.close()


def test_without_another_file_there_is_no_room_and_nothing_is_broken(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = ShardStore.open(str(folder))
    take(store, [(1, b"a", b"1")])
    assert store.checkpoint()
    opening = os.open

    def refuse(path: str, flags: int, mode: int = 0o777) -> int:
        if flags & os.O_CREAT:
            raise OSError(28, "no inodes left", path)
        return opening(path, flags, mode)

    (folder / "journal" / "spare").unlink()
    store._free_until = -1
    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(StoreFull):
        take(store, [(1, b"a", b"2")])
    monkeypatch.undo()
    take(store, [(1, b"a", b"3")])
    store.close()
