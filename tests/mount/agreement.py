"""Doing the same things on a mount and in a plain local directory, and comparing what comes of it.

Each example is a list of operations on a small set of names and descriptors, done step by step in both places: results and
errnos must agree after each, and the whole trees at the end. Users take turns, so permission checks are compared too.
Offsets are drawn near multiples of 4 KiB (the inline limit) and 64 KiB (make that the block size).

What is not compared: ctime and inode numbers, atime beyond the call that set it, sizes of directories, disk usage.
"""

import contextlib
import ctypes
import errno
import json
import mmap
import os
import shutil
import stat
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hypothesis import event
from hypothesis import strategies as st

from loligo_lab.folders import DISK
from loligo_lab.mounts import LabMount
from loligo_lab.users import NOBODY

OPERATIONS_MIN, OPERATIONS_MAX = 20, 60
DESCRIPTORS = 4

# -- what may be drawn --------------------------------------------------------------------------------------------------

_NAMES = [b"a", b"a", b"a", b"b", b"b", b"c", b"\xff\xfe", b"n" * 255]
_DIRECTORIES = [b"", b"", b"d/", b"d/", b"e/", b"link/"]
paths = st.builds(lambda directory, name: directory + name, st.sampled_from(_DIRECTORIES), st.sampled_from(_NAMES))
directories = st.sampled_from([b"d", b"e", b"d/d", b"link"])
any_path = st.one_of(paths, paths, paths, directories)
targets = st.sampled_from([b"a", b"d", b"../a", b"missing", b"d/d", b"link", b"x" * 4095])
slots = st.integers(0, DESCRIPTORS - 1)
users = st.sampled_from([0, 0, 0, NOBODY])
offsets = st.one_of(
    st.integers(0, 300_000),
    st.builds(
        lambda unit, count, by: max(0, unit * count + by),
        st.sampled_from([4096, 65536]),
        st.integers(0, 4),
        st.integers(-2, 2),
    ),
)
lengths = st.one_of(st.integers(1, 200), st.sampled_from([4096, 65535, 65536, 65537, 140_000]), st.integers(1, 100_000))
modes = st.sampled_from([0o644, 0o600, 0o666, 0o755, 0o777, 0o000, 0o444, 0o4755, 0o2775, 0o1777, 0o6711])
times_ns = st.sampled_from(
    [0, 1, -1, -1_500_000_000, 999_999_999, 1_234_567_890, 86_400 * 365 * 80 * 10**9 + 7, 5 * 10**9]
)
open_flags = st.builds(
    lambda access, *others: access | sum(others),
    st.sampled_from([os.O_RDONLY, os.O_WRONLY, os.O_RDWR, os.O_RDWR]),
    *(st.sampled_from([0, 0, flag]) for flag in (os.O_CREAT, os.O_EXCL, os.O_TRUNC, os.O_APPEND, os.O_NOFOLLOW)),
    st.sampled_from([0, 0, 0, 0, os.O_DIRECTORY]),
)
xattr_names = st.sampled_from(
    [b"user.one", b"user.two", b"trusted.t", b"security.s", b"user." + b"n" * 250, b"other.x"]
)
xattr_values = st.sampled_from([b"", b"v", b"value", b"\0\xff" * 50])
owners = st.sampled_from([-1, 0, NOBODY, 1234])
fill = st.integers(1, 255)

RENAME_NOREPLACE, RENAME_EXCHANGE = 1, 2
_KEEP_SIZE, _PUNCH_HOLE, _ZERO_RANGE = 0x01, 0x02, 0x10

_libc = ctypes.CDLL(None, use_errno=True)


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


# -- one of the two places ------------------------------------------------------------------------------------------------


@dataclass
class Place:
    """`trash`: of the mount that it is on; or, in a plain directory, the folder that stands for one."""

    root: bytes
    trash: bytes = b""
    on_mount: bool = False
    #: Where in the trash things are that were thrown away. Two mounts share one.
    thrown: list[bytes] = field(default_factory=list)
    descriptors: list[int | None] = field(default_factory=lambda: [None] * DESCRIPTORS)

    def at(self, path: bytes) -> bytes:
        return os.path.join(self.root, path)

    def fd(self, slot: int) -> int:
        found = self.descriptors[slot]
        if found is None:
            raise OSError(errno.EBADF, "nothing is open")
        return found

    def close(self) -> None:
        for slot, fd in enumerate(self.descriptors):
            if fd is not None:
                os.close(fd)
                self.descriptors[slot] = None


