"""What a shard knows about the bytes of a file, though it never sees them.

A file's bytes are in one of two places: in table INLINE (FLAG_INLINE: all of them, exactly `size`), or in objects
that the client writes by itself. Whoever writes objects can die half-way, so one rule covers every such case:

    A file without a row in UNSETTLED is *settled*: below `size` nothing is missing (unless it is sparse), and no
    object holds a byte beyond. A row (start, end) admits doubt between the two: objects may hold bytes up to
    `end`, and bytes from `start` on may not have reached the disk. Once the inode is gone its size is 0.

So the row is durable before the first object is written or removed: `Unsettle` before data is written past the size, a
shrinking `SetAttributes` by itself, and the removal of an inode by itself. When objects and size agree again, durably,
`Settle` takes the row away. After a crash the rows that are left name exactly the files to look at, and where.
"""

from errno import EFBIG, EINVAL, ENOENT
from struct import Struct

from loligo_mds.core import open_file
from loligo_mds.core.limits import FILE_MAX_BYTES, FILLED_IN_MAX_BYTES, INLINE_MAX_BYTES, SETTLE_MAX
from loligo_mds.core.requests import ListUnsettled, Opened, Publish, ReadInline, Settle, Unsettle
from loligo_mds.core.state import Refused, ShardState, ino_key, ino_of_key
from loligo_mds.core.tables import Table
from loligo_wire.attributes import FLAG_INLINE, FLAG_SPARSE, Attributes, clamp_ns

_DOUBT = Struct("<QQI")  # start, end, block size
DOUBT_BYTES = _DOUBT.size

_INLINE = int(Table.INLINE)
_UNSETTLED = int(Table.UNSETTLED)


def read_inline(state: ShardState, request: ReadInline, now_ns: int) -> bytes:
    data = state.tables.get(_INLINE, ino_key(request.ino))
    if data is None:
        raise Refused(ENOENT)
    return data


def fill_in(state: ShardState, opened: Opened) -> None:
    """Short content that lives with the inode: who opens the file will hardly do without. Right behind the Open only."""
    attributes = opened.attributes
    if attributes.flags & FLAG_INLINE and attributes.size <= FILLED_IN_MAX_BYTES and not opened.contended:
        opened.inline = state.tables.get(_INLINE, ino_key(attributes.ino))


def _mark(state: ShardState, attributes: Attributes, start: int, end: int) -> int:
    """The row covers at least [start, end); returns the end that it has now."""
    key = ino_key(attributes.ino)
    row = state.tables.get(_UNSETTLED, key)
    if row is not None:
        known_start, known_end, _ = _DOUBT.unpack(row)
        if known_start <= start and known_end >= end:
            return int(known_end)
        start, end = min(start, known_start), max(end, known_end)
    state.put(_UNSETTLED, key, _DOUBT.pack(start, end, attributes.block_bytes))
    return end


def unsettle(state: ShardState, request: Unsettle, now_ns: int) -> None:
    attributes = state.inode(request.ino)
    if not attributes.is_file:
        raise Refused(EINVAL)
    if request.end > FILE_MAX_BYTES:
        raise Refused(EFBIG)
    start = 0 if attributes.flags & FLAG_INLINE else attributes.size
    _mark(state, attributes, start, request.end)


def settle(state: ShardState, request: Settle, now_ns: int) -> None:
    if len(request.inos) > SETTLE_MAX:
        raise Refused(EINVAL)
    # Objects of inodes that are gone are not for clients to remove, so they cannot know of them.
    is_client = state.tables.get(Table.CLIENT, ino_key(state.asking)) is not None
    for ino in request.inos:
        if is_client and state.find_inode(ino) is None:
            continue
        key = ino_key(ino)
        if open_file.may_settle(state, ino, state.asking) and state.tables.get(_UNSETTLED, key) is not None:
            state.delete(_UNSETTLED, key)


def publish(state: ShardState, request: Publish, now_ns: int) -> Attributes:
    changed = state.inode(request.ino).copy()
    if not changed.is_file or request.size < 0:
        raise Refused(EINVAL)
    size = request.size
    if size > FILE_MAX_BYTES:
        raise Refused(EFBIG)
    key = ino_key(changed.ino)
    file = state.files.get(changed.ino)
    if request.inline is not None:
        if len(request.inline) != size or size > INLINE_MAX_BYTES:
            raise Refused(EINVAL)
        if file is not None:
            open_file.check_may_reshape(file, state.asking)
        state.put(_INLINE, key, request.inline)
        changed.flags |= FLAG_INLINE
    else:
        size = max(size, changed.size)
        in_row = changed.flags & FLAG_INLINE
        if file is not None:
            check = open_file.check_may_reshape if in_row else open_file.check_may_publish
            check(file, state.asking)
        if in_row:
            state.delete(_INLINE, key)
            changed.flags &= ~FLAG_INLINE
    if request.sparse:
        changed.flags |= FLAG_SPARSE
    state.count(0, size - changed.size)
    changed.size = size
    if request.mtime_ns is not None and (file is None or request.mtime_ns > file.mtime_set_ns):
        changed.mtime_ns = clamp_ns(request.mtime_ns)
        # A chmod since the data was written has moved ctime further, and it must not go back.
        changed.ctime_ns = max(changed.ctime_ns, changed.mtime_ns)
    state.put_inode(changed)
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
        _mark(state, changed, size, changed.size)
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
        end = _mark(state, attributes, 0, attributes.size if in_objects else 0)
        state.remove_objects(attributes, end)


def list_unsettled(
    state: ShardState, request: ListUnsettled, now_ns: int
) -> list[tuple[int, int, int, int, Attributes | None]]:
    rows: list[tuple[int, int, int, int]] = []
    for key, value in state.tables.scan(_UNSETTLED, ino_key(request.after + 1)):
        if len(rows) == request.count:
            break
        rows.append((ino_of_key(key)[0], *_DOUBT.unpack(value)))
    return [(*row, state.find_inode(row[0])) for row in rows]
