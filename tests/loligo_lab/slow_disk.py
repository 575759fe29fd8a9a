"""One process held to the speed of a disk that seeks: a blkio cgroup that limits its requests a second."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

BLKIO = Path("/sys/fs/cgroup/blkio")


def why_not() -> str:
    """Why nothing can be slowed down here; "" if it can."""
    if not (BLKIO / "blkio.throttle.write_iops_device").exists() and not (BLKIO / "cgroup.procs").exists():
        return "no blkio cgroup (version 1) on this machine"
    return "" if os.access(BLKIO, os.W_OK) else "making a cgroup needs root"


@contextlib.contextmanager
def disk_speed(pid: int, folder: Path, requests_per_s: int = 120) -> Iterator[None]:
    """Inside, process `pid` gets so many reads, and as many writes, a second from the device under `folder`."""
    device = folder.stat().st_dev
    group = BLKIO / f"loligo-lab-{pid}"
    group.mkdir()
    try:
        for kind in ("read", "write"):
            limit = f"{os.major(device)}:{os.minor(device)} {requests_per_s}"
            (group / f"blkio.throttle.{kind}_iops_device").write_text(limit)
        (group / "cgroup.procs").write_text(str(pid))
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):  # it has ended, and so left the group
            (BLKIO / "cgroup.procs").write_text(str(pid))
        group.rmdir()
