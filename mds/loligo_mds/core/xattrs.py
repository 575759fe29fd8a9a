"""Extended attributes, and the two of them that mean something to the file system: POSIX ACLs.

Who may read or set which name (trusted.* for administrators and so on) is the kernel's to check; that the permission
bits and the access ACL tell the same story is ours.
"""

from errno import E2BIG, EACCES, EEXIST, EINVAL, ENODATA, ENOSPC, EOPNOTSUPP, ERANGE
from stat import S_IFDIR, S_IFLNK, S_IFMT, S_ISGID

from loligo_mds.core.limits import (
    XATTR_LIST_MAX_BYTES,
    XATTR_NAME_MAX_BYTES,
    XATTR_VALUE_MAX_BYTES,
)
from loligo_mds.core.requests import GetXattr, ListXattrs, RemoveXattr, SetXattr
from loligo_mds.core.state import Refused, ShardState, ino_key
from loligo_mds.core.tables import Table
from loligo_trash.policy import LIMIT_NAME, POLICY_NAMES, RETENTION_NAME, PolicyInvalid, check_value
from loligo_wire import acl
from loligo_wire.attributes import (
    FLAG_ACCESS_ACL,
    FLAG_DEFAULT_ACL,
    FLAG_TRASH_POLICY,
    FLAG_XATTR,
    Attributes,
)
from loligo_wire.ids import ROOT_INO

XATTR_CREATE = 1
XATTR_REPLACE = 2

_NAMESPACES = (b"user.", b"trusted.", b"security.")
_ACL_FLAGS = {acl.ACCESS_NAME: FLAG_ACCESS_ACL, acl.DEFAULT_NAME: FLAG_DEFAULT_ACL}
#: Names that an inode's flags tell of.
_FLAGS = {**_ACL_FLAGS, **dict.fromkeys(POLICY_NAMES, FLAG_TRASH_POLICY)}

_XATTR = int(Table.XATTR)


def _check_name(name: bytes) -> None:
    if name in _FLAGS:
        return
    if len(name) > XATTR_NAME_MAX_BYTES:
        raise Refused(ERANGE)
    if not name.startswith(_NAMESPACES):
        raise Refused(EOPNOTSUPP)
    if name in _NAMESPACES or b"\0" in name:
        raise Refused(EINVAL)


def get_xattr(state: ShardState, request: GetXattr, now_ns: int) -> bytes:
    _check_name(request.name)
    if state.inode(request.ino).flags & FLAG_XATTR:
        value = state.tables.get(_XATTR, ino_key(request.ino) + request.name)
        if value is not None:
            return value
    raise Refused(ENODATA)


def list_xattrs(state: ShardState, request: ListXattrs, now_ns: int) -> list[bytes]:
    if not state.inode(request.ino).flags & FLAG_XATTR:
        return []
    return [key[8:] for key, _ in state.scan_prefix(_XATTR, ino_key(request.ino))]


def set_xattr(state: ShardState, request: SetXattr, now_ns: int) -> Attributes:
    name, value = request.name, request.value
    _check_name(name)
    if len(value) > XATTR_VALUE_MAX_BYTES:
        raise Refused(E2BIG)
    changed = state.inode(request.ino).copy()
    key = ino_key(changed.ino) + name
    present = bool(changed.flags & FLAG_XATTR) and state.tables.get(_XATTR, key) is not None
    if request.flags & XATTR_CREATE and present:
        raise Refused(EEXIST)
    if request.flags & XATTR_REPLACE and not present:
        raise Refused(ENODATA)
    stored: bytes | None = value
    if name in _ACL_FLAGS:
        stored = _check_acl(changed, name, value)
    elif name in POLICY_NAMES:
        _check_policy(changed, name, value)
    if stored is not None and not present:
        _check_room(state, changed, name)
    if name == acl.ACCESS_NAME:
        entries = _decoded(value)
        if entries:
            changed.mode = changed.mode & ~0o777 | acl.permission_bits(entries)
        if request.kill_sgid:
            changed.mode &= ~S_ISGID
    if stored is not None:
        state.put(_XATTR, key, stored)
        changed.flags |= FLAG_XATTR | _FLAGS.get(name, 0)
        if name in POLICY_NAMES:
            state.policies.clear()
    elif present:
        _delete(state, changed, name)
    changed.ctime_ns = now_ns
    state.put_inode(changed)
    return changed


