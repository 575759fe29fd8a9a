"""What a layout finds in facts of several clusters: each finding both ways, and what does not fit."""

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from loligo_osdtune.core.facts import ConfigEntry, CrushRule, ErasureProfile, Facts, FactsError, Osd, Pool
from loligo_osdtune.core.layout.judge import KnownUser, Layout, layout_of, users_wanted
from loligo_osdtune.core.layout.steps import Right, Step, Wrong
from loligo_osdtune.core.layout.values import VALUES
from loligo_osdtune.core.layout.wish import Erasure, LayoutError, Replicas, Wish, parse_coding
from loligo_osdtune.core.releases import KNOWN
from loligo_osdtune.shell.layout import keyring_lines
from loligo_runtime.ceph_users import CephUserError
from osdtune import shapes

DOCUMENT = Path(__file__).parents[2] / "docs" / "osdtune.md"
HYBRID = Wish(hdd="hdd", ssd="ssd")
DATA = Wish(hdd="hdd")
CODED = Wish(hdd="hdd", erasure=Erasure(2, 1))


def rack(release: str = "quincy", hosts: int = 3, pools: tuple[Pool, ...] = ()) -> Facts:
    """On each host ten disks and two OSDs on NVMe; no pools, and no rules but one for any class."""
    osds: list[Osd] = []
    for host in "abcdefgh"[:hosts]:
        osds += [shapes.disk(len(osds) + number, release, host) for number in range(10)]
        osds += [shapes.flash(len(osds) + number, release, host) for number in range(2)]
    return replace(shapes.cluster(*osds, pools=pools), crush_rules=(shapes.crush_rule("replicated_rule", ""),))


#: What Ceph calls it -> the fact, and its value from Ceph's text.
SETTINGS: dict[str, tuple[str, Callable[[str], Any]]] = {
    "allow_ec_overwrites": ("has_overwrites", lambda text: text == "true"),
    "bulk": ("is_bulk", lambda text: text == "true"),
    "min_size": ("min_size", int),
    "pg_autoscale_mode": ("autoscale_mode", str),
    "target_size_ratio": ("target_size_ratio", float),
}


def made(facts: Facts, layout: Layout) -> Facts:
    """The cluster after all steps: what each command does, as far as it is looked at."""
    pools = {pool.pool: pool for pool in facts.pools}
    rules = {rule.rule: rule for rule in facts.crush_rules}
    profiles = {profile.profile: profile for profile in facts.ec_profiles}
    for step in layout.steps:
        command: dict[str, Any] = step.command
        match command["prefix"]:
            case "osd crush rule create-replicated":
                rules[command["name"]] = CrushRule(
                    command["name"], (command["class"],), (command["root"],), (command["type"],), False
                )
            case "osd erasure-code-profile set":
                told = dict(setting.split("=") for setting in command["profile"])
                profiles[command["name"]] = ErasureProfile(
                    command["name"],
                    int(told["k"]),
                    int(told["m"]),
                    told["crush-device-class"],
                    told["crush-root"],
                    told["crush-failure-domain"],
                )
            case "osd crush rule create-erasure":
                of = profiles[command["profile"]]
                rules[command["name"]] = CrushRule(
                    command["name"], (of.crush_class,), (of.crush_root,), (of.crush_domain,), True
                )
            case "osd pool create":
                coding = profiles.get(command.get("erasure_code_profile", ""))
                assert command["pg_num"] == command["pgp_num"] and command["rule"] in rules
                pools[command["pool"]] = Pool(
                    pool=command["pool"],
                    pg_num=command["pg_num"],
                    size=coding.k + coding.m if coding else command["size"],
                    min_size=1,  # what the cluster's default may be
                    is_erasure_coded=coding is not None,
                    ec_profile=coding.profile if coding else "",
                    has_overwrites=False,
                    crush_rule=command["rule"],
                    autoscale_mode=command["autoscale_mode"],
                    is_bulk=command.get("bulk", False),
                    target_size_ratio=command.get("target_size_ratio", 0.0),
                    is_tiered=False,
                    stored_bytes=0,
                    objects=0,
                    applications=(),
                )
            case "osd pool application enable":
                pools[command["pool"]] = replace(pools[command["pool"]], applications=(command["app"],))
            case "osd pool set":
                name, value = SETTINGS[command["var"]]
                change: dict[str, Any] = {name: value(command["val"])}
                pools[command["pool"]] = replace(pools[command["pool"]], **change)
            case prefix:
                raise AssertionError(f"no command of a layout: {prefix}")
    return replace(
        facts,
        pools=tuple(sorted(pools.values(), key=lambda pool: pool.pool)),
        crush_rules=tuple(sorted(rules.values(), key=lambda rule: rule.rule)),
        ec_profiles=tuple(sorted(profiles.values(), key=lambda profile: profile.profile)),
    )


