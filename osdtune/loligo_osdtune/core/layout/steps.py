"""What a look at a layout finds, and the commands that make what is missing.

A step is *idempotent*: carried out again, however far it had come, it ends as if it had been carried out once. None of them
deletes, shrinks or moves anything.
"""

import shlex
from dataclasses import dataclass

from loligo_osdtune.core.layout.values import (
    APPLICATION,
    AUTOSCALE,
    BULK,
    CODING,
    CRUSH_RULE,
    MIN_SIZE,
    OVERWRITES,
    PG_NUM,
    PG_NUM_SMALL,
    SMALL_POOL_PGS,
    TAG,
    TARGET_SIZE_RATIO,
    USERS,
    Value,
)
from loligo_osdtune.core.layout.wish import Copies, Erasure, plural
from loligo_runtime.ceph_users import CephUser


@dataclass(frozen=True, slots=True)
class Right:
    """As it should be. `target`: "pool loligo-data", "rule loligo-hdd-host", "user client.loligo-big"."""

    target: str
    says: str


@dataclass(frozen=True, slots=True)
class Step:
    """Missing. `command`: for a monitor; `words`: the same, as people type it. `user`: its key goes into a keyring, too."""

    target: str
    does: str
    command: dict[str, object]
    words: str
    why: str
    source: str
    user: CephUser | None = None


@dataclass(frozen=True, slots=True)
class Wrong:
    """Cannot be mended without moving data, or is somebody else's. `remedy`: what people can do, and its price."""

    target: str
    says: str
    remedy: str


Finding = Right | Step | Wrong


@dataclass(frozen=True, slots=True)
class Scaling:
    """What a pool is made with. `mode`: on, off. `is_bulk`, `ratio`: how the autoscaler hears that it will be large."""

    pg_num: int
    mode: str
    is_bulk: bool = False
    ratio: float = 0.0


def replicated_rule(name: str, root: str, domain: str, device_class: str) -> Step:
    return Step(
        target=f"rule {name}",
        does=f"make a CRUSH rule: copies on different {plural(domain)}, on OSDs of class {device_class}",
        command={
            "prefix": "osd crush rule create-replicated",
            "name": name,
            "root": root,
            "type": domain,
            "class": device_class,
        },
        words=_words("ceph osd crush rule create-replicated", name, root, domain, device_class),
        why="a pool without a class of its own lies on SSDs and disks alike, and is as slow as the disks",
        source=CRUSH_RULE.source,
    )


def erasure_profile(name: str, coding: Erasure, root: str, domain: str, device_class: str) -> Step:
    settings = [
        f"k={coding.k}",
        f"m={coding.m}",
        f"crush-root={root}",
        f"crush-failure-domain={domain}",
        f"crush-device-class={device_class}",
    ]
    return Step(
        target=f"profile {name}",
        does=f"say how objects are coded: {coding}, pieces on different {plural(domain)}, on OSDs of class {device_class}",
        command={"prefix": "osd erasure-code-profile set", "name": name, "profile": settings},
        words=_words("ceph osd erasure-code-profile set", name, *settings),
        why="a pool keeps the coding that it was made with",
        source=CODING.source,
    )


def erasure_rule(name: str, profile: str, domain: str, device_class: str) -> Step:
    return Step(
        target=f"rule {name}",
        does=f"make a CRUSH rule: pieces on different {plural(domain)}, on OSDs of class {device_class}",
        command={"prefix": "osd crush rule create-erasure", "name": name, "profile": profile},
        words=_words("ceph osd crush rule create-erasure", name, profile),
        why="an erasure coded pool needs a rule of its own kind",
        source=CRUSH_RULE.source,
    )


