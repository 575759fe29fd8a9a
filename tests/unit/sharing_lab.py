"""Several data paths on one shard and one object store: clients, links and a server in one process, and every I/O is the
test's to decide. What a link carries counts among the calls of the store: see `ScriptedObjects.also`.
"""

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from errno import ESHUTDOWN
from functools import partial
from random import Random
from typing import Any

from loligo_client.shell.block_cache import CachedObjects
from loligo_client.shell.data_path import DataPath
from loligo_client.shell.tasks import Metadata
from loligo_lab.scripted_objects import ScriptedObjects
from loligo_mds.core.content import fill_in
from loligo_mds.core.effects import (
    AppendJournal,
    Recall,
    RemoveObjects,
    RepairObjects,
    Repeat,
    Reply,
    Report,
    Resume,
    Retry,
)
from loligo_mds.core.events import (
    Event,
    Repaired,
    SessionEnded,
    SessionOpened,
    SessionRestated,
    ShardRestarted,
    Submitted,
)
from loligo_mds.core.invariants import check_shard
from loligo_mds.core.open_file import SHARD_SESSION
from loligo_mds.core.requests import CHANGING, STATED_BY_HOLDS, ListUnsettled, Opened, Request
from loligo_mds.core.shard import Shard, initialise
from loligo_mds.shell.keeper import Keeper
from loligo_mds.store.memory_tables import MemoryTables
from loligo_runtime.object_store import failed
from unit.data_lab import ALL_ROWS, BLOCK_BYTES, DIRTY_LIMIT_BYTES, INLINE_LIMIT_BYTES, DataLab, objects_and_sizes_agree
from unit.shard_lab import replayed


class Server:
    """The shard, its keeper, and what it says to whom."""

    def __init__(self, store: ScriptedObjects) -> None:
        self.lock = threading.RLock()
        self.store = store
        self.journal = [effect.writes for effect in initialise(MemoryTables(), 1, 0, 0)]
        self.links: dict[int, Link] = {}
        self.now_ns = 1
        self.keeper = Keeper(self, store, on_repaired=lambda ino: self.step(Repaired(ino)))
        self.start(())

    def start(self, surviving: tuple[int, ...]) -> None:
        self.tables = replayed(self.journal)
        self.shard = Shard(0, self.tables, BLOCK_BYTES)
        self.step(ShardRestarted(surviving))

    def step(self, event: Event) -> Any:
        """The answer, if the shard's own process asks."""
        with self.lock:
            answer = None
            again: Event | None = event
            while again is not None:
                event, again = again, None
                self.now_ns += 1
                for effect in self.shard.step(self.now_ns, event):
                    if isinstance(effect, AppendJournal):
                        self.journal.append(effect.writes)
                    elif isinstance(effect, RemoveObjects):
                        self.keeper.remove_objects(effect)
                    elif isinstance(effect, RepairObjects):
                        self.keeper.repair(effect)
                    elif isinstance(effect, Repeat | Retry):
                        again = effect.event
                    elif isinstance(effect, Reply) and effect.session == SHARD_SESSION:
                        answer = effect
                    elif effect.session in self.links:
                        if isinstance(effect, Reply) and type(effect.value) is Opened:
                            fill_in(self.shard.state, effect.value)
                        self.links[effect.session].say(effect)
            return answer

    # -- the keeper's port --------------------------------------------------------------------------------------------

    def ask(self, request: Request) -> Any:
        reply = self.step(Submitted(SHARD_SESSION, 0, request))
        if reply.errno:
            raise OSError(reply.errno, f"refused: {request}")
        return reply.value

    def sync(self) -> None:
        """Nothing here loses power."""


class Sent:
    def __init__(self, request: Request, sequence: int) -> None:
        self.request = request
        self.sequence = sequence
        self.future: Future[Any] = Future()


