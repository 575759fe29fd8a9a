"""What a shard answers and wants done, request by request. `ShardLab` checks the tables after every step."""

from collections.abc import Iterator
from itertools import pairwise

import pytest

from loligo_mds.core import entries
from loligo_mds.core.effects import AppendJournal, RemoveObjects, Reply
from loligo_mds.core.entries import cookie_of
from loligo_mds.core.events import SessionEnded, SessionOpened, ShardRestarted, Submitted
from loligo_mds.core.namespace import RENAME_EXCHANGE, RENAME_NOREPLACE
from loligo_mds.core.requests import (
    Close,
    Create,
    CreateUnnamed,
    GetAttributes,
    GetUsage,
    GetXattr,
    Link,
    ListUnsettled,
    ListXattrs,
    Lookup,
    Open,
    Publish,
    ReadDirectory,
    ReadInline,
    ReadLink,
    RecordAccess,
    RemoveDirectory,
    RemoveXattr,
    Rename,
    SetAttributes,
    Settle,
    SetXattr,
    Unlink,
    Unsettle,
    Usage,
)
from loligo_mds.core.shard import Shard
from loligo_mds.core.state import InvariantBroken
from loligo_mds.core.tables import Table
from loligo_mds.store.memory_tables import MemoryTables
from loligo_wire.attributes import (
    FLAG_INLINE,
    FLAG_SPARSE,
    FLAG_XATTR,
    NS_MAX,
    Attributes,
)
from loligo_wire.ids import ROOT_INO
from unit.shard_lab import BLOCK_BYTES, DIRECTORY, FILE, SYMLINK, ShardLab

R = int(ROOT_INO)


def unsettled(lab: ShardLab) -> list[tuple[int, int, int]]:
    """(ino, start, end) of every row."""
    return [row[:3] for row in lab.ask(ListUnsettled(0, 1000))]


# -- one step -------------------------------------------------------------------------------------------------------


def test_a_create_is_journaled_before_it_is_answered() -> None:
    lab = ShardLab()
    effects = lab.event(Submitted(1, 0, Create(R, b"f", FILE, 10, 20, umask=0o022), id=7))
    now = lab.now_ns
    made = Attributes(
        2,
        0o100644,
        10,
        20,
        1,
        block_bytes=BLOCK_BYTES,
        parent=R,
        atime_ns=now,
        mtime_ns=now,
        ctime_ns=now,
        btime_ns=now,
    )
    assert isinstance(effects[0], AppendJournal)
    assert [Table(table).name for table, _, _ in effects[0].writes] == ["INODE", "DENTRY", "INODE", "META"]
    assert effects[1:] == [Reply(1, 7, made)]
    assert lab.ask(GetAttributes(2)) == made
    root = lab.ask(GetAttributes(R))
    assert (root.size, root.nlink, root.mtime_ns, root.ctime_ns, root.atime_ns) == (1, 2, now, now, 1000)


def test_answers_are_snapshots() -> None:
    lab = ShardLab()
    ino = lab.make(b"f")
    before = lab.ask(GetAttributes(ino))
    lab.ask(SetAttributes(ino, mode=0o600, size=5))
    lab.ask(Link(ino, R, b"again"))
    assert (before.mode, before.size, before.nlink) == (0o100644, 0, 1)


def test_an_event_that_is_none() -> None:
    with pytest.raises(TypeError):
        ShardLab().shard.step(1, "nonsense")  # type: ignore[arg-type]


def test_an_uninitialised_shard_does_not_start() -> None:
    with pytest.raises(InvariantBroken):
        Shard(0, MemoryTables(), BLOCK_BYTES)


def test_an_entry_without_its_inode_stops_the_shard() -> None:
    lab = ShardLab()
    ino = lab.make(b"f")
    lab.tables.delete(Table.INODE, ino.to_bytes(8))
    shard = Shard(0, lab.tables, BLOCK_BYTES)
    with pytest.raises(InvariantBroken):
        shard.step(1, Submitted(1, 0, Lookup(R, b"f")))


# -- names ----------------------------------------------------------------------------------------------------------


