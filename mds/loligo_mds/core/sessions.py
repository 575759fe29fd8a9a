"""Sessions: who asks, applying each request exactly once, coming back after a lost connection or a restart.

A session that can outlive its connection numbers its changing requests 1, 2, 3 … The shard stores the last number
applied (table SESSION) and the answers not yet acknowledged (table REPLY) in the same write set as the effect. A request may
have to wait for leases (`core.leases`) while later ones are applied. A number that the shard has
applied already is answered from there, so a request sent again after a lost connection changes nothing twice.
A changing request answers with an inode or with nothing, so an answer is stored as (errno, ino, record of the inode).
Who the session is, for those who talk to it, is an opaque record in table CLIENT: a row of its own, because the one in
SESSION is written with every request.

What sessions have open (`core.opens`) is in memory only. A session that comes back states it anew, and then sends again
what was not answered. A request that opens (Create with hold, CreateUnnamed) may have been applied without its answer
arriving: such a hold is *promised*, until the request comes again, or its answer is acknowledged or the session ends.

After a restart sessions that survived come back or end. Until all have, nothing is decided that depends on what they have
open: inodes without a name stay, requests to open wait. Then orphans that nobody holds go, and files in UNSETTLED that
nobody writes are repaired. With no survivors, whoever starts the shard looks after UNSETTLED before anything else.

A session, or a crash, can leave any number of inodes and answers behind, and the record of one step has an end. So
`end_session`, `restate` and `restart` do a step's worth and say whether that was all; done again, they go on where they were.
"""

from itertools import islice
from struct import Struct
from typing import Any

from loligo_mds.core import delegations, leases, locks, news, open_file, opens
from loligo_mds.core.events import SessionOpened, SessionRestated, ShardRestarted, Submitted
from loligo_mds.core.limits import FORGOTTEN_REPLIES_MAX, STEP_WRITES_MAX, UNACKNOWLEDGED_REPLIES_MAX
from loligo_mds.core.open_file import OpenFile
from loligo_mds.core.requests import Reserved, ReserveInodes
from loligo_mds.core.state import InvariantBroken, ShardState, ino_key, ino_of_key
from loligo_mds.core.tables import Table
from loligo_wire.attributes import Attributes, decode_attributes
from loligo_wire.ids import ShardId, make_ino
from loligo_wire.locks import Lock

_SESSION = Struct(">Q")
#: The last sequence applied; up to this one answers were received; the next inode number reserved, and the end of those. Rows
#: of earlier versions are shorter.
_APPLIED = Struct(">QQQQ")
_REPLY_KEY = Struct(">QQ")
_ANSWER = Struct("<IQ")  # errno and _HOLDS, ino or 0; the inode's record follows
ANSWER_BYTES = _ANSWER.size
#: The largest that a client can send.
SEQUENCE_MAX = (1 << 64) - 1
#: With this answer the session has the inode open.
_HOLDS = 1 << 31


# -- who is there ---------------------------------------------------------------------------------------------------


def records(state: ShardState) -> dict[int, bytes]:
    """Every session with a record -> the record."""
    return {ino_of_key(key)[0]: value for key, value in state.tables.scan(Table.CLIENT, b"")}


def open_files(state: ShardState, session: int) -> int:
    return len(state.session_files.get(session, ()))


def open_session(state: ShardState, event: SessionOpened) -> None:
    """Also of one that is there already: with another record, or the same."""
    key = _SESSION.pack(event.session)
    if event.record and state.tables.get(Table.CLIENT, key) != event.record:
        state.put(Table.CLIENT, key, event.record)
    if event.takes_leases:
        state.lease_takers.add(event.session)


# -- going ----------------------------------------------------------------------------------------------------------


def _is_full(state: ShardState) -> bool:
    """This step has done enough. Never true of one that has done nothing."""
    return len(state.writes) >= STEP_WRITES_MAX


def end_session(state: ShardState, session: int) -> bool:
    """False: do it again, something is left."""
    opens.stop_waiting(state, session)
    leases.drop_all(state, session, ended=True)
    mine = state.session_files.get(session, {})
    for file in list(islice(mine.values(), STEP_WRITES_MAX)):
        if _is_full(state):
            return False
        opens.leave(state, session, file)
    if mine:
        return False
    prefix = _SESSION.pack(session)
    for key in [key for key, _ in islice(state.scan_prefix(Table.REPLY, prefix), STEP_WRITES_MAX)]:
        if _is_full(state):
            return False
        state.delete(Table.REPLY, key)
    if next(state.scan_prefix(Table.REPLY, prefix), None) is not None:
        return False
    # The last of its rows: as long as they are there, a restart finds what is left of the session.
    for table in (Table.SESSION, Table.CLIENT):
        if state.tables.get(table, prefix) is not None:
            state.delete(table, prefix)
    for known in (
        state.session_files,
        state.applied,
        state.acknowledged,
        state.unstated,
        state.promised,
        state.stated_locks,
        state.reserved,
        state.refused_promises,
        state.undelegated,
    ):
        known.pop(session, None)
    state.lease_takers.discard(session)
    state.knots.pop(session, None)
    return _has_spoken(state, session)


