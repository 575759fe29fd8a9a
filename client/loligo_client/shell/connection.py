"""The connection to a metadata server: one gRPC stream, kept up and replaced for as long as the session lives.

A thread of its own connects, receives, hands out answers and keeps time. Whoever asks sends too, if nothing stands in the
way: a wake-up of another thread costs as much as all the rest. Who asked is told through a future; its callbacks run on the
connection's thread, so they must be short and must not wait for anything that the server has to answer.

Rules
1. A frame has all that waits, within `FRAME_REQUESTS` and `FRAME_BYTES`, and the server's window. While the server has
   `FRAMES_UNDER_WAY` to answer, what is asked waits for company: until an answer comes, but no longer than `TOGETHER_NS`.
   What callbacks ask goes together when all of a frame's answers are handed out. Requests for whose answers nobody waits make
   no frame of their own until `UNHURRIED_NS` have passed; a notice may be about what they say, so it sends them on their way.
2. A connection that breaks is replaced: all addresses are tried in turn, with pauses that grow from `PAUSE_MIN_S` to
   `PAUSE_MAX_S`. The session goes on: the server is told what is open (`holds`), then everything that is not answered is
   sent again. Whoever waits longer than the timeout for a server that is away gets EIO.
3. A session that the server does not know any more is gone for good: from then on everything fails with EIO.
4. Answers of a frame are handed out before its notices, in order.
5. `_state` guards what is asked, and the wire. Nothing is called under it that is not ours: no callbacks, no `holds`.

`lock` is the lock of the metadata as the data path and the file system know it; the connection takes it only for `holds`.
Whoever has it may ask, so it is never taken under `_state`.
"""

import logging
import os
import select
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Container, Sequence
from concurrent.futures import Future
from contextlib import nullcontext
from errno import EINTR, EINVAL, EIO
from typing import Any, Final

from loligo_client.core.grpc_stream import GrpcStream
from loligo_client.core.leased import Leased
from loligo_client.core.session_link import UNHURRIED_NS, Outstanding, SessionLink
from loligo_client.shell.server_source import ServerError
from loligo_client.shell.wire import Tls, Wire, WireError
from loligo_mds.core.codec import (
    Covered,
    Sync,
    decode_answer,
    decode_covered,
    decode_recall,
    decode_resume,
    encode_hold,
    encode_lock,
    encode_request,
    parse_server_frame,
)
from loligo_mds.core.events import HeldLock, Hold
from loligo_mds.core.requests import LeaseReturned, Request
from loligo_wire.attributes import Attributes
from loligo_wire.v1 import loligo_pb2 as pb

log = logging.getLogger(__name__)

METHOD: Final = "/loligo.v1.Metadata/Session"
PROTOCOL: Final = 2
#: Kinds of notices of the server.
NOTICES: Final = ("recall", "resume", "report", "lease")
FRAME_REQUESTS: Final = 256
FRAME_BYTES: Final = 1 << 20
FRAMES_UNDER_WAY: Final = 2
TOGETHER_NS: Final = 1_000_000
#: What the server sends at most: listings of some hundred entries with their attributes.
_RECEIVE_MAX_BYTES: Final = 16 << 20
_HOLDS_IN_FRAME: Final = 4096
PAUSE_MIN_S: Final = 0.05
PAUSE_MAX_S: Final = 1.0
#: A server that accepts a connection and says nothing.
HANDSHAKE_S: Final = 5.0
#: How long the first connection is tried before that is an error.
FIRST_CONNECT_S: Final = 3.0
#: What was asked last is answered within that, and the server ends the connection.
_GOODBYE_S: Final = 5.0
_TOGETHER_MS: Final = TOGETHER_NS // 1_000_000
_UNHURRIED_MS: Final = UNHURRIED_NS // 1_000_000
#: For so long after an answer the connection's thread wakes up by itself for what is not in a hurry: to be woken costs more.
_AWAKE_NS: Final = 50_000_000


class Answer(Future[Any]):
    """The answer to a request, to come."""

    def __init__(self, message: pb.Request) -> None:
        super().__init__()
        self.message = message
        self.asked: Outstanding | None = None


