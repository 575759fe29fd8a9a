"""The loop: errors, futures, interrupts, notifications, unmounting, stopping, and the death of the server."""

import errno
import fcntl
import inspect
import logging
import os
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from fuse.memory_filesystem import MemoryFilesystem
from fuse.mounted import DEADLINE_S, Mounted, is_mounted, mounted, wait_until
from loligo_fuse import FOPEN_DIRECT_IO, Config, Context, MountError, Opened, Operations, Session, mount, unmount
from loligo_fuse import dispatch as dispatch_module

pytestmark = pytest.mark.skipif(os.geteuid() != 0 or not os.path.exists("/dev/fuse"), reason="needs root and /dev/fuse")
NOBODY = 65534


@pytest.fixture
def filesystem() -> MemoryFilesystem:
    return MemoryFilesystem()


@pytest.fixture
def root(tmp_path: Path, filesystem: MemoryFilesystem) -> Iterator[Mounted]:
    with mounted(tmp_path, filesystem) as mount:
        yield mount


class Later:
    """An operation that answers later: `futures` are what it returned so far."""

    def __init__(self) -> None:
        self.futures: list[Future[Any]] = []
        self.arguments: list[tuple[Any, ...]] = []

    def __call__(self, *arguments: Any) -> Future[Any]:
        self.arguments.append(arguments)
        future: Future[Any] = Future()
        self.futures.append(future)
        return future

    def wait(self, count: int = 1) -> None:
        wait_until(lambda: len(self.futures) >= count, f"{count} requests arrived")


def errno_of(call: Any, *arguments: Any) -> int | None:
    with pytest.raises(OSError) as caught:
        call(*arguments)
    return caught.value.errno


def raises(error: BaseException) -> Any:
    def operation(*arguments: Any) -> Any:
        raise error

    return operation


def test_a_bug_in_an_operation_is_eio_for_one_caller(
    root: Mounted, filesystem: MemoryFilesystem, caplog: pytest.LogCaptureFixture
) -> None:
    filesystem.hooks["mkdir"] = raises(RuntimeError("a bug in mkdir"))
    with caplog.at_level(logging.ERROR):
        assert errno_of(os.mkdir, f"{root.path}/d") == errno.EIO
    assert "a bug in mkdir" in caplog.text
    assert "mkdir of inode 1" in caplog.text
    del filesystem.hooks["mkdir"]
    os.mkdir(f"{root.path}/d")


@pytest.mark.parametrize("number", [None, 0, -5, 100_000])
def test_an_oserror_without_a_usable_errno_is_eio(
    root: Mounted, filesystem: MemoryFilesystem, caplog: pytest.LogCaptureFixture, number: int
) -> None:
    filesystem.hooks["mkdir"] = raises(OSError() if number is None else OSError(number, "odd"))
    assert errno_of(os.mkdir, f"{root.path}/d") == errno.EIO
    assert "mkdir" in caplog.text


def test_too_much_data_is_eio_not_a_hang(
    root: Mounted, filesystem: MemoryFilesystem, caplog: pytest.LogCaptureFixture
) -> None:
    with open(f"{root.path}/f", "wb") as file:
        file.write(b"x")
    filesystem.hooks["open"] = lambda *arguments: Opened(filesystem._open().handle, 1)
    filesystem.hooks["read"] = lambda *arguments: b"x" * (1 << 20)
    with open(f"{root.path}/f", "rb", buffering=0) as file:
        assert errno_of(file.read, 10) == errno.EIO
    assert "10 were asked for" in caplog.text


def test_a_reply_that_the_kernel_refuses_is_eio_not_a_hang(
    root: Mounted, filesystem: MemoryFilesystem, caplog: pytest.LogCaptureFixture
) -> None:
    os.symlink("x", f"{root.path}/s")
    filesystem.hooks["readlink"] = lambda *arguments: b"x" * 10_000
    assert errno_of(os.readlink, f"{root.path}/s") == errno.EIO
    wait_until(lambda: "refused" in caplog.text, "the refusal was logged")


def test_forget_that_raises_is_logged_only(
    root: Mounted, filesystem: MemoryFilesystem, caplog: pytest.LogCaptureFixture
) -> None:
    filesystem.hooks["forget"] = raises(RuntimeError("a bug in forget"))
    os.mkdir(f"{root.path}/d")
    os.rmdir(f"{root.path}/d")
    wait_until(lambda: "a bug in forget" in caplog.text, "the kernel forgot the directory")
    del filesystem.hooks["forget"]
    os.mkdir(f"{root.path}/d")


