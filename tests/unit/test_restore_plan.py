"""What is planned so that removed things are back: against a file system that is a dictionary."""

import pytest

from loligo_trash.restore_plan import (
    Conflict,
    Directory,
    Make,
    Move,
    OnConflict,
    Removed,
    RestorePlan,
    There,
    plan_restore,
)

DIRECTORY, OTHER = There.DIRECTORY, There.OTHER


def removed(path: str, batch: int = 1) -> Removed:
    *parents, name = path.encode().split(b"/")
    ways = tuple(Directory(parent, 0o40750, 10, 20) for parent in parents)
    return Removed(b".trash/%d/%s" % (batch, path.encode()), ways, name)


def plan(
    what: list[Removed], there: dict[str, There], on_conflict: OnConflict = OnConflict.FAIL, to: str | None = None
) -> RestorePlan:
    known = {path.encode(): kind for path, kind in there.items()}

    def look(path: bytes) -> There:
        above = path.rpartition(b"/")[0]
        assert not above or known.get(above) is DIRECTORY, f"nobody can look at {path!r}"
        return known.get(path, There.NOTHING)

    return plan_restore(what, look, on_conflict, None if to is None else to.encode())


def told(planned: RestorePlan) -> list[str]:
    """As a person would write it."""
    return [
        f"mkdir {step.path.decode()}"
        if isinstance(step, Make)
        else f"mv {step.removed.source.decode()} {step.target.decode()}"
        for step in planned.steps
    ]


def test_one_rename_where_all_is_as_it_was() -> None:
    planned = plan([removed("a/b/f")], {"a": DIRECTORY, "a/b": DIRECTORY})
    assert planned.steps == [Move(removed("a/b/f"), b"a/b/f", b"a/b/f")]
    assert planned.conflicts == []


def test_what_was_in_the_root() -> None:
    assert told(plan([removed("f")], {})) == ["mv .trash/1/f f"]


def test_missing_directories_are_made_once_and_as_they_were() -> None:
    planned = plan([removed("a/b/c/f"), removed("a/b/c/g"), removed("a/b/h")], {"a": DIRECTORY})
    assert planned.steps[:2] == [
        Make(b"a/b", Directory(b"b", 0o40750, 10, 20)),
        Make(b"a/b/c", Directory(b"c", 0o40750, 10, 20)),
    ]
    assert told(planned)[2:] == [
        "mv .trash/1/a/b/c/f a/b/c/f",
        "mv .trash/1/a/b/c/g a/b/c/g",
        "mv .trash/1/a/b/h a/b/h",
    ]


def test_fail_does_nothing_at_all_and_lists_what_is_in_the_way() -> None:
    there = {"a": DIRECTORY, "a/f": OTHER, "a/d": DIRECTORY}
    planned = plan([removed("a/f"), removed("a/g"), removed("a/d"), removed("a/b/x")], there)
    assert planned.steps == []
    assert planned.conflicts == [Conflict(removed("a/f"), b"a/f"), Conflict(removed("a/d"), b"a/d")]


def test_skip_restores_all_others() -> None:
    there = {"a": DIRECTORY, "a/f": OTHER, "b": OTHER}
    planned = plan([removed("a/f"), removed("a/g"), removed("b/c/x")], there, OnConflict.SKIP)
    assert told(planned) == ["mv .trash/1/a/g a/g"]
    assert planned.conflicts == [Conflict(removed("a/f"), b"a/f"), Conflict(removed("b/c/x"), b"b")]


def test_rename_finds_the_next_free_name() -> None:
    there = {"f": OTHER, "f.restored": DIRECTORY, "f.restored-2": OTHER, "g": OTHER}
    planned = plan([removed("f"), removed("g")], there, OnConflict.RENAME)
    assert planned.steps == [
        Move(removed("f"), b"f.restored-3", b"f"),
        Move(removed("g"), b"g.restored", b"g"),
    ]
    assert planned.conflicts == []


def test_a_name_that_is_as_long_as_names_can_be() -> None:
    name = "n" * 255
    (step,) = plan([removed(name)], {name: OTHER}, OnConflict.RENAME).steps
    assert isinstance(step, Move) and step.target == b"n" * 246 + b".restored"


