"""What a rule is: data, and one pure function that looks at one subject.

Rules
1. A rule sees only OSDs of its device classes, on releases it was written for. An OSD whose class and rotational flag
   contradict each other belongs to no class.
2. `judge` answers None (as it should be), a Change, or a Refusal: it looks wrong, but there is no evidence for a value.
3. `recommended` is what docs/osdtune.md gives a source for; a Change proposes that, or a figure computed by its formula.
4. A rule that changes something `sets` options by name, which `osdtune apply` can put in place and `undo` can take back, or
   says in `by_hand` why that is left to people. One that only refuses has neither.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from math import isfinite, nan
from typing import Literal

from loligo_osdtune.core.facts import Device, Facts, FactsError, Host, Option, Osd, Pool
from loligo_osdtune.core.releases import KNOWN

HDD, SSD = "hdd", "ssd"
ANY_CLASS = (HDD, SSD)

Risk = Literal["none", "low", "moves data", "rebuilds the OSD"]


@dataclass(frozen=True, slots=True)
class Change:
    """`source`: where the current value comes from; "" if it is no setting. `note`: what was measured of this one subject."""

    current: str
    source: str
    proposed: str
    note: str = field(default="", compare=False)  # subjects that differ in nothing else share a step


@dataclass(frozen=True, slots=True)
class Refusal:
    why: str


Verdict = Change | Refusal | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rule:
    rule: str
    setting: str
    reads: tuple[str, ...]  # configuration options and sysctls by name, other facts by field
    recommended: str
    reason: str
    source: str
    weight: int  # how much it is worth, 0 to 100: the doctor's order
    releases: tuple[str, ...] = KNOWN
    risk: Risk = "none"
    needs_restart: bool = False
    creation_only: bool = False
    sets: tuple[tuple[str, str | None], ...] = ()  # name and value; None: what the change proposes
    by_hand: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class OsdRule(_Rule):
    judge: Callable[[Facts, Osd], Verdict]
    classes: tuple[str, ...] = ANY_CLASS


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolRule(_Rule):
    judge: Callable[[Facts, Pool], Verdict]


@dataclass(frozen=True, slots=True, kw_only=True)
class HostRule(_Rule):
    judge: Callable[[Facts, Host], Verdict]


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceRule(_Rule):
    """Looks at the disks under OSDs on the hosts that were looked at."""

    judge: Callable[[Facts, Device], Verdict]


Rule = OsdRule | PoolRule | HostRule | DeviceRule


def number(option: Option, of: str) -> float:
    """FactsError: the value that `of` tells is none, as in a recording that somebody has changed."""
    try:
        value = float(option.value)
    except ValueError:
        value = nan
    if not isfinite(value):
        raise FactsError(f"{of} says that {option.name} is {option.value!r}, which is no number: record the facts anew")
    return value


def option_is(name: str, wrong: Callable[[str], bool], proposed: str) -> Callable[[Facts, Osd], Verdict]:
    """Change option `name` to `proposed` wherever its value is `wrong`."""

    def judge(facts: Facts, osd: Osd) -> Verdict:
        option = osd.option(name)
        if option is None or not wrong(option.value):
            return None
        return Change(option.value, option.source, proposed)

    return judge
