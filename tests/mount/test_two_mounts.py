"""Two mounts of one volume, taking turns: what one has changed the other sees when the call returns.

Random operations are done through one mount or the other, and in a plain local directory, and every answer must be the same.
What a mount has open it closes before the other's turn: files that several have open are the subject of `core.opens`.

`LOLIGO_EXPLORE=N` runs N times as many examples, new ones.
"""

import fcntl
import os
import shutil
import stat
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from loligo_lab.folders import DISK
from loligo_lab.mounts import LabMount, assert_sound, make_lab_volume
from loligo_lab.processes import wait_until
from loligo_lab.serving import LabServer, RemoteMount
from mount.agreement import (
    Operation,
    assert_same_outcome,
    assert_same_tree,
    furnish,
    in_plain_directory,
    on_mount,
    operations,
    outcome,
)

EXPLORE = int(os.environ.get("LOLIGO_EXPLORE", "0"))
TURNS_MAX = 12


class TwoMounts:
    """The first is native, the other of `transport`."""

    def __init__(self, server: LabServer, mounts: Sequence[LabMount], plain: Path, transport: str) -> None:
        self.transport = transport
        self.server = server
        self.mounts = mounts
        self.plain = plain
        self.examples = 0

    def run(self, turns: list[tuple[int, list[Operation]]]) -> None:
        self.examples += 1
        name = f"{self.examples:05d}"
        ours = [on_mount(mount, name) for mount in self.mounts]
        theirs = in_plain_directory(self.plain, name)
        ours[1].thrown = ours[0].thrown
        for place in (ours[0], theirs):
            furnish(place)
        last = 0
        for who, steps in turns:
            if who != last:
                for place in (ours[last], theirs):
                    place.close()
                last = who
            for number, (step, uid, *arguments) in enumerate(steps):
                if step == "allocate" and self.transport == "pyfuse3":
                    continue
                found, expected = (outcome(place, step, uid, tuple(arguments)) for place in (ours[who], theirs))
                assert_same_outcome(number, step, uid, found, expected)
        for place in (*ours, theirs):
            place.close()
        for place in ours:
            assert_same_tree(place.root, theirs.root)


@pytest.fixture(scope="module", params=["native", "pyfuse3"])
def two(request: pytest.FixtureRequest) -> Iterator[TwoMounts]:
    groups, umask = os.getgroups(), os.umask(0o022)
    folder = Path(tempfile.mkdtemp(prefix="loligo-two-", dir=DISK))
    folder.chmod(0o755)
    plain = folder / "plain"
    plain.mkdir()
    volume = make_lab_volume(folder)
    try:
        os.setgroups([])
        with ExitStack() as stack:
            server = stack.enter_context(LabServer(volume, folder))
            mounts = [
                stack.enter_context(RemoteMount(server, folder / f"mnt{number}", options=(f"transport={transport}",)))
                for number, transport in enumerate(("native", request.param))
            ]
            yield TwoMounts(server, mounts, plain, request.param)
        assert_sound(volume)
    finally:
        os.setgroups(groups)
        os.umask(umask)
        shutil.rmtree(folder, ignore_errors=True)


turns = st.lists(
    st.tuples(st.integers(0, 1), st.lists(operations, min_size=1, max_size=6)), min_size=4, max_size=TURNS_MAX
)


@settings(
    max_examples=100 * max(EXPLORE, 1),
    deadline=None,
    derandomize=not EXPLORE,
    phases=(Phase.explicit, Phase.reuse, Phase.generate),  # to shrink an example takes minutes
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example],
)
@given(turns)
def test_random_operations_agree(two: TwoMounts, turns: list[tuple[int, list[Operation]]]) -> None:
    two.run(turns)


@pytest.fixture
def places(two: TwoMounts) -> tuple[Path, Path]:
    """One new directory, as either mount has it."""
    made = Path(tempfile.mkdtemp(dir=two.mounts[0].path))
    return made, two.mounts[1].path / made.name


#: pyfuse3 leaves locks to the kernel, and does not tell who appends.
NATIVE = pytest.mark.parametrize("two", ["native"], indirect=True)


