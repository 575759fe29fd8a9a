"""What a mount knows of the locks of its processes: `loligo_client.shell.locks`."""

from concurrent.futures import Future
from errno import EINTR, ENOLCK
from typing import Any

import pytest

from loligo_client.shell import locks as locks_module
from loligo_client.shell.locks import Locks
from loligo_client.shell.tasks import Tasks
from loligo_mds.core.events import HeldLock
from loligo_mds.core.requests import CancelLock, SetLock
from loligo_wire.locks import END
from unit.slow_metadata import SlowMetadata

F = 5


class Lab:
    def __init__(self) -> None:
        self.metadata = SlowMetadata()
        self.locks = Locks(self.metadata)
        self.run = Tasks(self.metadata).run

    def set(self, **how: Any) -> Any:
        """The result of the task, to come."""
        given = {"ino": F, "owner": 1, "start": 0, "end": 9, "exclusive": True, **how}
        return self.run(self.locks.set(SetLock(**given)))

    def answer(self, error: int = 0) -> Any:
        """To the oldest request."""
        request, answer = self.metadata.asked.pop(0)
        if error:
            answer.set_exception(OSError(error, "refused"))
        else:
            answer.set_result(None)
        return request


@pytest.fixture
def lab() -> Lab:
    return Lab()


def test_a_lock_counts_from_when_it_is_granted(lab: Lab) -> None:
    lab.set(pid=7)
    assert lab.locks.held() == [] and lab.locks.of(F, 1, whole=False) is None
    lab.answer()
    assert lab.locks.held() == [HeldLock(F, 1, 0, 9, True, False, 7)]
    assert lab.locks.of(F, 1, whole=False) == SetLock(F, 1, 0, END, unlock=True)
    assert lab.locks.of(F, 2, whole=False) is None and lab.locks.of(F, 1, whole=True) is None


def test_it_ends_when_giving_it_up_is_asked_for(lab: Lab) -> None:
    lab.set()
    lab.answer()
    lab.set(start=3, end=5, unlock=True)
    assert [(lock.start, lock.end) for lock in lab.locks.held()] == [(0, 2), (6, 9)]


def test_who_is_refused_has_nothing(lab: Lab) -> None:
    result = lab.set()
    lab.answer(EINTR)
    assert result.exception().errno == EINTR and lab.locks.held() == []


def test_a_wait_is_taken_back_once(lab: Lab) -> None:
    lab.set(waits=True)
    _, answer = lab.metadata.asked[0]
    assert lab.locks.cancel(answer) and lab.locks.cancel(answer)
    assert [asked for asked, _ in lab.metadata.asked[1:]] == [CancelLock(F, 1)]
    lab.answer()  # it came too late: the lock was granted
    assert len(lab.locks.held()) == 1
    assert not lab.locks.cancel(answer) and not lab.locks.cancel(Future())


def test_not_everybody_may_wait(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks_module, "WAITS_MAX", 2)
    for owner in (1, 2):
        lab.set(owner=owner, waits=True)
    with pytest.raises(OSError, match="too many") as refusal:
        lab.set(owner=3, waits=True)
    assert refusal.value.errno == ENOLCK
    lab.set(owner=1, unlock=True)  # which may be what they wait for
    assert len(lab.metadata.asked) == 3
