"""Who is alone in a directory that it made: `core.alone`."""

from typing import Any

import pytest

from loligo_mds.core import alone
from loligo_mds.core.effects import Joined
from loligo_mds.core.events import SessionOpened
from loligo_mds.core.limits import ALONE_MAX
from loligo_mds.core.requests import Create, Link, Lookup, ReadDirectory, RemoveDirectory, Rename, Unlink
from loligo_wire.ids import ROOT_INO
from unit.shard_lab import DIRECTORY, FILE, ShardLab

R = int(ROOT_INO)
A, B = 1, 2


class AloneLab(ShardLab):
    """A has made directory `d`, with the file `f` and the directory `e` in it."""

    def __init__(self) -> None:
        super().__init__()
        self.event(SessionOpened(B, b"client B"))
        self.d = self.ask(Create(R, b"d", DIRECTORY, 0, 0), A).ino
        self.ask(Create(self.d, b"f", FILE, 0, 0), A)
        self.ask(Create(self.d, b"e", DIRECTORY, 0, 0), A)
        self.g = self.ask(Create(R, b"g", FILE, 0, 0), B).ino

    def is_alone(self, session: int, ino: int) -> bool:
        return alone.is_alone(self.shard.state, session, ino)

    def joined(self) -> list[tuple[int, int]]:
        return [(effect.session, effect.ino) for effect in self.effects if isinstance(effect, Joined)]


@pytest.fixture
def lab() -> AloneLab:
    return AloneLab()


def test_who_made_a_directory_is_alone_there_whatever_it_does(lab: AloneLab) -> None:
    lab.ask(Rename(lab.d, b"f", lab.d, b"h"), A)
    lab.ask(Unlink(lab.d, b"h"), A)
    assert lab.is_alone(A, lab.d) and not lab.is_alone(B, lab.d) and not lab.is_alone(A, R)


@pytest.mark.parametrize(
    "change",
    [
        lambda lab: Create(lab.d, b"x", FILE, 0, 0),
        lambda lab: Create(lab.d, b"x", DIRECTORY, 0, 0),
        lambda lab: Unlink(lab.d, b"f"),
        lambda lab: RemoveDirectory(lab.d, b"e"),
        lambda lab: Link(lab.g, lab.d, b"x"),
        lambda lab: Rename(R, b"g", lab.d, b"x"),
        lambda lab: Rename(lab.d, b"f", R, b"x"),
        lambda lab: Rename(R, b"g", lab.d, b"f", flags=2),
    ],
    ids=["create", "mkdir", "unlink", "rmdir", "link", "rename into", "rename out of", "exchange"],
)
def test_whoever_else_changes_a_name_joins_in(lab: AloneLab, change: Any) -> None:
    lab.ask(change(lab), B)
    assert lab.joined() == [(A, lab.d)]
    assert not lab.is_alone(A, lab.d) and not lab.is_alone(B, lab.d)
    lab.ask(Create(lab.d, b"y", FILE, 0, 0), B)
    assert lab.joined() == []


def test_looking_is_not_joining_in(lab: AloneLab) -> None:
    lab.ask(Lookup(lab.d, b"f"), B)
    lab.ask(ReadDirectory(lab.d, 0, 10), B)
    assert lab.joined() == [] and lab.is_alone(A, lab.d)


def test_who_is_refused_does_not_join_in(lab: AloneLab) -> None:
    lab.submit(Create(lab.d, b"f", FILE, 0, 0), B)
    assert lab.joined() == [] and lab.is_alone(A, lab.d)


def test_the_directories_made_first_are_forgotten(lab: AloneLab) -> None:
    state = lab.shard.state
    state.asking = A
    for ino in range(10_000, 10_000 + ALONE_MAX):
        alone.made(state, ino)
    assert len(state.alone) == ALONE_MAX and not lab.is_alone(A, lab.d)
