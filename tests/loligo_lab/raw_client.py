"""A client of a metadata server that does what a test tells it, sense or nonsense: frames go out, frames come in.

    with RawClient(server.address) as client:                    # says hello, keeps the Welcome
        file = client.ask(Create(ROOT_INO, b"name", S_IFREG | 0o644, 0, 0, hold=True))     # OSError when refused
        answers = client.ask_all([Lookup(ROOT_INO, b"name")] * 64)     # one frame; refusals are OSErrors among them
        client.break_off()                                        # as if the cable was cut
        client.connect()                                          # the same session again
        client.ask(Create(…), sequence=client.sequence)           # once more with the number of the last change
        client.goodbye()

Sequences and ids are counted as a client should, unless a test gives its own. `send` takes any frame, `send_bytes` any bytes,
and `next_frame` what comes: None is the end of the stream. Notices are kept in `notices`, as (kind, ino).

It does nothing by itself: no heartbeats, no reconnects. Use it from one thread.
"""

import queue
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import grpc

from loligo_mds.core.codec import decode_answer, encode_hold, encode_request
from loligo_mds.core.events import Hold
from loligo_mds.core.requests import CHANGING, ReadLink
from loligo_wire.v1 import loligo_pb2 as pb

METHOD = "/loligo.v1.Metadata/Session"
LIMIT_S = 20.0


class Refused(Exception):
    """The server ended the stream, or did not begin it. `reason`: of Refusal."""

    def __init__(self, refusal: Any) -> None:
        super().__init__(refusal.text)
        self.reason: int = refusal.reason
        self.text: str = refusal.text


class StreamEnded(Exception):
    """Without a word. `code` is gRPC's, and `details` what it says."""

    def __init__(self, code: Any, details: str) -> None:
        super().__init__(f"{code}: {details}")
        self.code = code
        self.details = details


