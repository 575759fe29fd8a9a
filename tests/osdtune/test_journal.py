"""What follows from a journal, from every prefix of one; and a driver that dies at each of its effects."""

import contextlib
import json
import os
import resource
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from loligo_osdtune.core import journal as journals
from loligo_osdtune.core.actions import Action, ConfigLine, KernelValue, OwnFile, Put, Restart, Work
from loligo_osdtune.core.health import Health
from loligo_osdtune.core.journal import Damage, Journal, JournalError, State
from loligo_osdtune.shell.apply import Applying, applied_since
from loligo_osdtune.shell.changing import Changing
from loligo_osdtune.shell.failures import OsdtuneError
from loligo_osdtune.shell.journal_file import JournalFile, JournalFolder
from loligo_osdtune.shell.places import Places
from osdtune.fake_cluster import Died, FakeCluster, fake_host

BUFFERED = {osd: ConfigLine(f"osd.{osd}", "bluefs_buffered_io") for osd in range(3)}
SCRUB = ConfigLine("osd.1", "osd_scrub_during_recovery")
PID_MAX = KernelValue("/proc/sys/kernel/pid_max")
FILE = OwnFile("/etc/sysctl.d/90-osdtune.conf")
ACTIONS: tuple[Action, ...] = (
    Put(("pid-max",), PID_MAX, "32768", "4194304"),
    Put(("pid-max",), FILE, None, "kernel.pid_max = 4194304\n"),
    Put(("scrub",), SCRUB, None, "false"),
    Put(("buffered",), BUFFERED[0], None, "true"),
    Put(("sharding",), ConfigLine("osd.0", "osd_op_num_shards_hdd"), None, "1"),
    Restart(("buffered", "sharding"), 0),
    Put(("buffered",), BUFFERED[1], "false", "true"),
    Restart(("buffered",), 1),
)
HEALTH = Health({0: 1}, frozenset({2}), 3, frozenset({"OSD_DOWN"}))
JOURNAL = journals.begin("fake", 1_700_000_000, HEALTH, ACTIONS)
UNDO_ORDER = (6, 7, 4, 3, 5, 2, 1, 0)  # an OSD is restarted after its options


def lines(*states: tuple[int, State]) -> str:
    return journals.first_line(JOURNAL) + "".join(journals.state_line(*state) for state in states)


def whole() -> str:
    done = [(number, state) for number in range(len(ACTIONS)) for state in (State.BEGUN, State.DONE)]
    undone = [(number, state) for number in UNDO_ORDER for state in (State.UNDOING, State.UNDONE)]
    return lines(*done, *undone)


