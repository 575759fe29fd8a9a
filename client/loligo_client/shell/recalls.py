"""Gives leases back: the kernel forgets what it was told under them, then the server hears that.

What the kernel believes is known to `core.leased`. To forget a name waits in the kernel for whatever is under way in its
directory, which may be a request that another client's recall has to be answered for first. So each lease has a thread while it
is given back, and nothing else waits for it; that those threads get on is the server's part, see `are_in_the_way` in
`loligo_mds.core.leases`.

Names of directories are made to be looked up again instead of being dropped: what is mounted on them, or below, must stay.
A look at such a name may be under way just then, which the kernel does without a lock, and bring the old belief back. So the
kernel never believes in names of directories for longer than DIRECTORY_NAMES_S.
"""

import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from errno import EIO
from typing import Any, Final, Protocol

from loligo_client.core.leased import Forgotten, Leased
from loligo_mds.core.requests import LeaseReturned

log = logging.getLogger(__name__)

DIRECTORY_NAMES_S: Final = 30.0
_THREADS_MAX: Final = 64
#: How long a lost connection is not replaced because of names in directories in which something waits for the server.
_LOST_WITHIN_S: Final = 0.2
#: A name that there cannot be: to forget it is to wait for the lookups that are under way in a directory.
_NO_NAME: Final = b"/"


class KernelCaches(Protocol):
    """The session of a transport. What is not cached is no error."""

    def notify_inval_entry(self, parent: int, name: bytes) -> None:
        """Drop a name. Waits for what is under way in the directory."""

    def notify_expire_entry(self, parent: int, name: bytes) -> None:
        """Have it looked up again. Waits likewise."""

    def notify_inval_attributes(self, ino: int) -> None:
        """Waits for nothing."""

    def notify_inval_inode(self, ino: int, offset: int, length: int) -> None:
        """Attributes and content, which is the listing of a directory."""


class Recalls:
    def __init__(self, leased: Leased, ask: Callable[[LeaseReturned], Any]) -> None:
        self._leased = leased
        self._ask = ask
        #: None: nothing is mounted (any more), so there is nothing to forget.
        self._kernel: KernelCaches | None = None
        self._pool = ThreadPoolExecutor(_THREADS_MAX, thread_name_prefix="leases")
        #: Counts connections: what was recalled on one is not answered on the next, which begins without leases.
        self._lock = threading.Lock()
        self._connection = 0
        self._talks: set[Future[None]] = set()

    def start(self, kernel: KernelCaches) -> None:
        self._kernel = kernel

    def stop(self) -> None:
        """The mount has ended. Returns when nothing is said to its kernel any more, which has nothing to wait for now."""
        with self._lock:
            self._kernel = None
            talks = list(self._talks)
        wait(talks)

    def close(self) -> None:
        self._pool.shutdown()

    # -- on the connection's thread -----------------------------------------------------------------------------------

    def recalled(self, recall: LeaseReturned) -> None:
        forgotten = self._leased.recalled(recall)
        if forgotten is not None:
            self.give_back(forgotten)

    def give_back(self, forgotten: Forgotten) -> None:
        self._submit(self._give_back, forgotten, self._connection)

    def _submit(self, work: Callable[..., None], *arguments: Any) -> None:
        with self._lock, suppress(RuntimeError):  # closed
            talk = self._pool.submit(work, *arguments)
            self._talks.add(talk)
            talk.add_done_callback(self._talks.discard)

    def lost(self) -> None:
        """The connection is lost, and all leases with it. Returns when the kernel has forgotten what it was told under them,
        but for names in directories in which a caller waits for the server.
        """
        with self._lock:
            self._connection += 1
        lost = self._leased.give_all_back()
        for forgotten in lost:
            self._forget_attributes(forgotten)
            self._submit(self._forget_names, forgotten)
        with self._lock:
            talks = list(self._talks)  # also of what was given back before
        wait(talks, timeout=_LOST_WITHIN_S)

    # -- on threads of their own ----------------------------------------------------------------------------------------

    def _give_back(self, forgotten: Forgotten, connection: int) -> None:
        self._forget_names(forgotten)
        with self._lock:
            if connection == self._connection:
                with suppress(OSError):  # the session is gone
                    self._ask(forgotten.answer)

    def _forget_names(self, forgotten: Forgotten) -> None:
        kernel = self._kernel
        if kernel is None:
            return
        try:
            for directory in forgotten.lookups_in:
                kernel.notify_expire_entry(directory, _NO_NAME)
            for name in forgotten.names:
                kernel.notify_inval_entry(forgotten.directory, name)
            for name in forgotten.directories:
                kernel.notify_expire_entry(forgotten.directory, name)
        except OSError as error:
            if error.errno != EIO:  # of a mount that was aborted
                log.warning("the kernel may go on believing in names of inode %d: %s", forgotten.directory, error)
        self._forget_attributes(forgotten)

    def _forget_attributes(self, forgotten: Forgotten) -> None:
        kernel = self._kernel
        if kernel is None:
            return
        try:
            for ino in forgotten.inos:
                kernel.notify_inval_attributes(ino)
            if forgotten.listing:
                kernel.notify_inval_inode(forgotten.directory, 0, 0)
        except OSError as error:
            log.warning("the kernel may go on believing in attributes below inode %d: %s", forgotten.directory, error)
