"""Locks on the bytes of one file, as fcntl(2) and flock(2) have them: who has which, and which stand in the way of another.

A lock is an owner's on bytes `start` to `end`, the last included; one of the whole file ends at `END`. Owners are told apart by
(session, owner): what an owner is within a session only that session knows. Locks of one owner never overlap, and those of
the same mode that touch are one, so they need no more room than there are changes of mode along the file. Taking a lock
replaces what its owner had on those bytes; nobody is in his own way.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final

#: The last byte that a file can have: of locks that go on to its end, wherever that will be.
END: Final = (1 << 63) - 1


@dataclass(frozen=True, slots=True)
class Lock:
    """`pid`: the process that has it, on its own machine, for who asks."""

    session: int
    owner: int
    start: int
    end: int
    exclusive: bool
    pid: int = 0

    def is_of(self, session: int, owner: int) -> bool:
        return self.owner == owner and self.session == session

    def is_in_the_way_of(self, other: "Lock") -> bool:
        return (
            self.start <= other.end
            and other.start <= self.end
            and (self.exclusive or other.exclusive)
            and not self.is_of(other.session, other.owner)
        )


def in_the_way(locks: Iterable[Lock], wanted: Lock) -> list[Lock]:
    """Those of `locks` that must go before `wanted` can be had."""
    return [lock for lock in locks if lock.is_in_the_way_of(wanted)]


def without(locks: Iterable[Lock], session: int, owner: int, start: int, end: int) -> list[Lock]:
    """What is left when the owner gives up those bytes."""
    left = []
    for lock in locks:
        if not lock.is_of(session, owner) or lock.end < start or end < lock.start:
            left.append(lock)
            continue
        if lock.start < start:
            left.append(replace(lock, end=start - 1))
        if end < lock.end:
            left.append(replace(lock, start=end + 1))
    return left


def with_lock(locks: Iterable[Lock], taken: Lock) -> list[Lock]:
    """What is held when nothing was in the way of `taken`."""
    left = []
    start, end = taken.start, taken.end
    for lock in without(locks, taken.session, taken.owner, start, end):
        same = lock.is_of(taken.session, taken.owner) and lock.exclusive == taken.exclusive
        if same and lock.end + 1 == taken.start:
            start = lock.start
        elif same and taken.end + 1 == lock.start:
            end = lock.end
        else:
            left.append(lock)
    left.append(replace(taken, start=start, end=end))
    return left
