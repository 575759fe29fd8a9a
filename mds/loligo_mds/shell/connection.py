"""One stream of one client: the handshake, and then frames, until either side ends it.

A coroutine reads a frame, has its requests answered on the spot, and writes one frame with all the answers. Answers that have
to wait (for other clients, for the disk) and notices come from elsewhere (`tell`) and are written by a task of their own. Only
one of the two writes at a time.

Rules
1. Nothing that a client sends raises out of here. What makes no sense is answered with a Refusal, a line in the log, and
   the end of this stream; the session stays.
2. Answers of a frame are earlier than its notices; what would be the other way round goes into another frame.
3. After every await the stream may be closed, for example because its session goes on elsewhere: then nothing is asked
   any more.
4. Bounded are: the length of a frame, the holds in one, the requests without an answer, what waits to be written to a
   client that does not read, and the time that it may take for that.
5. A long frame lets others run every `SLICE_NS`.
"""

import asyncio
import logging
from collections import deque
from dataclasses import replace
from errno import EIO
from functools import partial
from time import perf_counter_ns
from typing import Any, Final

import grpc
import grpc.aio

from loligo_mds.core.admission import note_answer
from loligo_mds.core.codec import (
    Sync,
    decode_hold,
    decode_request,
    encode_answer,
    encode_resume,
    parse_client_frame,
)
from loligo_mds.core.effects import Effect, Recall, Reply, Resume
from loligo_mds.core.events import SessionRestated, Submitted
from loligo_mds.core.requests import CHANGING
from loligo_mds.shell.limited_log import LimitedLog
from loligo_mds.shell.service import SESSIONS_MAX, Service, gone_text, refusal
from loligo_mds.shell.session_record import SessionRecord, digest_of, new_secret, new_session_id
from loligo_mds.shell.session_table import Session
from loligo_mds.shell.tls import peer_identity
from loligo_wire.attributes import Attributes
from loligo_wire.ids import ROOT_INO
from loligo_wire.v1 import loligo_pb2 as pb

log = logging.getLogger(__name__)
_complaints = LimitedLog(log)

#: What this server speaks.
PROTOCOL_MIN: Final = 1
PROTOCOL_MAX: Final = 1
#: Requests of a client that may be unanswered.
WINDOW: Final = 1024
FRAME_MAX_BYTES: Final = 16 << 20
HOLDS_IN_FRAME: Final = 65536
#: A frame of answers that has grown so far is written before more is asked.
ANSWERS_BYTES: Final = 1 << 20
SLICE_NS: Final = 2_000_000
HELLO_WITHIN_S: Final = 10.0
NOTICES_MAX: Final = 100_000
FENCE_ADDRESSES_MAX: Final = 64
TEXT_MAX: Final = 1024
#: ... when its connection is to end anyway.
_LAST_WORD_S: Final = 1.0
_HEARTBEAT_MAX_S: Final = 5.0
_ID_BITS: Final = 64
#: What an answer costs in bytes besides its data: head, record of an inode.
_ANSWER_BYTES: Final = 128

#: What gRPC raises when the client is not there any more.
_GONE: Final = (grpc.aio.BaseError, asyncio.InvalidStateError)


