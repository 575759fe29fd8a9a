"""Locks on byte ranges, against one that remembers every byte."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from loligo_wire.locks import END, Lock, in_the_way, with_lock, without

BYTES = 12
OWNERS = [(1, 1), (1, 2), (2, 1)]

ranges = st.tuples(st.integers(0, BYTES - 1), st.integers(0, BYTES - 1)).map(sorted)
steps = st.lists(st.tuples(st.sampled_from(OWNERS), ranges, st.sampled_from([None, False, True])), max_size=40)


@given(steps)
def test_agrees_with_a_table_of_bytes(changes: list[tuple[tuple[int, int], list[int], bool | None]]) -> None:
    held: list[Lock] = []
    bytes_of: dict[tuple[int, int], dict[int, bool]] = {owner: {} for owner in OWNERS}
    for owner, (start, end), exclusive in changes:
        span = range(start, end + 1)
        if exclusive is None:
            held = without(held, *owner, start, end)
            for at in span:
                bytes_of[owner].pop(at, None)
        else:
            wanted = Lock(*owner, start, end, exclusive)
            free = all(
                not (exclusive or others[at])
                for other, others in bytes_of.items()
                if other != owner
                for at in span
                if at in others
            )
            assert (in_the_way(held, wanted) == []) is free
            if free:
                held = with_lock(held, wanted)
                bytes_of[owner].update(dict.fromkeys(span, exclusive))
        for one, theirs in bytes_of.items():
            mine = sorted((lock for lock in held if lock.is_of(*one)), key=lambda lock: lock.start)
            assert {at: lock.exclusive for lock in mine for at in range(lock.start, lock.end + 1)} == theirs
            for before, after in pairwise(mine):
                assert before.end < after.start, "they overlap"
                assert before.end + 1 < after.start or before.exclusive != after.exclusive, "two could be one"


def test_the_end_of_the_file_is_far_away() -> None:
    held = with_lock([], Lock(1, 1, 100, END, True))
    assert in_the_way(held, Lock(2, 1, 1 << 60, END, False)) == held
    assert in_the_way(held, Lock(2, 1, 0, 99, True)) == []
