"""Leases that one session has for itself: events against effects. `test_leases_model` has what follows from them together."""

from collections.abc import Callable
from errno import EINVAL, ENOENT
from typing import Any

import pytest

from loligo_mds.core.effects import AppendJournal, LeaseRecall, Reply
from loligo_mds.core.events import (
    LeasesLapsed,
    RoomChanged,
    SessionEnded,
    SessionOpened,
    SessionRestated,
    ShardRestarted,
    Submitted,
)
from loligo_mds.core.lease import CALM_NS
from loligo_mds.core.limits import STEP_WRITES_MAX
from loligo_mds.core.requests import (
    Create,
    CreateUnnamed,
    GetAttributes,
    LeaseReturned,
    Link,
    Lookup,
    Open,
    ReadDirectory,
    RecordAccess,
    Rename,
    ReserveInodes,
    SetAttributes,
    Unlink,
)
from loligo_mds.core.tables import Table
from loligo_wire.ids import ROOT_INO
from unit.shard_lab import DIRECTORY, FILE, ShardLab

R = int(ROOT_INO)
A, B = 1, 2
WHEN_NS = 123_456_789


class Lab(ShardLab):
    """A has the directory `d`, with the file `f` and the directory `e`, for itself."""

    def __init__(self) -> None:
        super().__init__()
        for session in (A, B):
            self.event(SessionOpened(session, b"client %d" % session, takes_leases=True))
        self.d = self.make(b"d", DIRECTORY)
        self.f = self.make(b"d/f", FILE)
        self.e = self.make(b"d/e", DIRECTORY)
        self.sequence = 0

    @property
    def delegated(self) -> dict[int, int]:
        return dict(self.shard.state.delegations)

    def recalls(self) -> list[LeaseRecall]:
        return [one for one in self.effects if isinstance(one, LeaseRecall)]

    def promised(self, request: Any, sequence: int = 0, acknowledged: int = 0) -> Reply:
        self.sequence = sequence or self.sequence + 1
        self.last_id += 1
        self.event(Submitted(A, self.sequence, request, acknowledged, self.last_id, promised_ns=WHEN_NS))
        (reply,) = (one for one in self.effects if isinstance(one, Reply))
        return reply

    def returns(self, lease: int, session: int = A, **how: bool) -> None:
        self.event(
            Submitted(
                session,
                0,
                LeaseReturned(lease, kept=how.get("kept", False), was_exclusive=True, again=how.get("again", False)),
                id=-1,
            )
        )

    def is_answered(self, id: int) -> bool:
        return any(isinstance(effect, Reply) and effect.id == id and not effect.errno for effect in self.comply())

    def rows(self) -> set[int]:
        return {int.from_bytes(key) for key, _ in self.tables.scan(Table.DELEGATION, b"")}


@pytest.fixture
def lab() -> Lab:
    return Lab()


def test_who_makes_a_directory_has_it_for_himself(lab: Lab) -> None:
    assert lab.delegated.keys() >= {lab.d, lab.e} and set(lab.delegated.values()) == {A}
    assert lab.rows() >= {lab.d, lab.e}
    reply = lab.reply(Create(lab.d, b"new", DIRECTORY, 0, 0), A)
    assert reply.delegations == [reply.value.ino]


def test_so_has_who_changes_one_that_nobody_else_looks_at(lab: Lab) -> None:
    lab.returns(lab.d)
    assert lab.d not in lab.delegated
    lab.now_ns += 2 * CALM_NS
    lab.ask(Lookup(lab.d, b"f"), B)
    assert lab.patient_reply(Create(lab.d, b"x", FILE, 0, 0), A).delegations == [lab.d], "B has given his back"
    lab.ask(Lookup(lab.e, b"x"), B)
    assert lab.patient_reply(SetAttributes(lab.f, mode=0o600), A).delegations == [], "names were not changed"


def test_not_where_others_have_just_looked(lab: Lab) -> None:
    lab.ask(Lookup(lab.d, b"f"), B)
    assert lab.d not in lab.delegated
    assert lab.patient_reply(Create(lab.d, b"x", FILE, 0, 0), A).delegations == []
    lab.now_ns += 2 * CALM_NS
    assert lab.patient_reply(Create(lab.d, b"y", FILE, 0, 0), A).delegations == [lab.d]