class _Refused(Exception):
    """The stream ends with this refusal."""

    def __init__(self, reason: Any, text: str) -> None:
        super().__init__(text)
        self.refusal = refusal(reason, text)


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
        #: A frame's requests are being answered; what is told meanwhile goes along.
        self._answering = False
        #: What is being filled, and what is complete; both wait to be written.
        self._frame = pb.ServerFrame()
        self._frame_bytes = 0
        self._out: deque[pb.ServerFrame] = deque()
        self._told = 0
        self._writer: asyncio.Task[None] | None = None
        #: By the loop's clock; 0 while nothing is being written.
        self.writing_since_s = 0.0
        self._closed = False
        self._last_word: pb.Refusal | None = None
        self._task: asyncio.Task[Any] | None = None

    # -- life -----------------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        self._task = asyncio.current_task()
        try:
            await self._converse()
        except _Refused as refused:
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
        except _GONE as error:
            log.debug("%s is gone: %s", self.peer, error)
        except OSError as error:  # the shard has stopped, or has no room for what must be written
            log.error("%s cannot be served: %s", self.peer, error)
            self._last_word = refusal(pb.Refusal.BUSY, f"the server cannot go on now ({error}): see its log")
        except Exception:
            log.exception("the connection of %s ends: this is a bug in loligo", self.peer)
            self._last_word = refusal(pb.Refusal.OTHER, "the server has failed: see its log")
        await self._finish()

    def close(self, last_word: pb.Refusal | None = None) -> None:
        """End the stream, with this as its last frame. The session stays as it is."""
        if not self._closed:
            self._closed = True
            self._last_word = last_word
            if self._task is not None:
                self._task.cancel()

    async def _finish(self) -> None:
        self._closed = True
        self._service.connections.discard(self)
        session = self._session
        if session is not None and session.connection is self:
            session.connection = None
        if self._writer is not None:
            await asyncio.wait([self._writer], timeout=_LAST_WORD_S)
        if self._writer is not None:
            self._writer.cancel()
            await asyncio.wait([self._writer])
        if self._last_word is not None:
            self._seal()
            self._out.append(pb.ServerFrame(refusal=self._last_word))
            try:
                async with asyncio.timeout(_LAST_WORD_S):
                    await self._write_out()
            except (TimeoutError, *_GONE):
                pass  # it is not there to hear it

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
        session = await self._shake_hands(first.hello)
        clock = asyncio.get_running_loop().time
        while not self._closed:
            frame = await self._read()
            if frame is None or self._closed:
                return
            session.heard_s = clock()
            await self._handle(session, frame)

    # -- the handshake --------------------------------------------------------------------------------------------------

    async def _shake_hands(self, hello: pb.Hello) -> Session:
        service = self._service
        if service.stopping:
            raise _Refused(pb.Refusal.BUSY, "the server is stopping: try again")
        if hello.protocol_max < PROTOCOL_MIN or hello.protocol_min > PROTOCOL_MAX:
            theirs = f"{hello.protocol_min} to {hello.protocol_max}"
            older = "client" if hello.protocol_max < PROTOCOL_MIN else "server"
            raise _Refused(
                pb.Refusal.PROTOCOL,
                f"the client ({hello.version[:64] or 'unknown'}) speaks protocols {theirs}, the server ({service.version})"
                f" {PROTOCOL_MIN} to {PROTOCOL_MAX}: upgrade the {older}",
            )
        volume = service.volume
        if hello.volume != volume.name:
            raise _Refused(
                pb.Refusal.NO_SUCH_VOLUME,
                f"this server has the volume {volume.name!r} and no {hello.volume[:64]!r}: correct the name",
            )
        if max(len(hello.version), len(hello.host), len(hello.mounted_on)) > TEXT_MAX:
            raise _Nonsense("a hello with too long a text")
        identity = peer_identity(self._context)
        if hello.session:
            session, secret = self._resume(hello, identity), b""
        else:
            session, secret = await self._begin(hello, identity)
        if session.connection is not None:
            session.connection.close(refusal(pb.Refusal.OTHER, "the session goes on with another connection"))
        session.connection = self
        session.heard_s = asyncio.get_running_loop().time()
        self._session = session
        self._must_restate = bool(hello.session)
        self._metrics.handshakes["resumed" if hello.session else "welcome"] += 1
        log.info("%s %s from %s", session, "is back" if hello.session else "begins", self.peer)
        self._out.append(pb.ServerFrame(welcome=self._welcome(session, secret or hello.secret, bool(hello.session))))
        await self._flush()
        return session

    def _resume(self, hello: pb.Hello, identity: str) -> Session:
        session = self._service.sessions.get(hello.session)
        if session is None or not session.record.is_secret(hello.secret):
            raise _Refused(pb.Refusal.SESSION_GONE, gone_text("the server does not know it any more"))
        if session.ending:
            raise _Refused(pb.Refusal.SESSION_GONE, gone_text(session.ending))
        if session.record.identity != identity:
            raise _Refused(
                pb.Refusal.NOT_ALLOWED,
                "this session belongs to a client with another certificate: use the one it began with",
            )
        return session

    async def _begin(self, hello: pb.Hello, identity: str) -> tuple[Session, bytes]:
        service = self._service
        if len(service.sessions) >= SESSIONS_MAX:
            raise _Refused(
                pb.Refusal.BUSY, f"the server has {SESSIONS_MAX} sessions already: unmount some, or try again later"
            )
        shown = hello.root_path[:TEXT_MAX].decode(errors="replace")
        try:
            root = service.find_root(hello.root_path)
        except (OSError, ValueError):
            raise _Refused(
                pb.Refusal.NO_SUCH_DIRECTORY,
                f"there is no directory {shown!r} in volume {service.volume.name}: correct the path, without symbolic links",
            ) from None
        secret = new_secret()
        record = SessionRecord(
            secret_sha256=digest_of(secret),
            host=hello.host,
            mounted_on=hello.mounted_on,
            root_ino=root.ino,
            root_path=hello.root_path.decode(errors="surrogateescape"),
            read_only=hello.read_only,
            identity=identity,
            version=hello.version,
        )
        session = Session(new_session_id(), record, asyncio.get_running_loop().time())
        await service.open_session(session)
        return session, secret

    def _welcome(self, session: Session, secret: bytes, resumed: bool) -> pb.Welcome:
        service = self._service
        volume = service.volume
        expiry_s = service.sessions.expiry_s
        root_ino = session.record.root_ino
        # A directory that was removed answers ENOENT to everything, as on any file system.
        root = service.root_now(root_ino) or Attributes(root_ino, 0o040000, nlink=0)
        return pb.Welcome(
            protocol=PROTOCOL_MAX,
            version=service.version,
            session=session.id,
            secret=secret,
            resumed=resumed,
            root_ino=root_ino,
            root_record=root.encode(),
            volume_uuid=volume.uuid,
            volume_name=volume.name,
            data_url=volume.data_url,
            block_bytes=volume.block_bytes,
            inline_limit_bytes=volume.inline_limit_bytes,
            heartbeat_ms=int(min(_HEARTBEAT_MAX_S, expiry_s / 4) * 1000),
            expiry_ms=int(expiry_s * 1000),
            window=WINDOW,
        )

    # -- frames ---------------------------------------------------------------------------------------------------------

    async def _handle(self, session: Session, frame: pb.ClientFrame) -> None:
        if not self._service.may_step.is_set():
            await self._service.may_step.wait()
        requests = frame.requests
        if requests:
            self._answering = True
            try:
                await self._answer(session, requests, frame.acknowledged)
            finally:
                self._answering = False
        if frame.holds_first or frame.holds_complete or frame.holds:
            self._restate(session, frame)
        if frame.HasField("fence"):
            await self._learn_fence(session, frame.fence)
        if frame.HasField("hello"):
            raise _Nonsense("a second hello")
        if self._closed:
            return
        if frame.goodbye:
            self._closed = True
            session.connection = None
            await self._flush()
            self._service.end_session(session)
        elif frame.ByteSize() == 0:
            self._out.append(pb.ServerFrame())
            await self._flush()

    def _restate(self, session: Session, frame: pb.ClientFrame) -> None:
        if not self._must_restate or frame.requests:
            raise _Nonsense("it states what is open at the wrong time")
        if len(frame.holds) > HOLDS_IN_FRAME:
            raise _Nonsense(f"more than {HOLDS_IN_FRAME} holds in a frame")
        holds = [decode_hold(hold) for hold in frame.holds]
        service = self._service
        service.tell(
            service.step(
                SessionRestated(session.id, holds, frame.holds_first, frame.holds_complete, frame.acknowledged),
                session.limits,
            )
        )
        self._must_restate = not frame.holds_complete

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
        if len(requests) + len(self._waiting) > WINDOW:
            raise _Nonsense(f"more than {WINDOW} requests without an answer")
        session.requests += len(requests)
        self._metrics.batch.add(len(requests))
        counted = self._metrics.requests
        service = self._service
        step = service.step
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
            request = decode_request(message)
            kind = type(request)
            if kind is Sync:
                self._waiting[base | id] = _Waiting(id, Sync, now_ns)
                service.sync.wait().add_done_callback(partial(self._synced, base | id))
                continue
            sequence = message.sequence
            if kind in CHANGING:
                if not sequence:
                    raise _Nonsense(f"{kind.__name__} without a sequence")
            else:
                sequence = 0
            token = base | id
            effects = step(Submitted(own, sequence, request, acknowledged, token), limits)  # type: ignore[arg-type]
            others: list[Effect] = []
            reply: Any = effects[0] if len(effects) == 1 else None
            if type(reply) is not Reply or reply.id != token:
                reply, others = self._sort_out(effects, token)
            began_ns = now_ns
            now_ns = perf_counter_ns()
            if reply is None:
                self._waiting[token] = _Waiting(id, kind, began_ns)
            else:
                if reply.errno == EIO:
                    service.check_running()  # nobody shall hear of an error that the next start heals
                if is_limited:
                    note_answer(limits, reply.value)
                self._add_answer(id, reply)
                counted[kind].add(now_ns - began_ns, reply.errno)
            if others:
                service.tell(others)
            if now_ns > slice_ends_ns or self._frame_bytes > ANSWERS_BYTES:
                await self._flush()
                await asyncio.sleep(0)
                if not service.may_step.is_set():
                    await service.may_step.wait()
                if self._closed:
                    return
                now_ns = perf_counter_ns()
                slice_ends_ns = now_ns + SLICE_NS
        await self._flush()

    @staticmethod
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

    # -- answers and notices --------------------------------------------------------------------------------------------

    def tell(self, effect: Effect) -> None:
        """An answer that had to wait, or a notice."""
        if self._closed:
            return
        if isinstance(effect, Reply):
            waiting = self._waiting.pop(effect.id, None)
            if waiting is None:
                return  # asked on an older stream
            self._add_answer(waiting.id, effect)
            self._metrics.requests[waiting.kind].add(perf_counter_ns() - waiting.began_ns, effect.errno)
        elif isinstance(effect, Recall):
            self._frame.notices.add().recall = effect.ino
        elif isinstance(effect, Resume):
            encode_resume(effect.attributes, self._frame.notices.add().resume)
        self._told += 1
        if self._told > NOTICES_MAX:
            _complaints.warning("%s does not read what it is told, its connection ends", self.peer)
            self.close()
        elif self._writer is None and not self.writing_since_s and not self._answering:
            self._writer = asyncio.get_running_loop().create_task(self._write_told())

    def _synced(self, token: int, done: asyncio.Future[None]) -> None:
        failed = done.exception() is not None
        self.tell(Reply(0, token, None, EIO if failed else 0))

    def _add_answer(self, id: int, reply: Reply) -> None:
        if self._frame.notices:
            self._seal()
        answer = self._frame.answers.add()
        answer.id = id
        if reply.errno:
            answer.errno = reply.errno
            self._frame_bytes += 16
            return
        value = reply.value
        encode_answer(value, answer)
        self._frame_bytes += _ANSWER_BYTES
        if type(value) is list or type(value) is bytes:
            self._frame_bytes += answer.ByteSize()

    def _seal(self) -> None:
        """The frame is complete."""
        if self._frame_bytes or self._frame.notices:
            self._out.append(self._frame)
            self._frame = pb.ServerFrame()
            self._frame_bytes = 0

    async def _flush(self) -> None:
        """Write all that waits; returns when the client's buffers have it."""
        while self._writer is not None:
            await asyncio.wait([self._writer])
        await self._write_out()

    async def _write_out(self) -> None:
        self._seal()
        out = self._out
        try:
            while out:
                self.writing_since_s = asyncio.get_running_loop().time()
                await self._context.write(out.popleft().SerializeToString())
                if not out:
                    self._seal()  # what was told meanwhile
            self._told = 0
        finally:
            self.writing_since_s = 0.0

    async def _write_told(self) -> None:
        try:
            await self._write_out()
        except _GONE as error:
            log.debug("%s cannot be told: %s", self.peer, error)
            self.close()
        finally:
            self._writer = None
