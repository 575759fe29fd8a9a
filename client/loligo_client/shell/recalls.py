"""Gives leases back: the kernel forgets what it was told under them, then the server hears that.

What the kernel believes is known to `core.leased`. To forget a name waits in the kernel for whatever is under way in its
directory, which may be a request that another client's recall has to be answered for first. So each lease has a thread while it
is given back, and nothing else waits for it; that those threads get on is the server's part, see `are_in_the_way` in
`loligo_mds.core.leases`. Only a rename that waits for the object store can be in their way for long; others do not wait for
that.

Names of directories are made to be looked up again instead of being dropped: what is mounted on them, or below, must stay.
A look at such a name may be under way just then, which the kernel does without a lock, and bring the old belief back. So the
kernel never believes in names of directories for longer than DIRECTORY_NAMES_S.

Attributes that are told of an inode which the kernel knows are measured against what it was told to forget since they were
asked for. Of one that it does not know yet the answer may be under way: then they are forgotten once more when that is over.
"""

import logging
import threading
import time
from collections.abc import Callable, Container
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, suppress
from typing import Any, Final, Protocol

from loligo_client.core.leased import Forgotten, Leased
from loligo_mds.core.requests import LeaseReturned

log = logging.getLogger(__name__)

DIRECTORY_NAMES_S: Final = 30.0
_THREADS_MAX: Final = 64
#: How long a lost connection is not replaced because of names in directories in which something waits for the server.
_LOST_WITHIN_S: Final = 0.2
#: How long another client is kept waiting at most.
_NAMES_WITHIN_S: Final = 1.0
#: ... because of lookups.
_LOOKUPS_WITHIN_S: Final = 0.02
#: A name that there cannot be: to forget it is to wait for the lookups that are under way in a directory.
_NO_NAME: Final = b"/"


class KernelCaches(Protocol):
    """The session of a transport. What is not cached is no error."""

    def notify_inval_entry(self, parent: int, name: bytes) -> None:
        """Drop a name. Waits for what is under way in the directory."""

    def notify_expire_entry(self, parent: int, name: bytes) -> None:
        """Have it looked up again. Waits likewise."""

    def notify_inval_attributes(self, ino: int) -> bool:
        """Waits for nothing. Whether the kernel knows the inode."""

    def notify_inval_inode(self, ino: int, offset: int, length: int) -> bool:
        """Attributes and content, which is the listing of a directory. Likewise."""


class LeasedFiles(Protocol):
    """Files that are open here under leases."""

    def close_idle(self, inos: list[int]) -> None:
        """Others want to change the directory that they are in."""

    def lease_returned(self, key: int, attributes_of: int) -> list[int]:
        """Those that must be said to be open now. With the lock."""

    def leases_lost(self, kept: Container[int]) -> list[int]:
        """All but these. -> what is to be stated to be open"""


class _Job:
    """A lease that is given back. `since_s`: for how long somebody may have waited for that, by time.monotonic()."""

    def __init__(self, forgotten: Forgotten, connection: int, since_s: float) -> None:
        self.forgotten = forgotten
        self.connection = connection
        self.since_s = since_s


