"""apply, undo and verify on a real cluster of three OSDs."""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import rados

from loligo_lab.ceph import LoopbackCeph
from loligo_lab.folders import DISK
from loligo_lab.ports import free_port
from loligo_lab.processes import wait_until
from loligo_lab.slow_disk import disk_speed, why_not
from loligo_osdtune.core.actions import Put, Restart, Work
from loligo_osdtune.core.answers import counters_of, facts_of
from loligo_osdtune.core.facts import Facts
from loligo_osdtune.core.plan import plan_of
from loligo_osdtune.core.rules import OPTIONS
from loligo_osdtune.core.window import facts_of_window
from loligo_osdtune.shell.apply import Applying
from loligo_osdtune.shell.bench import NAMESPACE
from loligo_osdtune.shell.changing import Changing
from loligo_osdtune.shell.cluster import Cluster
from loligo_osdtune.shell.failures import OsdtuneError
from loligo_osdtune.shell.host import host_facts
from loligo_osdtune.shell.places import Places
from osdtune.fake_cluster import fake_host
from osdtune.test_command import OSDTUNE, osdtune

pytestmark = pytest.mark.ceph

POOL = "osdtune"
SINGLE = "osdtune-single"  # one copy of all, so that each OSD is measured alone
SCRUB, BUFFERED = "osd_scrub_during_recovery", "bluefs_buffered_io"
#: For a cluster on a busy machine.
LIMIT_S = 60.0
ONLY = ("scrub-during-recovery", "bluefs-buffered-io", "pid-max")


@pytest.fixture(scope="module")
def lab() -> Iterator[LoopbackCeph]:
    """Its monitors say to all OSDs what should not be, and to one of them something of its own."""
    directory = Path(tempfile.mkdtemp(prefix="loligo-ceph-", dir=DISK))
    memory = Path(tempfile.mkdtemp(prefix="loligo-ceph-", dir="/dev/shm"))
    cluster = LoopbackCeph(directory / "cluster", free_port(), osds=3, block_db={2: memory / "osd.2.db"})
    try:
        cluster.start()
        cluster.create_pool(POOL, 32)
        cluster.command("osd pool set", pool=POOL, var="size", val="2")
        cluster.command("osd pool set", pool=POOL, var="min_size", val="1")
        cluster.command("config set", who="osd", name=SCRUB, value="true")
        cluster.command("config set", who="osd", name=BUFFERED, value="false")
        cluster.command("config set", who="osd.1", name=BUFFERED, value="false")
        cluster.command("config set", who="osd.2", name=BUFFERED, value="true")
        wait_until(lambda: all_have_two_copies(cluster), "two copies of all", LIMIT_S)
        yield cluster
    finally:
        try:
            cluster.stop()
        finally:
            shutil.rmtree(directory)
            shutil.rmtree(memory)


@pytest.fixture(autouse=True)
def mended(lab: LoopbackCeph) -> Iterator[None]:
    """What a test that failed has stopped runs again for the next one."""
    yield
    for osd in {0, 1, 2} - {int(name[4:]) for name in lab.processes() if name.startswith("osd.")}:
        lab.start_osd(osd)
    wait_until(lambda: all(row["up"] for row in lab.command("osd dump")["osds"]), "all OSDs to be up", LIMIT_S)


@pytest.fixture(scope="module")
def single(lab: LoopbackCeph) -> Iterator[LoopbackCeph]:
    """A pool beside: while it is there no OSD may be restarted, for it has but one copy."""
    lab.create_pool(SINGLE, 16)
    wait_until(lambda: first_copies(lab, SINGLE) == {0, 1, 2}, "the pool's placement groups to be known", LIMIT_S)
    yield lab
    lab.delete_pool(SINGLE)


def all_have_two_copies(cluster: LoopbackCeph) -> bool:
    groups = cluster.command("pg ls")["pg_stats"]
    return all(group["state"] == "active+clean" and len(group["acting"]) == 2 for group in groups)


def first_copies(cluster: LoopbackCeph, pool: str) -> set[int]:
    groups = cluster.command("pg ls-by-pool", poolstr=pool)["pg_stats"]
    return {group["acting_primary"] for group in groups if group["state"] == "active+clean"}