def laid_out(wish: Wish, facts: Facts, **changed: Any) -> Facts:
    """`facts` with all that is wished for, its data pool `changed`, and a file in it if nothing else is said."""
    facts = made(facts, layout_of(facts, wish, {}))
    return shapes.with_pool(facts, "loligo-data", **{"objects": 1, **changed})


def words(layout: Layout) -> list[str]:
    return [step.words for step in layout.steps]


def said(layout: Layout) -> list[str]:
    return [f"{wrong.target}: {wrong.says}: {wrong.remedy}" for wrong in layout.wrong]


def test_all_is_missing_on_a_new_cluster() -> None:
    layout = layout_of(rack(), HYBRID, {})
    assert words(layout) == [
        "ceph osd crush rule create-replicated loligo-hdd-host default host hdd",
        "ceph osd pool create loligo-data 1024 1024 replicated loligo-hdd-host --size 3 --autoscale-mode on --bulk",
        "ceph osd pool application enable loligo-data loligo",
        "ceph osd pool set loligo-data min_size 2",
        "ceph osd crush rule create-replicated loligo-ssd-host default host ssd",
        "ceph osd pool create loligo-meta 16 16 replicated loligo-ssd-host --size 3 --autoscale-mode on --pg-num-min 16",
        "ceph osd pool application enable loligo-meta loligo",
        "ceph osd pool set loligo-meta min_size 2",
        "ceph osd pool create loligo-journal 16 16 replicated loligo-ssd-host --size 3 --autoscale-mode on --pg-num-min 16",
        "ceph osd pool application enable loligo-journal loligo",
        "ceph osd pool set loligo-journal min_size 2",
    ]
    assert layout.wrong == ()
    assert ["not used by this release" in pool.use for pool in layout.pools] == [False, True, True]


def test_pools_that_this_release_does_not_use_are_made_for_who_names_a_class_for_them() -> None:
    assert [pool.pool for pool in layout_of(rack(), DATA, {}).pools] == ["loligo-data"]


@pytest.mark.parametrize("release", KNOWN)
@pytest.mark.parametrize("has_autoscaler", [True, False, None])
@pytest.mark.parametrize("wish", [HYBRID, DATA, CODED, Wish(hdd="ssd", ssd="ssd", domain="osd")])
def test_when_it_is_made_all_is_right(release: str, has_autoscaler: bool | None, wish: Wish) -> None:
    facts = replace(rack(release), has_autoscaler=has_autoscaler)
    layout = layout_of(facts, wish, {})
    assert layout == layout_of(facts, wish, {})
    again = layout_of(made(facts, layout), wish, {})
    assert again.steps == () and again.wrong == () and again.findings
    assert again.pools == layout.pools


@pytest.mark.parametrize("wish", [HYBRID, CODED])
def test_after_a_crash_anywhere_the_rest_is_missing(wish: Wish) -> None:
    facts = rack()
    layout = layout_of(facts, wish, {})
    for done in range(len(layout.steps) + 1):
        half = made(facts, replace(layout, findings=layout.steps[:done]))
        rest = layout_of(half, wish, {})
        assert rest.wrong == ()
        assert rest.steps == layout.steps[done:]


