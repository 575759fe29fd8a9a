"""Files that several sessions have open: who is recalled, who waits, who may do what. `ShardLab` checks every step."""

import errno

import pytest

from loligo_mds.core.effects import AppendJournal, Recall, RemoveObjects, RepairObjects, Repeat, Reply, Resume
from loligo_mds.core.events import Hold, Repaired, SessionEnded, SessionOpened, SessionRestated, ShardRestarted
from loligo_mds.core.requests import (
    Claim,
    Close,
    Create,
    CreateUnnamed,
    GetAttributes,
    ListUnsettled,
    Lookup,
    Open,
    Opened,
    Publish,
    ReadInline,
    Release,
    SetAttributes,
    Settle,
    Unlink,
    Unsettle,
    Yielded,
)
from loligo_mds.core.tables import Table
from loligo_wire.ids import ROOT_INO
from unit.shard_lab import DIRECTORY, FILE, ShardLab

R = int(ROOT_INO)
A, B, C = 1, 2, 3


class OpensLab(ShardLab):
    """Three sessions and a file."""

    def __init__(self) -> None:
        super().__init__()
        for session in (A, B, C):
            self.event(SessionOpened(session, b"client %d" % session))
        self.f = self.make(b"f")

    def notices(self) -> list[object]:
        """What the last step said, attributes left out."""
        said: list[object] = []
        for effect in self.effects:
            if isinstance(effect, Recall):
                said.append(("recall", effect.session))
            elif isinstance(effect, Resume):
                assert effect.attributes == self.shard.state.find_inode(self.f)
                said.append(("resume", effect.session))
            elif isinstance(effect, Reply):
                value = effect.value.contended if isinstance(effect.value, Opened) else effect.value
                said.append((effect.session, effect.id, effect.errno or value))
            elif isinstance(effect, RepairObjects):
                said.append(("repair", effect.ino))
            else:
                assert isinstance(effect, AppendJournal | RemoveObjects | Repeat)
        return said

    def opened(self, session: int, writes: bool) -> bool:
        """Whether it is told that the file is contended."""
        answer = self.ask(Open(self.f, writes), session)
        assert isinstance(answer, Opened) and answer.attributes.ino == self.f
        return answer.contended

    def contended(self, *sessions: int) -> None:
        """All of them have the file open, and write."""
        for session in sessions:
            self.patient_reply(Open(self.f, True), session)
        assert self.shard.state.files[self.f].contended

    def claimed(self, session: int) -> None:
        assert self.patient_reply(Claim(self.f), session).errno == 0


@pytest.fixture
def lab() -> OpensLab:
    return OpensLab()


# -- opening --------------------------------------------------------------------------------------------------------


def test_readers_need_no_rules(lab: OpensLab) -> None:
    assert [lab.opened(session, False) for session in (A, B, C)] == [False] * 3
    assert [lab.opened(session, False) for session in (A, B, C)] == [False] * 3


def test_one_session_may_open_as_it_likes(lab: OpensLab) -> None:
    assert [lab.opened(A, writes) for writes in (False, True, False, True)] == [False] * 4
    lab.ask(Publish(lab.f, 3, 1, b"abc"), A)
    lab.ask(SetAttributes(lab.f, size=2), A)


def test_what_cannot_be_opened(lab: OpensLab) -> None:
    lab.refused(Open(lab.make(b"d", DIRECTORY)), errno.EISDIR)
    lab.refused(Open(999), errno.ENOENT)
    lab.refused(Claim(lab.f), errno.ENOENT)
    lab.refused(Close(lab.f), errno.ENOENT)


def test_a_writer_waits_until_readers_have_yielded(lab: OpensLab) -> None:
    lab.opened(A, False)
    lab.opened(B, False)
    waits = lab.submit(Open(lab.f, True), C)
    assert lab.notices() == [("recall", A), ("recall", B)]
    yielded = lab.submit(Yielded(lab.f), A)
    assert lab.notices() == [(A, yielded, None)]
    yielded = lab.submit(Yielded(lab.f), B)
    assert lab.notices() == [(B, yielded, None), (C, waits, True), ("resume", A), ("resume", B)]


def test_a_reader_waits_until_the_writer_has_yielded(lab: OpensLab) -> None:
    lab.opened(A, True)
    lab.submit(Open(lab.f), B)
    assert lab.notices() == [("recall", A)]
    lab.ask(Publish(lab.f, 3, 1, b"abc"), A)
    lab.submit(Yielded(lab.f), A)
    (opened,) = (effect for effect in lab.effects if isinstance(effect, Reply) and effect.session == B)
    assert opened.value.contended and opened.value.attributes.size == 3


