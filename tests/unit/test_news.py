"""What a file is, when the one who knows is another session: `core.news`."""

from errno import ENOENT
from typing import Any

import pytest

from loligo_mds.core.effects import Recall, Reply, Report
from loligo_mds.core.events import Hold, SessionEnded, SessionOpened, SessionRestated, Submitted
from loligo_mds.core.requests import (
    Close,
    Create,
    GetAttributes,
    Lookup,
    Open,
    Publish,
    ReadDirectory,
    Rename,
    Reported,
    SetAttributes,
    Unlink,
    Yielded,
)
from loligo_wire.ids import ROOT_INO
from unit.shard_lab import FILE, ShardLab

R = int(ROOT_INO)
A, B, C = 1, 2, 3


class NewsLab(ShardLab):
    """Three sessions; A has created the file `f`, and has it open."""

    def __init__(self) -> None:
        super().__init__()
        for session in (A, B, C):
            self.event(SessionOpened(session, b"client %d" % session))
        self.f = self.ask(Create(R, b"f", FILE, 0, 0, hold=True), A).ino

    def said(self) -> list[Any]:
        """What the last step said: (session, id, size or errno), ("report", session)."""
        said: list[Any] = []
        for effect in self.effects:
            if isinstance(effect, Report):
                assert effect.ino == self.f
                said.append(("report", effect.session))
            elif isinstance(effect, Recall):
                said.append(("recall", effect.session))
            elif isinstance(effect, Reply):
                said.append((effect.session, effect.id, effect.errno or getattr(effect.value, "size", None)))
        return said

    def tell(self, session: int, *requests: Any) -> list[Any]:
        """-> what the last of them said, its own answer left out"""
        for request in requests:
            id = self.submit(request, session)
        return [one for one in self.said() if one[:2] != (session, id)]


@pytest.fixture
def lab() -> NewsLab:
    return NewsLab()


@pytest.mark.parametrize("question", [GetAttributes(0), Lookup(R, b"f")], ids=["by number", "by name"])
def test_who_asks_waits_for_the_owner(lab: NewsLab, question: Any) -> None:
    if isinstance(question, GetAttributes):
        question = GetAttributes(lab.f)
    id = lab.submit(question, B)
    assert lab.said() == [("report", A)]
    assert lab.tell(A, Publish(lab.f, 7, 1)) == []
    assert lab.tell(A, Reported(lab.f)) == [(B, id, 7)]


def test_the_owner_and_the_shard_itself_need_not_wait(lab: NewsLab) -> None:
    assert lab.ask(GetAttributes(lab.f), A).size == 0
    assert lab.ask(Lookup(R, b"f"), 0).size == 0


def test_questions_that_come_meanwhile_are_for_the_next_report(lab: NewsLab) -> None:
    first = lab.submit(GetAttributes(lab.f), B)
    second = lab.submit(GetAttributes(lab.f), C)
    assert lab.said() == [], "one report at a time"
    assert lab.tell(A, Publish(lab.f, 1, 1), Reported(lab.f)) == [("report", A), (B, first, 1)]
    assert lab.tell(A, Publish(lab.f, 2, 1), Reported(lab.f)) == [(C, second, 2)]


def test_a_report_that_nobody_asked_for_is_nothing(lab: NewsLab) -> None:
    assert lab.tell(A, Reported(lab.f)) == []
    id = lab.submit(GetAttributes(lab.f), B)
    assert lab.tell(C, Reported(lab.f)) == [], "it is not the owner"
    assert lab.tell(A, Reported(lab.f)) == [(B, id, 0)]


def test_a_listing_leaves_out_what_it_does_not_know(lab: NewsLab) -> None:
    lab.make(b"g")
    for session, known in ((A, {b"f": True, b"g": True}), (B, {b"f": False, b"g": True})):
        page = lab.ask(ReadDirectory(R, 0, 10, True), session)
        assert {name: attributes is not None for name, _, _, _, attributes in page} == known


@pytest.mark.parametrize(
    "end", [lambda lab: Submitted(A, 0, Close(lab.f), id=99), lambda lab: SessionEnded(A)], ids=["closed", "ended"]
)
def test_who_is_gone_holds_nothing_back(lab: NewsLab, end: Any) -> None:
    ids = [lab.submit(GetAttributes(lab.f), session) for session in (B, C)]
    lab.event(end(lab))
    assert [one for one in lab.said() if one[0] in (B, C)] == [(B, ids[0], 0), (C, ids[1], 0)]
    assert lab.ask(GetAttributes(lab.f), B).size == 0


def test_who_yields_has_said_everything(lab: NewsLab) -> None:
    id = lab.submit(GetAttributes(lab.f), B)
    opening = lab.submit(Open(lab.f), C)
    assert lab.said() == [("recall", A)]
    assert (B, id, 5) in lab.tell(A, Publish(lab.f, 5, 1), Yielded(lab.f))
    assert any(isinstance(effect, Reply) and effect.id == opening for effect in lab.effects)
    assert lab.ask(GetAttributes(lab.f), B).size == 5, "contended: the shard knows"


