"""Where something was: the directories from the volume's root down to the one that it was removed from, as they were then.

What is restored goes back to that directory, wherever it is by now; if it is gone, its path is made again, with the modes and
owners that are kept here. Of a path that is too long for that (WAY_MAX_BYTES) the root and the last directories are kept.

Record (table TRASH_PLACE, big-endian): the last directory's mtime (8), signed ns since 1970, before anything was removed from
it; then for each directory, the root first, ino (8), mode (4), uid (4), gid (4), length of the name (2), name; the root's is
empty.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from struct import Struct
from struct import error as StructError
from typing import Final

#: A path of PATH_MAX fits, unless its names are all very short.
WAY_MAX_BYTES: Final = 8192

_MTIME: Final = Struct(">q")
_STEP: Final = Struct(">QIIIH")


@dataclass(frozen=True, slots=True)
class Step:
    """One directory on the way."""

    ino: int
    mode: int
    uid: int
    gid: int
    name: bytes

    @property
    def size(self) -> int:
        """Bytes of it in a record."""
        return _STEP.size + len(self.name)


@dataclass(frozen=True, slots=True)
class Place:
    mtime_ns: int
    steps: tuple[Step, ...]


def encode_place(mtime_ns: int, steps: Sequence[Step]) -> bytes:
    way = (_STEP.pack(step.ino, step.mode, step.uid, step.gid, len(step.name)) + step.name for step in steps)
    return _MTIME.pack(mtime_ns) + b"".join(way)


def mtime_of(record: bytes) -> int:
    return int(_MTIME.unpack_from(record)[0])


def decode_place(record: bytes) -> Place:
    """Inverse of `encode_place`. ValueError."""
    steps = []
    at = _MTIME.size
    try:
        mtime_ns = mtime_of(record)
        while at < len(record):
            ino, mode, uid, gid, length = _STEP.unpack_from(record, at)
            at += _STEP.size
            steps.append(Step(ino, mode, uid, gid, record[at : at + length]))
            at += length
    except StructError as error:
        raise ValueError(f"the record of a place: {error}") from None
    if not steps or at != len(record):
        raise ValueError("the record of a place ends too soon")
    return Place(mtime_ns, tuple(steps))
