"""Locks of files, over all sessions: flock(2) and fcntl(2), which do not see each other.

A session may lock what it has open, and has no locks on a file any more once it has closed it. In memory only: sessions state
their locks anew when they come back, as they do what they have open (`core.sessions`), and until all have after a restart
nothing is granted.

- Who has to wait stands in a queue, and is answered in the step that lets him have the lock; nobody asks twice.
- A wait for a record lock (fcntl) that would never end is refused with EDEADLK: owners wait for owners, over all files.
- A wait ends early by `CancelLock`, with EINTR. If it was over by then, its answer came before.
- Who asks for another mode of flock by waiting gives up what he has first, as on Linux: two who both want more would wait for
  ever. Who does not want to wait keeps what he has if he is refused.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from errno import EAGAIN, EDEADLK, EINTR, ENOENT, ENOLCK

from loligo_mds.core.effects import Reply
from loligo_mds.core.limits import LOCK_WAITS_IN_FILE_MAX, LOCKS_IN_FILE_MAX, LOCKS_MAX
from loligo_mds.core.open_file import WAITS, Waits
from loligo_mds.core.requests import CancelLock, GetLock, SetLock
from loligo_mds.core.state import Refused, ShardState
from loligo_wire.locks import Lock, in_the_way, with_lock, without

_Owner = tuple[int, int]  # session, owner


class LockWaiting:
    """A request that waits: for others, or, while these are not `known`, until all have said after a restart what they have."""

    __slots__ = ("id", "known", "lock", "request", "session")

    def __init__(self, session: int, id: int, request: SetLock | GetLock, known: bool) -> None:
        self.known = known
        self.session = session
        self.id = id
        self.request = request
        self.lock = _wanted(session, request)


class FileLocks:
    """Of one file: record locks, locks of the whole, and who waits for either, oldest first."""

    __slots__ = ("held", "waiting")

    def __init__(self) -> None:
        #: By `whole`.
        self.held: dict[bool, list[Lock]] = {False: [], True: []}
        self.waiting: list[LockWaiting] = []


class SessionLocks:
    """Of one session: in which files it has how many, and in all."""

    __slots__ = ("files", "total")

    def __init__(self) -> None:
        self.files: dict[int, int] = {}
        self.total = 0


@dataclass(slots=True)
class LockWait:
    """For people: who waits, process `pid` of a session, in which file, and which sessions have what is in the way. None has
    while all have not said yet, after a restart, what they have.
    """

    session: int
    ino: int
    pid: int
    whole: bool
    held_by: list[int]


def _wanted(session: int, request: SetLock | GetLock) -> Lock:
    return Lock(session, request.owner, request.start, request.end, request.exclusive, request.pid)


# -- requests -------------------------------------------------------------------------------------------------------


def set_lock(state: ShardState, request: SetLock, now_ns: int) -> Waits | None:
    session, ino = state.asking, request.ino
    if ino not in state.session_files.get(session, ()):
        if request.unlock:
            return None  # it went with the last close
        raise Refused(ENOENT)
    if request.unlock:
        _check_split(state, session, request)
        _give_up(state, session, request)
        return None
    file = state.locks.get(ino)
    wanted = _wanted(session, request)
    if ino >= state.reclaim_below:
        others = in_the_way(file.held[request.whole], wanted) if file is not None else []
        if not others:
            _check_room(state, session, ino)
            _take(state, request, wanted)
            _advance(state, ino)
            return None
        if not request.waits:
            raise Refused(EAGAIN)
        if not request.whole and _would_wait_for_ever(state, wanted, others):
            raise Refused(EDEADLK)
    _check_room(state, session, ino)
    if request.whole and request.waits:
        _give_up(state, session, request)
    return _wait(state, request)


def get_lock(state: ShardState, request: GetLock, now_ns: int) -> Lock | Waits | None:
    """A record lock that is in the way, if there is one."""
    if request.ino < state.reclaim_below:
        return _wait(state, request)
    file = state.locks.get(request.ino)
    others = in_the_way(file.held[False], _wanted(state.asking, request)) if file is not None else []
    return others[0] if others else None


def cancel_lock(state: ShardState, request: CancelLock, now_ns: int) -> None:
    file = state.locks.get(request.ino)
    if file is None:
        return
    for waiting in file.waiting:
        asked = waiting.request
        if waiting.session == state.asking and type(asked) is SetLock and asked.wait == request.wait:
            state.notices.append(Reply(waiting.session, waiting.id, None, EINTR))
            _now_waits(state, request.ino, file, [other for other in file.waiting if other is not waiting])
            return


# -- taking and giving up -------------------------------------------------------------------------------------------


def _check_room(state: ShardState, session: int, ino: int) -> None:
    mine = state.session_locks.get(session)
    file = state.locks.get(ino)
    if mine is not None and mine.total >= LOCKS_MAX:
        raise Refused(ENOLCK)
    if file is not None and (
        len(file.waiting) >= LOCK_WAITS_IN_FILE_MAX
        or max(len(file.held[False]), len(file.held[True])) >= LOCKS_IN_FILE_MAX
    ):
        raise Refused(ENOLCK)


def _check_split(state: ShardState, session: int, request: SetLock) -> None:
    """Giving up the middle of a lock leaves two."""
    file = state.locks.get(request.ino)
    if file is not None and len(file.held[request.whole]) >= LOCKS_IN_FILE_MAX:
        mine = [lock for lock in file.held[request.whole] if lock.is_of(session, request.owner)]
        if len(without(mine, session, request.owner, request.start, request.end)) > len(mine):
            raise Refused(ENOLCK)


def _take(state: ShardState, request: SetLock, wanted: Lock) -> None:
    file = _file(state, request.ino)
    file.held[request.whole] = with_lock(file.held[request.whole], wanted)
    _count(state, wanted.session, request.ino, file)


def _give_up(state: ShardState, session: int, request: SetLock) -> None:
    mine = state.session_locks.get(session)
    if mine is not None and request.ino in mine.files:
        file = state.locks[request.ino]
        held = file.held[request.whole]
        file.held[request.whole] = without(held, session, request.owner, request.start, request.end)
        _count(state, session, request.ino, file)
        _advance(state, request.ino)


def _file(state: ShardState, ino: int) -> FileLocks:
    file = state.locks.get(ino)
    if file is None:
        file = state.locks[ino] = FileLocks()
    return file


def _count(state: ShardState, session: int, ino: int, file: FileLocks) -> None:
    """What the session has in the file has changed."""
    count = sum(lock.session == session for held in file.held.values() for lock in held)
    mine = state.session_locks.setdefault(session, SessionLocks())
    mine.total += count - mine.files.pop(ino, 0)
    if count:
        mine.files[ino] = count
    elif not mine.files:
        del state.session_locks[session]


def _now_waits(state: ShardState, ino: int, file: FileLocks, waiting: list[LockWaiting]) -> None:
    file.waiting = waiting
    if waiting:
        state.waited_for_locks[ino] = file
    else:
        state.waited_for_locks.pop(ino, None)
    _tidy(state, ino, file)


def _tidy(state: ShardState, ino: int, file: FileLocks) -> None:
    """Only what is locked, or waited for, is known."""
    if not (file.waiting or file.held[False] or file.held[True]):
        state.locks.pop(ino, None)


# -- waiting --------------------------------------------------------------------------------------------------------


def _wait(state: ShardState, request: SetLock | GetLock) -> Waits:
    file = _file(state, request.ino)
    waiting = LockWaiting(state.asking, state.asking_id, request, request.ino >= state.reclaim_below)
    _now_waits(state, request.ino, file, [*file.waiting, waiting])
    return WAITS


def _advance(state: ShardState, ino: int) -> None:
    """Whoever waits for nobody any more gets what he asked for."""
    file = state.locks.get(ino)
    if file is None:
        return
    if ino >= state.reclaim_below:
        for waiting in list(file.waiting):
            answer = _answer(state, file, waiting)
            if answer is not None:
                file.waiting.remove(waiting)
                state.notices.append(answer)
    _now_waits(state, ino, file, file.waiting)


def _answer(state: ShardState, file: FileLocks, waiting: LockWaiting) -> Reply | None:
    """None: it has to go on waiting."""
    request, wanted = waiting.request, waiting.lock
    if type(request) is GetLock:
        others = in_the_way(file.held[False], wanted)
        return Reply(waiting.session, waiting.id, others[0] if others else None)
    assert type(request) is SetLock
    others = in_the_way(file.held[request.whole], wanted)
    if not others:
        _take(state, request, wanted)
        return Reply(waiting.session, waiting.id, None)
    if waiting.known:
        return None  # who waits on makes no cycle that was not there
    waiting.known = True
    if not request.waits:
        return Reply(waiting.session, waiting.id, None, EAGAIN)
    if not request.whole and _would_wait_for_ever(state, wanted, others):
        return Reply(waiting.session, waiting.id, None, EDEADLK)
    return None


def _would_wait_for_ever(state: ShardState, wanted: Lock, others: list[Lock]) -> bool:
    """Whether one of those whom the owner of `wanted` would wait for waits, in the end, for him."""
    asker: _Owner = (wanted.session, wanted.owner)
    waits_for: dict[_Owner, list[tuple[FileLocks, Lock]]] = {}
    for file in state.waited_for_locks.values():
        for waiting in file.waiting:
            if type(waiting.request) is SetLock and not waiting.request.whole:
                waits_for.setdefault((waiting.session, waiting.lock.owner), []).append((file, waiting.lock))
    seen: set[_Owner] = set()
    ahead = [(lock.session, lock.owner) for lock in others]
    while ahead:
        owner = ahead.pop()
        if owner == asker:
            return True
        if owner not in seen:
            seen.add(owner)
            for file, lock in waits_for.get(owner, ()):
                ahead += [(one.session, one.owner) for one in in_the_way(file.held[False], lock)]
    return False


# -- for people ------------------------------------------------------------------------------------------------------


def held(state: ShardState, session: int) -> int:
    """How many locks the session has."""
    mine = state.session_locks.get(session)
    return mine.total if mine is not None else 0


def waits(state: ShardState) -> Iterator[LockWait]:
    """Of all sessions; in each file who has waited for longest comes first."""
    for ino, file in state.waited_for_locks.items():
        for waiting in file.waiting:
            request = waiting.request
            whole = type(request) is SetLock and request.whole
            held_by = dict.fromkeys(lock.session for lock in in_the_way(file.held[whole], waiting.lock))
            yield LockWait(waiting.session, ino, request.pid, whole, list(held_by))


# -- coming and going of sessions -----------------------------------------------------------------------------------


def closed(state: ShardState, session: int, ino: int) -> None:
    """The session has the file open no more, or has not said so when it came back."""
    file = state.locks.get(ino)
    if file is None:
        return
    _now_waits(state, ino, file, [waiting for waiting in file.waiting if waiting.session != session])
    _drop(state, session, ino, file)
    _advance(state, ino)


def stop_waiting(state: ShardState, session: int) -> None:
    """Nobody wants to hear the answers that the session waits for."""
    for ino, file in list(state.waited_for_locks.items()):
        _now_waits(state, ino, file, [waiting for waiting in file.waiting if waiting.session != session])


def _drop(state: ShardState, session: int, ino: int, file: FileLocks) -> None:
    for whole, held in file.held.items():
        file.held[whole] = [lock for lock in held if lock.session != session]
    if session in state.session_locks:
        _count(state, session, ino, file)


def begin_restating(state: ShardState, session: int) -> None:
    """What it had stays taken until it has said all that it has."""
    state.stated_locks[session] = []


def restate(state: ShardState, ino: int, whole: bool, lock: Lock) -> None:
    """One of a session's locks, as the session says. Of a file that it does not hold, or beyond LOCKS_MAX, it is nothing."""
    stated = state.stated_locks.setdefault(lock.session, [])
    if len(stated) < LOCKS_MAX and ino in state.session_files.get(lock.session, ()):
        stated.append((ino, whole, lock))


def end_restating(state: ShardState, session: int) -> None:
    """It has what it said instead of what was known, as far as it can; others get what is left. Done again, it is nothing."""
    stated = state.stated_locks.pop(session, None)
    if stated is None:
        return
    mine = state.session_locks.get(session)
    by_file: dict[int, list[tuple[bool, Lock]]] = {ino: [] for ino in (mine.files if mine is not None else ())}
    for ino, whole, lock in stated:
        by_file.setdefault(ino, []).append((whole, lock))
    for ino, locks in by_file.items():
        file = _file(state, ino)
        _drop(state, session, ino, file)
        for whole, lock in locks:
            if len(file.held[whole]) < LOCKS_IN_FILE_MAX and not in_the_way(file.held[whole], lock):
                file.held[whole] = with_lock(file.held[whole], lock)
        _count(state, session, ino, file)
        _advance(state, ino)


def after_reclaim(state: ShardState) -> None:
    """Everybody has said what he has."""
    for ino in list(state.waited_for_locks):
        _advance(state, ino)
