"""Life of a mount: read-only, killed and mounted again, torn away while in use, kernels that offer less."""

import errno
import os
import signal
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from loligo_client.shell import mount_state
from loligo_lab.errnos import refused
from loligo_lab.mounts import LabMount, assert_sound, make_lab_volume, stored_objects
from loligo_lab.processes import wait_until
from loligo_lab.serving import lab_mount
from loligo_lab.system_calls import syncfs
from loligo_runtime.volume import Volume

BLOCK = 64 << 10


@pytest.fixture
def folder(scratch: Path) -> Path:
    path = Path(tempfile.mkdtemp(dir=scratch))
    path.chmod(0o755)
    return path


@pytest.fixture
def volume(folder: Path) -> Iterator[Volume]:
    made = make_lab_volume(folder)
    yield made
    assert_sound(made)


@pytest.fixture
def mount(volume: Volume, folder: Path, transport: str) -> LabMount:
    return lab_mount(transport, volume, folder / "mnt")


def test_what_was_written_is_there_at_the_next_mount(mount: LabMount) -> None:
    content = os.urandom(3 * BLOCK + 5)
    with mount:
        (mount.path / "large").write_bytes(content)
        (mount.path / "small").write_bytes(b"inline")
        (mount.path / "folder").mkdir(mode=0o750)
        before = {path.name: path.stat() for path in mount.path.iterdir()}
    with mount:
        assert (mount.path / "large").read_bytes() == content
        assert (mount.path / "small").read_bytes() == b"inline"
        for path in mount.path.iterdir():
            found, expected = path.stat(), before[path.name]
            for name in ("st_ino", "st_mode", "st_nlink", "st_size", "st_mtime_ns", "st_ctime_ns"):
                assert getattr(found, name) == getattr(expected, name), (path.name, name)


def sync_file(fd: int, folder: int) -> None:
    os.fsync(fd)


def sync_data(fd: int, folder: int) -> None:
    os.fdatasync(fd)


@pytest.mark.parametrize("sync", [sync_file, sync_data])
def test_what_was_synced_survives_a_kill(mount: LabMount, sync: Callable[[int, int], None]) -> None:
    content = os.urandom(2 * BLOCK + 100)
    with mount:
        folder = os.open(mount.path, os.O_RDONLY)
        files = {name: os.open(mount.path / name, os.O_CREAT | os.O_RDWR) for name in ("small", "large")}
        os.write(files["small"], b"inline")
        os.write(files["large"], content)
        for fd in files.values():
            sync(fd, folder)
        os.write(files["large"], b"not synced")
        mount.kill()
        close_dead(*files.values(), folder)
        mount.start()
        assert (mount.path / "small").read_bytes() == b"inline"
        assert (mount.path / "large").read_bytes()[: len(content)] == content


def test_names_survive_a_kill_after_fsync_of_their_directory(mount: LabMount) -> None:
    with mount:
        for number in range(100):
            (mount.path / f"file{number}").touch()
        (mount.path / "file0").rename(mount.path / "renamed")
        (mount.path / "file1").unlink()
        os.symlink("file2", mount.path / "link")
        expected = sorted(os.listdir(mount.path))
        folder = os.open(mount.path, os.O_RDONLY)
        os.fsync(folder)
        mount.kill()
        close_dead(folder)
        mount.start()
        assert sorted(os.listdir(mount.path)) == expected


def test_a_killed_mount_gives_errors_and_the_next_one_works(mount: LabMount) -> None:
    with mount:
        (mount.path / "file").write_bytes(b"x" * BLOCK)
        fd = os.open(mount.path / "file", os.O_RDWR)
        os.kill(mount.pid, signal.SIGKILL)
        wait_until(lambda: _is_dead(mount.path), "a dead mount says so")
        with refused(errno.ENOTCONN):
            os.write(fd, b"y")
        close_dead(fd)
        mount.kill()
        mount.start()
        (mount.path / "another").write_bytes(b"y")
        assert sorted(os.listdir(mount.path)) == ["another", "file"]


def close_dead(*fds: int) -> None:
    """Close descriptors of a mount that is dead: they are closed, with an error."""
    for fd in fds:
        with suppress(OSError):
            os.close(fd)


def _is_dead(path: Path) -> bool:
    try:
        os.stat(path / "missing")
    except OSError as error:
        return error.errno == errno.ENOTCONN
    return False


def test_a_busy_mount_that_is_torn_away_stores_and_frees_what_was_open(mount: LabMount) -> None:
    with mount:
        kept = os.open(mount.path / "kept", os.O_CREAT | os.O_RDWR)
        gone = os.open(mount.path / "gone", os.O_CREAT | os.O_RDWR)
        for fd in (kept, gone):
            os.write(fd, b"x" * (3 * BLOCK))
        os.unlink(mount.path / "gone")
        os.kill(mount.pid, signal.SIGTERM)
        wait_until(lambda: mount_state.find_mount(str(mount.path)) is None, "out of the tree")
        os.write(kept, b"last words")
        os.kill(mount.pid, signal.SIGTERM)  # no more patience
        mount.wait()
        with refused(errno.ENOTCONN):
            os.write(kept, b"nobody hears them")
        close_dead(kept, gone)
        assert_sound(mount.volume)
        assert len(stored_objects(mount.volume)) == 4, "objects of the unlinked file are gone"
        mount.start()
        assert (mount.path / "kept").read_bytes() == b"x" * (3 * BLOCK) + b"last words"


def test_read_only(volume: Volume, folder: Path, transport: str) -> None:
    path = folder / "mnt"
    with lab_mount(transport, volume, path):
        (path / "file").write_bytes(b"content")
        (path / "folder").mkdir()
        os.utime(path / "file", ns=(0, 10))
    with lab_mount(transport, volume, path, ("ro",)):
        assert (path / "file").read_bytes() == b"content"
        assert (path / "file").stat().st_atime_ns == 0
        assert sorted(os.listdir(path)) == ["file", "folder"]
        attempts: list[Callable[[], object]] = [
            lambda: os.open(path / "file", os.O_WRONLY),
            lambda: os.open(path / "new", os.O_CREAT | os.O_RDONLY),
            lambda: os.mkdir(path / "new"),
            lambda: os.symlink("x", path / "new"),
            lambda: os.link(path / "file", path / "new"),
            lambda: os.unlink(path / "file"),
            lambda: os.rmdir(path / "folder"),
            lambda: os.rename(path / "file", path / "new"),
            lambda: os.chmod(path / "file", 0o600),
            lambda: os.truncate(path / "file", 0),
            lambda: os.utime(path / "file"),
            lambda: os.setxattr(path / "file", "user.x", b""),
        ]
        for attempt in attempts:
            with refused(errno.EROFS):
                attempt()


def test_noatime(volume: Volume, folder: Path, transport: str) -> None:
    path = folder / "mnt"
    with lab_mount(transport, volume, path, ("noatime",)):
        (path / "file").write_bytes(b"content")
        os.utime(path / "file", ns=(0, 10))
        with (path / "file").open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            file.read()
        assert (path / "file").stat().st_atime_ns == 0


def test_syncfs_answers(mount: LabMount) -> None:
    # The kernel sends FUSE file systems no request for it (only virtiofs and block devices get one): it writes pages back.
    with mount:
        fd = os.open(mount.path, os.O_RDONLY)
        syncfs(fd)
        os.close(fd)
