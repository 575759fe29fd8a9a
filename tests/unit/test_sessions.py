"""Sessions: each request is applied exactly once, and what nobody holds any more goes."""

import errno
from itertools import product

import pytest

from loligo_mds.core import limits
from loligo_mds.core.effects import AppendJournal, Effect, RemoveObjects, Repeat
from loligo_mds.core.events import Event, Hold, SessionEnded, SessionOpened, SessionRestated, ShardRestarted
from loligo_mds.core.requests import (
    Close,
    Create,
    CreateUnnamed,
    GetAttributes,
    Link,
    Lookup,
    Open,
    Publish,
    RecordAccess,
    RemoveDirectory,
    RemoveXattr,
    Rename,
    Request,
    SetAttributes,
    Settle,
    SetXattr,
    Unlink,
    Unsettle,
)
from loligo_mds.core.tables import Table
from loligo_mds.store.journal import MAX_RECORD_BYTES
from loligo_wire.ids import ROOT_INO
from unit.shard_lab import DIRECTORY, FILE, ShardLab, record_bytes, rows

R = int(ROOT_INO)


def stored_replies(lab: ShardLab, session: int = 1) -> list[int]:
    """The sequences that a repetition would be answered for."""
    prefix = session.to_bytes(8)
    return [int.from_bytes(key[8:]) for key, _ in lab.tables.scan(Table.REPLY, prefix) if key.startswith(prefix)]


def changing(lab: ShardLab) -> list[Request]:
    """Every kind of change, in an order in which each is granted; refusals among them."""
    f = lab.make(b"f")
    return [
        Create(R, b"g", FILE, 1, 2, hold=True),
        Create(R, b"g", FILE, 1, 2),
        Create(R, b"d", DIRECTORY, 1, 2),
        SetAttributes(f, mode=0o600),
        RecordAccess(f, 5),
        Link(f, R, b"h"),
        SetXattr(f, b"user.a", b"1"),
        RemoveXattr(f, b"user.a"),
        RemoveXattr(f, b"user.a"),
        Unsettle(f, 9000),
        Publish(f, 9000, 3),
        Settle([f]),
        Rename(R, b"h", R, b"g"),
        Rename(R, b"g", R, b"i"),
        Close(f + 1),
        RemoveDirectory(R, b"d"),
        Unlink(R, b"f"),
        Unlink(R, b"i"),
        Unlink(R, b"i"),
    ]


def test_a_repetition_changes_nothing_and_is_answered_the_same(lab: ShardLab) -> None:
    requests = changing(lab)
    answers = [lab.reply(request, sequence=number) for number, request in enumerate(requests, 1)]
    assert {answer.errno for answer in answers} == {0, errno.EEXIST, errno.ENODATA, errno.ENOENT}
    before = rows(lab.tables)
    for number, (request, answer) in enumerate(zip(requests, answers, strict=True), 1):
        if isinstance(request, Create) and request.hold:  # and closed since
            assert lab.reply(request, sequence=number).errno == errno.EIO
            continue
        assert lab.reply(request, sequence=number) == answer
        assert len(lab.effects) == 1
    assert rows(lab.tables) == before


def test_a_repetition_is_answered_the_same_after_a_crash(lab: ShardLab) -> None:
    requests = changing(lab)
    answers = []
    for number, request in enumerate(requests, 1):
        answers.append(lab.reply(request, sequence=number))
        if not isinstance(request, Close):  # it gives back what a restart would have to be told of again
            lab.restarted()
            lab.event(ShardRestarted(surviving=(1,)))
            holds = [Hold(answers[0].value.ino, 1, writes=True)] if number < 15 else []
            lab.event(SessionRestated(1, holds, acknowledged=number - 1))
        assert lab.reply(request, sequence=number) == answers[-1]


def test_a_repetition_does_not_hold_twice(lab: ShardLab) -> None:
    create = Create(R, b"f", FILE, 1, 2, hold=True)
    ino = lab.reply(create, sequence=1).value.ino
    lab.reply(create, sequence=1)
    lab.reply(Unlink(R, b"f"), sequence=2)
    lab.reply(Close(ino), sequence=3)
    lab.refused(GetAttributes(ino), errno.ENOENT)


