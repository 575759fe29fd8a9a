"""`check_shard` names what is wrong: every row of a healthy shard is removed or damaged in turn."""

from collections.abc import Callable

import pytest

from loligo_mds.core.entries import cookie_of
from loligo_mds.core.events import SessionOpened
from loligo_mds.core.invariants import check_shard
from loligo_mds.core.requests import (
    Create,
    CreateUnnamed,
    Link,
    Publish,
    RecordAccess,
    RemoveDirectory,
    RemoveTree,
    SetAttributes,
    SetXattr,
    Unlink,
    Unsettle,
)
from loligo_mds.core.state import COUNTERS_KEY
from loligo_mds.core.tables import Table
from loligo_mds.store.memory_tables import MemoryTables
from loligo_trash.batch import FLAG_HIGH, FLAG_LOW, FLAG_PAUSED, decode_batch
from loligo_trash.places import decode_place, encode_place
from loligo_trash.policy import MINIMUM_AGE_NAME
from loligo_wire import acl
from loligo_wire.attributes import (
    FLAG_ACCESS_ACL,
    FLAG_DEFAULT_ACL,
    FLAG_INLINE,
    FLAG_TRASH_POLICY,
    FLAG_XATTR,
    Attributes,
    decode_attributes,
)
from loligo_wire.ids import ROOT_INO
from unit.shard_lab import DIRECTORY, FILE, SYMLINK, ShardLab, rows

R = int(ROOT_INO)
NAMED_ACL = acl.encode(
    [(acl.USER_OBJ, 6, 0), (acl.USER, 4, 7), (acl.GROUP_OBJ, 4, 0), (acl.MASK, 4, 0), (acl.OTHER, 0, 0)]
)


class Healthy(ShardLab):
    """Every table has rows."""

    def __init__(self) -> None:
        super().__init__()
        self.event(SessionOpened(1, b"who", takes_leases=True))
        self.d = self.make(b"d", DIRECTORY)
        self.sub = self.make(b"d/sub", DIRECTORY)
        self.link = self.make(b"link", SYMLINK, b"target")
        self.inline = self.make(b"inline")
        self.ask(Publish(self.inline, 4, 1, b"four"))
        self.f = self.make(b"f")
        self.ask(Link(self.f, self.d, b"g"))
        self.ask(Unsettle(self.f, 9000))
        self.ask(Publish(self.f, 9000, 1))
        self.ask(SetXattr(self.f, b"user.a", b"1"))
        self.ask(SetXattr(self.f, acl.ACCESS_NAME, NAMED_ACL))
        self.ask(SetXattr(self.d, acl.DEFAULT_NAME, NAMED_ACL))
        self.ask(SetXattr(self.d, MINIMUM_AGE_NAME, b"0"))
        self.dead = self.make(b"d/dead", DIRECTORY)
        self.buried = self.make(b"d/dead/buried")
        self.ask(Publish(self.buried, 9000, 1))
        self.ask(Unlink(self.dead, b"buried", 10, 7))
        self.ask(RemoveDirectory(self.d, b"dead", 10, 7))
        self.tree = self.make(b"d/tree", DIRECTORY)
        self.below = self.make(b"d/tree/below", DIRECTORY)
        assert self.patient_reply(RemoveTree(self.d, b"tree", 10, 7, b"label")).errno == 0
        self.orphan = self.ask(CreateUnnamed(R, FILE, 0, 0)).ino
        self.reply(RecordAccess(R, 1), sequence=3)

    def alter(self, ino: int, change: Callable[[Attributes], None]) -> None:
        key = ino.to_bytes(8)
        record = self.tables.get(Table.INODE, key)
        assert record is not None
        attributes = decode_attributes(ino, record)
        change(attributes)
        self.tables.put(Table.INODE, key, attributes.encode())


def problems_of(tables: MemoryTables) -> str:
    return "\n".join(check_shard(tables))


def test_every_table_has_rows() -> None:
    assert {Table(table) for table, _ in rows(Healthy().tables)} == set(Table)


def test_every_missing_row_is_noticed() -> None:
    """But for the extra doubt of an UNSETTLED row, what a session had, and one xattr of several."""
    free = {Table.UNSETTLED, Table.REPLY, Table.CLIENT, Table.DELEGATION}
    for table, key in rows(Healthy().tables):
        healthy = Healthy()
        if table in free or key.endswith(b"user.a"):
            continue
        healthy.tables.delete(table, key)
        assert check_shard(healthy.tables), f"{Table(table).name} {key!r}"