QUESTIONS: dict[str, Callable[[Lab], Any]] = {
    "look up": lambda lab: Lookup(lab.d, b"f"),
    "look up what is not there": lambda lab: Lookup(lab.d, b"x"),
    "stat": lambda lab: GetAttributes(lab.f),
    "stat of the directory": lambda lab: GetAttributes(lab.d),
    "list": lambda lab: ReadDirectory(lab.d, 0, 10),
    "open": lambda lab: Open(lab.f),
}


@pytest.mark.parametrize("question", QUESTIONS)
def test_others_hear_nothing_of_it_before_it_is_shared(lab: Lab, question: str) -> None:
    id = lab.submit(QUESTIONS[question](lab), B)
    assert lab.recalls() == [LeaseRecall(A, lab.d, share=True)] and not any(isinstance(e, Reply) for e in lab.effects)
    assert lab.shard.state.leases[lab.d].keys() == {A}
    lab.submit(QUESTIONS[question](lab), B)
    assert lab.recalls() == [], "it is asked once"
    lab.returns(lab.d, kept=True)
    assert lab.is_answered(id)
    assert lab.delegated.get(lab.d) is None and A in lab.shard.state.leases[lab.d], "it is shared"


def test_who_has_it_is_answered_at_once(lab: Lab) -> None:
    for question in QUESTIONS.values():
        lab.ask(question(lab), A)
        assert lab.recalls() == []


def test_others_who_change_something_there_have_it_recalled(lab: Lab) -> None:
    for request in (Create(lab.d, b"x", FILE, 0, 0), SetAttributes(lab.f, mode=0o600)):
        assert lab.delegated[lab.d] == A
        lab.submit(request, B)
        assert lab.recalls() == [LeaseRecall(A, lab.d)]
        lab.comply()
        assert lab.d not in lab.shard.state.session_leases[A]
        lab.now_ns += 2 * CALM_NS
        lab.patient_reply(Unlink(lab.d, b"x"), A)
        lab.patient_reply(Create(lab.d, b"again", FILE, 0, 0), A)
        lab.patient_reply(Unlink(lab.d, b"again"), A)


def test_a_listing_above_leaves_out_what_only_another_knows(lab: Lab) -> None:
    lab.returns(R, kept=True)
    entries = {entry[0]: entry[4] for entry in lab.ask(ReadDirectory(R, 0, 10, with_attributes=True), B)}
    assert entries[b"d"] is None


# -- promises ---------------------------------------------------------------------------------------------------------


def test_a_promise_is_kept_as_it_was_made(lab: Lab) -> None:
    first = lab.ask(ReserveInodes(10), A).first
    assert not lab.promised(Create(lab.d, b"x", FILE, 7, 8, new_ino=first)).errno
    made = lab.ask(Lookup(lab.d, b"x"), A)
    assert made.ino == first and {made.btime_ns, made.mtime_ns, made.ctime_ns} == {WHEN_NS} and made.uid == 7
    assert lab.ask(GetAttributes(lab.d), A).mtime_ns == WHEN_NS
    lab.promised(Link(first, lab.d, b"y"))
    assert lab.delegated[first] == A, "the file has a lease of its own now"
    lab.promised(Create(lab.d, b"sub", DIRECTORY, 0, 0, new_ino=first + 3))
    assert lab.delegated[first + 3] == A


def test_it_is_kept_once(lab: Lab) -> None:
    first = lab.ask(ReserveInodes(10), A).first
    request = Create(lab.d, b"x", FILE, 0, 0, hold=True, new_ino=first)
    lab.promised(request, sequence=1)
    assert lab.promised(request, sequence=1).repeated and not lab.shard.state.delegations.get(first)
    assert lab.shard.state.files[first].openers[A].count == 1


