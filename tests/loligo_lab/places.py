"""A volume that the `loligo` command makes and mounts, as a user would do it; `ceph_place` has one behind a daemon.

Rule: `up` and `down` can be repeated at any time, and go on from whatever the last one left. What they start outlives
this process.
"""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
LOLIGO = ROOT / ".venv" / "bin" / "loligo"


class PlaceError(Exception):
    """The text says what went wrong; the command that failed has said why."""


class EmbeddedPlace:
    """Metadata and data in `home`."""

    def __init__(self, home: Path, name: str, mount_point: Path, config: Path) -> None:
        """`config` is where the names of volumes are kept."""
        self.home = home
        self.name = name
        self.mount_point = mount_point
        self._environment = {"LOLIGO_CONFIG_DIR": str(config)}

    def up(self, *options: str) -> None:
        if is_up(self.mount_point):
            return
        clear(self.mount_point)
        self.make()
        self._loligo("mount", self.name, str(self.mount_point), *options)

    def down(self) -> None:
        unmount(self.mount_point)

    @property
    def mount_pid(self) -> int:
        return mount_pid(self.mount_point)

    def make(self, data_url: str = "") -> None:
        """`data_url`: a folder beside the metadata if it is empty."""
        data_url = data_url or (self.home / "data").as_uri()
        if not self.is_made:
            self._loligo("volume", "create", self.name, "--meta", self.meta_url, "--data", data_url)

    @property
    def is_made(self) -> bool:
        return (self.home / "meta" / "volume.json").exists()

    @property
    def meta_url(self) -> str:
        return (self.home / "meta").as_uri()

    def _loligo(self, *arguments: str) -> None:
        loligo(*arguments, environment=self._environment)


def mounts() -> list[dict[str, Any]]:
    """What `loligo status` says of each mount."""
    done = subprocess.run([LOLIGO, "status", "--json"], check=True, stdout=subprocess.PIPE)
    return [shown for shown in json.loads(done.stdout) if "directory" in shown]


def mount_pid(mount_point: Path) -> int:
    pid: int = next(mount["pid"] for mount in mounts() if mount["directory"] == str(mount_point))
    return pid


def is_up(mount_point: Path) -> bool:
    return any(mount["directory"] == str(mount_point) and mount["state"] == "up" for mount in mounts())


def clear(mount_point: Path) -> None:
    """An empty directory to mount on, without a dead mount."""
    if any(mount["directory"] == str(mount_point) for mount in mounts()):
        subprocess.run([LOLIGO, "umount", mount_point], check=False, stdin=subprocess.DEVNULL)
    mount_point.mkdir(exist_ok=True)


def unmount(mount_point: Path) -> None:
    if any(mount["directory"] == str(mount_point) for mount in mounts()):
        loligo("umount", str(mount_point))
    if mount_point.is_dir() and not any(mount_point.iterdir()):
        mount_point.rmdir()


def loligo(*arguments: str, environment: dict[str, str] | None = None) -> None:
    done = subprocess.run(
        [LOLIGO, *arguments], check=False, stdin=subprocess.DEVNULL, env={**os.environ, **(environment or {})}
    )
    if done.returncode:
        raise PlaceError(f"'loligo {' '.join(arguments)}' failed")
