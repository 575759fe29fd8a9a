"""A data path between a shard on tables in memory and a scripted object store: every I/O is the test's to decide."""

import threading
from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import Future
from errno import EIO, errorcode
from random import Random
from typing import Any

from loligo_client.shell.data_path import DataPath
from loligo_client.shell.file_data import FileData
from loligo_client.shell.tasks import Metadata
from loligo_lab.scripted_objects import ScriptedObjects
from loligo_mds.core.content import fill_in
from loligo_mds.core.effects import AppendJournal, RemoveObjects, Reply
from loligo_mds.core.events import Event, SessionOpened, ShardRestarted, Submitted
from loligo_mds.core.invariants import all_inodes, check_shard
from loligo_mds.core.requests import (
    Create,
    GetAttributes,
    ListUnsettled,
    Lookup,
    Opened,
    Request,
    SetAttributes,
    Unlink,
)
from loligo_mds.core.shard import Shard, initialise
from loligo_mds.core.tables import Write
from loligo_mds.shell.keeper import Keeper
from loligo_mds.store.memory_tables import MemoryTables
from loligo_runtime.object_store import ObjectStore, object_name
from loligo_wire.attributes import FLAG_INLINE, FLAG_SPARSE, Attributes
from loligo_wire.ids import ROOT_INO
from unit.shard_lab import FILE, replayed

BLOCK_BYTES = 64
INLINE_LIMIT_BYTES = 32
DIRTY_LIMIT_BYTES = 1500
ALL_ROWS = 1 << 30
DEADLINE_S = 10.0


class ShardMetadata(Metadata):
    """The port of the data path, for a shard in memory. `synced` records of the journal survive a power loss."""

    def __init__(self, journal: list[list[Write]]) -> None:
        self.lock = threading.RLock()
        self.tables = replayed(journal)
        self.journal = journal
        self.synced = len(journal)
        #: Asked before every request: the errno to refuse it with, or 0.
        self.fault: Callable[[Request], int] = lambda request: 0
        self.remove_objects: Callable[[RemoveObjects], None] = lambda effect: None
        self.now_ns = 1
        self.shard = Shard(0, self.tables, BLOCK_BYTES)

    def start(self) -> None:
        self._step(ShardRestarted())
        self._step(SessionOpened(1))

    def ask(self, request: Request) -> Any:
        return self.call(request)

    def call(self, request: Request) -> Any:
        with self.lock:
            errno = self.fault(request)
            if errno:
                raise OSError(errno, f"scripted {errorcode[errno]}")
            reply = self._step(Submitted(1, 0, request))
            assert reply is not None
            if reply.errno:
                raise OSError(reply.errno, f"refused: {request}")
            if type(reply.value) is Opened:
                fill_in(self.shard.state, reply.value)
            return reply.value

    def _step(self, event: Event) -> Reply | None:
        with self.lock:
            self.now_ns += 1
            reply = None
            for effect in self.shard.step(self.now_ns, event):
                if isinstance(effect, AppendJournal):
                    self.journal.append(effect.writes)
                elif isinstance(effect, RemoveObjects):
                    self.remove_objects(effect)
                elif isinstance(effect, Reply):
                    reply = effect
            return reply

    def sync(self) -> None:
        with self.lock:
            self.synced = len(self.journal)


class LaterMetadata(ShardMetadata):
    """Answers come later, in the order of asking. Each request is a pair of calls among those of the store: whichever of
    them the test runs, the next request reaches the shard, or the next answer arrives.
    """

    def __init__(self, journal: list[list[Write]], store: ScriptedObjects, choose: Random) -> None:
        super().__init__(journal)
        self._store = store
        self._choose = choose
        self._asked: deque[tuple[Request | None, Future[Any]]] = deque()
        self._answers: deque[tuple[Future[Any], Any, OSError | None]] = deque()
        self._dead = False

    def ask(self, request: Request | None) -> Any:
        """None stands for a sync."""
        answer: Future[Any] = Future()
        with self.lock, self._store.changed:
            if self._dead:
                raise OSError(EIO, "the process is dead")
            self._asked.append((request, answer))
        for _ in range(2):
            self._store.also("metadata", self.go_on)
        return answer

    def sync(self) -> None:
        self.ask(None).result()

    def go_on(self) -> None:
        with self.lock, self._store.changed:
            if not self._answers or (self._asked and self._choose.random() < 0.5):
                self._answers.append(self._apply(*self._asked.popleft()))
                return
            future, value, error = self._answers.popleft()
        # As a connection does: without the lock.
        if error is None:
            future.set_result(value)
        else:
            future.set_exception(error)

    def _apply(self, request: Request | None, future: Future[Any]) -> tuple[Future[Any], Any, OSError | None]:
        try:
            return future, super().sync() if request is None else self.call(request), None
        except OSError as error:
            return future, None, error

    def die(self) -> None:
        """Some of what was asked reaches the shard, no answer arrives any more."""
        with self.lock, self._store.changed:
            self._dead = True
            while self._asked and self._choose.random() < 0.7:
                self._answers.append(self._apply(*self._asked.popleft()))
            futures = [future for future, _, _ in self._answers] + [future for _, future in self._asked]
            self._answers.clear()
            self._asked.clear()
        for future in futures:
            future.set_exception(OSError(EIO, "the process is dead"))

    @property
    def is_idle(self) -> bool:
        return not self._asked and not self._answers