def test_a_created_file_is_open_for_writing(lab: OpensLab) -> None:
    lab.f = lab.ask(Create(R, b"g", FILE, 0, 0, hold=True), A).ino
    lab.submit(Open(lab.f), B)
    assert lab.notices() == [("recall", A)]


def test_a_reader_that_becomes_a_writer_waits_for_the_others(lab: OpensLab) -> None:
    lab.opened(A, False)
    lab.opened(B, False)
    waits = lab.submit(Open(lab.f, True), A)
    assert lab.notices() == [("recall", B)]
    lab.submit(Yielded(lab.f), B)
    assert lab.notices()[1:] == [(A, waits, True), ("resume", B)]


def test_a_contended_file_is_opened_at_once_until_nobody_has_it(lab: OpensLab) -> None:
    lab.contended(A, B)
    assert lab.opened(C, False) and lab.opened(A, True)
    lab.ask(Close(lab.f, 2), A)
    lab.ask(Close(lab.f), B)
    assert lab.opened(C, True), "somebody has had it open all the time"
    lab.ask(Close(lab.f, 2), C)
    assert not lab.opened(B, True)


def test_a_close_is_as_good_as_a_yield(lab: OpensLab) -> None:
    lab.opened(A, True)
    waits = lab.submit(Open(lab.f, True), B)
    close = lab.submit(Close(lab.f), A)
    assert lab.notices() == [(A, close, None), (B, waits, False)]
    assert lab.notices() and lab.reply(Yielded(lab.f), A).errno == 0, "it was on its way"


def test_opens_wait_in_line(lab: OpensLab) -> None:
    lab.opened(A, True)
    one = lab.submit(Open(lab.f), B)
    other = lab.submit(Open(lab.f), C)
    assert lab.notices() == []
    lab.submit(Yielded(lab.f), A)
    assert lab.notices()[1:] == [(B, one, True), (C, other, True), ("resume", A)]


def test_who_yields_unasked_is_told_to_go_on(lab: OpensLab) -> None:
    """A Resume may have been lost with a connection."""
    lab.contended(A, B)
    yielded = lab.submit(Yielded(lab.f), A)
    assert lab.notices() == [(A, yielded, None), ("resume", A)]


def test_counts(lab: OpensLab) -> None:
    for _ in range(3):
        lab.opened(A, True)
    lab.ask(Unlink(R, b"f"))
    lab.ask(Close(lab.f, 2))
    assert lab.ask(GetAttributes(lab.f)).nlink == 0
    lab.ask(Close(lab.f, 5))
    lab.refused(GetAttributes(lab.f), errno.ENOENT)


def test_a_file_without_a_name_is_kept_for_those_who_wait_for_it(lab: OpensLab) -> None:
    lab.opened(A, True)
    waits = lab.submit(Open(lab.f), B)
    lab.ask(Unlink(R, b"f"))
    close = lab.submit(Close(lab.f), A)
    assert lab.notices() == [(A, close, None), (B, waits, False)]
    assert lab.ask(GetAttributes(lab.f)).nlink == 0
    lab.ask(Close(lab.f), B)
    lab.refused(GetAttributes(lab.f), errno.ENOENT)


# -- claims ---------------------------------------------------------------------------------------------------------


def test_a_claim_is_granted_when_all_others_are_quiet(lab: OpensLab) -> None:
    lab.contended(A, B, C)
    waits = lab.submit(Claim(lab.f), A)
    assert lab.notices() == [("recall", B), ("recall", C)]
    lab.submit(Yielded(lab.f), B)
    lab.submit(Yielded(lab.f), C)
    assert lab.notices()[1:] == [(A, waits, lab.ask(GetAttributes(lab.f)))]
    lab.ask(SetAttributes(lab.f, size=0), A)
    release = lab.submit(Release(lab.f), A)
    assert lab.notices() == [(A, release, None), ("resume", B), ("resume", C)]


def test_claims_are_granted_one_after_the_other(lab: OpensLab) -> None:
    lab.contended(A, B, C)
    lab.claimed(A)
    waits = lab.submit(Claim(lab.f), B)
    assert lab.notices() == []
    lab.submit(Release(lab.f), A)
    assert lab.notices()[1:] == [("resume", B), ("resume", C), ("recall", A), ("recall", C)]
    lab.submit(Yielded(lab.f), C)
    lab.submit(Yielded(lab.f), A)
    assert lab.notices()[1:] == [(B, waits, lab.ask(GetAttributes(lab.f)))]