def test_what_is_looked_at_again_asks_nobody(two: TwoMounts, places: tuple[Path, Path]) -> None:
    """Neither of the mounts, but the kernel: the server hears nothing for as long as both look."""
    one, _other = places
    for number in range(20):
        (one / f"f{number}").write_text("text")

    def look() -> None:
        for place in places:
            for number in range(20):
                assert os.stat(place / f"f{number}").st_size == 4
                with pytest.raises(FileNotFoundError):
                    os.stat(place / f"missing{number}")
            if two.transport == "native":  # the other lists anew each time
                assert len(os.listdir(place)) == 20

    wait_until(lambda: quiet(two, look), "two looks of which the server hears nothing")


def test_what_another_removes_takes_up_no_space_because_it_was_read_here(
    two: TwoMounts, places: tuple[Path, Path]
) -> None:
    """A file that was read is kept open for a minute, so that opening it again asks nobody; but no longer than it is there."""
    one, other = places
    os.setxattr(one, "loligo.trash.retention", b"0")
    (one / "file").write_bytes(b"x" * 100_000)
    assert (other / "file").read_bytes() == b"x" * 100_000
    before = inodes(one)
    (one / "file").unlink()
    wait_until(lambda: inodes(one) < before, "the inode of the removed file is gone", 20)


def test_what_is_read_again_asks_nobody(two: TwoMounts, places: tuple[Path, Path]) -> None:
    """To open a file, read and close it: what it costs when its directory is known, whatever memory the kernel has left."""
    one, _other = places
    contents = {f"f{number}": os.urandom(1 + 3000 * number) for number in range(12)}
    for name, content in contents.items():
        (one / name).write_bytes(content)

    def read() -> None:
        for place in places:
            for name, content in contents.items():
                with (place / name).open("rb") as file:
                    os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
                    assert file.read() == content

    wait_until(lambda: quiet(two, read), "files are read and the server hears nothing")


@pytest.mark.parametrize("length", [100, 300_000])
@pytest.mark.parametrize("whose", ["own", "other"])
@pytest.mark.parametrize("deed", ["unlink", "rename over", "link and unlink both", "rename and unlink"])
def test_a_file_that_is_open_outlives_its_name(
    two: TwoMounts, places: tuple[Path, Path], deed: str, whose: str, length: int
) -> None:
    """Also if the server has not heard that it is open, because it is read under a lease."""
    here, there = places if whose == "own" else places[::-1]
    content = os.urandom(length)
    (here / "f").write_bytes(content)
    (here / "g").write_bytes(b"newer")
    reader = places[0]
    assert sorted(os.listdir(reader)) == ["f", "g"]
    assert os.stat(reader / "f").st_size == length
    with (reader / "f").open("rb") as file:
        if deed == "unlink":
            (here / "f").unlink()
        elif deed == "rename over":
            (here / "g").rename(here / "f")
        elif deed == "link and unlink both":
            os.link(here / "f", here / "h")
            (here / "f").unlink()
            (here / "h").unlink()
        else:
            (here / "d").mkdir()
            (here / "f").rename(here / "d" / "f")
            (there / "d" / "f").unlink()
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        assert os.fstat(file.fileno()).st_nlink == 0
        assert file.read() == content
    before = inodes(places[0])
    wait_until(lambda: inodes(places[0]) <= before, "the inode is gone with its last close", 20)


@pytest.mark.parametrize("whose", ["own", "other"])
def test_a_file_that_is_open_outlives_its_name_and_a_restart(
    two: TwoMounts, places: tuple[Path, Path], whose: str
) -> None:
    """What is open under a lease is stated when the lease is lost; also what was made just before."""
    reader, other = places if whose == "own" else places[::-1]
    content = os.urandom(300_000)
    (places[0] / "f").write_bytes(content)
    assert os.stat(reader / "f").st_size == len(content)
    with (reader / "f").open("rb") as file:
        two.server.kill()
        two.server.start()
        (other / "f").unlink()
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        assert file.read() == content


def test_who_has_a_file_open_reads_what_the_other_appends_meanwhile(places: tuple[Path, Path]) -> None:
    """Soon: what the kernel has of a file that others write it keeps until the mount hears of it."""
    for round in range(20):
        here, there = places if round % 2 else places[::-1]
        (here / "log").write_bytes(b"first")
        assert os.stat(there / "log").st_size == 5
        with (there / "log").open("rb", buffering=0) as file:
            assert file.read() == b"first"
            with (here / "log").open("ab") as writer:
                writer.write(b" second")
            wait_until(partial(_reads, file, b" second"), "what was appended can be read", 5)
        (there / "log").unlink()


