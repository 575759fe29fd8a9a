"""Those who work on the mounts of a crowd: one process with a thread for each. See `chaos.crowd`.

It makes no process and waits for none: a process that is made closes what this one has open, which waits for the server.

In its own directory a worker makes the calls of `chaos.workload` and has their `Model`; in the directories that all share it
does what `chaos.shared_work` says. When its mount is killed, it waits for another one, looks what is there, and goes on: the
call that was under way has happened, or it has not. A call that has to wait for the server waits; none may fail.
"""

import errno
import threading
import traceback
from collections import deque
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from random import Random
from typing import Any

from chaos.shared_work import Shared, SharedWork
from chaos.tree import Disk, Model, Seen, look
from chaos.workload import calls

_DEAD = (errno.ENOTCONN, errno.ECONNABORTED)
#: Calls of which a mount may not have told the server when it is killed.
PAST_MAX = 64
#: Calls told when something fails.
STORY = 40


def own_directory(number: int) -> str:
    return f"own-{number}"


def serve(connection: Connection, paths: list[Path], seed: int) -> None:
    """The process. Answers what `chaos.crowd.Crowd` asks, until that one is gone."""
    _Workers(connection, paths, seed).serve()


class _Workers:
    def __init__(self, connection: Connection, paths: list[Path], seed: int) -> None:
        self._connection = connection
        self._lock = threading.Lock()
        self._shared = Shared(len(paths))
        self._shared.make(paths[0])
        for number in range(len(paths)):
            (paths[0] / own_directory(number)).mkdir()
        self._workers = [
            Worker(number, path, self._shared, seed * 1000 + number * 2, self._say) for number, path in enumerate(paths)
        ]

    def _say(self, *words: Any) -> None:
        with self._lock:
            self._connection.send(words)

    def serve(self) -> None:
        for worker in self._workers:
            worker.start()
        while True:
            try:
                word, *arguments = self._connection.recv()
            except (EOFError, ConnectionError):
                return  # the threads are daemons
            if word == "back":
                self._workers[arguments[0]].is_back.set()
            elif word == "end":
                for worker in self._workers:
                    worker.end()
            elif word == "tell":
                alive = [worker for worker in self._workers if worker.is_alive()]
                self._say(
                    "told", "\n".join(f"worker {worker.number} is at {list(worker.story)[-1:]}" for worker in alive)
                )
            elif word == "look":
                problems = [text for worker in self._workers for text in worker.differences(arguments[0])]
                self._say("seen", problems + self._shared.problems(arguments[0]))


class Worker(threading.Thread):
    """It says ("dead", number), ("failed", number, text) and ("ended", number, calls)."""

    def __init__(self, number: int, path: Path, shared: Shared, seed: int, say: Callable[..., None]) -> None:
        super().__init__(name=f"worker {number}", daemon=True)
        self.number = number
        self.story: deque[str] = deque(maxlen=STORY)
        self.is_back = threading.Event()
        self._path = path
        self._own = own_directory(number)
        self._say = say
        self._model = Model()
        self._calls = 0
        self._under_way: tuple[str, tuple[Any, ...]] = "", ()
        #: What there was after each call since the last fsync: what a mount promises in its last moment may die with it, in
        #: order.
        self._past: list[Model] = []
        self._random = Random(seed)
        self._shared = SharedWork(shared, number, Random(seed + 1), self.story)
        self._ending = threading.Event()

    def end(self) -> None:
        self._ending.set()

    # -- work -----------------------------------------------------------------------------------------------------------

    def run(self) -> None:
        disk = Disk(self._path / self._own)
        try:
            while not self._ending.is_set():
                try:
                    self._live(disk)
                except OSError as error:
                    if error.errno not in _DEAD:
                        raise
                    disk.let_go()
                    self._shared.let_go()
                    self._die()
        except BaseException as error:  # noqa: BLE001 - it is told
            error.add_note("\n".join(self.story))
            self._say("failed", self.number, "".join(traceback.format_exception(error)))
        finally:
            disk.let_go()
            self._shared.let_go()
            self._say("ended", self.number, self._calls)

    def _live(self, disk: Disk) -> None:
        own = calls(self._random, self._model)
        while not self._ending.is_set():
            self._calls += 1
            if self._random.random() < 0.35:
                self._shared.step(self._path)
                continue
            name, arguments = next(own)
            self._under_way = name, arguments
            told = ", ".join(f"{len(x)} bytes" if isinstance(x, bytes) else str(x) for x in arguments)
            self.story.append(f"{name}({told})")
            answer = getattr(disk, name)(*arguments)
            if name == "read":
                expected = self._model.at(*arguments).content
                assert answer == expected, f"{arguments} read {_difference(answer, expected)}"
            else:
                self._past.append(self._model.copy())
                getattr(self._model, name)(*arguments)
                if name == "fsync":
                    self._past.clear()
            self._under_way = "", ()

    def _die(self) -> None:
        """Wait for another mount, and take what it shows for what there is, if it can be."""
        seen = self._look_again()
        models = [self._model]
        name, arguments = self._under_way
        self._under_way = "", ()
        if name not in ("", "read", "fsync"):
            done = self._model.copy()
            getattr(done, name)(*arguments)
            models.append(done)
        latest = models[-1]
        models += self._past[: -PAST_MAX - 1 : -1]
        self._past.clear()
        found = [model.differences(seen, latest) for model in models]
        closest = min(found, key=len)
        assert not closest, "after the death of the mount:\n" + "\n".join(closest)
        self._model = models[found.index(closest)]
        self._model.settle_on(seen)
        self._shared.came_back()

    def _look_again(self) -> dict[str, Seen]:
        while True:
            self.story.append("-- the mount was killed")
            self.is_back.clear()
            self._say("dead", self.number)
            self.is_back.wait()
            try:
                return look(self._path / self._own)
            except OSError as error:  # killed again
                if error.errno not in _DEAD:
                    raise

    # -- at the end -----------------------------------------------------------------------------------------------------

    def differences(self, path: Path) -> list[str]:
        """On a mount of another client. The own one was unmounted in order, so everything is stored."""
        for name in list(self._model.names):
            self._model.fsync(name)
        return [f"{self._own}: {text}" for text in self._model.differences(look(path / self._own))]


def _difference(found: bytes, expected: bytes) -> str:
    at = next(
        (at for at, (x, y) in enumerate(zip(found, expected, strict=False)) if x != y), min(len(found), len(expected))
    )
    return f"{len(found)} bytes, not {len(expected)}; the first that differs is {at}"
