"""Memory that a reading of the tables took up is given back."""

from pathlib import Path

import pytest

from loligo_mds.core.tables import Table
from loligo_mds.store import shard_store
from loligo_mds.store.mapped_memory import drop_mapped_pages, mapped_file_bytes
from loligo_mds.store.shard_store import ShardStore

ROWS = 40_000
VALUE = bytes(1000)


def test_pages_of_the_tables_leave_the_process(tmp_path: Path) -> None:
    folder = str(tmp_path / "shard")
    ShardStore.create(folder, bytes(16))
    store = ShardStore.open(folder)
    try:
        for number in range(ROWS):
            if store.needs_checkpoint:
                store.checkpoint()
            store.reserve()
            key = number.to_bytes(8)
            store.put(Table.INODE, key, VALUE)
            store.append([(Table.INODE, key, VALUE)])
        store.checkpoint()
        assert sum(1 for _ in store.scan(Table.INODE, b"")) == ROWS
        full = mapped_file_bytes()
        drop_mapped_pages(f"{folder}/tables.mdb")
        assert mapped_file_bytes() < full - ROWS * len(VALUE) // 2
        assert store.get(Table.INODE, (7).to_bytes(8)) == VALUE
    finally:
        store.close()


def test_nothing_is_dropped_below_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shard_store, "MAPPED_LIMIT_BYTES", 1 << 40)
    monkeypatch.setattr(shard_store, "drop_mapped_pages", lambda path: pytest.fail("dropped"))
    folder = str(tmp_path / "shard")
    ShardStore.create(folder, bytes(16))
    store = ShardStore.open(folder)
    try:
        store.trim_memory()
        assert store.get(Table.INODE, b"none") is None
    finally:
        store.close()
