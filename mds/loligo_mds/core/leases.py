"""Leases: what sessions may believe about names and attributes without asking, for as long as they like.

A lease has the number of an inode, and any number of sessions hold it. One on a directory covers the names in it, those that
are not there, its own attributes, and the attributes of its children that are no directories and have one name. Other inodes
have one of their own (`cover_of`). Leases are granted with answers (`answer`): who asks gets what covers the answer.

Invariant: before anything changes that a lease covers, everybody but the one who changes it has said that he believes it no
more. So a request that changes something first has the leases in its way *recalled*, and is *parked* until the last of
them has come back (`LeaseReturned`); then it begins anew. Questions never wait for that: meanwhile they are answered without
a lease. Two things are recalled: a whole lease, when names change, or one inode's attributes, which are then *excepted* from it
until they are granted again.

What else follows from the invariant:

- A file that somebody has open for writing may change at any time without asking (`core.news`), so nobody else is granted its
  attributes, and before a session opens it for writing they are recalled. If several have it open, nobody is granted them.
- atime is left out: it says little, and moves by reading.
- Nobody opens a file for writing, or takes a name from it, before those who may believe its attributes have answered. So they
  may have it open for reading without a word, and say so with that answer (`LeaseReturned.open`).
- An inode that gets a name, or loses one, may come to be covered by another lease. So whoever did that is told to forget its
  attributes (`Reply.forgets`).
- A session that has come back and said what it has open, or was not heard for so long that it has dropped its leases by itself,
  holds none. After a restart any session that survives may hold any, so nothing that a lease could cover changes before all of
  them have come back or have been silent for that long.
- Where many sessions get in each other's way again and again, no leases are granted for CALM_NS, and questions are answered one
  by one.

In memory only; `LEASES_MAX` for each session that takes any.
"""

from collections.abc import Callable, Sequence
from errno import ESTALE
from stat import S_IFDIR
from typing import Any, Final

from loligo_mds.core import delegations, namespace, open_file, trash
from loligo_mds.core.effects import LeaseRecall, Reply, Retry
from loligo_mds.core.events import Submitted
from loligo_mds.core.lease import CALM_NS, Busy, Lease, Parked, cover_of
from loligo_mds.core.limits import BUSY_LEASES_MAX, EXCEPTED_MAX, FILLED_IN_MAX, LEASES_MAX
from loligo_mds.core.open_file import SHARD_SESSION, OpenFile, others_write, owner_of
from loligo_mds.core.requests import (
    IN_DIRECTORIES,
    Create,
    FillIn,
    GetAttributes,
    LeaseReturned,
    Link,
    Lookup,
    Open,
    Publish,
    ReadDirectory,
    RemoveDirectory,
    RemoveTree,
    RemoveXattr,
    Rename,
    Restore,
    SetAttributes,
    SetXattr,
    Unlink,
)
from loligo_mds.core.state import Refused, ShardState
from loligo_wire.attributes import Attributes
from loligo_wire.ids import ROOT_INO

#: A lease that is recalled from so many sessions twice within CALM_NS is not granted for as long. With fewer, to ask again for
#: what was recalled costs less than to ask for everything.
CROWD: Final = 3
#: A session that was refused with ESTALE is not refused so again for that long.
BEGINS_ANEW_NS: Final = 60_000_000_000
#: (lease, 0): all that it covers; (lease, inode): that inode's attributes.
_Touched = list[tuple[int, int]]
#: Stands for any lease: what is parked there waits for sessions that may hold some from before a restart.
_ANY: Final = 0


# -- changes wait for those who hold leases -------------------------------------------------------------------------