def test_every_row_of_a_wrong_length_is_noticed() -> None:
    for table, key in rows(Healthy().tables):
        healthy = Healthy()
        value = healthy.tables.get(table, key)
        assert value is not None
        if table in (Table.XATTR, Table.INLINE, Table.ORPHAN, Table.CLIENT, Table.TRASH_DUE):
            continue
        healthy.tables.put(table, key, value[: 5 if table in (Table.REPLY, Table.TRASH_BATCH) else -1])
        assert check_shard(healthy.tables), f"{Table(table).name} {key!r}"


def test_every_key_of_a_wrong_length_is_noticed() -> None:
    for table in Table:
        if table != Table.META:
            healthy = Healthy()
            healthy.tables.put(table, b"short", b"")
            assert f"table {table.name} " in problems_of(healthy.tables)


def set_to(name: str, value: object) -> Callable[[Attributes], None]:
    return lambda attributes: setattr(attributes, name, value)


def flip(flag: int) -> Callable[[Attributes], None]:
    def change(attributes: Attributes) -> None:
        attributes.flags ^= flag

    return change


@pytest.mark.parametrize(
    ("which", "change", "said"),
    [
        ("f", set_to("nlink", 3), "has nlink 3 and 2 names"),
        ("f", set_to("mode", 0o120644), "says type"),
        ("f", set_to("mode", 0o100777), "its ACL says"),
        ("f", set_to("size", 1), "counters say"),
        ("f", set_to("block_bytes", 0), "has no block size"),
        ("f", set_to("block_bytes", 1), "blocks of"),
        ("f", flip(FLAG_INLINE), "disagree whether its content is inline"),
        ("f", flip(FLAG_XATTR), "of xattrs"),
        ("f", flip(FLAG_ACCESS_ACL), "of xattrs"),
        ("inline", set_to("size", 5), "inline 4 bytes"),
        ("inline", flip(FLAG_INLINE), "disagree whether its content is inline"),
        ("link", set_to("size", 5), "inline 6 bytes"),
        ("d", set_to("size", 1), "has size 1 and 2 entries"),
        ("d", set_to("nlink", 2), "has nlink 2 and 1 subdirectories"),
        ("d", set_to("parent", 77), "cannot be reached"),
        ("d", set_to("name", b"other"), "says it is b'other'"),
        ("d", flip(FLAG_DEFAULT_ACL), "of xattrs"),
        ("orphan", set_to("nlink", 1), "orphan is True"),
        ("buried", set_to("trashed", 0), "orphan is False"),
        ("buried", set_to("trashed", 2), "says 2 names in the trash; there are 1"),
        ("dead", set_to("name", b"other"), "says it was b'other' in"),
        ("dead", set_to("trashed", 0), "says 0 names in the trash; there are 1"),
        ("d", set_to("trashed", 1), "says 1 names in the trash; there are 0"),
        ("orphan", set_to("trashed", 1), "says 1 names in the trash; there are 0"),
        ("buried", set_to("mode", 0o120644), "is an inode of type 100000"),
        ("tree", set_to("size", 0), "has size 0 and 1 entries"),
        ("below", set_to("parent", 77), "cannot be reached"),
        ("d", flip(FLAG_TRASH_POLICY), "of xattrs"),
    ],
)
def test_a_wrong_field(which: str, change: Callable[[Attributes], None], said: str) -> None:
    healthy = Healthy()
    healthy.alter(getattr(healthy, which), change)
    assert said in problems_of(healthy.tables)


def entry(directory: int, name: bytes) -> bytes:
    return directory.to_bytes(8) + cookie_of(name).to_bytes(8) + name


def test_a_loop_is_noticed() -> None:
    healthy = Healthy()
    tables = healthy.tables
    tables.put(Table.DENTRY, entry(healthy.sub, b"d"), healthy.d.to_bytes(8) + b"\4")
    tables.delete(Table.DENTRY, entry(R, b"d"))
    healthy.alter(healthy.d, set_to("parent", healthy.sub))
    healthy.alter(healthy.sub, set_to("size", 1))
    healthy.alter(healthy.sub, set_to("nlink", 3))
    healthy.alter(R, set_to("size", 3))
    healthy.alter(R, set_to("nlink", 2))
    assert check_shard(tables) == [
        f"directory {ino} cannot be reached from the root" for ino in (healthy.d, healthy.sub)
    ]


