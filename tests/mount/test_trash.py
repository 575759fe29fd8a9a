"""What was removed through a mount is in `.trash`, and comes back; the tests run on every transport, and through a server."""

import os
import subprocess
from errno import EEXIST, EPERM, EROFS
from pathlib import Path

import pytest

from loligo_lab.mounts import LabMount


class Place:
    """`path` is a directory of the test's own, `trash` that of the mount."""

    def __init__(self, mount: Path, path: Path) -> None:
        self.path = path
        self.trash = mount / ".trash"
        self._below = path.relative_to(mount)

    def batches(self) -> list[Path]:
        """Those that have something of here, oldest first. What one process removes is one batch, also of several tests."""
        found = [batch for batch in self.trash.iterdir() if (batch / self._below).exists()]
        return sorted(found, key=lambda path: int(path.name.rsplit("-", 1)[1]))

    def removed(self) -> Path:
        """Where in the last batch the directory is."""
        return self.batches()[-1] / self._below


@pytest.fixture
def place(mounted: LabMount, here: Path) -> Place:
    os.setxattr(here, "loligo.trash.minimum_age", b"0")
    return Place(mounted.path, here)


def make_tree(top: Path) -> None:
    for number in range(3):
        inner = top / f"d{number}"
        inner.mkdir(parents=True)
        for index in range(20):
            (inner / f"f{index}").write_bytes(b"%d" % index * (3000 * index))
    os.link(top / "d0" / "f3", top / "d1" / "linked")
    (top / "link").symlink_to("d0/f1")
    os.setxattr(top / "d0" / "f1", "user.x", b"y")
    os.chmod(top / "d0", 0o700)
    os.utime(top / "d0" / "f2", ns=(5, 6_000_000_007))
    os.utime(top / "d1", ns=(5, 7_000_000_007))


def no_difference(one: Path, other: Path) -> None:
    done = subprocess.run(
        ["rsync", "-aHAXni", "--delete", f"{one}/", f"{other}/"], check=True, capture_output=True, text=True
    )
    assert done.stdout == ""


def test_a_file_comes_back(place: Place) -> None:
    (place.path / "f").write_bytes(b"content" * 1000)
    (place.path / "f").unlink()
    batch = place.removed()
    assert (batch / "f").read_bytes() == b"content" * 1000
    with pytest.raises(OSError) as refused:
        (batch / "f").write_bytes(b"no")
    assert refused.value.errno == EROFS
    with pytest.raises(OSError) as refused:
        (batch / "f").unlink()
    assert refused.value.errno == EPERM
    os.rename(batch / "f", place.path / "g")
    assert (place.path / "g").read_bytes() == b"content" * 1000
    assert not (place.path / "f").exists() and place.batches() == []
    (place.path / "g").write_bytes(b"as any other")
    assert (place.path / "g").read_bytes() == b"as any other"


def test_what_rm_has_removed_comes_back_as_it_was(place: Place, tmp_path: Path) -> None:
    make_tree(place.path / "a" / "tree")
    subprocess.run(["rsync", "-aHAX", f"{place.path}/a/tree/", f"{tmp_path}/copy"], check=True)
    subprocess.run(["rm", "-rf", place.path / "a" / "tree"], check=True)
    assert list((place.path / "a").iterdir()) == []
    batch = place.removed()
    no_difference(tmp_path / "copy", batch / "a" / "tree")
    os.rename(batch / "a" / "tree", place.path / "a" / "tree")
    no_difference(tmp_path / "copy", place.path / "a" / "tree")
    assert place.batches() == []
    (place.path / "a" / "tree" / "d0" / "new").write_bytes(b"it is alive")
    subprocess.run(["rm", "-rf", place.path / "a" / "tree"], check=True)


def test_a_tree_is_thrown_away_with_one_rename(place: Place, tmp_path: Path) -> None:
    make_tree(place.path / "tree")
    subprocess.run(["rsync", "-aHAX", f"{place.path}/tree/", f"{tmp_path}/copy"], check=True)
    subprocess.run(["mv", place.path / "tree", f"{place.trash}/"], check=True)
    assert not (place.path / "tree").exists() and not (place.trash / "tree").exists()
    batch = place.removed()
    no_difference(tmp_path / "copy", batch / "tree")
    subprocess.run(["mv", batch / "tree", place.path / "back"], check=True)
    no_difference(tmp_path / "copy", place.path / "back")
    os.setxattr(place.path / "back", "loligo.rmtree", b"")
    assert not (place.path / "back").exists()
    batch = place.removed()
    os.rmdir(place.batches()[0])


def test_what_replaced_another_file_does_not_lose_it(place: Place) -> None:
    (place.path / "f").write_bytes(b"old")
    (place.path / "g").write_bytes(b"new")
    os.rename(place.path / "g", place.path / "f")
    batch = place.removed()
    with pytest.raises(OSError) as refused:
        os.rename(batch / "f", place.path / "f")
    assert refused.value.errno == EEXIST
    assert (batch / "f").read_bytes() == b"old" and (place.path / "f").read_bytes() == b"new"


def test_written_just_before(place: Place) -> None:
    with open(place.path / "f", "wb") as file:
        file.write(b"a" * 100_000)
        os.unlink(place.path / "f")
        file.write(b"b" * 100_000)
    batch = place.removed()
    assert (batch / "f").read_bytes() == b"a" * 100_000 + b"b" * 100_000
