"""The command without a cluster: recorded facts, and what it says when something is wrong."""

import errno
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from loligo_osdtune.core.actions import KernelValue, Put, Work
from loligo_osdtune.core.bursts import Load, Rates
from loligo_osdtune.core.facts import ConfigEntry, FactsError
from loligo_osdtune.core.plan import plan_of
from loligo_osdtune.core.recording import encode
from loligo_osdtune.shell.bench import require
from loligo_osdtune.shell.failures import OsdtuneError
from loligo_osdtune.shell.report import facts_lines, load_lines, plan_lines, work_lines
from osdtune import shapes

OSDTUNE = Path(sys.executable).with_name("osdtune")


def osdtune(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([OSDTUNE, *arguments], capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL)


@pytest.fixture
def recorded(tmp_path: Path) -> Path:
    path = tmp_path / "facts.json"
    path.write_text(json.dumps(encode(shapes.bare_disks("reef"))))
    return path


def test_a_plan_of_recorded_facts(recorded: Path) -> None:
    done = osdtune("plan", "--facts", recorded)
    assert done.returncode == 0, done.stderr
    assert "1. block.db: osd.0, osd.1, osd.2, osd.3, osd.4, osd.5, osd.6, osd.7 and 4 more" in done.stdout
    assert "read_ahead_kb (128) has no effect on BlueStore" in done.stdout
    assert osdtune("plan", "--facts", recorded).stdout == done.stdout


def test_a_plan_as_json_and_as_a_diff(recorded: Path) -> None:
    steps = json.loads(osdtune("plan", "--json", "--facts", recorded).stdout)["steps"]
    assert [step["rule"] for step in steps][:2] == ["db-missing", "min-alloc-hdd"]
    assert [step["creation_only"] for step in steps[:2]] == [False, True]
    diff = osdtune("plan", "--diff", "--facts", recorded).stdout
    assert "-pg_num = 100\n+pg_num = 128\n" in diff


def test_a_layout_of_recorded_facts(tmp_path: Path) -> None:
    path = tmp_path / "facts.json"
    osds = (shapes.disk(number, "reef", host) for number, host in enumerate("abc"))
    path.write_text(json.dumps(encode(shapes.cluster(*osds, pools=()))))
    done = osdtune("layout", "--facts", path, "--hdd", "hdd")
    assert done.returncode == 0, done.stderr
    assert "1 right, 3 missing, 0 wrong" in done.stdout
    assert (
        "$ ceph osd pool create loligo-data 128 128 replicated hdd --size 3 --autoscale-mode on --bulk" in done.stdout
    )
    told = json.loads(osdtune("layout", "--json", "--facts", path, "--hdd", "hdd").stdout)
    assert [one["finding"] for one in told["findings"]] == ["right", "missing", "missing", "missing"]
    assert told["findings"][1]["command"]["bulk"] is True and told["applied"] is False
    other = osdtune("layout", "--facts", path, "--hdd", "ssd")
    assert other.returncode == 1 and "no OSD below root default has the device class 'ssd'" in other.stderr
    for option in (("--yes",), ("--volume", "x")):
        assert osdtune("layout", "--facts", path, "--hdd", "hdd", *option).returncode == 2


@pytest.mark.parametrize("wrong", [("--ec", "4"), ("--replicas", "1"), ("--failure-domain", "rack"), ()])
def test_a_layout_that_is_called_wrongly(recorded: Path, wrong: tuple[str, ...]) -> None:
    hdd = ("--hdd", "hdd") if wrong else ()
    assert osdtune("layout", "--facts", recorded, *hdd, *wrong).returncode == 2


def test_the_doctor_fits_on_a_page(recorded: Path) -> None:
    done = osdtune("doctor", "--facts", recorded)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("health: HEALTH_OK\n")
    assert done.stdout.count("   proposed  ") == 3
    assert len(done.stdout.splitlines()) < 50


def test_no_configuration(tmp_path: Path) -> None:
    done = osdtune("plan", "--conf", tmp_path / "ceph.conf")
    assert done.returncode == 1
    assert "no Ceph configuration at" in done.stderr and "copy the cluster's ceph.conf there" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_facts_of_another_release(tmp_path: Path) -> None:
    path = tmp_path / "facts.json"
    path.write_text(json.dumps(encode(shapes.hybrid("umbrella"))))
    done = osdtune("doctor", "--facts", path)
    assert done.returncode == 1
    assert "osdtune: OSDs run Ceph umbrella;" in done.stderr and "Traceback" not in done.stderr


def test_what_observe_prints_of_a_cluster() -> None:
    facts = shapes.with_option(shapes.hybrid("quincy"), 0, "osd_mclock_max_capacity_iops_hdd", "402.5")
    facts = replace(facts, config=(ConfigEntry("osd", "class:hdd", "osd_max_backfills", "2"),), gaps=("osd.9: away",))
    spilled = replace(shapes.COUNTERS, slow_used_bytes=shapes.GIB)
    lines = list(facts_lines(shapes.with_osd(facts, 1, counters=spilled, is_up=False)))
    assert lines[0].endswith("HEALTH_OK, 6 OSDs, Ceph 17.2.7 quincy")
    (first,) = [line for line in lines if line.startswith("osd.0  ")][:1]
    assert "160 GiB nvme0n1" in first and "402 iops" in first and "1.0 ms" in first
    assert any("osd.1 down" in line and "20 GiB + 1 GiB spilled" in line for line in lines)
    assert any(line.split() == ["osd", "class:hdd", "osd_max_backfills", "2"] for line in lines)
    assert lines[-1] == "  osd.9: away"


def test_what_observe_prints_of_a_load() -> None:
    burst = Load(60.0, Rates(10, 1), Rates(0, 0), Rates(4e6, 1e6), Rates(0, 0), 5.0, 20 << 20, 15 << 20)
    assert list(load_lines(burst))[-2:] == [
        "longest burst of writes: 5 s, 20 MiB",
        "an SSD journal of 15 MiB would have absorbed it all",
    ]
    steady = replace(burst, longest_burst_s=0.0)
    assert list(load_lines(steady))[-1] == "no burst: writes never went above twice their mean"


@pytest.mark.parametrize("length", ["soon", "0", "10x", ""])
def test_a_length_of_time_that_is_none(length: str) -> None:
    done = osdtune("observe", "--for", length)
    assert done.returncode == 2
    assert "write 90s, 10m or 2h" in done.stderr


@pytest.mark.parametrize("content", [b"\xff\xfe\x80", b'{"osdtune_facts": 2, "fsid": "\xff"}', b"\0" * 8])
def test_bytes_that_are_no_text(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "recorded.json"
    path.write_bytes(content)
    for arguments in (
        ("plan", "--facts", path),
        ("layout", "--hdd", "hdd", "--facts", path),
        ("verify", "--pool", "x", "--baseline", path),
    ):
        done = osdtune(*arguments)
        assert done.returncode == 1 and len(done.stderr.splitlines()) == 1
        assert "this is no JSON" in done.stderr and "give what 'osdtune " in done.stderr


@pytest.mark.parametrize("value", ["1 2", "", "many", "nan", "inf"])
def test_numbers_that_are_none(tmp_path: Path, value: str) -> None:
    facts = shapes.hybrid("reef")
    for name, changed in (
        ("vm.zone_reclaim_mode", shapes.with_sysctl(facts, "vm.zone_reclaim_mode", value)),
        ("osd_memory_target", shapes.with_option(facts, 0, "osd_memory_target", value)),
        ("osd_mclock_max_capacity_iops_hdd", shapes.with_option(facts, 0, "osd_mclock_max_capacity_iops_hdd", value)),
    ):
        with pytest.raises(FactsError, match=f"says that {name} is {value!r}, which is no number"):
            plan_of(changed)
    path = tmp_path / "facts.json"
    path.write_text(json.dumps(encode(shapes.with_sysctl(facts, "vm.zone_reclaim_mode", value))))
    done = osdtune("plan", "--facts", path)
    assert done.returncode == 1 and len(done.stderr.splitlines()) == 1 and "which is no number" in done.stderr


def test_a_plot_that_has_no_place_is_refused_before_anything_is_asked(tmp_path: Path) -> None:
    done = osdtune("observe", "--for", "10m", "--plot-file", tmp_path / "nowhere" / "load.png")
    assert done.returncode == 1
    assert f"there is no folder {tmp_path}/nowhere for the plot" in done.stderr


def test_one_change_is_one_change() -> None:
    one = Put(("r",), KernelValue("/proc/sys/kernel/pid_max"), "1", "2")
    assert [next(iter(work_lines(Work(actions, ())))) for actions in ((), (one,), (one, one))] == [
        "0 changes",
        "1 change:",
        "2 changes, in this order:",
    ]
    facts = shapes.with_sysctl(shapes.hybrid("reef"), "kernel.pid_max", "32768")
    assert ": 1 change, 3 refused" in next(iter(plan_lines(plan_of(facts))))


@pytest.mark.parametrize(
    ("code", "words"), [(errno.EPERM, "capabilities need osd 'allow rw"), (errno.EIO, "health detail")]
)
def test_why_a_pool_does_not_do_what_verify_asks(code: int, words: str) -> None:
    class Completion:
        def wait_for_complete_and_cb(self) -> None: ...

        def get_return_value(self) -> int:
            return -code

    with pytest.raises(OsdtuneError, match=words):
        require(Completion())
