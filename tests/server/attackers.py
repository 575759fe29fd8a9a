"""Clients that attack a server: sessions, streams, frames, one after the other, until there have been enough.

Each `Attacker` is a task of one event loop, with a connection of its own. What it sends is `hostile.Enemy`'s; here is when.
"""

import asyncio
import gc
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any

import grpc
import grpc.aio

from loligo_lab.raw_client import METHOD
from loligo_wire.v1 import loligo_pb2 as pb
from server.hostile import Enemy, is_tame, survives

STREAMS = 6
#: Behind this an id has no room to grow.
_ID_MAX = 1 << 60
#: What a stream raises when the server has ended it between two words of ours.
_ENDED = (grpc.aio.AioRpcError, asyncio.InvalidStateError)
_CHANNEL = (
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_http_proxy", 0),
    ("grpc.max_receive_message_length", -1),
)


@dataclass
class Role:
    """A kind of session. `inos` are known to it from the start. `may_send` filters its frames, `sees` the server's answers."""

    hello: dict[str, Any]
    inos: list[int]
    foreign: list[int]
    names: tuple[bytes, ...]
    may_send: Callable[[bytes], bool] = lambda data: True
    sees: Callable[[bytes, pb.ServerFrame], None] = lambda data, frame: None


@dataclass
class Count:
    frames: int = 0
    streams: int = 0
    sessions: int = 0
    #: Bursts that a stream was to survive, and did not.
    cut_short: int = 0
    answers: Counter[int] = field(default_factory=Counter)
    refusals: Counter[int] = field(default_factory=Counter)


class Stream:
    """Listens all the time, as the server expects of who says much."""

    def __init__(self, call: Any, role: Role, enemy: Enemy, count: Count) -> None:
        self.call = call
        self.role = role
        self.enemy = enemy
        self._count = count
        #: Of the requests sent.
        self.last_id = 0
        #: True for every heartbeat that was answered, False for the end.
        self._heard: asyncio.Queue[bool] = asyncio.Queue()
        self._listening = asyncio.create_task(self._listen())

    async def write(self, data: bytes) -> bool:
        """Whether the role may send such a thing."""
        may = self.role.may_send(data)
        if may:
            await self.call.write(data)
        return may

    async def heartbeat(self) -> bool:
        """Whether it was answered; False: the stream has ended."""
        await self.call.write(b"")
        return await self.is_alive()

    async def is_alive(self) -> bool:
        return await self._heard.get()

    async def _listen(self) -> None:
        try:
            while (data := await self.call.read()) is not grpc.aio.EOF:
                self._take(data)
        except _ENDED:
            pass
        finally:
            self._heard.put_nowait(False)
            self._heard.put_nowait(False)

    def _take(self, data: bytes) -> None:
        frame = pb.ServerFrame.FromString(data)
        self.role.sees(data, frame)
        if not data:
            self._heard.put_nowait(True)
        if frame.HasField("refusal"):
            self._count.refusals[frame.refusal.reason] += 1
        for answer in frame.answers:
            self._count.answers[answer.errno] += 1
            if answer.HasField("inode"):
                self.enemy.learn(answer.inode.ino)

    async def close(self) -> None:
        drop(self.call)
        self._listening.cancel()
        await asyncio.wait([self._listening])
        if not self._listening.cancelled():
            self._listening.result()  # what the role has seen may have failed