def remove_xattr(state: ShardState, request: RemoveXattr, now_ns: int) -> Attributes:
    _check_name(request.name)
    changed = state.inode(request.ino).copy()
    key = ino_key(changed.ino) + request.name
    if not changed.flags & FLAG_XATTR or state.tables.get(_XATTR, key) is None:
        if request.name in _ACL_FLAGS:  # setfacl -b on a file without one is no mistake
            return state.inode(request.ino)
        raise Refused(ENODATA)
    _delete(state, changed, request.name)
    changed.ctime_ns = now_ns
    state.put_inode(changed)
    return changed


def remove_all(state: ShardState, ino: int) -> None:
    for key in [key for key, _ in state.scan_prefix(_XATTR, ino_key(ino))]:
        state.delete(_XATTR, key)


def _delete(state: ShardState, changed: Attributes, name: bytes) -> None:
    state.delete(_XATTR, ino_key(changed.ino) + name)
    if name in POLICY_NAMES:
        state.policies.clear()
    if name in _ACL_FLAGS or not any(_has(state, changed.ino, other) for other in POLICY_NAMES):
        changed.flags &= ~_FLAGS.get(name, 0)
    if next(state.scan_prefix(_XATTR, ino_key(changed.ino)), None) is None:
        changed.flags &= ~FLAG_XATTR


def _has(state: ShardState, ino: int, name: bytes) -> bool:
    return state.tables.get(_XATTR, ino_key(ino) + name) is not None


def _check_policy(attributes: Attributes, name: bytes, value: bytes) -> None:
    if not (attributes.is_directory or (attributes.is_file and name == RETENTION_NAME)):
        raise Refused(EOPNOTSUPP)
    if name == LIMIT_NAME and attributes.ino != ROOT_INO:
        raise Refused(EOPNOTSUPP)
    try:
        check_value(name, value)
    except PolicyInvalid:
        raise Refused(EINVAL) from None


def _check_room(state: ShardState, attributes: Attributes, name: bytes) -> None:
    """The names of one inode must fit the largest list that listxattr(2) can return."""
    if not attributes.flags & FLAG_XATTR:
        return
    rows = state.scan_prefix(_XATTR, ino_key(attributes.ino))
    used = sum(len(key) - 8 + 1 for key, _ in rows)
    if used + len(name) + 1 > XATTR_LIST_MAX_BYTES:
        raise Refused(ENOSPC)


# -- access control lists -----------------------------------------------------------------------------------------


def _check_acl(attributes: Attributes, name: bytes, value: bytes) -> bytes | None:
    """What to store for this ACL: None if the permission bits say it all, or nothing is left of it."""
    kind = S_IFMT(attributes.mode)
    if kind == S_IFLNK:
        raise Refused(EOPNOTSUPP)
    if name == acl.DEFAULT_NAME and kind != S_IFDIR:
        raise Refused(EACCES)
    try:
        entries = _decoded(value)
    except acl.AclInvalid:
        raise Refused(EINVAL) from None
    if not entries or (name == acl.ACCESS_NAME and acl.is_minimal(entries)):
        return None
    return acl.encode(entries)


def _decoded(value: bytes) -> list[acl.Entry]:
    """setxattr(2) with nothing at all removes an ACL, as one without entries does."""
    return acl.decode(value) if value else []


def _acl(state: ShardState, ino: int, name: bytes) -> list[acl.Entry]:
    value = state.tables.get(_XATTR, ino_key(ino) + name)
    return acl.decode(value) if value is not None else []


def follow_chmod(state: ShardState, changed: Attributes) -> None:
    """The access ACL after the permission bits changed."""
    entries = _acl(state, changed.ino, acl.ACCESS_NAME)
    if entries:
        entries = acl.with_permission_bits(entries, changed.mode)
        state.put(_XATTR, ino_key(changed.ino) + acl.ACCESS_NAME, acl.encode(entries))


def inherit_default_acl(state: ShardState, parent: Attributes, made: Attributes) -> None:
    """Give a new inode what its directory's default ACL says; the umask has no say then."""
    if S_IFMT(made.mode) == S_IFLNK:
        return
    default = _acl(state, parent.ino, acl.DEFAULT_NAME)
    if not default:
        return
    entries, bits = acl.inherited(default, made.mode)
    made.mode = made.mode & ~0o777 | bits
    if not acl.is_minimal(entries):
        state.put(_XATTR, ino_key(made.ino) + acl.ACCESS_NAME, acl.encode(entries))
        made.flags |= FLAG_XATTR | FLAG_ACCESS_ACL
    if S_IFMT(made.mode) == S_IFDIR:
        state.put(_XATTR, ino_key(made.ino) + acl.DEFAULT_NAME, acl.encode(default))
        made.flags |= FLAG_XATTR | FLAG_DEFAULT_ACL
