"""Results of operations to complete replies, and notifications.

A reply is one `bytes`, header included, or for READ a list for `writev` that spares copying the data.
Every encoder takes the request's Context and the operation's result. OSError raised here is an answer
(ERANGE, ENOENT) like one that the operation raised.
"""

import errno
from collections.abc import Iterable, Sequence
from struct import Struct
from typing import TypeAlias

from loligo_fuse.protocol.constants import (
    EXPIRE_ONLY,
    F_UNLCK,
    NOTIFY_INVAL_ENTRY,
    NOTIFY_INVAL_INODE,
    NOTIFY_STORE,
)
from loligo_fuse.protocol.values import Attributes, Context, FileLock, Opened, StatFs

Buffer: TypeAlias = bytes | bytearray | memoryview
Reply: TypeAlias = bytes | list[Buffer]

# name, cookie of the entry after it, inode number, mode (only its type counts), attributes or None
DirectoryEntry: TypeAlias = tuple[bytes, int, int, int, Attributes | None]

REPLY_HEADER = Struct("=IiQ")  # len, error, unique
HEADER_BYTES = REPLY_HEADER.size

# ino, size, blocks, three times in s, their ns parts, mode, nlink, uid, gid, rdev, blksize, flags
_ATTR = "QQQqqqIIIIIIIIII"
# nodeid, generation, entry_valid, attr_valid, entry_valid_nsec, attr_valid_nsec, attributes
_ENTRY = "QQQQII" + _ATTR
_OPEN = "QII"
_DIRENT = "QQII"  # ino, cookie, namelen, type; then the name, padded to 8 bytes

_ENTRY_REPLY = Struct("=IiQ" + _ENTRY)
_ATTR_REPLY = Struct("=IiQQI4x" + _ATTR)
_CREATE_REPLY = Struct("=IiQ" + _ENTRY + _OPEN)
_OPEN_REPLY = Struct("=IiQ" + _OPEN)
_U32_REPLY = Struct("=IiQI4x")
_U64_REPLY = Struct("=IiQQ")
_LOCK_REPLY = Struct("=IiQQQII")
_STATFS_REPLY = Struct("=IiQQQQQQIII28x")
_DIRENT_ONLY = Struct("=" + _DIRENT)
_ENTRY_ONLY = Struct("=" + _ENTRY)
_DIRENT_PLUS = Struct("=" + _ENTRY + _DIRENT)
_PADDING = [b"\0" * (-length % 8) for length in range(8)]

_NEGATIVE_ATTR = (0,) * 16

_NOTIFY_INODE = Struct("=IiQQqq")
_NOTIFY_ENTRY = Struct("=IiQQII")
_NOTIFY_STORE = Struct("=IiQQQI4x")

NANO = 1_000_000_000
# writev takes 1024 pieces; one is the header.
_PIECES_MAX = 1000


def _seconds(timeout_s: float) -> tuple[int, int]:
    return divmod(int(timeout_s * NANO), NANO)


def encode_error(unique: int, number: int) -> bytes:
    return REPLY_HEADER.pack(HEADER_BYTES, -number, unique)


def encode_nothing(ctx: Context, result: object) -> bytes:
    return REPLY_HEADER.pack(HEADER_BYTES, 0, ctx.unique)


def encode_bytes(ctx: Context, result: bytes) -> bytes:
    return REPLY_HEADER.pack(HEADER_BYTES + len(result), 0, ctx.unique) + result


def encode_opened(ctx: Context, result: Opened) -> bytes:
    return _OPEN_REPLY.pack(_OPEN_REPLY.size, 0, ctx.unique, result.handle, result.flags, 0)


def encode_written(ctx: Context, result: int) -> bytes:
    return _U32_REPLY.pack(_U32_REPLY.size, 0, ctx.unique, result)


def encode_lock(ctx: Context, result: FileLock | None) -> bytes:
    lock = result or FileLock(0, 0, F_UNLCK, 0)
    return _LOCK_REPLY.pack(_LOCK_REPLY.size, 0, ctx.unique, lock.start, lock.end, lock.kind, lock.pid)


def encode_position(ctx: Context, result: int) -> bytes:
    return _U64_REPLY.pack(_U64_REPLY.size, 0, ctx.unique, result)


def encode_statfs(ctx: Context, result: StatFs) -> bytes:
    return _STATFS_REPLY.pack(
        _STATFS_REPLY.size,
        0,
        ctx.unique,
        result.blocks,
        result.blocks_free,
        result.blocks_available,
        result.files,
        result.files_free,
        result.block_size,
        result.name_max,
        result.block_size,
    )


