"""Pools: placement groups, CRUSH rules, tiers."""

from loligo_osdtune.core.facts import Facts, Pool
from loligo_osdtune.core.releases import QUINCY, since
from loligo_osdtune.core.rule import Change, PoolRule, Refusal, Verdict

BULK_SHARE = 0.5
BULK_LEAST_OSDS = 10  # on fewer a bulk pool starts with about the PGs that it has anyway
PGS_MOST = 250
_MOVES_DATA = "it moves data for hours, and undoing it moves them again: choose the time, then 'ceph osd pool set'"


def _power_of_two(facts: Facts, pool: Pool) -> Verdict:
    if not pool.pg_num & (pool.pg_num - 1):
        return None
    higher = 1 << pool.pg_num.bit_length()
    nearest = higher if higher - pool.pg_num <= pool.pg_num - higher // 2 else higher // 2
    return Change(str(pool.pg_num), "osd map", str(nearest))


def _too_many(facts: Facts, pool: Pool) -> Verdict:
    """Blames the pool with most placement groups."""
    osds = sum(osd.is_up for osd in facts.osds)
    copies = sum(other.pg_num * other.size for other in facts.pools)
    largest = max(facts.pools, key=lambda other: (other.pg_num * other.size, other.pool))
    if not osds or copies <= osds * PGS_MOST or pool != largest:
        return None
    return Change(
        f"{pool.pg_num} PGs here, {copies / osds:.0f} an OSD over all pools",
        "osd map",
        "pg_autoscale_mode on, about 100 an OSD",
    )


def _bulk(facts: Facts, pool: Pool) -> Verdict:
    stored = sum(other.stored_bytes for other in facts.pools)
    if pool.is_bulk or len(facts.osds) < BULK_LEAST_OSDS or not stored or pool.stored_bytes <= stored * BULK_SHARE:
        return None
    return Change("false", "osd map", "true")


def _classless(facts: Facts, pool: Pool) -> Verdict:
    used = {other.crush_rule for other in facts.pools}
    rules = {rule.rule: rule for rule in facts.crush_rules if rule.rule in used}
    own = rules.get(pool.crush_rule)
    if own is None or "" not in own.device_classes or not any(any(rule.device_classes) for rule in rules.values()):
        return None
    classes = sorted({osd.device_class for osd in facts.osds if osd.device_class})
    return Change(
        f"rule {pool.crush_rule}, which takes any class", "osd map", f"a rule for one class ({' or '.join(classes)})"
    )


def _tier(facts: Facts, pool: Pool) -> Verdict:
    if not pool.is_tiered:
        return None
    return Refusal(
        "a cache tier is over or under it; Ceph has deprecated tiers since Reef, but taking one away moves all data "
        "through it: plan that by hand, and do not tune around it"
    )


POOL_RULES = (
    PoolRule(
        rule="pg-power-of-two",
        setting="pg_num",
        reads=("pools",),
        recommended="a power of two",
        reason="else some placement groups hold twice what others do, and the fullest OSD decides when the pool is full",
        source="Ceph documentation, placement groups",
        weight=40,
        risk="moves data",
        by_hand=_MOVES_DATA,
        judge=_power_of_two,
    ),
    PoolRule(
        rule="pg-too-many",
        setting="pg_num",
        reads=("pools",),
        recommended="100 to 250 an OSD",
        reason="each placement group costs memory and peering; above this Ceph refuses to make more",
        source="Ceph's defaults mon_target_pg_per_osd and mon_max_pg_per_osd",
        weight=45,
        risk="moves data",
        by_hand=_MOVES_DATA,
        judge=_too_many,
    ),
    PoolRule(
        rule="pool-bulk",
        releases=since(QUINCY),
        setting="bulk",
        reads=("pools",),
        recommended="true",
        reason="the autoscaler then begins with all the placement groups that the pool will need, and does not split it "
        "again and again while it fills",
        source="Ceph documentation, placement groups: bulk flag",
        weight=30,
        risk="moves data",
        by_hand=_MOVES_DATA,
        judge=_bulk,
    ),
    PoolRule(
        rule="crush-class",
        setting="crush_rule",
        reads=("pools", "CRUSH rules"),
        recommended="a rule for one class",
        reason="beside pools that have a class of their own this one lies on SSDs and disks alike, so its latency is the "
        "disks', and the autoscaler cannot reckon with roots that overlap",
        source="Ceph documentation, CRUSH maps: device classes; placement groups: autoscaling",
        weight=50,
        risk="moves data",
        by_hand=_MOVES_DATA,
        judge=_classless,
    ),
    PoolRule(
        rule="cache-tier",
        setting="cache tier",
        reads=("pools",),
        recommended="none",
        reason="deprecated since Reef",
        source="Ceph release notes: Reef",
        weight=0,
        judge=_tier,
    ),
)