def config_dump(lab: LoopbackCeph) -> bytes:
    """As it comes from the monitor, byte for byte."""
    admin = rados.Rados(
        conffile=str(lab.conf), name="client.admin", conf={"rados_osd_op_timeout": "30", "rados_mon_op_timeout": "30"}
    )
    admin.connect()
    try:
        code, output, _ = admin.mon_command(json.dumps({"prefix": "config dump", "format": "json"}), b"")
    finally:
        admin.shutdown()
    assert code == 0
    return bytes(output)


class LabRestarter:
    """Stops and starts the cluster's processes, as systemd would its services."""

    def __init__(self, lab: LoopbackCeph) -> None:
        self._lab = lab
        self.restarted: list[int] = []
        self.comes_back = True

    def why_not(self, osd: int, host: str) -> str:
        return ""

    def restart(self, osd: int) -> None:
        self.restarted.append(osd)
        if f"osd.{osd}" in self._lab.processes():
            self._lab.stop_osd(osd)
        if self.comes_back:
            self._lab.start_osd(osd)


class Bench:
    """What the command puts together, with the lab's restarter and a host in a folder."""

    def __init__(
        self, lab: LoopbackCeph, folder: Path, tell: Callable[[str], None], settle_limit_s: float = 90.0
    ) -> None:
        self.cluster = Cluster(str(lab.conf), "client.admin")
        self.root = folder / "root"
        if not self.root.exists():
            fake_host(self.root)
        self.restarter = LabRestarter(lab)
        places = Places(self.cluster, self.root)
        changing = Changing(self.cluster, places, self.restarter, tell, settle_limit_s)
        self.applying = Applying(self.cluster, places, self.restarter, changing, folder / "journals")

    def facts(self) -> Facts:
        host = host_facts(self.root / "proc", self.root / "sys")
        return facts_of(self.cluster.observe(lambda osds: osds), (host,), OPTIONS)

    def work(self) -> Work:
        wait_until(lambda: is_untuned(self.facts()), "the manager to hear of the options of all OSDs", LIMIT_S)
        return self.applying.work(self.facts(), ONLY)


@contextlib.contextmanager
def bench(
    lab: LoopbackCeph, folder: Path, tell: Callable[[str], None] = print, settle_limit_s: float = 90.0
) -> Iterator[Bench]:
    made = Bench(lab, folder, tell, settle_limit_s)
    with made.cluster:
        yield made


def is_untuned(facts: Facts) -> bool:
    """All OSDs are up, and have told the manager what they work with."""
    targets = {step.rule: step.targets for step in plan_of(facts).steps}
    return (
        targets.get("scrub-during-recovery") == ("osd.0", "osd.1", "osd.2")
        and targets.get("bluefs-buffered-io") == ("osd.0", "osd.1")
        and "pid-max" in targets
    )


def test_the_plan_is_applied_one_osd_at_a_time_and_undone_byte_for_byte(lab: LoopbackCeph, tmp_path: Path) -> None:
    before = config_dump(lab)
    told: list[str] = []
    with bench(lab, tmp_path, told.append) as made:
        work = made.work()
        assert [action.osd for action in work.actions if isinstance(action, Restart)] == [0, 1]
        made.applying.apply(work)
        assert made.restarter.restarted == [0, 1]
        assert made.cluster.running_value(0, BUFFERED) == made.cluster.running_value(1, BUFFERED) == "true"
        assert made.cluster.running_value(2, SCRUB) == "false"
        rules = {step.rule for step in plan_of(made.facts()).steps}
        assert rules.isdisjoint({"scrub-during-recovery", "bluefs-buffered-io"})
        assert (made.root / "proc/sys/kernel/pid_max").read_text() == "4194304"
        assert config_dump(lab) != before
        assert made.applying.undo() == ()
        assert made.restarter.restarted == [0, 1, 1, 0]
        assert made.cluster.running_value(0, BUFFERED) == made.cluster.running_value(1, BUFFERED) == "false"
        assert (made.root / "proc/sys/kernel/pid_max").read_text() == "32768"
        assert not (made.root / "etc/sysctl.d/90-osdtune.conf").exists()
        with pytest.raises(OsdtuneError, match="there is nothing to undo"):
            made.applying.undo()
    assert config_dump(lab) == before
    assert "osdtune/apply" not in lab.command("config-key dump", key="osdtune/")
    assert len([line for line in told if not line.startswith(("waiting for ", "going on"))]) == 2 * len(work.actions)
    assert any(line.startswith("waiting for osd.0 to come back, 90 s at most: ") for line in told)