def test_a_time_that_another_sets_outlasts_what_was_written_before_and_not_what_is_written_later(lab: NewsLab) -> None:
    lab.now_ns = 1000
    lab.ask(SetAttributes(lab.f, mtime_ns=5), B)
    lab.tell(B, GetAttributes(lab.f))
    lab.submit(Reported(lab.f, 7, 900), A)
    (answer,) = (one.value for one in lab.effects if isinstance(one, Reply) and one.session == B)
    assert (answer.size, answer.mtime_ns) == (7, 5)
    assert lab.ask(Publish(lab.f, 7, 900, b"content"), A).mtime_ns == 5
    assert lab.ask(Publish(lab.f, 7, 2000, b"changed"), A).mtime_ns == 2000


def test_the_name_may_be_another_files_by_then(lab: NewsLab) -> None:
    id = lab.submit(Lookup(R, b"f"), B)
    other = lab.ask(Create(R, b"other", FILE, 0, 0, hold=True), C).ino
    lab.ask(Rename(R, b"other", R, b"f"), C)
    lab.event(Submitted(A, 0, Reported(lab.f), id=98))
    assert [(effect.session, effect.ino) for effect in lab.effects if isinstance(effect, Report)] == [(C, other)]
    lab.event(Submitted(C, 0, Reported(other), id=99))
    [found] = [effect.value for effect in lab.effects if isinstance(effect, Reply) and effect.id == id]
    assert found.ino == other


def test_it_may_be_gone_by_then(lab: NewsLab) -> None:
    by_number = lab.submit(GetAttributes(lab.f), B)
    by_name = lab.submit(Lookup(R, b"f"), C)
    lab.ask(Unlink(R, b"f"), C)
    lab.event(Submitted(A, 0, Close(lab.f), id=99))
    assert [one for one in lab.said() if one[0] in (B, C)] == [(B, by_number, 0), (C, by_name, None)]
    lab.refused(GetAttributes(lab.f), ENOENT, B)


def test_a_lost_report_is_said_again(lab: NewsLab) -> None:
    id = lab.submit(GetAttributes(lab.f), B)
    lab.event(SessionRestated(A, [Hold(lab.f, 1, True, False, False, False)]))
    assert lab.said() == [("report", A)]
    assert lab.tell(A, Reported(lab.f)) == [(B, id, 0)]


def test_who_comes_back_without_the_file_has_said_everything(lab: NewsLab) -> None:
    id = lab.submit(GetAttributes(lab.f), B)
    lab.event(SessionRestated(A, []))
    assert (B, id, 0) in lab.said()


def test_nobody_is_told_who_has_gone_or_asks_again(lab: NewsLab) -> None:
    lab.submit(GetAttributes(lab.f), B)
    lab.submit(GetAttributes(lab.f), C)
    lab.event(SessionEnded(B))
    lab.event(SessionRestated(C, []))
    again = lab.submit(GetAttributes(lab.f), C)
    assert lab.tell(A, Reported(lab.f)) == [("report", A)], "the report was asked for before the question came again"
    assert lab.tell(A, SetAttributes(lab.f, uid=5), Reported(lab.f)) == [(C, again, 0)]
    assert lab.shard.state.asked_about == {}


def test_who_was_asked_before_he_knew_of_his_file_is_asked_again(lab: NewsLab) -> None:
    """The answer to Create was lost with the connection, and so was what came behind it."""
    create = Create(R, b"g", FILE, 0, 0, hold=True)
    lab.submit(create, A, sequence=1)
    [g] = [ino for ino in lab.shard.state.files if ino != lab.f]
    about, opening = lab.submit(GetAttributes(g), B), lab.submit(Open(g), C)
    lab.event(SessionRestated(A, [Hold(lab.f, 1, True, False, False, False)]))
    again = lab.submit(create, A, sequence=1)
    said = [type(effect) for effect in lab.effects if getattr(effect, "ino", g) == g]
    assert said == [Reply, Recall, Report]
    assert isinstance(lab.effects[0], Reply) and lab.effects[0].id == again
    lab.event(Submitted(A, 0, Reported(g), id=98))
    assert [(effect.session, effect.id) for effect in lab.effects if isinstance(effect, Reply)][-1] == (B, about)
    lab.event(Submitted(A, 0, Yielded(g), id=99))
    assert (C, opening) in [(effect.session, effect.id) for effect in lab.effects if isinstance(effect, Reply)]


def test_who_is_recalled_and_cannot_store_can_still_report(lab: NewsLab) -> None:
    lab.submit(Open(lab.f), C)
    assert lab.said() == [("recall", A)]
    id = lab.submit(GetAttributes(lab.f), B)
    assert lab.said() == [("report", A)]
    assert lab.tell(A, Reported(lab.f, size=9)) == [(B, id, 9)]


@pytest.mark.parametrize("writes", [True, False])
def test_a_writer_that_is_gone_leaves_another_file(lab: NewsLab, writes: bool) -> None:
    """He may have overwritten any of it without a word."""
    lab.tell(A, Close(lab.f))
    lab.ask(Open(lab.f, writes), B)
    before = lab.shard.state.find_inode(lab.f)
    lab.event(SessionEnded(B))
    after = lab.shard.state.find_inode(lab.f)
    assert before is not None and after is not None
    assert (after.ctime_ns != before.ctime_ns) is writes


def test_a_writer_that_is_gone_may_have_left_the_last_time_that_there_is(lab: NewsLab) -> None:
    assert lab.ask(Publish(lab.f, 1, (1 << 63) - 1), A).ctime_ns > lab.now_ns
    lab.event(SessionEnded(A))
    assert lab.ask(GetAttributes(lab.f), B).size == 1
