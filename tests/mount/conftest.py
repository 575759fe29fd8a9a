"""Mounts for these tests: one a module and transport; a fresh directory for each test.

Transports are those of an embedded volume, `native` and `pyfuse3`, and `served`: native, through a metadata server, with the
data on Ceph, where daemon and client have the least-privilege users.

After a module its volume is unmounted and checked: tables against each other, objects against inodes, and a log
without errors. So each test also proves that what it did left a sound volume.
"""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from loligo_lab.ceph import LoopbackCeph
from loligo_lab.folders import DISK
from loligo_lab.mounts import LabMount, assert_sound, make_lab_volume
from loligo_lab.serving import lab_mount, make_users

TRANSPORTS = ("native", "pyfuse3", pytest.param("served", marks=pytest.mark.ceph))

_POOL = "mounts"


@pytest.fixture(scope="module")
def scratch() -> Iterator[Path]:
    """A folder that other users can reach, which pytest's own are not."""
    path = Path(tempfile.mkdtemp(prefix="loligo-mount-", dir=DISK))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


@pytest.fixture(scope="module", params=TRANSPORTS)
def transport(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture(scope="module")
def mounted(request: pytest.FixtureRequest, scratch: Path, transport: str) -> Iterator[LabMount]:
    folder = Path(tempfile.mkdtemp(dir=scratch))
    folder.chmod(0o755)
    data_url: str | None = None
    options: tuple[str, ...] = ()
    if transport == "served":
        cluster: LoopbackCeph = request.getfixturevalue("ceph_cluster")
        cluster.create_pool(_POOL)
        data_url, options = make_users(cluster, _POOL, folder.name, folder)
    volume = make_lab_volume(folder, data_url=data_url)
    with lab_mount(transport, volume, folder / "mnt", options) as mount:
        yield mount
    assert_sound(volume)


@pytest.fixture
def here(mounted: LabMount, request: pytest.FixtureRequest) -> Iterator[Path]:
    """An empty directory of this test's own, on the mount, open to everybody."""
    path = Path(tempfile.mkdtemp(dir=mounted.path))
    path.chmod(0o777)
    before = os.umask(0o022)
    try:
        yield path
    finally:
        os.umask(before)
    # Where a test failed, what it left may be what is wrong.
    shutil.rmtree(path, ignore_errors=True)