def test_opens_wait_for_a_claim(lab: OpensLab) -> None:
    lab.contended(A, B)
    lab.claimed(A)
    waits = lab.submit(Open(lab.f), C)
    assert lab.notices() == []
    lab.submit(Release(lab.f), A)
    assert lab.notices()[1:] == [("resume", B), (C, waits, True)]


def test_a_release_without_a_claim_does_nothing(lab: OpensLab) -> None:
    lab.contended(A, B)
    lab.claimed(A)
    lab.ask(Release(lab.f), B)
    lab.ask(Release(999), B)
    lab.refused(SetAttributes(lab.f, size=0), errno.EINVAL, B)


def test_a_claim_ends_with_the_last_close(lab: OpensLab) -> None:
    lab.contended(A, B)
    lab.claimed(A)
    close = lab.submit(Close(lab.f), A)
    assert lab.notices() == [(A, close, None), ("resume", B)]


def test_a_file_that_waits_for_a_claim_to_end_is_contended_no_more(lab: OpensLab) -> None:
    lab.contended(A, B)
    lab.ask(Close(lab.f), B)
    lab.claimed(A)
    waits = lab.submit(Open(lab.f, True), C)
    close = lab.submit(Close(lab.f), A)
    assert lab.notices() == [(A, close, None), (C, waits, False)]


def test_a_claim_of_what_was_closed_meanwhile_is_refused(lab: OpensLab) -> None:
    lab.contended(A, B)
    waits = lab.submit(Claim(lab.f), A)
    lab.ask(Close(lab.f), A)
    assert (A, waits, errno.EINVAL) in lab.notices()
    yielded = lab.submit(Yielded(lab.f), B)
    assert lab.notices() == [(B, yielded, None), ("resume", B)]


def test_a_claim_waits_until_its_own_session_has_yielded(lab: OpensLab) -> None:
    """Were it granted before, the Yielded under way would be of no meaning."""
    lab.contended(A, B)
    lab.submit(Claim(lab.f), A)
    waits = lab.submit(Claim(lab.f), B)
    lab.event(SessionEnded(A))
    assert lab.notices() == [("recall", A)], "who is gone hears nothing"
    yielded = lab.submit(Yielded(lab.f), B)
    assert lab.notices() == [(B, yielded, None), ("resume", B), (B, waits, lab.ask(GetAttributes(lab.f)))]


# -- what is refused ------------------------------------------------------------------------------------------------


def test_what_a_contended_file_allows(lab: OpensLab) -> None:
    lab.contended(A, B)
    lab.ask(Unsettle(lab.f, 9000), B)
    lab.ask(Publish(lab.f, 9000, 1), B)
    lab.ask(SetAttributes(lab.f, mode=0o600), C)
    for session in (A, B, C):
        lab.refused(SetAttributes(lab.f, size=0), errno.EINVAL, session)
        lab.refused(Publish(lab.f, 3, 1, b"abc"), errno.EINVAL, session)
    lab.claimed(A)
    lab.refused(Publish(lab.f, 9000, 1), errno.EINVAL, B)
    lab.ask(SetAttributes(lab.f, size=0), A)
    lab.ask(Publish(lab.f, 3, 1, b"abc"), A)
    lab.ask(Release(lab.f), A)
    lab.refused(Publish(lab.f, 9000, 1), errno.EINVAL, B)


def test_what_others_write_is_not_for_those_who_have_not_opened_it(lab: OpensLab) -> None:
    lab.opened(A, False)
    lab.ask(SetAttributes(lab.f, size=5), B)
    lab.opened(A, True)
    lab.refused(SetAttributes(lab.f, size=0), errno.EINVAL, B)
    lab.refused(Publish(lab.f, 3, 1, b"abc"), errno.EINVAL, B)


def test_who_has_yielded_changes_nothing(lab: OpensLab) -> None:
    lab.opened(A, False)
    lab.opened(B, False)
    lab.submit(Open(lab.f, True), C)
    lab.ask(SetAttributes(lab.f, size=3), A)
    lab.ask(Yielded(lab.f), A)
    lab.refused(SetAttributes(lab.f, size=0), errno.EINVAL, A)
    lab.refused(Publish(lab.f, 9000, 1), errno.EINVAL, A)


