"""One session at a metadata server: what is asked, in which order it leaves, and what happens when the connection breaks.

It owns the list of requests that are not answered yet. `SessionLink` is told what happens (asked, connected, answered, lost,
time passed) and says what to do (the next request to send, what has timed out, that the connection is dead). It moves no
bytes and reads no clock; times are ns of any clock that only goes forward.

Rules
1. Requests leave in the order in which they were asked. Those whose answers may have to wait for other clients (`_WAITING`) are
   the exception: they get half of the window at most, and the rest overtakes them then: what is asked meanwhile may be the
   very thing that they wait for. Leases that come back overtake everything, and have room beyond the window: any change may
   wait for one. But not those that were exclusive: they come behind all that was promised under them.
2. A changing request gets the next sequence when it is asked, and keeps it. All others have 0. Every request gets a new id
   each time it is sent, so an answer that belongs to an earlier connection fits nothing.
3. A connection that is lost takes no request with it: those that were sent go back to the front, in order. The server applies
   each sequence once, so they may be sent again.
4. While the server is away a request may be dropped (`drop`; or `tick` when it takes too long, but not what callers were
   promised). One that was not sent never happens. One that was sent may have happened, but it is not sent again, so its
   answer never comes.
5. Some requests say what a session that comes back states anyhow (`STATED_BY_HOLDS`): it is `stated` instead of them.
6. For the answers of unhurried requests nobody waits: they are a reason to send only after `UNHURRIED_NS`. Whatever else is
   sent earlier takes them along, in order; and somebody may come who waits after all (`hurry`).
7. `acknowledged`: every changing request up to this sequence is answered, or will never be sent again.
8. The server takes our leases away when it has not heard of us for their time, and we must have dropped them by then. So what
   counts is when that was *sent* of which we know that it has arrived, and the connection is given up in time (`is_silent`).
"""

from collections import deque
from dataclasses import dataclass
from typing import Any, Final

from loligo_mds.core.limits import LEASES_RETURNED_MAX
from loligo_mds.core.requests import (
    CHANGING,
    STATED_BY_HOLDS,
    Claim,
    Close,
    GetAttributes,
    GetLock,
    GetXattr,
    LeaseReturned,
    ListXattrs,
    Lookup,
    Open,
    ReadDirectory,
    RecordAccess,
    Request,
    SetAttributes,
    SetLock,
    Settle,
)

#: Requests whose answers may have to wait for other clients.
_WAITING = frozenset({Open, Claim, Lookup, GetAttributes, ReadDirectory, GetXattr, ListXattrs, SetLock, GetLock})


def _may_wait(request: Any) -> bool:
    kind = type(request)
    return kind in _WAITING and not (kind is SetLock and request.unlock)


def _was_exclusive(request: Any) -> bool:
    return type(request) is LeaseReturned and request.was_exclusive


def _overtakes(request: Any) -> bool:
    return type(request) is LeaseReturned and not request.was_exclusive


#: Nobody ever waits for them.
UNHURRIED: Final = frozenset({Close, RecordAccess, Settle})
#: Who does one thing after the other is back much sooner; others may wait for what is closed here.
UNHURRIED_NS: Final = 20_000_000


@dataclass(slots=True, eq=False)
class Outstanding:
    """A request that is not answered yet. `whose` is the caller's, to tell when it is.

    `id` is 0 while it is not sent; `was_sent` may have been on an earlier connection. `order` counts requests of all kinds.
    """

    request: Any
    whose: Any
    order: int
    asked_ns: int
    hurried: bool
    sequence: int = 0
    id: int = 0
    sent_ns: int = 0
    was_sent: bool = False
    dropped: bool = False
    #: As `core.promises` has it; and the answer has no value.
    promised: bool = False

    @property
    def counts(self) -> bool:
        """Among `SessionLink._hurried`, while it is not sent."""
        return self.hurried and not (_may_wait(self.request) or _overtakes(self.request))

    @property
    def is_lasting(self) -> bool:
        """Somebody was told that it has happened: it goes only with the session."""
        if type(self.request) is SetAttributes:
            return not self.hurried
        return self.promised or _was_exclusive(self.request)


