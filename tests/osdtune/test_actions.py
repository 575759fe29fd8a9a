"""From a plan to actions: what, in which order, and what is left to people."""

from collections.abc import Mapping
from dataclasses import replace

import pytest

from loligo_osdtune.core.actions import (
    SYSCTL_FILE,
    UDEV_FILE,
    ConfigLine,
    Doing,
    KernelValue,
    OwnFile,
    Place,
    Put,
    Restart,
    Work,
    doing,
    fulfilled,
    inverse,
    places_of,
    work_of,
)
from loligo_osdtune.core.facts import ConfigEntry, Facts
from loligo_osdtune.core.plan import plan_of
from loligo_osdtune.core.rules import RULES
from osdtune import shapes
from osdtune.test_rules import CHANGES

CAN = dict.fromkeys(range(12), "")
HEADED = "# Written by osdtune apply; osdtune undo puts back what was here before.\n"
PID_MAX = KernelValue("/proc/sys/kernel/pid_max")


def work(
    facts: Facts, current: Mapping[Place, str | None] | None = None, *only: str, can: Mapping[int, str] = CAN
) -> Work:
    plan = plan_of(facts)
    found = dict.fromkeys(places_of(plan, facts, can))
    return work_of(plan, facts, can, {**found, **(current or {})}, only)


def untuned() -> Facts:
    facts = shapes.with_option(shapes.hybrid("quincy"), 1, "osd_scrub_during_recovery", "true")
    for osd in (0, 1):
        facts = shapes.with_option(facts, osd, "bluefs_buffered_io", "false")
    facts = shapes.with_option(facts, 1, "osd_op_num_shards_hdd", "5")
    return shapes.with_sysctl(facts, "kernel.pid_max", "32768")


def test_the_host_first_then_what_takes_effect_at_once_then_osd_by_osd() -> None:
    lines: dict[Place, str | None] = {ConfigLine("osd.1", "bluefs_buffered_io"): "false", PID_MAX: "32768"}
    assert work(untuned(), lines).actions == (
        Put(("pid-max",), PID_MAX, "32768", "4194304"),
        Put(("pid-max",), OwnFile(SYSCTL_FILE), None, HEADED + "kernel.pid_max = 4194304\n"),
        Put(("scrub-during-recovery",), ConfigLine("osd.1", "osd_scrub_during_recovery"), None, "false"),
        Put(("bluefs-buffered-io",), ConfigLine("osd.0", "bluefs_buffered_io"), None, "true"),
        Restart(("bluefs-buffered-io",), 0),
        Put(("bluefs-buffered-io",), ConfigLine("osd.1", "bluefs_buffered_io"), "false", "true"),
        Put(("shards-hdd",), ConfigLine("osd.1", "osd_op_num_shards_hdd"), None, "1"),
        Restart(("bluefs-buffered-io", "shards-hdd"), 1),
    )


def test_only_what_was_chosen() -> None:
    chosen = work(untuned(), None, "shards-hdd")
    assert [str(action.place) for action in chosen.actions if isinstance(action, Put)] == [
        "osd.1 osd_op_num_shards_hdd"
    ]
    assert chosen.actions[-1] == Restart(("shards-hdd",), 1)


@pytest.mark.parametrize("source", ["file", "cmdline", "env", "override"])
def test_what_would_have_no_effect_is_left_to_people(source: str) -> None:
    facts = shapes.with_option(shapes.hybrid("quincy"), 0, "bluefs_buffered_io", "false", source)
    (left,) = work(facts).left
    assert work(facts).actions == ()
    assert left.targets == ("osd.0",) and "wins over the monitors" in left.why


def masked(section: str, mask: str, value: str = "false") -> Facts:
    """Two OSDs whose option is wrong, and a line with a mask."""
    facts = untuned()
    return replace(facts, config=(ConfigEntry(section, mask, "bluefs_buffered_io", value),))


@pytest.mark.parametrize("mask", ["class:hdd", "host:a", "root:default", "rack:r", "host:a/class:hdd"])
def test_a_line_with_a_mask_that_would_win_is_left_to_people_and_the_rest_is_done(mask: str) -> None:
    done = work(masked("osd.0", mask))
    (left,) = done.left
    assert (left.rule, left.targets) == ("bluefs-buffered-io", ("osd.0",))
    assert f"'osd.0/{mask} bluefs_buffered_io = false' may win" in left.why
    assert f"ceph config rm osd.0/{mask} bluefs_buffered_io" in left.why
    assert [action.osd for action in done.actions if isinstance(action, Restart)] == [1]
    assert not any(isinstance(action, Put) and str(action.place).startswith("osd.0 ") for action in done.actions)