@NATIVE
def test_what_both_append_is_all_there(places: tuple[Path, Path]) -> None:
    """Each line once, whoever has moved the end of the file meanwhile."""
    (places[0] / "log").touch()

    def append(place: Path, who: int) -> None:
        with (place / "log").open("ab", buffering=0) as log:
            for number in range(60):
                log.write(b"%d %d\n" % (who, number))

    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(append, places[who % 2], who) for who in range(4)]:
            done.result()
    expected = sorted(f"{who} {number}" for who in range(4) for number in range(60))
    for place in places:
        assert sorted((place / "log").read_text().splitlines()) == expected


def _reads(file: BinaryIO, expected: bytes) -> bool:
    found = file.read()
    assert found in (b"", expected)
    return bool(found)


@pytest.mark.parametrize("appends", [False, True])
def test_a_writer_sees_at_once_that_another_has_set_the_times(places: tuple[Path, Path], appends: bool) -> None:
    """Though what it has written is not published, and would move them."""
    for number in range(10):
        for (here, there), then_ns in ((places, 10**17), (places[::-1], 2 * 10**17)):
            name = f"f{number}-{then_ns}"
            flags = os.O_CREAT | os.O_RDWR | (os.O_APPEND if appends else 0)
            fd = os.open(here / name, flags)
            for _ in range(3 if appends else 1):
                os.write(fd, b"text" * 2000)
            os.utime(there / name, ns=(then_ns, then_ns))
            assert os.fstat(fd).st_mtime_ns == (here / name).stat().st_mtime_ns == then_ns
            assert (there / name).stat().st_mtime_ns == then_ns
            if number % 2:
                os.write(fd, b"more")
                assert os.fstat(fd).st_mtime_ns > 10**18, "it has written since"
            os.close(fd)
            sizes = [(place / name).stat().st_size for place in places]
            times = [(place / name).stat().st_mtime_ns for place in places]
            assert sizes[0] == sizes[1] and times[0] == times[1]
            assert (times[0] == then_ns) is (number % 2 == 0)


def test_times_that_are_set_stay_whatever_another_has_written_before(places: tuple[Path, Path]) -> None:
    """As `cp -p` and rsync do on one mount, right after a program on the other has written."""
    when_ns = 10**18
    for round in range(5):
        one, other = places if round % 2 else places[::-1]
        (one / "f").write_bytes(b"before")
        with (one / "f").open("r+b", buffering=0) as file:
            file.write(os.urandom(10_000))
            os.utime(other / "f", ns=(when_ns, when_ns))
        for place in (other, one):
            wait_until(partial(_has_mtime, place / "f", when_ns), "the time that was set is shown", 10)
        (one / "f").unlink()


def _has_mtime(path: Path, when_ns: int) -> bool:
    return os.stat(path).st_mtime_ns == when_ns


def test_a_file_that_is_replaced_is_always_there(places: tuple[Path, Path]) -> None:
    one, other = places
    (one / "f").write_bytes(b"0")
    ending = threading.Event()

    def replace() -> None:
        number = 0
        while not ending.is_set():
            number += 1
            (one / "new").write_bytes(b"%d" % number)
            (one / "new").rename(one / "f")

    with ThreadPoolExecutor(1) as pool:
        replacing = pool.submit(replace)
        try:
            for _ in range(300):
                assert stat.S_ISREG(os.stat(other / "f").st_mode)
        finally:
            ending.set()
        replacing.result()


@NATIVE
def test_what_is_counted_under_a_lock_is_seen_whole(places: tuple[Path, Path]) -> None:
    """Also when the file has become longer since."""
    (places[0] / "counter").write_text("0")

    def count(place: Path) -> None:
        with (place / "counter").open("r+b", buffering=0) as counter:
            for _ in range(60):
                fcntl.flock(counter, fcntl.LOCK_EX)
                number = int(os.pread(counter.fileno(), 100, 0))
                os.pwrite(counter.fileno(), b"%d" % (number + 1), 0)
                fcntl.flock(counter, fcntl.LOCK_UN)

    with ThreadPoolExecutor(2) as pool:
        for done in [pool.submit(count, place) for place in places]:
            done.result()
    assert [int((place / "counter").read_text()) for place in places] == [120, 120]


