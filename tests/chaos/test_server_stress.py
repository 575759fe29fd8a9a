"""Eight clients do what they like, alone and together, while their server, their connections and some of them die.

What each was told must be so at the end, and a full check of the volume finds nothing: see `chaos.crowd` and
`chaos.shared_work`. For longer, on Ceph, with an OSD that is killed too: `make stress DURATION=300`.

LOLIGO_STRESS_S is how long that is, and LOLIGO_STRESS_SEED says what to do: the calls of a client are the same for one seed,
though not what happens when.
"""

import os
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from random import Random

import pytest

from chaos.crowd import Crowd, CrowdMount, CrowdServer
from loligo_lab.ceph import OSDS, LoopbackCeph
from loligo_lab.folders import DISK
from loligo_lab.mounts import assert_sound, make_lab_volume
from loligo_lab.serving import make_users
from loligo_lab.wire import Wire
from loligo_mds.core.content import list_unsettled
from loligo_mds.core.requests import ListUnsettled
from loligo_mds.core.state import ShardState
from loligo_mds.core.tables import Table
from loligo_mds.store.shard_store import ShardStore
from loligo_runtime.volume import Volume

CLIENTS = 8
LOCAL_S = 40.0
CEPH_S = 30.0
LONG_S = float(os.environ.get("LOLIGO_STRESS_S", "0"))
SEED = int(os.environ.get("LOLIGO_STRESS_SEED", "1"))
#: Longer than a server is away, on a machine with more to do.
EXPIRY_S = 4
#: A run goes on until the server was killed as often as this says: a slow machine comes to less.
SERVER_KILLS_S = 12.0
#: Between two disturbances, at most.
PAUSE_S = 1.5


class Stress:
    """A context manager: leaves nothing behind."""

    def __init__(self, folder: Path, volume: Volume, seed: int, options: tuple[str, ...] = ()) -> None:
        self._volume = volume
        self._random = Random(seed)
        self._seed = seed
        self._options = options
        self._stack = ExitStack()
        self.server = CrowdServer(volume, folder, options=("--session-expiry", str(EXPIRY_S)))
        self._wire = Wire(self.server.port)
        self._mounts = [self._mount(f"mnt-{number}") for number in range(CLIENTS)]
        self.done: Counter[str] = Counter()

    def _mount(self, name: str) -> CrowdMount:
        return CrowdMount(self.server, self._wire, name, self._options)

    def __enter__(self) -> "Stress":
        try:
            self._stack.callback(self.server.kill)
            self._stack.enter_context(self._wire)
            self.server.start()
            for mount in self._mounts:
                mount.start()
            self.crowd = Crowd(self._mounts, self._seed)
            self._stack.callback(self.crowd.close)
            self._stack.callback(self._kill_mounts)
        except BaseException:
            self._kill_mounts()
            self._stack.close()
            raise
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is not None:
            error.add_note(f"the server's log:\n{self.server.log()[-6000:]}")
            for mount in self._mounts:
                error.add_note(f"the log of {mount.path.name}:\n{mount.log()[-1500:]}")
        self._stack.close()

    def _kill_mounts(self) -> None:
        for mount in self._mounts:
            mount.kill()

    # -- while they work ------------------------------------------------------------------------------------------------

    def run(self, seconds: float, cluster: LoopbackCeph | None = None) -> None:
        random = self._random
        kinds = {"server": 8, "wire": 4, "client": 2, "both": 1, "osd": 2 if cluster is not None else 0}
        end_s = time.monotonic() + seconds
        spared_until_s = 0.0
        while time.monotonic() < end_s or self.done["server"] < seconds / SERVER_KILLS_S:
            time.sleep(random.uniform(0.2, PAUSE_S))  # what they do meanwhile is the point
            self.crowd.check()
            kind = random.choices(list(kinds), list(kinds.values()))[0]
            if kind in ("client", "both"):
                # A server that starts again waits for the dead one once more, and everybody with it.
                spared_until_s = time.monotonic() + EXPIRY_S + 1
            elif kind == "server" and time.monotonic() < spared_until_s:
                kind = "wire"
            victim = random.randrange(CLIENTS)
            if kind == "wire":
                self._wire.cut()
            if kind in ("client", "both"):
                self.crowd.kill(victim)
            if kind in ("server", "both"):
                self.server.kill_and_look()
                time.sleep(random.choice((0.0, 0.0, 1.0)))  # as long as somebody takes to notice
                self.server.start()
            if kind in ("client", "both"):
                self.crowd.revive(victim)
            if kind == "osd":
                assert cluster is not None
                cluster.kill_osd(random.randrange(OSDS))
            self.done[kind] += 1
        self.crowd.end()

    # -- afterwards -----------------------------------------------------------------------------------------------------

    def check(self) -> None:
        """Everybody unmounts; somebody else looks at what is there; then nothing is left over."""
        for mount in self._mounts:
            mount.unmount()
        with self._mount("mnt") as onlooker:
            problems = self.crowd.differences(onlooker.path)
        assert not problems, "\n".join(problems)
        self.server.stop()
        # With nobody who could come back, the next start clears up behind those who died.
        self.server.start()
        self.server.stop()
        assert_sound(self._volume)
        store = ShardStore.open(self._volume.shard_folder)
        try:
            rows = list_unsettled(ShardState(0, store, 0), ListUnsettled(0, 1 << 20), 0)
            left = [f"inode {row[0]} is in doubt" for row in rows]
            left += [f"inode {key.hex()} is an orphan" for key, _ in store.scan(Table.ORPHAN, b"")]
        finally:
            store.close()
        assert not left, "\n".join(left)


def stress(
    folder: Path, volume: Volume, seconds: float, options: tuple[str, ...] = (), osds: LoopbackCeph | None = None
) -> None:
    print(f"seed {SEED}, {seconds:g} s")
    with Stress(folder, volume, SEED, options) as run:
        run.run(seconds, osds)
        run.check()
        calls = sum(run.crowd.ended.values())
        print(f"{calls} calls of {CLIENTS} clients; killed or cut: {dict(run.done)}")
        assert calls > 50 * seconds
        assert run.done["server"] >= seconds / SERVER_KILLS_S


@pytest.mark.skipif(LONG_S > 0, reason="the long run is on Ceph")
def test_on_local_data(tmp_path: Path) -> None:
    stress(tmp_path, make_lab_volume(tmp_path), LOCAL_S)


@pytest.fixture
def ceph_folder(ceph_cluster: LoopbackCeph) -> Iterator[Path]:
    ceph_cluster.create_pool("stress")
    folder = Path(tempfile.mkdtemp(prefix="loligo-stress-", dir=DISK))
    yield folder
    shutil.rmtree(folder)


@pytest.mark.ceph
def test_on_ceph(ceph_folder: Path, ceph_cluster: LoopbackCeph) -> None:
    data_url, options = make_users(ceph_cluster, "stress", ceph_folder.name, ceph_folder)
    volume = make_lab_volume(ceph_folder, data_url=data_url)
    stress(ceph_folder, volume, LONG_S or CEPH_S, options, ceph_cluster if LONG_S else None)
