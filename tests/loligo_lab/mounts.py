"""Real mounts of embedded volumes, each served by a process of its own that a test may kill.

    volume = make_lab_volume(folder, block_bytes=64 << 10)
    with LabMount(volume, folder / "mnt", options=("transport=pyfuse3",)) as mount:
        (mount.path / "file").write_text("…")
        mount.kill()        # -9
        mount.start()       # again, recovering
    assert_sound(volume)

Rules
1. The process is the product's own mount process (`loligo_client.shell.mount.serve`); only starting it is ours.
2. Told to end, it unmounts and stores everything. What else holds of it: see `loligo_lab.processes`.
3. Leaving the context unmounts, waits, and fails if the process ended badly or logged an error that the test did not expect.

    python -m loligo_lab.mounts SOURCE DIRECTORY OPTIONS FLAGS_ALLOWED
"""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from loligo_client.shell import mount_state
from loligo_lab.processes import LabProcess, ProcessFailed, end_with_parent, say_ready
from loligo_runtime import volume as volumes
from loligo_runtime.object_url import open_object_store
from loligo_runtime.volume import Volume

_ALL_FLAGS = (1 << 64) - 1
#: A dead process that is still there then cannot end by itself.
STUCK_S = 5.0


def make_lab_volume(
    folder: Path,
    *,
    data_url: str | None = None,
    block_bytes: int = 64 << 10,
    inline_limit_bytes: int = 4096,
    retention: bytes | None = None,
) -> Volume:
    """A new volume below `folder`, its data in a folder beside the metadata unless `data_url` says otherwise.

    `retention`: how long what is removed is kept, if not as by default.
    """
    from loligo_client.shell.embedded import make_volume

    volume = volumes.describe(
        "lab", f"file://{folder}/meta", data_url or f"file://{folder}/data", block_bytes, inline_limit_bytes
    )
    make_volume(volume, 0, 0, retention)
    return volume


def assert_sound(volume: Volume) -> None:
    """What must hold of every volume that is not mounted, whatever was done to it."""
    from loligo_client.shell.check import check_volume

    problems = check_volume(volume).problems
    assert not problems, "\n".join(problems)


def stored_objects(volume: Volume, ino: int | None = None) -> list[int]:
    """Indexes of the objects that the store has of the inode, or of all."""
    objects = open_object_store(volume.data_url, create=False)
    try:
        return sorted(index for found, index, _ in objects.list() if ino is None or found == ino)
    finally:
        objects.close()


class LabMount(LabProcess):
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
        super().__init__("the mount", self.MODULE, path.with_name(f"{path.name}.log"), environment)
        self.volume = volume
        self.path = path
        self._options = ",".join(options)
        self._flags_allowed = flags_allowed

    @property
    def source(self) -> str:
        """What is mounted."""
        return self.volume.meta_url

    def start(self) -> None:
        """Returns when the mount works."""
        self.path.mkdir(exist_ok=True)
        try:
            self.spawn([self.source, str(self.path), self._options, str(self._flags_allowed)])
        except ProcessFailed:
            self.kill()
            raise

    def die(self) -> None:
        """-9; the dead mount stays in the tree, and who waits for a reply gets an error."""
        if self._process is None:
            return
        self.tell(signal.SIGKILL)
        try:
            self._process.wait(STUCK_S)
        except subprocess.TimeoutExpired:
            # See `loligo_fuse.unmount`. Somebody waits inside, so it stays.
            subprocess.run(["umount", "-f", str(self.path)], check=False, capture_output=True)
            self._process.wait(STUCK_S)

    def kill(self) -> None:
        """-9, and take the dead mount out of the tree."""
        self.die()
        self.slay()
        while (dead := mount_state.find_mount(str(self.path))) is not None:
            note = mount_state.read_note(dead)
            subprocess.run(["umount", "-l", str(self.path)], check=True)
            if note is not None:
                mount_state.remove_note(note)

    def unmount(self) -> None:
        """As `loligo umount`: returns when everything is stored."""
        if self._process is None:
            return
        self.tell(signal.SIGTERM)
        self.wait()

    def wait(self) -> None:
        try:
            super().wait()
        except ProcessFailed:
            self.kill()
            raise
        assert mount_state.find_mount(str(self.path)) is None, "ended, but still mounted"

    def __enter__(self) -> "LabMount":
        try:
            self.start()
        except BaseException:
            self.kill()
            raise
        return self

    def __exit__(self, kind: object, *exception: object) -> None:
        if kind is not None:
            with contextlib.suppress(ProcessFailed, AssertionError):
                self.unmount()
            self.kill()
            return
        try:
            self.unmount()
        finally:
            self.kill()


def main(source: str, directory: str, options: str, flags_allowed: str) -> None:
    """The mount process."""
    end_with_parent()

    import logging
    from functools import partial

    from loligo.logs import log_to_terminal
    from loligo.mounting import resolve
    from loligo_client.shell import mount
    from loligo_client.shell.filesystem import FileSystem
    from loligo_client.shell.mount_options import parse_options

    log_to_terminal()
    FileSystem.init = lambda self, negotiated: logging.info("negotiated %s", negotiated)  # type: ignore[method-assign]
    mount.Config = partial(mount.Config, flags_allowed=int(flags_allowed))  # type: ignore[assignment,attr-defined]
    parsed = parse_options([options], allow_other=os.geteuid() == 0)
    plan = mount.MountPlan(resolve(source, parsed), source, directory, parsed, "")
    mount.serve(plan, say_ready)


if __name__ == "__main__":
    main(*sys.argv[1:])
