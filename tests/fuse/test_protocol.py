"""The pure protocol: negotiation, decoding, encoding, malformed requests."""

import ctypes
import errno
import stat
import struct
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuse import kernel_structs as k
from loligo_fuse.protocol import decode, encode
from loligo_fuse.protocol import negotiation as n
from loligo_fuse.protocol.constants import OPEN_KILL_SUIDGID, InitFlag
from loligo_fuse.protocol.values import Context, FileLock, Opened, StatFs

EVERYTHING = (1 << 64) - 1
BEFORE_INIT_EXT = EVERYTHING & 0x3FFFFFFF
MALFORMED = (decode.Malformed, struct.error)
CTX = Context(uid=1, gid=2, pid=3, unique=99)


def view(*parts: ctypes.Structure | bytes) -> memoryview:
    return memoryview(b"".join(bytes(part) for part in parts))


def split_reply(reply: encode.Reply) -> tuple[int, bytes]:
    """Checks the header; returns the error and the body."""
    raw = bytes(reply) if isinstance(reply, bytes) else b"".join(bytes(piece) for piece in reply)
    header = k.out_header.from_buffer_copy(raw)
    assert header.len == len(raw)
    assert header.unique == CTX.unique
    return header.error, raw[ctypes.sizeof(k.out_header) :]


def body_of(reply: encode.Reply, layout: type[ctypes.Structure]) -> Any:
    error, body = split_reply(reply)
    assert error == 0
    assert len(body) == ctypes.sizeof(layout), "the kernel takes replies of the exact size only"
    return layout.from_buffer_copy(body)


# --- negotiation


def offer(minor: int, flags: int, major: int = 7) -> n.InitOffer:
    init = k.init_in(major=major, minor=minor, max_readahead=131072, flags=flags & 0xFFFFFFFF, flags2=flags >> 32)
    size = ctypes.sizeof(init) if minor >= 36 else 16
    return n.decode_init(memoryview(bytes(init)[:size]))


def agree(minor: int, flags: int, **config: Any) -> n.Negotiated:
    settings: dict[str, Any] = {"max_write": 1 << 20, "max_background": 64, **config}
    agreed = n.negotiate(offer(minor, flags), **settings)
    assert agreed is not None
    return agreed


def test_linux_5_4_speaks_7_31() -> None:
    agreed = agree(31, BEFORE_INIT_EXT)
    assert agreed.minor == 31
    assert agreed.max_write == 1 << 20
    assert InitFlag.EXPLICIT_INVAL_DATA in agreed.flags
    # Flags that a kernel of 7.31 cannot know, whatever its offer says.
    assert not agreed.flags & (InitFlag.HANDLE_KILLPRIV_V2 | InitFlag.SETXATTR_EXT | InitFlag.INIT_EXT)


@pytest.mark.parametrize("minor", [36, 45])
def test_newer_kernels_get_all_that_is_wanted(minor: int) -> None:
    agreed = agree(minor, EVERYTHING)
    assert agreed.minor == minor
    for flag in (InitFlag.HANDLE_KILLPRIV_V2, InitFlag.SETXATTR_EXT, InitFlag.INIT_EXT):
        assert flag in agreed.flags


@pytest.mark.parametrize("minor", [31, 36, 45, 99])
def test_what_would_break_coherence_is_never_taken(minor: int) -> None:
    flags = agree(minor, EVERYTHING).flags
    for flag in (
        InitFlag.WRITEBACK_CACHE,
        InitFlag.AUTO_INVAL_DATA,
        InitFlag.POSIX_LOCKS,
        InitFlag.FLOCK_LOCKS,
        InitFlag.SPLICE_READ,
        InitFlag.SPLICE_WRITE,
        InitFlag.NO_OPEN_SUPPORT,
    ):
        assert flag not in flags
    assert int(flags) >> 32 == 0


def test_a_kernel_from_the_future_is_answered_with_what_we_know() -> None:
    assert agree(99, EVERYTHING).minor == 45


def test_a_cap_also_drops_the_flags_of_later_versions() -> None:
    assert agree(45, EVERYTHING, minor_max=31) == agree(31, BEFORE_INIT_EXT)


