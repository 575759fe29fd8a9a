"""Files that are open, and how several sessions share one. In memory only; what is durable of it is in table ORPHAN.

An *opener* is a session that has the file open, any number of times. One opener, or any number that only read, need
no rules. Where two or more have a file open and one of them writes, it is *contended*, until nobody has it open:

- A contended file is read and written in its objects, and grows by Publish. Everything else about its bytes (moving
  them between the inode and objects, cutting, punching) needs a *claim*, which one session has at a time.
- Before a file becomes contended, and before a claim is granted, all other openers are *recalled*. An opener that
  answers `Yielded` is *quiet*: what it has written is stored and published, and it leaves the file alone. When nothing
  is under way any more, quiet openers are told to resume, and that the file is contended.
- Requests that have to wait for that stand in a queue of the file, and are answered in a later step, in order.
- If an opener that writes ends without closing, while objects and size may disagree, or with a claim, the shard takes a
  claim for itself, has the file repaired, and gives it back at `Repaired`.

What a session must do for its part:

- It answers a `Recall` of a file that it has open with one `Yielded`, and then no other until it has been told to resume,
  whatever Recalls come: the shard sends them again when a connection was lost.
- It yields, releases and closes when what it asked before about the file's bytes, and what it has promised its callers
  (`core.news`), has been answered, and does not close a file while it waits for another Open of it.
- When it states its holds anew: they say all that it has said by Close, Release and Yielded, answered or not. It does not send
  those again: behind the holds they would close what was opened since, release another claim, yield what was resumed.

While sessions may still come back after a restart, nothing is granted that depends on what they have open.
"""

from errno import EINVAL, EISDIR, ENOENT
from typing import Any

from loligo_mds.core import inodes, leases, locks, news
from loligo_mds.core.effects import Recall, RepairObjects, Reply, Resume
from loligo_mds.core.events import Hold
from loligo_mds.core.limits import OPEN_FILES_MAX
from loligo_mds.core.open_file import SHARD_SESSION, WAITS, Opener, OpenFile, Waiting, Waits, hold
from loligo_mds.core.requests import Claim, Close, LeaseReturned, Open, Opened, Release, Yielded
from loligo_mds.core.state import InvariantBroken, Refused, ShardState, ino_key
from loligo_mds.core.tables import Table
from loligo_wire.attributes import Attributes, clamp_ns

# -- opening and closing --------------------------------------------------------------------------------------------


def open_file(state: ShardState, request: Open, now_ns: int) -> Opened | Waits:
    ino, session = request.ino, state.asking
    attributes = state.inode(ino)
    if attributes.is_directory:
        raise Refused(EISDIR)  # a removed directory is gone at once, whoever looks at it
    file = state.files.get(ino)
    if file is None:
        if ino >= state.reclaim_below:
            hold(state, session, ino, request.writes)
            return Opened(attributes)
        file = state.files[ino] = OpenFile(ino)
    elif not file.waiting and not file.claimants and not file.repair and _is_alone(state, file, session):
        hold(state, session, ino, request.writes)
        return Opened(attributes, file.contended)
    return _wait(state, file, request)


def _is_alone(state: ShardState, file: OpenFile, session: int) -> bool:
    """Nobody else has the file open, not even a session that has not come back yet."""
    mine = file.openers.get(session)
    if mine is None or len(file.openers) != 1:
        return False
    return file.ino >= state.reclaim_below or (mine.writes and not mine.quiet and not file.contended)


def close_file(state: ShardState, request: Close, now_ns: int) -> None:
    session = state.asking
    mine = state.session_files.get(session)
    file = mine.get(request.ino) if mine is not None else None
    if file is None:
        raise Refused(ENOENT)
    let_go(state, session, file, request.count)


