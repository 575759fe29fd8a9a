"""One shard: takes events, returns effects. A dispatch table, and the rules that hold for every request."""

from collections.abc import Callable
from errno import EINVAL, EIO
from stat import S_IFDIR
from typing import Any

from loligo_mds.core import (
    batches,
    content,
    delegations,
    inodes,
    leases,
    locks,
    namespace,
    news,
    open_file,
    opens,
    purging,
    requests,
    restoring,
    sessions,
    surveying,
    trash,
    xattrs,
)
from loligo_mds.core.effects import AppendJournal, Effect, Repeat, Reply
from loligo_mds.core.events import (
    Event,
    LeasesLapsed,
    Repaired,
    RoomChanged,
    SessionEnded,
    SessionOpened,
    SessionRestated,
    ShardRestarted,
    Submitted,
)
from loligo_mds.core.open_file import WAITS
from loligo_mds.core.state import InvariantBroken, Refused, ShardState, ino_key
from loligo_mds.core.tables import Table, Tables
from loligo_trash.policy import RETENTION_NAME
from loligo_wire.attributes import FLAG_TRASH_POLICY, FLAG_XATTR, Attributes, clamp_ns
from loligo_wire.ids import ROOT_INO

_Handler = Callable[[ShardState, Any, int], Any]

_HANDLERS: dict[type, _Handler] = {
    requests.Lookup: news.lookup,
    requests.GetAttributes: news.get_attributes,
    requests.SetAttributes: inodes.set_attributes,
    requests.RecordAccess: inodes.record_access,
    requests.Create: namespace.create,
    requests.CreateUnnamed: namespace.create_unnamed,
    requests.Unlink: namespace.unlink,
    requests.RemoveDirectory: namespace.remove_directory,
    requests.RemoveTree: namespace.remove_tree,
    requests.Rename: namespace.rename,
    requests.Link: namespace.link,
    requests.ReadLink: namespace.read_link,
    requests.ReadDirectory: namespace.read_directory,
    requests.GetXattr: xattrs.get_xattr,
    requests.ListXattrs: xattrs.list_xattrs,
    requests.SetXattr: xattrs.set_xattr,
    requests.RemoveXattr: xattrs.remove_xattr,
    requests.ReadInline: content.read_inline,
    requests.Unsettle: content.unsettle,
    requests.Publish: content.publish,
    requests.Settle: content.settle,
    requests.ListUnsettled: content.list_unsettled,
    requests.Open: opens.open_file,
    requests.Close: opens.close_file,
    requests.Claim: opens.claim,
    requests.Release: opens.release,
    requests.Yielded: opens.yielded,
    requests.Reported: news.reported,
    requests.LeaseReturned: opens.lease_returned,
    requests.ReserveInodes: sessions.reserve_inodes,
    requests.SetLock: locks.set_lock,
    requests.GetLock: locks.get_lock,
    requests.CancelLock: locks.cancel_lock,
    requests.ListBatches: batches.list_batches,
    requests.ListRemoved: batches.list_removed,
    requests.ListPlaces: trash.list_places,
    requests.ReadTrash: trash.read_trash,
    requests.LookInTrash: trash.look_in_trash,
    requests.FillIn: restoring.fill_in,
    requests.Restore: restoring.restore,
    requests.PurgeBatch: purging.purge_batch,
    requests.Purge: purging.purge,
    requests.Survey: surveying.survey,
    requests.CountTree: surveying.count_tree,
    requests.GetUsage: inodes.get_usage,
}


