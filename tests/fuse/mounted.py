"""Mounts a file system for one test, served by a thread of the test process, and always cleans up.

The test process both serves and uses the mount. What Python does with the mount while it holds the GIL waits
for a thread that cannot run, for ever: touching a mapped file, ``os.get_terminal_size``, or starting a child with
``cwd`` on the mount. The plain ``os`` functions and ``open`` let the GIL go; for all else use a child process.
"""

import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from loligo_fuse import Config, MountError, Operations, Session, mount, unmount

DEADLINE_S = 10.0


@dataclass
class Mounted:
    path: str
    session: Session
    thread: threading.Thread
    fd: int


def wait_until(condition: Callable[[], bool], what: str, deadline_s: float = DEADLINE_S) -> None:
    end = time.monotonic() + deadline_s
    while not condition():
        if time.monotonic() > end:
            raise AssertionError(f"not within {deadline_s} s: {what}")
        time.sleep(0.005)


def is_mounted(path: str) -> bool:
    with open("/proc/self/mountinfo", encoding="utf-8") as mounts:
        return any(line.split(" ")[4] == path for line in mounts)


@contextmanager
def mounted(
    path: str | os.PathLike[str],
    operations: Operations,
    config: Config | None = None,
    options: Sequence[str] = ("default_permissions", "allow_other"),
    read_ahead_kb: int | None = None,
) -> Iterator[Mounted]:
    """Raises what the serving thread raised."""
    path = os.path.realpath(path)
    errors: list[BaseException] = []
    fd = mount(path, fsname="test", subtype="test", options=options, read_ahead_kb=read_ahead_kb)
    session = Session(fd, operations, config)

    def serve() -> None:
        try:
            session.run()
        except BaseException as error:  # noqa: BLE001  raised again by the test's own thread
            errors.append(error)

    thread = threading.Thread(target=serve, name="fuse session", daemon=True)
    thread.start()
    try:
        yield Mounted(path, session, thread, fd)
    finally:
        with suppress(MountError):
            unmount(path)
        if thread.is_alive() and is_mounted(path):
            unmount(path, lazy=True)
            session.stop()
        thread.join(DEADLINE_S)
        if thread.is_alive():
            session.stop()
            thread.join(DEADLINE_S)
        os.close(fd)
        while is_mounted(path):
            subprocess.run(["umount", "-l", path], check=True)
    if errors:
        raise errors[0]
    assert not thread.is_alive(), "the session did not end"
