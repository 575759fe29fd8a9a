"""Which batches there are and what they have, as it is told in a few answers."""

import pytest

from loligo_mds.core import batches
from loligo_mds.core.requests import ListBatches, ListRemoved, RemoveDirectory, RemoveTree, SetXattr, Unlink
from loligo_trash.batch import Batch
from loligo_trash.policy import MINIMUM_AGE_NAME
from loligo_trash.told import Told, decode_told
from loligo_wire.ids import ROOT_INO
from unit.shard_lab import DIRECTORY, ShardLab

R = int(ROOT_INO)


@pytest.fixture
def lab() -> ShardLab:
    lab = ShardLab()
    lab.ask(SetXattr(R, MINIMUM_AGE_NAME, b"0"))
    return lab


def told(lab: ShardLab, uid: int = 0, below: int = 0, after: int = 0, count: int = 100) -> list[Told]:
    """Page by page, to the end."""
    found: list[Told] = []
    while rows := lab.ask(ListRemoved(after, count, uid, below)):
        assert len(rows) <= count
        found += [decode_told(row) for row in rows if len(row) > 8]
        after = int.from_bytes(rows[-1][:8])
    return found


def numbers(lab: ShardLab, uid: int = 0, below: int = 0) -> list[int]:
    """As ListBatches tells them; what ListRemoved tells must be the same."""
    found: list[int] = []
    after = 0
    while rows := lab.ask(ListBatches(after, 2, uid, below)):
        found += [int.from_bytes(row[:8]) for row in rows if len(row) > 8]
        after = int.from_bytes(rows[-1][:8])
    assert found == [one.batch.id for one in told(lab, uid, below)]
    return found


def test_paths_are_those_of_what_is_restored(lab: ShardLab) -> None:
    a = lab.make(b"a", DIRECTORY)
    t = lab.make(b"a/t", DIRECTORY)
    for name in (b"a/f", b"a/t/x", b"a/t/y"):
        lab.make(name)
    lab.ask(Unlink(t, b"x", 10, 7))
    lab.ask(Unlink(t, b"y", 10, 7))
    lab.ask(RemoveDirectory(a, b"t", 10, 7))
    lab.ask(Unlink(a, b"f", 10, 7))
    lab.ask(RemoveTree(R, b"a", 11, 7, b"label"))
    first, second = told(lab)
    assert sorted(first.paths) == [b"a/f", b"a/t"] and first.is_all and first.batch.names == 4
    assert second.paths == (b"a",) and second.batch.label == b"label"
    assert told(lab, count=1) == [first, second] and told(lab, uid=11) == [second] and told(lab, uid=12) == []


def test_of_many_paths_some_are_told(lab: ShardLab) -> None:
    for number in range(batches.PATHS_MAX + 1):
        lab.make(b"%d" % number)
        lab.ask(Unlink(R, b"%d" % number, 0, 7))
        if number == batches.PATHS_MAX - 1:
            (one,) = told(lab)
            assert len(one.paths) == batches.PATHS_MAX and one.is_all
    (one,) = told(lab)
    assert len(one.paths) == batches.PATHS_MAX and not one.is_all
    for number in range(60):
        lab.make(b"%0250d" % number)
        lab.ask(Unlink(R, b"%0250d" % number, 0, 8))
    one = told(lab)[1]
    assert 20 < len(one.paths) < 60 and not one.is_all


def test_below_a_directory_only_what_was_removed_there_entirely_is_told(lab: ShardLab) -> None:
    d = lab.make(b"d", DIRECTORY)
    e = lab.make(b"d/e", DIRECTORY)
    for name in (b"out", b"d/f", b"d/e/g", b"both", b"d/both"):
        lab.make(name)
    lab.ask(Unlink(R, b"out", 10, 1))
    lab.ask(Unlink(d, b"f", 10, 2))
    lab.ask(Unlink(e, b"g", 11, 3))
    lab.ask(Unlink(d, b"both", 10, 4))
    lab.ask(Unlink(R, b"both", 10, 4))
    lab.ask(RemoveTree(d, b"e", 10, 5))
    assert numbers(lab) == [1, 2, 3, 4, 5] and numbers(lab, below=R) == [1, 2, 3, 4, 5]
    assert numbers(lab, below=d) == [2, 3, 5] and numbers(lab, 10, below=d) == [2, 5]
    assert numbers(lab, below=e) == [3] and numbers(lab, below=999) == []
    assert [one.paths for one in told(lab, below=d)] == [(b"f",), (b"e/g",), (b"e",)]
    assert [one.paths for one in told(lab, below=e)] == [(b"g",)]


def test_an_answer_looks_at_so_much_and_says_how_far(lab: ShardLab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "LOOKED_AT_MAX", 5)
    for number in range(1, 18):
        lab.make(b"f")
        lab.ask(Unlink(R, b"f", 11 if number == 12 else 10, number))
    rows = lab.ask(ListBatches(0, 100, 11))
    assert rows == [(5).to_bytes(8)], "it says how far it looked"
    assert numbers(lab, 11) == [12] and numbers(lab, 10) == [n for n in range(1, 18) if n != 12]
    assert numbers(lab, 12) == []


@pytest.mark.parametrize("row", [b"", b"\0" * 8, Told(Batch(1, 0, 0, 0, 0, 0, 0), (b"path",), True).encode()[:-1]])
def test_what_is_no_row(row: bytes) -> None:
    with pytest.raises(ValueError, match="what is told of a batch"):
        decode_told(row)