def are_in_the_way(state: ShardState, event: Submitted) -> bool:
    """Whether the request has to wait; then it is parked, and will be given to the shard once more (`Retry`).

    Refused (ESTALE) if it must not: the kernel behind it keeps the directories that it names locked until it is answered, and
    if it was asked for a lease of one, it cannot forget the names there before. It begins anew, and by then has forgotten.
    """
    if event.session == SHARD_SESSION or not (state.leases or state.lease_grace):
        return False
    session, request = event.session, event.request
    touches = _TOUCHED.get(type(request))
    try:
        touched = touches(state, request) if touches is not None else []
    except Refused:
        return False  # so will the request be
    if event.promised_ns and all(state.delegations.get(key) == session for key, _ in touched):
        return False
    keys = {key for key, ino in touched if _recall(state, session, key, ino)}
    if type(request) is RemoveTree:
        keys.update(_have_tree_left(state, request))
    if type(request) is Restore and _is_dead(state, request.directory) and recall_all(state, request.directory):
        keys.add(request.directory)  # also from who asks: his kernel moves another name than that
    if state.lease_grace and any(state.delegations.get(key) != session for key, _ in touched):
        keys.add(_ANY)
    if touched and (keys or type(request) is Rename) and not event.promised_ns:
        _refuse_knots(state, event, touched)
    for key in delegations.asked_about(state, session, request) if state.delegations else ():
        _have_shared(state, key)
        keys.add(key)
    if not keys:
        if type(request) in _MOVING:
            _assume_open(state, session, touched)
        return False
    event.waited = True
    parked = Parked(event, keys, frozenset(touched))
    for key in keys:
        state.parked.setdefault(key, {})[event.session, event.id] = parked
    return True


def _refuse_knots(state: ShardState, event: Submitted, touched: _Touched) -> None:
    """A rename is one always: the kernel moves what it believes of the name to where it has just been asked to forget."""
    mine = state.session_leases.get(event.session, {})
    for key, ino in touched:
        lease = mine.get(key) if not ino else None
        if lease is None or not lease.recalled:
            continue
        _note_busy(state, key).until_ns = state.now_ns + CALM_NS
        before_ns = state.knots.get(event.session)
        if before_ns is None or state.now_ns - before_ns > BEGINS_ANEW_NS:
            state.knots[event.session] = state.now_ns
            raise Refused(ESTALE)
        # Its caller may have begun anew already, and would be told. So nobody waits for what that kernel forgets right after.
        if not lease.waived:
            lease.waived = True
            delegations.end(state, key, lease)  # it was told before, and promises nothing there while it waits for this
            _go_on(state, key)


def _have_tree_left(state: ShardState, request: RemoveTree) -> list[int]:
    """What is in the directory stays as it is. But where somebody has a lease for himself, who asks among them, his promises
    there would be refused from now on. -> the last of those leases: by the time it comes most have come.
    """
    top = state.find_entry(request.parent, request.name)
    alone = _delegations_within(state, top)
    for key in alone:
        _have_shared(state, key)
    return alone[-1:]


def _delegations_within(state: ShardState, top: int) -> list[int]:
    """Of the directory and of all that lies below it."""
    is_below = {top: True, ROOT_INO: False}
    for key in state.delegations:
        way = []
        found = state.find_inode(key)
        while found is not None and found.ino not in is_below:
            way.append(found.ino)
            found = state.find_inode(found.parent) if found.parent else None
        below = found is not None and is_below[found.ino]
        is_below.update(dict.fromkeys(way, below))
    return [key for key in state.delegations if is_below.get(key)]


def _assume_open(state: ShardState, session: int, touched: _Touched) -> None:
    """What a name is taken from, or which another lease may cover from now on, others may be reading under leases that nobody
    waits for. They say so when those come back.
    """
    for key, ino in touched:
        found = state.find_inode(ino or key)
        if found is None or found.is_directory:
            continue
        for other, lease in state.leases.get(key, {}).items():
            if lease.waived and other != session and found.ino not in lease.assumed:
                lease.assumed.add(found.ino)
                open_file.hold(state, other, found.ino, writes=False)


def _have_shared(state: ShardState, key: int) -> None:
    """Others ask about what a session has for itself."""
    owner = state.delegations[key]
    lease = state.leases[key][owner]
    if not (lease.sharing or lease.recalled):
        lease.sharing = True
        state.notices.append(LeaseRecall(owner, key, share=True))
    _busy(state, key).shared_ns = state.now_ns


