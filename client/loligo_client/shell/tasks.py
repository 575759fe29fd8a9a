"""Operations that ask the metadata and go on with its answers, wherever the metadata is.

A *task* is a generator. It yields what it waits for, a Request or a Future, and is resumed with the answer, or with the
OSError of a refusal; what it returns is its result. The metadata of an embedded volume answers on the spot, and then so does
`run`; from a server the answer comes later, and `run` returns a Future of the result.

Rules
1. A task runs under the lock of the metadata, except while it waits. Others run meanwhile: what matters is to be looked at
   again after each yield.
2. Answers resume their tasks in the order in which the metadata gave them. So attributes are news when they arrive, and
   may be old after the next yield.
3. Whichever thread brings an answer goes on with the task, so a task must not block. It yields the future of what does.
4. Who completes a future under the lock runs the tasks that wait for it then and there: that must be the last thing it does.
5. A caller who is interrupted while the server is away is let go: what he waits for in the end (`awaited`) is an answer, or
   something that others bring about (`Waiting`); that wait ends with EINTR, and with it all that the caller has begun.
"""

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator
from concurrent.futures import Executor, Future
from errno import EINTR
from functools import partial
from typing import Any, TypeAlias, TypeVar

from loligo_mds.core.requests import Request
from loligo_wire.attributes import Attributes
from loligo_wire.ids import ROOT_INO

T = TypeVar("T")

Task: TypeAlias = Generator[Any, Any, T]


class Metadata(ABC):
    """The metadata as its users see them. Who has them at hand need not know what hurry is."""

    #: What the root of the mount is in the volume.
    root_ino: int = ROOT_INO
    #: Guards all state of the data path and the file system; an RLock.
    lock: Any

    @abstractmethod
    def ask(self, request: Request) -> Any:
        """The answer, or a Future of it; it never waits. A refusal is an OSError, raised at once or set on the future.

        Requests asked one after the other under the lock are applied, and answered, in that order; only those may be late
        that have to wait for other clients: those that ask what something is, Open, Claim, and locks.
        """

    @property
    def is_away(self) -> bool:
        """Answers cannot come now: what was true for us may have ended."""
        return False

    def ask_lazily(self, request: Request) -> Any:
        """As `ask`; but nobody waits for the answer now, so the request may wait for company, for some milliseconds."""
        return self.ask(request)

    def latest(self, attributes: Attributes) -> Attributes:
        """What the inode is now, as far as is known, when it was that lately."""
        return attributes

    def known(self, ino: int) -> Attributes | None:
        """What the inode is, if a lease says so: nobody changes that, or who may open it to write, before he has asked us."""
        return None

    def is_promised(self, ino: int) -> bool:
        """The metadata has not said yet that it has made the inode."""
        return False

    def when_made(self, ino: int, told: Callable[[BaseException | None], object]) -> bool:
        """Whether the file is promised, and not made yet; `told` hears when it is, or why it never will be."""
        return False

    def make_closed(self, ino: int) -> bool:
        """Of a file that is promised: whether it can be made without being held. `told` hears nothing then."""
        return False

    def hurry(self) -> None:
        """Somebody waits for what was asked lazily."""
        return

    @abstractmethod
    def sync(self) -> None:
        """Everything answered so far survives a power loss. Blocks; without the lock."""


class Result(Future[Any]):
    """The result of a task, or of work on a pool. `waits_for` is what that waits for at the moment."""

    waits_for: Future[Any] | None = None


class Waiting(Future[Any]):
    """Something that others bring about. `forget(self)` takes the wait out of their lists; it may complete it, too."""

    def __init__(self, forget: "Callable[[Waiting], None]") -> None:
        super().__init__()
        self._forget = forget

    def give_up(self) -> None:
        """Whoever waits for it does so no longer. Called with the lock."""
        if not self.done():
            self._forget(self)
            if not self.done():
                self.set_exception(OSError(EINTR, "interrupted"))


def awaited(future: Future[Any]) -> Future[Any]:
    """What `future` waits for in the end, as far as is known."""
    while isinstance(future, Result) and future.waits_for is not None:
        future = future.waits_for
    return future


#: `result` of the work that this thread of a pool does.
_here = threading.local()


class Tasks:
    def __init__(self, metadata: Metadata) -> None:
        self._ask = metadata.ask
        self._lock = metadata.lock

    def run(self, task: Task[T]) -> T | Future[T]:
        """The result of the task, or a Future of it. Raises what it raises, if that is known at once."""
        with self._lock:
            try:
                waits_for = self._advance(task, next(task))
            except StopIteration as end:
                return end.value  # type: ignore[no-any-return]
            result = Result()
            result.waits_for = waits_for
            # Under the lock, so that no later answer can overtake this one.
            waits_for.add_done_callback(partial(self._resume, task, result))
            return result

    def wait(self, request: Request) -> Any:
        """The answer to a request. Blocks; without the lock."""
        answer = self._ask(request)
        return self.block(answer) if isinstance(answer, Future) else answer

    def block(self, future: Future[T]) -> T:
        """Its result, once it is there. For work that `submit` has begun; without the lock."""
        mine: Result | None = getattr(_here, "result", None)
        if mine is None:
            return future.result()
        mine.waits_for = future
        try:
            return future.result()
        finally:
            mine.waits_for = None

    def submit(self, pool: Executor, work: Callable[[], Any]) -> Result:
        """The result of `work`, done on the pool."""
        result = Result()

        def run() -> None:
            _here.result = result
            try:
                value = work()
            except BaseException as error:  # noqa: BLE001 - whoever waits for the result is told
                result.set_exception(error)
            else:
                result.set_result(value)
            finally:
                _here.result = None

        pool.submit(run)
        return result

    def _advance(self, task: Task[Any], asked: Any) -> Future[Any]:
        """Go on for as long as answers are there. -> what the task waits for; StopIteration when it ends."""
        ask = self._ask
        while True:
            try:
                answer = asked if isinstance(asked, Future) else ask(asked)
                if isinstance(answer, Future):
                    if not answer.done():
                        return answer
                    answer = answer.result()
            except Exception as error:  # noqa: BLE001 - it is the task's
                asked = task.throw(error)
            else:
                asked = task.send(answer)

    def _resume(self, task: Task[Any], result: Result, done: Future[Any]) -> None:
        with self._lock:
            try:
                error = done.exception()
                asked = task.send(done.result()) if error is None else task.throw(error)
                waits_for = self._advance(task, asked)
            except StopIteration as end:
                value, failure = end.value, None
            except Exception as raised:  # noqa: BLE001 - whoever waits for the result is told
                value, failure = None, raised
            else:
                result.waits_for = waits_for
                waits_for.add_done_callback(partial(self._resume, task, result))
                return
        if failure is None:
            result.set_result(value)
        else:
            result.set_exception(failure)
