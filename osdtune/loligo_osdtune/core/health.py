"""How a cluster does at one moment, as far as apply looks at it, and whether it does worse than before.

Worse is anything that is new: an OSD down, a placement group that is not active and clean, a health check. What was wrong
before we came is no reason to stop, and no excuse for more.
"""

from dataclasses import dataclass
from typing import Any

from loligo_osdtune.core.facts import FactsError


@dataclass(frozen=True, slots=True)
class Health:
    """`since`: for each OSD that is up the epoch of the map in which it came up, so that a restart can be seen."""

    since: dict[int, int]
    down: frozenset[int]
    unclean: int
    checks: frozenset[str]


def health_of(status: Any, osd_dump: Any) -> Health:
    """From `status` and `osd dump`. FactsError: they cannot be understood."""
    try:
        return Health(
            since={row["osd"]: row["up_from"] for row in osd_dump["osds"] if row["up"]},
            down=frozenset(row["osd"] for row in osd_dump["osds"] if not row["up"]),
            unclean=sum(
                row["count"] for row in status["pgmap"].get("pgs_by_state", ()) if not _is_clean(row["state_name"])
            ),
            checks=frozenset(status["health"].get("checks") or ()),
        )
    except (KeyError, TypeError) as error:
        raise FactsError(
            f"Ceph told its status in a way that I do not understand ({error!r}): is it newer than Squid?"
        ) from error


def worse_than(before: Health, now: Health) -> tuple[str, ...]:
    """In what `now` is worse, for people; empty if it is not."""
    found = [f"osd.{osd} is down" for osd in sorted(now.down - before.down)]
    if now.unclean > before.unclean:
        found.append(f"{now.unclean - before.unclean} more placement groups are not active+clean")
    found += [f"new health check {check}" for check in sorted(now.checks - before.checks)]
    return tuple(found)


def reported_since(placement_groups: Any, epoch: int) -> bool:
    """From `pg ls-by-osd`: whether all that is known of them is from `epoch` or later, and not how they were before it."""
    return all(int(group["reported_epoch"]) >= epoch for group in placement_groups.get("pg_stats", ()))


def clean_among(placement_groups: Any) -> int:
    """From `pg ls-by-pool`: how many are active+clean."""
    return sum(_is_clean(group["state"]) for group in placement_groups.get("pg_stats", ()))


def _is_clean(state: str) -> bool:
    return {"active", "clean"} <= set(state.split("+"))
