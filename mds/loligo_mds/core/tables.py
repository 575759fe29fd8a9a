"""The tables of a shard, as the core sees them: ordered maps of bytes, nothing more.

The core reads and writes them inside a step. Every change of a step is also kept, in order, as its *write set*;
the shell journals that set before anybody hears the answer. `loligo_mds.store` implements the port on LMDB and
in memory; both pass the same contract tests (tests/contracts/).
"""

from collections.abc import Iterator
from enum import IntEnum
from typing import Protocol


class Table(IntEnum):
    """Numbers are stored in the journal: never renumber, never reuse."""

    META = 0  # name -> value                    counters; the store keeps its own rows in META too
    INODE = 1  # ino -> attributes               see loligo_wire.attributes
    DENTRY = 2  # directory ‖ cookie ‖ name -> ino ‖ type      see core.namespace
    XATTR = 3  # ino ‖ name -> value
    INLINE = 4  # ino -> the whole content of a small file, or the target of a symbolic link
    ORPHAN = 5  # ino -> empty                   no name left, but still open somewhere
    UNSETTLED = 6  # ino -> start, end, block size    see core.content
    SESSION = 7  # session -> last applied sequence, inode numbers reserved for it
    REPLY = 8  # session ‖ sequence -> answer not yet acknowledged
    CLIENT = 9  # session -> who it is: opaque, for those who talk to it
    DELEGATION = 10  # ino of the lease -> session      see core.delegations
    # Of these see core.trash.
    TRASH = 11  # batch ‖ directory ‖ cookie ‖ name -> ino ‖ type, what goes with it
    TRASH_PLACE = 12  # batch ‖ directory -> where the directory was
    TRASH_BATCH = 13  # batch -> who removed it, when, how much it is
    TRASH_DUE = 14  # priority ‖ ns ‖ batch -> empty    when to look whether it is to be purged


#: One change: table, key, value, or None for a deletion.
Write = tuple[int, bytes, bytes | None]


class Tables(Protocol):
    def get(self, table: int, key: bytes) -> bytes | None: ...

    def put(self, table: int, key: bytes, value: bytes) -> None: ...

    def delete(self, table: int, key: bytes) -> None:
        """Remove `key`; a missing key is no error."""

    def scan(self, table: int, first: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Rows with key >= `first` in byte order. Valid until the next change of any table."""