def create_pool(pool: str, copies: Copies, rule: str, profile: str, scaling: Scaling, *, is_small: bool) -> Step:
    """In one command, so that no crash leaves a pool with other copies or on other OSDs."""
    command: dict[str, object] = {
        "prefix": "osd pool create",
        "pool": pool,
        "pg_num": scaling.pg_num,
        "pgp_num": scaling.pg_num,
        "rule": rule,
        "autoscale_mode": scaling.mode,
    }
    kind: tuple[str, ...]
    if isinstance(copies, Erasure):
        command |= {"pool_type": "erasure", "erasure_code_profile": profile}
        kind = ("erasure", profile, rule)
    else:
        command |= {"pool_type": "replicated", "size": copies.size}
        kind = ("replicated", rule, "--size", str(copies.size))
    options = ["--autoscale-mode", scaling.mode]
    if scaling.is_bulk:
        command["bulk"] = True
        options.append("--bulk")
    if scaling.ratio:
        command["target_size_ratio"] = scaling.ratio
        options += ["--target-size-ratio", str(scaling.ratio)]
    if is_small:
        command["pg_num_min"] = SMALL_POOL_PGS
        options += ["--pg-num-min", str(SMALL_POOL_PGS)]
    pgs = str(scaling.pg_num)
    return Step(
        target=f"pool {pool}",
        does=f"make it: {copies}, {scaling.pg_num} placement groups, rule {rule}, autoscaler {scaling.mode}",
        command=command,
        words=_words("ceph osd pool create", pool, pgs, pgs, *kind, *options),
        why="it is not there",
        source=(PG_NUM_SMALL if is_small else PG_NUM).source,
    )


def enable_overwrites(pool: str) -> Step:
    return _set(
        pool,
        "allow_ec_overwrites",
        "true",
        "let objects be changed in place; it cannot be taken back, and need not be",
        "without it an erasure coded pool takes whole objects only, and no file system can work on it",
        OVERWRITES,
    )


def enable_application(pool: str) -> Step:
    return Step(
        target=f"pool {pool}",
        does=f"say that it is for {APPLICATION}",
        command={"prefix": "osd pool application enable", "pool": pool, "app": APPLICATION},
        words=_words("ceph osd pool application enable", pool, APPLICATION),
        why="Ceph warns of pools that nobody has claimed, and others see whose it is",
        source=TAG.source,
    )


def set_min_size(pool: str, min_size: int) -> Step:
    return _set(
        pool,
        "min_size",
        str(min_size),
        "take a write only while it reaches so many OSDs",
        "that is Ceph's number for this size, unless somebody has lowered it for new pools",
        MIN_SIZE,
    )


def set_autoscale(pool: str) -> Step:
    why = "the number of placement groups then follows what is in it"
    return _set(pool, "pg_autoscale_mode", "on", "let the autoscaler see to it", why, AUTOSCALE)


def set_large(pool: str, *, is_bulk: bool) -> Step:
    name, value = ("bulk", "true") if is_bulk else ("target_size_ratio", str(TARGET_SIZE_RATIO))
    why = "it then begins with all the placement groups that it will need, and is not split while it fills"
    return _set(pool, name, value, "tell the autoscaler that it will be large", why, BULK)


def make_user(user: CephUser, keyring: str, *, is_new: bool) -> Step:
    caps = [part for pair in user.capabilities.items() for part in pair]
    return Step(
        target=f"user {user.entity}",
        does=f"make it ({user.purpose}), and write its key to {keyring}" if is_new else f"write its key to {keyring}",
        command={"prefix": "auth get-or-create", "entity": user.entity, "caps": caps},
        words=f"(umask 077; {user.command} -o {shlex.quote(keyring)})",
        why="whoever has it can read and change this volume, and nothing else of the cluster",
        source=USERS.source,
        user=user,
    )


def _set(pool: str, name: str, value: str, does: str, why: str, of: Value) -> Step:
    return Step(
        target=f"pool {pool}",
        does=f"{name} {value}: {does}",
        command={"prefix": "osd pool set", "pool": pool, "var": name, "val": value},
        words=_words("ceph osd pool set", pool, name, value),
        why=why,
        source=of.source,
    )


def _words(command: str, *arguments: str) -> str:
    return " ".join([command, *map(shlex.quote, arguments)])
