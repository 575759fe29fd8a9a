"""Facts -> plan: what should be changed, where, and why; and what looks tunable but is left alone.

Rules
1. The same facts give the same plan: rules are asked in their order, subjects in the order of the facts.
2. Subjects for which a rule says the same share one step.
3. An OSD whose device class and rotational flag contradict each other is refused what depends on the class.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from loligo_osdtune.core import devices
from loligo_osdtune.core.facts import Facts, Host, Osd
from loligo_osdtune.core.releases import require_known
from loligo_osdtune.core.rule import ANY_CLASS, HDD, SSD, Change, HostRule, OsdRule, PoolRule, Refusal, Rule, Verdict
from loligo_osdtune.core.rules import RULES


@dataclass(frozen=True, slots=True)
class Step:
    """`targets`: "osd.3", "pool rbd", "host a", "a:sdb". `notes`: what was measured of them, "osd.3: …"."""

    rule: str
    targets: tuple[str, ...]
    setting: str
    current: str
    current_source: str
    proposed: str
    reason: str
    source: str
    risk: str
    needs_restart: bool
    creation_only: bool
    weight: int
    by_hand: str  # "" if apply can do it
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Refused:
    rule: str
    targets: tuple[str, ...]
    why: str


@dataclass(frozen=True, slots=True)
class Plan:
    fsid: str
    release: str
    steps: tuple[Step, ...]
    refused: tuple[Refused, ...]
    gaps: tuple[str, ...]


def plan_of(facts: Facts) -> Plan:
    """FactsError: no OSD is up, their releases differ, or no rule knows the release."""
    release = require_known(facts)
    steps: dict[tuple[str, Change], list[str]] = {}
    notes: dict[tuple[str, Change], list[str]] = {}
    refused: dict[tuple[str, str], list[str]] = {}
    for osd in _up(facts):
        if contradicts := devices.contradiction(osd):
            why = f"{contradicts}: set the class right ('ceph osd crush set-device-class') or the flag"
            refused.setdefault(("class-contradicted", why), []).append(osd.name)
    rules = {rule.rule: rule for rule in RULES if release in rule.releases}
    for name, rule in rules.items():
        for target, verdict in _verdicts(rule, facts):
            if isinstance(verdict, Change):
                steps.setdefault((name, verdict), []).append(target)
                if verdict.note:
                    notes.setdefault((name, verdict), []).append(f"{target}: {verdict.note}")
            elif isinstance(verdict, Refusal):
                refused.setdefault((name, verdict.why), []).append(target)
    return Plan(
        fsid=facts.fsid,
        release=release,
        steps=tuple(_step(rules[key[0]], key[1], targets, notes.get(key, [])) for key, targets in steps.items()),
        refused=tuple(Refused(name, tuple(targets), why) for (name, why), targets in refused.items()),
        gaps=facts.gaps,
    )


def _verdicts(rule: Rule, facts: Facts) -> Iterator[tuple[str, Verdict]]:
    if isinstance(rule, OsdRule):
        for osd in _up(facts):
            if rule.classes == ANY_CLASS or _class_of(osd) in rule.classes:
                yield osd.name, rule.judge(facts, osd)
    elif isinstance(rule, PoolRule):
        for pool in facts.pools:
            yield f"pool {pool.pool}", rule.judge(facts, pool)
    elif isinstance(rule, HostRule):
        for host in _hosts(facts):
            yield f"host {host.host}", rule.judge(facts, host)
    else:
        for host in _hosts(facts):
            under_osds = {name for osd in facts.osds if osd.host == host.host for name in osd.devices + osd.db_devices}
            for device in host.devices:
                if device.device in under_osds:
                    yield f"{host.host}:{device.device}", rule.judge(facts, device)


def _up(facts: Facts) -> Iterator[Osd]:
    return (osd for osd in facts.osds if osd.is_up)


def _hosts(facts: Facts) -> Iterator[Host]:
    """Those with OSDs: osdtune may run on a machine that has none."""
    with_osds = {osd.host for osd in facts.osds}
    return (host for host in facts.hosts if host.host in with_osds)


def _class_of(osd: Osd) -> str:
    """What BlueStore takes it for; "" where that cannot be relied on."""
    if osd.is_rotational is None or devices.contradiction(osd):
        return ""
    return HDD if osd.is_rotational else SSD


def _step(rule: Rule, change: Change, targets: list[str], notes: list[str]) -> Step:
    return Step(
        rule=rule.rule,
        targets=tuple(targets),
        setting=rule.setting,
        current=change.current,
        current_source=change.source,
        proposed=change.proposed,
        reason=rule.reason,
        source=rule.source,
        risk=rule.risk,
        needs_restart=rule.needs_restart,
        creation_only=rule.creation_only,
        weight=rule.weight,
        by_hand=rule.by_hand,
        notes=tuple(notes),
    )