def let_go(state: ShardState, session: int, file: OpenFile, count: int) -> None:
    """`count` opens are over, or as many as there are."""
    opener = file.openers[session]
    if opener.count > count:
        opener.count -= count
        return
    del file.openers[session]
    del state.session_files[session][file.ino]
    locks.closed(state, session, file.ino)
    news.owner_changed(state, file)
    if file.claimants or file.waiting or file.repair or file.openers:
        file.claimants = tuple(other for other in file.claimants if other != session)
        advance(state, file)
    else:
        _forget(state, file)


def leave(state: ShardState, session: int, file: OpenFile) -> None:
    """The session has ended with the file open: nobody knows how far it came with what it was writing.

    So the file is not what it was, whatever others remember of it: ctime says so.
    """
    writes = file.openers[session].writes
    in_doubt = writes and state.tables.get(Table.UNSETTLED, ino_key(file.ino)) is not None
    if writes:
        changed = _inode(state, file).copy()
        changed.ctime_ns = clamp_ns(changed.ctime_ns + 1)
        state.put_inode(changed)
    file.repair = file.repair or in_doubt or session in file.claimants
    let_go(state, session, file, file.openers[session].count)


def _forget(state: ShardState, file: OpenFile) -> None:
    """Nobody has it open, nothing waits. Without a name it goes, unless somebody may yet say that he has it open."""
    ino = file.ino
    del state.files[ino]
    attributes = state.find_inode(ino)
    if attributes is None:
        raise InvariantBroken(f"inode {ino} was held open and is gone")
    if attributes.is_unnamed and ino >= state.reclaim_below:
        remove_orphan(state, attributes)


def remove_orphan(state: ShardState, attributes: Attributes) -> None:
    state.delete(Table.ORPHAN, ino_key(attributes.ino))
    inodes.remove_inode(state, attributes)


def lease_returned(state: ShardState, request: LeaseReturned, now_ns: int) -> None:
    """What the session has been reading under it is open, before anybody goes on who waits for the lease."""
    session = state.asking
    lease = leases.find(state, session, request.ino)
    assumed = lease.assumed if lease is not None and not (request.attributes_of or request.kept) else set()
    for ino in request.open:
        if ino in assumed:
            assumed.discard(ino)
            ask_again(state, session, state.files[ino])
        else:
            _opened_under_lease(state, ino)
    for ino in assumed:
        file = state.session_files.get(session, {}).get(ino)
        if file is not None:
            let_go(state, session, file, 1)
    leases.returned(state, request, now_ns)


def _opened_under_lease(state: ShardState, ino: int) -> None:
    """The file was not to change before this. If the session was not waited for (`Lease.waived`), others may write by now."""
    session = state.asking
    found = state.find_inode(ino)
    if found is None or found.is_directory or len(state.session_files.get(session, ())) >= OPEN_FILES_MAX:
        return
    hold(state, session, ino, writes=False)
    if ino < state.reclaim_below:
        return
    file = state.files[ino]
    _contend(state, file)
    opener = file.openers[session]
    if file.contended and opener.count == 1 and not opener.asked:
        opener.asked = True
        state.notices.append(Recall(session, ino))


# -- taking turns ---------------------------------------------------------------------------------------------------


def claim(state: ShardState, request: Claim, now_ns: int) -> Waits:
    file = state.files.get(request.ino)
    if file is None or state.asking not in file.openers:
        raise Refused(ENOENT)
    return _wait(state, file, request)


def release(state: ShardState, request: Release, now_ns: int) -> None:
    """Nothing happens if there is no claim."""
    session = state.asking
    file = state.files.get(request.ino)
    if file is not None and session in file.claimants and session != SHARD_SESSION:
        file.claimants = tuple(other for other in file.claimants if other != session)
        if not file.claimants:
            # Not only when the queue is empty: those who are recalled again and again must get on too.
            _resume(state, file)
            advance(state, file)


def yielded(state: ShardState, request: Yielded, now_ns: int) -> None:
    file = state.files.get(request.ino)
    opener = file.openers.get(state.asking) if file is not None else None
    if file is None or opener is None or opener.quiet:
        return
    opener.asked = False
    opener.quiet = True
    news.owner_changed(state, file)
    if state.asking in file.claimants:
        _resume_one(
            state, file, state.asking, opener
        )  # it was recalled before a restart, and then got the file for itself
    else:
        advance(state, file)