def test_an_answer_is_what_it_was_whatever_happened_since(lab: ShardLab) -> None:
    create = Create(R, b"f", FILE, 1, 2)
    answer = lab.reply(create, sequence=1)
    lab.ask(SetAttributes(answer.value.ino, mode=0), session=2)
    assert lab.reply(create, sequence=1) == answer
    lab.ask(Unlink(R, b"f"), session=2)
    assert lab.reply(create, sequence=1) == answer


def test_acknowledged_answers_are_dropped(lab: ShardLab) -> None:
    for number in range(1, 6):
        lab.reply(Create(R, b"f%d" % number, FILE, 1, 2), sequence=number)
    assert stored_replies(lab) == [1, 2, 3, 4, 5]
    lab.reply(Create(R, b"f6", FILE, 1, 2), sequence=6, acknowledged=4)
    assert stored_replies(lab) == [5, 6]
    assert lab.reply(Create(R, b"f2", FILE, 1, 2), sequence=2).errno == errno.EINVAL
    assert lab.reply(Create(R, b"f5", FILE, 1, 2), sequence=5).errno == 0


def test_answers_that_nobody_acknowledges_are_bounded(lab: ShardLab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("loligo_mds.core.sessions.UNACKNOWLEDGED_REPLIES_MAX", 3)
    for number in range(1, 11):
        lab.reply(RecordAccess(R, number), sequence=number)
    assert stored_replies(lab) == [8, 9, 10]


def test_sessions_count_for_themselves(lab: ShardLab) -> None:
    lab.event(SessionOpened(2))
    for session in (1, 2):
        assert lab.reply(Create(R, b"f%d" % session, FILE, 1, 2), session, sequence=1).errno == 0
    lab.reply(RecordAccess(R, 1), session=1, sequence=2, acknowledged=1)
    assert (stored_replies(lab, 1), stored_replies(lab, 2)) == ([2], [1])


def test_a_question_may_carry_any_number(lab: ShardLab) -> None:
    lab.reply(Create(R, b"f", FILE, 1, 2), sequence=5)
    assert lab.reply(Lookup(R, b"f"), sequence=5).errno == 0
    assert stored_replies(lab) == [5]


def test_a_session_without_numbers_leaves_no_rows(lab: ShardLab) -> None:
    lab.make(b"f")
    assert not list(lab.tables.scan(Table.REPLY, b"")) and not list(lab.tables.scan(Table.SESSION, b""))


def test_the_end_of_a_session(lab: ShardLab) -> None:
    lab.event(SessionOpened(2))
    kept = lab.reply(Create(R, b"kept", FILE, 1, 2, hold=True), 2, 1).value.ino
    gone = lab.reply(Create(R, b"gone", FILE, 1, 2, hold=True), 2, 2).value.ino
    lab.ask(Open(gone), session=2)
    lab.ask(Unlink(R, b"gone"))
    lab.event(SessionEnded(2))
    assert lab.ask(GetAttributes(kept)).nlink == 1
    lab.refused(GetAttributes(gone), errno.ENOENT)
    assert not stored_replies(lab, 2)
    lab.event(SessionOpened(2))
    assert lab.reply(Create(R, b"anew", FILE, 1, 2), 2, 1).errno == 0


def test_ending_a_session_that_never_was(lab: ShardLab) -> None:
    lab.make(b"f", hold=True)
    assert lab.event(SessionEnded(9)) == []


def test_a_session_that_opens_again_still_holds(lab: ShardLab) -> None:
    f = lab.make(b"f", hold=True)
    lab.event(SessionOpened(1))
    lab.ask(Unlink(R, b"f"))
    assert lab.ask(GetAttributes(f)).nlink == 0
    lab.event(SessionEnded(1))
    lab.refused(GetAttributes(f), errno.ENOENT)


# -- restarts -------------------------------------------------------------------------------------------------------


def test_a_session_may_acknowledge_any_number(lab: ShardLab) -> None:
    ino = lab.reply(CreateUnnamed(R, FILE, 0, 0), sequence=1).value.ino
    lab.event(SessionRestated(1, [], acknowledged=(1 << 64) - 1))
    lab.refused(GetAttributes(ino), errno.ENOENT)
    assert lab.reply(Create(R, b"f", FILE, 0, 0), sequence=2, acknowledged=(1 << 64) - 1).errno == 0
    assert lab.reply(Create(R, b"g", FILE, 0, 0), sequence=(1 << 64) - 1).errno == 0


def orphan(lab: ShardLab, session: int) -> int:
    ino = lab.reply(Create(R, b"x", FILE, 1, 2, hold=True), session).value.ino
    lab.reply(Unlink(R, b"x"), session)
    return int(ino)


def test_orphans_wait_for_sessions_that_survive(lab: ShardLab) -> None:
    lab.event(SessionOpened(2))
    one, other = orphan(lab, 1), orphan(lab, 2)
    lab.restarted()
    lab.event(ShardRestarted(surviving=(1, 2)))
    lab.event(SessionRestated(1, [Hold(one, 1)]))
    lab.ask(Close(one), session=1)
    for ino in (one, other):
        assert lab.ask(GetAttributes(ino)).nlink == 0, "session 2 may have either open"
    lab.event(SessionRestated(2, [Hold(other, 1)]))
    lab.refused(GetAttributes(one), errno.ENOENT)
    assert lab.ask(GetAttributes(other)).nlink == 0
    lab.ask(Close(other), session=2)
    lab.refused(GetAttributes(other), errno.ENOENT)


def test_the_last_session_that_survived_takes_orphans_along(lab: ShardLab) -> None:
    lab.event(SessionOpened(2))
    one, other = orphan(lab, 1), orphan(lab, 2)
    lab.restarted()
    lab.event(ShardRestarted(surviving=(1, 2)))
    lab.event(SessionEnded(1))
    assert lab.ask(GetAttributes(one)).nlink == 0, "session 2 has not said what it holds"
    lab.event(SessionEnded(2))
    for ino in (one, other):
        lab.refused(GetAttributes(ino), errno.ENOENT)


def test_a_restart_forgets_sessions_that_did_not_survive(lab: ShardLab) -> None:
    for session in (1, 2):
        lab.event(SessionOpened(session))
        lab.reply(RecordAccess(R, 1), session, sequence=1)
    lab.restarted()
    lab.event(ShardRestarted(surviving=(2,)))
    assert (stored_replies(lab, 1), stored_replies(lab, 2)) == ([], [1])
    assert lab.reply(RecordAccess(R, 9), 1, sequence=1).errno == 0
    assert lab.ask(GetAttributes(R)).atime_ns == 9


# -- steps have an end ----------------------------------------------------------------------------------------------


def removed(steps: list[list[Effect]]) -> list[int]:
    return [effect.ino for effects in steps for effect in effects if isinstance(effect, RemoveObjects)]


def orphans_in_objects(lab: ShardLab, count: int, session: int = 1) -> list[int]:
    inos = [orphan(lab, session) for _ in range(count)]
    for ino in inos:
        lab.ask(Publish(ino, 9000, 1), session)
    return inos


@pytest.mark.parametrize("limit", [1, 4, 7])
def test_a_restart_takes_as_many_steps_as_it_needs(lab: ShardLab, monkeypatch: pytest.MonkeyPatch, limit: int) -> None:
    monkeypatch.setattr("loligo_mds.core.sessions.STEP_WRITES_MAX", limit)
    inos = orphans_in_objects(lab, 10)
    for session in (1, 2, 3):
        for number in range(1, 6):
            lab.reply(RecordAccess(R, 1), session, sequence=number)
    lab.restarted()
    steps = lab.whole_event(ShardRestarted())
    assert removed(steps) == inos
    assert len(steps) > 5
    for table in (Table.ORPHAN, Table.SESSION, Table.REPLY):
        assert not list(lab.tables.scan(table, b""))


@pytest.mark.parametrize("limit", [1, 4, 7])
def test_a_crash_between_two_steps_loses_nobody(lab: ShardLab, monkeypatch: pytest.MonkeyPatch, limit: int) -> None:
    monkeypatch.setattr("loligo_mds.core.sessions.STEP_WRITES_MAX", limit)
    inos = orphans_in_objects(lab, 10, session=2)
    for number in range(1, 10):
        lab.reply(RecordAccess(R, 1), session=2, sequence=number)
    steps = []
    event: Event = SessionEnded(2)
    while True:
        steps.append(lab.event(event))
        if not steps[-1] or not isinstance(steps[-1][-1], Repeat):
            break
        lab.restarted()
        event = ShardRestarted()
    assert removed(steps) == inos
    assert not list(lab.tables.scan(Table.REPLY, b"")) and not list(lab.tables.scan(Table.SESSION, b""))


@pytest.mark.parametrize("limit", [1, 4, 7])
def test_the_end_of_a_session_takes_as_many_steps_as_it_needs(
    lab: ShardLab, monkeypatch: pytest.MonkeyPatch, limit: int
) -> None:
    monkeypatch.setattr("loligo_mds.core.sessions.STEP_WRITES_MAX", limit)
    lab.event(SessionOpened(2))
    kept = orphan(lab, 1)
    inos = orphans_in_objects(lab, 10, session=2)
    named = [lab.reply(Create(R, b"f%d" % number, FILE, 1, 2, hold=True), 2).value.ino for number in range(10)]
    for number in range(1, 10):
        lab.reply(RecordAccess(R, 1), session=2, sequence=number)
    steps = lab.whole_event(SessionEnded(2))
    assert sorted(removed(steps)) == inos
    assert len(steps) > 5
    assert not stored_replies(lab, 2)
    assert lab.ask(GetAttributes(kept)).nlink == 0, "session 1 has it open"
    for ino in named:
        lab.refused(Close(ino), errno.ENOENT, session=2)
    lab.ask(Unlink(R, b"f0"))
    lab.refused(GetAttributes(named[0]), errno.ENOENT)


def test_steps_without_a_write_come_to_an_end(lab: ShardLab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("loligo_mds.core.sessions.STEP_WRITES_MAX", 4)
    inos = [lab.make(b"f%d" % number, hold=True) for number in range(10)]
    lab.whole_event(SessionEnded(1))
    for ino in inos:
        lab.refused(Close(ino), errno.ENOENT)


def fill_with_xattrs(lab: ShardLab, ino: int) -> int:
    """As many as there may be, by the shortest names; how many that is. Straight into the tables: they are thousands."""
    lab.ask(SetXattr(ino, b"user.\1", b""))
    count, used = 1, len(b"user.\1") + 1
    for length in (1, 2):
        for letters in product(range(1, 256), repeat=length):
            name = b"user." + bytes(letters)
            if name == b"user.\1":
                continue
            if used + len(name) + 1 > limits.XATTR_LIST_MAX_BYTES:
                lab.refused(SetXattr(ino, name, b""), errno.ENOSPC)
                return count
            write = (Table.XATTR, ino.to_bytes(8) + name, b"")
            lab.tables.put(*write)
            lab.journal.append([write])
            count, used = count + 1, used + len(name) + 1
    raise AssertionError("there are more short names")


def test_the_largest_step_fits_a_record(lab: ShardLab) -> None:
    """The inodes before the last one have long names of xattrs, the last one has as many xattrs as fit."""
    inos = [lab.ask(CreateUnnamed(R, FILE, 1, 2)).ino for _ in range(9)]
    for ino in inos[:-1]:
        for number in range(limits.XATTR_LIST_MAX_BYTES // 256):
            name = b"user.%03d" % number
            lab.ask(SetXattr(ino, name.ljust(limits.XATTR_NAME_MAX_BYTES, b"x"), b""))
    count = fill_with_xattrs(lab, inos[-1])
    assert 8000 < count < 8300
    lab.restarted()
    steps = lab.whole_event(ShardRestarted())
    assert len(steps) == 2
    first = steps[0][0]
    assert isinstance(first, AppendJournal)
    assert len(first.writes) >= limits.STEP_WRITES_MAX
    sizes = [record_bytes(effects[0].writes) for effects in steps if isinstance(effects[0], AppendJournal)]
    assert max(sizes) > 400_000
    assert limits.STEP_WRITES_MAX * 270 + 200_000 < MAX_RECORD_BYTES


def test_one_step_forgets_so_many_answers_and_no_more(lab: ShardLab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("loligo_mds.core.sessions.FORGOTTEN_REPLIES_MAX", 3)
    for number in range(1, 11):
        lab.reply(RecordAccess(R, number), sequence=number)
    left = []
    for number in range(11, 15):
        lab.reply(RecordAccess(R, number), sequence=number, acknowledged=10)
        left.append(stored_replies(lab)[0])
    assert left == [4, 7, 10, 11]
    assert lab.reply(RecordAccess(R, 2), sequence=2).errno == errno.EINVAL


def test_more_inodes_than_one_step_takes_cannot_be_settled(lab: ShardLab) -> None:
    f = lab.make(b"f")
    lab.ask(Unsettle(f, 9000))
    lab.refused(Settle([f] * (limits.SETTLE_MAX + 1)), errno.EINVAL)
    lab.ask(Settle([f] * limits.SETTLE_MAX))
    assert not list(lab.tables.scan(Table.UNSETTLED, b""))
