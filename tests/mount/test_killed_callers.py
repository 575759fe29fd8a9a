"""A caller that is killed while its change waits for the store: the kernel must hear of the change all the same.

The volume is open in the test's own process, so that its object store can be made to wait.
"""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pytest

from loligo_client.shell.embedded import EmbeddedVolume
from loligo_client.shell.fuse_pyfuse3 import Pyfuse3Session
from loligo_fuse import MountError, Operations, Session, mount, unmount
from loligo_lab.mounts import assert_sound, make_lab_volume
from loligo_lab.processes import wait_until
from loligo_mds.shell.volume_parts import open_objects
from loligo_runtime.object_store import ObjectStore
from loligo_runtime.volume import Volume

DEADLINE_S = 10.0
BLOCK = 64 << 10
# What a caller gets to die in, who should not.
MOMENT_S = 0.3


class WaitingObjects:
    """An object store whose writes end when `go` is called."""

    def __init__(self, objects: ObjectStore) -> None:
        self._objects = objects
        self._lock = threading.Lock()
        self._waiting: list[tuple[Future[None], tuple[Any, ...]]] | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._objects, name)

    def wait(self) -> None:
        with self._lock:
            self._waiting = []

    def go(self) -> None:
        with self._lock:
            waiting, self._waiting = self._waiting or [], None
        for future, arguments in waiting:
            self._objects.write(*arguments).result()
            future.set_result(None)

    def write(self, *arguments: Any) -> Future[None]:
        with self._lock:
            if self._waiting is None:
                return self._objects.write(*arguments)
            future: Future[None] = Future()
            ino, index, offset, data = arguments
            self._waiting.append((future, (ino, index, offset, bytes(data))))
            return future


class WatchedFileSystem:
    """A file system that knows who waits for it. The kernel drops a killed caller's request that nobody has read yet."""

    def __init__(self, file_system: Operations) -> None:
        self._file_system = file_system
        self.callers: set[int] = set()

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._file_system, name)
        if not callable(found):
            return found

        def watched(*arguments: Any) -> Any:
            answer = found(*arguments)
            if isinstance(answer, Future) and not answer.done():
                self.callers.add(arguments[0].pid)
            return answer

        return watched


@dataclass
class Served:
    path: Path
    objects: WaitingObjects
    file_system: WatchedFileSystem


#: The volume is in this process.
pytestmark = pytest.mark.parametrize("transport", ["native", "pyfuse3"])


@pytest.fixture
def served(tmp_path: Path, transport: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    volume = make_lab_volume(tmp_path, block_bytes=BLOCK)
    path = tmp_path / "mnt"
    path.mkdir()
    opened: list[WaitingObjects] = []

    def open_waiting(volume: Volume) -> Any:
        opened.append(WaitingObjects(open_objects(volume)))
        return opened[0]

    monkeypatch.setattr("loligo_client.shell.embedded.open_objects", open_waiting)
    with EmbeddedVolume(volume) as open_volume:
        fd = mount(path, fsname="test", subtype="test", options=["default_permissions"])
        file_system = WatchedFileSystem(open_volume.file_system)
        session = (Session if transport == "native" else Pyfuse3Session)(fd, cast("Any", file_system))
        thread = threading.Thread(target=session.run, daemon=True)
        thread.start()
        try:
            yield Served(path, opened[0], file_system)
        finally:
            opened[0].go()
            with suppress(MountError):
                unmount(path, lazy=True)
            session.stop()
            thread.join(DEADLINE_S)
            os.close(fd)
    assert_sound(volume)


CHANGES = {
    "rename": "os.rename(path, other)",
    "truncate": "os.truncate(path, 10)",
    "open": "os.open(path, os.O_WRONLY | os.O_TRUNC)",
    "create": "os.open(path, os.O_WRONLY | os.O_TRUNC | os.O_CREAT)",
    "fallocate": "os.posix_fallocate(os.open(path, os.O_WRONLY), 0, 1_000_000)",
}


@pytest.mark.parametrize("change", CHANGES)
def test_the_kernel_hears_of_what_a_killed_caller_changed(served: Served, transport: str, change: str) -> None:
    if (transport, change) == ("pyfuse3", "fallocate"):
        return  # libfuse has none; glibc writes instead
    path, other = served.path / "path", served.path / "other"
    other.write_bytes(b"before")
    served.objects.wait()
    program = f"import os, sys; path, other = sys.argv[1:]; sys.stdin.readline(); {CHANGES[change]}"
    with subprocess.Popen([sys.executable, "-c", program, path, other], stdin=subprocess.PIPE) as caller:
        try:
            # Only now: a child would close the descriptor, and wait for us, while we hold the GIL and wait for it.
            fd = os.open(path, os.O_CREAT | os.O_RDWR)
            os.write(fd, b"x" * (4 * BLOCK + 5))
            assert caller.stdin is not None
            caller.stdin.write(b"go\n")
            caller.stdin.flush()
            wait_until(lambda: caller.pid in served.file_system.callers, "the change is with the file system")
            caller.send_signal(signal.SIGKILL)
            with pytest.raises(subprocess.TimeoutExpired):
                caller.wait(MOMENT_S)
        finally:
            served.objects.go()
        assert caller.wait(DEADLINE_S) == -signal.SIGKILL
    names = {"path", "other"}
    size = {"truncate": 10, "open": 0, "create": 0, "fallocate": 1_000_000, "rename": 4 * BLOCK + 5}[change]
    if change == "rename":
        names.remove("path")
        assert not path.exists()
        path.write_bytes(b"another")
        path.unlink()
        assert other.read_bytes() == b"x" * size
        path = other
    assert set(os.listdir(served.path)) == names
    assert path.stat().st_size == os.fstat(fd).st_size == size == len(path.read_bytes())
    os.close(fd)
