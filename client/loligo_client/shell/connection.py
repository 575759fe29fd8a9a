"""The connection to a metadata server: one gRPC stream, kept up and replaced for as long as the session lives.

One thread runs an event loop with everything in it: the stream, the state (`core.session_link`), the clock. Others hand over
what they ask (`ask`) and are told through a future; its callbacks run on the connection's thread, so they must be short and
must not wait for anything that the server has to answer.

Rules
1. What is asked while a write is under way goes along with the next one: a frame has all that waits, within
   `FRAME_REQUESTS` and `FRAME_BYTES`, and the server's window.
2. A connection that breaks is replaced: all addresses are tried in turn, with pauses that grow from `PAUSE_MIN_S` to
   `PAUSE_MAX_S`. The session goes on: the server is told what is open (`holds`), then everything that is not answered is
   sent again. Whoever waits longer than the timeout for a server that is away gets EIO.
3. A session that the server does not know any more is gone for good: from then on everything fails with EIO.
4. Answers of a frame are handed out before its notices, in order.
5. Use it after forking: gRPC's threads do not survive a fork.

`lock` is the lock of the metadata as the data path and the file system know it; the connection takes it only for `holds`.
"""

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from errno import EINTR, EINVAL, EIO
from typing import Any, Final

import grpc
import grpc.aio

from loligo_client.core.session_link import Outstanding, SessionLink
from loligo_client.shell.server_source import ServerError
from loligo_mds.core.codec import (
    Sync,
    decode_answer,
    decode_resume,
    encode_hold,
    encode_request,
    parse_server_frame,
)
from loligo_mds.core.events import Hold
from loligo_mds.core.requests import Close, Create, CreateUnnamed, Open, Opened, Request
from loligo_wire.attributes import Attributes
from loligo_wire.v1 import loligo_pb2 as pb

log = logging.getLogger(__name__)

METHOD: Final = "/loligo.v1.Metadata/Session"
PROTOCOL: Final = 1
FRAME_REQUESTS: Final = 256
FRAME_BYTES: Final = 1 << 20
#: What the server sends at most: listings of some hundred entries with their attributes.
_RECEIVE_MAX_BYTES: Final = 16 << 20
_HOLDS_IN_FRAME: Final = 4096
PAUSE_MIN_S: Final = 0.05
PAUSE_MAX_S: Final = 2.0
#: A server that accepts a connection and says nothing.
HANDSHAKE_S: Final = 5.0
#: How long the first connection is tried before that is an error.
FIRST_CONNECT_S: Final = 3.0
#: What was asked last is answered within that, and the server ends the connection.
_GOODBYE_S: Final = 5.0
_CHANNEL_OPTIONS: Final = (
    ("grpc.use_local_subchannel_pool", 1),  # a new channel makes a new connection
    ("grpc.enable_http_proxy", 0),
    ("grpc.enable_retries", 0),
    ("grpc.max_receive_message_length", _RECEIVE_MAX_BYTES),
)
#: What gRPC says, and what it means.
_MEANINGS: Final = (
    ("Connection refused", "connection refused; is 'loligo serve' running there?"),
    ("WRONG_VERSION_NUMBER", "it does not speak TLS; ca= is for servers that do"),
    ("CERTIFICATE_VERIFY_FAILED", "its certificate is not signed by the authority in ca="),
    ("Hostname Verification", "its certificate is for another host name or address than this one"),
    ("Socket closed", "it closes the connection; if it wants TLS, give ca=, cert= and key="),
)
_HOLDING = (Open, Create, CreateUnnamed)


@dataclass(frozen=True, slots=True)
class Tls:
    """Paths of PEM files: the authority that signed the server's certificate; our certificate and its key, or neither."""

    ca: str
    cert: str = ""
    key: str = ""

    def credentials(self) -> Any:
        return grpc.ssl_channel_credentials(
            _file(self.ca), _file(self.key) if self.key else None, _file(self.cert) if self.cert else None
        )