class Recalls:
    """`tick` now and then."""

    def __init__(
        self, leased: Leased, ask: Callable[[LeaseReturned], Any], lock: AbstractContextManager[Any], files: LeasedFiles
    ) -> None:
        """`lock`: of the metadata."""
        self._leased = leased
        self._ask = ask
        self._metadata_lock = lock
        self._files = files
        #: None: nothing is mounted (any more), so there is nothing to forget.
        self._kernel: KernelCaches | None = None
        self._pool = ThreadPoolExecutor(_THREADS_MAX, thread_name_prefix="leases")
        self._lock = threading.Lock()
        #: Counts connections: what was recalled on one is not answered on the next, which begins without leases.
        self._connection = 0
        #: Not answered yet.
        self._jobs: set[_Job] = set()
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

    def tick(self) -> None:
        """What has not been changed for a while is not ours alone any more: if we die, nobody has to wait for us there. Others
        do not wait for longer because of something in a directory that waits for the object store here, either.
        """
        for key in self._leased.idle_delegations():
            self.share(key)
        limit_s = time.monotonic() - _NAMES_WITHIN_S
        for job in [job for job in list(self._jobs) if job.since_s < limit_s]:
            log.warning(
                "names in inode %d are in use: this mount may show old ones for a moment", job.forgotten.directory
            )
            self._answer(job)

    # -- on the connection's thread -----------------------------------------------------------------------------------

    def recalled(self, recall: LeaseReturned) -> None:
        if recall.kept:
            self.share(recall.ino)
            return
        forgotten = self._leased.recalled(recall)
        if forgotten is not None:
            if not recall.attributes_of:
                self._files.close_idle(forgotten.inos)
            self._submit(_Job(forgotten, self._connection, time.monotonic()))

    def share(self, key: int) -> None:
        """Others may have the lease, too."""
        with self._leased.lock, suppress(OSError):  # nothing is promised in between; the session is gone
            if self._leased.shared(key):
                self._ask(LeaseReturned(key, kept=True, was_exclusive=True))

    def give_back(self, forgotten: Forgotten) -> None:
        """For want of room."""
        self._submit(_Job(forgotten, self._connection, float("inf")))

    def lost(self) -> None:
        """The connection is lost, and all leases with it. Returns when the kernel has forgotten what it was told under them,
        but for names in directories in which a caller waits for the server.
        """
        with self._lock:
            self._connection += 1
            late = [job.forgotten.answer for job in self._jobs if job.forgotten.answer is not None]
            self._jobs.clear()
        for answer in late:
            if answer.was_exclusive:  # the server does not take it for given back before it hears that
                with self._metadata_lock, suppress(OSError):  # the session is gone
                    answer.open = self._files.lease_returned(answer.ino, 0)
                    self._ask(answer)
        lost = self._leased.lost()
        self._files.leases_lost(set(self._leased.delegations()))
        for forgotten in lost:
            self._submit(_Job(forgotten, -1, float("inf")))
        with self._lock:
            talks = list(self._talks)  # also of what was given back before
        wait(talks, timeout=_LOST_WITHIN_S)

    def _submit(self, job: _Job) -> None:
        try:
            with self._lock:
                talk = self._pool.submit(self._give_back, job)
                self._talks.add(talk)
                self._jobs.add(job)
        except RuntimeError:  # closed
            return
        talk.add_done_callback(self._talks.discard)

    # -- on threads of their own ----------------------------------------------------------------------------------------

    def _give_back(self, job: _Job) -> None:
        job.since_s = min(job.since_s, time.monotonic())
        self._forget(job.forgotten)
        self._answer(job)

    def _answer(self, job: _Job) -> None:
        """Once, and not on another connection."""
        with self._metadata_lock, self._lock:
            if job not in self._jobs:
                return
            self._jobs.discard(job)
            if job.connection == self._connection and job.forgotten.answer is not None:
                answer = job.forgotten.answer
                answer.open = self._files.lease_returned(answer.ino, answer.attributes_of)
                with suppress(OSError):  # the session is gone
                    self._ask(answer)

    def _forget(self, forgotten: Forgotten) -> None:
        """Names first: who still gets to an inode by one that it has lost would be told that there is no such inode."""
        kernel = self._kernel
        if kernel is None:
            return
        try:
            for name in forgotten.names:
                kernel.notify_inval_entry(forgotten.directory, name)
            for name in forgotten.directories:
                kernel.notify_expire_entry(forgotten.directory, name)
        except OSError as error:
            log.warning("the kernel may go on believing in names of inode %d: %s", forgotten.directory, error)
        self._forget_attributes(forgotten)

    def _forget_attributes(self, forgotten: Forgotten) -> None:
        kernel = self._kernel
        if kernel is None:
            return
        try:
            unknown = [ino for ino in forgotten.inos if not kernel.notify_inval_attributes(ino)]
            has_waited = forgotten.names or forgotten.directories  # for the lookups that were under way there
            if unknown and unknown != [forgotten.directory] and not has_waited:
                self._forget_newborns(kernel, forgotten.directory, unknown)
            if forgotten.listing and not kernel.notify_inval_inode(forgotten.directory, 0, 0) and forgotten.above:
                self._forget_newborns(kernel, forgotten.above, [forgotten.directory])
        except OSError as error:
            log.warning("the kernel may go on believing in attributes below inode %d: %s", forgotten.directory, error)

    def _forget_newborns(self, kernel: KernelCaches, directory: int, inos: list[int]) -> None:
        """When no lookup is under way in the directory any more; but not behind what itself waits for this."""
        over: Future[None] = Future()
        arguments = (kernel, directory, inos, over)
        threading.Thread(target=_forget_after_lookups, args=arguments, name="lookups", daemon=True).start()
        wait([over], timeout=_LOOKUPS_WITHIN_S)


def _forget_after_lookups(kernel: KernelCaches, directory: int, inos: list[int], over: Future[None]) -> None:
    try:
        kernel.notify_expire_entry(directory, _NO_NAME)
        for ino in inos:
            kernel.notify_inval_attributes(ino)
    except OSError as error:
        log.debug("waiting for lookups: %s", error)
    finally:
        over.set_result(None)
