"""The client's end of a session: order, sequences, windows, what is sent again, what times out."""

import random
from dataclasses import dataclass, field
from typing import Any

import pytest

from loligo_client.core.session_link import UNHURRIED_NS, Outstanding, SessionLink
from loligo_mds.core.requests import (
    CHANGING,
    Claim,
    Close,
    Create,
    GetAttributes,
    LeaseReturned,
    Open,
    ReadLink,
    RecordAccess,
    Release,
    SetAttributes,
    SetLock,
    Settle,
    Unlink,
    Yielded,
)

S = 1_000_000_000
TIMEOUT_NS = 60 * S


def make(window: int = 100) -> SessionLink:
    link = SessionLink(TIMEOUT_NS)
    link.connected(0, window, 5 * S, 15 * S)
    return link


def sent(link: SessionLink, now_ns: int = 0) -> list[Outstanding]:
    found = []
    while (asked := link.next(now_ns)) is not None:
        found.append(asked)
    return found


def change(name: str) -> Create:
    return Create(1, name.encode(), 0o644, 0, 0)


def names(asked: list[Outstanding]) -> list[str]:
    return [each.whose for each in asked]


def test_requests_leave_in_order_and_only_changes_have_a_sequence() -> None:
    link = make()
    for name, request in (("a", change("a")), ("b", GetAttributes(1)), ("c", Open(1)), ("d", change("d"))):
        link.ask(request, name, 0)
    found = sent(link)
    assert names(found) == ["a", "b", "c", "d"]
    assert [each.sequence for each in found] == [1, 0, 0, 2]
    assert [each.id for each in found] == [1, 2, 3, 4]


def test_no_more_than_the_window_is_unanswered() -> None:
    link = make(window=3)
    for number in range(5):
        link.ask(ReadLink(number), str(number), 0)
    first = sent(link)
    assert names(first) == ["0", "1", "2"]
    link.answered(first[1].id)
    assert names(sent(link)) == ["3"]


def test_what_may_have_to_wait_leaves_room_for_what_it_waits_for() -> None:
    link = make(window=4)
    for number in range(5):
        link.ask(Open(number), f"open {number}", 0)
    link.ask(Claim(1), "claim", 0)
    link.ask(change("x"), "change", 0)
    found = sent(link)
    assert names(found) == ["open 0", "open 1", "change"]
    link.answered(found[0].id)
    assert names(sent(link)) == ["open 2"]


def test_an_unlock_is_in_a_hurry_and_passes_those_who_wait_for_it() -> None:
    link = make(window=4)
    for number in range(3):
        link.ask(SetLock(1, number, 0, 0, waits=True), f"lock {number}", 0)
    assert names(sent(link)) == ["lock 0", "lock 1"]
    link.ask(SetLock(1, 7, 0, 0, unlock=True), "unlock", 0)
    assert link.is_due(0)
    assert names(sent(link)) == ["unlock"]
    link.lost()
    link.connected(0, 4, 5 * S, 15 * S)
    found = sent(link)
    assert names(found) == ["lock 0", "lock 1", "unlock"]
    link.answered(found[2].id)
    link.answered(found[0].id)
    assert names(sent(link)) == ["lock 2"]


def test_what_nobody_waits_for_leaves_at_once_when_somebody_does() -> None:
    link = make()
    link.ask(change("a"), "a", 0, hurried=False)
    assert not link.is_due(UNHURRIED_NS - 1) and link.is_due(UNHURRIED_NS)
    link.hurry()
    assert link.is_due(1)
    assert names(sent(link)) == ["a"] and not link.is_due(1)
    link.ask(change("b"), "b", 2, hurried=False)
    assert not link.is_due(2), "that was about what came before"
    link.ask(GetAttributes(1), "c", 3)
    assert names(sent(link)) == ["b", "c"], "and what goes takes all along, in order"


def test_a_window_of_one_still_opens_files() -> None:
    link = make(window=1)
    link.ask(Open(1), "open", 0)
    assert names(sent(link)) == ["open"]


def test_for_what_nobody_waits_no_frame_is_made_before_its_time() -> None:
    link = make()
    assert not link.is_due(0)
    link.ask(Close(1), "close", 0)
    link.ask(RecordAccess(1, 5), "atime", 1)
    assert not link.is_due(UNHURRIED_NS - 1) and link.has_unhurried
    assert link.is_due(UNHURRIED_NS)
    assert names(sent(link)) == ["close", "atime"]
    assert not link.is_due(2 * UNHURRIED_NS) and not link.has_unhurried


