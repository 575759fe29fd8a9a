"""An embedded volume: the shard, its store and the data path in one process, without a server.

`make_volume` creates one; `EmbeddedVolume` opens it, recovers it, keeps it going and closes it. One process at a time: the
store's lock sees to that.
"""

import logging
import os
import shutil
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from loligo_client.shell.data_path import DataPath
from loligo_client.shell.filesystem import FileSystem
from loligo_client.shell.statistics import Metric
from loligo_client.shell.tasks import Metadata
from loligo_mds.core.effects import RemoveObjects
from loligo_mds.core.requests import Request
from loligo_mds.core.shard import Shard, initialise
from loligo_mds.shell.driver import ShardDriver
from loligo_mds.shell.keeper import Keeper
from loligo_mds.shell.purger import Purger
from loligo_mds.shell.removals import Removals
from loligo_mds.shell.volume_parts import open_objects, open_shard_store
from loligo_mds.store.journal import fsync_folder
from loligo_mds.store.shard_store import ShardStore
from loligo_runtime import volume as volumes
from loligo_runtime.clock import SystemClock
from loligo_runtime.heap import trim_heap
from loligo_runtime.object_url import open_object_store
from loligo_runtime.volume import Volume, VolumeError

log = logging.getLogger(__name__)

#: The one session of an embedded volume.
SESSION = 1
#: Bytes under way count about three times: here, in a copy for librados, and inside it.
DIRTY_LIMIT_BYTES = 24 << 20
TICK_S = 0.5
#: How old a change can be that a power loss takes away though nobody asked for fsync.
SETTLE_EVERY_S = 5.0
#: A mount that is going down may still hold the lock for a moment.
LOCK_WAIT_S = 10.0


def make_volume(volume: Volume, uid: int, gid: int, retention: bytes | None = None) -> Volume:
    """Make an empty volume, in one piece: its folder is built under another name and appears when it is complete.

    `retention`: see `initialise`.

    -> the volume as it was made
    """
    folder = volume.meta_folder
    if os.path.isdir(folder) and os.listdir(folder):
        if os.path.exists(os.path.join(folder, volumes.DESCRIPTION)):
            raise VolumeError(f"there is a volume at {volume.meta_url} already: mount it, or choose another place")
        raise VolumeError(f"{folder} is not empty: give a folder of its own to the metadata; it is made if need be")
    if os.path.exists(folder) and not os.path.isdir(folder):
        raise VolumeError(f"{folder} is a file: give a folder of its own to the metadata; it is made if need be")
    building = f"{folder}.new"
    volume = _resumed(volume, building)
    shutil.rmtree(building, ignore_errors=True)
    os.makedirs(building)
    volumes.save(volume, building)
    objects = open_object_store(volume.data_url, create=True)
    try:
        objects.claim(volume.uuid)
    finally:
        objects.close()
    shard_folder = os.path.join(building, volumes.SHARD_FOLDER)
    ShardStore.create(shard_folder, uuid.UUID(volume.uuid).bytes)
    store = ShardStore.open(shard_folder)
    store.power_loss_is_over()  # nothing can have been lost yet
    store.reserve(reclaiming=False)
    for effect in initialise(store, time.time_ns(), uid, gid, retention=retention):
        store.append(effect.writes)
    store.close()
    os.rename(building, folder)
    fsync_folder(os.path.dirname(folder))
    return volume


def _resumed(volume: Volume, building: str) -> Volume:
    """`volume` with the identity of an attempt that was interrupted: that one may own the place for data already."""
    try:
        begun = volumes.load(Path(building).as_uri())
    except VolumeError:
        return volume
    return replace(volume, uuid=begun.uuid) if begun.data_url == volume.data_url else volume


class LocalMetadata(Metadata):
    """The metadata port of the data path and the file system, for a shard in this process."""

    def __init__(self, driver: ShardDriver) -> None:
        self.lock = driver.lock
        self._driver = driver
        self._submit = driver.submit
        self._asked: dict[type, int] = dict.fromkeys(Request.__args__, 0)

    def ask(self, request: Request) -> Any:
        self._asked[type(request)] += 1
        return self._submit(SESSION, request)

    def metrics(self) -> Iterator[Metric]:
        asked = {kind.__name__: count for kind, count in self._asked.items() if count}
        yield Metric("requests", "Requests to the metadata, by kind.", asked, counts=True, label="kind")

    def sync(self) -> None:
        self._driver.sync()


