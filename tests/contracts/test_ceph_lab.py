"""The loopback cluster leaves nothing behind, and says what is wrong, when it cannot start."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from loligo_lab.ceph import CephLabError, LoopbackCeph
from loligo_lab.ports import free_port

pytestmark = pytest.mark.ceph


def processes_of(directory: Path) -> list[bytes]:
    """The command lines of all processes that name `directory`."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes()
        except OSError:  # it has ended meanwhile
            continue
        if os.fsencode(directory) in line and b"loligo_lab" not in line:
            found.append(line)
    return found


def test_a_taken_port_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        cluster = LoopbackCeph(tmp_path / "cluster", port)
        with pytest.raises(CephLabError, match=f"port {port} .* is taken"):
            cluster.start()
    assert not cluster.is_running()
    assert processes_of(tmp_path) == []


def test_a_folder_with_something_else_in_it_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(CephLabError, match="no cluster of ours"):
        LoopbackCeph(tmp_path, free_port()).start()
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_daemon_that_fails_shows_its_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tmp_path / "bin"
    broken.mkdir()
    (broken / "ceph-osd").write_text("#!/bin/sh\necho the dog ate the disk >&2\nexit 1\n")
    (broken / "ceph-osd").chmod(0o755)
    monkeypatch.setenv("PATH", f"{broken}:{os.environ['PATH']}")
    with pytest.raises(CephLabError, match="the dog ate the disk"):
        LoopbackCeph(tmp_path / "cluster", free_port()).start()
    assert processes_of(tmp_path / "cluster") == []


def test_interrupted_while_starting_it_stops_what_it_started(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "loligo_lab.ceph", "start", "--dir", str(tmp_path / "cluster")]
    with subprocess.Popen(
        [*command, "--port", str(free_port())],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as starting:
        assert starting.stdout is not None and starting.stderr is not None
        for line in starting.stdout:
            if "making osd.0" in line:
                break
        assert processes_of(tmp_path) != []
        starting.send_signal(signal.SIGINT)
        assert starting.wait(30) == 130
        assert "interrupted" in starting.stderr.read()
    assert processes_of(tmp_path) == []
