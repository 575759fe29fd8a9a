"""Files that are open under leases alone, and short contents that are kept."""

from concurrent.futures import Future
from typing import Any

import pytest

from loligo_client.core import contents as contents_module
from loligo_client.core import leased_opens
from loligo_client.core.contents import Contents
from loligo_client.core.leased_opens import LeasedOpens
from loligo_client.shell.file_data import FileData
from loligo_client.shell.open_files import OpenFiles
from loligo_client.shell.settling import Settling
from loligo_client.shell.tasks import Tasks
from loligo_lab.scripted_objects import ScriptedObjects
from loligo_mds.core.requests import Close, Open, Opened
from loligo_wire.attributes import FLAG_INLINE, Attributes
from unit.slow_metadata import SlowMetadata

HOME, OTHER = 3, 4


def attributes(ino: int, parent: int = HOME, **other: Any) -> Attributes:
    return Attributes(ino, 0o100644, nlink=1, parent=parent, size=5, **other)


# -- the table --------------------------------------------------------------------------------------------------------


def test_what_is_open_under_a_lease_is_said_when_it_goes_and_once() -> None:
    opens = LeasedOpens()
    for ino, parent in ((10, HOME), (11, HOME), (12, OTHER)):
        assert opens.open(attributes(ino, parent))
    assert opens.returned(HOME, 11) == [11]
    assert opens.returned(HOME, 12) == []
    assert opens.returned(HOME, 0) == [10]
    assert opens.returned(HOME, 0) == []
    assert 12 in opens and 10 not in opens
    opens.over(12)
    assert not opens


def test_what_is_delegated_needs_not_be_stated_after_a_lost_connection() -> None:
    opens = LeasedOpens()
    opens.open(attributes(10, HOME))
    opens.open(attributes(12, OTHER))
    assert opens.lost({OTHER}) == [10]
    assert 12 in opens and 10 not in opens


def test_there_are_no_more_than_can_be_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leased_opens, "LEASED_OPENS_MAX", 1)
    opens = LeasedOpens()
    assert opens.open(attributes(10)) and not opens.open(attributes(11))


# -- contents ---------------------------------------------------------------------------------------------------------


def test_a_content_is_good_for_the_state_it_was_read_in() -> None:
    contents = Contents()
    contents.keep(10, "then", b"text")
    assert contents.find(10, "then") == b"text"
    assert contents.find(10, "now") is None
    contents.keep(10, "now", b"other")
    assert contents.find(10, "now") == b"other"
    contents.forget(10)
    assert contents.find(10, "now") is None


def test_what_was_not_used_for_longest_goes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contents_module, "CONTENTS_MAX_BYTES", 1000)
    contents = Contents()
    for ino in (10, 11):
        contents.keep(ino, 0, b"x")
    contents.find(10, 0)
    for ino in (12, 13):
        contents.keep(ino, 0, b"x")
    assert [ino for ino in (10, 11, 12, 13) if contents.find(ino, 0)] == [10, 12, 13]


# -- open files -------------------------------------------------------------------------------------------------------


class Files(OpenFiles):
    def __init__(self) -> None:
        self.metadata = SlowMetadata()
        self.forgotten: list[int] = []
        self.pages_forgotten: list[int] = []
        forget = self.pages_forgotten.append, self.forgotten.append
        super().__init__(self.metadata, Settling(self.metadata, ScriptedObjects()), *forget, shared=True)
        self.tasks = Tasks(self.metadata)

    def now_open(self, ino: int, *, writes: bool = False) -> FileData:
        opening = self.tasks.run(self.open(ino, writes))
        if isinstance(opening, Future):
            request, answer = self.metadata.asked[-1]
            assert request == Open(ino, writes)
            answer.set_result(Opened(self.metadata.leased.get(ino) or attributes(ino)))
            return opening.result(0)[0]
        return opening[0]

    def close(self, file: FileData) -> None:
        file.opens -= 1
        self.let_go(file)


@pytest.fixture
def files() -> Files:
    files = Files()
    files.metadata.leased[10] = attributes(10)
    return files