def test_operations_not_implemented(root: Mounted) -> None:
    with open(f"{root.path}/f", "w+b") as file:
        # (os.get_terminal_size would do the same ioctl, but with the GIL held.)
        assert errno_of(fcntl.ioctl, file.fileno(), termios.TIOCGWINSZ) == errno.ENOTTY
        file.write(b"copied")
        file.flush()
        with open(f"{root.path}/g", "w+b") as target:
            # COPY_FILE_RANGE is ENOSYS: the kernel copies through reads and writes instead.
            assert os.copy_file_range(file.fileno(), target.fileno(), 6, 0, 0) == 6
            assert os.pread(target.fileno(), 10, 0) == b"copied"
        poll = select.poll()
        poll.register(file.fileno(), select.POLLIN)
        assert poll.poll(1000)


class FakeKernel:
    """The other end of a session: a packet socket in place of /dev/fuse, for requests no kernel sends."""

    def __init__(self, filesystem: MemoryFilesystem, config: Config | None = None) -> None:
        self.ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.ours.settimeout(DEADLINE_S)
        self.fd = theirs.detach()
        self.session = Session(self.fd, filesystem, config)
        self.errors: list[BaseException] = []
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        try:
            self.session.run()
        except BaseException as error:  # noqa: BLE001  looked at by the test
            self.errors.append(error)

    def send(self, opcode: int, unique: int, body: bytes = b"", ino: int = 1) -> None:
        header = request_header(len(body), opcode, unique, ino)
        self.ours.send(header + body)

    def receive(self) -> tuple[int, int, bytes]:
        """Unique, error, body."""
        raw = self.ours.recv(1 << 20)
        length, error, unique = struct.unpack_from("=IiQ", raw)
        assert length == len(raw)
        return unique, error, raw[16:]

    def init(self, major: int = 7, minor: int = 45) -> tuple[int, int, bytes]:
        self.send(26, 1, struct.pack("=IIIII44x", major, minor, 0, 0, 0))
        return self.receive()

    def close(self) -> None:
        self.session.stop()
        self.thread.join(DEADLINE_S)
        self.ours.close()
        os.close(self.fd)
        assert not self.thread.is_alive()


def request_header(body_bytes: int, opcode: int, unique: int, ino: int) -> bytes:
    return struct.pack("=IIQQIIIHH", 40 + body_bytes, opcode, unique, ino, 0, 0, 0, 0, 0)


@pytest.fixture
def kernel(filesystem: MemoryFilesystem) -> Iterator[FakeKernel]:
    fake = FakeKernel(filesystem)
    try:
        yield fake
    finally:
        fake.close()
    assert fake.errors == []


@pytest.mark.parametrize("opcode", [0, 7, 37, 40, 47, 52, 53, 54, 63, 64, 4096, 0xFFFFFFFF])
def test_unknown_opcodes_are_enosys(kernel: FakeKernel, opcode: int) -> None:
    kernel.init()
    kernel.send(opcode, 5, b"whatever")
    assert kernel.receive() == (5, -errno.ENOSYS, b"")


@pytest.mark.parametrize("opcode", [1, 3, 4, 6, 8, 9, 12, 14, 15, 16, 21, 22, 35, 43, 44, 45, 46])
def test_short_requests_are_answered(kernel: FakeKernel, opcode: int, caplog: pytest.LogCaptureFixture) -> None:
    """And with an error, not with what the request before left in the buffer."""
    kernel.init()
    kernel.send(99, 5, b"\1\0\0\0\0\0\0\0" * 100)
    assert kernel.receive() == (5, -errno.ENOSYS, b"")
    kernel.send(opcode, 6, b"\1\1")
    assert kernel.receive() == (6, -errno.EIO, b"")
    kernel.send(17, 7)
    assert kernel.receive()[:2] == (7, 0)


def test_short_requests_without_reply_get_none(kernel: FakeKernel, caplog: pytest.LogCaptureFixture) -> None:
    kernel.init()
    for opcode in (2, 36, 42):
        kernel.send(opcode, 5, b"\1\0")
    kernel.send(17, 6)
    assert kernel.receive()[:2] == (6, 0)


