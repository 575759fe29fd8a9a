"""The comparison itself, run for real on local directories with a small tree."""

import json
import os
import subprocess
import time
from collections import Counter
from pathlib import Path

import pytest

from loligo_bench import compare, rows, tree
from loligo_bench.options import Mounts
from loligo_bench.process import Server
from loligo_lab.mounts import assert_sound, make_lab_volume
from loligo_lab.serving import LabServer, RemoteMount


@pytest.fixture(autouse=True)
def small_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same rows with little work in each, and without touching the machine's caches."""
    monkeypatch.setattr(tree, "FILES", 30)
    monkeypatch.setattr(tree, "DIRECTORIES", 5)
    monkeypatch.setattr(tree, "TOTAL_BYTES", 100_000)
    monkeypatch.setattr(tree, "_POOL_BYTES", 20_000)
    monkeypatch.setattr(rows, "SMALL_FILES", 10)
    monkeypatch.setattr(rows, "SYNCED_FILES", 2)
    monkeypatch.setattr(rows, "TURNS", 3)
    monkeypatch.setattr(rows, "LARGE_BYTES", 2 << 20)
    monkeypatch.setattr(compare, "QUIET_LIMIT_S", 0.0)
    monkeypatch.setattr(compare, "can_drop_caches", lambda: False)


def run(tmp_path: Path, *arguments: str) -> dict[str, dict[str, dict[str, object]]]:
    assert compare.main([*arguments, "--out", str(tmp_path / "out")]) == 0
    data = json.loads((tmp_path / "out" / "compare.json").read_text())
    return {row["key"]: row["figures"] for row in data["rows"]}


def test_every_row_gets_a_sample_a_round_and_nothing_is_left_behind(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    for name in "ab":
        (tmp_path / name).mkdir()
    idle = subprocess.Popen(["sleep", "1000"])
    request.addfinalizer(idle.wait)
    request.addfinalizer(idle.kill)
    figures = run(
        tmp_path, "--peer", f"ext4={tmp_path}/a", "--ours", f"loligo={tmp_path}/b",
        "--pid", f"loligo={os.getpid()}", "--pid", f"loligo/server={idle.pid}", "--rounds", "2",
    )  # fmt: skip
    for row in rows.ROWS:
        for label in ("ext4", "loligo"):
            figure = figures[row.key][label]
            assert figure["error"] is None
            samples = figure["samples_s"]
            assert isinstance(samples, list)
            assert len(samples) == (0 if figure["not_available"] else 2)
    assert figures["read-random"]["ext4"]["not_available"] is True
    assert figures["untar"]["ext4"]["not_available"] is False
    assert figures["turns"]["ext4"]["not_available"] is figures["walk-cold"]["ext4"]["not_available"] is True
    assert os.listdir(tmp_path / "a") == os.listdir(tmp_path / "b") == []
    assert (tmp_path / "out" / "compare.svg").exists()
    shown = json.loads((tmp_path / "out" / "compare.json").read_text())
    used_s = {row["key"]: row["cpu_s"] for row in shown["rows"]}
    assert used_s["untar"].keys() == {"loligo/client", "loligo/server"}
    # Ours is the process that does the work.
    assert used_s["create"]["loligo/client"] > 0 and used_s["create"]["loligo/server"] == 0
    assert used_s["read-random"] == {}
    assert "| untar " in (tmp_path / "out" / "compare.md").read_text()


def test_a_failure_stays_with_the_file_system_that_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("good", "bad"):
        (tmp_path / name).mkdir()
    real_rm = next(step.run for step in rows.STEPS if step.rows == ("rm",))

    def rm_fails_on_bad(place: rows.Place, watch: rows.Watch) -> None:
        real_rm(place, watch)
        if "/bad/" in place.directory:
            raise OSError(5, "Input/output error")

    steps = [rows.Step(step.rows, rm_fails_on_bad) if step.rows == ("rm",) else step for step in rows.STEPS]
    monkeypatch.setattr(compare, "STEPS", steps)
    figures = run(
        tmp_path, "--peer", f"good={tmp_path}/good", "--peer", f"bad={tmp_path}/bad",
        "--rounds", "1",
    )  # fmt: skip
    assert "Input/output error" in str(figures["rm"]["bad"]["error"])
    assert figures["rm"]["bad"]["median_s"] is None
    assert figures["rm"]["good"]["error"] is None
    assert figures["create"]["bad"]["error"] is None


def test_a_dead_file_system_does_not_stop_the_others(tmp_path: Path) -> None:
    (tmp_path / "good").mkdir()
    comparing = compare.Comparing({"dead": Mounts(f"{tmp_path}/gone"), "good": Mounts(f"{tmp_path}/good")}, {})
    comparing.run(tree.make_source(str(tmp_path / "tree.tar")), 1)
    assert all("No such file" in str(comparing.figures[row.key]["dead"].error) for row in rows.ROWS)
    assert comparing.figures["untar"]["good"].median_s is not None


@pytest.mark.skipif(os.geteuid() != 0 or not os.path.exists("/dev/fuse"), reason="mounting needs root and /dev/fuse")
def test_two_mounts_of_a_served_volume_take_turns_and_are_never_stale(tmp_path: Path) -> None:
    volume = make_lab_volume(tmp_path)
    with (
        LabServer(volume, tmp_path) as server,
        RemoteMount(server, tmp_path / "one") as one,
        RemoteMount(server, tmp_path / "two") as two,
    ):
        figures = run(tmp_path, "--ours", f"loligo-ceph={one.path}:{two.path}", "--rounds", "2")
    for row in ("walk-cold", "turns"):
        figure = figures[row]["loligo-ceph"]
        assert figure["error"] is None and len(figure["samples_s"]) == 2  # type: ignore[arg-type]
    assert figures["turns"]["loligo-ceph"]["stale"] == dict.fromkeys(rows.STALE, 0)
    assert "stale" not in figures["untar"]["loligo-ceph"]
    assert_sound(volume)


def test_each_stale_answer_of_a_second_mount_is_counted(tmp_path: Path) -> None:
    """Two directories that know nothing of each other: the one has nothing yet, the other keeps all as it was."""
    source = tree.make_source(str(tmp_path / "tree.tar"))
    for name in ("here", "empty/turns", "kept/turns"):
        (tmp_path / name).mkdir(parents=True)
    for number in range(rows.TURNS):
        (tmp_path / f"kept/turns/file_{number:03d}").write_bytes(b"1" * rows.TURN_BYTES)
    (tmp_path / "same").symlink_to(tmp_path / "here")

    found = {}
    for second in ("same", "empty", "kept"):
        watch = rows.Watch()
        rows._turns(rows.Place(f"{tmp_path}/here", source, f"{tmp_path}/{second}"), watch)
        os.rmdir(tmp_path / "here/turns")
        found[second] = +watch.stale
    turns = rows.TURNS
    assert found == {
        "same": Counter(),
        "empty": Counter({rows.NAME_NOT_YET: 3 * turns}),
        "kept": Counter({rows.OLD_SIZE: turns, rows.OLD_CONTENT: turns, rows.NAME_STILL: 2 * turns}),
    }


def test_a_turn_is_timed_and_not_all_of_them(tmp_path: Path) -> None:
    watch = rows.Watch()
    begin_s = time.perf_counter()
    with watch("turns", 4):
        inside_s = time.perf_counter()
        while time.perf_counter() < inside_s + 0.04:
            pass
    assert 0.01 <= watch.seconds["turns"] <= (time.perf_counter() - begin_s) / 4


@pytest.mark.parametrize(("label", "code"), [("--ours", 1), ("--peer", 0)])
def test_a_stale_answer_of_ours_fails_the_comparison_and_one_of_a_peer_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], label: str, code: int
) -> None:
    def stale_once(place: rows.Place, watch: rows.Watch) -> None:
        with watch("turns"):
            watch.stale[rows.OLD_SIZE] += 1

    monkeypatch.setattr(compare, "STEPS", [rows.Step(("turns",), stale_once, second=True)])
    arguments = [label, f"it={tmp_path}:{tmp_path}", "--rounds", "2", "--out", f"{tmp_path}/out"]
    assert compare.main(arguments) == code
    said = capsys.readouterr()
    assert ("never to be stale: it" in said.err) == bool(code)
    assert f"| {rows.OLD_SIZE}" in said.out
    data = json.loads((tmp_path / "out" / "compare.json").read_text())
    figure = next(row["figures"]["it"] for row in data["rows"] if row["key"] == "turns")
    assert figure["stale"][rows.OLD_SIZE] == 2 and figure["error"] is None
    assert [promise["kept"] for promise in data["never_stale"]] == [False] * code