def _recall(state: ShardState, session: int, key: int, ino: int) -> bool:
    """Have other sessions forget all that the lease covers, or the attributes of `ino`. Whether that is still to come."""
    holders = state.leases.get(key)
    if not holders:
        return False
    waits = False
    recalled = 0
    for other, lease in holders.items():
        if other == session or (ino and ino in lease.excepted and not lease.recalled):
            continue
        if lease.waived:
            continue
        waits = True
        if lease.recalled or (ino and ino in lease.asked):
            continue
        if ino and not lease.exclusive and len(lease.excepted) + len(lease.asked) < EXCEPTED_MAX:
            lease.asked.add(ino)
            state.notices.append(LeaseRecall(other, key, ino))
        else:
            lease.recalled = True
            state.notices.append(LeaseRecall(other, key))
            if lease.exclusive:
                _busy(state, key).shared_ns = state.now_ns
        recalled += 1
    if recalled >= CROWD:
        _note_busy(state, key)
    return waits


def recall_all(state: ShardState, key: int) -> bool:
    """Likewise, whoever has it, and all that it covers."""
    return _recall(state, SHARD_SESSION, key, 0)


def _busy(state: ShardState, key: int) -> Busy:
    busy = state.busy_leases.pop(key, None) or Busy()
    if len(state.busy_leases) >= BUSY_LEASES_MAX:
        del state.busy_leases[next(iter(state.busy_leases))]
    state.busy_leases[key] = busy
    return busy


def _note_busy(state: ShardState, key: int) -> Busy:
    busy = _busy(state, key)
    if state.now_ns - busy.recalled_ns < CALM_NS:
        busy.until_ns = state.now_ns + CALM_NS
    busy.recalled_ns = state.now_ns
    return busy


def returned(state: ShardState, request: LeaseReturned, now_ns: int) -> None:
    """Whether or not it was recalled."""
    key, ino = request.ino, request.attributes_of
    lease = find(state, state.asking, key)
    if lease is None or (request.again and not lease.stated):
        return
    if request.kept:
        if lease.exclusive:
            delegations.end(state, key, lease)
            _go_on(state, key)
    elif not ino:
        _drop(state, state.asking, key)
    elif ino in lease.asked:
        lease.asked.discard(ino)
        lease.excepted.add(ino)
        _go_on(state, key, ino)


def find(state: ShardState, session: int, key: int) -> Lease | None:
    """What the session has of it."""
    return state.session_leases.get(session, {}).get(key)


def owes(state: ShardState, session: int, key: int, attributes_of: int) -> bool:
    """Whether the session was asked for the lease, to share it, or for the attributes of one inode, and has not answered."""
    lease = find(state, session, key)
    if lease is None:
        return False
    return attributes_of in lease.asked if attributes_of else lease.recalled or lease.sharing


def _drop(state: ShardState, session: int, key: int) -> None:
    holders = state.leases[key]
    delegations.end(state, key, holders.pop(session))
    del state.session_leases[session][key]
    if not holders:
        del state.leases[key]
    _go_on(state, key)


def _go_on(state: ShardState, key: int, ino: int = 0) -> None:
    """Those who may have waited for this answer, about one inode if `ino`, try again. Nobody waits for his own session's."""
    for parked in list(state.parked.get(key, {}).values()):
        if not ino or (key, ino) in parked.touched:
            _unpark(state, parked)
            state.retries.append(Retry(parked.event))


def _unpark(state: ShardState, parked: Parked) -> None:
    for key in parked.keys:
        there = state.parked[key]
        del there[parked.event.session, parked.event.id]
        if not there:
            del state.parked[key]


# -- what a change touches --------------------------------------------------------------------------------------------


def _attributes_of(state: ShardState, found: Attributes | None, *, moves: bool = False) -> _Touched:
    """`moves`: it gets a name, or loses one. Then a lease of its own goes as a whole, since it may be of no use afterwards:
    when its directory's covers it, nobody has one.
    """
    if found is None:
        return []
    file = state.files.get(found.ino)
    if file is not None and not file.contended and owner_of(file) == state.asking:
        return []  # nobody else was granted them
    key = cover_of(found)
    return [(key, 0 if moves and key == found.ino else found.ino)]


def _of_inode(state: ShardState, request: Any) -> _Touched:
    return _attributes_of(state, state.find_inode(request.ino))


def _of_open(state: ShardState, request: Open) -> _Touched:
    return _of_inode(state, request) if request.writes else []


