"""What is told of a batch to who lists the trash: its record, and the paths of what it has, as many as there is room for.

Row of an answer (big-endian): batch (8), length of its record (2), whether these are all paths (1), the record
(`loligo_trash.batch`); then for each path its length (2) and the path, from the root that was asked for, without a slash in
front.
"""

from dataclasses import dataclass
from struct import Struct
from struct import error as StructError
from typing import Final

from loligo_trash.batch import Batch, decode_batch

_HEAD: Final = Struct(">QHB")
_LENGTH: Final = Struct(">H")


@dataclass(frozen=True, slots=True)
class Told:
    batch: Batch
    paths: tuple[bytes, ...]
    is_all: bool

    def encode(self) -> bytes:
        record = self.batch.encode()
        paths = (_LENGTH.pack(len(path)) + path for path in self.paths)
        return _HEAD.pack(self.batch.id, len(record), self.is_all) + record + b"".join(paths)


def decode_told(row: bytes) -> Told:
    """Inverse of `Told.encode`. ValueError."""
    paths = []
    try:
        id, length, is_all = _HEAD.unpack_from(row)
        at = _HEAD.size + length
        batch = decode_batch(id, row[_HEAD.size : at])
        while at < len(row):
            (length,) = _LENGTH.unpack_from(row, at)
            at += _LENGTH.size + length
            paths.append(row[at - length : at])
    except StructError as error:
        raise ValueError(f"what is told of a batch: {error}") from None
    if at != len(row):
        raise ValueError("what is told of a batch ends too soon")
    return Told(batch, tuple(paths), bool(is_all))