class SessionLink:
    def __init__(self, timeout_ns: int) -> None:
        """`timeout_ns`: how long a request waits for a server that is away."""
        self._timeout_ns = timeout_ns
        self._orders = 0
        self._ids = 0
        self._sequences = 0
        #: Not sent on this connection, by order.
        self._waiting: deque[Outstanding] = deque()
        #: ... those of `_WAITING`, and leases that come back.
        self._patient: deque[Outstanding] = deque()
        self._returned: deque[Outstanding] = deque()
        #: How many of `_waiting` are in a hurry.
        self._hurried = 0
        #: The last of them that was unhurried when it was asked, and is not now.
        self._hurry_up_to = 0
        #: Sent on this connection, by id.
        self._sent: dict[int, Outstanding] = {}
        self._patient_sent = 0
        #: Sequences that are not settled, in order.
        self._unsettled: dict[int, None] = {}
        self._connected = False
        #: The connection, or the one before if there is none, was good for something.
        self.was_answered = False
        self._window = 0
        self._heartbeat_ns = 0
        #: When the server last said something; while away: since when it is.
        self._heard_ns = 0
        self._said_ns = 0
        self._lease_ns = 0
        #: When the last was sent that has arrived at the server for certain, and heartbeats that are not answered.
        self._arrived_ns = 0
        self._heartbeats: deque[int] = deque()

    # -- what is asked --------------------------------------------------------------------------------------------

    def ask(
        self, request: Request | Any, whose: Any, now_ns: int, hurried: bool = True, promised: bool = False
    ) -> Outstanding:
        kind = type(request)
        self._orders += 1
        asked = Outstanding(
            request, whose, self._orders, now_ns, hurried and not promised and kind not in UNHURRIED, promised=promised
        )
        if kind in CHANGING:
            self._sequences += 1
            asked.sequence = self._sequences
            self._unsettled[asked.sequence] = None
        self._hurried += asked.counts
        self._lane(request).append(asked)
        return asked

    def _lane(self, request: Any) -> deque[Outstanding]:
        if _overtakes(request):
            return self._returned
        return self._patient if _may_wait(request) else self._waiting

    def hurry(self) -> None:
        """Somebody waits for what was asked until now."""
        self._hurry_up_to = self._orders

    def drop(self, asked: Outstanding) -> None:
        """Nobody waits for it any more. Only while there is no connection."""
        asked.dropped = True
        self._unsettled.pop(asked.sequence, None)
        self._hurried -= asked.counts

    def stated(self) -> list[Outstanding]:
        """What is open is being stated, as it is now: what says the same is dropped here, and done as far as the caller is
        concerned. Only while there is no connection.
        """
        told = (*self._returned, *self._waiting)
        done = [
            asked
            for asked in told
            if not asked.dropped and type(asked.request) in STATED_BY_HOLDS and not _was_exclusive(asked.request)
        ]
        for asked in done:
            self.drop(asked)
        return done

    def given_back(self) -> list[Outstanding]:
        """Leases that are exclusive at the server until it hears that they come back. Now, when all are lost, none is kept."""
        asked = [asked for asked in self._waiting if not asked.dropped and _was_exclusive(asked.request)]
        for one in asked:
            one.request.kept, one.request.again = False, True
        return asked

    def next(self, now_ns: int) -> Outstanding | None:
        """What to send now; it counts as sent. None: nothing, or not now."""
        if not self._connected:
            return None
        returned = self._returned
        while returned and returned[0].dropped:
            returned.popleft()
        if returned and len(self._sent) < self._window + LEASES_RETURNED_MAX:
            return self._send(returned.popleft(), now_ns)
        if len(self._sent) >= self._window:
            return None
        waiting, patient = self._waiting, self._patient
        while waiting and waiting[0].dropped:
            waiting.popleft()
        while patient and patient[0].dropped:
            patient.popleft()
        if patient and self._patient_sent < max(1, self._window // 2):
            if waiting and waiting[0].order < patient[0].order:
                found = waiting.popleft()
            else:
                found = patient.popleft()
                self._patient_sent += 1
        elif waiting:
            found = waiting.popleft()
        else:
            return None
        return self._send(found, now_ns)

    def _send(self, found: Outstanding, now_ns: int) -> Outstanding:
        self._hurried -= found.counts
        self._ids += 1
        found.id = self._ids
        self._sent[found.id] = found
        self._said_ns = found.sent_ns = now_ns
        found.was_sent = True
        return found

    def is_due(self, now_ns: int) -> bool:
        """Whether `next` may have something for which a frame should be sent."""
        if not self._connected:
            return False
        if self._returned and len(self._sent) < self._window + LEASES_RETURNED_MAX:
            return True
        if len(self._sent) >= self._window:
            return False
        if self._hurried or (self._patient and self._patient_sent < max(1, self._window // 2)):
            return True
        if not self._waiting:
            return False
        first = self._waiting[0]
        return first.order <= self._hurry_up_to or now_ns - first.asked_ns >= UNHURRIED_NS

    @property
    def has_unhurried(self) -> bool:
        """Whether something will be due, if nothing else is sent before."""
        return bool(self._waiting)

    @property
    def acknowledged(self) -> int:
        for sequence in self._unsettled:
            return sequence - 1
        return self._sequences

    def answered(self, id_: int) -> Outstanding | None:
        """The request whose answer has come; None if there is none, as after a repeated answer."""
        asked = self._sent.pop(id_, None)
        if asked is not None:
            self.was_answered = True
            self._arrived_ns = max(self._arrived_ns, asked.sent_ns)
            self._unsettled.pop(asked.sequence, None)
            if _may_wait(asked.request):
                self._patient_sent -= 1
        return asked

    @property
    def outstanding(self) -> list[Outstanding]:
        """All that somebody waits for, in no order."""
        everything = (*self._sent.values(), *self._returned, *self._waiting, *self._patient)
        return [asked for asked in everything if not asked.dropped]

    # -- the connection -------------------------------------------------------------------------------------------

    @property
    def is_connected(self) -> bool:
        return self._connected

    def connected(self, now_ns: int, window: int, heartbeat_ns: int, lease_ns: int) -> None:
        """The server has taken the session up, and knows what it has open: requests may go."""
        self._connected = True
        self.was_answered = False
        self._window = window
        self._heartbeat_ns = heartbeat_ns
        self._lease_ns = lease_ns
        self._heard_ns = self._said_ns = self._arrived_ns = now_ns
        self._heartbeats.clear()

    def heard(self, now_ns: int) -> None:
        """Anything has come from the server."""
        self._heard_ns = now_ns

    def heartbeat(self, now_ns: int) -> None:
        """A frame without requests was sent, to be answered by one without anything."""
        self._said_ns = now_ns
        self._heartbeats.append(now_ns)

    def heartbeat_answered(self) -> None:
        if self._heartbeats:
            self.was_answered = True
            self._arrived_ns = max(self._arrived_ns, self._heartbeats.popleft())

    def needs_heartbeat(self, now_ns: int) -> bool:
        """Nothing was said, or nothing was answered for as long."""
        last_ns = self._heartbeats[-1] if self._heartbeats else self._arrived_ns
        return self._connected and now_ns - min(self._said_ns, last_ns) >= self._heartbeat_ns

    def is_silent(self, now_ns: int) -> bool:
        """The connection is dead, whatever the network believes: give it up, before the server gives up on us."""
        return self._connected and now_ns - self._arrived_ns > self._lease_ns - self._heartbeat_ns

    def lost(self) -> None:
        """The connection is gone: what was sent and not answered is to be sent again on the next one."""
        self._connected = False
        for asked in reversed(self._sent.values()):
            asked.id = 0
            self._hurried += asked.counts
            self._lane(asked.request).appendleft(asked)
        self._sent.clear()
        self._patient_sent = 0

    def tick(self, now_ns: int) -> list[Outstanding]:
        """Requests that have waited for a server that is away for too long: dropped here, and failed by the caller."""
        if self._connected:
            return []
        begun_ns = now_ns - self._timeout_ns
        if begun_ns < self._heard_ns:
            return []
        late = [asked for asked in self.outstanding if asked.asked_ns <= begun_ns and not asked.is_lasting]
        for asked in late:
            self.drop(asked)
        if late:
            self._waiting = deque(asked for asked in self._waiting if not asked.dropped)
            self._patient = deque(asked for asked in self._patient if not asked.dropped)
        return late