def test_an_osd_that_does_not_come_back_stops_it_and_undo_brings_it_back(lab: LoopbackCeph, tmp_path: Path) -> None:
    before = config_dump(lab)
    with bench(lab, tmp_path, settle_limit_s=5.0) as made:
        made.restarter.comes_back = False
        with pytest.raises(OsdtuneError, match=r"stopped at restart osd\.0, .* did not come back within 5 s"):
            made.applying.apply(made.work())
        assert made.restarter.restarted == [0]
    # Whoever comes from elsewhere now hears who is at work; here there is no new apply before this one is ended.
    with bench(lab, tmp_path / "another") as other, pytest.raises(OsdtuneError, match="is at work on this cluster"):
        other.applying.apply(Work((), ()))
    with bench(lab, tmp_path, settle_limit_s=60.0) as made:
        with pytest.raises(OsdtuneError, match=r"0001\.journal is half-done"):
            made.applying.apply(Work((), ()))
        assert made.applying.undo() == ()
        assert made.restarter.restarted == [0]
        assert not made.cluster.health().down
    assert config_dump(lab) == before


def test_a_monitor_that_goes_away_amid_apply(lab: LoopbackCeph, tmp_path: Path) -> None:
    """It is frozen, so that the change may still happen, when nobody waits for it any more."""
    before = config_dump(lab)
    monitor = lab.processes()["mon.a"]

    def freeze(line: str) -> None:
        if SCRUB in line:
            os.kill(monitor, signal.SIGSTOP)

    try:
        with bench(lab, tmp_path, freeze) as made, pytest.raises(OsdtuneError) as stopped:
            made.applying.apply(made.work())
    finally:
        os.kill(monitor, signal.SIGCONT)
    assert f"stopped at osd.0 {SCRUB}: nothing -> false" in str(stopped.value)
    assert "no answer to 'config set' within 10 s" in str(stopped.value) and "osdtune undo" in str(stopped.value)
    with bench(lab, tmp_path) as made:
        assert made.applying.undo() == ()
        assert made.restarter.restarted == []
    assert config_dump(lab) == before


