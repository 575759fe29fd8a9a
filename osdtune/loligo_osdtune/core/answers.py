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
    ErasureProfile,
    Facts,
    FactsError,
    HealthCheck,
    Host,
    Option,
    Osd,
    Pool,
)

_ERASURE_CODED = 3  # of pools and rules, as Ceph numbers their types
_SHADOW = re.compile(r"~(?P<device_class>[^~]+)$")


@dataclass(slots=True)
class Answers:
    """What was asked, by command; by OSD where each was asked. `gaps`: what was refused or not answered."""

    health: Any
    osd_dump: Any
    metadata: Any
    osd_df: Any
    df: Any
    crush: Any
    config_dump: Any
    has_autoscaler: bool | None
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
            crush_rules=tuple(sorted(map(_crush_rule, answers.crush["rules"]), key=lambda rule: rule.rule)),
            ec_profiles=tuple(
                _ec_profile(name, settings)
                for name, settings in sorted(answers.osd_dump["erasure_code_profiles"].items())
            ),
            flags=tuple(sorted(answers.osd_dump["flags"].split(","))),
            is_stretched=answers.osd_dump.get("stretch_mode", {}).get("stretch_mode_enabled", False),
            has_autoscaler=answers.has_autoscaler,
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
    above = _buckets_above(answers.crush["buckets"])
    return tuple(
        _osd(row, metadata.get(row["osd"], {}), usage.get(row["osd"], {}), _path(above, row["osd"]), answers, wanted)
        for row in sorted(answers.osd_dump["osds"], key=lambda row: int(row["osd"]))
    )


def _osd(row: Any, told: Any, used: Any, path: list[Any], answers: Answers, wanted: frozenset[str]) -> Osd:
    number = row["osd"]
    options = answers.config.get(number) or ()
    counters = answers.counters.get(number)
    has_db = told.get("bluefs_dedicated_db") == "1"
    return Osd(
        osd=number,
        host=told.get("hostname", ""),
        device_class=used.get("device_class", ""),
        crush_root=path[-1]["name"] if path else "",
        crush_host=next((bucket["name"] for bucket in path if bucket["type_name"] == "host"), ""),
        crush_weight=round(float(used.get("crush_weight", 0.0)), 5),
        version=told.get("ceph_version_short", ""),
        release=told.get("ceph_release") or _release(told.get("ceph_version", "")),
        is_up=bool(row["up"]),
        is_in=bool(row["in"]),
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


def _buckets_above(buckets: Iterable[Any]) -> dict[int, Any]:
    """Of each OSD and bucket the bucket that it is in, shadows of the tree ("default~hdd") left out."""
    return {item["id"]: bucket for bucket in buckets if not _SHADOW.search(bucket["name"]) for item in bucket["items"]}


def _path(above: dict[int, Any], osd: int) -> list[Any]:
    """The buckets above an OSD, the nearest first."""
    path: list[Any] = []
    while (bucket := above.get(path[-1]["id"] if path else osd)) is not None:
        path.append(bucket)
    return path


def _release(version: str) -> str:
    """From "ceph version 16.2.15 (…) pacific (stable)", for OSDs that do not name it by itself."""
    words = version.split()
    return words[4] if len(words) > 4 else ""


def _flag(text: str | None) -> bool | None:
    return None if text is None else text == "1"


def _names(text: str) -> tuple[str, ...]:
    return tuple(sorted(name for name in text.split(",") if name))


def _pools(answers: Answers) -> tuple[Pool, ...]:
    rules = {rule["rule_id"]: rule["rule_name"] for rule in answers.crush["rules"]}
    usage = {pool["name"]: pool["stats"] for pool in answers.df["pools"]}
    pools = [
        Pool(
            pool=pool["pool_name"],
            pg_num=pool["pg_num"],
            size=pool["size"],
            min_size=pool["min_size"],
            is_erasure_coded=pool["type"] == _ERASURE_CODED,
            ec_profile=pool.get("erasure_code_profile", ""),
            has_overwrites="ec_overwrites" in pool["flags_names"].split(","),
            crush_rule=rules.get(pool["crush_rule"], ""),
            autoscale_mode=pool.get("pg_autoscale_mode", "off"),
            is_bulk="bulk" in pool["flags_names"].split(","),
            target_size_ratio=float(pool.get("options", {}).get("target_size_ratio", 0.0)),
            is_tiered=bool(pool.get("tiers")) or pool.get("tier_of", -1) >= 0,
            stored_bytes=usage.get(pool["pool_name"], {}).get("stored", 0),
            objects=usage.get(pool["pool_name"], {}).get("objects", 0),
            applications=tuple(sorted(pool.get("application_metadata", {}))),
        )
        for pool in answers.osd_dump["pools"]
    ]
    return tuple(sorted(pools, key=lambda pool: pool.pool))


def _crush_rule(rule: Any) -> CrushRule:
    classes, roots, domains = [], [], []
    for step in rule["steps"]:
        if step["op"] == "take":
            shadow = _SHADOW.search(step["item_name"])
            classes.append(shadow["device_class"] if shadow else "")
            roots.append(_SHADOW.sub("", step["item_name"]))
        elif step["op"].startswith("choose"):
            domains.append(step["type"])
    return CrushRule(
        rule["rule_name"], tuple(classes), tuple(roots), tuple(domains), rule.get("type") == _ERASURE_CODED
    )


def _ec_profile(name: str, settings: Any) -> ErasureProfile:
    """What is not said is Ceph's default."""
    return ErasureProfile(
        profile=name,
        k=int(settings.get("k", 0)),
        m=int(settings.get("m", 0)),
        crush_class=settings.get("crush-device-class", ""),
        crush_root=settings.get("crush-root", "default"),
        crush_domain=settings.get("crush-failure-domain", "host"),
    )


def _config(entries: Iterable[Any], wanted: frozenset[str]) -> tuple[ConfigEntry, ...]:
    """Only what a rule reads: among the rest there may be secrets."""
    found = [
        ConfigEntry(entry["section"], entry.get("mask", ""), entry["name"], str(entry["value"]))
        for entry in entries
        if entry["name"] in wanted
    ]
    return tuple(sorted(found, key=lambda entry: (entry.section, entry.mask, entry.name)))
