"""What goes on between the sessions of a server and its shard.

Everything here happens on the event loop's thread: events go to the shard, its answers and notices to the connections that
they are for. Threads of the keeper ask the shard too, but for nothing of which a session is told.

How a session ends:

    asked to (goodbye)                      SessionEnded
    silent for too long, or evicted         shut out of the object store first; then SessionEnded
    dead, and others wait for it            likewise

Until a client is shut out its session stays, so that nobody gets at what it may still be writing; it is tried again
for as long as it takes, and the client is not let in meanwhile.
"""

import asyncio
import logging
from collections.abc import Iterable, Sequence
from errno import EIO
from typing import TYPE_CHECKING, Any

from loligo_mds.core.effects import SAID, Effect, LeaseRecall, Recall, Reply, Report
from loligo_mds.core.events import LeasesLapsed, Repaired, RoomChanged, SessionEnded, SessionOpened, Submitted
from loligo_mds.core.open_file import SHARD_SESSION
from loligo_mds.core.requests import GetAttributes, Lookup, Request
from loligo_mds.shell.driver import ShardDriver
from loligo_mds.shell.fence import Fencer
from loligo_mds.shell.journal_sync import JournalSync
from loligo_mds.shell.metrics import Metrics
from loligo_mds.shell.session_record import SessionRecord
from loligo_mds.shell.session_table import Session, SessionTable
from loligo_runtime.volume import Volume
from loligo_wire.attributes import Attributes
from loligo_wire.ids import ROOT_INO
from loligo_wire.v1 import loligo_pb2 as pb

if TYPE_CHECKING:
    from loligo_mds.shell.connection import Connection

log = logging.getLogger(__name__)

#: A client that cannot be shut out is tried again so often.
FENCE_RETRY_S = 5.0
#: A client that takes nothing for so long is disconnected.
READS_WITHIN_S = 30.0
SESSIONS_MAX = 10_000


