"""The cost of one call, measured for real on both transports with few calls."""

import json
import os
from pathlib import Path

import pytest

from loligo_bench import upcall

needs_fuse = pytest.mark.skipif(
    os.geteuid() != 0 or not os.path.exists("/dev/fuse"), reason="mounting needs root and /dev/fuse"
)
# These rows drop the machine's caches, which a test does not do.
AFTER_DROPPING = {"lookup-hit", "readdir"}


@pytest.fixture(autouse=True)
def few_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upcall, "CALLS", 20)
    monkeypatch.setattr(upcall, "can_drop_caches", lambda: False)


@needs_fuse
def test_every_operation_is_measured_on_every_mount(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    before = os.sched_getaffinity(0)
    arguments = ["--on", f"real={tmp_path}/real", "--rounds", "2", "--out", f"{tmp_path}/out"]
    assert upcall.main(arguments) == 0
    data = json.loads((tmp_path / "out" / "upcall.json").read_text())
    assert list(data) == ["real", "nothing, native", "nothing, pyfuse3"]
    for label, figures in data.items():
        assert set(figures["wall_s"]) == set(upcall.TITLES) - AFTER_DROPPING
        assert all(len(samples) == 2 for samples in figures["wall_s"].values())
        assert bool(figures["server_cpu_s"]) == (label != "real")
    assert os.listdir(tmp_path / "real") == []
    assert os.sched_getaffinity(0) == before
    with open("/proc/self/mountinfo", encoding="utf-8") as mounts:
        assert "loligo-upcall-" not in mounts.read()


def test_a_fresh_getattr_of_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        upcall._fresh_getattr(f"{tmp_path}/missing")


def test_a_file_where_a_missing_name_was_expected_is_an_error(tmp_path: Path) -> None:
    upcall._absent(f"{tmp_path}/missing")
    with pytest.raises(FileExistsError):
        upcall._absent(str(tmp_path))
