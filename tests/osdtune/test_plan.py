"""The plan as a whole, and what it refuses altogether."""

import json
from dataclasses import replace

import pytest

from loligo_osdtune.core.facts import FactsError
from loligo_osdtune.core.opinion import opinion_of
from loligo_osdtune.core.plan import plan_of
from loligo_osdtune.core.recording import decode, encode
from osdtune import shapes


@pytest.mark.parametrize("release", ["pacific", "quincy", "reef", "squid"])
def test_disks_without_an_ssd_that_were_upgraded(release: str) -> None:
    plan = plan_of(shapes.bare_disks(release))
    found = [(step.rule, len(step.targets)) for step in plan.steps]
    bulk = [] if release == "pacific" else [("pool-bulk", 1)]
    assert found == [("db-missing", 12), ("min-alloc-hdd", 12), ("pg-power-of-two", 1), *bulk]


def test_the_recorded_loopback_cluster() -> None:
    plan = plan_of(shapes.loopback())
    assert [step.rule for step in plan.steps] == ["memory-target", "cache-autotune", "aio-max-nr", "pid-max"]
    assert plan.steps[0].targets == ("osd.0", "osd.1")
    assert (plan.steps[0].current, plan.steps[0].current_source) == ("939524096", "file")


def test_the_same_facts_give_the_same_plan_and_survive_a_recording() -> None:
    facts = shapes.bare_disks("reef")
    again = decode(json.dumps(encode(facts)))
    assert again == facts
    assert plan_of(again) == plan_of(facts) == plan_of(facts)


def test_osds_that_differ_in_what_was_measured_share_a_step() -> None:
    faster = replace(shapes.COUNTERS, commit_sum_s=0.5)
    plan = plan_of(shapes.with_osd(shapes.bare_disks("reef"), 1, counters=faster))
    assert (plan.steps[0].rule, len(plan.steps[0].targets)) == ("db-missing", 12)
    assert plan.steps[0].notes[:2] == ("osd.0: a commit takes 1.0 ms", "osd.1: a commit takes 0.5 ms")


def test_what_a_block_db_would_bring_is_told_where_a_neighbour_has_one() -> None:
    slow = replace(shapes.COUNTERS, commit_sum_s=40.0)
    bare = shapes.with_osd(shapes.hybrid("reef"), 1, has_db=False, db_size_bytes=0, db_devices=(), counters=slow)
    (step,) = plan_of(bare).steps
    assert step.notes == (
        "osd.1: a commit takes 40.0 ms, of those of its class with a block.db 1.0 ms: 40.0 times less",
    )
    slower = replace(shapes.COUNTERS, commit_sum_s=0.5)
    (step,) = plan_of(shapes.with_osd(bare, 1, counters=slower)).steps
    assert step.notes == (
        "osd.1: a commit takes 0.5 ms, of those of its class with a block.db 1.0 ms: that contradicts what a block.db brings, "
        "so it is uncertain; 'osdtune observe --for 10m --json' under load, then 'osdtune plan --facts', looks at the same "
        "time for all",
    )


def test_an_unknown_release_is_refused() -> None:
    with pytest.raises(
        FactsError, match=r"OSDs run Ceph umbrella; the rules were written for Pacific .* newer osdtune"
    ):
        plan_of(shapes.hybrid("umbrella"))


def test_an_upgrade_in_the_middle_is_refused() -> None:
    mixed = shapes.cluster(shapes.disk(0, "quincy"), shapes.disk(1, "reef"))
    with pytest.raises(FactsError, match="quincy and reef side by side; finish the upgrade"):
        plan_of(mixed)


def test_an_osd_that_is_up_without_metadata_is_refused() -> None:
    with pytest.raises(FactsError, match=r"osd\.1 is up, but has told the monitors nothing"):
        plan_of(shapes.with_osd(shapes.hybrid("reef"), 1, release=""))


def test_a_cluster_without_an_osd_that_is_up_is_refused() -> None:
    with pytest.raises(FactsError, match="no OSD is up"):
        plan_of(shapes.cluster(replace(shapes.disk(0, "reef"), is_up=False)))


def test_an_osd_whose_class_contradicts_its_flag_gets_nothing_that_depends_on_it() -> None:
    honest = shapes.with_osd(shapes.hybrid("reef"), 0, min_alloc_bytes=65536)
    lying = shapes.with_osd(honest, 0, device_class="ssd")
    assert [step.rule for step in plan_of(honest).steps] == ["min-alloc-hdd"]
    plan = plan_of(lying)
    assert plan.steps == ()
    (refused,) = [one for one in plan.refused if one.rule == "class-contradicted"]
    assert refused.targets == ("osd.0",)
    assert "marked as rotational: set the class right" in refused.why


def test_hosts_without_an_osd_are_not_tuned() -> None:
    wrong = shapes.with_sysctl(shapes.hybrid("reef"), "kernel.pid_max", "32768")
    assert plan_of(shapes.with_host(wrong, host="admin-box")).steps == ()


def test_what_is_worth_most_comes_first_and_three_at_most() -> None:
    facts = shapes.with_sysctl(shapes.bare_disks("squid"), "kernel.pid_max", "32768")
    opinion = opinion_of(facts, plan_of(facts))
    assert [step.rule for step in opinion.worth] == ["db-missing", "min-alloc-hdd", "pg-power-of-two"]
    assert opinion.left == 2


def test_rebuilding_one_osd_is_worth_less_than_mending_the_whole_host_and_a_block_db_needs_no_rebuild() -> None:
    old = shapes.with_osd(shapes.hybrid("reef"), 0, min_alloc_bytes=65536)
    facts = shapes.with_sysctl(old, "kernel.pid_max", "32768")
    assert [step.rule for step in plan_of(facts).steps] == ["min-alloc-hdd", "pid-max"]
    assert [step.rule for step in opinion_of(facts, plan_of(facts)).worth] == ["pid-max", "min-alloc-hdd"]
    bare = shapes.with_osd(shapes.hybrid("reef"), 0, has_db=False, db_size_bytes=0, db_devices=())
    facts = shapes.with_host(shapes.with_sysctl(bare, "vm.swappiness", "60"), swap_bytes=shapes.GIB)
    assert [step.rule for step in opinion_of(facts, plan_of(facts)).worth] == ["db-missing", "swappiness"]


def test_a_slow_osd_is_found_among_those_of_its_class() -> None:
    slow = replace(shapes.COUNTERS, commit_sum_s=40.0)
    facts = shapes.with_osd(shapes.hybrid("reef"), 1, counters=slow)
    findings = opinion_of(facts, plan_of(facts)).findings
    assert findings == ("osd.1 is slow: a commit takes 40.0 ms, those of its class 1.0 ms",)


def test_few_commits_say_nothing_about_speed() -> None:
    slow = replace(shapes.COUNTERS, commits=10, commit_sum_s=0.4)
    facts = shapes.with_osd(shapes.hybrid("reef"), 1, counters=slow)
    assert opinion_of(facts, plan_of(facts)).findings == ()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "this is no JSON"),
        ("[]", "no recorded facts"),
        ('{"osdtune_facts": 99}', "format 99, I read 2"),
        ('{"osdtune_facts": 2, "fsid": "x"}', "missing or unknown"),
        (json.dumps({**encode(shapes.loopback()), "health": 3}), "facts.health is 3"),
    ],
)
def test_what_is_no_recording_is_refused(text: str, message: str) -> None:
    with pytest.raises(FactsError, match=message):
        decode(text)