def test_erasure_coding() -> None:
    layout = layout_of(rack(hosts=6), replace(HYBRID, erasure=Erasure(4, 2)), {})
    name = "loligo-ec-4-2-hdd-host"
    assert words(layout)[:6] == [
        f"ceph osd erasure-code-profile set {name} k=4 m=2 crush-root=default crush-failure-domain=host crush-device-class=hdd",
        f"ceph osd crush rule create-erasure {name} {name}",
        f"ceph osd pool create loligo-data 1024 1024 erasure {name} {name} --autoscale-mode on --bulk",
        "ceph osd pool application enable loligo-data loligo",
        "ceph osd pool set loligo-data allow_ec_overwrites true",
        "ceph osd pool set loligo-data min_size 5",
    ]
    assert any("small synchronous writes take longer" in note for note in layout.notes)
    assert any("m = 1" in note for note in layout_of(rack(), CODED, {}).notes)


@pytest.mark.parametrize(
    ("release", "option"),
    [("pacific", "--target-size-ratio 1.0"), ("quincy", "--bulk"), ("reef", "--bulk"), ("squid", "--bulk")],
)
def test_the_autoscaler_is_told_what_will_be_large(release: str, option: str) -> None:
    create = words(layout_of(rack(release), DATA, {}))[1]
    assert create.endswith(f"--autoscale-mode on {option}")


DEFAULT_OFF = ConfigEntry("global", "", "osd_pool_default_pg_autoscale_mode", "off")
NO_SCALING = ConfigEntry("mgr", "", "mgr/pg_autoscaler/noautoscale", "true")


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"has_autoscaler": False}, "the manager does not run its module"),
        ({"flags": ("noautoscale",)}, "the flag noautoscale is set"),
        ({"config": (NO_SCALING,)}, "the flag noautoscale is set"),
        ({"config": (DEFAULT_OFF,)}, "osd_pool_default_pg_autoscale_mode is off"),
    ],
)
def test_without_the_autoscaler_placement_groups_are_reckoned(changed: dict[str, Any], why: str) -> None:
    layout = layout_of(replace(rack(), **changed), DATA, {})
    assert words(layout)[1].endswith("loligo-data 1024 1024 replicated loligo-hdd-host --size 3 --autoscale-mode off")
    assert any(why in note for note in layout.notes)


@pytest.mark.parametrize(
    "entry",
    [replace(DEFAULT_OFF, value="on"), replace(DEFAULT_OFF, section="osd.3"), replace(NO_SCALING, value="false")],
)
def test_what_does_not_turn_the_autoscaler_off(entry: ConfigEntry) -> None:
    layout = layout_of(replace(rack(), config=(entry,)), DATA, {})
    assert words(layout)[1].endswith("--autoscale-mode on --bulk")


@pytest.mark.parametrize(
    ("hosts", "erasure", "others", "pgs"),
    [
        (3, None, 0, 1024),  # 30 OSDs x 100 / 3 = 1000
        (3, None, 256, 512),  # (3000 - 256 x 3) / 3 = 744: nearer to 512
        (3, None, 4096, 32),  # more than there should be: as few as possible
        (5, Erasure(3, 2), 0, 1024),
        (8, Erasure(4, 2), 0, 1024),  # 1333
    ],
)
def test_how_many_placement_groups(hosts: int, erasure: Erasure | None, others: int, pgs: int) -> None:
    pools = (shapes.pool("other", "replicated_rule", others),) if others else ()
    create = next(
        step
        for step in layout_of(rack(hosts=hosts, pools=pools), replace(DATA, erasure=erasure), {}).steps
        if step.command["prefix"] == "osd pool create"
    )
    assert create.command["pg_num"] == pgs


def test_a_rule_that_does_the_same_is_used_whatever_its_name() -> None:
    facts = replace(rack(), crush_rules=(shapes.crush_rule("spinning", "hdd"), shapes.crush_rule("wide", "hdd", "osd")))
    layout = layout_of(facts, DATA, {})
    assert words(layout)[0].startswith("ceph osd pool create loligo-data 1024 1024 replicated spinning ")
    assert layout.findings[0] == Right("rule spinning", "copies on different hosts, on OSDs of class hdd")