# -- coming back ----------------------------------------------------------------------------------------------------


def restart(state: ShardState, event: ShardRestarted) -> bool:
    """After recovery. False: do it again, something is left."""
    surviving = event.surviving
    state.reclaiming = dict.fromkeys(surviving)
    state.lease_takers = set(event.lease_takers)
    state.lease_grace = dict.fromkeys(event.lease_takers)
    if not state.delegations:
        delegations.load(state, state.reclaiming)
    state.knots = dict.fromkeys(event.lease_takers, state.now_ns)  # they may have been refused just before
    state.reclaim_below = make_ino(ShardId(state.shard), state.next_counter) if surviving else 0
    for table in (Table.SESSION, Table.CLIENT):
        for key, _ in list(state.tables.scan(table, b"")):
            session = ino_of_key(key)[0]
            if session not in state.reclaiming and (_is_full(state) or not end_session(state, session)):
                return False
    return bool(surviving) or _remove_orphans(state)


def restate(state: ShardState, event: SessionRestated) -> bool:
    """False: do it again, something is left."""
    session = event.session
    mine = state.session_files.get(session, {})
    unstated = state.unstated.get(session)
    if event.first or unstated is None:
        opens.stop_waiting(state, session)
        state.promised.pop(session, None)
        unstated = state.unstated[session] = dict.fromkeys(mine)
        locks.begin_restating(state, session)
        leases.restate(state, session, (), first=True, complete=False)
    for said in event.holds:
        unstated.pop(said.ino, None)
        opens.restate(state, session, said)
        news.restated(state, session, said.ino)
    for lock in event.locks:
        held = Lock(session, lock.owner, lock.start, lock.end, lock.exclusive, lock.pid)
        locks.restate(state, lock.ino, lock.whole, held)
    leases.restate(state, session, event.delegations, first=False, complete=event.complete)
    if not event.complete:
        return True
    _keep_promised(state, event, unstated)
    while unstated:
        if _is_full(state):
            return False
        file = mine.get(unstated.popitem()[0])
        if file is not None:
            opens.let_go(state, session, file, file.openers[session].count)
    locks.end_restating(state, session)
    if not _has_spoken(state, session):
        return False
    del state.unstated[session]
    return True


def _keep_promised(state: ShardState, event: SessionRestated, unstated: dict[int, None]) -> None:
    """Holds that the session has by answers which it has not acknowledged, and did not state."""
    session = event.session
    first = min(event.acknowledged + 1, SEQUENCE_MAX)
    for key, row in state.tables.scan(Table.REPLY, _REPLY_KEY.pack(session, first)):
        owner, sequence = _REPLY_KEY.unpack(key)
        if owner != session:
            return
        errno, ino = _ANSWER.unpack_from(row)
        promised = state.promised.setdefault(session, {})
        if not errno & _HOLDS or sequence in promised or state.find_inode(ino) is None:
            continue
        if ino in unstated:  # the opens that are known are those that were promised
            del unstated[ino]
            opener = state.session_files[session][ino].openers[session]
            opener.count = opener.promised = 0
        elif session not in state.reclaiming:
            continue  # closed since: who did not restart knows that
        open_file.hold(state, session, ino, writes=True)
        state.files[ino].openers[session].promised += 1
        promised[sequence] = ino


def _has_spoken(state: ShardState, session: int) -> bool:
    """What it has open is known. If it was the last one to say so after a restart, clear up. False: do it again."""
    if session in state.reclaiming and len(state.reclaiming) > 1:
        del state.reclaiming[session]
        return True
    if session not in state.reclaiming:
        return True
    state.reclaim_below = 0
    if not _look_at_files(state) or not _remove_orphans(state) or not _repair(state):
        return False
    del state.reclaiming[session]
    state.swept = (0, 0)
    locks.after_reclaim(state)
    return True


def _look_at_files(state: ShardState) -> bool:
    """Whether all have been looked at."""
    stage, last = state.swept
    if stage > 0:
        return True
    for ino in sorted(ino for ino in state.files if ino > last):
        if _is_full(state):
            return False
        opens.after_reclaim(state, state.files[ino])
        state.swept = (0, ino)
    state.swept = (1, 0)
    return True


def _remove_orphans(state: ShardState) -> bool:
    """Those that nobody holds. Whether none is left."""
    for key in [key for key, _ in state.tables.scan(Table.ORPHAN, b"")]:
        ino = ino_of_key(key)[0]
        if open_file.is_held(state, ino):
            continue
        if _is_full(state):
            return False
        attributes = state.find_inode(ino)
        if attributes is None:
            raise InvariantBroken(f"orphan {ino} has no inode")
        opens.remove_orphan(state, attributes)
    return True


