import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli.command_line import CommandLine


@pytest.fixture
def cli() -> Iterator[CommandLine]:
    # Not pytest's own folder: other users must reach a mount of root.
    root = Path(tempfile.mkdtemp(prefix="loligo-cli-"))
    root.chmod(0o755)
    line = CommandLine(root)
    try:
        yield line
    finally:
        line.clean_up()
        shutil.rmtree(root)