class EmbeddedVolume:
    """A volume that is open in this process. Use as a context manager; `file_system` goes to a transport."""

    def __init__(
        self, volume: Volume, *, update_atime: bool = True, on_lost: Callable[[int], None] = lambda ino: None
    ) -> None:
        self.volume = volume
        objects = open_objects(volume)
        try:
            store = open_shard_store(volume, LOCK_WAIT_S)
            shard = Shard(0, store, volume.block_bytes)
            self._driver = ShardDriver(store, shard, self._remove_objects)
            metadata = LocalMetadata(self._driver)
            self._objects = objects
            self._keeper = Keeper(metadata, objects)
            self._removals = Removals(metadata.lock, self._keeper.remove_objects)
            self._purger = Purger(self._driver, self._driver.ask, self._keeper, self._removals, lambda: self.data.space)
            self.data = DataPath(
                metadata,
                objects,
                inline_limit_bytes=volume.inline_limit_bytes,
                dirty_limit_bytes=DIRTY_LIMIT_BYTES,
                on_lost=on_lost,
            )
            self._driver.start(SESSION)
            self._keeper.reconcile()
            if store.after_power_loss:
                self._keeper.remove_strays()
                store.power_loss_is_over()
        except BaseException:
            objects.close()
            raise
        self.file_system = FileSystem(metadata, self.data, SystemClock(), update_atime=update_atime)
        self.file_system.statistics.add(metadata.metrics)
        self._ending = threading.Event()
        self._housekeeper = threading.Thread(target=self._keep, name="housekeeper")
        self._housekeeper.start()
        self._purging = threading.Thread(target=self._purge, name="purger")
        self._purging.start()

    def _remove_objects(self, effect: RemoveObjects) -> None:
        self.data.inode_gone(effect.ino)
        self._removals.note(effect)

    def _keep(self) -> None:
        """Time passes: flush what has waited, settle what is stored, checkpoint what is journaled.

        The kernel passes sync(2) and syncfs(2) on to no FUSE file system, so everything is synced every few seconds.
        """
        settled_at = time.monotonic()
        said = ""
        while not self._ending.wait(TICK_S):
            try:
                self.data.tick(time.time_ns())
                self._removals.keep(self.data.space[1])
                if time.monotonic() - settled_at >= SETTLE_EVERY_S:
                    self.data.settle()
                    self._keeper.tick()
                    self._keeper.settle()
                    self._driver.sync()
                    trim_heap()
                    settled_at = time.monotonic()
                self._driver.checkpoint(only_if_due=True)
                self._driver.trim_memory()
            except OSError as error:
                if str(error) != said:  # twice a second would be too often
                    said = str(error)
                    log.warning("housekeeping will be tried again: %s", error)
            except Exception as error:  # noqa: BLE001 - without housekeeping nothing may go on
                self._driver.stop(error, "housekeeping")
                return

    def _purge(self) -> None:
        """Empty the trash: no session hears of that here but this one, whose kernel asks about nothing that is in it."""
        pause_s = 0.0
        while not self._ending.wait(pause_s):
            try:
                pause_s = self._purger.step()
            except Exception as error:  # noqa: BLE001 - what it left half-done nobody knows
                self._driver.stop(error, "emptying the trash")
                return

    def close(self) -> None:
        """Store and publish everything, durably; OSError, after closing all the same, if something could not be stored."""
        self._ending.set()
        self._housekeeper.join()
        self._purging.join()
        try:
            self.data.drain()
            self._removals.begin()
            self._keeper.wait()
            self._keeper.settle()
        finally:
            self.data.stop()
            self._keeper.stop()
            self._driver.end(SESSION)
            self._objects.close()

    def __enter__(self) -> "EmbeddedVolume":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()
