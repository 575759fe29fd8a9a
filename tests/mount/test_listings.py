"""readdir: no name skipped, none repeated, whatever else happens to the directory meanwhile."""

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from loligo_lab.system_calls import DirectoryStream, getdents

# Reads a listing in pieces of a few names each.
SMALL = 1024


def fill(folder: Path, prefix: str, count: int) -> set[bytes]:
    names = [f"{prefix}{number:04d}" for number in range(count)]
    for name in names:
        (folder / name).touch()
    return {name.encode() for name in names}


def test_a_listing_tells_types_and_inode_numbers(here: Path) -> None:
    (here / "file").touch()
    (here / "folder").mkdir()
    (here / "link").symlink_to("file")
    os.mkfifo(here / "fifo")
    with os.scandir(here) as entries:
        found = {
            entry.name: (entry.is_dir(follow_symlinks=False), entry.is_symlink(), entry.inode()) for entry in entries
        }
    assert found == {
        name: (name == "folder", name == "link", os.lstat(here / name).st_ino)
        for name in ("file", "folder", "link", "fifo")
    }


def test_dot_and_dotdot(here: Path) -> None:
    (here / "folder").mkdir()
    fd = os.open(here / "folder", os.O_RDONLY)
    assert [name for name, _ in getdents(fd, 4096)] == [b".", b".."]
    os.close(fd)
    assert (here / "folder" / "..").stat().st_ino == here.stat().st_ino


@pytest.mark.parametrize("count", [0, 1, 31, 32, 33, 1500])
def test_every_name_is_listed_once(here: Path, count: int) -> None:
    names = fill(here, "file", count)
    for _ in range(2):  # the second time perhaps from the kernel's cache
        assert Counter(os.listdir(os.fsencode(here))) == Counter(names)


def test_names_made_and_removed_meanwhile_do_not_disturb_the_others(here: Path) -> None:
    stable = fill(here, "stable", 400)
    doomed = sorted(fill(here, "doomed", 400))
    seen: Counter[bytes] = Counter()
    fd = os.open(here, os.O_RDONLY)
    number = 0
    while entries := getdents(fd, SMALL):
        seen.update(name for name, _ in entries)
        for _ in range(10):
            (here / f"fresh{number:04d}").touch()
            number += 1
            if doomed:
                os.unlink(os.path.join(os.fsencode(here), doomed.pop(number * 7 % len(doomed))))
        if number % 50 == 0:
            os.rename(here / f"fresh{number - 1:04d}", here / f"moved{number:04d}")
    os.close(fd)
    assert {name: seen[name] for name in stable} == dict.fromkeys(stable, 1)
    assert {name: times for name, times in seen.items() if times > 1} == {}
    assert Counter(os.listdir(os.fsencode(here))) == Counter({entry.encode(): 1 for entry in os.listdir(here)})


def test_another_process_makes_and_removes_names_meanwhile(here: Path) -> None:
    stable = fill(here, "stable", 300)
    script = (
        "import os, sys\n"
        "os.chdir(sys.argv[1])\n"
        "print('go', flush=True)\n"
        "number = 0\n"
        "while True:\n"
        "    open(f'fresh{number}', 'w').close()\n"
        "    if number >= 50:\n"
        "        os.unlink(f'fresh{number - 50}')\n"
        "    number += 1\n"
    )
    with subprocess.Popen([sys.executable, "-c", script, here], stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        other.stdout.readline()
        try:
            for _ in range(30):
                seen = Counter(os.listdir(os.fsencode(here)))
                assert stable <= seen.keys()
                assert max(seen.values()) == 1
        finally:
            other.kill()


def test_a_listing_that_was_read_is_forgotten_when_the_directory_changes(here: Path) -> None:
    for number in range(20):
        assert len(os.listdir(here)) == number
        (here / f"file{number}").touch()
        assert len(os.listdir(here)) == number + 1
    (here / "file3").unlink()
    assert "file3" not in os.listdir(here)
    (here / "file4").rename(here / "renamed")
    assert {"file4", "renamed"} & set(os.listdir(here)) == {"renamed"}


def test_telldir_and_seekdir(here: Path) -> None:
    fill(here, "file", 200)
    stream = DirectoryStream(os.fsencode(here))
    order: list[bytes] = []
    places: list[int] = []
    while True:
        places.append(stream.tell())
        name = stream.read()
        if name is None:
            break
        order.append(name)
    for at in (0, 1, 2, 3, 100, 199, 201):
        stream.seek(places[at])
        assert stream.read() == order[at]
    # A place stays where it is though the name there is gone. (Whether that one is still told, POSIX leaves open.)
    os.unlink(os.path.join(os.fsencode(here), order[100]))
    stream.seek(places[100])
    assert stream.read() in (order[100], order[101])
    stream.seek(places[101])
    assert stream.read() == order[101]
    stream.seek(places[-1])
    assert stream.read() is None
    stream.close()


def test_rewinding_shows_what_is_new(here: Path) -> None:
    fill(here, "file", 5)
    fd = os.open(here, os.O_RDONLY)
    assert len(os.listdir(fd)) == 5
    (here / "new").touch()
    os.lseek(fd, 0, os.SEEK_SET)
    assert "new" in os.listdir(fd)
    os.close(fd)


def test_removing_while_listing_empties_the_directory(here: Path) -> None:
    fill(here, "file", 1000)
    fd = os.open(here, os.O_RDONLY)
    while entries := getdents(fd, SMALL):
        for name, _ in entries:
            if name not in (b".", b".."):
                os.unlink(name, dir_fd=fd)
    os.close(fd)
    assert os.listdir(here) == []
