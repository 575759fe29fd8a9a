"""Restarting an OSD: systemd for those of this host, an orchestrator (cephadm) for all."""

import subprocess
from typing import Protocol

from loligo_osdtune.core.facts import Facts
from loligo_osdtune.shell.cluster import Cluster
from loligo_osdtune.shell.failures import OsdtuneError

LIMIT_S = 120


class Restarter(Protocol):
    def why_not(self, osd: int, host: str) -> str:
        """Why this OSD cannot be restarted from here; "" if it can."""

    def restart(self, osd: int) -> None:
        """Give the order; whether the OSD comes back is the caller's to see. OsdtuneError."""


class Systemd:
    def __init__(self, host: str) -> None:
        self._host = host

    def why_not(self, osd: int, host: str) -> str:
        return "" if host == self._host else f"it needs a restart, and is on {host}: run osdtune there, too"

    def restart(self, osd: int) -> None:
        command = ["systemctl", "restart", f"ceph-osd@{osd}"]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=LIMIT_S, stdin=subprocess.DEVNULL, check=False
            )
        except subprocess.TimeoutExpired:
            raise OsdtuneError(f"'{' '.join(command)}' has not ended after {LIMIT_S} s") from None
        if done.returncode:
            raise OsdtuneError(f"'{' '.join(command)}' failed: {done.stderr.strip() or done.returncode}")


class Orchestrator:
    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    def why_not(self, osd: int, host: str) -> str:
        return ""

    def restart(self, osd: int) -> None:
        self._cluster.restart_by_orchestrator(osd)


def restarter_of(cluster: Cluster, host: str) -> Restarter:
    """`host`: this one."""
    return Orchestrator(cluster) if cluster.has_orchestrator() else Systemd(host)


def restartable(restarter: Restarter, facts: Facts) -> dict[int, str]:
    return {osd.osd: restarter.why_not(osd.osd, osd.host) for osd in facts.osds}
