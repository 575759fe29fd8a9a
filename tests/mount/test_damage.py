"""Data that somebody took away behind our back: an error that names the object, never silent zeros; holes are no damage."""

import errno
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from loligo_client.shell.check import check_volume
from loligo_lab.errnos import refused
from loligo_lab.mounts import LabMount, make_lab_volume
from loligo_lab.serving import lab_mount

BLOCK = 64 << 10


@pytest.fixture
def mount(scratch: Path, transport: str) -> Iterator[LabMount]:
    folder = Path(tempfile.mkdtemp(dir=scratch))
    made = lab_mount(transport, make_lab_volume(folder, retention=b"0"), folder / "mnt")
    yield made
    made.kill()


def object_path(mount: LabMount, ino: int, index: int) -> Path:
    data = Path(mount.volume.data_url.removeprefix("file://"))
    (found,) = data.glob(f"??/{ino:016x}.{index:08x}")
    return found


def problems(mount: LabMount) -> str:
    return "\n".join(check_volume(mount.volume).problems)


def test_a_missing_object_of_a_dense_file(mount: LabMount) -> None:
    content = os.urandom(4 * BLOCK)
    with mount:
        (mount.path / "file").write_bytes(content)
        (mount.path / "other").write_bytes(content)
        ino = (mount.path / "file").stat().st_ino
    missing = object_path(mount, ino, 2)
    missing.unlink()
    assert missing.name in problems(mount)
    with mount:
        mount.expect_error(missing.name)
        fd = os.open(mount.path / "file", os.O_RDONLY)
        with refused(errno.EIO):
            os.pread(fd, 10, 2 * BLOCK + 5)
        assert missing.name in mount.log() and "damaged" in mount.log()
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_RANDOM)
        assert os.pread(fd, BLOCK, 0) == content[:BLOCK]
        assert os.pread(fd, BLOCK, 3 * BLOCK) == content[3 * BLOCK :]
        os.close(fd)
        assert (mount.path / "other").read_bytes() == content
        with refused(errno.EIO):
            (mount.path / "file").read_bytes()
        # It can be made good by writing it again.
        with (mount.path / "file").open("r+b") as file:
            file.seek(2 * BLOCK)
            file.write(content[2 * BLOCK : 3 * BLOCK])
        assert (mount.path / "file").read_bytes() == content
    assert problems(mount) == ""


def test_a_short_object_of_a_dense_file(mount: LabMount) -> None:
    content = os.urandom(2 * BLOCK + 1000)
    with mount:
        (mount.path / "file").write_bytes(content)
        ino = (mount.path / "file").stat().st_ino
    short = object_path(mount, ino, 2)
    os.truncate(short, 500)
    assert short.name in problems(mount)
    with mount:
        mount.expect_error(short.name)
        fd = os.open(mount.path / "file", os.O_RDONLY | os.O_DIRECT)
        assert os.pread(fd, 500, 2 * BLOCK) == content[2 * BLOCK : 2 * BLOCK + 500]
        with refused(errno.EIO):
            os.pread(fd, 501, 2 * BLOCK)
        assert short.name in mount.log()
        os.close(fd)
        (mount.path / "file").unlink()
    assert problems(mount) == ""


def test_a_missing_object_of_a_file_with_holes_is_a_hole(mount: LabMount) -> None:
    with mount:
        with (mount.path / "file").open("wb") as file:
            file.seek(BLOCK)
            file.write(b"x" * BLOCK)
            file.seek(3 * BLOCK)
            file.write(b"y" * BLOCK)
        ino = (mount.path / "file").stat().st_ino
    object_path(mount, ino, 1).unlink()
    with mount:
        assert (mount.path / "file").read_bytes() == bytes(3 * BLOCK) + b"y" * BLOCK
    assert problems(mount) == ""


def test_an_object_of_nobody_is_found_by_the_check(mount: LabMount) -> None:
    with mount:
        (mount.path / "file").write_bytes(b"x" * BLOCK)
        ino = (mount.path / "file").stat().st_ino
    stray = object_path(mount, ino, 0).with_name(f"{ino + 1:016x}.00000000")
    stray.write_bytes(b"stray")
    assert stray.name in problems(mount)
