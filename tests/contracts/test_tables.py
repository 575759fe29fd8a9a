"""The contract of `core.tables.Tables`, held against every implementation."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from loligo_mds.core.tables import Table, Tables
from loligo_mds.store.memory_tables import MAX_KEY_BYTES, MemoryTables
from loligo_mds.store.shard_store import ShardStore

# META holds rows of the store's own; the tests scan others.
SCANNED: list[Table] = [table for table in Table if table != Table.META]


@pytest.fixture(params=["memory", "lmdb"])
def tables(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Tables]:
    if request.param == "memory":
        yield MemoryTables()
        return
    folder = str(tmp_path / "volume")
    ShardStore.create(folder, bytes(range(16)))
    store = ShardStore.open(folder)
    yield store
    store.close()


def rows(tables: Tables, table: int, first: bytes = b"") -> list[tuple[bytes, bytes]]:
    return list(tables.scan(table, first))


def test_a_row_is_found_by_its_key_in_its_table_only(tables: Tables) -> None:
    for table in Table:
        assert tables.get(table, b"key") is None
        tables.put(table, b"key", b"in %d" % table)
    for table in Table:
        assert tables.get(table, b"key") == b"in %d" % table
        assert tables.get(table, b"ke") is None
        assert tables.get(table, b"key\0") is None


def test_put_replaces(tables: Tables) -> None:
    tables.put(Table.INODE, b"k", b"long value" * 100)
    tables.put(Table.INODE, b"k", b"short")
    assert rows(tables, Table.INODE) == [(b"k", b"short")]


def test_a_value_may_be_empty(tables: Tables) -> None:
    tables.put(Table.ORPHAN, b"k", b"")
    assert tables.get(Table.ORPHAN, b"k") == b""
    assert rows(tables, Table.ORPHAN) == [(b"k", b"")]


def test_delete_removes_and_a_missing_key_is_no_error(tables: Tables) -> None:
    tables.put(Table.INODE, b"a", b"1")
    tables.put(Table.INODE, b"b", b"2")
    tables.delete(Table.INODE, b"a")
    tables.delete(Table.INODE, b"a")
    tables.delete(Table.DENTRY, b"never there")
    assert rows(tables, Table.INODE) == [(b"b", b"2")]


def test_keys_up_to_the_limit_and_no_longer(tables: Tables) -> None:
    longest = b"\xff" * MAX_KEY_BYTES
    tables.put(Table.DENTRY, longest, b"v")
    assert tables.get(Table.DENTRY, longest) == b"v"
    for key in (b"", longest + b"\xff"):
        with pytest.raises(ValueError, match="a key has 1 to 511 bytes"):
            tables.put(Table.DENTRY, key, b"v")
    assert rows(tables, Table.DENTRY) == [(longest, b"v")]
    assert tables.get(Table.DENTRY, longest + b"\xff") is None


def test_large_values(tables: Tables) -> None:
    values = {b"%d" % size: bytes([size % 251]) * size for size in (4000, 4096, 65536, 700_000)}
    for key, value in values.items():
        tables.put(Table.INLINE, key, value)
    assert dict(tables.scan(Table.INLINE, b"")) == values


def test_scan_begins_at_the_first_key_not_below(tables: Tables) -> None:
    keys = [b"\0", b"\0\0", b"a", b"a\0", b"aa", b"b", b"\xff", b"\xff\xff"]
    for key in reversed(keys):
        tables.put(Table.DENTRY, key, b"v" + key)
    for first in [b"", b"\0\0\0", b"a", b"a\0", b"ab", b"c", b"\xff\xff", b"\xff\xff\xff"]:
        expected = [(key, b"v" + key) for key in sorted(keys) if key >= first]
        assert rows(tables, Table.DENTRY, first) == expected


def test_a_scan_sees_neither_other_tables_nor_deleted_rows(tables: Tables) -> None:
    tables.put(Table.INODE, b"z", b"")
    tables.put(Table.XATTR, b"z", b"")
    tables.put(Table.DENTRY, b"a", b"")
    tables.put(Table.DENTRY, b"b", b"")
    tables.delete(Table.DENTRY, b"a")
    assert rows(tables, Table.DENTRY) == [(b"b", b"")]


def test_a_scan_may_be_left_half_way_and_changes_follow(tables: Tables) -> None:
    for number in range(300):
        tables.put(Table.DENTRY, b"%03d" % number, b"v" * 50)
    for number in range(0, 300, 7):
        scan = tables.scan(Table.DENTRY, b"%03d" % number)
        assert next(scan) == (b"%03d" % number, b"v" * 50)
        tables.delete(Table.DENTRY, b"%03d" % number)
        del scan
    assert len(rows(tables, Table.DENTRY)) == 300 - len(range(0, 300, 7))


KEYS = st.one_of(
    st.binary(min_size=1, max_size=3),
    st.integers(1, 40).map(lambda ino: ino.to_bytes(8, "big")),
    st.binary(min_size=MAX_KEY_BYTES - 1, max_size=MAX_KEY_BYTES),
)
OPERATIONS = st.lists(
    st.one_of(
        st.tuples(
            st.sampled_from(SCANNED),
            KEYS,
            st.one_of(st.none(), st.binary(max_size=20), st.just(b"x" * 5000)),
        ),
        st.just("checkpoint"),
    ),
    max_size=60,
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(operations=OPERATIONS, first=KEYS)
def test_lmdb_and_memory_agree(
    shared_store: ShardStore,
    operations: list[tuple[Table, bytes, bytes | None] | str],
    first: bytes,
) -> None:
    store = shared_store
    memory = MemoryTables()
    for table in SCANNED:
        gone: list[tuple[int, bytes, bytes | None]] = [(table, key, None) for key, _ in rows(store, table)]
        for _, key, _ in gone:
            store.delete(table, key)
        store.append(gone)
    for operation in operations:
        if isinstance(operation, str):
            assert store.checkpoint()
            continue
        table, key, value = operation
        assert store.get(table, key) == memory.get(table, key)
        store.reserve()
        for tables in (store, memory):
            if value is None:
                tables.delete(table, key)
            else:
                tables.put(table, key, value)
        store.append([operation])
    for table in SCANNED:
        assert rows(store, table) == rows(memory, table)
        assert rows(store, table, first) == rows(memory, table, first)


@pytest.fixture(scope="module")
def shared_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ShardStore]:
    folder = str(tmp_path_factory.mktemp("tables") / "volume")
    ShardStore.create(folder, bytes(range(16)))
    store = ShardStore.open(folder)
    yield store
    store.close()
