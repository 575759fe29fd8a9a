"""The rows of table DENTRY: what a directory entry looks like.

directory (8) ‖ cookie (8) ‖ name  ->  ino (8) ‖ type (1). The cookie is a 63-bit hash of the name: see `core.namespace`.
"""

from hashlib import blake2b
from stat import S_IFMT
from struct import Struct

from loligo_wire.attributes import Attributes

#: Cookies below are for "." and "..", which are not stored.
FIRST_COOKIE = 4

_VALUE = Struct(">QB")
_CURSOR = Struct(">QQ")


def cookie_of(name: bytes) -> int:
    """Where `name` stands in a listing: 63 bits, FIRST_COOKIE or more."""
    return int.from_bytes(blake2b(name, digest_size=8).digest()) >> 1 | FIRST_COOKIE


def entry_key(directory: int, name: bytes) -> bytes:
    return _CURSOR.pack(directory, cookie_of(name)) + name


def first_key_behind(directory: int, cookie: int) -> bytes:
    """Where a listing goes on behind `cookie`."""
    return _CURSOR.pack(directory, min(cookie + 1, (1 << 64) - 1))


def encode_entry(attributes: Attributes) -> bytes:
    return _VALUE.pack(attributes.ino, S_IFMT(attributes.mode) >> 12)


def decode_entry(row: bytes) -> tuple[int, int]:
    """(inode, file type bits of mode)"""
    ino, kind = _VALUE.unpack(row)
    return ino, kind << 12
