"""Names: looking up, listing, making, removing, moving.

The rows of directory entries (`core.entries`) are in the order of cookies, 63-bit hashes of the names. So a listing runs in
that order, and a position in it is the cookie of the last name seen: it needs no state on either side, stays true whatever is
added or removed meanwhile, and fits the 64 bits that the kernel keeps for a position. Two names of one directory with one
cookie (once in 10^5 directories of 10^7 names) come in one piece unless a reader stops just between them.

Invariants: a directory's `size` is the number of its entries and its `nlink` is 2 + the number of its subdirectories;
an inode that is no directory has `nlink` entries, one of them in `parent` unless that is 0: not known. A directory has one
entry, which its `parent` and `name` mirror.
"""

from errno import (
    EEXIST,
    EINVAL,
    EISDIR,
    EMLINK,
    ENAMETOOLONG,
    ENOENT,
    ENOTDIR,
    ENOTEMPTY,
    EPERM,
)
from stat import S_IFBLK, S_IFCHR, S_IFDIR, S_IFIFO, S_IFLNK, S_IFMT, S_IFREG, S_IFSOCK

from loligo_mds.core import content, inodes, open_file, trash
from loligo_mds.core.entries import FIRST_COOKIE, decode_entry, first_key_behind
from loligo_mds.core.lease import is_withheld
from loligo_mds.core.limits import (
    LINK_MAX,
    LISTING_PAGE_MAX,
    SYMLINK_MAX_BYTES,
)
from loligo_mds.core.requests import (
    Create,
    CreateUnnamed,
    Link,
    Lookup,
    Publish,
    ReadDirectory,
    ReadLink,
    RemoveDirectory,
    RemoveTree,
    Rename,
    Unlink,
    Unsettle,
)
from loligo_mds.core.state import InvariantBroken, Refused, ShardState, ino_key
from loligo_mds.core.tables import Table
from loligo_wire.attributes import FLAG_INLINE, Attributes
from loligo_wire.ids import ROOT_INO

RENAME_NOREPLACE = 1
RENAME_EXCHANGE = 2

_DENTRY = int(Table.DENTRY)
_INLINE = int(Table.INLINE)
_KINDS = frozenset({S_IFREG, S_IFDIR, S_IFLNK, S_IFIFO, S_IFSOCK, S_IFCHR, S_IFBLK})

#: name, cookie, ino, file type bits, attributes if asked for
ListingEntry = tuple[bytes, int, int, int, Attributes | None]


# -- reading --------------------------------------------------------------------------------------------------------


def lookup(state: ShardState, request: Lookup, now_ns: int) -> Attributes | None:
    parent, name = request.parent, request.name
    ino = state.find_entry(parent, name)
    if ino:
        return _inode_of(state, ino)
    directory = _directory(state, parent)
    if name == b".":
        return inodes.as_told(directory)
    if name == b"..":
        return inodes.as_told(state.inode(directory.parent or ROOT_INO))
    return None


def read_directory(state: ShardState, request: ReadDirectory, now_ns: int) -> list[ListingEntry]:
    directory = request.ino
    prefix = ino_key(directory)
    count = max(1, min(request.count, LISTING_PAGE_MAX))
    page: list[ListingEntry] = []
    if request.after_cookie < FIRST_COOKIE:
        _directory(state, directory)
    for key, value in state.tables.scan(_DENTRY, first_key_behind(directory, request.after_cookie)):
        if not key.startswith(prefix):
            break
        cookie = int.from_bytes(key[8:16])
        if len(page) >= count and page[-1][1] != cookie:
            break
        page.append((key[16:], cookie, *decode_entry(value), None))
    if request.with_attributes:
        held_back = open_file.is_held_back
        return [
            (name, cookie, ino, kind, None if held_back(state, ino) else _told_of(state, ino))
            for name, cookie, ino, kind, _ in page
        ]
    return page


def _told_of(state: ShardState, ino: int) -> Attributes | None:
    found = _inode_of(state, ino)
    return None if state.delegations and is_withheld(state, found) else found