@pytest.mark.parametrize("request_", [change("x"), GetAttributes(1), Open(1)])
def test_whatever_is_sent_takes_along_what_was_asked_before(request_: Any) -> None:
    link = make()
    link.ask(Close(1), "close", 0)
    link.ask(request_, "other", 1)
    assert link.is_due(1)
    assert names(sent(link)) == ["close", "other"]
    link.ask(Settle([1]), "settle", 2)
    assert not link.is_due(2)


def test_what_is_sent_again_is_as_much_in_a_hurry_as_before() -> None:
    link = make()
    link.ask(change("x"), "change", 0)
    sent(link)
    link.ask(Close(1), "close", 0)
    link.lost()
    assert not link.is_due(0)
    link.connected(0, 100, 5 * S, 15 * S)
    assert link.is_due(0)
    assert names(sent(link)) == ["change", "close"]
    link.ask(Close(2), "again", 0)
    assert not link.is_due(0)


def test_what_was_dropped_hurries_nobody() -> None:
    link = make()
    asked = link.ask(change("x"), "change", 0)
    link.lost()
    link.drop(asked)
    link.connected(0, 100, 5 * S, 15 * S)
    assert not link.is_due(0)


def test_acknowledged_is_the_last_sequence_before_the_first_unanswered_one() -> None:
    link = make()
    for name in "abc":
        link.ask(change(name), name, 0)
    a, b, c = sent(link)
    assert link.acknowledged == 0
    link.answered(b.id)
    assert link.acknowledged == 0
    link.answered(a.id)
    assert link.acknowledged == 2
    link.answered(c.id)
    assert link.acknowledged == 3


def test_what_was_not_answered_is_sent_again_in_order_with_the_same_sequences_and_new_ids() -> None:
    link = make()
    for name, request in (("a", change("a")), ("o", Open(1)), ("b", GetAttributes(1)), ("c", change("c"))):
        link.ask(request, name, 0)
    first = sent(link)
    before = {each.whose: (each.id, each.sequence) for each in first}
    link.ask(change("d"), "d", 0)
    link.answered(before["b"][0])
    link.lost()
    assert link.next(0) is None
    link.ask(change("e"), "e", 0)
    link.connected(S, 100, 5 * S, 15 * S)
    again = sent(link)
    assert names(again) == ["a", "o", "c", "d", "e"]
    assert [each.sequence for each in again] == [1, 0, 2, 3, 4]
    assert all(each.id > max(id_ for id_, _ in before.values()) for each in again)
    assert link.answered(before["a"][0]) is None, "an answer from the connection before"


def test_a_request_dropped_before_it_was_sent_never_happens() -> None:
    link = make()
    link.ask(change("a"), "a", 0)
    dropped = link.ask(change("b"), "b", 0)
    link.ask(change("c"), "c", 0)
    link.drop(dropped)
    found = sent(link)
    assert names(found) == ["a", "c"]
    for each in found:
        link.answered(each.id)
    assert link.acknowledged == 3


def test_a_request_that_is_dropped_while_the_server_is_away_is_not_sent_again() -> None:
    link = make()
    for name, request in (("a", Open(1)), ("b", change("b")), ("c", change("c"))):
        link.ask(request, name, 0)
    a, b, c = sent(link)
    link.lost()
    link.drop(a)
    link.drop(b)
    assert link.outstanding == [c]
    assert link.acknowledged == 1
    link.connected(S, 100, 5 * S, 15 * S)
    assert sent(link) == [c]
    assert link.answered(a.id) is None


def test_what_is_stated_anew_is_not_sent_again() -> None:
    link = make()
    for request in (Open(1), Close(1), change("a"), Release(2), Claim(2)):
        link.ask(request, type(request).__name__, 0)
    sent(link)
    link.lost()
    link.ask(Yielded(3), "Yielded", 0)
    assert sorted(names(link.stated())) == ["Close", "Release", "Yielded"]
    assert link.stated() == []
    link.ask(Close(4), "asked since", 0)
    assert link.acknowledged == 1, "the Close that was numbered 1"
    link.connected(S, 100, 5 * S, 15 * S)
    assert names(sent(link)) == ["Open", "Create", "Claim", "asked since"]


def test_a_server_that_is_there_may_take_its_time_and_one_that_is_away_may_not() -> None:
    link = make()
    link.ask(change("old"), "old", 0)
    sent(link)
    link.heard(100 * S)
    assert link.tick(1000 * S) == []
    link.lost()
    link.ask(change("young"), "young", 110 * S)
    assert link.tick(159 * S) == []
    assert names(link.tick(160 * S)) == ["old"]
    assert link.tick(169 * S) == []
    assert names(link.tick(170 * S)) == ["young"]
    link.connected(171 * S, 100, 5 * S, 15 * S)
    assert sent(link) == []


