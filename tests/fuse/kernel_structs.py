"""The kernel's structs as ctypes, field by field in the names of `include/uapi/linux/fuse.h`.

Written independently of the formats in `loligo_fuse.protocol`, so that each checks the other;
`test_layout.py` compares both with the header of this machine, where there is one.
"""

import ctypes
from typing import Any

_TYPES = {
    "u64": ctypes.c_uint64,
    "s64": ctypes.c_int64,
    "u32": ctypes.c_uint32,
    "s32": ctypes.c_int32,
    "u16": ctypes.c_uint16,
}


def _struct(name: str, fields: str, behind: str = "", **nested: type[ctypes.Structure]) -> type[ctypes.Structure]:
    """`fields`: "u64 ino size, u32 mode, u32*6 spare". `nested` structs follow them, and what is `behind`."""
    members = [*_members(fields), *nested.items(), *_members(behind)]
    return type(name, (ctypes.Structure,), {"_fields_": members})


def _members(fields: str) -> list[tuple[str, Any]]:
    members: list[tuple[str, Any]] = []
    for group in filter(None, fields.split(",")):
        kind, *names = group.split()
        base, _, count = kind.partition("*")
        kind_type: Any = _TYPES[base] * int(count) if count else _TYPES[base]
        members += [(member, kind_type) for member in names]
    return members


in_header = _struct(
    "fuse_in_header",
    "u32 len opcode, u64 unique nodeid, u32 uid gid pid, u16 total_extlen padding",
)
out_header = _struct("fuse_out_header", "u32 len, s32 error, u64 unique")
attr = _struct(
    "fuse_attr",
    "u64 ino size blocks atime mtime ctime, u32 atimensec mtimensec ctimensec mode nlink uid gid rdev blksize flags",
)
entry_out = _struct(
    "fuse_entry_out",
    "u64 nodeid generation entry_valid attr_valid, u32 entry_valid_nsec attr_valid_nsec",
    attr=attr,
)
attr_out = _struct("fuse_attr_out", "u64 attr_valid, u32 attr_valid_nsec dummy", attr=attr)
open_out = _struct("fuse_open_out", "u64 fh, u32 open_flags padding")
write_out = _struct("fuse_write_out", "u32 size padding")
getxattr_out = _struct("fuse_getxattr_out", "u32 size padding")
lseek_out = _struct("fuse_lseek_out", "u64 offset")
kstatfs = _struct("fuse_kstatfs", "u64 blocks bfree bavail files ffree, u32 bsize namelen frsize padding, u32*6 spare")
dirent = _struct("fuse_dirent", "u64 ino off, u32 namelen type")
init_in = _struct("fuse_init_in", "u32 major minor max_readahead flags flags2, u32*11 unused")
init_out = _struct(
    "fuse_init_out",
    "u32 major minor max_readahead flags, u16 max_background congestion_threshold, "
    "u32 max_write time_gran, u16 max_pages map_alignment, u32 flags2, u32*7 unused",
)
forget_in = _struct("fuse_forget_in", "u64 nlookup")
forget_one = _struct("fuse_forget_one", "u64 nodeid nlookup")
batch_forget_in = _struct("fuse_batch_forget_in", "u32 count dummy")
getattr_in = _struct("fuse_getattr_in", "u32 getattr_flags dummy, u64 fh")
setattr_in = _struct(
    "fuse_setattr_in",
    "u32 valid padding, u64 fh size lock_owner atime mtime ctime, "
    "u32 atimensec mtimensec ctimensec mode unused4 uid gid unused5",
)
mknod_in = _struct("fuse_mknod_in", "u32 mode rdev umask padding")
mkdir_in = _struct("fuse_mkdir_in", "u32 mode umask")
rename_in = _struct("fuse_rename_in", "u64 newdir")
rename2_in = _struct("fuse_rename2_in", "u64 newdir, u32 flags padding")
link_in = _struct("fuse_link_in", "u64 oldnodeid")
open_in = _struct("fuse_open_in", "u32 flags open_flags")
create_in = _struct("fuse_create_in", "u32 flags mode umask open_flags")
release_in = _struct("fuse_release_in", "u64 fh, u32 flags release_flags, u64 lock_owner")
flush_in = _struct("fuse_flush_in", "u64 fh, u32 unused padding, u64 lock_owner")
read_in = _struct("fuse_read_in", "u64 fh offset, u32 size read_flags, u64 lock_owner, u32 flags padding")
write_in = _struct("fuse_write_in", "u64 fh offset, u32 size write_flags, u64 lock_owner, u32 flags padding")
file_lock = _struct("fuse_file_lock", "u64 start end, u32 type pid")
lk_in = _struct("fuse_lk_in", "u64 fh owner", "u32 lk_flags padding", lk=file_lock)
lk_out = _struct("fuse_lk_out", "", lk=file_lock)
fsync_in = _struct("fuse_fsync_in", "u64 fh, u32 fsync_flags padding")
setxattr_in = _struct("fuse_setxattr_in", "u32 size flags setxattr_flags padding")
getxattr_in = _struct("fuse_getxattr_in", "u32 size padding")
access_in = _struct("fuse_access_in", "u32 mask padding")
interrupt_in = _struct("fuse_interrupt_in", "u64 unique")
fallocate_in = _struct("fuse_fallocate_in", "u64 fh offset length, u32 mode padding")
lseek_in = _struct("fuse_lseek_in", "u64 fh offset, u32 whence padding")
notify_inval_inode_out = _struct("fuse_notify_inval_inode_out", "u64 ino, s64 off len")
notify_inval_entry_out = _struct("fuse_notify_inval_entry_out", "u64 parent, u32 namelen flags")
notify_store_out = _struct("fuse_notify_store_out", "u64 nodeid offset, u32 size padding")

ALL: list[type[ctypes.Structure]] = [
    value
    for value in list(globals().values())
    if isinstance(value, type) and value is not ctypes.Structure
    if issubclass(value, ctypes.Structure)
]
