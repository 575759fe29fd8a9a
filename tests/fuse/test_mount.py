"""Real mounts: what applications see of a file system in memory, over the whole range of negotiations."""

import ctypes
import errno
import fcntl
import mmap
import os
import random
import stat
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fuse.memory_filesystem import MemoryFilesystem
from fuse.mounted import mounted
from loligo_fuse import OPEN_KILL_SUIDGID, Config, InitFlag, Opened
from loligo_fuse.protocol.negotiation import ALL_FLAGS

pytestmark = pytest.mark.skipif(os.geteuid() != 0 or not os.path.exists("/dev/fuse"), reason="needs root and /dev/fuse")

MIB = 1 << 20
LIBC = ctypes.CDLL(None, use_errno=True)

CONFIGS = {
    "default": Config(),
    "7.31": Config(minor_max=31),
    "7.36": Config(minor_max=36),
    "no-flags": Config(flags_allowed=0),
    "no-setxattr-ext": Config(flags_allowed=ALL_FLAGS & ~InitFlag.SETXATTR_EXT),
    "no-readdirplus": Config(flags_allowed=ALL_FLAGS & ~InitFlag.DO_READDIRPLUS),
    "always-readdirplus": Config(flags_allowed=ALL_FLAGS & ~InitFlag.READDIRPLUS_AUTO),
    "auto-inval": Config(flags_allowed=ALL_FLAGS & ~InitFlag.EXPLICIT_INVAL_DATA),
}


@pytest.fixture
def filesystem() -> MemoryFilesystem:
    return MemoryFilesystem()


@pytest.fixture(params=CONFIGS)
def root(request: pytest.FixtureRequest, tmp_path: Path, filesystem: MemoryFilesystem) -> Iterator[str]:
    """The mount, under every configuration."""
    with mounted(tmp_path, filesystem, CONFIGS[request.param]) as mount:
        yield mount.path


@pytest.fixture
def plain_root(tmp_path: Path, filesystem: MemoryFilesystem) -> Iterator[str]:
    """The mount, as it is by default."""
    with mounted(tmp_path, filesystem) as mount:
        yield mount.path


def put(path: str, data: bytes) -> None:
    with open(path, "wb") as file:
        file.write(data)