def test_extensions_at_the_end_are_cut_off(kernel: FakeKernel, filesystem: MemoryFilesystem) -> None:
    kernel.init()
    body = struct.pack("=II", 0o755, 0) + b"dir\0" + b"extension" + bytes(7)
    header = struct.pack("=IIQQIIIHH", 40 + len(body), 9, 5, 1, 0, 0, 0, 2, 0)
    kernel.ours.send(header + body)
    assert kernel.receive()[:2] == (5, 0)
    assert list(filesystem.inodes[1].entries) == [b"dir"]


def test_a_newer_major_version_asks_twice(filesystem: MemoryFilesystem, kernel: FakeKernel) -> None:
    _, error, body = kernel.init(major=8, minor=0)
    assert (error, struct.unpack_from("=I", body)) == (0, (7,))
    assert filesystem.negotiated is None
    _, error, body = kernel.init()
    assert (error, struct.unpack_from("=II", body)) == (0, (7, 45))


def test_too_old_a_kernel_ends_the_session(filesystem: MemoryFilesystem) -> None:
    fake = FakeKernel(filesystem)
    assert fake.init(minor=30) == (1, -errno.EPROTO, b"")
    fake.thread.join(DEADLINE_S)
    fake.close()
    assert "7.30" in str(fake.errors[0])
    assert filesystem.negotiated is None
    assert filesystem.destroyed == 0


def test_forget_counts(kernel: FakeKernel, filesystem: MemoryFilesystem) -> None:
    forgotten: list[Any] = []
    filesystem.hooks["forget"] = lambda inos: forgotten.extend(inos)
    kernel.init()
    kernel.send(2, 0, struct.pack("=Q", 3), ino=77)
    kernel.send(42, 0, struct.pack("=II4Q", 2, 0, 78, 1, 79, 1 << 40), ino=0)
    kernel.send(17, 6)
    assert kernel.receive()[:2] == (6, 0)
    assert forgotten == [(77, 3), (78, 1), (79, 1 << 40)]


def test_requests_are_counted_by_opcode(kernel: FakeKernel) -> None:
    """But not those that no operation is called for."""
    kernel.init()
    for unique, opcode in enumerate((17, 17, 99, 3, 4096), 5):
        kernel.send(opcode, unique, bytes(16))
        kernel.receive()
    kernel.send(2, 0, struct.pack("=Q", 3), ino=77)
    kernel.send(17, 20)
    kernel.receive()
    assert kernel.session.calls == {"FORGET": 1, "GETATTR": 1, "STATFS": 3}


# --- futures


def test_futures_answer_from_other_threads(root: Mounted, filesystem: MemoryFilesystem) -> None:
    with ThreadPoolExecutor(4) as pool:

        def mkdir(*arguments: Any) -> Future[Any]:
            return pool.submit(MemoryFilesystem.mkdir, filesystem, *arguments)

        def read(*arguments: Any) -> Future[Any]:
            return pool.submit(MemoryFilesystem.read, filesystem, *arguments)

        filesystem.hooks.update(mkdir=mkdir, read=read)
        os.mkdir(f"{root.path}/d")
        assert os.stat(f"{root.path}/d").st_nlink == 2
        assert errno_of(os.mkdir, f"{root.path}/d") == errno.EEXIST
        with open(f"{root.path}/f", "w+b") as file:
            file.write(b"data" * 100_000)
            file.flush()
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            file.seek(0)
            assert file.read() == b"data" * 100_000


def test_a_pending_request_does_not_hold_up_others(root: Mounted, filesystem: MemoryFilesystem) -> None:
    later = Later()
    filesystem.hooks["mkdir"] = later
    os.symlink("x", f"{root.path}/a")
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(os.mkdir, f"{root.path}/d")
        later.wait()
        assert os.statvfs(root.path).f_bsize == 4096
        assert os.readlink(f"{root.path}/a") == "x"
        assert not waiting.done()
        later.futures[0].set_result(MemoryFilesystem.mkdir(filesystem, *later.arguments[0]))
        waiting.result(DEADLINE_S)


@pytest.mark.parametrize(
    ("error", "number"),
    [
        (OSError(errno.EDQUOT, "quota"), errno.EDQUOT),
        (ValueError("bug"), errno.EIO),
        (SystemExit("even this"), errno.EIO),
    ],
)
def test_futures_that_fail(
    root: Mounted,
    filesystem: MemoryFilesystem,
    error: BaseException,
    number: int,
    caplog: pytest.LogCaptureFixture,
) -> None:
    failed: Future[Any] = Future()
    failed.set_exception(error)
    filesystem.hooks["mkdir"] = lambda *arguments: failed
    assert errno_of(os.mkdir, f"{root.path}/d") == number


