"""Seeded random steps, and what the tables must hold after any number of them."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random

import pytest

from loligo_mds.core.tables import Table, Write
from loligo_mds.store import journal, lmdb_tables, shard_store
from loligo_mds.store.shard_store import ShardStore

UUID = bytes(range(16))
Model = dict[tuple[int, bytes], bytes]

#: Every table, but for the rows that the store keeps in META.
OWN_PREFIX = b"store."


def step_writes(seed: int, number: int) -> list[Write]:
    """The writes of step `number`, from 1. Some large, some with nothing but zeros, some deletions."""
    random = Random(seed * 1_000_003 + number)
    writes: list[Write] = []
    for _ in range(random.randint(1, 5)):
        key = random.randint(1, 60).to_bytes(8, "big")
        kind = random.random()
        value: bytes | None
        if kind < 0.25:
            value = None
        elif kind < 0.35:
            value = bytes(random.choice([0, 1, 511, 512, 4000]))
        else:
            value = random.randbytes(random.choice([0, 8, 120, 900]))
        writes.append((random.choice(list(Table)), key, value))
    return writes


def apply(tables: ShardStore, writes: list[Write]) -> None:
    for table, key, value in writes:
        if value is None:
            tables.delete(table, key)
        else:
            tables.put(table, key, value)


def take(store: ShardStore, writes: list[Write], reclaiming: bool = False) -> int:
    """One whole step, as the shell does it."""
    store.reserve(reclaiming)
    apply(store, writes)
    return store.append(writes)


def model_after(seed: int, count: int) -> Model:
    model: Model = {}
    for number in range(1, count + 1):
        update(model, step_writes(seed, number))
    return model


def update(model: Model, writes: list[Write]) -> None:
    for table, key, value in writes:
        if value is None:
            model.pop((table, key), None)
        else:
            model[table, key] = value


def contents(store: ShardStore) -> Model:
    return {
        (table, key): value
        for table in Table
        for key, value in store.scan(table, b"")
        if not key.startswith(OWN_PREFIX)
    }


def abandon(store: ShardStore) -> None:
    """What kill -9 does to the process's side: no checkpoint, the lock is gone, the files stay as they are."""
    store._journal.close()
    store._tables.close()
    os.close(store._lock_fd)


def files(folder: Path) -> dict[str, bytes]:
    """All but the lock, whose note says who looked last."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "lock"
    }


def segment(folder: Path) -> Path:
    """The segment in use."""
    (path,) = (folder / "journal").glob("*.segment")
    return path


@contextmanager
def small_pieces() -> Iterator[None]:
    """Limits so small that a few hundred steps meet all of them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(journal, "PIECE_BYTES", 32 << 10)
        patch.setattr(journal, "MAX_RECORD_BYTES", 24 << 10)
        patch.setattr(shard_store, "MAX_RECORD_BYTES", 24 << 10)
        patch.setattr(shard_store, "LAST_RESERVE_BYTES", 8 << 10)
        patch.setattr(shard_store, "CHECKPOINT_BYTES", 64 << 10)
        patch.setattr(lmdb_tables, "ROOM_BYTES", 64 << 10)
        yield
