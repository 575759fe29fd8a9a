"""What many clients do in directories and files that they share, and what must be true of it whoever dies meanwhile.

- tickets: whoever makes a name first has it; every ticket has one owner, who was told so.
- ring: tokens are moved between two directories; a token is in one of them, and moved as often as somebody was told so.
- links: everybody gives one file more names, and takes them away; its link count is right.
- board: a file in which everybody has a part of his own; the others read it.
- scratch: a file that everybody writes, reads and cuts anywhere.

Bytes of the board and of scratch are cells of (writer, version): whatever is found in one was written there by somebody
once. A part of the board shows at least what its writer had synced before the reader opened it.
"""

import contextlib
import os
import struct
import threading
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from loligo_lab.system_calls import RENAME_NOREPLACE, renameat2

_CELL = struct.Struct("<QQ")
CELL_BYTES = _CELL.size
#: Parts cross the blocks of 64 KiB.
PART_CELLS = 1500
SCRATCH_CELLS = 20_000
TOKENS = 6


@dataclass
class Shared:
    """What all workers have been told, together. `doubtful`: by those who died before the answer."""

    workers: int
    lock: threading.Lock = field(default_factory=threading.Lock)
    tickets: dict[str, int] = field(default_factory=dict)
    next_ticket: int = 0
    #: token -> moves to b, less those back to a
    ring: dict[str, int] = field(default_factory=dict)
    links: set[str] = field(default_factory=set)
    doubtful: set[tuple[str, str]] = field(default_factory=set)
    #: Of each worker: last version that it began to write, and last that it has synced.
    written: list[int] = field(default_factory=list)
    synced: list[int] = field(default_factory=list)

    def make(self, root: Path) -> None:
        for name in ("tickets", "ring/a", "ring/b", "links"):
            (root / "shared" / name).mkdir(parents=True)
        for number in range(TOKENS):
            (root / f"shared/ring/a/{number}").touch()
            self.ring[str(number)] = 0
        for name in ("base", "board", "scratch"):
            (root / "shared" / name).touch()
        self.written = [0] * self.workers
        self.synced = [0] * self.workers

    # -- at the end -----------------------------------------------------------------------------------------------------

    def problems(self, root: Path) -> list[str]:
        found = []
        here = root / "shared"
        tickets = set(os.listdir(here / "tickets"))
        for name in tickets ^ self.tickets.keys():
            if ("ticket", name) not in self.doubtful:
                found.append(f"ticket {name} {'has no owner' if name in tickets else 'is lost'}")
        places = {place: set(os.listdir(here / "ring" / place)) for place in "ab"}
        for token, balance in self.ring.items():
            if (token in places["a"]) == (token in places["b"]):
                found.append(f"token {token} is in both, or none")
            elif ("token", token) not in self.doubtful and balance != (token in places["b"]):
                found.append(f"token {token} was moved {balance} times in all, and is not there")
        links = set(os.listdir(here / "links"))
        for name in links ^ self.links:
            if ("link", name) not in self.doubtful:
                found.append(f"link {name} {'should not be' if name in links else 'is lost'}")
        if (count := (here / "base").stat().st_nlink) != 1 + len(links):
            found.append(f"the file with {1 + len(links)} names has {count} links")
        found += self.board_problems((here / "board").read_bytes(), self.synced)
        found += self.scratch_problems((here / "scratch").read_bytes())
        return found

    def board_problems(self, content: bytes, least: list[int]) -> list[str]:
        for index in range(len(content) // CELL_BYTES):
            owner = index // PART_CELLS
            writer, version = _CELL.unpack_from(content, index * CELL_BYTES)
            if (writer, version) == (0, 0) and not least[owner]:
                continue
            if writer != owner + 1 or not least[owner] <= version <= self.written[owner]:
                return [
                    f"board: cell {index} of worker {owner} has ({writer}, {version});"
                    f" it wrote up to {self.written[owner]} and had synced {least[owner]}"
                ]
        return []

    def scratch_problems(self, content: bytes) -> list[str]:
        for at in range(0, len(content) // CELL_BYTES * CELL_BYTES, CELL_BYTES):
            writer, version = _CELL.unpack_from(content, at)
            if (writer, version) != (0, 0) and not (
                1 <= writer <= self.workers and 1 <= version <= self.written[writer - 1]
            ):
                return [f"scratch: ({writer}, {version}) at {at}, and nobody has written that"]
        return []


def _sync(directory: Path) -> None:
    """Before others are told past the file system: what a mount does in its last moment may die with it."""
    fd = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        _close(fd)


class SharedWork:
    """One worker's part."""

    def __init__(self, shared: Shared, number: int, random: Random, story: deque[str]) -> None:
        self._shared = shared
        self._number = number
        self._random = random
        self._story = story
        #: Some do not, and so do not wait when one of the others has died.
        self._shares_bytes = number < shared.workers // 2
        self._version = 0
        self._links: list[str] = []
        self._linked = 0
        self._doubt: tuple[str, str] | None = None
        self._held: list[int] = []

    def step(self, root: Path) -> None:
        kinds = ("ticket", "token", "link", "write", "look", "scribble", "cut", "hold")
        kind = self._random.choices(
            kinds, (4, 4, 4, 4, 3, 5, 1, 1) if self._shares_bytes else (1, 1, 1, 0, 0, 0, 0, 0)
        )[0]
        getattr(self, f"_{kind}")(root / "shared")

    def let_go(self) -> None:
        while self._held:
            _close(self._held.pop())

    def came_back(self) -> None:
        """Another mount, after the death of the last one. What was under way has happened, or it has not."""
        with self._shared.lock:
            if self._doubt is not None:
                self._shared.doubtful.add(self._doubt)
        self._doubt = None

    # -- names ----------------------------------------------------------------------------------------------------------

    def _ticket(self, here: Path) -> None:
        shared = self._shared
        with shared.lock:
            name = f"{shared.next_ticket:06}"
        self._story.append(f"ticket {name}")
        self._doubt = ("ticket", name)
        try:
            os.close(os.open(here / "tickets" / name, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        except FileExistsError:
            won = False
        else:
            won = True
            _sync(here / "tickets")
        self._doubt = None
        with shared.lock:
            shared.next_ticket = max(shared.next_ticket, int(name) + 1)
            if won:
                assert name not in shared.tickets, f"ticket {name} has two owners"
                shared.tickets[name] = self._number

    def _token(self, here: Path) -> None:
        token = str(self._random.randrange(TOKENS))
        source, target = (f"{place}/{token}".encode() for place in self._random.choice(("ab", "ba")))
        self._story.append(f"token from {source!r} to {target!r}")
        self._doubt = ("token", token)
        try:
            # A kernel that has seen both names takes them for two of one file, and a plain rename for nothing to do.
            ring = os.fsencode(here / "ring")
            renameat2(b"%s/%s" % (ring, source), b"%s/%s" % (ring, target), RENAME_NOREPLACE)
        except (FileNotFoundError, FileExistsError):
            moved = 0
        else:
            moved = 1 if target.startswith(b"b") else -1
            _sync(here / "ring")
        self._doubt = None
        with self._shared.lock:
            self._shared.ring[token] += moved

    def _link(self, here: Path) -> None:
        shared = self._shared
        if self._links and self._random.random() < 0.45:
            name = self._links.pop(self._random.randrange(len(self._links)))
            self._story.append(f"unlink {name}")
            self._doubt = ("link", name)
            os.unlink(here / "links" / name)
            _sync(here / "links")
            with shared.lock:
                shared.links.remove(name)
        else:
            self._linked += 1
            name = f"{self._number}-{self._linked}"
            self._story.append(f"link {name}")
            self._doubt = ("link", name)
            os.link(here / "base", here / "links" / name)
            _sync(here / "links")
            self._links.append(name)
            with shared.lock:
                shared.links.add(name)
        self._doubt = None

    # -- bytes ----------------------------------------------------------------------------------------------------------

    def _next_version(self) -> bytes:
        self._version += 1
        with self._shared.lock:
            self._shared.written[self._number] = self._version
        return _CELL.pack(self._number + 1, self._version)

    def _write(self, here: Path) -> None:
        version = self._next_version()
        self._story.append(f"board {self._version}")
        fd = os.open(here / "board", os.O_WRONLY)
        try:
            _write_all(fd, version * PART_CELLS, self._number * PART_CELLS * CELL_BYTES)
            if self._random.random() < 0.5:
                os.fsync(fd)
                with self._shared.lock:
                    self._shared.synced[self._number] = self._version
        finally:
            _close(fd)

    def _look(self, here: Path) -> None:
        self._story.append("look at the board")
        shared = self._shared
        with shared.lock:
            least = list(shared.synced)
        content = (here / "board").read_bytes()
        problems = shared.board_problems(content, least)
        assert not problems, problems[0]

    def _scribble(self, here: Path) -> None:
        random = self._random
        count = random.choice((1, 3, 40, 5000))
        first = random.randrange(SCRATCH_CELLS)
        self._story.append(f"scratch: {count} cells at {first}")
        fd = os.open(here / "scratch", os.O_RDWR)
        try:
            _write_all(fd, self._next_version() * count, first * CELL_BYTES)
            if random.random() < 0.3:
                problems = self._shared.scratch_problems(os.pread(fd, 1 << 19, 0))
                assert not problems, problems[0]
            if random.random() < 0.1:
                os.fsync(fd)
        finally:
            _close(fd)

    def _cut(self, here: Path) -> None:
        size = self._random.choice((0, self._random.randrange(SCRATCH_CELLS))) * CELL_BYTES
        self._story.append(f"scratch cut to {size}")
        os.truncate(here / "scratch", size)

    def _hold(self, here: Path) -> None:
        """Have a file open for a while."""
        if len(self._held) > 2:
            self.let_go()
        name = self._random.choice(("board", "scratch"))
        self._story.append(f"hold {name}")
        self._held.append(os.open(here / name, self._random.choice((os.O_RDONLY, os.O_RDWR))))


def _write_all(fd: int, data: bytes, offset: int) -> None:
    written = os.pwrite(fd, data, offset)
    if written != len(data):
        os.pwrite(fd, data[written:], offset + written)  # the mount died in the middle, or this raises


def _close(fd: int) -> None:
    with contextlib.suppress(OSError):  # of a mount that is gone: whoever used it was told
        os.close(fd)