def test_heartbeats_are_due_after_silence_of_ours_or_the_servers() -> None:
    link = make()
    link.ask(GetAttributes(1), "a", 0)
    (asked,) = sent(link, 3 * S)
    assert not link.needs_heartbeat(4 * S)
    assert link.needs_heartbeat(5 * S), "nothing is answered since the beginning"
    link.heartbeat(5 * S)
    assert not link.needs_heartbeat(9 * S) and link.needs_heartbeat(10 * S)
    link.heartbeat_answered()
    link.answered(asked.id)
    link.ask(GetAttributes(1), "b", 0)
    sent(link, 9 * S)
    assert link.needs_heartbeat(10 * S), "the last that has arrived for certain was sent at 5"
    link.lost()
    assert not link.needs_heartbeat(99 * S)


def test_a_connection_is_given_up_before_the_server_takes_the_leases() -> None:
    """What counts is when that was sent of which we know that it arrived, not when the answer came."""
    link = make()
    link.heartbeat(4 * S)
    link.heard(13 * S)
    assert not link.is_silent(10 * S) and link.is_silent(10 * S + 1)
    link.heartbeat_answered()
    assert not link.is_silent(14 * S) and link.is_silent(14 * S + 1)
    link.ask(GetAttributes(1), "a", 0)
    (asked,) = sent(link, 9 * S)
    link.heard(20 * S)
    link.answered(asked.id)
    assert not link.is_silent(19 * S) and link.is_silent(19 * S + 1)
    link.lost()
    assert not link.is_silent(99 * S)


# -- against a model of the server ------------------------------------------------------------------------------------


@dataclass
class Model:
    """A server that applies each sequence once. Both directions lose what is under way when the connection breaks."""

    random: random.Random
    applied: list[tuple[int, str]] = field(default_factory=list)
    answers: dict[int, Any] = field(default_factory=dict)
    acknowledged: int = 0
    last_id: int = 0
    to_server: list[tuple[int, int, str, int]] = field(default_factory=list)
    to_client: list[int] = field(default_factory=list)
    #: Opens that wait for somebody.
    waiting: list[int] = field(default_factory=list)
    unanswered: set[int] = field(default_factory=set)

    def take(self, window: int) -> None:
        id_, sequence, name, acknowledged = self.to_server.pop(0)
        assert id_ > self.last_id, "ids grow on a connection"
        self.last_id = id_
        self.unanswered.add(id_)
        assert len(self.unanswered) <= window
        assert acknowledged >= self.acknowledged, "what was acknowledged stays so"
        self.acknowledged = acknowledged
        if sequence:
            assert sequence > acknowledged, "asked again after it was acknowledged"
            if sequence not in self.answers:
                assert sequence > max(self.answers, default=0), "a new sequence is larger than all before"
                self.applied.append((sequence, name))
                self.answers[sequence] = name
        elif self.random.random() < 0.3:
            self.waiting.append(id_)
            return
        self.answer(id_)

    def answer(self, id_: int) -> None:
        self.to_client.append(id_)

    def forget_connection(self) -> None:
        self.to_server.clear()
        self.to_client.clear()
        self.waiting.clear()
        self.unanswered.clear()
        self.last_id = 0


