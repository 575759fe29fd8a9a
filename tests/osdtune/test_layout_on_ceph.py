"""layout on a real cluster of three disks and two SSDs, on one host: it is made, killed, typed by hand, and used."""

import contextlib
import errno
import inspect
import json
import os
import random
import shutil
import signal
import stat
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import rados

from contracts import test_object_store as contract
from loligo_lab.ceph import LoopbackCeph
from loligo_lab.folders import DISK
from loligo_lab.mounts import assert_sound, make_lab_volume
from loligo_lab.ports import free_port
from loligo_lab.processes import wait_until
from loligo_lab.serving import lab_mount
from loligo_osdtune.core.answers import facts_of
from loligo_osdtune.core.layout.judge import layout_of
from loligo_osdtune.core.layout.values import LAYOUT_OPTIONS
from loligo_osdtune.core.layout.wish import Wish
from loligo_osdtune.shell.cluster import Cluster
from loligo_runtime.object_store import ObjectStore
from loligo_runtime.object_url import open_object_store
from osdtune.test_changes_on_ceph import LIMIT_S
from osdtune.test_command import OSDTUNE, osdtune

pytestmark = pytest.mark.ceph

HDDS, SSDS = (0, 1, 2), (3, 4)
HYBRID = ("--hdd", "hdd", "--ssd", "ssd", "--replicas", "2", "--failure-domain", "osd")
CODED = ("--hdd", "hdd", "--ec", "2+1", "--failure-domain", "osd", "--prefix", "coded", "--volume", "archive")


@pytest.fixture(scope="module")
def lab() -> Iterator[LoopbackCeph]:
    directory = Path(tempfile.mkdtemp(prefix="loligo-ceph-", dir=DISK))
    cluster = LoopbackCeph(directory / "cluster", free_port(), osds=len(HDDS) + len(SSDS))
    try:
        cluster.start()
        for osds, device_class in ((HDDS, "hdd"), (SSDS, "ssd")):
            ids = [str(osd) for osd in osds]
            cluster.command("osd crush rm-device-class", ids=ids)
            cluster.command("osd crush set-device-class", **{"class": device_class, "ids": ids})
        # Monitors gather changes for a second; here each waits for the one before.
        cluster.command("config set", who="mon", name="paxos_propose_interval", value="0.05")
        yield cluster
    finally:
        try:
            cluster.stop()
        finally:
            shutil.rmtree(directory)


@pytest.fixture(scope="module")
def keys() -> Iterator[Path]:
    """A folder for keyrings; not pytest's own, which others cannot reach."""
    path = Path(tempfile.mkdtemp(prefix="loligo-keys-"))
    yield path
    shutil.rmtree(path)


_OF_POOLS = (
    "pool_name",
    "type",
    "size",
    "min_size",
    "crush_rule",
    "pg_num_target",
    "pg_autoscale_mode",
    "erasure_code_profile",
    "options",
    "application_metadata",
)


def state(lab: LoopbackCeph) -> list[Any]:
    """All that a layout could change, and nothing that changes by itself."""
    dump = lab.command("osd dump")
    return [
        [[pool[name] for name in _OF_POOLS] for pool in dump["pools"]],
        [{"ec_overwrites", "bulk"} & set(pool["flags_names"].split(",")) for pool in dump["pools"]],
        dump["erasure_code_profiles"],
        lab.command("osd crush dump"),
        lab.command("config dump"),
        lab.command("auth ls"),
    ]