class Link(Metadata):
    """A client's port of the metadata: what it asks arrives later, in order, and so do answers and notices. Some frames
    have several: then the answers come first.
    """

    def __init__(self, server: Server, session: int, choose: Random) -> None:
        self.lock = threading.RLock()
        self.session = session
        self.data: DataPath
        self._server = server
        self._choose = choose
        self._guard = threading.Lock()
        self._sequence = 0
        self._id = 0
        #: Not at the server yet; there, and not answered.
        self._asked: deque[Sent] = deque()
        self._sent: dict[int, Sent] = {}
        #: On the way to the client. Of another connection than `_connection`, they are lost.
        self._said: deque[Reply | Recall | Report | Resume] = deque()
        self._connection = 0
        self.dead = False
        with server.lock:
            server.links[session] = self
            server.step(SessionOpened(session, b"client %d" % session))

    def ask(self, request: Request) -> Future[Any]:
        with self._guard:
            if self.dead:
                raise OSError(ESHUTDOWN, "the client is dead")
            sequence = 0
            if type(request) in CHANGING:
                self._sequence += 1
                sequence = self._sequence
            sent = Sent(request, sequence)
            self._asked.append(sent)
        self._soon(self._carry_up)
        return sent.future

    def sync(self) -> None:
        """Nothing here loses power."""

    def _soon(self, work: Callable[[], None]) -> None:
        connection = self._connection
        self._server.store.also("link", lambda: None if self.dead or connection != self._connection else work())

    def _carry_up(self) -> None:
        with self._server.lock:
            with self._guard:
                sent = self._asked.popleft()
                self._id += 1
                id = self._id
                self._sent[id] = sent
                acknowledged = self._acknowledged()
            self._server.step(Submitted(self.session, sent.sequence, sent.request, acknowledged, id))

    def _acknowledged(self) -> int:
        """All answers up to this sequence have arrived."""
        unanswered = [sent.sequence for sent in (*self._sent.values(), *self._asked) if sent.sequence]
        return min(unanswered, default=self._sequence + 1) - 1

    def say(self, effect: Any) -> None:
        """The server speaks."""
        with self._guard:
            self._said.append(effect)
        self._soon(self._carry_down)

    def _carry_down(self) -> None:
        with self._guard:
            frame = [self._said.popleft() for _ in range(self._choose.randint(1, len(self._said)))]
            frame.sort(key=lambda effect: not isinstance(effect, Reply))
            effect = frame.pop(0)
            self._said.extendleft(reversed(frame))
            sent = self._sent.pop(effect.id, None) if isinstance(effect, Reply) else None
        if isinstance(effect, Recall):
            self.data.recalled(effect.ino)
        elif isinstance(effect, Resume):
            self.data.resumed(effect.attributes)
        elif isinstance(effect, Report):
            self.data.report(effect.ino)
        elif sent is not None and effect.errno:
            sent.future.set_exception(OSError(effect.errno, f"refused: {sent.request}"))
        elif sent is not None:
            sent.future.set_result(effect.value)

    def reconnect(self) -> None:
        """What was on the way is lost; then what is open is stated, and what was not answered is sent again."""
        with self._server.lock:
            with self.lock:
                holds = self.data.holds()
                with self._guard:
                    self._connection += 1
                    self._said.clear()
                    pending = (*self._sent.values(), *self._asked)
                    self._asked = deque(sent for sent in pending if type(sent.request) not in STATED_BY_HOLDS)
                    self._sent.clear()
                    unanswered = len(self._asked)
                    acknowledged = self._acknowledged()
            half = len(holds) // 2
            self._server.step(SessionRestated(self.session, holds[:half], complete=False, acknowledged=acknowledged))
            self._server.step(SessionRestated(self.session, holds[half:], first=False, acknowledged=acknowledged))
        for _ in range(unanswered):
            self._soon(self._carry_up)

    def cut(self) -> None:
        """Nothing arrives any more, either way."""
        with self._server.lock:
            self._server.links.pop(self.session, None)
            with self._guard:
                self.dead = True
                waiting = [*self._sent.values(), *self._asked]
                self._sent.clear()
                self._asked.clear()
        for sent in waiting:
            sent.future.set_exception(OSError(ESHUTDOWN, "the client is dead"))


class ClientObjects:
    """The store as one client has it, until it is shut out."""

    def __init__(self, store: ScriptedObjects) -> None:
        self._store = store
        self._under_way: list[Future[Any]] = []
        self._is_shut = False

    def __getattr__(self, name: str) -> Any:
        called = getattr(self._store, name)
        return partial(self._change, called) if name in ("write", "truncate", "zero", "remove") else called

    def _change(self, called: Callable[..., Future[Any]], *arguments: Any) -> Future[Any]:
        if self._is_shut:
            return failed(OSError(ESHUTDOWN, "shut out"))
        future = called(*arguments)
        self._under_way.append(future)
        return future

    def shut(self, choose: Random) -> None:
        """What is under way ends, one way or the other, and nothing comes after it."""
        self._is_shut = True
        with self._store.changed:
            mine = [call for call in self._store.pending if call.future in self._under_way]
            self._store.pending = [call for call in self._store.pending if call not in mine]
        for call in mine:
            if choose.random() < 0.5:
                call.work()
            call.future.set_exception(OSError(ESHUTDOWN, "shut out"))