def repaired(state: ShardState, ino: int) -> None:
    file = state.files.get(ino)
    if file is not None and SHARD_SESSION in file.claimants:
        file.claimants = ()
        advance(state, file)


def _wait(state: ShardState, file: OpenFile, request: Open | Claim) -> Waits:
    file.waiting = (*file.waiting, Waiting(state.asking, state.asking_id, request))
    state.waited_for[file.ino] = file
    advance(state, file)
    return WAITS


def stop_waiting(state: ShardState, session: int) -> None:
    """Nobody wants to hear the answers that the session waits for."""
    news.stop_waiting(state, session)
    locks.stop_waiting(state, session)
    leases.stop_waiting(state, session)
    for file in list(state.waited_for.values()):
        left = tuple(waiting for waiting in file.waiting if waiting.session != session)
        if len(left) != len(file.waiting):
            file.waiting = left
            if not left:
                del state.waited_for[file.ino]
            advance(state, file)


def advance(state: ShardState, file: OpenFile) -> None:
    """Whatever can go on now does."""
    while not file.claimants:
        if not file.openers:
            file.contended = False
        if file.repair:
            if not _take_for_repair(state, file):
                return
            continue
        if not file.waiting:
            if file.openers:
                _resume(state, file)
            else:
                _forget(state, file)
            return
        first = file.waiting[0]
        grant = _grant_open if type(first.request) is Open else _grant_claim
        answer = grant(state, file, first)
        if answer is WAITS:
            return
        file.waiting = file.waiting[1:]
        if not file.waiting:
            del state.waited_for[file.ino]
        errno = EINVAL if answer is None else 0
        state.notices.append(Reply(first.session, first.id, answer, errno))


def _take_for_repair(state: ShardState, file: OpenFile) -> bool:
    """False: not yet."""
    if file.ino < state.reclaim_below:
        return False
    if not file.openers and not file.waiting and _inode(state, file).is_unnamed:
        file.repair = False  # it goes with its objects
        return True
    if not _all_quiet(state, file, ()):
        return False
    file.repair = False
    file.claimants = (SHARD_SESSION,)
    state.effects.append(RepairObjects(file.ino))
    return True


def _grant_open(state: ShardState, file: OpenFile, first: Waiting) -> Any:
    session, request = first.session, first.request
    assert type(request) is Open
    if file.ino < state.reclaim_below and not _is_alone(state, file, session):
        return WAITS
    if not file.contended and _is_contest(file, session, request.writes):
        if not _all_quiet(state, file, (session,)):
            return WAITS
        file.contended = True
    hold(state, session, file.ino, request.writes)
    return Opened(_inode(state, file), file.contended)


def _is_contest(file: OpenFile, session: int, writes: bool) -> bool:
    """Whether several would have the file open, and one of them writes."""
    openers = file.openers
    if not openers or (len(openers) == 1 and session in openers):
        return False
    return writes or any(opener.writes for opener in openers.values())


def _grant_claim(state: ShardState, file: OpenFile, first: Waiting) -> Any:
    session = first.session
    mine = file.openers.get(session)
    if mine is None:
        return None  # it was closed meanwhile
    if file.ino < state.reclaim_below and not _is_alone(state, file, session):
        return WAITS
    if not _all_quiet(state, file, (session,)) or mine.asked:
        return WAITS
    file.contended = file.contended or len(file.openers) > 1
    if mine.quiet:
        _resume_one(state, file, session, mine)
    file.claimants = (session,)
    return _inode(state, file)


def _all_quiet(state: ShardState, file: OpenFile, but: tuple[int, ...]) -> bool:
    """Whether all openers but these are quiet; those that are not are recalled."""
    quiet = True
    for session, opener in file.openers.items():
        if not opener.quiet and session not in but:
            quiet = False
            if not opener.asked:
                opener.asked = True
                state.notices.append(Recall(session, file.ino))
    return quiet


