"""Runs the real `loligo` command in a folder of its own: its registry, its volumes, its mounts."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from loligo_client.shell.mount_state import mounts, process_start

SCRIPTS = Path(sys.executable).parent
DEADLINE_S = 60.0
#: Where mounts of the user nobody leave their notes.
NOBODYS_NOTES = Path("/tmp/loligo-65534")


def wait_until(condition: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < end, f"not within {DEADLINE_S:.0f} s: {what}"
        time.sleep(0.01)


def has_ended(pid: int) -> bool:
    return process_start(pid) is None


class CommandLine:
    def __init__(self, root: Path) -> None:
        self.root = root
        self.directory = root / "mnt"
        self.directory.mkdir()
        self.environment = {**os.environ, "LOLIGO_CONFIG_DIR": str(root / "config")}

    def run(self, *arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        """Run `loligo`; it must end with `code`."""
        done = subprocess.run(
            [SCRIPTS / "loligo", *arguments],
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=DEADLINE_S,
        )
        assert done.returncode == code, f"loligo {' '.join(arguments)} ended with {done.returncode}: {done}"
        return done

    def refusal(self, *arguments: str) -> str:
        """The one line that `loligo` prints when it cannot do this."""
        done = self.run(*arguments, code=1)
        assert done.stdout == ""
        assert done.stderr.startswith("loligo: ") and done.stderr.count("\n") == 1, done.stderr
        return done.stderr.removeprefix("loligo: ").rstrip("\n")

    def meta(self, name: str = "work") -> Path:
        return self.root / name / "meta"

    def data_url(self, name: str = "work") -> str:
        return (self.root / name / "data").as_uri()

    def create(self, name: str = "work", data: str | None = None, *options: str) -> None:
        meta = self.meta(name).as_uri()
        self.run("volume", "create", name, "--meta", meta, "--data", data or self.data_url(name), *options)

    def mount(self, *options: str, name: str = "work") -> Path:
        self.run("mount", name, str(self.directory), *options)
        return self.directory

    def umount(self) -> None:
        self.run("umount", str(self.directory))

    def mounted(self) -> dict[str, Any]:
        """What `loligo status` says of our directory."""
        told = json.loads(self.run("status", "--json").stdout)
        found = {mount["directory"]: mount for mount in told if "directory" in mount}
        assert str(self.directory) in found, f"not mounted: {found}"
        return dict(found[str(self.directory)])

    def is_mounted(self) -> bool:
        return os.path.ismount(self.directory)

    def log(self, name: str = "work") -> str:
        return (self.meta(name) / "mount.log").read_text()

    def kill(self) -> int:
        """Kill the mount process as a crash would, and take its dead mount away; its id."""
        pid: int = self.mounted()["pid"]
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: has_ended(pid), "the end of a killed process")
        self.run("umount", str(self.directory), code=1)
        return pid

    def clean_up(self) -> None:
        """Nothing of ours stays mounted or runs, whatever the test did."""
        for note in [*Path("/run/loligo").glob("*.json"), *NOBODYS_NOTES.glob("*.json")]:
            try:
                said = json.loads(note.read_text())
            except FileNotFoundError:  # of another test, beside this one
                continue
            if Path(said["directory"]).is_relative_to(self.root):
                if process_start(said["pid"]) == said["process_start"]:
                    os.kill(said["pid"], signal.SIGKILL)
                note.unlink(missing_ok=True)
        while any(mount.directory == str(self.directory) for mount in mounts()):
            subprocess.run(["umount", "-l", self.directory], check=True)
        with contextlib.suppress(OSError):  # it is not there, or another test has notes in it
            NOBODYS_NOTES.rmdir()
