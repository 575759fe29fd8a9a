"""The throughput of a real server, in windows too short to say anything."""

import json
from pathlib import Path

import pytest

from loligo_bench import throughput
from loligo_lab.mounts import assert_sound, make_lab_volume
from loligo_lab.serving import LabServer


def test_it_measures_every_case_and_leaves_a_sound_volume(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(throughput, "CLIENTS", (2,))
    monkeypatch.setattr(throughput, "BATCHES", (1, 8))
    monkeypatch.setattr(throughput, "WINDOW_S", 0.3)
    volume = make_lab_volume(tmp_path)
    with LabServer(volume, tmp_path) as server:
        out = tmp_path / "out"
        arguments = ["--server", server.address, "--volume", volume.name, "--pid", str(server.pid), "--out", str(out)]
        assert throughput.main(arguments) == 0
    data = json.loads((out / "throughput.json").read_text())
    assert [(one["operation"], one["batch"], one["clients"]) for one in data["figures"]] == [
        ("create", 1, 2), ("create", 8, 2), ("stat", 1, 2), ("stat", 8, 2)
    ]  # fmt: skip
    for one in data["figures"]:
        assert one["per_s"] > 10 and one["server_cpu_us"] > 1 and one["client_cpu_us"] > 1 and one["frame_ms"] > 0
    assert data["peak_rss_mib"] > 10
    assert (out / "throughput.md").read_text().count("\n| create") == 2
    assert_sound(volume)
