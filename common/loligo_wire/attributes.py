"""The inode record: what a shard knows about one inode, in memory and on disk.

Record layout (table INODE, little-endian), 92 bytes and, for directories, the name behind them:

====== ==== ==================================================================================
offset size field
====== ==== ==================================================================================
0      4    mode: file type and permission bits as in stat(2)
4      4    uid
8      4    gid
12     4    nlink; a directory has 2 + the number of its subdirectories
16     4    rdev, in the kernel's 32-bit encoding
20     4    generation: 0; counts reuses of an inode number, and numbers are never reused
24     4    flags (below)
28     4    block size in bytes: the length of a full object of this file
32     8    size: bytes of a file, entries of a directory
40     8    parent: the directory that holds it; of what has several names one such directory, or 0: not known
48     8    atime, signed ns since 1970
56     8    mtime
64     8    ctime
72     8    btime: when it was made
80     4    trashed: names in the trash that name it; of a directory that was removed 1, and nlink is what it was
84     8    zero, for fields to come
92     …    name within `parent` (directories only)
====== ==== ==================================================================================

Signed 64-bit ns reach from 1677 to 2262; `clamp_ns` brings other times into that range.
"""

import stat
from struct import Struct

_RECORD = Struct("<8IQQ4qI8x")
RECORD_SIZE = _RECORD.size
_pack = _RECORD.pack
_unpack_from = _RECORD.unpack_from

#: Some byte below `size` was never written: an object that is missing or short reads as zeros.
FLAG_SPARSE = 1
#: The content (or the symbolic link's target) is in table INLINE; there are no objects.
FLAG_INLINE = 2
#: Table XATTR has rows for this inode.
FLAG_XATTR = 4
#: ... one of them a default ACL, inherited by new children.
FLAG_DEFAULT_ACL = 8
#: ... one of them an access ACL, whose mask follows chmod.
FLAG_ACCESS_ACL = 16
#: ... some that say how long removed files are kept (`loligo_trash.policy`).
FLAG_TRASH_POLICY = 32

#: What stat(2) advises as the unit of I/O. Programs allocate buffers of it, so it stays far below the object size.
PREFERRED_IO_BYTES = 65536

NS_MIN = -(1 << 63)
NS_MAX = (1 << 63) - 1


def clamp_ns(time_ns: int) -> int:
    return NS_MIN if time_ns < NS_MIN else NS_MAX if time_ns > NS_MAX else time_ns


class Attributes:
    """One inode. Treated as immutable once stored: a change starts with `copy`, so answers stay snapshots."""

    __slots__ = (
        "atime_ns",
        "block_bytes",
        "btime_ns",
        "ctime_ns",
        "flags",
        "generation",
        "gid",
        "ino",
        "mode",
        "mtime_ns",
        "name",
        "nlink",
        "parent",
        "rdev",
        "size",
        "trashed",
        "uid",
    )

    def __init__(
        self,
        ino: int,
        mode: int,
        uid: int = 0,
        gid: int = 0,
        nlink: int = 1,
        rdev: int = 0,
        generation: int = 0,
        flags: int = 0,
        block_bytes: int = 0,
        size: int = 0,
        parent: int = 0,
        atime_ns: int = 0,
        mtime_ns: int = 0,
        ctime_ns: int = 0,
        btime_ns: int = 0,
        trashed: int = 0,
        *,
        name: bytes = b"",
    ) -> None:
        self.ino = ino
        self.mode = mode
        self.uid = uid
        self.gid = gid
        self.nlink = nlink
        self.rdev = rdev
        self.generation = generation
        self.flags = flags
        self.block_bytes = block_bytes
        self.size = size
        self.parent = parent
        self.atime_ns = atime_ns
        self.mtime_ns = mtime_ns
        self.ctime_ns = ctime_ns
        self.btime_ns = btime_ns
        self.trashed = trashed
        self.name = name

    @property
    def blocks(self) -> int:
        """Units of 512 bytes, as if every byte were stored: holes are not counted out."""
        return (self.size + 511) >> 9 if self.mode & 0o170000 == stat.S_IFREG else 0

    @property
    def block_size(self) -> int:
        return PREFERRED_IO_BYTES

    @property
    def is_directory(self) -> bool:
        return self.mode & 0o170000 == stat.S_IFDIR

    @property
    def is_file(self) -> bool:
        return self.mode & 0o170000 == stat.S_IFREG

    @property
    def is_unnamed(self) -> bool:
        """It has no name, nor one in the trash: it goes once nobody has it open."""
        return not self.nlink and not self.trashed

    def copy(self) -> "Attributes":
        return Attributes(
            self.ino,
            self.mode,
            self.uid,
            self.gid,
            self.nlink,
            self.rdev,
            self.generation,
            self.flags,
            self.block_bytes,
            self.size,
            self.parent,
            self.atime_ns,
            self.mtime_ns,
            self.ctime_ns,
            self.btime_ns,
            self.trashed,
            name=self.name,
        )

    def encode(self) -> bytes:
        record = _pack(
            self.mode,
            self.uid,
            self.gid,
            self.nlink,
            self.rdev,
            self.generation,
            self.flags,
            self.block_bytes,
            self.size,
            self.parent,
            self.atime_ns,
            self.mtime_ns,
            self.ctime_ns,
            self.btime_ns,
            self.trashed,
        )
        return record + self.name if self.name else record

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Attributes) and self.ino == other.ino and self.encode() == other.encode()

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Attributes(ino={self.ino}, mode={self.mode:o}, nlink={self.nlink}, size={self.size})"


def decode_attributes(ino: int, record: bytes) -> Attributes:
    """Inverse of `Attributes.encode`. struct.error when the record is shorter than its fixed part."""
    fields: tuple[int, ...] = _unpack_from(record)
    return Attributes(ino, *fields, name=record[RECORD_SIZE:])
