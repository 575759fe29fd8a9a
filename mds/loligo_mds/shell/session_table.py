"""The sessions that a server knows, connected or not: who they are, when they last said something, how they end.

The durable part is the shard's (`core.sessions`); this is what there is of them in memory. Only the event loop's thread
comes here.
"""

import asyncio
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from loligo_mds.core.admission import SessionLimits
from loligo_mds.shell.session_record import SessionRecord

if TYPE_CHECKING:
    from loligo_mds.shell.connection import Connection

_HEARTBEAT_MAX_S: Final = 2.0
#: Clients give a connection up after two, see `loligo_client.core.session_link`.
_LEASE_HEARTBEATS: Final = 3
#: Who closes his connection without a word and is not back so soon is dead: others try again at once, and give up an attempt
#: after five seconds.
_BACK_WITHIN_S: Final = 7.0


class Session:
    """`heard_s` is of the loop's clock; `closed_s` too: since when the connection is closed, if its client did that. `ending`:
    it is being fenced, and nobody may come back to it. `has_lapsed`: it has no leases, for want of a word from it.
    """

    __slots__ = (
        "closed_s",
        "connection",
        "ended",
        "ending",
        "has_lapsed",
        "heard_s",
        "id",
        "limits",
        "recalls",
        "record",
        "requests",
    )

    def __init__(self, id: int, record: SessionRecord, heard_s: float) -> None:
        self.id = id
        self.record = record
        self.heard_s = heard_s
        self.limits = SessionLimits(record.root_ino, record.read_only, id)
        self.closed_s: float | None = None
        self.connection: Connection | None = None
        self.requests = 0
        self.recalls = 0
        self.has_lapsed = False
        #: Why, once it is so.
        self.ending = ""
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def __str__(self) -> str:
        return f"session {self.id:x} ({self.record.who})"


class SessionTable:
    """A session that is silent for `lease_s` has lost its leases, and after `expiry_s` it ends. `heartbeat_s`: how often it
    says something.
    """

    def __init__(self, expiry_s: float) -> None:
        self.expiry_s = expiry_s
        self.heartbeat_s = min(_HEARTBEAT_MAX_S, expiry_s / 4)
        self.lease_s = _LEASE_HEARTBEATS * self.heartbeat_s
        self._sessions: dict[int, Session] = {}

    def add(self, session: Session) -> None:
        self._sessions[session.id] = session

    def remove(self, session: Session) -> None:
        self._sessions.pop(session.id, None)

    def get(self, id: int) -> Session | None:
        return self._sessions.get(id)

    def __iter__(self) -> Iterator[Session]:
        return iter(list(self._sessions.values()))

    def __len__(self) -> int:
        return len(self._sessions)

    @property
    def connected(self) -> int:
        return sum(session.connection is not None for session in list(self._sessions.values()))

    def lapsed(self, now_s: float) -> list[Session]:
        """Those that have been silent for longer than leases last, and had not been before."""
        found = []
        for session in self._sessions.values():
            if now_s - session.heard_s <= self.lease_s:
                session.has_lapsed = False
            elif session.record.takes_leases and not session.has_lapsed:
                found.append(session)
        return found

    def expired(self, now_s: float) -> list[Session]:
        """Those that have been silent for too long, and are not ending yet."""
        return [
            session
            for session in self._sessions.values()
            if not session.ending and now_s - session.heard_s > self.expiry_s
        ]

    def keeps_waiting(self, session: Session, since_s: float, now_s: float) -> bool:
        """Whether the session has owed something to others for too long."""
        if session.closed_s is not None and now_s - session.closed_s > _BACK_WITHIN_S:
            return True
        return now_s - since_s > self.expiry_s

    def excuse(self, late_s: float) -> None:
        """This process was not there to listen for so long: nobody is to blame for that."""
        for session in self._sessions.values():
            session.heard_s += late_s
            if session.closed_s is not None:
                session.closed_s += late_s