def test_lookup(lab: ShardLab) -> None:
    d = lab.make(b"d", DIRECTORY)
    sub = lab.make(b"d/sub", DIRECTORY)
    assert lab.ask(Lookup(d, b"missing")) is None
    assert lab.ask(Lookup(d, b"sub")).ino == sub
    assert lab.ask(Lookup(d, b".")).ino == d
    assert lab.ask(Lookup(sub, b"..")).ino == d
    assert lab.ask(Lookup(R, b"..")).ino == R


@pytest.mark.parametrize("kind", [0o010000, 0o020000, 0o040000, 0o060000, 0o100000, 0o120000, 0o140000])
def test_every_type_of_inode(lab: ShardLab, kind: int) -> None:
    ino = lab.make(b"x", kind | 0o644, target=b"to", rdev=259)
    made = lab.ask(GetAttributes(ino))
    assert made.mode == kind | 0o644
    assert made.rdev == (259 if kind in (0o020000, 0o060000) else 0)
    assert made.block_bytes == (BLOCK_BYTES if kind == 0o100000 else 0)
    assert made.nlink == (2 if kind == 0o040000 else 1)
    assert [entry[3] for entry in lab.ask(ReadDirectory(R, 0, 10))] == [kind]
    lab.ask(RemoveDirectory(R, b"x") if kind == 0o040000 else Unlink(R, b"x"))
    assert lab.ask(GetUsage()) == Usage(1, 0)


def test_a_symbolic_link_keeps_its_target(lab: ShardLab) -> None:
    ino = lab.make(b"l", SYMLINK, b"../somewhere")
    assert lab.ask(ReadLink(ino)) == b"../somewhere"
    assert lab.ask(GetAttributes(ino)).size == 12
    assert lab.ask(GetUsage()).size_bytes == 0, "usage adds up files only"


def test_a_set_group_id_directory_hands_down_its_group(lab: ShardLab) -> None:
    d = lab.make(b"d", 0o042775)
    lab.ask(SetAttributes(d, gid=77))
    assert lab.ask(GetAttributes(lab.make(b"d/f"))).gid == 77
    sub = lab.ask(GetAttributes(lab.make(b"d/sub", DIRECTORY)))
    assert (sub.gid, sub.mode) == (77, 0o042755)


def test_the_umask_takes_bits_away(lab: ShardLab) -> None:
    assert lab.ask(Create(R, b"f", 0o104777, 0, 0, umask=0o027)).mode == 0o104750


def test_links(lab: ShardLab) -> None:
    f = lab.make(b"f")
    d = lab.make(b"d", DIRECTORY)
    assert lab.ask(Link(f, d, b"g")).nlink == 2
    assert lab.ask(Unlink(R, b"f")).nlink == 1
    assert lab.look(b"f") is None
    assert lab.ask(Unlink(d, b"g")).nlink == 0
    lab.refused(GetAttributes(f), 2)
    assert lab.ask(GetUsage()) == Usage(2, 0)


def test_removing_a_directory(lab: ShardLab) -> None:
    lab.make(b"d", DIRECTORY)
    gone = lab.ask(RemoveDirectory(R, b"d"))
    assert gone.nlink == 0
    root = lab.ask(GetAttributes(R))
    assert (root.nlink, root.size, root.mtime_ns) == (2, 0, lab.now_ns - 1)


def test_the_last_name_of_a_file_asks_for_its_objects_to_go(lab: ShardLab) -> None:
    f = lab.make(b"f")
    lab.ask(Unsettle(f, 8192))
    lab.ask(Publish(f, 5000, 7))
    lab.ask(Settle([f]))
    lab.ask(Unlink(R, b"f"))
    assert lab.removals() == [RemoveObjects(f, 5000, BLOCK_BYTES)]
    assert lab.ask(ListUnsettled(0, 10)) == [(f, 0, 5000, BLOCK_BYTES, None)]
    lab.ask(Settle([f]))
    assert unsettled(lab) == []


def test_a_small_file_leaves_nothing_behind(lab: ShardLab) -> None:
    f = lab.make(b"f")
    lab.ask(Publish(f, 4, 7, b"four"))
    lab.ask(SetXattr(f, b"user.a", b"1"))
    lab.ask(Unlink(R, b"f"))
    assert lab.removals() == []
    assert all(not list(lab.tables.scan(table, b"")) for table in (Table.INLINE, Table.XATTR, Table.UNSETTLED))