class Shard:
    """`tables` must hold an initialised shard (see `initialise`). Not thread-safe: one step at a time."""

    def __init__(self, shard: int, tables: Tables, block_bytes: int) -> None:
        self.state = ShardState(shard, tables, block_bytes)
        if self.state.find_inode(ROOT_INO) is None and shard == 0:
            raise InvariantBroken("shard 0 has no root directory")
        trash.load(self.state)

    def step(self, now_ns: int, event: Event) -> list[Effect]:
        state = self.state
        state.now_ns = now_ns
        if type(event) is Submitted:
            return self._submitted(now_ns, event)
        again: Event | None = None
        if type(event) is SessionOpened:
            sessions.open_session(state, event)
        elif type(event) is SessionRestated:
            if not sessions.restate(state, event):
                again = SessionRestated(event.session, [], first=False, acknowledged=event.acknowledged)
        elif type(event) is SessionEnded:
            again = None if sessions.end_session(state, event.session) else event
        elif type(event) is LeasesLapsed:
            opens.stop_waiting(state, event.session)
            leases.drop_all(state, event.session)
        elif type(event) is RoomChanged:
            leases.room_changed(state, event.is_low)
        elif type(event) is Repaired:
            opens.repaired(state, event.ino)
        elif type(event) is ShardRestarted:
            again = None if sessions.restart(state, event) else event
        else:
            raise TypeError(f"no such event: {event!r}")
        effects = self._effects(None)
        if again is not None:
            effects.append(Repeat(again))
        return effects

    def not_admitted(self, event: Submitted, errno: int) -> None:
        """It was refused before it came here."""
        if event.promised_ns:
            delegations.not_kept(self.state, event, errno)

    def repeats(self, event: Submitted) -> bool:
        """Whether the request was applied before, so that this one changes nothing."""
        return bool(
            event.sequence and type(event.request) in requests.CHANGING and sessions.was_applied(self.state, event)
        )

    def _submitted(self, now_ns: int, event: Submitted) -> list[Effect]:
        state = self.state
        request = event.request
        kind = type(request)
        once = event.sequence and kind in requests.CHANGING
        if once and sessions.was_applied(state, event):
            return self._effects(self._repeated(event))
        if event.promised_ns and (kind not in delegations.PROMISABLE or event.session not in state.lease_takers):
            event.promised_ns = 0
        if event.session in state.refused_promises and (errno := delegations.refusal_of(state, event)):
            return self._effects(Reply(event.session, event.id, None, errno))
        state.asking = event.session
        state.asking_id = event.id
        try:
            if leases.are_in_the_way(state, event):
                return self._effects(None)
        except Refused as refused:
            return self._effects(Reply(event.session, event.id, None, refused.errno))
        errno = 0
        holds = False
        value: Any = None
        promised_ns = event.promised_ns
        moved = leases.inodes_moved(state, request)
        try:
            handler = _HANDLERS.get(kind)
            if handler is None:
                raise Refused(EINVAL)
            if kind is requests.Create and request.new_ino:  # type: ignore[union-attr]
                delegations.take_reserved(state, request.new_ino)  # type: ignore[union-attr]
            value = handler(state, request, clamp_ns(promised_ns) if promised_ns else now_ns)
        except Refused as refused:
            if state.writes or state.effects or state.notices:
                raise InvariantBroken(f"{request!r} was refused after it had written") from None
            errno = refused.errno
            if promised_ns:
                delegations.not_kept(state, event, errno)
        else:
            if (kind is requests.Create and event.request.hold) or kind is requests.CreateUnnamed:  # type: ignore[union-attr]
                holds = True
                open_file.hold(state, event.session, value.ino, writes=True)
        if once:
            sessions.store_answer(state, event, errno, value, holds)
        if value is WAITS:
            return self._effects(None)
        if errno:
            return self._effects(Reply(event.session, event.id, None, errno))
        if promised_ns:
            leases.kept_promise(state, event.session, value)
            return self._effects(Reply(event.session, event.id, value))
        return self._effects(leases.answer(state, event.session, event.id, request, value, moved))

    def _repeated(self, event: Submitted) -> Reply:
        answer = sessions.stored_answer(self.state, event.session, event.sequence)
        if answer is None:
            return Reply(event.session, event.id, None, EINVAL)
        errno, value, holds = answer
        if holds:
            if self.state.find_inode(value.ino) is None:
                return Reply(event.session, event.id, None, EIO)  # it is closed, so it cannot be said to be open
            sessions.keep_promise(self.state, event.session, event.sequence)
        return Reply(event.session, event.id, value, errno, repeated=True)

    def _effects(self, reply: Reply | None) -> list[Effect]:
        state = self.state
        effects: list[Effect] = []
        if state.writes and state.ended_delegations:
            delegations.sweep(state)
        writes = state.take_writes()
        if writes:
            effects.append(AppendJournal(writes))
        if state.effects:
            effects += state.effects
            state.effects = []
        if reply is not None:
            effects.append(reply)
        if state.notices:
            effects += state.notices
            state.notices = []
        if state.retries:
            effects += state.retries
            state.retries = []
        return effects


def initialise(
    tables: Tables, now_ns: int, uid: int, gid: int, mode: int = 0o755, retention: bytes | None = None
) -> list[AppendJournal]:
    """Shard 0 of a new volume: a root directory and nothing else. Returns what to make durable.

    `retention`: how long what is removed is kept, as `loligo_trash.policy` writes it; None: as long as by default.
    """
    state = ShardState(0, tables, 0)
    if retention is not None:
        state.put(Table.XATTR, ino_key(ROOT_INO) + RETENTION_NAME, retention)
    state.put_inode(
        Attributes(
            ROOT_INO,
            S_IFDIR | mode,
            uid,
            gid,
            nlink=2,
            flags=0 if retention is None else FLAG_XATTR | FLAG_TRASH_POLICY,
            atime_ns=now_ns,
            mtime_ns=now_ns,
            ctime_ns=now_ns,
            btime_ns=now_ns,
        )
    )
    state.count(1, 0)
    return [AppendJournal(state.take_writes())]