def test_reading_under_a_lease_asks_nobody(files: Files) -> None:
    for _ in range(2):
        file = files.now_open(10)
        again = files.now_open(10)
        assert again is file
        files.close(file)
        files.close(file)
    assert files.metadata.asked == [] and files.by_ino == {} and files.holds() == []


def test_what_is_open_when_the_lease_goes_is_closed_at_the_server(files: Files) -> None:
    file = files.now_open(10)
    assert files.lease_returned(HOME, 0) == [10]
    assert [(hold.ino, hold.count) for hold in files.holds()] == [(10, 1)]
    del files.metadata.leased[10]
    assert files.now_open(10) is file, "it is open for us already"
    files.close(file)
    files.close(file)
    files.end()
    assert files.metadata.asked_for(Close) == [Close(10, 1)]


def test_what_is_open_when_the_leases_are_lost_is_stated(files: Files) -> None:
    files.now_open(10)
    files.leases_lost({HOME})
    assert files.holds() == [], "the server may not know it yet, and nobody else is let in"
    files.leases_lost(())
    assert [(hold.ino, hold.count) for hold in files.holds()] == [(10, 1)]


@pytest.mark.parametrize("ctime_ns", [1, 2])
def test_what_was_open_when_leases_were_lost_is_looked_at_again(files: Files, ctime_ns: int) -> None:
    files.metadata.leased[10] = attributes(10, flags=FLAG_INLINE, ctime_ns=1)
    file = files.now_open(10)
    file.content_is(b"12345")
    files.leases_lost(())
    files.metadata.leased = {10: attributes(10, flags=FLAG_INLINE, ctime_ns=ctime_ns)}
    assert files.now_open(10) is file and len(files.metadata.asked_for(Open)) == 1, "others may have changed it"
    assert file.known_content() == (b"12345" if ctime_ns == 1 else None)
    assert files.pages_forgotten == ([] if ctime_ns == 1 else [10])
    files.now_open(10)
    assert len(files.metadata.asked_for(Open)) == 1


def test_of_what_others_may_have_changed_nothing_is_kept(files: Files) -> None:
    files.metadata.leased[10] = attributes(10, flags=FLAG_INLINE)
    file = files.now_open(10)
    file.content_is(b"12345")
    files.leases_lost(())
    files.end()
    files.close(file)
    assert files.now_open(10).known_content() is None


def test_what_is_promised_is_not_stated(files: Files) -> None:
    """Before it is made it cannot be open there."""
    files.now_open(10)
    files.lease_returned(HOME, 0)
    files.metadata.promised.add(10)
    assert files.holds() == []
    files.metadata.promised.clear()
    assert [hold.ino for hold in files.holds()] == [10]


def test_who_writes_asks(files: Files) -> None:
    file = files.now_open(10)
    assert files.now_open(10, writes=True) is file
    assert files.lease_returned(HOME, 0) == [], "the server knows"
    files.close(file)
    files.close(file)
    assert files.metadata.asked_for(Close) == [Close(10, 1)]


def test_before_a_name_changes_the_server_hears_of_it(files: Files) -> None:
    file = files.now_open(10)
    task = files.tasks.run(files.make_known(10))
    assert isinstance(task, Future)
    files.metadata.asked[-1][1].set_result(Opened(attributes(10)))
    assert task.result(0) is file and 10 not in files.leased_opens
    assert files.tasks.run(files.make_known(10)) is None
    assert files.tasks.run(files.make_known(11)) is None


def test_short_contents_are_kept_for_as_long_as_the_file_is_the_same(files: Files) -> None:
    inline = attributes(10, flags=FLAG_INLINE, ctime_ns=1)
    files.metadata.leased[10] = inline
    file = files.now_open(10)
    assert file.known_content() is None
    file.content_is(b"12345")
    files.close(file)
    file = files.now_open(10)
    assert file.known_content() == b"12345"
    files.close(file)
    files.metadata.leased[10] = attributes(10, flags=FLAG_INLINE, ctime_ns=2)
    files.forgotten.clear()
    assert files.now_open(10).known_content() is None
    assert files.forgotten == [10], "nor are pages"
