"""Ceph's answers, in the spelling of several releases, become facts."""

import json
from typing import Any

import pytest

from loligo_osdtune.core.answers import Answers, counters_of, facts_of
from loligo_osdtune.core.facts import CrushRule, FactsError
from loligo_osdtune.core.recording import encode

POOL = {
    "pool_name": "data",
    "pg_num": 32,
    "size": 3,
    "type": 3,
    "crush_rule": 1,
    "pg_autoscale_mode": "warn",
    "flags_names": "hashpspool,bulk",
    "tiers": [],
    "tier_of": -1,
    "application_metadata": {"rbd": {}},
}
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
        "osd_dump": {"fsid": "x", "osds": [{"osd": 1, "up": 0}, {"osd": 0, "up": 1}], "pools": [POOL]},
        "metadata": [METADATA],
        "osd_df": {"nodes": [{"id": 0, "device_class": "hdd", "pgs": 7, "utilization": 1.5}]},
        "df": {"pools": [{"name": "data", "stats": {"stored": 5}}]},
        "crush_rules": [{"rule_id": 1, "rule_name": "r", "steps": [{"op": "take", "item_name": "default~hdd"}]}],
        "config_dump": [],
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
    assert facts.crush_rules == (CrushRule("r", ("hdd",)),)


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
