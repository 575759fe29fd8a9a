"""The files that are open here, and what a metadata server that takes its time is told of them."""

import threading
from concurrent.futures import Future
from errno import ENOENT
from typing import Any

import pytest

from loligo_client.shell.open_files import OpenFiles
from loligo_client.shell.settling import Settling
from loligo_client.shell.tasks import Tasks
from loligo_lab.scripted_objects import ScriptedObjects
from loligo_mds.core.requests import Close, Open, Opened
from loligo_wire.attributes import Attributes


class SlowMetadata:
    """Keeps what it is asked; the test answers."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.asked: list[tuple[Any, Future[Any]]] = []

    def ask(self, request: Any) -> Future[Any]:
        answer: Future[Any] = Future()
        self.asked.append((request, answer))
        return answer

    def sync(self) -> None:
        raise AssertionError("nobody needs it here")

    @property
    def closes(self) -> list[Close]:
        return [request for request, _ in self.asked if isinstance(request, Close)]


INO = 7
ATTRIBUTES = Attributes(INO, 0o100644, nlink=1, size=5)


@pytest.mark.parametrize("is_refused", [True, False])
def test_a_file_is_not_closed_while_another_open_of_it_is_not_answered(is_refused: bool) -> None:
    metadata = SlowMetadata()
    files = OpenFiles(metadata, Settling(metadata, ScriptedObjects()), lambda ino: None, shared=True)
    tasks = Tasks(metadata)
    opening = [tasks.run(files.open(INO, True)) for _ in range(2)]
    first, second = (answer for _, answer in metadata.asked)
    assert all(isinstance(request, Open) for request, _ in metadata.asked)
    first.set_result(Opened(ATTRIBUTES, False))
    assert isinstance(opening[0], Future)
    file, _ = opening[0].result(0)
    file.opens -= 1
    files.let_go(file)
    assert metadata.closes == [], "a Recall would come for a file that nobody knows here"
    assert [hold.count for hold in files.holds()] == [1]
    if is_refused:
        second.set_exception(OSError(ENOENT, "gone"))
        assert metadata.closes == [Close(INO, 1)]
    else:
        second.set_result(Opened(ATTRIBUTES, False))
        assert metadata.closes == []
        file.opens -= 1
        files.let_go(file)
        assert metadata.closes == [Close(INO, 2)]
    assert files.holds() == []
