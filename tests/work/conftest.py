"""Mounts for these tests: one a module and kind, with the limits that volumes have by default."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from loligo_lab.ceph import LoopbackCeph
from loligo_lab.mounts import LabMount, assert_sound, make_lab_volume
from loligo_lab.serving import lab_mount, make_users

_POOL = "work"


@pytest.fixture(scope="module")
def mounted(request: pytest.FixtureRequest) -> Iterator[LabMount]:
    """The parameter is a kind of `work.places`. The volume must be sound in the end, and the log without errors."""
    transport, where = request.param
    folder = Path(tempfile.mkdtemp(prefix="loligo-work-"))
    try:
        data_url: str | None = None
        options: tuple[str, ...] = ()
        if where == "ceph":
            cluster: LoopbackCeph = request.getfixturevalue("ceph_cluster")
            cluster.create_pool(_POOL)
            data_url, options = make_users(cluster, _POOL, folder.name, folder)
        volume = make_lab_volume(folder, data_url=data_url, block_bytes=4 << 20)
        with lab_mount(transport, volume, folder / "mnt", options if transport == "served" else ()) as mount:
            yield mount
        assert_sound(volume)
    finally:
        shutil.rmtree(folder)


@pytest.fixture
def here(mounted: LabMount) -> Iterator[Path]:
    """An empty directory on the mount."""
    path = Path(tempfile.mkdtemp(dir=mounted.path))
    yield path
    shutil.rmtree(path)
    assert not path.exists()
