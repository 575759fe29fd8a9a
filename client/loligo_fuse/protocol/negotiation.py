"""INIT: what the kernel offers and what we take.

A flag is taken if the kernel offers it, we want it, the caller allows it, and the agreed minor version
already knew it. The last matters when a cap below the kernel's version is set: a kernel that was told
"7.31" must not also be told about a flag of 7.36.
"""

from dataclasses import dataclass
from struct import Struct

from loligo_fuse.protocol.constants import MAJOR, MINOR_MAX, MINOR_MIN, PAGE_BYTES, InitFlag
from loligo_fuse.protocol.encode import HEADER_BYTES, REPLY_HEADER

_INIT_IN = Struct("=IIII")  # major, minor, max_readahead, flags
_INIT_IN_FLAGS2 = Struct("=I")  # since 7.36, present if INIT_EXT is set
# major, minor, max_readahead, flags, max_background, congestion_threshold, max_write, time_gran,
# max_pages, map_alignment, flags2, max_stack_depth, unused
_INIT_OUT = Struct("=IIIIHHIIHHII24x")

# Without MAX_PAGES a request carries at most 32 pages.
_MAX_WRITE_WITHOUT_MAX_PAGES = 32 * PAGE_BYTES

# The smaller of this and the device's own setting counts; see `read_ahead_kb` in device.mount.
_MAX_READAHEAD_BYTES = 1 << 30

_WANTED = (
    InitFlag.ASYNC_READ
    | InitFlag.ATOMIC_O_TRUNC
    | InitFlag.EXPORT_SUPPORT
    | InitFlag.BIG_WRITES
    | InitFlag.DONT_MASK
    | InitFlag.DO_READDIRPLUS
    | InitFlag.READDIRPLUS_AUTO
    | InitFlag.ASYNC_DIO
    | InitFlag.PARALLEL_DIROPS
    | InitFlag.POSIX_ACL
    | InitFlag.MAX_PAGES
    | InitFlag.CACHE_SYMLINKS
    | InitFlag.NO_OPENDIR_SUPPORT
    | InitFlag.EXPLICIT_INVAL_DATA
    | InitFlag.HANDLE_KILLPRIV_V2
    | InitFlag.SETXATTR_EXT
    | InitFlag.INIT_EXT
)

_LOCKS = InitFlag.POSIX_LOCKS | InitFlag.FLOCK_LOCKS

_SINCE_MINOR = {
    InitFlag.HANDLE_KILLPRIV_V2: 33,
    InitFlag.SETXATTR_EXT: 33,
    InitFlag.INIT_EXT: 36,
}

ALL_FLAGS = (1 << 64) - 1


class UnsupportedKernelError(Exception):
    """The kernel's FUSE protocol is too old for this package."""


@dataclass(frozen=True, slots=True)
class InitOffer:
    major: int
    minor: int
    max_readahead_bytes: int
    flags: int


@dataclass(frozen=True, slots=True)
class Negotiated:
    """What holds for the whole life of a mount. `flags` are InitFlag bits."""

    minor: int
    flags: InitFlag
    max_write: int
    max_background: int


def decode_init(body: memoryview) -> InitOffer:
    major, minor, max_readahead_bytes, flags = _INIT_IN.unpack_from(body)
    if flags & InitFlag.INIT_EXT and len(body) >= _INIT_IN.size + _INIT_IN_FLAGS2.size:
        flags |= _INIT_IN_FLAGS2.unpack_from(body, _INIT_IN.size)[0] << 32
    return InitOffer(major, minor, max_readahead_bytes, flags)


def negotiate(
    offer: InitOffer,
    *,
    max_write: int,
    max_background: int,
    locks: bool = False,
    minor_max: int = MINOR_MAX,
    flags_allowed: int = ALL_FLAGS,
) -> Negotiated | None:
    """What to agree on, or None if the kernel is to ask again with our major version. `locks`: they are ours to keep.

    UnsupportedKernelError if it is older than 7.31 (Linux 5.4).
    """
    if offer.major > MAJOR:
        return None
    if offer.major < MAJOR or offer.minor < MINOR_MIN:
        raise UnsupportedKernelError(
            f"the kernel speaks FUSE {offer.major}.{offer.minor}; {MAJOR}.{MINOR_MIN} (Linux 5.4) or newer is needed"
        )
    minor = min(offer.minor, minor_max, MINOR_MAX)
    wanted = _WANTED | _LOCKS if locks else _WANTED
    if not offer.flags & flags_allowed & InitFlag.EXPLICIT_INVAL_DATA:
        # Else a changed mtime or size has to tell the kernel that its pages are old.
        wanted |= InitFlag.AUTO_INVAL_DATA
    for flag, since in _SINCE_MINOR.items():
        if minor < since:
            wanted &= ~flag
    flags = InitFlag(offer.flags & wanted & flags_allowed)
    if not flags & InitFlag.MAX_PAGES:
        max_write = min(max_write, _MAX_WRITE_WITHOUT_MAX_PAGES)
    if not flags & InitFlag.BIG_WRITES:
        max_write = PAGE_BYTES
    return Negotiated(minor, flags, max(max_write, PAGE_BYTES), max_background)


def encode_init(unique: int, agreed: Negotiated) -> bytes:
    pages = -(-agreed.max_write // PAGE_BYTES)
    flags = int(agreed.flags)
    return REPLY_HEADER.pack(HEADER_BYTES + _INIT_OUT.size, 0, unique) + _INIT_OUT.pack(
        MAJOR,
        agreed.minor,
        _MAX_READAHEAD_BYTES,
        flags & 0xFFFFFFFF,
        agreed.max_background,
        agreed.max_background * 3 // 4,
        agreed.max_write,
        1,  # time stamps in nanoseconds
        pages if flags & InitFlag.MAX_PAGES else 0,
        0,
        flags >> 32,
        0,
    )


def encode_init_major(unique: int) -> bytes:
    """The answer to a newer major version: ours. The kernel sends another INIT that we understand."""
    return REPLY_HEADER.pack(HEADER_BYTES + _INIT_OUT.size, 0, unique) + _INIT_OUT.pack(
        MAJOR, MINOR_MAX, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0
    )
