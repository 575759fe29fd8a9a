"""Who may touch a file: operations of this client take turns, and clients yield to each other.

The rules between clients are told in `loligo_mds.core.opens`. A file is *contended* when several clients have it open and
somebody writes. Then its objects may be read and written by all, and everything else needs a *claim*.

Rules
1. A task that needs a file for itself takes its turn (`alone`); nothing of the file is flushed meanwhile but by the task.
2. In a contended file it gets a claim first, and never waits for one while it has the turn: whoever has the claim waits for
   us to yield, and that needs the turn.
3. A *recalled* file takes no more bytes. When it is our turn everything of it is stored and published; then it is *quiet*:
   the turn stays taken, and nobody reads or writes it, until the metadata says how it goes on.
4. Recalled files are drained on threads of their own, so that they wait for nothing that waits for others.
"""

import logging
import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import suppress
from errno import EIO
from typing import Any, Final

from loligo_client.shell.file_data import FileData
from loligo_client.shell.open_files import OpenFiles
from loligo_client.shell.tasks import Metadata, Task, Tasks, Waiting
from loligo_client.shell.writing import Writing
from loligo_mds.core.requests import Claim, Release, Yielded
from loligo_wire.attributes import Attributes

log = logging.getLogger(__name__)

RECALLS: Final = 4
#: How long to wait before a recalled file is tried again that the store refused.
RETRY_S = 1.0


class Sharing:
    def __init__(self, metadata: Metadata, tasks: Tasks, files: OpenFiles, writing: Writing, pool: Executor) -> None:
        self._lock = metadata.lock
        self._tasks = tasks
        self._files = files
        self._writing = writing
        self._pool = pool
        self._recalls = ThreadPoolExecutor(RECALLS, thread_name_prefix="recalls")
        self._stopping = threading.Event()
        #: Takes out of a file's objects what an earlier cut has left there. Blocks.
        self.trim_again: Callable[[FileData], None]
        #: The ends of the tasks that have, or want, a file for themselves.
        self.under_way: set[Future[None]] = set()

    # -- turns ------------------------------------------------------------------------------------------------------

    def alone(self, file: FileData, work: Callable[[], Any], *, reshapes: bool = True) -> Task[Any]:
        """A task: the result of `work`, done on the pool while nobody else flushes the file.

        `reshapes`: it does more than read and write objects.
        """
        file.users += 1
        ended: Future[None] = Future()
        self.under_way.add(ended)
        try:
            while True:
                claimed = reshapes and file.contended
                if claimed:
                    attributes = yield Claim(file.ino)
                    file.claims += 1
                try:
                    turn = file.turn.take()
                    if turn is not None:
                        yield turn
                    try:
                        if claimed:
                            self._files.grew(file, attributes)
                        if not reshapes or claimed or not file.contended:
                            return (yield self._tasks.submit(self._pool, work))
                    finally:
                        self.end_turn(file)
                finally:
                    if claimed:
                        file.claims -= 1
                        self._files.tell(Release(file.ino))
        finally:
            file.users -= 1
            self._writing.finish(file)
            self.under_way.discard(ended)
            ended.set_result(None)

    def end_turn(self, file: FileData) -> None:
        file.turn.pass_on()
        if not file.turn.taken and not file.clean and (file.waiters or not file.failing):
            self._writing.start_flush(file)

    # -- yielding to others -----------------------------------------------------------------------------------------

    def recalled(self, ino: int) -> None:
        """Another client wants the file for itself. Called without the lock; it waits for nothing."""
        with self._lock:
            file = self._files.by_ino.get(ino)
            # If it was closed meanwhile, the Close says it: a Yielded behind it might be taken for that of the next open.
            if file is not None and file.held and not file.recalled and not self._files.close_idle(ino):
                file.recalled = True
                file.users += 1
                self._tasks.run(self._yield(file))

    def _yield(self, file: FileData) -> Task[None]:
        turn = file.turn.take()
        if turn is not None:
            yield turn
        yield self._recalls.submit(self._drain, file)
        if file.telling_last is not None:
            with suppress(OSError):  # told to who syncs or closes the file
                yield file.telling_last
        file.quiet = True
        self._files.tell(Yielded(file.ino))

    def _drain(self, file: FileData) -> None:
        while not self._stopping.is_set():
            try:
                self.trim_again(file)
                self._writing.drain(file)
            except OSError as error:
                log.warning("inode %d: another client waits for bytes that cannot be stored: %s", file.ino, error)
                self._stopping.wait(RETRY_S)
            else:
                return

    def resumed(self, attributes: Attributes) -> None:
        """The file may be used again, and this is what it is now. Called without the lock."""
        with self._lock:
            file = self._files.by_ino.get(attributes.ino)
            if file is not None and file.quiet:
                self._resume(file, attributes)

    def _resume(self, file: FileData, attributes: Attributes) -> None:
        file.contended = True
        file.recalled = file.quiet = False
        file.stands_at(attributes)
        file.in_objects = not file.stored_inline
        file.unsettled_end = 0  # somebody else may have settled it
        self._files.forget_pages(file.ino)
        self.end_turn(file)
        held_back, file.held_back = file.held_back, []
        for waiting in held_back:
            waiting.set_result(None)
        file.users -= 1
        self._writing.finish(file)

    def until_resumed(self, file: FileData) -> Task[None]:
        waiting = Waiting(lambda one: file.held_back.remove(one))
        file.held_back.append(waiting)
        yield waiting

    def report(self, ino: int) -> None:
        """Another client wants to know what the file is. Called without the lock."""
        with self._lock:
            file = self._files.by_ino.get(ino)
            if file is None or not file.held:
                self._files.has_no_news(ino)
            elif not file.quiet:  # else the Yielded has said it
                self._files.tell(self._files.news(file))

    # -- the end ----------------------------------------------------------------------------------------------------

    def give_up(self) -> None:
        """Whoever waits for others does not get it any more."""
        self._stopping.set()
        with self._lock:
            for file in list(self._files.by_ino.values()):
                held_back, file.held_back = file.held_back, []
                for waiting in held_back:
                    waiting.set_exception(OSError(EIO, "another client has the file, and this one ends"))

    def stop(self) -> None:
        self._stopping.set()
        self._recalls.shutdown()