@given(st.integers(31, 60), st.integers(0, EVERYTHING), st.integers(0, EVERYTHING))
def test_nothing_is_taken_that_was_not_offered_and_allowed(minor: int, offered: int, allowed: int) -> None:
    flags = int(agree(minor, offered, flags_allowed=allowed).flags)
    assert flags & ~(offered & allowed) == 0


def test_without_explicit_invalidation_changed_attributes_invalidate_data() -> None:
    agreed = agree(31, BEFORE_INIT_EXT & ~InitFlag.EXPLICIT_INVAL_DATA)
    assert InitFlag.AUTO_INVAL_DATA in agreed.flags
    masked = agree(45, EVERYTHING, flags_allowed=EVERYTHING & ~InitFlag.EXPLICIT_INVAL_DATA)
    assert InitFlag.AUTO_INVAL_DATA in masked.flags


def test_without_max_pages_a_write_has_32_pages() -> None:
    assert agree(45, EVERYTHING & ~InitFlag.MAX_PAGES).max_write == 128 << 10
    assert agree(45, EVERYTHING & ~InitFlag.BIG_WRITES).max_write == 4096


@pytest.mark.parametrize(("major", "minor"), [(6, 99), (7, 30), (7, 8)])
def test_too_old_a_kernel_is_refused_with_a_reason(major: int, minor: int) -> None:
    with pytest.raises(n.UnsupportedKernelError, match=rf"{major}\.{minor}.*7\.31"):
        n.negotiate(offer(minor, EVERYTHING, major), max_write=4096, max_background=1)


def test_a_newer_major_version_is_answered_with_ours() -> None:
    assert n.negotiate(offer(0, 0, major=8), max_write=4096, max_background=1) is None
    out = body_of(n.encode_init_major(CTX.unique), k.init_out)
    assert out.major == 7


def test_short_init_with_the_extension_flag_has_no_second_word() -> None:
    init = k.init_in(major=7, minor=36, flags=InitFlag.INIT_EXT, flags2=0xFFFFFFFF)
    assert n.decode_init(memoryview(bytes(init)[:16])).flags == InitFlag.INIT_EXT
    with pytest.raises(MALFORMED):
        n.decode_init(memoryview(bytes(init)[:12]))


def test_init_reply() -> None:
    agreed = agree(45, EVERYTHING)
    out = body_of(n.encode_init(CTX.unique, agreed), k.init_out)
    assert (out.major, out.minor) == (7, 45)
    assert out.flags == int(agreed.flags) & 0xFFFFFFFF
    assert (out.max_write, out.max_pages) == (1 << 20, 256)
    assert (out.max_background, out.congestion_threshold) == (64, 48)
    assert out.time_gran == 1
    without = agree(45, EVERYTHING & ~InitFlag.MAX_PAGES)
    assert body_of(n.encode_init(CTX.unique, without), k.init_out).max_pages == 0


# --- decoding

