"""What was removed is kept, restored and purged. `ShardLab` checks the tables after every step."""

from errno import EEXIST, EINVAL, EISDIR, ENOENT, ENOTDIR, ENOTEMPTY, EOPNOTSUPP
from itertools import pairwise

import pytest

from loligo_mds.core import purging
from loligo_mds.core.effects import LeaseRecall, Reply
from loligo_mds.core.events import LeasesLapsed, SessionEnded, SessionOpened, ShardRestarted, Submitted
from loligo_mds.core.namespace import RENAME_EXCHANGE
from loligo_mds.core.requests import (
    Close,
    Create,
    CreateUnnamed,
    FillIn,
    GetAttributes,
    GetUsage,
    GetXattr,
    LeaseReturned,
    Link,
    ListBatches,
    ListPlaces,
    LookInTrash,
    Lookup,
    Open,
    Publish,
    Purge,
    PurgeBatch,
    Purged,
    ReadDirectory,
    ReadInline,
    ReadLink,
    ReadTrash,
    RemoveDirectory,
    RemoveTree,
    RemoveXattr,
    Rename,
    Restore,
    SetAttributes,
    SetXattr,
    Survey,
    Unlink,
)
from loligo_mds.core.restoring import RESTORE_WITHIN_NS
from loligo_mds.core.tables import Table
from loligo_trash.batch import PAUSE_NS, RECORD_BYTES, Batch, Word, decode_batch
from loligo_trash.places import WAY_MAX_BYTES, Place, Step, decode_place, encode_place
from loligo_trash.policy import (
    LIMIT_NAME,
    MINIMUM_AGE_NAME,
    RETENTION_NAME,
    PolicyInvalid,
    check_value,
    parse_limit,
    parse_time,
)
from loligo_wire.attributes import NS_MAX
from loligo_wire.ids import ROOT_INO
from unit.shard_lab import BLOCK_BYTES, DIRECTORY, FILE, SYMLINK, ShardLab

R = int(ROOT_INO)
WEEK_NS = 7 * 86400 * 1_000_000_000


@pytest.fixture
def lab() -> ShardLab:
    lab = ShardLab()
    lab.ask(SetXattr(R, MINIMUM_AGE_NAME, b"0"))
    return lab


def batches(lab: ShardLab, uid: int = 0) -> list[Batch]:
    return [decode_batch(int.from_bytes(row[:8]), row[8:]) for row in lab.ask(ListBatches(0, 100, uid))]


def names(lab: ShardLab, batch: int, directory: int) -> list[bytes]:
    return sorted(entry[0] for entry in lab.ask(ReadTrash(batch, directory, 0, 100)))


def remove_all(lab: ShardLab, parent: int, name: bytes, ino: int, pid: int = 7) -> None:
    """As rm -rf does."""
    for child, _, inner, kind, _ in lab.ask(ReadDirectory(ino, 0, 1000)):
        if kind == 0o040000:
            remove_all(lab, ino, child, inner, pid)
        else:
            lab.ask(Unlink(ino, child, 10, pid))
    lab.ask(RemoveDirectory(parent, name, 10, pid))


def test_what_is_unlinked_is_kept_and_restored(lab: ShardLab) -> None:
    ino = lab.make(b"f")
    lab.ask(Publish(ino, 3, 7, b"abc"))
    gone = lab.ask(Unlink(R, b"f", 10, 7))
    assert gone.nlink == 0 and lab.look(b"f") is None
    (batch,) = batches(lab)
    assert (batch.uid, batch.pid, batch.names, batch.inodes, batch.size_bytes) == (10, 7, 1, 1, 3)
    assert names(lab, batch.id, R) == [b"f"] and lab.ask(LookInTrash(batch.id, R, b"f")).ino == ino
    restored = lab.ask(Restore(batch.id, R, b"f", R, b"g"))
    assert (restored.ino, restored.nlink, restored.size) == (ino, 1, 3)
    assert lab.look(b"g") == restored and batches(lab) == []


def test_a_tree_that_was_removed_name_by_name_comes_back_as_one(lab: ShardLab) -> None:
    top = lab.make(b"d", DIRECTORY)
    inner = lab.make(b"d/e", DIRECTORY)
    for number in range(5):
        lab.make(b"d/e/%d" % number)
        lab.make(b"d/%d" % number)
    mtime_ns = lab.ask(GetAttributes(inner)).mtime_ns
    remove_all(lab, R, b"d", top)
    assert lab.look(b"d") is None
    (batch,) = batches(lab)
    assert batch.names == batch.inodes == 12
    assert [row[:8] for row in lab.ask(ListPlaces(batch.id, 0, 9))] == [R.to_bytes(8)]
    lab.refused(Restore(batch.id, R, b"d", R, b"d"), 39)
    lab.refused(Create(inner, b"x", FILE, 0, 0), 2)
    lab.restarted()
    lab.ask(FillIn(batch.id, top))
    lab.ask(Restore(batch.id, R, b"d", R, b"d"))
    assert lab.look(b"d/e/3") is not None
    found = lab.look(b"d/e")
    assert found is not None and found.mtime_ns == mtime_ns and found.ino == inner
    assert batches(lab) == []
    lab.ask(Create(inner, b"x", FILE, 0, 0))


def test_a_whole_tree_is_moved_and_purged(lab: ShardLab) -> None:
    top = lab.make(b"d", DIRECTORY)
    inner = lab.make(b"d/e", DIRECTORY)
    for number in range(5):
        lab.ask(Publish(lab.make(b"d/e/%d" % number), 9000, 7))
    gone = lab.ask(RemoveTree(R, b"d", 10, 7, b"label"))
    assert gone.nlink == 0
    lab.refused(Create(inner, b"x", FILE, 0, 0), 2)
    (batch,) = batches(lab)
    assert names(lab, batch.id, R) == [b"d"] and names(lab, batch.id, top) == [b"e"]
    assert lab.ask(Purge(100)).batch == 0
    lab.now_ns += WEEK_NS + 1
    steps = 0
    while (purged := lab.ask(Purge(3))).batch:
        steps += 1
        assert purged.names <= 4
    assert steps > 2 and batches(lab) == []
    lab.refused(GetAttributes(inner), 2)


def place_of(lab: ShardLab, batch: int, directory: int) -> Place:
    for row in lab.ask(ListPlaces(batch, directory - 1, 1)):
        if int.from_bytes(row[:8]) == directory:
            return decode_place(row[8:])
    raise AssertionError(f"batch {batch} has nothing from {directory}")


