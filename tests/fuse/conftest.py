"""Fixtures of the FUSE package's tests."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import suppress

import pytest

from fuse.mounted import is_mounted
from loligo_fuse import unmount


@pytest.fixture
def public_path() -> Iterator[str]:
    """A directory that other users can reach, which pytest's own are not."""
    path = tempfile.mkdtemp(prefix="loligo-fuse-")
    os.chmod(path, 0o755)
    try:
        yield path
    finally:
        while is_mounted(path):
            unmount(path, lazy=True)
        with suppress(FileNotFoundError):
            os.rmdir(path)