def test_a_cancelled_future_is_eio(
    root: Mounted, filesystem: MemoryFilesystem, caplog: pytest.LogCaptureFixture
) -> None:
    cancelled: Future[Any] = Future()
    cancelled.cancel()
    filesystem.hooks["mkdir"] = lambda *arguments: cancelled
    assert errno_of(os.mkdir, f"{root.path}/d") == errno.EIO


@contextmanager
def killed_in_the_end(*command: str) -> Iterator[subprocess.Popen[bytes]]:
    quiet = subprocess.DEVNULL
    with subprocess.Popen(command, stdout=quiet, stderr=quiet) as child:
        try:
            yield child
        finally:
            child.kill()


def test_killing_a_process_that_waits_frees_it(root: Mounted, filesystem: MemoryFilesystem) -> None:
    with open(f"{root.path}/f", "wb") as file:
        file.write(b"x" * 100)
    later = Later()
    filesystem.hooks["read"] = later
    filesystem.hooks["open"] = lambda *arguments: Opened(filesystem._open().handle, FOPEN_DIRECT_IO)
    with killed_in_the_end("cat", f"{root.path}/f") as reader:
        later.wait()
        reader.kill()
        assert reader.wait(DEADLINE_S) == -signal.SIGKILL
    # The result comes too late: nobody gets it, and the session goes on.
    later.futures[0].set_result(b"too late")
    del filesystem.hooks["read"]
    with open(f"{root.path}/f", "rb") as file:
        assert file.read() == b"x" * 100


# A call in a process that handles SIGUSR1, which Python does not repeat after EINTR.
CALL = """
import os, signal, sys
signal.signal(signal.SIGUSR1, lambda *arguments: None)
signal.signal(signal.SIGINT, signal.SIG_DFL)
getattr(os, sys.argv[1])(sys.argv[2])
"""


def test_a_handled_signal_interrupts_nothing(root: Mounted, filesystem: MemoryFilesystem) -> None:
    later = Later()
    filesystem.hooks["readlink"] = later
    os.symlink("x", f"{root.path}/l")
    with killed_in_the_end(sys.executable, "-c", CALL, "readlink", f"{root.path}/l") as child:
        later.wait()
        child.send_signal(signal.SIGUSR1)
        wait_until(lambda: bool(root.session._interrupted), "the kernel told of the signal")
        assert child.poll() is None
        later.futures[0].set_result(MemoryFilesystem.readlink(filesystem, *later.arguments[0]))
        assert child.wait(DEADLINE_S) == 0
    wait_until(lambda: not root.session._interrupted, "the session forgot about it")


