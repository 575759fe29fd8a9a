"""What a shard knows about the bytes of a file, though it never sees them.

A file's bytes are in one of two places: in table INLINE (FLAG_INLINE: all of them, exactly `size`), or in objects that
the client writes by itself. Whoever writes objects can die half-way, so one rule covers every such case:

    For each inode, every object holds only bytes below max(size, end), where `end` is its row in UNSETTLED and
    size is 0 once the inode is gone; and a file without a row is *settled*: below `size` nothing is missing
    (unless it is sparse), above it there is nothing.

So the row is durable before the first object is written or removed: `Unsettle` before data is written past the size,
a shrinking `SetAttributes` by itself, and the removal of an inode by itself. When objects and size agree again,
the row goes (`Settle`, `Publish(settled=True)`). After a crash the rows that are left name exactly the files to look at.
"""

from errno import EINVAL, ENOENT
from struct import Struct

from loligo_mds.core import inodes
from loligo_mds.core.requests import ListUnsettled, Publish, ReadInline, Settle, Unsettle
from loligo_mds.core.state import Refused, ShardState, ino_key, ino_of_key
from loligo_mds.core.tables import Table
from loligo_wire.attributes import FLAG_INLINE, FLAG_SPARSE, Attributes

_END = Struct("<QI")  # end, block size

_INLINE = int(Table.INLINE)
_UNSETTLED = int(Table.UNSETTLED)


def read_inline(state: ShardState, request: ReadInline, now_ns: int) -> bytes:
    data = state.tables.get(_INLINE, ino_key(request.ino))
    if data is None:
        raise Refused(ENOENT)
    return data


def _mark(state: ShardState, attributes: Attributes, end: int) -> int:
    """The row says at least `end`; returns what it says now."""
    key = ino_key(attributes.ino)
    row = state.tables.get(_UNSETTLED, key)
    if row is not None:
        known = int(_END.unpack(row)[0])
        if known >= end:
            return known
    state.put(_UNSETTLED, key, _END.pack(end, attributes.block_bytes))
    return end


def unsettle(state: ShardState, request: Unsettle, now_ns: int) -> None:
    _mark(state, state.inode(request.ino), request.end)


def settle(state: ShardState, request: Settle, now_ns: int) -> None:
    for ino in request.inos:
        key = ino_key(ino)
        if state.tables.get(_UNSETTLED, key) is not None:
            state.delete(_UNSETTLED, key)


def publish(state: ShardState, request: Publish, now_ns: int) -> Attributes:
    changed = state.inode(request.ino).copy()
    if not changed.is_file:
        raise Refused(EINVAL)
    key = ino_key(changed.ino)
    if request.inline is not None:
        if len(request.inline) != request.size:
            raise Refused(EINVAL)
        state.put(_INLINE, key, request.inline)
        changed.flags |= FLAG_INLINE
    elif changed.flags & FLAG_INLINE:
        state.delete(_INLINE, key)
        changed.flags &= ~FLAG_INLINE
    if request.sparse:
        changed.flags |= FLAG_SPARSE
    if request.drop_privileges:
        inodes.drop_privileges(changed)
    state.count(0, request.size - changed.size)
    changed.size = request.size
    changed.mtime_ns = request.mtime_ns
    changed.ctime_ns = request.mtime_ns
    state.put_inode(changed)
    if request.settled and state.tables.get(_UNSETTLED, key) is not None:
        state.delete(_UNSETTLED, key)
    return changed


def resize(state: ShardState, changed: Attributes, size: int) -> None:
    """Set the size of `changed`, a copy that the caller stores.

    Inline content is cut or padded here. Objects are the asker's: on a shrink the row tells how far they reached.
    """
    if size == changed.size:
        return
    if changed.flags & FLAG_INLINE:
        key = ino_key(changed.ino)
        content = state.tables.get(_INLINE, key) or b""
        if size == 0:
            state.delete(_INLINE, key)
            changed.flags &= ~FLAG_INLINE
        else:
            state.put(_INLINE, key, content[:size].ljust(size, b"\0"))
    elif size < changed.size:
        _mark(state, changed, changed.size)
        if size == 0:
            changed.flags &= ~FLAG_SPARSE
    else:
        changed.flags |= FLAG_SPARSE
    state.count(0, size - changed.size)
    changed.size = size


def abandon(state: ShardState, attributes: Attributes) -> None:
    """The inode is going: keep a row for the objects it may leave behind, and ask for their removal."""
    if not attributes.is_file:
        return
    key = ino_key(attributes.ino)
    row = state.tables.get(_UNSETTLED, key)
    in_objects = attributes.size > 0 and not attributes.flags & FLAG_INLINE
    if row is not None or in_objects:
        end = _mark(state, attributes, attributes.size if in_objects else 0)
        state.remove_objects(attributes, end)


def list_unsettled(
    state: ShardState, request: ListUnsettled, now_ns: int
) -> list[tuple[int, int, int, Attributes | None]]:
    rows: list[tuple[int, int, int]] = []
    for key, value in state.tables.scan(_UNSETTLED, ino_key(request.after + 1)):
        if len(rows) == request.count:
            break
        rows.append((ino_of_key(key)[0], *_END.unpack(value)))
    return [(ino, end, block, state.find_inode(ino)) for ino, end, block in rows]