class Service:
    def __init__(
        self,
        volume: Volume,
        version: str,
        shard: ShardDriver,
        sessions: SessionTable,
        sync: JournalSync,
        fencer: Fencer,
        metrics: Metrics,
    ) -> None:
        self.volume = volume
        self.version = version
        self.sessions = sessions
        self.sync = sync
        self.metrics = metrics
        self.step = shard.step
        self.fill_in = shard.fill_in
        self._shard = shard
        self._fencer = fencer
        #: (session, inode) -> since when it owes a report about it.
        self._reports: dict[tuple[int, int], float] = {}
        #: (session, lease, inode whose attributes were recalled, or 0) -> since when it owes the answer.
        self._recalls: dict[tuple[int, int, int], float] = {}
        #: Set while requests may be handled; a checkpoint clears it, so that the loop does not wait for the shard's lock.
        self.may_step = asyncio.Event()
        self.may_step.set()
        self.stopping = False
        self._room_is_low = False
        self.connections: set[Connection] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    # -- what the shard says --------------------------------------------------------------------------------------------

    def tell(self, effects: Iterable[Effect]) -> None:
        """Pass on what a step has to say to anybody."""
        for effect in effects:
            if isinstance(effect, SAID):
                if isinstance(effect, Recall):
                    self.metrics.recalls += 1
                elif isinstance(effect, Report):
                    self.metrics.reports += 1
                    self._reports[effect.session, effect.ino] = self.now_s()
                session = self.sessions.get(effect.session)
                if session is None:
                    continue
                if isinstance(effect, LeaseRecall):
                    self.metrics.lease_recalls += 1
                    session.recalls += 1
                    self._recalls[effect.session, effect.ino, effect.attributes_of] = self.now_s()
                if session.connection is not None:
                    session.connection.tell(effect)

    def ask(self, request: Request) -> Any:
        """A question, or a change, of the shard's own process; sessions are told what they have to know of it. OSError."""
        said = self.step(Submitted(SHARD_SESSION, 0, request))
        self.tell(said)
        reply = next(effect for effect in said if isinstance(effect, Reply) and effect.session == SHARD_SESSION)
        if reply.errno:
            raise OSError(reply.errno, "refused")
        return reply.value

    def repaired(self, ino: int) -> None:
        """The keeper has done what `RepairObjects` asked for. On this thread, like all that sessions are told of, so that
        nobody hears of two steps in the wrong order.
        """
        self.tell(self.step(Repaired(ino)))

    @property
    def has_stopped(self) -> bool:
        return self._shard.stopped

    def check_running(self) -> None:
        """OSError if the shard has stopped."""
        if self._shard.stopped:
            raise OSError(EIO, "the shard has stopped")

    # -- beginnings -------------------------------------------------------------------------------------------------------

    async def open_session(self, session: Session) -> None:
        """It is known from now on, also after a crash of this machine."""
        self.tell(self.step(SessionOpened(session.id, session.record.encode(), session.record.takes_leases)))
        self.sessions.add(session)
        try:
            await self.sync.wait()
        except BaseException:
            self._forget(session)
            raise

    async def change_record(self, session: Session, record: SessionRecord) -> None:
        session.record = record
        self.tell(self.step(SessionOpened(session.id, record.encode(), record.takes_leases)))
        await self.sync.wait()

    def may_name(self, session: Session, addresses: Sequence[str]) -> bool:
        """Whether these can be the session's addresses at the object store."""
        if not self._fencer.may_name(addresses):
            return False
        theirs = (address for other in self.sessions if other is not session for address in other.record.fence)
        return set(addresses).isdisjoint(theirs)

    def find_root(self, path: bytes) -> Attributes:
        """The directory that `path` names, from the volume's root. OSError if there is none; symlinks are not followed."""
        found: Attributes | None = self._shard.ask(GetAttributes(ROOT_INO))
        for name in path.split(b"/"):
            if not name or name == b".":
                continue
            if name == b"..":
                raise ValueError("'..' in the path of a root")
            assert found is not None
            found = self._shard.ask(Lookup(found.ino, name))
            if found is None or not found.is_directory:
                raise FileNotFoundError(path)
        assert found is not None
        return found

    def root_now(self, ino: int) -> Attributes | None:
        """None: the directory is gone."""
        try:
            found: Attributes = self._shard.ask(GetAttributes(ino))
        except OSError:
            return None
        return found

    # -- ends -------------------------------------------------------------------------------------------------------------

    def end_session(self, session: Session) -> None:
        """At its own wish: everything is stored, nothing is open."""
        log.info("%s has said goodbye", session)
        self._forget(session)

    def shut_out(self, session: Session, why: str) -> None:
        """Against its will. `session.ended` tells when that is done."""
        if session.ending:
            return
        session.ending = why
        log.warning("%s: %s; it is shut out", session, why)
        if session.connection is not None:
            session.connection.close(refusal(pb.Refusal.SESSION_GONE, gone_text(why)))
        self._start(self._fence(session))

    async def _fence(self, session: Session) -> None:
        said = ""
        while True:
            try:
                await self._fencer.shut_out(session.record.fence)
                break
            except OSError as error:
                self.metrics.fence_failures += 1
                if str(error) != said:
                    said = str(error)
                    log.error(
                        "%s cannot be shut out of the object store (%s): its files stay closed to others until it is",
                        session,
                        error,
                    )
            await asyncio.sleep(FENCE_RETRY_S)
        self._forget(session)

    def _forget(self, session: Session) -> None:
        self.sessions.remove(session)
        self.tell(self.step(SessionEnded(session.id)))
        if not session.ended.done():
            session.ended.set_result(None)

    def look_at_room(self, is_low: bool) -> None:
        if is_low != self._room_is_low:
            self._room_is_low = is_low
            if is_low:
                log.warning("space for metadata is low: clients wait for the server with each change")
            self.tell(self.step(RoomChanged(is_low)))

    def now_s(self) -> float:
        """Of the clock of `Session.heard_s`."""
        return asyncio.get_running_loop().time()

    def excuse(self, late_s: float) -> None:
        """Nobody could be heard for so long."""
        self.sessions.excuse(late_s)
        for report in self._reports:
            self._reports[report] += late_s
        for recall in self._recalls:
            self._recalls[recall] += late_s

    def look_at_clock(self, now_s: float) -> None:
        """End what has been silent for too long, and streams whose clients do not read."""
        for connection in list(self.connections):
            if connection.writing_since_s and now_s - connection.writing_since_s > READS_WITHIN_S:
                log.warning("%s does not read what it is told, its connection ends", connection.peer)
                connection.cut()
        for (id, ino), since_s in list(self._reports.items()):
            owing = self.sessions.get(id)
            if owing is None or not self._shard.owes_report(id, ino):
                del self._reports[id, ino]
            elif self.sessions.keeps_waiting(owing, since_s, now_s):
                self.shut_out(
                    owing, f"for {now_s - since_s:.1f} s it has not said what became of a file that others ask about"
                )
        for recall, since_s in list(self._recalls.items()):
            owing = self.sessions.get(recall[0])
            if owing is None or not self._shard.owes_lease(*recall):
                del self._recalls[recall]
            elif self._shard.is_waited_for(recall[1]) and self.sessions.keeps_waiting(owing, since_s, now_s):
                self.shut_out(owing, f"for {now_s - since_s:.1f} s it has not given back a lease that others wait for")
        for session in self.sessions.lapsed(now_s):
            self._take_leases(session, now_s)
        for session in self.sessions.expired(now_s):
            self.metrics.expired += 1
            self.shut_out(session, f"silent for {now_s - session.heard_s:.1f} s")

    def _take_leases(self, session: Session, now_s: float) -> None:
        """It was not heard for so long that it has dropped them, and ended its connection: this ends, too, if it was only
        asleep.
        """
        session.has_lapsed = True
        log.warning("%s: silent for %.1f s, its leases are over", session, now_s - session.heard_s)
        if session.connection is not None:
            session.connection.cut()
        self.drop_leases(session)

    def drop_leases(self, session: Session) -> None:
        self.tell(self.step(LeasesLapsed(session.id)))

    async def evict(self, id: int) -> str:
        """What stands in the way; empty: it is done."""
        session = self.sessions.get(id)
        if session is None:
            return f"there is no session {id:x}"
        if not session.ending:
            self.metrics.evicted += 1
            self.shut_out(session, "evicted by the operator")
        try:
            async with asyncio.timeout(FENCE_RETRY_S):
                await asyncio.shield(session.ended)
        except TimeoutError:
            return "it cannot be shut out of the object store yet: it is tried again until that is done; see the server's log"
        return ""

    # -- tasks ------------------------------------------------------------------------------------------------------------

    def _start(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def close(self) -> None:
        for task in self._tasks:
            task.cancel()


def refusal(reason: Any, text: str) -> pb.Refusal:
    return pb.Refusal(reason=reason, text=text)


def gone_text(why: str) -> str:
    return f"the session has ended ({why}): unmount, and mount again"
