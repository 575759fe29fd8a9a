"""Two mounts of one volume, each at work in a directory of its own, at the same time; then each looks at the other's."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from loligo_lab.ceph import LoopbackCeph
from loligo_lab.mounts import assert_sound, make_lab_volume
from loligo_lab.serving import LabServer, RemoteMount, make_users
from work.places import run
from work.test_development import git

pytestmark = pytest.mark.ceph

_POOL = "work"
FILES = 150


@pytest.fixture
def pair(ceph_cluster: LoopbackCeph) -> Iterator[tuple[RemoteMount, RemoteMount]]:
    folder = Path(tempfile.mkdtemp(prefix="loligo-two-"))
    try:
        ceph_cluster.create_pool(_POOL)
        data_url, options = make_users(ceph_cluster, _POOL, folder.name, folder)
        volume = make_lab_volume(folder, data_url=data_url, block_bytes=4 << 20)
        with LabServer(volume, folder) as server:
            one = RemoteMount(server, folder / "one", options=options)
            other = RemoteMount(server, folder / "other", options=options)
            with one, other:
                yield one, other
        assert_sound(volume)
    finally:
        shutil.rmtree(folder)


def work(place: Path) -> None:
    """Make, commit, copy, change, remove."""
    project = place / "project"
    project.mkdir()
    git("init", "-q", "-b", "main", ".", cwd=project)
    for number in range(FILES):
        path = project / f"folder{number % 7}" / f"file{number}"
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"{place.name} {number}\n" * number * 10)
    git("add", ".", cwd=project)
    git("commit", "-q", "-m", "all", cwd=project)
    run("cp", "-a", "project", "copy", cwd=place)
    assert run("diff", "-r", "project", "copy", cwd=place) == ""
    run("fio", "--name=w", "--filename=large", "--rw=randwrite", "--bs=16k", "--size=12m", "--ioengine=psync",
        "--verify=crc32c", "--verify_fatal=1", "--fallocate=none", "--end_fsync=1", cwd=place)  # fmt: skip
    run("rm", "-rf", "copy", cwd=place)
    assert git("status", "--porcelain", cwd=project) == ""


def test_two_mounts_work_at_once_and_see_each_others_work(
    pair: tuple[RemoteMount, RemoteMount], tmp_path: Path
) -> None:
    names = ("left", "right")
    places = [mount.path / name for mount, name in zip(pair, names, strict=True)]
    with ThreadPoolExecutor(2) as threads:
        for place in places:
            place.mkdir()
        for done in [threads.submit(work, place) for place in places]:
            done.result()
    for mount, name in zip(reversed(pair), names, strict=True):
        mine, theirs = mount.path / name, places[names.index(name)]
        assert {"large", "project"} <= {path.name for path in mine.iterdir()}
        # Past whatever this kernel keeps of the other mount.
        run("rsync", "-a", f"{theirs}/", f"{tmp_path}/{name}/", cwd=tmp_path)
        assert run("diff", "-r", mine, tmp_path / name, cwd=tmp_path) == ""
        git("fsck", "--strict", cwd=mine / "project")
        run("rm", "-rf", mine, cwd=tmp_path)
    for mount in pair:
        # Names that were there are believed for a second, no longer.
        run("sh", "-c", 'for i in $(seq 50); do [ -z "$(ls)" ] && exit 0; sleep 0.1; done; ls; exit 1', cwd=mount.path)


def test_a_name_that_another_has_removed_can_be_made_again(pair: tuple[RemoteMount, RemoteMount]) -> None:
    """This kernel believes for a second that it is there."""
    for number in range(10):
        one, other = (mount.path / f"file{number}" for mount in pair)
        one.write_text(f"from one {number}")
        assert os.stat(other).st_size
        one.unlink()
        fd = os.open(other, os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
        os.write(fd, b"from other")
        os.close(fd)
        assert other.read_bytes() == b"from other"
        other.unlink()
