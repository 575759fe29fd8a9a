"""Locks over all sessions: `core.locks`."""

from errno import EAGAIN, EDEADLK, EINTR, ENOENT, ENOLCK
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loligo_mds.core import locks
from loligo_mds.core.effects import Reply
from loligo_mds.core.events import HeldLock, Hold, SessionEnded, SessionOpened, SessionRestated, ShardRestarted
from loligo_mds.core.locks import LockWait
from loligo_mds.core.requests import CancelLock, Close, Create, GetLock, Open, SetLock
from loligo_wire.ids import ROOT_INO
from loligo_wire.locks import END, Lock, in_the_way
from unit.shard_lab import FILE, ShardLab

R = int(ROOT_INO)
A, B, C = 1, 2, 3


class LocksLab(ShardLab):
    """Three sessions that have the files `f` and `g` open."""

    def __init__(self) -> None:
        super().__init__()
        for session in (A, B, C):
            self.event(SessionOpened(session, b"client %d" % session))
        self.f, self.g = (self.ask(Create(R, name, FILE, 0, 0), A).ino for name in (b"f", b"g"))
        for session in (A, B, C):
            for ino in (self.f, self.g):
                self.ask(Open(ino), session)

    def replies(self) -> dict[int, int]:
        """What the last step answered: id -> errno."""
        return {effect.id: effect.errno for effect in self.effects if isinstance(effect, Reply)}

    def lock(self, session: int, owner: int = 1, **how: Any) -> int | None:
        """The errno; None: it waits. The record is byte 0 of `f` if nothing else is said."""
        id = self.submit(self.wanted(owner, **how), session)
        return self.replies().get(id)

    def wanted(self, owner: int = 1, **how: Any) -> SetLock:
        given: dict[str, Any] = {"ino": self.f, "start": 0, "end": 0, "exclusive": True, **how}
        return SetLock(owner=owner, **given)

    def check(self) -> None:
        """Nobody has what another excludes, and whoever waits has to."""
        state = self.shard.state
        for ino, file in state.locks.items():
            assert file.waiting or file.held[False] or file.held[True]
            for held in file.held.values():
                assert not any(in_the_way(held, lock) for lock in held)
            for waiting in file.waiting:
                whole = type(waiting.request) is SetLock and waiting.request.whole
                assert ino < state.reclaim_below or in_the_way(file.held[whole], waiting.lock)
            assert bool(file.waiting) is (ino in state.waited_for_locks)
        for session, mine in state.session_locks.items():
            found = {
                ino: count
                for ino, file in state.locks.items()
                if (count := sum(one.session == session for held in file.held.values() for one in held))
            }
            assert mine.files == found and mine.total == sum(found.values())
            assert set(found) <= set(state.session_files.get(session, ()))

    def held(self, ino: int, whole: bool = False) -> list[Lock]:
        file = self.shard.state.locks.get(ino)
        return [] if file is None else sorted(file.held[whole], key=lambda lock: (lock.session, lock.start))


def told(lab: LocksLab) -> tuple[list[int], list[LockWait]]:
    state = lab.shard.state
    return [locks.held(state, session) for session in (A, B, C)], list(locks.waits(state))


@pytest.fixture
def lab() -> LocksLab:
    return LocksLab()


def test_one_excludes_the_others_until_he_is_done(lab: LocksLab) -> None:
    assert lab.lock(A) == 0
    assert lab.lock(B) == EAGAIN
    assert lab.lock(A, owner=2) == EAGAIN, "owners of one session are as foreign to each other"
    assert lab.lock(A) == 0
    assert lab.lock(A, unlock=True) == 0
    assert lab.lock(B) == 0


def test_those_who_share_exclude_who_does_not(lab: LocksLab) -> None:
    assert lab.lock(A, exclusive=False) == lab.lock(B, exclusive=False) == 0
    assert lab.lock(C) == EAGAIN and lab.lock(C, exclusive=False) == 0


def test_only_bytes_that_both_want_are_in_the_way(lab: LocksLab) -> None:
    assert lab.lock(A, start=10, end=19) == 0
    assert lab.lock(B, start=0, end=9) == lab.lock(B, start=20, end=END) == 0
    assert lab.lock(B, start=19, end=19) == EAGAIN


def test_flock_and_fcntl_do_not_see_each_other(lab: LocksLab) -> None:
    assert lab.lock(A, end=END, whole=True) == 0
    assert lab.lock(B) == 0 and lab.lock(B, end=END, whole=True) == EAGAIN