@NATIVE
def test_who_locks_what_he_only_reads_locks_it_for_both(places: tuple[Path, Path]) -> None:
    one, other = places
    (one / "f").write_bytes(b"text")
    for place in places:
        assert (place / "f").read_bytes() == b"text"
    with (one / "f").open("rb") as first, (other / "f").open("rb") as second:
        fcntl.flock(first, fcntl.LOCK_EX)
        with pytest.raises(BlockingIOError):
            fcntl.flock(second, fcntl.LOCK_EX | fcntl.LOCK_NB)
        fcntl.flock(first, fcntl.LOCK_UN)
        fcntl.flock(second, fcntl.LOCK_EX | fcntl.LOCK_NB)


def inodes(place: Path) -> int:
    usage = os.statvfs(place)
    return usage.f_files - usage.f_ffree


def quiet(two: TwoMounts, look: Any) -> bool:
    """Closes of what was written, and atime, are still on their way at first."""
    before = requests(two)
    look()
    return requests(two) == before


def requests(two: TwoMounts) -> int:
    from urllib.request import urlopen

    with urlopen(f"http://127.0.0.1:{two.server.metrics_port}/metrics") as page:
        lines = page.read().decode().splitlines()
    return sum(
        int(float(line.split()[-1]))
        for line in lines
        if line.startswith("loligo_mds_requests_total") and "Settle" not in line
    )


@pytest.mark.parametrize(
    "deed", ["rename over", "unlink and make", "chmod", "grow", "move away", "link", "xattr", "rmdir"]
)
def test_each_kind_of_change_is_seen_at_once(places: tuple[Path, Path], deed: str) -> None:
    """Many times in a row, and whoever changes looks himself, too."""
    for round in range(50):
        here, there = places if round % 2 else places[::-1]
        (here / "f").write_bytes(b"old")
        (here / "d").mkdir()
        for place in (there, here):
            assert os.stat(place / "f").st_size == 3
            assert sorted(os.listdir(place)) == ["d", "f"]
            with pytest.raises(FileNotFoundError):
                os.stat(place / "d" / "g")
        _DEEDS[deed](here)
        for place in (there, here):
            _SEEN[deed](place)
        for name in ("f", "g", "d/f"):
            with suppress(FileNotFoundError):
                (there / name).unlink()
        with suppress(FileNotFoundError):
            (there / "d").rmdir()
        for place in places:
            assert os.listdir(place) == []


def _rename_over(place: Path) -> None:
    (place / "g").write_bytes(b"newer")
    (place / "g").rename(place / "f")


def _unlink_and_make(place: Path) -> None:
    (place / "f").unlink()
    (place / "f").write_bytes(b"newer")


def _grow(place: Path) -> None:
    with (place / "f").open("ab") as file:
        file.write(b"er")


_DEEDS: dict[str, Callable[[Path], object]] = {
    "rename over": _rename_over,
    "unlink and make": _unlink_and_make,
    "chmod": lambda place: (place / "f").chmod(0o751),
    "grow": _grow,
    "move away": lambda place: (place / "f").rename(place / "d" / "f"),
    "link": lambda place: os.link(place / "f", place / "d" / "f"),
    "xattr": lambda place: os.setxattr(place / "f", "user.a", b"v"),
    "rmdir": lambda place: (place / "d").rmdir(),
}


def _sees(text: bytes) -> Any:
    def look(place: Path) -> None:
        assert os.stat(place / "f").st_size == len(text)
        assert (place / "f").read_bytes() == text

    return look


def _sees_moved(place: Path) -> None:
    assert os.stat(place / "d" / "f").st_size == 3
    assert not (place / "f").exists()
    assert os.listdir(place) == ["d"]


def _sees_link(place: Path) -> None:
    assert os.stat(place / "f").st_nlink == os.stat(place / "d" / "f").st_nlink == 2


def _sees_mode(place: Path) -> None:
    assert stat.S_IMODE(os.stat(place / "f").st_mode) == 0o751


def _sees_no_directory(place: Path) -> None:
    assert os.listdir(place) == ["f"]
    with pytest.raises(FileNotFoundError):
        os.stat(place / "d")


def _sees_xattr(place: Path) -> None:
    assert os.getxattr(place / "f", "user.a") == b"v"


_SEEN: dict[str, Callable[[Path], None]] = {
    "rename over": _sees(b"newer"),
    "unlink and make": _sees(b"newer"),
    "chmod": _sees_mode,
    "grow": _sees(b"older"),
    "move away": _sees_moved,
    "link": _sees_link,
    "xattr": _sees_xattr,
    "rmdir": _sees_no_directory,
}
