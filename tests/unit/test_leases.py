"""Leases at the shard: what is recalled before what, and who waits for whom: `core.leases`."""

from collections.abc import Sequence
from errno import ESTALE
from typing import Any

import pytest

from loligo_mds.core import leases
from loligo_mds.core.effects import LeaseRecall, Recall, Reply, Resume
from loligo_mds.core.events import (
    Hold,
    LeasesLapsed,
    SessionEnded,
    SessionOpened,
    SessionRestated,
    ShardRestarted,
    Submitted,
)
from loligo_mds.core.lease import CALM_NS
from loligo_mds.core.requests import (
    Close,
    Create,
    GetAttributes,
    LeaseReturned,
    Link,
    Lookup,
    Open,
    ReadDirectory,
    RecordAccess,
    RemoveDirectory,
    Rename,
    SetAttributes,
    SetXattr,
    Unlink,
)
from loligo_wire.ids import ROOT_INO
from unit.shard_lab import DIRECTORY, FILE, ShardLab

R = int(ROOT_INO)
A, B, C = 1, 2, 3


class LeaseLab(ShardLab):
    """Directory `d` with the file `f` and the directory `e` in it, and the file `g`; A, B and C have looked at nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.d = self.make(b"d", DIRECTORY)
        self.f = self.make(b"d/f", FILE)
        self.e = self.make(b"d/e", DIRECTORY)
        self.g = self.make(b"g", FILE)
        for session in (A, B, C):
            self.event(SessionOpened(session, b"client %d" % session, takes_leases=True))

    def look_at_all(self, session: int) -> None:
        for parent, name in ((R, b"d"), (R, b"g"), (self.d, b"f"), (self.d, b"e"), (self.d, b"x")):
            self.ask(Lookup(parent, name), session)

    def recalled(self) -> set[tuple[int, int, int]]:
        return {(one.session, one.ino, one.attributes_of) for one in self.effects if isinstance(one, LeaseRecall)}

    def returns(self, session: int, lease: int, attributes_of: int = 0, reads: Sequence[int] = ()) -> None:
        self.event(Submitted(session, 0, LeaseReturned(lease, attributes_of, open=reads), id=-1))

    def is_answered(self, id: int) -> bool:
        """By what can go on now, and not with a refusal."""
        return any(isinstance(effect, Reply) and effect.id == id and not effect.errno for effect in self.comply())

    def held(self, session: int) -> set[int]:
        return set(self.shard.state.session_leases.get(session, ()))


@pytest.fixture
def lab() -> LeaseLab:
    return LeaseLab()


CHANGES: dict[str, tuple[Any, Any]] = {
    "create": (lambda lab: Create(lab.d, b"x", FILE, 0, 0), lambda lab: {(lab.d, 0)}),
    "unlink": (lambda lab: Unlink(lab.d, b"f"), lambda lab: {(lab.d, 0)}),
    "rmdir": (lambda lab: RemoveDirectory(lab.d, b"e"), lambda lab: {(lab.d, 0), (lab.e, 0)}),
    "rename": (lambda lab: Rename(lab.d, b"f", R, b"x"), lambda lab: {(lab.d, 0), (R, 0)}),
    "rename of a directory": (lambda lab: Rename(lab.d, b"e", lab.d, b"y"), lambda lab: {(lab.d, 0), (lab.e, lab.e)}),
    "link": (lambda lab: Link(lab.g, lab.d, b"x"), lambda lab: {(lab.d, 0), (R, lab.g)}),
    "chmod": (lambda lab: SetAttributes(lab.f, mode=0o600), lambda lab: {(lab.d, lab.f)}),
    "chmod of a directory": (lambda lab: SetAttributes(lab.d, mode=0o700), lambda lab: {(lab.d, lab.d)}),
    "xattr": (lambda lab: SetXattr(lab.f, b"user.a", b""), lambda lab: {(lab.d, lab.f)}),
    "open to write": (lambda lab: Open(lab.f, writes=True), lambda lab: {(lab.d, lab.f)}),
    "open to read": (lambda lab: Open(lab.f), lambda lab: set()),
    "atime": (lambda lab: RecordAccess(lab.f, 5), lambda lab: set()),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_a_change_touches_is_recalled_from_others_first(lab: LeaseLab, change: str) -> None:
    request, touched = CHANGES[change]
    lab.look_at_all(A)
    lab.look_at_all(B)
    expected = touched(lab)
    id = lab.submit(request(lab), A)
    assert lab.recalled() == {(B, *one) for one in expected}
    assert any(isinstance(effect, Reply) and effect.id == id for effect in lab.effects) == (not expected)
    said = lab.comply()
    assert any(isinstance(effect, Reply) and effect.id == id and not effect.errno for effect in said)


def test_who_changes_keeps_his_lease_and_a_second_change_asks_nobody(lab: LeaseLab) -> None:
    lab.look_at_all(A)
    lab.look_at_all(B)
    lab.patient_reply(Create(lab.d, b"x", FILE, 0, 0), A)
    assert lab.d in lab.held(A) and lab.d not in lab.held(B)
    lab.reply(Create(lab.d, b"y", FILE, 0, 0), A)
    assert lab.recalled() == set()


def test_no_lease_is_granted_while_one_is_in_the_way(lab: LeaseLab) -> None:
    lab.look_at_all(B)
    lab.submit(Create(lab.d, b"x", FILE, 0, 0), A)
    reply = lab.reply(Lookup(lab.d, b"f"), C)
    assert reply.value is not None and reply.unsure and lab.d not in lab.held(C)


def test_attributes_that_were_recalled_are_granted_again_with_the_next_answer(lab: LeaseLab) -> None:
    lab.look_at_all(B)
    lab.patient_reply(SetAttributes(lab.f, mode=0o600), A)
    assert lab.d in lab.held(B)
    lab.submit(SetAttributes(lab.f, mode=0o601), A)
    assert lab.recalled() == set(), "B was not told what it is since"
    assert not lab.reply(GetAttributes(lab.f), B).unsure
    lab.submit(SetAttributes(lab.f, mode=0o602), A)
    assert lab.recalled() == {(B, lab.d, lab.f)}


def test_a_file_that_is_being_written_is_not_granted_to_others(lab: LeaseLab) -> None:
    lab.ask(Open(lab.f, writes=True), A)
    assert lab.reply(Lookup(lab.d, b"f"), B).unsure
    assert not lab.reply(GetAttributes(lab.f), A).unsure
    listing = lab.ask(ReadDirectory(lab.d, 0, 10, with_attributes=True), B)
    assert {entry[0]: entry[4] is None for entry in listing} == {b"e": False, b"f": True}


def test_a_file_with_two_names_has_a_lease_of_its_own(lab: LeaseLab) -> None:
    lab.ask(Link(lab.g, lab.d, b"x"), A)
    assert lab.reply(Lookup(R, b"g"), B).leases == [R, lab.g]
    lab.submit(SetAttributes(lab.g, mode=0o600), A)
    assert lab.recalled() == {(B, lab.g, lab.g)}


def test_who_moves_a_file_is_told_to_forget_its_attributes(lab: LeaseLab) -> None:
    lab.look_at_all(A)
    assert lab.reply(Rename(lab.d, b"f", R, b"x"), A).forgets == [lab.f]
    assert lab.reply(Create(R, b"y", FILE, 0, 0), A).forgets == []


@pytest.mark.parametrize(
    "end", [SessionEnded(B), LeasesLapsed(B), SessionRestated(B, [])], ids=lambda end: type(end).__name__
)
def test_nobody_waits_for_who_has_no_leases_any_more(lab: LeaseLab, end: Any) -> None:
    lab.look_at_all(B)
    id = lab.submit(Create(lab.d, b"x", FILE, 0, 0), A)
    lab.event(end)
    said = lab.comply()
    assert any(isinstance(effect, Reply) and effect.id == id and not effect.errno for effect in said)
    assert lab.held(B) == set()


def test_after_a_restart_nothing_changes_before_all_have_come_back_or_been_silent(lab: LeaseLab) -> None:
    lab.restarted()
    lab.event(ShardRestarted((A, B, C), lease_takers=(A, B, C)))
    lab.event(SessionRestated(A, []))
    id = lab.submit(Create(lab.d, b"x", FILE, 0, 0), A)
    assert lab.ask(Lookup(lab.d, b"f"), A).ino == lab.f
    lab.event(SessionRestated(B, []))
    assert lab.comply() == []
    lab.event(LeasesLapsed(C))
    assert any(isinstance(effect, Reply) and effect.id == id for effect in lab.comply())


def test_two_who_change_one_directory_do_not_wait_for_each_other(lab: LeaseLab) -> None:
    """The kernel of either keeps the directory locked until it is answered, and cannot forget names there."""
    lab.look_at_all(A)
    lab.look_at_all(B)
    first = lab.submit(Create(lab.d, b"x", FILE, 0, 0), A)
    assert lab.reply(Create(lab.d, b"y", FILE, 0, 0), B).errno == ESTALE
    lab.returns(B, lab.d)
    assert lab.is_answered(first)
    lab.returns(A, lab.d)
    assert lab.patient_reply(Create(lab.d, b"y", FILE, 0, 0), B).errno == 0


def test_nobody_is_told_to_begin_anew_twice(lab: LeaseLab) -> None:
    for session in (A, B):
        lab.look_at_all(session)
    first = lab.submit(Create(lab.d, b"x", FILE, 0, 0), A)
    assert lab.reply(Create(lab.d, b"y", FILE, 0, 0), B).errno == ESTALE
    second = lab.submit(Create(lab.d, b"y", FILE, 0, 0), B)
    assert lab.is_answered(first), "what B is late to forget is not waited for"
    lab.returns(A, lab.d)
    assert lab.is_answered(second)


def test_what_is_read_under_a_lease_outlives_its_name(lab: LeaseLab) -> None:
    lab.look_at_all(B)
    id = lab.submit(Unlink(lab.d, b"f"), A)
    lab.returns(B, lab.d, reads=[lab.f])
    assert lab.is_answered(id)
    assert lab.shard.state.inode(lab.f).nlink == 0
    lab.ask(Close(lab.f, 1), B)
    assert lab.shard.state.find_inode(lab.f) is None


def test_who_reads_under_a_lease_is_told_of_who_writes(lab: LeaseLab) -> None:
    lab.look_at_all(B)
    id = lab.submit(Open(lab.f, writes=True), A)
    assert lab.recalled() == {(B, lab.d, lab.f)}
    lab.returns(B, lab.d, lab.f, reads=[lab.f])
    said = lab.comply()
    assert [one.ino for one in said if isinstance(one, Resume) and one.session == B] == [lab.f], "it had to yield"
    (opened,) = (one.value for one in said if isinstance(one, Reply) and one.id == id)
    assert opened.contended


def test_who_was_not_waited_for_and_reads_what_others_write_by_now_is_told_so(lab: LeaseLab) -> None:
    lab.ask(Open(lab.f, writes=True), A)
    lab.returns(B, lab.d, reads=[lab.f, 999, lab.e])
    assert sorted((one.session, one.ino) for one in lab.effects if isinstance(one, Recall)) == [(A, lab.f), (B, lab.f)]
    assert set(lab.shard.state.files[lab.f].openers) == {A, B}
    assert lab.e not in lab.shard.state.files


def test_what_is_read_under_a_lease_outlives_a_lost_connection(lab: LeaseLab) -> None:
    """Whoever waits for the lease goes on when what is open has been said, and not when the session is back."""
    lab.look_at_all(B)
    id = lab.submit(Unlink(lab.d, b"f"), A)
    lab.event(SessionRestated(B, [], first=True, complete=False))
    assert lab.shard.state.inode(lab.f).nlink == 1, "it may still say that it reads it"
    lab.event(SessionRestated(B, [Hold(lab.f, 1, False)], first=False, complete=True))
    assert lab.is_answered(id)
    assert lab.shard.state.inode(lab.f).nlink == 0
    lab.ask(Close(lab.f, 1), B)
    assert lab.shard.state.find_inode(lab.f) is None


@pytest.mark.parametrize("reads", [True, False])
def test_what_may_be_read_under_a_lease_that_is_not_waited_for_is_kept_until_that_is_known(
    lab: LeaseLab, reads: bool
) -> None:
    lab.look_at_all(A)
    lab.look_at_all(B)
    lab.shard.state.session_leases[B][lab.d].recalled = True
    lab.shard.state.session_leases[B][lab.d].waived = True
    lab.reply(Unlink(lab.d, b"f"), A)
    assert lab.shard.state.inode(lab.f).nlink == 0
    lab.returns(B, lab.d, reads=[lab.f] if reads else [])
    assert (lab.shard.state.find_inode(lab.f) is not None) == reads
    if reads:
        lab.ask(Close(lab.f, 1), B)
    assert lab.shard.state.find_inode(lab.f) is None


def test_a_directory_is_not_taken_for_read_under_such_a_lease(lab: LeaseLab) -> None:
    lab.look_at_all(A)
    lab.look_at_all(B)
    for key in (lab.d, lab.e):
        lab.shard.state.session_leases[B][key].recalled = True
        lab.shard.state.session_leases[B][key].waived = True
    lab.reply(Rename(lab.d, b"e", lab.d, b"y"), A)
    assert lab.e not in lab.shard.state.files


def test_a_request_that_waited_is_applied_once(lab: LeaseLab) -> None:
    lab.look_at_all(B)
    lab.submit(Create(lab.d, b"x", FILE, 0, 0), A, sequence=1)
    lab.reply(RecordAccess(R, 5), A, sequence=2)
    lab.event(SessionRestated(A, []))
    lab.event(LeasesLapsed(B))
    made = lab.reply(Create(lab.d, b"x", FILE, 0, 0), A, sequence=1)
    assert made.errno == 0, "it was not applied before, though a later one was"
    assert lab.reply(Create(lab.d, b"x", FILE, 0, 0), A, sequence=1).value == made.value


def test_where_a_crowd_looks_and_somebody_changes_all_the_time_no_leases_are_granted(lab: LeaseLab) -> None:
    crowd = range(10, 10 + leases.CROWD)
    for session in crowd:
        lab.event(SessionOpened(session, b"one of many", takes_leases=True))
    for _ in range(2):
        for session in crowd:
            lab.ask(Lookup(lab.d, b"f"), session)
        lab.patient_reply(SetAttributes(lab.d, mode=0o711), A)
        lab.patient_reply(Create(lab.d, b"n%d" % lab.now_ns, FILE, 0, 0), A)
    assert lab.reply(Lookup(lab.d, b"f"), B).unsure
    lab.now_ns += 2 * CALM_NS
    assert not lab.reply(Lookup(lab.d, b"f"), B).unsure


def test_who_takes_no_leases_is_told_nothing_of_them_and_changes_as_ever(lab: LeaseLab) -> None:
    lab.event(SessionOpened(9, b"an older client"))
    reply = lab.reply(Lookup(lab.d, b"f"), 9)
    assert reply.leases == () and lab.held(9) == set()
    lab.look_at_all(A)
    assert lab.patient_reply(Unlink(lab.d, b"f"), 9).errno == 0