def read_link(state: ShardState, request: ReadLink, now_ns: int) -> bytes:
    if S_IFMT(state.inode(request.ino).mode) != S_IFLNK:
        raise Refused(EINVAL)
    target = state.tables.get(_INLINE, ino_key(request.ino))
    if target is None:
        raise InvariantBroken(f"symbolic link {request.ino} has no target")
    return target


# -- making ---------------------------------------------------------------------------------------------------------


def create(state: ShardState, request: Create, now_ns: int) -> Attributes:
    mode, target = request.mode, request.target
    kind = S_IFMT(mode)
    if kind not in _KINDS:
        raise Refused(EINVAL)
    if request.hold and kind == S_IFDIR:
        raise Refused(EISDIR)
    parent = live_directory(state, request.parent)
    name = request.name
    check_new_name(name)
    if state.find_entry(parent.ino, name):
        raise Refused(EEXIST)
    if kind == S_IFLNK:
        if not target or b"\0" in target:
            raise Refused(ENOENT if not target else EINVAL)
        if len(target) > SYMLINK_MAX_BYTES:
            raise Refused(ENAMETOOLONG)
    if kind == S_IFDIR and parent.nlink >= LINK_MAX:
        raise Refused(EMLINK)

    made = inodes.make_inode(state, parent, mode, request.uid, request.gid, request.umask, now_ns, request.new_ino)
    made.parent = parent.ino
    if kind == S_IFDIR:
        made.nlink = 2
        made.name = name
    elif kind == S_IFLNK:
        made.size = len(target)
        made.flags |= FLAG_INLINE
        state.put(_INLINE, ino_key(made.ino), target)
    elif kind in (S_IFCHR, S_IFBLK):
        made.rdev = request.rdev
    if request.became:
        inodes.become(state, made, request.became)
    state.put_inode(made)
    state.put_entry(parent.ino, name, made)
    touch_directory(state, parent, now_ns, entries=1, subdirectories=kind == S_IFDIR)
    if request.inline is not None:
        made = content.publish(state, Publish(made.ino, len(request.inline), None, request.inline), now_ns)
    if request.unsettled_end:
        content.unsettle(state, Unsettle(made.ino, request.unsettled_end), now_ns)
    return made


def create_unnamed(state: ShardState, request: CreateUnnamed, now_ns: int) -> Attributes:
    parent = live_directory(state, request.parent)
    if S_IFMT(request.mode) != S_IFREG:
        raise Refused(EINVAL)
    made = inodes.make_inode(state, parent, request.mode, request.uid, request.gid, request.umask, now_ns)
    made.nlink = 0
    state.put_inode(made)
    state.put(Table.ORPHAN, ino_key(made.ino), b"")
    return made


def link(state: ShardState, request: Link, now_ns: int) -> Attributes:
    changed = state.inode(request.ino).copy()
    parent = live_directory(state, request.new_parent)
    name = request.new_name
    if changed.is_directory:
        raise Refused(EPERM)
    check_new_name(name)
    if state.find_entry(parent.ino, name):
        raise Refused(EEXIST)
    if changed.nlink >= LINK_MAX:
        raise Refused(EMLINK)
    if changed.is_unnamed:
        state.delete(Table.ORPHAN, ino_key(changed.ino))
    changed.nlink += 1
    changed.parent = changed.parent or parent.ino
    changed.ctime_ns = now_ns
    state.put_inode(changed)
    state.put_entry(parent.ino, name, changed)
    touch_directory(state, parent, now_ns, entries=1)
    return changed


# -- removing -------------------------------------------------------------------------------------------------------


def unlink(state: ShardState, request: Unlink, now_ns: int) -> Attributes:
    parent = live_directory(state, request.parent)
    victim = _entry(state, parent.ino, request.name)
    if victim.is_directory:
        raise Refused(EISDIR)
    state.delete_entry(parent.ino, request.name)
    touch_directory(state, parent, now_ns, entries=-1)
    return _drop_link(state, request, victim, parent, request.name, now_ns)