class Attacker:
    """One after the other: sessions, streams, frames, until there have been enough."""

    def __init__(self, channel: Any, roles: list[Role], seed: int, count: Count, enough: int) -> None:
        self._open = channel.stream_stream(METHOD)
        self._roles = roles
        self._random = Random(seed)
        self._count = count
        self._enough = enough
        self._ids: list[int] = []

    async def run(self) -> None:
        while self._count.frames < self._enough:
            role = self._random.choice(self._roles)
            if self._random.random() < 0.3:
                await self._intrude(role)
            else:
                await self._live(role)

    # -- streams that come to no session --------------------------------------------------------------------------------

    async def _intrude(self, role: Role) -> None:
        random = self._random
        enemy = Enemy(random, role.inos, role.foreign, role.names)
        hello = self._hello(role)
        match random.randrange(7):
            case 0:
                first = enemy.noise()
            case 1:
                first = enemy.frame().SerializeToString()
            case 2:
                first = enemy.holds().SerializeToString()
            case 3:
                hello.session = random.choice((*self._ids, random.getrandbits(63), (1 << 64) - 1))
                hello.secret = random.randbytes(random.choice((0, 16, 16, 5000)))
                first = pb.ClientFrame(hello=hello).SerializeToString()
            case 4:
                hello.protocol_min, hello.protocol_max = random.choice(((0, 0), (3, 9), (9, 2), ((1 << 32) - 1,) * 2))
                first = pb.ClientFrame(hello=hello).SerializeToString()
            case 5:
                hello.root_path = random.choice(
                    (b"nowhere", b"kept/../good", b"x" * 70_000, b"/" * 70_000, b"a\0", b"\xff")
                )
                first = pb.ClientFrame(hello=hello).SerializeToString()
            case _:
                flipped = bytearray(pb.ClientFrame(hello=hello).SerializeToString())
                flipped[random.randrange(len(flipped))] ^= 1 << random.randrange(8)
                first = bytes(flipped)
        call = self._open()
        try:
            # What is right behind must not be looked at before there is a session, and none outside its limits after.
            for data in (first, pb.ClientFrame(goodbye=True).SerializeToString()):
                await call.write(data)
            self._count.frames += 1
            while (data := await call.read()) is not grpc.aio.EOF:
                frame = pb.ServerFrame.FromString(data)
                if frame.HasField("refusal"):
                    self._count.refusals[frame.refusal.reason] += 1
        except _ENDED:
            pass
        finally:
            drop(call)

    def _hello(self, role: Role) -> pb.Hello:
        return pb.Hello(
            protocol_min=1, protocol_max=1, volume="lab", version="enemy", host="enemy\nTraceback", **role.hello
        )

    # -- a session ------------------------------------------------------------------------------------------------------

    async def _live(self, role: Role) -> None:
        random = self._random
        hello = self._hello(role)
        enemy = Enemy(random, role.inos, role.foreign, role.names)
        self._count.sessions += 1
        for _ in range(random.choice((1, 1, 2, 8))):
            call = self._open()
            try:
                await call.write(pb.ClientFrame(hello=hello).SerializeToString())
                said = pb.ServerFrame.FromString(await call.read())
            except _ENDED:
                drop(call)
                continue
            if said.HasField("refusal"):  # it has expired, perhaps
                self._count.refusals[said.refusal.reason] += 1
                drop(call)
                return
            self._count.streams += 1
            stream = Stream(call, role, enemy, self._count)
            try:
                if hello.session:
                    await self._restate(stream)
                else:
                    self._ids.append(said.welcome.session)
                    hello.session, hello.secret = said.welcome.session, said.welcome.secret
                enemy.rewind()
                if not await self._converse(stream):
                    return
            except _ENDED:
                pass
            finally:
                await stream.close()
            if self._count.frames >= self._enough:
                return

    async def _restate(self, stream: Stream) -> None:
        for _ in range(self._random.choice((1, 1, 2))):
            lies = stream.enemy.holds()
            self._count.frames += await stream.write(lies.SerializeToString())
            if lies.holds_complete:
                return
        await stream.write(pb.ClientFrame(holds_complete=True).SerializeToString())

    async def _converse(self, stream: Stream) -> bool:
        """Whether the session can have another stream."""
        random = self._random
        for _ in range(random.choice((1, 2, 4))):
            if stream.enemy.id > _ID_MAX or not await self._burst(stream):
                return True
        draw = random.random()
        if draw < 0.5:
            await self._last_words(stream)
        elif draw < 0.6:
            await stream.write(pb.ClientFrame(goodbye=True).SerializeToString())
            await stream.write(stream.enemy.frame().SerializeToString())
            await stream.is_alive()
            return False
        return True

    async def _burst(self, stream: Stream) -> bool:
        """Frames that a stream survives, and a heartbeat behind them. Whether it did."""
        enemy = stream.enemy
        sent = 0
        for _ in range(60):
            data = enemy.frame().SerializeToString() if self._random.random() < 0.6 else enemy.mutated()
            last_id = survives(data, stream.last_id)
            if not data or last_id is None or not is_tame(data) or not await stream.write(data):
                continue
            stream.last_id = last_id
            enemy.id = max(last_id, enemy.id)
            sent += 1
            if enemy.id > _ID_MAX:
                break
        if not await stream.heartbeat():
            self._count.cut_short += 1
            return False
        self._count.frames += sent
        return True

    async def _last_words(self, stream: Stream) -> None:
        """Something that no stream survives, and what a client may have said before it heard of that."""
        enemy = stream.enemy
        for _ in range(100):
            data = self._random.choice((enemy.mutated, enemy.noise, lambda: enemy.holds().SerializeToString()))()
            if survives(data, stream.last_id) is None and is_tame(data) and await stream.write(data):
                self._count.frames += 1
                break
        await stream.write(enemy.frame().SerializeToString())
        await stream.heartbeat()  # it may have survived after all


def drop(call: Any) -> None:
    """End a call for good.

    One whose write has failed counts as ended for grpc.aio, so that `cancel` does nothing; but its stream is there until all
    that the server said has been read, and a connection bears only so many streams.
    """
    call.cancel()
    call._cython_call.cancel("dropped")


async def attack(address: str, roles: list[Role], seed: int, frames: int) -> Count:
    count = Count()
    channels = [grpc.aio.insecure_channel(address, _CHANNEL) for _ in range(STREAMS)]
    try:
        async with asyncio.TaskGroup() as group:
            for number, channel in enumerate(channels):
                group.create_task(Attacker(channel, roles, seed * STREAMS + number, count, frames).run())
    finally:
        for channel in channels:
            await channel.close()
        channels.clear()
        gc.collect()  # grpc keeps a connection for as long as anything refers to its channel
    return count