@pytest.mark.parametrize(
    ("section", "mask", "value"),
    [
        ("osd.0", "class:ssd", "false"),  # for others
        ("osd.0", "host:b", "false"),
        ("osd.0", "host:a/class:ssd", "false"),
        ("osd", "class:hdd", "false"),  # loses to a line for osd.0
        ("osd.0", "class:hdd", "true"),  # says the same
        ("osd.0", "", "false"),  # the line that is set
    ],
)
def test_other_lines_do_not_win(section: str, mask: str, value: str) -> None:
    done = work(masked(section, mask, value))
    assert done.left == () and len([action for action in done.actions if isinstance(action, Restart)]) == 2


def test_an_osd_that_cannot_be_restarted_from_here_keeps_its_options() -> None:
    done = work(untuned(), None, can={**CAN, 1: "it is elsewhere"})
    assert [action.osd for action in done.actions if isinstance(action, Restart)] == [0]
    assert [(left.rule, left.targets, left.why) for left in done.left] == [
        ("bluefs-buffered-io", ("osd.1",), "it is elsewhere"),
        ("shards-hdd", ("osd.1",), "it is elsewhere"),
    ]
    assert any(isinstance(action, Put) and action.rules == ("scrub-during-recovery",) for action in done.actions)


def test_what_rebuilds_or_moves_data_is_left_to_people() -> None:
    left = {one.rule: one for one in work(shapes.bare_disks("reef")).left}
    assert set(left) == {"db-missing", "min-alloc-hdd", "pg-power-of-two", "pool-bulk"}
    assert len(left["db-missing"].targets) == 12


def test_a_file_of_ours_keeps_what_an_earlier_apply_wrote() -> None:
    facts = shapes.with_sysctl(shapes.hybrid("quincy"), "kernel.pid_max", "32768")
    before = HEADED + "kernel.pid_max = 99\nvm.swappiness = 10\n"
    (_, file) = work(facts, {OwnFile(SYSCTL_FILE): before, PID_MAX: "32768"}).actions
    assert isinstance(file, Put)
    assert (file.old, file.new) == (before, HEADED + "vm.swappiness = 10\nkernel.pid_max = 4194304\n")


def test_the_scheduler_of_a_disk_goes_into_a_rule_that_spares_ssds() -> None:
    facts = shapes.with_device(shapes.hybrid("quincy"), "sdb", scheduler="none")
    value, file = work(facts, {KernelValue("/sys/block/sdb/queue/scheduler"): "none"}).actions
    assert value == Put(("io-scheduler",), KernelValue("/sys/block/sdb/queue/scheduler"), "none", "mq-deadline")
    assert isinstance(file, Put) and file.place == OwnFile(UDEV_FILE) and file.new is not None
    assert file.new.splitlines()[1] == (
        'ACTION=="add|change", SUBSYSTEM=="block", KERNEL=="sdb", ATTR{queue/rotational}=="1", '
        'ATTR{queue/scheduler}="mq-deadline"'
    )


def test_whatever_is_found_there_is_one_of_three_cases() -> None:
    put = Put(("r",), ConfigLine("osd.0", "x"), "400", "315")
    assert [doing(put, found) for found in ("400.000000", "315.000000", "7", None)] == [
        Doing.WRITE,
        Doing.NOTHING,
        Doing.CONFLICT,
        Doing.CONFLICT,
    ]
    assert doing(inverse(put), "315.0") is Doing.WRITE
    file = Put(("r",), OwnFile("/f"), "1", "1.0")
    assert doing(file, "1") is Doing.WRITE


@pytest.mark.parametrize("rule", CHANGES)
def test_every_rule_that_changes_something_is_carried_out_or_says_why_not(rule: str) -> None:
    (known,) = [one for one in RULES if one.rule == rule]
    assert bool(known.sets) != bool(known.by_hand)
    for facts, _ in CHANGES[rule][0]:
        made = work(facts, None, rule)
        assert made.actions or made.left


def test_rules_that_only_refuse_set_nothing() -> None:
    for rule in RULES:
        if rule.rule not in CHANGES:
            assert not rule.sets and not rule.by_hand


def test_a_rule_that_is_fulfilled_has_nothing_to_do() -> None:
    facts = untuned()
    done = fulfilled(plan_of(facts))
    assert {"cache-autotune", "swappiness", "db-missing"} <= done
    assert done.isdisjoint({"pid-max", "bluefs-buffered-io", "cache-tier", "read-ahead"})
    assert work(facts, None, "cache-autotune", "pid-max").idle(("cache-autotune", "pid-max")) == ("cache-autotune",)
    low = shapes.with_osd(
        shapes.with_option(facts, 0, "osd_memory_target", str(shapes.GIB)), 0, memory_bytes=shapes.GIB
    )
    assert "memory-target" not in fulfilled(plan_of(low))  # it is refused, which is not the same
