"""Which request calls which operation, and how its result becomes a reply.

A row per opcode: `call` decodes the body and calls the operation, `encode` makes the reply, and `undo` takes
back what a reply that reached nobody would have handed out. `killable` says that the request changes nothing (but see
`Context.changes`), so that a caller who is killed need not wait for its answer. The rows are a list indexed by opcode, built
once after INIT, so that a request costs one index and no attribute look-ups. Opcodes without a row are answered ENOSYS by the
session.

`call` returns NO_REPLY for requests that have none.
"""

import errno
import os
import time
from collections.abc import Callable
from typing import Any, Final, NamedTuple, TypeAlias

from loligo_fuse.operations import Operations
from loligo_fuse.protocol import decode, encode
from loligo_fuse.protocol.constants import InitFlag, Opcode
from loligo_fuse.protocol.negotiation import Negotiated
from loligo_fuse.protocol.values import Attributes, Context, Opened

Call: TypeAlias = Callable[[Operations, Context, int, memoryview], Any]
Encode: TypeAlias = Callable[[Context, Any], encode.Reply]
Undo: TypeAlias = Callable[[Operations, Context, int, Any], None]

NO_REPLY: Final = object()


class Row(NamedTuple):
    call: Call
    encode: Encode
    undo: Undo | None
    killable: bool = False


def _lookup(ops: Operations, ctx: Context, ino: int, body: memoryview) -> Any:
    return ops.lookup(ctx, ino, decode.decode_name(body))


def _forget(ops: Operations, ctx: Context, ino: int, body: memoryview) -> Any:
    ops.forget([(ino, decode.decode_u64(body))])
    return NO_REPLY


def _batch_forget(ops: Operations, ctx: Context, ino: int, body: memoryview) -> Any:
    ops.forget(decode.decode_batch_forget(body))
    return NO_REPLY


def _getattr(ops: Operations, ctx: Context, ino: int, body: memoryview) -> Any:
    return ops.getattr(ctx, ino, decode.decode_getattr(body))


def _setattr(ops: Operations, ctx: Context, ino: int, body: memoryview) -> Any:
    change, handle = decode.decode_setattr(body, time.time_ns())
    return ops.setattr(ctx, ino, change, handle)


def _readlink(ops: Operations, ctx: Context, ino: int, body: memoryview) -> Any:
    return ops.readlink(ctx, ino)


def _symlink(ops: Operations, ctx: Context, ino: int, body: memoryview) -> Any:
    name, target = decode.decode_two_names(body)
    return ops.symlink(ctx, ino, name, target)


def _mknod(ops: Operations, ctx: Context, ino: int, body: memoryview) -> Any:
    name, mode, rdev, umask = decode.decode_mknod(body)
    return ops.mknod(ctx, ino, name, mode, rdev, umask)


def _mkdir(ops: Operations, ctx: Context, ino: int, body: memoryview) -> Any:
    name, mode, umask = decode.decode_mkdir(body)
    return ops.mkdir(ctx, ino, name, mode, umask)


def _unlink(ops: Operations, ctx: Context, ino: int, body: memoryview) -> Any:
    return ops.unlink(ctx, ino, decode.decode_name(body))


def _rmdir(ops: Operations, ctx: Context, ino: int, body: memoryview) -> Any:
    return ops.rmdir(ctx, ino, decode.decode_name(body))


def _rename(ops: Operations, ctx: Context, ino: int, body: memoryview) -> Any:
    name, new_parent, new_name, flags = decode.decode_rename(body)
    return ops.rename(ctx, ino, name, new_parent, new_name, flags)


def _rename2(ops: Operations, ctx: Context, ino: int, body: memoryview) -> Any:
    name, new_parent, new_name, flags = decode.decode_rename2(body)
    return ops.rename(ctx, ino, name, new_parent, new_name, flags)


def _link(ops: Operations, ctx: Context, ino: int, body: memoryview) -> Any:
    target, new_name = decode.decode_link(body)
    return ops.link(ctx, target, ino, new_name)


def _open(ops: Operations, ctx: Context, ino: int, body: memoryview) -> Any:
    flags = decode.decode_open(body)
    ctx.changes = bool(flags & os.O_TRUNC)
    return ops.open(ctx, ino, flags)


def _create(ops: Operations, ctx: Context, ino: int, body: memoryview) -> Any:
    name, mode, umask, flags = decode.decode_create(body)
    return ops.create(ctx, ino, name, mode, umask, flags)


def _tmpfile(ops: Operations, ctx: Context, ino: int, body: memoryview) -> Any:
    _, mode, umask, flags = decode.decode_create(body)
    return ops.tmpfile(ctx, ino, mode, umask, flags)


def _read(ops: Operations, ctx: Context, ino: int, body: memoryview) -> Any:
    handle, offset, size = decode.decode_read(body)
    ctx.reply_limit_bytes = size
    return ops.read(ctx, ino, handle, offset, size)


