"""The files that are open here, and what a metadata server that takes its time is told of them."""

from concurrent.futures import Future
from errno import ENOENT

import pytest

from loligo_client.shell.open_files import IDLE_NS, OpenFiles
from loligo_client.shell.settling import Settling
from loligo_client.shell.tasks import Tasks
from loligo_lab.scripted_objects import ScriptedObjects
from loligo_mds.core.requests import Close, Open, Opened, Reported
from loligo_wire.attributes import Attributes
from unit.slow_metadata import SlowMetadata

INO = 7
FORGET = (lambda ino: None, lambda ino: None)
ATTRIBUTES = Attributes(INO, 0o100644, nlink=1, size=5)


@pytest.mark.parametrize("is_refused", [True, False])
def test_a_file_is_not_closed_while_another_open_of_it_is_not_answered(is_refused: bool) -> None:
    metadata = SlowMetadata()
    files = OpenFiles(metadata, Settling(metadata, ScriptedObjects()), *FORGET, shared=True)
    tasks = Tasks(metadata)
    opening = [tasks.run(files.open(INO, True)) for _ in range(2)]
    first, second = (answer for _, answer in metadata.asked)
    assert all(isinstance(request, Open) for request, _ in metadata.asked)
    first.set_result(Opened(ATTRIBUTES, False))
    assert isinstance(opening[0], Future)
    file, _ = opening[0].result(0)
    file.opens -= 1
    files.let_go(file)
    assert metadata.asked_for(Close) == [], "a Recall would come for a file that nobody knows here"
    assert [hold.count for hold in files.holds()] == [1]
    if is_refused:
        second.set_exception(OSError(ENOENT, "gone"))
        assert metadata.asked_for(Close) == [Close(INO, 1)]
    else:
        second.set_result(Opened(ATTRIBUTES, False))
        assert metadata.asked_for(Close) == []
        file.opens -= 1
        files.let_go(file)
        assert metadata.asked_for(Close) == [Close(INO, 2)]
    assert files.holds() == []


# -- kept open ------------------------------------------------------------------------------------------------------


class Files(OpenFiles):
    """Of a metadata server that answers at once, when told to."""

    def __init__(self) -> None:
        self.metadata = SlowMetadata()
        super().__init__(self.metadata, Settling(self.metadata, ScriptedObjects()), *FORGET, shared=True)
        self.tasks = Tasks(self.metadata)

    def read(self, ino: int) -> int:
        """Open it, close it. -> how many requests that took"""
        before = len(self.metadata.asked)
        opening = self.tasks.run(self.open(ino, False))
        for request, answer in self.metadata.asked[before:]:
            if isinstance(request, Open):
                answer.set_result(Opened(Attributes(ino, 0o100644, nlink=1, size=5), False))
        file, _ = opening.result(0) if isinstance(opening, Future) else opening
        file.opens -= 1
        self.let_go(file)
        return len(self.metadata.asked) - before


def test_a_file_that_was_read_stays_open_for_a_while() -> None:
    files = Files()
    files.tick(1)
    assert [files.read(INO) for _ in range(3)] == [1, 0, 0]
    files.tick(IDLE_NS)
    assert files.metadata.asked_for(Close) == [] and [hold.ino for hold in files.holds()] == [INO]
    files.tick(IDLE_NS + 1)
    assert files.metadata.asked_for(Close) == [Close(INO, 1)] and files.holds() == []
    assert files.read(INO) == 1


def test_no_more_than_so_many_stay_open(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("loligo_client.shell.open_files.IDLE_MAX", 2)
    files = Files()
    for ino in (7, 8, 7, 9):
        files.read(ino)
    assert files.metadata.asked_for(Close) == [Close(8, 1)], "the one that was not used for longest"


def test_a_file_that_stays_open_is_not_closed_while_it_is_opened_for_writing() -> None:
    files = Files()
    files.read(INO)
    writing = files.tasks.run(files.open(INO, True))
    assert isinstance(writing, Future)
    files.tick(IDLE_NS)
    assert not files.close_idle(INO) and files.metadata.asked_for(Close) == []
    files.metadata.asked[-1][1].set_exception(OSError(ENOENT, "gone"))
    files.tick(2 * IDLE_NS)
    assert files.metadata.asked_for(Close) == [Close(INO, 1)]


def test_what_has_lost_its_last_name_does_not_stay_open() -> None:
    files = Files()
    files.read(INO)
    file = files.by_ino[INO]
    file.unlinked = True
    files.let_go(file)
    assert files.metadata.asked_for(Close) == [Close(INO, 1)]
    files.tick(IDLE_NS)


def test_nothing_is_opened_without_asking_while_the_server_is_away() -> None:
    files = Files()
    assert [files.read(INO) for _ in range(2)] == [1, 0]
    files.metadata.is_away = True
    assert files.read(INO) == 1


def test_who_does_not_know_the_file_has_no_news_of_it() -> None:
    files = Files()
    files.has_no_news(INO)
    assert files.metadata.asked[-1][0] == Reported(INO)
    files.tasks.run(files.open(INO, True))
    files.has_no_news(INO)
    assert isinstance(files.metadata.asked[-1][0], Open), "it would be taken for news of after the Open"
