"""Drives one shard: gives it requests, does what it answers, in order.

Threads: `lock` guards the shard and its tables; every call here takes it, and a caller with several steps to make as one
may hold it around them. `sync` waits for the disk and must be called without it.

An embedded volume has one session and calls `submit`, which returns the answer. A server gives every event to `step`, which
returns what is to be said to sessions, after it is in the journal; `ask` is for its own questions and changes.

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

from loligo_mds.core import content, leases, locks, news, purging, sessions
from loligo_mds.core.admission import SessionLimits, admit, admit_holds, admit_locks
from loligo_mds.core.effects import SAID, AppendJournal, Effect, RemoveObjects, RepairObjects, Repeat, Reply, Retry
from loligo_mds.core.events import Event, SessionEnded, SessionOpened, SessionRestated, ShardRestarted, Submitted
from loligo_mds.core.locks import LockWait
from loligo_mds.core.open_file import SHARD_SESSION
from loligo_mds.core.purging import Backlog
from loligo_mds.core.requests import CHANGING, RECLAIMING, REMOVING, WRITING, Opened, Request
from loligo_mds.core.shard import Shard
from loligo_mds.store.errors import StoreFull
from loligo_mds.store.shard_store import ShardStore
from loligo_runtime.failpoint import declare, failpoint
from loligo_wire.attributes import FLAG_INLINE

log = logging.getLogger(__name__)

_STOPPED = "this shard has stopped; see the log"

declare("driver.step.before", "driver.step.journaled", "driver.reply.before")


def _leave_to_next_start(effect: RepairObjects) -> None:
    """For who ends with the only session: the next one looks at every file that is in doubt."""


class ShardDriver:
    """`remove_objects` is called, under the lock, for every inode whose objects may go, `repair_objects` for every file whose
    writer is gone without a word; they must only take a note.
    """

    def __init__(
        self,
        store: ShardStore,
        shard: Shard,
        remove_objects: Callable[[RemoveObjects], None],
        repair_objects: Callable[[RepairObjects], None] = _leave_to_next_start,
    ) -> None:
        self.lock = threading.RLock()
        self._store = store
        self._shard = shard
        self._remove_objects = remove_objects
        self._repair_objects = repair_objects
        #: Events for whose steps there was no room.
        self._unfinished: list[Event] = []
        #: Requests that had to wait for leases, and can go on.
        self._retries: list[Submitted] = []
        self._broken: BaseException | None = None
        #: Requests of sessions so far.
        self.asked = 0

    # -- at the start -------------------------------------------------------------------------------------------------

    def sessions(self) -> dict[int, bytes]:
        """Those that the tables know -> who they are."""
        with self.lock:
            return sessions.records(self._shard.state)

    def start(
        self, session: int | None = None, surviving: tuple[int, ...] = (), lease_takers: tuple[int, ...] = ()
    ) -> None:
        """After recovery: sessions but those that survive are gone. `session`, if there is one, is opened. `lease_takers`:
        those of the survivors that may hold leases.

        Any error is the caller's to tell.
        """
        events: list[Event] = [ShardRestarted(surviving, lease_takers)]
        if session is not None:
            events.append(SessionOpened(session))
        with self.lock:
            for event in events:
                try:
                    self._carry_out(event, [])
                except BaseException as error:
                    self.stop(error, event)
                    raise

    def fill_in(self, opened: Opened) -> None:
        """See `content.fill_in`."""
        if opened.attributes.flags & FLAG_INLINE:
            with self.lock:
                if self._broken is None:
                    content.fill_in(self._shard.state, opened)

    def owes_lease(self, session: int, ino: int, attributes_of: int) -> bool:
        with self.lock:
            return leases.owes(self._shard.state, session, ino, attributes_of)

    def is_waited_for(self, lease: int) -> bool:
        with self.lock:
            return lease in self._shard.state.parked

    def leases(self, session: int) -> int:
        with self.lock:
            return len(self._shard.state.session_leases.get(session, ()))

    def locks(self, session: int) -> int:
        with self.lock:
            return locks.held(self._shard.state, session)

    def lock_waits(self) -> list[LockWait]:
        with self.lock:
            return list(locks.waits(self._shard.state))

    def open_files(self, session: int) -> int:
        with self.lock:
            return sessions.open_files(self._shard.state, session)

    def backlog(self) -> Backlog:
        """Of the trash, now."""
        with self.lock:
            return purging.backlog(self._shard.state, time.time_ns())

    def rows_have_little_room(self) -> bool:
        with self.lock:
            return self._broken is None and self._store.rows_have_little_room

    def owes_report(self, session: int, ino: int) -> bool:
        with self.lock:
            return news.owes_report(self._shard.state, session, ino)

    # -- steps --------------------------------------------------------------------------------------------------------

    def submit(self, session: int, request: Request) -> Any:
        """The answer. OSError with the errno of a refusal; ENOSPC if the journal has no room for the change."""
        with self.lock:
            said = self._request(Submitted(session, 0, request))
        if not said:
            raise AssertionError("a request without a reply")
        reply = said[0]
        if reply.errno:  # type: ignore[union-attr]
            raise OSError(reply.errno, "refused")  # type: ignore[union-attr]
        return reply.value  # type: ignore[union-attr]

    def ask(self, request: Request) -> Any:
        """`submit` for the shard's own process."""
        return self.submit(SHARD_SESSION, request)

    def step(self, event: Event, limits: SessionLimits | None = None) -> list[Effect]:
        """What is to be said to sessions: replies, recalls, resumptions. A request that cannot be carried out is refused.

        `limits`: the event comes from a session of another machine; what goes beyond them is refused, or left out.

        Other events: OSError, EIO if the shard has stopped, ENOSPC if there is no room to open a session. Without room for what
        follows from another event, it is done as soon as there is some.
        """
        with self.lock:
            said = self._finish() if self._unfinished else []
            if type(event) is Submitted:
                event.limits = limits
                said += self._answer(event)
            else:
                self._event(event, limits, said)
            while self._retries:
                said += self._answer(self._retries.pop(0))
            return said

    def _answer(self, event: Submitted) -> list[Effect]:
        try:
            return self._request(event)
        except OSError as error:
            return [Reply(event.session, event.id, None, error.errno or EIO)]

    def _event(self, event: Event, limits: SessionLimits | None, said: list[Effect]) -> None:
        """What is no request."""
        self._check_running()
        if type(event) is SessionRestated and limits is not None:
            event.holds = admit_holds(self._shard.state, limits, event.holds)
            event.locks = admit_locks(event.locks)
        try:
            self._carry_out(event, said)
        except StoreFull as error:
            if type(event) is SessionOpened:
                raise OSError(ENOSPC, "no space for metadata") from None
            log.warning("put off until there is room: %r: %s", event, error)
            self._unfinished.append(event)
        except BaseException as error:
            self.stop(error, event)
            raise OSError(EIO, _STOPPED) from error

    def _finish(self) -> list[Effect]:
        events, self._unfinished = self._unfinished, []
        said: list[Effect] = []
        for event in events:
            said += self.step(event)
        return said

    def _check_running(self) -> None:
        if self._broken is not None:
            raise OSError(EIO, _STOPPED)

    def _request(self, event: Submitted) -> list[Effect]:
        if self._broken is not None:
            raise OSError(EIO, _STOPPED)
        if event.session != SHARD_SESSION:
            self.asked += 1
        kind = type(event.request)
        changes = kind in CHANGING
        repeats = changes and event.sequence and self._shard.repeats(event)
        if event.limits is not None and not repeats:
            # What was admitted once is answered as it was then, whatever has become of the inode.
            errno = admit(self._shard.state, event.limits, event.request)
            if errno:
                self._shard.not_admitted(event, errno)
                raise OSError(errno, "not admitted")
        try:
            if kind in WRITING and not repeats:
                self._store.reserve(kind in RECLAIMING)
                if kind in REMOVING:
                    self._shard.state.has_room_for_trash = not self._store.room_is_low
            failpoint("driver.step.before")
            said: list[Effect] = []
            self._run(self._shard.step(time.time_ns(), event), said)
        except StoreFull:  # only from `reserve`: nothing has changed
            self._shard.not_admitted(event, ENOSPC)
            raise OSError(ENOSPC, "no space for metadata") from None
        except BaseException as error:
            self.stop(error, event.request)
            raise OSError(EIO, _STOPPED) from error
        failpoint("driver.reply.before")
        return said

    def _carry_out(self, event: Event, said: list[Effect]) -> None:
        """What is no request, in as many steps as it takes."""
        again: Event | None = event
        while again is not None:
            self._store.reserve(reclaiming=True)
            effects = self._shard.step(time.time_ns(), again)
            self._run(effects, said)
            last = effects[-1] if effects else None
            again = last.event if type(last) is Repeat else None

    def _run(self, effects: list[Effect], said: list[Effect]) -> None:
        for effect in effects:
            kind = type(effect)
            if kind in SAID:
                said.append(effect)
            elif kind is Retry:
                self._retries.append(effect.event)  # type: ignore[union-attr, arg-type]
            elif kind is AppendJournal:
                self._store.append(effect.writes)  # type: ignore[union-attr]
                failpoint("driver.step.journaled")
            elif kind is RemoveObjects:
                self._remove_objects(effect)  # type: ignore[arg-type]
            elif kind is RepairObjects:
                self._repair_objects(effect)  # type: ignore[arg-type]

    @property
    def stopped(self) -> bool:
        return self._broken is not None

    def stop(self, error: BaseException, cause: object) -> None:
        """Nothing may change any more: every later request fails."""
        log.critical("the shard stops: %r failed; what was acknowledged is safe in the journal", cause, exc_info=error)
        self._broken = error

    def sync(self) -> None:
        """Everything answered so far survives a power loss. Waits for the disk: call it without the lock."""
        with self.lock:
            self._check_running()
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

    def end(self, session: int | None = None) -> None:
        """Let go of the session, if there is one, and close the store; others survive. A stopped shard is left as it is:
        recovery starts from its journal.
        """
        with self.lock:
            if self._broken is not None:
                return
            try:
                if session is not None:
                    try:
                        self._carry_out(SessionEnded(session), [])
                    except StoreFull as error:
                        log.warning("what session %d held open is let go at the next start: %s", session, error)
                self._store.close()
            except BaseException as error:
                self.stop(error, "the end")
                raise OSError(EIO, _STOPPED) from error