def encode_data(ctx: Context, result: Buffer | Sequence[Buffer]) -> list[Buffer]:
    """READ. More data than asked for is the operation's mistake: ValueError."""
    pieces: list[Buffer] = [b""]
    if isinstance(result, (bytes, bytearray, memoryview)):
        pieces.append(result)
        length = len(result) if not isinstance(result, memoryview) else result.nbytes
    else:
        pieces.extend(result)
        if len(pieces) > _PIECES_MAX:
            pieces[1:] = [b"".join(result)]
        length = sum(memoryview(piece).nbytes for piece in pieces)
    if length > ctx.reply_limit_bytes:
        raise ValueError(f"read returned {length} bytes, {ctx.reply_limit_bytes} were asked for")
    pieces[0] = REPLY_HEADER.pack(HEADER_BYTES + length, 0, ctx.unique)
    return pieces


def encode_xattr(ctx: Context, result: bytes) -> bytes:
    """GETXATTR: the value, or only its size if that was the question."""
    if ctx.reply_limit_bytes == 0:
        return _U32_REPLY.pack(_U32_REPLY.size, 0, ctx.unique, len(result))
    if len(result) > ctx.reply_limit_bytes:
        raise OSError(errno.ERANGE, "the value is larger than the buffer")
    return REPLY_HEADER.pack(HEADER_BYTES + len(result), 0, ctx.unique) + result


def encode_xattr_names(ctx: Context, result: Sequence[bytes]) -> bytes:
    return encode_xattr(ctx, b"".join([name + b"\0" for name in result]))


def encode_directory(ctx: Context, result: Iterable[DirectoryEntry]) -> bytes:
    """READDIR: as many entries as fit. The entry after the last one that fits is pulled and dropped."""
    parts: list[bytes] = [b""]
    used_bytes = 0
    for name, cookie, ino, mode, _ in result:
        length = len(name)
        used_bytes += (_DIRENT_ONLY.size + length + 7) & ~7
        if used_bytes > ctx.reply_limit_bytes:
            break
        parts += (_DIRENT_ONLY.pack(ino, cookie, length, mode >> 12), name, _PADDING[length & 7])
    return _directory_reply(ctx, parts, used_bytes)


def _directory_reply(ctx: Context, parts: list[bytes], used_bytes: int) -> bytes:
    if len(parts) == 1 and used_bytes:
        # An empty answer would mean the end of the directory.
        raise OSError(errno.EINVAL, "the buffer is too small for one entry")
    body_bytes = sum(map(len, parts))
    parts[0] = REPLY_HEADER.pack(HEADER_BYTES + body_bytes, 0, ctx.unique)
    return b"".join(parts)


