"""What one mount removes is in the trash of the other when the call returns, and what it restores is back."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from errno import EBUSY, ENOENT
from pathlib import Path

import pytest

from loligo_lab.mounts import assert_sound, make_lab_volume
from loligo_lab.processes import wait_until
from loligo_lab.serving import LabServer, RemoteMount


@pytest.fixture(scope="module")
def two() -> Iterator[tuple[Path, Path]]:
    folder = Path(tempfile.mkdtemp(prefix="loligo-two-"))
    volume = make_lab_volume(folder)
    try:
        with ExitStack() as stack:
            server = stack.enter_context(LabServer(volume, folder))
            one, other = (stack.enter_context(RemoteMount(server, folder / f"mnt{number}")) for number in range(2))
            os.setxattr(one.path, "loligo.trash.minimum_age", b"0")
            yield one.path, other.path
        assert_sound(volume)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def kept(mount: Path, name: str) -> Path:
    """What was removed as `name` from the root, the last time."""
    found = [batch / name for batch in (mount / ".trash").iterdir() if (batch / name).exists()]
    return max(found, key=lambda path: int(path.parent.name.rsplit("-", 1)[1]))


def test_each_sees_what_the_other_has_removed_and_restored(two: tuple[Path, Path]) -> None:
    for number in range(20):
        one, other = two if number % 2 else two[::-1]
        name = f"file{number}"
        (one / name).write_bytes(b"content" * number * 500)
        assert (other / name).stat().st_size == 3500 * number
        (one / name).unlink()
        assert not (other / name).exists()
        removed = kept(other, name)
        assert removed.read_bytes() == b"content" * number * 500
        os.rename(removed, other / "back")
        assert (one / "back").read_bytes() == b"content" * number * 500
        assert not any((batch / name).exists() for batch in (one / ".trash").iterdir())
        (one / "back").unlink()


def test_what_is_mounted_on_the_other_mount_is_not_unmounted(two: tuple[Path, Path]) -> None:
    """The kernel would do that, and what is in a tmpfs would be lost."""
    one, other = two
    (one / "tree" / "point").mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "none", other / "tree" / "point"], check=True)
    try:
        (other / "tree" / "point" / "precious").write_text("text")
        with pytest.raises(OSError) as busy:
            os.rename(one / "tree", one / ".trash" / "tree")
        assert busy.value.errno == EBUSY
        with pytest.raises(OSError) as busy:
            os.setxattr(one / "tree", "loligo.rmtree", b"")
        assert busy.value.errno == EBUSY
        assert (other / "tree" / "point" / "precious").read_text() == "text"
    finally:
        subprocess.run(["umount", other / "tree" / "point"], check=True)
    os.rename(one / "tree", one / ".trash" / "tree")
    assert not (other / "tree").exists()


def test_a_tree_in_which_another_works_is_removed(two: tuple[Path, Path]) -> None:
    """It is his alone, he has made it just now and promised that it will be there; then nothing more is made in it."""
    one, other = two
    deep = one / "tree" / "a" / "b"
    deep.mkdir(parents=True)
    standing = os.open(deep, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for number in range(200):
            (deep / f"f{number}").write_bytes(b"x" * number)
        os.rename(other / "tree", other / ".trash" / "tree")
        assert not (one / "tree").exists() and not (other / "tree").exists()
        for mount in two:
            there = kept(mount, "tree") / "a" / "b"
            assert {path.name: path.stat().st_size for path in there.iterdir()} == {f"f{n}": n for n in range(200)}
        with pytest.raises(OSError) as refused:
            os.mkdir("more", dir_fd=standing)
        assert refused.value.errno == ENOENT
    finally:
        os.close(standing)
    os.rename(kept(one, "tree"), one / "tree")
    assert len(list((other / "tree" / "a" / "b").iterdir())) == 200
    (other / "tree" / "a" / "b" / "more").mkdir()
    subprocess.run(["rm", "-rf", one / "tree"], check=True)
    assert not (other / "tree").exists()


def test_a_tree_that_one_has_listed_and_thrown_away_the_other_brings_back(two: tuple[Path, Path]) -> None:
    one, other = two
    (one / "tree").mkdir()
    (one / "tree" / "f").write_bytes(b"content")
    for mount in two:
        assert os.listdir(mount / "tree") == ["f"]
    os.rename(one / "tree", one / ".trash" / "tree")
    os.rename(kept(other, "tree"), other / "back")
    assert (one / "back" / "f").read_bytes() == b"content"
    assert not (one / "tree").exists()
    subprocess.run(["rm", "-rf", one / "back"], check=True)


def test_one_thing_of_a_tree_that_was_thrown_away_comes_back(two: tuple[Path, Path]) -> None:
    one, other = two
    inner = one / "tree" / "inner"
    inner.mkdir(parents=True)
    for name in ("f", "g"):
        (inner / name).write_bytes(b"content")
    (inner / "h").mkdir()
    standing = [os.open(mount / "tree" / "inner", os.O_RDONLY | os.O_DIRECTORY) for mount in two]
    try:
        for mount, directory in zip(two, standing, strict=True):
            assert sorted(os.listdir(mount / "tree" / "inner")) == ["f", "g", "h"]
            assert os.stat("f", dir_fd=directory).st_size == 7
        os.rename(one / "tree", one / ".trash" / "tree")
        os.rename(kept(other, "tree") / "inner" / "f", other / "saved")
        os.rename(kept(one, "tree") / "inner" / "h", one / "folder")
        for mount, directory in zip(two, standing, strict=True):
            assert (mount / "saved").read_bytes() == b"content"
            assert os.listdir(kept(mount, "tree") / "inner") == ["g"]
            with pytest.raises(FileNotFoundError):
                os.stat("f", dir_fd=directory)
            (mount / "folder" / "new").mkdir()
            (mount / "folder" / "new").rmdir()
    finally:
        for directory in standing:
            os.close(directory)
    (one / "saved").write_bytes(b"as any other")
    assert (other / "saved").read_bytes() == b"as any other"
    os.rename(kept(one, "tree"), one / "tree")
    assert os.listdir(other / "tree" / "inner") == ["g"]
    subprocess.run(["rm", "-rf", one / "tree", one / "saved", one / "folder"], check=True)


def test_who_has_a_file_of_the_tree_open_goes_on(two: tuple[Path, Path]) -> None:
    one, other = two
    (one / "tree").mkdir()
    with open(one / "tree" / "f", "w+b", buffering=0) as file:
        file.write(b"before")
        os.setxattr(other / "tree", "loligo.rmtree", b"")
        file.write(b" and after")
        batch = kept(other, "tree").parent
        os.rmdir(batch)
        wait_until(lambda: not batch.exists(), "the batch is purged")
        file.seek(0)
        assert file.read() == b"before and after"


def test_a_file_with_two_names_of_which_one_was_removed(two: tuple[Path, Path]) -> None:
    one, other = two
    (one / "f").write_bytes(b"content")
    os.link(one / "f", one / "g")
    assert (other / "g").stat().st_nlink == 2
    (other / "f").unlink()
    assert (one / "g").stat().st_nlink == 1
    os.rename(kept(one, "f"), one / "h")
    assert (other / "g").stat().st_nlink == 2 and (other / "h").samefile(other / "g")
