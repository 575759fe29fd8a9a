"""Locks that processes of this mount have at the metadata, or wait for: see `loligo_mds.core.locks`.

Rules
1. What is known here is what was granted and not given up since: it is stated when the session comes back. So giving up counts
   from when it is asked, and taking from when it is answered.
2. Who is interrupted while he waits takes that back, and is told EINTR unless he had the lock by then.
3. Closing gives up the record locks that the closer had before it returns, and a flock soon after.

Called under the lock of the metadata, but for `cancel`.
"""

from collections.abc import Callable
from concurrent.futures import Future
from errno import ENOLCK
from typing import Any, Final

from loligo_client.shell.tasks import Metadata, Task
from loligo_mds.core.events import HeldLock
from loligo_mds.core.requests import CancelLock, SetLock
from loligo_wire.locks import END, Lock, with_lock, without

#: More could keep requests waiting that have to get through.
WAITS_MAX: Final = 128
#: Only the metadata tells sessions apart.
_US: Final = 0


class Locks:
    def __init__(self, metadata: Metadata) -> None:
        self._ask: Callable[[Any], Any] = metadata.ask
        self._lock = metadata.lock
        #: (inode number, whether of the whole file) -> locks.
        self._held: dict[tuple[int, bool], list[Lock]] = {}
        #: Answers to come, and the answers to those who have taken them back.
        self._waiting: dict[Future[Any], SetLock] = {}
        self._cancelled: dict[Future[Any], Future[Any]] = {}
        self._waits = 0

    def set(self, request: SetLock) -> Task[None]:
        """A task: done when the lock is taken, or given up."""
        place = request.ino, request.whole
        if request.unlock:
            self._now_has(place, without(self._held.get(place, ()), _US, request.owner, request.start, request.end))
            yield request
            return
        if len(self._waiting) >= WAITS_MAX:
            raise OSError(ENOLCK, "too many wait for locks")
        if request.waits and request.whole:  # as the metadata does, see there
            self._now_has(place, without(self._held.get(place, ()), _US, request.owner, request.start, request.end))
        self._waits += 1
        request.wait = self._waits
        answer = self._ask(request)
        if isinstance(answer, Future):
            self._waiting[answer] = request
            try:
                yield answer
            finally:
                del self._waiting[answer]
                self._cancelled.pop(answer, None)
        taken = Lock(_US, request.owner, request.start, request.end, request.exclusive, request.pid)
        self._now_has(place, with_lock(self._held.get(place, ()), taken))

    def _now_has(self, place: tuple[int, bool], locks: list[Lock]) -> None:
        if locks:
            self._held[place] = locks
        else:
            self._held.pop(place, None)

    def cancel(self, answer: Future[Any]) -> bool:
        """Whoever waits for this answer was interrupted. Whether it is a wait for a lock."""
        with self._lock:
            request = self._waiting.get(answer)
            if request is None:
                return False
            asked = self._cancelled.get(answer)
            if asked is None or asked.done():  # it may have overtaken the request
                self._cancelled[answer] = self._ask(CancelLock(request.ino, request.wait))
            return True

    def of(self, ino: int, owner: int, *, whole: bool) -> SetLock | None:
        """What gives up all that the owner has of the file; None if that is nothing."""
        if any(lock.owner == owner for lock in self._held.get((ino, whole), ())):
            return SetLock(ino, owner, 0, END, unlock=True, whole=whole)
        return None

    def held(self) -> list[HeldLock]:
        return [
            HeldLock(ino, lock.owner, lock.start, lock.end, lock.exclusive, whole, lock.pid)
            for (ino, whole), locks in self._held.items()
            for lock in locks
        ]
