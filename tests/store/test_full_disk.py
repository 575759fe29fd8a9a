"""A disk that is really full: a small tmpfs."""

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import pytest

from loligo_mds.core.tables import Write
from loligo_mds.store.errors import StoreFull
from loligo_mds.store.shard_store import ShardStore
from store.steps import UUID, Model, abandon, contents, segment, take, update

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")

MIB = 1 << 20


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Callable[[int], Path]]:
    """Mount a tmpfs of so many MiB."""
    mounted: list[Path] = []

    def mount(mib: int) -> Path:
        path = tmp_path / "disk"
        path.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={mib}m", "loligo-test", path], check=True)
        mounted.append(path)
        return path

    yield mount
    for path in mounted:
        subprocess.run(["umount", "--lazy", path], check=True)


def fill(disk: Path, leave_bytes: int = 0) -> Path:
    """A file of somebody else's, with all the space but `leave_bytes`."""
    path = disk / "somebody-elses"
    status = os.statvfs(disk)
    with open(path, "wb") as file:
        os.posix_fallocate(file.fileno(), 0, status.f_bavail * status.f_bsize - leave_bytes)
    return path


def file_step(number: int) -> list[Write]:
    """About what creating a small file writes."""
    key = number.to_bytes(8, "big")
    return [(1, key, bytes([number % 251]) * 120), (2, b"d" + key, key), (4, key, key * 100)]


def grow_until_full(store: ShardStore, model: Model, first: int) -> int:
    """Create files until the store refuses; how many there are then."""
    number = first
    while True:
        writes = file_step(number)
        before = store.position
        try:
            take(store, writes)
        except StoreFull as full:
            assert "delete files, or give space" in str(full)
            assert store.position == before
            return number - 1
        update(model, writes)
        if store.needs_checkpoint:
            store.checkpoint()
        number += 1


def delete(store: ShardStore, model: Model, numbers: range) -> None:
    for number in numbers:
        writes: list[Write] = [(table, key, None) for table, key, _ in file_step(number)]
        take(store, writes, reclaiming=True)
        update(model, writes)
        if store.needs_checkpoint:
            store.checkpoint()


def reopened(store: ShardStore, folder: Path, kill: bool) -> ShardStore:
    if kill:
        abandon(store)
    else:
        store.close()
    return ShardStore.open(str(folder))


@pytest.mark.parametrize("kill", [False, True], ids=["close", "kill"])
def test_a_disk_filled_by_the_volume_itself(disk: Callable[[int], Path], kill: bool) -> None:
    folder = disk(48) / "volume"
    ShardStore.create(str(folder), UUID)
    store = ShardStore.open(str(folder))
    model: Model = {}
    count = grow_until_full(store, model, 1)
    assert count > 10_000
    assert contents(store) == model
    with pytest.raises(StoreFull):
        take(store, file_step(count + 1))
    store = reopened(store, folder, kill)
    assert contents(store) == model
    with pytest.raises(StoreFull):
        take(store, file_step(count + 1))
    # Everything can be deleted, then everything fits again.
    delete(store, model, range(1, count + 1))
    assert model == {}
    assert contents(store) == {}
    again = grow_until_full(store, model, 1)
    assert again > count * 0.8
    assert contents(store) == model
    store = reopened(store, folder, kill)
    assert contents(store) == model
    assert store.check() == []
    store.close()


def test_a_disk_filled_by_somebody_else(disk: Callable[[int], Path]) -> None:
    root = disk(64)
    folder = root / "volume"
    ShardStore.create(str(folder), UUID)
    store = ShardStore.open(str(folder))
    model: Model = {}
    for number in range(1, 2001):
        take(store, file_step(number))
        update(model, file_step(number))
    other = fill(root)
    count = grow_until_full(store, model, 2001)
    # Checkpoints come sooner than after 24,000 keys, so that each finds room for its pages.
    assert store.checkpoint()
    keys = 0
    while not store.needs_checkpoint:
        take(store, [(3, b"%d" % key, None) for key in range(10)], reclaiming=True)
        keys += 10
    assert 500 < keys < 3000
    delete(store, model, range(500, 1500))
    assert contents(store) == model
    abandon(store)
    store = ShardStore.open(str(folder))
    assert contents(store) == model
    other.unlink()
    take(store, file_step(count + 1))
    update(model, file_step(count + 1))
    assert store.checkpoint()
    store.close()
    store = ShardStore.open(str(folder))
    assert contents(store) == model
    store.close()


def test_a_sparse_copy_on_a_full_disk(disk: Callable[[int], Path]) -> None:
    """The journal's space ahead is holes after a copy: it does not count as there."""
    root = disk(48)
    folder = root / "volume"
    ShardStore.create(str(folder), UUID)
    path = segment(folder)
    data = path.read_bytes()
    path.write_bytes(data.rstrip(b"\0"))
    os.truncate(path, len(data))
    other = fill(root)
    store = ShardStore.open(str(folder))
    for reclaiming in (False, True):
        with pytest.raises(StoreFull):
            take(store, file_step(1), reclaiming)
    other.unlink()
    take(store, file_step(1))
    store.close()


def test_a_commit_that_finds_no_space_loses_nothing(disk: Callable[[int], Path]) -> None:
    """More pages change than were allocated ahead, and somebody else takes the rest of the disk meanwhile."""
    root = disk(96)
    folder = root / "volume"
    ShardStore.create(str(folder), UUID)
    store = ShardStore.open(str(folder))
    model: Model = {}
    rows = 100_000
    for start in range(0, rows, 1000):
        writes: list[Write] = [(1, number.to_bytes(8, "big"), b"r" * 150) for number in range(start, start + 1000)]
        take(store, writes)
        update(model, writes)
    assert store.checkpoint()
    random = Random(1)
    for _ in range(200):
        writes = [(1, random.randrange(rows).to_bytes(8, "big"), random.randbytes(150)) for _ in range(90)]
        take(store, writes)
        update(model, writes)
    other = fill(root)
    descriptors = len(os.listdir("/proc/self/fd"))
    assert not store.checkpoint()
    assert len(os.listdir("/proc/self/fd")) == descriptors
    assert {path.name for path in (folder / "journal").iterdir()} == {
        "spare",
        segment(folder).name,
    }
    assert contents(store) == model
    with pytest.raises(StoreFull, match=r"no space left for metadata \(the tables: .*0 MiB are free"):
        take(store, [(1, b"new", b"row")])
    delete(store, model, range(1, 50))
    store.sync(store.position)
    assert contents(store) == model
    abandon(store)
    store = ShardStore.open(str(folder))
    assert contents(store) == model
    assert not store.checkpoint()
    other.unlink()
    take(store, file_step(7))
    update(model, file_step(7))
    assert store.checkpoint()
    assert contents(store) == model
    store.close()


def test_no_space_for_a_new_volume(disk: Callable[[int], Path]) -> None:
    folder = disk(6) / "volume"
    with pytest.raises(StoreFull, match="give it 32 MiB"):
        ShardStore.create(str(folder), UUID)