def test_a_second_mount_of_something_else_is_noticed(tmp_path: Path) -> None:
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
    arguments = ["--ours", f"it={tmp_path}/one:{tmp_path}/other", "--rounds", "1", "--out", f"{tmp_path}/out"]
    assert compare.main(arguments) == 1
    data = json.loads((tmp_path / "out" / "compare.json").read_text())
    failed = [row["key"] for row in data["rows"] if row["figures"]["it"]["error"] is not None]
    assert failed == ["walk-cold", "turns"]


def test_lost_files_are_noticed(tmp_path: Path) -> None:
    source = tree.make_source(str(tmp_path / "tree.tar"))
    place = rows.Place(str(tmp_path), source)
    rows._untar(place, rows.Watch())
    rows._walk(place, rows.Watch())
    os.unlink(tmp_path / "tree" / source.files[0][0])
    with pytest.raises(rows.WorkWentWrong, match="files found: 29 instead of 30"):
        rows._walk(place, rows.Watch())


def test_the_tree_is_the_same_every_time(tmp_path: Path) -> None:
    first = tree.make_source(str(tmp_path / "1.tar"))
    second = tree.make_source(str(tmp_path / "2.tar"))
    assert first.files == second.files
    assert (tmp_path / "1.tar").read_bytes() == (tmp_path / "2.tar").read_bytes()
    assert len(first.files) == 30
    assert first.total_bytes == pytest.approx(100_000, rel=0.01)


def test_a_mistake_on_the_command_line_says_what_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, words in (
        (["--peer", "ext4"], "LABEL=VALUE"),
        (["--peer", f"ext4={tmp_path}/none"], "not a directory"),
        (["--peer", f"ext4={tmp_path}:{tmp_path}/none"], "none: not a directory"),
        (["--peer", f"ext4={tmp_path}:"], "LABEL=VALUE"),
        (["--peer", f"a={tmp_path}", "--ours", f"a={tmp_path}"], "used twice"),
        (["--peer", f"a={tmp_path}", "--pid", "b=1"], "no directory has this label"),
        (["--peer", f"a={tmp_path}", "--pid", "a/cook=1"], "roles are client, second, server"),
        ([], "at least one directory"),
    ):
        with pytest.raises(SystemExit):
            compare.main(arguments)
        assert words in capsys.readouterr().err


def test_the_cost_of_a_process_is_its_own_cpu_time() -> None:
    server = Server([os.getpid()])
    begin = server.cpu_s
    while server.cpu_s < begin + 0.05:  # burns what it waits for
        sum(range(100_000))
        server.look()
    assert server.peak_rss_mib >= server.peak_anonymous_mib > 1
