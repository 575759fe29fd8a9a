"""The doctor's opinion: how the cluster is, what is odd about it, and the three changes most worth making.

Worth is the rule's weight times the share of the subjects of its kind that the step is about, so that a small mend
everywhere can come before a large one on a single OSD; what rebuilds OSDs counts a quarter less for its price.
"""

from dataclasses import dataclass

from loligo_osdtune.core import devices
from loligo_osdtune.core.facts import Facts
from loligo_osdtune.core.plan import Plan, Step

MOST_WORTH = 3
THROTTLED_S = 0.01  # mean wait at a throttle that is worth a word


@dataclass(frozen=True, slots=True)
class Opinion:
    health: str
    findings: tuple[str, ...]
    worth: tuple[Step, ...]
    left: int  # further steps of the plan


def opinion_of(facts: Facts, plan: Plan) -> Opinion:
    ranked = sorted(plan.steps, key=lambda step: (-_worth(facts, step), step.rule, step.targets))
    return Opinion(
        health=facts.health,
        findings=_findings(facts),
        worth=tuple(ranked[:MOST_WORTH]),
        left=max(0, len(ranked) - MOST_WORTH),
    )


def _worth(facts: Facts, step: Step) -> float:
    kind = step.targets[0].split(" ")[0]
    all_of_kind = {"pool": len(facts.pools), "host": len(facts.hosts)}.get(kind, len(facts.osds))
    share = len(step.targets) / max(1, all_of_kind)
    return step.weight * (0.5 + 0.5 * share) * (0.75 if step.creation_only else 1.0)


def _findings(facts: Facts) -> tuple[str, ...]:
    found = [
        f"{check.severity.removeprefix('HEALTH_').lower()}: {check.message} ({check.code})" for check in facts.checks
    ]
    down = [osd.name for osd in facts.osds if not osd.is_up]
    if down:
        found.append(f"down: {', '.join(down)}")
    for slow in devices.slow_osds(facts):
        found.append(
            f"osd.{slow.osd} is slow: a commit takes {slow.commit_s * 1e3:.1f} ms, those of its class "
            f"{slow.peers_commit_s * 1e3:.1f} ms"
        )
    for osd in facts.osds:
        if osd.is_up and (contradicts := devices.contradiction(osd)):
            found.append(f"{osd.name}: {contradicts}")
        counters = osd.counters
        if counters is not None and counters.throttle_waits:
            mean_s = counters.throttle_wait_sum_s / counters.throttle_waits
            if mean_s >= THROTTLED_S:
                found.append(
                    f"{osd.name}: {counters.throttle_waits} requests waited {mean_s * 1e3:.0f} ms each for a throttle"
                )
    fullest = max(facts.osds, key=lambda osd: osd.used_percent, default=None)
    mean = sum(osd.used_percent for osd in facts.osds) / max(1, len(facts.osds))
    if fullest is not None and fullest.used_percent > mean + 10:
        found.append(f"{fullest.name} is {fullest.used_percent:.0f} % full, the mean is {mean:.0f} %: balance (upmap)")
    unseen = sorted({osd.host for osd in facts.osds} - {host.host for host in facts.hosts})
    if unseen:
        found.append(f"not looked at from inside: {', '.join(unseen)}; run osdtune there, too")
    return (*found, *facts.gaps)
