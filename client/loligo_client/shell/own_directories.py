"""Directories that this mount made, and in which no other client has changed a name since: what was never made there from
here is not there, and need not be asked for. Who unpacks a tree looks for every name before he makes it.

Rules
1. The metadata says with each answer about names in which of the directories this mount is alone (see `loligo_mds.core.alone`).
   One that it leaves out, or in which it says that others have joined in, is not ours any more.
2. That is believed for `keep_s` and no longer, as all that is known of names; and not when the server has been away: what
   was given up meanwhile may have been done.
3. A name stays when it was removed: then it is asked for, no more.
4. At most NAMES_MAX names are remembered.
"""

import threading
import time
from collections.abc import Callable, Collection
from typing import Any, Final

from loligo_mds.core.limits import NAME_MAX_BYTES
from loligo_mds.core.requests import IN_DIRECTORIES, Create, Link, Rename
from loligo_wire.attributes import Attributes

NAMES_MAX: Final = 50_000


class _Own:
    __slots__ = ("names", "told_ns")

    def __init__(self, told_ns: int) -> None:
        self.names: set[bytes] = set()
        self.told_ns = told_ns


class OwnDirectories:
    def __init__(self, keep_s: float, now_ns: Callable[[], int] = time.monotonic_ns) -> None:
        self._keep_ns = int(keep_s * 1e9)
        self._now_ns = now_ns
        self._lock = threading.Lock()
        #: Oldest first.
        self._own: dict[int, _Own] = {}
        self._count = 0

    def heard(self, request: Any, answer: Any, alone: Collection[int]) -> None:
        """The metadata has granted the request. Called for each answer, in order."""
        kind = type(request)
        fields = IN_DIRECTORIES.get(kind)
        if fields is None or not (self._own or alone):
            return
        with self._lock:
            now_ns = self._now_ns()
            for field in fields:
                directory = getattr(request, field)
                own = self._own.get(directory)
                if own is None:
                    continue
                if directory in alone:
                    own.told_ns = now_ns
                else:
                    self._forget(directory)
            if kind is Create:
                self._made(request.parent, request.name)
                if type(answer) is Attributes and answer.ino in alone:
                    self._own[answer.ino] = _Own(now_ns)
                    self._count += 1
            elif kind is Link or kind is Rename:
                self._made(request.new_parent, request.new_name)
                if kind is Rename:
                    self._made(request.parent, request.name)  # an exchange leaves something there
            while self._count > NAMES_MAX:
                self._forget(next(iter(self._own)))

    def _made(self, directory: int, name: bytes) -> None:
        own = self._own.get(directory)
        if own is not None and name not in own.names:
            own.names.add(name)
            self._count += 1

    def _forget(self, directory: int) -> None:
        own = self._own.pop(directory, None)
        if own is not None:
            self._count -= 1 + len(own.names)

    def forget(self, directory: int) -> None:
        """Others make or remove names in it, too."""
        with self._lock:
            self._forget(directory)

    def forget_all(self) -> None:
        with self._lock:
            self._own.clear()
            self._count = 0

    def lack(self, directory: int, name: bytes) -> bool:
        """Whether it is known that there is no such name, though there could be."""
        own = self._own.get(directory)
        if own is None or name in own.names or name in (b".", b"..") or len(name) > NAME_MAX_BYTES:
            return False
        return self._now_ns() - own.told_ns < self._keep_ns
