"""What `make ceph` and `make ceph-down` do, in a folder of the test's own."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from loligo_lab.ceph_place import CephPlace
from loligo_lab.folders import DISK
from loligo_lab.places import is_up

pytestmark = pytest.mark.ceph


@pytest.fixture
def place() -> Iterator[CephPlace]:
    home = Path(tempfile.mkdtemp(prefix="loligo-place-", dir=DISK))
    made = CephPlace(home, "lab", home / "mnt", home / "config", home / "ceph", fixed_ports=False)
    try:
        yield made
    finally:
        made.down()
        made.cluster.destroy()
        shutil.rmtree(home)


def test_up_and_down_can_be_repeated_and_keep_what_is_there(place: CephPlace) -> None:
    content = os.urandom(5 << 20)
    place.up()
    (place.mount_point / "file").write_bytes(content)
    first = place.mount_pid, place.daemon.pid
    place.up()
    assert (place.mount_pid, place.daemon.pid) == first
    assert "client.loligo-lab" in place.client_options
    address = place.daemon.address
    place.down()
    assert not is_up(place.mount_point) and place.daemon.pid is None and not place.cluster.is_running()
    place.down()
    place.up()
    assert place.daemon.address == address
    assert (place.mount_point / "file").read_bytes() == content
