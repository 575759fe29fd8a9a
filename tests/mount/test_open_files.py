"""Opening, reading and writing: every flag of open(2), maps, files without a name."""

import errno
import mmap
import os
import subprocess
from pathlib import Path

import pytest

from loligo_lab.errnos import refused
from loligo_lab.mounts import LabMount, stored_objects
from loligo_lab.processes import wait_until

PAGE = mmap.PAGESIZE
BLOCK = 64 << 10


def test_create_honours_excl(here: Path) -> None:
    path = here / "file"
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o640))
    assert path.stat().st_mode & 0o7777 == 0o640
    with refused(errno.EEXIST):
        os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
    (here / "dangling").symlink_to("nowhere")
    with refused(errno.EEXIST):
        os.open(here / "dangling", os.O_CREAT | os.O_EXCL | os.O_WRONLY)
    assert not (here / "nowhere").exists()


def test_create_follows_a_dangling_link(here: Path) -> None:
    (here / "dangling").symlink_to("target")
    os.close(os.open(here / "dangling", os.O_CREAT | os.O_WRONLY))
    assert (here / "target").is_file()


def test_open_of_what_does_not_exist(here: Path) -> None:
    with refused(errno.ENOENT):
        os.open(here / "missing", os.O_RDWR)
    # The kernel remembers that; creating must end it.
    (here / "missing").write_bytes(b"now")
    assert (here / "missing").read_bytes() == b"now"


@pytest.mark.parametrize("length", [10, 5000, 3 * BLOCK])
def test_trunc_empties(here: Path, length: int) -> None:
    path = here / "file"
    path.write_bytes(b"x" * length)
    with path.open("r+b") as other:
        fd = os.open(path, os.O_WRONLY | os.O_TRUNC)
        assert os.fstat(other.fileno()).st_size == 0
        assert other.read() == b""
        os.write(fd, b"new")
        os.close(fd)
    assert path.read_bytes() == b"new"


def test_append_goes_to_the_end_whoever_moved_it(here: Path) -> None:
    path = here / "log"
    first = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    second = os.open(path, os.O_WRONLY | os.O_APPEND)
    for turn in range(100):
        os.write(first, b"first %03d\n" % turn)
        os.write(second, b"other %03d\n" % turn)
    os.lseek(first, 0, os.SEEK_SET)
    os.write(first, b"end")
    os.close(first)
    os.close(second)
    lines = path.read_bytes().split(b"\n")
    assert lines[0] == b"first 000" and lines[199] == b"other 099" and lines[200] == b"end"


def test_append_from_several_processes_loses_nothing(here: Path) -> None:
    path = here / "log"
    path.touch()
    script = f"for i in $(seq 200); do echo $0 $i; done >> {path}"
    writers = [subprocess.Popen(["sh", "-c", script, name]) for name in ("one", "two", "three")]
    assert [writer.wait() for writer in writers] == [0, 0, 0]
    lines = path.read_text().splitlines()
    for name in ("one", "two", "three"):
        assert [line for line in lines if line.startswith(name)] == [f"{name} {i}" for i in range(1, 201)]


def test_directory_and_nofollow(here: Path) -> None:
    (here / "file").touch()
    (here / "folder").mkdir()
    (here / "link").symlink_to("folder")
    os.close(os.open(here / "folder", os.O_DIRECTORY | os.O_RDONLY))
    with refused(errno.ENOTDIR):
        os.open(here / "file", os.O_DIRECTORY | os.O_RDONLY)
    with refused(errno.ELOOP):
        os.open(here / "link", os.O_NOFOLLOW | os.O_RDONLY)
    with refused(errno.EISDIR):
        os.open(here / "folder", os.O_WRONLY)
    with refused(errno.EISDIR):
        os.open(here / "folder", os.O_CREAT | os.O_WRONLY)
    with refused(errno.ENOTDIR):
        os.open(here / "file" / "below", os.O_RDONLY)


def test_access_mode_of_a_descriptor(here: Path) -> None:
    path = here / "file"
    path.write_bytes(b"content")
    reading, writing = os.open(path, os.O_RDONLY), os.open(path, os.O_WRONLY)
    with refused(errno.EBADF):
        os.write(reading, b"x")
    with refused(errno.EBADF):
        os.read(writing, 1)
    with refused(errno.EINVAL):
        os.ftruncate(reading, 0)
    os.close(reading)
    os.close(writing)


def test_direct_io_and_the_page_cache_agree(here: Path) -> None:
    path = here / "file"
    path.write_bytes(b"a" * (BLOCK + PAGE))
    with mmap.mmap(-1, PAGE) as aligned:
        fd = os.open(path, os.O_RDWR | os.O_DIRECT)
        assert os.preadv(fd, [aligned], BLOCK) == PAGE
        assert aligned[:] == b"a" * PAGE
        aligned[:] = b"b" * PAGE
        assert os.pwritev(fd, [aligned], PAGE) == PAGE
        os.close(fd)
    assert path.read_bytes() == b"a" * PAGE + b"b" * PAGE + b"a" * (BLOCK - PAGE)


