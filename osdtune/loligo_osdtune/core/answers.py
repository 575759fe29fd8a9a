"""Ceph's JSON answers -> facts. The only place that knows how Ceph spells things.

Rule: an answer that is missing makes facts missing; one that cannot be understood is a FactsError that names the command.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from loligo_osdtune.core.facts import (
    ConfigEntry,
    Counters,
    CrushRule,
    Facts,
    FactsError,
    HealthCheck,
    Host,
    Option,
    Osd,
    Pool,
)

_SHADOW = re.compile(r"~(?P<device_class>[^~]+)$")


@dataclass(slots=True)
class Answers:
    """What was asked, by command; by OSD where each was asked. `gaps`: what was refused or not answered."""

    health: Any
    osd_dump: Any
    metadata: Any
    osd_df: Any
    df: Any
    crush_rules: Any
    config_dump: Any
    config: Mapping[int, Any] = field(default_factory=dict)
    counters: Mapping[int, Any] = field(default_factory=dict)
    gaps: tuple[str, ...] = ()


def facts_of(answers: Answers, hosts: tuple[Host, ...], wanted_options: Iterable[str]) -> Facts:
    wanted = frozenset(wanted_options)
    try:
        return Facts(
            fsid=answers.osd_dump["fsid"],
            health=answers.health["status"],
            checks=_checks(answers.health),
            osds=_osds(answers, wanted),
            pools=_pools(answers),
            crush_rules=tuple(sorted(map(_crush_rule, answers.crush_rules), key=lambda rule: rule.rule)),
            config=_config(answers.config_dump or (), wanted),
            hosts=hosts,
            gaps=answers.gaps,
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise FactsError(
            f"Ceph answered in a way that I do not understand ({error!r}): is it newer than Squid?"
        ) from error


def counters_of(perf: Any) -> Counters:
    """From `perf dump` of one OSD."""
    bluefs, bluestore, osd = perf.get("bluefs", {}), perf.get("bluestore", {}), perf.get("osd", {})
    # From Quincy on BlueStore counts each commit in txc_commit_lat, before in commit_lat.
    commit = bluestore.get("txc_commit_lat") or bluestore.get("commit_lat") or {}
    waits = [part["wait"] for name, part in perf.items() if name.startswith("throttle-") and "wait" in part]
    return Counters(
        db_total_bytes=bluefs.get("db_total_bytes", 0),
        db_used_bytes=bluefs.get("db_used_bytes", 0),
        wal_total_bytes=bluefs.get("wal_total_bytes", 0),
        wal_used_bytes=bluefs.get("wal_used_bytes", 0),
        slow_used_bytes=bluefs.get("slow_used_bytes", 0),
        commits=commit.get("avgcount", 0),
        commit_sum_s=float(commit.get("sum", 0.0)),
        # The older pair counts what was forced to be deferred; newer releases count every deferred write.
        deferred_writes=bluestore.get("issued_deferred_writes", bluestore.get("deferred_write_ops", 0)),
        deferred_bytes=bluestore.get("issued_deferred_write_bytes", bluestore.get("deferred_write_bytes", 0)),
        throttle_waits=sum(wait["avgcount"] for wait in waits),
        throttle_wait_sum_s=float(sum(wait["sum"] for wait in waits)),
        reads=osd.get("op_r", 0),
        read_bytes=osd.get("op_r_out_bytes", 0),
        writes=osd.get("op_w", 0) + osd.get("op_rw", 0),
        written_bytes=osd.get("op_w_in_bytes", 0) + osd.get("op_rw_in_bytes", 0),
    )


def _checks(health: Any) -> tuple[HealthCheck, ...]:
    checks = health.get("checks") or {}
    return tuple(
        HealthCheck(code, check["severity"], check["summary"]["message"]) for code, check in sorted(checks.items())
    )


def _osds(answers: Answers, wanted: frozenset[str]) -> tuple[Osd, ...]:
    metadata = {row["id"]: row for row in answers.metadata}
    usage = {row["id"]: row for row in answers.osd_df["nodes"]}
    return tuple(
        _osd(row, metadata.get(row["osd"], {}), usage.get(row["osd"], {}), answers, wanted)
        for row in sorted(answers.osd_dump["osds"], key=lambda row: int(row["osd"]))
    )


def _osd(row: Any, told: Any, used: Any, answers: Answers, wanted: frozenset[str]) -> Osd:
    number = row["osd"]
    options = answers.config.get(number) or ()
    counters = answers.counters.get(number)
    has_db = told.get("bluefs_dedicated_db") == "1"
    return Osd(
        osd=number,
        host=told.get("hostname", ""),
        device_class=used.get("device_class", ""),
        version=told.get("ceph_version_short", ""),
        release=told.get("ceph_release") or _release(told.get("ceph_version", "")),
        is_up=bool(row["up"]),
        object_store=told.get("osd_objectstore", ""),
        size_bytes=int(told.get("bluestore_bdev_size", 0)),
        is_rotational=_flag(told.get("bluestore_bdev_rotational", told.get("rotational"))),
        is_db_rotational=_flag(told.get("bluefs_db_rotational")) if has_db else None,
        has_db=has_db,
        has_wal=told.get("bluefs_dedicated_wal") == "1",
        db_size_bytes=int(told.get("bluefs_db_size", 0)) if has_db else 0,
        wal_size_bytes=int(told.get("bluefs_wal_size", 0)),
        devices=_names(told.get("bluestore_bdev_devices", "")),
        db_devices=_names(told.get("bluefs_db_devices", "")) if has_db else (),
        wal_devices=_names(told.get("bluefs_wal_devices", "")),
        min_alloc_bytes=int(told["bluestore_min_alloc_size"]) if "bluestore_min_alloc_size" in told else None,
        memory_bytes=int(told.get("mem_total_kb", 0)) << 10,
        swap_bytes=int(told.get("mem_swap_kb", 0)) << 10,
        pgs=used.get("pgs", 0),
        used_percent=round(float(used.get("utilization", 0.0)), 2),
        options=tuple(
            Option(option["name"], str(option["value"]), option["source"])
            for option in sorted(options, key=lambda option: str(option["name"]))
            if option["name"] in wanted
        ),
        counters=counters_of(counters) if counters is not None else None,
    )


def _release(version: str) -> str:
    """From "ceph version 16.2.15 (…) pacific (stable)", for OSDs that do not name it by itself."""
    words = version.split()
    return words[4] if len(words) > 4 else ""


def _flag(text: str | None) -> bool | None:
    return None if text is None else text == "1"


def _names(text: str) -> tuple[str, ...]:
    return tuple(sorted(name for name in text.split(",") if name))


def _pools(answers: Answers) -> tuple[Pool, ...]:
    rules = {rule["rule_id"]: rule["rule_name"] for rule in answers.crush_rules}
    stored = {pool["name"]: pool["stats"].get("stored", 0) for pool in answers.df["pools"]}
    pools = [
        Pool(
            pool=pool["pool_name"],
            pg_num=pool["pg_num"],
            size=pool["size"],
            is_erasure_coded=pool["type"] == 3,
            crush_rule=rules.get(pool["crush_rule"], ""),
            autoscale_mode=pool.get("pg_autoscale_mode", "off"),
            is_bulk="bulk" in pool["flags_names"].split(","),
            is_tiered=bool(pool.get("tiers")) or pool.get("tier_of", -1) >= 0,
            stored_bytes=stored.get(pool["pool_name"], 0),
            applications=tuple(sorted(pool.get("application_metadata", {}))),
        )
        for pool in answers.osd_dump["pools"]
    ]
    return tuple(sorted(pools, key=lambda pool: pool.pool))


def _crush_rule(rule: Any) -> CrushRule:
    classes = []
    for step in rule["steps"]:
        if step["op"] == "take":
            shadow = _SHADOW.search(step["item_name"])
            classes.append(shadow["device_class"] if shadow else "")
    return CrushRule(rule["rule_name"], tuple(classes))


def _config(entries: Iterable[Any], wanted: frozenset[str]) -> tuple[ConfigEntry, ...]:
    """Only what a rule reads: among the rest there may be secrets."""
    found = [
        ConfigEntry(entry["section"], entry.get("mask", ""), entry["name"], str(entry["value"]))
        for entry in entries
        if entry["name"] in wanted
    ]
    return tuple(sorted(found, key=lambda entry: (entry.section, entry.mask, entry.name)))