# -- moving ---------------------------------------------------------------------------------------------------------


def test_rename_within_a_directory(lab: ShardLab) -> None:
    f = lab.make(b"f")
    assert lab.ask(Rename(R, b"f", R, b"g")) is None
    assert lab.look(b"f") is None
    found = lab.look(b"g")
    assert found is not None
    assert (found.ino, found.ctime_ns) == (f, lab.now_ns - 2)


def test_rename_over_a_file(lab: ShardLab) -> None:
    new, old = lab.make(b"new"), lab.make(b"old")
    replaced = lab.ask(Rename(R, b"new", R, b"old"))
    assert (replaced.ino, replaced.nlink) == (old, 0)
    found = lab.look(b"old")
    assert found is not None and found.ino == new


def test_rename_a_directory_to_another_place(lab: ShardLab) -> None:
    a, b = lab.make(b"a", DIRECTORY), lab.make(b"b", DIRECTORY)
    moved = lab.make(b"a/d", DIRECTORY)
    lab.ask(Rename(a, b"d", b, b"e"))
    assert (lab.ask(GetAttributes(a)).nlink, lab.ask(GetAttributes(b)).nlink) == (2, 3)
    assert lab.ask(Lookup(moved, b"..")).ino == b


def test_rename_over_an_empty_directory(lab: ShardLab) -> None:
    moved, empty = lab.make(b"a", DIRECTORY), lab.make(b"b", DIRECTORY)
    gone = lab.ask(Rename(R, b"a", R, b"b"))
    assert (gone.ino, gone.nlink) == (empty, 0)
    found = lab.look(b"b")
    assert found is not None and found.ino == moved
    assert lab.ask(GetAttributes(R)).nlink == 3


def test_rename_of_one_name_of_a_file_to_another_does_nothing(lab: ShardLab) -> None:
    f = lab.make(b"f")
    lab.ask(Link(f, R, b"g"))
    before = len(lab.journal)
    assert lab.ask(Rename(R, b"f", R, b"g")) is None
    assert lab.ask(Rename(R, b"f", R, b"g", RENAME_EXCHANGE)) is None
    assert len(lab.journal) == before
    assert lab.ask(GetAttributes(f)).nlink == 2


def test_rename_noreplace(lab: ShardLab) -> None:
    f = lab.make(b"f")
    lab.ask(Rename(R, b"f", R, b"g", RENAME_NOREPLACE))
    found = lab.look(b"g")
    assert found is not None and found.ino == f


def test_exchange_a_file_and_a_directory(lab: ShardLab) -> None:
    a, b = lab.make(b"a", DIRECTORY), lab.make(b"b", DIRECTORY)
    file, directory = lab.make(b"a/x"), lab.make(b"b/y", DIRECTORY)
    lab.ask(Rename(a, b"x", b, b"y", RENAME_EXCHANGE))
    assert lab.ask(Lookup(a, b"x")).ino == directory
    assert lab.ask(Lookup(b, b"y")).ino == file
    assert (lab.ask(GetAttributes(a)).nlink, lab.ask(GetAttributes(b)).nlink) == (3, 2)
    assert lab.ask(Lookup(directory, b"..")).ino == a


def test_exchange_within_a_directory(lab: ShardLab) -> None:
    file, directory = lab.make(b"x"), lab.make(b"y", DIRECTORY)
    lab.ask(Rename(R, b"x", R, b"y", RENAME_EXCHANGE))
    assert lab.ask(Lookup(R, b"x")).ino == directory
    assert lab.ask(Lookup(R, b"y")).ino == file


# -- listings -------------------------------------------------------------------------------------------------------


def listed(lab: ShardLab, directory: int, count: int) -> Iterator[bytes]:
    after = 0
    while page := lab.ask(ReadDirectory(directory, after, count)):
        yield from (entry[0] for entry in page)
        after = page[-1][1]


@pytest.mark.parametrize("count", [0, 1, 3, 100, 10**9])
def test_a_listing_in_pages_has_every_name_once(lab: ShardLab, count: int) -> None:
    names = {b"name%d" % number for number in range(20)}
    for name in names:
        lab.make(name)
    found = list(listed(lab, R, count))
    assert sorted(found) == sorted(names)
    assert all(cookie_of(one) < cookie_of(other) for one, other in pairwise(found))


