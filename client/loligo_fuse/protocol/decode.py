"""Bodies of requests (what follows the 40-byte header) to plain values.

Every function takes a view of exactly the body, so that a short one cannot be filled up from what the
buffer held before. Malformed bodies raise `Malformed` or `struct.error`; nothing else is raised.
"""

from struct import Struct

from loligo_fuse.protocol.constants import (
    FATTR_ATIME,
    FATTR_ATIME_NOW,
    FATTR_CTIME,
    FATTR_FH,
    FATTR_GID,
    FATTR_KILL_SUIDGID,
    FATTR_MODE,
    FATTR_MTIME,
    FATTR_MTIME_NOW,
    FATTR_SIZE,
    FATTR_UID,
    FSYNC_FDATASYNC,
    GETATTR_FH,
    LK_FLOCK,
    OPEN_KILL_SUIDGID,
    RELEASE_FLOCK_UNLOCK,
    SETXATTR_ACL_KILL_SGID,
    WIRE_OPEN_KILL_SUIDGID,
    WRITE_KILL_SUIDGID,
)
from loligo_fuse.protocol.values import FileLock, SetAttributes

# len, opcode, unique, nodeid, uid, gid, pid, total_extlen (of 8 bytes each), padding
REQUEST_HEADER = Struct("=IIQQIIIHH")

_U32 = Struct("=I")
_U32_PAIR = Struct("=II")
_U64 = Struct("=Q")
_FORGET_ONE = Struct("=QQ")
_GETATTR = Struct("=IIQ")
_SETATTR = Struct("=I4xQQ8xqqqIIII4xII4x")
_MKNOD = Struct("=III4x")
_RENAME2 = Struct("=QI4x")
_CREATE = Struct("=IIII")
_READ = Struct("=QQI")
_READ_BYTES = 40
_WRITE = Struct("=QQII8xI4x")
_FSYNC = Struct("=QI4x")
_FLUSH = Struct("=Q8xQ")
_RELEASE = Struct("=Q4xIQ")
_LOCK = Struct("=QQQQIII4x")
_SETXATTR_EXT = Struct("=III4x")
_FALLOCATE = Struct("=QQQI4x")
_LSEEK = Struct("=QqI4x")

NANO = 1_000_000_000


class Malformed(ValueError):
    """A request that does not have the layout of its opcode."""


def decode_name(body: memoryview, offset: int = 0) -> bytes:
    raw = body[offset:].tobytes()
    end = raw.find(0)
    if end < 1 or end + 1 != len(raw):
        raise Malformed("the name is empty or does not end where the request does")
    return raw[:end]


def decode_two_names(body: memoryview, offset: int = 0) -> tuple[bytes, bytes]:
    parts = body[offset:].tobytes().split(b"\0")
    if len(parts) != 3 or not parts[0] or not parts[1] or parts[2]:
        raise Malformed("not two names")
    return parts[0], parts[1]


def decode_u32(body: memoryview) -> int:
    """ACCESS (the mask)."""
    value: int = _U32.unpack_from(body)[0]
    return value


def decode_u64(body: memoryview) -> int:
    """FORGET (the count), RELEASEDIR (the handle), INTERRUPT (the request)."""
    value: int = _U64.unpack_from(body)[0]
    return value


def decode_batch_forget(body: memoryview) -> list[tuple[int, int]]:
    """Pairs of an inode number and a count."""
    count, _ = _U32_PAIR.unpack_from(body)
    if _U32_PAIR.size + count * _FORGET_ONE.size > len(body):
        raise Malformed("fewer inodes than announced")
    end = _U32_PAIR.size + count * _FORGET_ONE.size
    return list(_FORGET_ONE.iter_unpack(body[_U32_PAIR.size : end]))


def decode_getattr(body: memoryview) -> int | None:
    """The handle, if the kernel gives one."""
    flags, _, handle = _GETATTR.unpack_from(body)
    return handle if flags & GETATTR_FH else None


def decode_setattr(body: memoryview, now_ns: int) -> tuple[SetAttributes, int | None]:
    """The change and the handle. Times asked to be "now" become `now_ns`."""
    (
        valid,
        handle,
        size,
        atime_s,
        mtime_s,
        ctime_s,
        atime_ns,
        mtime_ns,
        ctime_ns,
        mode,
        uid,
        gid,
    ) = _SETATTR.unpack_from(body)
    change = SetAttributes()
    if valid & FATTR_MODE:
        change.mode = mode
    if valid & FATTR_UID:
        change.uid = uid
    if valid & FATTR_GID:
        change.gid = gid
    if valid & FATTR_SIZE:
        change.size = size
    if valid & FATTR_ATIME:
        change.atime_ns = now_ns if valid & FATTR_ATIME_NOW else atime_s * NANO + atime_ns
    if valid & FATTR_MTIME:
        change.mtime_ns = now_ns if valid & FATTR_MTIME_NOW else mtime_s * NANO + mtime_ns
    if valid & FATTR_CTIME:
        change.ctime_ns = ctime_s * NANO + ctime_ns
    if valid & FATTR_KILL_SUIDGID:
        change.kill_suidgid = True
    return change, handle if valid & FATTR_FH else None


def decode_mknod(body: memoryview) -> tuple[bytes, int, int, int]:
    """Name, mode, device, umask."""
    mode, rdev, umask = _MKNOD.unpack_from(body)
    return decode_name(body, _MKNOD.size), mode, rdev, umask


