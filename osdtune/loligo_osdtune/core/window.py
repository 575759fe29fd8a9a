"""Two readings of an OSD's counters -> what happened in between."""

from dataclasses import fields, replace

from loligo_osdtune.core.facts import Counters, Facts

_LEVELS = frozenset(("db_total_bytes", "db_used_bytes", "wal_total_bytes", "wal_used_bytes", "slow_used_bytes"))


def between(before: Counters, after: Counters) -> Counters:
    """Levels are those of `after`. An OSD that restarted in between has counted from zero."""
    restarted = after.commits < before.commits or after.writes < before.writes or after.reads < before.reads
    if restarted:
        return after
    counted = [field.name for field in fields(Counters) if field.name not in _LEVELS]
    return replace(after, **{name: getattr(after, name) - getattr(before, name) for name in counted})


def facts_of_window(facts: Facts, after: dict[int, Counters]) -> Facts:
    """`facts` with the counters of what happened since they were gathered."""
    osds = tuple(
        replace(osd, counters=between(osd.counters, after[osd.osd])) if osd.counters and osd.osd in after else osd
        for osd in facts.osds
    )
    return replace(facts, osds=osds)
