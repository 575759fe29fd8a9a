"""Fixtures that every kind of test may use. What they start ends with the run, failed or not."""

import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import NoReturn

import pytest

from loligo_lab.ceph import LoopbackCeph
from loligo_lab.folders import DISK, work_in_memory
from loligo_lab.ports import free_port


def pytest_configure(config: pytest.Config) -> None:
    """A SIGTERM (a CI job that ran out of time) is what Ctrl-C is, so that what was started is stopped: in the workers of a
    parallel run, too.
    """
    work_in_memory()
    has_workers = bool(getattr(config.option, "numprocesses", None)) and not hasattr(config, "workerinput")

    def interrupt(number: int, frame: FrameType | None) -> NoReturn:
        if has_workers:
            pid = os.getpid()
            for worker in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
                os.kill(int(worker), signal.SIGINT)
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)


@pytest.fixture(scope="session")
def ceph_cluster() -> Iterator[LoopbackCeph]:
    """A Ceph cluster of this test run. Tests that use it are marked `ceph`."""
    # Not pytest's folder for temporary files: that one stays after the run, with gigabytes in it.
    directory = Path(tempfile.mkdtemp(prefix="loligo-ceph-", dir=DISK))
    cluster = LoopbackCeph(directory / "cluster", free_port())
    try:
        cluster.start()
        yield cluster
    finally:
        try:
            cluster.stop()
        finally:
            shutil.rmtree(directory)