@pytest.mark.parametrize(
    ("wish", "facts", "target"),
    [
        (DATA, replace(rack(), crush_rules=(shapes.crush_rule("loligo-hdd-host", "ssd"),)), "rule loligo-hdd-host"),
        (
            CODED,
            replace(rack(), ec_profiles=(ErasureProfile("loligo-ec-2-1-hdd-host", 4, 2, "hdd", "default", "host"),)),
            "profile loligo-ec-2-1-hdd-host",
        ),
        (
            CODED,
            replace(rack(), crush_rules=(shapes.crush_rule("loligo-ec-2-1-hdd-host", "hdd"),)),  # for copies
            "rule loligo-ec-2-1-hdd-host",
        ),
    ],
)
def test_a_name_that_is_taken_by_other_content_stops_the_pool(wish: Wish, facts: Facts, target: str) -> None:
    layout = layout_of(facts, wish, {})
    assert [wrong.target for wrong in layout.wrong] == [target, "pool loligo-data"]
    assert not any(step.target == "pool loligo-data" for step in layout.steps)


LAID, LAID_CODED = laid_out(HYBRID, rack()), laid_out(CODED, rack())
ANY = {"crush_rule": "replicated_rule"}

#: The wish, facts in which something is wrong, what is said of it, what it costs.
WRONG: list[tuple[Wish, Facts, str, str]] = [
    (
        HYBRID,
        laid_out(HYBRID, rack(), **ANY),
        "rule replicated_rule takes OSDs of any class",
        "moves all that is in it",
    ),
    (
        HYBRID,
        laid_out(HYBRID, rack(), objects=0, **ANY),
        "takes OSDs of any class",
        "it is empty, so that moves nothing",
    ),
    (
        HYBRID,
        laid_out(HYBRID, rack(), crush_rule="loligo-ssd-host"),
        "takes OSDs of ssd, not of hdd",
        "crush_rule loligo-hdd-host",
    ),
    (HYBRID, laid_out(HYBRID, rack(), crush_rule=""), "has steps that I do not know", "moves all"),
    (
        replace(HYBRID, domain="host"),
        laid_out(replace(HYBRID, domain="osd"), rack()),
        "keeps copies apart by OSD, not by host",
        "ceph osd crush rule create-replicated loligo-hdd-host default host hdd; ceph osd pool set loligo-data crush_rule",
    ),
    (
        HYBRID,
        laid_out(HYBRID, rack(), size=2),
        "2 copies, and 3 copies are wished for",
        "size 3 (copies all that is in it once more)",
    ),
    (HYBRID, laid_out(HYBRID, rack(), size=1, min_size=1), "it has 1 copy", "size 3"),
    (
        HYBRID,
        laid_out(HYBRID, rack(), min_size=1),
        "while 1 of 3 can be written",
        "min_size 2, when all is active+clean",
    ),
    (HYBRID, laid_out(HYBRID, rack(), autoscale_mode="warn"), "pg_autoscale_mode is warn", "pg_autoscale_mode on"),
    (HYBRID, laid_out(HYBRID, rack(), is_bulk=False), "does not know that it will be large", "bulk true (moves much"),
    (HYBRID, laid_out(HYBRID, rack(), is_tiered=True), "a cache tier", "by hand"),
    (HYBRID, laid_out(HYBRID, rack(), applications=("rbd",)), "is used for rbd", "another --prefix"),
    (CODED, LAID, "it has 3 copies, and EC 2+1 is wished for", "cannot be changed"),
    (DATA, LAID_CODED, "it has EC 2+1, and 3 copies are wished for", "cannot be changed"),
    (replace(CODED, erasure=Erasure(2, 2)), LAID_CODED, "it has EC 2+1, and EC 2+2 is wished for", "cannot be changed"),
    (CODED, laid_out(CODED, rack(), min_size=1), "while 1 of 3 can be written", "min_size 2"),
]


@pytest.mark.parametrize(("wish", "facts", "says", "remedy"), WRONG)
def test_what_would_move_data_is_told_and_not_done(wish: Wish, facts: Facts, says: str, remedy: str) -> None:
    layout = layout_of(facts, wish, {})
    (found,) = [wrong for wrong in layout.wrong if wrong.target == "pool loligo-data" and says in wrong.says]
    assert remedy in found.remedy
    assert not any(step.target == "pool loligo-data" for step in layout.steps)