NAME = b"name\0"
REQUESTS: list[tuple[Callable[..., Any], memoryview, Any]] = [
    (decode.decode_name, view(NAME), b"name"),
    (decode.decode_two_names, view(b"link\0target\0"), (b"link", b"target")),
    (decode.decode_u64, view(k.forget_in(nlookup=7)), 7),
    (decode.decode_release, view(k.release_in(fh=1 << 63, flags=1, lock_owner=9)), (1 << 63, None)),
    (decode.decode_release, view(k.release_in(fh=4, release_flags=3, lock_owner=9)), (4, 9)),
    (decode.decode_flush, view(k.flush_in(fh=5, lock_owner=1 << 63)), (5, 1 << 63)),
    (
        decode.decode_lock,
        view(k.lk_in(fh=5, owner=1 << 63, lk=k.file_lock(start=7, end=(1 << 63) - 1, type=1, pid=42))),
        (5, 1 << 63, FileLock(7, (1 << 63) - 1, 1, 42), False),
    ),
    (decode.decode_lock, view(k.lk_in(fh=5, lk=k.file_lock(type=2), lk_flags=1)), (5, 0, FileLock(0, 0, 2, 0), True)),
    (decode.decode_u64, view(k.interrupt_in(unique=6)), 6),
    (decode.decode_u32, view(k.access_in(mask=4)), 4),
    (
        decode.decode_batch_forget,
        view(k.batch_forget_in(count=2), k.forget_one(nodeid=8, nlookup=1), k.forget_one(9, 2)),
        [(8, 1), (9, 2)],
    ),
    (decode.decode_getattr, view(k.getattr_in(getattr_flags=0, fh=3)), None),
    (decode.decode_getattr, view(k.getattr_in(getattr_flags=1, fh=3)), 3),
    (
        decode.decode_mknod,
        view(k.mknod_in(mode=0o60644, rdev=0x801, umask=0o22), NAME),
        (b"name", 0o60644, 0x801, 0o22),
    ),
    (decode.decode_mkdir, view(k.mkdir_in(mode=0o755, umask=0o77), NAME), (b"name", 0o755, 0o77)),
    (decode.decode_rename, view(k.rename_in(newdir=4), b"a\0b\0"), (b"a", 4, b"b", 0)),
    (decode.decode_rename2, view(k.rename2_in(newdir=4, flags=2), b"a\0b\0"), (b"a", 4, b"b", 2)),
    (decode.decode_link, view(k.link_in(oldnodeid=12), NAME), (12, b"name")),
    (decode.decode_open, view(k.open_in(flags=0o2)), 0o2),
    (decode.decode_open, view(k.open_in(flags=0o1002, open_flags=1)), 0o1002 | OPEN_KILL_SUIDGID),
    (
        decode.decode_create,
        view(k.create_in(flags=0o101, mode=0o100644, umask=0o22, open_flags=1), NAME),
        (b"name", 0o100644, 0o22, 0o101 | OPEN_KILL_SUIDGID),
    ),
    (decode.decode_read, view(k.read_in(fh=1, offset=1 << 40, size=4096)), (1, 1 << 40, 4096)),
    (
        decode.decode_write,
        view(k.write_in(fh=1, offset=2, size=3, write_flags=4, flags=0o2000), b"abc"),
        (1, 2, b"abc", True, 0o2000),
    ),
    (decode.decode_write, view(k.write_in(fh=1, write_flags=1)), (1, 0, b"", False, 0)),
    (decode.decode_fsync, view(k.fsync_in(fh=2, fsync_flags=1)), (2, True)),
    (decode.decode_fsync, view(k.fsync_in(fh=2)), (2, False)),
    (
        decode.decode_setxattr,
        view(struct.pack("=II", 3, 1), b"user.a\0", b"v\0w"),
        (b"user.a", b"v\0w", 1, False),
    ),
    (
        decode.decode_setxattr_ext,
        view(k.setxattr_in(size=3, flags=1, setxattr_flags=1), b"user.a\0", b"v\0w"),
        (b"user.a", b"v\0w", 1, True),
    ),
    (decode.decode_getxattr, view(k.getxattr_in(size=9), b"user.a\0"), (9, b"user.a")),
    (decode.decode_listxattr, view(k.getxattr_in(size=9)), 9),
    (
        decode.decode_fallocate,
        view(k.fallocate_in(fh=1, offset=2, length=3, mode=4)),
        (1, 2, 3, 4),
    ),
    (decode.decode_lseek, view(k.lseek_in(fh=1, offset=2, whence=3)), (1, 2, 3)),
]


@pytest.mark.parametrize(("decoder", "body", "expected"), REQUESTS)
def test_decode(decoder: Callable[..., Any], body: memoryview, expected: Any) -> None:
    assert decoder(body) == expected


# Of these only the first integer is read: the rest may be missing.
NEEDED_BYTES = {decode.decode_u64: 8, decode.decode_u32: 4}


@pytest.mark.parametrize(("decoder", "body", "expected"), REQUESTS)
def test_every_truncation_is_refused(decoder: Callable[..., Any], body: memoryview, expected: Any) -> None:
    for length in range(NEEDED_BYTES.get(decoder, len(body))):
        with pytest.raises(MALFORMED):
            decoder(body[:length])