def test_published_objects_never_shrink_a_file(lab: OpensLab) -> None:
    lab.contended(A, B)
    lab.ask(Publish(lab.f, 9000, 1), A)
    assert lab.ask(Publish(lab.f, 5000, 2), B).size == 9000
    assert lab.ask(GetAttributes(lab.f)).mtime_ns == 2


def test_inline_content_can_shrink_and_what_follows_in_objects_cannot(lab: OpensLab) -> None:
    lab.opened(A, True)
    lab.ask(Publish(lab.f, 5, 1, b"abcde"))
    assert lab.ask(Publish(lab.f, 3, 1, b"abc")).size == 3
    assert lab.ask(Publish(lab.f, 1, 1)).size == 3
    lab.refused(ReadInline(lab.f), errno.ENOENT)


def rows_in_doubt(lab: OpensLab) -> list[int]:
    return [row[0] for row in lab.ask(ListUnsettled(0, 10))]


def test_settle_skips_what_others_write(lab: OpensLab) -> None:
    lab.contended(A, B)
    lab.ask(Unsettle(lab.f, 9000))
    lab.ask(Settle([lab.f]), A)
    assert rows_in_doubt(lab) == [lab.f]
    lab.ask(Close(lab.f), B)
    lab.ask(Settle([lab.f]), C)
    assert rows_in_doubt(lab) == [lab.f], "A writes"
    lab.ask(Settle([lab.f]), A)
    assert rows_in_doubt(lab) == []


def test_settle_skips_what_others_have_claimed(lab: OpensLab) -> None:
    lab.contended(A, B)
    lab.claimed(B)
    lab.ask(Unsettle(lab.f, 9000), B)
    lab.ask(Settle([lab.f]), A)
    assert rows_in_doubt(lab) == [lab.f]
    lab.ask(Settle([lab.f]), B)
    assert rows_in_doubt(lab) == []


def test_clients_cannot_settle_inodes_that_are_gone(lab: OpensLab) -> None:
    lab.ask(Publish(lab.f, 9000, 1))
    lab.ask(Unlink(R, b"f"))
    lab.ask(Settle([lab.f]), A)
    assert rows_in_doubt(lab) == [lab.f]
    lab.ask(Settle([lab.f]), 0)
    assert rows_in_doubt(lab) == []


# -- ends and repairs -----------------------------------------------------------------------------------------------


def test_a_writer_that_ends_leaves_a_file_to_repair(lab: OpensLab) -> None:
    lab.contended(A, B)
    lab.ask(Unsettle(lab.f, 9000), A)
    lab.event(SessionEnded(A))
    assert lab.notices() == [("recall", B)]
    waits = lab.submit(Open(lab.f), C)
    assert lab.notices() == []
    yielded = lab.submit(Yielded(lab.f), B)
    assert lab.notices() == [("repair", lab.f), (B, yielded, None)]
    lab.refused(SetAttributes(lab.f, size=0), errno.EINVAL, B)
    lab.ask(SetAttributes(lab.f, size=1), 0)
    lab.ask(Settle([lab.f]), 0)
    lab.event(Repaired(lab.f))
    assert lab.notices() == [(C, waits, True), ("resume", B)]


def test_a_writer_that_ends_with_nobody_else_leaves_a_file_to_repair(lab: OpensLab) -> None:
    lab.opened(A, True)
    lab.ask(Unsettle(lab.f, 9000), A)
    lab.event(SessionEnded(A))
    assert lab.notices() == [("repair", lab.f)]
    waits = lab.submit(Open(lab.f, True), B)
    lab.ask(Settle([lab.f]), C)
    assert rows_in_doubt(lab) == [lab.f]
    lab.event(Repaired(lab.f))
    assert lab.notices() == [(B, waits, False)]


@pytest.mark.parametrize("unsettle", [True, False])
def test_a_reader_that_ends_leaves_nothing_to_repair(lab: OpensLab, unsettle: bool) -> None:
    lab.opened(A, not unsettle)
    if unsettle:
        lab.ask(Unsettle(lab.f, 9000), B)
    lab.event(SessionEnded(A))
    assert lab.notices() == []
    assert not lab.shard.state.files


def test_who_ends_with_a_claim_leaves_a_file_to_repair(lab: OpensLab) -> None:
    lab.contended(A, B)
    lab.claimed(A)
    lab.event(SessionEnded(A))
    assert lab.notices() == [("repair", lab.f)]
    lab.event(Repaired(lab.f))
    assert lab.notices() == [("resume", B)]


