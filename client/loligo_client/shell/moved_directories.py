"""Directories that others have moved: the kernel takes them along before who renames them is refused.

The kernel has a directory in one place only. Told of it in another, it moves what it has, with what is mounted there and who
stands in it, unless somebody renames: rename(2) looks up its names under a lock that this needs, too. So who renames such a
directory, or over it, would get ESTALE, each time, until somebody has looked at it in another way.

The kernel keeps the first ESTALE to itself. It lets go of its locks and begins anew, with looking up all names on the way,
and takes the locks again. So when a process has looked up such a directory, and what it looks up next is a directory that the
kernel knows, and not below, that answer waits until the moved one was looked at. A process of its own does that: one that waits
for an answer which it has to give itself could not be killed.

A rename of which no name is on the way, by two descriptors of directories, is still refused once; then the directory is looked
at, and the next try succeeds.

(To have the kernel drop the old name does not help if somebody has something open below, and would unmount what is mounted
there.)
"""

import logging
import os
import subprocess
import threading
from collections.abc import Sequence
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from typing import Any, Final

from loligo_client.core.told_places import Place, ToldPlaces

log = logging.getLogger(__name__)

#: A look takes some milliseconds; whatever is in its way for longer may wait for us.
WITHIN_S: Final = 5.0
#: It is given up then.
_LOOK_S: Final = 10.0
#: Processes that are remembered, those that came last.
_PROCESSES_MAX: Final = 1024


class MovedDirectories:
    """Any thread may call. Names `.` and `..` are none."""

    def __init__(self, mounted_on: str) -> None:
        self._root = os.fsencode(mounted_on)
        self._lock = threading.Lock()
        self._places = ToldPlaces()
        #: Which such directory a process was told of last.
        self._last: dict[int, int] = {}
        #: Those that are looked at.
        self._looks: dict[int, Future[None]] = {}

    def told(self, ino: int, place: Place, pid: int) -> None:
        """The kernel is told now where the directory is, because that process has asked."""
        with self._lock:
            if self._places.told(ino, place):
                self._last[pid] = ino
                if len(self._last) > _PROCESSES_MAX:
                    del self._last[next(iter(self._last))]

    def may_begin_anew(self, pid: int) -> bool:
        return pid in self._last

    def asked(self, place: Place, pid: int) -> Future[None] | None:
        """A process looks something up. -> what the answer has to wait for"""
        with self._lock:
            ino = self._last.pop(pid, 0)
            if not self._places.is_unsure(ino):
                return None
            if place[0] == ino or not self._places.is_told(place):  # he goes on: it was moved
                self._places.seen(ino)
                return None
            look = self._looks.get(ino)
            path = self._places.path(ino)
            if look is None and path is not None:
                look = self._looks[ino] = Future()
                threading.Thread(target=self._look, args=(ino, path, look), name="looks", daemon=True).start()
            if look is None or self._places.find(ino) == place:  # under the locks
                return None
        return _within(look, WITHIN_S)

    def renamed(self, source: Place, destination: Place, exchange: bool) -> None:
        with self._lock:
            self._places.renamed(source, destination, exchange)

    def forgotten(self, inos: Sequence[tuple[int, int]]) -> None:
        """Inodes of any kind, and how often the kernel was told of each."""
        with self._lock:
            for ino, times in inos:
                self._places.forgotten(ino, times)

    def _look(self, ino: int, path: bytes, look: Future[None]) -> None:
        command = [b"stat", b"--format=%i", self._root + path]
        found = b""
        try:
            found = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=_LOOK_S).stdout
        except (OSError, subprocess.SubprocessError) as error:
            log.warning("inode %d was moved and cannot be looked at: %s", ino, error)
        with self._lock:
            del self._looks[ino]
            if found.strip() == b"%d" % ino:
                self._places.seen(ino)
        look.set_result(None)


def _within(done: Future[Any], limit_s: float) -> Future[None]:
    """Completed with it, or when the time is over."""
    over: Future[None] = Future()

    def end(_: Any = None) -> None:
        with suppress(InvalidStateError):  # the other was first
            over.set_result(None)

    timer = threading.Timer(limit_s, end)
    timer.daemon = True
    timer.start()

    def cancel(_: Any) -> None:
        timer.cancel()
        end()

    done.add_done_callback(cancel)
    return over