@pytest.mark.parametrize(
    ("decoder", "body"),
    [
        (decode.decode_name, view(b"no end")),
        (decode.decode_name, view(b"two\0parts\0")),
        (decode.decode_name, view(b"\0")),
        (decode.decode_two_names, view(b"one\0")),
        (decode.decode_two_names, view(b"one\0\0")),
        (decode.decode_two_names, view(b"one\0two\0three\0")),
        (decode.decode_batch_forget, view(k.batch_forget_in(count=0xFFFFFFFF))),
        (decode.decode_write, view(k.write_in(size=4), b"abc")),
        (decode.decode_write, view(k.write_in(size=2), b"abc")),
        (decode.decode_setxattr_ext, view(k.setxattr_in(size=9), b"user.a\0", b"value")),
    ],
)
def test_lies_are_refused(decoder: Callable[..., Any], body: memoryview) -> None:
    with pytest.raises(MALFORMED):
        decoder(body)


@given(st.binary(max_size=200))
def test_random_bytes_never_raise_anything_else(raw: bytes) -> None:
    for decoder, _, _ in REQUESTS:
        with suppress(*MALFORMED):
            decoder(memoryview(raw))
    with suppress(*MALFORMED):
        decode.decode_setattr(memoryview(raw), 0)


def test_setattr_nothing() -> None:
    change, handle = decode.decode_setattr(view(k.setattr_in(mode=0o777, uid=5, fh=8)), 0)
    assert handle is None
    assert (change.mode, change.uid, change.gid, change.size) == (None, None, None, None)
    assert (change.atime_ns, change.mtime_ns, change.ctime_ns) == (None, None, None)
    assert change.kill_suidgid is False


def test_setattr_everything() -> None:
    request = k.setattr_in(
        valid=0b110001111111,
        fh=8,
        size=1 << 40,
        atime=1,
        atimensec=2,
        mtime=(1 << 64) - 1,  # one second before 1970
        mtimensec=999_999_999,
        ctime=3,
        ctimensec=4,
        mode=0o100600,
        uid=5,
        gid=6,
    )
    change, handle = decode.decode_setattr(view(request), 0)
    assert handle == 8
    assert (change.mode, change.uid, change.gid, change.size) == (0o100600, 5, 6, 1 << 40)
    assert change.atime_ns == 1_000_000_002
    assert change.mtime_ns == -1
    assert change.ctime_ns == 3_000_000_004
    assert change.kill_suidgid is True


def test_setattr_now_is_the_time_given() -> None:
    request = k.setattr_in(valid=0b110110000, atime=1, mtime=1)
    change, _ = decode.decode_setattr(view(request), 77)
    assert (change.atime_ns, change.mtime_ns) == (77, 77)


# --- encoding


@dataclass
class Inode:
    ino: int = 1 << 48 | 5
    generation: int = 3
    mode: int = stat.S_IFREG | 0o640
    nlink: int = 2
    uid: int = 1000
    gid: int = 1001
    rdev: int = 0x801
    size: int = 1 << 40
    blocks: int = 1 << 31
    block_size: int = 1 << 22
    atime_ns: int = 1_700_000_000_123_456_789
    mtime_ns: int = -1
    ctime_ns: int = -2_000_000_000


ENTRIES = encode.EntryEncoder(entry_timeout_s=3600, attribute_timeout_s=0.5, negative_timeout_s=1.25)


def check_attributes(attributes: Any) -> None:
    assert attributes.ino == 1 << 48 | 5
    assert attributes.mode == stat.S_IFREG | 0o640
    assert (attributes.nlink, attributes.uid, attributes.gid) == (2, 1000, 1001)
    assert (attributes.size, attributes.blocks, attributes.blksize) == (1 << 40, 1 << 31, 1 << 22)
    assert attributes.rdev == 0x801
    assert (attributes.atime, attributes.atimensec) == (1_700_000_000, 123_456_789)
    assert (attributes.mtime, attributes.mtimensec) == ((1 << 64) - 1, 999_999_999)
    assert (attributes.ctime, attributes.ctimensec) == ((1 << 64) - 2, 0)
    assert attributes.flags == 0


def test_encode_attributes() -> None:
    out = body_of(ENTRIES.attributes(CTX, Inode()), k.attr_out)
    assert (out.attr_valid, out.attr_valid_nsec) == (0, 500_000_000)
    check_attributes(out.attr)