def test_a_file_that_goes_with_its_writer_needs_no_repair(lab: OpensLab) -> None:
    lab.opened(A, True)
    lab.ask(Unsettle(lab.f, 9000), A)
    lab.ask(Unlink(R, b"f"))
    lab.event(SessionEnded(A))
    assert lab.notices() == []
    assert [effect.ino for effect in lab.removals()] == [lab.f]


def test_a_file_that_is_unlinked_during_its_repair_goes_afterwards(lab: OpensLab) -> None:
    lab.opened(A, True)
    lab.ask(Unsettle(lab.f, 9000), A)
    lab.event(SessionEnded(A))
    lab.ask(Unlink(R, b"f"))
    assert lab.removals() == []
    lab.event(Repaired(lab.f))
    assert [effect.ino for effect in lab.removals()] == [lab.f]


def test_a_session_that_is_recalled_and_ends_has_yielded(lab: OpensLab) -> None:
    lab.opened(A, True)
    waits = lab.submit(Open(lab.f), B)
    lab.event(SessionEnded(A))
    assert lab.notices() == [(B, waits, False)]


def test_what_a_session_waits_for_ends_with_it(lab: OpensLab) -> None:
    lab.opened(A, True)
    lab.submit(Open(lab.f), B)
    lab.event(SessionEnded(B))
    yielded = lab.submit(Yielded(lab.f), A)
    assert lab.notices() == [(A, yielded, None), ("resume", A)]
    lab.refused(SetAttributes(lab.f, size=0), errno.EINVAL, A)
    lab.ask(Claim(lab.f), A)
    lab.ask(SetAttributes(lab.f, size=0), A)


def test_a_repair_that_nobody_asked_for(lab: OpensLab) -> None:
    lab.contended(A, B)
    lab.claimed(A)
    assert lab.event(Repaired(lab.f)) == []
    assert lab.event(Repaired(999)) == []
    lab.ask(SetAttributes(lab.f, size=0), A)


# -- coming back ----------------------------------------------------------------------------------------------------


def test_a_recall_is_sent_again_to_a_session_that_comes_back(lab: OpensLab) -> None:
    lab.opened(A, True)
    waits = lab.submit(Open(lab.f), B)
    lab.event(SessionRestated(A, [Hold(lab.f, 1, writes=True)]))
    assert lab.notices() == [("recall", A)]
    yielded = lab.submit(Yielded(lab.f), A)
    assert lab.notices() == [(A, yielded, None), (B, waits, True), ("resume", A)]


def test_a_resume_is_sent_again_to_a_session_that_comes_back_quiet(lab: OpensLab) -> None:
    lab.contended(A, B)
    lab.event(SessionRestated(A, [Hold(lab.f, 1, writes=True, quiet=True)]))
    assert lab.notices() == [("resume", A)]


def test_a_session_that_comes_back_quiet_need_not_be_recalled(lab: OpensLab) -> None:
    lab.contended(A, B)
    waits = lab.submit(Claim(lab.f), B)
    lab.event(SessionRestated(A, [Hold(lab.f, 1, writes=True, quiet=True)]))
    assert lab.notices() == [(B, waits, lab.ask(GetAttributes(lab.f)))]


def test_a_yield_whose_answer_was_lost_still_counts(lab: OpensLab) -> None:
    lab.contended(A, B)
    lab.claimed(B)
    lab.event(SessionRestated(A, [Hold(lab.f, 1, writes=True, contended=True)]))
    assert lab.notices() == []
    lab.refused(Publish(lab.f, 9000, 1), errno.EINVAL, A)
    lab.submit(Release(lab.f), B)
    assert lab.notices()[1:] == [("resume", A)]


def test_what_waited_is_forgotten_when_its_session_comes_back(lab: OpensLab) -> None:
    lab.opened(A, True)
    lab.submit(Open(lab.f), B)
    lab.event(SessionRestated(B, []))
    yielded = lab.submit(Yielded(lab.f), A)
    assert lab.notices() == [(A, yielded, None), ("resume", A)]


def test_what_is_not_stated_is_let_go(lab: OpensLab) -> None:
    lab.opened(A, True)
    other = lab.make(b"other", hold=True)
    lab.ask(Unlink(R, b"f"))
    lab.event(SessionRestated(A, [], complete=False))
    assert lab.ask(GetAttributes(lab.f)).nlink == 0
    lab.event(SessionRestated(A, [Hold(other, 2, writes=True)], first=False))
    lab.refused(GetAttributes(lab.f), errno.ENOENT)
    lab.ask(Close(other))
    lab.ask(Close(other))
    lab.refused(Close(other), errno.ENOENT)


