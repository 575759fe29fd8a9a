"""Directories that one mount has moved, and the other renames, replaces or uses before it has looked at them again."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from errno import EEXIST, ENOTEMPTY, ESTALE
from functools import partial
from pathlib import Path

import pytest

from loligo_lab.mounts import assert_sound, make_lab_volume
from loligo_lab.processes import wait_until
from loligo_lab.serving import LabServer, RemoteMount
from loligo_lab.system_calls import RENAME_NOREPLACE, renameat2

ROUNDS = 10


@pytest.fixture(scope="module", params=["native", "pyfuse3"])
def two(request: pytest.FixtureRequest) -> Iterator[tuple[Path, Path]]:
    """The first is of that transport."""
    folder = Path(tempfile.mkdtemp(prefix="loligo-two-"))
    volume = make_lab_volume(folder)
    try:
        with ExitStack() as stack:
            server = stack.enter_context(LabServer(volume, folder))
            one, other = (
                stack.enter_context(RemoteMount(server, folder / f"mnt{number}", options=(f"transport={transport}",)))
                for number, transport in enumerate((request.param, "native"))
            )
            yield one.path, other.path
        assert_sound(volume)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def places(two: tuple[Path, Path]) -> tuple[Path, Path]:
    """One new directory, as either mount has it: with `x/z`, which is known to both, `y` and `w`."""
    made = Path(tempfile.mkdtemp(dir=two[0]))
    for name in ("x/z/deep", "y", "w"):
        (made / name).mkdir(parents=True)
    there = two[1] / made.name
    for place in (made, there):
        assert (place / "x" / "z" / "deep").is_dir()
    return made, there


def _away(here: Path) -> None:
    os.rename(here / "y" / "f", here / "w" / "g")
    assert (here / "w" / "g" / "deep").is_dir() and not (here / "y" / "f").exists()
    os.rename(here / "w" / "g", here / "x" / "z")


def _back(here: Path) -> None:
    os.rename(here / "y" / "f", here / "x" / "z")


def _not_over_anything(here: Path) -> None:
    renameat2(bytes(here / "y" / "f"), bytes(here / "w" / "g"), RENAME_NOREPLACE)
    os.rename(here / "w" / "g", here / "x" / "z")


def _over(here: Path) -> None:
    """That is refused, and then, when it is empty, it is not."""
    (here / "w" / "other").mkdir()
    with pytest.raises(OSError) as refused:
        os.rename(here / "w" / "other", here / "y" / "f")
    assert refused.value.errno in (ENOTEMPTY, EEXIST)
    (here / "y" / "f" / "deep").rmdir()
    os.rename(here / "w" / "other", here / "y" / "f")
    os.rename(here / "y" / "f", here / "x" / "z")
    (here / "x" / "z" / "deep").mkdir()


def _over_from_the_old_parent(here: Path) -> None:
    (here / "x" / "other").mkdir()
    with pytest.raises(OSError) as refused:
        os.rename(here / "x" / "other", here / "y" / "f")
    assert refused.value.errno in (ENOTEMPTY, EEXIST)
    (here / "x" / "other").rmdir()
    os.rename(here / "y" / "f", here / "x" / "z")


@pytest.mark.parametrize("used", ["", "stands in it", "stands below", "has a file open"])
@pytest.mark.parametrize("deed", [_away, _back, _not_over_anything, _over, _over_from_the_old_parent])
def test_what_another_has_moved_is_renamed_at_once(
    places: tuple[Path, Path], deed: Callable[[Path], None], used: str
) -> None:
    """Whoever uses it here meanwhile."""
    here, there = places
    for _ in range(ROUNDS):
        assert (here / "x" / "z" / "deep").is_dir()
        with _using(here / "x" / "z", used):
            os.rename(there / "x" / "z", there / "y" / "f")
            deed(here)
        assert sorted(os.listdir(here / "x")) == sorted(os.listdir(there / "x")) == ["z"]
        assert os.listdir(here / "y") == os.listdir(there / "y") == []


def test_by_descriptors_of_directories_it_is_renamed_at_the_second_try(places: tuple[Path, Path]) -> None:
    """No name is looked up then but those that are renamed."""
    here, there = places
    source, destination = os.open(here / "y", os.O_PATH), os.open(here / "w", os.O_PATH)
    try:
        for _ in range(ROUNDS):
            assert (here / "x" / "z" / "deep").is_dir()
            os.rename(there / "x" / "z", there / "y" / "f")
            wait_until(partial(_is_renamed, source, destination), "it is renamed", 10)
            os.rename(here / "w" / "g", here / "x" / "z")
    finally:
        os.close(source)
        os.close(destination)


def _is_renamed(source: int, destination: int) -> bool:
    try:
        os.rename("f", "g", src_dir_fd=source, dst_dir_fd=destination)
    except OSError as error:
        assert error.errno == ESTALE
        return False
    return True


def test_who_stands_in_what_another_has_moved_still_does(places: tuple[Path, Path]) -> None:
    here, there = places
    with _standing_in(here / "x" / "z") as where:
        for source, destination in [("x/z", "y/f"), ("y/f", "w/g"), ("w/g", "x/z")] * 3:
            assert where() == here / source
            os.rename(there / source, there / destination)
            assert where() == here / source, "the kernel has not heard of it"
            os.rename(here / destination, here / "moved")
            assert where() == here / "moved"
            os.rename(here / "moved", here / destination)
            assert where() == here / destination


def test_what_is_mounted_below_what_another_has_moved_is_not_unmounted(places: tuple[Path, Path]) -> None:
    """Whoever it is mounted for: what is in a tmpfs would be lost."""
    here, there = places
    with _tmpfs_of_another_namespace(here / "x" / "z" / "deep") as reads:
        for source, destination in [("x/z", "y/f"), ("y/f", "w/g"), ("w/g", "x/z")]:
            os.rename(there / source, there / destination)
            os.rename(here / destination, here / "moved")
            assert reads(here / "moved" / "deep" / "precious") == "text"
            os.rename(here / "moved", here / destination)


@contextmanager
def _using(directory: Path, how: str) -> Iterator[None]:
    """All but the directory itself may be gone at the end."""
    with ExitStack() as stack:
        if how == "has a file open":
            (directory / "file").write_text("text")
            stack.enter_context((directory / "file").open())
            (directory / "file").unlink()
        elif how:
            stack.enter_context(_standing_in(directory / "deep" if how == "stands below" else directory))
        yield


@contextmanager
def _standing_in(directory: Path) -> Iterator[Callable[[], Path]]:
    """A process. -> says where it is"""
    program = "import os\nfor _ in iter(input, ''): print(os.getcwd(), flush=True)"
    with _process([sys.executable, "-c", program], cwd=directory) as ask:
        yield lambda: Path(ask("where"))


@contextmanager
def _tmpfs_of_another_namespace(directory: Path) -> Iterator[Callable[[Path], str]]:
    """With a file `precious`. -> reads files as they are there"""
    program = """
import subprocess, sys
subprocess.run(["mount", "-t", "tmpfs", "none", sys.argv[1]], check=True)
open(sys.argv[1] + "/precious", "w").write("text")
for path in iter(input, ""): print(open(path).read(), flush=True)
"""
    with _process(["unshare", "--mount", sys.executable, "-c", program, str(directory)]) as ask:
        assert ask(f"{directory}/precious") == "text", "it is mounted"
        yield lambda path: ask(str(path))


@contextmanager
def _process(command: list[str], cwd: Path | None = None) -> Iterator[Callable[[str], str]]:
    """It answers a line with a line, and ends at an empty one."""
    with subprocess.Popen(command, cwd=cwd, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        stdin, stdout = process.stdin, process.stdout
        assert stdin is not None and stdout is not None

        def ask(line: str) -> str:
            print(line, file=stdin, flush=True)
            answer: str = stdout.readline()
            return answer.rstrip("\n")

        try:
            yield ask
        finally:
            print(file=stdin, flush=True)
            process.wait(10)