def check_entry(out: Any) -> None:
    assert (out.nodeid, out.generation) == (1 << 48 | 5, 3)
    assert (out.entry_valid, out.entry_valid_nsec) == (3600, 0)
    assert (out.attr_valid, out.attr_valid_nsec) == (0, 500_000_000)
    check_attributes(out.attr)


def test_encode_entry() -> None:
    check_entry(body_of(ENTRIES.entry(CTX, Inode()), k.entry_out))


def test_encode_negative_entry() -> None:
    out = body_of(ENTRIES.entry(CTX, None), k.entry_out)
    assert (out.nodeid, out.entry_valid, out.entry_valid_nsec) == (0, 1, 250_000_000)
    forgetful = encode.EntryEncoder(entry_timeout_s=1, attribute_timeout_s=1, negative_timeout_s=0)
    assert split_reply(forgetful.entry(CTX, None)) == (-errno.ENOENT, b"")


def test_encode_created() -> None:
    error, body = split_reply(ENTRIES.created(CTX, (Inode(), Opened(1 << 63, 2))))
    assert error == 0
    entry_bytes = ctypes.sizeof(k.entry_out)
    check_entry(k.entry_out.from_buffer_copy(body))
    opened = k.open_out.from_buffer_copy(body[entry_bytes:])
    assert len(body) == entry_bytes + ctypes.sizeof(k.open_out)
    assert (opened.fh, opened.open_flags) == (1 << 63, 2)


def test_encode_small_replies() -> None:
    assert split_reply(encode.encode_nothing(CTX, None)) == (0, b"")
    assert split_reply(encode.encode_bytes(CTX, b"target")) == (0, b"target")
    assert split_reply(encode.encode_error(CTX.unique, errno.EPERM)) == (-errno.EPERM, b"")
    assert body_of(encode.encode_opened(CTX, Opened(7, 3)), k.open_out).fh == 7
    assert body_of(encode.encode_written(CTX, 4096), k.write_out).size == 4096
    assert body_of(encode.encode_position(CTX, 1 << 40), k.lseek_out).offset == 1 << 40
    lock = body_of(encode.encode_lock(CTX, FileLock(5, 9, 1, 77)), k.lk_out).lk
    assert (lock.start, lock.end, lock.type, lock.pid) == (5, 9, 1, 77)
    assert body_of(encode.encode_lock(CTX, None), k.lk_out).lk.type == 2


def test_encode_statfs() -> None:
    out = body_of(encode.encode_statfs(CTX, StatFs(4096, 1, 2, 3, 4, 5, 255)), k.kstatfs)
    assert (out.blocks, out.bfree, out.bavail, out.files, out.ffree) == (1, 2, 3, 4, 5)
    assert (out.bsize, out.frsize, out.namelen) == (4096, 4096, 255)


@pytest.mark.parametrize(
    "data",
    [
        b"abcdef",
        bytearray(b"abcdef"),
        memoryview(b"abcdef"),
        [b"abc", memoryview(b"def")],
        [b"abcdef"[i : i + 1] for i in range(6)] + [b""] * 2000,
        memoryview(struct.pack("3H", *struct.unpack("3H", b"abcdef"))).cast("H"),
    ],
    ids=["bytes", "bytearray", "view", "list", "more-than-writev-takes", "view-of-words"],
)
def test_encode_data(data: Any) -> None:
    ctx = Context(0, 0, 0, CTX.unique, reply_limit_bytes=6)
    reply = encode.encode_data(ctx, data)
    assert len(reply) <= 1024
    assert split_reply(reply) == (0, b"abcdef")
    ctx.reply_limit_bytes = 5
    with pytest.raises(ValueError, match="6 bytes, 5"):
        encode.encode_data(ctx, data)


