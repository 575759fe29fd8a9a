"""How OSDs are restarted."""

from pathlib import Path

import pytest

from loligo_osdtune.shell.failures import OsdtuneError
from loligo_osdtune.shell.restart import Systemd, restartable
from osdtune import shapes


def systemctl(folder: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = folder / "systemctl"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")


def test_systemd_restarts_osds_of_its_host_and_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    systemctl(tmp_path, f'echo "$@" >{tmp_path}/asked', monkeypatch)
    facts = shapes.cluster(shapes.disk(3, "reef", "a"), shapes.disk(4, "reef", "b"))
    systemd = Systemd("a")
    assert restartable(systemd, facts) == {3: "", 4: "it needs a restart, and is on b: run osdtune there, too"}
    systemd.restart(3)
    assert (tmp_path / "asked").read_text() == "restart ceph-osd@3\n"


def test_a_restart_that_systemd_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    systemctl(tmp_path, "echo 'Unit ceph-osd@3.service not found.' >&2; exit 5", monkeypatch)
    with pytest.raises(
        OsdtuneError, match=r"'systemctl restart ceph-osd@3' failed: Unit ceph-osd@3\.service not found"
    ):
        Systemd("a").restart(3)