def _of_create(state: ShardState, request: Create) -> _Touched:
    return [(request.parent, 0)]


def _of_removal(state: ShardState, request: Unlink | RemoveDirectory | RemoveTree) -> _Touched:
    return [(request.parent, 0), *_of_victim(state, request.parent, request.name)]


def _of_victim(state: ShardState, parent: int, name: bytes) -> _Touched:
    victim = namespace.lookup(state, Lookup(parent, name), state.now_ns)
    if victim is not None and victim.is_directory:
        return [(victim.ino, 0)]
    return _attributes_of(state, victim, moves=True)


def _of_link(state: ShardState, request: Link) -> _Touched:
    return [(request.new_parent, 0), *_attributes_of(state, state.find_inode(request.ino), moves=True)]


def _of_rename(state: ShardState, request: Rename) -> _Touched:
    moved = namespace.lookup(state, Lookup(request.parent, request.name), state.now_ns)
    return [
        (request.parent, 0),
        (request.new_parent, 0),
        *_attributes_of(state, moved, moves=moved is not None and not moved.is_directory),
        *_of_victim(state, request.new_parent, request.new_name),
    ]


def _of_restoration(state: ShardState, request: Restore) -> _Touched:
    place = request.batch, request.directory, request.name
    buried = trash.find_buried(state, *place)
    touched: _Touched = [(request.new_parent, 0)]
    if buried is not None:
        return [*touched, *_of_named(state, buried)]
    left = trash.find_left(state, *place)
    return touched if left is None else [*touched, *_attributes_of(state, left, moves=not left.is_directory)]


def _of_filling_in(state: ShardState, request: FillIn) -> _Touched:
    rows = trash.rows_below(state, request.batch, request.ino, FILLED_IN_MAX)
    return [(request.ino, 0), *(touched for row in rows for touched in _of_named(state, row))]


def _of_named(state: ShardState, buried: trash.Buried) -> _Touched:
    """It gets a name. It may have others, or be open; of a directory leases may still be on their way back."""
    if buried.kind == S_IFDIR:
        return [(buried.ino, 0)]
    return _attributes_of(state, state.find_inode(buried.ino), moves=True)


_TOUCHED: dict[type, Callable[[ShardState, Any], _Touched]] = {
    SetAttributes: _of_inode,
    SetXattr: _of_inode,
    RemoveXattr: _of_inode,
    Publish: _of_inode,
    Open: _of_open,
    Create: _of_create,
    Unlink: _of_removal,
    RemoveDirectory: _of_removal,
    RemoveTree: _of_removal,
    FillIn: _of_filling_in,
    Restore: _of_restoration,
    Rename: _of_rename,
    Link: _of_link,
}

#: After these an inode may be covered by another lease than before.
_MOVING = frozenset({Unlink, Rename, Link, Restore, FillIn})


def inodes_moved(state: ShardState, request: Any) -> list[int]:
    """Inodes that the request gives names, or takes some from. Before it is carried out."""
    kind = type(request)
    if kind not in _MOVING or not state.session_leases.get(state.asking):
        return []
    if kind is Link:
        return [request.ino]
    if kind is FillIn:
        return [row.ino for row in trash.rows_below(state, request.batch, request.ino, FILLED_IN_MAX)]
    if kind is Restore:
        place = request.batch, request.directory, request.name
        restored: Any = trash.find_buried(state, *place) or trash.find_left(state, *place)
        return [] if restored is None else [restored.ino]
    try:
        inodes = [namespace.lookup(state, Lookup(request.parent, request.name), state.now_ns)]
        if kind is Rename:
            inodes.append(namespace.lookup(state, Lookup(request.new_parent, request.new_name), state.now_ns))
    except Refused:
        return []
    return [found.ino for found in inodes if found is not None]


# -- granting ---------------------------------------------------------------------------------------------------------

#: Requests that are answered with an inode of which whoever asks has been told everything there is to know.
_ABOUT_INODES = frozenset({Lookup, GetAttributes, SetAttributes, SetXattr, RemoveXattr, Create, Link, Restore})


