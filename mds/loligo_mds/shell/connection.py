"""One stream of one client: the handshake, and then frames, until either side ends it.

A coroutine reads a frame, has its requests answered on the spot, and writes one frame with all the answers. Answers that have
to wait (for other clients, for the disk) and notices come from elsewhere (`tell`); `outbox` sees to it that only one writes.

Rules
1. Nothing that a client sends raises out of here. What makes no sense is answered with a Refusal, a line in the log, and
   the end of this stream; the session stays.
2. After every await the stream may be closed, for example because its session goes on elsewhere: then nothing is asked
   any more.
3. Bounded are: the length of a frame, the holds in one, the requests without an answer, what waits to be written to a
   client that does not read, and the time that it may take for that.
4. A long frame lets others run every `SLICE_NS`.
5. Nobody hears of an error that the next start of the server heals: a shard that has stopped ends the stream instead.
"""

import asyncio
import logging
from dataclasses import replace
from errno import EIO
from functools import partial
from time import perf_counter_ns
from typing import Any, Final

import grpc.aio

from loligo_mds.core.admission import note_answer
from loligo_mds.core.codec import Sync, decode_hold, decode_lock, decode_request, parse_client_frame
from loligo_mds.core.effects import Effect, LeaseRecall, Recall, Reply, Report, Resume
from loligo_mds.core.events import SessionRestated, Submitted
from loligo_mds.core.limits import LEASES_RETURNED_MAX
from loligo_mds.core.requests import CHANGING, Opened
from loligo_mds.shell.handshake import WINDOW, Refused, shake_hands
from loligo_mds.shell.limited_log import LimitedLog
from loligo_mds.shell.outbox import GONE, Outbox
from loligo_mds.shell.service import Service, refusal
from loligo_mds.shell.session_table import Session
from loligo_mds.shell.tls import peer_identity
from loligo_mds.store.errors import StoreError
from loligo_wire.ids import ROOT_INO
from loligo_wire.v1 import loligo_pb2 as pb

log = logging.getLogger(__name__)
_complaints = LimitedLog(log)

FRAME_MAX_BYTES: Final = 16 << 20
HOLDS_IN_FRAME: Final = 65536
SLICE_NS: Final = 2_000_000
HELLO_WITHIN_S: Final = 10.0
#: How long a client that does not read is waited for when its stream is to end anyway.
LAST_WORD_WITHIN_S: Final = 1.0
NOTICES_MAX: Final = 100_000
FENCE_ADDRESSES_MAX: Final = 64
_ID_BITS: Final = 64


class _Nonsense(Exception):
    """The client breaks the protocol."""


class _Waiting:
    """A request whose answer comes later."""

    __slots__ = ("began_ns", "id", "kind")

    def __init__(self, id: int, kind: type, began_ns: int) -> None:
        self.id = id
        self.kind = kind
        self.began_ns = began_ns


