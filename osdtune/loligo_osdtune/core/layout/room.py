"""What fits on the OSDs of one device class: whether all copies find a place, and how many placement groups there should be.

Counted are OSDs that are up, in, and have a weight: a pool on others would not become clean.
"""

from dataclasses import dataclass

from loligo_osdtune.core.facts import Facts, Osd, Pool
from loligo_osdtune.core.layout.values import LEAST_DATA_PGS, PGS_AN_OSD
from loligo_osdtune.core.layout.wish import HOST, Copies, Erasure, LayoutError, plural


@dataclass(frozen=True, slots=True)
class Room:
    device_class: str
    root: str
    osds: tuple[Osd, ...]

    def domains(self, domain: str) -> int:
        """How many hosts, or OSDs, copies can be kept apart on."""
        if domain == HOST:
            return len({osd.crush_host for osd in self.osds if osd.crush_host})
        return len(self.osds)


def room_of(facts: Facts, device_class: str, root: str) -> Room:
    """LayoutError: there is nothing of that class below that root."""
    here = [osd for osd in facts.osds if osd.crush_root == root]
    of_class = [osd for osd in here if osd.device_class == device_class]
    if not here:
        roots = sorted({osd.crush_root for osd in facts.osds if osd.crush_root})
        raise LayoutError(f"CRUSH has no OSD below a root {root!r}: --root may be {' or '.join(roots) or 'none'}")
    if not of_class:
        raise LayoutError(
            f"no OSD below root {root} has the device class {device_class!r}; there are {_census(here)}. Name one of these, or "
            f"give OSDs that class: ceph osd crush rm-device-class ID, then ceph osd crush set-device-class {device_class} ID"
        )
    return Room(device_class, root, tuple(osd for osd in of_class if osd.is_up and osd.is_in and osd.crush_weight > 0))


def require_room(room: Room, copies: Copies, domain: str, pool: str) -> None:
    """LayoutError: not every copy of `pool` would find a place of its own."""
    found = room.domains(domain)
    if found >= copies.size:
        return
    raise LayoutError(
        f"pool {pool} with {copies} wants {_count(copies.size, domain)} of class {room.device_class!r} that are up and in, and "
        f"there {'is' if found == 1 else 'are'} {found}: it would never become clean. {_what_fits(room, copies, domain)}"
    )


def pg_num_for(facts: Facts, room: Room, copies: Copies, pool: str) -> int:
    """For a pool that is to hold most of what is on these OSDs."""
    rules = {rule.rule for rule in facts.crush_rules if {room.device_class, ""} & set(rule.device_classes)}
    others = sum(other.pg_num * other.size for other in facts.pools if other.crush_rule in rules and other.pool != pool)
    return max(LEAST_DATA_PGS, _nearest_power_of_two((len(room.osds) * PGS_AN_OSD - others) // copies.size))


def overlapping(facts: Facts, device_class: str) -> tuple[Pool, ...]:
    """Pools that take OSDs of any class: the autoscaler cannot reckon with them beside pools of one class."""
    rules = {rule.rule for rule in facts.crush_rules if "" in rule.device_classes}
    return tuple(pool for pool in facts.pools if pool.crush_rule in rules)


def _what_fits(room: Room, copies: Copies, domain: str) -> str:
    found = room.domains(domain)
    fits: list[str] = []
    if domain == HOST and len(room.osds) >= copies.size:
        fits.append("--failure-domain osd (but then one host that fails may take all copies of something with it)")
    if isinstance(copies, Erasure):
        if found >= 3:
            fits.append(f"--ec with K + M of {found} or less")
    elif found >= 2:
        fits.append(f"--replicas {found}")
    return f"What would fit: {', or '.join(fits)}" if fits else f"Add {plural(domain)} of this class"


def _census(osds: list[Osd]) -> str:
    counts: dict[str, int] = {}
    for osd in osds:
        counts[osd.device_class] = counts.get(osd.device_class, 0) + 1
    return ", ".join(f"{name or 'no class at all'} ({_count(count, 'osd')})" for name, count in sorted(counts.items()))


def _count(count: int, domain: str) -> str:
    return f"{count} {plural(domain).removesuffix('s') if count == 1 else plural(domain)}"


def _nearest_power_of_two(number: int) -> int:
    if number < 1:
        return 1
    lower = 1 << (number.bit_length() - 1)
    return lower if number - lower <= 2 * lower - number else 2 * lower
