"""Drives one shard: gives it requests, does what it answers, in order.

Threads: `lock` guards the shard and its tables; every call here takes it, and a caller with several steps to make as one
may hold it around them. `sync` waits for the disk and must be called without it.

When the core reports a broken invariant, or a step, the making of room for it or a checkpoint ends in an error (but for a
full disk), tables and journal may disagree: the driver stops, the open transaction is thrown away, and every later
request fails with EIO. What was acknowledged is in the journal, so a restart starts from there.
"""

import logging
import threading
import time
from collections.abc import Callable
from errno import EIO, ENOSPC
from typing import Any

from loligo_mds.core.effects import AppendJournal, Effect, RemoveObjects, Repeat, Reply
from loligo_mds.core.events import Event, SessionEnded, SessionOpened, ShardRestarted, Submitted
from loligo_mds.core.requests import CHANGING, RECLAIMING, Request
from loligo_mds.core.shard import Shard
from loligo_mds.store.errors import StoreFull
from loligo_mds.store.shard_store import ShardStore
from loligo_runtime.failpoint import declare, failpoint

log = logging.getLogger(__name__)

_STOPPED = "this shard has stopped; see the log"

declare("driver.step.before", "driver.step.journaled", "driver.reply.before")


class ShardDriver:
    """`remove_objects` is called, under the lock, for every inode whose objects may go; it must only take a note."""

    def __init__(self, store: ShardStore, shard: Shard, remove_objects: Callable[[RemoveObjects], None]) -> None:
        self.lock = threading.RLock()
        self._store = store
        self._shard = shard
        self._remove_objects = remove_objects
        self._broken: BaseException | None = None

    def start(self, session: int) -> None:
        """After recovery: nobody survives but the one session that is opened now. Any error is the caller's to tell."""
        with self.lock:
            for event in (ShardRestarted(), SessionOpened(session)):
                try:
                    self._carry_out(event)
                except BaseException as error:
                    self.stop(error, event)
                    raise

    def submit(self, session: int, request: Request) -> Any:
        """The answer. OSError with the errno of a refusal; ENOSPC if the journal has no room for the change."""
        with self.lock:
            if self._broken is not None:
                raise OSError(EIO, _STOPPED)
            kind = type(request)
            try:
                if kind in CHANGING:
                    self._store.reserve(kind in RECLAIMING)
                failpoint("driver.step.before")
                reply = self._run(self._shard.step(time.time_ns(), Submitted(session, 0, request)))
            except StoreFull:  # only from `reserve`: nothing has changed
                raise OSError(ENOSPC, "no space for metadata") from None
            except BaseException as error:
                self.stop(error, request)
                raise OSError(EIO, _STOPPED) from error
            failpoint("driver.reply.before")
        if reply is None:
            raise AssertionError("a request without a reply")
        if reply.errno:
            raise OSError(reply.errno, "refused")
        return reply.value

    def _carry_out(self, event: Event) -> None:
        """What is no request, in as many steps as it takes."""
        again: Event | None = event
        while again is not None:
            self._store.reserve(reclaiming=True)
            effects = self._shard.step(time.time_ns(), again)
            self._run(effects)
            last = effects[-1] if effects else None
            again = last.event if type(last) is Repeat else None

    def _run(self, effects: list[Effect]) -> Reply | None:
        reply = None
        for effect in effects:
            kind = type(effect)
            if kind is Reply:
                reply = effect
            elif kind is AppendJournal:
                self._store.append(effect.writes)  # type: ignore[union-attr]
                failpoint("driver.step.journaled")
            elif kind is RemoveObjects:
                self._remove_objects(effect)  # type: ignore[arg-type]
        return reply  # type: ignore[return-value]

    def stop(self, error: BaseException, cause: object) -> None:
        """Nothing may change any more: every later request fails."""
        log.critical("the shard stops: %r failed; what was acknowledged is safe in the journal", cause, exc_info=error)
        self._broken = error

    def sync(self) -> None:
        """Everything answered so far survives a power loss. Waits for the disk: call it without the lock."""
        with self.lock:
            if self._broken is not None:
                raise OSError(EIO, _STOPPED)
            position = self._store.position
        self._store.sync(position)

    def checkpoint(self, *, only_if_due: bool) -> None:
        with self.lock:
            if self._broken is None and (self._store.needs_checkpoint or not only_if_due):
                try:
                    self._store.checkpoint()
                except BaseException as error:
                    self.stop(error, "a checkpoint")
                    raise OSError(EIO, _STOPPED) from error

    def trim_memory(self) -> None:
        """Under the lock, so that no checkpoint puts the map of the tables in another place meanwhile."""
        with self.lock:
            if self._broken is None:
                self._store.trim_memory()

    def end(self, session: int) -> None:
        """Let go of the session and close the store. A stopped shard is left as it is: recovery starts from its journal."""
        with self.lock:
            if self._broken is not None:
                return
            try:
                try:
                    self._carry_out(SessionEnded(session))
                except StoreFull as error:
                    log.warning("what session %d held open is let go at the next start: %s", session, error)
                self._store.close()
            except BaseException as error:
                self.stop(error, "the end")
                raise OSError(EIO, _STOPPED) from error
