"""Attributes of directories as answers to changes in them have told them: the kernel asks for them as soon as a name was made
or removed there, and need not wait for a round trip then.

Rules
1. What is known here is as new as any answer that has come: `heard` is called for each, in order, and whatever else
   says what a directory is now takes the place of what was known.
2. It is believed for `keep_s` and no longer, the kernel's belief included: `find` says how much of that is left.
3. At most KNOWN_MAX directories are remembered.
"""

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

from loligo_mds.core.requests import Rename
from loligo_wire.attributes import Attributes
from loligo_wire.ids import ROOT_INO

KNOWN_MAX: Final = 4096


class RecentAttributes:
    def __init__(self, keep_s: float, root_ino: int, now_ns: Callable[[], int] = time.monotonic_ns) -> None:
        """`root_ino`: what inode 1 of this mount is at the server."""
        self._keep_ns = int(keep_s * 1e9)
        self._root_ino = root_ino
        self._now_ns = now_ns
        self._lock = threading.Lock()
        #: Inode number -> attributes, and when they came; oldest first.
        self._known: dict[int, tuple[Attributes, int]] = {}

    def heard(self, request: Any, answer: Any, directories: Sequence[Attributes]) -> None:
        """The metadata has answered, and `directories` are as the request has left them."""
        known = self._known
        if not (known or directories):
            return
        with self._lock:
            if type(request) is Rename:
                known.clear()  # what was moved may be one of them, and has another ctime now
            elif type(answer) is Attributes:
                self._saw(answer)
            elif type(answer) is list and answer and type(answer[0]) is tuple:
                for entry in answer:
                    if entry[4] is not None:
                        self._saw(entry[4])
            for attributes in directories:
                known.pop(attributes.ino, None)
                if len(known) >= KNOWN_MAX:
                    del known[next(iter(known))]
                known[attributes.ino] = attributes, self._now_ns()

    def forget(self, ino: int) -> None:
        """It is being changed, and who looks at it next must see that."""
        with self._lock:
            self._known.pop(ino, None)

    def _saw(self, attributes: Attributes) -> None:
        if self._known.pop(attributes.ino, None) is not None and attributes.nlink:
            self._known[attributes.ino] = attributes, self._now_ns()

    def find(self, ino: int) -> tuple[Attributes, float] | None:
        """(attributes, for how many seconds they may be believed); None: the metadata must be asked."""
        if ino == ROOT_INO:
            ino = self._root_ino
        found = self._known.get(ino)
        if found is None:
            return None
        attributes, came_ns = found
        left_ns = came_ns + self._keep_ns - self._now_ns()
        return (attributes, left_ns / 1e9) if left_ns > 0 else None