def _resume(state: ShardState, file: OpenFile) -> None:
    if file.ino < state.reclaim_below:
        return  # somebody may yet say that he has claimed it
    for session, opener in file.openers.items():
        if opener.quiet:
            _resume_one(state, file, session, opener)


def _resume_one(state: ShardState, file: OpenFile, session: int, opener: Opener) -> None:
    opener.quiet = False
    file.contended = True  # that is what the session takes it for from now on
    state.notices.append(Resume(session, file.ino, _inode(state, file)))


def _inode(state: ShardState, file: OpenFile) -> Attributes:
    attributes = state.find_inode(file.ino)
    if attributes is None:
        raise InvariantBroken(f"inode {file.ino} was held open and is gone")
    return attributes


# -- coming back ----------------------------------------------------------------------------------------------------


def restate(state: ShardState, session: int, said: Hold) -> None:
    """What the session has open. Nothing happens if there is no such file.

    After a restart the shard believes what it says of claims and recalls; later the shard knows those better, and tells the
    session again what may have been lost on the way.
    """
    attributes = state.find_inode(said.ino)
    if attributes is None or attributes.is_directory or said.count < 1:
        return
    file = state.files.get(said.ino)
    opener = file.openers.get(session) if file is not None else None
    known = opener is not None
    if file is None or opener is None:
        hold(state, session, said.ino, said.writes)
        file = state.files[said.ino]
        opener = file.openers[session]
    opener.count = said.count
    opener.promised = 0
    opener.writes = said.writes
    file.contended = file.contended or said.contended
    if session in state.reclaiming and said.ino < state.reclaim_below:
        opener.quiet = said.quiet
        others = tuple(other for other in file.claimants if other != session)
        file.claimants = (*others, session) if said.claimed and SHARD_SESSION not in others else others
        if said.quiet and session in file.claimants:
            _resume_one(state, file, session, opener)
        return  # the rest can wait until all have spoken
    if said.quiet and said.claimed and session in file.claimants:
        _resume_one(state, file, session, opener)
    elif said.quiet:
        # If it was to resume, that was lost, and a Recall behind it too; `advance` says it again.
        opener.quiet = True
        opener.asked = False
    elif opener.asked:
        state.notices.append(Recall(session, file.ino))
    if session in file.claimants and not said.claimed:
        file.claimants = tuple(other for other in file.claimants if other != session)
    if not known:
        _contend(state, file)
    advance(state, file)


def ask_again(state: ShardState, session: int, file: OpenFile) -> None:
    """The session has heard of a file only now: a Recall may have come too early for it."""
    if file.openers[session].asked:
        state.notices.append(Recall(session, file.ino))


def _contend(state: ShardState, file: OpenFile) -> None:
    """If several have the file open and one writes, all of them know, or will be told."""
    if not file.contended and len(file.openers) > 1 and any(opener.writes for opener in file.openers.values()):
        file.contended = True
        _all_quiet(state, file, file.claimants)


def after_reclaim(state: ShardState, file: OpenFile) -> None:
    """Everybody has said what he has open, or is gone: the file is as they say."""
    if file.claimants:
        _all_quiet(state, file, file.claimants)
    elif state.tables.get(Table.UNSETTLED, ino_key(file.ino)) is not None:
        # Nobody writes, so a writer has gone; or some are quiet for a claimant that may have gone in the middle of it.
        openers = file.openers.values()
        file.repair = file.repair or any(one.quiet for one in openers) or not any(one.writes for one in openers)
    _contend(state, file)
    advance(state, file)


def repair_unopened(state: ShardState, ino: int) -> None:
    """Nobody has it open, and somebody who had is gone without a word."""
    file = state.files[ino] = OpenFile(ino)
    file.repair = True
    advance(state, file)
