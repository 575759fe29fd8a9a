"""Sessions: who asks, what they hold open, and applying each request exactly once.

A session that can outlive its connection numbers its changing requests 1, 2, 3 … The shard stores the last number
applied (table SESSION) and the answers not yet acknowledged (table REPLY) in the same write set as the effect. A number it has
applied already is answered from there, so a request sent again after a lost connection changes nothing twice.
A changing request answers with an inode or with nothing, so an answer is stored as (errno, ino, record of the inode).

Holds are in memory only. After a restart every session states its holds anew; those that do not survive
have let go, so inodes without a name that nobody can hold any more are removed. While a session that survived is
there, it may still state a hold, so nothing is removed for want of one before the last session has ended.

A session, or a crash, can leave any number of inodes and answers behind, and the record of one step has an end. So
`end_session` and `restart` do a step's worth and say whether that was all; done again, they go on where they were.
"""

from errno import EISDIR, ENOENT
from itertools import islice
from struct import Struct
from typing import Any

from loligo_mds.core import inodes
from loligo_mds.core.limits import FORGOTTEN_REPLIES_MAX, STEP_WRITES_MAX, UNACKNOWLEDGED_REPLIES_MAX
from loligo_mds.core.requests import Close, Open
from loligo_mds.core.state import InvariantBroken, Refused, ShardState, ino_key, ino_of_key
from loligo_mds.core.tables import Table
from loligo_wire.attributes import Attributes, decode_attributes

_SESSION = Struct(">Q")
_REPLY_KEY = Struct(">QQ")
_ANSWER = Struct("<IQ")  # errno, ino or 0; the inode's record follows
ANSWER_BYTES = _ANSWER.size


# -- holds ----------------------------------------------------------------------------------------------------------


def hold(state: ShardState, session: int, ino: int) -> None:
    state.holds[ino] = state.holds.get(ino, 0) + 1
    mine = state.session_holds.setdefault(session, {})
    mine[ino] = mine.get(ino, 0) + 1


def open_inode(state: ShardState, session: int, request: Open) -> Attributes:
    attributes = state.inode(request.ino)
    if attributes.is_directory:
        raise Refused(EISDIR)  # a removed directory is gone at once, whoever looks at it
    hold(state, session, request.ino)
    return attributes


def close_inode(state: ShardState, session: int, request: Close) -> None:
    mine = state.session_holds.get(session, {})
    if request.ino not in mine:
        raise Refused(ENOENT)
    _let_go(state, mine, request.ino)


def _let_go(state: ShardState, mine: dict[int, int], ino: int) -> None:
    for counts in (mine, state.holds):
        if counts[ino] > 1:
            counts[ino] -= 1
        else:
            del counts[ino]
    if ino not in state.holds:
        attributes = state.find_inode(ino)
        if attributes is None:
            raise InvariantBroken(f"inode {ino} was held open and is gone")
        if attributes.nlink == 0:
            _remove_orphan(state, attributes)


def _remove_orphan(state: ShardState, attributes: Attributes) -> None:
    state.delete(Table.ORPHAN, ino_key(attributes.ino))
    inodes.remove_inode(state, attributes)


# -- coming and going -----------------------------------------------------------------------------------------------


def open_session(state: ShardState, session: int) -> None:
    """A session that comes back holds what it held."""
    state.session_holds.setdefault(session, {})


def _is_full(state: ShardState) -> bool:
    """This step has done enough. Never true of one that has done nothing."""
    return len(state.writes) >= STEP_WRITES_MAX


def end_session(state: ShardState, session: int) -> bool:
    """False: do it again, something is left."""
    mine = state.session_holds.get(session, {})
    for ino in list(islice(mine, STEP_WRITES_MAX)):
        if _is_full(state):
            return False
        while ino in mine:
            _let_go(state, mine, ino)
    if mine:
        return False
    prefix = _SESSION.pack(session)
    for key in [key for key, _ in islice(state.scan_prefix(Table.REPLY, prefix), STEP_WRITES_MAX)]:
        if _is_full(state):
            return False
        state.delete(Table.REPLY, key)
    if next(state.scan_prefix(Table.REPLY, prefix), None) is not None:
        return False
    # The last of its rows: as long as it is there, a restart finds what is left of the session.
    if state.tables.get(Table.SESSION, prefix) is not None:
        state.delete(Table.SESSION, prefix)
    state.session_holds.pop(session, None)
    return bool(state.session_holds) or _remove_orphans(state)


def restart(state: ShardState, surviving: tuple[int, ...]) -> bool:
    """After recovery. While sessions survive, orphans wait for them: `end_session` of the last one removes the rest.

    False: do it again, something is left.
    """
    for session in surviving:
        open_session(state, session)
    for key, _ in list(state.tables.scan(Table.SESSION, b"")):
        session = ino_of_key(key)[0]
        if session not in surviving and (_is_full(state) or not end_session(state, session)):
            return False
    return bool(surviving) or _remove_orphans(state)


def _remove_orphans(state: ShardState) -> bool:
    """Whether none is left."""
    for key in [key for key, _ in islice(state.tables.scan(Table.ORPHAN, b""), STEP_WRITES_MAX)]:
        if _is_full(state):
            return False
        ino = ino_of_key(key)[0]
        attributes = state.find_inode(ino)
        if attributes is None:
            raise InvariantBroken(f"orphan {ino} has no inode")
        _remove_orphan(state, attributes)
    return next(state.tables.scan(Table.ORPHAN, b""), None) is None


# -- exactly once ---------------------------------------------------------------------------------------------------


def stored_answer(state: ShardState, session: int, sequence: int) -> tuple[int, Any] | None:
    """(errno, value) of a request that was applied before; None if `sequence` is new.

    A number that was acknowledged is never sent again by an honest client: it is answered with EINVAL by the shard.
    """
    row = state.tables.get(Table.REPLY, _REPLY_KEY.pack(session, sequence))
    if row is None:
        return None
    errno, ino = _ANSWER.unpack_from(row)
    return errno, decode_attributes(ino, row[_ANSWER.size :]) if ino else None


def last_applied(state: ShardState, session: int) -> int:
    row = state.tables.get(Table.SESSION, _SESSION.pack(session))
    return int(_SESSION.unpack(row)[0]) if row is not None else 0


def store_answer(state: ShardState, session: int, sequence: int, acknowledged: int, errno: int, value: Any) -> None:
    ino, record = (value.ino, value.encode()) if isinstance(value, Attributes) else (0, b"")
    state.put(Table.REPLY, _REPLY_KEY.pack(session, sequence), _ANSWER.pack(errno, ino) + record)
    state.put(Table.SESSION, _SESSION.pack(session), _SESSION.pack(sequence))
    forgotten = max(acknowledged, sequence - UNACKNOWLEDGED_REPLIES_MAX)
    done: list[bytes] = []
    for key, _ in state.tables.scan(Table.REPLY, _REPLY_KEY.pack(session, 0)):
        owner, number = _REPLY_KEY.unpack(key)
        if owner != session or number > forgotten or len(done) == FORGOTTEN_REPLIES_MAX:
            break
        done.append(key)
    for key in done:
        state.delete(Table.REPLY, key)
