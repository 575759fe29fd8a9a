"""The same with the data in RADOS, where most answers come later: agreement, damage, a store that is silent for a while."""

import errno
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import rados
from hypothesis import HealthCheck, Phase, given, settings

from loligo_lab.ceph import LoopbackCeph
from loligo_lab.errnos import refused
from loligo_lab.mounts import LabMount, assert_sound, make_lab_volume
from loligo_lab.serving import lab_mount
from mount.agreement import Operation, Pair, examples, paired

pytestmark = pytest.mark.ceph

POOL = "mount"
BLOCK = 64 << 10


@pytest.fixture(scope="module")
def mounted(scratch: Path, transport: str, ceph_cluster: LoopbackCeph) -> Iterator[LabMount]:
    ceph_cluster.create_pool(POOL)
    folder = Path(tempfile.mkdtemp(dir=scratch))
    folder.chmod(0o755)
    volume = make_lab_volume(folder, data_url=f"rados://{POOL}/{transport}?conf={ceph_cluster.conf}")
    # The store is what is looked at, not what was kept of it on the local disk.
    options = ("data_cache=0",) if transport == "served" else ()
    with lab_mount(transport, volume, folder / "mnt", options) as mount:
        yield mount
    assert_sound(volume)


@pytest.fixture(scope="module")
def pair(mounted: LabMount, transport: str) -> Iterator[Pair]:
    with paired(mounted, can_allocate=transport != "pyfuse3") as made:
        yield made


@settings(
    max_examples=50,
    deadline=None,
    derandomize=True,
    phases=(Phase.explicit, Phase.generate, Phase.shrink),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example],
)
@given(examples)
def test_random_operations_agree(pair: Pair, steps: list[Operation]) -> None:
    pair.run(steps)


def test_everything_is_the_same_after_a_new_mount(pair: Pair) -> None:
    """Runs after the examples, on all that they left."""
    pair.mount.unmount()
    try:
        assert_sound(pair.mount.volume)
    finally:
        pair.mount.start()
    pair.compare_all()


def test_a_large_file(here: Path) -> None:
    content = os.urandom(20 << 20)
    (here / "file").write_bytes(content)
    with (here / "file").open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        assert file.read() == content


def test_a_missing_object(here: Path, mounted: LabMount, transport: str, ceph_cluster: LoopbackCeph) -> None:
    content = os.urandom(3 * BLOCK)
    with (here / "file").open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    name = f"{(here / 'file').stat().st_ino:016x}.00000001"
    with rados.Rados(conffile=str(ceph_cluster.conf)) as cluster, cluster.open_ioctx(POOL) as pool:
        pool.set_namespace(transport)
        pool.remove_object(name)
    mounted.expect_error(name)
    fd = os.open(here / "file", os.O_RDONLY | os.O_DIRECT)
    with refused(errno.EIO):
        os.pread(fd, 10, BLOCK)
    assert name in mounted.log()
    assert os.pread(fd, BLOCK, 2 * BLOCK) == content[2 * BLOCK :]
    os.close(fd)


def test_while_the_store_is_silent_everything_else_goes_on(here: Path, ceph_cluster: LoopbackCeph) -> None:
    stored = os.open(here / "stored", os.O_CREAT | os.O_RDWR)
    os.write(stored, b"x" * (4 * BLOCK))
    os.fsync(stored)
    (here / "inline").write_bytes(b"inline")
    waiting = os.open(here / "waiting", os.O_CREAT | os.O_RDWR)
    with ThreadPoolExecutor(2) as threads:
        with ceph_cluster.silent_osds():
            os.write(waiting, b"y" * (4 * BLOCK))
            synced = threads.submit(os.fsync, waiting)
            os.posix_fadvise(stored, 0, 0, os.POSIX_FADV_DONTNEED)
            read = threads.submit(os.pread, stored, BLOCK, 0)
            start = time.monotonic()
            (here / "folder").mkdir()
            (here / "inline").rename(here / "folder" / "moved")
            assert (here / "folder" / "moved").read_bytes() == b"inline"
            (here / "new").write_bytes(b"new")
            assert len(os.listdir(here)) == 4
            assert time.monotonic() - start < 5
            assert not synced.done() and not read.done()
        synced.result(30)
        assert read.result(30) == b"x" * BLOCK
    os.close(stored)
    os.close(waiting)


WAITER = """
import os, sys
fd = os.open(sys.argv[1], os.O_RDWR)
if sys.argv[2] == "fsync":
    os.write(fd, bytes(1 << 16))
print("go", flush=True)
os.fsync(fd) if sys.argv[2] == "fsync" else os.read(fd, 10)
"""


@pytest.mark.parametrize("call", ["read", "fsync"])
def test_who_waits_for_a_silent_store_can_be_killed(
    here: Path, transport: str, ceph_cluster: LoopbackCeph, call: str
) -> None:
    if (transport, call) == ("pyfuse3", "fsync"):
        return  # the kernel waits for an answer to its interruption, and libfuse waits for the file system
    with (here / "file").open("wb") as file:
        file.write(b"x" * BLOCK)
        file.flush()
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    with ceph_cluster.silent_osds():
        command = [sys.executable, "-c", WAITER, str(here / "file"), call]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as waiter:
            assert waiter.stdout is not None
            assert waiter.stdout.readline() == b"go\n"
            with pytest.raises(subprocess.TimeoutExpired):
                waiter.wait(0.3)
            waiter.send_signal(signal.SIGKILL)
            assert waiter.wait(5) == -signal.SIGKILL
    assert len((here / "file").read_bytes()) == BLOCK
