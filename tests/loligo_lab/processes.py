"""A process of ours that a test starts, stops and kills; what mounts and servers of the lab have in common.

Rules
1. It ends with the test process, whatever happens to that one: the kernel then sends it SIGTERM.
2. It says that it works by a datagram READY=1, as systemd is told (sd_notify(3)).
3. Lines of its log that tell of an error fail the test, unless it said that they would come (`expect_error`).
"""

import ctypes
import os
import re
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

START_LIMIT_S = 30.0
STOP_LIMIT_S = 60.0

_REPOSITORY = Path(__file__).parents[2]
_PYTHON_PATH = [str(_REPOSITORY / folder) for folder in ("common", "trash", "mds", "client", "tests")]
_PR_SET_PDEATHSIG = 1
_BAD_LINE = re.compile(r"\b(ERROR|CRITICAL)\b|^Traceback")


class ProcessFailed(Exception):
    """A process ended before it worked, or badly; the text has its log."""


class Readiness:
    """Where a process says READY=1 (sd_notify(3)); it is started inside the context, with `environment`."""

    def __enter__(self) -> "Readiness":
        self._folder = tempfile.TemporaryDirectory(prefix="loligo-notify-")
        self._told = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._told.bind(f"{self._folder.name}/socket")
        self.environment = {"NOTIFY_SOCKET": f"{self._folder.name}/socket"}
        return self

    def __exit__(self, *exception: object) -> None:
        self._told.close()
        self._folder.cleanup()

    def wait(self, pid: int, limit_s: float) -> bool:
        """Whether the process said so, before it ended and in time."""
        ended = os.pidfd_open(pid)
        try:
            with selectors.DefaultSelector() as selector:
                selector.register(self._told, selectors.EVENT_READ)
                selector.register(ended, selectors.EVENT_READ)
                deadline = time.monotonic() + limit_s
                while (left_s := deadline - time.monotonic()) > 0:
                    for key, _ in selector.select(left_s):
                        if key.fileobj is not self._told:
                            return False
                        if b"READY=1" in self._told.recv(4096).split(b"\n"):
                            return True
        finally:
            os.close(ended)
        return False


class LabProcess:
    """`what` it is, in messages. `module`: run as `python -m MODULE`; begins with `end_with_parent`."""

    def __init__(self, what: str, module: str, log_path: Path, environment: dict[str, str] | None = None) -> None:
        self._what = what
        self._module = module
        self._log_path = log_path
        self._log_start = 0
        self._environment = environment or {}
        self._process: subprocess.Popen[bytes] | None = None
        self._expected: list[re.Pattern[str]] = []

    @property
    def pid(self) -> int:
        assert self._process is not None, f"{self._what} does not run"
        return self._process.pid

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def spawn(self, arguments: Sequence[str], **environment: str) -> None:
        """Returns when it works; ProcessFailed, and it is gone, if it does not. `environment`: more of it, for this time."""
        assert not self.is_running, f"{self._what} runs already"
        with Readiness() as readiness:
            with self._log_path.open("ab") as log:
                self._log_start = log.tell()
                self._process = subprocess.Popen(
                    [sys.executable, "-m", self._module, *arguments],
                    env={
                        **os.environ,
                        "PYTHONPATH": os.pathsep.join(_PYTHON_PATH),
                        **readiness.environment,
                        **self._environment,
                        **environment,
                    },
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,  # a Ctrl-C at the terminal is ours to handle
                )
            if not readiness.wait(self._process.pid, START_LIMIT_S):
                self.slay()
                raise ProcessFailed(f"{self._what} did not come up; its log:\n{self.log()}")

    def tell(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def slay(self) -> None:
        """-9."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def wait(self) -> None:
        """Until it has ended by itself, or because it was told to; it must have ended well, and without errors."""
        assert self._process is not None
        try:
            code = self._process.wait(STOP_LIMIT_S)
        except subprocess.TimeoutExpired:
            self.slay()
            raise ProcessFailed(f"{self._what} did not end; its log:\n{self.log()}") from None
        self._process = None
        if code != 0:
            raise ProcessFailed(f"{self._what} failed ({code}); its log:\n{self.log()}")
        self.check_log()

    def log(self) -> str:
        """What it has logged since it was started last."""
        with self._log_path.open("rb") as log:
            log.seek(self._log_start)
            return log.read().decode(errors="replace")

    def expect_error(self, pattern: str) -> None:
        """Lines of the log that match are meant to be there."""
        self._expected.append(re.compile(pattern))

    def check_log(self) -> None:
        bad = [line for line in self.log().splitlines() if _BAD_LINE.search(line)]
        unexpected = [line for line in bad if not any(pattern.search(line) for pattern in self._expected)]
        assert not unexpected, f"{self._what} logged errors:\n{self.log()}"


def end_with_parent() -> None:
    """The first thing that such a process does."""
    parent = os.getppid()
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        sys.exit(0)


def say_ready() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
        told.sendto(b"READY=1", os.environ["NOTIFY_SOCKET"])


def wait_until(condition: Callable[[], bool], what: str, limit_s: float = 10.0) -> None:
    end = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < end, f"not within {limit_s} s: {what}"
        time.sleep(0.01)