def test_encode_xattrs() -> None:
    ask = Context(0, 0, 0, CTX.unique, 0)
    assert body_of(encode.encode_xattr(ask, b"value"), k.getxattr_out).size == 5
    assert body_of(encode.encode_xattr_names(ask, [b"a", b"bc"]), k.getxattr_out).size == 5
    fits = Context(0, 0, 0, CTX.unique, 5)
    assert split_reply(encode.encode_xattr(fits, b"value")) == (0, b"value")
    assert split_reply(encode.encode_xattr_names(fits, [b"a", b"bc"])) == (0, b"a\0bc\0")
    small = Context(0, 0, 0, CTX.unique, 4)
    with pytest.raises(OSError, match="larger") as caught:
        encode.encode_xattr(small, b"value")
    assert caught.value.errno == errno.ERANGE
    with pytest.raises(OSError, match="larger"):
        encode.encode_xattr_names(small, [b"a", b"bc"])


NAMES = [b".", b"..", *[b"n" * length for length in range(1, 20)]]


class Listing:
    """Yields entries and remembers how many were accepted, as an Operations that counts would."""

    def __init__(self) -> None:
        self.accepted = 0

    def entries(self) -> Iterator[encode.DirectoryEntry]:
        for index, name in enumerate(NAMES):
            attributes = None if index < 2 else Inode()
            yield name, index + 1, 100 + index, stat.S_IFDIR | 0o755, attributes
            self.accepted += 1


def parse_directory(body: bytes, plus: bool) -> list[tuple[bytes, int, int, int, Any]]:
    found = []
    while body:
        entry = None
        if plus:
            entry = k.entry_out.from_buffer_copy(body)
            body = body[ctypes.sizeof(k.entry_out) :]
        head = k.dirent.from_buffer_copy(body)
        start = ctypes.sizeof(k.dirent)
        found.append((body[start : start + head.namelen], head.off, head.ino, head.type, entry))
        body = body[(start + head.namelen + 7) // 8 * 8 :]
    return found


@pytest.mark.parametrize("plus", [False, True])
@pytest.mark.parametrize("limit_bytes", [160, 200, 488, 1000, 100_000])
def test_encode_directory(plus: bool, limit_bytes: int) -> None:
    listing = Listing()
    ctx = Context(0, 0, 0, CTX.unique, limit_bytes)
    encoder = ENTRIES.directory_plus if plus else encode.encode_directory
    error, body = split_reply(encoder(ctx, listing.entries()))
    assert error == 0
    assert len(body) <= limit_bytes
    found = parse_directory(body, plus)
    assert 0 < len(found) == listing.accepted <= len(NAMES)
    assert len(found) == len(NAMES) or limit_bytes < 100_000
    for index, (name, cookie, ino, kind, entry) in enumerate(found):
        assert (name, cookie, ino, kind) == (NAMES[index], index + 1, 100 + index, 4)
        if plus and index < 2:
            assert entry.nodeid == 0
        elif plus:
            check_entry(entry)


@pytest.mark.parametrize("encoder", [ENTRIES.directory_plus, encode.encode_directory])
def test_a_buffer_too_small_for_one_entry_is_not_the_end(encoder: Callable[..., bytes]) -> None:
    ctx = Context(0, 0, 0, CTX.unique, 24)
    with pytest.raises(OSError) as caught:
        encoder(ctx, Listing().entries())
    assert caught.value.errno == errno.EINVAL
    assert split_reply(encoder(ctx, iter(()))) == (0, b"")


def check_notification(message: list[Any], code: int, layout: type[ctypes.Structure]) -> tuple[Any, bytes]:
    raw = b"".join(bytes(part) for part in message)
    header = k.out_header.from_buffer_copy(raw)
    assert (header.len, header.error, header.unique) == (len(raw), code, 0)
    body = raw[ctypes.sizeof(header) :]
    return layout.from_buffer_copy(body), body[ctypes.sizeof(layout) :]


def test_encode_notifications() -> None:
    out, rest = check_notification([encode.encode_inval_inode(5, -1, 0)], 2, k.notify_inval_inode_out)
    assert (out.ino, out.off, out.len, rest) == (5, -1, 0, b"")
    out, rest = check_notification([encode.encode_inval_entry(5, b"name")], 3, k.notify_inval_entry_out)
    assert (out.parent, out.namelen, out.flags, rest) == (5, 4, 0, b"name\0")
    out, rest = check_notification(encode.encode_store(5, 4096, b"data"), 4, k.notify_store_out)
    assert (out.nodeid, out.offset, out.size, rest) == (5, 4096, 4, b"data")
