"""Facts and a wish -> what of the layout is right, what is missing, in the order in which it is made, and what is wrong.

Rules
1. The same facts and the same wish give the same answer. What a command would refuse or could never become clean is a
   LayoutError before anything is done.
2. What is there is judged by its content, not by its name: a CRUSH rule by its steps, a pool by where it keeps how many copies.
3. Missing is what can be made without moving data. What would move data, or could stop writes, is wrong: told with its price
   and never done. Only an empty pool, of which nothing moves, is set right.
4. A pool that is tagged for something else is somebody else's, and is not touched.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from loligo_osdtune.core.facts import CrushRule, ErasureProfile, Facts, Pool
from loligo_osdtune.core.layout import steps
from loligo_osdtune.core.layout.room import Room, overlapping, pg_num_for, require_room, room_of
from loligo_osdtune.core.layout.steps import Finding, Right, Scaling, Step, Wrong
from loligo_osdtune.core.layout.values import (
    APPLICATION,
    AUTOSCALE_DEFAULT,
    NOAUTOSCALE,
    PGS_FAR_OFF,
    SMALL_POOL_PGS,
    TARGET_SIZE_RATIO,
    WITH_BULK,
)
from loligo_osdtune.core.layout.wish import (
    DATA,
    JOURNAL,
    META,
    OSD,
    Copies,
    Erasure,
    LayoutError,
    Replicas,
    Wish,
    plural,
)
from loligo_osdtune.core.releases import require_known
from loligo_runtime.ceph_users import CephUser, entities_of, users_of

USES = {
    DATA: "the data of files; the one pool that this release uses",
    META: "metadata in RADOS; not used by this release, which keeps it on the disk of the machine with 'loligo serve'",
    JOURNAL: "the write journal; not used by this release",
}


@dataclass(frozen=True, slots=True)
class KnownUser:
    """`capabilities`: None if there is no such user. `has_key`: the keyring has its key; None if there is no keyring."""

    capabilities: Mapping[str, str] | None
    keyring: str
    has_key: bool | None


@dataclass(frozen=True, slots=True)
class PoolUse:
    """`is_empty`: it has no objects, or is not there yet."""

    role: str
    pool: str
    use: str
    is_empty: bool


@dataclass(frozen=True, slots=True)
class VolumeUse:
    """`daemon`, `client`: its users."""

    volume: str
    pool: str
    daemon: str
    client: str


@dataclass(frozen=True, slots=True)
class Layout:
    fsid: str
    release: str
    pools: tuple[PoolUse, ...]
    volumes: tuple[VolumeUse, ...]
    findings: tuple[Finding, ...]
    notes: tuple[str, ...]

    @property
    def steps(self) -> tuple[Step, ...]:
        return tuple(finding for finding in self.findings if isinstance(finding, Step))

    @property
    def wrong(self) -> tuple[Wrong, ...]:
        return tuple(finding for finding in self.findings if isinstance(finding, Wrong))


@dataclass(frozen=True, slots=True)
class _Wanted:
    """`rule`: of what it is called if it has to be made; of an erasure coded pool its profile, too."""

    role: str
    pool: str
    copies: Copies
    room: Room
    rule: str
    scaling: Scaling


def users_wanted(wish: Wish) -> tuple[CephUser, ...]:
    """What has to be asked of Ceph before `layout_of`. CephUserError: a volume has a name that Ceph cannot be told."""
    pool = _name(wish, DATA)
    return tuple(user for volume in wish.volumes for user in users_of(pool, volume, *entities_of(volume)))


def layout_of(facts: Facts, wish: Wish, known: Mapping[str, KnownUser]) -> Layout:
    """`known`: by entity, of all `users_wanted`. LayoutError: it does not fit; FactsError: no release that can be judged."""
    release = require_known(facts)
    if facts.is_stretched:
        raise LayoutError(
            "this cluster is stretched over two sites: its pools need four copies and a rule that names both sites, which only "
            "who knows them can write; make them by hand (Ceph documentation, stretch mode)"
        )
    off = _autoscaler_off(facts)
    wanted = [_wanted(facts, wish, role, release, off) for role in _roles(wish)]
    pools = {pool.pool: pool for pool in facts.pools}
    findings: list[Finding] = []
    notes: list[str] = []
    for one in wanted:
        found = pools.get(one.pool)
        if found is None:
            require_room(one.room, one.copies, wish.domain, one.pool)
            made = tuple(_missing(facts, wish, one))
            notes += _spare(one, wish)
        else:
            made = tuple(_existing(facts, wish, one, found, release, off))
            notes += _far_off(one, found, off)
        findings += [finding for finding in made if finding not in findings]  # two pools may want one rule
    data = pools.get(_name(wish, DATA))
    is_ours = data is None or not data.applications or APPLICATION in data.applications
    findings += _users(wish, known) if is_ours else _no_users(wish)
    return Layout(
        fsid=facts.fsid,
        release=release,
        pools=tuple(
            PoolUse(one.role, one.pool, USES[one.role], one.pool not in pools or not pools[one.pool].objects)
            for one in wanted
        ),
        volumes=tuple(VolumeUse(volume, _name(wish, DATA), *entities_of(volume)) for volume in wish.volumes),
        findings=tuple(findings),
        notes=(*notes, *_notes(facts, wish, off), *facts.gaps),
    )


def _name(wish: Wish, role: str) -> str:
    return f"{wish.prefix}-{role}"


def _roles(wish: Wish) -> tuple[str, ...]:
    return (DATA,) if wish.ssd is None else (DATA, META, JOURNAL)


def _wanted(facts: Facts, wish: Wish, role: str, release: str, off: str) -> _Wanted:
    copies: Copies = wish.data_copies if role == DATA else wish.replicas
    device_class = wish.hdd if role == DATA or wish.ssd is None else wish.ssd
    room = room_of(facts, device_class, wish.root)
    if isinstance(copies, Erasure):
        if old := [osd.name for osd in room.osds if osd.object_store != "bluestore"]:
            raise LayoutError(
                f"{', '.join(old)} {'is' if len(old) == 1 else 'are'} not BlueStore: erasure coded objects that change in "
                "place are not safe there; rebuild these OSDs first, or leave --ec out"
            )
        rule = f"{wish.prefix}-ec-{copies.k}-{copies.m}-{device_class}-{wish.domain}"
    else:
        rule = f"{wish.prefix}-{device_class}-{wish.domain}"
    if wish.root != "default":
        rule += f"-{wish.root}"
    pool = _name(wish, role)
    if role != DATA:
        scaling = Scaling(SMALL_POOL_PGS, "off" if off else "on")
    elif off:
        scaling = Scaling(pg_num_for(facts, room, copies, pool), "off")
    else:
        is_bulk = release in WITH_BULK
        ratio = 0.0 if is_bulk else TARGET_SIZE_RATIO
        scaling = Scaling(pg_num_for(facts, room, copies, pool), "on", is_bulk, ratio)
    return _Wanted(role, pool, copies, room, rule, scaling)


def _missing(facts: Facts, wish: Wish, wanted: _Wanted) -> Iterator[Finding]:
    """A pool that is not there, and what it needs before."""
    pool, copies = wanted.pool, wanted.copies
    if isinstance(copies, Erasure):
        before = tuple(_coding(facts, wish, wanted, copies))
        rule = wanted.rule
    else:
        rule, finding = _replicated_rule(facts, wish, wanted)
        before = (finding,)
    yield from before
    if blocked := [finding.target for finding in before if isinstance(finding, Wrong)]:
        yield Wrong(f"pool {pool}", "it is not there, and cannot be made", f"mend {blocked[0]} first")
        return
    yield steps.create_pool(pool, copies, rule, wanted.rule, wanted.scaling, is_small=wanted.role != DATA)
    yield steps.enable_application(pool)
    if isinstance(copies, Erasure):
        yield steps.enable_overwrites(pool)
    yield steps.set_min_size(pool, copies.min_size)  # Ceph's own may have been changed for new pools


def _replicated_rule(facts: Facts, wish: Wish, wanted: _Wanted) -> tuple[str, Finding]:
    """Any rule that does the same will do."""
    device_class, own = wanted.room.device_class, wanted.rule
    same = [
        rule.rule
        for rule in facts.crush_rules
        if rule == CrushRule(rule.rule, (device_class,), (wish.root,), (wish.domain,), False)
    ]
    if same:
        name = own if own in same else same[0]
        return name, Right(
            f"rule {name}", f"copies on different {plural(wish.domain)}, on OSDs of class {device_class}"
        )
    if any(rule.rule == own for rule in facts.crush_rules):
        return own, _other_content("rule", own, "ceph osd crush rule dump")
    return own, steps.replicated_rule(own, wish.root, wish.domain, device_class)


def _coding(facts: Facts, wish: Wish, wanted: _Wanted, coding: Erasure) -> Iterator[Finding]:
    name, device_class = wanted.rule, wanted.room.device_class
    profiles = {profile.profile: profile for profile in facts.ec_profiles}
    profile = ErasureProfile(name, coding.k, coding.m, device_class, wish.root, wish.domain)
    if name not in profiles:
        yield steps.erasure_profile(name, coding, wish.root, wish.domain, device_class)
    elif profiles[name] == profile:
        yield Right(
            f"profile {name}", f"{coding}, pieces on different {plural(wish.domain)}, on OSDs of class {device_class}"
        )
    else:
        yield _other_content("profile", name, "ceph osd erasure-code-profile get")
    rules = {rule.rule: rule for rule in facts.crush_rules}
    if name not in rules:
        yield steps.erasure_rule(name, name, wish.domain, device_class)
    elif rules[name] == CrushRule(name, (device_class,), (wish.root,), (wish.domain,), True):
        yield Right(f"rule {name}", f"pieces on different {plural(wish.domain)}, on OSDs of class {device_class}")
    else:
        yield _other_content("rule", name, "ceph osd crush rule dump")


def _other_content(kind: str, name: str, look: str) -> Wrong:
    return Wrong(
        f"{kind} {name}",
        "the name is taken, by one that says something else",
        f"look at it ('{look} {name}'), and choose another --prefix, or remove it if no pool uses it",
    )


def _existing(facts: Facts, wish: Wish, wanted: _Wanted, pool: Pool, release: str, off: str) -> Iterator[Finding]:
    target = f"pool {pool.pool}"
    if pool.applications and APPLICATION not in pool.applications:
        yield Wrong(
            target,
            f"it is there, and is used for {', '.join(pool.applications)}",
            "choose another --prefix: what others keep there is not touched",
        )
        return
    if pool.is_tiered:
        yield Wrong(
            target, "a cache tier is over or under it", "take the tier away first, by hand: all data goes through it"
        )
    yield Right(target, f"is for {APPLICATION}") if pool.applications else steps.enable_application(pool.pool)
    yield from _copies(facts, wanted, pool)
    yield from _placement(facts, wish, wanted, pool)
    yield from _placement_groups(wanted, pool, release, off)


def _copies(facts: Facts, wanted: _Wanted, pool: Pool) -> Iterator[Finding]:
    target, wish = f"pool {pool.pool}", wanted.copies
    has = _copies_of(facts, pool)
    wished = f"{wish} {'is' if isinstance(wish, Erasure) else 'are'}"
    if pool.is_erasure_coded and not pool.has_overwrites:
        yield steps.enable_overwrites(pool.pool)
    if has == str(wish) or (_are_both_whole(wish, pool) and pool.size > wish.size):
        yield Right(target, has + (", which can be changed in place" if pool.has_overwrites else ""))
        least = wish.min_size
    elif _are_both_whole(wish, pool):
        price = _price(pool, "copies all that is in it once more")
        yield Wrong(
            target,
            f"it has {has}, and {wished} wished for",
            f"ceph osd pool set {pool.pool} size {wish.size} ({price})",
        )
        least = Replicas(pool.size).min_size
    else:
        yield Wrong(
            target,
            f"it has {has}, and {wished} wished for",
            "how a pool keeps objects cannot be changed: wish for what it has, or name another --prefix and copy what is in it",
        )
        return
    if pool.min_size >= least:
        yield Right(target, f"takes writes while {pool.min_size} of {pool.size} can be written")
    elif not pool.objects:
        yield steps.set_min_size(pool.pool, least)
    else:
        yield Wrong(
            target,
            f"it takes writes while {pool.min_size} of {pool.size} can be written: those can be lost with the next OSD",
            f"ceph osd pool set {pool.pool} min_size {least}, when all is active+clean (from then on what has fewer waits "
            "until it is repaired)",
        )


def _are_both_whole(wish: Copies, pool: Pool) -> bool:
    return isinstance(wish, Replicas) and not pool.is_erasure_coded


def _copies_of(facts: Facts, pool: Pool) -> str:
    if not pool.is_erasure_coded:
        return f"{pool.size} {'copy' if pool.size == 1 else 'copies'}"
    profile = next((profile for profile in facts.ec_profiles if profile.profile == pool.ec_profile), None)
    return f"EC of {pool.size} pieces" if profile is None else str(Erasure(profile.k, profile.m))


def _placement(facts: Facts, wish: Wish, wanted: _Wanted, pool: Pool) -> Iterator[Finding]:
    target, device_class = f"pool {pool.pool}", wanted.room.device_class
    rule = next((rule for rule in facts.crush_rules if rule.rule == pool.crush_rule), None)
    problems: list[str] = []
    if rule is None:
        problems.append("has steps that I do not know")
    else:
        if set(rule.device_classes) != {device_class}:
            classes = ", ".join(dict.fromkeys(name or "any class" for name in rule.device_classes))
            problems.append(f"takes OSDs of {classes}, not of {device_class} alone")
        if set(rule.roots) != {wish.root}:
            problems.append(f"takes root {', '.join(dict.fromkeys(rule.roots))}, not {wish.root}")
        if wish.domain != OSD and rule.domains[-1:] in ((), (OSD,)):
            problems.append(f"keeps copies apart by OSD, not by {wish.domain}")
    if not problems:
        yield Right(target, f"rule {pool.crush_rule}: on OSDs of class {device_class}")
        return
    if pool.is_erasure_coded:
        remedy = f"make a rule from a profile that says so, then ceph osd pool set {pool.pool} crush_rule RULE"
    else:
        name, finding = _replicated_rule(facts, wish, wanted)
        first = f"{finding.words}; " if isinstance(finding, Step) else ""
        remedy = f"{first}ceph osd pool set {pool.pool} crush_rule {name}"
    yield Wrong(
        target,
        f"its rule {pool.crush_rule} {' and '.join(problems)}",
        f"{remedy} ({_price(pool, 'moves all that is in it')})",
    )


def _placement_groups(wanted: _Wanted, pool: Pool, release: str, off: str) -> Iterator[Finding]:
    target = f"pool {pool.pool}"
    if off:
        yield Right(target, f"{pool.pg_num} placement groups")  # `_far_off` may have a note
        return
    if pool.autoscale_mode == "on":
        yield Right(target, f"the autoscaler sees to its {pool.pg_num} placement groups")
    elif not pool.objects:
        yield steps.set_autoscale(pool.pool)
    else:
        yield Wrong(
            target,
            f"pg_autoscale_mode is {pool.autoscale_mode}",
            f"ceph osd pool set {pool.pool} pg_autoscale_mode on (may move much of what is in it, when the autoscaler chooses)",
        )
    if wanted.role != DATA:
        return
    if pool.is_bulk or pool.target_size_ratio:
        yield Right(target, "the autoscaler knows that it will be large")
        return
    step = steps.set_large(pool.pool, is_bulk=release in WITH_BULK)
    if not pool.objects:
        yield step
    else:
        yield Wrong(
            target,
            "the autoscaler does not know that it will be large, and splits it again and again while it fills",
            f"{step.words} (moves much of what is in it, once)",
        )


def _far_off(wanted: _Wanted, pool: Pool, off: str) -> Iterator[str]:
    """The number may be what the autoscaler had come to, or this for fewer OSDs: neither was wrong."""
    right = wanted.scaling.pg_num
    if off and wanted.role == DATA and not right < pool.pg_num * PGS_FAR_OFF < right * PGS_FAR_OFF**2:
        yield (
            f"pool {pool.pool} has {pool.pg_num} placement groups; for the OSDs that are there now about {right} are usual: "
            f"ceph osd pool set {pool.pool} pg_num {right} ({_price(pool, 'moves much of what is in it')})"
        )


def _price(pool: Pool, what: str) -> str:
    return what if pool.objects else "it is empty, so that moves nothing"


def _users(wish: Wish, known: Mapping[str, KnownUser]) -> Iterator[Finding]:
    for user in users_wanted(wish):
        target, found = f"user {user.entity}", known[user.entity]
        if found.capabilities is not None and dict(found.capabilities) != user.capabilities:
            caps = "; ".join(f"{service} '{cap}'" for service, cap in sorted(found.capabilities.items()))
            yield Wrong(
                target,
                f"it may do something else than this volume needs: {caps or 'nothing'}",
                f"find out who uses it; 'ceph auth caps' changes it, and {user.command!r} would make it as it should be",
            )
        elif found.has_key is False:
            yield Wrong(
                target,
                f"{found.keyring} has another key than Ceph",
                "is it of another cluster, or of a user of this name that was removed? Move that file away, and repeat",
            )
        elif found.capabilities is None or found.has_key is None:
            yield steps.make_user(user, found.keyring, is_new=found.capabilities is None)
        else:
            yield Right(target, f"{user.purpose}; its key is in {found.keyring}")


def _no_users(wish: Wish) -> Iterator[Finding]:
    for volume in wish.volumes:
        yield Wrong(f"volume {volume}", "no users are made for it", f"its pool {_name(wish, DATA)} is somebody else's")


def _autoscaler_off(facts: Facts) -> str:
    """Why pools should not be given to the autoscaler; "" if they should."""
    if "noautoscale" in facts.flags:
        return "the flag noautoscale is set"
    for entry in facts.config:
        if entry.name == NOAUTOSCALE and entry.value == "true":
            return "the flag noautoscale is set"
        if entry.name == AUTOSCALE_DEFAULT and entry.section in ("global", "mon") and entry.value != "on":
            return f"{AUTOSCALE_DEFAULT} is {entry.value}"
    return "the manager does not run its module pg_autoscaler" if facts.has_autoscaler is False else ""


def _spare(wanted: _Wanted, wish: Wish) -> Iterator[str]:
    if wanted.room.domains(wish.domain) == wanted.copies.size:
        yield (
            f"pool {wanted.pool} takes all {plural(wish.domain)} that have class {wanted.room.device_class}: when one fails, "
            "what it had cannot be made anew elsewhere before it is back or replaced"
        )


def _notes(facts: Facts, wish: Wish, off: str) -> Iterator[str]:
    if off:
        yield (
            f"the autoscaler is off ({off}): placement groups are reckoned from the OSDs that are there now; look at them "
            "again when OSDs are added"
        )
    else:
        names = {_name(wish, role) for role in _roles(wish)}
        other = [pool.pool for pool in overlapping(facts, wish.hdd) if pool.pool not in names]
        if other:
            yield (
                f"{', '.join(other)} {'takes' if len(other) == 1 else 'take'} OSDs of any class: the autoscaler leaves alone "
                "what overlaps so, also the pools here; 'osdtune plan' has a rule for that (crush-class)"
            )
    if isinstance(wish.data_copies, Erasure):
        coding = wish.data_copies
        yield (
            f"with {coding} a write that does not fill a stripe ({coding.k} x 4 KiB) reads and writes all of it: small "
            "synchronous writes take longer than on a pool of copies, streams do not"
        )
        if coding.m == 1:
            yield "m = 1: while one OSD is away, the next one that fails takes data with it; wish for m = 2 or more"
    if wish.replicas.size == 2 and (wish.ssd is not None or wish.erasure is None):
        yield "2 copies: while one OSD is away, what is written is there only once; wish for 3"