def purge_all(lab: ShardLab, count: int = 1000) -> int:
    """-> steps"""
    steps = 0
    while lab.ask(Purge(count), session=0).batch:
        steps += 1
    return steps


# -- how long what is kept --------------------------------------------------------------------------------------------


def removed(lab: ShardLab, path: bytes) -> bool:
    """Whether a file that is removed there is kept."""
    ino = lab.make(path)
    parent, name = lab._place(path)
    lab.ask(Unlink(parent, name))
    return lab.shard.state.find_inode(ino) is not None


def test_a_directory_says_for_what_is_below_unless_one_further_down_does(lab: ShardLab) -> None:
    a = lab.make(b"a", DIRECTORY)
    b = lab.make(b"a/b", DIRECTORY)
    lab.ask(SetXattr(a, RETENTION_NAME, b"0"))
    assert not removed(lab, b"a/f") and not removed(lab, b"a/b/f") and removed(lab, b"f")
    lab.ask(SetXattr(b, RETENTION_NAME, b"1h"))
    assert not removed(lab, b"a/f") and removed(lab, b"a/b/f")
    assert batches(lab)[-1].retention_ns == 3600 * 10**9
    lab.ask(RemoveXattr(b, RETENTION_NAME))
    assert not removed(lab, b"a/b/f")
    lab.ask(RemoveXattr(a, RETENTION_NAME))
    assert removed(lab, b"a/b/f")


def test_what_is_said_is_that_of_the_place_where_a_directory_is_now(lab: ShardLab) -> None:
    a, b = lab.make(b"a", DIRECTORY), lab.make(b"b", DIRECTORY)
    moved = lab.make(b"a/moved", DIRECTORY)
    lab.make(b"b/other", DIRECTORY)
    lab.ask(SetXattr(b, RETENTION_NAME, b"0"))
    assert removed(lab, b"a/moved/1") and not removed(lab, b"b/other/1")
    lab.ask(Rename(a, b"moved", b, b"moved"))
    assert not removed(lab, b"b/moved/2")
    lab.ask(Rename(b, b"moved", a, b"moved"))
    assert removed(lab, b"a/moved/3")
    lab.ask(Rename(a, b"moved", b, b"other", RENAME_EXCHANGE))
    assert not removed(lab, b"b/other/4") and removed(lab, b"a/moved/4")
    lab.ask(RemoveTree(a, b"moved"))
    (batch,) = (one for one in batches(lab) if one.id == batches(lab)[-1].id)
    lab.ask(Restore(batch.id, a, b"moved", b, b"third"))
    assert not removed(lab, b"b/third/5")
    assert moved == lab.ask(Lookup(b, b"other")).ino


def test_a_file_may_say_it_itself(lab: ShardLab) -> None:
    ino = lab.make(b"f")
    lab.ask(SetXattr(ino, RETENTION_NAME, b"0"))
    lab.ask(Unlink(R, b"f"))
    lab.refused(GetAttributes(ino), ENOENT)
    other = lab.make(b"f")
    lab.ask(SetXattr(R, RETENTION_NAME, b"0"))
    lab.ask(SetXattr(other, RETENTION_NAME, b"2d"))
    lab.ask(Unlink(R, b"f"))
    assert [batch.retention_ns for batch in batches(lab)] == [2 * 86400 * 10**9]


def test_what_has_lived_for_a_moment_only_is_gone_at_once(lab: ShardLab) -> None:
    lab.ask(SetXattr(R, MINIMUM_AGE_NAME, b"5s"))
    assert not removed(lab, b"f")
    ino = lab.make(b"g")
    lab.now_ns += 5 * 10**9
    lab.ask(Unlink(R, b"g"))
    assert lab.ask(GetAttributes(ino)).nlink == 0
    early = lab.make(b"h")
    lab.now_ns -= 3600 * 10**9  # it was made by a client whose clock is ahead
    lab.ask(Unlink(R, b"h"))
    assert lab.ask(GetAttributes(early)).nlink == 0


def test_a_new_directory_is_kept_if_something_that_was_in_it_is(lab: ShardLab) -> None:
    old = lab.make(b"old")
    lab.now_ns += 10**10
    lab.ask(SetXattr(R, MINIMUM_AGE_NAME, b"5s"))
    new = lab.make(b"new", DIRECTORY)
    lab.ask(Rename(R, b"old", new, b"old"))
    remove_all(lab, R, b"new", new)
    (batch,) = batches(lab)
    assert names(lab, batch.id, R) == [b"new"] and names(lab, batch.id, new) == [b"old"]
    assert lab.ask(LookInTrash(batch.id, new, b"old")).ino == old


def test_who_makes_promises_does_not_say_when_things_are_removed(lab: ShardLab) -> None:
    lab.event(SessionOpened(2, b"client", takes_leases=True))
    d = lab.ask(Create(R, b"d", DIRECTORY, 0, 0), session=2).ino
    lab.ask(Create(d, b"f", FILE, 0, 0), session=2)
    lab.event(Submitted(2, 1, Unlink(d, b"f"), id=77, promised_ns=NS_MAX))
    (batch,) = batches(lab)
    assert batch.first_ns == batch.last_ns == lab.now_ns - 1


def test_values_of_policies() -> None:
    assert parse_time(b" 7d\n") == 7 * 86400 * 10**9 and parse_time(b"0") == parse_time(b"0s") == 0
    assert (parse_time(b"2w"), parse_time(b"90s")) == (14 * 86400 * 10**9, 90 * 10**9)
    for value in (b"", b"7", b"d", b"-1d", b"1.5d", b"7 d", b"7D", b"999999999w", b"\xff", b"\xd9\xa1d"):
        with pytest.raises(PolicyInvalid):
            parse_time(value)
    assert parse_limit(b"0") == 0 and parse_limit(b"500G") > 0
    with pytest.raises(PolicyInvalid):
        check_value(LIMIT_NAME, b"much")


def test_who_says_what(lab: ShardLab) -> None:
    d, f, link = lab.make(b"d", DIRECTORY), lab.make(b"f"), lab.make(b"l", SYMLINK, b"t")
    lab.refused(SetXattr(d, RETENTION_NAME, b"soon"), EINVAL)
    lab.refused(SetXattr(d, LIMIT_NAME, b"1G"), EOPNOTSUPP)
    lab.refused(SetXattr(f, MINIMUM_AGE_NAME, b"1s"), EOPNOTSUPP)
    lab.refused(SetXattr(link, RETENTION_NAME, b"1d"), EOPNOTSUPP)
    lab.refused(SetXattr(d, b"loligo.trash.other", b"1d"), EOPNOTSUPP)
    lab.ask(SetXattr(R, LIMIT_NAME, b"1G"))
    assert lab.ask(GetXattr(R, LIMIT_NAME)) == b"1G"


