"""Attributes: times, modes and owners, what others may do, statfs."""

import errno
import os
import stat
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from loligo_lab.errnos import refused
from loligo_lab.mounts import LabMount
from loligo_lab.users import NOBODY, SOMEBODY, as_user
from loligo_runtime.object_url import open_object_store
from loligo_wire.attributes import clamp_ns

SECOND_NS = 1_000_000_000
DAY_NS = 86_400 * SECOND_NS
BLOCK = 64 << 10


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


# -- times ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "time_ns",
    [
        0,
        1,
        -1,
        999_999_999,
        -1_500_000_000,
        -(2**31) * SECOND_NS,  # 1901
        2**31 * SECOND_NS + 5,  # 2038
        2**32 * SECOND_NS + 123_456_789,  # 2106
        (2**33 + 1) * SECOND_NS,  # 2242
    ],
)
def test_any_time_can_be_set(here: Path, time_ns: int) -> None:
    path = here / "file"
    path.touch()
    os.utime(path, ns=(time_ns, time_ns + 1))
    found = path.stat()
    assert (found.st_atime_ns, found.st_mtime_ns) == (time_ns, time_ns + 1)
    assert abs(found.st_ctime_ns - time.time_ns()) < 60 * SECOND_NS


def test_times_of_a_link_are_its_own(here: Path) -> None:
    (here / "file").touch()
    (here / "link").symlink_to("file")
    os.utime(here / "link", ns=(5, 6), follow_symlinks=False)
    found = os.lstat(here / "link")
    assert (found.st_atime_ns, found.st_mtime_ns) == (5, 6)
    assert (here / "file").stat().st_mtime_ns > 6


def changes(path: Path) -> list[tuple[str, Callable[[], object], set[str]]]:
    """What is done, and which of mtime and ctime of `path` it moves."""

    def write() -> None:
        with path.open("r+b") as file:
            file.write(b"x")

    return [
        ("write", write, {"mtime", "ctime"}),
        ("truncate", lambda: os.truncate(path, 3), {"mtime", "ctime"}),
        ("chmod", lambda: path.chmod(0o600), {"ctime"}),
        ("chown", lambda: os.chown(path, 1, 1), {"ctime"}),
        ("link", lambda: os.link(path, path.with_name("second")), {"ctime"}),
        ("rename", lambda: path.with_name("second").rename(path.with_name("third")), {"ctime"}),
        ("unlink", lambda: path.with_name("third").unlink(), {"ctime"}),
        ("setxattr", lambda: os.setxattr(path, "user.x", b"y"), {"ctime"}),
        ("stat", lambda: path.stat(), set()),
        ("open", lambda: path.open("r+b").close(), set()),
    ]


def test_what_moves_mtime_and_ctime(here: Path) -> None:
    path = here / "file"
    path.write_bytes(b"content")
    for name, change, expected in changes(path):
        os.utime(path, ns=(10, 20))
        ctime_ns = path.stat().st_ctime_ns
        change()
        found = path.stat()
        moved = {"mtime"} if found.st_mtime_ns != 20 else set()
        moved |= {"ctime"} if found.st_ctime_ns > ctime_ns else set()
        assert moved == expected, name
        if "mtime" in moved:
            assert abs(found.st_mtime_ns - time.time_ns()) < 60 * SECOND_NS


def test_names_move_the_times_of_their_directory(here: Path) -> None:
    (here / "other").mkdir()
    for change in (
        lambda: (here / "file").touch(),
        lambda: os.link(here / "file", here / "second"),
        lambda: (here / "second").rename(here / "third"),
        lambda: (here / "third").rename(here / "other" / "third"),
        lambda: (here / "file").unlink(),
        lambda: (here / "folder").mkdir(),
        lambda: (here / "folder").rmdir(),
        lambda: (here / "link").symlink_to("x"),
        lambda: os.mkfifo(here / "fifo"),
    ):
        os.utime(here, ns=(10, 20))
        ctime_ns = here.stat().st_ctime_ns
        change()
        assert here.stat().st_mtime_ns != 20 and here.stat().st_ctime_ns > ctime_ns


