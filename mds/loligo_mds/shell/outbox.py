"""What goes down one stream: answers and notices are put into frames, and the frames are written, one at a time.

Rules
1. Answers of a frame are earlier than its notices; what would be the other way round goes into another frame.
2. Whoever answers a frame of the client writes by itself (`flush`). What comes from elsewhere is written by a task, unless
   somebody is about to write anyway.
3. A write is never let go half-way but to end the stream: gRPC takes no other word behind it.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, Final

import grpc.aio

from loligo_mds.core.codec import encode_answer, encode_leases, encode_recall, encode_resume
from loligo_mds.core.effects import LeaseRecall, Recall, Reply, Report, Resume
from loligo_mds.core.requests import Opened
from loligo_wire.v1 import loligo_pb2 as pb

#: A frame that has grown so far is written before more is asked.
FULL_BYTES: Final = 1 << 20
#: What an answer costs in bytes besides its data: head, record of an inode.
_ANSWER_BYTES: Final = 128
_REFUSED_BYTES: Final = 16

#: What gRPC raises when the client is not there any more.
GONE: Final = (grpc.aio.BaseError, asyncio.InvalidStateError)


class Outbox:
    def __init__(self, write: Callable[[bytes], Any], on_gone: Callable[[], None]) -> None:
        """`write` returns when the client's buffers have the frame. `on_gone`: the client is not there any more."""
        self._write = write
        self._on_gone = on_gone
        self._frame = pb.ServerFrame()
        self._bytes = 0
        #: Complete, to be written.
        self._out: deque[pb.ServerFrame] = deque()
        self._writer: asyncio.Task[None] | None = None
        #: Somebody is about to `flush`.
        self.will_flush = False
        #: By the loop's clock; 0 while nothing is being written.
        self.writing_since_s = 0.0
        #: Told from elsewhere since the last write.
        self.told = 0

    @property
    def is_full(self) -> bool:
        return self._bytes > FULL_BYTES

    @property
    def is_flushing(self) -> bool:
        """Somebody waits in `flush` for a write of his own."""
        return self.writing_since_s != 0.0 and self._writer is None

    def add_frame(self, frame: pb.ServerFrame) -> None:
        self._seal()
        self._out.append(frame)

    def add_answer(self, id: int, reply: Reply) -> None:
        frame = self._frame
        if frame.notices:
            self._seal()
            frame = self._frame
        answer = frame.answers.add()
        answer.id = id
        if reply.errno:
            answer.errno = reply.errno
            self._bytes += _REFUSED_BYTES
            return
        value = reply.value
        encode_answer(value, answer)
        encode_leases(reply, answer)
        self._bytes += _ANSWER_BYTES * (1 + len(reply.directories))
        if type(value) is list or type(value) is bytes or (type(value) is Opened and value.inline):
            self._bytes += answer.ByteSize()

    def add_notice(self, notice: Recall | Report | Resume | LeaseRecall) -> None:
        message = self._frame.notices.add()
        if isinstance(notice, Recall):
            message.recall = notice.ino
        elif isinstance(notice, Report):
            message.report = notice.ino
        elif isinstance(notice, LeaseRecall):
            encode_recall(notice, message.lease)
        else:
            encode_resume(notice.attributes, message.resume)

    def post(self) -> None:
        """What was added goes out soon."""
        self.told += 1
        if self._writer is None and not self.writing_since_s and not self.will_flush:
            self._writer = asyncio.get_running_loop().create_task(self._write_posted())

    async def flush(self) -> None:
        """Write all that waits; returns when the client's buffers have it."""
        while self._writer is not None:
            await asyncio.wait([self._writer])
        await self._write_out()

    async def end(self, last_word: pb.Refusal | None, within_s: float) -> None:
        """Write what waits if the client takes it within that time, and this last of all."""
        if self._writer is not None:
            await asyncio.wait([self._writer], timeout=within_s)
        if self._writer is not None:
            self._writer.cancel()
            await asyncio.wait([self._writer])
        if last_word is not None:
            self.add_frame(pb.ServerFrame(refusal=last_word))
            try:
                async with asyncio.timeout(within_s):
                    await self._write_out()
            except (TimeoutError, *GONE):
                pass  # it is not there to hear it

    def _seal(self) -> None:
        """The frame is complete."""
        if self._bytes or self._frame.notices:
            self._out.append(self._frame)
            self._frame = pb.ServerFrame()
            self._bytes = 0

    async def _write_out(self) -> None:
        self._seal()
        out = self._out
        clock = asyncio.get_running_loop().time
        try:
            while out:
                self.writing_since_s = clock()
                await self._write(out.popleft().SerializeToString())
                if not out:
                    self._seal()  # what was told meanwhile
            self.told = 0
        finally:
            self.writing_since_s = 0.0

    async def _write_posted(self) -> None:
        try:
            await self._write_out()
        except GONE:
            self._on_gone()
        finally:
            self._writer = None
