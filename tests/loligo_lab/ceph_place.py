"""A volume with its data on a Ceph cluster of its own, behind `loligo serve`, mounted through it: all on this machine.

The cluster, the two least-privilege users, the volume, the daemon and the mount are made as docs/cluster.md tells, by the
`loligo` command. Only processes that were started here are ever signalled.
"""

import contextlib
import os
import select
import signal
import socket
import subprocess
from pathlib import Path

from loligo_lab.ceph import DEFAULT_PORT, CephLabError, LoopbackCeph
from loligo_lab.places import LOLIGO, EmbeddedPlace, PlaceError, clear, is_up, mounts, unmount
from loligo_lab.ports import free_port
from loligo_lab.processes import Readiness

POOL = "loligo"
DAEMON_PORT = 9440
START_LIMIT_S = 30.0
STOP_LIMIT_S = 60.0


class CephPlace(EmbeddedPlace):
    """Users, metadata and the daemon's files in `home`, the cluster in `cluster_folder`."""

    def __init__(
        self,
        home: Path,
        name: str,
        mount_point: Path,
        config: Path,
        cluster_folder: Path,
        *,
        with_mds: bool = False,
        fixed_ports: bool = True,
    ) -> None:
        """`fixed_ports`: those that people know, if they are free; else any."""
        super().__init__(home, name, mount_point, config)
        port = _port(DEFAULT_PORT) if fixed_ports else free_port()
        self.cluster = LoopbackCeph(cluster_folder, port, with_mds=with_mds)
        self._users = home / "ceph-users"
        self.daemon = Daemon(home, fixed_ports)

    def up(self, *options: str) -> None:
        try:
            self.cluster.start()
            self.cluster.create_pool(POOL)
        except CephLabError as error:
            raise PlaceError(str(error)) from None
        self._users.mkdir(mode=0o700, parents=True, exist_ok=True)
        conf = self.cluster.write_user_conf(self._users)
        data_url = f"rados://{POOL}/{self.name}?conf={conf}"
        source = self.meta_url if self.is_made else data_url
        self._loligo(
            "volume",
            "users",
            source,
            "--create",
            "--admin-conf",
            str(self.cluster.conf),
            "--keyrings",
            str(self._users),
        )
        self.make(f"{data_url}&name=client.loligo-{self.name}-daemon")
        if self.daemon.pid is None:
            self.daemon.start(self.meta_url)
        if not is_up(self.mount_point):
            self.mount(self.mount_point, *options)

    def mount(self, mount_point: Path, *options: str) -> None:
        """Once more, for another client; whoever asks for it unmounts it before `down`."""
        clear(mount_point)
        source = f"{self.daemon.address}/{self.name}"
        self._loligo("mount", source, str(mount_point), "-o", self.client_options, *options)

    def unmount(self, mount_point: Path) -> None:
        logs = [Path(mount["log"]) for mount in mounts() if mount["directory"] == str(mount_point) and mount.get("log")]
        unmount(mount_point)
        for log in logs:
            log.unlink(missing_ok=True)  # it is in /var/log

    @property
    def client_options(self) -> str:
        """What makes a mount a client's, who has less rights than the daemon."""
        return f"ceph_conf={self._users}/ceph.conf,ceph_name=client.loligo-{self.name}"

    def down(self) -> None:
        self.unmount(self.mount_point)
        self.daemon.stop()
        self.cluster.stop()


class Daemon:
    """`loligo serve` in the background, its configuration, log and process id in `folder`."""

    def __init__(self, folder: Path, fixed_ports: bool) -> None:
        self._config = folder / "serve.toml"
        self._log = folder / "serve.log"
        self._pid = folder / "serve.pid"
        self._fixed_ports = fixed_ports
        self._child: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        """Where it listens; from one start to the next the same."""
        return self._configured("listen")

    @property
    def metrics_address(self) -> str:
        return self._configured("metrics")

    def _configured(self, name: str) -> str:
        return self._config.read_text().split(f'{name} = "')[1].split('"')[0]

    @property
    def pid(self) -> int | None:
        """None if it does not run."""
        with contextlib.suppress(FileNotFoundError, ProcessLookupError, ValueError):
            pid = int(self._pid.read_text())
            if os.fsencode(self._config) in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0"):
                return pid
        return None

    def start(self, meta_url: str) -> None:
        if not self._config.exists():
            ports = [_port(port) if self._fixed_ports else free_port() for port in (DAEMON_PORT, DAEMON_PORT + 1)]
            self._config.write_text(
                f'volume = "{meta_url}"\nlisten = "127.0.0.1:{ports[0]}"\nmetrics = "127.0.0.1:{ports[1]}"\n'
            )
        with Readiness() as readiness, self._log.open("ab") as log:
            self._child = process = subprocess.Popen(
                [LOLIGO, "serve", "--config", self._config],
                env={**os.environ, **readiness.environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
            self._pid.write_text(f"{process.pid}\n")
            if readiness.wait(process.pid, START_LIMIT_S):
                return
            process.kill()
            process.wait()
        tail = "\n".join(self._log.read_text(errors="replace").splitlines()[-15:])
        raise PlaceError(f"the daemon did not start; the end of {self._log}:\n{tail}")

    def stop(self) -> None:
        pid = self.pid
        if pid is not None:
            ended = os.pidfd_open(pid)
            try:
                os.kill(pid, signal.SIGTERM)
                if not select.select([ended], [], [], STOP_LIMIT_S)[0]:
                    raise PlaceError(f"the daemon (process {pid}) does not end; see {self._log}")
            finally:
                os.close(ended)
        if self._child is not None:
            self._child.wait()
            self._child = None
        self._pid.unlink(missing_ok=True)


def _port(wanted: int) -> int:
    """`wanted` if it is free."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", wanted))
        except OSError:
            return free_port()
        return wanted