def _write(ops: Operations, ctx: Context, ino: int, body: memoryview) -> Any:
    handle, offset, data, kill_suidgid, flags = decode.decode_write(body)
    return ops.write(ctx, ino, handle, offset, data, kill_suidgid, flags)


def _flush(ops: Operations, ctx: Context, ino: int, body: memoryview) -> Any:
    handle, ctx.lock_owner = decode.decode_flush(body)
    return ops.flush(ctx, ino, handle)


def _release(ops: Operations, ctx: Context, ino: int, body: memoryview) -> Any:
    handle, ctx.lock_owner = decode.decode_release(body)
    return ops.release(ctx, ino, handle)


def _getlk(ops: Operations, ctx: Context, ino: int, body: memoryview) -> Any:
    handle, owner, lock, _ = decode.decode_lock(body)
    return ops.getlk(ctx, ino, handle, owner, lock)


def _setlk(ops: Operations, ctx: Context, ino: int, body: memoryview) -> Any:
    handle, owner, lock, flock = decode.decode_lock(body)
    return ops.setlk(ctx, ino, handle, owner, lock, flock, False)


def _setlkw(ops: Operations, ctx: Context, ino: int, body: memoryview) -> Any:
    handle, owner, lock, flock = decode.decode_lock(body)
    return ops.setlk(ctx, ino, handle, owner, lock, flock, True)


def _fsync(ops: Operations, ctx: Context, ino: int, body: memoryview) -> Any:
    handle, datasync = decode.decode_fsync(body)
    return ops.fsync(ctx, ino, handle, datasync)


def _opendir(ops: Operations, ctx: Context, ino: int, body: memoryview) -> Any:
    return ops.opendir(ctx, ino, decode.decode_open(body))


def _readdir(ops: Operations, ctx: Context, ino: int, body: memoryview) -> Any:
    handle, cookie, ctx.reply_limit_bytes = decode.decode_read(body)
    return ops.readdir(ctx, ino, handle, cookie, False)


def _readdirplus(ops: Operations, ctx: Context, ino: int, body: memoryview) -> Any:
    handle, cookie, ctx.reply_limit_bytes = decode.decode_read(body)
    return ops.readdir(ctx, ino, handle, cookie, True)


def _releasedir(ops: Operations, ctx: Context, ino: int, body: memoryview) -> Any:
    return ops.releasedir(ctx, ino, decode.decode_u64(body))


def _fsyncdir(ops: Operations, ctx: Context, ino: int, body: memoryview) -> Any:
    handle, datasync = decode.decode_fsync(body)
    return ops.fsyncdir(ctx, ino, handle, datasync)


def _statfs(ops: Operations, ctx: Context, ino: int, body: memoryview) -> Any:
    return ops.statfs(ctx, ino)


def _syncfs(ops: Operations, ctx: Context, ino: int, body: memoryview) -> Any:
    return ops.syncfs(ctx, ino)


def _access(ops: Operations, ctx: Context, ino: int, body: memoryview) -> Any:
    return ops.access(ctx, ino, decode.decode_u32(body))


def _getxattr(ops: Operations, ctx: Context, ino: int, body: memoryview) -> Any:
    ctx.reply_limit_bytes, name = decode.decode_getxattr(body)
    return ops.getxattr(ctx, ino, name)


def _setxattr(ops: Operations, ctx: Context, ino: int, body: memoryview) -> Any:
    name, value, flags, acl_kill_sgid = decode.decode_setxattr(body)
    return ops.setxattr(ctx, ino, name, value, flags, acl_kill_sgid)


def _setxattr_ext(ops: Operations, ctx: Context, ino: int, body: memoryview) -> Any:
    name, value, flags, acl_kill_sgid = decode.decode_setxattr_ext(body)
    return ops.setxattr(ctx, ino, name, value, flags, acl_kill_sgid)


def _listxattr(ops: Operations, ctx: Context, ino: int, body: memoryview) -> Any:
    ctx.reply_limit_bytes = decode.decode_listxattr(body)
    return ops.listxattr(ctx, ino)


def _removexattr(ops: Operations, ctx: Context, ino: int, body: memoryview) -> Any:
    return ops.removexattr(ctx, ino, decode.decode_name(body))


def _fallocate(ops: Operations, ctx: Context, ino: int, body: memoryview) -> Any:
    handle, offset, length, mode = decode.decode_fallocate(body)
    return ops.fallocate(ctx, ino, handle, offset, length, mode)


def _lseek(ops: Operations, ctx: Context, ino: int, body: memoryview) -> Any:
    handle, offset, whence = decode.decode_lseek(body)
    return ops.lseek(ctx, ino, handle, offset, whence)


