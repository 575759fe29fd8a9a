"""A real `loligo serve` on loopback, as a process of its own that a test may kill and start again.

    with LabServer(volume, folder) as server:
        with RemoteMount(server, folder / "mnt") as mount:
            server.kill()       # -9
            server.start()      # again, on the same port, recovering
    assert_sound(volume)

`ServedMount` is a mount and a server of its own in one, for tests that ask nothing but a mount.
`make_users` gives a volume on Ceph the users that it should have, and no more.

Rules
1. The process is the product's own command; only starting it is ours. See `loligo_lab.processes` for its life and its log.
2. Its ports stay the same from one start to the next.

    python -m loligo_lab.serving ARGUMENTS OF LOLIGO SERVE
"""

import contextlib
import signal
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from loligo.servers import evict, running_servers
from loligo_lab.ceph import LoopbackCeph
from loligo_lab.mounts import LabMount
from loligo_lab.ports import free_port
from loligo_lab.processes import LabProcess, ProcessFailed, end_with_parent
from loligo_mds.shell.admin import socket_path
from loligo_runtime.ceph_keys import ADMIN, Administration
from loligo_runtime.ceph_users import users_of
from loligo_runtime.object_url import RadosUrl, format_rados_url
from loligo_runtime.volume import Volume


class LabServer(LabProcess):
    """The daemon of `volume`; its log goes into `folder`. Use it as a context manager, or call start and stop."""

    #: What the process runs: a variation of this module's `main`.
    MODULE = "loligo_lab.serving"

    def __init__(
        self, volume: Volume, folder: Path, *, options: Sequence[str] = (), environment: dict[str, str] | None = None
    ) -> None:
        """`options` of `loligo serve`, beside its addresses."""
        super().__init__("the server", self.MODULE, folder / "serve.log", environment)
        self.volume = volume
        self.folder = folder
        self.port = free_port()
        self.metrics_port = free_port()
        self._options = options

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self, **environment: str) -> None:
        """Returns when it serves. `environment`: more of it, for this time."""
        addresses = ("--listen", self.address, "--metrics", f"127.0.0.1:{self.metrics_port}")
        self.spawn([self.volume.meta_url, *addresses, *self._options], **environment)

    def kill(self) -> None:
        """-9, and take away the socket that it leaves behind."""
        self.slay()
        Path(socket_path(self.volume.uuid)).unlink(missing_ok=True)

    def evict_all(self) -> None:
        """End every session, as an operator can."""
        socket = Path(socket_path(self.volume.uuid))
        (status,) = (status for found, status in running_servers() if found == socket)
        for session in status.sessions:
            assert evict(socket, session.session) == ""

    def stop(self) -> None:
        """As systemd does it; fails if it ended badly or logged an unexpected error."""
        if self._process is None:
            return
        self.tell(signal.SIGTERM)
        self.wait()

    def __enter__(self) -> "LabServer":
        self.start()
        return self

    def __exit__(self, kind: object, *exception: object) -> None:
        if kind is None:
            self.stop()
            return
        with contextlib.suppress(ProcessFailed, AssertionError):
            self.stop()
        self.kill()


@contextlib.contextmanager
def ending_servers() -> Iterator[list[LabServer]]:
    """Those in the list are stopped at the end, which fails if one did not end well, and killed in any case."""
    servers: list[LabServer] = []
    try:
        yield servers
        for server in servers:
            server.stop()
    finally:
        for server in servers:
            server.kill()


class RemoteMount(LabMount):
    """A mount of the volume of `server`, or of a directory in it, through that server."""

    def __init__(
        self,
        server: LabServer,
        path: Path,
        *,
        root: str = "",
        options: Sequence[str] = (),
        environment: dict[str, str] | None = None,
    ) -> None:
        super().__init__(server.volume, path, options=options, environment=environment)
        self.server = server
        self._root = root

    @property
    def source(self) -> str:
        return f"{self.server.address}/{self.volume.name}{f'/{self._root}' if self._root else ''}"


class ServedMount(RemoteMount):
    """The server starts with the mount, stops after it, and is killed with it."""

    def __init__(
        self,
        volume: Volume,
        path: Path,
        *,
        options: Sequence[str] = (),
        environment: dict[str, str] | None = None,
        server_options: Sequence[str] = (),
    ) -> None:
        server = LabServer(volume, path.parent, options=server_options, environment=environment)
        super().__init__(server, path, options=options, environment=environment)
        self._was_killed = False

    def start(self) -> None:
        if not self.server.is_running:
            self.server.start()
        if self._was_killed:
            self.server.evict_all()  # else its files stay closed to others until the session has expired
            self._was_killed = False
        super().start()

    def wait(self) -> None:
        super().wait()
        self.server.stop()

    def kill(self) -> None:
        super().kill()
        self.server.kill()
        self._was_killed = True

    def expect_error(self, pattern: str) -> None:
        super().expect_error(pattern)
        self.server.expect_error(pattern)


def lab_mount(transport: str, volume: Volume, path: Path, options: Sequence[str] = ()) -> LabMount:
    """A mount by what `transport` names: native, pyfuse3, or served (native, through a server)."""
    if transport == "served":
        return ServedMount(volume, path, options=options)
    return LabMount(volume, path, options=(f"transport={transport}", *options))


def make_users(cluster: LoopbackCeph, pool: str, namespace: str, folder: Path) -> tuple[str, tuple[str, ...]]:
    """(URL of the data as the daemon's user sees it, mount options of clients). Keyrings go into `folder`."""
    conf = cluster.write_user_conf(folder)
    data = RadosUrl(pool, namespace, str(conf), ADMIN)
    daemon, client = users_of(pool, namespace, f"client.{namespace}-daemon", f"client.{namespace}")
    with Administration(str(cluster.conf)) as administration:
        for user in (daemon, client):
            administration.make(user, str(folder))
    return format_rados_url(replace(data, name=daemon.entity)), (f"ceph_name={client.entity}",)


def main() -> None:
    end_with_parent()
    sys.argv[1:1] = ["serve"]
    from loligo.cli import main as loligo

    loligo()


if __name__ == "__main__":
    main()
