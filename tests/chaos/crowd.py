"""Many clients of one server at work, while the server is killed, connections are cut, and clients die.

This is the side that has the server and the mounts; `chaos.crowd_workers` works on them, in a process of its own.
"""

import multiprocessing
import time
from pathlib import Path
from typing import Any

from chaos import crowd_workers
from loligo_lab.serving import LabServer, RemoteMount
from loligo_lab.wire import Wire

#: How long one call may take, the server's absences included.
HANG_S = 90.0


class CrowdServer(LabServer):
    MODULE = "chaos.served_volume"

    def kill_and_look(self) -> None:
        """-9. What it had logged by then must be fine."""
        self.kill()
        self.check_log()


class CrowdMount(RemoteMount):
    """It reaches the server through a wire."""

    MODULE = "chaos.served"

    def __init__(self, server: LabServer, wire: Wire, name: str, options: tuple[str, ...]) -> None:
        super().__init__(server, server.folder / name, options=options)
        self._wire = wire

    @property
    def source(self) -> str:
        return f"127.0.0.1:{self._wire.port}/{self.volume.name}"


class Crowd:
    """`mounts` must be up. AssertionError where a worker has met something that must not be."""

    def __init__(self, mounts: list[CrowdMount], seed: int) -> None:
        self._mounts = mounts
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(
            target=crowd_workers.serve, args=(theirs, [mount.path for mount in mounts], seed), daemon=True
        )
        self._process.start()
        theirs.close()
        #: Number of each worker that has ended -> calls that it made.
        self.ended: dict[int, int] = {}

    def close(self) -> None:
        """The mounts must be gone, so that nothing waits for them."""
        self._connection.close()
        self._process.join()

    def check(self) -> None:
        while self._connection.poll():
            self._take()

    def kill(self, number: int) -> None:
        """-9 for a mount; returns when its worker has noticed."""
        mount = self._mounts[number]
        mount.die()
        self._wait_for("dead", number)
        mount.kill()

    def revive(self, number: int) -> None:
        self._mounts[number].start()
        self._connection.send(("back", number))

    def end(self) -> None:
        """Returns when everybody has come to the end of his call."""
        self._connection.send(("end",))
        while len(self.ended) < len(self._mounts):
            self._wait_for("ended")

    def differences(self, root: Path) -> list[str]:
        """What is not there as the workers were told. They have unmounted in order; `root` is another mount."""
        self._connection.send(("look", root))
        problems: list[str] = self._wait_for("seen")[0]
        return problems

    def _wait_for(self, *wanted: Any) -> list[Any]:
        end_s = time.monotonic() + HANG_S
        while True:
            if not self._connection.poll(max(0.0, end_s - time.monotonic())):
                self._connection.send(("tell",))
                raise AssertionError(f"no {wanted} within {HANG_S:g} s: {self._wait_for('told')[0]}")
            said = self._take()
            if said[: len(wanted)] == wanted:
                return list(said[len(wanted) :])

    def _take(self) -> tuple[Any, ...]:
        said: tuple[Any, ...] = self._connection.recv()
        if said[0] == "failed":
            raise AssertionError(f"worker {said[1]}:\n{said[2]}")
        if said[0] == "ended":
            self.ended[said[1]] = said[2]
        return said
