"""What is remembered of directories that just changed: never older than any answer, and not for long."""

from typing import Any

import pytest

from loligo_client.shell.recent_attributes import KNOWN_MAX, RecentAttributes
from loligo_mds.core.requests import (
    Create,
    Lookup,
    ReadDirectory,
    RecordAccess,
    RemoveDirectory,
    Rename,
    SetAttributes,
    Unlink,
)
from loligo_wire.attributes import Attributes

ROOT_AT_SERVER = 77


@pytest.fixture
def clock() -> list[int]:
    """[ns], to be set."""
    return [1_000_000_000]


@pytest.fixture
def recent(clock: list[int]) -> RecentAttributes:
    return RecentAttributes(1.0, ROOT_AT_SERVER, lambda: clock[0])


def directory(ino: int, size: int = 0) -> Attributes:
    return Attributes(ino, 0o40755, size=size)


def made_in(recent: RecentAttributes, parent: Attributes) -> None:
    recent.heard(Create(parent.ino, b"f", 0o100644, 0, 0), Attributes(1 << 30, 0o100644), [parent])


def test_a_directory_is_known_by_what_the_last_change_in_it_told(recent: RecentAttributes) -> None:
    assert recent.find(5) is None
    made_in(recent, directory(5, size=1))
    made_in(recent, directory(5, size=2))
    found = recent.find(5)
    assert found is not None and found[0].size == 2


def test_what_is_left_of_its_time_is_told(recent: RecentAttributes, clock: list[int]) -> None:
    made_in(recent, directory(5))
    clock[0] += 600_000_000
    found = recent.find(5)
    assert found is not None and found[1] == pytest.approx(0.4)
    clock[0] += 400_000_000
    assert recent.find(5) is None


def test_the_root_of_the_mount_goes_by_its_number_here(recent: RecentAttributes) -> None:
    made_in(recent, directory(ROOT_AT_SERVER))
    assert recent.find(1) is not None


@pytest.mark.parametrize(
    ("request_", "answer"),
    [
        (SetAttributes(5, mode=0o700), directory(5, size=8)),
        (Lookup(1, b"d"), directory(5, size=8)),
        (RecordAccess(5, 17), directory(5, size=8)),
        (ReadDirectory(1, 0, 10, True), [(b"d", 9, 5, 0o40000, directory(5, size=8))]),
    ],
)
def test_whatever_is_newer_takes_its_place(
    recent: RecentAttributes, clock: list[int], request_: Any, answer: Any
) -> None:
    made_in(recent, directory(5))
    clock[0] += 600_000_000
    recent.heard(request_, answer, [])
    found = recent.find(5)
    assert found is not None and found[0].size == 8 and found[1] == pytest.approx(1.0)


def test_what_is_gone_or_may_have_moved_is_not_known(recent: RecentAttributes) -> None:
    made_in(recent, directory(5))
    gone = directory(5)
    gone.nlink = 0
    recent.heard(RemoveDirectory(1, b"d"), gone, [])
    assert recent.find(5) is None
    made_in(recent, directory(5))
    recent.heard(Rename(1, b"d", 1, b"e"), None, [directory(1)])
    assert recent.find(5) is None


def test_what_is_being_changed_is_asked_for(recent: RecentAttributes) -> None:
    made_in(recent, directory(5))
    recent.forget(5)
    recent.forget(6)
    assert recent.find(5) is None


def test_answers_about_others_and_names_alone_change_nothing(recent: RecentAttributes) -> None:
    made_in(recent, directory(5))
    recent.heard(Lookup(1, b"x"), directory(6), [])
    recent.heard(Lookup(1, b"x"), None, [])
    recent.heard(ReadDirectory(1, 0, 10), [(b"d", 9, 5, 0o40000, None)], [])
    recent.heard(Unlink(6, b"f"), Attributes(8, 0o100644, nlink=0), [directory(6)])
    assert recent.find(5) is not None and recent.find(6) is not None


def test_the_oldest_are_forgotten(recent: RecentAttributes) -> None:
    for ino in range(100, 100 + KNOWN_MAX):
        made_in(recent, directory(ino))
    made_in(recent, directory(100))  # as good as new
    made_in(recent, directory(5))
    assert recent.find(101) is None
    assert recent.find(100) is not None and recent.find(5) is not None
