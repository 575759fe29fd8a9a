"""Looks after the objects of a shard's files that no client looks after: it removes those of inodes that are gone, and makes
objects and sizes agree where a writer died or a machine lost power.

What must be true when, and why rows in UNSETTLED say where to look, is told in `core.content`.

Rules
1. What is to be done is noted under the lock of the metadata (`remove_objects`, `repair`) and done on threads of the keeper,
   without it: one removes, of all objects that it has taken some at a time; others repair.
2. Objects of a removed inode go after the removal is durable: a loss of power must not bring back the name and not the bytes.
3. What fails is tried again by `tick`; the row in UNSETTLED stays meanwhile, so that the next start knows of it too.
4. Rows go once the store has synced what was done: those of files at once, those of removed inodes with the next `settle`.

It does not touch files that somebody has open, unless the shard says so with `RepairObjects`.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from errno import ENOENT
from typing import Any, Protocol

from loligo_mds.core.effects import RemoveObjects, RepairObjects
from loligo_mds.core.requests import GetAttributes, ListUnsettled, Request, SetAttributes, Settle
from loligo_runtime.failpoint import declare, failpoint
from loligo_runtime.object_store import ObjectStore, remove_blocks
from loligo_wire.attributes import FLAG_INLINE, FLAG_SPARSE, Attributes
from loligo_wire.striping import block_count

log = logging.getLogger(__name__)

#: Threads that repair. One removes, many objects at a time: more of them are in the way of each other, and of those who are
#: answered by this process.
REPAIRERS = 3
#: Removals that it takes: they share a sync of the journal.
REMOVALS_AT_ONCE = 256
ROWS_AT_ONCE = 1000
#: Rows of removed inodes that go in one step: who waits for the shard waits for no more than that.
SETTLED_AT_ONCE = 256

declare(
    "data.remove.before",
    "data.remove.after",
    "data.reconcile.before",
    "data.reconcile.cut",
    "data.reconcile.after",
)

_Job = RemoveObjects | RepairObjects


class KeptMetadata(Protocol):
    """What the keeper needs of the shard. `ask` answers at once; OSError for a refusal."""

    lock: Any

    def ask(self, request: Request) -> Any: ...

    def sync(self) -> None:
        """Everything answered so far survives a power loss. Blocks."""


class Keeper:
    def __init__(
        self, metadata: KeptMetadata, store: ObjectStore, on_repaired: Callable[[int], None] = lambda ino: None
    ) -> None:
        """`on_repaired(ino)`: what `RepairObjects` asked for is done. Called without the lock, on a thread of the keeper."""
        self._metadata = metadata
        self._ask = metadata.ask
        self._lock = metadata.lock
        self._store = store
        self._on_repaired = on_repaired
        #: Noted and not begun.
        self._removals: deque[RemoveObjects] = deque()
        self._repairs: deque[RepairObjects] = deque()
        #: Failed: `tick` tries again.
        self._failed: list[_Job] = []
        #: Objects that are to be removed, and are not yet: noted, under way or failed.
        self.objects_left = 0
        self._removes = False
        self._repairers = 0
        self._idle = threading.Condition(self._lock)
        #: Removed, and not yet durable.
        self._to_settle: dict[int, None] = {}
        self._pool = ThreadPoolExecutor(1 + REPAIRERS, thread_name_prefix="keeper")

    # -- what the shard wants done ----------------------------------------------------------------------------------

    def remove_objects(self, effect: RemoveObjects) -> None:
        """Note that the objects of an inode that is gone may go. Called with the lock."""
        self._to_settle.pop(effect.ino, None)
        self.objects_left += _objects_of(effect)
        self._note(effect)

    def repair(self, effect: RepairObjects) -> None:
        """Note that a file must be made to agree with its size; nobody else writes it meanwhile. Called with the lock."""
        self._note(effect)

    def _note(self, job: _Job) -> None:
        if isinstance(job, RemoveObjects):
            self._removals.append(job)
            if not self._removes:
                self._removes = True
                self._pool.submit(self._remove_all)
        else:
            self._repairs.append(job)
            if self._repairers < REPAIRERS:
                self._repairers += 1
                self._pool.submit(self._repair_all)

    def _remove_all(self) -> None:
        while True:
            with self._lock:
                effects = [self._removals.popleft() for _ in range(min(REMOVALS_AT_ONCE, len(self._removals)))]
                if not effects:
                    self._removes = False
                    self._idle.notify_all()
                    return
            try:
                self._remove(effects)
            except Exception:
                log.exception("the keeper cannot remove what it should")
                with self._lock:
                    self._failed += effects

    def _repair_all(self) -> None:
        while True:
            with self._lock:
                if not self._repairs:
                    self._repairers -= 1
                    self._idle.notify_all()
                    return
                effect = self._repairs.popleft()
            try:
                self._repair(effect)
            except Exception:
                log.exception("the keeper cannot repair what it should")
                with self._lock:
                    self._failed.append(effect)

    def tick(self) -> None:
        """Now and then: try again what could not be done."""
        with self._lock:
            failed, self._failed = self._failed, []
            for job in failed:
                self._note(job)

    @property
    def is_busy(self) -> bool:
        """Whether something that was noted has not been tried yet."""
        return self._removes or self._repairers > 0

    def wait(self) -> None:
        """Returns when all that was noted has been tried. Blocks, without the lock."""
        with self._lock:
            while self.is_busy:
                self._idle.wait()

    # -- inodes that are gone ---------------------------------------------------------------------------------------

    def _remove(self, effects: list[RemoveObjects]) -> None:
        failpoint("data.remove.before")
        try:
            self._metadata.sync()
        except OSError as error:
            log.warning("objects of %d removed inodes stay for now: %s", len(effects), error)
            with self._lock:
                self._failed += effects
            return
        blocks = ((effect.ino, index) for effect in effects for index in range(_objects_of(effect)))
        failed = self._store.remove_many(blocks)
        for ino, why in failed.items():
            log.warning("objects of removed inode %d stay for now: %s", ino, why)
        for effect in effects:
            if effect.ino in failed:
                with self._lock:
                    self._failed.append(effect)
                continue
            failpoint("data.remove.after")
            with self._lock:
                self.objects_left -= _objects_of(effect)
                self._to_settle[effect.ino] = None

    # -- files whose writer is gone ---------------------------------------------------------------------------------

    def _repair(self, effect: RepairObjects) -> None:
        try:
            with self._lock:
                rows = self._ask(ListUnsettled(effect.ino - 1, 1))
            if rows and rows[0][0] == effect.ino:
                _, start, end, _, attributes = rows[0]
                if attributes is not None:
                    self._reconcile_file(attributes, start, end)
                    self._settle_files([effect.ino])
        except OSError as error:
            log.warning("inode %d is not repaired yet: %s", effect.ino, error)
            with self._lock:
                self._failed.append(effect)
            return
        self._on_repaired(effect.ino)

    def _reconcile_file(self, attributes: Attributes, start: int, end: int) -> None:
        failpoint("data.reconcile.before")
        ino, block = attributes.ino, attributes.block_bytes
        size = 0 if attributes.flags & FLAG_INLINE else attributes.size
        if size and not attributes.flags & FLAG_SPARSE:
            for index in range(start // block, block_count(size, block)):
                have = self._store.size(ino, index).result() or 0
                if have < min(block, size - index * block):
                    size = index * block + have
                    log.warning("inode %d: cut to the %d bytes that its objects have", ino, size)
                    self._ask(SetAttributes(ino, size=size))
                    failpoint("data.reconcile.cut")
                    break
        self._trim(ino, size, max(end, attributes.size), block)
        failpoint("data.reconcile.after")

    def _trim(self, ino: int, size: int, end: int, block_bytes: int) -> None:
        """Take every byte from `size` on out of the objects of a file that reached up to `end`."""
        keep, rest = divmod(size, block_bytes)
        if rest:
            self._store.truncate(ino, keep, rest).result()
            keep += 1
        remove_blocks(self._store, ino, keep, block_count(end, block_bytes))

    def reconcile(self) -> None:
        """After a crash: make objects and sizes agree again. Before there is any session; blocks."""
        self._metadata.sync()
        after = 0
        while True:
            rows = self._ask(ListUnsettled(after, ROWS_AT_ONCE))
            if not rows:
                return
            files = []
            for ino, start, end, block_bytes, attributes in rows:
                if attributes is None:
                    with self._lock:
                        self.remove_objects(RemoveObjects(ino, end, block_bytes))
                else:
                    self._reconcile_file(attributes, start, end)
                    files.append(ino)
            self._settle_files(files)
            after = rows[-1][0]

    def remove_strays(self) -> None:
        """After a loss of power, and `reconcile`: take away objects, and ends of objects, that no inode knows of. Blocks.

        An object may have come to the disk before the journal's record that announced it: a file made later with the same
        number, or grown later, would find somebody's bytes.
        """
        self.wait()
        strays = 0
        for ino, index, size in self._store.list():
            try:
                found: Attributes = self._ask(GetAttributes(ino))
            except OSError as error:
                if error.errno != ENOENT:
                    raise
                keep = 0
            else:
                in_objects = 0 if found.flags & FLAG_INLINE else found.size
                keep = min(max(0, in_objects - index * found.block_bytes), found.block_bytes)
            if not keep:
                self._store.remove(ino, index).result()
            elif size > keep:
                self._store.truncate(ino, index, keep).result()
            else:
                continue
            strays += 1
        log.warning("power was lost while the volume was mounted: %d objects that nothing knew of were cut", strays)

    # -- the end of doubt -------------------------------------------------------------------------------------------

    def _settle_files(self, inos: list[int]) -> None:
        """At once: whoever writes to them next must find no row, or his own."""
        if inos:
            self._store.sync_all().result()
            self._ask(Settle(inos))

    def settle(self) -> None:
        """Make removals durable, and take the inodes off the list of those to look at after a crash. Blocks.

        OSError: it is tried again the next time.
        """
        with self._lock:
            due = list(self._to_settle)
        if not due:
            return
        self._store.sync_all().result()
        for first in range(0, len(due), SETTLED_AT_ONCE):
            with self._lock:
                began_s = time.monotonic()
                # What was removed meanwhile has a row that must stay until that is done.
                batch = [ino for ino in due[first : first + SETTLED_AT_ONCE] if ino in self._to_settle]
                if batch:
                    self._ask(Settle(batch))
                    for ino in batch:
                        del self._to_settle[ino]
            time.sleep(time.monotonic() - began_s)  # others want the lock, too

    def stop(self) -> None:
        """Ends the threads, when what has begun is done. What has not is left to the next start."""
        with self._lock:
            self._removals.clear()
            self._repairs.clear()
        self._pool.shutdown()


def _objects_of(effect: RemoveObjects) -> int:
    """How many there may be."""
    return block_count(effect.end, effect.block_bytes)
