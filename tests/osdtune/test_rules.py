"""Each rule both ways: facts in which it speaks, and what it says; and facts beside them in which it has nothing to say."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from loligo_osdtune.core.facts import Device, Facts
from loligo_osdtune.core.plan import plan_of
from loligo_osdtune.core.releases import KNOWN
from loligo_osdtune.core.rule import OsdRule
from loligo_osdtune.core.rules import RULES
from osdtune import shapes

GIB = shapes.GIB
QUINCY = shapes.hybrid("quincy")
DOCUMENT = Path(__file__).parents[2] / "docs" / "osdtune.md"


def option(name: str, value: str, number: int = 0, source: str = "mon") -> Facts:
    return shapes.with_option(QUINCY, number, name, value, source)


def osd(number: int = 0, **changed: Any) -> Facts:
    return shapes.with_osd(QUINCY, number, **changed)


def no_db(**changed: Any) -> Facts:
    return osd(has_db=False, is_db_rotational=None, db_size_bytes=0, db_devices=(), **changed)


def slow_and_virtual(commit_s: float) -> Facts:
    counters = replace(shapes.COUNTERS, commit_sum_s=commit_s * shapes.COUNTERS.commits)
    return shapes.with_device(no_db(counters=counters), "sdb", is_virtual=True)


def db_on_disk(commit_s: float) -> Facts:
    return osd(
        is_db_rotational=True, counters=replace(shapes.COUNTERS, commit_sum_s=commit_s * shapes.COUNTERS.commits)
    )


def many_osds(release: str) -> Facts:
    return shapes.cluster(*(shapes.disk(number, release) for number in range(12)))


# Rule -> [(facts, what is proposed)], and facts in which it is silent.
CHANGES: dict[str, tuple[list[tuple[Facts, str]], list[Facts]]] = {
    "db-missing": (
        [
            (no_db(), "block.db of 41 GiB to 163.8 GiB on an SSD with power-loss protection"),
            (slow_and_virtual(0.04), "block.db of 41 GiB to 163.8 GiB on an SSD with power-loss protection"),
        ],
        [QUINCY, no_db(object_store="filestore"), shapes.all_flash("quincy")],
    ),
    "db-on-disk": (
        [
            (db_on_disk(0.04), "block.db on an SSD, or none"),
            (osd(is_db_rotational=True, counters=None), "block.db on an SSD, or none"),
        ],
        [QUINCY, db_on_disk(0.00065)],
    ),
    "db-small": (
        [(osd(db_size_bytes=30 * GIB), "at least 41 GiB (1 % of the disk)")],
        [QUINCY, osd(db_size_bytes=41 * GIB), no_db()],
    ),
    "db-spillover": (
        [
            (
                osd(counters=replace(shapes.COUNTERS, slow_used_bytes=GIB)),
                "all of it on the SSD (larger block.db, then migrate)",
            )
        ],
        [QUINCY, osd(counters=None), no_db(counters=replace(shapes.COUNTERS, slow_used_bytes=GIB))],
    ),
    "wal-large": (
        [
            (
                osd(has_wal=True, wal_size_bytes=40 * GIB, wal_devices=("nvme0n1",)),
                "no WAL device, one block.db of 200 GiB: the WAL is in it by itself",
            ),
            (osd(has_wal=True, wal_size_bytes=40 * GIB, wal_devices=("nvme1n1",)), "a WAL of 10 GiB"),
        ],
        [QUINCY, osd(has_wal=True, wal_size_bytes=10 * GIB, wal_devices=("nvme1n1",))],
    ),
    "min-alloc-hdd": ([(osd(min_alloc_bytes=65536), "4 KiB")], [QUINCY, osd(3, min_alloc_bytes=16384)]),
    "min-alloc-ssd": ([(osd(3, min_alloc_bytes=16384), "4 KiB")], [QUINCY, osd(min_alloc_bytes=65536)]),
    "memory-target": (
        [(option("osd_memory_target", str(GIB)), "4294967296")],
        [QUINCY, option("osd_memory_target", str(2 * GIB))],
    ),
    "cache-autotune": ([(option("bluestore_cache_autotune", "false"), "true")], [QUINCY]),
    "bluefs-buffered-io": ([(option("bluefs_buffered_io", "false"), "true")], [QUINCY]),
    "allocator": ([(option("bluestore_allocator", "bitmap"), "hybrid")], [QUINCY]),
    "prefer-deferred-hdd": (
        [(option("bluestore_prefer_deferred_size_hdd", "32768"), "65536")],
        [QUINCY, option("bluestore_prefer_deferred_size_hdd", "0", 3)],
    ),
    "prefer-deferred-ssd": (
        [(option("bluestore_prefer_deferred_size_ssd", "32768", 3), "0")],
        [QUINCY, option("bluestore_prefer_deferred_size_ssd", "32768", 0)],
    ),
    "own-costs": (
        [(option("bluestore_rocksdb_options", "compression=kNoCompression"), "Ceph's defaults (remove the lines)")],
        [QUINCY, option("bluestore_rocksdb_options", "compression=kLZ4Compression", source="default")],
    ),
    "shards-hdd": (
        [(option("osd_op_num_shards_hdd", "5", source="default"), "1 x 5")],
        [
            QUINCY,
            shapes.hybrid("pacific"),
            shapes.with_option(option("osd_op_num_shards_hdd", "5"), 0, "osd_op_queue", "wpq"),
        ],
    ),
    "mclock-capacity-hdd": (
        [(option("osd_mclock_max_capacity_iops_hdd", "2300.5"), "315")],
        [
            QUINCY,
            option("osd_mclock_max_capacity_iops_hdd", "500"),
            shapes.with_option(shapes.hybrid("pacific"), 0, "osd_mclock_max_capacity_iops_hdd", "2300.5"),
        ],
    ),
    "mclock-capacity-ssd": (
        [(option("osd_mclock_max_capacity_iops_ssd", "110000", 3), "21500")],
        [QUINCY, option("osd_mclock_max_capacity_iops_ssd", "79000", 3)],
    ),
    "scrub-during-recovery": ([(option("osd_scrub_during_recovery", "true"), "false")], [QUINCY]),
    "pg-power-of-two": (
        [
            (shapes.with_pool(QUINCY, "data", pg_num=100), "128"),
            (shapes.with_pool(QUINCY, "data", pg_num=70), "64"),
        ],
        [QUINCY],
    ),
    "pg-too-many": (
        [(shapes.with_pool(QUINCY, "data", pg_num=512), "pg_autoscale_mode on, about 100 an OSD")],
        [QUINCY, shapes.with_pool(QUINCY, "data", pg_num=256)],
    ),
    "pool-bulk": (
        [(shapes.with_pool(many_osds("quincy"), "data", stored_bytes=9 * GIB), "true")],
        [
            QUINCY,
            many_osds("quincy"),
            shapes.with_pool(many_osds("pacific"), "data", stored_bytes=9 * GIB),
            shapes.with_pool(many_osds("quincy"), "data", stored_bytes=9 * GIB, is_bulk=True),
        ],
    ),
    "crush-class": (
        [(shapes.with_pool(QUINCY, "data", crush_rule="any"), "a rule for one class (hdd or ssd)")],
        [QUINCY, shapes.bare_disks("quincy")],
    ),
    "aio-max-nr": ([(shapes.with_sysctl(QUINCY, "fs.aio-max-nr", "65536"), "1048576")], [QUINCY]),
    "pid-max": ([(shapes.with_sysctl(QUINCY, "kernel.pid_max", "32768"), "4194304")], [QUINCY]),
    "zone-reclaim": ([(shapes.with_sysctl(QUINCY, "vm.zone_reclaim_mode", "1"), "0")], [QUINCY]),
    "swappiness": (
        [(shapes.with_host(shapes.with_sysctl(QUINCY, "vm.swappiness", "60"), swap_bytes=GIB), "10")],
        [QUINCY, shapes.with_sysctl(QUINCY, "vm.swappiness", "60"), shapes.with_host(QUINCY, swap_bytes=GIB)],
    ),
    "min-free": (
        [(shapes.with_sysctl(QUINCY, "vm.min_free_kbytes", "67584"), "4194303")],
        [QUINCY, shapes.with_host(shapes.with_sysctl(QUINCY, "vm.min_free_kbytes", "67584"), memory_bytes=32 * GIB)],
    ),
    "governor": (
        [(shapes.with_host(QUINCY, governor="powersave"), "performance")],
        [QUINCY, shapes.with_host(QUINCY, governor="")],
    ),
    "io-scheduler": (
        [
            (shapes.with_device(QUINCY, "sdb", scheduler="none"), "mq-deadline"),
            (shapes.with_device(QUINCY, "nvme0n1", scheduler="mq-deadline"), "none"),
        ],
        [
            QUINCY,
            shapes.with_device(QUINCY, "sdb", scheduler=""),
            shapes.with_device(QUINCY, "sdb", is_rotational=False, scheduler="none"),
        ],
    ),
}

NO_DISKS: tuple[Device, ...] = ()
#: Rule -> [(facts, part of what it says)], and facts in which it refuses nothing.
REFUSALS: dict[str, tuple[list[tuple[Facts, str]], list[Facts]]] = {
    "db-missing": (
        [
            (slow_and_virtual(0.001), "virtual and commits in less than 8 ms"),
            (shapes.with_device(no_db(counters=None), "sdb", is_virtual=True), "too little was written"),
        ],
        [QUINCY, no_db()],
    ),
    "db-on-disk": (
        [
            (db_on_disk(0.00065), "marked as rotational, but it commits in less than 8 ms, as no disk does"),
            (
                shapes.with_device(osd(is_db_rotational=True, counters=None), "nvme0n1", is_virtual=True),
                "nvme0n1, which is virtual, and too little was written",
            ),
        ],
        [QUINCY, db_on_disk(0.04), osd(is_db_rotational=True, counters=None)],
    ),
    "min-alloc-hdd": ([(osd(min_alloc_bytes=None), "does not tell with which min_alloc_size")], [QUINCY]),
    "min-alloc-ssd": ([(osd(3, min_alloc_bytes=None), "does not tell with which min_alloc_size")], [QUINCY]),
    "memory-target": (
        [(shapes.with_osd(option("osd_memory_target", str(GIB)), 0, memory_bytes=16 * GIB), "a has 16 GiB for 6 OSDs")],
        [QUINCY, option("osd_memory_target", str(GIB))],
    ),
    "prefer-deferred-hdd": (
        [
            (option("bluestore_prefer_deferred_size_hdd", "262144"), "no published measurement"),
            (shapes.with_option(no_db(), 0, "bluestore_prefer_deferred_size_hdd", "0"), "may be meant so"),
        ],
        [QUINCY],
    ),
    "mclock-ignored": (
        [
            (option("osd_max_backfills", "4"), "osd_max_backfills set, and without effect"),
            (option("osd_recovery_sleep_hdd", "0"), "osd_recovery_sleep_hdd set, and without effect"),
        ],
        [
            QUINCY,
            shapes.with_option(option("osd_max_backfills", "4"), 0, "osd_op_queue", "wpq"),
            shapes.with_option(option("osd_max_backfills", "4"), 0, "osd_mclock_override_recovery_settings", "true"),
            shapes.with_option(shapes.hybrid("pacific"), 0, "osd_max_backfills", "4"),
        ],
    ),
    "cache-tier": ([(shapes.with_pool(QUINCY, "data", is_tiered=True), "deprecated tiers since Reef")], [QUINCY]),
    "hugepages": ([(shapes.with_host(QUINCY, transparent_hugepages="always"), "may stay")], [QUINCY]),
    "io-scheduler": (
        [
            (shapes.with_device(QUINCY, "sdb", scheduler="none", is_virtual=True), "it is virtual"),
            (shapes.with_device(QUINCY, "sdb", scheduler="bfq"), "no comparison with BlueStore"),
        ],
        [QUINCY, shapes.with_device(QUINCY, "sdb", is_virtual=True)],
    ),
    "read-ahead": ([(QUINCY, "has no effect on BlueStore")], [shapes.with_host(QUINCY, devices=NO_DISKS)]),
    "nr-requests": ([(QUINCY, "no trustworthy measurement")], [shapes.with_host(QUINCY, devices=NO_DISKS)]),
}


def proposed(facts: Facts, rule: str) -> list[str]:
    return [step.proposed for step in plan_of(facts).steps if step.rule == rule]


def refused(facts: Facts, rule: str) -> list[str]:
    return [one.why for one in plan_of(facts).refused if one.rule == rule]


@pytest.mark.parametrize("rule", CHANGES)
def test_a_rule_proposes_where_it_should_and_nowhere_else(rule: str) -> None:
    speaking, silent = CHANGES[rule]
    for facts, wanted in speaking:
        assert proposed(facts, rule) == [wanted]
    for facts in silent:
        assert proposed(facts, rule) == []


@pytest.mark.parametrize("rule", REFUSALS)
def test_a_rule_refuses_where_it_should_and_nowhere_else(rule: str) -> None:
    speaking, silent = REFUSALS[rule]
    for facts, part in speaking:
        whys = refused(facts, rule)
        assert whys and all(part in why for why in whys)
        assert proposed(facts, rule) == []
    for facts in silent:
        assert refused(facts, rule) == []


def test_every_rule_is_tested() -> None:
    assert {rule.rule for rule in RULES} == set(CHANGES) | set(REFUSALS)
    assert len({rule.rule for rule in RULES}) == len(RULES)


def test_every_rule_has_its_value_and_source_in_the_document() -> None:
    rows = dict(re.findall(r"^\| `([a-z-]+)` \| (.*) \|$", DOCUMENT.read_text(), re.MULTILINE))
    for rule in RULES:
        assert f"{rule.recommended} | {rule.source}" in rows.pop(rule.rule)
    assert rows == {}


@pytest.mark.parametrize("release", KNOWN)
@pytest.mark.parametrize("shape", [shapes.hybrid, shapes.all_flash])
def test_a_cluster_as_it_should_be_is_left_alone(shape: Callable[[str], Facts], release: str) -> None:
    assert plan_of(shape(release)).steps == ()


@pytest.mark.parametrize("rule", ["db-missing", "db-on-disk", "db-small", "db-spillover", "wal-large"])
def test_where_rocksdb_is_can_be_changed_without_a_rebuild(rule: str) -> None:
    (step,) = [step for step in plan_of(CHANGES[rule][0][0][0]).steps if step.rule == rule]
    assert (step.creation_only, step.needs_restart, step.risk) == (False, True, "low")
    words = [
        "noout",
        "stop the OSD",
        *(["lvm new-db --osd-id ID --osd-fsid FSID --target VG/LV"] if rule == "db-missing" else []),
        "lvm migrate --osd-id ID --osd-fsid FSID --from ",
        "start it",
        "cephadm shell",
    ]
    places = [step.by_hand.find(word) for word in words]
    assert -1 not in places and places == sorted(places)
    assert "--target VG/LV" in step.by_hand[places[-3] : places[-2]]
    assert "rebuild" not in step.by_hand.replace("no rebuild", "") and "destroy" not in step.by_hand


def test_the_unit_of_allocation_takes_a_rebuild() -> None:
    assert {rule.rule for rule in RULES if rule.creation_only} == {"min-alloc-hdd", "min-alloc-ssd"}


def test_rules_read_something_and_have_releases() -> None:
    for rule in RULES:
        assert rule.reads and rule.reason and rule.source
        assert set(rule.releases) <= set(KNOWN)
        assert not rule.creation_only or (isinstance(rule, OsdRule) and rule.needs_restart)