class Promise:
    """The answer to a request that somebody was told of already: only whether it could be granted. `told` hears why not, or
    None; on the connection's thread.
    """

    __slots__ = ("asked", "message", "told")

    def __init__(self, message: pb.Request, told: Callable[[BaseException | None], object]) -> None:
        self.message = message
        self.told = told
        self.asked: Outstanding | None = None

    def set_result(self, value: None) -> None:
        self.told(None)

    def set_exception(self, error: BaseException) -> None:
        self.told(error)


class _Refused(Exception):
    def __init__(self, refusal: pb.Refusal) -> None:
        super().__init__(refusal.text)
        self.reason = refusal.reason


class _Broken(Exception):
    """The stream does not go on; says why."""


class _Closing(Exception):
    """We do not go on."""


class Connection:
    """`connect` first, `close` last. `ask`, `sync` and `lock` are the port of the metadata."""

    def __init__(self, addresses: Sequence[str], hello: pb.Hello, *, tls: Tls | None, timeout_s: float) -> None:
        """`addresses`: "host:port" of the same server or of those that may take its place. `hello` without session."""
        self.lock = threading.RLock()
        #: What the server needs to know of us; whoever uses the session sets them after `connect`, before it asks anything.
        self.holds: Callable[[], list[Hold]] = list
        self.locks: Callable[[], list[HeldLock]] = list
        #: Called before that, with the lock and the leases that are ours alone still. -> what is open for lack of others
        self.on_restating: Callable[[Container[int]], list[int]] = lambda kept: []
        #: Inodes of which the server may not know yet: they are not among the holds.
        self.unmade: set[int] = set()
        #: Whose delegations the server is told of, when it comes back.
        self.leased: Leased | None = None
        self.on_recall: Callable[[int], None] = lambda ino: None
        self.on_resume: Callable[[Attributes], None] = lambda attributes: None
        self.on_report: Callable[[int], None] = lambda ino: None
        self.on_lease_recall: Callable[[LeaseReturned], object] = self.ask  # who does not listen believes nothing
        self.on_gone: Callable[[str], None] = lambda text: None
        #: Hears (request, answer, the leases that cover it) before whoever asked.
        self.on_answer: Callable[[Any, Any, Covered], None] = lambda *answer: None
        #: The connection is lost, and with it all leases. Returns when nobody believes anything any more.
        self.on_away: Callable[[], None] = lambda: None
        #: Where the session is, or was last.
        self.address = addresses[0]
        #: How often what was asked, the same for promises, which notices have come, how many frames have gone, and how many
        #: connections there were.
        self.asked: dict[type, int] = dict.fromkeys((*Request.__args__, Sync), 0)
        self.promised: dict[type, int] = dict.fromkeys(Request.__args__, 0)
        self.heeded: dict[str, int] = dict.fromkeys(NOTICES, 0)
        self.frames = self.connections = 0
        #: When the server went away, as time.time() counts; None while it is there.
        self.away_since_s: float | None = None
        self._addresses = list(addresses)
        self._hello = hello
        self._hello.protocol_min = self._hello.protocol_max = PROTOCOL
        self._tls = tls
        self._timeout_s = timeout_s
        self._tick_s = min(1.0, max(0.02, timeout_s / 8))
        self._next_tick_s = 0.0
        self._state = threading.Lock()
        self._link = SessionLink(int(timeout_s * 1e9))
        #: The connection that requests go to, if there is one.
        self._wire: Wire | None = None
        self._stream: GrpcStream
        self._sent_ns = 0
        self._answered_ns = 0
        #: Frames that the server has not answered yet, as far as can be told: some answers take their time.
        self._under_way = 0
        #: Why it is no good, if a thread that asked was the one to find out.
        self._problem = ""
        #: Frames without requests that go before any that have some.
        self._words: deque[pb.ClientFrame] = deque()
        self._fence: pb.Fence | None = None
        self._welcome: Future[pb.Welcome] = Future()
        #: Why nothing can be asked any more.
        self._gone = ""
        self._closing = False
        self._goodbye_is_due = False
        self._give_up_s = float("inf")
        #: An eventfd that wakes the connection's thread, and whether it was written.
        self._wake_fd = -1
        self._woken = False
        #: It will not look by itself for what has become due.
        self._is_asleep = False
        self._thread = threading.Thread(target=self._run, name="connection", daemon=True)

    # -- from any thread ------------------------------------------------------------------------------------------

    def connect(self) -> pb.Welcome:
        """Begin the session. ServerError."""
        if self._tls is not None:
            try:
                self._tls.context()
            except WireError as error:
                raise ServerError(str(error)) from None
        self._wake_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._thread.start()
        try:
            return self._welcome.result()
        except BaseException:
            self.close()
            raise

    def ask_lazily(self, request: Request) -> Answer:
        """As `ask`; but nobody waits for the answer, unless `hurry` is called."""
        answer = Answer(_encoded(request))
        self._ask(request, answer, hurried=False)
        return answer

    def promise(self, request: Request, at_ns: int, told: Callable[[BaseException | None], object]) -> Promise:
        """Somebody was told that it has happened then, by time.time_ns(). Only the session's end comes in between."""
        promise = Promise(_encoded(request), told)
        promise.message.promised_ns = at_ns
        self._ask(request, promise, hurried=False, promised=True)
        return promise

    def amend(self, promise: Promise, change: Callable[[pb.Request], object]) -> bool:
        """Have a promise say something else than it did. False: it is on its way."""
        with self._state:
            if promise.asked is None or promise.asked.was_sent:
                return False
            change(promise.message)
            return True

    def ask(self, request: Request | Sync) -> Answer:
        """A refusal is an OSError of the answer; so is a server that is away for too long (EIO)."""
        answer = Answer(_encoded(request))
        self._ask(request, answer, hurried=True)
        return answer

    def _ask(self, request: Request | Sync, whose: Answer | Promise, *, hurried: bool, promised: bool = False) -> None:
        now_ns = time.monotonic_ns()
        with self._state:
            if self._gone:
                raise OSError(EIO, self._gone)
            whose.asked = asked = self._link.ask(request, whose, now_ns, hurried, promised)
            (self.promised if promised else self.asked)[type(request)] += 1
            if self._wire is not None and threading.get_ident() != self._thread.ident:
                if asked.hurried:
                    self._send_or_wake(now_ns)
                elif self._is_asleep:
                    self._wake()

    def hurry(self) -> None:
        """Somebody waits for what was asked until now."""
        with self._state:
            self._link.hurry()
            if self._wire is not None and threading.get_ident() != self._thread.ident:
                self._send_or_wake(time.monotonic_ns())

    def sync(self) -> None:
        """Everything answered so far survives a power loss. Blocks: not with the lock, nor on the connection's thread."""
        self.ask(Sync()).result()

    @property
    def is_away(self) -> bool:
        return self.away_since_s is not None

    def let_go(self, future: Future[Any]) -> bool:
        """Whoever waits for `future` was interrupted. If that is an answer and the server is away, the wait ends, with EINTR.

        True: it may end so later, if not now.
        """
        if isinstance(future, Answer):
            with self._state:
                asked = future.asked
                if asked is None or asked.dropped or self._link.is_connected or future.done():
                    return True
                self._link.drop(asked)
            future.set_exception(OSError(EINTR, "interrupted"))
        return True

    def tell_fence(self, addresses: Sequence[str]) -> None:
        """Tell the server, now and on every later connection, how to shut this client out of the object store."""
        if addresses:
            with self._state:
                self._fence = pb.Fence(addresses=addresses)
                self._say(pb.ClientFrame(fence=self._fence))

    @property
    def gone(self) -> str:
        """Why the session has ended, though nobody here wanted it to; empty while it has not."""
        return self._gone

    def give_up(self, why: str) -> None:
        """As if the server had ended the session: from now on everything fails."""
        with self._state:
            self._gone = self._gone or why
            if self._wake_fd >= 0:
                self._wake()

    def close(self, *, goodbye: bool = True) -> None:
        """End the connection. Nothing may be asked any more. `goodbye`: the session ends too, if the server is there."""
        with self._state:
            if self._wake_fd < 0:
                return
            self._closing = True
            if goodbye and self._wire is not None:
                self._goodbye_is_due = True
                self._give_up_s = time.monotonic() + _GOODBYE_S
            else:
                self._give_up_s = 0.0
            self._wake()
        self._thread.join()
        with self._state:
            os.close(self._wake_fd)
            self._wake_fd = -1

    def _send_or_wake(self, now_ns: int) -> None:
        if self._may_send(now_ns):
            self._send(now_ns)
        else:
            self._wake()

    def _wake(self) -> None:
        if not self._woken:
            self._woken = True
            os.eventfd_write(self._wake_fd, 1)

    # -- the connection's thread ----------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            self._stay_connected()
            while True:  # gone for good: until somebody closes, everybody is told
                self._wait(time.monotonic() + PAUSE_MAX_S)
        except _Closing:
            self._end("the connection is closed")
        except BaseException as error:
            log.critical("the connection stops", exc_info=error)
            self._end("the connection failed; see the log")
            if not self._welcome.done():
                self._welcome.set_exception(error)

    def _stay_connected(self) -> None:
        pause_s = PAUSE_MIN_S
        first_until_s = time.monotonic() + min(FIRST_CONNECT_S, self._timeout_s)
        said = ""
        while not self._gone:
            problem = ""
            for address in list(self._addresses):
                try:
                    self._connected_to(address)
                except _Refused as refusal:
                    if refusal.reason == pb.Refusal.SESSION_GONE:
                        self._session_is_gone(str(refusal))
                        return
                    if not self._welcome.done() and refusal.reason != pb.Refusal.BUSY:
                        self._welcome.set_exception(ServerError(f"{address} refuses: {refusal}"))
                        return
                    problem = f"{address} refuses: {refusal}"
                except (_Broken, WireError, OSError) as error:
                    problem = f"{address}: {error}"
                if self._closing:
                    raise _Closing
                if self._welcome.done() and self._mark_away(problem):
                    said = problem
                    self._addresses.remove(address)
                    self._addresses.insert(0, address)
                    if self._link.was_answered:
                        pause_s = PAUSE_MIN_S
                    break
            if not self._welcome.done() and time.monotonic() >= first_until_s:
                self._welcome.set_exception(ServerError(f"no metadata server answers: {problem}"))
                return
            if self._welcome.done() and problem != said:
                log.info("still away: %s", problem)
                said = problem
            self._wait(time.monotonic() + pause_s)
            pause_s = min(2 * pause_s, PAUSE_MAX_S)
        self._session_is_gone(self._gone)

    def _mark_away(self, problem: str) -> bool:
        """Whether the server has only now gone away."""
        with self._state:
            if not self._link.is_connected:
                return False
        self.on_away()  # before anything can be given up
        with self._state:
            self._link.lost()
            self.away_since_s = time.time()
        log.warning("the metadata server is away (%s); calls wait up to %g s for it", problem, self._timeout_s)
        return True

    def _connected_to(self, address: str) -> None:
        """One connection, from its first byte to its last. Always ends with an exception."""
        until_s = time.monotonic() + HANDSHAKE_S
        wire = Wire(address, self._tls, lambda one, writable: self._wait(until_s, one, writable, raises=True))
        try:
            stream = GrpcStream(
                path=METHOD, authority=address, tls=self._tls is not None, message_max_bytes=_RECEIVE_MAX_BYTES
            )
            stream.send(pb.ClientFrame(hello=self._hello).SerializeToString())
            messages = self._first_messages(wire, stream, until_s)
            welcome = _welcome_of(parse_server_frame(messages.pop(0)))
            for frame in self._opening(welcome):
                stream.send(frame.SerializeToString())
            self.address = address
            self._take_up(wire, stream, welcome)
            for message in messages:
                self._receive(message)
            self._serve(wire, stream)
        except ValueError as error:
            raise _Broken(f"the server talks nonsense: {error}") from None
        finally:
            with self._state:
                self._wire = None
            wire.close()

    def _first_messages(self, wire: Wire, stream: GrpcStream, until_s: float) -> list[bytes]:
        while True:
            try:
                if stream.out:
                    wire.write(stream.out)
                    stream.out.clear()
                self._wait(until_s, wire, wire.has_unsent, raises=True)
                wire.flush()
                messages = stream.receive(wire.read())
            except WireError as error:
                raise _Broken(f"{error}{self._advice()}") from None
            if messages:
                return messages
            if stream.ended:
                raise _Broken(stream.ended)

    def _advice(self) -> str:
        """What may have to be done about a server that closes the connection before it says a word."""
        if self._welcome.done() or (self._tls is not None and self._tls.cert):
            return ""
        return "; if it wants TLS, give ca=, cert= and key=" if self._tls is None else "; it may want cert= and key="

    def _opening(self, welcome: pb.Welcome) -> list[pb.ClientFrame]:
        """What the server must know before it gets requests."""
        frames = []
        if self._hello.session:
            if not welcome.resumed:
                raise _Refused(pb.Refusal(reason=pb.Refusal.SESSION_GONE, text="the server began another session"))
            with self.lock:
                with self.leased.lock if self.leased is not None else nullcontext():
                    with self._state:
                        stated = self._link.stated()
                        acknowledged = self._link.acknowledged
                        given_back = self._link.given_back()
                    for asked in given_back:
                        returned = asked.whose.message.lease_returned
                        returned.kept, returned.again = asked.request.kept, asked.request.again
                        unmade = [ino for ino in returned.open if ino in self.unmade]
                        returned.ClearField("open")  # the others are stated
                        returned.open.extend(unmade)
                        if self.leased is not None:
                            self.leased.give_back(
                                asked.request.ino
                            )  # it may have been kept, for others to have it, too
                    delegations = self.leased.delegations() if self.leased is not None else []
                    unleased = self.on_restating(set(delegations))
                    if given_back:  # behind what makes them
                        unmade = [ino for ino in unleased if ino in self.unmade]
                        given_back[-1].whose.message.lease_returned.open.extend(unmade)
                    holds, locks = self.holds(), self.locks()
                delegations += [asked.request.ino for asked in given_back]
            for asked in stated:
                asked.whose.set_result(None)
            for start in range(0, len(holds) or 1, _HOLDS_IN_FRAME):
                frame = pb.ClientFrame(acknowledged=acknowledged)
                for hold in holds[start : start + _HOLDS_IN_FRAME]:
                    encode_hold(hold, frame.holds.add())
                frames.append(frame)
            for start in range(0, len(locks), _HOLDS_IN_FRAME):
                frame = pb.ClientFrame(acknowledged=acknowledged)
                for lock in locks[start : start + _HOLDS_IN_FRAME]:
                    encode_lock(lock, frame.locks.add())
                frames.append(frame)
            for start in range(0, len(delegations), _HOLDS_IN_FRAME):
                kept = delegations[start : start + _HOLDS_IN_FRAME]
                frames.append(pb.ClientFrame(acknowledged=acknowledged, delegations=kept))
            frames[0].holds_first = frames[-1].holds_complete = True
        if self._fence is not None:
            frames.append(pb.ClientFrame(fence=self._fence))
        return frames

    def _take_up(self, wire: Wire, stream: GrpcStream, welcome: pb.Welcome) -> None:
        now_ns = time.monotonic_ns()
        if self.away_since_s is not None:
            log.info("the metadata server %s is back after %.1f s", self.address, time.time() - self.away_since_s)
            self.away_since_s = None
        with self._state:
            self._words.clear()
            self._under_way = 0
            self._problem = ""
            self._wire, self._stream = wire, stream
            self.connections += 1
            heartbeat_ms = welcome.heartbeat_ms or 5000
            lease_ms = welcome.lease_ms or 3 * heartbeat_ms
            self._link.connected(now_ns, welcome.window or 1, heartbeat_ms * 1_000_000, lease_ms * 1_000_000)
            self._tick_s = min(self._tick_s, heartbeat_ms / 4000)
            # Its answer says that this connection is good, even if everything that was asked has to wait.
            self._link.heartbeat(now_ns)
            self._say(pb.ClientFrame())
        if not self._welcome.done():
            self._hello.session = welcome.session
            self._hello.secret = welcome.secret
            self._welcome.set_result(welcome)

    def _serve(self, wire: Wire, stream: GrpcStream) -> None:
        poll = select.poll()
        poll.register(self._wake_fd, select.POLLIN)
        poll.register(wire, select.POLLIN)
        writes = False
        timeout_ms = 0
        while True:
            ready = poll.poll(timeout_ms)
            self._tick_if_due()
            messages: list[bytes] = []
            with self._state:
                for fd, _ in ready:
                    if fd == self._wake_fd:
                        self._woken = False
                        os.eventfd_read(fd)
                    else:
                        wire.flush()
                        messages = stream.receive(wire.read())
                now_ns = time.monotonic_ns()
                if not messages and self._may_send(now_ns):
                    self._send(now_ns)
                if wire.has_unsent is not writes:
                    writes = not writes
                    poll.modify(wire, select.POLLIN | (select.POLLOUT if writes else 0))
            for message in messages:
                self._receive(message)
            if stream.ended or self._problem:
                raise _Broken(stream.ended or self._problem)
            if time.monotonic() > self._give_up_s:
                raise _Closing
            if self._gone:
                raise _Refused(pb.Refusal(reason=pb.Refusal.SESSION_GONE, text=self._gone))
            with self._state:
                timeout_ms = self._may_sleep_ms(now_ns)

    def _may_sleep_ms(self, now_ns: int) -> int:
        """Until there may be something to do. Under `_state`."""
        self._is_asleep = False
        until_tick_ms = self._until_tick_ms()
        if self._link.is_due(now_ns):
            return min(_TOGETHER_MS, until_tick_ms)
        if self._link.has_unhurried or now_ns - self._answered_ns < _AWAKE_NS:
            return min(_UNHURRIED_MS, until_tick_ms)
        self._is_asleep = True
        return until_tick_ms

    # -- sending, under `_state` ----------------------------------------------------------------------------------

    def _may_send(self, now_ns: int) -> bool:
        if now_ns - self._sent_ns > TOGETHER_NS:
            self._under_way = 0
        return self._under_way < FRAMES_UNDER_WAY

    def _send(self, now_ns: int, *, at_once: bool = False) -> None:
        """Send all that may be sent now, if something of it is due. `at_once`: everything is."""
        wire = self._wire
        if wire is None:
            return
        stream = self._stream
        at_once = at_once or self._goodbye_is_due
        try:
            while not (wire.has_unsent or stream.is_clogged):
                frame = self._next_frame(now_ns, at_once)
                if frame is None:
                    break
                self._sent_ns = now_ns
                self.frames += 1
                stream.send(frame.SerializeToString())
                wire.write(stream.out)
                stream.out.clear()
            if stream.out:
                wire.write(stream.out)
                stream.out.clear()
        except WireError as error:
            self._problem = str(error)
            self._wake()
        if wire.has_unsent:
            self._wake()  # to wait until it can be written

    def _say(self, frame: pb.ClientFrame) -> None:
        if self._wire is not None:  # else the next connection begins with what matters
            self._words.append(frame)
            self._send(time.monotonic_ns())

    def _next_frame(self, now_ns: int, at_once: bool) -> pb.ClientFrame | None:
        if self._words:
            return self._words.popleft()
        link = self._link
        asked = link.next(now_ns) if at_once or link.is_due(now_ns) else None
        if asked is None:
            if self._goodbye_is_due and not link.outstanding:
                self._goodbye_is_due = False
                return pb.ClientFrame(goodbye=True)
            return None
        frame = pb.ClientFrame()
        requests = frame.requests
        size_bytes = 0
        while asked is not None:
            message = asked.whose.message
            message.id = asked.id
            if asked.sequence:
                message.sequence = asked.sequence
            requests.append(message)
            size_bytes += message.ByteSize()
            if len(requests) >= FRAME_REQUESTS or size_bytes >= FRAME_BYTES:
                break
            asked = link.next(now_ns)
        frame.acknowledged = link.acknowledged
        self._under_way += 1
        return frame

    # -- receiving ------------------------------------------------------------------------------------------------

    def _receive(self, data: bytes) -> None:
        frame = parse_server_frame(data)
        link = self._link
        with self._state:
            self._answered_ns = time.monotonic_ns()
            link.heard(self._answered_ns)
            if not data:
                link.heartbeat_answered()
            answered = [(link.answered(message.id), message) for message in frame.answers]
        for asked, message in answered:
            if asked is not None:
                self._tell(asked, message)
        for notice in frame.notices:
            try:
                self._heed(notice)
            except Exception:  # a bug of who listens must not cost the connection
                log.exception("a notice of the metadata server was not heeded: %s", notice)
        with self._state:
            if answered and self._under_way:
                self._under_way -= 1  # only now, so that what answers have caused to be asked goes together
            self._send(time.monotonic_ns(), at_once=bool(frame.notices))
        if frame.HasField("refusal"):
            raise _Refused(frame.refusal)

    def _tell(self, asked: Outstanding, message: pb.Answer) -> None:
        answer: Answer | Promise = asked.whose
        if message.errno:
            answer.set_exception(OSError(message.errno, "refused by the metadata server"))
            return
        if asked.promised:
            answer.set_result(None)
            return
        try:
            value = decode_answer(type(asked.request), message)
            self.on_answer(asked.request, value, decode_covered(message))
        except ValueError as error:
            log.error("an answer makes no sense: %s", error)
            answer.set_exception(OSError(EIO, "the metadata server talks nonsense"))
        else:
            answer.set_result(value)

    def _heed(self, notice: pb.Notice) -> None:
        kind = notice.WhichOneof("kind")
        if kind in self.heeded:
            self.heeded[kind] += 1
        if kind == "recall":
            self.on_recall(notice.recall)
        elif kind == "resume":
            self.on_resume(decode_resume(notice.resume))
        elif kind == "report":
            self.on_report(notice.report)
        elif kind == "lease":
            self.on_lease_recall(decode_recall(notice.lease))

    # -- time and the end -----------------------------------------------------------------------------------------

    def _until_tick_ms(self) -> int:
        return max(0, int((min(self._next_tick_s, self._give_up_s) - time.monotonic()) * 1000) + 1)

    def _tick_if_due(self) -> None:
        now_s = time.monotonic()
        if now_s < self._next_tick_s:
            return
        self._next_tick_s = now_s + self._tick_s
        now_ns = time.monotonic_ns()
        link = self._link
        with self._state:
            late = link.tick(now_ns)
            if link.is_silent(now_ns):
                self._problem = "the server is silent"
            elif link.needs_heartbeat(now_ns):
                link.heartbeat(now_ns)
                self._say(pb.ClientFrame())
        for asked in late:
            asked.whose.set_exception(OSError(EIO, "the metadata server is away"))

    def _wait(
        self, until_s: float, one: socket.socket | Wire | None = None, writable: bool = False, *, raises: bool = False
    ) -> None:
        """Until `one` is ready, or it is time; `raises` then. Keeps the ticks going. _Closing when we are closed."""
        poll = select.poll()
        poll.register(self._wake_fd, select.POLLIN)
        if one is not None:
            poll.register(one, select.POLLIN | (select.POLLOUT if writable else 0))
        while (left_s := until_s - time.monotonic()) > 0:
            if self._closing:
                raise _Closing
            ready = poll.poll(min(self._until_tick_ms(), int(left_s * 1000) + 1))
            self._tick_if_due()
            for fd, _ in ready:
                if fd != self._wake_fd:
                    return
                with self._state:
                    self._woken = False
                    os.eventfd_read(fd)
        if raises:
            raise _Broken(f"no answer within {HANDSHAKE_S:g} s")

    def _session_is_gone(self, text: str) -> None:
        log.error(
            "this session has ended (%s): what was open and not stored is lost, and every call fails;"
            " unmount, and mount again",
            text,
        )
        if not self._welcome.done():
            self._welcome.set_exception(ServerError(text))
        self.on_away()
        self._end(f"the session is gone ({text})")
        self.on_gone(text)

    def _end(self, why: str) -> None:
        """Nothing can be asked any more, and what was asked fails."""
        with self._state:
            self._gone = self._gone or why
            if self._link.is_connected:
                self._link.lost()
            if self.away_since_s is None:
                self.away_since_s = time.time()
            failed = self._link.outstanding
            for asked in failed:
                self._link.drop(asked)
        for asked in failed:
            asked.whose.set_exception(OSError(EIO, why))


def _encoded(request: Request | Sync) -> pb.Request:
    message = pb.Request()
    try:
        encode_request(request, message)
    except (ValueError, TypeError) as error:
        raise OSError(EINVAL, f"cannot be asked: {error}") from None
    return message


def _welcome_of(frame: pb.ServerFrame) -> pb.Welcome:
    if frame.HasField("refusal"):
        raise _Refused(frame.refusal)
    if not frame.HasField("welcome"):
        raise ValueError("its first word is no welcome")
    return frame.welcome