def test_holds_that_make_no_sense_are_passed_over(lab: OpensLab) -> None:
    d = lab.make(b"d", DIRECTORY)
    lab.event(SessionRestated(A, [Hold(999, 1), Hold(d, 1), Hold(lab.f, 0)]))
    assert not lab.shard.state.files


def test_who_yields_after_he_got_a_claim_is_resumed_at_once(lab: OpensLab) -> None:
    """It was recalled, came back while it still stored what it had, and its claim was granted meanwhile."""
    lab.contended(A, B)
    lab.submit(Claim(lab.f), B)
    assert lab.notices() == [("recall", A)]
    lab.event(SessionEnded(B))
    lab.event(SessionRestated(A, [Hold(lab.f, 1, True, True)]))
    lab.ask(Yielded(lab.f), A)
    lab.claimed(A)
    lab.submit(Yielded(lab.f), A)
    assert ("resume", A) in lab.notices()
    assert lab.reply(SetAttributes(lab.f, size=7), A).errno == 0


@pytest.mark.parametrize("restart", [True, False])
def test_who_comes_back_quiet_with_a_claim_is_resumed(lab: OpensLab, restart: bool) -> None:
    lab.contended(A, B)
    lab.claimed(A)
    if restart:
        restarted(lab, A, B)
        lab.event(SessionRestated(B, [Hold(lab.f, 1, True, True, quiet=True)]))
    lab.event(SessionRestated(A, [Hold(lab.f, 1, True, True, claimed=True, quiet=True)]))
    assert lab.notices()[0] == ("resume", A)
    assert lab.reply(SetAttributes(lab.f, size=7), A).errno == 0
    lab.ask(Release(lab.f), A)
    assert lab.notices()[-1] == ("resume", B)


def test_a_claim_that_was_never_granted_is_not_believed(lab: OpensLab) -> None:
    lab.contended(A, B)
    lab.event(SessionRestated(A, [Hold(lab.f, 1, writes=True, contended=True, claimed=True)]))
    lab.refused(SetAttributes(lab.f, size=0), errno.EINVAL, A)


def test_a_hold_that_nobody_knew_of_is_told_to_the_others(lab: OpensLab) -> None:
    lab.opened(A, True)
    lab.event(SessionRestated(B, [Hold(lab.f, 1, writes=True)]))
    assert sorted(map(str, lab.notices())) == sorted([str(("recall", A)), str(("recall", B))])
    lab.comply()
    lab.refused(SetAttributes(lab.f, size=0), errno.EINVAL, A)


# -- restarts -------------------------------------------------------------------------------------------------------


def restarted(lab: OpensLab, *surviving: int) -> None:
    lab.restarted()
    lab.event(ShardRestarted(surviving))


def test_nothing_is_opened_before_all_have_come_back(lab: OpensLab) -> None:
    lab.opened(A, True)
    restarted(lab, A, B, C)
    lab.event(SessionRestated(B, []))
    waits = lab.submit(Open(lab.f), B)
    lab.event(SessionRestated(A, [Hold(lab.f, 1, writes=True)]))
    assert lab.notices() == []
    lab.event(SessionEnded(C))
    assert lab.notices() == [("recall", A)]
    lab.submit(Yielded(lab.f), A)
    assert (B, waits, True) in lab.notices()


def test_new_files_and_what_nobody_else_can_have_open_do_not_wait(lab: OpensLab) -> None:
    lab.opened(A, True)
    restarted(lab, A, B)
    lab.event(SessionRestated(A, [Hold(lab.f, 1, writes=True)]))
    assert not lab.opened(A, False)
    lab.f = lab.ask(Create(R, b"new", FILE, 0, 0), A).ino
    assert not lab.opened(A, True)


def test_names_can_go_while_somebody_may_have_the_file_open(lab: OpensLab) -> None:
    lab.opened(A, True)
    restarted(lab, A, B)
    lab.event(SessionRestated(B, []))
    lab.ask(Unlink(R, b"f"), B)
    assert lab.ask(GetAttributes(lab.f)).nlink == 0
    lab.event(SessionRestated(A, [Hold(lab.f, 1, writes=True)]))
    assert lab.ask(GetAttributes(lab.f)).nlink == 0
    lab.ask(Close(lab.f), A)
    lab.refused(GetAttributes(lab.f), errno.ENOENT)


