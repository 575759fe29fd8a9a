"""Everything that can happen to a shard."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from loligo_mds.core.requests import Request

if TYPE_CHECKING:
    from loligo_mds.core.admission import SessionLimits


@dataclass(slots=True)
class Submitted:
    """A session asks.

    `sequence` numbers the requests of a session that may send one again after a lost connection: the shard applies
    each number once and answers a repetition as it did the first time. 0 belongs to a session that cannot outlive the
    shard's process. `acknowledged`: the session has all answers up to this one. `id` comes back with the reply. `limits`: what
    the session may ask, for whoever runs the shard.
    """

    session: int
    sequence: int
    request: Request
    acknowledged: int = 0
    id: int = 0
    limits: "SessionLimits | None" = None
    #: Others' leases were in its way before: it was not applied until now.
    waited: bool = False
    #: When the session has promised its caller that this happens, if it has. See `core.delegations`.
    promised_ns: int = 0


@dataclass(slots=True)
class SessionOpened:
    """`record` is kept with the session, for those who must know after a restart who it was; opaque here.

    `takes_leases`: it gives them back when they are recalled, see `core.leases`.
    """

    session: int
    record: bytes = b""
    takes_leases: bool = False


@dataclass(slots=True)
class SessionRestated:
    """A session has a new connection: `holds` are what it has open now, instead of all that was known of it.

    `complete` False: more holds follow, to be added. With the last of them a restarted shard knows all of this session.
    `acknowledged`: it has all answers up to this sequence, as in `Submitted`. `locks` of files that it has said that it holds.
    `delegations`: leases that it has for itself still, of those that it had.
    """

    session: int
    holds: list["Hold"]
    first: bool = True
    complete: bool = True
    acknowledged: int = 0
    locks: list["HeldLock"] = field(default_factory=list)
    delegations: list[int] = field(default_factory=list)


@dataclass(slots=True)
class Hold:
    """A file that a session has open. `contended`, `claimed`, `quiet`: see `core.opens`."""

    ino: int
    count: int
    writes: bool = False
    contended: bool = False
    claimed: bool = False
    quiet: bool = False


@dataclass(slots=True)
class HeldLock:
    """A lock that a session has. See `core.locks`."""

    ino: int
    owner: int
    start: int
    end: int
    exclusive: bool = False
    whole: bool = False
    pid: int = 0


@dataclass(slots=True)
class SessionEnded:
    """It is gone for good, and fenced: what it held open is let go, what it might have asked again is forgotten."""

    session: int


@dataclass(slots=True)
class Repaired:
    """Objects and size of the file agree again, after `RepairObjects`."""

    ino: int


@dataclass(slots=True)
class ShardRestarted:
    """First event after recovery. `surviving` sessions may come back for what they hold; no other session does. `lease_takers`
    are those of them that may hold leases.
    """

    surviving: tuple[int, ...] = ()
    lease_takers: tuple[int, ...] = ()


@dataclass(slots=True)
class LeasesLapsed:
    """The session has no leases any more: it was not heard for so long that it has dropped them and its connection, or it has
    come back.
    """

    session: int


@dataclass(slots=True)
class RoomChanged:
    """Whether so little room is left for rows that changes may soon be refused."""

    is_low: bool


Event = (
    Submitted | SessionOpened | SessionRestated | SessionEnded | Repaired | ShardRestarted | LeasesLapsed | RoomChanged
)