def remove_directory(state: ShardState, request: RemoveDirectory, now_ns: int) -> Attributes:
    parent = live_directory(state, request.parent)
    if request.name == b".":
        raise Refused(EINVAL)
    if request.name == b"..":
        raise Refused(ENOTEMPTY)
    victim = _entry(state, parent.ino, request.name)
    if not victim.is_directory:
        raise Refused(ENOTDIR)
    _check_empty(victim)
    state.delete_entry(parent.ino, request.name)
    touch_directory(state, parent, now_ns, entries=-1, subdirectories=-1)
    return _drop_directory(state, request, victim, parent, request.name, now_ns)


def remove_tree(state: ShardState, request: RemoveTree, now_ns: int) -> Attributes:
    parent = live_directory(state, request.parent)
    if request.name in (b".", b".."):
        raise Refused(EINVAL)
    changed = _entry(state, parent.ino, request.name).copy()
    if not changed.is_directory:
        raise Refused(ENOTDIR)
    state.delete_entry(parent.ino, request.name)
    touch_directory(state, parent, now_ns, entries=-1, subdirectories=-1)
    changed.ctime_ns = now_ns
    trash.bury_tree(state, request, parent, request.name, changed)
    state.put_inode(changed)
    return inodes.as_told(changed)


_Removing = Unlink | RemoveDirectory | Rename


def _drop_link(
    state: ShardState, request: _Removing, victim: Attributes, directory: Attributes, name: bytes, now_ns: int
) -> Attributes:
    """`directory`: as it was with the name."""
    changed = victim.copy()
    changed.nlink -= 1
    if changed.parent == directory.ino:
        changed.parent = 0  # it may have another name there, but which directory has one is not known
    changed.ctime_ns = now_ns
    trash.bury(state, request, directory, name, changed)
    if changed.is_unnamed:
        inodes.unlinked(state, changed)
    else:
        state.put_inode(changed)
    return changed


def _drop_directory(
    state: ShardState, request: _Removing, victim: Attributes, directory: Attributes, name: bytes, now_ns: int
) -> Attributes:
    """`directory`: as it was with the name."""
    changed = victim.copy()
    changed.ctime_ns = now_ns
    if trash.bury(state, request, directory, name, changed):
        state.put_inode(changed)
        return inodes.as_told(changed)
    changed.nlink = 0
    inodes.remove_inode(state, changed)
    return changed


# -- moving ---------------------------------------------------------------------------------------------------------


def rename(state: ShardState, request: Rename, now_ns: int) -> Attributes | None:
    if request.flags & ~(RENAME_NOREPLACE | RENAME_EXCHANGE) or request.flags == (RENAME_NOREPLACE | RENAME_EXCHANGE):
        raise Refused(EINVAL)
    source = live_directory(state, request.parent)
    destination = live_directory(state, request.new_parent)
    moved = _entry(state, source.ino, request.name)
    check_new_name(request.new_name)
    within = source.ino == destination.ino
    there = state.find_entry(destination.ino, request.new_name)
    replaced = _inode_of(state, there) if there else None

    if request.flags & RENAME_EXCHANGE:
        if replaced is None:
            raise Refused(ENOENT)
        if not within:
            _check_no_loop(state, moved, destination)
            _check_no_loop(state, replaced, source)
            state.policies.clear()  # other directories are above them now
        if moved.ino != replaced.ino:
            _exchange(
                state,
                (source, request.name, moved),
                (destination, request.new_name, replaced),
                now_ns,
            )
        return None

    if replaced is not None:
        if request.flags & RENAME_NOREPLACE:
            raise Refused(EEXIST)
        if moved.ino == replaced.ino:
            return None  # two names of one file: POSIX has both stay
        if moved.is_directory and not replaced.is_directory:
            raise Refused(ENOTDIR)
        if replaced.is_directory:
            if not moved.is_directory:
                raise Refused(EISDIR)
            _check_empty(replaced)
    if not within:
        _check_no_loop(state, moved, destination)
        if moved.is_directory:
            state.policies.clear()  # other directories are above it now
    subdirectory = int(moved.is_directory)
    if subdirectory and not within and destination.nlink >= LINK_MAX:
        raise Refused(EMLINK)

    state.delete_entry(source.ino, request.name)
    state.put_entry(destination.ino, request.new_name, moved)
    settle_in(state, moved, destination, request.new_name, now_ns)
    gained = 0 if replaced is not None else 1
    gained_directories = subdirectory - int(replaced is not None and replaced.is_directory)
    if within:
        touch_directory(
            state,
            source,
            now_ns,
            entries=gained - 1,
            subdirectories=gained_directories - subdirectory,
        )
    else:
        touch_directory(state, source, now_ns, entries=-1, subdirectories=-subdirectory)
        touch_directory(state, destination, now_ns, entries=gained, subdirectories=gained_directories)
    if replaced is None:
        return None
    drop = _drop_directory if replaced.is_directory else _drop_link
    return drop(state, request, replaced, destination, request.new_name, now_ns)


