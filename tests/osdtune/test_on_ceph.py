"""observe, plan and doctor on a real cluster, one of its OSDs as slow as a disk."""

import itertools
import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import rados

from loligo_lab.ceph import LoopbackCeph
from loligo_lab.slow_disk import disk_speed, why_not
from osdtune.test_command import OSDTUNE, osdtune

pytestmark = pytest.mark.ceph

POOL = "osdtune"
BATCHES = 20
WRITES_A_BATCH = 8  # to each OSD


@pytest.fixture(scope="module")
def cluster(ceph_cluster: LoopbackCeph) -> Iterator[LoopbackCeph]:
    ceph_cluster.create_pool(POOL, 16)
    yield ceph_cluster
    ceph_cluster.delete_pool(POOL)


def write_burst(cluster: LoopbackCeph) -> None:
    """BATCHES of small writes, as many to each OSD: on the slow one that takes some seconds."""
    names: dict[int, list[str]] = {0: [], 1: []}
    for number in itertools.count():
        if all(len(found) >= WRITES_A_BATCH for found in names.values()):
            break
        placed = cluster.command("osd map", pool=POOL, object=f"burst-{number}")
        names[placed["acting_primary"]].append(f"burst-{number}")
    batch = names[0][:WRITES_A_BATCH] + names[1][:WRITES_A_BATCH]
    admin = rados.Rados(conffile=str(cluster.conf), name="client.admin", conf={"rados_osd_op_timeout": "60"})
    admin.connect()
    try:
        with admin.open_ioctx(POOL) as pool:
            for _ in range(BATCHES):
                for completion in [pool.aio_write_full(name, b"x" * 4096) for name in batch]:
                    completion.wait_for_complete()
    finally:
        admin.shutdown()


def test_observe_tells_what_the_cluster_is(cluster: LoopbackCeph) -> None:
    done = osdtune("observe", "--json", "--conf", cluster.conf)
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)
    assert facts["gaps"] == []
    assert [osd["osd"] for osd in facts["osds"]] == [0, 1]
    for osd in facts["osds"]:
        assert (osd["release"], osd["min_alloc_bytes"], osd["has_db"]) == ("pacific", 4096, False)
        assert {"name": "osd_memory_target", "value": "939524096", "source": "file"} in osd["options"]
    assert POOL in [pool["pool"] for pool in facts["pools"]]
    assert "key" not in facts


def test_plan_and_doctor_name_what_the_lab_set(cluster: LoopbackCeph) -> None:
    plan = json.loads(osdtune("plan", "--json", "--conf", cluster.conf).stdout)
    (memory,) = [step for step in plan["steps"] if step["rule"] == "memory-target"]
    assert (memory["targets"], memory["current"]) == (["osd.0", "osd.1"], "939524096")
    opinion = osdtune("doctor", "--conf", cluster.conf)
    assert opinion.returncode == 0, opinion.stderr
    assert "most worth changing:" in opinion.stdout


def test_what_was_set_in_the_monitors_is_told_with_its_source(cluster: LoopbackCeph) -> None:
    cluster.command("config set", who="osd.1", name="osd_scrub_during_recovery", value="true")
    deadline = time.monotonic() + 30
    found: list[Any] = []
    try:
        while not found:  # the OSD hears of it from the monitor, and tells the manager, in its own time
            assert time.monotonic() < deadline, "the OSD did not take the option that was set"
            plan = json.loads(osdtune("plan", "--json", "--conf", cluster.conf).stdout)
            found = [step for step in plan["steps"] if step["rule"] == "scrub-during-recovery"]
    finally:
        cluster.command("config rm", who="osd.1", name="osd_scrub_during_recovery")
    (step,) = found
    assert (step["targets"], step["current_source"], step["proposed"]) == (["osd.1"], "mon", "false")


@pytest.mark.skipif(bool(why_not()), reason=why_not())
def test_the_slow_osd_its_bursts_and_its_missing_block_db_are_found(cluster: LoopbackCeph, tmp_path: Path) -> None:
    plot = tmp_path / "load.png"
    observe: list[str | Path] = [
        OSDTUNE,
        "observe",
        "--for",
        "20s",
        "--plot-file",
        plot,
        "--json",
        "--conf",
        cluster.conf,
    ]
    with (
        disk_speed(cluster.processes()["osd.1"], cluster.directory),
        subprocess.Popen(observe, stdout=subprocess.PIPE, text=True) as process,
    ):
        try:
            write_burst(cluster)
            output, _ = process.communicate(timeout=60)
        finally:
            process.kill()
    sampled = tmp_path / "facts.json"
    sampled.write_text(output)
    load = json.loads(output)["load"]
    assert load["write_iops"]["peak"] > 2 * load["write_iops"]["mean"] > 0
    assert load["longest_burst_s"] >= 1
    written = load["write_bytes"]["mean"] * load["length_s"]
    assert 10 * 4096 < load["longest_burst_bytes"] <= written and 10 * 4096 < load["journal_bytes"] <= written
    assert plot.read_bytes().startswith(b"\x89PNG")

    opinion = osdtune("doctor", "--facts", sampled).stdout
    assert "osd.1 is slow: a commit takes" in opinion and "osd.0 is slow" not in opinion
    plan = json.loads(osdtune("plan", "--json", "--facts", sampled).stdout)
    (missing,) = [step for step in plan["steps"] if step["rule"] == "db-missing"]
    assert "osd.1" in missing["targets"]
    assert any(note.startswith("osd.1: a commit takes") for note in missing["notes"])


def test_an_osd_that_does_not_answer_is_a_gap(cluster: LoopbackCeph) -> None:
    with cluster.silent_osds():
        done = osdtune("observe", "--json", "--conf", cluster.conf)
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)
    assert any(gap.startswith("osd.0: performance counters: no answer to 'perf dump'") for gap in facts["gaps"])
    assert facts["osds"][0]["counters"] is None and facts["osds"][0]["release"] == "pacific"


def test_who_may_not_ask_is_told_what_is_missing(cluster: LoopbackCeph, tmp_path: Path) -> None:
    user = "client.osdtune-nobody"
    (made,) = cluster.command("auth get-or-create", entity=user, caps=["mon", "allow command version"])
    keyring = tmp_path / f"ceph.{user}.keyring"
    keyring.touch(mode=0o600)
    keyring.write_text(f"[{user}]\n\tkey = {made['key']}\n")
    try:
        conf = cluster.write_user_conf(tmp_path)
        done = osdtune("plan", "--conf", conf, "--name", user)
    finally:
        cluster.command("auth rm", entity=user)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1 and made["key"] not in done.stderr
    assert ".asok" not in conf.read_text()  # that is for OSDs
    assert user in done.stderr and "ceph auth" in done.stderr


def test_a_cluster_that_is_away(cluster: LoopbackCeph, tmp_path: Path) -> None:
    conf = tmp_path / "ceph.conf"
    away = "client mount timeout = 2\nmon host = v1:127.0.0.2:"
    conf.write_text(cluster.conf.read_text().replace("mon host = v1:127.0.0.1:", away))
    done = osdtune("plan", "--conf", conf)
    assert done.returncode == 1
    assert "does not answer within 2" in done.stderr