def _file(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


class Answer(Future[Any]):
    """The answer to a request, to come."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: Outstanding | None = None


class _Refused(Exception):
    def __init__(self, refusal: pb.Refusal) -> None:
        super().__init__(refusal.text)
        self.reason = refusal.reason


class _Broken(Exception):
    """The stream does not go on; says why."""


class Connection:
    """`connect` first, `close` last. `ask`, `sync` and `lock` are the port of the metadata."""

    def __init__(self, addresses: Sequence[str], hello: pb.Hello, *, tls: Tls | None, timeout_s: float) -> None:
        """`addresses`: "host:port" of the same server or of those that may take its place. `hello` without session."""
        self.lock = threading.RLock()
        #: What the server needs to know of us; whoever uses the session sets them after `connect`, before it asks anything.
        self.holds: Callable[[], list[Hold]] = list
        self.on_recall: Callable[[int], None] = lambda ino: None
        self.on_resume: Callable[[Attributes], None] = lambda attributes: None
        self.on_gone: Callable[[str], None] = lambda text: None
        #: Where the session is, or was last.
        self.address = addresses[0]
        #: When the server went away, as time.time() counts; None while it is there.
        self.away_since_s: float | None = None
        self._addresses = list(addresses)
        self._hello = hello
        self._hello.protocol_min = self._hello.protocol_max = PROTOCOL
        self._tls = tls
        self._timeout_s = timeout_s
        self._link = SessionLink(int(timeout_s * 1e9))
        #: Asked and not in the link yet. Whoever appends sees to it that `_pump` runs.
        self._asked: deque[tuple[Any, Answer, int]] = deque()
        self._pump_is_due = False
        #: Frames without requests that go before any that have some.
        self._words: deque[pb.ClientFrame] = deque()
        self._sending: asyncio.Task[None] | None = None
        self._welcome: Future[pb.Welcome] = Future()
        #: Why nothing can be asked any more.
        self._gone = ""
        self._closing = False
        self._goodbye_is_due = False
        self._call: Any = None
        self._fence: pb.Fence | None = None
        self._loop = asyncio.new_event_loop()
        self._main: asyncio.Task[None] | None = None
        self._thread = threading.Thread(target=self._run, name="connection", daemon=True)

    # -- from any thread ------------------------------------------------------------------------------------------

    def connect(self) -> pb.Welcome:
        """Begin the session. ServerError."""
        self._thread.start()
        try:
            return self._welcome.result()
        except BaseException:
            self.close()
            raise

    def ask(self, request: Request | Sync) -> Answer:
        """A refusal is an OSError of the answer; so is a server that is away for too long (EIO)."""
        if self._gone:
            raise OSError(EIO, self._gone)
        answer = Answer()
        self._asked.append((request, answer, time.monotonic_ns()))
        if not self._pump_is_due:
            self._pump_is_due = True
            try:
                self._loop.call_soon_threadsafe(self._pump)
            except RuntimeError:  # closed just now
                self._fail_all("the connection is closed")
        return answer

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
        if self.is_away and isinstance(future, Answer):
            with suppress(RuntimeError):  # closed just now, and all have failed
                self._loop.call_soon_threadsafe(self._let_go, future)
        return True

    def tell_fence(self, addresses: Sequence[str]) -> None:
        """Tell the server, now and on every later connection, how to shut this client out of the object store."""
        self._fence = pb.Fence(addresses=addresses) if addresses else None
        if self._fence is not None:
            self._loop.call_soon_threadsafe(self._say, pb.ClientFrame(fence=self._fence))

    def close(self, *, goodbye: bool = True) -> None:
        """End the connection. Nothing may be asked any more. `goodbye`: the session ends too, if the server is there."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._begin_closing, goodbye)
            self._thread.join()

    # -- the loop -------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._main = self._loop.create_task(self._live())
        try:
            self._loop.run_until_complete(self._main)
        except asyncio.CancelledError:
            pass
        except BaseException as error:
            log.critical("the connection stops", exc_info=error)
            self._end("the connection failed; see the log")
            if not self._welcome.done():
                self._welcome.set_exception(error)
        finally:
            self._loop.close()
            self._fail_all("the connection is closed")

    async def _live(self) -> None:
        ticking = self._loop.create_task(self._tick())
        try:
            await self._stay_connected()
            while not self._closing:  # gone for good: until somebody closes, everybody is told
                await asyncio.sleep(PAUSE_MAX_S)
        finally:
            ticking.cancel()
            await asyncio.wait([ticking])

    async def _stay_connected(self) -> None:
        pause_s = PAUSE_MIN_S
        first_until = self._loop.time() + min(FIRST_CONNECT_S, self._timeout_s)
        said = ""
        while not self._closing:
            problem = ""
            for address in list(self._addresses):
                try:
                    await self._connected_to(address)
                except _Refused as refusal:
                    if refusal.reason == pb.Refusal.SESSION_GONE:
                        self._session_is_gone(str(refusal))
                        return
                    if not self._welcome.done() and refusal.reason != pb.Refusal.BUSY:
                        self._welcome.set_exception(ServerError(f"{address} refuses: {refusal}"))
                        return
                    problem = f"{address} refuses: {refusal}"
                except (_Broken, OSError) as error:
                    problem = f"{address}: {error}"
                if self._closing:
                    return
                if self._welcome.done() and self._mark_away(address, problem):
                    said = problem
                    self._addresses.remove(address)
                    self._addresses.insert(0, address)
                    if self._link.was_answered:
                        pause_s = PAUSE_MIN_S
                    break
            if not self._welcome.done() and self._loop.time() >= first_until:
                self._welcome.set_exception(ServerError(f"no metadata server answers: {problem}"))
                return
            if self._welcome.done() and problem != said:
                log.info("still away: %s", problem)
                said = problem
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, PAUSE_MAX_S)

    def _mark_away(self, address: str, problem: str) -> bool:
        """Whether the server has only now gone away."""
        if self._link.is_connected:
            self._link.lost()
            self.away_since_s = time.time()
            log.warning("the metadata server is away (%s); calls wait up to %g s for it", problem, self._timeout_s)
            return True
        return False

    async def _connected_to(self, address: str) -> None:
        """One connection, from its first byte to its last. Always ends with an error, unless we are closing."""
        if self._tls is None:
            channel = grpc.aio.insecure_channel(address, options=_CHANNEL_OPTIONS)
        else:
            channel = grpc.aio.secure_channel(address, self._tls.credentials(), options=_CHANNEL_OPTIONS)
        try:
            call = channel.stream_stream(METHOD)()
            try:
                async with asyncio.timeout(HANDSHAKE_S):
                    welcome = await self._shake_hands(call)
                    await self._begin(call, welcome)
            except TimeoutError:
                raise _Broken(f"no answer within {HANDSHAKE_S:g} s") from None
            self.address = address
            self._take_up(call, welcome)
            while (data := await call.read()) is not grpc.aio.EOF:
                self._receive(data)
            raise _Broken("the server ended the connection")
        except grpc.aio.AioRpcError as error:
            raise _Broken(_reason(error, first=not self._welcome.done())) from None
        except ValueError as error:
            raise _Broken(f"the server talks nonsense: {error}") from None
        except asyncio.CancelledError:
            if self._main is not None and self._main.cancelling():
                raise
            raise _Broken("the server is silent") from None  # `_tick` has cancelled the call
        finally:
            self._call = None
            await channel.close()

    async def _shake_hands(self, call: Any) -> pb.Welcome:
        await call.write(pb.ClientFrame(hello=self._hello).SerializeToString())
        data = await call.read()
        if data is grpc.aio.EOF:
            raise _Broken("the server ended the connection")
        frame = parse_server_frame(data)
        if frame.HasField("refusal"):
            raise _Refused(frame.refusal)
        if not frame.HasField("welcome"):
            raise ValueError("its first word is no welcome")
        return frame.welcome

    async def _begin(self, call: Any, welcome: pb.Welcome) -> None:
        """What the server must know before it gets requests."""
        if self._hello.session:
            if not welcome.resumed:
                raise _Refused(pb.Refusal(reason=pb.Refusal.SESSION_GONE, text="the server began another session"))
            with self.lock:
                holds = self.holds()
            for start in range(0, len(holds) or 1, _HOLDS_IN_FRAME):
                frame = pb.ClientFrame(holds_first=not start, holds_complete=start + _HOLDS_IN_FRAME >= len(holds))
                frame.acknowledged = self._link.acknowledged
                for hold in holds[start : start + _HOLDS_IN_FRAME]:
                    encode_hold(hold, frame.holds.add())
                await call.write(frame.SerializeToString())
        if self._fence is not None:
            await call.write(pb.ClientFrame(fence=self._fence).SerializeToString())

    def _take_up(self, call: Any, welcome: pb.Welcome) -> None:
        self._call = call
        self._words.clear()
        self._link.connected(time.monotonic_ns(), welcome.window or 1, (welcome.heartbeat_ms or 5000) * 1_000_000)
        if self.away_since_s is not None:
            log.info("the metadata server %s is back after %.1f s", self.address, time.time() - self.away_since_s)
            self.away_since_s = None
        if not self._welcome.done():
            self._hello.session = welcome.session
            self._hello.secret = welcome.secret
            self._welcome.set_result(welcome)
        self._pump()

    # -- sending --------------------------------------------------------------------------------------------------

    def _pump(self) -> None:
        """Take over what was asked, and send if nothing is being sent."""
        self._pump_is_due = False
        asked = self._asked
        link = self._link
        while asked:
            request, answer, asked_ns = asked.popleft()
            if self._gone:
                answer.set_exception(OSError(EIO, self._gone))
            else:
                answer.asked = link.ask(request, answer, asked_ns)
        if self._call is not None and self._sending is None:
            frame = self._next_frame()
            if frame is not None:
                self._sending = self._loop.create_task(self._send(self._call, frame))

    def _say(self, frame: pb.ClientFrame) -> None:
        if self._call is not None:  # else the next connection begins with what matters
            self._words.append(frame)
            self._pump()

    def _next_frame(self) -> pb.ClientFrame | None:
        if self._words:
            return self._words.popleft()
        link = self._link
        now_ns = time.monotonic_ns()
        asked = link.next(now_ns)
        if asked is None:
            if self._goodbye_is_due and not link.outstanding:
                self._goodbye_is_due = False
                return pb.ClientFrame(goodbye=True)
            return None
        frame = pb.ClientFrame()
        requests = frame.requests
        size_bytes = 0
        while asked is not None:
            message = requests.add()
            message.id = asked.id
            if asked.sequence:
                message.sequence = asked.sequence
            try:
                encode_request(asked.request, message)
            except (ValueError, TypeError) as error:
                log.error("%r cannot be sent: %s", asked.request, error)
                del requests[-1]
                link.answered(asked.id)
                asked.whose.set_exception(OSError(EINVAL, "cannot be sent"))
            size_bytes += message.ByteSize()
            if len(requests) >= FRAME_REQUESTS or size_bytes >= FRAME_BYTES:
                break
            asked = link.next(now_ns)
        frame.acknowledged = link.acknowledged
        return frame

    async def _send(self, call: Any, first: pb.ClientFrame) -> None:
        frame: pb.ClientFrame | None = first
        try:
            while frame is not None:
                await call.write(frame.SerializeToString())
                frame = self._next_frame() if self._call is call else None
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError, asyncio.CancelledError):
            call.cancel()  # the reader notices; the link has everything
        finally:
            self._sending = None
        if self._call is not call:
            self._pump()  # the next connection was there before this one was done with

    # -- receiving ------------------------------------------------------------------------------------------------

    def _receive(self, data: bytes) -> None:
        frame = parse_server_frame(data)
        link = self._link
        link.heard(time.monotonic_ns())
        self._pump_is_due = True  # what is asked by those who are told now goes in one frame, below
        try:
            for message in frame.answers:
                asked = link.answered(message.id)
                if asked is not None:
                    self._tell(asked, message)
            for notice in frame.notices:
                try:
                    self._heed(notice)
                except Exception:  # a bug of who listens must not cost the connection
                    log.exception("a notice of the metadata server was not heeded: %s", notice)
        finally:
            self._pump()
        if frame.HasField("refusal"):
            raise _Refused(frame.refusal)

    def _tell(self, asked: Outstanding, message: pb.Answer) -> None:
        answer: Answer = asked.whose
        if message.errno:
            if not asked.dropped:
                answer.set_exception(OSError(message.errno, "refused by the metadata server"))
            return
        try:
            value = decode_answer(type(asked.request), message)
        except ValueError as error:
            log.error("the answer to %r makes no sense: %s", asked.request, error)
            if not asked.dropped:
                answer.set_exception(OSError(EIO, "the metadata server talks nonsense"))
            return
        if asked.dropped:
            self._undo(asked.request, value)
        else:
            answer.set_result(value)

    def _heed(self, notice: pb.Notice) -> None:
        kind = notice.WhichOneof("kind")
        if kind == "recall":
            self.on_recall(notice.recall)
        elif kind == "resume":
            self.on_resume(decode_resume(notice.resume))

    def _undo(self, request: Any, value: Any) -> None:
        """Nobody waits for this answer any more: what it opened is closed again."""
        if isinstance(request, _HOLDING) and (type(request) is not Create or request.hold):
            attributes = value.attributes if isinstance(value, Opened) else value
            self._link.ask(Close(attributes.ino), Answer(), time.monotonic_ns())

    # -- time and the end -----------------------------------------------------------------------------------------

    async def _tick(self) -> None:
        link = self._link
        period_s = min(1.0, max(0.02, self._timeout_s / 8))
        while True:
            await asyncio.sleep(period_s)
            now_ns = time.monotonic_ns()
            for late in link.tick(now_ns):
                late.whose.set_exception(OSError(EIO, "the metadata server is away"))
            call = self._call
            if call is None:
                continue
            if link.is_silent(now_ns):
                call.cancel()
            elif link.needs_heartbeat(now_ns) and self._sending is None:
                link.said(now_ns)
                self._say(pb.ClientFrame())

    def _let_go(self, answer: Answer) -> None:
        self._pump()
        asked = answer.asked
        if not self._link.is_connected and asked is not None and not asked.dropped and not answer.done():
            self._link.drop(asked)
            answer.set_exception(OSError(EINTR, "interrupted"))

    def _session_is_gone(self, text: str) -> None:
        log.error(
            "the server has ended this session (%s): what was open and not stored is lost, and every call fails;"
            " unmount, and mount again",
            text,
        )
        if not self._welcome.done():
            self._welcome.set_exception(ServerError(text))
        self._end(f"the session is gone ({text})")
        self.on_gone(text)

    def _end(self, why: str) -> None:
        self._gone = why
        if self._link.is_connected:
            self._link.lost()
        if self.away_since_s is None:
            self.away_since_s = time.time()
        self._fail_all(why)

    def _fail_all(self, why: str) -> None:
        self._gone = self._gone or why
        self._pump()
        for asked in self._link.outstanding:
            self._link.drop(asked)
            asked.whose.set_exception(OSError(EIO, why))

    def _begin_closing(self, goodbye: bool) -> None:
        self._closing = True
        main = self._main
        if main is None:
            return
        if self._call is None or not goodbye:
            main.cancel()
        else:
            self._goodbye_is_due = True
            self._pump()
            self._loop.call_later(_GOODBYE_S, main.cancel)


def _reason(error: grpc.aio.AioRpcError, *, first: bool) -> str:
    """What went wrong, for people; `first`: and what may be wrong with what was given to us."""
    details = str(error.details() or error.code().name)
    if not first:
        return details
    return next((meaning for sign, meaning in _MEANINGS if sign in details), details.rpartition("last error: ")[2])
