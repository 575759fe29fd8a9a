"""POSIX access control lists, in the encoding of the xattrs system.posix_acl_access and system.posix_acl_default.

The kernel enforces ACLs; what a file system has to do is keep them and the permission bits telling the same
story (POSIX.1e draft 17; include/uapi/linux/posix_acl_xattr.h): header u32 version = 2, then entries of
u16 tag, u16 permissions, u32 id, in tag order, users and groups in id order.
"""

from struct import Struct

ACCESS_NAME = b"system.posix_acl_access"
DEFAULT_NAME = b"system.posix_acl_default"

_HEADER = Struct("<I")
_ENTRY = Struct("<HHI")
_VERSION = 2

USER_OBJ = 0x01
USER = 0x02
GROUP_OBJ = 0x04
GROUP = 0x08
MASK = 0x10
OTHER = 0x20
_ONCE = (USER_OBJ, GROUP_OBJ, OTHER)
_NAMED = (USER, GROUP)
#: The id of an entry that is about nobody by name.
_NO_ID = 0xFFFFFFFF

#: tag, permissions (rwx bits), id
Entry = tuple[int, int, int]


class AclInvalid(ValueError):
    """The bytes are not a well-formed ACL."""


def decode(value: bytes) -> list[Entry]:
    if len(value) < _HEADER.size or (len(value) - _HEADER.size) % _ENTRY.size:
        raise AclInvalid("length")
    if _HEADER.unpack_from(value)[0] != _VERSION:
        raise AclInvalid("version")
    entries: list[Entry] = [
        (tag, permissions, who if tag in _NAMED else _NO_ID)
        for tag, permissions, who in _ENTRY.iter_unpack(value[_HEADER.size :])
    ]
    tags = [tag for tag, _, _ in entries]
    if not entries:
        return entries
    for tag, permissions, _ in entries:
        if tag not in (*_ONCE, *_NAMED, MASK) or permissions & ~7:
            raise AclInvalid("entry")
    if any(tags.count(tag) != 1 for tag in _ONCE) or tags.count(MASK) > 1:
        raise AclInvalid("an entry for owner, group and others is needed, exactly once")
    if any(tag in _NAMED for tag in tags) and MASK not in tags:
        raise AclInvalid("named users and groups need a mask")
    return entries


def encode(entries: list[Entry]) -> bytes:
    ordered = sorted(entries, key=lambda entry: (entry[0], entry[2]))
    return _HEADER.pack(_VERSION) + b"".join(_ENTRY.pack(*entry) for entry in ordered)


def permission_bits(entries: list[Entry]) -> int:
    """The nine mode bits that this access ACL stands for: the group bits are the mask's if there is one."""
    bits = {tag: permissions for tag, permissions, _ in entries}
    return bits[USER_OBJ] << 6 | bits.get(MASK, bits[GROUP_OBJ]) << 3 | bits[OTHER]


def is_minimal(entries: list[Entry]) -> bool:
    """Whether the mode bits alone say the same."""
    return all(tag in _ONCE for tag, _, _ in entries)


def with_permission_bits(entries: list[Entry], mode: int) -> list[Entry]:
    """The access ACL after chmod(mode)."""
    has_mask = any(tag == MASK for tag, _, _ in entries)
    changed: list[Entry] = []
    for tag, permissions, who in entries:
        if tag == USER_OBJ:
            permissions = mode >> 6 & 7
        elif tag == MASK or (tag == GROUP_OBJ and not has_mask):
            permissions = mode >> 3 & 7
        elif tag == OTHER:
            permissions = mode & 7
        changed.append((tag, permissions, who))
    return changed


def inherited(default: list[Entry], mode: int) -> tuple[list[Entry], int]:
    """The access ACL and the permission bits of a file made with `mode` in a directory with this default ACL.

    The umask has no say here. Each class keeps only what both the default ACL and `mode` allow.
    """
    has_mask = any(tag == MASK for tag, _, _ in default)
    entries: list[Entry] = []
    for tag, permissions, who in default:
        if tag == USER_OBJ:
            permissions &= mode >> 6
        elif tag == MASK or (tag == GROUP_OBJ and not has_mask):
            permissions &= mode >> 3
        elif tag == OTHER:
            permissions &= mode
        entries.append((tag, permissions & 7, who))
    return entries, permission_bits(entries)
