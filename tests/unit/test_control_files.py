"""`.loligo` at the root of a mount, without a kernel: what it answers, and that the metadata is never asked about it."""

import inspect
import os
from collections.abc import Iterator
from errno import EACCES, EBADF, EINVAL, EISDIR, ENODATA, ENOLCK, EPERM
from stat import S_ISDIR, S_ISREG
from typing import Any

import pytest

from loligo_client.shell.control_files import ControlFiles
from loligo_client.shell.filesystem import FileSystem
from loligo_client.shell.own_names import CONTROL_NAME
from loligo_fuse import Context, FileLock, Operations, SetAttributes
from loligo_lab.errnos import refused
from loligo_mds.core.requests import Request
from loligo_runtime.clock import SystemClock
from loligo_wire.ids import FIRST_CLIENT_INO, ROOT_INO
from unit.data_lab import DataLab

CTX = Context(0, 0, 0, 0)


@pytest.fixture
def control() -> ControlFiles:
    return ControlFiles({b"one": lambda: b"first", b"two": lambda: b"second"}, lambda: 7)


def inode(control: ControlFiles, *path: bytes) -> int:
    ino: int = ROOT_INO
    for name in path:
        found = control.lookup(CTX, ino, name)
        assert found is not None
        ino = found.ino
    return ino


def test_rows_of_the_table_are_found_and_listed(control: ControlFiles) -> None:
    directory = inode(control, CONTROL_NAME)
    assert S_ISDIR(control.getattr(CTX, directory).mode)
    listed = list(control.readdir(0))
    assert [entry[0] for entry in listed] == [b".", b"..", b"one", b"two"]
    for name, _, ino, _, _ in listed[2:]:
        assert inode(control, CONTROL_NAME, name) == ino >= FIRST_CLIENT_INO
        assert S_ISREG(control.getattr(CTX, ino).mode)
    assert control.lookup(CTX, directory, b"three") is None
    for name, cookie, *_ in listed:
        assert [entry[0] for entry in control.readdir(cookie)] == [b".", b"..", b"one", b"two"][cookie:], name


def test_a_content_is_taken_when_it_is_opened() -> None:
    contents = iter([b"", b"before", b"after, longer"])  # the first for its size
    control = ControlFiles({b"one": lambda: next(contents)}, lambda: 7)
    ino = inode(control, CONTROL_NAME, b"one")
    first, second = (control.open(ino, os.O_RDONLY).handle for _ in range(2))
    assert control.read(first, 0, 100) == b"before" and control.read(second, 7, 3) == b"lon"
    assert control.read(first, 6, 100) == b""
    control.release(first)
    with refused(EBADF):
        control.read(first, 0, 1)


def test_nothing_is_believed_for_long(control: ControlFiles) -> None:
    ctx = Context(0, 0, 0, 0)
    control.lookup(ctx, ROOT_INO, CONTROL_NAME)
    assert (ctx.entry_timeout_s, ctx.attribute_timeout_s) == (0.0, 0.0)


#: What each operation answers about an inode of ours: an errno, or a value.
ANSWERS: dict[str, tuple[tuple[Any, ...], Any]] = {
    "setattr": ((SetAttributes(mode=0o777), None), EPERM),
    "symlink": ((b"x", b"y"), EPERM),
    "mknod": ((b"x", 0o100644, 0, 0), EPERM),
    "mkdir": ((b"x", 0o755, 0), EPERM),
    "unlink": ((b"stats",), EPERM),
    "rmdir": ((b"x",), EPERM),
    "rename": ((b"stats", ROOT_INO, b"x", 0), EPERM),
    "link": ((ROOT_INO, b"x"), EPERM),
    "create": ((b"x", 0o644, 0, os.O_RDWR), EPERM),
    "tmpfile": ((0o644, 0, os.O_RDWR), EPERM),
    "open": ((os.O_RDWR,), EACCES),
    "read": ((0, 0, 1), EBADF),
    "write": ((0, 0, memoryview(b"x"), False, 0), EBADF),
    "flush": ((0,), None),
    "release": ((0,), None),
    "fsync": ((0, False), None),
    "getxattr": ((b"user.x",), ENODATA),
    "setxattr": ((b"user.x", b"", 0, False), EPERM),
    "listxattr": ((), []),
    "removexattr": ((b"user.x",), EPERM),
    "getlk": ((0, 1, FileLock(0, 1, 0, 1)), ENOLCK),
    "setlk": ((0, 1, FileLock(0, 1, 0, 1), True, True), ENOLCK),
    "fallocate": ((0, 0, 1, 0), EBADF),
    "lseek": ((0, 0, os.SEEK_DATA), EINVAL),
}
#: Of the volume whatever the inode is, never asked of it, or looked at in other tests.
_OTHERS = {
    "statfs",
    "syncfs",
    "fsyncdir",
    "access",
    "opendir",
    "releasedir",
    "readlink",
    "lookup",
    "getattr",
    "readdir",
}


@pytest.fixture
def system() -> Iterator[FileSystem]:
    """Whose metadata must not be asked anything."""
    lab = DataLab()
    asked: list[Request] = []

    def note(request: Request) -> int:
        asked.append(request)
        return 0

    lab.metadata.fault = note
    try:
        yield FileSystem(lab.metadata, lab.data, SystemClock(), update_atime=True)
        assert asked == []
    finally:
        lab.close()


def test_every_operation_has_an_answer() -> None:
    """Also one that is new."""
    about_inodes = {
        name
        for name, method in inspect.getmembers(Operations, inspect.isfunction)
        if {"ino", "parent"} & set(inspect.signature(method).parameters)
    }
    assert about_inodes == {*ANSWERS, *_OTHERS}


@pytest.mark.parametrize("operation", ANSWERS)
def test_operations(system: FileSystem, operation: str) -> None:
    arguments, expected = ANSWERS[operation]
    found = system.lookup(CTX, ROOT_INO, CONTROL_NAME)
    directory = getattr(found, "ino", 0)
    file = getattr(system.lookup(CTX, directory, b"stats"), "ino", 0)
    takes_directory = "parent" in inspect.signature(getattr(Operations, operation)).parameters
    call = getattr(system, operation)
    if isinstance(expected, int):
        with refused(expected):
            call(CTX, directory if takes_directory else file, *arguments)
    else:
        assert call(CTX, file, *arguments) == expected


def test_nothing_else_gets_the_name(system: FileSystem) -> None:
    for call in (
        lambda: system.mkdir(CTX, ROOT_INO, CONTROL_NAME, 0o755, 0),
        lambda: system.create(CTX, ROOT_INO, CONTROL_NAME, 0o644, 0, os.O_RDWR),
        lambda: system.rmdir(CTX, ROOT_INO, CONTROL_NAME),
        lambda: system.rename(CTX, 5, b"x", ROOT_INO, CONTROL_NAME, 0),
        lambda: system.rename(CTX, 5, b"x", FIRST_CLIENT_INO, b"x", 0),
        lambda: system.link(CTX, 5, ROOT_INO, CONTROL_NAME),
        lambda: system.link(CTX, 5, FIRST_CLIENT_INO, b"x"),
    ):
        with refused(EPERM):
            call()


def test_directories_are_not_opened_as_files(system: FileSystem) -> None:
    with refused(EISDIR):
        system.open(CTX, FIRST_CLIENT_INO, os.O_RDONLY)
