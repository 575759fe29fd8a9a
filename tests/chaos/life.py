"""The life of one volume that is killed again and again: work, death, the checks, and on."""

import errno
import os
import shutil
import signal
import threading
from collections.abc import Iterable
from dataclasses import replace
from itertools import chain, islice
from pathlib import Path
from random import Random

from chaos.lossy_disk import BOOT_ID
from chaos.tree import Call, Disk, Model, look
from chaos.workload import calls
from loligo_client.shell.check import check_volume
from loligo_lab.mounts import LabMount, make_lab_volume
from loligo_lab.processes import ProcessFailed
from loligo_mds.core.content import list_unsettled
from loligo_mds.core.requests import ListUnsettled
from loligo_mds.core.state import ShardState
from loligo_mds.core.tables import Table
from loligo_mds.store.shard_store import ShardStore

_DEAD = (errno.ENOTCONN, errno.ECONNABORTED)
#: A mount that hangs is killed, which ends every call on it, and reported.
_HANG_S = 30.0
#: Calls told when a check fails.
STORY = 60


class ChaosMount(LabMount):
    MODULE = "chaos.served"

    def end(self) -> bool:
        """Unmount in order; False if a failpoint kills it even then."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        if self._process.wait(_HANG_S) == -signal.SIGKILL:
            self.kill()
            return False
        self.wait()
        return True


class Life:
    """A context manager: leaves no mount behind."""

    def __init__(self, folder: Path, seed: int, *, block_bytes: int = 64 << 10, power_loss: bool = False) -> None:
        """With `power_loss`, each death of the process comes with one: `folder` is on a disk that can lose it."""
        self.volume = make_lab_volume(folder, block_bytes=block_bytes, inline_limit_bytes=4096)
        self._folder = folder
        self._random = Random(seed)
        self._power_loss = power_loss
        #: One of these is what the volume must hold, the last one if nothing happens to it.
        self._models = [Model(power_loss=power_loss)]
        self._mount: ChaosMount | None = None
        self._story: list[str] = []

    def __enter__(self) -> "Life":
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is not None:
            error.add_note("\n".join(["the last calls:", *self._story[-STORY:]]))
        if self._mount is not None:
            self._mount.kill()

    # -- work and death -------------------------------------------------------------------------------------------

    def work(
        self, count: int, *, script: Iterable[Call] = (), failpoint: str = "", kill_after_s: float | None = None
    ) -> bool:
        """Mount, do `script` and then `count` calls, die by `failpoint` or after a time. Whether it died; if it did not,
        it was unmounted.

        `failpoint` is armed once the volume is mounted.
        """
        (model,) = self._models
        self._story.append(f"-- mounted, {failpoint}")
        mount = self._start({"LOLIGO_LAB_FAILPOINT": failpoint} if failpoint else {})
        hung = threading.Timer(_HANG_S, os.kill, (mount.pid, signal.SIGKILL))
        hung.start()
        killer = threading.Timer(kill_after_s or 0.0, os.kill, (mount.pid, signal.SIGKILL))
        if kill_after_s is not None:
            killer.start()
        disk = Disk(mount.path)
        try:
            for name, arguments in chain(script, islice(calls(self._random, model), count)):
                self._story.append(_told(name, arguments))
                try:
                    answer = getattr(disk, name)(*arguments)
                except OSError as error:
                    if error.errno not in _DEAD:
                        raise
                    self._died_in(model, name, arguments)
                    return True
                if name == "read":
                    assert answer == model.at(*arguments).content, f"{arguments} read wrong"
                else:
                    self._happened(model, name, arguments)
            if kill_after_s is not None:
                killer.join()
                return True
            disk.let_go()
            return not mount.end()
        except BaseException as error:
            self._tell(error, mount)
            raise
        finally:
            assert hung.is_alive(), "the mount hung"
            hung.cancel()
            killer.cancel()
            disk.let_go()
            mount.kill()
            self._mount = None

    def _died_in(self, model: Model, name: str, arguments: tuple[object, ...]) -> None:
        if name not in ("read", "fsync"):  # which change nothing, and have promised nothing
            done = model.copy()
            getattr(done, name)(*arguments)
            self._models.append(done)

    def _happened(self, model: Model, name: str, arguments: tuple[object, ...]) -> None:
        if self._power_loss and name != "fsync":
            self._models.insert(-1, model.copy())
        else:
            self._models = [model]
        getattr(model, name)(*arguments)

    def die_recovering(self, failpoint: str) -> bool:
        """Mount with `failpoint` armed from the start. Whether it died before it was mounted."""
        try:
            self._start({"LOLIGO_FAILPOINT": failpoint})
        except ProcessFailed:
            return True
        finally:
            assert self._mount is not None
            self._mount.kill()
            self._mount = None
        return False

    def _start(self, environment: dict[str, str]) -> ChaosMount:
        if self._power_loss:
            environment = {**environment, "LOLIGO_LAB_BOOT_ID": str(self._folder / BOOT_ID)}
        self._mount = mount = ChaosMount(self.volume, self._folder / "mnt", environment=environment)
        mount.start()
        return mount

    def _tell(self, error: BaseException, mount: LabMount) -> None:
        error.add_note(f"the log:\n{mount.log()}")

    # -- the checks -----------------------------------------------------------------------------------------------

    def check_crashed(self) -> None:
        """The volume as it lies: whatever is in doubt is admitted. Looks at a copy: recovery is the mount's to do."""
        copy = self._folder / "copy"
        shutil.copytree(self.volume.meta_folder, copy)
        try:
            problems = check_volume(replace(self.volume, meta_url=copy.as_uri())).problems
        finally:
            shutil.rmtree(copy)
        assert not problems, "\n".join(problems)

    def check_recovered(self) -> None:
        """Mount, compare, unmount; nothing is left over then, and nothing in doubt."""
        mount = self._start({})
        try:
            seen = look(mount.path)
            latest = self._models[-1] if self._power_loss else None
            found = [model.differences(seen, latest) for model in self._models]
            closest: list[str] = min(found, key=len)
            assert not closest, "\n".join(closest)
            mount.unmount()
        except BaseException as error:
            self._tell(error, mount)
            raise
        finally:
            mount.kill()
            self._mount = None
        model = self._models[found.index(closest)]
        model.settle_on(seen)
        self._models = [model]
        self._check_settled()

    def _check_settled(self) -> None:
        problems = check_volume(self.volume).problems
        store = ShardStore.open(self.volume.shard_folder)
        try:
            for row in list_unsettled(ShardState(0, store, 0), ListUnsettled(0, 1 << 20), 0):
                problems.append(f"inode {row[0]} is in doubt after an orderly end")
            for key, _ in store.scan(Table.ORPHAN, b""):
                problems.append(f"inode {key.hex()} is an orphan after an orderly end")
        finally:
            store.close()
        assert not problems, "\n".join(problems)


def _told(name: str, arguments: tuple[object, ...]) -> str:
    return f"{name}({', '.join(f'{len(x)} bytes' if isinstance(x, bytes) else str(x) for x in arguments)})"