@pytest.mark.parametrize(
    ("table", "key", "value", "said"),
    [
        (Table.DENTRY, entry(R, b"ghost"), (99).to_bytes(8) + b"\x08", "names inode 99, which does not exist"),
        (Table.DENTRY, entry(98, b"x"), (6).to_bytes(8) + b"\x08", "no such directory"),
        (Table.DENTRY, entry(R, b"a/b"), (6).to_bytes(8) + b"\x08", "no valid name"),
        (Table.DENTRY, R.to_bytes(8) + bytes(8) + b"x", (6).to_bytes(8) + b"\x08", "not its own"),
        (Table.DENTRY, entry(R, b"second"), (3).to_bytes(8) + b"\4", "directory 3 has 2 names"),
        (Table.ORPHAN, (99).to_bytes(8), b"", "ORPHAN has a row for inode 99"),
        (Table.INLINE, (99).to_bytes(8), b"", "INLINE has a row for inode 99"),
        (Table.XATTR, (99).to_bytes(8) + b"user.a", b"", "XATTR has a row for inode 99"),
        (Table.XATTR, (3).to_bytes(8) + acl.DEFAULT_NAME, b"nonsense", "invalid ACL"),
        (Table.XATTR, (2).to_bytes(8) + acl.DEFAULT_NAME, acl.encode([]), "empty ACL"),
        (Table.UNSETTLED, (3).to_bytes(8), bytes(16) + b"\1\0\0\0", "unsettled inode 3"),
        (Table.UNSETTLED, (99).to_bytes(8), bytes(20), "unsettled inode 99"),
        (Table.REPLY, (1).to_bytes(8) + (4).to_bytes(8), bytes(12), "request 4 of session 1"),
        (Table.META, COUNTERS_KEY, bytes(24), "counters say 0 inodes"),
        (Table.META, COUNTERS_KEY, bytes(24), "beyond the next number"),
    ],
)
def test_a_wrong_row(table: Table, key: bytes, value: bytes, said: str) -> None:
    healthy = Healthy()
    healthy.tables.put(table, key, value)
    assert said in problems_of(healthy.tables)


def altered(healthy: Healthy, table: Table, **change: int) -> str:
    """What is said when the first batch is another."""
    batch = decode_batch(1, healthy.tables.get(Table.TRASH_BATCH, (1).to_bytes(8)) or b"")
    for name, value in change.items():
        setattr(batch, name, value)
    healthy.tables.put(table, (1).to_bytes(8), batch.encode())
    return problems_of(healthy.tables)


def test_a_batch_that_counts_wrong_or_is_not_looked_at_in_time() -> None:
    for change in ({"names": 3}, {"inodes": 1}, {"size_bytes": 8999}, {"names": 0}):
        assert "batch 1 says" in altered(Healthy(), Table.TRASH_BATCH, **change)
    assert "nobody looks before" in altered(Healthy(), Table.TRASH_BATCH, retention_ns=5)
    assert "nobody looks before" in altered(Healthy(), Table.TRASH_BATCH, flags=FLAG_HIGH)
    assert "nobody looks before" in altered(Healthy(), Table.TRASH_BATCH, flags=FLAG_LOW)
    assert not altered(Healthy(), Table.TRASH_BATCH, flags=FLAG_PAUSED)
    healthy = Healthy()
    healthy.tables.put(Table.TRASH_DUE, b"x" + bytes(15) + b"\1", b"")
    assert "where nobody looks" in problems_of(healthy.tables)


def test_a_place_that_cannot_be_read_or_leads_elsewhere() -> None:
    healthy = Healthy()
    key = (1).to_bytes(8) + healthy.d.to_bytes(8)
    record = healthy.tables.get(Table.TRASH_PLACE, key)
    assert record is not None
    healthy.tables.put(Table.TRASH_PLACE, key, record[:12])
    assert "the record of a place" in problems_of(healthy.tables)
    place = decode_place(record)
    healthy.tables.put(Table.TRASH_PLACE, key, encode_place(0, place.steps[:1]))
    assert f"the way to directory {healthy.d} is [1]" in problems_of(healthy.tables)


def test_the_trash_is_counted() -> None:
    healthy = Healthy()
    counters = bytearray(healthy.tables.get(Table.META, COUNTERS_KEY) or b"")
    counters[-8] += 1
    healthy.tables.put(Table.META, COUNTERS_KEY, bytes(counters))
    assert "in the trash; there are [3, 9000]" in problems_of(healthy.tables)


def test_an_empty_shard_has_no_root() -> None:
    tables = MemoryTables()
    tables.put(Table.META, COUNTERS_KEY, bytes(24))
    assert "there is no root directory" in check_shard(tables)


def test_a_name_that_is_not_utf8_is_told(lab: ShardLab) -> None:
    made = lab.ask(Create(R, b"\xff", FILE, 0, 0))
    lab.ask(SetAttributes(made.ino, size=3))
    lab.tables.delete(Table.INODE, made.ino.to_bytes(8))
    assert "b'\\xff'" in problems_of(lab.tables)