def layout(lab: LoopbackCeph, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return osdtune("layout", "--conf", lab.conf, *arguments)


def found(lab: LoopbackCeph, *arguments: str | Path) -> dict[str, list[dict[str, Any]]]:
    """The findings by their kind."""
    done = layout(lab, "--json", *arguments)
    assert done.returncode == 0, done.stderr
    findings = json.loads(done.stdout)["findings"]
    return {kind: [one for one in findings if one["finding"] == kind] for kind in ("right", "missing", "wrong")}


def refusal(lab: LoopbackCeph, *arguments: str | Path) -> str:
    done = layout(lab, *arguments)
    assert done.returncode == 1 and len(done.stderr.splitlines()) == 1, done
    return done.stderr


def states_of(lab: LoopbackCeph, pool: str) -> list[str]:
    return [group["state"] for group in lab.command("pg ls-by-pool", poolstr=pool)["pg_stats"]]


def osds_of(lab: LoopbackCeph, pool: str) -> set[int]:
    return {osd for group in lab.command("pg ls-by-pool", poolstr=pool)["pg_stats"] for osd in group["acting"]}


@pytest.fixture(scope="module")
def made(lab: LoopbackCeph, keys: Path) -> str:
    """The pools and users of the wish HYBRID, made by a command that is killed again and again. All that it has printed."""
    wish = (*HYBRID, "--volume", "big", "--keyrings", keys)
    printed = ""
    points = ("after:2", "before:3", "after:1", "before:2")
    left = len(found(lab, *wish)["missing"])
    assert left == 13
    for number in range(left):
        done = subprocess.run(
            [OSDTUNE, "layout", "--conf", lab.conf, *wish, "--yes"],
            env={**os.environ, "LOLIGO_FAILPOINT": f"osdtune.layout.{points[number % len(points)]}"},
            capture_output=True,
            text=True,
            timeout=60,
        )
        printed += done.stdout + done.stderr
        if done.returncode == 0:
            break
        assert done.returncode == -signal.SIGKILL, done.stderr
        rest = found(lab, *wish)
        assert rest["wrong"] == [] and len(rest["missing"]) < left
        left = len(rest["missing"])
    else:
        raise AssertionError("it never came to its end")
    assert "all is as it should be" in done.stderr
    return printed


def test_to_look_changes_nothing(lab: LoopbackCeph, keys: Path) -> None:
    before = state(lab)
    for wish in (HYBRID, CODED):
        done = layout(lab, *wish, "--volume", "looked-at", "--keyrings", keys)
        assert done.returncode == 0, done.stderr
        assert "nothing was changed; --yes makes what is missing" in done.stderr
    assert state(lab) == before
    assert not any("looked-at" in path.name for path in keys.iterdir())


def test_pools_are_made_where_they_should_be_and_are_clean(lab: LoopbackCeph, made: str) -> None:
    for pool, osds, groups in (("loligo-data", HDDS, 128), ("loligo-meta", SSDS, 16), ("loligo-journal", SSDS, 16)):
        assert states_of(lab, pool) == ["active+clean"] * groups
        assert osds_of(lab, pool) == set(osds)
        told = lab.command("osd pool get", pool=pool, var="all")
        assert (told["size"], told["min_size"]) == (2, 1)
        assert lab.command("osd pool application get", pool=pool) == {"loligo": {}}
    assert "not used by this release" in made


def test_then_all_is_right_and_doing_it_again_changes_nothing(lab: LoopbackCeph, keys: Path, made: str) -> None:
    before = state(lab)
    wish = (*HYBRID, "--volume", "big", "--keyrings", keys)
    found_now = found(lab, *wish)
    assert found_now["missing"] == [] and found_now["wrong"] == [] and len(found_now["right"]) == 17
    again = layout(lab, *wish, "--yes")
    assert again.returncode == 0, again.stderr
    assert "all is as it should be" in again.stderr
    assert state(lab) == before


def key_of(keys: Path, entity: str) -> str:
    path = keys / f"ceph.{entity}.keyring"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    return path.read_text().split("key = ")[1].strip()


def test_each_user_works_in_its_namespace_and_nowhere_else(lab: LoopbackCeph, keys: Path, made: str) -> None:
    conf = lab.write_user_conf(keys)
    for entity in ("client.loligo-big", "client.loligo-big-daemon"):
        assert key_of(keys, entity) not in made
        with opened(f"rados://loligo-data/big?conf={conf}&name={entity}") as store:
            store.write(1, 0, 0, b"squid").result()
            assert store.read(1, 0, 0, 9).result() == b"squid"
            store.remove(1, 0).result()
        for place in ("loligo-data/other", "loligo-data", "loligo-meta/big", "loligo-journal/big"):
            with opened(f"rados://{place}?conf={conf}&name={entity}") as store:
                error = store.write(1, 0, 0, b"x").exception()
            assert isinstance(error, OSError) and error.errno == errno.EPERM


@contextlib.contextmanager
def opened(url: str) -> Iterator[ObjectStore]:
    store = open_object_store(url, create=False)
    try:
        yield store
    finally:
        store.close()


def test_a_key_that_was_made_and_not_written_is_written(lab: LoopbackCeph, keys: Path, made: str) -> None:
    wish = (*HYBRID, "--volume", "big", "--keyrings", keys)
    path = keys / "ceph.client.loligo-big.keyring"
    before = path.read_text()
    path.unlink()
    assert [step["target"] for step in found(lab, *wish)["missing"]] == ["user client.loligo-big"]
    done = layout(lab, *wish, "--yes")
    assert done.returncode == 0, done.stderr
    assert path.read_text() == before
    path.write_text(before.replace("key = ", "key = AAAA"))
    (wrong,) = found(lab, *wish)["wrong"]
    assert "another key than Ceph" in wrong["says"]
    path.write_text(before)


@pytest.fixture(scope="module")
def coded(lab: LoopbackCeph, keys: Path) -> Path:
    """An erasure coded pool, its users: what is printed, typed into a shell. A ceph.conf that finds their keys."""
    wish = (*CODED, "--keyrings", keys)
    steps = found(lab, *wish)["missing"]
    for step in steps:
        done = subprocess.run(
            ["bash", "-c", step["words"]],
            env={**os.environ, "CEPH_CONF": str(lab.conf)},
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, f"{step['words']}: {done.stderr}"
    rest = found(lab, *wish)
    assert rest["missing"] == [] and rest["wrong"] == []
    done = layout(lab, *wish, "--yes")
    assert done.returncode == 0, done.stderr
    return lab.write_user_conf(keys)


def test_what_is_printed_can_be_typed(lab: LoopbackCeph, keys: Path, coded: Path) -> None:
    (pool,) = [pool for pool in lab.command("osd dump")["pools"] if pool["pool_name"] == "coded-data"]
    assert (pool["type"], pool["size"], pool["min_size"]) == (3, 3, 2)
    assert "ec_overwrites" in pool["flags_names"]
    assert key_of(keys, "client.loligo-archive")


_STORE_RULES: list[Callable[[ObjectStore], None]] = [
    function
    for name, function in vars(contract).items()
    if name.startswith("test_")
    and list(inspect.signature(function).parameters) == ["store"]
    and function is not contract.test_list_names_every_object_with_its_size  # 600 writes, one after the other
]


@pytest.mark.parametrize("rule", _STORE_RULES, ids=lambda rule: rule.__name__)
def test_an_erasure_coded_pool_keeps_the_rules_of_object_stores(
    rule: Callable[[ObjectStore], None], coded: Path
) -> None:
    with opened(f"rados://coded-data/archive?conf={coded}&name=client.loligo-archive-daemon") as store:
        rule(store)
        left = list(store.list())
        assert all(store.size(ino, index).result() == size for ino, index, size in left)
        store.remove_many([(ino, index) for ino, index, _ in left])
        assert list(store.list()) == []


def test_a_volume_on_an_erasure_coded_pool(lab: LoopbackCeph, coded: Path, keys: Path) -> None:
    """Made by its daemon's user, mounted by its clients': what is overwritten, cut and punched is so after a remount."""
    url = f"rados://coded-data/archive?conf={coded}&name=client.loligo-archive-daemon"
    volume = make_lab_volume(keys / "volume", data_url=url, block_bytes=1 << 20)
    content = bytearray(random.Random(7).randbytes(5_000_000))
    options = ("ceph_name=client.loligo-archive",)
    with lab_mount("served", volume, keys / "mnt", options) as mount:
        file = mount.path / "file"
        file.write_bytes(content)
        with file.open("r+b") as writing:
            for offset, length in ((123_457, 99_999), (1_048_570, 13), (3_000_001, 1_500_000)):
                writing.seek(offset)
                writing.write(b"x" * length)
                content[offset : offset + length] = b"x" * length
            writing.flush()
            os.fsync(writing.fileno())
            hole = (700_001, 900_000)
            subprocess.run(
                ["fallocate", "-p", "-o", str(hole[0]), "-l", str(hole[1]), file], check=True, capture_output=True
            )
            content[hole[0] : sum(hole)] = bytes(hole[1])
            writing.truncate(4_500_003)
            del content[4_500_003:]
        (mount.path / "gone").write_bytes(b"y" * 2_000_000)
        (mount.path / "gone").unlink()
        assert file.read_bytes() == content
    with lab_mount("served", volume, keys / "mnt", options) as mount:
        assert (mount.path / "file").read_bytes() == content
    assert_sound(volume)


def test_what_has_data_in_the_wrong_place_is_told_and_left(lab: LoopbackCeph) -> None:
    lab.create_pool("odd-data")  # with one copy, on any OSD
    admin = rados.Rados(conffile=str(lab.conf), name="client.admin", conf={"rados_osd_op_timeout": "30"})
    admin.connect()
    try:
        with admin.open_ioctx("odd-data") as pool:
            pool.write_full("precious", b"squid" * 1000)
    finally:
        admin.shutdown()
    wait_until(lambda: has_objects(lab, "odd-data"), "statistics of the pool", LIMIT_S)
    before = state(lab)
    wish = ("--hdd", "hdd", "--failure-domain", "osd", "--prefix", "odd")
    wrong = {one["says"].split()[0] + " " + one["says"].split()[1]: one for one in found(lab, *wish)["wrong"]}
    assert "copies all that is in it once more" in wrong["it has"]["remedy"]
    assert "moves all that is in it" in wrong["its rule"]["remedy"]
    done = layout(lab, *wish, "--yes")
    assert done.returncode == 1
    assert "what is wrong is left to you: pool odd-data" in done.stderr
    assert state(lab) == before
    lab.delete_pool("odd-data")


def has_objects(lab: LoopbackCeph, name: str) -> bool:
    return any(pool["name"] == name and pool["stats"]["objects"] for pool in lab.command("df")["pools"])


@pytest.mark.parametrize("release", ["pacific", "quincy"])
def test_monitors_take_what_is_made_for_the_autoscaler(lab: LoopbackCeph, made: str, release: str) -> None:
    """The lab has none: the facts say otherwise, and the monitors are the lab's own."""
    pool = f"scaled-{release}-data"
    with Cluster(str(lab.conf), "client.admin") as cluster:
        facts = facts_of(cluster.observe(lambda osds: ()), (), LAYOUT_OPTIONS)
        osds = tuple(replace(osd, release=release) for osd in facts.osds)
        wish = Wish(hdd="hdd", prefix=f"scaled-{release}", domain="osd")
        create = layout_of(replace(facts, osds=osds, has_autoscaler=True), wish, {}).steps[0]
        cluster.carry_out(create.command)
    told = lab.command("osd pool get", pool=pool, var="all")
    options = next(one["options"] for one in lab.command("osd dump")["pools"] if one["pool_name"] == pool)
    lab.delete_pool(pool)
    assert (told["pg_autoscale_mode"], told["size"]) == ("on", 3)
    wanted = (True, None) if release == "quincy" else (False, 1.0)
    assert (told["bulk"], options.get("target_size_ratio")) == wanted


@pytest.mark.parametrize(
    ("wish", "parts"),
    [
        (("--hdd", "nvme"), ["the device class 'nvme'", "hdd (3 OSDs), ssd (2 OSDs)"]),
        (("--hdd", "hdd", "--prefix", "no"), ["wants 3 hosts", "there is 1", "--failure-domain osd"]),
        (
            ("--hdd", "ssd", "--failure-domain", "osd", "--prefix", "no"),
            ["wants 3 OSDs", "there are 2", "--replicas 2"],
        ),
        (("--hdd", "hdd", "--ec", "4+2", "--failure-domain", "osd", "--prefix", "no"), ["K + M of 3 or less"]),
        (("--hdd", "hdd", "--keyrings", "/nowhere", "--volume", "x"), ["there is no folder /nowhere"]),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_made(
    lab: LoopbackCeph, wish: tuple[str, ...], parts: list[str]
) -> None:
    before = state(lab)
    said = refusal(lab, *wish, "--yes")
    assert all(part in said for part in parts), said
    assert state(lab) == before


def test_who_may_only_read_looks_and_makes_nothing(lab: LoopbackCeph, tmp_path: Path) -> None:
    user = "client.layout-reader"
    (reader,) = lab.command("auth get-or-create", entity=user, caps=["mon", "allow r", "mgr", "allow r"])
    keyring = tmp_path / f"ceph.{user}.keyring"
    keyring.touch(mode=0o600)
    keyring.write_text(f"[{user}]\n\tkey = {reader['key']}\n")
    arguments = ("--conf", lab.write_user_conf(tmp_path), "--name", user, *HYBRID, "--prefix", "readers")
    try:
        before = state(lab)
        looked = osdtune("layout", *arguments)
        applied = osdtune("layout", *arguments, "--yes")
        users = osdtune("layout", *arguments, "--volume", "x")
        assert state(lab) == before
    finally:
        lab.command("auth rm", entity=user)
    assert looked.returncode == 0 and "missing, in this order:" in looked.stdout, looked.stderr
    assert applied.returncode == 1
    assert f"{user} may not do 'osd pool create'" in applied.stderr
    assert "name a user who may change the cluster" in applied.stderr
    assert users.returncode == 1 and f"{user} may not see the users of Ceph" in users.stderr