Operation = tuple[Any, ...]
_operations: dict[str, Callable[..., Any]] = {}
_strategies: list[st.SearchStrategy[Operation]] = []


def operation(
    *arguments: st.SearchStrategy[Any], weight: int = 1
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        _operations[function.__name__] = function
        _strategies.extend(st.tuples(st.just(function.__name__), users, *arguments) for _ in range(weight))
        return function

    return register


@operation(slots, any_path, open_flags, modes, weight=4)
def open_file(place: Place, slot: int, path: bytes, flags: int, mode: int) -> None:
    fd = os.open(place.at(path), flags | os.O_NONBLOCK, mode)
    old, place.descriptors[slot] = place.descriptors[slot], fd
    if old is not None:
        os.close(old)


@operation(slots)
def close_file(place: Place, slot: int) -> None:
    fd = place.fd(slot)
    place.descriptors[slot] = None
    os.close(fd)


@operation(slots, offsets, lengths, fill, weight=6)
def write(place: Place, slot: int, offset: int, length: int, value: int) -> int:
    return os.pwrite(place.fd(slot), bytes([value]) * length, offset)


@operation(slots, lengths, fill, weight=2)
def append_here(place: Place, slot: int, length: int, value: int) -> int:
    return os.write(place.fd(slot), bytes([value]) * length)


@operation(slots, offsets, lengths, weight=3)
def read(place: Place, slot: int, offset: int, length: int) -> bytes:
    return os.pread(place.fd(slot), length, offset)


@operation(slots, st.integers(0, 300_000), fill)
def write_through_a_map(place: Place, slot: int, offset: int, value: int) -> None:
    fd = place.fd(slot)
    found = os.fstat(fd)
    size = found.st_size
    if not stat.S_ISREG(found.st_mode) or offset >= size:
        raise OSError(errno.ENXIO, "no such byte")
    with mmap.mmap(fd, size, mmap.MAP_SHARED) as pages:
        end = min(size, offset + 5000)
        pages[offset:end] = bytes([value]) * (end - offset)


@operation(slots, offsets, weight=2)
def truncate_open(place: Place, slot: int, size: int) -> None:
    os.ftruncate(place.fd(slot), size)


@operation(any_path, offsets)
def truncate(place: Place, path: bytes, size: int) -> None:
    os.truncate(place.at(path), size)


@operation(slots)
def sync(place: Place, slot: int) -> None:
    os.fsync(place.fd(slot))


@operation(slots)
def drop_pages(place: Place, slot: int) -> None:
    """The next read comes from the file system, not from the page cache."""
    os.fsync(place.fd(slot))
    os.posix_fadvise(place.fd(slot), 0, 0, os.POSIX_FADV_DONTNEED)


@operation(slots)
def describe_open(place: Place, slot: int) -> tuple[Any, ...]:
    return described(os.fstat(place.fd(slot)))


@operation(any_path, modes)
def make_directory(place: Place, path: bytes, mode: int) -> None:
    os.mkdir(place.at(path), mode)


@operation(any_path)
def remove_directory(place: Place, path: bytes) -> None:
    os.rmdir(place.at(path))


@operation(any_path, weight=2)
def unlink(place: Place, path: bytes) -> None:
    os.unlink(place.at(path))


@operation(any_path, any_path, weight=3)
def rename(place: Place, source: bytes, target: bytes) -> None:
    os.rename(place.at(source), place.at(target))


@operation(any_path, any_path, st.sampled_from([RENAME_NOREPLACE, RENAME_EXCHANGE, 3]))
def rename_specially(place: Place, source: bytes, target: bytes, flags: int) -> None:
    _checked(_libc.renameat2(-100, place.at(source), -100, place.at(target), flags))


@operation(any_path, any_path, weight=2)
def link(place: Place, source: bytes, target: bytes) -> None:
    os.link(place.at(source), place.at(target), follow_symlinks=False)


@operation(targets, st.one_of(st.just(b"link"), paths))
def symlink(place: Place, target: bytes, path: bytes) -> None:
    os.symlink(target, place.at(path))


@operation(any_path)
def read_link(place: Place, path: bytes) -> bytes:
    return os.readlink(place.at(path))


@operation(any_path, st.sampled_from([stat.S_IFIFO, stat.S_IFSOCK, stat.S_IFCHR, stat.S_IFBLK, stat.S_IFREG]), modes)
def make_node(place: Place, path: bytes, kind: int, mode: int) -> None:
    # Of a device that does not exist.
    os.mknod(place.at(path), kind | mode, os.makedev(240, 300) if kind in (stat.S_IFCHR, stat.S_IFBLK) else 0)


@operation(any_path, modes, weight=2)
def change_mode(place: Place, path: bytes, mode: int) -> None:
    os.chmod(place.at(path), mode)


@operation(any_path, owners, owners, st.booleans())
def change_owner(place: Place, path: bytes, uid: int, gid: int, follow: bool) -> None:
    if uid == gid == -1:
        gid = 0  # a FUSE file system is not told of a chown that changes nothing
    os.chown(place.at(path), uid, gid, follow_symlinks=follow)


@operation(any_path, times_ns, times_ns, st.booleans())
def set_times(place: Place, path: bytes, atime_ns: int, mtime_ns: int, follow: bool) -> tuple[int, int]:
    os.utime(place.at(path), ns=(atime_ns, mtime_ns), follow_symlinks=follow)
    found = os.stat(place.at(path), follow_symlinks=follow)
    return found.st_atime_ns, found.st_mtime_ns


@operation(any_path)
def describe(place: Place, path: bytes) -> tuple[Any, ...]:
    return described(os.lstat(place.at(path)))


@operation(any_path, st.sampled_from([os.R_OK, os.W_OK, os.X_OK]))
def may(place: Place, path: bytes, how: int) -> bool:
    return os.access(place.at(path), how, effective_ids=True)


@operation(st.sampled_from([b".", b"d", b"e", b"d/d", b"link"]))
def list_directory(place: Place, path: bytes) -> list[bytes]:
    return sorted(os.listdir(place.at(path)))


@operation(any_path, xattr_names, xattr_values, st.sampled_from([0, os.XATTR_CREATE, os.XATTR_REPLACE]), weight=2)
def set_xattr(place: Place, path: bytes, name: bytes, value: bytes, flags: int) -> None:
    os.setxattr(place.at(path), name, value, flags, follow_symlinks=False)


@operation(any_path, xattr_names)
def get_xattr(place: Place, path: bytes, name: bytes) -> bytes:
    return os.getxattr(place.at(path), name, follow_symlinks=False)


@operation(any_path)
def list_xattrs(place: Place, path: bytes) -> list[str]:
    return sorted(os.listxattr(place.at(path), follow_symlinks=False))


@operation(any_path, xattr_names)
def remove_xattr(place: Place, path: bytes, name: bytes) -> None:
    os.removexattr(place.at(path), name, follow_symlinks=False)


@operation(
    slots,
    st.sampled_from([0, _KEEP_SIZE, _PUNCH_HOLE | _KEEP_SIZE, _ZERO_RANGE, _ZERO_RANGE | _KEEP_SIZE]),
    offsets,
    lengths,
    weight=3,
)
def allocate(place: Place, slot: int, mode: int, offset: int, length: int) -> None:
    _checked(_libc.fallocate(place.fd(slot), mode, ctypes.c_int64(offset), ctypes.c_int64(length)))


@operation(any_path, weight=2)
def throw_away(place: Place, path: bytes) -> None:
    """A directory, with one rename; what else is moved there is removed as ever."""
    if not stat.S_ISDIR(os.lstat(place.at(path)).st_mode):
        raise OSError(errno.ENOTDIR, "no directory")
    since_ns = time.time_ns()
    label = b"%d" % since_ns
    os.rename(place.at(path), os.path.join(place.trash, label))
    place.thrown.append(os.path.relpath(_last_removed(place, path, since_ns), place.trash) if place.on_mount else label)


@operation(paths)
def bring_back(place: Place, path: bytes) -> None:
    _no_directory_is_open(place)
    if not place.thrown:
        raise OSError(errno.ENODATA, "nothing was thrown away")
    with _root():
        _checked(
            _libc.renameat2(-100, os.path.join(place.trash, place.thrown[-1]), -100, place.at(path), RENAME_NOREPLACE)
        )
    place.thrown.pop()


@operation(any_path, weight=2)
def remove_and_restore(place: Place, path: bytes) -> None:
    """Name by name, as rm -rf does it. As if nothing had happened, but that a name was made."""
    _no_directory_is_open(place)
    with _root():
        at = place.at(path)
        found = os.lstat(at)
        if stat.S_ISLNK(found.st_mode) and os.path.realpath(at) == place.root:
            raise OSError(errno.EBUSY, "that is the place itself")
        above = os.path.dirname(at)
        if place.on_mount:
            since_ns = time.time_ns()
            subprocess.run(["rm", "-rf", "--", at], check=True)  # a process, and so a batch, of its own
            os.rename(_last_removed(place, path, since_ns), at)
        else:
            os.utime(above)


def _no_directory_is_open(place: Place) -> None:
    """It comes back as another one, to a kernel that knows it as removed; who has the old one open is told EIO."""
    for fd in place.descriptors:
        if fd is not None and stat.S_ISDIR(os.fstat(fd).st_mode):
            raise OSError(errno.EBUSY, "a directory is open")


def _last_removed(place: Place, path: bytes, since_ns: int) -> bytes:
    """Where it is now, in its batch: not always the last one, for a process may go on with an older."""
    directory = os.path.realpath(os.path.dirname(place.at(path)))
    below = os.path.relpath(directory, os.path.dirname(place.trash))
    with _root():
        for batch in sorted(os.listdir(place.trash), key=lambda name: int(name.rsplit(b"-", 1)[1]), reverse=True):
            known = json.loads(os.getxattr(os.path.join(place.trash, batch), "loligo.trash.batch"))
            if known["last_ns"] >= since_ns:
                removed = os.path.join(place.trash, batch, below, os.path.basename(path))
                if os.path.lexists(removed):
                    return removed
    raise AssertionError(f"{path!r} was removed, and is in no batch")


@contextlib.contextmanager
def _root() -> Iterator[None]:
    uid, gid = os.geteuid(), os.getegid()
    os.seteuid(0)
    os.setegid(0)
    try:
        yield
    finally:
        os.setegid(gid)
        os.seteuid(uid)


operations = st.one_of(_strategies)


# -- comparing --------------------------------------------------------------------------------------------------------------


def described(found: os.stat_result) -> tuple[Any, ...]:
    kind = stat.S_IFMT(found.st_mode)
    return (
        oct(found.st_mode),
        found.st_nlink,
        found.st_uid,
        found.st_gid,
        found.st_size if kind in (stat.S_IFREG, stat.S_IFLNK) else None,
        found.st_rdev,
        "now" if abs(time.time_ns() - found.st_mtime_ns) < 3600 * 10**9 else found.st_mtime_ns,
    )


def tree(root: bytes) -> Iterator[tuple[bytes, Any]]:
    """Everything below `root`, as root sees it."""
    for folder, folders, files in os.walk(root):
        for name in sorted(folders + files):
            path = os.path.join(folder, name)
            found = os.lstat(path)
            content: bytes | None = None
            if stat.S_ISLNK(found.st_mode):
                content = os.readlink(path)
            elif stat.S_ISREG(found.st_mode):
                with open(path, "rb") as file:
                    content = file.read()
            xattrs = {
                attribute: os.getxattr(path, attribute, follow_symlinks=False)
                for attribute in os.listxattr(path, follow_symlinks=False)
            }
            yield os.path.relpath(path, root), (described(found), xattrs, content)


def assert_same_tree(mounted: bytes, plain: bytes) -> None:
    ours, theirs = dict(tree(mounted)), dict(tree(plain))
    assert sorted(ours) == sorted(theirs)
    for path, (expected, expected_xattrs, expected_content) in theirs.items():
        found, xattrs, content = ours[path]
        assert (path, found, xattrs) == (path, expected, expected_xattrs)
        assert content == expected_content, f"{path!r} differs at byte {_first_difference(content, expected_content)}"


def _first_difference(one: bytes, other: bytes) -> int:
    return next((at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


@contextlib.contextmanager
def effective_user(uid: int) -> Iterator[None]:
    if uid == 0:
        yield
        return
    os.setegid(uid)
    os.seteuid(uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)


def outcome(place: Place, name: str, uid: int, arguments: tuple[Any, ...]) -> Any:
    with effective_user(uid):
        try:
            return _operations[name](place, *arguments)
        except OSError as error:
            return errno.errorcode[error.errno or 0]


def assert_same_outcome(number: int, step: str, uid: int, found: Any, expected: Any) -> None:
    assert found == expected, f"step {number}, {step} as {uid}: {found!r:.200}, a plain directory: {expected!r:.200}"


def on_mount(mount: LabMount, name: str) -> Place:
    return Place(os.fsencode(mount.path / name), os.fsencode(mount.path / ".trash"), on_mount=True)


def in_plain_directory(plain: Path, name: str) -> Place:
    return Place(os.fsencode(plain / name), os.fsencode(plain / "trash"))


def furnish(place: Place) -> None:
    """Something to start with: an inline file, two with several blocks, directories, a link, open descriptors."""
    os.mkdir(place.root)
    os.chmod(place.root, 0o1777)
    if place.on_mount:
        os.setxattr(place.root, "loligo.trash.minimum_age", b"0")
    else:
        os.makedirs(place.trash, exist_ok=True)
        os.chmod(place.trash, 0o1777)
    for name in (b"d", b"d/d", b"e"):
        os.mkdir(place.at(name))
        os.chmod(place.at(name), 0o777)
    os.symlink(b"d", place.at(b"link"))
    for slot, (name, length, flags) in enumerate([(b"a", 100, 0), (b"b", 70_000, 0), (b"d/a", 150_000, os.O_APPEND)]):
        fd = os.open(place.at(name), os.O_RDWR | os.O_CREAT | flags, 0o666)
        os.fchmod(fd, 0o666)
        os.write(fd, b"%c" % (65 + slot) * length)
        place.descriptors[slot] = fd


examples = st.lists(operations, min_size=OPERATIONS_MIN, max_size=OPERATIONS_MAX)


class Pair:
    """The two places, and what has been compared there so far."""

    def __init__(self, mount: LabMount, plain: Path, can_allocate: bool) -> None:
        self.mount = mount
        self.plain = plain
        self.can_allocate = can_allocate
        self.examples = 0

    def run(self, steps: list[Operation]) -> None:
        self.examples += 1
        name = f"{self.examples:05d}"
        ours, theirs = on_mount(self.mount, name), in_plain_directory(self.plain, name)
        for place in (ours, theirs):
            furnish(place)
        try:
            for number, (step, uid, *arguments) in enumerate(steps):
                if step == "allocate" and not self.can_allocate:
                    continue
                found, expected = (outcome(place, step, uid, tuple(arguments)) for place in (ours, theirs))
                event(f"{step}: {'refused' if isinstance(expected, str) else 'done'}")
                assert_same_outcome(number, step, uid, found, expected)
            assert_same_tree(ours.root, theirs.root)
        finally:
            ours.close()
            theirs.close()

    def compare_all(self) -> None:
        """The trees of all examples so far."""
        assert self.examples, "nothing was run"
        for folder in sorted(self.plain.glob("[0-9]*")):
            assert_same_tree(os.fsencode(self.mount.path / folder.name), os.fsencode(folder))


@contextlib.contextmanager
def paired(mount: LabMount, *, can_allocate: bool) -> Iterator[Pair]:
    groups, umask = os.getgroups(), os.umask(0o022)
    os.setgroups([])
    plain = Path(tempfile.mkdtemp(prefix="loligo-plain-", dir=DISK))
    plain.chmod(0o755)
    try:
        yield Pair(mount, plain, can_allocate)
    finally:
        os.setgroups(groups)
        os.umask(umask)
        shutil.rmtree(plain)