# -- batches ----------------------------------------------------------------------------------------------------------


def unlink(lab: ShardLab, name: bytes, uid: int = 10, pid: int = 7, session: int = 1) -> int:
    """-> the batch that it is in"""
    if lab.look(name) is None:
        lab.make(name)
    lab.ask(Unlink(R, name, uid, pid), session=session)
    return max(batch.id for batch in batches(lab))


def test_what_belongs_together(lab: ShardLab) -> None:
    lab.event(SessionOpened(2))
    first = unlink(lab, b"a")
    assert unlink(lab, b"b") == first
    others = [unlink(lab, b"c", pid=8), unlink(lab, b"d", uid=11), unlink(lab, b"e", session=2)]
    assert len({first, *others}) == 4
    assert names(lab, first, R) == [b"a", b"b"]


def test_a_pause_or_hours_of_work_begin_a_batch(lab: ShardLab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("loligo_trash.batch.LENGTH_MAX_NS", 5 * PAUSE_NS)
    first = unlink(lab, b"a")
    lab.now_ns += PAUSE_NS - 1000
    assert unlink(lab, b"b") == first
    lab.now_ns += PAUSE_NS + 1
    second = unlink(lab, b"c")
    assert second == first + 1
    for number in range(5):
        lab.now_ns += PAUSE_NS - 1000
        assert unlink(lab, b"%d" % number) == second
    lab.now_ns += PAUSE_NS - 1000
    assert unlink(lab, b"d") == second + 1


def test_a_name_is_in_a_batch_once(lab: ShardLab) -> None:
    first = unlink(lab, b"a")
    second = unlink(lab, b"a")
    assert second == first + 1 and unlink(lab, b"b") == second
    lab.ask(Restore(first, R, b"a", R, b"one"))
    lab.ask(Restore(second, R, b"a", R, b"two"))


def test_a_removal_goes_on_in_its_batch_when_the_shard_was_restarted(lab: ShardLab) -> None:
    top = lab.make(b"d", DIRECTORY)
    lab.make(b"d/1")
    lab.ask(Unlink(top, b"1", 10, 7))
    lab.restarted()
    lab.ask(RemoveDirectory(R, b"d", 10, 7))
    (batch,) = batches(lab)
    assert (batch.names, batch.inodes) == (2, 2)
    lab.make(b"e", DIRECTORY)
    lab.ask(RemoveTree(R, b"e", 10, 7, b"label"))
    lab.restarted()
    unlink(lab, b"f")
    assert names(lab, batch.id, R) == [b"d", b"f"], "a tree is a batch of its own"


def test_batches_are_told_in_pages_and_to_their_owners(lab: ShardLab) -> None:
    ids = [unlink(lab, b"%d" % number, uid=number % 2 + 1) for number in range(6)]
    assert [batch.uid for batch in batches(lab)] == [1, 2] and len(set(ids)) == 2
    assert [batch.id for batch in batches(lab, uid=2)] == [ids[1]]
    assert len(lab.ask(ListBatches(0, 1))) == 1 and len(lab.ask(ListBatches(ids[0], 5))) == 1
    assert lab.ask(ListBatches(ids[1], 5)) == []


def test_what_comes_later_keeps_all_of_it_longer(lab: ShardLab) -> None:
    unlink(lab, b"a")
    lab.now_ns += PAUSE_NS // 2
    unlink(lab, b"b")
    lab.now_ns = batches(lab)[0].first_ns + WEEK_NS + 1
    assert lab.ask(Purge(10), session=0).batch == 0, "its first row of TRASH_DUE came too early"
    lab.now_ns += PAUSE_NS
    assert purge_all(lab) == 1 and batches(lab) == []


# -- where it was -----------------------------------------------------------------------------------------------------


def test_the_path_and_who_had_it_are_known(lab: ShardLab) -> None:
    a = lab.make(b"a", 0o040750)
    b = lab.make(b"a/b", 0o040700)
    lab.make(b"a/b/f")
    lab.ask(Unlink(b, b"f"))
    place = place_of(lab, 1, b)
    assert [(step.ino, step.mode, step.uid, step.gid, step.name) for step in place.steps[1:]] == [
        (a, 0o040750, 10, 20, b"a"),
        (b, 0o040700, 10, 20, b"b"),
    ]
    lab.ask(Rename(a, b"b", R, b"elsewhere"))
    assert place_of(lab, 1, b) == place, "it is where it was then"
    lab.ask(RemoveDirectory(R, b"elsewhere", pid=9))
    lab.refused(Restore(1, b, b"f", b, b"f"), ENOENT)
    lab.ask(PurgeBatch(2))
    purge_all(lab)
    lab.refused(GetAttributes(b), ENOENT)
    assert place_of(lab, 1, b) == place and lab.ask(LookInTrash(1, b, b"f")) is not None
    lab.ask(Restore(1, b, b"f", a, b"f"))
    assert lab.look(b"a/f") is not None


def test_of_a_path_that_is_too_long_the_root_and_the_last_are_kept(lab: ShardLab) -> None:
    parent = R
    for _ in range(60):
        parent = lab.ask(Create(parent, b"n" * 250, DIRECTORY, 0, 0)).ino
    lab.ask(Create(parent, b"f", FILE, 0, 0))
    lab.ask(Unlink(parent, b"f"))
    (row,) = lab.ask(ListPlaces(1, 0, 9))
    steps = decode_place(row[8:]).steps
    assert len(row) <= WAY_MAX_BYTES + 16 and (steps[0].ino, steps[-1].ino) == (R, parent)
    assert len(steps) > 20 and all(after.ino == before.ino + 1 for before, after in pairwise(steps[1:]))


def test_a_record_of_a_place() -> None:
    steps = (Step(1, 0o755, 0, 0, b""), Step(5, 0o700, 1, 2, b"name"))
    record = encode_place(-5, steps)
    assert decode_place(record) == Place(-5, steps)
    for wrong in (record[:-1], record[:20], record + b"x", record[:8], b""):
        with pytest.raises(ValueError):
            decode_place(wrong)


def test_a_record_of_a_batch() -> None:
    batch = Batch(7, 1, 2, 3, 4, 5, 6, 7, 8, 9, 1, b"label")
    assert decode_batch(7, batch.encode()) == batch
    assert batch.due_ns == 0 and Batch(7, 1, 2, 3, 4, 5, 6).due_ns == 11


def test_a_record_of_a_batch_of_before_pauses_and_priorities() -> None:
    batch = decode_batch(7, bytes(RECORD_BYTES - 4) + (3).to_bytes(4) + b"label")
    assert (batch.is_paused, batch.priority, batch.flags, batch.label) == (False, Word.NORMAL, 3, b"label")


def test_what_a_batch_hears() -> None:
    batch = Batch(7, 1, 2, 3, 4, 5, 6)
    assert [batch.hear(word) for word in (Word.KEEP, Word.RESUME, Word.NORMAL)] == [False] * 3
    for word, priority in ((Word.HIGH, Word.HIGH), (Word.LOW, Word.LOW), (Word.NORMAL, Word.NORMAL)):
        assert batch.hear(word) and not batch.hear(word) and batch.priority is priority
    assert batch.hear(Word.PAUSE) and batch.is_paused and batch.due_ns == 11
    assert not batch.takes(1, 2, 3, 6, 5), "what is removed next is another batch"
    assert batch.hear(Word.PURGE) and not batch.is_paused and batch.due_ns == 0
    assert batch.hear(Word.PAUSE) and batch.hear(Word.KEEP) and batch.is_paused
    assert batch.hear(Word.RESUME) and not batch.flags


# -- what is kept comes back as it was --------------------------------------------------------------------------------


def test_a_file_comes_back_with_all_that_it_had(lab: ShardLab) -> None:
    ino = lab.make(b"f")
    lab.ask(Publish(ino, 3, 7, b"abc"))
    lab.ask(SetXattr(ino, b"user.a", b"1"))
    lab.ask(SetAttributes(ino, mode=0o4711, uid=5, gid=6, atime_ns=8, mtime_ns=9))
    before = lab.ask(GetAttributes(ino))
    lab.ask(Unlink(R, b"f"))
    after = lab.ask(Restore(1, R, b"f", R, b"f"))
    for name in (
        "ino",
        "mode",
        "uid",
        "gid",
        "size",
        "nlink",
        "atime_ns",
        "mtime_ns",
        "btime_ns",
        "flags",
        "generation",
    ):
        assert getattr(after, name) == getattr(before, name), name
    assert (lab.ask(ReadInline(ino)), lab.ask(GetXattr(ino, b"user.a"))) == (b"abc", b"1")


def test_a_symbolic_link_comes_back(lab: ShardLab) -> None:
    ino = lab.make(b"l", SYMLINK, b"target")
    lab.ask(Unlink(R, b"l"))
    assert lab.ask(ReadLink(ino)) == b"target", "in the trash, too"
    lab.ask(Restore(1, R, b"l", R, b"l"))
    assert lab.ask(ReadLink(ino)) == b"target"


def test_a_directory_comes_back_under_another_generation_with_its_times(lab: ShardLab) -> None:
    d = lab.make(b"d", 0o041777)
    lab.make(b"d/f")
    lab.ask(SetAttributes(d, mtime_ns=55, atime_ns=66))
    lab.ask(SetXattr(d, b"user.a", b"1"))
    before = lab.ask(GetAttributes(d))
    remove_all(lab, R, b"d", d)
    assert lab.ask(GetAttributes(d)).nlink == 0
    assert lab.ask(Lookup(d, b".")).nlink == 0 and lab.ask(SetAttributes(d, atime_ns=66)).nlink == 0
    lab.ask(FillIn(1, d))
    after = lab.ask(Restore(1, R, b"d", R, b"d"))
    assert (after.mtime_ns, after.atime_ns, after.mode, after.size, after.nlink) == (55, 66, before.mode, 1, 2)
    assert after.generation == before.generation + 1 and lab.ask(GetXattr(d, b"user.a")) == b"1"


def test_names_of_one_file_come_back_together_or_one_by_one(lab: ShardLab) -> None:
    ino = lab.make(b"a")
    lab.ask(Publish(ino, 5000, 1))
    lab.ask(Link(ino, R, b"b"))
    assert lab.ask(Unlink(R, b"a")).nlink == 1
    (batch,) = batches(lab)
    assert (batch.names, batch.inodes, batch.size_bytes) == (1, 0, 0), "it is there by its other name"
    assert lab.ask(Unlink(R, b"b")).nlink == 0
    (batch,) = batches(lab)
    assert (batch.names, batch.inodes, batch.size_bytes) == (2, 1, 5000)
    assert lab.ask(Restore(1, R, b"b", R, b"b")).nlink == 1
    lab.ask(PurgeBatch(1))
    purge_all(lab)
    assert lab.ask(GetAttributes(ino)).nlink == 1 and lab.look(b"b") is not None
    lab.ask(Unlink(R, b"b", 0, 3))
    lab.ask(PurgeBatch(2))
    purge_all(lab)
    lab.refused(GetAttributes(ino), ENOENT)


def test_what_is_in_the_trash_can_be_linked(lab: ShardLab) -> None:
    ino = lab.make(b"a")
    lab.ask(Unlink(R, b"a"))
    assert lab.ask(Link(ino, R, b"b")).nlink == 1
    assert lab.ask(Restore(1, R, b"a", R, b"a")).nlink == 2


def test_what_is_replaced_is_kept(lab: ShardLab) -> None:
    new, old = lab.make(b"new"), lab.make(b"old")
    assert lab.ask(Rename(R, b"new", R, b"old", 0, 10, 7)).nlink == 0
    (batch,) = batches(lab)
    assert (batch.uid, batch.pid) == (10, 7) and names(lab, batch.id, R) == [b"old"]
    assert lab.ask(Restore(batch.id, R, b"old", R, b"before")).ino == old
    found = lab.look(b"old")
    assert found is not None and found.ino == new
    directory, empty = lab.make(b"d", DIRECTORY), lab.make(b"e", DIRECTORY)
    assert lab.ask(Rename(R, b"d", R, b"e")).nlink == 0
    assert lab.ask(Restore(2, R, b"e", directory, b"e")).ino == empty


def test_nothing_is_removed_by_an_exchange_or_of_a_file_without_a_name(lab: ShardLab) -> None:
    lab.make(b"a")
    lab.make(b"b")
    lab.ask(Rename(R, b"a", R, b"b", RENAME_EXCHANGE))
    unnamed = lab.ask(CreateUnnamed(R, FILE, 0, 0)).ino
    lab.ask(Close(unnamed))
    assert batches(lab) == [] and lab.shard.state.find_inode(unnamed) is None


# -- open files -------------------------------------------------------------------------------------------------------


def test_an_open_file_is_kept_until_it_is_closed_and_purged(lab: ShardLab) -> None:
    ino = lab.make(b"f")
    lab.ask(Open(ino, writes=True))
    lab.ask(Unlink(R, b"f"))
    lab.ask(Publish(ino, 9000, 1))
    lab.ask(Close(ino))
    assert lab.ask(GetAttributes(ino)).size == 9000, "it is in the trash"
    lab.ask(Open(ino))
    lab.ask(PurgeBatch(1))
    purge_all(lab)
    assert lab.ask(GetAttributes(ino)).size == 9000, "it is open"
    assert lab.ask(GetUsage()).trash_bytes == 0
    lab.ask(Close(ino))
    lab.refused(GetAttributes(ino), ENOENT)
    assert lab.removals() == []


def test_what_is_purged_while_it_is_open_goes_with_its_session_or_a_restart(lab: ShardLab) -> None:
    lab.event(SessionOpened(2))
    files = [lab.make(b"1"), lab.make(b"2")]
    for ino, name in zip(files, (b"1", b"2"), strict=True):
        lab.ask(Open(ino), session=2)
        lab.ask(Unlink(R, name))
    lab.ask(PurgeBatch(1))
    purge_all(lab)
    lab.ask(Close(files[0]), session=2)
    lab.refused(GetAttributes(files[0]), ENOENT)
    lab.restarted()
    lab.whole_event(ShardRestarted(()))
    lab.refused(GetAttributes(files[1]), ENOENT)


# -- restoring --------------------------------------------------------------------------------------------------------


def test_where_nothing_can_be_restored(lab: ShardLab) -> None:
    d, f = lab.make(b"d", DIRECTORY), lab.make(b"f")
    dead = lab.make(b"dead", DIRECTORY)
    below = lab.make(b"dead/below", DIRECTORY)
    unlink(lab, b"x")
    lab.ask(RemoveTree(R, b"dead"))
    lab.refused(Restore(1, R, b"x", R, b"f"), EEXIST)
    lab.refused(Restore(1, R, b"x", f, b"x"), ENOTDIR)
    lab.refused(Restore(1, R, b"x", dead, b"x"), ENOENT)
    lab.refused(Restore(1, R, b"x", below, b"x"), ENOENT)
    lab.refused(Restore(2, R, b"dead", below, b"x"), ENOENT)
    lab.refused(Restore(1, R, b"y", R, b"x"), ENOENT)
    lab.refused(Restore(9, R, b"x", R, b"x"), ENOENT)
    lab.refused(Restore(1, R, b"x", 99, b"x"), ENOENT)
    lab.refused(FillIn(1, d), EINVAL)
    lab.refused(FillIn(1, f), ENOTDIR)
    lab.refused(FillIn(9, dead), ENOENT)
    lab.refused(FillIn(2, below), EINVAL)
    assert lab.ask(Restore(1, R, b"x", d, b"x")).parent == d
    lab.refused(Restore(1, R, b"x", d, b"y"), ENOENT)


def test_nothing_happens_in_what_is_dead(lab: ShardLab) -> None:
    lab.make(b"d", DIRECTORY)
    e = lab.make(b"d/e", DIRECTORY)
    f = lab.make(b"d/e/f")
    lab.make(b"d/e/g", DIRECTORY)
    free = lab.make(b"free")
    lab.make(b"dir", DIRECTORY)
    lab.ask(RemoveTree(R, b"d"))
    for request in (
        Create(e, b"x", FILE, 0, 0),
        CreateUnnamed(e, FILE, 0, 0),
        Link(free, e, b"x"),
        Unlink(e, b"f"),
        RemoveDirectory(e, b"g"),
        RemoveTree(e, b"g"),
        Rename(e, b"f", R, b"f"),
        Rename(R, b"free", e, b"x"),
        Rename(R, b"dir", e, b"x"),
    ):
        lab.refused(request, ENOENT)
    assert lab.ask(Lookup(e, b"f")).ino == f, "who stands there still sees it"
    lab.ask(SetAttributes(f, mode=0o600))
    lab.ask(Restore(1, R, b"d", R, b"again"))
    lab.ask(Create(e, b"x", FILE, 0, 0))


def test_what_was_removed_from_a_tree_before_is_apart(lab: ShardLab) -> None:
    d = lab.make(b"d", DIRECTORY)
    lab.make(b"d/early")
    lab.make(b"d/late")
    lab.ask(Unlink(d, b"early", 10, 7))
    lab.make(b"d/early")
    lab.ask(RemoveTree(R, b"d", 10, 8))
    assert names(lab, 1, d) == [b"early"], "what is in the tree is not in this batch"
    assert names(lab, 2, d) == [b"early", b"late"]
    assert lab.ask(LookInTrash(1, d, b"late")) is None and lab.ask(LookInTrash(2, d, b"late")) is not None
    lab.ask(FillIn(1, d))
    assert names(lab, 2, d) == [b"early", b"early~2", b"late"]


def test_of_a_removal_with_a_pause_in_it_both_parts_come_back(lab: ShardLab) -> None:
    d = lab.make(b"d", DIRECTORY)
    lab.make(b"d/1")
    lab.make(b"d/2")
    lab.ask(Unlink(d, b"1", 10, 7))
    lab.now_ns += 2 * PAUSE_NS
    lab.ask(Unlink(d, b"2", 10, 7))
    lab.ask(RemoveDirectory(R, b"d", 10, 7))
    lab.ask(FillIn(2, d))
    lab.ask(Restore(2, R, b"d", R, b"d"))
    lab.ask(Restore(1, d, b"1", d, b"1"))
    assert sorted(entry[0] for entry in lab.ask(ReadDirectory(d, 0, 9))) == [b"1", b"2"]


def test_nothing_is_purged_between_two_steps_of_a_restore(lab: ShardLab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("loligo_mds.core.restoring.FILLED_IN_MAX", 2)
    top = lab.make(b"d", DIRECTORY)
    for number in range(5):
        lab.make(b"d/%d" % number)
    remove_all(lab, R, b"d", top)
    lab.ask(PurgeBatch(1))
    lab.ask(Purge(2), session=0)
    (batch,) = batches(lab)
    assert batch.is_partly_purged and batch.names == 5
    lab.ask(FillIn(1, top))
    assert lab.ask(Purge(100), session=0) == Purged(1), "it is due, and waits"
    lab.now_ns += RESTORE_WITHIN_NS
    assert lab.ask(Purge(2), session=0).names == 1, "who stopped in between holds nobody up"
    lab.ask(FillIn(1, top))
    lab.ask(Restore(1, R, b"d", R, b"d"))
    assert len(lab.ask(ReadDirectory(top, 0, 9))) == 3 and batches(lab) == []


def test_who_restores_nothing_holds_no_purge_up(lab: ShardLab) -> None:
    top = lab.make(b"d", DIRECTORY)
    lab.make(b"d/f")
    lab.ask(RemoveTree(R, b"d"))
    lab.ask(PurgeBatch(1))
    lab.ask(FillIn(1, top))
    assert lab.ask(Purge(100), session=0).names == 2 and batches(lab) == []


@pytest.mark.parametrize("limit", [1, 2, 3, 7])
def test_filling_in_may_stop_and_go_on_anywhere(lab: ShardLab, limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("loligo_mds.core.restoring.FILLED_IN_MAX", limit)
    top = lab.make(b"d", DIRECTORY)
    for directory in (b"d/a", b"d/a/b", b"d/c"):
        lab.make(directory, DIRECTORY)
        for number in range(3):
            lab.make(directory + b"/%d" % number)
    before = {path: lab.look(path) for path in (b"d", b"d/a", b"d/a/b", b"d/c", b"d/a/b/2")}
    remove_all(lab, R, b"d", top)
    while lab.reply(Restore(1, R, b"d", R, b"d")).errno == ENOTEMPTY:
        lab.ask(FillIn(1, top))
        lab.restarted()
    for path, was in before.items():
        found = lab.look(path)
        assert found is not None and was is not None
        told = found.ino, found.nlink, found.size, found.mtime_ns
        assert told == (was.ino, was.nlink, was.size, was.mtime_ns), path
    assert batches(lab) == [] and lab.ask(GetUsage()).trash_inodes == 0


# -- purging ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("count", [0, 1, 2, 3, 5, 8, 100])
def test_purging_may_stop_and_go_on_anywhere(lab: ShardLab, count: int, whole: bool) -> None:
    kept = lab.make(b"kept")
    top = lab.make(b"d", DIRECTORY)
    for directory in (b"d/a", b"d/a/b", b"d/c"):
        parent = lab.make(directory, DIRECTORY)
        lab.make(directory + b"/l", SYMLINK, b"target")
        lab.ask(Link(kept, parent, b"kept"))
        for number in range(3):
            ino = lab.make(directory + b"/%d" % number)
            lab.ask(Publish(ino, BLOCK_BYTES * 2, 1))
            lab.ask(SetXattr(ino, b"user.a", b"1"))
    if whole:
        lab.ask(RemoveTree(R, b"d", 10, 7, b"label"))
    else:
        remove_all(lab, R, b"d", top)
    lab.ask(PurgeBatch(1))
    removals = steps = inodes = 0
    while (purged := lab.ask(Purge(count), session=0)).batch:
        assert 0 < purged.names + purged.inodes <= max(1, count) + 3
        removals += len(lab.removals())
        inodes += purged.inodes
        steps += 1
        lab.restarted()
    assert (removals, inodes) == (9, 16) and steps >= min(24 // max(1, count), 16)
    usage = lab.ask(GetUsage())
    assert (usage.inodes, usage.trash_inodes, usage.trash_bytes) == (2, 0, 0)
    assert lab.ask(GetAttributes(kept)).nlink == 1 and batches(lab) == []


def test_a_purge_may_be_taken_back_as_far_as_it_has_not_happened(lab: ShardLab) -> None:
    top = lab.make(b"d", DIRECTORY)
    for number in range(4):
        lab.make(b"d/%d" % number)
    remove_all(lab, R, b"d", top)
    lab.ask(PurgeBatch(1))
    lab.ask(Purge(4), session=0)
    lab.ask(PurgeBatch(1, Word.KEEP))
    assert lab.ask(Purge(4), session=0).batch == 0
    assert len(names(lab, 1, top)) == 2 and names(lab, 1, R) == [b"d"]
    lab.ask(FillIn(1, top))
    assert lab.ask(Restore(1, R, b"d", R, b"d")).size == 2
    lab.refused(PurgeBatch(1), ENOENT)


def test_a_purge_that_is_paused_goes_on_where_it_was(lab: ShardLab) -> None:
    top = lab.make(b"d", DIRECTORY)
    for number in range(4):
        lab.make(b"d/%d" % number)
    remove_all(lab, R, b"d", top)
    lab.ask(PurgeBatch(1))
    lab.ask(Purge(4), session=0)
    lab.ask(PurgeBatch(1, Word.PAUSE))
    left = batches(lab)
    assert left[0].names == 3 and left[0].is_paused
    for _ in range(2):
        assert lab.ask(Purge(4), session=0).batch == 0
        assert batches(lab) == left
        lab.restarted()
        lab.now_ns += 2 * WEEK_NS
    lab.ask(PurgeBatch(1, Word.RESUME))
    lab.ask(Purge(4), session=0)
    assert batches(lab)[0].names == 1
    purge_all(lab)
    assert batches(lab) == []


def test_a_pause_holds_off_the_clock_until_a_purge_is_asked_for(lab: ShardLab) -> None:
    for name in (b"a", b"b", b"c"):
        unlink(lab, name, pid=ord(name))
        lab.ask(PurgeBatch(len(batches(lab)), Word.PAUSE))
    lab.now_ns += 2 * WEEK_NS
    assert purge_all(lab) == 0 and len(batches(lab)) == 3
    assert purging.backlog(lab.shard.state, lab.now_ns) == purging.Backlog(0, 0), "nobody is late"
    lab.ask(PurgeBatch(2))
    lab.ask(PurgeBatch(3, Word.KEEP))
    purge_all(lab)
    assert [batch.id for batch in batches(lab)] == [1, 3], "who keeps one does not let it go"
    assert lab.ask(Restore(1, R, b"a", R, b"a")) is not None
    lab.ask(PurgeBatch(3, Word.RESUME))
    purge_all(lab)
    assert batches(lab) == []


def test_what_is_purged_goes_in_the_order_of_priorities_and_times(lab: ShardLab) -> None:
    words = (Word.NORMAL, Word.LOW, Word.HIGH, Word.NORMAL, Word.LOW, Word.HIGH, Word.NORMAL)
    for number, word in enumerate(words, 1):
        assert unlink(lab, b"%d" % number, pid=number) == number
        lab.ask(PurgeBatch(number, word))
    lab.now_ns += 2 * WEEK_NS
    for number in (4, 5, 6):
        lab.ask(PurgeBatch(number))
    lab.ask(PurgeBatch(7, Word.LOW))
    lab.ask(PurgeBatch(7, Word.HIGH))
    unlink(lab, b"8", pid=8)
    lab.ask(PurgeBatch(8, Word.HIGH))
    assert purging.backlog(lab.shard.state, lab.now_ns).batches == 7
    order = []
    while id := lab.ask(Purge(1), session=0).batch:
        order.append(id)
        lab.restarted()
    assert list(dict.fromkeys(order)) == [6, 3, 7, 4, 1, 5, 2]
    assert [batch.id for batch in batches(lab)] == [8], "it is not its time"


def limited(lab: ShardLab, number: int, files: int, rate: int) -> None:
    """A batch of so many files, which may go by now, at that rate."""
    for file in range(files):
        unlink(lab, b"%d-%d" % (number, file), pid=number)
    lab.ask(PurgeBatch(number))
    lab.ask(PurgeBatch(number, Word.RATE, rate))


def goes(lab: ShardLab, for_ns: int) -> list[int]:
    """What a purger that has nothing else to do purges in that time: the numbers of batches, one a file."""
    order: list[int] = []
    end_ns = lab.now_ns + for_ns
    while lab.now_ns < end_ns:
        purged = lab.ask(Purge(2), session=0)
        order += [purged.batch] * purged.inodes
        if not purged.batch:
            if not purged.rest_ns:
                break
            lab.now_ns += purged.rest_ns
    return order


def test_a_slow_batch_holds_up_no_other(lab: ShardLab) -> None:
    limited(lab, 1, 10, rate=2)
    limited(lab, 2, 5, rate=0)
    limited(lab, 3, 30, rate=10)
    began_ns = lab.now_ns
    order = goes(lab, 900_000_000)
    assert order[:7] == [1, 2, 2, 2, 2, 2, 3], "the slow one goes first, and then the others at their own pace"
    assert (order.count(1), order.count(3)) == (2, 9) and lab.now_ns - began_ns < 1_000_000_000
    order = goes(lab, 60_000_000_000)
    assert (order.count(1), order.count(3)) == (8, 21) and batches(lab) == []
    assert 4_400_000_000 < lab.now_ns - began_ns < 5_100_000_000, "ten files, two a second"


def test_a_rate_is_an_upper_limit_also_for_who_comes_late(lab: ShardLab) -> None:
    limited(lab, 1, 40, rate=20)
    counts = []
    for _ in range(3):
        lab.now_ns += 2_000_000_000
        counts.append(sum(lab.ask(Purge(1000), session=0).inodes for _ in range(9)))
    assert counts[0] == 2 and set(counts[1:]) <= {2, 3, 4}, "what was not used is not saved up"


def test_a_limited_batch_goes_before_others_of_a_lower_priority_when_it_may(lab: ShardLab) -> None:
    limited(lab, 1, 30, rate=0)
    limited(lab, 2, 3, rate=10)
    lab.ask(PurgeBatch(2, Word.HIGH))
    order = []
    for _ in range(20):
        order.append(lab.ask(Purge(2), session=0).batch)
        lab.now_ns += 20_000_000
    assert order.count(2) == 3 and order[0] == 2 and order[1] == 1 and order.index(2, 1) in (5, 6)


def test_a_rate_survives_a_restart_and_is_taken_back(lab: ShardLab) -> None:
    lab.now_ns += WEEK_NS
    limited(lab, 1, 9, rate=1)
    assert lab.ask(Purge(100), session=0).inodes == 1
    rest = lab.ask(Purge(100), session=0)
    assert (rest.batch, rest.names) == (0, 0) and 0 < rest.rest_ns <= 1_000_000_000
    lab.restarted()
    (batch,) = batches(lab)
    assert (batch.rate, batch.inodes, batch.is_partly_purged) == (1, 8, True)
    assert lab.ask(Purge(100), session=0).inodes == 1 and lab.ask(Purge(100), session=0).rest_ns
    assert purging.backlog(lab.shard.state, lab.now_ns).batches == 1, "it is due, and late"
    lab.now_ns -= 3_600_000_000_000
    assert lab.ask(Purge(100), session=0).inodes == 1, "a clock that was set back stops nothing"
    lab.ask(PurgeBatch(1, Word.RATE))
    assert batches(lab)[0].rate == 0 and lab.ask(Purge(100), session=0).inodes == 6


def test_a_limited_batch_may_be_paused_and_counts_as_told_something(lab: ShardLab) -> None:
    limited(lab, 1, 2, rate=1)
    lab.ask(PurgeBatch(1, Word.PAUSE))
    assert lab.ask(Purge(9), session=0) == Purged(0)
    lab.ask(PurgeBatch(1, Word.RESUME))
    assert lab.ask(Purge(9), session=0).inodes == 1
    unlink(lab, b"f", pid=5)
    lab.ask(PurgeBatch(2, Word.RATE, 5))
    assert unlink(lab, b"g", pid=5) == 3, "what is removed now is not meant"


def test_of_very_many_limited_batches_some_go_first_and_no_other_waits(
    lab: ShardLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(purging, "LIMITED_AT_ONCE_MAX", 3)
    monkeypatch.setattr(purging, "_RESTING_MAX", 3)
    for number in range(1, 6):
        limited(lab, number, 2, rate=1)
    limited(lab, 6, 1, rate=0)
    assert goes(lab, 500_000_000) == [1, 2, 3, 6]
    assert sorted(goes(lab, 9_000_000_000)) == [1, 2, 3, 4, 4, 5, 5]


def test_what_was_told_so_much_that_it_is_looked_for_in_many_places(lab: ShardLab) -> None:
    """More than a step puts right: the next goes on."""
    unlink(lab, b"f")
    unlink(lab, b"g", pid=8)
    lab.now_ns += 10_000
    for number in range(1500):
        lab.shard.state.put(Table.TRASH_DUE, b"\1" + number.to_bytes(8) + (1).to_bytes(8), b"")
    lab.journal.append(lab.shard.state.take_writes())
    lab.ask(PurgeBatch(2, Word.LOW))
    lab.ask(PurgeBatch(2))
    assert [lab.ask(Purge(9), session=0).batch for _ in range(3)] == [0, 2, 0]


def test_what_is_removed_after_a_purge_was_asked_for_is_not_purged(lab: ShardLab) -> None:
    first = unlink(lab, b"a")
    lab.ask(PurgeBatch(first))
    second = unlink(lab, b"b")
    assert second != first
    purge_all(lab)
    assert [batch.id for batch in batches(lab)] == [second]


def test_a_step_stays_below_what_the_journal_takes(lab: ShardLab) -> None:
    """Whatever count is asked for. `ShardLab` looks at each record."""
    lab.make(b"d", DIRECTORY)
    for number in range(12):
        ino = lab.make(b"d/%d" % number)
        for other in range(900):
            lab.shard.state.put(3, ino.to_bytes(8) + b"user.%0200d" % other, b"")
        found = lab.shard.state.inode(ino).copy()
        found.flags |= 4
        lab.shard.state.put_inode(found)
        lab.journal.append(lab.shard.state.take_writes())
    lab.ask(RemoveTree(R, b"d"))
    lab.ask(PurgeBatch(1))
    assert purge_all(lab, (1 << 32) - 1) > 3


def test_what_others_believe_of_a_file_with_another_name_is_recalled_before_it_loses_one(lab: ShardLab) -> None:
    ino = lab.make(b"f")
    d = lab.make(b"d", DIRECTORY)
    lab.ask(Link(ino, d, b"f"))
    lab.ask(RemoveTree(R, b"d"))
    lab.ask(PurgeBatch(1))
    lab.event(SessionOpened(2, b"client", takes_leases=True))
    lab.ask(Lookup(R, b"f"), session=2)
    lab.ask(GetAttributes(ino), session=2)
    purged = lab.ask(Purge(10), session=0)
    assert (purged.batch, purged.names) == (1, 0), "it waits"
    lab.shard.step(lab.now_ns, LeasesLapsed(2))
    lab.event(SessionEnded(2))
    assert purge_all(lab) == 1
    assert lab.ask(GetAttributes(ino)).nlink == 1


def test_a_tree_that_cannot_be_removed(lab: ShardLab) -> None:
    lab.make(b"f")
    lab.refused(RemoveTree(R, b"f"), ENOTDIR)
    lab.refused(RemoveTree(R, b"none"), ENOENT)
    lab.refused(RemoveTree(R, b".."), EINVAL)
    lab.make(b"d", DIRECTORY)
    lab.refused(Unlink(R, b"d"), EISDIR)


def test_usage_says_what_is_in_the_trash(lab: ShardLab) -> None:
    for name in (b"a", b"b"):
        lab.ask(Publish(lab.make(name), 5000, 1))
        unlink(lab, name)
    usage = lab.ask(GetUsage())
    assert (usage.inodes, usage.size_bytes, usage.trash_inodes, usage.trash_bytes) == (3, 10000, 2, 10000)
    lab.restarted()
    assert lab.ask(GetUsage()) == usage
    lab.ask(Restore(1, R, b"a", R, b"a"))
    assert lab.ask(GetUsage()).trash_bytes == 5000


# -- who believes what ------------------------------------------------------------------------------------------------


def leaseholders(lab: ShardLab) -> None:
    for session in (2, 3):
        lab.event(SessionOpened(session, b"client", takes_leases=True))


def recalls(lab: ShardLab) -> list[tuple[int, int, bool]]:
    return [(one.session, one.ino, one.share) for one in lab.effects if isinstance(one, LeaseRecall)]


def test_a_tree_is_left_by_those_who_look_and_nobody_waits_for_them(lab: ShardLab) -> None:
    leaseholders(lab)
    d = lab.make(b"d", DIRECTORY)
    e = lab.make(b"d/e", DIRECTORY)
    lab.make(b"d/e/f")
    lab.make(b"x")
    for key in list(lab.shard.state.delegations):
        lab.submit(LeaseReturned(key, was_exclusive=True))
    assert lab.ask(Lookup(e, b"f"), session=2) is not None
    lab.refused(RemoveTree(R, b"x"), ENOTDIR, session=3)
    lab.submit(RemoveTree(R, b"d"), session=3)
    assert recalls(lab) == [], "however many there are"
    assert lab.ask(Survey(1, d, b"", 10)).directories == [e]
    lab.submit(Survey(1, e, b"", 10))
    assert recalls(lab) == [(2, e, False)], "by who counts what was removed"
    assert lab.shard.state.leases[e].keys() == {2}, "until it comes back"
    assert lab.ask(GetAttributes(e), session=3) is not None and lab.shard.state.leases[e].keys() == {2}


def test_what_was_promised_in_a_tree_comes_before_its_removal(lab: ShardLab) -> None:
    leaseholders(lab)
    d = lab.ask(Create(R, b"d", DIRECTORY, 0, 0), session=2).ino
    e = lab.ask(Create(d, b"e", DIRECTORY, 0, 0), session=2).ino
    assert lab.shard.state.delegations[e] == 2
    lab.submit(RemoveTree(R, b"d"), session=2)
    assert {(2, d, True), (2, e, True)} <= set(recalls(lab)), "also who asks has to stop"
    lab.event(Submitted(2, 1, Create(e, b"f", FILE, 0, 0), id=500, promised_ns=5))
    for key in (d, e, R):
        lab.submit(LeaseReturned(key, kept=True, was_exclusive=True), session=2)
        lab.comply()
    assert lab.shard.state.find_inode(d).trashed == 1  # type: ignore[union-attr]
    assert lab.ask(LookInTrash(1, e, b"f")) is not None


def test_who_is_late_to_hear_that_a_file_is_gone_hears_it_before_it_comes_back(lab: ShardLab) -> None:
    leaseholders(lab)
    ino = lab.make(b"f")
    lab.ask(Open(ino), session=2)
    lab.ask(Unlink(R, b"f"))
    assert lab.ask(GetAttributes(ino), session=2).nlink == 0
    assert ino in lab.shard.state.leases
    lab.submit(Restore(1, R, b"f", R, b"f"))
    assert (2, ino, False) in recalls(lab) and not any(isinstance(one, Reply) for one in lab.effects)
    lab.comply()
    assert lab.look(b"f") is not None
