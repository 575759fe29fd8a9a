"""What is refused before it reaches the shard, and that what passes cannot break it."""

import errno
from random import Random
from typing import Any

import pytest

from loligo_mds.core import limits, requests
from loligo_mds.core.admission import SessionLimits, admit, admit_holds, note_answer
from loligo_mds.core.events import Hold, SessionOpened, ShardRestarted
from loligo_mds.core.requests import (
    CancelLock,
    Claim,
    Close,
    CountTree,
    Create,
    CreateUnnamed,
    FillIn,
    GetAttributes,
    GetLock,
    GetUsage,
    GetXattr,
    LeaseReturned,
    Link,
    ListBatches,
    ListPlaces,
    ListRemoved,
    ListUnsettled,
    ListXattrs,
    LookInTrash,
    Lookup,
    Open,
    Publish,
    Purge,
    PurgeBatch,
    ReadDirectory,
    ReadInline,
    ReadLink,
    ReadTrash,
    RecordAccess,
    Release,
    RemoveDirectory,
    RemoveTree,
    RemoveXattr,
    Rename,
    Reported,
    Request,
    ReserveInodes,
    Restore,
    SetAttributes,
    SetLock,
    Settle,
    SetXattr,
    Survey,
    Unlink,
    Unsettle,
    Yielded,
)
from loligo_trash.batch import Word
from loligo_trash.policy import MINIMUM_AGE_NAME
from loligo_trash.rate import RATE_MAX
from loligo_wire.attributes import RECORD_SIZE, Attributes
from loligo_wire.ids import ROOT_INO
from loligo_wire.locks import END
from unit.shard_lab import DIRECTORY, FILE, SYMLINK, ShardLab

R = int(ROOT_INO)
LONG = b"n" * 256
RECORD = Attributes(2, FILE).encode()
OTHER_SHARD = 1 << 48 | 5

#: One of each kind that a client may send.
SENSIBLE: list[Request] = [
    Lookup(R, b"f"),
    GetAttributes(R),
    SetAttributes(2, mode=0o100600, size=5, atime_ns=-1),
    RecordAccess(2, 1),
    Create(R, b"g", FILE, 0, 0, umask=0o22, hold=True),
    Create(R, b"g", FILE, 0, 0, became=RECORD, inline=b"text", unsettled_end=9),
    CreateUnnamed(R, FILE, 0, 0),
    Unlink(R, b"f"),
    RemoveDirectory(R, b"f"),
    RemoveTree(R, b"d", 10, 7, b"label"),
    Rename(R, b"f", R, b"g", 1),
    Link(2, R, b"g"),
    ReadLink(2),
    ReadDirectory(R, 0, 100),
    GetXattr(2, b"user.a"),
    ListXattrs(2),
    SetXattr(2, b"user.a", b"1", 1),
    RemoveXattr(2, b"user.a"),
    Open(2),
    Close(2),
    Claim(2),
    Release(2),
    Yielded(2),
    Reported(2),
    LeaseReturned(2, 3),
    ReserveInodes(100),
    SetLock(2, 1, 0, END, exclusive=True, waits=True),
    GetLock(2, 1, 5, 5),
    CancelLock(2, 7),
    ReadInline(2),
    Unsettle(2, 9000),
    Publish(2, 3, None, b"abc"),
    Settle([2]),
    ListBatches(0, 100),
    ListRemoved(0, 100),
    ListPlaces(1, 0, 100),
    ReadTrash(1, R, 0, 100),
    LookInTrash(1, R, b"f"),
    FillIn(1, 3),
    Restore(1, R, b"f", R, b"g"),
    PurgeBatch(1),
    PurgeBatch(1, Word.LOW),
    PurgeBatch(1, Word.RATE, RATE_MAX),
    GetUsage(),
]


def admitted(lab: ShardLab, request: Any, **of: Any) -> int:
    return admit(lab.shard.state, SessionLimits(**of), request)


@pytest.mark.parametrize("request_", SENSIBLE, ids=lambda request: type(request).__name__)
def test_what_makes_sense_passes(lab: ShardLab, request_: Request) -> None:
    lab.make(b"f")
    assert admitted(lab, request_) == 0