def test_a_listing_with_attributes(lab: ShardLab) -> None:
    f = lab.make(b"f")
    assert lab.ask(ReadDirectory(R, 0, 10, with_attributes=True)) == [
        (b"f", cookie_of(b"f"), f, 0o100000, lab.ask(GetAttributes(f)))
    ]


def test_entries_come_and_go_while_a_listing_is_read(lab: ShardLab) -> None:
    for number in range(20):
        lab.make(b"stays%d" % number)
        lab.make(b"goes%d" % number)
    found: list[bytes] = []
    for step, name in enumerate(listed(lab, R, 3)):
        found.append(name)
        if step < 20:
            lab.ask(Unlink(R, b"goes%d" % step))
            lab.make(b"comes%d" % step)
    assert len(found) == len(set(found))
    assert {b"stays%d" % number for number in range(20)} <= set(found)


def test_names_with_one_cookie_come_in_one_page(lab: ShardLab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(entries, "cookie_of", lambda name: 8 + len(name))
    monkeypatch.setattr("loligo_mds.core.invariants.cookie_of", entries.cookie_of)
    names = [b"aa", b"bb", b"cc", b"d", b"eee"]
    for name in names:
        lab.make(name)
    assert list(listed(lab, R, 2)) == [b"d", b"aa", b"bb", b"cc", b"eee"]
    lab.ask(Unlink(R, b"bb"))
    assert list(listed(lab, R, 1)) == [b"d", b"aa", b"cc", b"eee"]


# -- attributes -----------------------------------------------------------------------------------------------------


def test_set_attributes_moves_only_what_it_is_told(lab: ShardLab) -> None:
    f = lab.make(b"f")
    before = lab.ask(GetAttributes(f))
    after = lab.ask(SetAttributes(f, mode=0o4711, uid=1, gid=2, atime_ns=3, mtime_ns=4))
    assert (after.mode, after.uid, after.gid, after.atime_ns, after.mtime_ns) == (0o104711, 1, 2, 3, 4)
    assert (after.ctime_ns, after.btime_ns) == (lab.now_ns, before.btime_ns)
    same = lab.ask(SetAttributes(f))
    assert (same.mode, same.uid, same.gid, same.atime_ns, same.mtime_ns) == (0o104711, 1, 2, 3, 4)


def test_times_beyond_the_record_are_clamped(lab: ShardLab) -> None:
    f = lab.make(b"f")
    assert lab.ask(SetAttributes(f, mtime_ns=1 << 70)).mtime_ns == NS_MAX
    assert lab.ask(Publish(f, 0, 1 << 70)).mtime_ns == NS_MAX


def test_record_access_moves_atime_alone(lab: ShardLab) -> None:
    f = lab.make(b"f")
    before = lab.ask(GetAttributes(f))
    after = lab.ask(RecordAccess(f, 5000))
    assert (after.atime_ns, after.ctime_ns, after.mtime_ns) == (5000, before.ctime_ns, before.mtime_ns)


@pytest.mark.parametrize(
    ("mode", "left"),
    [
        (0o106755, 0o100755),
        (0o102644, 0o102644),  # no group execution: mandatory locking, not set-group-id
        (0o104644, 0o100644),
        (0o101777, 0o101777),
    ],
)
def test_drop_privileges(lab: ShardLab, mode: int, left: int) -> None:
    f = lab.make(b"f")
    lab.ask(SetAttributes(f, mode=mode))
    assert lab.ask(SetAttributes(f, drop_privileges=True)).mode == left


def test_a_directory_keeps_its_privileges(lab: ShardLab) -> None:
    d = lab.make(b"d", 0o042755)
    assert lab.ask(SetAttributes(d, drop_privileges=True)).mode == 0o042755


# -- content --------------------------------------------------------------------------------------------------------


def test_a_small_file_lives_with_its_inode(lab: ShardLab) -> None:
    f = lab.make(b"f")
    changed = lab.ask(Publish(f, 4, 5000, b"four"))
    assert (changed.size, changed.mtime_ns, changed.ctime_ns, changed.flags) == (4, 5000, 5000, FLAG_INLINE)
    assert lab.ask(ReadInline(f)) == b"four"
    assert lab.ask(GetUsage()) == Usage(2, 4)
    lab.ask(SetAttributes(f, size=6))
    assert lab.ask(ReadInline(f)) == b"four\0\0"
    lab.ask(SetAttributes(f, size=2))
    assert lab.ask(ReadInline(f)) == b"fo"
    assert lab.ask(SetAttributes(f, size=0)).flags == 0
    assert lab.ask(GetUsage()) == Usage(2, 0)
    assert unsettled(lab) == [], "inline content never leaves objects behind"


def test_publishing_without_a_time_leaves_mtime_alone(lab: ShardLab) -> None:
    f = lab.make(b"f")
    lab.ask(SetAttributes(f, mtime_ns=5))
    assert lab.ask(Publish(f, 9000, None)).mtime_ns == 5


def test_content_that_outgrows_the_inode(lab: ShardLab) -> None:
    f = lab.make(b"f")
    lab.ask(Publish(f, 4, 77, b"four"))
    lab.ask(Unsettle(f, 10_000))
    assert unsettled(lab) == [(f, 0, 10_000)], "no byte is in objects yet"
    changed = lab.ask(Publish(f, 10_000, 78))
    assert (changed.size, changed.flags) == (10_000, 0)
    lab.refused(ReadInline(f), 2)
    lab.ask(Settle([f]))
    lab.ask(Unsettle(f, 20_000))
    assert unsettled(lab) == [(f, 10_000, 20_000)]
    lab.ask(Unsettle(f, 15_000))
    assert unsettled(lab) == [(f, 10_000, 20_000)]


def test_a_shrinking_file_admits_doubt_by_itself(lab: ShardLab) -> None:
    f = lab.make(b"f")
    lab.ask(Publish(f, 10_000, 1))
    assert lab.ask(SetAttributes(f, size=3_000)).flags == 0
    assert unsettled(lab) == [(f, 3_000, 10_000)]
    lab.ask(SetAttributes(f, size=1_000))
    assert unsettled(lab) == [(f, 1_000, 10_000)]


def test_a_file_that_is_extended_has_holes_until_it_is_emptied(lab: ShardLab) -> None:
    f = lab.make(b"f")
    assert lab.ask(SetAttributes(f, size=10_000)).flags == FLAG_SPARSE
    assert unsettled(lab) == []
    assert lab.ask(SetAttributes(f, size=5_000)).flags == FLAG_SPARSE
    assert lab.ask(SetAttributes(f, size=0)).flags == 0
    assert lab.ask(Publish(f, 10_000, 1, sparse=True)).flags == FLAG_SPARSE


def test_unsettled_files_come_in_pages(lab: ShardLab) -> None:
    inos = [lab.make(b"f%d" % number) for number in range(5)]
    for ino in inos:
        lab.ask(Unsettle(ino, 9))
    after, found = 0, []
    while page := lab.ask(ListUnsettled(after, 2)):
        assert len(page) <= 2
        found += [(ino, attributes.ino) for ino, _, _, _, attributes in page]
        after = page[-1][0]
    assert found == [(ino, ino) for ino in inos]


def test_the_record_of_an_unpublished_file_outlives_it(lab: ShardLab) -> None:
    f = lab.make(b"f")
    lab.ask(Unsettle(f, 70_000))
    lab.ask(Unlink(R, b"f"))
    assert lab.removals() == [RemoveObjects(f, 70_000, BLOCK_BYTES)]
    assert unsettled(lab) == [(f, 0, 70_000)]


# -- held open ------------------------------------------------------------------------------------------------------


def test_a_file_outlives_its_last_name_while_it_is_open(lab: ShardLab) -> None:
    f = lab.make(b"f", hold=True)
    lab.ask(Open(f))
    lab.ask(Publish(f, 9000, 1))
    assert lab.ask(Unlink(R, b"f")).nlink == 0
    assert lab.removals() == []
    assert lab.ask(GetAttributes(f)).size == 9000
    lab.ask(Close(f))
    assert lab.ask(GetAttributes(f)).nlink == 0
    lab.ask(Close(f))
    assert lab.removals() == [RemoveObjects(f, 9000, BLOCK_BYTES)]
    lab.refused(GetAttributes(f), 2)
    lab.refused(Close(f), 2)


def test_renamed_over_while_open(lab: ShardLab) -> None:
    f = lab.make(b"f", hold=True)
    lab.make(b"g")
    assert lab.ask(Rename(R, b"g", R, b"f")).nlink == 0
    assert lab.ask(GetAttributes(f)).nlink == 0
    lab.ask(Close(f))
    lab.refused(GetAttributes(f), 2)


def test_an_unnamed_file_gets_a_name(lab: ShardLab) -> None:
    f = lab.ask(CreateUnnamed(R, FILE, 1, 2)).ino
    assert lab.ask(GetAttributes(f)).nlink == 0
    assert lab.ask(Link(f, R, b"f")).nlink == 1
    lab.ask(Close(f))
    assert lab.ask(GetAttributes(f)).nlink == 1


def test_an_unnamed_file_goes_with_its_last_close(lab: ShardLab) -> None:
    f = lab.ask(CreateUnnamed(R, FILE, 1, 2)).ino
    lab.ask(SetXattr(f, b"user.a", b"1"))
    lab.ask(Close(f))
    lab.refused(GetAttributes(f), 2)
    assert lab.ask(GetUsage()) == Usage(1, 0)


def test_one_session_cannot_close_what_another_has_open(lab: ShardLab) -> None:
    lab.event(SessionOpened(2))
    f = lab.make(b"f")
    lab.ask(Open(f))
    lab.refused(Close(f), 2, session=2)
    lab.ask(Unlink(R, b"f"))
    lab.ask(Open(f), session=2)
    lab.ask(Close(f))
    assert lab.ask(GetAttributes(f)).nlink == 0
    lab.event(SessionEnded(2))
    lab.refused(GetAttributes(f), 2)


def test_a_restart_with_nobody_left_removes_what_has_no_name(lab: ShardLab) -> None:
    f = lab.make(b"f", hold=True)
    lab.ask(Publish(f, 9000, 1))
    lab.ask(Unlink(R, b"f"))
    lab.restarted()
    assert lab.ask(GetAttributes(f)).nlink == 0
    lab.event(ShardRestarted())
    assert lab.removals() == [RemoveObjects(f, 9000, BLOCK_BYTES)]
    lab.refused(GetAttributes(f), 2)


# -- extended attributes --------------------------------------------------------------------------------------------


def test_extended_attributes(lab: ShardLab) -> None:
    f = lab.make(b"f")
    assert lab.ask(ListXattrs(f)) == []
    assert lab.ask(SetXattr(f, b"user.b", b"1")).flags == FLAG_XATTR
    lab.ask(SetXattr(f, b"user.a", b""))
    lab.ask(SetXattr(f, b"user.b", b"2"))
    assert lab.ask(ListXattrs(f)) == [b"user.a", b"user.b"]
    assert (lab.ask(GetXattr(f, b"user.a")), lab.ask(GetXattr(f, b"user.b"))) == (b"", b"2")
    changed = lab.ask(RemoveXattr(f, b"user.a"))
    assert changed.ctime_ns == lab.now_ns
    assert changed.flags == FLAG_XATTR
    assert lab.ask(RemoveXattr(f, b"user.b")).flags == 0


def test_names_of_neighbours_are_told_apart(lab: ShardLab) -> None:
    one, other = lab.make(b"f"), lab.make(b"g")
    lab.ask(SetXattr(one, b"user.a", b"1"))
    lab.ask(SetXattr(other, b"user.b", b"2"))
    lab.ask(Unlink(R, b"f"))
    assert lab.ask(ListXattrs(other)) == [b"user.b"]


# -- many -----------------------------------------------------------------------------------------------------------


def test_more_inodes_than_the_cache_holds(lab: ShardLab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("loligo_mds.core.state.INODE_CACHE_MAX", 4)
    inos = [lab.make(b"f%d" % number) for number in range(20)]
    for ino in inos:
        lab.ask(SetAttributes(ino, uid=ino))
    assert [lab.ask(GetAttributes(ino)).uid for ino in inos] == inos
