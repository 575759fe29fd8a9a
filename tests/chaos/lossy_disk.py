"""A disk that can lose power: ext4 on an image file, of which a copy is taken while it is mounted.

What was written and not synced waits in the kernel's memory, as long as it likes, so the copy holds exactly what a disk
holds when the machine stops: everything that was synced, and of the rest what the kernel happened to have written.
"""

import os
import subprocess
import uuid
from pathlib import Path
from random import Random

#: In the disk's folder: a text that is another one after each loss of power.
BOOT_ID = "boot_id"

_SIZE_BYTES = 96 << 20


class LossyDisk:
    """Mounted on `folder`/disk. Use it as a context manager. Needs root."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "disk"
        self._image = folder / "disk.img"

    def __enter__(self) -> "LossyDisk":
        self.path.mkdir()
        with self._image.open("wb") as image:
            image.truncate(_SIZE_BYTES)
        _run("mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0", self._image)
        self._mount()
        self._start_machine()
        return self

    def __exit__(self, *exception: object) -> None:
        _run("umount", "--lazy", self.path)
        self._image.unlink()

    def lose_power(self, random: Random) -> None:
        """Whoever wrote is dead already. The disk comes back as a machine that starts again finds it.

        Before, the kernel writes some of what it has, as it does when it likes.
        """
        share = random.choice([0.0, 0.0, 0.2, 0.8])
        for folder, _, files in os.walk(self.path):
            for name in files:
                if random.random() < share:
                    _sync(Path(folder, name))
        after = self._image.with_suffix(".after")
        _run("cp", "--sparse=always", self._image, after)
        _run("umount", self.path)
        after.replace(self._image)
        self._mount()
        self._start_machine()

    def _start_machine(self) -> None:
        (self.path / BOOT_ID).write_text(str(uuid.uuid4()))

    def _mount(self) -> None:
        # Nothing is written for its age alone.
        _run("mount", "-o", "loop,commit=600", self._image, self.path)


def _sync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fdatasync(fd)
    finally:
        os.close(fd)


def _run(*command: str | Path) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(map(str, command))}: {done.stderr}"