def answer(state: ShardState, session: int, id: int, request: Any, value: Any, moved: Sequence[int] = ()) -> Reply:
    """The reply to a request that has just been carried out, with the leases that cover it. `moved`: see `inodes_moved`."""
    kind = type(request)
    if kind is RemoveTree:  # nothing changes there until it is purged, so nobody waits; those below: see `surveying`
        recall_all(state, value.ino)
    if session not in state.lease_takers:
        return Reply(session, id, value)
    granting = _Granting(state, session)
    directories = []
    if kind in IN_DIRECTORIES:
        for ino in {getattr(request, field) for field in IN_DIRECTORIES[kind]}:
            directory = state.find_inode(ino)
            if directory is None:
                continue
            if kind is Rename:  # in any case, because the kernel moves what it believes of the name
                granting.hold(ino, whatever=True)
            if granting.covers(directory):
                directories.append(directory)
                if kind is not ReadDirectory:
                    granting.delegate(ino)
        if kind is ReadDirectory:
            value = [entry if entry[4] is None or granting.covers(entry[4]) else (*entry[:4], None) for entry in value]
        elif type(value) is Attributes and not value.nlink and kind is not RemoveTree:
            _gone(state, value.ino)
    elif kind is Lookup:
        granting.hold(request.parent)
    unsure = kind in _ABOUT_INODES and value is not None and not granting.covers(value)
    if kind is Create and value.is_directory:
        granting.delegate(value.ino)
    return Reply(session, id, value, 0, directories, granting.granted, unsure, moved, delegations=granting.delegated)


def kept_promise(state: ShardState, session: int, value: Any) -> None:
    """The session has been granted what it has promised its caller, and knows what `answer` would say."""
    if type(value) is not Attributes or len(state.session_leases.get(session, ())) >= 2 * LEASES_MAX:
        return
    if not value.nlink:
        _gone(state, value.ino)
    elif cover_of(value) == value.ino:
        granting = _Granting(state, session)
        granting.hold(value.ino, whatever=True)
        granting.delegate(value.ino, promised=True)


class _Granting:
    """To one session, for one answer."""

    def __init__(self, state: ShardState, session: int) -> None:
        self._state = state
        self._session = session
        self._mine: dict[int, Lease] = state.session_leases.setdefault(session, {})
        #: Those that it did not have, and those that it has for itself now.
        self.granted: list[int] = []
        self.delegated: list[int] = []

    def hold(self, key: int, *, whatever: bool = False) -> Lease | None:
        """The lease, if the session may have it, or `whatever` is in the way: who waits for it will have it recalled then."""
        lease = self._mine.get(key)
        if lease is not None:
            return None if lease.recalled else lease
        state = self._state
        if not whatever and state.delegations.get(key, self._session) != self._session:
            return None
        busy = state.busy_leases.get(key)
        is_busy = busy is not None and busy.until_ns > state.now_ns
        if not whatever and (is_busy or key in state.parked or len(self._mine) >= LEASES_MAX or _is_dead(state, key)):
            return None
        lease = self._mine[key] = Lease()
        state.leases.setdefault(key, {})[self._session] = lease
        self.granted.append(key)
        return lease

    def delegate(self, key: int, *, promised: bool = False) -> None:
        """If nobody else wants it, the session has the lease for itself from now on. `promised`: it knows that already, since
        nobody can have asked about it. Leases that others may have are left from when the file had more names, and they
        believe nothing under them.
        """
        state = self._state
        lease = self._mine.get(key)
        if lease is None or lease.exclusive:
            return
        if not promised and (
            state.room_is_low or lease.recalled or lease.asked or lease.excepted or key in state.parked
        ):
            return
        busy = state.busy_leases.get(key)
        if promised:
            lease.excepted.clear()
            lease.asked.clear()
            for other, left in state.leases[key].items():
                if other != self._session and not left.recalled:
                    left.recalled, left.exclusive = True, False
                    state.notices.append(LeaseRecall(other, key))
        elif len(state.leases[key]) > 1 or (busy is not None and state.now_ns - busy.shared_ns < CALM_NS):
            return
        delegations.begin(state, self._session, key, lease)
        self.delegated.append(key)

    def covers(self, attributes: Attributes) -> bool:
        """Whether the session may believe these attributes from now on."""
        key, ino = cover_of(attributes), attributes.ino
        lease = self.hold(key)
        if lease is None or ino in lease.asked or (attributes.is_file and not self._is_settled(ino)):
            return False
        if ino in lease.excepted:
            if key in self._state.parked:
                return False
            lease.excepted.discard(ino)
        return True

    def _is_settled(self, ino: int) -> bool:
        """No other session has the file open for writing, or is about to."""
        state = self._state
        file: OpenFile | None = state.files.get(ino)
        if file is None:
            return ino >= state.reclaim_below
        if file.contended or file.waiting or file.claimants or file.repair or others_write(file, self._session):
            return False
        return ino >= state.reclaim_below or self._session in file.openers


