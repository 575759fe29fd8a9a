"""A plan -> the actions that put it in place, in a safe order; and what is left to people, with the reason.

An action puts one value into one place, or restarts one OSD. Both are *idempotent*: to carry one out again, however far it
had come, ends as if it had been carried out once. So a crash just before, amid and just after an action is the same case.

Order
1. Host: kernel values, and the files of ours that keep them over a reboot.
2. Options that OSDs take at once.
3. OSD by OSD, as the facts have them: the options that it reads when it starts, then its restart.

Rules
1. Options are set for single OSDs ("osd.3"), the ones that the plan names: a line for all OSDs would speak of those, too,
   which the plan did not look at or refused.
2. Only what can take effect is set. An OSD's own ceph.conf, environment and command line win over the monitors, and of the
   monitors' lines for one OSD those with a mask over that without: such an option is left to people.
3. Each value knows the one before it (None: there was none), and both are compared before anything is written: what somebody
   else has changed meanwhile is never overwritten.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum

from loligo_osdtune.core.facts import Facts, Osd
from loligo_osdtune.core.plan import Plan, Step
from loligo_osdtune.core.rule import DeviceRule, HostRule, OsdRule, Rule
from loligo_osdtune.core.rules import RULES

SYSCTL_FILE = "/etc/sysctl.d/90-osdtune.conf"
UDEV_FILE = "/etc/udev/rules.d/90-osdtune.rules"
HEADER = "# Written by osdtune apply; osdtune undo puts back what was here before.\n"
_MONITORS_LOSE_TO = {
    "file": "its ceph.conf",
    "env": "its environment",
    "cmdline": "its command line",
    "override": "itself ('ceph tell' or its scheduler)",
}


@dataclass(frozen=True, slots=True, order=True)
class ConfigLine:
    """A line of the monitors' configuration, without a mask."""

    section: str  # "osd.3"
    name: str

    def __str__(self) -> str:
        return f"{self.section} {self.name}"


@dataclass(frozen=True, slots=True, order=True)
class KernelValue:
    """A file under /proc/sys or /sys of this host; of several words its value is the one in brackets."""

    path: str

    def __str__(self) -> str:
        return self.path


@dataclass(frozen=True, slots=True, order=True)
class OwnFile:
    """A file of this host that nobody but osdtune writes. Its value is its text."""

    path: str

    def __str__(self) -> str:
        return self.path


Place = ConfigLine | KernelValue | OwnFile


@dataclass(frozen=True, slots=True)
class Put:
    """`old`, `new`: None for nothing there."""

    rules: tuple[str, ...]
    place: Place
    old: str | None
    new: str | None


@dataclass(frozen=True, slots=True)
class Restart:
    rules: tuple[str, ...]
    osd: int


Action = Put | Restart


@dataclass(frozen=True, slots=True)
class Left:
    """What the plan proposes and apply does not do."""

    rule: str
    targets: tuple[str, ...]
    why: str


@dataclass(frozen=True, slots=True)
class Work:
    actions: tuple[Action, ...]
    left: tuple[Left, ...]

    def idle(self, rules: Iterable[str]) -> tuple[str, ...]:
        """Those of `rules` for which nothing is done, and nothing left to people."""
        busy = {rule for action in self.actions for rule in action.rules} | {left.rule for left in self.left}
        return tuple(rule for rule in dict.fromkeys(rules) if rule not in busy)


@dataclass(frozen=True, slots=True)
class _Wish:
    """`line`: what keeps a kernel value over a reboot, in `file`."""

    rule: str
    place: ConfigLine | KernelValue
    value: str
    restarts: int | None = None
    file: str = ""
    line: str = ""


class Doing(Enum):
    """What is to be done about one place, by what is found there."""

    WRITE = "write"
    NOTHING = "nothing"  # it is as wanted already
    CONFLICT = "conflict"  # somebody else has changed it


def fulfilled(plan: Plan) -> frozenset[str]:
    """The rules that could have proposed something on this release, and found all as it should be."""
    found = {step.rule for step in plan.steps} | {refused.rule for refused in plan.refused}
    return frozenset(
        rule.rule
        for rule in RULES
        if (rule.sets or rule.by_hand) and plan.release in rule.releases and rule.rule not in found
    )