class Kept:
    """The port of the keeper, which is where the shard is."""

    def __init__(self, metadata: ShardMetadata) -> None:
        self.lock = metadata.lock
        self.ask = metadata.call
        self._metadata = metadata

    def sync(self) -> None:
        ShardMetadata.sync(self._metadata)


class DataLab:
    """Ends with `close`, which stops the data path's threads."""

    def __init__(
        self,
        store: ScriptedObjects | None = None,
        journal: list[list[Write]] | None = None,
        choose: Random | None = None,
        dirty_limit_bytes: int = DIRTY_LIMIT_BYTES,
        later: bool = False,
    ) -> None:
        """`later`: the metadata is far away."""
        if journal is None:
            journal = [effect.writes for effect in initialise(MemoryTables(), 1, 0, 0)]
        self.choose = choose
        self.store = store or ScriptedObjects()
        self.later = later
        self.metadata = LaterMetadata(journal, self.store, choose or Random(0)) if later else ShardMetadata(journal)
        self.lost: list[int] = []
        self.data = DataPath(
            self.metadata,
            self.store,
            inline_limit_bytes=INLINE_LIMIT_BYTES,
            dirty_limit_bytes=dirty_limit_bytes,
            on_lost=self.lost.append,
        )
        self.keeper = Keeper(Kept(self.metadata), self.store)
        self.metadata.remove_objects = self._remove_objects
        self.metadata.start()
        self.now_ns = 0

    def _remove_objects(self, effect: RemoveObjects) -> None:
        self.data.inode_gone(effect.ino)
        self.keeper.remove_objects(effect)

    def nudge(self, random: Random, most: int) -> None:
        """Let up to `most` calls end."""
        for _ in range(random.randrange(most + 1)):
            if self.store.pending:
                self.store.run(random.randrange(len(self.store.pending)))

    # -- waiting ----------------------------------------------------------------------------------------------------

    def start(self, task: Generator[Any, Any, Any]) -> Any:
        """The result of a task, or a future of it."""
        return self.data.tasks.run(task)

    def wait(self, answer: Any) -> Any:
        """The answer itself, or what the future or task of it brings, while the store's calls end in the lab's order."""
        if isinstance(answer, Generator):
            answer = self.start(answer)
        if not isinstance(answer, Future):
            return answer
        self.store.wait_for(answer.done, self.choose)
        return answer.result()

    def quiet(self) -> None:
        """Every call has ended, and no thread of the data path is about to make another."""
        data = self.data

        def still() -> bool:
            with data._lock:
                return (
                    not self.store.pending
                    and data._pool._work_queue.empty()
                    and not self.keeper.is_busy
                    and all(
                        not file.busy or not (file.users or file.buffer.in_flight or file.publishing)
                        for file in data._files.values()
                    )
                )

        self.store.wait_for(still, self.choose)

    def run_blocking(self, work: Callable[[], None]) -> None:
        """Run what blocks on the store, in a thread of its own."""
        done: Future[None] = Future()

        def run() -> None:
            try:
                work()
            except BaseException as error:  # noqa: BLE001 - handed to the test
                done.set_exception(error)
            else:
                done.set_result(None)

        threading.Thread(target=run, daemon=True).start()
        self.wait(done)

    # -- files ------------------------------------------------------------------------------------------------------

    def create(self, name: bytes) -> FileData:
        def create() -> Generator[Any, Any, FileData]:
            made = yield Create(int(ROOT_INO), name, FILE, 0, 0, hold=True)
            return self.data.opened(made)

        file: FileData = self.wait(create())
        return file

    def unlink(self, name: bytes) -> None:
        def unlink() -> Generator[Any, Any, None]:
            gone = yield Unlink(int(ROOT_INO), name)
            if gone.nlink == 0:
                self.data.unlinked(gone.ino)

        self.wait(unlink())

    def ino(self, name: bytes) -> int:
        found: Attributes = self.wait(self.metadata.ask(Lookup(int(ROOT_INO), name)))
        return found.ino

    def open(self, name: bytes, writes: bool = True) -> FileData:
        file: FileData = self.wait(self.data.open(self.ino(name), writes))[0]
        return file

    def write(self, file: FileData, offset: int, data: bytes) -> Any:
        """The answer may be a future."""
        self.now_ns += 1
        return self.data.write(file, offset, memoryview(bytearray(data)), self.now_ns)

    def read(self, file: FileData, offset: int, length: int) -> bytes:
        return b"".join(self.wait(self.data.read(file, offset, length)))

    def content(self, file: FileData) -> bytes:
        return self.read(file, 0, 1 << 30)

    def set_size(self, ino: int, size: int) -> Attributes:
        attributes: Attributes = self.wait(self.data.set_size(SetAttributes(ino, size=size)))
        return attributes

    def fsync(self, file: FileData) -> None:
        self.wait(self.data.fsync(file))

    def stat(self, ino: int) -> Attributes:
        def stat() -> Generator[Any, Any, Attributes]:
            stored = yield GetAttributes(ino)
            return self.data.attributes(stored)

        attributes: Attributes = self.wait(stat())
        return attributes

    # -- ends -------------------------------------------------------------------------------------------------------

    def check(self) -> None:
        """What must hold at every moment."""
        assert self.store.violations == []
        with self.metadata.lock:
            assert check_shard(self.metadata.tables) == []
            data = self.data
            assert data._writing.dirty_bytes == sum(file.buffer.cost_bytes for file in data._files.values())
            if isinstance(self.metadata, LaterMetadata) and not self.metadata.is_idle:
                return  # what is open is about to change
            files = self.metadata.shard.state.session_files.get(1, {})
            held = {ino: file.openers[1].count for ino, file in files.items()}
            assert held == {file.ino: file.held for file in data._files.values() if file.held}

    def check_at_rest(self) -> None:
        """After `drain`, nothing open: objects and metadata tell one story."""
        self.check()
        assert self.data._files == {}
        assert self.metadata.call(ListUnsettled(0, ALL_ROWS)) == []
        assert objects_and_sizes_agree(self.metadata.tables, self.store) == []

    def crashed(self, choose: Random, *, power: bool) -> "DataLab":
        """Everything in memory is gone; the lab of the next process, after `reconcile`."""
        with self.metadata.lock:
            if isinstance(self.metadata, LaterMetadata):
                self.metadata.die()
            store = self.store.crash(choose, power=power)
            kept = len(self.metadata.journal)
            if power:
                kept = choose.randint(self.metadata.synced, kept)
            journal = self.metadata.journal[:kept]
        self.abandon()
        after = DataLab(store, journal, self.choose, later=self.later)
        after.run_blocking(after.keeper.reconcile)
        if power:
            after.run_blocking(after.keeper.remove_strays)
        return after

    def abandon(self) -> None:
        """Stop the threads, whatever becomes of the data."""
        self.store.fault = lambda kind: 0
        self.metadata.fault = lambda request: 0
        self.run_blocking(self.data.stop)
        self.run_blocking(self.keeper.stop)

    def settle(self) -> None:
        """Both, as an embedded volume does."""
        self.run_blocking(self.data.settle)
        self.run_blocking(self.keeper.settle)

    def drain(self) -> None:
        self.run_blocking(self.data.drain)
        self.run_blocking(self.keeper.wait)
        self.run_blocking(self.keeper.settle)

    def close(self) -> None:
        self.drain()
        self.abandon()


def objects_and_sizes_agree(tables: MemoryTables, store: ObjectStore) -> list[str]:
    """Every object belongs to a file and lies within its size; a file without holes has all of its bytes."""
    problems = []
    files = {found.ino: found for found in all_inodes(tables) if found.is_file}
    sizes = {(ino, index): size for ino, index, size in store.list()}
    for (ino, index), size in sizes.items():
        found = files.get(ino)
        if found is None:
            problems.append(f"object {object_name(ino, index)} belongs to no file")
        elif found.flags & FLAG_INLINE or index * BLOCK_BYTES + size > found.size or size > BLOCK_BYTES:
            problems.append(f"object {object_name(ino, index)} has {size} bytes, {found} has fewer")
    for ino, found in files.items():
        if found.flags & (FLAG_INLINE | FLAG_SPARSE):
            continue
        for index in range(-(-found.size // BLOCK_BYTES)):
            wanted = min(BLOCK_BYTES, found.size - index * BLOCK_BYTES)
            if sizes.get((ino, index), 0) < wanted:
                problems.append(f"object {object_name(ino, index)} is short; {found} has no holes")
    return problems
