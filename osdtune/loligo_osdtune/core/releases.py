"""The releases of Ceph that the rules know."""

from loligo_osdtune.core.facts import Facts, FactsError

PACIFIC, QUINCY, REEF, SQUID = "pacific", "quincy", "reef", "squid"
KNOWN = (PACIFIC, QUINCY, REEF, SQUID)  # 16, 17, 18, 19


def since(release: str) -> tuple[str, ...]:
    return KNOWN[KNOWN.index(release) :]


def require_known(facts: Facts) -> str:
    """The release that all OSDs run. FactsError: there is none, or one that no rule was written for."""
    silent = [osd.name for osd in facts.osds if osd.is_up and not osd.release]
    if silent:
        raise FactsError(
            f"{', '.join(silent)} is up, but has told the monitors nothing about itself ('ceph osd metadata'); "
            "if it has just started, ask again in a minute, otherwise restart it"
        )
    releases = sorted({osd.release for osd in facts.osds if osd.is_up})
    if not releases:
        raise FactsError("no OSD is up, so there is nothing to tune; see 'ceph osd tree'")
    unknown = [release for release in releases if release not in KNOWN]
    if unknown:
        raise FactsError(
            f"OSDs run Ceph {' and '.join(unknown)}; the rules were written for Pacific (16) to Squid (19), "
            "and what they say may be wrong elsewhere: look for a newer osdtune"
        )
    if len(releases) > 1:
        raise FactsError(f"OSDs run Ceph {' and '.join(releases)} side by side; finish the upgrade, then ask again")
    return releases[0]
