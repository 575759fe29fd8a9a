"""What is kept on the local disk of objects far away."""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from errno import EOPNOTSUPP
from pathlib import Path
from random import Random
from typing import Any

import pytest

from loligo_client.shell.block_cache import PAGE_BYTES, CachedObjects
from loligo_lab.processes import wait_until
from loligo_runtime.local_objects import LocalObjectStore
from loligo_runtime.object_store import MISSING, ObjectStore
from loligo_runtime.object_url import open_object_store

INO = 5
BLOCK_BYTES = 16 * PAGE_BYTES
CONTENT = Random(1).randbytes(BLOCK_BYTES)


class FarAway:
    """A store that answers when it is told to, if `slow`, and counts what it is asked."""

    def __init__(self, store: LocalObjectStore) -> None:
        self._store = store
        self.reads = 0
        self.slow = False
        self._waiting: list[Callable[[], None]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def read(self, *where: int) -> Future[Any]:
        self.reads += 1
        answer: Future[Any] = Future()
        data = self._store.read(*where).result()
        self._when_told(lambda: answer.set_result(data))
        return answer

    def write(self, ino: int, index: int, offset: int, data: Any) -> Future[None]:
        answer: Future[None] = Future()
        self._store.write(ino, index, offset, data).result()
        self._when_told(lambda: answer.set_result(None))
        return answer

    def _when_told(self, answer: Callable[[], None]) -> None:
        if self.slow:
            self._waiting.append(answer)
        else:
            answer()

    def go(self, which: int = 0) -> None:
        self._waiting.pop(which)()


class Lab:
    def __init__(self, folder: Path, limit_bytes: int = 1 << 30) -> None:
        store = open_object_store((folder / "objects").as_uri(), create=True)
        assert isinstance(store, LocalObjectStore)
        self.far: Any = FarAway(store)
        far: ObjectStore = self.far
        self.cached = CachedObjects(far, str(folder / "cache"), limit_bytes, BLOCK_BYTES)
        self.far.write(INO, 0, 0, CONTENT).result()

    def read(self, offset: int, length: int, index: int = 0) -> Any:
        now = self.cached.read_now(INO, index, offset, length)
        data = self.cached.read(INO, index, offset, length).result() if now is None else now
        self.cached.wait()
        return data

    def asks(self, offset: int, length: int, index: int = 0) -> bool:
        """Whether that is asked of the store. What comes is right, in any case."""
        before = self.far.reads
        assert self.read(offset, length, index) == CONTENT[offset : offset + length]
        return bool(self.far.reads > before)


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    lab = Lab(tmp_path)
    yield lab
    lab.cached.close()


def test_what_was_read_is_there(lab: Lab) -> None:
    assert lab.asks(PAGE_BYTES, 2 * PAGE_BYTES)
    assert not lab.asks(PAGE_BYTES, 2 * PAGE_BYTES)
    assert not lab.asks(2 * PAGE_BYTES, PAGE_BYTES)
    assert not lab.asks(PAGE_BYTES + 5, 100)
    assert lab.asks(0, 2 * PAGE_BYTES) and lab.asks(3 * PAGE_BYTES, 1)


def test_the_end_of_a_file_is_there_as_far_as_it_was_read(lab: Lab) -> None:
    assert lab.asks(0, PAGE_BYTES + 100)
    assert not lab.asks(0, PAGE_BYTES + 100) and not lab.asks(PAGE_BYTES, 100) and not lab.asks(PAGE_BYTES, 50)
    assert lab.asks(PAGE_BYTES, 101)


def test_a_piece_within_a_page_is_not_kept(lab: Lab) -> None:
    assert lab.asks(10, 100) and lab.asks(10, 100) and lab.asks(0, 10)


def test_what_is_written_in_short_pieces_is_there(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    data = bytearray(CONTENT[: PAGE_BYTES + 10])
    lab.cached.write(INO, 1, 0, memoryview(data)).result()
    data[:] = bytes(len(data))  # it is the caller's again
    lab.cached.wait()
    assert not lab.asks(0, PAGE_BYTES + 10, 1)
    monkeypatch.setattr("loligo_client.shell.block_cache.WRITE_LIMIT_BYTES", PAGE_BYTES)
    lab.cached.write(INO, 2, 0, CONTENT).result()
    lab.cached.wait()
    assert lab.asks(0, PAGE_BYTES, 2)


def test_random_reads(lab: Lab) -> None:
    random = Random(7)
    for _ in range(300):
        offset = random.randrange(BLOCK_BYTES)
        lab.asks(offset, random.randrange(1, BLOCK_BYTES - offset + 1))
    assert not lab.asks(0, BLOCK_BYTES) or not lab.asks(0, BLOCK_BYTES)


@pytest.mark.parametrize("change", ["write", "truncate", "zero", "remove", "forget"])
def test_a_change_takes_away_what_is_kept(lab: Lab, change: str) -> None:
    lab.asks(0, BLOCK_BYTES)
    lab.far.write(INO, 1, 0, CONTENT).result()
    lab.asks(0, BLOCK_BYTES, index=1)
    if change == "write":
        lab.cached.write(INO, 0, 3, b"new").result()
        assert lab.read(0, 10) == CONTENT[:3] + b"new" + CONTENT[6:10]
    elif change == "truncate":
        lab.cached.truncate(INO, 0, 5).result()
        assert lab.read(0, 10) == CONTENT[:5]
    elif change == "zero":
        lab.cached.zero(INO, 0, 0, 5).result()
        assert lab.read(0, 10) == bytes(5) + CONTENT[5:10]
    elif change == "remove":
        lab.cached.remove(INO, 0).result()
        assert lab.read(0, 10) is MISSING
    else:
        lab.cached.forget(INO)
        assert lab.asks(0, PAGE_BYTES)
    assert lab.asks(0, PAGE_BYTES, index=1) is (change == "forget")


@pytest.mark.parametrize("answers", [(0, 0), (1, 0)], ids=["read, write", "write, read"])
@pytest.mark.parametrize("first", ["read", "write"])
def test_what_was_read_while_it_changed_is_not_kept(lab: Lab, first: str, answers: tuple[int, int]) -> None:
    lab.far.slow = True

    def read() -> None:
        lab.cached.read(INO, 0, 0, PAGE_BYTES)

    def write() -> None:
        lab.cached.write(INO, 0, 0, b"new")

    for ask in (read, write) if first == "read" else (write, read):
        ask()
    for which in answers:
        lab.far.go(which)
    lab.far.slow = False
    lab.cached.wait()
    before = lab.far.reads
    assert lab.read(0, 10) == b"new" + CONTENT[3:10]
    assert lab.far.reads == before + 1


def test_what_was_forgotten_while_it_was_read_is_not_kept(lab: Lab) -> None:
    lab.far.slow = True
    lab.cached.read(INO, 0, 0, PAGE_BYTES)
    lab.cached.forget(INO)
    lab.far.slow = False
    lab.far.go()
    lab.cached.wait()
    assert lab.asks(0, PAGE_BYTES)


def test_what_was_not_used_for_longest_goes_first_and_its_space_is_given_back(tmp_path: Path) -> None:
    lab = Lab(tmp_path, limit_bytes=3 * BLOCK_BYTES)
    try:
        for index in range(1, 10):
            lab.far.write(INO, index, 0, CONTENT).result()
        assert all(lab.asks(0, BLOCK_BYTES, index) for index in (0, 1, 2))
        assert not lab.asks(0, BLOCK_BYTES, 0)
        assert lab.asks(0, BLOCK_BYTES, 3)
        assert lab.asks(0, PAGE_BYTES, 1) and not lab.asks(0, PAGE_BYTES, 0)
        for index in range(10):
            lab.asks(0, BLOCK_BYTES, index)
        assert os.fstat(lab.cached._fd).st_blocks * 512 <= 4 * BLOCK_BYTES
        lab.cached.forget(INO)
        lab.cached.wait()
        assert os.fstat(lab.cached._fd).st_blocks == 0
    finally:
        lab.cached.close()


def test_a_disk_that_fails_ends_the_cache_and_nothing_else(lab: Lab, caplog: pytest.LogCaptureFixture) -> None:
    lab.asks(0, BLOCK_BYTES)
    kept_fd, lab.cached._fd = lab.cached._fd, os.open("/dev/full", os.O_RDWR)
    os.close(kept_fd)
    lab.far.write(INO, 1, 0, CONTENT).result()
    assert lab.asks(0, PAGE_BYTES, 1)
    wait_until(lambda: "nothing is cached" in caplog.text, "the log to say so")
    assert lab.asks(0, PAGE_BYTES, 1) and lab.asks(0, PAGE_BYTES, 1) and lab.asks(0, PAGE_BYTES)


def test_a_disk_that_is_nearly_full_is_left_alone(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("loligo_client.shell.block_cache.FREE_SHARE_MIN", 1.1)
    lab.asks(0, BLOCK_BYTES)
    assert "nearly full" in caplog.text
    assert os.fstat(lab.cached._fd).st_size == 0
    assert lab.asks(0, BLOCK_BYTES)


def test_what_is_not_there_costs_nothing(lab: Lab) -> None:
    for index in range(1, 100):
        assert lab.read(0, PAGE_BYTES, index) is MISSING
    assert not lab.cached._kept and not lab.cached._indexes


def test_a_file_system_that_cannot_tell_whether_a_read_would_wait(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def read_soon(*arguments: Any) -> int:
        raise OSError(EOPNOTSUPP, "not supported")

    monkeypatch.setattr("loligo_client.shell.block_cache.read_soon", read_soon)
    assert [lab.asks(0, PAGE_BYTES) for _ in range(3)] == [True, False, False]
    assert caplog.text == ""


def test_nothing_is_left_of_it(tmp_path: Path) -> None:
    lab = Lab(tmp_path)
    lab.asks(0, BLOCK_BYTES)
    assert os.listdir(tmp_path / "cache") == []
    lab.cached.close()