def test_a_claim_survives_a_restart(lab: OpensLab) -> None:
    lab.contended(A, B)
    lab.claimed(A)
    lab.ask(Unsettle(lab.f, 9000), A)
    restarted(lab, A, B)
    lab.event(SessionRestated(B, [Hold(lab.f, 1, writes=True, contended=True, quiet=True)]))
    lab.event(SessionRestated(A, [Hold(lab.f, 1, writes=True, contended=True, claimed=True)]))
    assert lab.notices() == []
    lab.ask(SetAttributes(lab.f, size=0), A)
    lab.submit(Release(lab.f), A)
    assert lab.notices()[1:] == [("resume", B)]


def test_nobody_is_resumed_before_all_have_come_back(lab: OpensLab) -> None:
    lab.contended(A, B)
    lab.claimed(A)
    restarted(lab, A, B)
    lab.event(SessionRestated(B, [Hold(lab.f, 1, writes=True, contended=True, quiet=True)]))
    lab.ask(Yielded(lab.f), B)
    assert len(lab.notices()) == 1
    lab.event(SessionRestated(A, [Hold(lab.f, 1, writes=True, contended=True, claimed=True)]))
    assert lab.notices() == []


def test_nothing_is_repaired_before_all_have_come_back(lab: OpensLab) -> None:
    lab.contended(A, B)
    lab.ask(Unsettle(lab.f, 9000), A)
    restarted(lab, A, B)
    lab.event(SessionRestated(A, [Hold(lab.f, 1, writes=True, contended=True)]))
    lab.event(SessionEnded(A))
    assert lab.notices() == []
    lab.event(SessionRestated(B, [Hold(lab.f, 1, writes=True, contended=True)]))
    assert lab.notices() == [("recall", B)]
    lab.submit(Yielded(lab.f), B)
    assert lab.notices()[0] == ("repair", lab.f)


def test_sessions_that_do_not_know_of_each_other_are_told(lab: OpensLab) -> None:
    restarted(lab, A, B)
    for session in (A, B):
        lab.event(SessionRestated(session, [Hold(lab.f, 1, writes=session == A)]))
    assert lab.notices() == [("recall", A), ("recall", B)]
    lab.submit(Yielded(lab.f), A)
    assert lab.notices()[1:] == [("resume", A)]
    lab.refused(SetAttributes(lab.f, size=0), errno.EINVAL, A)


def test_who_is_quiet_for_a_claim_that_was_lost_is_resumed(lab: OpensLab) -> None:
    lab.contended(A, B)
    lab.claimed(A)
    restarted(lab, B)
    lab.event(SessionRestated(B, [Hold(lab.f, 1, writes=True, contended=True, quiet=True)]))
    assert lab.notices() == [("resume", B)]


def test_who_is_quiet_for_a_claim_that_was_lost_is_resumed_after_the_repair(lab: OpensLab) -> None:
    lab.contended(A, B)
    lab.claimed(A)
    lab.ask(Unsettle(lab.f, 9000), A)
    restarted(lab, B)
    lab.event(SessionRestated(B, [Hold(lab.f, 1, writes=True, contended=True, quiet=True)]))
    assert lab.notices() == [("repair", lab.f)]
    lab.event(Repaired(lab.f))
    assert lab.notices() == [("resume", B)]