def test_every_kind_is_known() -> None:
    kinds = {type(request) for request in SENSIBLE}
    assert kinds | {ListUnsettled, Purge, Survey, CountTree} == set(requests.Request.__args__)


@pytest.mark.parametrize(
    ("request_", "refusal"),
    [
        (ListUnsettled(0, 1), errno.EINVAL),
        (Purge(1), errno.EINVAL),
        ("nonsense", errno.EINVAL),
        (None, errno.EINVAL),
        (GetAttributes(0), errno.EINVAL),
        (GetAttributes(OTHER_SHARD), errno.EINVAL),
        (GetAttributes((1 << 64) - 1), errno.EINVAL),
        (Open(0), errno.EINVAL),
        (SetLock(0, 1, 0, 0), errno.EINVAL),
        (SetLock(2, 1, 5, 4), errno.EINVAL),
        (GetLock(2, 1, 0, END + 1), errno.EINVAL),
        (CancelLock(0, 7), errno.EINVAL),
        (Lookup(0, b"f"), errno.EINVAL),
        (Lookup(R, b""), errno.EINVAL),
        (Lookup(R, b"a/b"), errno.EINVAL),
        (Lookup(R, b"a\0"), errno.EINVAL),
        (Lookup(R, LONG), errno.ENAMETOOLONG),
        (Unlink(R, LONG), errno.ENAMETOOLONG),
        (RemoveDirectory(R, b""), errno.EINVAL),
        (Create(R, b"", FILE, 0, 0), errno.EINVAL),
        (Create(R, b"..", FILE, 0, 0), errno.EINVAL),
        (Create(R, LONG, FILE, 0, 0), errno.ENAMETOOLONG),
        (Create(R, b"f", 0, 0, 0), errno.EINVAL),
        (Create(R, b"f", 0o150644, 0, 0), errno.EINVAL),
        (Create(R, b"f", 0o1100644, 0, 0), errno.EINVAL),
        (Create(R, b"f", FILE, 0, 0, umask=0o170000), errno.EINVAL),
        (Create(R, b"f", SYMLINK, 0, 0, target=b"t" * 4096), errno.ENAMETOOLONG),
        (Create(R, b"f", FILE, 0, 0, became=RECORD[1:]), errno.EINVAL),
        (Create(R, b"f", FILE, 0, 0, became=RECORD + b"name"), errno.EINVAL),
        (Create(R, b"f", FILE, 0, 0, inline=bytes(65537)), errno.EINVAL),
        (Create(R, b"f", SYMLINK, 0, 0, target=b"t", inline=b"text"), errno.EINVAL),
        (Create(R, b"f", DIRECTORY, 0, 0, inline=b""), errno.EINVAL),
        (Create(R, b"f", FILE, 0, 0, unsettled_end=(16 << 40) + 1), errno.EFBIG),
        (Create(R, b"f", DIRECTORY, 0, 0, unsettled_end=9), errno.EINVAL),
        (CreateUnnamed(OTHER_SHARD, FILE, 0, 0), errno.EINVAL),
        (CreateUnnamed(R, FILE, 0, 0, umask=1 << 31), errno.EINVAL),
        (SetAttributes(2, size=limits.FILE_MAX_BYTES + 1), errno.EFBIG),
        (Rename(R, b"a", R, b"."), errno.EINVAL),
        (Rename(R, b"a", 0, b"b"), errno.EINVAL),
        (Rename(R, b"a", R, b"b", 4), errno.EINVAL),
        (Rename(R, LONG, R, b"b"), errno.ENAMETOOLONG),
        (Link(2, R, b".."), errno.EINVAL),
        (Link(0, R, b"b"), errno.EINVAL),
        (GetXattr(2, b"user." + LONG), errno.ERANGE),
        (RemoveXattr(2, b"user." + LONG), errno.ERANGE),
        (SetXattr(2, b"user.a", bytes(65537)), errno.E2BIG),
        (SetXattr(2, b"user.a", b"", 4), errno.EINVAL),
        (Close(2, 0), errno.EINVAL),
        (Unsettle(2, limits.FILE_MAX_BYTES + 1), errno.EFBIG),
        (Publish(2, limits.FILE_MAX_BYTES + 1, None), errno.EFBIG),
        (Publish(2, 65537, None, bytes(65537)), errno.EINVAL),
        (Settle([2] * (limits.SETTLE_MAX + 1)), errno.EINVAL),
        (Settle([0]), errno.EINVAL),
        (RemoveTree(R, b".."), errno.EINVAL),
        (RemoveTree(R, b"d", label=LONG), errno.ENAMETOOLONG),
        (ListBatches(1 << 63, 1), errno.EINVAL),
        (ListRemoved(1 << 63, 1), errno.EINVAL),
        (ListRemoved(0, 1, below=OTHER_SHARD), errno.EINVAL),
        (ListPlaces(1 << 63, 0, 1), errno.EINVAL),
        (ListPlaces(1, 1 << 63, 1), errno.EINVAL),
        (ReadTrash(1, 0, 0, 1), errno.EINVAL),
        (LookInTrash(1, R, b"a/b"), errno.EINVAL),
        (LookInTrash((1 << 64) - 1, R, b"f"), errno.EINVAL),
        (FillIn(1, OTHER_SHARD), errno.EINVAL),
        (Restore(1, R, b"f", R, b".."), errno.EINVAL),
        (Restore(1, 0, b"f", R, b"g"), errno.EINVAL),
        (Restore(1, R, LONG, R, b"g"), errno.ENAMETOOLONG),
        (PurgeBatch(1 << 63), errno.EINVAL),
        (PurgeBatch(1, max(Word) + 1), errno.EINVAL),
        (PurgeBatch(1, Word.RATE, RATE_MAX + 1), errno.EINVAL),
        (PurgeBatch(1, Word.LOW, 1), errno.EINVAL),
    ],
)
def test_what_makes_no_sense(lab: ShardLab, request_: Any, refusal: int) -> None:
    lab.make(b"f")
    assert admitted(lab, request_) == refusal