def places_of(plan: Plan, facts: Facts, restartable: Mapping[int, str]) -> tuple[Place, ...]:
    """What has to be read before `work_of` can be asked."""
    wishes, _ = _wishes(plan, facts, restartable)
    files = {OwnFile(wish.file) for wish in wishes if wish.file}
    return (*(wish.place for wish in wishes), *sorted(files))


def work_of(
    plan: Plan,
    facts: Facts,
    restartable: Mapping[int, str],
    current: Mapping[Place, str | None],
    only: Iterable[str] = (),
) -> Work:
    """`restartable`: by OSD why it cannot be restarted from here, "" if it can. `only`: these rules; none: all of them."""
    wishes, left = _wishes(plan, facts, restartable)
    chosen = frozenset(only) or {step.rule for step in plan.steps}
    wishes = [wish for wish in wishes if wish.rule in chosen]
    of_host = [wish for wish in wishes if isinstance(wish.place, KernelValue)]
    at_once = [wish for wish in wishes if isinstance(wish.place, ConfigLine) and wish.restarts is None]
    osds = list(dict.fromkeys(wish.restarts for wish in wishes if wish.restarts is not None))
    actions: list[Action] = [*_puts(of_host, current), *_files(of_host, current), *_puts(at_once, current)]
    for osd in osds:
        puts = _puts([wish for wish in wishes if wish.restarts == osd], current)
        if puts:
            rules = tuple(dict.fromkeys(rule for put in puts for rule in put.rules))
            actions += [*puts, Restart(rules, osd)]
    return Work(tuple(actions), tuple(one for one in left if one.rule in chosen))


def doing(put: Put, found: str | None) -> Doing:
    if same(put.place, found, put.new):
        return Doing.NOTHING
    return Doing.WRITE if same(put.place, found, put.old) else Doing.CONFLICT


def inverse(put: Put) -> Put:
    return Put(put.rules, put.place, put.new, put.old)


def same(place: Place, one: str | None, other: str | None) -> bool:
    """Monitors and OSDs write numbers their own way: 315 comes back as 315.000000."""
    if one == other or one is None or other is None or isinstance(place, OwnFile):
        return one == other
    try:
        return float(one) == float(other)
    except ValueError:
        return False


def started_with(actions: tuple[Action, ...], restart: int) -> tuple[Put, ...]:
    """The options that the OSD restarted by action `restart` is restarted for."""
    action = actions[restart]
    assert isinstance(action, Restart)
    puts: list[Put] = []
    for before in reversed(actions[:restart]):
        if not is_of(before, action.osd):
            break
        assert isinstance(before, Put)
        puts.append(before)
    return tuple(reversed(puts))


def is_read_at_start(actions: tuple[Action, ...], number: int) -> bool:
    """Whether action `number` sets an option that waits for a restart which comes with it."""
    for after, action in enumerate(actions[number + 1 :], number + 1):
        if isinstance(action, Restart):
            return actions[number] in started_with(actions, after)
    return False


def is_of(action: Action, osd: int) -> bool:
    """Whether `action` sets an option of this one OSD."""
    return isinstance(action, Put) and isinstance(action.place, ConfigLine) and action.place.section == f"osd.{osd}"


def describe(action: Action) -> str:
    if isinstance(action, Restart):
        return f"restart osd.{action.osd}"
    return f"{action.place}: {shown(action.old)} -> {shown(action.new)}"


def shown(value: str | None) -> str:
    """A value for a line of text; of a file only how long it is."""
    if value is None:
        return "nothing"
    return value if "\n" not in value else f"{len(value.splitlines())} lines"


def _wishes(plan: Plan, facts: Facts, restartable: Mapping[int, str]) -> tuple[list[_Wish], list[Left]]:
    rules = {rule.rule: rule for rule in RULES}
    osds = {osd.name: osd for osd in facts.osds}
    wishes: list[_Wish] = []
    left: list[Left] = []
    for step in plan.steps:
        rule = rules[step.rule]
        if rule.by_hand:
            left.append(Left(step.rule, step.targets, rule.by_hand))
        elif isinstance(rule, OsdRule):
            refused: dict[str, list[str]] = {}
            for target in step.targets:
                if why := _why_not(facts, rule, step, osds[target], restartable):
                    refused.setdefault(why, []).append(target)
                else:
                    wishes += _of_osd(rule, step, osds[target])
            left += [Left(step.rule, tuple(targets), why) for why, targets in refused.items()]
        else:
            wishes += _of_host(rule, step)
    return wishes, left


