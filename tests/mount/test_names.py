"""Names: what may be one, links of both kinds, special files, rename, removed directories."""

import errno
import os
import socket
import stat
from pathlib import Path

import pytest

from loligo_lab.errnos import refused
from loligo_lab.system_calls import RENAME_EXCHANGE, RENAME_NOREPLACE, renameat2
from loligo_lab.users import in_child

STRANGE_NAMES = [
    b"n" * 255,
    "ж".encode() * 127,
    b"\xff\xfe\x80",
    b" leading and trailing ",
    b"new\nline",
    b"-rf",
    b"\\",
    b"\x01\x7f",
    b"...",
]


@pytest.mark.parametrize("name", STRANGE_NAMES)
def test_any_bytes_are_a_name(here: Path, name: bytes) -> None:
    folder = os.fsencode(here)
    path, other = os.path.join(folder, name), os.path.join(folder, name[:-1] + b"!")
    with open(path, "wb") as file:
        file.write(b"x")
    assert os.listdir(folder) == [name]
    assert os.stat(path).st_size == 1
    os.rename(path, other)
    assert os.listdir(folder) == [name[:-1] + b"!"]
    os.unlink(other)
    assert os.listdir(folder) == []


def test_a_name_has_at_most_255_bytes(here: Path) -> None:
    long = here / ("n" * 256)
    (here / "file").touch()
    for attempt in (
        lambda: os.open(long, os.O_CREAT | os.O_WRONLY),
        lambda: os.stat(long),
        lambda: os.mkdir(long),
        lambda: os.symlink("x", long),
        lambda: os.mkfifo(long),
        lambda: os.rename(here / "file", long),
        lambda: os.link(here / "file", long),
        lambda: os.unlink(long),
    ):
        with refused(errno.ENAMETOOLONG):
            attempt()


def test_directories_that_are_deeper_than_a_path_is_long(here: Path) -> None:
    def descend() -> int:
        os.chdir(here)
        for _ in range(40):
            os.mkdir("d" * 200)
            os.chdir("d" * 200)
        with open("file", "w", encoding="ascii") as file:
            file.write("deep")
        return os.stat("file").st_size

    assert in_child(descend) == 4


# -- links ----------------------------------------------------------------------------------------------------------------


def test_hard_links_are_one_file(here: Path) -> None:
    (here / "one").write_bytes(b"content")
    (here / "folder").mkdir()
    os.link(here / "one", here / "two")
    os.link(here / "two", here / "folder" / "three")
    first = (here / "one").stat()
    assert first.st_nlink == 3
    assert {(here / name).stat().st_ino for name in ("one", "two", "folder/three")} == {first.st_ino}
    with (here / "two").open("ab") as file:
        file.write(b" and more")
    (here / "one").chmod(0o600)
    (here / "one").unlink()
    found = (here / "folder" / "three").stat()
    assert (found.st_nlink, found.st_size, stat.S_IMODE(found.st_mode)) == (2, 16, 0o600)
    (here / "two").unlink()
    assert (here / "folder" / "three").read_bytes() == b"content and more"
    assert found.st_ctime_ns >= first.st_ctime_ns


def test_what_cannot_be_linked(here: Path) -> None:
    (here / "file").touch()
    (here / "folder").mkdir()
    with refused(errno.EPERM):
        os.link(here / "folder", here / "second")
    with refused(errno.EEXIST):
        os.link(here / "file", here / "folder")
    with refused(errno.ENOENT):
        os.link(here / "missing", here / "second")


def test_renaming_a_link_onto_its_twin_does_nothing(here: Path) -> None:
    (here / "one").touch()
    os.link(here / "one", here / "two")
    os.rename(here / "one", here / "two")
    assert sorted(os.listdir(here)) == ["one", "two"]


@pytest.mark.parametrize("length", [1, 100, 4095])
def test_symbolic_links(here: Path, length: int) -> None:
    target = "t" * length
    os.symlink(target, here / "link")
    assert os.readlink(here / "link") == target
    found = os.lstat(here / "link")
    assert stat.S_ISLNK(found.st_mode) and found.st_size == length
    with refused(errno.ENOENT if length < 256 else errno.ENAMETOOLONG):
        os.stat(here / "link")


def test_symbolic_links_that_are_refused(here: Path) -> None:
    with refused(errno.ENAMETOOLONG):
        os.symlink("t" * 4096, here / "link")
    with refused(errno.ENOENT):
        os.symlink("", here / "link")
    os.symlink("loop", here / "loop")
    with refused(errno.ELOOP):
        os.stat(here / "loop")
    with refused(errno.EINVAL):
        os.readlink(here)


def test_paths_go_through_links(here: Path) -> None:
    (here / "folder").mkdir()
    (here / "folder" / "file").write_bytes(b"x")
    os.symlink("folder", here / "relative")
    os.symlink(here / "folder", here / "absolute")
    os.symlink(b"folder/\xff", os.fsencode(here / "bytes"))
    assert (here / "relative" / "file").read_bytes() == (here / "absolute" / "file").read_bytes() == b"x"
    assert os.readlink(os.fsencode(here / "bytes")) == b"folder/\xff"
    # A link that is replaced leads elsewhere at once: the kernel may keep targets, but not wrong ones.
    (here / "other").mkdir()
    os.symlink("other", here / "new")
    os.rename(here / "new", here / "relative")
    assert not (here / "relative" / "file").exists()


# -- special files --------------------------------------------------------------------------------------------------------


def test_a_fifo_carries_bytes(here: Path) -> None:
    os.mkfifo(here / "fifo", 0o600)
    assert stat.S_ISFIFO((here / "fifo").stat().st_mode)
    reading = os.open(here / "fifo", os.O_RDONLY | os.O_NONBLOCK)
    writing = os.open(here / "fifo", os.O_WRONLY)
    os.write(writing, b"through")
    assert os.read(reading, 100) == b"through"
    os.close(reading)
    os.close(writing)


