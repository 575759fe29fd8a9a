"""Real mounts of embedded volumes, each served by a process of its own that a test may kill.

    volume = make_lab_volume(folder, block_bytes=64 << 10)
    with LabMount(volume, folder / "mnt", options=("transport=pyfuse3",)) as mount:
        (mount.path / "file").write_text("…")
        mount.kill()        # -9
        mount.start()       # again, recovering
    assert_sound(volume)

Rules
1. The process is the product's own mount process (`loligo_client.shell.mount.serve`); only starting it is ours.
2. It ends with the test process, whatever happens to that one: the kernel then sends it SIGTERM, and it unmounts.
3. Leaving the context unmounts, waits, and fails if the process ended badly or logged an error that the test did not expect.

    python -m loligo_lab.mounts META_URL DIRECTORY OPTIONS FLAGS_ALLOWED
"""

import contextlib
import ctypes
import os
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from loligo_client.shell import mount_state
from loligo_runtime import volume as volumes
from loligo_runtime.volume import Volume

START_LIMIT_S = 30.0
STOP_LIMIT_S = 60.0

_REPOSITORY = Path(__file__).parents[2]
_PYTHON_PATH = [str(_REPOSITORY / folder) for folder in ("common", "mds", "client", "tests")]
_PR_SET_PDEATHSIG = 1
_READY = b"ready\n"
_BAD_LINE = re.compile(r"\b(ERROR|CRITICAL)\b|^Traceback")
_ALL_FLAGS = (1 << 64) - 1


class MountFailed(Exception):
    """The mount process ended before the mount worked, or badly; the text has its log."""


def make_lab_volume(
    folder: Path, *, data_url: str | None = None, block_bytes: int = 64 << 10, inline_limit_bytes: int = 4096
) -> Volume:
    """A new volume below `folder`, its data in a folder beside the metadata unless `data_url` says otherwise."""
    from loligo_client.shell.embedded import make_volume

    volume = volumes.describe(
        "lab", f"file://{folder}/meta", data_url or f"file://{folder}/data", block_bytes, inline_limit_bytes
    )
    make_volume(volume, 0, 0)
    return volume


def assert_sound(volume: Volume) -> None:
    """What must hold of every volume that is not mounted, whatever was done to it."""
    from loligo_client.shell.check import check_volume

    problems = check_volume(volume).problems
    assert not problems, "\n".join(problems)


class LabMount:
    """One mount of `volume` on `path`, which is made. Use it as a context manager, or call start and unmount."""

    #: What the process runs: a variation of this module's `main`.
    MODULE = "loligo_lab.mounts"

    def __init__(
        self,
        volume: Volume,
        path: Path,
        *,
        options: Sequence[str] = (),
        flags_allowed: int = _ALL_FLAGS,
        environment: dict[str, str] | None = None,
    ) -> None:
        """`flags_allowed`: what of the protocol's INIT flags the session may take."""
        self.volume = volume
        self.path = path
        self._options = ",".join(options)
        self._flags_allowed = flags_allowed
        self._environment = environment or {}
        self._log_path = path.with_name(f"{path.name}.log")
        self._log_start = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._expected: list[re.Pattern[str]] = []

    # -- life -----------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Returns when the mount works."""
        self.path.mkdir(exist_ok=True)
        arguments = [self.volume.meta_url, str(self.path), self._options, str(self._flags_allowed)]
        with self._log_path.open("ab") as log:
            self._log_start = log.tell()
            process = subprocess.Popen(
                [sys.executable, "-m", self.MODULE, *arguments],
                env={**os.environ, "PYTHONPATH": os.pathsep.join(_PYTHON_PATH), **self._environment},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,  # a Ctrl-C at the terminal is ours to handle
            )
        self._process = process
        assert process.stdout is not None
        readable, _, _ = select.select([process.stdout], [], [], START_LIMIT_S)
        if not readable or os.read(process.stdout.fileno(), len(_READY)) != _READY:
            self.kill()
            raise MountFailed(f"the mount did not come up; its log:\n{self.log()}")

    @property
    def pid(self) -> int:
        assert self._process is not None, "not mounted"
        return self._process.pid

    def kill(self) -> None:
        """-9, and take the dead mount out of the tree."""
        if self._process is not None:
            self._process.kill()
            self._reap()
        while (dead := mount_state.find_mount(str(self.path))) is not None:
            note = mount_state.read_note(dead)
            subprocess.run(["umount", "-l", str(self.path)], check=True)
            if note is not None:
                mount_state.remove_note(note)

    def unmount(self) -> None:
        """As `loligo umount`: returns when everything is stored."""
        if self._process is None:
            return
        self._process.send_signal(signal.SIGTERM)
        self.wait()

    def wait(self) -> None:
        """Until the process has ended by itself, because somebody unmounted it or told it to."""
        assert self._process is not None
        try:
            self._process.wait(STOP_LIMIT_S)
        except subprocess.TimeoutExpired:
            self.kill()
            raise MountFailed(f"the mount process did not end; its log:\n{self.log()}") from None
        if self._reap() != 0:
            raise MountFailed(f"the mount process failed; its log:\n{self.log()}")
        assert mount_state.find_mount(str(self.path)) is None, "ended, but still mounted"
        bad = [line for line in self.log().splitlines() if _BAD_LINE.search(line)]
        unexpected = [line for line in bad if not any(pattern.search(line) for pattern in self._expected)]
        assert not unexpected, f"the mount process logged errors:\n{self.log()}"

    def _reap(self) -> int:
        assert self._process is not None
        process, self._process = self._process, None
        if process.stdout is not None:
            process.stdout.close()
        return process.wait()

    def __enter__(self) -> "LabMount":
        try:
            self.start()
        except BaseException:
            self.kill()
            raise
        return self

    def __exit__(self, kind: object, *exception: object) -> None:
        if kind is not None:
            with contextlib.suppress(MountFailed, AssertionError):
                self.unmount()
            self.kill()
            return
        try:
            self.unmount()
        finally:
            self.kill()

    # -- its log --------------------------------------------------------------------------------------------------

    def log(self) -> str:
        """What the process has logged since it was started last."""
        with self._log_path.open("rb") as log:
            log.seek(self._log_start)
            return log.read().decode(errors="replace")

    def expect_error(self, pattern: str) -> None:
        """Lines of the log that match are meant to be there."""
        self._expected.append(re.compile(pattern))


def wait_until(condition: Callable[[], bool], what: str, limit_s: float = 10.0) -> None:
    end = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < end, f"not within {limit_s} s: {what}"
        time.sleep(0.01)


def main(meta_url: str, directory: str, options: str, flags_allowed: str) -> None:
    """The mount process."""
    parent = os.getppid()
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        return

    import logging
    from functools import partial

    from loligo.logs import log_to_terminal
    from loligo_client.shell import mount
    from loligo_client.shell.filesystem import FileSystem
    from loligo_client.shell.mount_options import parse_options

    log_to_terminal()
    FileSystem.init = lambda self, negotiated: logging.info("negotiated %s", negotiated)  # type: ignore[method-assign]
    mount.Config = partial(mount.Config, flags_allowed=int(flags_allowed))  # type: ignore[assignment,attr-defined]
    parsed = parse_options([options], allow_other=os.geteuid() == 0)
    plan = mount.MountPlan(volumes.load(meta_url), meta_url, directory, parsed, "")

    def on_ready() -> None:
        os.write(sys.stdout.fileno(), _READY)

    mount.serve(plan, on_ready)


if __name__ == "__main__":
    main(*sys.argv[1:])