def test_numbers_are_used_in_order_and_once_and_by_whom_they_are_reserved_for(lab: Lab) -> None:
    first = lab.ask(ReserveInodes(10), A).first
    lab.promised(Create(lab.d, b"x", FILE, 0, 0, new_ino=first + 1))
    for ino in (first, first + 1, first + 10, lab.f):
        assert lab.promised(Create(lab.d, b"y", FILE, 0, 0, new_ino=ino), acknowledged=99).errno == EINVAL
    assert lab.patient_reply(Create(R, b"z", FILE, 0, 0, new_ino=first + 2), B).errno == EINVAL
    made = lab.reply(Create(lab.d, b"z", FILE, 0, 0), A, acknowledged=99).value
    assert made.ino > first + 9
    assert lab.ask(ReserveInodes(5), A).first > first + 9
    assert lab.promised(Create(lab.d, b"y", FILE, 0, 0, new_ino=first + 2), acknowledged=99).errno == EINVAL, (
        "they were replaced"
    )


def test_they_are_reserved_still_after_a_restart(lab: Lab) -> None:
    first = lab.ask(ReserveInodes(10), A).first
    lab.promised(Create(lab.d, b"x", FILE, 0, 0, new_ino=first))
    lab.restarted()
    lab.event(ShardRestarted((A, B), lease_takers=(A, B)))
    lab.event(SessionRestated(A, [], delegations=[lab.d]))
    lab.promised(Create(lab.d, b"y", FILE, 0, 0, new_ino=first + 1))
    assert lab.ask(Lookup(lab.d, b"y"), A).ino == first + 1


def test_behind_one_that_is_refused_nothing_changes_before_that_is_heard(lab: Lab) -> None:
    assert lab.promised(Unlink(lab.d, b"not there"), sequence=5).errno == ENOENT
    assert lab.promised(Unlink(lab.d, b"f")).errno == ENOENT, "it may have been copied before"
    lab.refused(Unlink(lab.d, b"f"), ENOENT)
    assert lab.ask(Lookup(lab.d, b"f"), A) is not None
    assert not lab.promised(Unlink(lab.d, b"f"), acknowledged=5).errno


def test_promises_are_for_who_takes_leases_and_of_what_may_be_promised(lab: Lab) -> None:
    lab.returns(lab.d)
    lab.returns(lab.e)
    assert not lab.promised(GetAttributes(lab.e)).errno
    assert lab.e not in lab.delegated
    lab.event(SessionEnded(A))
    lab.event(SessionOpened(A, b"of before leases"))
    assert not lab.promised(Create(R, b"new", DIRECTORY, 0, 0)).errno
    assert lab.delegated == {}


def test_a_lease_that_is_left_of_a_second_name_does_not_keep_a_promise_waiting(lab: Lab) -> None:
    lab.patient_reply(Link(lab.f, R, b"second"), B)
    lab.patient_reply(Unlink(R, b"second"), B)
    assert B in lab.shard.state.leases[lab.f]
    lab.now_ns += 2 * CALM_NS
    lab.patient_reply(Create(lab.d, b"x", FILE, 0, 0), A)
    assert lab.delegated[lab.d] == A
    assert not lab.promised(Link(lab.f, lab.d, b"y")).errno
    assert lab.delegated[lab.f] == A and lab.recalls() == [LeaseRecall(B, lab.f)]
    assert not lab.promised(SetAttributes(lab.f, mode=0o600)).errno
    id = lab.submit(GetAttributes(lab.f), B)
    assert not any(isinstance(effect, Reply) for effect in lab.effects), "A is asked first"
    assert lab.is_answered(id)


def test_a_promised_rename_is_no_knot(lab: Lab) -> None:
    lab.submit(Create(lab.d, b"y", FILE, 0, 0), B)
    assert lab.recalls() == [LeaseRecall(A, lab.d)]
    for old, new in ((b"f", b"g"), (b"g", b"h")):
        assert not lab.promised(Rename(lab.d, old, lab.d, new)).errno
        assert len(lab.effects) == 2, "nobody goes on before it comes back"


# -- coming and going -------------------------------------------------------------------------------------------------


