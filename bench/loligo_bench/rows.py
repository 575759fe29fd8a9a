"""The work of the comparison: what each row of the table does, and when its watch runs.

Owns: the rows, their order, and the steps that carry them out. A step runs for one file system at
a time and fills one or more rows; a row shares a step with the one before it when it is only
meaningful right after it ("just created"). Passes that merely warm the caches are not timed.
Rules: whatever can be checked is checked (counts, sizes), because a file system that loses files
is fast; system calls are made directly or by the tool that people use (tar, git, cp, rm). A second
mount that is not told of what the first has done is fast, too, and what it answers then is counted:
a cache that may be late is no failure of the file system, but its figure must not stand alone.
"""

import os
import random
import stat
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from loligo_bench.tree import Source

SMALL_FILES = 2_000
SYNCED_FILES = 200
LARGE_BYTES = 256 << 20
CHUNK_BYTES = 1 << 20
PAGE_BYTES = 4_096
RANDOM_READS = 500
TURNS = 100
TURN_BYTES = 100
REWRITTEN_BYTES = 250
COMMAND_LIMIT_S = 900

_DROP_CACHES = "/proc/sys/vm/drop_caches"


@dataclass(frozen=True, slots=True)
class Row:
    """`operations`: how many system calls of interest it makes, where that is a number that says something.

    `may_be_stale`: answers are looked at whether they are those of before, and counted if so.
    """

    key: str
    title: str
    operations: int = 0
    may_be_stale: bool = False


ROWS = (
    Row("untar", "untar"),
    Row("walk", "walk + lstat, warm"),
    Row("read-warm", "read all files, warm"),
    Row("read-dropped", "read all files, page cache dropped"),
    Row("git-add", "git init + add"),
    Row("git-status", "git status, warm"),
    Row("cp", "cp -r"),
    Row("rm", "rm -rf"),
    Row("walk-cold", "first walk + lstat on a second mount"),
    Row("create", "create 2,000 empty files", SMALL_FILES),
    Row("stat", "stat 2,000 just created", SMALL_FILES),
    Row("stat-missing", "stat 2,000 missing names, warm", SMALL_FILES),
    Row("unlink", "unlink 2,000", SMALL_FILES),
    Row("fsync", "200 x (create, write 4 KiB, fsync)", SYNCED_FILES),
    Row("turns", "two mounts taking turns, one turn", TURNS, may_be_stale=True),
    Row("write-large", "write 256 MiB + fsync"),
    Row("read-large-warm", "read 256 MiB, warm"),
    Row("read-large-dropped", "read 256 MiB, page cache dropped"),
    Row("read-random", "500 random 4 KiB reads, dropped", RANDOM_READS),
)


#: How an answer can be stale, in the order of a turn.
NAME_NOT_YET = "a new name was not there"
OLD_SIZE = "the size was an old one"
OLD_CONTENT = "the content was an old one"
NAME_STILL = "a removed name was still there"
STALE = (NAME_NOT_YET, OLD_SIZE, OLD_CONTENT, NAME_STILL)


class Watch:
    """Times the rows of one step for one file system. `on_start` is told of each row before its time runs."""

    def __init__(self, on_start: Callable[[str], None] = lambda row: None) -> None:
        self.seconds: dict[str, float] = {}
        #: Of a step whose row `may_be_stale`: how many answers were, in which way.
        self.stale: Counter[str] = Counter()
        self._on_start = on_start

    @contextmanager
    def __call__(self, row: str, times: int = 1) -> Iterator[None]:
        """What is done inside is done `times` times, and the row is about one of them."""
        self._on_start(row)
        start_ns = time.perf_counter_ns()
        yield
        self.seconds[row] = (time.perf_counter_ns() - start_ns) / 1e9 / times


@dataclass(frozen=True, slots=True)
class Place:
    """The directory on one file system that a round works in, empty at its start.

    `second` is the same directory by way of a second mount, whose kernel and process have not heard of it yet.
    """

    directory: str
    source: Source
    second: str | None = None

    def path(self, name: str) -> str:
        return f"{self.directory}/{name}"

    def path_there(self, name: str) -> str:
        """On the second mount."""
        return f"{self.second}/{name}"


@dataclass(frozen=True, slots=True)
class Step:
    """`run` does the work; `rows` are the rows it fills; `drops` says that it needs root's
    /proc/sys/vm/drop_caches, `second` that it needs a second mount."""

    rows: tuple[str, ...]
    run: Callable[[Place, Watch], None]
    drops: bool = False
    second: bool = False


class WorkWentWrong(Exception):
    """The file system gave a wrong answer, or a command failed on it."""


def can_drop_caches() -> bool:
    return os.geteuid() == 0 and os.access(_DROP_CACHES, os.W_OK)


