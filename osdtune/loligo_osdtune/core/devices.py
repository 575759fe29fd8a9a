"""What a device really is, where that can be told, and which OSD is slower than those like it.

Rule: the kernel's rotational flag is believed only if nothing speaks against it. A virtual disk has the flag that its
hypervisor chose; a device class was set by a person, or from the flag.
"""

from dataclasses import dataclass
from statistics import median

from loligo_osdtune.core.facts import Device, Facts, Osd

SLOWER_THAN_PEERS = 4.0  # times the median commit of the others of its class
SLOW_COMMIT_S = 0.008  # the mean seek of a 7,200 rpm disk, before it has turned to the sector
ENOUGH_COMMITS = 20


@dataclass(frozen=True, slots=True)
class SlowOsd:
    osd: int
    commit_s: float
    peers_commit_s: float


def doubt(facts: Facts, osd: Osd) -> str:
    """Why nobody can say whether `osd` is a disk or an SSD; "" if it is clear."""
    if osd.is_rotational is None:
        return "it does not say whether its device is rotational"
    if contradicts := contradiction(osd):
        return contradicts
    virtual = [device.device for device in devices_of(facts, osd) if device.is_virtual]
    if virtual:
        return f"{', '.join(virtual)} is virtual: the flag is what the hypervisor says, not what is under it"
    return ""


def contradiction(osd: Osd) -> str:
    """In what class and flag differ; "" if they do not. BlueStore acts on the flag, CRUSH on the class."""
    if osd.device_class in ("ssd", "nvme") and osd.is_rotational:
        return f"its class is {osd.device_class}, but its device is marked as rotational"
    if osd.device_class == "hdd" and osd.is_rotational is False:
        return "its class is hdd, but its device is marked as not rotational"
    return ""


def devices_of(facts: Facts, osd: Osd) -> tuple[Device, ...]:
    """Those under the main device, if its host was looked at."""
    return _named(facts, osd.host, osd.devices)


def db_devices_of(facts: Facts, osd: Osd) -> tuple[Device, ...]:
    """Those under block.db, if its host was looked at."""
    return _named(facts, osd.host, osd.db_devices)


def _named(facts: Facts, name: str, devices: tuple[str, ...]) -> tuple[Device, ...]:
    return tuple(
        device for host in facts.hosts if host.host == name for device in host.devices if device.device in devices
    )


def commit_s(osd: Osd) -> float | None:
    """Mean time of a commit in seconds; None if there were too few to tell."""
    if osd.counters is None or osd.counters.commits < ENOUGH_COMMITS:
        return None
    return osd.counters.commit_sum_s / osd.counters.commits


def commit_with_db_s(facts: Facts, device_class: str) -> float | None:
    """The median over the OSDs of a class that have a block.db of their own; None if none of them can tell."""
    found = [
        own
        for osd in facts.osds
        if osd.has_db and osd.device_class == device_class and (own := commit_s(osd)) is not None
    ]
    return median(found) if found else None


def slow_osds(facts: Facts) -> tuple[SlowOsd, ...]:
    """Those that commit far slower than the others of their class."""
    found = []
    for osd in facts.osds:
        own = commit_s(osd)
        others = [
            other_s
            for other in facts.osds
            if other.osd != osd.osd
            and other.device_class == osd.device_class
            and (other_s := commit_s(other)) is not None
        ]
        if own is None or not others:
            continue
        peers = median(others)
        if own >= SLOW_COMMIT_S and own >= SLOWER_THAN_PEERS * peers:
            found.append(SlowOsd(osd.osd, own, peers))
    return tuple(found)
