"""What a writer may hold back, and how others get to hear of it.

A session that has a file open for writing, alone, *owns* it: it may answer its callers before the shard knows what they have
done to the file's size, mode, owner and times. So the shard does not know for sure what such a file is, but it knows whom
to ask.

Invariant: who asks what a file is (`Lookup`, `GetAttributes`) hears of everything that its owner's callers were promised
before the question came. Such questions wait in a *round*: one `Report` to the owner, whose `Reported` comes behind all that
it has held back, and says how long the file is by what it has not stored yet. So a report waits for nothing, least of all for
the object store. Questions that come meanwhile are for the next round. A listing does not wait: it leaves out the attributes
of such files, and whoever wants them asks.

An owner that yields, closes or ends holds nothing back any more: that answers all rounds. One that owes a report for too long
is ended by whoever runs the shard. A contended file has no owner.
After a restart nobody is known to own a file before he has stated that he has it open; until then questions are answered
with what the journal has.

Answers to changes (of another session, by way of a name) say what the shard knows, and wait for nobody.
"""

from collections.abc import Callable
from typing import Any

from loligo_mds.core import inodes, leases, namespace, open_file
from loligo_mds.core.effects import Reply, Report
from loligo_mds.core.open_file import WAITS, OpenFile, Waitable, Waiting, Waits, owner_of
from loligo_mds.core.requests import GetAttributes, Lookup, Reported
from loligo_mds.core.state import InvariantBroken, Refused, ShardState
from loligo_wire.attributes import Attributes, clamp_ns

# -- questions ------------------------------------------------------------------------------------------------------


def lookup(state: ShardState, request: Lookup, now_ns: int) -> Attributes | Waits | None:
    found = namespace.lookup(state, request, now_ns)
    if found is not None and found.ino in state.files and open_file.is_held_back(state, found.ino):
        return _wait(state, found.ino, request)
    return found


def get_attributes(state: ShardState, request: GetAttributes, now_ns: int) -> Attributes | Waits:
    if request.ino in state.files and open_file.is_held_back(state, request.ino):
        return _wait(state, request.ino, request)
    return inodes.get_attributes(state, request, now_ns)


def _wait(state: ShardState, ino: int, request: Waitable) -> Waits:
    """Answered when the owner has reported."""
    file = state.files[ino]
    file.questions.append(Waiting(state.asking, state.asking_id, request))
    state.asked_about[ino] = file
    if not file.reporting:
        _begin_round(state, file)
    return WAITS


# -- rounds ---------------------------------------------------------------------------------------------------------


def _begin_round(state: ShardState, file: OpenFile) -> None:
    owner = owner_of(file)
    if owner is None:
        raise InvariantBroken(f"nobody owns inode {file.ino}, and there are questions about it")
    file.reporting = True
    file.round, file.questions = file.questions, []
    state.notices.append(Report(owner, file.ino))


def reported(state: ShardState, request: Reported, now_ns: int) -> None:
    file = state.files.get(request.ino)
    if file is not None and file.reporting and owner_of(file) == state.asking:
        _end_round(state, file, request)


def owner_changed(state: ShardState, file: OpenFile) -> None:
    """Somebody yielded, closed or ended: if nobody owns the file now, nothing is held back any more."""
    if file.reporting and owner_of(file) is None:
        _end_round(state, file, None)


def _end_round(state: ShardState, file: OpenFile, report: Reported | None) -> None:
    """Answer its questions, and those that came meanwhile if nobody owns the file now."""
    answered, file.round = file.round, []
    file.reporting = False
    if file.questions and owner_of(file) is not None:
        _begin_round(state, file)
    else:
        answered += file.questions
        file.questions = []
        del state.asked_about[file.ino]
    for question in answered:
        _answer(state, file.ino, question, report)


#: What the shard knows. No clock is read.
_LOOK: dict[type, Callable[[ShardState, Any, int], Attributes | None]] = {
    Lookup: namespace.lookup,
    GetAttributes: inodes.get_attributes,
}


def _answer(state: ShardState, ino: int, question: Waiting, report: Reported | None) -> None:
    reporter = state.asking
    state.asking = question.session
    errno, found = 0, None
    try:
        found = _LOOK[type(question.request)](state, question.request, 0)
    except Refused as refused:
        errno = refused.errno
    if found is not None and found.ino != ino and open_file.is_held_back(state, found.ino):
        # The name is another file's by now.
        state.asking_id = question.id
        _wait(state, found.ino, question.request)
    else:
        if errno:
            reply = Reply(question.session, question.id, None, errno)
        else:
            reply = leases.answer(state, question.session, question.id, question.request, found)
        if found is not None and found.ino == ino and report is not None:
            reply.value = _with_report(found, report, state.files[ino])
        state.notices.append(reply)
    state.asking = reporter


def _with_report(stored: Attributes, report: Reported, file: OpenFile) -> Attributes:
    """What the file is, with what its owner has not published."""
    if report.size is None:
        return stored
    found = stored.copy()
    found.size = report.size
    if report.mtime_ns is not None and report.mtime_ns > file.mtime_set_ns:
        found.mtime_ns = clamp_ns(report.mtime_ns)
        found.ctime_ns = max(found.ctime_ns, found.mtime_ns)
    return found


def restated(state: ShardState, session: int, ino: int) -> None:
    """The session has come back and said how it has the file open: a Report, or its answer, may have been lost."""
    file = state.files.get(ino)
    if file is None or not file.reporting:
        return
    owner_changed(state, file)
    if file.reporting and owner_of(file) == session:
        state.notices.append(Report(session, ino))


def owes_report(state: ShardState, session: int, ino: int) -> bool:
    file = state.asked_about.get(ino)
    return file is not None and file.reporting and owner_of(file) == session


def stop_waiting(state: ShardState, session: int) -> None:
    """Nobody wants to hear the answers that the session waits for. The round goes on: its Reported may be on the way."""
    for file in state.asked_about.values():
        file.questions = [question for question in file.questions if question.session != session]
        file.round = [question for question in file.round if question.session != session]
