"""Identifiers and their layout.

An inode number is ``shard (16 bits) ‖ counter (48 bits)``, so every party can tell from the number alone
which shard owns an inode. The root directory is inode 1 of shard 0; 0 is never an inode. The numbers of the last shard there
could be are no shard's: a client has them for what it shows of itself, and no server ever hears of one.
"""

from typing import NewType

Ino = NewType("Ino", int)
ShardId = NewType("ShardId", int)
SessionId = NewType("SessionId", int)
Sequence = NewType("Sequence", int)

ROOT_INO = Ino(1)
FIRST_FREE_COUNTER = 2

COUNTER_BITS = 48
COUNTER_MAX = (1 << COUNTER_BITS) - 1
SHARD_MAX = (1 << 16) - 2
#: From here on they are the client's own.
FIRST_CLIENT_INO = Ino((SHARD_MAX + 1) << COUNTER_BITS)


def make_ino(shard: ShardId, counter: int) -> Ino:
    """The inode number of `counter` on `shard`. ValueError outside either range."""
    if not 0 <= shard <= SHARD_MAX or not 1 <= counter <= COUNTER_MAX:
        raise ValueError(f"no inode number for shard {shard}, counter {counter}")
    return Ino(shard << COUNTER_BITS | counter)


def shard_of(ino: Ino) -> ShardId:
    return ShardId(ino >> COUNTER_BITS)
