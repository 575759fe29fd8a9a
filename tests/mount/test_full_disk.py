"""A disk that fills up, under the data or under the metadata: an error, no harm, and work goes on once there is room."""

import contextlib
import errno
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from loligo_lab.errnos import refused
from loligo_lab.mounts import assert_sound, make_lab_volume
from loligo_lab.processes import ProcessFailed, wait_until
from loligo_lab.serving import LabServer, RemoteMount, lab_mount
from loligo_lab.system_calls import fallocate

MIB = 1 << 20
LOST = "written bytes are lost"


@pytest.fixture
def small_disk(scratch: Path) -> Iterator[Path]:
    """24 MiB."""
    with disk(scratch, 24) as path:
        yield path


@contextlib.contextmanager
def disk(scratch: Path, size_mib: int) -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(dir=scratch))
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size_mib}m", "loligo-test", path], check=True)
    try:
        yield path
    finally:
        subprocess.run(["umount", path], check=True)


def write_until_refused(path: Path, limit_bytes: int) -> int:
    """The errno of the write, fsync or close that failed; 0 if none did."""
    fd = os.open(path, os.O_CREAT | os.O_WRONLY)
    try:
        for _ in range(limit_bytes // MIB):
            os.write(fd, os.urandom(MIB))
        os.fsync(fd)
    except OSError as error:
        return error.errno or 0
    finally:
        try:
            os.close(fd)
        except OSError as error:
            assert error.errno == errno.ENOSPC
    return 0


def test_who_waits_for_what_another_cannot_store_can_be_killed(scratch: Path, small_disk: Path) -> None:
    """It is nowhere but in that other client, and stays there until there is space: nobody can say what is in the file."""
    folder = Path(tempfile.mkdtemp(dir=scratch))
    volume = make_lab_volume(folder, data_url=f"file://{small_disk}/data", retention=b"0")
    content = os.urandom(10_000)
    with ExitStack() as stack:
        server = stack.enter_context(LabServer(volume, folder))
        one, other = (stack.enter_context(RemoteMount(server, folder / name)) for name in ("one", "other"))
        assert write_until_refused(one.path / "large", 40 * MIB) == errno.ENOSPC
        with suppress(OSError):
            (one.path / "small").write_bytes(content)
        reader = subprocess.Popen(["cat", other.path / "small"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            wchan = Path(f"/proc/{reader.pid}/wchan")
            wait_until(lambda: wchan.read_text() == "request_wait_answer", "it waits for the file system")
        finally:
            reader.kill()
        assert reader.wait(timeout=20) == -signal.SIGKILL
        (one.path / "large").unlink()
        wait_until(lambda: (other.path / "small").read_bytes() == content, "what was written, once there is space", 30)


def test_no_space_for_data(scratch: Path, small_disk: Path, transport: str) -> None:
    folder = Path(tempfile.mkdtemp(dir=scratch))
    volume = make_lab_volume(folder, data_url=f"file://{small_disk}/data", retention=b"0")
    before = os.urandom(5 * MIB)
    with lab_mount(transport, volume, folder / "mnt") as mount:
        mount.expect_error(LOST)
        (mount.path / "before").write_bytes(before)
        assert write_until_refused(mount.path / "large", 40 * MIB) == errno.ENOSPC
        if transport != "pyfuse3":
            with (mount.path / "before").open("r+b") as file, refused(errno.ENOSPC):
                fallocate(file.fileno(), 0, 0, 40 * MIB)
        assert (mount.path / "before").read_bytes() == before
        (mount.path / "inline").write_bytes(b"needs no object")
        (mount.path / "large").unlink()
        # Objects are removed in the background, and space counts as low for a moment.
        for attempt in range(100):
            path = mount.path / f"after{attempt}"
            if write_until_refused(path, 8 * MIB) == 0:
                break
            path.unlink()
        else:
            raise AssertionError("there is room, but nothing can be written")
        assert path.stat().st_size == 8 * MIB
        mount.unmount()
        assert_sound(volume)
        mount.start()
        assert (mount.path / "before").read_bytes() == before
        assert path.stat().st_size == 8 * MIB and len(path.read_bytes()) == 8 * MIB
        assert (mount.path / "inline").read_bytes() == b"needs no object"
    shutil.rmtree(folder)


def test_no_space_tells_who_closes(scratch: Path, small_disk: Path, transport: str) -> None:
    folder = Path(tempfile.mkdtemp(dir=scratch))
    volume = make_lab_volume(folder, data_url=f"file://{small_disk}/data", retention=b"0")
    with lab_mount(transport, volume, folder / "mnt") as mount:
        mount.expect_error(LOST)
        source = folder / "source"
        source.write_bytes(os.urandom(30 * MIB))
        copied = subprocess.run(["cp", source, mount.path / "copy"], capture_output=True, text=True, check=False)
        assert copied.returncode != 0 and "No space left" in copied.stderr
        # What did not fit is kept and tried again for as long as the mount lives, and its end says what became of it.
        with pytest.raises(ProcessFailed, match=LOST):
            mount.unmount()
    assert_sound(volume)


def test_no_space_tells_who_opened_when_there_was_plenty(scratch: Path, transport: str) -> None:
    """The write does so if the close will not."""
    folder = Path(tempfile.mkdtemp(dir=scratch))
    with disk(scratch, 200) as path:
        volume = make_lab_volume(folder, data_url=f"file://{path}/data", retention=b"0")
        with lab_mount(transport, volume, folder / "mnt") as mount:
            mount.expect_error(LOST)
            wait_until(lambda: os.statvfs(mount.path).f_bavail > 0, "the mount to know what there is")
            file = (mount.path / "file").open("xb", buffering=0)
            subprocess.run(["fallocate", "-l", str(os.statvfs(path).f_bavail * 4096), path / "ballast"], check=True)
            wait_until(lambda: os.statvfs(mount.path).f_bavail == 0, "the mount to see that nothing is left")
            with refused(errno.ENOSPC), file:
                file.write(bytes(MIB))
            (path / "ballast").unlink()
            mount.unmount()
        assert_sound(volume)


def test_what_did_not_fit_is_stored_once_there_is_room(scratch: Path, small_disk: Path, transport: str) -> None:
    folder = Path(tempfile.mkdtemp(dir=scratch))
    volume = make_lab_volume(folder, data_url=f"file://{small_disk}/data", retention=b"0")
    content = os.urandom(12 * MIB)
    with lab_mount(transport, volume, folder / "mnt") as mount:
        ballast = small_disk / "ballast"
        ballast.write_bytes(bytes(16 * MIB))
        with contextlib.suppress(OSError):  # told at a write or at the close, or not yet
            (mount.path / "f").write_bytes(content)
        written = (mount.path / "f").stat().st_size
        assert (mount.path / "f").read_bytes() == content[:written]
        ballast.unlink()
        fd = os.open(mount.path / "f", os.O_WRONLY)
        try:
            with contextlib.suppress(OSError):  # of the first try
                os.fsync(fd)
            os.fsync(fd)
        finally:
            os.close(fd)
        mount.unmount()
        assert_sound(volume)
        mount.start()
        assert (mount.path / "f").read_bytes() == content[:written]


def test_what_was_removed_on_a_full_disk_gives_its_space_back(scratch: Path, small_disk: Path, transport: str) -> None:
    folder = Path(tempfile.mkdtemp(dir=scratch))
    volume = make_lab_volume(folder, data_url=f"file://{small_disk}/data", retention=b"0")
    with lab_mount(transport, volume, folder / "mnt") as mount:
        for number in range(6):
            path = mount.path / f"file{number}"
            with contextlib.suppress(OSError), path.open("xb", buffering=0) as file:
                for _ in range(40):
                    file.write(bytes(MIB))
            path.unlink()

        def free() -> bool:
            disk = os.statvfs(small_disk)
            return disk.f_bavail * disk.f_frsize > 20 * MIB

        wait_until(free, "the space of the removed files", 30)
        mount.unmount()
    assert_sound(volume)


def test_no_space_for_metadata(scratch: Path, small_disk: Path, transport: str) -> None:
    folder = Path(tempfile.mkdtemp(dir=scratch))
    volume = make_lab_volume(small_disk, data_url=f"file://{folder}/data")
    with lab_mount(transport, volume, folder / "mnt") as mount:
        mount.expect_error(LOST)  # the content of the file that did not fit
        (mount.path / "kept").write_bytes(b"content")
        count = 0
        with refused(errno.ENOSPC):
            while True:
                (mount.path / f"file{count:06d}").write_bytes(b"x" * 4000)
                count += 1
        assert count > 500
        with refused(errno.ENOSPC):
            for number in range(1000):
                (mount.path / f"folder{number}").mkdir()
        # What is there can be read, and removing needs no room.
        assert (mount.path / "kept").read_bytes() == b"content"
        assert (mount.path / f"file{count // 2:06d}").read_bytes() == b"x" * 4000
        for number in range(count):
            (mount.path / f"file{number:06d}").unlink()
        for number in range(100):
            (mount.path / f"new{number}").write_bytes(b"y" * 4000)
        expected = sorted(os.listdir(mount.path))
        mount.unmount()
        assert_sound(volume)
        mount.start()
        assert sorted(os.listdir(mount.path)) == expected
        assert (mount.path / "new99").read_bytes() == b"y" * 4000
    assert_sound(volume)