class EntryEncoder:
    """Replies that carry timeouts: how long the kernel may believe a name, its absence, attributes."""

    __slots__ = (
        "_attribute_valid",
        "_attribute_valid_ns",
        "_entry_valid",
        "_entry_valid_ns",
        "_negative_valid",
        "_negative_valid_ns",
    )

    def __init__(self, *, entry_timeout_s: float, attribute_timeout_s: float, negative_timeout_s: float) -> None:
        self._entry_valid, self._entry_valid_ns = _seconds(entry_timeout_s)
        self._attribute_valid, self._attribute_valid_ns = _seconds(attribute_timeout_s)
        self._negative_valid, self._negative_valid_ns = _seconds(negative_timeout_s)

    def attributes(self, ctx: Context, result: Attributes) -> bytes:
        """GETATTR, SETATTR."""
        valid, valid_ns = self._attribute_valid, self._attribute_valid_ns
        if ctx.attribute_timeout_s is not None:
            valid, valid_ns = _seconds(ctx.attribute_timeout_s)
        atime_s, atime_ns = divmod(result.atime_ns, NANO)
        mtime_s, mtime_ns = divmod(result.mtime_ns, NANO)
        ctime_s, ctime_ns = divmod(result.ctime_ns, NANO)
        return _ATTR_REPLY.pack(
            _ATTR_REPLY.size,
            0,
            ctx.unique,
            valid,
            valid_ns,
            result.ino,
            result.size,
            result.blocks,
            atime_s,
            mtime_s,
            ctime_s,
            atime_ns,
            mtime_ns,
            ctime_ns,
            result.mode,
            result.nlink,
            result.uid,
            result.gid,
            result.rdev,
            result.block_size,
            0,
        )

    def entry(self, ctx: Context, result: Attributes | None) -> bytes:
        """LOOKUP and whatever makes a name. None: there is no such name."""
        if result is None:
            valid, valid_ns = self._negative_valid, self._negative_valid_ns
            if ctx.entry_timeout_s is not None:
                valid, valid_ns = _seconds(ctx.entry_timeout_s)
            if not valid and not valid_ns:
                return encode_error(ctx.unique, errno.ENOENT)
            return _ENTRY_REPLY.pack(
                _ENTRY_REPLY.size,
                0,
                ctx.unique,
                0,
                0,
                valid,
                0,
                valid_ns,
                0,
                *_NEGATIVE_ATTR,
            )
        return _ENTRY_REPLY.pack(_ENTRY_REPLY.size, 0, ctx.unique, *self._fields(ctx, result))

    def _fields(self, ctx: Context, result: Attributes) -> tuple[int, ...]:
        """struct fuse_entry_out."""
        entry_valid, entry_valid_ns = self._entry_valid, self._entry_valid_ns
        attribute_valid, attribute_valid_ns = self._attribute_valid, self._attribute_valid_ns
        if ctx.entry_timeout_s is not None:
            entry_valid, entry_valid_ns = _seconds(ctx.entry_timeout_s)
        if ctx.attribute_timeout_s is not None:
            attribute_valid, attribute_valid_ns = _seconds(ctx.attribute_timeout_s)
        atime_s, atime_ns = divmod(result.atime_ns, NANO)
        mtime_s, mtime_ns = divmod(result.mtime_ns, NANO)
        ctime_s, ctime_ns = divmod(result.ctime_ns, NANO)
        ino = result.ino
        return (
            ino,
            result.generation,
            entry_valid,
            attribute_valid,
            entry_valid_ns,
            attribute_valid_ns,
            ino,
            result.size,
            result.blocks,
            atime_s,
            mtime_s,
            ctime_s,
            atime_ns,
            mtime_ns,
            ctime_ns,
            result.mode,
            result.nlink,
            result.uid,
            result.gid,
            result.rdev,
            result.block_size,
            0,
        )

    def created(self, ctx: Context, result: tuple[Attributes, Opened]) -> bytes:
        """CREATE, TMPFILE."""
        attributes, opened = result
        return _CREATE_REPLY.pack(
            _CREATE_REPLY.size,
            0,
            ctx.unique,
            *self._fields(ctx, attributes),
            opened.handle,
            opened.flags,
            0,
        )

    def directory_plus(self, ctx: Context, result: Iterable[DirectoryEntry]) -> bytes:
        """READDIRPLUS. An entry without attributes gets node id 0: the kernel takes only its name."""
        parts: list[bytes] = [b""]
        used_bytes = 0
        for name, cookie, ino, mode, attributes in result:
            length = len(name)
            used_bytes += (_DIRENT_PLUS.size + length + 7) & ~7
            if used_bytes > ctx.reply_limit_bytes:
                break
            if attributes is None:
                parts += (
                    bytes(_ENTRY_ONLY.size),
                    _DIRENT_ONLY.pack(ino, cookie, length, mode >> 12),
                    name,
                    _PADDING[length & 7],
                )
            else:
                parts += (
                    _DIRENT_PLUS.pack(*self._fields(ctx, attributes), ino, cookie, length, mode >> 12),
                    name,
                    _PADDING[length & 7],
                )
        return _directory_reply(ctx, parts, used_bytes)


def encode_inval_inode(ino: int, offset: int, length: int) -> bytes:
    return _NOTIFY_INODE.pack(_NOTIFY_INODE.size, NOTIFY_INVAL_INODE, 0, ino, offset, length)


def encode_inval_entry(parent: int, name: bytes, *, expire: bool = False) -> bytes:
    """`expire`: it is looked up again at its next use. A kernel before 6.2 drops it all the same."""
    size = _NOTIFY_ENTRY.size + len(name) + 1
    flags = EXPIRE_ONLY if expire else 0
    return _NOTIFY_ENTRY.pack(size, NOTIFY_INVAL_ENTRY, 0, parent, len(name), flags) + name + b"\0"


def encode_store(ino: int, offset: int, data: Buffer) -> list[Buffer]:
    size = _NOTIFY_STORE.size + len(data)
    return [_NOTIFY_STORE.pack(size, NOTIFY_STORE, 0, ino, offset, len(data)), data]