def test_every_prefix_of_a_journal_says_what_is_left() -> None:
    text = whole()
    seen = set()
    for length in range(len(text) + 1):
        journal = journals.read(text[:length])
        written = text[:length].count("\n") - 1
        if written < 0:
            assert journal is None
            continue
        assert journal is not None
        begun = min(len(ACTIONS), (written + 1) // 2)
        undone = max(0, (written - 2 * len(ACTIONS)) // 2)
        still = [number for number in UNDO_ORDER if number < begun][undone:]
        assert list(journal.to_undo()) == still
        is_being_undone = written > 2 * len(ACTIONS)
        assert list(journal.to_do()) == ([] if is_being_undone else list(range(len(ACTIONS)))[written // 2 :])
        assert journal.is_closed == (not still)
        assert journal.is_finished == (written == 2 * len(ACTIONS) or (not still and is_being_undone))
        seen.add(written)
    assert len(seen) == 1 + 4 * len(ACTIONS)


def test_an_osd_that_was_not_restarted_is_not_restarted_to_undo() -> None:
    journal = journals.read(lines((0, State.BEGUN), (0, State.DONE), *((number, State.BEGUN) for number in (3, 4))))
    assert journal is not None and journal.to_undo() == (4, 3, 0)


def test_there_is_no_going_on_once_undoing_has_begun() -> None:
    journal = journals.read(lines((0, State.BEGUN), (0, State.UNDOING)))
    assert journal is not None
    assert journal.to_do() == () and journal.to_undo() == (0,) and not journal.is_finished


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("hello\n", "damaged"),
        ("[]\n", "damaged"),
        ('{"osdtune_journal": 99}\n', "format 99, this osdtune reads 2"),
        ('{"fsid": "x"}\n', "damaged"),
        ("\0" * 64, "first line is damaged, .* Move it away"),
        (journals.first_line(JOURNAL).replace("fake", "f\udcffke"), "first line is damaged"),
    ],
)
def test_what_is_no_journal_is_refused(text: str, message: str) -> None:
    with pytest.raises(JournalError, match=message):
        journals.read(text)


@pytest.mark.parametrize(
    "behind",
    [
        journals.state_line(1, State.DONE),  # it has not begun
        journals.state_line(0, State.BEGUN) + journals.state_line(0, State.UNDONE),
        journals.state_line(99, State.BEGUN),
        journals.state_line(-1, State.BEGUN),
        '{"action": 0}\n',
        "hello\n",
        "\0\0\n",
        "\udcff\n",
        "[]\n" + journals.state_line(1, State.BEGUN),
    ],
)
def test_what_is_behind_damage_may_have_happened(behind: str) -> None:
    whole = lines((0, State.BEGUN), (0, State.DONE))
    journal = journals.read(whole + behind)
    assert journal is not None
    assert journal.damage == Damage(4, tuple(range(1, len(ACTIONS))))
    assert journal.to_do() == () and journal.to_undo() == UNDO_ORDER
    assert not journal.is_finished and not journal.is_closed
    assert journals.sound_lines(whole + behind, journal) == whole


def test_damage_while_undoing_costs_only_how_far_that_came() -> None:
    journal = journals.read(lines((0, State.BEGUN), (1, State.BEGUN), (1, State.UNDOING)) + "{\n")
    assert journal is not None and journal.damage == Damage(5, ()) and journal.to_undo() == (1, 0)


class Lab:
    """One fake cluster and host, and journals of them."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "root"
        fake_host(self.root)
        self.cluster = FakeCluster()
        self.folder = JournalFolder(folder / "journals", "fake")
        self.told: list[str] = []
        self.changing = Changing(self.cluster, Places(self.cluster, self.root), self.cluster, self.told.append, 0.0)

        places = Places(self.cluster, self.root)
        self.applying = Applying(self.cluster, places, self.cluster, self.changing, folder / "journals")

    def journal(self) -> Journal:
        return journals.begin("fake", 1_700_000_000, self.cluster.health(), ACTIONS)

    def begin(self) -> JournalFile:
        with self.folder as folder:
            return folder.begin(self.journal())

    def newest(self) -> JournalFile:
        found = self.folder.newest()
        assert found is not None
        return found

    def state(self) -> tuple[dict[ConfigLine, str], dict[ConfigLine, str], dict[str, str]]:
        """Values in the monitors, those that OSDs work with, files."""
        files = {str(path): path.read_text().strip() for path in sorted(self.root.rglob("*")) if path.is_file()}
        return dict(self.cluster.lines), {k: v for k, v in self.cluster.running.items() if v != "default"}, files


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    made = Lab(tmp_path)
    made.cluster.restart(1)  # so that it works with what the monitors say
    made.cluster.started.clear()
    made.cluster.effects = 0
    return made


def test_all_is_done_in_order_and_undone_exactly(lab: Lab) -> None:
    before = lab.state()
    lab.changing.apply(lab.begin())
    assert lab.cluster.started == [0, 1]
    assert lab.cluster.running[BUFFERED[1]] == "true" and lab.cluster.running[SCRUB] == "false"
    assert (lab.root / "proc/sys/kernel/pid_max").read_text() == "4194304"
    assert lab.newest().journal.is_finished
    assert lab.changing.undo(lab.newest()) == ()
    assert lab.cluster.started == [0, 1, 1, 0]
    assert lab.state() == before
    assert lab.folder.newest() is None


EFFECTS = 6  # of the cluster: four lines, two restarts; those of the host are seen by the prefixes


@pytest.mark.parametrize("dies_at", range(2, 2 * EFFECTS + 2))
def test_dying_before_or_after_any_effect_can_be_continued_and_undone(lab: Lab, tmp_path: Path, dies_at: int) -> None:
    before = lab.state()
    lab.cluster.dies_at = dies_at
    with pytest.raises(Died):
        lab.changing.apply(lab.begin())
    lab.cluster.dies_at = None
    half = json.dumps(str(lab.state()))
    lab.changing.apply(lab.newest())
    applied = lab.state()
    assert applied[0][BUFFERED[1]] == "true" and lab.newest().journal.is_finished
    lab.changing.undo(lab.newest())
    assert lab.state() == before, half


@pytest.mark.parametrize("dies_at", range(2, 2 * EFFECTS + 2))
def test_dying_anywhere_can_be_undone_at_once_though_undoing_dies_too(lab: Lab, dies_at: int) -> None:
    before = lab.state()
    lab.cluster.dies_at = dies_at
    with pytest.raises(Died):
        lab.changing.apply(lab.begin())
    for undo_dies_at in range(2, 2 * EFFECTS + 2):
        lab.cluster.effects, lab.cluster.dies_at = 0, undo_dies_at
        if (half_done := lab.folder.newest()) is None:
            break
        try:
            lab.changing.undo(half_done)
        except Died:
            continue
        break
    assert lab.folder.newest() is None
    assert lab.state() == before


def test_what_somebody_else_has_set_stops_apply_and_stays(lab: Lab) -> None:
    lab.cluster.lines[BUFFERED[1]] = "other"
    with pytest.raises(
        OsdtuneError, match=r"osd\.1 bluefs_buffered_io: false -> true, change 7 of 8: somebody else .* other"
    ):
        lab.changing.apply(lab.begin())
    lab.changing.undo(lab.newest())
    assert lab.cluster.lines == {BUFFERED[1]: "other"}


@pytest.mark.parametrize("value", ["false", None])
def test_what_somebody_else_has_changed_after_it_was_set_is_found_before_the_restart(
    lab: Lab, value: str | None
) -> None:
    lab.cluster.unstoppable.add(1)
    with pytest.raises(OsdtuneError, match=r"stopped at restart osd\.1"):
        lab.changing.apply(lab.begin())
    lab.cluster.unstoppable.clear()
    lab.cluster.lines.pop(BUFFERED[1])
    if value is not None:
        lab.cluster.lines[BUFFERED[1]] = value
    found = value or "nothing"
    with pytest.raises(
        OsdtuneError, match=rf"somebody else changed osd\.1 bluefs_buffered_io from true to {found} since .*undo"
    ):
        lab.changing.apply(lab.newest())
    assert lab.cluster.started == [0]
    lab.cluster.lines[BUFFERED[1]] = "true"
    lab.changing.apply(lab.newest())
    assert lab.cluster.started == [0, 1] and lab.newest().journal.is_finished


def test_what_somebody_else_has_set_since_is_passed_over_when_undoing(lab: Lab) -> None:
    lab.changing.apply(lab.begin())
    lab.cluster.lines[SCRUB] = "true"
    del lab.cluster.lines[BUFFERED[0]]  # as it was before: nothing to say
    (passed,) = lab.changing.undo(lab.newest())
    assert passed.startswith("osd.1 osd_scrub_during_recovery is true: somebody else has set it since")
    assert lab.cluster.lines == {SCRUB: "true", BUFFERED[1]: "false"}
    assert lab.folder.newest() is None


def test_an_osd_that_does_not_come_back_stops_it_and_can_be_undone(lab: Lab) -> None:
    before = lab.state()
    lab.cluster.broken.add(0)
    with pytest.raises(
        OsdtuneError,
        match=r"stopped at restart osd\.0, change 6 of 8: osd\.0 did not come back .* 'osdtune undo --yes --journals /",
    ):
        lab.changing.apply(lab.begin())
    assert lab.cluster.started == [0]
    assert BUFFERED[1] in lab.cluster.lines and lab.cluster.lines[BUFFERED[1]] == "false"
    with pytest.raises(OsdtuneError, match=r"stopped undoing at restart osd\.0"):
        lab.changing.undo(lab.newest())
    lab.cluster.broken.clear()
    lab.changing.undo(lab.newest())
    assert lab.state() == before


def test_an_osd_that_holds_what_nobody_else_has_is_not_restarted(lab: Lab) -> None:
    lab.cluster.unstoppable.add(1)
    with pytest.raises(
        OsdtuneError, match="some data could not be used while it restarts: 1 PGs would become inactive"
    ):
        lab.changing.apply(lab.begin())
    assert lab.cluster.started == [0]


def test_undoing_waits_for_the_same_but_not_for_an_osd_that_is_down(lab: Lab) -> None:
    before = lab.state()
    lab.changing.apply(lab.begin())
    lab.cluster.unstoppable.update((0, 1))
    with pytest.raises(
        OsdtuneError, match=r"stopped undoing at restart osd\.1: without it some data could not be used"
    ):
        lab.changing.undo(lab.newest())
    assert lab.cluster.started == [0, 1]
    del lab.cluster.since[1]
    with pytest.raises(OsdtuneError, match=r"stopped undoing at restart osd\.0"):
        lab.changing.undo(lab.newest())
    assert lab.cluster.started == [0, 1, 1]
    lab.cluster.unstoppable.clear()
    lab.changing.undo(lab.newest())
    assert lab.state() == before


def test_what_was_wrong_before_is_no_reason_to_stop_and_what_is_new_is(lab: Lab) -> None:
    lab.cluster.checks.add("POOL_NO_REDUNDANCY")
    del lab.cluster.since[2]
    file = lab.begin()
    lab.changing.apply(file)
    lab.changing.undo(lab.newest())
    running_value = lab.cluster.running_value

    def slow_ops(osd: int, option: str) -> str:
        lab.cluster.checks.add("SLOW_OPS")
        return running_value(osd, option)

    lab.cluster.running_value = slow_ops  # type: ignore[method-assign]
    with pytest.raises(OsdtuneError, match="worse than before, for 0 s: new health check SLOW_OPS"):
        lab.changing.apply(lab.begin())
    assert lab.newest().journal.to_do()[0] == 2


def test_going_on_does_not_step_over_what_applying_made_worse(lab: Lab) -> None:
    """osd.0 does not come back; it is started by hand, and from then on something else is wrong."""
    before = lab.state()
    lab.cluster.checks.add("POOL_NO_REDUNDANCY")
    lab.cluster.broken.add(0)
    with pytest.raises(OsdtuneError, match=r"stopped at restart osd\.0"):
        lab.changing.apply(lab.begin())
    with pytest.raises(OsdtuneError, match=r"stopped at restart osd\.0, change 1 of 3: osd\.0 did not come back"):
        lab.changing.apply(lab.newest())  # it is down: to restart it is what may mend it
    lab.cluster.since[0] = lab.cluster.epoch
    lab.cluster.checks.add("BLUESTORE_CORRUPTION")
    started = list(lab.cluster.started)
    with pytest.raises(OsdtuneError, match="does worse than when this began: new health check BLUESTORE_CORRUPTION"):
        lab.changing.apply(lab.newest())
    assert lab.cluster.started == started and lab.newest().journal.to_do() == (5, 6, 7)
    lab.cluster.broken.clear()
    assert lab.changing.undo(lab.newest()) == ()
    assert lab.state() == before


def test_going_on_stops_when_an_osd_is_down_that_was_up(lab: Lab) -> None:
    lab.cluster.dies_at = 4  # before the first option of osd.0
    with pytest.raises(Died):
        lab.changing.apply(lab.begin())
    lab.cluster.dies_at = None
    del lab.cluster.since[2]
    lines = dict(lab.cluster.lines)
    with pytest.raises(
        OsdtuneError, match=r"does worse than when this began: osd\.2 is down; mend that first\. .*--continue"
    ):
        lab.changing.apply(lab.newest())
    assert lab.cluster.lines == lines


def test_ctrl_c_says_how_things_stand(lab: Lab) -> None:
    def interrupt(osd: int, option: str) -> str:
        raise KeyboardInterrupt

    lab.cluster.running_value = interrupt  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        lab.changing.apply(lab.begin())
    assert lab.told[-1].startswith(
        "stopped at osd.1 osd_scrub_during_recovery: nothing -> false, change 3 of 8: interrupted."
    )
    assert "interrupted. It was waiting for osd.1 to work with osd_scrub_during_recovery = false. What" in lab.told[-1]
    assert lab.newest().journal.to_do()[0] == 2


def test_ctrl_c_while_going_on_waits_for_the_cluster(lab: Lab) -> None:
    lab.cluster.dies_at = 4
    with pytest.raises(Died):
        lab.changing.apply(lab.begin())

    def interrupt() -> Health:
        raise KeyboardInterrupt

    lab.cluster.health = interrupt  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        lab.changing.apply(lab.newest())
    assert lab.told[-1].startswith(
        "stopped before the next change: interrupted. It was waiting for the cluster to do as well as before. What was"
    )


def test_what_is_waited_for_is_said_at_once_and_when_it_goes_on(lab: Lab, tmp_path: Path) -> None:
    answers = iter(("1 PGs would become inactive", "", ""))
    lab.cluster.why_not_stop = lambda osd: next(answers)  # type: ignore[method-assign]
    reported = iter((False, True, True))
    lab.cluster.is_reported = lambda osd, epoch: next(reported)  # type: ignore[method-assign]
    Changing(lab.cluster, Places(lab.cluster, lab.root), lab.cluster, lab.told.append, 60.0).apply(lab.begin())
    at = lab.told.index("restart osd.0")
    assert lab.told[at - 2 : at + 3] == [
        "waiting for osd.0 to be dispensable, 60 s at most: 1 PGs would become inactive",
        "going on",
        "restart osd.0",
        "waiting for osd.0 to come back, 60 s at most: its placement groups are not reported",
        "going on",
    ]


def test_which_osds_could_not_be_restarted_now(lab: Lab) -> None:
    lab.cluster.unstoppable.update((0, 1))
    del lab.cluster.since[1]  # so it serves nobody
    assert list(lab.applying.not_now(ACTIONS)) == [
        "osd.0 could not be restarted now, and would be waited for: 1 PGs would become inactive"
    ]


@contextlib.contextmanager
def files_of_at_most(size_bytes: int) -> Iterator[None]:
    """As after 'ulimit -f'. To what is beyond that a write fails, as on a disk that is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_journal_that_cannot_be_begun_leaves_nothing(lab: Lab) -> None:
    before = lab.state()
    with (
        files_of_at_most(100),
        pytest.raises(OsdtuneError, match=r"0001\.journal cannot be written \(.*\): .*room.*\. Nothing was changed"),
    ):
        lab.applying.apply(Work(ACTIONS, ()))
    assert lab.state() == before and lab.cluster.locked_by is None
    assert not list(lab.folder.path.glob("*.journal"))
    lab.applying.apply(Work(ACTIONS, ()))
    assert lab.newest().path.name == "0001.journal"


def test_a_journal_in_which_nothing_can_be_announced_leaves_no_lock(lab: Lab) -> None:
    before = lab.state()
    with (
        files_of_at_most(len(journals.first_line(lab.journal())) + 10),
        pytest.raises(
            OsdtuneError, match=r"stopped at /proc.*, change 1 of 8: .*0001\.journal cannot .*Nothing was changed"
        ),
    ):
        lab.applying.apply(Work(ACTIONS, ()))
    assert lab.state() == before and lab.cluster.locked_by is None


def test_what_is_done_and_could_not_be_recorded_is_said(lab: Lab) -> None:
    before = lab.state()
    begun = len(journals.state_line(0, State.BEGUN))
    with (
        files_of_at_most(len(journals.first_line(lab.journal())) + begun + 5),
        pytest.raises(
            OsdtuneError,
            match=r"pid_max: 32768 -> 4194304: that is done, but not recorded: .*0001\.journal cannot .*--continue",
        ),
    ):
        lab.applying.apply(Work(ACTIONS, ()))
    assert lab.cluster.locked_by is not None
    lab.applying.go_on()
    assert lab.newest().journal.is_finished and lab.cluster.locked_by is None
    size = lab.newest().path.stat().st_size
    with (
        files_of_at_most(size + len(journals.state_line(6, State.UNDOING)) + 5),
        pytest.raises(
            OsdtuneError, match=r"buffered_io: true -> false: that is done, but not recorded: .* undo --yes .* goes on"
        ),
    ):
        lab.applying.undo()
    assert lab.applying.undo() == ()
    assert lab.state() == before and lab.cluster.locked_by is None


@contextlib.contextmanager
def without_root() -> Iterator[None]:
    """Root may read everything, so he is somebody else meanwhile."""
    before = os.geteuid()
    if before == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(before)


@pytest.mark.parametrize("kept", ["folder", "file", "all above"])
def test_who_may_not_read_journals_is_not_told_that_there_are_none(kept: str) -> None:
    with tempfile.TemporaryDirectory(prefix="osdtune-") as name:
        folder = Path(name)
        lab = Lab(folder)
        lab.changing.apply(lab.begin())
        journal = lab.newest().path
        modes = {folder: 0o755, lab.folder.path.parent: 0o755, lab.folder.path: 0o755, journal: 0o644}
        modes[{"folder": lab.folder.path, "file": journal, "all above": lab.folder.path.parent}[kept]] = 0
        for path, mode in reversed(modes.items()):
            path.chmod(mode)
        try:
            with without_root():
                for look in (
                    lab.applying.left_to_undo,
                    lab.applying.undo,
                    lab.applying.left_to_do,
                    lambda: applied_since(lab.folder.path.parent, "fake", 0),
                ):
                    with pytest.raises(OsdtuneError, match=r"permission denied: /.*; run as root"):
                        look()
        finally:
            for path in modes:
                path.chmod(0o755)


def test_hints_can_be_typed_as_they_are(lab: Lab) -> None:
    lab.cluster.unstoppable.add(0)
    with pytest.raises(OsdtuneError) as stopped:
        lab.applying.apply(Work(ACTIONS, ()))
    journals_in = lab.folder.path.parent
    go_on, undo = (f"'osdtune {verb} --yes --journals {journals_in}'" for verb in ("apply --continue", "undo"))
    assert f"{go_on} goes on, {undo} takes it back" in str(stopped.value)
    assert lab.applying.in_the_way() == f"{lab.newest().path} is half-done: {go_on} or {undo} first"
    usual = JournalFile(Path("/var/lib/osdtune/fake/0001.journal"), JOURNAL, 0)
    assert usual.command("undo") == "'osdtune undo --yes'"
    lab.cluster.unstoppable.clear()
    lab.applying.go_on()
    assert lab.applying.in_the_way() == ""


def test_two_cannot_change_one_cluster_at_once_from_one_host(lab: Lab) -> None:
    with (
        lab.folder,
        pytest.raises(OsdtuneError, match="another osdtune is changing this cluster"),
        JournalFolder(lab.folder.path.parent, "fake"),
    ):
        pass


def test_a_line_that_was_cut_off_is_written_over(lab: Lab) -> None:
    file = lab.begin()
    with open(file.path, "a") as torn:
        torn.write(journals.state_line(0, State.BEGUN)[:-3])
    again = JournalFile.opened(file.path)
    assert again is not None
    again.record(0, State.BEGUN)
    reread = JournalFile.opened(file.path)
    assert reread is not None and reread.journal.states[0] is State.BEGUN


@pytest.mark.parametrize("dies_at", [0, *range(2, 2 * EFFECTS + 2)])
def test_a_journal_with_a_damaged_end_is_undone_from_what_is_whole(lab: Lab, dies_at: int) -> None:
    """Also if undoing dies, and goes on."""
    before = lab.state()
    lab.cluster.dies_at = 8  # before the last line: osd.0 was restarted, osd.1 was not
    with pytest.raises(Died):
        lab.changing.apply(lab.begin())
    path = lab.newest().path
    text = path.read_bytes()
    (first, *records) = text.splitlines(keepends=True)
    path.write_bytes(first + b"".join(records[:7]) + b"\xff\0 damaged\n" + b"".join(records[8:]))
    lab.cluster.dies_at = None
    for impossible in (lab.applying.go_on, lab.applying.left_to_do):
        with pytest.raises(
            OsdtuneError, match=r"0001\.journal is damaged from line 9 on, .* cannot be continued, but undone"
        ):
            impossible()
    with pytest.raises(OsdtuneError, match=r"damaged from line 9 on.* 'osdtune undo --yes .*' first"):
        lab.applying.apply(Work(ACTIONS, ()))
    assert "is damaged from line 9 on" in lab.applying.damage()
    started = len(lab.cluster.started)
    lab.cluster.effects, lab.cluster.dies_at = 0, dies_at
    with contextlib.suppress(Died):
        lab.changing.undo(lab.newest())
    lab.cluster.dies_at = None
    if lab.folder.newest() is None:
        assert lab.cluster.started[started:] == [0]  # osd.1 was left alone
    else:
        lab.changing.undo(lab.newest())
    assert lab.state() == before and lab.folder.newest() is None


def test_a_journal_whose_first_line_is_damaged_names_the_file_and_can_be_moved_away(lab: Lab) -> None:
    path = lab.begin().path
    path.write_bytes(b"\xff" + path.read_bytes())
    with pytest.raises(
        OsdtuneError, match=r"/fake/0001\.journal: its first line is damaged, .* Move it away, and .* stays"
    ):
        lab.applying.left_to_undo()
    path.rename(path.with_name("damaged"))
    with pytest.raises(OsdtuneError, match="there is nothing to undo"):
        lab.applying.left_to_undo()


def test_a_value_with_a_newline_is_one_line_of_the_journal() -> None:
    journal = journals.read(journals.first_line(JOURNAL))
    assert isinstance(journal, Journal) and journal.actions == ACTIONS


def test_how_the_cluster_did_is_kept() -> None:
    journal = journals.read(journals.first_line(JOURNAL))
    assert journal is not None and journal == JOURNAL
    assert journal.health == Health({}, frozenset({2}), 3, frozenset({"OSD_DOWN"}))
