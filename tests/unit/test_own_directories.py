"""Names that need not be asked for: what the metadata says decides, and not for long."""

import pytest

from loligo_client.shell.own_directories import NAMES_MAX, OwnDirectories
from loligo_mds.core.requests import Create, Link, Lookup, ReadDirectory, Rename, Unlink
from loligo_wire.attributes import Attributes

PARENT, D = 1, 5


@pytest.fixture
def clock() -> list[int]:
    """[ns], to be set."""
    return [1_000_000_000]


@pytest.fixture
def own(clock: list[int]) -> OwnDirectories:
    """Directory D has just been made."""
    own = OwnDirectories(1.0, lambda: clock[0])
    make_directory(own, D)
    return own


def make_directory(own: OwnDirectories, ino: int) -> None:
    own.heard(Create(PARENT, b"d%d" % ino, 0o40755, 0, 0), Attributes(ino, 0o40755), [ino])


def make(own: OwnDirectories, name: bytes, alone: bool = True) -> None:
    own.heard(Create(D, name, 0o100644, 0, 0), Attributes(77, 0o100644), [D] if alone else [])


def test_what_was_not_made_is_not_there(own: OwnDirectories) -> None:
    make(own, b"f")
    assert own.lack(D, b"g") and not own.lack(D, b"f")
    assert not own.lack(PARENT, b"g"), "it was not made here"
    assert not own.lack(D, b".") and not own.lack(D, b"..") and not own.lack(D, b"n" * 256)


def test_a_name_may_come_in_many_ways(own: OwnDirectories) -> None:
    file = Attributes(77, 0o100644)
    own.heard(Link(77, D, b"link"), file, [D])
    own.heard(Rename(PARENT, b"x", D, b"came"), None, [D])
    own.heard(Rename(D, b"exchanged", PARENT, b"y", flags=2), None, [D])
    assert not any(own.lack(D, name) for name in (b"link", b"came", b"exchanged"))


def test_a_name_that_was_removed_is_asked_for(own: OwnDirectories) -> None:
    make(own, b"f")
    own.heard(Unlink(D, b"f"), Attributes(77, 0o100644, nlink=0), [D])
    assert not own.lack(D, b"f") and own.lack(D, b"g")


def test_what_was_told_is_believed_for_a_while(own: OwnDirectories, clock: list[int]) -> None:
    clock[0] += 900_000_000
    assert own.lack(D, b"g")
    make(own, b"f")
    clock[0] += 900_000_000
    assert own.lack(D, b"g")
    own.heard(Lookup(D, b"f"), Attributes(77, 0o100644), [])  # says nothing of the directory
    clock[0] += 100_000_000
    assert not own.lack(D, b"g")
    own.heard(ReadDirectory(D, 0, 10), [], [D])
    assert own.lack(D, b"g")


def test_who_is_not_alone_any_more_asks(own: OwnDirectories) -> None:
    make(own, b"f", alone=False)
    make(own, b"h")
    assert not own.lack(D, b"g")


def test_others_have_joined_in(own: OwnDirectories) -> None:
    make_directory(own, 6)
    own.forget(D)
    own.forget(99)
    assert not own.lack(D, b"g") and own.lack(6, b"g")


def test_nothing_is_known_after_the_server_was_away(own: OwnDirectories) -> None:
    """A Create that was given up may have been done."""
    own.forget_all()
    make(own, b"f")
    assert not own.lack(D, b"g")


def test_the_oldest_directories_are_forgotten_when_there_are_too_many_names(own: OwnDirectories) -> None:
    make_directory(own, 6)
    for number in range(NAMES_MAX - 2):
        own.heard(Create(6, b"%d" % number, 0o100644, 0, 0), Attributes(77, 0o100644), [6])
    assert own.lack(D, b"g")
    own.heard(Create(6, b"one more", 0o100644, 0, 0), Attributes(77, 0o100644), [6])
    assert not own.lack(D, b"g") and own.lack(6, b"g")