@pytest.mark.parametrize(
    ("wish", "facts"),
    [
        (HYBRID, LAID),
        (CODED, LAID_CODED),
        (HYBRID, laid_out(HYBRID, rack(), size=4)),  # more than asked for
        (HYBRID, laid_out(HYBRID, rack(), min_size=3)),
        (HYBRID, laid_out(HYBRID, rack(), is_bulk=False, target_size_ratio=0.4)),
        (replace(HYBRID, domain="osd"), LAID),  # apart by host is apart by OSD
        (HYBRID, laid_out(HYBRID, rack(), applications=("loligo", "rbd"))),
        (HYBRID, replace(laid_out(HYBRID, rack(), autoscale_mode="off", pg_num=512), has_autoscaler=False)),
        (HYBRID, laid_out(HYBRID, rack("pacific"))),
    ],
)
def test_what_is_as_good_as_wished_for_is_right(wish: Wish, facts: Facts) -> None:
    layout = layout_of(facts, wish, {})
    assert layout.steps == () and layout.wrong == ()


@pytest.mark.parametrize(
    ("wish", "facts", "step"),
    [
        (HYBRID, laid_out(HYBRID, rack(), applications=()), "ceph osd pool application enable loligo-data loligo"),
        (
            CODED,
            laid_out(CODED, rack(), has_overwrites=False),
            "ceph osd pool set loligo-data allow_ec_overwrites true",
        ),
        (HYBRID, laid_out(HYBRID, rack(), objects=0, min_size=1), "ceph osd pool set loligo-data min_size 2"),
        (HYBRID, laid_out(HYBRID, rack(), objects=0, is_bulk=False), "ceph osd pool set loligo-data bulk true"),
        (
            HYBRID,
            laid_out(HYBRID, rack("pacific"), objects=0, target_size_ratio=0.0),
            "ceph osd pool set loligo-data target_size_ratio 1.0",
        ),
        (
            HYBRID,
            laid_out(HYBRID, rack(), objects=0, autoscale_mode="off"),
            "ceph osd pool set loligo-data pg_autoscale_mode on",
        ),
    ],
)
def test_what_moves_nothing_is_done(wish: Wish, facts: Facts, step: str) -> None:
    layout = layout_of(facts, wish, {})
    assert words(layout) == [step] and layout.wrong == ()


def down(facts: Facts, *numbers: int) -> Facts:
    for number in numbers:
        facts = shapes.with_osd(facts, number, is_up=False)
    return facts


@pytest.mark.parametrize(
    ("wish", "facts", "parts"),
    [
        (
            Wish(hdd="nvme"),
            rack(),
            ["no OSD below root default has the device class 'nvme'", "hdd (30 OSDs), ssd (6 OSDs)"],
        ),
        (Wish(hdd="hdd", ssd="flash"), rack(), ["the device class 'flash'"]),
        (Wish(hdd="hdd", root="attic"), rack(), ["no OSD below a root 'attic'", "--root may be default"]),
        (DATA, rack(hosts=2), ["wants 3 hosts of class 'hdd'", "there are 2", "--failure-domain osd", "--replicas 2"]),
        (DATA, rack(hosts=1), ["there is 1", "--failure-domain osd"]),
        (replace(DATA, erasure=Erasure(4, 2)), rack(hosts=4), ["wants 6 hosts", "--ec with K + M of 4 or less"]),
        (
            replace(HYBRID, domain="osd"),
            down(rack(hosts=1), 10),
            ["pool loligo-meta", "3 OSDs of class 'ssd'"],
        ),
        (HYBRID, down(rack(), 10, 11), ["pool loligo-meta", "of class 'ssd' that are up and in, and there are 2"]),
        (HYBRID, shapes.with_osd(down(rack(), 10), 11, is_in=False), ["of class 'ssd'"]),
        (HYBRID, shapes.with_osd(down(rack(), 10), 11, crush_weight=0.0), ["of class 'ssd'"]),
        (replace(DATA, replicas=Replicas(10)), rack(hosts=1), ["--failure-domain osd"]),
        (CODED, shapes.with_osd(rack(), 0, object_store="filestore"), ["osd.0 is not BlueStore"]),
        (DATA, replace(rack(), is_stretched=True), ["stretched over two sites"]),
    ],
)
def test_a_pool_that_could_not_become_clean_is_refused_with_what_would_fit(
    wish: Wish, facts: Facts, parts: list[str]
) -> None:
    with pytest.raises(LayoutError) as caught:
        layout_of(facts, wish, {})
    assert all(part in str(caught.value) for part in parts)