@pytest.mark.parametrize("seed", range(60))
def test_a_server_whose_connections_break_applies_everything_once_and_in_order(seed: int) -> None:
    chance = random.Random(seed)
    link = SessionLink(TIMEOUT_NS)
    model = Model(chance)
    window = chance.choice((1, 2, 5, 50))
    now_ns = 0
    asked: list[Outstanding] = []
    told: dict[str, int] = {}
    dropped: set[str] = set()
    never_sent: set[str] = set()
    connected = False
    for step in range(600):
        now_ns += chance.randrange(S // 2)
        deed = chance.random()
        if deed < 0.3:
            name = f"r{step}"
            request = chance.choice((change(name), GetAttributes(1), Open(1), Unlink(1, b"x")))
            asked.append(link.ask(request, name, now_ns))
        elif deed < 0.5 and connected:
            found = link.next(now_ns)
            if found is not None:
                model.to_server.append((found.id, found.sequence, found.whose, link.acknowledged))
        elif deed < 0.65 and model.to_server:
            model.take(window)
        elif deed < 0.7 and model.waiting:
            model.answer(model.waiting.pop(0))
        elif deed < 0.85 and model.to_client:
            id_ = model.to_client.pop(0)
            model.unanswered.discard(id_)
            answered = link.answered(id_)
            assert answered is not None
            link.heard(now_ns)
            if not answered.dropped:
                told[answered.whose] = told.get(answered.whose, 0) + 1
        elif deed < 0.88:
            if connected:
                link.lost()
                model.forget_connection()
                connected = False
        elif deed < 0.92:
            if not connected:
                link.connected(now_ns, window, 5 * S, 15 * S)
                connected = True
        elif deed < 0.94 and link.outstanding and not connected:
            victim = chance.choice(link.outstanding)
            if victim.whose not in {name for _, name in model.applied}:
                never_sent.add(victim.whose)
            link.drop(victim)
            dropped.add(victim.whose)
        else:
            for late in link.tick(now_ns):
                assert not connected
                dropped.add(late.whose)
    link.connected(now_ns, window, 5 * S, 15 * S)
    if connected:
        link.lost()
        model.forget_connection()
        link.connected(now_ns, window, 5 * S, 15 * S)
    model.forget_connection()
    while True:
        while (found := link.next(now_ns)) is not None:
            model.to_server.append((found.id, found.sequence, found.whose, link.acknowledged))
        while model.to_server:
            model.take(window)
        while model.waiting:
            model.answer(model.waiting.pop())
        if not model.to_client:
            break
        while model.to_client:
            id_ = model.to_client.pop(0)
            model.unanswered.discard(id_)
            answered = link.answered(id_)
            assert answered is not None
            if not answered.dropped:
                told[answered.whose] = told.get(answered.whose, 0) + 1

    assert link.outstanding == []
    assert [sequence for sequence, _ in model.applied] == sorted({sequence for sequence, _ in model.applied})
    applied = [name for _, name in model.applied]
    wanted = [each.whose for each in asked if type(each.request) in CHANGING]
    assert applied == [name for name in wanted if name in set(applied)], "applied in another order than asked"
    assert set(wanted) - dropped <= set(applied), "a change was lost"
    assert not never_sent & set(applied), "dropped before it was sent, and applied all the same"
    assert set(told) == {each.whose for each in asked} - dropped
    assert all(count == 1 for count in told.values())
    assert link.acknowledged == len(wanted)


def test_what_callers_were_promised_waits_for_as_long_as_it_takes() -> None:
    link = make()
    link.lost()
    link.ask(SetAttributes(1, uid=5), "promised", 0, hurried=False)
    link.ask(SetAttributes(1, uid=6), "asked", 0)
    assert names(link.tick(2 * TIMEOUT_NS)) == ["asked"]
    link.connected(2 * TIMEOUT_NS, 100, 5 * S, 15 * S)
    assert names(sent(link, 2 * TIMEOUT_NS)) == ["promised"]


def test_a_lease_that_was_exclusive_comes_back_behind_what_was_promised_under_it() -> None:
    link = make()
    link.ask(change("promised"), "promised", 0, promised=True)
    link.ask(LeaseReturned(1, was_exclusive=True), "exclusive", 0)
    link.ask(LeaseReturned(2), "shared", 0)
    assert link.is_due(0), "somebody waits for it"
    assert names(sent(link)) == ["shared", "promised", "exclusive"]


def test_it_is_said_again_on_the_next_connection_and_then_nothing_is_kept() -> None:
    link = make()
    link.ask(change("promised"), "promised", 0, promised=True)
    link.ask(LeaseReturned(1, kept=True, was_exclusive=True), "exclusive", 0)
    link.ask(LeaseReturned(2), "shared", 0)
    sent(link)
    link.lost()
    assert names(link.tick(2 * TIMEOUT_NS)) == ["shared"], "the others go with the session"
    assert names(link.stated()) == []
    (back,) = link.given_back()
    assert (back.whose, back.request) == ("exclusive", LeaseReturned(1, was_exclusive=True, again=True))
    link.connected(0, 100, 5 * S, 15 * S)
    assert names(sent(link)) == ["promised", "exclusive"]


def test_promises_wait_for_company() -> None:
    link = make()
    promise = link.ask(change("a"), "a", 0, promised=True)
    assert not link.is_due(UNHURRIED_NS - 1) and link.is_due(UNHURRIED_NS)
    assert not promise.was_sent
    link.ask(GetAttributes(1), "b", 0)
    assert names(sent(link)) == ["a", "b"] and promise.was_sent
