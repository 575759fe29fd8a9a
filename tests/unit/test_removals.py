"""Objects of removed inodes go when the removing has paused."""

import threading

import pytest

from loligo_mds.core.effects import RemoveObjects
from loligo_mds.shell import removals as module
from loligo_mds.shell.removals import Removals

PLENTY = 1 << 40


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def monotonic(self) -> float:
        return self.now_s


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock


@pytest.fixture
def gone() -> list[int]:
    return []


@pytest.fixture
def removals(gone: list[int], clock: Clock) -> Removals:
    removals = Removals(threading.RLock(), lambda effect: gone.append(effect.ino))
    removals.keep(PLENTY)
    return removals


def note(removals: Removals, *inos: int) -> None:
    for ino in inos:
        removals.note(RemoveObjects(ino, 100, 4096))


def test_they_wait_for_a_pause(removals: Removals, gone: list[int]) -> None:
    note(removals, 1)
    removals.keep(PLENTY)
    note(removals, 2)
    removals.keep(PLENTY)
    assert gone == []
    removals.keep(PLENTY)
    assert gone == [1, 2]
    removals.keep(PLENTY)
    assert gone == [1, 2], "once"


def test_not_for_long(removals: Removals, gone: list[int], clock: Clock) -> None:
    note(removals, 1)
    removals.keep(PLENTY)
    clock.now_s += module.PUT_OFF_S
    note(removals, 2)
    removals.keep(PLENTY)
    assert gone == [1, 2]
    note(removals, 3)
    removals.keep(PLENTY)
    assert gone == [1, 2], "that has not waited"


def test_not_where_space_is_low(removals: Removals, gone: list[int]) -> None:
    removals.keep(2000)
    note(removals, 1)
    assert gone == []
    note(removals, 2)
    assert gone == [1, 2], "that is a good part of what is free"
    removals.keep(PLENTY)
    note(removals, 3)
    removals.keep(0)
    assert gone == [1, 2, 3]


def test_not_too_many(removals: Removals, gone: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PUT_OFF_MAX", 2)
    note(removals, 1, 2, 3)
    assert gone == [1, 2]