def test_a_socket_listens(here: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
        # Relative to a directory descriptor: socket addresses are short.
        folder = os.open(here, os.O_RDONLY)
        address = f"/proc/self/fd/{folder}/socket"
        server.bind(address)
        server.listen()
        assert stat.S_ISSOCK((here / "socket").stat().st_mode)
        client.connect(address)
        server.accept()[0].close()
        os.close(folder)


@pytest.mark.parametrize("device", [os.makedev(1, 3), os.makedev(8, 300), os.makedev(300, 70_000)])
@pytest.mark.parametrize("kind", [stat.S_IFCHR, stat.S_IFBLK])
def test_device_nodes(here: Path, kind: int, device: int) -> None:
    os.mknod(here / "node", kind | 0o640, device)
    found = (here / "node").stat()
    assert (stat.S_IFMT(found.st_mode), found.st_rdev, stat.S_IMODE(found.st_mode)) == (kind, device, 0o640)


def test_a_device_works(here: Path) -> None:
    os.mknod(here / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    assert (here / "null").read_bytes() == b""


# -- directories and rename -----------------------------------------------------------------------------------------------


def test_directories_count_their_subdirectories(here: Path) -> None:
    assert here.stat().st_nlink == 2
    (here / "one").mkdir()
    (here / "two").mkdir()
    (here / "file").touch()
    assert here.stat().st_nlink == 4
    (here / "one").rename(here / "two" / "one")
    assert (here.stat().st_nlink, (here / "two").stat().st_nlink) == (3, 3)
    with refused(errno.ENOTEMPTY):
        os.rmdir(here / "two")
    os.rmdir(here / "two" / "one")
    os.rmdir(here / "two")
    assert here.stat().st_nlink == 2
    with refused(errno.ENOTDIR):
        os.rmdir(here / "file")
    with refused(errno.EISDIR):
        os.unlink(here)


def test_rename_replaces(here: Path) -> None:
    for name in ("one", "two"):
        (here / name).write_text(name)
        (here / f"{name}.d").mkdir()
    (here / "one").rename(here / "two")
    assert (here / "two").read_text() == "one" and not (here / "one").exists()
    (here / "one.d" / "file").touch()
    (here / "one.d").rename(here / "two.d")
    assert (here / "two.d" / "file").exists() and not (here / "one.d").exists()


def test_rename_that_is_refused(here: Path) -> None:
    (here / "file").touch()
    (here / "folder" / "sub").mkdir(parents=True)
    (here / "empty").mkdir()
    with refused(errno.EISDIR):
        os.rename(here / "file", here / "empty")
    with refused(errno.ENOTDIR):
        os.rename(here / "empty", here / "file")
    with refused(errno.ENOTEMPTY):
        os.rename(here / "empty", here / "folder")
    with refused(errno.EINVAL):
        os.rename(here / "folder", here / "folder" / "sub" / "folder")
    with refused(errno.ENOENT):
        os.rename(here / "missing", here / "new")


def test_dotdot_follows_a_moved_directory(here: Path) -> None:
    (here / "one" / "sub").mkdir(parents=True)
    (here / "two").mkdir()
    fd = os.open(here / "one" / "sub", os.O_RDONLY)
    os.rename(here / "one" / "sub", here / "two" / "sub")
    assert os.stat("..", dir_fd=fd).st_ino == (here / "two").stat().st_ino
    os.close(fd)


def test_rename_noreplace_and_exchange(here: Path) -> None:
    one, two, folder = (os.fsencode(here / name) for name in ("one", "two", "folder"))
    (here / "one").write_text("one")
    (here / "two").write_text("two")
    (here / "folder" / "sub").mkdir(parents=True)
    with refused(errno.EEXIST):
        renameat2(one, two, RENAME_NOREPLACE)
    with refused(errno.EINVAL):
        renameat2(one, two, RENAME_NOREPLACE | RENAME_EXCHANGE)
    with refused(errno.ENOENT):
        renameat2(one, two + b"x", RENAME_EXCHANGE)
    renameat2(one, two, RENAME_EXCHANGE)
    assert ((here / "one").read_text(), (here / "two").read_text()) == ("two", "one")
    renameat2(one, folder, RENAME_EXCHANGE)
    assert (here / "folder").read_text() == "two" and (here / "one" / "sub").is_dir()
    assert here.stat().st_nlink == 3
    renameat2(two, two + b"x", RENAME_NOREPLACE)
    assert (here / "twox").read_text() == "one"
    with refused(errno.EINVAL):  # no whiteouts
        renameat2(folder, folder + b"x", 4)


def test_a_removed_directory_can_be_stood_in(here: Path) -> None:
    (here / "gone").mkdir()

    def stand() -> tuple[int, list[str]]:
        os.chdir(here / "gone")
        fd = os.open(".", os.O_RDONLY)
        os.rmdir(here / "gone")
        with refused(errno.ENOENT):
            os.getcwd()
        with refused(errno.ENOENT):
            os.open("file", os.O_CREAT | os.O_WRONLY)
        with refused(errno.ENOENT):
            os.mkdir("folder")
        with refused(errno.ENOENT):
            os.stat("file")
        return os.fstat(fd).st_nlink, os.listdir(fd)

    assert in_child(stand) == (0, [])
    assert os.listdir(here) == []


def test_inode_numbers_of_removed_files_are_not_used_again_while_they_are_open(here: Path) -> None:
    (here / "file").touch()
    with (here / "file").open("rb") as file:
        (here / "file").unlink()
        (here / "file").touch()
        assert os.fstat(file.fileno()).st_ino != (here / "file").stat().st_ino