def get(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def error_of(call: object, *arguments: object) -> int | None:
    assert callable(call)
    with pytest.raises(OSError) as caught:
        call(*arguments)
    return caught.value.errno


def test_create_write_read(root: str) -> None:
    put(f"{root}/a", b"hello")
    assert get(f"{root}/a") == b"hello"
    with open(f"{root}/a", "r+b") as file:
        file.seek(3)
        file.write(b"p!")
    with open(f"{root}/a", "ab") as file:
        file.write(b"...")
    assert get(f"{root}/a") == b"help!..."
    put(f"{root}/a", b"shorter")
    assert get(f"{root}/a") == b"shorter"
    os.truncate(f"{root}/a", 9)
    assert get(f"{root}/a") == b"shorter\0\0"
    assert error_of(os.open, f"{root}/a", os.O_CREAT | os.O_EXCL) == errno.EEXIST
    assert error_of(os.stat, f"{root}/b") == errno.ENOENT


def test_directories_and_rename(root: str) -> None:
    os.mkdir(f"{root}/d", 0o750)
    os.mkdir(f"{root}/d/sub")
    put(f"{root}/d/file", b"1")
    assert stat.S_IMODE(os.stat(f"{root}/d").st_mode) == 0o750
    assert error_of(os.rmdir, f"{root}/d") == errno.ENOTEMPTY
    os.rename(f"{root}/d/file", f"{root}/moved")
    assert get(f"{root}/moved") == b"1"
    put(f"{root}/victim", b"2")
    os.rename(f"{root}/moved", f"{root}/victim")
    assert get(f"{root}/victim") == b"1"
    assert sorted(os.listdir(root)) == ["d", "victim"]
    os.rmdir(f"{root}/d/sub")
    os.rmdir(f"{root}/d")
    os.unlink(f"{root}/victim")
    assert os.listdir(root) == []


def test_symlink_link_mknod(root: str) -> None:
    os.symlink("some/target", f"{root}/s")
    assert os.readlink(f"{root}/s") == "some/target"
    assert stat.S_ISLNK(os.lstat(f"{root}/s").st_mode)
    put(f"{root}/f", b"x")
    os.link(f"{root}/f", f"{root}/g")
    assert os.stat(f"{root}/f").st_nlink == 2
    assert os.path.samefile(f"{root}/f", f"{root}/g")
    os.mkfifo(f"{root}/fifo")
    assert stat.S_ISFIFO(os.stat(f"{root}/fifo").st_mode)
    device = os.makedev(300, 70000)
    os.mknod(f"{root}/device", stat.S_IFBLK | 0o600, device)
    assert os.stat(f"{root}/device").st_rdev == device


def test_attributes(root: str) -> None:
    put(f"{root}/f", b"x")
    os.chmod(f"{root}/f", 0o4751)
    os.chown(f"{root}/f", 1234, 5678)
    for atime_ns, mtime_ns in ((1, 2), (-1, -1_999_999_999), (1 << 60, 5_000_000_000_000_000_001)):
        os.utime(f"{root}/f", ns=(atime_ns, mtime_ns))
        found = os.stat(f"{root}/f")
        assert (found.st_atime_ns, found.st_mtime_ns) == (atime_ns, mtime_ns)
    assert (found.st_uid, found.st_gid) == (1234, 5678)
    before_ns = time.time_ns()
    os.utime(f"{root}/f")
    assert before_ns <= os.stat(f"{root}/f").st_mtime_ns <= time.time_ns()
    assert os.stat(f"{root}/f").st_blksize == 4096


def test_umask_is_applied_once(root: str) -> None:
    old = os.umask(0o027)
    try:
        os.close(os.open(f"{root}/f", os.O_CREAT | os.O_WRONLY, 0o666))
        os.mkdir(f"{root}/d")
    finally:
        os.umask(old)
    assert stat.S_IMODE(os.stat(f"{root}/f").st_mode) == 0o640
    assert stat.S_IMODE(os.stat(f"{root}/d").st_mode) == 0o750


def test_xattrs(root: str) -> None:
    put(f"{root}/f", b"x")
    value = bytes(range(256)) * 16
    os.setxattr(f"{root}/f", "user.large", value)
    os.setxattr(f"{root}/f", "user.empty", b"", os.XATTR_CREATE)
    assert os.getxattr(f"{root}/f", "user.large") == value
    assert os.getxattr(f"{root}/f", "user.empty") == b""
    assert sorted(os.listxattr(f"{root}/f")) == ["user.empty", "user.large"]
    assert error_of(os.setxattr, f"{root}/f", "user.empty", b"", os.XATTR_CREATE) == errno.EEXIST
    os.removexattr(f"{root}/f", "user.empty")
    assert error_of(os.getxattr, f"{root}/f", "user.empty") == errno.ENODATA
    assert os.listxattr(f"{root}/f") == ["user.large"]


@pytest.mark.parametrize("count", [0, 1, 3000])
def test_listing(root: str, filesystem: MemoryFilesystem, count: int) -> None:
    os.mkdir(f"{root}/d")
    names = {f"{'n' * (index % 200)}{index}" for index in range(count)}
    for name in names:
        os.symlink("x", f"{root}/d/{name}")
    for _ in range(2):
        assert sorted(os.listdir(f"{root}/d")) == sorted(names)
    with os.scandir(f"{root}/d") as entries:
        for entry in entries:
            assert entry.is_symlink()
            assert entry.inode() == entry.stat(follow_symlinks=False).st_ino


def test_a_listing_with_attributes_spares_lookups(plain_root: str, filesystem: MemoryFilesystem) -> None:
    for index in range(300):
        os.symlink("x", f"{plain_root}/{index}")
    # A new mount of the same tree would know nothing; here the names are dropped one by one.
    with mounted(f"{plain_root}", filesystem) as second:
        filesystem.calls.clear()
        with os.scandir(second.path) as entries:
            for entry in entries:
                entry.stat(follow_symlinks=False)
        assert filesystem.calls["lookup"] < 20
        assert filesystem.calls["getattr"] < 20


def test_large_reads_and_writes(plain_root: str, filesystem: MemoryFilesystem) -> None:
    data = random.Random(1).randbytes(5 * MIB + 12345)
    sizes: list[int] = []

    def write(ctx, ino, handle, offset, data, kill_suidgid, flags):  # type: ignore[no-untyped-def]
        sizes.append(len(data))
        return MemoryFilesystem.write(filesystem, ctx, ino, handle, offset, data, kill_suidgid, flags)

    filesystem.hooks["write"] = write
    fd = os.open(f"{plain_root}/f", os.O_CREAT | os.O_WRONLY)
    assert os.write(fd, data) == len(data)
    os.close(fd)
    assert max(sizes) == MIB
    # Not from the page cache: direct I/O goes through read.
    filesystem.hooks["open"] = lambda *arguments: Opened(99, 1)
    filesystem.handles.add(99)
    fd = os.open(f"{plain_root}/f", os.O_RDONLY)
    filesystem.calls.clear()
    with mmap.mmap(-1, MIB) as aligned:  # an unaligned buffer touches one page more than a request has
        assert os.preadv(fd, [aligned], MIB) == MIB
        assert aligned[:] == data[MIB : 2 * MIB]
    assert filesystem.calls["read"] == 1
    assert os.pread(fd, 10 * MIB, 3 * MIB) == data[3 * MIB :]
    os.close(fd)


def test_large_files_whatever_was_negotiated(root: str, filesystem: MemoryFilesystem) -> None:
    data = random.Random(2).randbytes(3 * MIB + 1)
    put(f"{root}/f", data)
    fd = os.open(f"{root}/f", os.O_RDONLY)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(fd)
    assert get(f"{root}/f") == data
    (inode,) = (inode for inode in filesystem.inodes.values() if inode.data)
    assert inode.data == data


def test_read_in_pieces(plain_root: str, filesystem: MemoryFilesystem) -> None:
    put(f"{plain_root}/f", b"?" * 6)
    filesystem.hooks["read"] = lambda *arguments: [b"ab", memoryview(b"cd"), bytearray(b"ef")]
    fd = os.open(f"{plain_root}/f", os.O_RDONLY)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(fd)
    assert get(f"{plain_root}/f") == b"abcdef"


def test_open_unlinked_file_lives_on(root: str) -> None:
    with open(f"{root}/f", "w+b") as file:
        os.unlink(f"{root}/f")
        file.write(b"still here")
        file.seek(0)
        assert file.read() == b"still here"
        assert os.fstat(file.fileno()).st_nlink == 0


def test_rename_flags(plain_root: str) -> None:
    def renameat2(old: str, new: str, flags: int) -> int:
        done = LIBC.renameat2(-100, old.encode(), -100, new.encode(), flags)
        return ctypes.get_errno() if done else 0

    put(f"{plain_root}/a", b"a")
    put(f"{plain_root}/b", b"b")
    assert renameat2(f"{plain_root}/a", f"{plain_root}/b", 1) == errno.EEXIST
    assert renameat2(f"{plain_root}/a", f"{plain_root}/b", 2) == 0
    assert (get(f"{plain_root}/a"), get(f"{plain_root}/b")) == (b"b", b"a")
    assert renameat2(f"{plain_root}/a", f"{plain_root}/c", 1) == 0
    assert sorted(os.listdir(plain_root)) == ["b", "c"]


def test_fallocate_lseek_statfs_fsync(plain_root: str, filesystem: MemoryFilesystem) -> None:
    with open(f"{plain_root}/f", "w+b") as file:
        os.posix_fallocate(file.fileno(), 0, 5000)
        assert os.fstat(file.fileno()).st_size == 5000
        assert os.lseek(file.fileno(), 100, os.SEEK_HOLE) == 5000
        assert os.lseek(file.fileno(), 100, os.SEEK_DATA) == 100
        os.fsync(file.fileno())  # ENOSYS: taken for done
    found = os.statvfs(plain_root)
    assert (found.f_bsize, found.f_blocks, found.f_bfree, found.f_bavail) == (4096, 1000, 600, 500)
    assert (found.f_files, found.f_ffree, found.f_namemax) == (70, 60, 255)


def test_tmpfile(plain_root: str) -> None:
    fd = os.open(plain_root, os.O_TMPFILE | os.O_RDWR, 0o600)
    os.write(fd, b"nameless")
    assert os.pread(fd, 100, 0) == b"nameless"
    # os.link follows no symbolic link of /proc here, whatever its argument says.
    follow = 0x400
    named = f"{plain_root}/named".encode()
    assert LIBC.linkat(-100, f"/proc/self/fd/{fd}".encode(), -100, named, follow) == 0
    os.close(fd)
    assert get(f"{plain_root}/named") == b"nameless"


def test_locks_work_without_being_negotiated(plain_root: str) -> None:
    with open(f"{plain_root}/f", "wb") as one, open(f"{plain_root}/f", "wb") as other:
        fcntl.flock(one, fcntl.LOCK_EX)
        assert error_of(fcntl.flock, other, fcntl.LOCK_EX | fcntl.LOCK_NB) == errno.EWOULDBLOCK
        fcntl.lockf(one, fcntl.LOCK_EX)


def test_truncating_open_takes_set_user_id_away(public_path: str, filesystem: MemoryFilesystem) -> None:
    """HANDLE_KILLPRIV_V2: the kernel asks for it when the opener lacks CAP_FSETID; root has it."""
    flags: list[int] = []

    def open_(ctx, ino, open_flags):  # type: ignore[no-untyped-def]
        flags.append(open_flags)
        return MemoryFilesystem.open(filesystem, ctx, ino, open_flags)

    filesystem.hooks["open"] = open_
    with mounted(public_path, filesystem):
        put(f"{public_path}/f", b"x")
        os.chmod(f"{public_path}/f", 0o4777)
        put(f"{public_path}/f", b"x")
        command = ["setpriv", "--reuid=65534", "--clear-groups", "tee", f"{public_path}/f"]
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
    assert [bool(each & OPEN_KILL_SUIDGID) for each in flags] == [False, True]


def test_forget_and_release_balance(root: str, filesystem: MemoryFilesystem) -> None:
    """After unmounting the kernel has given back every count and every handle."""
    os.mkdir(f"{root}/d")
    for index in range(200):
        put(f"{root}/d/{index}", b"x")
    for index in range(0, 200, 3):
        os.unlink(f"{root}/d/{index}")
    for _ in range(3):
        with os.scandir(f"{root}/d") as entries:
            for entry in entries:
                entry.stat()
    assert len(filesystem.inodes) > 100
    with open("/proc/sys/vm/drop_caches", "w", encoding="ascii") as drop:
        drop.write("2")  # dentries and inodes: FORGET and BATCH_FORGET
    assert sorted(os.listdir(f"{root}/d")) == sorted(str(index) for index in range(200) if index % 3)
    counts = filesystem.lookups
    assert all(count > 0 for count in counts.values()), counts


def test_read_ahead(tmp_path: Path, filesystem: MemoryFilesystem) -> None:
    with mounted(tmp_path, filesystem, read_ahead_kb=1024) as mount:
        device = os.stat(mount.path).st_dev
        number = f"{os.major(device)}:{os.minor(device)}"
        with open(f"/sys/class/bdi/{number}/read_ahead_kb", encoding="ascii") as setting:
            assert setting.read().strip() == "1024"


@pytest.mark.parametrize("name", ["plain", "with space, comma\\and backslash", "ümläut"])
def test_odd_mountpoint_names(tmp_path: Path, filesystem: MemoryFilesystem, name: str) -> None:
    path = tmp_path / name
    path.mkdir()
    fd = os.open(path, os.O_RDONLY)  # keeps the directory below the mount reachable
    try:
        with mounted(path, filesystem, read_ahead_kb=512):
            put(f"{path}/f", b"x")
            assert os.listdir(path) == ["f"]
        assert os.listdir(path) == []
    finally:
        os.close(fd)
