"""Fixtures that every kind of test may use. What they start ends with the run, failed or not."""

import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from loligo_lab.ceph import LoopbackCeph, free_port


@pytest.fixture(scope="session")
def ceph_cluster() -> Iterator[LoopbackCeph]:
    """A Ceph cluster of this test run. Tests that use it are marked `ceph`."""
    # Not pytest's folder for temporary files: that one stays after the run, with gigabytes in it.
    # A SIGTERM (a CI job that ran out of time) is turned into what Ctrl-C does, so that we get to
    # stop.
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    directory = Path(tempfile.mkdtemp(prefix="loligo-ceph-"))
    cluster = LoopbackCeph(directory / "cluster", free_port())
    try:
        cluster.start()
        yield cluster
    finally:
        try:
            cluster.stop()
        finally:
            shutil.rmtree(directory)
            signal.signal(signal.SIGTERM, before)
