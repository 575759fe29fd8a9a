"""Ceph's answers, in the spelling of several releases, become facts."""

import json
from typing import Any

import pytest

from loligo_osdtune.core.answers import Answers, counters_of, facts_of
from loligo_osdtune.core.facts import CrushRule, ErasureProfile, FactsError
from loligo_osdtune.core.recording import encode

POOL = {
    "pool_name": "data",
    "pg_num": 32,
    "size": 3,
    "min_size": 2,
    "type": 3,
    "erasure_code_profile": "cut",
    "options": {"target_size_ratio": 0.5},
    "crush_rule": 1,
    "pg_autoscale_mode": "warn",
    "flags_names": "hashpspool,ec_overwrites,bulk",
    "tiers": [],
    "tier_of": -1,
    "application_metadata": {"rbd": {}},
}
RULE = {
    "rule_id": 1,
    "rule_name": "r",
    "type": 3,
    "steps": [
        {"op": "set_chooseleaf_tries", "num": 5},
        {"op": "take", "item_name": "default~hdd"},
        {"op": "choose_indep", "num": 2, "type": "rack"},
        {"op": "chooseleaf_indep", "num": 2, "type": "host"},
        {"op": "emit"},
    ],
}
#: osd.0 is below host a in rack r; each bucket has a shadow for its class. osd.1 is nowhere.
BUCKETS = [
    {"id": -1, "name": "default", "type_name": "root", "items": [{"id": -5}]},
    {"id": -2, "name": "a~hdd", "type_name": "host", "items": [{"id": 0}]},
    {"id": -3, "name": "a", "type_name": "host", "items": [{"id": 0}]},
    {"id": -4, "name": "default~hdd", "type_name": "root", "items": [{"id": -6}]},
    {"id": -5, "name": "r", "type_name": "rack", "items": [{"id": -3}]},
    {"id": -6, "name": "r~hdd", "type_name": "rack", "items": [{"id": -2}]},
]
METADATA = {
    "id": 0,
    "hostname": "a",
    "ceph_version": "ceph version 17.2.7 (b12291d110049b2f35e32e0de30d70e9a4c060d2) quincy (stable)",
    "ceph_version_short": "17.2.7",
    "osd_objectstore": "bluestore",
    "bluestore_bdev_size": "4000787030016",
    "bluestore_bdev_rotational": "1",
    "bluestore_bdev_devices": "sdb",
    "bluefs_dedicated_db": "1",
    "bluefs_db_size": "64424509440",
    "bluefs_db_rotational": "0",
    "bluefs_db_devices": "nvme0n1",
    "mem_total_kb": "65536",
}


def answers(**changed: Any) -> Answers:
    known: dict[str, Any] = {
        "health": {"status": "HEALTH_WARN", "checks": {}},
        "osd_dump": {
            "fsid": "x",
            "osds": [{"osd": 1, "up": 0, "in": 0}, {"osd": 0, "up": 1, "in": 1}],
            "pools": [POOL],
            "flags": "sortbitwise,noautoscale",
            "erasure_code_profiles": {"cut": {"k": "2", "m": "1", "crush-device-class": "hdd"}},
        },
        "metadata": [METADATA],
        "osd_df": {"nodes": [{"id": 0, "device_class": "hdd", "crush_weight": 1.5, "pgs": 7, "utilization": 1.5}]},
        "df": {"pools": [{"name": "data", "stats": {"stored": 5, "objects": 2}}]},
        "crush": {"buckets": BUCKETS, "rules": [RULE]},
        "config_dump": [],
        "has_autoscaler": True,
    }
    return Answers(**{**known, **changed})


def test_osds_pools_and_rules() -> None:
    facts = facts_of(answers(), (), ())
    up, down = facts.osds
    assert (up.release, up.version, up.device_class, up.pgs, up.memory_bytes) == (
        "quincy",
        "17.2.7",
        "hdd",
        7,
        64 << 20,
    )
    assert (up.has_db, up.db_size_bytes, up.is_db_rotational, up.db_devices) == (True, 64424509440, False, ("nvme0n1",))
    assert up.min_alloc_bytes is None  # this OSD does not tell
    assert (down.is_up, down.release, down.is_rotational, down.counters) == (False, "", None, None)
    (pool,) = facts.pools
    assert (pool.is_bulk, pool.is_erasure_coded, pool.is_tiered, pool.stored_bytes) == (True, True, False, 5)
    assert (pool.min_size, pool.ec_profile, pool.has_overwrites, pool.target_size_ratio, pool.objects) == (
        2,
        "cut",
        True,
        0.5,
        2,
    )
    assert facts.crush_rules == (CrushRule("r", ("hdd",), ("default",), ("rack", "host"), True),)


def test_where_crush_has_the_osds_and_what_a_profile_takes() -> None:
    facts = facts_of(answers(), (), ())
    up, down = facts.osds
    assert (up.crush_root, up.crush_host, up.crush_weight, up.is_in) == ("default", "a", 1.5, True)
    assert (down.crush_root, down.crush_host, down.crush_weight, down.is_in) == ("", "", 0.0, False)
    assert facts.ec_profiles == (ErasureProfile("cut", 2, 1, "hdd", "default", "host"),)
    assert (facts.flags, facts.is_stretched, facts.has_autoscaler) == (("noautoscale", "sortbitwise"), False, True)


def test_secrets_of_the_configuration_are_not_kept() -> None:
    secret = {"section": "mgr", "name": "mgr/dashboard/secret_key", "value": "hunter2"}
    wanted = {"section": "osd", "mask": "class:hdd", "name": "osd_memory_target", "value": "1"}
    options = [
        {"name": "osd_memory_target", "value": "1", "source": "mon"},
        {"name": "key", "value": "hunter2", "source": "file"},
    ]
    facts = facts_of(answers(config_dump=[secret, wanted], config={0: options}), (), ["osd_memory_target"])
    assert "hunter2" not in json.dumps(encode(facts))
    assert [entry.mask for entry in facts.config] == ["class:hdd"]
    assert [option.source for option in facts.osds[0].options] == ["mon"]


@pytest.mark.parametrize("name", ["commit_lat", "txc_commit_lat"])
def test_counters_in_both_spellings(name: str) -> None:
    perf = {
        "bluestore": {name: {"avgcount": 4, "sum": 0.5}, "deferred_write_ops": 3},
        "throttle-a": {"wait": {"avgcount": 1, "sum": 0.25}},
        "throttle-b": {"wait": {"avgcount": 2, "sum": 0.5}},
        "osd": {"op_w": 5, "op_rw": 1, "op_w_in_bytes": 10, "op_rw_in_bytes": 2},
    }
    counters = counters_of(perf)
    assert (counters.commits, counters.commit_sum_s, counters.deferred_writes) == (4, 0.5, 3)
    assert (counters.throttle_waits, counters.throttle_wait_sum_s) == (3, 0.75)
    assert (counters.writes, counters.written_bytes) == (6, 12)


def test_an_answer_that_is_not_understood_is_an_error() -> None:
    with pytest.raises(FactsError, match="in a way that I do not understand"):
        facts_of(answers(osd_df={"rows": []}), (), ())
