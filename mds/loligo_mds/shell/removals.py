"""When the objects of removed inodes go: not while somebody is busy removing more.

The machines that store objects serve those who wait as well, and nobody waits for space to be given back, as long as there is
plenty. So removals are put off until nothing more was removed for one round of housekeeping; but not for longer than PUT_OFF_S,
no more than PUT_OFF_MAX of them, and no more than a small part of what is free. What is lost with the process stands in
UNSETTLED, and is found at the next start.
"""

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any, Final

from loligo_mds.core.effects import RemoveObjects

PUT_OFF_S: Final = 5.0
PUT_OFF_MAX: Final = 10_000
#: Of the free bytes.
_PUT_OFF_PART: Final = 16


class Removals:
    def __init__(self, lock: Any, remove: Callable[[RemoveObjects], None]) -> None:
        """`remove` is called with `lock`, that of the metadata, an RLock."""
        self._lock = lock
        self._remove = remove
        self._waiting: list[RemoveObjects] = []
        self._bytes = 0
        self._bytes_max = 0
        self._first_s = 0.0
        self._was_quiet = True
        self._at_once = False

    def note(self, effect: RemoveObjects) -> None:
        """The objects of an inode that is gone may go. Called with the lock."""
        if self._at_once:
            self._remove(effect)
            return
        if not self._waiting:
            self._first_s = time.monotonic()
        self._waiting.append(effect)
        self._bytes += effect.end
        self._was_quiet = False
        if len(self._waiting) >= PUT_OFF_MAX or self._bytes > self._bytes_max:
            self.begin()

    @contextlib.contextmanager
    def at_once(self) -> Iterator[None]:
        """What is noted within is not put off: who removes it in the background sees to it that it is not too much."""
        with self._lock:
            self._at_once = True
            try:
                yield
            finally:
                self._at_once = False

    def keep(self, free_bytes: int) -> None:
        """Now and then. `free_bytes`: of the store, as far as is known; else 0."""
        with self._lock:
            self._bytes_max = free_bytes // _PUT_OFF_PART
            if self._was_quiet or self._bytes > self._bytes_max or time.monotonic() - self._first_s >= PUT_OFF_S:
                self.begin()
            self._was_quiet = True

    def begin(self) -> None:
        """With all that are put off."""
        with self._lock:
            waiting, self._waiting = self._waiting, []
            self._bytes = 0
            for effect in waiting:
                self._remove(effect)