def test_who_waits_is_answered_when_he_has_it(lab: LocksLab) -> None:
    lab.lock(A)
    waits = lab.submit(lab.wanted(waits=True), B)
    assert lab.replies() == {}
    lab.lock(A, unlock=True)
    assert lab.replies()[waits] == 0
    assert lab.lock(A) == EAGAIN


def test_who_came_first_is_served_first(lab: LocksLab) -> None:
    lab.lock(A)
    first = lab.submit(lab.wanted(waits=True), B)
    second = lab.submit(lab.wanted(waits=True), C)
    lab.lock(A, unlock=True)
    assert first in lab.replies() and second not in lab.replies()
    lab.lock(B, unlock=True)
    assert second in lab.replies()


def test_less_lets_others_in(lab: LocksLab) -> None:
    lab.lock(A, end=9)
    shares = lab.submit(lab.wanted(exclusive=False, end=9, waits=True), B)
    lab.lock(A, exclusive=False, start=0, end=9)
    assert lab.replies()[shares] == 0


def test_who_would_wait_for_himself_is_told(lab: LocksLab) -> None:
    lab.lock(A)
    lab.lock(B, ino=lab.g)
    lab.lock(C, start=5, end=5)
    assert lab.lock(A, ino=lab.g, waits=True) is None
    assert lab.lock(C, waits=True) is None
    assert lab.lock(B, start=5, end=5, waits=True) == EDEADLK
    assert lab.lock(B, ino=lab.g, unlock=True) == 0, "whoever was told can make way"
    assert lab.held(lab.g)[0].session == A


def test_two_who_both_want_more_of_a_flock_do_not_wait_for_ever(lab: LocksLab) -> None:
    shared = {"end": END, "whole": True, "exclusive": False}
    whole = {"end": END, "whole": True}
    assert lab.lock(A, **shared) == lab.lock(B, **shared) == 0
    assert lab.lock(A, **whole) == EAGAIN
    assert len(lab.held(lab.f, True)) == 2, "who does not want to wait keeps what he has"
    assert lab.lock(A, **whole, waits=True) is None
    assert lab.lock(B, **whole, waits=True) == 0
    assert lab.lock(B, **whole, unlock=True) == 0
    assert lab.held(lab.f, True)[0].session == A


def test_a_wait_can_be_given_up(lab: LocksLab) -> None:
    lab.lock(A)
    other = lab.submit(lab.wanted(waits=True, wait=8), B)
    waits = lab.submit(lab.wanted(waits=True, wait=9), B)
    lab.submit(CancelLock(lab.f, 9), C)
    lab.submit(CancelLock(lab.f, 7), B)
    assert waits not in lab.replies()
    lab.submit(CancelLock(lab.f, 9), B)
    assert lab.replies()[waits] == EINTR and other not in lab.replies(), "though both say the same"
    lab.submit(CancelLock(lab.f, 8), B)
    lab.lock(A, unlock=True)
    lab.submit(CancelLock(lab.f, 9), B)
    assert lab.held(lab.f) == []


def test_who_has_it_is_told(lab: LocksLab) -> None:
    lab.lock(A, start=5, end=9, pid=77)
    found = lab.ask(GetLock(lab.f, 1, 0, END), B)
    assert (found.start, found.end, found.exclusive, found.pid) == (5, 9, True, 77)
    assert lab.ask(GetLock(lab.f, 1, 0, END), A) is None
    assert lab.ask(GetLock(lab.g, 1, 0, END), B) is None


def test_it_ends_with_the_last_close_and_with_the_session(lab: LocksLab) -> None:
    lab.lock(A)
    lab.lock(A, ino=lab.g)
    waits = [lab.submit(lab.wanted(waits=True, ino=ino), B) for ino in (lab.f, lab.g)]
    lab.submit(Close(lab.f), A)
    assert waits[0] in lab.replies()
    assert lab.lock(A) == ENOENT and lab.lock(A, unlock=True) == 0, "it has not got the file open"
    lab.event(SessionEnded(A))
    assert waits[1] in lab.replies()


def test_who_waits_and_ends_is_forgotten(lab: LocksLab) -> None:
    lab.lock(A)
    lab.lock(B, waits=True)
    lab.event(SessionEnded(B))
    lab.lock(A, unlock=True)
    assert lab.held(lab.f) == []


def test_there_is_an_end_to_what_a_session_may_lock(lab: LocksLab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "LOCKS_MAX", 3)
    assert [lab.lock(A, start=at, end=at) for at in (0, 10, 20, 30)] == [0, 0, 0, ENOLCK]
    assert lab.lock(A, start=10, end=10, unlock=True) == 0 and lab.lock(A, start=30, end=30) == 0


