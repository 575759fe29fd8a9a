"""The adapter to pyfuse3 by itself, with a file system of one file that does what each test wants."""

import errno
import logging
import os
import stat
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from loligo_client.shell.fuse_pyfuse3 import Pyfuse3Session
from loligo_fuse import Answer, Attributes, Context, MountError, Operations, mount, unmount
from loligo_lab.errnos import refused
from loligo_lab.processes import wait_until

DEADLINE_S = 10.0


@dataclass
class Fixed:
    ino: int
    mode: int
    generation: int = 0
    nlink: int = 1
    uid: int = 0
    gid: int = 0
    rdev: int = 0
    size: int = 0
    blocks: int = 0
    block_size: int = 4096
    atime_ns: int = 0
    mtime_ns: int = 0
    ctime_ns: int = 0


class OneFile(Operations):
    """`answer` is what reading the attribute "user.x" of the file comes to."""

    def __init__(self) -> None:
        self.answer: Any = b""
        self.destroyed = False

    def destroy(self) -> None:
        self.destroyed = True

    def lookup(self, ctx: Context, parent: int, name: bytes) -> Attributes | None:
        return Fixed(2, stat.S_IFREG | 0o644) if name == b"file" else None

    def getattr(self, ctx: Context, ino: int, handle: int | None) -> Attributes:
        return Fixed(ino, stat.S_IFREG | 0o644 if ino == 2 else stat.S_IFDIR | 0o755)

    def getxattr(self, ctx: Context, ino: int, name: bytes) -> Answer[bytes]:
        if isinstance(self.answer, Exception):
            raise self.answer
        answer: Answer[bytes] = self.answer
        return answer

    def listxattr(self, ctx: Context, ino: int) -> list[bytes]:
        return []


@dataclass
class Served:
    path: Path
    operations: OneFile
    session: Pyfuse3Session
    thread: threading.Thread

    def read(self) -> bytes:
        return os.getxattr(self.path / "file", "user.x")


@pytest.fixture
def served() -> Iterator[Served]:
    path = Path(tempfile.mkdtemp(prefix="loligo-pyfuse3-"))
    operations = OneFile()
    fd = mount(path, fsname="test", subtype="test", options=["default_permissions"])
    session = Pyfuse3Session(fd, operations)
    thread = threading.Thread(target=session.run, daemon=True)
    thread.start()
    try:
        yield Served(path, operations, session, thread)
    finally:
        with suppress(MountError):
            unmount(path, lazy=True)
        session.stop()
        thread.join(DEADLINE_S)
        os.close(fd)
        path.rmdir()
    assert not thread.is_alive() and operations.destroyed


def test_an_errno_is_an_answer(served: Served) -> None:
    served.operations.answer = OSError(errno.ENODATA, "none")
    with refused(errno.ENODATA):
        served.read()


def test_a_bug_is_logged_and_the_session_lives_on(served: Served, caplog: pytest.LogCaptureFixture) -> None:
    served.operations.answer = RuntimeError("a bug")
    with caplog.at_level(logging.ERROR), refused(errno.EIO):
        served.read()
    assert "getxattr" in caplog.text and "a bug" in caplog.text
    served.operations.answer = b"well again"
    assert served.read() == b"well again"


def test_requests_are_counted(served: Served) -> None:
    before = served.session.calls
    for _ in range(3):
        served.read()
    os.listxattr(served.path / "file")
    after = served.session.calls
    assert (after["GETXATTR"] - before.get("GETXATTR", 0), after["LISTXATTR"]) == (3, 1)
    assert after["LOOKUP"] >= 1 and "MKDIR" not in after


def test_a_future_is_answered_when_it_is_done_and_holds_up_nobody(served: Served) -> None:
    future: Future[bytes] = Future()
    served.operations.answer = future
    with ThreadPoolExecutor(20) as threads:
        waiting = [threads.submit(served.read) for _ in range(20)]
        wait_until(lambda: len(future._done_callbacks) == 20, "all of them wait")  # type: ignore[attr-defined]
        assert os.listxattr(served.path / "file") == []
        assert not any(reader.done() for reader in waiting)
        future.set_result(b"at last")
        assert [reader.result(DEADLINE_S) for reader in waiting] == [b"at last"] * 20


def test_a_future_that_fails(served: Served) -> None:
    failed: Future[bytes] = Future()
    failed.set_exception(OSError(errno.ENOSPC, "full"))
    served.operations.answer = failed
    with refused(errno.ENOSPC):
        served.read()


def test_stop_ends_it_though_it_is_mounted_and_somebody_waits(served: Served) -> None:
    served.operations.answer = Future()
    reader = threading.Thread(target=lambda: _ignoring(served.read), daemon=True)
    reader.start()
    wait_until(lambda: bool(served.operations.answer._done_callbacks), "it waits")
    served.session.stop()
    served.thread.join(DEADLINE_S)
    assert not served.thread.is_alive()


def _ignoring(work: Any) -> None:
    with suppress(OSError):
        work()