class Client(DataLab):
    """One of several. Its answers wait for calls of all."""

    def __init__(self, lab: "SharingLab", session: int, cache_folder: str | None) -> None:
        self.store = lab.store
        self.choose = lab.choose
        self.objects: Any = ClientObjects(lab.store)
        self.cache = CachedObjects(self.objects, cache_folder, 1 << 20, BLOCK_BYTES) if cache_folder else None
        self.link = Link(lab.server, session, lab.choose)
        self.metadata: Any = self.link
        self.lost = []
        self.now_ns = 0
        self._lab = lab
        self.data = self.link.data = DataPath(
            self.link,
            self.objects,
            inline_limit_bytes=INLINE_LIMIT_BYTES,
            dirty_limit_bytes=DIRTY_LIMIT_BYTES,
            on_lost=self.lost.append,
            shared=True,
            cache=self.cache,
        )

    def write(self, file: Any, offset: int, data: bytes) -> Any:
        self.now_ns = self._lab.next_now_ns()
        return self.data.write(file, offset, memoryview(bytearray(data)), self.now_ns)

    def die(self, choose: Random) -> None:
        """Without a word. The server has to find out: see `SharingLab.kill`."""
        self.objects.shut(choose)
        self.link.cut()


class SharingLab:
    """Ends with `close`."""

    def __init__(self, choose: Random, clients: int = 2, cache_folder: str | None = None) -> None:
        """`cache_folder`: clients keep there what they read."""
        self.choose = choose
        self.store = ScriptedObjects()
        self.server = Server(self.store)
        self.clients = [Client(self, session, cache_folder) for session in range(1, clients + 1)]
        self._dead: list[Client] = []
        self._now_ns = 1

    def next_now_ns(self) -> int:
        self._now_ns += 1
        return self._now_ns

    def kill(self, client: Client) -> None:
        """The client is gone, shut out of the store, and then its session ends."""
        client.die(self.choose)
        self.clients.remove(client)
        self._dead.append(client)
        self.server.step(SessionEnded(client.link.session))

    def restart(self) -> None:
        """The server dies, and comes back with what its journal has. Clients find it one after the other."""
        self.store.wait_for(lambda: not self.server.keeper.is_busy, self.choose)
        self.server.keeper.stop()
        with self.server.lock:
            self.server.keeper = Keeper(
                self.server, self.store, on_repaired=lambda ino: self.server.step(Repaired(ino))
            )
            self.server.start(tuple(client.link.session for client in self.clients))
            for ino, _, end, block_bytes, attributes in self.server.ask(ListUnsettled(0, ALL_ROWS)):
                if attributes is None:
                    self.server.keeper.remove_objects(RemoveObjects(ino, end, block_bytes))
            for client in self.clients:
                client.link.reconnect()

    def wait(self, *answers: Any) -> list[Any]:
        """The answers of operations that are under way together."""
        futures = [answer for answer in answers if isinstance(answer, Future)]
        self.store.wait_for(lambda: all(future.done() for future in futures), self.choose)
        return [answer.result() if isinstance(answer, Future) else answer for answer in answers]

    def quiet(self) -> None:
        """Nothing is under way anywhere."""

        def still() -> bool:
            return not self.store.pending and not self.server.keeper.is_busy and all(map(_is_still, self.clients))

        self.store.wait_for(still, self.choose)

    def unsettled(self) -> list[int]:
        return [row[0] for row in self.server.ask(ListUnsettled(0, ALL_ROWS))]

    def check(self) -> None:
        with self.server.lock:
            assert check_shard(self.server.tables) == []
        assert self.store.violations == []

    def check_at_rest(self) -> None:
        """All is closed and stored: objects and metadata tell one story."""
        for client in self.clients:
            client.run_blocking(client.data.drain)
        self.quiet()
        self.clients[0].run_blocking(self.server.keeper.settle)
        self.check()
        assert self.server.shard.state.files == {}
        assert self.unsettled() == []
        assert objects_and_sizes_agree(self.server.tables, self.store) == []

    def close(self) -> None:
        for client in list(self.clients):
            client.die(self.choose)
        for client in [*self.clients, *self._dead]:
            client.run_blocking(client.data.stop)
            if client.cache is not None:
                client.run_blocking(client.cache.close)
        if self.clients or self._dead:
            (self.clients or self._dead)[0].run_blocking(self.server.keeper.stop)


def _is_still(client: Client) -> bool:
    data = client.data
    with data._lock:
        return data._pool._work_queue.empty() and all(
            not (file.buffer.in_flight or file.publishing or file.turn.taken) for file in data._files.values()
        )