def test_read_only(lab: ShardLab) -> None:
    lab.make(b"f")
    passed = {type(request) for request in SENSIBLE if admitted(lab, request, read_only=True) == 0}
    assert passed == {
        Lookup,
        GetAttributes,
        ReadLink,
        ReadDirectory,
        GetXattr,
        ListXattrs,
        Open,
        Close,
        Release,
        Yielded,
        Reported,
        LeaseReturned,
        SetLock,
        GetLock,
        CancelLock,
        ReadInline,
        ListBatches,
        ListRemoved,
        ListPlaces,
        ReadTrash,
        LookInTrash,
        GetUsage,
    }
    assert admitted(lab, Open(2, writes=True), read_only=True) == errno.EROFS
    assert admitted(lab, Unlink(R, b"f"), read_only=True) == errno.EROFS
    holds = admit_holds(lab.shard.state, SessionLimits(read_only=True), [Hold(2, 1, writes=True, claimed=True)])
    assert holds == [Hold(2, 1)]


def test_files_open_at_one_session_are_bounded(lab: ShardLab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("loligo_mds.core.admission.OPEN_FILES_MAX", 2)
    lab.event(SessionOpened(2))
    for name in (b"f", b"g"):
        lab.ask(Open(lab.make(name)), session=2)
    for request in (Open(2), Create(R, b"h", FILE, 0, 0, hold=True), CreateUnnamed(R, FILE, 0, 0)):
        assert admitted(lab, request, session=2) == errno.ENFILE
        assert admitted(lab, request, session=3) == 0


# -- a root below the volume's --------------------------------------------------------------------------------------


class Jail(ShardLab):
    """`in/` is the root of session 2; `out/` is beside it. A file with a name in either, and others."""

    def __init__(self) -> None:
        super().__init__()
        self.event(SessionOpened(2))
        self.root = self.make(b"in", DIRECTORY)
        self.sub = self.make(b"in/sub", DIRECTORY)
        self.inside = self.make(b"in/sub/f")
        self.out = self.make(b"out", DIRECTORY)
        self.outside = self.make(b"out/f")
        self.both = self.make(b"in/both")
        self.ask(Link(self.both, self.out, b"both"))
        self.limits = SessionLimits(self.root, session=2)

    def admitted(self, request: Request) -> int:
        return admit(self.shard.state, self.limits, request)


def test_what_lies_below_the_root_passes() -> None:
    jail = Jail()
    for ino in (jail.root, jail.sub, jail.inside, jail.both):
        assert jail.admitted(GetAttributes(ino)) == 0
    for request in (
        Lookup(jail.root, b"sub"),
        Lookup(jail.sub, b".."),
        Create(jail.sub, b"g", FILE, 0, 0),
        Rename(jail.root, b"both", jail.sub, b"g"),
        Link(jail.inside, jail.root, b"g"),
        Settle([jail.inside, jail.both]),
        GetUsage(),
    ):
        assert jail.admitted(request) == 0, request


def test_what_lies_elsewhere_does_not() -> None:
    jail = Jail()
    jail.ask(SetXattr(R, MINIMUM_AGE_NAME, b"0"))
    jail.make(b"out/gone")
    jail.ask(Unlink(jail.out, b"gone"))
    for request in SENSIBLE:
        moved = request
        if hasattr(moved, "directory"):
            moved = _with(request, directory=jail.out)
        if hasattr(moved, "ino"):
            moved = _with(request, ino=jail.outside)
        if hasattr(moved, "parent"):
            moved = _with(request, parent=jail.out)
        free = isinstance(
            request,
            Close
            | Release
            | Yielded
            | Reported
            | LeaseReturned
            | ReserveInodes
            | Settle
            | GetUsage
            | ListBatches
            | ListRemoved,
        )
        assert jail.admitted(moved) == (0 if free else errno.EACCES), moved


def test_what_was_removed_below_the_root_passes() -> None:
    jail = Jail()
    jail.ask(SetXattr(R, MINIMUM_AGE_NAME, b"0"))
    jail.ask(Unlink(jail.sub, b"f"), session=2)
    jail.ask(RemoveTree(jail.root, b"sub"), session=2)
    for request in (
        ListPlaces(1, 0, 10),
        ReadTrash(1, jail.sub, 0, 10),
        LookInTrash(2, jail.root, b"sub"),
        FillIn(2, jail.sub),
        Restore(1, jail.sub, b"f", jail.root, b"f"),
        PurgeBatch(2),
    ):
        assert jail.admitted(request) == 0, request
    assert jail.admitted(Restore(2, jail.root, b"sub", jail.out, b"sub")) == errno.EACCES
    assert jail.admitted(RemoveTree(R, b"in")) == errno.EACCES
    assert jail.admitted(RemoveTree(jail.root, b"..")) == errno.EINVAL


def test_a_batch_from_both_sides_of_the_root_is_nobody_s_below() -> None:
    jail = Jail()
    jail.ask(SetXattr(R, MINIMUM_AGE_NAME, b"0"))
    jail.ask(Unlink(jail.sub, b"f"))
    assert jail.admitted(PurgeBatch(1)) == 0
    jail.ask(Unlink(jail.out, b"f"))
    assert jail.admitted(PurgeBatch(1)) == jail.admitted(ListPlaces(1, 0, 9)) == errno.EACCES
    assert jail.admitted(ReadTrash(1, jail.sub, 0, 9)) == 0


def test_of_batches_it_sees_those_from_below_its_root_whatever_it_asks_for() -> None:
    jail = Jail()
    jail.ask(SetXattr(R, MINIMUM_AGE_NAME, b"0"))
    jail.ask(Unlink(jail.out, b"f", 0, 1))
    jail.ask(RemoveTree(R, b"out", 0, 2, b"secret"))
    jail.ask(Unlink(jail.sub, b"f", 0, 3))
    for kind in (ListBatches, ListRemoved):
        for below in (0, R, jail.out):
            request = kind(0, 100, 0, below)
            assert jail.admitted(request) == 0 and request.below == jail.root
            rows = jail.ask(request, session=2)
            assert [int.from_bytes(row[:8]) for row in rows] == [3]
            assert not any(b"secret" in row or b"out" in row for row in rows)
        assert kind is ListBatches or rows[0].endswith(b"\0\5sub/f")


def test_the_root_of_a_session_goes_with_the_tree() -> None:
    jail = Jail()
    jail.ask(RemoveTree(R, b"in"))
    assert jail.admitted(GetAttributes(jail.root)) == 0
    jail.refused(Create(jail.sub, b"g", FILE, 0, 0), errno.ENOENT, session=2)
    jail.ask(PurgeBatch(1))
    while jail.ask(Purge(2), session=0).batch:
        pass
    assert jail.admitted(GetAttributes(jail.root)) == 0
    assert jail.admitted(GetAttributes(jail.sub)) == errno.ENOENT
    jail.refused(GetAttributes(jail.root), errno.ENOENT, session=2)


def test_what_is_gone_or_elsewhere_is_not_settled_and_the_rest_is() -> None:
    jail = Jail()
    gone = 999
    request = Settle([jail.outside, jail.inside, gone])
    assert jail.admitted(request) == 0
    assert request.inos == [jail.inside]


def test_nothing_beyond_the_root_is_open_because_a_lease_came_back() -> None:
    jail = Jail()
    request = LeaseReturned(jail.outside, open=[jail.outside, jail.inside])
    assert jail.admitted(request) == 0
    assert list(request.open) == [jail.inside]
    assert jail.admitted(LeaseReturned(jail.inside, open=[OTHER_SHARD])) == errno.EINVAL
    assert jail.admitted(LeaseReturned(jail.inside, open=[jail.inside] * 5000)) == errno.EINVAL


def _with(request: Any, **change: int) -> Any:
    fields = {name: getattr(request, name) for name in request.__slots__}
    return type(request)(**(fields | change))


@pytest.mark.parametrize("ino", [R, 999])
def test_the_way_up_is_closed(ino: int) -> None:
    jail = Jail()
    assert jail.admitted(Lookup(jail.root, b"..")) == errno.EACCES
    assert jail.admitted(ReadDirectory(ino, 0, 10)) == (errno.EACCES if ino == R else errno.ENOENT)
    assert jail.admitted(Rename(jail.root, b"both", jail.out, b"g")) == errno.EACCES
    assert jail.admitted(Rename(jail.out, b"f", jail.root, b"g")) == errno.EACCES
    assert jail.admitted(Link(jail.inside, jail.out, b"g")) == errno.EACCES
    assert jail.admitted(Link(jail.outside, jail.root, b"g")) == errno.EACCES


def test_a_directory_that_moves_out_is_out_at_once() -> None:
    jail = Jail()
    jail.ask(Rename(jail.root, b"sub", jail.out, b"sub"))
    assert jail.admitted(GetAttributes(jail.sub)) == errno.EACCES
    assert jail.admitted(GetAttributes(jail.inside)) == errno.EACCES


def test_a_file_whose_directory_is_not_known_counts_if_it_was_given() -> None:
    jail = Jail()
    jail.ask(Link(jail.both, jail.root, b"again"))
    jail.ask(Unlink(jail.root, b"both"))
    assert jail.ask(GetAttributes(jail.both)).parent == 0
    assert jail.admitted(GetAttributes(jail.both)) == errno.EACCES
    note_answer(jail.limits, jail.ask(Lookup(jail.root, b"again")))
    assert jail.admitted(GetAttributes(jail.both)) == 0


def test_files_are_given_by_listings() -> None:
    jail = Jail()
    jail.ask(Link(jail.outside, jail.root, b"linked"))
    assert jail.admitted(Open(jail.outside)) == errno.EACCES
    note_answer(jail.limits, jail.ask(ReadDirectory(jail.root, 0, 10, True)))
    assert jail.admitted(Open(jail.outside)) == 0
    assert jail.sub not in jail.limits.granted, "directories are followed up"


def test_other_answers_give_nothing() -> None:
    jail = Jail()
    for answer in (None, [b"user.a"], [], b"abc", jail.ask(GetAttributes(jail.sub))):
        note_answer(jail.limits, answer)
    assert not jail.limits.granted
    whole = SessionLimits()
    note_answer(whole, jail.ask(GetAttributes(jail.inside)))
    assert not whole.granted


def test_what_was_given_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("loligo_mds.core.admission.GRANTED_MAX", 3)
    jail = Jail()
    inos = [jail.make(b"out/%d" % number) for number in range(5)]
    for ino in (*inos, inos[2]):
        note_answer(jail.limits, jail.ask(GetAttributes(ino)))
    assert list(jail.limits.granted) == [inos[3], inos[4], inos[2]]


def test_a_file_that_is_open_stays_within_reach() -> None:
    jail = Jail()
    jail.ask(Open(jail.inside), session=2)
    jail.ask(Rename(jail.sub, b"f", jail.out, b"moved"))
    assert jail.admitted(GetAttributes(jail.inside)) == 0
    jail.ask(Unlink(jail.out, b"moved"))
    assert jail.admitted(Publish(jail.inside, 5, 1)) == 0


@pytest.mark.parametrize("restart", [False, True])
def test_holds_are_within_reach_or_after_a_restart_without_a_name(restart: bool) -> None:
    jail = Jail()
    unnamed, own = (jail.ask(CreateUnnamed(jail.out, FILE, 0, 0), session).ino for session in (1, 2))
    if restart:
        jail.restarted()
        jail.event(ShardRestarted((1, 2)))
    newer = jail.ask(CreateUnnamed(jail.out, FILE, 0, 0)).ino
    inos = [jail.inside, jail.outside, unnamed, own, newer, 999, 0, OTHER_SHARD, jail.both]
    kept = admit_holds(jail.shard.state, jail.limits, [Hold(ino, 1) for ino in inos] + [Hold(jail.inside, 0)])
    assert [hold.ino for hold in kept] == [jail.inside, *([unnamed, own] if restart else [own]), jail.both]


def test_the_way_to_the_root_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("loligo_mds.core.admission.LIMITED_DEPTH_MAX", 3)
    jail = Jail()
    path = b"in"
    inos = []
    for _ in range(4):
        path += b"/d"
        inos.append(jail.make(path, DIRECTORY))
    assert [jail.admitted(GetAttributes(ino)) for ino in inos] == [0, 0, 0, errno.EACCES]


# -- anything -------------------------------------------------------------------------------------------------------


NUMBERS = [0, 1, 2, 3, 4, 255, 4096, 0o100644, 0o040755, (1 << 31) - 1, 1 << 31, (1 << 32) - 1]
LARGE = [*NUMBERS, 1 << 44, (1 << 44) + 1, 1 << 48, OTHER_SHARD, (1 << 63) - 1, 1 << 63, (1 << 64) - 1]
SIGNED = [0, 1, -1, (1 << 63) - 1, -(1 << 63)]
BYTES = [b"", b".", b"..", b"f", b"d", b"new", b"a/b", b"\0", LONG, b"user.a", b"x" * 5000, b"system.posix_acl_access"]
U32 = {"mode", "uid", "gid", "umask", "rdev", "flags", "count", "pid"}
TRUTHS = {
    "hold",
    "writes",
    "sparse",
    "with_attributes",
    "drop_privileges",
    "kill_sgid",
    "exclusive",
    "unlock",
    "whole",
    "waits",
    "keep",
}


def some_value(random: Random, name: str, old: Any) -> Any:
    """Anything that the wire can carry there."""
    if name in TRUTHS:
        return random.random() < 0.5
    if name in U32:
        return random.choice(NUMBERS)
    if name.endswith("_ns"):
        return random.choice(SIGNED)
    if name in ("inos", "open"):
        return [random.choice(LARGE) for _ in range(random.randrange(5))]
    if name == "became" and random.random() < 0.7:
        return random.randbytes(RECORD_SIZE)
    if name in ("name", "new_name", "target", "value", "inline", "label", "became"):
        return random.choice(BYTES)
    if name == "batch" and random.random() < 0.9:
        return random.randrange(1, 200)
    return random.choice(LARGE)


@pytest.mark.parametrize("seed", range(5))
def test_what_passes_does_not_break_the_shard(seed: int) -> None:
    """`ShardLab` checks the tables after every step."""
    random = Random(seed)
    lab = ShardLab()
    lab.event(SessionOpened(2, b"client"))
    lab.ask(SetXattr(R, MINIMUM_AGE_NAME, b"0"))
    lab.make(b"f")
    lab.make(b"d", DIRECTORY)
    limits_ = SessionLimits(session=2)
    passed = 0
    for _ in range(3000):
        if random.random() < 0.05:
            lab.submit(Purge(random.choice(NUMBERS)), session=0)
        request: Any = random.choice(SENSIBLE)
        for name in request.__slots__:
            if random.random() < 0.4:
                request = _with(request, **{name: some_value(random, name, getattr(request, name))})
        if admit(lab.shard.state, limits_, request) == 0:
            passed += 1
            lab.submit(request, session=2, sequence=passed)
    assert passed > 1000