@pytest.mark.parametrize("deadly", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_deadly_signal_after_a_handled_one(
    root: Mounted, filesystem: MemoryFilesystem, deadly: signal.Signals
) -> None:
    """The kernel tells of the first one only."""
    later = Later()
    filesystem.hooks["readlink"] = later
    os.symlink("x", f"{root.path}/l")
    with killed_in_the_end(sys.executable, "-c", CALL, "readlink", f"{root.path}/l") as child:
        later.wait()
        child.send_signal(signal.SIGUSR1)
        wait_until(lambda: bool(root.session._interrupted), "the kernel told of the signal")
        child.send_signal(deadly)
        assert child.wait(DEADLINE_S) == -deadly
    later.futures[0].set_result(MemoryFilesystem.readlink(filesystem, *later.arguments[0]))


CHANGES = {
    "setattr": "os.truncate('old', 1)",
    "mknod": "os.mknod('new')",
    "mkdir": "os.mkdir('new')",
    "symlink": "os.symlink('x', 'new')",
    "link": "os.link('old', 'new')",
    "unlink": "os.unlink('old')",
    "rmdir": "os.rmdir('folder')",
    "rename": "os.rename('old', 'new')",
    "create": "os.open('new', os.O_CREAT | os.O_RDWR)",
    "tmpfile": "os.open('.', os.O_TMPFILE | os.O_RDWR)",
    "open": "os.open('old', os.O_TRUNC | os.O_RDWR)",
    "write": "os.write(os.open('old', os.O_RDWR), b'x')",
    "fallocate": "os.posix_fallocate(os.open('old', os.O_RDWR), 0, 10)",
    "setxattr": "os.setxattr('old', 'user.x', b'')",
    "removexattr": "os.removexattr('old', 'user.x')",
}


@pytest.mark.parametrize("operation", CHANGES)
def test_a_change_is_answered_when_it_is_done_though_its_caller_is_killed(
    root: Mounted, filesystem: MemoryFilesystem, operation: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Answered early, the kernel would keep what it knows from before the change."""
    Path(root.path, "old").write_bytes(b"old")
    os.setxattr(f"{root.path}/old", "user.x", b"x")
    os.mkdir(f"{root.path}/folder")
    told: list[int] = []
    interrupt = Session._interrupt

    def tell(session: Session, unique: int) -> None:
        interrupt(session, unique)
        told.append(unique)

    monkeypatch.setattr(Session, "_interrupt", tell)
    later = Later()
    filesystem.hooks[operation] = later
    program = f"import os, sys; os.chdir(sys.argv[1]); {CHANGES[operation]}"
    with killed_in_the_end(sys.executable, "-c", program, root.path) as child:
        later.wait()
        child.kill()
        wait_until(lambda: bool(told), "the kernel told of the signal")
        ctx = later.arguments[0][0]
        assert told == [ctx.unique]
        assert list(root.session._pending) == [ctx.unique]
        assert child.poll() is None
        del filesystem.hooks[operation]
        later.futures[0].set_exception(OSError(errno.EDQUOT, "done"))
        assert child.wait(DEADLINE_S) == -signal.SIGKILL
    assert not root.session._pending and not root.session._interrupted


@pytest.mark.parametrize("operation", ["readlink", "mkdir"])
def test_operations_may_let_a_caller_go_at_any_signal(
    root: Mounted, filesystem: MemoryFilesystem, operation: str
) -> None:
    os.symlink("x", f"{root.path}/l")
    later = Later()
    filesystem.hooks[operation] = later
    name = {"readlink": "l", "mkdir": "new"}[operation]
    asked: list[object] = []
    is_away = False

    def interrupted(future: Future[Any]) -> bool:
        asked.append(future)
        if is_away:
            future.set_exception(OSError(errno.EINTR, "interrupted"))
        return True

    filesystem.interrupted = interrupted  # type: ignore[method-assign]
    with killed_in_the_end(sys.executable, "-c", CALL, operation, f"{root.path}/{name}") as child:
        later.wait()
        child.send_signal(signal.SIGUSR1)
        wait_until(lambda: len(asked) >= 3, "being asked again and again")
        assert child.poll() is None
        is_away = True
        assert child.wait(DEADLINE_S) == 1, "the exception of an interrupted call"
    assert set(asked) == set(later.futures)
    wait_until(lambda: not root.session._interrupted and not root.session._pending, "the session forgot about it")


def test_what_an_interrupted_lookup_counted_is_forgotten(root: Mounted, filesystem: MemoryFilesystem) -> None:
    later = Later()
    filesystem.hooks["lookup"] = later
    ino = MemoryFilesystem.mknod(filesystem, Context(0, 0, 0, 0), 1, b"f", 0o100644, 0, 0).ino  # type: ignore[union-attr]
    filesystem.lookups[ino] = 0
    with killed_in_the_end("stat", f"{root.path}/f") as looker:
        later.wait()
        looker.kill()
        looker.wait(DEADLINE_S)
    found = MemoryFilesystem.lookup(filesystem, *later.arguments[0])
    assert filesystem.lookups[ino] == 1
    later.futures[0].set_result(found)
    assert filesystem.lookups[ino] == 0


def test_what_an_interrupted_opendir_opened_is_released(root: Mounted, filesystem: MemoryFilesystem) -> None:
    later = Later()
    released: list[int] = []
    filesystem.hooks["opendir"] = later
    filesystem.hooks["releasedir"] = lambda ctx, ino, handle: released.append(handle)
    with killed_in_the_end("ls", root.path) as lister:
        later.wait()
        lister.kill()
        lister.wait(DEADLINE_S)
    later.futures[0].set_result(Opened(77))
    assert released == [77]


# --- notifications


def test_inval_entry(root: Mounted, filesystem: MemoryFilesystem) -> None:
    assert not os.path.exists(f"{root.path}/f")
    with open(f"{root.path}/g", "wb"):
        pass
    inode = filesystem.inodes[1].entries.pop(b"g")
    filesystem.inodes[1].entries[b"f"] = inode
    assert os.path.exists(f"{root.path}/g"), "cached for an hour"
    assert not os.path.exists(f"{root.path}/f"), "its absence too"
    root.session.notify_inval_entry(1, b"g")
    root.session.notify_inval_entry(1, b"f")
    assert not os.path.exists(f"{root.path}/g")
    assert os.path.exists(f"{root.path}/f")
    root.session.notify_inval_entry(1, b"never heard of")
    root.session.notify_inval_entry(12345, b"nor of this")


def test_inval_inode(root: Mounted, filesystem: MemoryFilesystem) -> None:
    filesystem.hooks["open"] = lambda *arguments: Opened(filesystem._open().handle, 2)
    with open(f"{root.path}/f", "wb") as file:
        file.write(b"old")
    inode = filesystem.inodes[os.stat(f"{root.path}/f").st_ino]

    def content() -> bytes:
        with open(f"{root.path}/f", "rb") as file:
            return file.read()

    assert content() == b"old"
    inode.data[:] = b"new"
    inode.mode = 0o100600
    assert content() == b"old"
    root.session.notify_inval_inode(inode.ino, -1, 0)
    assert os.stat(f"{root.path}/f").st_mode == 0o100600
    root.session.notify_inval_inode(inode.ino, 0, 0)
    assert content() == b"new"
    root.session.notify_inval_inode(12345, 0, 0)


def test_store(root: Mounted, filesystem: MemoryFilesystem) -> None:
    filesystem.hooks["open"] = lambda *arguments: Opened(filesystem._open().handle, 2)
    with open(f"{root.path}/f", "wb"):
        pass
    ino = os.stat(f"{root.path}/f").st_ino
    filesystem.inodes[ino].data[:] = b"from elsewhere"
    root.session.notify_inval_inode(ino, -1, 0)
    root.session.notify_store(ino, 0, b"from elsewhere")
    with open(f"{root.path}/f", "rb") as file:
        assert file.read() == b"from elsewhere"
    assert filesystem.calls["read"] == 0


# --- the end


def test_unmounting_ends_run(tmp_path: Path, filesystem: MemoryFilesystem) -> None:
    with mounted(tmp_path, filesystem) as mount:
        os.mkdir(f"{mount.path}/d")
        unmount(mount.path)
        mount.thread.join(DEADLINE_S)
        assert not mount.thread.is_alive()
        assert filesystem.destroyed == 1
        mount.session.stop()  # harmless now
        mount.session.notify_inval_inode(1, 0, 0)
    assert not is_mounted(str(tmp_path))


def test_unmounting_while_a_file_is_open(tmp_path: Path, filesystem: MemoryFilesystem) -> None:
    with mounted(tmp_path, filesystem) as mount:
        with open(f"{mount.path}/f", "w+b") as file:
            with pytest.raises(MountError, match="busy"):
                unmount(mount.path)
            unmount(mount.path, lazy=True)
            assert not is_mounted(mount.path)
            file.write(b"still served")
        mount.thread.join(DEADLINE_S)
        assert not mount.thread.is_alive()


def test_stop_ends_run_while_idle(tmp_path: Path, filesystem: MemoryFilesystem) -> None:
    with mounted(tmp_path, filesystem) as mount:
        os.mkdir(f"{mount.path}/d")
        mount.session.stop()
        mount.thread.join(DEADLINE_S)
        assert not mount.thread.is_alive()
        assert filesystem.destroyed == 1


def test_stop_ends_run_while_busy(tmp_path: Path, filesystem: MemoryFilesystem) -> None:
    """One reader at least always waits, so the loop never finds the queue empty for long."""
    with mounted(tmp_path, filesystem) as mount, ThreadPoolExecutor(4) as pool:
        device = os.open(mount.path, os.O_RDONLY)

        def keep_busy() -> int | None:
            try:
                while True:
                    os.fstatvfs(device)
            except OSError as error:
                return error.errno

        busy = [pool.submit(keep_busy) for _ in range(4)]
        wait_until(lambda: filesystem.calls["statfs"] > 1000, "it is busy")
        mount.session.stop()
        mount.thread.join(DEADLINE_S)
        assert not mount.thread.is_alive()
        subprocess.run(["umount", "--force", "--lazy", mount.path], check=True)
        assert all(each.result(DEADLINE_S) in (errno.ECONNABORTED, errno.ENOTCONN) for each in busy)
        os.close(device)


def test_stop_before_run(tmp_path: Path, filesystem: MemoryFilesystem) -> None:
    fd = mount(tmp_path, fsname="test", subtype="test")
    try:
        session = Session(fd, filesystem)
        session.stop()
        session.run()
        assert filesystem.destroyed == 1
    finally:
        os.close(fd)
        unmount(tmp_path, lazy=True)


def test_results_after_the_end_go_nowhere(tmp_path: Path, filesystem: MemoryFilesystem) -> None:
    later = Later()
    filesystem.hooks["mkdir"] = later
    with ThreadPoolExecutor(1) as pool, mounted(tmp_path, filesystem) as mount:
        waiting = pool.submit(os.mkdir, f"{mount.path}/d")
        later.wait()
        mount.session.stop()
        mount.thread.join(DEADLINE_S)
        later.futures[0].set_result(MemoryFilesystem.mkdir(filesystem, *later.arguments[0]))
        os.dup2(os.open("/dev/null", os.O_RDWR), mount.fd)  # closes the device: the caller is freed
        assert errno_of(waiting.result, DEADLINE_S) == errno.ECONNABORTED


SERVE = """
import sys
from concurrent.futures import Future
from fuse.memory_filesystem import MemoryFilesystem
from loligo_fuse import Session, mount

def never(*arguments):
    print("readlink waits", flush=True)
    return Future()

operations = MemoryFilesystem()
operations.hooks["readlink"] = never
fd = mount(sys.argv[1], fsname="test", subtype="test")
print("mounted", flush=True)
Session(fd, operations).run()
"""


@contextmanager
def python(*arguments: str, prefix: Sequence[str] = ()) -> Iterator[Any]:
    """A child that can import what this process can; killed at the end."""
    child = subprocess.Popen(
        [*prefix, sys.executable, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": ":".join(sys.path)},
    )
    try:
        with child:
            try:
                yield child
            finally:
                child.kill()
    finally:
        for path in filter(is_mounted, arguments):
            unmount(path, lazy=True, force=True)


def test_a_killed_server_leaves_no_hang(tmp_path: Path) -> None:
    path = str(tmp_path)
    with python("-c", SERVE, path) as server:
        assert server.stdout.readline() == "mounted\n", server.stderr.read()
        os.symlink("x", f"{path}/s")
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(os.readlink, f"{path}/s")
            assert server.stdout.readline() == "readlink waits\n"
            os.statvfs(path)  # answered, so the loop lives while readlink waits
            server.kill()
            assert errno_of(waiting.result, DEADLINE_S) in (errno.ECONNABORTED, errno.ENOTCONN)
        assert errno_of(os.listdir, path) == errno.ENOTCONN
        unmount(path, lazy=True)
        assert not is_mounted(path)


SERVE_AND_NOTIFY = """
import sys, threading
from concurrent.futures import Future
from loligo_fuse import Session, mount
from loligo_fuse.examples.hello import FILE_INO, Hello

class Silent(Hello):
    def read(self, ctx, ino, handle, offset, size):
        threading.Thread(target=session.notify_inval_inode, args=(ino, 0, 0), daemon=True).start()
        print("read waits", flush=True)
        return Future()

fd = mount(sys.argv[1], fsname="test", subtype="test", options=["ro", "default_permissions"])
session = Session(fd, Silent())
print("mounted", flush=True)
session.run()
"""


def test_a_server_that_was_killed_while_it_told_the_kernel_something_can_be_cleared_away(tmp_path: Path) -> None:
    path = str(tmp_path)
    with python("-c", SERVE_AND_NOTIFY, path) as server:
        assert server.stdout.readline() == "mounted\n", server.stderr.read()
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(Path(path, "hello.txt").read_bytes)
            assert server.stdout.readline() == "read waits\n"
            wait_until(lambda: waits_in_the_kernel(server.pid), "its thread waits for the page that is being read")
            server.kill()
            # Its end needs the page, the page its reader, and the reader the server.
            wait_until(lambda: state_of(f"/proc/{server.pid}/status") == "Z", "it is dead")
            assert not waiting.done() and server.poll() is None
            unmount(path, lazy=True, force=True)
            server.wait(DEADLINE_S)
            assert isinstance(waiting.exception(DEADLINE_S), OSError)
        assert not is_mounted(path)


def waits_in_the_kernel(pid: int) -> bool:
    return any(state_of(str(task / "status")) == "D" for task in Path(f"/proc/{pid}/task").iterdir())


def state_of(status: str) -> str:
    return next(line.split()[1] for line in Path(status).read_text().splitlines() if line.startswith("State:"))


# A mount namespace of its own, with a /dev/fuse that everybody may open (as udev makes it; containers and
# small machines often have a stricter one), then no privileges any more.
AS_NOBODY = (
    "unshare",
    "--mount",
    "sh",
    "-ec",
    "mount -t tmpfs none /mnt; mknod -m 666 /mnt/fuse c 10 229; mount --bind /mnt/fuse /dev/fuse; "
    'umount -l /mnt; exec setpriv --reuid=65534 --regid=65534 --clear-groups "$@"',
    "sh",
)
needs_helper = pytest.mark.skipif(shutil.which("fusermount3") is None, reason="needs fusermount3")

ORDINARY_USER = """
import os, sys, threading
from fuse.memory_filesystem import MemoryFilesystem
from loligo_fuse import Session, mount, unmount
path, operations = sys.argv[1], MemoryFilesystem()
fd = mount(path, fsname="te,st", subtype="test", options=["default_permissions"])
thread = threading.Thread(target=Session(fd, operations).run)
thread.start()
with open(f"{path}/f", "w") as file:
    file.write("hello")
os.mkdir(f"{path}/d")
os.rename(f"{path}/f", f"{path}/d/f")
print(os.listdir(path), open(f"{path}/d/f").read(), os.stat(f"{path}/d/f").st_uid)
print(*[line for line in open("/proc/self/mounts") if path in line], end="")
unmount(path)
thread.join(10)
print(thread.is_alive(), operations.destroyed)
"""


@needs_helper
def test_an_ordinary_user_mounts_by_fusermount3(public_path: str) -> None:
    os.chown(public_path, NOBODY, NOBODY)
    with python("-c", ORDINARY_USER, public_path, prefix=AS_NOBODY) as child:
        output, errors = child.communicate(timeout=DEADLINE_S)
    assert errors == ""
    found, line, ended = output.splitlines()
    assert found == f"['d'] hello {NOBODY}"
    source, _, kind, options, *_ = line.split()
    assert (source, kind) == ("te,st", "fuse.test")
    assert {"nosuid", "nodev", f"user_id={NOBODY}", "default_permissions"} <= set(options.split(","))
    assert ended == "False 1"


@needs_helper
def test_fusermount_errors_say_why(public_path: str) -> None:
    with python("-c", ORDINARY_USER, public_path, prefix=AS_NOBODY) as child:
        _, errors = child.communicate(timeout=DEADLINE_S)
    assert "user has no write access to mountpoint" in errors.splitlines()[-1]


def test_mount_errors_say_why(tmp_path: Path) -> None:
    with pytest.raises(MountError, match="No such file"):
        mount(tmp_path / "missing", fsname="x", subtype="x")
    with pytest.raises(MountError, match=r"no_such_option.*Invalid argument"):
        mount(tmp_path, fsname="x", subtype="x", options=["no_such_option"])
    with pytest.raises(MountError, match=r"cannot unmount .*Invalid argument"):
        unmount(tmp_path)


def test_the_example_runs(tmp_path: Path) -> None:
    path = str(tmp_path)
    with python("-m", "loligo_fuse.examples.hello", path) as server:
        wait_until(lambda: is_mounted(path), "the example mounted")
        assert os.listdir(path) == ["hello.txt"]
        with open(f"{path}/hello.txt", "rb") as file:
            assert file.read().startswith(b"Hello")
        assert errno_of(os.open, f"{path}/hello.txt", os.O_WRONLY) == errno.EROFS
        assert errno_of(os.stat, f"{path}/other") == errno.ENOENT
        server.send_signal(signal.SIGINT)
        assert server.wait(DEADLINE_S) == 0
        assert not is_mounted(path)
        assert server.stderr.read() == ""


def test_every_operation_has_a_row() -> None:
    """And every default is ENOSYS, but for what nobody has to implement."""
    source = inspect.getsource(dispatch_module)
    for name in vars(Operations):
        if name.startswith("_") or name.endswith("_s") or name in ("init", "destroy", "interrupted", "locks"):
            continue
        assert f"ops.{name}(" in source, name
        if name != "forget":
            count = len(inspect.signature(getattr(Operations, name)).parameters) - 1
            assert errno_of(getattr(Operations(), name), *[None] * count) == errno.ENOSYS