def drop_caches() -> None:
    """Forget clean pages, dentries and inodes of every file system of this machine."""
    os.sync()
    fd = os.open(_DROP_CACHES, os.O_WRONLY)
    try:
        os.write(fd, b"3")
    finally:
        os.close(fd)


def _expect(what: str, got: int, expected: int) -> None:
    if got != expected:
        raise WorkWentWrong(f"{what}: {got} instead of {expected}")


def _command(*arguments: str, directory: str) -> bytes:
    # No configuration of the user who runs the benchmark may change what git does.
    environment = {
        "PATH": os.environ["PATH"],
        "LC_ALL": "C",
        "HOME": "/nonexistent",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": "/dev/null",
    }
    done = subprocess.run(
        arguments,
        cwd=directory,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=COMMAND_LIMIT_S,
        check=False,
    )
    if done.returncode:
        lines = done.stderr.decode(errors="replace").splitlines() or ["no message"]
        raise WorkWentWrong(f"{' '.join(arguments[:2])} exited with {done.returncode}: {lines[0]}")
    return done.stdout


def _untar(place: Place, watch: Watch) -> None:
    with watch("untar"):
        _command("tar", "xf", place.source.tar, directory=place.directory)


def _walk(place: Place, watch: Watch) -> None:
    tree = place.path("tree")
    _lstat_all(tree)
    with watch("walk"):
        files, directories = _lstat_all(tree)
    _expect("files found", files, len(place.source.files))
    _expect("directories found", directories, place.source.directories)


def _lstat_all(top: str, without: str = "") -> tuple[int, int]:
    files, pending, directories = 0, [top], 0
    while pending:
        directory = pending.pop()
        directories += 1
        for name in os.listdir(directory):
            if name == without:
                continue
            path = f"{directory}/{name}"
            if stat.S_ISDIR(os.lstat(path).st_mode):
                pending.append(path)
            else:
                files += 1
    return files, directories


def _read_warm(place: Place, watch: Watch) -> None:
    _read_all(place)
    with watch("read-warm"):
        total = _read_all(place)
    _expect("bytes read", total, place.source.total_bytes)


def _read_dropped(place: Place, watch: Watch) -> None:
    drop_caches()
    with watch("read-dropped"):
        total = _read_all(place)
    _expect("bytes read", total, place.source.total_bytes)


def _read_all(place: Place) -> int:
    tree = place.path("tree")
    return sum(_read_file(f"{tree}/{name}") for name, _ in place.source.files)


def _read_file(path: str) -> int:
    total = 0
    fd = os.open(path, os.O_RDONLY)
    try:
        while data := os.read(fd, CHUNK_BYTES):
            total += len(data)
    finally:
        os.close(fd)
    return total


def _git(place: Place, watch: Watch) -> None:
    tree = place.path("tree")
    with watch("git-add"):
        _command("git", "init", "-q", directory=tree)
        _command("git", "add", ".", directory=tree)
    # The first one may rewrite the index, whose time stamps are too close to the files'.
    _command("git", "status", "--porcelain", directory=tree)
    with watch("git-status"):
        changes = _command("git", "status", "--porcelain", directory=tree)
    _expect("files in git's index", changes.count(b"A  "), len(place.source.files))


def _cp(place: Place, watch: Watch) -> None:
    with watch("cp"):
        _command("cp", "-r", "tree", "copy", directory=place.directory)
    # Beside the tree there are git's objects; the tree itself must be whole.
    copy = place.path("copy")
    sizes = sum(os.lstat(f"{copy}/{name}").st_size for name, _ in place.source.files)
    _expect("bytes copied", sizes, place.source.total_bytes)


def _rm(place: Place, watch: Watch) -> None:
    os.lstat(place.path("copy"))  # rm -f would be silent and quick about a copy that is not there
    with watch("rm"):
        _command("rm", "-rf", "copy", directory=place.directory)
    _expect("copies left", int(os.path.lexists(place.path("copy"))), 0)


def _walk_cold(place: Place, watch: Watch) -> None:
    """After the last row about the tree: from here on two mounts know it, and its changes would cost more.

    As cold as a mount just made, but for what the first one still holds and has to let go. Not git's objects: of
    them ceph-fuse was seen to tell another mount with the next tick of its server only, 5 s for each of a thousand. (Git
    links them to a second name and unlinks the first.)
    """
    with watch("walk-cold"):
        files, directories = _lstat_all(place.path_there("tree"), without=".git")
    _expect("files found by the second mount", files, len(place.source.files))
    _expect("directories found by the second mount", directories, place.source.directories)


