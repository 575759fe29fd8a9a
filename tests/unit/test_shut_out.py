"""A client that was shut out of the object store, or lost its session: it gives up at once, and says what is lost."""

from collections.abc import Iterator
from concurrent.futures import Future
from errno import EIO
from typing import Any

import pytest

from loligo_lab.processes import wait_until
from loligo_mds.core.requests import SetAttributes
from loligo_runtime.object_store import ShutOutError, failed
from unit.data_lab import BLOCK_BYTES, DataLab


class ShutOutLab(DataLab):
    def __init__(self) -> None:
        super().__init__()
        self.told = 0
        self.data.on_shut_out = self._tell

    def _tell(self) -> None:
        self.told += 1

    def shut_out(self) -> None:
        """From now on the store refuses us."""
        for name in ("read", "write", "truncate", "zero", "remove"):
            setattr(self.store, name, lambda *arguments: failed(ShutOutError()))


@pytest.fixture
def lab() -> Iterator[ShutOutLab]:
    lab = ShutOutLab()
    try:
        yield lab
    finally:
        lab.run_blocking(lab.data.stop)


def assert_eio(lab: DataLab, call: Any) -> None:
    with pytest.raises(OSError) as failure:
        lab.wait(call())
    assert failure.value.errno == EIO


def test_a_write_that_is_refused_for_good_ends_everything(lab: ShutOutLab, caplog: pytest.LogCaptureFixture) -> None:
    file, other = lab.create(b"f"), lab.create(b"g")
    lab.wait(lab.write(file, 0, bytes(3 * BLOCK_BYTES)))
    lab.wait(lab.data.fsync(file))
    lab.wait(lab.write(other, 0, b"small"))
    lab.shut_out()
    lab.wait(lab.write(file, 0, b"x" * BLOCK_BYTES))
    wait_until(lambda: lab.told == 1, "the data path has given up")
    assert sorted(lab.lost) == [file.ino, other.ino]
    assert f"inode {other.ino}: written bytes are lost" in caplog.text
    for one in (file, other):
        for _ in range(2):
            assert_eio(lab, lambda: lab.write(one, 0, b"again"))  # noqa: B023
            assert_eio(lab, lambda: lab.data.fsync(one))  # noqa: B023
            assert_eio(lab, lambda: lab.data.read(one, 0, 10))  # noqa: B023
    caplog.clear()
    lab.data.tick(1 << 60)
    assert not lab.store.pending and caplog.text == "", "nothing is tried again"
    with pytest.raises(OSError, match="lost"):
        lab.run_blocking(lab.data.drain)


def test_a_read_that_is_refused_for_good_ends_everything(lab: ShutOutLab) -> None:
    file = lab.create(b"f")
    lab.wait(lab.write(file, 0, bytes(3 * BLOCK_BYTES)))
    lab.wait(lab.data.fsync(file))
    lab.shut_out()
    assert_eio(lab, lambda: lab.data.read(file, 0, 10))
    wait_until(lambda: lab.told == 1, "the data path has given up")
    assert_eio(lab, lambda: lab.write(file, 0, b"x"))
    lab.run_blocking(lab.data.drain)  # nothing was lost


def test_what_is_under_way_when_the_session_ends_is_not_tried_again(lab: ShutOutLab) -> None:
    file = lab.create(b"f")
    lab.write(file, 0, bytes(BLOCK_BYTES))
    lab.write(file, BLOCK_BYTES, b"more")
    waiting = lab.data.fsync(file)
    assert [call.kind for call in lab.store.pending] == ["write", "write"]
    lab.data.shut_out()
    assert isinstance(waiting, Future)
    with pytest.raises(OSError) as failure:
        waiting.result(10)
    assert failure.value.errno == EIO
    for _ in range(2):
        lab.store.run(errno=EIO)
    assert file.clean and not lab.store.pending
    assert lab.data._writing.dirty_bytes == 0
    with pytest.raises(OSError, match="lost"):
        lab.run_blocking(lab.data.drain)


def test_writers_that_wait_for_room_are_let_go(lab: ShutOutLab) -> None:
    file = lab.create(b"f")
    answers = [lab.write(file, number * BLOCK_BYTES, bytes(BLOCK_BYTES)) for number in range(60)]
    waiting = [answer for answer in answers if isinstance(answer, Future)]
    assert waiting
    lab.data.shut_out()
    while lab.store.pending:
        lab.store.run(errno=EIO)
    assert all(answer.done() for answer in waiting)
    assert_eio(lab, lambda: lab.write(file, 0, b"again"))


def test_a_cut_that_is_refused_for_good_is_not_tried_again(lab: ShutOutLab) -> None:
    file = lab.create(b"f")
    lab.wait(lab.write(file, 0, bytes(3 * BLOCK_BYTES)))
    lab.wait(lab.data.fsync(file))
    lab.shut_out()
    assert_eio(lab, lambda: lab.data.set_size(SetAttributes(file.ino, size=5), file))
    lab.data.shut_out()
    lab.data.tick(1 << 60)
    assert not lab.store.pending
    lab.run_blocking(lab.data.drain)
