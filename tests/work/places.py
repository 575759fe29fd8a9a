"""Where work is done, and how programs are run there."""

import subprocess
from pathlib import Path

import pytest

NATIVE = pytest.param(("native", "local"), id="native")
PYFUSE3 = pytest.param(("pyfuse3", "local"), id="pyfuse3")
CEPH = pytest.param(("native", "ceph"), id="ceph", marks=pytest.mark.ceph)
SERVED = pytest.param(("served", "ceph"), id="served", marks=pytest.mark.ceph)

#: For `pytestmark`, or above a test.
EVERYWHERE = pytest.mark.parametrize("mounted", [NATIVE, PYFUSE3, CEPH, SERVED], indirect=True)
WITHOUT_PYFUSE3 = pytest.mark.parametrize("mounted", [NATIVE, CEPH, SERVED], indirect=True)

LIMIT_S = 120.0


def run(*command: str | Path, cwd: Path, environment: dict[str, str] | None = None) -> str:
    """What the program printed; the test fails with all of it if the program does."""
    done = subprocess.run(
        command,
        cwd=cwd,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        timeout=LIMIT_S,
        check=False,
    )
    told = " ".join(map(str, command))
    assert done.returncode == 0, f"{told} ended with {done.returncode}:\n{done.stdout}"
    return done.stdout