def _small_files(place: Place, watch: Watch) -> None:
    directory = place.path("small")
    os.mkdir(directory)
    paths = [f"{directory}/file_{number:05d}" for number in range(SMALL_FILES)]
    missing = [f"{directory}/missing_{number:05d}" for number in range(SMALL_FILES)]
    with watch("create"):
        for path in paths:
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644))
    with watch("stat"):
        for path in paths:
            os.stat(path)
    _count_missing(missing)
    with watch("stat-missing"):
        absent = _count_missing(missing)
    _expect("missing names", absent, SMALL_FILES)
    with watch("unlink"):
        for path in paths:
            os.unlink(path)
    _expect("files left", len(os.listdir(directory)), 0)


def _count_missing(paths: list[str]) -> int:
    absent = 0
    for path in paths:
        try:
            os.stat(path)
        except FileNotFoundError:
            absent += 1
    return absent


def _fsync(place: Place, watch: Watch) -> None:
    directory = place.path("synced")
    os.mkdir(directory)
    data = random.Random(1).randbytes(PAGE_BYTES)
    with watch("fsync"):
        for number in range(SYNCED_FILES):
            fd = os.open(f"{directory}/file_{number:03d}", os.O_WRONLY | os.O_CREAT | os.O_EXCL)
            os.write(fd, data)
            os.fsync(fd)
            os.close(fd)


def _turns(place: Place, watch: Watch) -> None:
    os.mkdir(place.path("turns"))
    with watch("turns", TURNS):
        for number in range(TURNS):
            _turn(place, f"file_{number:03d}", watch.stale)


def _turn(place: Place, name: str, stale: Counter[str]) -> None:
    """One mount changes a file, the other looks at once. Each wrong answer counts, also two about the same thing."""
    here, directory_there = place.path(f"turns/{name}"), place.path_there("turns")
    there = f"{directory_there}/{name}"

    _write_file(here, b"1" * TURN_BYTES)
    # A listing tells the kernel sizes, too: what it then believes is what it may be late about.
    stale[NAME_NOT_YET] += name not in os.listdir(directory_there)

    _write_file(here, b"2" * REWRITTEN_BYTES)
    try:
        stale[OLD_SIZE] += os.stat(there).st_size != REWRITTEN_BYTES
    except FileNotFoundError:
        stale[NAME_NOT_YET] += 1
    try:
        with open(there, "rb", buffering=0) as file:
            stale[OLD_CONTENT] += file.read(CHUNK_BYTES) != b"2" * REWRITTEN_BYTES
    except FileNotFoundError:
        stale[NAME_NOT_YET] += 1

    os.unlink(here)
    stale[NAME_STILL] += os.path.lexists(there)
    stale[NAME_STILL] += name in os.listdir(directory_there)


def _write_file(path: str, content: bytes) -> None:
    with open(path, "wb", buffering=0) as file:
        _expect("bytes written", file.write(content), len(content))


def _write_large(place: Place, watch: Watch) -> None:
    data = random.Random(2).randbytes(CHUNK_BYTES)
    with watch("write-large"):
        fd = os.open(place.path("large"), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        for _ in range(LARGE_BYTES // CHUNK_BYTES):
            _expect("bytes written", os.write(fd, data), CHUNK_BYTES)
        os.fsync(fd)
        os.close(fd)


def _read_large_warm(place: Place, watch: Watch) -> None:
    _read_file(place.path("large"))
    with watch("read-large-warm"):
        total = _read_file(place.path("large"))
    _expect("bytes read", total, LARGE_BYTES)


def _read_large_dropped(place: Place, watch: Watch) -> None:
    drop_caches()
    with watch("read-large-dropped"):
        total = _read_file(place.path("large"))
    _expect("bytes read", total, LARGE_BYTES)


def _read_random(place: Place, watch: Watch) -> None:
    rng = random.Random(3)
    offsets = [int(rng.random() * (LARGE_BYTES // PAGE_BYTES)) * PAGE_BYTES for _ in range(RANDOM_READS)]
    drop_caches()
    total = 0
    with watch("read-random"):
        fd = os.open(place.path("large"), os.O_RDONLY)
        for offset in offsets:
            total += len(os.pread(fd, PAGE_BYTES, offset))
        os.close(fd)
    _expect("bytes read", total, RANDOM_READS * PAGE_BYTES)


STEPS = (
    Step(("untar",), _untar),
    Step(("walk",), _walk),
    Step(("read-warm",), _read_warm),
    Step(("read-dropped",), _read_dropped, drops=True),
    Step(("git-add", "git-status"), _git),
    Step(("cp",), _cp),
    Step(("rm",), _rm),
    Step(("walk-cold",), _walk_cold, second=True),
    Step(("create", "stat", "stat-missing", "unlink"), _small_files),
    Step(("fsync",), _fsync),
    Step(("turns",), _turns, second=True),
    Step(("write-large",), _write_large),
    Step(("read-large-warm",), _read_large_warm),
    Step(("read-large-dropped",), _read_large_dropped, drops=True),
    Step(("read-random",), _read_random, drops=True),
)