def test_it_outlives_a_connection_and_a_restart(lab: Lab) -> None:
    lab.event(LeasesLapsed(A))
    assert lab.delegated[lab.d] == A
    lab.restarted()
    lab.event(ShardRestarted((A, B), lease_takers=(A, B)))
    assert lab.delegated[lab.d] == A
    lab.event(SessionRestated(B, []))
    id = lab.submit(Lookup(lab.d, b"f"), B)
    assert not any(isinstance(effect, Reply) for effect in lab.effects), "A may have promised something"
    lab.event(SessionRestated(A, [], delegations=[lab.d]))
    assert lab.recalls() == [LeaseRecall(A, lab.d, share=True)], "it is asked again"
    assert lab.delegated[lab.d] == A and lab.e not in lab.delegated, "what it does not state it has not"
    lab.returns(lab.d, kept=True)
    assert lab.is_answered(id)


def test_promises_wait_for_nobody_after_a_restart(lab: Lab) -> None:
    first = lab.ask(ReserveInodes(10), A).first
    lab.restarted()
    lab.event(ShardRestarted((A, B), lease_takers=(A, B)))
    lab.event(SessionRestated(A, [], delegations=[lab.d]))
    assert lab.shard.state.lease_grace, "B may hold leases"
    assert not lab.promised(Create(lab.d, b"x", FILE, 0, 0, new_ino=first)).errno


def test_it_ends_with_the_session(lab: Lab) -> None:
    id = lab.submit(Lookup(lab.d, b"f"), B)
    lab.event(SessionEnded(A))
    assert lab.is_answered(id)
    assert lab.delegated == {}
    lab.patient_reply(Create(R, b"x", FILE, 0, 0), B)
    assert lab.rows() == {R}, "rows go with what is written anyhow"


def test_what_came_back_on_an_earlier_connection_is_not_taken_for_what_was_granted_since(lab: Lab) -> None:
    lab.returns(lab.d)
    lab.event(SessionRestated(A, [], delegations=[lab.d, lab.e]))
    lab.ask(Lookup(lab.d, b"f"), A)
    lab.returns(lab.d, again=True)
    assert A in lab.shard.state.leases[lab.d]
    lab.returns(lab.e, again=True)
    assert lab.e not in lab.shard.state.leases


def test_rows_that_are_left_of_a_session_that_has_ended_are_nobodys(lab: Lab) -> None:
    for number in range(100):
        lab.make(b"d/d%d" % number, DIRECTORY)
    lab.event(SessionEnded(A))
    assert len(lab.rows()) > 30, "they go a few at a time"
    lab.restarted()
    lab.event(ShardRestarted((B,), lease_takers=(B,)))
    assert lab.delegated == {}
    lab.event(SessionRestated(B, []))
    for number in range(3):
        lab.patient_reply(Unlink(lab.d, b"d%d" % number), B)
        lab.patient_reply(Create(lab.d, b"n%d" % number, FILE, 0, 0), B)
    assert lab.rows() == {lab.d}


def test_who_has_much_to_clear_up_restates_in_several_steps(lab: Lab) -> None:
    for _ in range(STEP_WRITES_MAX + 10):
        lab.last_id += 1
        made = lab.shard.step(lab.now_ns, Submitted(A, 0, CreateUnnamed(lab.d, FILE, 0, 0), id=lab.last_id))
        lab.journal += [effect.writes for effect in made if isinstance(effect, AppendJournal)]
    assert len(lab.whole_event(SessionRestated(A, [], delegations=[lab.d]))) > 1
    assert lab.delegated[lab.d] == A and lab.e not in lab.delegated


def test_a_removed_directory_is_nobodys(lab: Lab) -> None:
    lab.ask(Rename(lab.d, b"e", lab.d, b"e2"), A)
    assert lab.delegated[lab.e] == A
    lab.ask(RecordAccess(lab.e, 5), A)
    lab.ask(Unlink(lab.d, b"f"), A)
    assert lab.f not in lab.delegated


def test_while_room_is_low_there_are_none(lab: Lab) -> None:
    lab.event(RoomChanged(is_low=True))
    assert {(one.ino, one.share) for one in lab.recalls()} == {(key, True) for key in lab.delegated}
    lab.comply()
    assert lab.delegated == {}
    lab.now_ns += 2 * CALM_NS
    assert lab.reply(Create(lab.d, b"x", DIRECTORY, 0, 0), A).delegations == []
    lab.event(RoomChanged(is_low=False))
    assert lab.d in lab.reply(Create(lab.d, b"y", FILE, 0, 0), A).delegations
