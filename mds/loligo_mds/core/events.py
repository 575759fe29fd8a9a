"""Everything that can happen to a shard."""

from dataclasses import dataclass

from loligo_mds.core.requests import Request


@dataclass(slots=True)
class Submitted:
    """A session asks.

    `sequence` numbers the requests of a session that may send one again after a lost connection: the shard applies
    each number once and answers a repetition as it did the first time. 0 belongs to a session that cannot outlive the
    shard's process. `acknowledged`: the session has all answers up to this one.
    """

    session: int
    sequence: int
    request: Request
    acknowledged: int = 0


@dataclass(slots=True)
class SessionOpened:
    session: int


@dataclass(slots=True)
class SessionEnded:
    """It is gone for good: what it held open is let go, what it might have asked again is forgotten."""

    session: int


@dataclass(slots=True)
class ShardRestarted:
    """First event after recovery. `surviving` sessions may come back for what they hold; no other session does."""

    surviving: tuple[int, ...] = ()


Event = Submitted | SessionOpened | SessionEnded | ShardRestarted