def command(lab: LoopbackCeph, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    verb, *rest = arguments
    return osdtune(verb, "--conf", lab.conf, "--journals", folder, *rest)


def killed(lab: LoopbackCeph, folder: Path, point: str, *arguments: str) -> None:
    verb, *rest = arguments
    done = subprocess.run(
        [OSDTUNE, verb, "--conf", lab.conf, "--journals", folder, *rest],
        env={**os.environ, "LOLIGO_FAILPOINT": point},
        capture_output=True,
        timeout=60,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr


def test_the_command_shows_then_does_dies_goes_on_dies_and_undoes(lab: LoopbackCeph, tmp_path: Path) -> None:
    before = config_dump(lab)
    only = ("--only", "scrub-during-recovery")
    shown = command(lab, tmp_path, "apply", *only)
    assert shown.returncode == 0, shown.stderr
    assert f"1. osd.0 {SCRUB}: nothing -> false  [scrub-during-recovery]" in shown.stdout
    assert "nothing was changed; --yes does it" in shown.stderr
    assert config_dump(lab) == before and list(tmp_path.iterdir()) == []

    killed(lab, tmp_path, "osdtune.changed:2", "apply", "--yes", *only)
    again = command(lab, tmp_path, "apply", "--yes", *only)
    assert again.returncode == 1 and "is half-done: 'osdtune apply --continue --yes" in again.stderr
    assert f"or 'osdtune undo --yes --journals {tmp_path}' first" in again.stderr
    dry = command(lab, tmp_path, "apply", *only)
    assert dry.returncode == 0 and "before anything can be applied: " in dry.stderr and "is half-done" in dry.stderr
    went_on = command(lab, tmp_path, "apply", "--continue", "--yes", "--json")
    assert went_on.returncode == 0, went_on.stderr
    lines = [f"osd.{osd}" for osd in (1, 2)]
    assert [action["place"]["section"] for action in json.loads(went_on.stdout)["actions"]] == lines
    assert [
        line["section"] for line in json.loads(config_dump(lab)) if line["value"] == "false" and line["name"] == SCRUB
    ] == [
        "osd.0",
        "osd.1",
        "osd.2",
    ]
    killed(lab, tmp_path, "osdtune.restored:2", "undo", "--yes")
    undone = command(lab, tmp_path, "undo", "--yes")
    assert undone.returncode == 0, undone.stderr
    assert "done; all values are as they were before" in undone.stderr
    assert config_dump(lab) == before
    nothing = command(lab, tmp_path, "undo")
    assert nothing.returncode == 1 and "there is nothing to undo" in nothing.stderr


def leftovers(lab: LoopbackCeph) -> list[str]:
    admin = rados.Rados(
        conffile=str(lab.conf), name="client.admin", conf={"rados_osd_op_timeout": "30", "rados_mon_op_timeout": "30"}
    )
    admin.connect()
    try:
        with admin.open_ioctx(SINGLE) as pool:
            pool.set_namespace(NAMESPACE)
            return [found.key for found in pool.list_objects()]
    finally:
        admin.shutdown()


@pytest.mark.skipif(bool(why_not()), reason=why_not())
def test_verify_tells_what_moved_and_what_a_block_db_is_worth(single: LoopbackCeph, tmp_path: Path) -> None:
    """Two OSDs become as slow as disks after the baseline; one has its RocksDB in memory."""
    verify = ("verify", "--pool", SINGLE, "--osd", "1", "--osd", "2", "--for", "5s")
    measured = command(single, tmp_path, *verify, "--json")
    assert measured.returncode == 0, measured.stderr
    baseline = tmp_path / "before.json"
    baseline.write_text(measured.stdout)
    applied = command(single, tmp_path, "apply", "--yes", "--only", "scrub-during-recovery")
    assert applied.returncode == 0, applied.stderr
    with contextlib.ExitStack() as slow, Cluster(str(single.conf), "client.admin") as cluster:
        for osd in (1, 2):
            slow.enter_context(disk_speed(single.processes()[f"osd.{osd}"], single.directory))
        facts = facts_of(cluster.observe(lambda osds: osds), (host_facts(),), OPTIONS)
        compared = command(single, tmp_path, *verify, "--baseline", str(baseline))
        facts = facts_of_window(facts, {osd: counters_of(perf) for osd, perf in cluster.counters([0, 1, 2]).items()})
    assert compared.returncode == 0, compared.stderr
    undone = command(single, tmp_path, "undo", "--yes")
    assert undone.returncode == 0, undone.stderr
    print(compared.stdout)
    lines = compared.stdout.splitlines()
    effect = lines[
        lines.index("applied to osd.1: scrub-during-recovery") : lines.index("applied to osd.2: scrub-during-recovery")
    ]
    assert any(line.startswith("  write 4 KiB, p50_ms: worse, ") for line in effect)
    assert not any("better" in line for line in effect)
    assert "applied to osd.0: scrub-during-recovery" in lines  # which was not measured apart
    assert lines[lines.index("a synchronous write of 4 KiB, OSD by OSD, fastest first:") + 1].startswith("  osd.2: ")
    (ratio,) = re.findall(r"  osd\.1: [0-9.]+ ms, ([0-9.]+) times the fastest", compared.stdout)
    assert float(ratio) > 5
    assert leftovers(single) == []

    (missing,) = [step for step in plan_of(facts).steps if step.rule == "db-missing"]
    (note,) = [note for note in missing.notes if note.startswith("osd.1: ")]
    print(note)
    matched = re.fullmatch(
        r"osd\.1: a commit takes ([0-9.]+) ms, of those of its class with a block\.db ([0-9.]+) ms: ([0-9.]+) times less",
        note,
    )
    assert matched is not None and float(matched[3]) > 1


def test_verify_leaves_nothing_behind_when_interrupted(single: LoopbackCeph, tmp_path: Path) -> None:
    arguments: list[str | Path] = [
        OSDTUNE,
        "verify",
        "--conf",
        single.conf,
        "--journals",
        tmp_path,
        "--pool",
        SINGLE,
        "--for",
        "60s",
    ]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        try:
            wait_until(lambda: bool(leftovers(single)), "the first objects of the benchmark", LIMIT_S)
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=30)
        finally:
            process.kill()
    assert process.returncode == 1
    assert leftovers(single) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--pool", "nowhere"), "there is no pool 'nowhere'"),
        (
            ("--pool", "osdtune-single", "--osd", "7"),
            "no placement group of osdtune-single has its first copy on osd.7",
        ),
        (("--pool", "osdtune-single", "--for", "1s"), "too short to measure 3 OSDs apart: say --for 5s or more"),
    ],
)
def test_what_cannot_be_measured(
    single: LoopbackCeph, tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    done = command(single, tmp_path, "verify", *arguments)
    assert done.returncode == 1 and message in done.stderr and len(done.stderr.splitlines()) == 1


def test_who_may_only_read_changes_nothing(lab: LoopbackCeph, tmp_path: Path) -> None:
    user = "client.osdtune-reader"
    caps = ["mon", "allow r", "mgr", "allow r", "osd", "allow *"]
    (made,) = lab.command("auth get-or-create", entity=user, caps=caps)
    keyring = tmp_path / f"ceph.{user}.keyring"
    keyring.touch(mode=0o600)
    keyring.write_text(f"[{user}]\n\tkey = {made['key']}\n")
    try:
        conf = lab.write_user_conf(tmp_path)
        arguments = ("apply", "--yes", "--only", "scrub-during-recovery", "--conf", conf, "--name", user)
        done = osdtune(*arguments, "--journals", tmp_path / "journals")
    finally:
        lab.command("auth rm", entity=user)
    assert done.returncode == 1 and len(done.stderr.splitlines()) == 1
    assert user in done.stderr and "name a user who may change the cluster" in done.stderr
    assert not list((tmp_path / "journals").rglob("*.journal"))


def test_verify_by_who_may_not_write_says_so(single: LoopbackCeph, tmp_path: Path) -> None:
    user = "client.osdtune-looker"
    (made,) = single.command(
        "auth get-or-create", entity=user, caps=["mon", "allow r", "mgr", "allow r", "osd", "allow r"]
    )
    keyring = tmp_path / f"ceph.{user}.keyring"
    keyring.touch(mode=0o600)
    keyring.write_text(f"[{user}]\n\tkey = {made['key']}\n")
    try:
        conf = single.write_user_conf(tmp_path)
        done = osdtune(
            "verify", "--pool", SINGLE, "--for", "5s", "--conf", conf, "--name", user, "--journals", tmp_path
        )
    finally:
        single.command("auth rm", entity=user)
    assert done.returncode == 1 and len(done.stderr.splitlines()) == 1
    assert "permission denied" in done.stderr and "capabilities" in done.stderr and "health" not in done.stderr


def test_a_rule_that_the_plan_has_not(lab: LoopbackCeph, tmp_path: Path) -> None:
    done = command(lab, tmp_path, "apply", "--only", "cache-tier")
    assert done.returncode == 1 and "the plan has no cache-tier" in done.stderr


def test_a_rule_that_is_fulfilled(lab: LoopbackCeph, tmp_path: Path) -> None:
    done = command(lab, tmp_path, "apply", "--yes", "--only", "allocator")
    assert done.returncode == 0, done.stderr
    assert "allocator: nothing to do" in done.stderr


def test_what_conf_files_and_rebuilds_decide_is_left_to_people(lab: LoopbackCeph, tmp_path: Path) -> None:
    shown = command(lab, tmp_path, "apply")
    assert shown.returncode == 0, shown.stderr
    assert "bluestore_cache_autotune is set by its ceph.conf, which wins over the monitors" in shown.stdout
    with bench(lab, tmp_path) as made:
        work = made.applying.work(made.facts(), ())
    assert not any(isinstance(action, Put) and "memory-target" in action.rules for action in work.actions)
