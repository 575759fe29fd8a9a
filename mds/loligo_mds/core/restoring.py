"""Out of the trash again: what was removed gets a name, where it was or elsewhere.

A row is restored with one rename (`restore`). If it is a directory from which things were removed before, in the same batch,
those go back into it first (`fill_in`), deepest down first, while it is dead and nobody sees it; so the tree appears as a
whole. What is left in a directory that was moved to the trash as a whole can be moved out by itself, too. Each step is complete
in itself: whoever stops in between leaves everything either in the trash or in its place, and can go on. Between two steps
nothing of the batch is purged for RESTORE_WITHIN_NS, so what comes back is all that was there when it began.

A directory that was removed itself comes back under another generation: a kernel that remembers the old one takes it for
removed.
"""

from errno import EEXIST, EINVAL, EMLINK, ENOENT, ENOTDIR, ENOTEMPTY
from typing import Final

from loligo_mds.core import namespace, trash
from loligo_mds.core.limits import FILLED_IN_MAX, LINK_MAX
from loligo_mds.core.requests import FillIn, Restore
from loligo_mds.core.state import Refused, ShardState
from loligo_trash.batch import Batch
from loligo_wire.attributes import Attributes

#: A purge waits for so long, for the next step of a restore.
RESTORE_WITHIN_NS: Final = 5_000_000_000
#: More restores at once than that may find something purged meanwhile.
BEING_RESTORED_MAX: Final = 1000


def restore(state: ShardState, request: Restore, now_ns: int) -> Attributes:
    parent = namespace.live_directory(state, request.new_parent)
    namespace.check_new_name(request.new_name)
    batch = _batch(state, request.batch)
    place = request.batch, request.directory, request.name
    buried = trash.find_buried(state, *place)
    found = state.find_inode(buried.ino) if buried is not None else trash.find_left(state, *place)
    if found is None:
        raise Refused(ENOENT)
    if state.find_entry(parent.ino, request.new_name):
        raise Refused(EEXIST)
    if found.is_directory:
        if parent.nlink >= LINK_MAX:
            raise Refused(EMLINK)
        if next(trash.rows(state, batch.id, found.ino), None) is not None:
            raise Refused(ENOTEMPTY)
        state.policies.clear()  # other directories may be above it now
    if buried is not None:
        restored = trash.take_out(state, batch, buried)
        _put_back(state, restored, parent.ino, request.new_name, now_ns)
        trash.taken_out(state, batch, [buried.directory])
    else:
        restored = _move_out(state, request, batch, found, parent, now_ns)
    namespace.touch_directory(state, parent, now_ns, entries=1, subdirectories=found.is_directory)
    return restored


def _move_out(
    state: ShardState, request: Restore, batch: Batch, found: Attributes, parent: Attributes, now_ns: int
) -> Attributes:
    """From a directory that is dead, but was never emptied: moved to the trash as a whole, or below one that was."""
    trash.left(state, batch, request.directory, found)
    state.delete_entry(request.directory, request.name)
    source = state.inode(request.directory).copy()
    source.size -= 1
    source.nlink -= int(found.is_directory)
    state.put_inode(source)
    state.put_entry(parent.ino, request.new_name, found)
    return namespace.settle_in(state, found, parent, request.new_name, now_ns)


def fill_in(state: ShardState, request: FillIn, now_ns: int) -> Attributes:
    """-> the directory"""
    batch = _batch(state, request.batch)
    top = state.inode(request.ino)
    if not top.is_directory:
        raise Refused(ENOTDIR)
    if not top.trashed:
        raise Refused(EINVAL)
    filled: dict[int, Attributes] = {}
    emptied: dict[int, None] = {}
    for buried in trash.rows_below(state, batch.id, top.ino, FILLED_IN_MAX):
        if buried.ino in filled:  # all that goes into it is there
            state.put_inode(filled.pop(buried.ino))
        directory = filled.get(buried.directory)
        if directory is None:
            directory = filled[buried.directory] = state.inode(buried.directory).copy()
        name = _free_name(state, directory.ino, buried.name)
        restored = trash.take_out(state, batch, buried)
        _put_back(state, restored, directory.ino, name, now_ns)
        directory.size += 1
        directory.nlink += int(restored.is_directory)
        emptied[directory.ino] = None
    for directory in filled.values():
        state.put_inode(directory)
    if emptied:  # so who asks again and again holds no purge up for longer than there are rows
        if len(state.being_restored) >= BEING_RESTORED_MAX:
            state.being_restored.clear()
        state.being_restored[batch.id] = now_ns + RESTORE_WITHIN_NS
    trash.taken_out(state, batch, emptied)
    return state.inode(request.ino)


def _batch(state: ShardState, id: int) -> Batch:
    batch = trash.find_batch(state, id)
    if batch is None:
        raise Refused(ENOENT)
    return batch


def _free_name(state: ShardState, directory: int, name: bytes) -> bytes:
    """The name; or, should something else have it by now, one like it."""
    free, number = name, 1
    while state.find_entry(directory, free):
        number += 1
        free = name[:240] + b"~%d" % number
    return free


def _put_back(state: ShardState, restored: Attributes, directory: int, name: bytes, now_ns: int) -> None:
    if restored.is_directory:
        restored.parent = directory
        restored.name = name
        restored.generation += 1
    else:
        restored.nlink += 1
        restored.parent = restored.parent or directory
    restored.ctime_ns = now_ns
    state.put_inode(restored)
    state.put_entry(directory, name, restored)