def test_there_is_an_end_to_what_one_file_may_have(lab: LocksLab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "LOCKS_IN_FILE_MAX", 3)
    monkeypatch.setattr(locks, "LOCK_WAITS_IN_FILE_MAX", 1)
    assert [lab.lock(A, start=at, end=at + 5) for at in (0, 10, 20)] == [0, 0, 0]
    assert lab.lock(B, start=30, end=30) == ENOLCK
    assert lab.lock(A, start=12, end=12, unlock=True) == ENOLCK, "two would be left"
    assert lab.lock(A, start=10, end=12, unlock=True) == 0
    assert lab.lock(A, start=0, end=5, unlock=True) == 0
    assert lab.lock(B, start=20, end=20, waits=True) is None
    assert lab.lock(C, start=20, end=20, waits=True) == ENOLCK


def test_both_sides_of_a_cycle_are_not_refused(lab: LocksLab) -> None:
    """Found when all have spoken after a restart: one way out is enough."""
    lab.restarted()
    lab.event(ShardRestarted((A, B)))
    lab.event(SessionRestated(B, [Hold(lab.f, 1)], locks=[HeldLock(lab.f, 1, 1, 1, True)]))
    lab.submit(lab.wanted(start=0, end=0, waits=True), B)
    lab.event(SessionRestated(A, [Hold(lab.f, 1)], complete=False))
    lab.event(SessionRestated(A, [], first=False, complete=False, locks=[HeldLock(lab.f, 1, 0, 0, True)]))
    lab.event(SessionRestated(A, [], first=False))
    assert lab.replies() == {}
    assert lab.lock(A, start=1, end=1, waits=True) == EDEADLK


def test_a_file_that_is_stated_in_two_frames_stays_taken(lab: LocksLab) -> None:
    lab.lock(A, start=0, end=0)
    lab.lock(A, start=5, end=5)
    lab.event(SessionRestated(A, [Hold(lab.f, 1)], complete=False, locks=[HeldLock(lab.f, 1, 0, 0, True)]))
    assert lab.lock(B, start=5, end=5) == EAGAIN
    lab.event(SessionRestated(A, [], first=False, locks=[HeldLock(lab.f, 1, 5, 5, True)]))
    assert len(lab.held(lab.f)) == 2


# -- coming back ----------------------------------------------------------------------------------------------------


def restate(lab: LocksLab, session: int, *held: HeldLock) -> None:
    holds = [Hold(lab.f, 1), Hold(lab.g, 1)]
    lab.event(SessionRestated(session, holds, complete=False))
    lab.event(SessionRestated(session, [], first=False, locks=list(held)))


def test_who_comes_back_has_what_he_says_and_no_more(lab: LocksLab) -> None:
    lab.lock(A, end=9)
    lab.lock(A, ino=lab.g)
    waits = [lab.submit(lab.wanted(waits=True, **how), B) for how in ({"start": 7, "end": 7}, {"ino": lab.g})]
    lab.event(SessionRestated(A, [Hold(lab.f, 1), Hold(lab.g, 1)], complete=False))
    assert lab.replies() == {}, "it has not said all that it has"
    lab.event(SessionRestated(A, [], first=False, locks=[HeldLock(lab.f, 1, 0, 4, True)]))
    assert lab.replies() == dict.fromkeys(waits, 0)
    assert lab.held(lab.f) == [Lock(A, 1, 0, 4, True), Lock(B, 1, 7, 7, True)]


def test_what_it_has_stays_when_the_rest_of_its_coming_back_takes_several_steps(lab: LocksLab) -> None:
    """Clearing up after a restart may be more than one step's work: then the same is done again."""
    lab.lock(A)
    restate(lab, A, HeldLock(lab.f, 1, 0, 0, True))
    locks.end_restating(lab.shard.state, A)
    assert len(lab.held(lab.f)) == 1


def test_who_states_without_end_is_not_listened_to(lab: LocksLab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "LOCKS_MAX", 2)
    endless = [HeldLock(ino, 1, at, at, True) for ino in (999, lab.f) for at in range(0, 20, 2)]
    lab.event(SessionRestated(A, [Hold(lab.f, 1)], complete=False, locks=endless))
    assert len(lab.shard.state.stated_locks[A]) == 2
    lab.event(SessionRestated(A, [], first=False))
    assert len(lab.held(lab.f)) == 2


def test_what_another_has_cannot_be_had_by_saying_so(lab: LocksLab) -> None:
    lab.lock(A)
    restate(lab, B, HeldLock(lab.f, 1, 0, 0, True), HeldLock(lab.f, 1, 5, 5, True), HeldLock(999, 1, 0, 0, True))
    assert lab.held(lab.f) == [Lock(A, 1, 0, 0, True), Lock(B, 1, 5, 5, True)]


