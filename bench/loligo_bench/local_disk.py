"""An ext4 as `mkfs.ext4` makes it, in a file: what the local file systems of a comparison stand on.

A machine's own folders may be anything: overlayfs, tmpfs, or an ext4 without a journal, which looks at every inode that was
removed in the last minutes before it makes a new one (measured: 150-430 µs a file, with a journal 20). Figures would be about
that, and not about what is compared.
"""

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

#: Sparse: it takes up what is written to it.
_SIZE_BYTES = 32 << 30


class NoDisk(Exception):
    """The text says why there can be none here."""


@contextlib.contextmanager
def local_disk(image: Path, directory: Path) -> Iterator[None]:
    """Mounted on `directory`, which is made; gone afterwards, with its `image`."""
    directory.mkdir()
    try:
        with open(image, "xb") as file:
            file.truncate(_SIZE_BYTES)
        # All of it now: else the kernel would write its tables while something is being measured.
        _run("mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0", str(image))
        # Direct: what is written is in the machine's page cache once, as it would be on a disk.
        device = _run("losetup", "--find", "--show", "--direct-io=on", str(image))
        try:
            _run("mount", device, str(directory))
            try:
                yield
            finally:
                _run("umount", str(directory))
        finally:
            _run("losetup", "--detach", device)
    finally:
        image.unlink(missing_ok=True)


def _run(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise NoDisk(str(error)) from None
    if done.returncode:
        raise NoDisk(f"{command[0]}: {done.stderr.strip() or f'exited with {done.returncode}'}")
    return done.stdout.strip()