def test_pools_that_are_there_are_judged_while_osds_are_down() -> None:
    assert layout_of(down(LAID, 10, 11), HYBRID, {}).wrong == ()


def test_a_release_that_nobody_has_looked_at() -> None:
    with pytest.raises(FactsError, match="OSDs run Ceph umbrella"):
        layout_of(rack("umbrella"), DATA, {})


@pytest.mark.parametrize(
    ("changed", "part"),
    [
        ({"prefix": "a b"}, "'a b' cannot begin the name of a pool"),
        ({"replicas": Replicas(1)}, "with one copy"),
        ({"erasure": Erasure(1, 1)}, "k is 2 or more"),
        ({"erasure": Erasure(4, 0)}, "m is 1 or more"),
        ({"volumes": ("a/b",)}, "'a/b' cannot be a namespace"),
        ({"volumes": ("",)}, "nothing at all"),
    ],
)
def test_what_cannot_be_wished_for(changed: dict[str, Any], part: str) -> None:
    with pytest.raises(LayoutError) as caught:
        Wish(**{"hdd": "hdd", **changed})
    assert part in str(caught.value)


def test_codings_as_they_are_typed() -> None:
    assert parse_coding("8+3") == Erasure(8, 3)
    for text in ("8", "8+", "+3", "8-3", "x+y", ""):
        with pytest.raises(ValueError, match="write K\\+M"):
            parse_coding(text)


@pytest.mark.parametrize(
    ("copies", "min_size"),
    [
        (Replicas(2), 1),
        (Replicas(3), 2),
        (Replicas(4), 2),
        (Replicas(5), 3),
        (Erasure(2, 1), 2),
        (Erasure(4, 2), 5),
        (Erasure(8, 3), 9),
    ],
)
def test_min_size_is_cephs(copies: Replicas | Erasure, min_size: int) -> None:
    assert copies.min_size == min_size


BIG = replace(HYBRID, volumes=("big",))
DAEMON, CLIENT = users_wanted(BIG)


def known(**changed: KnownUser) -> Mapping[str, KnownUser]:
    """Both users as they should be, or as `changed`."""
    right = {
        user.entity: KnownUser(user.capabilities, f"/etc/ceph/{user.keyring_name}", True) for user in (DAEMON, CLIENT)
    }
    return right | {{"daemon": DAEMON, "client": CLIENT}[name].entity: user for name, user in changed.items()}


def test_the_users_of_a_volume() -> None:
    missing = KnownUser(None, "/etc/ceph/a key", None)
    layout = layout_of(LAID, BIG, known(daemon=missing))
    (step,) = layout.steps
    assert (step.target, step.user) == ("user client.loligo-big-daemon", DAEMON)
    assert step.words == (
        "(umask 077; ceph auth get-or-create client.loligo-big-daemon mon 'profile simple-rados-client-with-blocklist' "
        "osd 'allow rw pool=loligo-data namespace=big' -o '/etc/ceph/a key')"
    )
    assert step.does.startswith("make it (")
    assert layout_of(LAID, BIG, known()).steps == ()
    (volume,) = layout.volumes
    assert (volume.volume, volume.pool, volume.daemon, volume.client) == (
        "big",
        "loligo-data",
        DAEMON.entity,
        CLIENT.entity,
    )


def test_a_key_that_was_not_written_yet_is_missing() -> None:
    (step,) = layout_of(LAID, BIG, known(client=KnownUser(CLIENT.capabilities, "/k", None))).steps
    assert step.does == "write its key to /k"


@pytest.mark.parametrize(
    ("user", "says"),
    [
        (KnownUser({"mon": "allow *"}, "/k", True), "it may do something else than this volume needs: mon 'allow *'"),
        (KnownUser(CLIENT.capabilities | {"mgr": "allow *"}, "/k", None), "mgr 'allow *'"),
        (KnownUser({}, "/k", None), "nothing"),
        (KnownUser(CLIENT.capabilities, "/k", False), "/k has another key than Ceph"),
        (KnownUser(None, "/k", False), "/k has another key than Ceph"),
    ],
)
def test_a_user_who_is_somebody_elses_is_not_touched(user: KnownUser, says: str) -> None:
    layout = layout_of(LAID, BIG, known(client=user))
    (wrong,) = layout.wrong
    assert wrong.target == f"user {CLIENT.entity}" and says in wrong.says
    assert layout.steps == ()