class Connection:
    _number = 0

    def __init__(self, service: Service, context: Any) -> None:
        self._service = service
        service.connections.add(self)
        self._context = context
        self._metrics = service.metrics
        self.peer = str(context.peer())
        self._session: Session | None = None
        #: Requests are numbered within the server by connection and id: nothing said to an older stream fits.
        Connection._number += 1
        self._base = Connection._number << _ID_BITS
        self._last_id = 0
        self._waiting: dict[int, _Waiting] = {}
        self._must_restate = False
        #: While it does: the files that it has stated by now.
        self._stated: set[int] = set()
        self._outbox = Outbox(context.write, self.close)
        self._closed = False
        self._last_word: pb.Refusal | None = None
        self._task: asyncio.Task[Any] | None = None

    # -- life -----------------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        self._task = asyncio.current_task()
        try:
            await self._converse()
        except Refused as refused:
            self._metrics.refused(pb.Refusal.Reason.Name(refused.refusal.reason).lower())
            _complaints.warning("%s is refused: %s", self.peer, refused)
            self._last_word = refused.refusal
        except (_Nonsense, ValueError) as error:
            self._metrics.frames_bad += 1
            _complaints.warning("%s talks nonsense, its connection ends: %s", self.peer, error)
            self._last_word = refusal(
                pb.Refusal.PROTOCOL,
                f"the server does not understand this client ({error}): use the same version of both",
            )
        except asyncio.CancelledError:
            if not self._closed or self._task is None:
                raise
            self._task.uncancel()  # it was `close`
        except GONE as error:
            log.debug("%s is gone: %s", self.peer, error)
        except (OSError, StoreError) as error:  # the shard has stopped, or has no room for what must be written
            log.error("%s cannot be served: %s", self.peer, error)
            self._last_word = _cannot_go_on(error)
        except Exception:
            log.exception("the connection of %s ends: this is a bug in loligo", self.peer)
            self._last_word = refusal(pb.Refusal.OTHER, "the server has failed: see its log")
        session = self._session
        if session is not None and session.connection is self:
            session.connection = None
            if not self._closed and self._last_word is None:
                session.closed_s = asyncio.get_running_loop().time()
        self._closed = True
        self._service.connections.discard(self)
        await self._outbox.end(self._last_word, LAST_WORD_WITHIN_S)

    def close(self, last_word: pb.Refusal | None = None) -> None:
        """End the stream, with this as its last frame. The session stays as it is."""
        if not self._closed:
            self._closed = True
            self._last_word = last_word
            # A write that is let go half-way would be in the way of the last word; it ends soon by itself, or is cut.
            if self._task is not None and not self._outbox.is_flushing:
                self._task.cancel()

    def cut(self) -> None:
        """The client does not read: end the stream at once, without a word."""
        self._closed = True
        self._last_word = None
        if self._task is not None:
            self._task.cancel()

    @property
    def writing_since_s(self) -> float:
        """By the loop's clock; 0 while nothing is being written."""
        return self._outbox.writing_since_s

    async def _read(self) -> pb.ClientFrame | None:
        data = await self._context.read()
        if data is grpc.aio.EOF:
            return None
        return parse_client_frame(data)

    async def _converse(self) -> None:
        try:
            async with asyncio.timeout(HELLO_WITHIN_S):
                first = await self._read()
        except TimeoutError:
            raise _Nonsense(f"no hello within {HELLO_WITHIN_S:g} s") from None
        if first is None:
            return
        if not first.HasField("hello"):
            raise _Nonsense("its first word is no hello")
        session = await self._begin(first.hello)
        clock = asyncio.get_running_loop().time
        while not self._closed:
            frame = await self._read()
            if frame is None or self._closed:
                return
            session.heard_s = clock()
            if not self._service.may_step.is_set():
                await self._service.may_step.wait()
            await self._handle(session, frame)

    async def _begin(self, hello: pb.Hello) -> Session:
        session, welcome = await shake_hands(self._service, hello, peer_identity(self._context))
        if session.connection is not None:
            session.connection.close(refusal(pb.Refusal.OTHER, "the session goes on with another connection"))
        session.connection = self
        session.closed_s = None
        session.heard_s = asyncio.get_running_loop().time()
        self._session = session
        self._must_restate = welcome.resumed
        self._metrics.handshakes["resumed" if welcome.resumed else "welcome"] += 1
        log.info("%s %s from %s", session, "is back" if welcome.resumed else "begins", self.peer)
        self._outbox.add_frame(pb.ServerFrame(welcome=welcome))
        await self._outbox.flush()
        return session

    # -- frames ---------------------------------------------------------------------------------------------------------

    async def _handle(self, session: Session, frame: pb.ClientFrame) -> None:
        requests = frame.requests
        if requests and not self._closed:
            self._outbox.will_flush = True
            try:
                await self._answer(session, requests, frame.acknowledged)
            finally:
                self._outbox.will_flush = False
        if self._closed:
            return
        if frame.holds_first or frame.holds_complete or frame.holds or frame.locks or frame.delegations:
            self._restate(session, frame)
        if frame.HasField("fence"):
            await self._learn_fence(session, frame.fence)
            if self._closed:
                return
        if frame.HasField("hello"):
            raise _Nonsense("a second hello")
        if frame.goodbye:
            self._closed = True
            session.connection = None
            await self._outbox.flush()
            self._service.end_session(session)
        elif frame.ByteSize() == 0:
            self._outbox.add_frame(pb.ServerFrame())
            await self._outbox.flush()

    def _restate(self, session: Session, frame: pb.ClientFrame) -> None:
        if not self._must_restate or frame.requests:
            raise _Nonsense("it states what is open at the wrong time")
        if len(frame.holds) + len(frame.locks) + len(frame.delegations) > HOLDS_IN_FRAME:
            raise _Nonsense(f"more than {HOLDS_IN_FRAME} locks, holds and delegations in a frame")
        locks = [decode_lock(lock) for lock in frame.locks]
        holds = [decode_hold(hold) for hold in frame.holds]
        kept = list(frame.delegations)
        self._stated.update(kept, (hold.ino for hold in holds))
        event = SessionRestated(
            session.id, holds, frame.holds_first, frame.holds_complete, frame.acknowledged, locks, kept
        )
        self._service.tell(self._service.step(event, session.limits))
        self._must_restate = not frame.holds_complete
        if frame.holds_complete:
            self._stated = set()

    async def _learn_fence(self, session: Session, fence: pb.Fence) -> None:
        addresses = tuple(fence.addresses)
        if len(addresses) > FENCE_ADDRESSES_MAX:
            raise _Nonsense("too many addresses")
        if not self._service.may_name(session, addresses):
            raise _Nonsense("addresses at the object store that cannot be its own")
        if addresses != session.record.fence:
            await self._service.change_record(session, replace(session.record, fence=addresses))

    async def _answer(self, session: Session, requests: Any, acknowledged: int) -> None:
        if self._must_restate:
            raise _Nonsense("a request before it has stated what is open")
        waiting = self._waiting
        if len(requests) + len(waiting) > WINDOW and _beyond(requests) + len(waiting) > WINDOW:
            raise _Nonsense(f"more than {WINDOW} requests without an answer")
        session.requests += len(requests)
        self._metrics.batch.add(len(requests))
        counted = self._metrics.requests
        service = self._service
        step = service.step
        outbox = self._outbox
        base = self._base
        own = session.id
        limits = session.limits
        is_limited = limits.root_ino != ROOT_INO
        last_id = self._last_id
        now_ns = perf_counter_ns()
        slice_ends_ns = now_ns + SLICE_NS
        for message in requests:
            id = message.id
            if id <= last_id:
                raise _Nonsense(f"request {id} behind {last_id}")
            last_id = self._last_id = id
            token = base | id
            request = decode_request(message)
            kind = type(request)
            if kind is Sync:
                waiting[token] = _Waiting(id, Sync, now_ns)
                service.sync.wait().add_done_callback(partial(self._synced, token))
                continue
            sequence = 0
            if kind in CHANGING:
                sequence = message.sequence
                if not sequence:
                    raise _Nonsense(f"{kind.__name__} without a sequence")
            event = Submitted(own, sequence, request, acknowledged, token, promised_ns=message.promised_ns)  # type: ignore[arg-type]
            effects = step(event, limits)
            others: list[Effect] = []
            reply: Any = effects[0] if len(effects) == 1 else None
            if type(reply) is not Reply or reply.id != token:
                reply, others = _sort_out(effects, token)
            began_ns = now_ns
            now_ns = perf_counter_ns()
            if reply is None:
                waiting[token] = _Waiting(id, kind, began_ns)
            else:
                if reply.errno == EIO:
                    service.check_running()
                if is_limited:
                    note_answer(limits, reply.value)
                if type(reply.value) is Opened:
                    service.fill_in(reply.value)
                if message.promised_ns:
                    reply.value = None  # it is known there
                outbox.add_answer(id, reply)
                counted[kind].add(now_ns - began_ns, reply.errno)
            if others:
                service.tell(others)
            if now_ns > slice_ends_ns or outbox.is_full:
                await outbox.flush()
                await asyncio.sleep(0)
                if not service.may_step.is_set():
                    await service.may_step.wait()
                if self._closed:
                    return
                now_ns = perf_counter_ns()
                slice_ends_ns = now_ns + SLICE_NS
        await outbox.flush()

    # -- from elsewhere -------------------------------------------------------------------------------------------------

    def tell(self, effect: Reply | Recall | Report | Resume | LeaseRecall) -> None:
        """An answer that had to wait, or a notice."""
        if self._closed:
            return
        if self._must_restate and not isinstance(effect, Reply) and effect.ino not in self._stated:
            return  # it would not fit what is being stated; the shard says it again when it knows that
        if isinstance(effect, Reply):
            asked = self._waiting.pop(effect.id, None)
            if asked is None:
                return  # on an older stream
            if effect.errno == EIO and self._service.has_stopped:
                self.close(_cannot_go_on(OSError(EIO, "the shard has stopped")))
                return
            if self._session is not None and self._session.limits.root_ino != ROOT_INO:
                note_answer(self._session.limits, effect.value)
            self._outbox.add_answer(asked.id, effect)
            self._metrics.requests[asked.kind].add(perf_counter_ns() - asked.began_ns, effect.errno)
        else:
            self._outbox.add_notice(effect)
        self._outbox.post()
        if self._outbox.told > NOTICES_MAX:
            _complaints.warning("%s does not read what it is told, its connection ends", self.peer)
            self.cut()

    def _synced(self, token: int, done: asyncio.Future[None]) -> None:
        error = done.exception()
        if isinstance(error, OSError):
            self.close(_cannot_go_on(error))
        else:
            # A disk that refused must be told of: it may have dropped what nobody writes again.
            self.tell(Reply(0, token, None, EIO if error is not None else 0))


def _beyond(requests: Any) -> int:
    """How many of the requests count: leases may come back when the window is full."""
    returned = [message for message in requests if message.WhichOneof("kind") == "lease_returned"]
    count: int = len(requests) - min(len(returned), LEASES_RETURNED_MAX)
    return count


def _cannot_go_on(error: Exception) -> pb.Refusal:
    return refusal(pb.Refusal.BUSY, f"the server cannot go on now ({error}): see its log")


def _sort_out(effects: list[Effect], token: int) -> tuple[Reply | None, list[Effect]]:
    """The answer to the request just asked, if it is there, and the rest, which comes behind it."""
    mine: Reply | None = None
    others = []
    for effect in effects:
        if isinstance(effect, Reply) and effect.id == token:
            mine = effect
        else:
            others.append(effect)
    return mine, others