def test_after_a_restart_nothing_is_granted_until_all_have_spoken(lab: LocksLab) -> None:
    lab.lock(A)
    lab.restarted()
    lab.event(ShardRestarted((A, B)))
    restate(lab, B)
    tries = lab.submit(lab.wanted(), B)
    asks = lab.submit(GetLock(lab.f, 1, 0, 0, True), B)
    waits = lab.submit(lab.wanted(start=5, end=5, waits=True), B)
    assert lab.replies() == {}
    restate(lab, A, HeldLock(lab.f, 1, 0, 0, True))
    assert lab.replies() == {tries: EAGAIN, asks: 0, waits: 0}
    assert lab.held(lab.f) == [Lock(A, 1, 0, 0, True), Lock(B, 1, 5, 5, True)]


# -- whatever happens -----------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=150)
@given(st.integers(0, 1 << 32), st.integers(1, 120))
def test_nobody_has_what_another_excludes_and_nobody_waits_for_nothing(seed: int, steps: int) -> None:
    random = Random(seed)
    lab = LocksLab()
    waiting: dict[int, tuple[int, SetLock]] = {}
    for _ in range(steps):
        session, ino = random.choice((A, B, C)), random.choice((lab.f, lab.g))
        start = random.randrange(6)
        draw = random.random()
        if draw < 0.7:
            wanted = SetLock(
                ino,
                random.choice((1, 2)),
                start,
                random.randrange(start, 6),
                exclusive=random.random() < 0.5,
                unlock=random.random() < 0.3,
                whole=random.random() < 0.3,
                waits=random.random() < 0.6,
                wait=lab.last_id,
            )
            id = lab.submit(wanted, session)
            if id not in lab.replies():
                waiting[id] = session, wanted
        elif draw < 0.8 and waiting:
            asker, asked = random.choice(list(waiting.values()))
            lab.submit(CancelLock(asked.ino, asked.wait), asker)
        elif draw < 0.85 and ino in lab.shard.state.session_files.get(session, ()):
            lab.submit(Close(ino), session)
            waiting = {id: (one, asked) for id, (one, asked) in waiting.items() if (one, asked.ino) != (session, ino)}
        elif draw < 0.9:
            lab.submit(Open(ino), session)
        elif draw < 0.95:
            mine = [
                HeldLock(ino, one.owner, one.start, one.end, one.exclusive, whole)
                for ino in (lab.f, lab.g)
                for whole in (False, True)
                for one in lab.held(ino, whole)
                if one.session == session and random.random() < 0.8
            ]
            restate(lab, session, *mine)
            waiting = {id: (one, asked) for id, (one, asked) in waiting.items() if one != session}
        else:
            lab.event(SessionEnded(session))
            lab.event(SessionOpened(session, b"again"))
            waiting = {id: (one, asked) for id, (one, asked) in waiting.items() if one != session}
        for id in lab.replies():
            waiting.pop(id, None)
        lab.check()
    for session in (A, B, C):
        lab.event(SessionEnded(session))
    state = lab.shard.state
    assert not (state.locks or state.session_locks or state.waited_for_locks or state.stated_locks)


def test_people_are_told_who_has_locks_and_who_waits_for_whom(lab: LocksLab) -> None:
    assert told(lab) == ([0, 0, 0], [])
    assert lab.lock(A, exclusive=False) == lab.lock(B, exclusive=False) == lab.lock(A, start=5, end=5) == 0
    assert lab.lock(B, whole=True, end=END) == 0
    assert lab.lock(C, waits=True, pid=77) is None
    assert lab.lock(A, whole=True, end=END, waits=True, pid=78) is None
    waits = [LockWait(C, lab.f, 77, False, [A, B]), LockWait(A, lab.f, 78, True, [B])]
    assert told(lab) == ([2, 2, 0], waits)
    lab.ask(Close(lab.f), B)
    assert told(lab) == ([3, 0, 0], [LockWait(C, lab.f, 77, False, [A])])
    lab.event(SessionEnded(A))
    assert told(lab) == ([0, 0, 1], [])


def test_who_waits_after_a_restart_waits_for_nobody_known(lab: LocksLab) -> None:
    lab.restarted()
    lab.event(ShardRestarted((A, B)))
    lab.event(SessionRestated(B, [Hold(lab.f, 1)]))
    assert lab.lock(B, waits=True, pid=7) is None
    assert told(lab) == ([0, 0, 0], [LockWait(B, lab.f, 7, False, [])])