def test_a_shared_map_is_the_file(here: Path) -> None:
    path = here / "file"
    path.write_bytes(bytes(2 * BLOCK))
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as pages:
        pages[BLOCK - 3 : BLOCK + 3] = b"mapped"
        assert os.pread(file.fileno(), 6, BLOCK - 3) == b"mapped"
        os.pwrite(file.fileno(), b"written", 10)
        assert pages[10:17] == b"written"
        pages.flush()
    found = path.read_bytes()
    assert found[BLOCK - 3 : BLOCK + 3] == b"mapped" and found[10:17] == b"written" and len(found) == 2 * BLOCK


def test_a_map_survives_the_close_of_its_file_and_is_written_back(here: Path) -> None:
    path = here / "file"
    path.write_bytes(b"small")
    fd = os.open(path, os.O_RDWR)
    pages = mmap.mmap(fd, 5)
    os.close(fd)
    pages[:] = b"SMALL"
    pages.flush()
    pages.close()
    assert path.read_bytes() == b"SMALL"


def test_a_private_map_is_not_the_file(here: Path) -> None:
    path = here / "file"
    path.write_bytes(b"original")
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0, flags=mmap.MAP_PRIVATE) as pages:
        pages[:] = b"changed!"
    assert path.read_bytes() == b"original"


def test_a_program_runs(here: Path) -> None:
    path = here / "echo"
    path.write_bytes(Path("/bin/echo").read_bytes())
    path.chmod(0o755)
    assert subprocess.run([path, "hello"], capture_output=True, check=True).stdout == b"hello\n"
    with subprocess.Popen(["/bin/sleep", "60"], executable=here / "echo"):
        pass
    with path.open("r+b") as file:
        file.write(b"\x7fELF")


def test_copy_file_range_and_sendfile(here: Path) -> None:
    content = os.urandom(3 * BLOCK + 17)
    (here / "source").write_bytes(content)
    with (here / "source").open("rb") as source, (here / "one").open("wb") as one, (here / "two").open("wb") as two:
        left = len(content)
        while left:
            left -= os.copy_file_range(source.fileno(), one.fileno(), left)
        at = 0
        while at < len(content):
            at += os.sendfile(two.fileno(), source.fileno(), at, len(content) - at)
    assert (here / "one").read_bytes() == (here / "two").read_bytes() == content


def give_name(fd: int, path: Path) -> None:
    # A directory descriptor makes Python call linkat, which can follow.
    os.link(f"/proc/self/fd/{fd}", path, src_dir_fd=fd, follow_symlinks=True)


def test_tmpfile_gets_a_name_or_none(here: Path, transport: str) -> None:
    if transport == "pyfuse3":
        with refused(errno.EOPNOTSUPP):
            os.open(here, os.O_TMPFILE | os.O_RDWR)
        return
    fd = os.open(here, os.O_TMPFILE | os.O_RDWR, 0o640)
    os.write(fd, b"t" * 100_000)
    assert os.fstat(fd).st_nlink == 0 and list(here.iterdir()) == []
    give_name(fd, here / "named")
    os.write(fd, b"more")
    os.close(fd)
    assert (here / "named").read_bytes() == b"t" * 100_000 + b"more"
    assert (here / "named").stat().st_mode & 0o777 == 0o640

    fd = os.open(here, os.O_TMPFILE | os.O_RDWR | os.O_EXCL)
    with refused(errno.ENOENT):
        give_name(fd, here / "never")
    os.close(fd)


@pytest.mark.parametrize("length", [100, 5 * BLOCK])
def test_an_unlinked_file_lives_while_it_is_open(here: Path, mounted: LabMount, length: int) -> None:
    path = here / "file"
    fd = os.open(path, os.O_CREAT | os.O_RDWR)
    os.write(fd, b"1" * length)
    os.fsync(fd)
    ino = os.fstat(fd).st_ino
    path.unlink()
    assert not path.exists() and os.fstat(fd).st_nlink == 0
    os.pwrite(fd, b"2" * length, length)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    assert os.pread(fd, 3 * length, 0) == b"1" * length + b"2" * length
    os.ftruncate(fd, length)
    os.fchmod(fd, 0o600)
    assert os.fstat(fd).st_size == length and os.fstat(fd).st_mode & 0o777 == 0o600
    path.write_bytes(b"another")
    assert os.pread(fd, 10, 0) == b"1" * 10
    os.close(fd)
    assert path.read_bytes() == b"another"
    wait_until(lambda: not stored_objects(mounted.volume, ino), "its objects go when it is closed")


def test_replacing_by_rename_keeps_what_was_open(here: Path) -> None:
    (here / "old").write_bytes(b"old" * 50_000)
    (here / "new").write_bytes(b"new" * 50_000)
    with (here / "old").open("rb") as file:
        (here / "new").rename(here / "old")
        assert os.fstat(file.fileno()).st_nlink == 0
        assert file.read() == b"old" * 50_000
    assert (here / "old").read_bytes() == b"new" * 50_000