def _repair(state: ShardState) -> bool:
    """Files in doubt that nobody has open. Whether none is left."""
    _, last = state.swept
    rows = list(islice(state.tables.scan(Table.UNSETTLED, ino_key(last + 1)), STEP_WRITES_MAX))
    for key, _ in rows:
        ino = ino_of_key(key)[0]
        state.swept = (1, ino)
        if ino not in state.files and state.find_inode(ino) is not None:
            opens.repair_unopened(state, ino)
    return len(rows) < STEP_WRITES_MAX


# -- inode numbers ---------------------------------------------------------------------------------------------------


def reserve_inodes(state: ShardState, request: ReserveInodes, now_ns: int) -> Reserved:
    last_applied(state, state.asking)
    reserved = delegations.reserve(state, request)
    _put_session(state, state.asking)
    return reserved


def _put_session(state: ShardState, session: int) -> None:
    row = _APPLIED.pack(state.applied[session], state.acknowledged[session], *state.reserved.get(session, (0, 0)))
    state.put(Table.SESSION, _SESSION.pack(session), row)


# -- exactly once ---------------------------------------------------------------------------------------------------


def stored_answer(state: ShardState, session: int, sequence: int) -> tuple[int, Any, bool] | None:
    """(errno, value, whether the session has the inode open by it) of a request that was applied before; None if it is gone.

    A number that was acknowledged is never sent again by an honest client: it is answered with EINVAL by the shard.
    """
    row = state.tables.get(Table.REPLY, _REPLY_KEY.pack(session, sequence))
    if row is None:
        return None
    errno, ino = _ANSWER.unpack_from(row)
    return errno & ~_HOLDS, decode_attributes(ino, row[_ANSWER.size :]) if ino else None, bool(errno & _HOLDS)


def keep_promise(state: ShardState, session: int, sequence: int) -> None:
    """The request has come again: from now on the session knows what it has open by it, and can be asked about it."""
    file = _take_promise(state, session, sequence)
    if file is not None:
        opens.ask_again(state, session, file)
        news.restated(state, session, file.ino)


def _take_promise(state: ShardState, session: int, sequence: int) -> OpenFile | None:
    """The file, if the session still has it open by that answer: it may have closed all that it had."""
    ino = state.promised.get(session, {}).pop(sequence, 0)
    file = state.session_files.get(session, {}).get(ino)
    if file is None or not file.openers[session].promised:
        return None
    file.openers[session].promised -= 1
    return file


def last_applied(state: ShardState, session: int) -> int:
    applied = state.applied.get(session)
    if applied is None:
        row = state.tables.get(Table.SESSION, _SESSION.pack(session))
        applied, acknowledged, following, end = _APPLIED.unpack((row or b"").ljust(_APPLIED.size, b"\0"))
        state.applied[session] = applied
        state.acknowledged[session] = acknowledged
        state.reserved[session] = following, end
    return applied


def was_applied(state: ShardState, event: Submitted) -> bool:
    """Whether the request has come before, and was carried out. One with a smaller sequence than the last may have waited."""
    last = last_applied(state, event.session)
    if event.sequence > last:
        return False
    if not event.waited and event.sequence <= _forgotten(state, event, last):
        return True
    return state.tables.get(Table.REPLY, _REPLY_KEY.pack(event.session, event.sequence)) is not None


def _forgotten(state: ShardState, event: Submitted, last: int) -> int:
    """Up to this sequence answers need not be kept."""
    acknowledged = state.acknowledged.get(event.session, 0)
    return max(event.acknowledged, acknowledged, last - UNACKNOWLEDGED_REPLIES_MAX)


def store_answer(state: ShardState, event: Submitted, errno: int, value: Any, holds: bool) -> None:
    session, sequence = event.session, event.sequence
    ino, record = (value.ino, value.encode()) if isinstance(value, Attributes) else (0, b"")
    row = _ANSWER.pack(errno | _HOLDS if holds else errno, ino) + record
    state.put(Table.REPLY, _REPLY_KEY.pack(session, sequence), row)
    last = max(sequence, last_applied(state, session))
    forgotten = _forgotten(state, event, last)
    acknowledged = max(event.acknowledged, state.acknowledged.get(session, 0))
    state.applied[session] = last
    state.acknowledged[session] = acknowledged
    _put_session(state, session)
    promised = state.promised.get(session, {})
    done: list[bytes] = []
    let_go: OpenFile | None = None
    for key, _ in state.tables.scan(Table.REPLY, _REPLY_KEY.pack(session, 0)):
        owner, number = _REPLY_KEY.unpack(key)
        if owner != session or number > forgotten or len(done) == FORGOTTEN_REPLIES_MAX:
            break
        if number in promised:
            if let_go is not None:
                break  # what goes with it may be much: one in a step
            let_go = _take_promise(state, session, number)
        done.append(key)
    for key in done:
        state.delete(Table.REPLY, key)
    if let_go is not None:
        opens.let_go(state, session, let_go, 1)