def _is_dead(state: ShardState, key: int) -> bool:
    """Whether it is a directory that is in the trash, and what is in it changes without a word to anybody."""
    if key in state.alive:
        return False
    found = state.find_inode(key)
    return found is not None and found.is_directory and not trash.is_alive(state, found)


def is_forgotten(state: ShardState, key: int) -> bool:
    """For the shard's own process: whether nobody believes anything under the lease. Who does is asked to forget it."""
    return not state.lease_grace and not recall_all(state, key)


def lose(state: ShardState, ino: int) -> None:
    """The inode is going, and nobody can stop that: who believes something of it is told, and not waited for."""
    for session, lease in list(state.leases.get(ino, {}).items()):
        if not lease.recalled:
            state.notices.append(LeaseRecall(session, ino))
        _drop(state, session, ino)


def _gone(state: ShardState, ino: int) -> None:
    """The inode has no name any more, and there is nothing to believe of it. Whoever asked for that knows it; others, who may
    have a lease from when it had more names, have to hear of it if it can get another one.
    """
    for session, lease in list(state.leases.get(ino, {}).items()):
        if session != state.asking and not lease.recalled and state.find_inode(ino) is not None:
            state.notices.append(LeaseRecall(session, ino))
        _drop(state, session, ino)


# -- coming and going -------------------------------------------------------------------------------------------------


def drop_all(state: ShardState, session: int, *, ended: bool = False) -> None:
    """The session believes nothing any more: it has come back, was not heard for too long, or has ended. If it has not ended,
    it may have promised something under leases that it has for itself.
    """
    for key, lease in list(state.session_leases.get(session, {}).items()):
        if lease.exclusive and not ended:
            lease.waived = False
            lease.excepted.clear()
        else:
            _drop(state, session, key)
    if not state.session_leases.get(session):
        state.session_leases.pop(session, None)
    if state.lease_grace.pop(session, 0) is None and not state.lease_grace:
        _go_on(state, _ANY)


def restate(state: ShardState, session: int, kept: Sequence[int], *, first: bool, complete: bool) -> None:
    """What the session has for itself still, of what it had. It is asked once more for what it was asked for."""
    mine = state.session_leases.get(session, {})
    if first:
        state.undelegated[session] = {key: None for key, lease in mine.items() if lease.exclusive}
        for lease in mine.values():
            lease.stated = False
    unstated = state.undelegated.get(session)
    if unstated is None:
        return  # all was said
    for key in kept:
        if key in unstated:
            del unstated[key]
            mine[key].stated = True
        elif key not in mine or not mine[key].stated:  # it has been taken away meanwhile
            state.notices.append(LeaseRecall(session, key))
    if not complete:
        return
    del state.undelegated[session]
    drop_all(state, session)  # only now: what was read under them has been stated
    for key in unstated:
        if key in mine:
            _drop(state, session, key)
    for key, lease in mine.items():
        if lease.recalled or lease.sharing:
            state.notices.append(LeaseRecall(session, key, share=not lease.recalled))


def room_changed(state: ShardState, is_low: bool) -> None:
    """Nobody may promise what could be refused."""
    state.room_is_low = is_low
    for key in list(state.delegations) if is_low else ():
        _have_shared(state, key)


def stop_waiting(state: ShardState, session: int) -> None:
    """Nobody wants to hear the answers that the session waits for."""
    mine = {id: parked for there in state.parked.values() for (owner, id), parked in there.items() if owner == session}
    for parked in mine.values():
        _unpark(state, parked)