_Place = tuple[Attributes, bytes, Attributes]  # directory, name, what is there


def _exchange(state: ShardState, one: _Place, other: _Place, now_ns: int) -> None:
    for (directory, name, leaving), (_, _, coming) in ((one, other), (other, one)):
        state.put_entry(directory.ino, name, coming)
        settle_in(state, coming, directory, name, now_ns)
        gained = int(coming.is_directory) - int(leaving.is_directory)
        touch_directory(state, state.inode(directory.ino), now_ns, subdirectories=gained)


def settle_in(state: ShardState, moved: Attributes, directory: Attributes, name: bytes, now_ns: int) -> Attributes:
    """It is in that directory now, under that name. -> how it is"""
    changed = moved.copy()
    changed.ctime_ns = now_ns
    changed.parent = directory.ino
    if changed.is_directory:
        changed.name = name
    state.put_inode(changed)
    return changed


def _check_no_loop(state: ShardState, moved: Attributes, destination: Attributes) -> None:
    """A directory cannot move below itself."""
    if not moved.is_directory:
        return
    ancestor = destination
    while ancestor.ino != ROOT_INO:
        if ancestor.ino == moved.ino:
            raise Refused(EINVAL)
        ancestor = _inode_of(state, ancestor.parent)
    if moved.ino == ROOT_INO:
        raise Refused(EINVAL)


# -- shared ---------------------------------------------------------------------------------------------------------


def _directory(state: ShardState, ino: int) -> Attributes:
    directory = state.inode(ino)
    if not directory.is_directory:
        raise Refused(ENOTDIR)
    return directory


def live_directory(state: ShardState, ino: int) -> Attributes:
    """One in which something is to change."""
    directory = _directory(state, ino)
    if state.keeps_trash and ino not in state.alive and not trash.is_alive(state, directory):
        raise Refused(ENOENT)
    return directory


def _inode_of(state: ShardState, ino: int) -> Attributes:
    """The inode that an entry names: it must be there."""
    attributes = state.find_inode(ino)
    if attributes is None:
        raise InvariantBroken(f"an entry names inode {ino}, which does not exist")
    return attributes


def _entry(state: ShardState, directory: int, name: bytes) -> Attributes:
    ino = state.find_entry(directory, name)
    if not ino:
        raise Refused(ENOENT)
    return _inode_of(state, ino)


def check_new_name(name: bytes) -> None:
    if name in (b".", b".."):
        raise Refused(EEXIST)
    if not name or b"/" in name or b"\0" in name:
        raise Refused(EINVAL)


def _check_empty(directory: Attributes) -> None:
    if directory.size:
        raise Refused(ENOTEMPTY)


def touch_directory(
    state: ShardState,
    directory: Attributes,
    now_ns: int,
    entries: int = 0,
    subdirectories: int = 0,
) -> None:
    changed = directory.copy()
    changed.size += entries
    changed.nlink += subdirectories
    changed.mtime_ns = now_ns
    changed.ctime_ns = now_ns
    state.put_inode(changed)
