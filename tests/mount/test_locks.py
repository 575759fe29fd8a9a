"""Locks between the processes that use a mount: the kernel keeps them, or the server that others lock at, too."""

import errno
import fcntl
import os
import signal
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from loligo_lab.errnos import refused
from loligo_lab.processes import wait_until

Lock = Callable[[int, int], object]
_F_OFD_SETLK = 37
_FLOCK = "hhqqi4x"  # struct flock: type, whence, start, length, pid


def whole_file(fd: int, how: int) -> None:
    fcntl.flock(fd, how)


def record(fd: int, how: int) -> None:
    fcntl.lockf(fd, how, 100, 50)


HOLDER = """
import fcntl, os, sys
fd = os.open(sys.argv[1], os.O_RDWR)
if sys.argv[2] == "whole_file":
    fcntl.flock(fd, int(sys.argv[3]))
else:
    fcntl.lockf(fd, int(sys.argv[3]), 100, 50)
print("held", flush=True)
sys.stdin.read()
"""


class Holder:
    """Another process that holds a lock until it is let go."""

    def __init__(self, path: Path, lock: Lock, how: int) -> None:
        arguments = [sys.executable, "-c", HOLDER, str(path), lock.__name__, str(how)]
        self.process = subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def __enter__(self) -> "Holder":
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == b"held\n"
        return self

    def __exit__(self, *exception: object) -> None:
        self.process.communicate()
        assert self.process.returncode == 0


@pytest.fixture
def fd(here: Path) -> Iterator[int]:
    (here / "file").write_bytes(b"x" * 1000)
    opened = os.open(here / "file", os.O_RDWR)
    yield opened
    os.close(opened)


@pytest.mark.parametrize("lock", [whole_file, record])
def test_an_exclusive_lock_shuts_others_out(here: Path, fd: int, lock: Lock) -> None:
    with Holder(here / "file", lock, fcntl.LOCK_EX):
        for how in (fcntl.LOCK_EX, fcntl.LOCK_SH):
            with refused(errno.EAGAIN):
                lock(fd, how | fcntl.LOCK_NB)
    lock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)


@pytest.mark.parametrize("lock", [whole_file, record])
def test_shared_locks_are_shared(here: Path, fd: int, lock: Lock) -> None:
    with Holder(here / "file", lock, fcntl.LOCK_SH):
        lock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        with refused(errno.EAGAIN):
            lock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)


@pytest.mark.parametrize("lock", [whole_file, record])
def test_whoever_waits_gets_the_lock(here: Path, fd: int, lock: Lock) -> None:
    lock(fd, fcntl.LOCK_EX)
    waiter = Holder(here / "file", lock, fcntl.LOCK_EX)
    wait_until(lambda: _is_waiting(waiter.process.pid), "it waits for the lock")
    lock(fd, fcntl.LOCK_UN)
    with waiter, refused(errno.EAGAIN):
        lock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _is_waiting(pid: int) -> bool:
    """In fcntl or flock."""
    number = Path(f"/proc/{pid}/syscall").read_text().split()[0]
    return number in {"x86_64": ("72", "73"), "aarch64": ("25", "32")}[os.uname().machine]


@pytest.mark.parametrize("lock", [whole_file, record])
def test_a_killed_process_holds_nothing(here: Path, fd: int, lock: Lock) -> None:
    holder = Holder(here / "file", lock, fcntl.LOCK_EX)
    holder.__enter__()
    holder.process.kill()
    holder.process.communicate()
    lock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)


@pytest.mark.parametrize("lock", [whole_file, record])
def test_a_close_ends_it(here: Path, fd: int, lock: Lock) -> None:
    with (here / "file").open("r+b") as file:
        lock(file.fileno(), fcntl.LOCK_EX)
    with Holder(here / "file", lock, fcntl.LOCK_EX):
        pass


def test_a_close_by_who_only_reads_ends_it(here: Path, fd: int) -> None:
    with (here / "file").open("rb") as file:
        record(file.fileno(), fcntl.LOCK_SH)
    with Holder(here / "file", record, fcntl.LOCK_EX):
        pass


def test_a_lock_of_an_open_file_ends_with_it(here: Path, fd: int) -> None:
    """F_OFD_SETLK: whoever closes it, and not before."""
    wanted = struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
    with (here / "file").open("r+b") as file:
        fcntl.fcntl(file.fileno(), _F_OFD_SETLK, wanted)
        os.close(os.open(here / "file", os.O_RDONLY))
        with refused(errno.EAGAIN):
            record(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    record(fd, fcntl.LOCK_EX)


class _Alarm(Exception):
    pass


@pytest.mark.parametrize("lock", [whole_file, record])
def test_who_waits_can_be_interrupted(here: Path, fd: int, lock: Lock) -> None:
    def ring(number: int, frame: object) -> None:
        raise _Alarm

    before = signal.signal(signal.SIGALRM, ring)
    try:
        with Holder(here / "file", lock, fcntl.LOCK_EX):
            signal.setitimer(signal.ITIMER_REAL, 0.2)
            with pytest.raises(_Alarm):
                lock(fd, fcntl.LOCK_EX)
    finally:
        signal.signal(signal.SIGALRM, before)
    with Holder(here / "file", lock, fcntl.LOCK_EX):  # and has not got it later
        pass


def test_two_who_wait_for_each_other(here: Path, fd: int) -> None:
    """One of them is told."""
    other = subprocess.Popen(
        [sys.executable, "-c", CROSSED, here / "file"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert other.stdout is not None and other.stdout.readline() == b"held\n"
        fcntl.lockf(fd, fcntl.LOCK_EX, 1, 0)
        assert other.stdin is not None
        other.stdin.write(b"\n")
        other.stdin.flush()
        wait_until(lambda: _is_waiting(other.pid), "the other waits for the lock")
        with refused(errno.EDEADLK):
            fcntl.lockf(fd, fcntl.LOCK_EX, 1, 1)
        fcntl.lockf(fd, fcntl.LOCK_UN, 1, 0)
        assert other.stdout.readline() == b"has both\n"
    finally:
        other.kill()
        other.communicate()


CROSSED = """
import fcntl, os, sys
fd = os.open(sys.argv[1], os.O_RDWR)
fcntl.lockf(fd, fcntl.LOCK_EX, 1, 1)
print("held", flush=True)
sys.stdin.readline()
fcntl.lockf(fd, fcntl.LOCK_EX, 1, 0)
print("has both", flush=True)
sys.stdin.read()
"""


def test_records_that_do_not_overlap(here: Path, fd: int) -> None:
    with Holder(here / "file", record, fcntl.LOCK_EX):  # bytes 50 to 149
        fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB, 50, 0)
        fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB, 100, 150)
        with refused(errno.EAGAIN):
            fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, 149)


def test_who_holds_a_record_is_told(here: Path, fd: int) -> None:
    with Holder(here / "file", record, fcntl.LOCK_EX) as holder:
        question = struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
        kind, _, start, length, pid = struct.unpack(_FLOCK, fcntl.fcntl(fd, fcntl.F_GETLK, question))
        assert (kind, start, length, pid) == (fcntl.F_WRLCK, 50, 100, holder.process.pid)
