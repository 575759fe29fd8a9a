"""What is to be done so that removed things are back, decided before anything is changed.

Rules
1. A removed thing comes back with one rename, whatever is in it.
2. Directories that it was in and that are not there any more are made again, as they were.
3. Nothing is replaced. What has the name by now is *in the way*; the policy says what follows from that:

   fail     nothing is done at all
   skip     the thing stays where it is; all others are restored
   rename   it comes back under another name: ``name.restored``, ``name.restored-2``, …; so does a directory that has to be made
            where something else is

4. Things are restored in the order in which they are given, and each finds what those before it have brought.

Paths are bytes, from the root of the mount, without a slash at either end; the root is empty.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum
from itertools import chain, count
from typing import Final

_NAME_MAX_BYTES: Final = 255


class There(Enum):
    """What a path leads to, if symlinks are not followed."""

    NOTHING = 0
    DIRECTORY = 1
    OTHER = 2


class OnConflict(Enum):
    FAIL = "fail"
    RENAME = "rename"
    SKIP = "skip"


@dataclass(frozen=True, slots=True)
class Directory:
    """One that a removed thing was in, as it was then."""

    name: bytes
    mode: int
    uid: int
    gid: int


@dataclass(frozen=True, slots=True)
class Removed:
    """`source`: where it is now, in the trash. `parents`: where it was, the outermost directory first."""

    source: bytes
    parents: tuple[Directory, ...]
    name: bytes

    @property
    def path(self) -> bytes:
        return join(path_of(self.parents), self.name)


@dataclass(frozen=True, slots=True)
class Make:
    """A directory is made at `path`, with the mode and the owner of `like`."""

    path: bytes
    like: Directory


@dataclass(frozen=True, slots=True)
class Move:
    """`wanted`: where it would be had nothing been in the way."""

    removed: Removed
    target: bytes
    wanted: bytes


@dataclass(frozen=True, slots=True)
class Conflict:
    """It cannot be where it should, because of what is at `in_the_way`."""

    removed: Removed
    in_the_way: bytes


@dataclass(slots=True)
class RestorePlan:
    """`conflicts`: what is not restored; none with the policy `rename`."""

    steps: list[Make | Move] = field(default_factory=list)
    conflicts: list[Conflict] = field(default_factory=list)


def plan_restore(
    removed: Sequence[Removed],
    look: Callable[[bytes], There],
    on_conflict: OnConflict,
    to: bytes | None = None,
) -> RestorePlan:
    """`look`: what is where, in the trash too. It is asked about a path only if all above it are directories.

    `to`: a directory that is there, below which things are restored instead, with what is left of their paths below the
    directory that all were in.
    """
    wanted = _outermost(removed)
    planner = _Planner(look, on_conflict, b"" if to is None else to, 0 if to is None else _depth_in_common(wanted))
    for one in wanted:
        planner.restore(one)
    plan = planner.plan
    if on_conflict is OnConflict.FAIL and plan.conflicts:
        plan.steps.clear()
    return plan


def join(directory: bytes, name: bytes) -> bytes:
    return directory + b"/" + name if directory else name


def path_of(directories: Sequence[Directory]) -> bytes:
    return b"/".join(directory.name for directory in directories)


def _outermost(removed: Sequence[Removed]) -> list[Removed]:
    """Each once, and without those that come along with another."""
    sources = {one.source for one in removed}
    found: dict[bytes, Removed] = {}
    for one in removed:
        if not any(above in sources for above in _above(one.source)):
            found.setdefault(one.source, one)
    return list(found.values())


def _above(path: bytes) -> Iterator[bytes]:
    """The directories on the way there, the innermost first, without the root."""
    while path := path.rpartition(b"/")[0]:
        yield path


def _depth_in_common(removed: Sequence[Removed]) -> int:
    """How many directories, from the root on, all of it was in."""
    ways = [[directory.name for directory in one.parents] for one in removed]
    depth = 0
    for names in zip(*ways, strict=False):
        if len(set(names)) > 1:
            break
        depth += 1
    return depth


class _InTheWay(Exception):
    def __init__(self, path: bytes) -> None:
        self.path = path


class _Planner:
    def __init__(self, look: Callable[[bytes], There], on_conflict: OnConflict, top: bytes, depth: int) -> None:
        """`top`: below which everything goes, with its path but for the first `depth` directories."""
        self.plan = RestorePlan()
        self._look = look
        self._on_conflict = on_conflict
        self._top = top
        self._depth = depth
        #: Target -> source of what was moved so far; and directories made.
        self._moved: dict[bytes, bytes] = {}
        self._made: set[bytes] = set()
        #: Directories as they are wanted -> where they are: already, or by the plan.
        self._ready: dict[bytes, bytes] = {b"": b"", top: top}

    def restore(self, removed: Removed) -> None:
        parents = removed.parents[self._depth :]
        wanted = join(self._below_top(parents), removed.name)
        try:
            directory = self._directory(parents)
            target = self._unless_taken(directory, removed.name)
        except _InTheWay as found:
            self.plan.conflicts.append(Conflict(removed, found.path))
            return
        self._moved[target] = removed.source
        self.plan.steps.append(Move(removed, target, wanted))

    def _below_top(self, parents: Sequence[Directory]) -> bytes:
        return join(self._top, path_of(parents)) if parents else self._top

    def _directory(self, parents: Sequence[Directory]) -> bytes:
        """Where it is, or will be: what is missing is made. _InTheWay: then nothing is made, since only above what is there can
        something be in the way.
        """
        found = self._ready.get(self._below_top(parents))
        if found is not None:
            return found
        found = wanted = self._top
        for parent in parents:
            wanted = join(wanted, parent.name)
            path = self._ready.get(wanted) or join(found, parent.name)
            if self._there(path) is not There.DIRECTORY:
                path = self._unless_taken(found, parent.name)
                self._made.add(path)
                self.plan.steps.append(Make(path, parent))
            self._ready[wanted] = found = path
        return found

    def _unless_taken(self, directory: bytes, name: bytes) -> bytes:
        """The path of that name, or of one like it. _InTheWay."""
        path = join(directory, name)
        if self._there(path) is There.NOTHING:
            return path
        if self._on_conflict is not OnConflict.RENAME:
            raise _InTheWay(path)
        for number in count(1):
            ending = b".restored" if number == 1 else b".restored-%d" % number
            path = join(directory, name[: _NAME_MAX_BYTES - len(ending)] + ending)
            if self._there(path) is There.NOTHING:
                break
        return path

    def _there(self, path: bytes) -> There:
        """When all that is planned so far is done."""
        if path in self._made:
            return There.DIRECTORY
        for at in chain([path], _above(path)):
            if at in self._moved:
                return self._look(self._moved[at] + path[len(at) :])
            if at in self._made:
                return There.NOTHING
        return self._look(path)