def _why_not(facts: Facts, rule: OsdRule, step: Step, osd: Osd, restartable: Mapping[int, str]) -> str:
    for name, value in rule.sets:
        option = osd.option(name)
        if option is not None and option.source in _MONITORS_LOSE_TO:
            return (
                f"{name} is set by {_MONITORS_LOSE_TO[option.source]}, which wins over the monitors: change it there, and "
                "restart"
            )
        line = ConfigLine(osd.name, name)
        for entry in facts.config:
            if (
                (entry.section, entry.name) == (line.section, line.name)
                and entry.mask
                and not same(line, entry.value, step.proposed if value is None else value)
                and _is_for(entry.mask, osd)
            ):
                who = f"{entry.section}/{entry.mask}"
                return (
                    f"the monitors' line '{who} {name} = {entry.value}' may win over one for {osd.name} without a mask: "
                    f"change it ('ceph config set {who} {name} VALUE'), or take it away ('ceph config rm {who} {name}')"
                )
    return restartable[osd.osd] if rule.needs_restart else ""


def _is_for(mask: str, osd: Osd) -> bool:
    """A place in the CRUSH tree that the facts do not name (a rack) may be where it is."""
    own = {"class": osd.device_class, "host": osd.crush_host, "root": osd.crush_root}
    parts = (part.partition(":") for part in mask.split("/"))
    return all(own.get(kind, value) == value for kind, _, value in parts)


def _of_osd(rule: OsdRule, step: Step, osd: Osd) -> Iterator[_Wish]:
    for name, value in rule.sets:
        wanted = step.proposed if value is None else value
        line = ConfigLine(osd.name, name)
        option = osd.option(name)
        if option is None or not same(line, option.value, wanted):
            yield _Wish(step.rule, line, wanted, osd.osd if rule.needs_restart else None)


def _of_host(rule: Rule, step: Step) -> Iterator[_Wish]:
    """One wish, or one for each device: the host is this one, no other is looked at."""
    if isinstance(rule, HostRule):
        ((name, _),) = rule.sets
        path = "/proc/sys/" + name.replace(".", "/")
        yield _Wish(step.rule, KernelValue(path), step.proposed, None, SYSCTL_FILE, f"{name} = {step.proposed}")
        return
    assert isinstance(rule, DeviceRule)
    for target in step.targets:
        device = target.rpartition(":")[2]
        rotational = int(step.proposed == "mq-deadline")
        yield _Wish(
            step.rule,
            KernelValue(f"/sys/block/{device}/queue/scheduler"),
            step.proposed,
            None,
            UDEV_FILE,
            # Names of disks move from boot to boot; an SSD that gets this one's name is not meant.
            f'ACTION=="add|change", SUBSYSTEM=="block", KERNEL=="{device}", ATTR{{queue/rotational}}=="{rotational}", '
            f'ATTR{{queue/scheduler}}="{step.proposed}"',
        )


def _puts(wishes: list[_Wish], current: Mapping[Place, str | None]) -> list[Put]:
    puts = (Put((wish.rule,), wish.place, current[wish.place], wish.value) for wish in wishes)
    return [put for put in puts if doing(put, put.old) is Doing.WRITE]


def _files(wishes: list[_Wish], current: Mapping[Place, str | None]) -> Iterator[Put]:
    for path in dict.fromkeys(wish.file for wish in wishes):
        here = [wish for wish in wishes if wish.file == path]
        place = OwnFile(path)
        old = current[place]
        subjects = {_subject(wish.line) for wish in here}
        kept = [line for line in (old or HEADER).splitlines() if _subject(line) not in subjects]
        new = "\n".join([*kept, *(wish.line for wish in here)]) + "\n"
        if new != old:
            yield Put(tuple(dict.fromkeys(wish.rule for wish in here)), place, old, new)


def _subject(line: str) -> str:
    """What a line of our files is about: all before its last value."""
    return line.rpartition("=")[0].strip()