def test_mtime_that_was_set_stays_though_data_are_stored_later(here: Path) -> None:
    # As tar and rsync do it: write, set the time, close.
    for length in (10, 3 * BLOCK):
        with (here / "file").open("wb") as file:
            file.write(b"x" * length)
            file.flush()
            os.utime(file.fileno(), ns=(10, 20))
        assert (here / "file").stat().st_mtime_ns == 20
        with (here / "file").open("rb") as file:
            os.fsync(file.fileno())
        assert (here / "file").stat().st_mtime_ns == 20


def read_afresh(path: Path) -> None:
    with path.open("rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        file.read()


@pytest.mark.parametrize("length", [10, 3 * BLOCK])
def test_atime_is_relative(here: Path, length: int) -> None:
    path = here / "file"
    path.write_bytes(b"x" * length)
    now_ns = time.time_ns()

    os.utime(path, ns=(now_ns - 2 * SECOND_NS, now_ns - SECOND_NS))
    read_afresh(path)
    assert path.stat().st_atime_ns > now_ns - SECOND_NS, "older than mtime: it moves"

    read_ns = path.stat().st_atime_ns
    read_afresh(path)
    assert path.stat().st_atime_ns == read_ns, "it is new enough"

    os.utime(path, ns=(now_ns - 2 * DAY_NS, now_ns - 3 * DAY_NS))
    read_afresh(path)
    assert path.stat().st_atime_ns >= now_ns, "a day old: it moves"


def test_o_noatime(here: Path) -> None:
    path = here / "file"
    path.write_bytes(b"content")
    os.utime(path, ns=(10, 20))
    fd = os.open(path, os.O_RDONLY | os.O_NOATIME)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    os.read(fd, 100)
    os.close(fd)
    assert path.stat().st_atime_ns == 10


def test_listing_moves_atime(here: Path) -> None:
    (here / "folder").mkdir()
    os.utime(here / "folder", ns=(10, 20))
    os.listdir(here / "folder")
    assert (here / "folder").stat().st_atime_ns != 10


# -- modes ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("umask", [0, 0o022, 0o077, 0o777])
def test_umask(here: Path, umask: int) -> None:
    os.umask(umask)
    os.close(os.open(here / "file", os.O_CREAT | os.O_WRONLY, 0o666))
    os.mkdir(here / "folder", 0o777)
    os.mknod(here / "node", stat.S_IFREG | 0o666)
    os.mkfifo(here / "fifo", 0o666)
    assert mode_of(here / "file") == mode_of(here / "node") == mode_of(here / "fifo") == 0o666 & ~umask
    assert mode_of(here / "folder") == 0o777 & ~umask


@pytest.mark.parametrize("mode", [0, 0o7777, 0o4711, 0o2755, 0o1777, 0o644])
def test_chmod(here: Path, mode: int) -> None:
    (here / "file").touch()
    (here / "folder").mkdir()
    for path in (here / "file", here / "folder"):
        path.chmod(mode)
        assert mode_of(path) == mode


def test_setgid_directories_give_their_group(here: Path) -> None:
    folder = here / "folder"
    folder.mkdir()
    os.chown(folder, 0, SOMEBODY)
    folder.chmod(0o2777)
    (folder / "file").touch()
    (folder / "sub").mkdir(mode=0o755)
    os.symlink("x", folder / "link")
    for name in ("file", "sub", "link"):
        assert (folder / name).lstat().st_gid == SOMEBODY
    assert mode_of(folder / "sub") == 0o2755 and mode_of(folder / "file") == 0o644

    as_user(lambda: os.close(os.open(folder / "theirs", os.O_CREAT | os.O_WRONLY, 0o2775)))
    found = (folder / "theirs").stat()
    assert (found.st_uid, found.st_gid) == (NOBODY, SOMEBODY)
    assert not found.st_mode & stat.S_ISGID, "not a member of the group, so no set-group-id file"


def test_new_files_belong_to_their_maker(here: Path) -> None:
    def make() -> None:
        (here / "file").touch()
        (here / "folder").mkdir()
        (here / "link").symlink_to("x")

    as_user(make, uid=SOMEBODY, gid=NOBODY)
    for name in ("file", "folder", "link"):
        found = (here / name).lstat()
        assert (found.st_uid, found.st_gid) == (SOMEBODY, NOBODY)


def test_sticky_directories(here: Path) -> None:
    here.chmod(0o1777)
    (here / "mine").touch()
    as_user(lambda: (here / "theirs").touch())
    for attempt in (
        lambda: (here / "mine").unlink(),
        lambda: (here / "mine").rename(here / "renamed"),
        lambda: (here / "theirs").rename(here / "mine"),
    ):
        with refused(errno.EPERM):
            as_user(attempt)
    as_user(lambda: (here / "theirs").unlink())


def overwrite(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(b"y")


def truncate_open(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(1)


def open_empty(path: Path) -> None:
    path.open("wb").close()


@pytest.mark.parametrize("change", [overwrite, truncate_open, open_empty, lambda path: os.truncate(path, 2)])
def test_changing_a_file_takes_away_its_privileges(here: Path, change: Callable[[Path], None]) -> None:
    path = here / "file"
    path.write_bytes(b"content")
    path.chmod(0o6777)
    as_user(lambda: change(path))
    assert mode_of(path) == 0o777
    # Without group execution set-group-id means locking, not privilege: that stays.
    path.chmod(0o2666)
    as_user(lambda: change(path))
    assert mode_of(path) == 0o2666
    # Nor is anything taken from root.
    path.chmod(0o6777)
    change(path)
    assert mode_of(path) == 0o6777


def allocate(path: Path) -> None:
    fd = os.open(path, os.O_WRONLY)
    os.posix_fallocate(fd, os.fstat(fd).st_size, 10)
    os.close(fd)


def write_one_byte(path: Path) -> None:
    fd = os.open(path, os.O_RDWR)
    os.pwrite(fd, os.pread(fd, 1, 0), 0)
    os.close(fd)


def cut_and_grow(path: Path) -> None:
    os.truncate(path, path.stat().st_size + 1)


@pytest.mark.parametrize("change", [write_one_byte, open_empty, allocate, cut_and_grow])
def test_what_an_ordinary_user_changed_does_not_run_as_its_owner(here: Path, change: Callable[[Path], None]) -> None:
    """exec believes the mode in the kernel's cache, and nothing asks for it anew before."""
    path = here / "id"
    content = Path("/usr/bin/id").read_bytes()
    path.write_bytes(content)
    path.chmod(0o4777)

    def runs_as() -> str:
        return subprocess.run([path, "-un"], capture_output=True, text=True, check=True).stdout.strip()

    assert as_user(runs_as) == "root"
    as_user(lambda: change(path))
    if change is open_empty:
        fd = os.open(path, os.O_WRONLY)  # root: this takes nothing away
        os.write(fd, content)
        os.close(fd)
    assert as_user(runs_as) == "nobody"
    assert mode_of(path) == 0o777


def test_giving_a_file_away_takes_away_its_privileges(here: Path) -> None:
    path = here / "file"
    path.touch()
    path.chmod(0o6755)
    os.chown(path, NOBODY, NOBODY)
    assert mode_of(path) == 0o755
    (here / "folder").mkdir()
    (here / "folder").chmod(0o2755)
    os.chown(here / "folder", NOBODY, NOBODY)
    assert mode_of(here / "folder") == 0o2755


# -- what others may do ---------------------------------------------------------------------------------------------------


def test_permissions_of_others(here: Path) -> None:
    path = here / "file"
    path.write_bytes(b"secret")
    path.chmod(0o640)
    (here / "closed").mkdir(mode=0o700)
    (here / "closed" / "file").touch()
    (here / "readable").mkdir(mode=0o755)
    for attempt, number in (
        (lambda: path.read_bytes(), errno.EACCES),
        (lambda: path.open("r+b"), errno.EACCES),
        (lambda: os.truncate(path, 0), errno.EACCES),
        (lambda: path.chmod(0o666), errno.EPERM),
        (lambda: os.chown(path, NOBODY, -1), errno.EPERM),
        (lambda: os.utime(path, ns=(1, 1)), errno.EPERM),
        (lambda: os.utime(path), errno.EACCES),
        (lambda: os.setxattr(path, "user.x", b""), errno.EACCES),
        (lambda: os.listdir(here / "closed"), errno.EACCES),
        (lambda: (here / "closed" / "file").stat(), errno.EACCES),
        (lambda: (here / "readable" / "new").touch(), errno.EACCES),
        (lambda: (here / "readable" / "new").mkdir(), errno.EACCES),
        (lambda: os.mknod(here / "node", stat.S_IFCHR | 0o666, os.makedev(1, 3)), errno.EPERM),
    ):
        with refused(number):
            as_user(attempt)
    assert not as_user(lambda: os.access(path, os.R_OK))


def test_permissions_through_a_group(here: Path) -> None:
    path = here / "file"
    path.write_bytes(b"shared")
    os.chown(path, 0, SOMEBODY)
    path.chmod(0o640)
    assert as_user(lambda: path.read_bytes(), groups=[SOMEBODY]) == b"shared"
    with refused(errno.EACCES):
        as_user(lambda: path.open("r+b"), groups=[SOMEBODY])
    path.chmod(0o604)
    with refused(errno.EACCES):  # the group counts, though others may
        as_user(lambda: path.read_bytes(), groups=[SOMEBODY])


def test_an_owner_may_give_only_groups_of_his_own(here: Path) -> None:
    as_user(lambda: (here / "file").touch())
    as_user(lambda: os.chown(here / "file", -1, SOMEBODY), groups=[SOMEBODY])
    with refused(errno.EPERM):
        as_user(lambda: os.chown(here / "file", -1, 0), groups=[SOMEBODY])


def test_mode_changes_are_seen_at_once(here: Path) -> None:
    path = here / "file"
    path.write_bytes(b"x")
    for mode in (0o600, 0o644) * 3:
        path.chmod(mode)
        if mode == 0o600:
            with refused(errno.EACCES):
                as_user(lambda: path.read_bytes())
        else:
            assert as_user(lambda: path.read_bytes()) == b"x"


# -- the file system ------------------------------------------------------------------------------------------------------


def test_statfs(here: Path, mounted: LabMount) -> None:
    found = os.statvfs(here)
    objects = open_object_store(mounted.volume.data_url, create=False)
    total, _ = objects.usage()
    objects.close()
    assert found.f_namemax == 255
    assert abs(total - found.f_blocks * found.f_frsize) < total // 10
    assert 0 < found.f_bavail <= found.f_bfree <= found.f_blocks
    assert 0 < found.f_ffree <= found.f_files


def test_statfs_counts_inodes(here: Path) -> None:
    before = os.statvfs(here)
    for number in range(10):
        (here / f"file{number}").touch()
    after = os.statvfs(here)
    assert (after.f_files - after.f_ffree) - (before.f_files - before.f_ffree) == 10


def test_times_beyond_what_can_be_kept_are_the_last_that_can(here: Path) -> None:
    path = here / "file"
    path.touch()
    for time_ns in (10**19, -(10**19)):
        os.utime(path, ns=(time_ns, time_ns))
        os.utime(here, ns=(time_ns, time_ns))
        for one in (path, here):
            assert one.stat().st_mtime_ns == clamp_ns(time_ns)