def test_a_directory_is_made_beside_what_is_in_its_way_and_takes_all_that_was_in_it() -> None:
    planned = plan([removed("a/b/f"), removed("a/g")], {"a": OTHER}, OnConflict.RENAME)
    assert told(planned) == [
        "mkdir a.restored",
        "mkdir a.restored/b",
        "mv .trash/1/a/b/f a.restored/b/f",
        "mv .trash/1/a/g a.restored/g",
    ]
    assert [step.wanted for step in planned.steps if isinstance(step, Move)] == [b"a/b/f", b"a/g"]


def test_one_name_of_several_batches_is_the_newest_ones() -> None:
    both = [removed("f", 2), removed("f", 1)]
    assert told(plan(both, {".trash": DIRECTORY, ".trash/2": DIRECTORY, ".trash/2/f": OTHER}, OnConflict.RENAME)) == [
        "mv .trash/2/f f",
        "mv .trash/1/f f.restored",
    ]


def test_what_an_older_batch_has_goes_into_the_directory_that_a_newer_one_brings() -> None:
    trash = {path: DIRECTORY for path in (".trash", ".trash/2", ".trash/2/d", ".trash/2/d/sub")}
    trash[".trash/2/d/taken"] = OTHER
    older = [removed("d/f"), removed("d/sub/g"), removed("d/new/h"), removed("d/taken")]
    planned = plan([removed("d", 2), *older], trash, OnConflict.RENAME)
    assert told(planned) == [
        "mv .trash/2/d d",
        "mv .trash/1/d/f d/f",
        "mv .trash/1/d/sub/g d/sub/g",
        "mkdir d/new",
        "mv .trash/1/d/new/h d/new/h",
        "mv .trash/1/d/taken d/taken.restored",
    ]


def test_what_comes_along_with_another_is_not_moved_by_itself() -> None:
    planned = plan([removed("d/f"), removed("d"), removed("d")], {})
    assert told(planned) == ["mv .trash/1/d d"]


@pytest.mark.parametrize(
    ("paths", "targets"),
    [
        (["a/b/tree"], ["to/tree"]),
        (["a/b/f", "a/b/g"], ["to/f", "to/g"]),
        (["a/b/f", "a/c/g"], ["to/b/f", "to/c/g"]),
        (["a/f", "a/c/g"], ["to/f", "to/c/g"]),
        (["f", "a/g"], ["to/f", "to/a/g"]),
    ],
)
def test_elsewhere_goes_what_is_left_of_the_paths(paths: list[str], targets: list[str]) -> None:
    planned = plan([removed(path) for path in paths], {"to": DIRECTORY}, to="to")
    assert [step.target.decode() for step in planned.steps if isinstance(step, Move)] == targets


def test_elsewhere_something_may_be_in_the_way_too() -> None:
    there = {"to": DIRECTORY, "to/f": OTHER, "to/b": OTHER}
    assert plan([removed("a/f")], there, to="to").conflicts == [Conflict(removed("a/f"), b"to/f")]
    planned = plan([removed("a/f"), removed("a/b/g")], there, OnConflict.RENAME, to="to")
    assert told(planned) == [
        "mv .trash/1/a/f to/f.restored",
        "mkdir to/b.restored",
        "mv .trash/1/a/b/g to/b.restored/g",
    ]


def test_elsewhere_may_be_the_root() -> None:
    assert told(plan([removed("a/b/f")], {}, to="")) == ["mv .trash/1/a/b/f f"]


def test_two_directories_that_had_one_name_at_different_times_are_one_now() -> None:
    first = Removed(b".trash/1/d/f", (Directory(b"d", 0o40755, 1, 1),), b"f")
    second = Removed(b".trash/1/d~77/f", (Directory(b"d", 0o40700, 2, 2),), b"f")
    trash = {".trash": DIRECTORY, ".trash/1": DIRECTORY, ".trash/1/d": DIRECTORY, ".trash/1/d/f": OTHER}
    assert told(plan([first, second], trash, OnConflict.RENAME)) == [
        "mkdir d",
        "mv .trash/1/d/f d/f",
        "mv .trash/1/d~77/f d/f.restored",
    ]


def test_a_way_that_is_longer_than_a_stack_is_deep() -> None:
    deep = "/".join("d" * 3000)
    assert len(plan([removed(deep)], {}).steps) == 3000
