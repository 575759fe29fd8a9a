"""A metadata server that does what a test tells it: it applies changes once a sequence, and loses connections on demand.

It runs on a thread of its own, on a port of loopback, and speaks gRPC for real. It knows no files: every Create answers
with a new inode, other requests with one that the request names.
"""

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import grpc
import grpc.aio

from loligo_mds.core.codec import Sync, decode_hold, decode_request, encode_answer, encode_resume, parse_client_frame
from loligo_mds.core.events import Hold
from loligo_mds.core.requests import (
    CHANGING,
    Create,
    GetAttributes,
    GetUsage,
    Open,
    Opened,
    SetXattr,
    Unlink,
    Usage,
)
from loligo_wire.attributes import Attributes
from loligo_wire.v1 import loligo_pb2 as pb

SESSION = 77
SECRET = b"s" * 16
WINDOW = 64


class ScriptedServer:
    def __init__(self, *, heartbeat_ms: int = 5000, credentials: Any = None) -> None:
        self.heartbeat_ms = heartbeat_ms
        self.port = 0
        #: What it was told, in order.
        self.hellos: list[pb.Hello] = []
        self.applied: list[tuple[int, Any]] = []
        self.asked: list[Any] = []
        self.holds: list[Hold] = []
        self.fences: list[list[str]] = []
        self.acknowledged = 0
        self.goodbyes = 0
        self.frames = 0
        #: What it is to do.
        self.refusal: pb.Refusal | None = None
        self.is_silent = False
        #: Requests of these kinds are left without an answer.
        self.ignored: set[type] = set()
        #: Called for every frame, before its requests are applied and after; True loses the connection there.
        self.loses_before: Callable[[], bool] = lambda: False
        self.loses_after: Callable[[], bool] = lambda: False
        self._answers: dict[int, Any] = {}
        self._next_ino = 100
        self._credentials = credentials
        self._writes: set[asyncio.Queue[pb.ServerFrame | None]] = set()
        self._loop = asyncio.new_event_loop()
        self._server: Any = None
        self._thread = threading.Thread(target=self._run, name="scripted server")
        self._thread.start()
        self.start()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()
        self._loop.close()

    def _do(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(10)

    def start(self) -> None:
        self._do(self._start())

    def stop(self) -> None:
        """Away, as after kill -9; `start` brings it back on the same port, with what it had applied."""
        self._do(self._stop())

    def close(self) -> None:
        if self._server is not None:
            self.stop()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def notify(self, notice: pb.Notice) -> None:
        self._loop.call_soon_threadsafe(self._write_all, pb.ServerFrame(notices=[notice]))

    def recall(self, ino: int) -> None:
        self.notify(pb.Notice(recall=ino))

    def resume(self, attributes: Attributes) -> None:
        notice = pb.Notice()
        encode_resume(attributes, notice.resume)
        self.notify(notice)

    def lose_connections(self) -> None:
        self._loop.call_soon_threadsafe(self._write_all, None)

    def _write_all(self, frame: pb.ServerFrame | None) -> None:
        for queue in self._writes:
            queue.put_nowait(frame)

    async def _start(self) -> None:
        server = grpc.aio.server(options=(("grpc.so_reuseport", 0),))
        handler = grpc.stream_stream_rpc_method_handler(self._session)
        server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler("loligo.v1.Metadata", {"Session": handler}),)
        )
        address = f"127.0.0.1:{self.port}"
        if self._credentials is None:
            self.port = server.add_insecure_port(address)
        else:
            self.port = server.add_secure_port(address, self._credentials)
        await server.start()
        self._server = server

    async def _stop(self) -> None:
        server, self._server = self._server, None
        await server.stop(None)

    async def _session(self, requests: Any, context: Any) -> None:
        queue: asyncio.Queue[pb.ServerFrame | None] = asyncio.Queue()
        self._writes.add(queue)
        reading = asyncio.ensure_future(self._read(context, queue))
        try:
            while (frame := await queue.get()) is not None:
                if not self.is_silent:
                    await context.write(frame.SerializeToString())
        finally:
            self._writes.discard(queue)
            reading.cancel()

    async def _read(self, context: Any, queue: asyncio.Queue[pb.ServerFrame | None]) -> None:
        try:
            while (data := await context.read()) is not grpc.aio.EOF:
                answer = self._take(parse_client_frame(data))
                queue.put_nowait(answer)
                if answer is None or answer.HasField("refusal"):
                    queue.put_nowait(None)
        finally:
            queue.put_nowait(None)

    def _take(self, frame: pb.ClientFrame) -> pb.ServerFrame | None:
        self.frames += 1
        if frame.HasField("hello"):
            self.hellos.append(frame.hello)
            if self.refusal is not None:
                return pb.ServerFrame(refusal=self.refusal)
            return pb.ServerFrame(welcome=self._welcome(frame.hello))
        if frame.holds_first:
            self.holds = []
        self.holds.extend(decode_hold(hold) for hold in frame.holds)
        if frame.HasField("fence"):
            self.fences.append(list(frame.fence.addresses))
        if frame.goodbye:
            self.goodbyes += 1
            return None
        if self.loses_before():
            return None
        self.acknowledged = frame.acknowledged
        answers = pb.ServerFrame()
        for message in frame.requests:
            request = decode_request(message)
            self.asked.append(request)
            value = self._answer(message.sequence, request)
            if type(request) in self.ignored:
                continue
            answer = answers.answers.add()
            answer.id = message.id
            if isinstance(value, int):
                answer.errno = value
            else:
                encode_answer(value, answer)
        return None if self.loses_after() else answers

    def _welcome(self, hello: pb.Hello) -> pb.Welcome:
        return pb.Welcome(
            protocol=1,
            session=SESSION,
            secret=SECRET,
            resumed=bool(hello.session),
            root_ino=1,
            volume_uuid="u",
            volume_name=hello.volume,
            data_url="file:///nowhere",
            block_bytes=1 << 22,
            inline_limit_bytes=4096,
            heartbeat_ms=self.heartbeat_ms,
            expiry_ms=60_000,
            window=WINDOW,
        )

    def _answer(self, sequence: int, request: Any) -> Any:
        """An int is an errno."""
        if type(request) not in CHANGING:
            if isinstance(request, Open):
                return Opened(Attributes(request.ino, 0o100644))
            if isinstance(request, GetUsage):
                return Usage(1, 2)
            if isinstance(request, Sync):
                return None
            return Attributes(request.ino, 0o100644) if isinstance(request, GetAttributes) else None
        assert sequence > 0, "a change without a sequence"
        if sequence not in self._answers:
            self.applied.append((sequence, request))
            self._answers[sequence] = self._apply(request)
        return self._answers[sequence]

    def _apply(self, request: Any) -> Any:
        if isinstance(request, Create):
            self._next_ino += 1
            return Attributes(self._next_ino, request.mode)
        if isinstance(request, Unlink):
            return 2  # ENOENT
        if isinstance(request, SetXattr):
            return Attributes(request.ino, 0o100644)
        return None
