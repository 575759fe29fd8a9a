"""Delegations: leases that one session has for itself, and what it may promise under them.

While a session has a lease for itself, nobody else is told, or changes, what it covers. So the session knows what the shard
would answer, and need not wait for that: it *promises* its callers that the change happens, with an inode number that was
reserved for it and the time of the promise, and asks for it later, in order, with others. A promise that is carried out does
exactly what was promised, since both sides use the same code (`core.namespace`), and nothing else came between.

A delegation comes with the answer to a change in a directory that nobody else holds a lease of, and with each directory
that is made; but not while room for rows is low, since what is promised must not be refused then. It ends when its session says
so (`LeaseReturned`), behind all that it has promised under it: because it was recalled, for a change; or asked to *share* it,
for a question. It ends with the session, but not with a connection, nor with a restart of the shard: so table DELEGATION has
it. Rows may be there too long: a session that comes back says what it has.

Should a promise be refused all the same, so are the session's changes behind it, until it has heard of that: they may have been
meant to come after it, as the removal of what was to be copied.

Invariants
1. A lease that is exclusive has one holder, and a row.
2. A request that was promised waits for nobody: all that it touches is its session's, so promises are kept in order.
3. Numbers reserved for a session are used by nobody else, in order, each once.
"""

from collections.abc import Callable, Collection
from errno import EINVAL
from itertools import islice
from struct import Struct
from typing import Any, Final

from loligo_mds.core import namespace
from loligo_mds.core.events import Submitted
from loligo_mds.core.lease import Lease, cover_of
from loligo_mds.core.limits import RESERVED_INODES_MAX
from loligo_mds.core.requests import (
    Create,
    CreateUnnamed,
    GetAttributes,
    GetXattr,
    Link,
    ListXattrs,
    Lookup,
    Open,
    ReadDirectory,
    RecordAccess,
    RemoveDirectory,
    Rename,
    Reserved,
    ReserveInodes,
    SetAttributes,
    Unlink,
)
from loligo_mds.core.state import Refused, ShardState, ino_key, ino_of_key
from loligo_mds.core.tables import Table

_SESSION: Final = Struct(">Q")
#: What sessions may promise.
PROMISABLE: Final = frozenset({Create, Unlink, RemoveDirectory, Rename, Link, SetAttributes, RecordAccess})
#: Rows of delegations that are over, which one step takes away with what it writes anyhow.
_ROWS_A_STEP: Final = 64


# -- beginning and ending ---------------------------------------------------------------------------------------------


def begin(state: ShardState, session: int, key: int, lease: Lease) -> None:
    lease.exclusive = True
    state.delegations[key] = session
    state.ended_delegations.pop(key, None)
    state.put(Table.DELEGATION, ino_key(key), _SESSION.pack(session))


def end(state: ShardState, key: int, lease: Lease) -> None:
    """The row goes with the next that is written: this may come when there is no room for anything."""
    if lease.exclusive:
        lease.exclusive = lease.sharing = False
        del state.delegations[key]
        state.ended_delegations[key] = None


def sweep(state: ShardState) -> None:
    """In a step that writes."""
    for key in list(islice(state.ended_delegations, _ROWS_A_STEP)):
        del state.ended_delegations[key]
        state.delete(Table.DELEGATION, ino_key(key))


def load(state: ShardState, surviving: Collection[int]) -> None:
    """After a restart."""
    for key, row in state.tables.scan(Table.DELEGATION, b""):
        ino, session = ino_of_key(key)[0], _SESSION.unpack(row)[0]
        if session not in surviving:
            state.ended_delegations[ino] = None
            continue
        lease = Lease()
        lease.exclusive = True
        state.delegations[ino] = session
        state.leases[ino] = {session: lease}
        state.session_leases.setdefault(session, {})[ino] = lease


# -- what a question is about -------------------------------------------------------------------------------------------


def _of_name(state: ShardState, request: Lookup) -> list[int]:
    found = namespace.lookup(state, request, 0)
    return [request.parent] if found is None else [request.parent, cover_of(found)]


def _of_inode(state: ShardState, request: Any) -> list[int]:
    found = state.find_inode(request.ino)
    return [] if found is None else [cover_of(found)]


def _of_listing(state: ShardState, request: ReadDirectory) -> list[int]:
    return [request.ino]


def _of_parent(state: ShardState, request: CreateUnnamed) -> list[int]:
    return [request.parent]


_ASKED_ABOUT: dict[type, Callable[[ShardState, Any], list[int]]] = {
    Lookup: _of_name,
    GetAttributes: _of_inode,
    Open: _of_inode,
    GetXattr: _of_inode,
    ListXattrs: _of_inode,
    ReadDirectory: _of_listing,
    CreateUnnamed: _of_parent,
}


def asked_about(state: ShardState, session: int, request: Any) -> list[int]:
    """Delegations of other sessions that have to be shared before the request can be answered."""
    about = _ASKED_ABOUT.get(type(request))
    if about is None:
        return []
    try:
        keys = about(state, request)
    except Refused:
        return []  # so will the request be
    return [key for key in keys if state.delegations.get(key, session) != session]


# -- promises that are not kept ---------------------------------------------------------------------------------------


def not_kept(state: ShardState, event: Submitted, errno: int) -> None:
    state.refused_promises.setdefault(event.session, (event.sequence, errno))


def refusal_of(state: ShardState, event: Submitted) -> int:
    """0, or the errno of a promise before this, of which the session has not heard yet that it was refused."""
    sequence, errno = state.refused_promises.get(event.session, (0, 0))
    if event.acknowledged >= sequence:
        state.refused_promises.pop(event.session, None)
        return 0
    return errno if type(event.request) in PROMISABLE else 0


# -- inode numbers ------------------------------------------------------------------------------------------------------


def reserve(state: ShardState, request: ReserveInodes) -> Reserved:
    count = max(1, min(request.count, RESERVED_INODES_MAX))
    first = state.allocate_inos(count)
    state.reserved[state.asking] = first, first + count
    return Reserved(first, count)


def take_reserved(state: ShardState, ino: int) -> None:
    """The asking session makes that inode. Refused if it may not."""
    following, end = state.reserved.get(state.asking, (0, 0))
    if not following <= ino < end:
        raise Refused(EINVAL)
    state.reserved[state.asking] = ino + 1, end