def decode_mkdir(body: memoryview) -> tuple[bytes, int, int]:
    """Name, mode, umask."""
    mode, umask = _U32_PAIR.unpack_from(body)
    return decode_name(body, _U32_PAIR.size), mode, umask


def decode_rename(body: memoryview) -> tuple[bytes, int, bytes, int]:
    """Name, new parent, new name, flags (always 0)."""
    name, new_name = decode_two_names(body, _U64.size)
    return name, _U64.unpack_from(body)[0], new_name, 0


def decode_rename2(body: memoryview) -> tuple[bytes, int, bytes, int]:
    """Name, new parent, new name, RENAME_* flags."""
    new_parent, flags = _RENAME2.unpack_from(body)
    name, new_name = decode_two_names(body, _RENAME2.size)
    return name, new_parent, new_name, flags


def decode_link(body: memoryview) -> tuple[int, bytes]:
    """The inode to link, and its new name."""
    return _U64.unpack_from(body)[0], decode_name(body, _U64.size)


def decode_open(body: memoryview) -> int:
    """O_* flags, and OPEN_KILL_SUIDGID."""
    flags: int
    flags, wire = _U32_PAIR.unpack_from(body)
    return flags | OPEN_KILL_SUIDGID if wire & WIRE_OPEN_KILL_SUIDGID else flags


def decode_create(body: memoryview) -> tuple[bytes, int, int, int]:
    """Name, mode, umask, flags as in decode_open. TMPFILE has the same layout, its name means nothing."""
    flags, mode, umask, wire = _CREATE.unpack_from(body)
    if wire & WIRE_OPEN_KILL_SUIDGID:
        flags |= OPEN_KILL_SUIDGID
    return decode_name(body, _CREATE.size), mode, umask, flags


def decode_read(body: memoryview) -> tuple[int, int, int]:
    """Handle, offset (READDIR: cookie), size."""
    if len(body) < _READ_BYTES:
        raise Malformed("short read request")
    handle, offset, size = _READ.unpack_from(body)
    return handle, offset, size


def decode_write(body: memoryview) -> tuple[int, int, memoryview, bool, int]:
    """Handle, offset, data (a view of the request), kill_suidgid, the file's O_* flags."""
    handle, offset, size, write_flags, flags = _WRITE.unpack_from(body)
    data = body[_WRITE.size :]
    if len(data) != size:
        raise Malformed(f"{len(data)} bytes to write, {size} announced")
    return handle, offset, data, write_flags & WRITE_KILL_SUIDGID != 0, flags


def decode_flush(body: memoryview) -> tuple[int, int]:
    """Handle, owner of locks."""
    handle, owner = _FLUSH.unpack_from(body)
    return handle, owner


def decode_release(body: memoryview) -> tuple[int, int | None]:
    """Handle, owner of the flock that ends; None if there is none."""
    handle, flags, owner = _RELEASE.unpack_from(body)
    return handle, owner if flags & RELEASE_FLOCK_UNLOCK else None


def decode_lock(body: memoryview) -> tuple[int, int, FileLock, bool]:
    """Handle, owner, lock, whether it is flock's."""
    handle, owner, start, end, kind, pid, flags = _LOCK.unpack_from(body)
    return handle, owner, FileLock(start, end, kind, pid), flags & LK_FLOCK != 0


def decode_fsync(body: memoryview) -> tuple[int, bool]:
    """Handle, whether data alone is enough."""
    handle, flags = _FSYNC.unpack_from(body)
    return handle, flags & FSYNC_FDATASYNC != 0


def _name_and_value(body: memoryview, offset: int, size: int) -> tuple[bytes, bytes]:
    raw = body[offset:].tobytes()
    end = raw.find(0)
    if end < 1 or len(raw) - end - 1 != size:
        raise Malformed("not a name and a value of the announced size")
    return raw[:end], raw[end + 1 :]


def decode_setxattr(body: memoryview) -> tuple[bytes, bytes, int, bool]:
    """Name, value, XATTR_* flags, acl_kill_sgid (always False)."""
    size, flags = _U32_PAIR.unpack_from(body)
    return *_name_and_value(body, _U32_PAIR.size, size), flags, False


def decode_setxattr_ext(body: memoryview) -> tuple[bytes, bytes, int, bool]:
    """The same with SETXATTR_EXT negotiated."""
    size, flags, extra = _SETXATTR_EXT.unpack_from(body)
    kill_sgid = extra & SETXATTR_ACL_KILL_SGID != 0
    return *_name_and_value(body, _SETXATTR_EXT.size, size), flags, kill_sgid


def decode_getxattr(body: memoryview) -> tuple[int, bytes]:
    """Size of the caller's buffer (0: only asks for the size), name."""
    return _U32_PAIR.unpack_from(body)[0], decode_name(body, _U32_PAIR.size)


def decode_listxattr(body: memoryview) -> int:
    """Size of the caller's buffer."""
    size: int = _U32_PAIR.unpack_from(body)[0]
    return size


def decode_fallocate(body: memoryview) -> tuple[int, int, int, int]:
    """Handle, offset, length, FALLOC_* mode."""
    handle, offset, length, mode = _FALLOCATE.unpack_from(body)
    return handle, offset, length, mode


def decode_lseek(body: memoryview) -> tuple[int, int, int]:
    """Handle, offset, whence (SEEK_DATA or SEEK_HOLE)."""
    handle, offset, whence = _LSEEK.unpack_from(body)
    return handle, offset, whence