def test_files_in_doubt_without_a_writer_are_repaired(lab: OpensLab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("loligo_mds.core.sessions.STEP_WRITES_MAX", 2)
    files = [lab.make(b"f%d" % number) for number in range(7)]
    for ino in files:
        lab.ask(Unsettle(ino, 9000))
    lab.ask(Unlink(R, b"f6"))
    restarted(lab, A, B)
    assert lab.notices() == []
    lab.whole_event(SessionRestated(A, [Hold(files[0], 1, writes=True), Hold(files[1], 1)]))
    said = []
    for step in lab.whole_event(SessionEnded(B)):
        lab.effects = step
        said += lab.notices()
    assert sorted(map(str, said)) == sorted([str(("recall", A)), *(str(("repair", ino)) for ino in files[2:6])]), (
        "the first has a writer, the second a reader to recall, the last is gone"
    )
    assert lab.ask(Open(files[0], True), A).contended is False


def test_without_survivors_whoever_starts_looks_at_files_in_doubt(lab: OpensLab) -> None:
    lab.ask(Unsettle(lab.f, 9000))
    restarted(lab)
    assert lab.notices() == []
    assert not lab.opened(A, True)


def test_a_release_whose_answer_was_lost(lab: OpensLab) -> None:
    """B has the claim already; A says that it has it, and releases it once more."""
    lab.contended(A, B)
    restarted(lab, A, B)
    lab.event(SessionRestated(A, [Hold(lab.f, 1, writes=True, contended=True, claimed=True)]))
    lab.event(SessionRestated(B, [Hold(lab.f, 1, writes=True, contended=True, claimed=True)]))
    lab.ask(SetAttributes(lab.f, size=0), B)
    lab.ask(Release(lab.f), A)
    lab.ask(Yielded(lab.f), A)
    lab.refused(SetAttributes(lab.f, size=0), errno.EINVAL, A)
    lab.submit(Release(lab.f), B)
    assert lab.notices()[1:] == [("resume", A)]


# -- answers that were lost -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("restart", [True, False])
@pytest.mark.parametrize("named", [True, False])
def test_a_file_that_was_made_is_open_when_the_request_comes_again(lab: OpensLab, named: bool, restart: bool) -> None:
    request = Create(R, b"g", FILE, 0, 0, hold=True) if named else CreateUnnamed(R, FILE, 0, 0)
    answer = lab.reply(request, A, sequence=1)
    if restart:
        restarted(lab, A)
    lab.event(SessionRestated(A, []))
    assert lab.reply(request, A, sequence=1) == answer
    ino = answer.value.ino
    if named:
        lab.ask(Unlink(R, b"g"), B)
    assert lab.ask(GetAttributes(ino)).nlink == 0
    lab.reply(Close(ino), A, sequence=2, acknowledged=1)
    lab.refused(GetAttributes(ino), errno.ENOENT)


def test_a_file_that_was_made_is_let_go_when_the_request_does_not_come_again(lab: OpensLab) -> None:
    ino = lab.reply(CreateUnnamed(R, FILE, 0, 0), A, sequence=1).value.ino
    lab.event(SessionRestated(A, []))
    assert lab.ask(GetAttributes(ino)).nlink == 0
    lab.reply(SetAttributes(lab.f, mode=0o600), A, sequence=2, acknowledged=1)
    lab.refused(GetAttributes(ino), errno.ENOENT)


@pytest.mark.parametrize("restart", [True, False])
def test_an_answer_that_arrived_promises_nothing(lab: OpensLab, restart: bool) -> None:
    ino = lab.reply(CreateUnnamed(R, FILE, 0, 0), A, sequence=1).value.ino
    if restart:
        restarted(lab, A)
    lab.event(SessionRestated(A, [], acknowledged=1))
    lab.refused(GetAttributes(ino), errno.ENOENT)


def test_a_promised_open_that_is_closed_is_promised_no_more(lab: OpensLab) -> None:
    ino = lab.reply(Create(R, b"g", FILE, 0, 0, hold=True), A, sequence=1).value.ino
    lab.event(SessionRestated(A, []))
    assert lab.reply(Close(ino), A, sequence=2).errno == 0
    lab.ask(Open(ino, True), A)
    assert lab.reply(SetAttributes(ino, mode=0o600), A, sequence=3, acknowledged=2).errno == 0
    assert lab.shard.state.files[ino].openers[A].count == 1


def test_what_was_closed_stays_closed(lab: OpensLab) -> None:
    ino = lab.reply(Create(R, b"g", FILE, 0, 0, hold=True), A, sequence=1).value.ino
    lab.reply(Close(ino), A, sequence=2)
    lab.event(SessionRestated(A, []))
    assert not lab.shard.state.files


# -- who is known ---------------------------------------------------------------------------------------------------


def test_the_records_of_sessions_survive_a_restart(lab: OpensLab) -> None:
    lab.event(SessionOpened(B, b"with another address"))
    assert lab.event(SessionOpened(B, b"with another address")) == []
    lab.event(SessionEnded(C))
    restarted(lab, A, B)
    records = {int.from_bytes(key): value for key, value in lab.tables.scan(Table.CLIENT, b"")}
    assert records == {A: b"client 1", B: b"with another address"}
    lab.event(SessionRestated(A, []))
    lab.event(SessionEnded(B))
    restarted(lab)
    assert not list(lab.tables.scan(Table.CLIENT, b""))


def test_a_lookup_while_all_of_this_goes_on(lab: OpensLab) -> None:
    lab.contended(A, B)
    lab.claimed(A)
    assert lab.ask(Lookup(R, b"f"), C).ino == lab.f
