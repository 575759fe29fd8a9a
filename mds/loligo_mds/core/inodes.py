"""Attributes: reading, changing, making and forgetting an inode."""

from errno import EFBIG, EINVAL, EISDIR
from stat import S_IFDIR, S_IFMT, S_IFREG, S_ISGID, S_ISUID, S_IXGRP

from loligo_mds.core import content, open_file, xattrs
from loligo_mds.core.limits import FILE_MAX_BYTES, INLINE_MAX_BYTES
from loligo_mds.core.requests import GetAttributes, GetUsage, RecordAccess, SetAttributes, Usage
from loligo_mds.core.state import Refused, ShardState, ino_key
from loligo_mds.core.tables import Table
from loligo_wire.attributes import (
    FLAG_ACCESS_ACL,
    FLAG_DEFAULT_ACL,
    FLAG_INLINE,
    FLAG_XATTR,
    Attributes,
    clamp_ns,
    decode_attributes,
)


def get_attributes(state: ShardState, request: GetAttributes, now_ns: int) -> Attributes:
    return as_told(state.inode(request.ino))


def as_told(attributes: Attributes) -> Attributes:
    """A directory that was removed keeps its link count in the trash; who still stands in it is told that it has none."""
    if not (attributes.trashed and attributes.is_directory):
        return attributes
    told = attributes.copy()
    told.nlink = 0
    return told


def set_attributes(state: ShardState, request: SetAttributes, now_ns: int) -> Attributes:
    before = state.inode(request.ino)
    size = request.size
    if size is not None:
        if before.is_directory:
            raise Refused(EISDIR)
        if not before.is_file or size < 0:
            raise Refused(EINVAL)
        if size > FILE_MAX_BYTES:
            raise Refused(EFBIG)
        if before.flags & FLAG_INLINE and size > INLINE_MAX_BYTES:
            raise Refused(EINVAL)  # whoever asks moves the content into objects first
        file = state.files.get(request.ino)
        if file is not None:
            open_file.check_may_reshape(file, state.asking)
    changed = with_changes(before, request, now_ns)
    if request.mode is not None and changed.flags & FLAG_ACCESS_ACL:
        xattrs.follow_chmod(state, changed)
    if size is not None:
        content.resize(state, changed, size)
    state.put_inode(changed)
    if request.mtime_ns is not None:
        open_file.mtime_was_set(state, changed.ino, now_ns)
    return as_told(changed)


def with_changes(before: Attributes, request: SetAttributes, now_ns: int) -> Attributes:
    """What `request` makes of an inode, but for its size, and for an ACL that has to follow its mode."""
    changed = before.copy()
    if request.mode is not None:
        changed.mode = S_IFMT(changed.mode) | request.mode & 0o7777
    if request.uid is not None:
        changed.uid = request.uid
    if request.gid is not None:
        changed.gid = request.gid
    if request.drop_privileges:
        drop_privileges(changed)
    if request.atime_ns is not None:
        changed.atime_ns = clamp_ns(request.atime_ns)
    if request.mtime_ns is not None:
        changed.mtime_ns = clamp_ns(request.mtime_ns)
    elif request.size is not None:
        changed.mtime_ns = now_ns
    changed.ctime_ns = now_ns
    return changed


def get_usage(state: ShardState, request: GetUsage, now_ns: int) -> Usage:
    return Usage(state.inode_count, state.size_bytes, state.trash_inodes, state.trash_bytes)


def record_access(state: ShardState, request: RecordAccess, now_ns: int) -> Attributes:
    changed = state.inode(request.ino).copy()
    changed.atime_ns = clamp_ns(request.atime_ns)
    state.put_inode(changed)
    return changed


def drop_privileges(attributes: Attributes) -> None:
    """What writing, truncating or giving away a file takes off its mode (POSIX chown, write)."""
    if attributes.is_directory:
        return
    if attributes.mode & S_ISUID:
        attributes.mode &= ~S_ISUID
    if attributes.mode & (S_ISGID | S_IXGRP) == S_ISGID | S_IXGRP:
        attributes.mode &= ~S_ISGID


def make_inode(
    state: ShardState,
    parent: Attributes,
    mode: int,
    uid: int,
    gid: int,
    umask: int,
    now_ns: int,
    ino: int = 0,
) -> Attributes:
    """A new inode as a child of `parent` gets it: group and set-group-id of a set-group-id directory, its default ACL
    or else the umask. Not stored yet: the caller finishes it and calls `state.put_inode`.
    `ino`: its number, 0 for the next one.
    """
    kind = S_IFMT(mode)
    if parent.mode & S_ISGID:
        gid = parent.gid
        if kind == S_IFDIR:
            mode |= S_ISGID
    made = Attributes(
        ino or state.allocate_ino(),
        mode,
        uid,
        gid,
        block_bytes=state.block_bytes if kind == S_IFREG else 0,
        atime_ns=now_ns,
        mtime_ns=now_ns,
        ctime_ns=now_ns,
        btime_ns=now_ns,
    )
    if parent.flags & FLAG_DEFAULT_ACL:
        xattrs.inherit_default_acl(state, parent, made)
    else:
        made.mode &= ~umask
    state.count(1, 0)
    return made


def become(state: ShardState, made: Attributes, record: bytes) -> None:
    """A new inode, not stored yet, is what `record` says: permissions, owner, group and times. ValueError if it is none."""
    now = decode_attributes(made.ino, record)
    made.mode = S_IFMT(made.mode) | now.mode & 0o7777
    made.uid, made.gid = now.uid, now.gid
    made.atime_ns, made.mtime_ns, made.ctime_ns = now.atime_ns, now.mtime_ns, now.ctime_ns
    if made.flags & FLAG_ACCESS_ACL:
        xattrs.follow_chmod(state, made)


def unlinked(state: ShardState, attributes: Attributes) -> None:
    """`attributes` (a copy) has lost its last name, also in the trash: gone, or kept for those who hold it open."""
    if open_file.is_held(state, attributes.ino):
        state.put(Table.ORPHAN, ino_key(attributes.ino), b"")
        state.put_inode(attributes)
    else:
        remove_inode(state, attributes)


def remove_inode(state: ShardState, attributes: Attributes) -> None:
    """Delete every row of the inode but the record of the objects it leaves behind."""
    key = ino_key(attributes.ino)
    if attributes.flags & FLAG_XATTR:
        xattrs.remove_all(state, attributes.ino)
    if attributes.flags & FLAG_INLINE:
        state.delete(Table.INLINE, key)
    content.abandon(state, attributes)
    state.delete_inode(attributes)