def _ioctl(ops: Operations, ctx: Context, ino: int, body: memoryview) -> Any:
    # What an ioctl gets that a file system does not know; ENOSYS would make programs complain.
    raise OSError(errno.ENOTTY, "no ioctl is supported")


def _undo_entry(ops: Operations, ctx: Context, ino: int, result: Attributes | None) -> None:
    if result is not None:
        ops.forget([(result.ino, 1)])


def _undo_open(ops: Operations, ctx: Context, ino: int, result: Opened) -> None:
    ops.release(ctx, ino, result.handle)


def _undo_opendir(ops: Operations, ctx: Context, ino: int, result: Opened) -> None:
    ops.releasedir(ctx, ino, result.handle)


def _undo_create(ops: Operations, ctx: Context, ino: int, result: tuple[Attributes, Opened]) -> None:
    attributes, opened = result
    ops.release(ctx, attributes.ino, opened.handle)
    ops.forget([(attributes.ino, 1)])


def build_rows(operations: Operations, negotiated: Negotiated) -> list[Row | None]:
    """The row of each opcode, by its number."""
    entries = encode.EntryEncoder(
        entry_timeout_s=operations.entry_timeout_s,
        attribute_timeout_s=operations.attribute_timeout_s,
        negative_timeout_s=operations.negative_timeout_s,
    )
    nothing = encode.encode_nothing
    setxattr = _setxattr_ext if negotiated.flags & InitFlag.SETXATTR_EXT else _setxattr
    rows = {
        Opcode.LOOKUP: Row(_lookup, entries.entry, _undo_entry, killable=True),
        Opcode.FORGET: Row(_forget, nothing, None),
        Opcode.BATCH_FORGET: Row(_batch_forget, nothing, None),
        Opcode.GETATTR: Row(_getattr, entries.attributes, None, killable=True),
        Opcode.SETATTR: Row(_setattr, entries.attributes, None),
        Opcode.READLINK: Row(_readlink, encode.encode_bytes, None, killable=True),
        Opcode.SYMLINK: Row(_symlink, entries.entry, _undo_entry),
        Opcode.MKNOD: Row(_mknod, entries.entry, _undo_entry),
        Opcode.MKDIR: Row(_mkdir, entries.entry, _undo_entry),
        Opcode.UNLINK: Row(_unlink, nothing, None),
        Opcode.RMDIR: Row(_rmdir, nothing, None),
        Opcode.RENAME: Row(_rename, nothing, None),
        Opcode.RENAME2: Row(_rename2, nothing, None),
        Opcode.LINK: Row(_link, entries.entry, _undo_entry),
        Opcode.OPEN: Row(_open, encode.encode_opened, _undo_open, killable=True),
        Opcode.CREATE: Row(_create, entries.created, _undo_create),
        Opcode.TMPFILE: Row(_tmpfile, entries.created, _undo_create),
        Opcode.READ: Row(_read, encode.encode_data, None, killable=True),
        Opcode.WRITE: Row(_write, encode.encode_written, None),
        Opcode.FLUSH: Row(_flush, nothing, None, killable=True),
        Opcode.RELEASE: Row(_release, nothing, None),
        Opcode.GETLK: Row(_getlk, encode.encode_lock, None, killable=True),
        Opcode.SETLK: Row(_setlk, nothing, None),
        Opcode.SETLKW: Row(_setlkw, nothing, None),
        Opcode.FSYNC: Row(_fsync, nothing, None, killable=True),
        Opcode.OPENDIR: Row(_opendir, encode.encode_opened, _undo_opendir, killable=True),
        Opcode.READDIR: Row(_readdir, encode.encode_directory, None, killable=True),
        Opcode.READDIRPLUS: Row(_readdirplus, entries.directory_plus, None, killable=True),
        Opcode.RELEASEDIR: Row(_releasedir, nothing, None),
        Opcode.FSYNCDIR: Row(_fsyncdir, nothing, None, killable=True),
        Opcode.STATFS: Row(_statfs, encode.encode_statfs, None, killable=True),
        Opcode.SYNCFS: Row(_syncfs, nothing, None, killable=True),
        Opcode.ACCESS: Row(_access, nothing, None, killable=True),
        Opcode.GETXATTR: Row(_getxattr, encode.encode_xattr, None, killable=True),
        Opcode.SETXATTR: Row(setxattr, nothing, None),
        Opcode.LISTXATTR: Row(_listxattr, encode.encode_xattr_names, None, killable=True),
        Opcode.REMOVEXATTR: Row(_removexattr, nothing, None),
        Opcode.FALLOCATE: Row(_fallocate, nothing, None),
        Opcode.LSEEK: Row(_lseek, encode.encode_position, None, killable=True),
        Opcode.IOCTL: Row(_ioctl, nothing, None),
    }
    return [rows.get(opcode) for opcode in range(max(Opcode) + 1)]  # type: ignore[call-overload]