class RawClient:
    def __init__(
        self, address: str, *, volume: str = "lab", credentials: Any = None, limit_s: float = LIMIT_S, **hello: Any
    ) -> None:
        """`hello`: more fields of the Hello, for example read_only=True. Nothing is sent before `connect`."""
        self._address = address
        self._credentials = credentials
        self.limit_s = limit_s
        self.hello = pb.Hello(
            **{"protocol_min": 1, "protocol_max": 1, "version": "lab", "host": "test", "mounted_on": "/mnt", **hello},
            volume=volume,
        )
        self.welcome = pb.Welcome()
        self.notices: list[tuple[str, int]] = []
        #: Of the last request, and of the last that changed something.
        self.id = 0
        self.sequence = 0
        self._kinds: dict[int, type] = {}
        self._answers: dict[int, Any] = {}
        self._channel: Any = None
        self._call: Any = None
        self._sending: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._received: queue.SimpleQueue[pb.ServerFrame | Exception | None] = queue.SimpleQueue()
        self._reader: threading.Thread | None = None
        #: While it is clear, what the server sends stays in the network.
        self.may_read = threading.Event()
        self.may_read.set()

    # -- the stream -----------------------------------------------------------------------------------------------------

    def open(self) -> None:
        """A stream without a word."""
        assert self._call is None, "connected already"
        options = (
            ("grpc.use_local_subchannel_pool", 1),
            ("grpc.enable_http_proxy", 0),
            ("grpc.max_send_message_length", -1),
            ("grpc.max_receive_message_length", -1),
        )
        if self._credentials is None:
            self._channel = grpc.insecure_channel(self._address, options)
        else:
            self._channel = grpc.secure_channel(self._address, self._credentials, options)
        sending: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        received: queue.SimpleQueue[pb.ServerFrame | Exception | None] = queue.SimpleQueue()
        self._sending, self._received = sending, received
        self._call = call = self._channel.stream_stream(METHOD)(iter(sending.get, None))
        self._reader = threading.Thread(target=_read, args=(call, received, self.may_read), daemon=True)
        self._reader.start()
        self.id = 0
        self._kinds.clear()
        self._answers.clear()

    def connect(self, holds: Sequence[Hold] = ()) -> "RawClient":
        """Say hello, again if there is a session already: then `holds` are open. Refused, StreamEnded."""
        self.open()
        try:
            self.send(pb.ClientFrame(hello=self.hello))
            frame = self.next_frame()
            if frame is None:
                raise StreamEnded(self._call.code(), self._call.details())
            if frame.HasField("refusal"):
                raise Refused(frame.refusal)
            self.welcome = frame.welcome
            if self.hello.session:
                self.restate(holds)
            self.hello.session = self.welcome.session
            self.hello.secret = self.welcome.secret
        except BaseException:
            self.break_off()
            raise
        return self

    def restate(self, holds: Sequence[Hold]) -> None:
        frame = pb.ClientFrame(holds_first=True, holds_complete=True)
        for hold in holds:
            encode_hold(hold, frame.holds.add())
        self.send(frame)

    def break_off(self) -> None:
        """End the stream without a word to the server."""
        if self._call is not None:
            self._call.cancel()
            self.may_read.set()
            self._sending.put(None)
            self._channel.close()
            assert self._reader is not None
            self._reader.join()
            self._call = self._channel = None

    def goodbye(self) -> None:
        """End the session; returns when the server has ended the stream."""
        self.send(pb.ClientFrame(goodbye=True))
        while self.next_frame() is not None:
            pass
        self.break_off()

    def __enter__(self) -> "RawClient":
        return self.connect()

    def __exit__(self, *exception: object) -> None:
        self.break_off()

    # -- frames ---------------------------------------------------------------------------------------------------------

    def send(self, frame: pb.ClientFrame) -> None:
        self._sending.put(frame.SerializeToString())

    def send_bytes(self, data: bytes) -> None:
        self._sending.put(data)

    def next_frame(self, limit_s: float | None = None) -> pb.ServerFrame | None:
        """None: the stream has ended in order. StreamEnded: it has not. TimeoutError."""
        try:
            received = self._received.get(timeout=self.limit_s if limit_s is None else limit_s)
        except queue.Empty:
            raise TimeoutError("nothing came from the server") from None
        if received is None or isinstance(received, Exception):
            self._received.put(received)  # it stays so
            if received is not None:
                raise received
            return None
        for notice in received.notices:
            kind = notice.WhichOneof("kind")
            self.notices.append((kind, notice.resume.ino if kind == "resume" else getattr(notice, kind)))
        return received

    def heartbeat(self) -> None:
        """Returns when it is answered."""
        self.send(pb.ClientFrame())
        while self._take().ByteSize():
            pass

    # -- requests -------------------------------------------------------------------------------------------------------

    def add_request(self, frame: pb.ClientFrame, request: Any, sequence: int | None = None) -> int:
        """Its id. `sequence` None: the next one, if the request changes something."""
        self.id += 1
        message = frame.requests.add(id=self.id)
        if sequence is not None:
            message.sequence = sequence
        elif type(request) in CHANGING:
            self.sequence += 1
            message.sequence = self.sequence
        encode_request(request, message)
        self._kinds[self.id] = type(request)
        return self.id

    def begin(self, requests: Iterable[Any], *, sequence: int | None = None, acknowledged: int = 0) -> list[int]:
        """Send them in one frame; their ids, for `finish`. `sequence`: of the first that changes something."""
        frame = pb.ClientFrame(acknowledged=acknowledged)
        ids = []
        for request in requests:
            own = None
            if sequence is not None and type(request) in CHANGING:
                own, sequence = sequence, sequence + 1
            ids.append(self.add_request(frame, request, own))
        self.send(frame)
        return ids

    def finish(self, ids: Sequence[int]) -> list[Any]:
        """What they were answered, in order; a refusal is an OSError among them. Refused, StreamEnded, TimeoutError."""
        while not all(id in self._answers for id in ids):
            self._take()
        return [self._answers.pop(id) for id in ids]

    def ask_all(self, requests: Iterable[Any], *, sequence: int | None = None, acknowledged: int = 0) -> list[Any]:
        return self.finish(self.begin(requests, sequence=sequence, acknowledged=acknowledged))

    def ask(self, request: Any, *, sequence: int | None = None, acknowledged: int = 0) -> Any:
        """OSError when it is refused."""
        answer = self.ask_all([request], sequence=sequence, acknowledged=acknowledged)[0]
        if isinstance(answer, OSError):
            raise answer
        return answer

    def is_gone(self, ino: int) -> bool:
        """Asked in a way that waits for nobody who may have it open."""
        return isinstance(self.ask_all([ReadLink(ino)])[0], FileNotFoundError)

    def is_answered(self, id: int) -> bool:
        """Whether it was by now."""
        while not self._received.empty():
            self._take()
        return id in self._answers

    def wait_for_notice(self, kind: str, ino: int) -> None:
        """Take it out of `notices`. TimeoutError."""
        self._wait(lambda: (kind, ino) in self.notices, f"{kind} of {ino}")
        self.notices.remove((kind, ino))

    def wait_for_refusal(self) -> Refused:
        """The server must end the stream with one."""
        try:
            while self._take():
                pass
        except Refused as refused:
            return refused
        raise AssertionError("the stream ended without a refusal")

    def _wait(self, condition: Callable[[], bool], what: str) -> None:
        end_s = time.monotonic() + self.limit_s
        while not condition():
            if time.monotonic() > end_s:
                raise TimeoutError(f"no {what}")
            self._take()

    def _take(self) -> pb.ServerFrame:
        frame = self.next_frame()
        if frame is None:
            raise StreamEnded(grpc.StatusCode.OK, "the server ended the stream")
        for message in frame.answers:
            kind = self._kinds.pop(message.id, None)
            self._answers[message.id] = (
                OSError(message.errno, "refused")
                if message.errno
                else decode_answer(kind, message)
                if kind
                else message  # to a frame that the test has made by itself
            )
        if frame.HasField("refusal"):
            raise Refused(frame.refusal)
        return frame


def _read(call: Any, received: "queue.SimpleQueue[Any]", may_read: threading.Event) -> None:
    try:
        for data in call:
            may_read.wait()
            received.put(pb.ServerFrame.FromString(data))
        received.put(None)
    except grpc.RpcError as error:
        received.put(StreamEnded(error.code(), error.details()))