def test_nobody_gets_into_a_pool_of_others() -> None:
    missing = KnownUser(None, "/k", None)
    facts = shapes.with_pool(LAID, "loligo-data", applications=("rbd",))
    layout = layout_of(facts, BIG, known(daemon=missing, client=missing))
    assert layout.steps == () and "volume big" in [wrong.target for wrong in layout.wrong]


def test_a_volume_that_ceph_cannot_be_told_of() -> None:
    with pytest.raises(CephUserError, match="cannot be named"):
        users_wanted(replace(BIG, volumes=("a*",)))


def test_what_there_is_to_know() -> None:
    def notes(wish: Wish, facts: Facts) -> str:
        return "\n".join(layout_of(facts, wish, {}).notes)

    assert "takes all hosts that have class hdd" in notes(DATA, rack()) and "takes all" not in notes(
        DATA, rack(hosts=4)
    )
    mgr = (shapes.pool(".mgr", "replicated_rule", 1),)
    assert ".mgr takes OSDs of any class" in notes(DATA, rack(pools=mgr)) and "any class" not in notes(DATA, rack())
    assert "2 copies: " in notes(replace(DATA, replicas=Replicas(2)), rack())
    assert "2 copies: " not in notes(replace(CODED, replicas=Replicas(2)), rack())
    assert "autoscaler: away" in notes(DATA, replace(rack(), gaps=("autoscaler: away",)))


def test_each_step_says_why_and_on_whose_word() -> None:
    sources = {value.source for value in VALUES}
    for wish in (HYBRID, CODED):
        for step in layout_of(rack(), replace(wish, volumes=("big",)), known()).findings:
            if isinstance(step, Step):
                assert step.why and step.source in sources and step.words.startswith("ceph ")


def test_every_value_has_its_source_in_the_document() -> None:
    rows = dict(re.findall(r"^\| `(layout\.[a-z_]+)` \| (.*) \|$", DOCUMENT.read_text(), re.MULTILINE))
    for value in VALUES:
        assert rows.pop(value.name) == f"{value.value} | {value.source}"
    assert rows == {}


def test_nothing_of_it_removes_or_shrinks() -> None:
    for wish in (HYBRID, CODED):
        for step in layout_of(rack(), wish, {}).steps:
            assert not re.search(r"\b(rm|delete|remove|force|yes-i-really)\b", step.words)
    assert all(isinstance(finding, Wrong) for finding in layout_of(LAID, replace(DATA, replicas=Replicas(4)), {}).wrong)


def test_a_folder_that_ceph_conf_does_not_name_is_told_once_and_absolute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    conf = tmp_path / "ceph.conf"
    conf.write_text("[global]\n")
    users = users_wanted(replace(DATA, volumes=("one", "two")))
    assert len(users) == 4
    keyring = f"keyring = {tmp_path}/keys/ceph.$name.keyring"
    assert list(keyring_lines(str(conf), users, "keys")) == [
        f"{conf} does not look for keys in {tmp_path}/keys; add to it: {keyring}"
    ]
    conf.write_text(f"[global]\n{keyring}\n")
    assert list(keyring_lines(str(conf), users, "keys")) == []


@pytest.mark.parametrize("mode", ["on", "off"])
def test_a_number_of_placement_groups_that_the_autoscaler_or_layout_chose_is_not_wrong(mode: str) -> None:
    """The autoscaler is off by now; or there were fewer OSDs."""
    facts = laid_out(HYBRID, rack(), pg_num=128, autoscale_mode=mode)
    layout = layout_of(replace(facts, has_autoscaler=False), HYBRID, {})
    assert layout.wrong == ()
    (note,) = [note for note in layout.notes if "128 placement groups" in note]
    assert "about 1024 are usual" in note and "pg_num 1024 (moves much" in note
    fitting = replace(laid_out(HYBRID, rack(), pg_num=512, autoscale_mode=mode), has_autoscaler=False)
    assert not any("are usual" in note for note in layout_of(fitting, HYBRID, {}).notes)
