"""The volume of a server: shard, store, objects and keeper, from opening and recovery to the last checkpoint.

Everything here blocks, or may be called from any thread. `recover` comes before the first client and `close` after the last.
"""

import logging
import time
from collections.abc import Callable

from loligo_mds.core.effects import RemoveObjects
from loligo_mds.core.requests import GetUsage, ListUnsettled, Usage
from loligo_mds.core.shard import Shard
from loligo_mds.shell.config import ServeError
from loligo_mds.shell.driver import ShardDriver
from loligo_mds.shell.keeper import Keeper
from loligo_mds.shell.metrics import Metrics
from loligo_mds.shell.removals import Removals
from loligo_mds.shell.session_record import SessionRecord, decode_record
from loligo_mds.shell.volume_parts import open_objects, open_shard_store
from loligo_runtime.heap import trim_heap
from loligo_runtime.volume import Volume

log = logging.getLogger(__name__)

#: A process that is ending may still hold the lock for a moment.
LOCK_WAIT_S = 2.0
#: How old a change can be that a power loss takes away though nobody asked for fsync.
SETTLE_EVERY_S = 5.0
_UNSETTLED_PAGE = 1000


class ServedVolume:
    def __init__(self, volume: Volume, on_repaired: Callable[[int], None]) -> None:
        """Open it. StoreError, ObjectStoreError, VolumeError, OSError: why it cannot be."""
        self.volume = volume
        self.store = open_shard_store(volume, LOCK_WAIT_S)
        try:
            self.objects = open_objects(volume)
        except BaseException:
            self.store.close()
            raise
        shard = Shard(0, self.store, volume.block_bytes)
        self.driver = ShardDriver(
            self.store,
            shard,
            lambda effect: self.removals.note(effect),
            lambda effect: self.keeper.repair(effect),
        )
        self.keeper = Keeper(self.driver, self.objects, on_repaired)
        self.removals = Removals(self.driver.lock, self.keeper.remove_objects)
        self._settled_s = time.monotonic()
        #: Of the objects' store, total and free, as far as is known.
        self.space = (0, 0)

    def recover(self) -> dict[int, SessionRecord]:
        """Bring the shard up; the sessions that survive. ServeError, OSError."""
        known = self._records()
        if self.store.after_power_loss:
            self._shut_out_all(known)
            known = {}
        takers = tuple(id for id, record in known.items() if record.takes_leases)
        self.driver.start(surviving=tuple(known), lease_takers=takers)
        if not known:
            # With survivors the shard says later what is to be repaired: they may still be writing.
            self.keeper.reconcile()
        else:
            self._remove_what_is_gone()
        if self.store.after_power_loss:
            self.keeper.remove_strays()
            self.store.power_loss_is_over()
        return known

    def _records(self) -> dict[int, SessionRecord]:
        found = {}
        for session, record in self.driver.sessions().items():
            try:
                found[session] = decode_record(record)
            except ValueError as error:
                log.error("session %x ends, its record cannot be read: %s", session, error)
        return found

    def _shut_out_all(self, known: dict[int, SessionRecord]) -> None:
        """What they were told last may be lost: none of them may go on."""
        addresses = [address for record in known.values() for address in record.fence]
        if known:
            log.warning("the machine lost power: %d sessions of before have ended", len(known))
        if not addresses:
            return
        try:
            self.objects.shut_out(addresses)
        except OSError as error:
            raise ServeError(
                f"clients of before the power loss cannot be shut out of the object store ({error}): start again when it"
                " answers"
            ) from None

    def _remove_what_is_gone(self) -> None:
        """Removals of objects that the last process did not finish."""
        after = 0
        while rows := self.driver.ask(ListUnsettled(after, _UNSETTLED_PAGE)):
            for ino, _, end, block_bytes, attributes in rows:
                if attributes is None:
                    with self.driver.lock:
                        self.keeper.remove_objects(RemoveObjects(ino, end, block_bytes))
            after = rows[-1][0]

    def keep(self) -> None:
        """Twice a second: what housekeeping is due, but for checkpoints. OSError: it is tried again."""
        self.removals.keep(self.space[1])
        now_s = time.monotonic()
        if now_s - self._settled_s >= SETTLE_EVERY_S:
            self._settled_s = now_s
            self.keeper.tick()
            self.keeper.settle()
            self.space = self.objects.usage()
            self.driver.sync()
            trim_heap()
        self.driver.trim_memory()

    def measure(self, metrics: Metrics) -> None:
        """Tell what the store knows about itself, at every scrape."""
        store = self.store
        lock = self.driver.lock

        def sizes(column: int) -> float:
            with lock:
                return float(store.table_sizes()[column])

        def usage() -> Usage:
            found: Usage = self.driver.ask(GetUsage())
            return found

        def oldest_due_s() -> float:
            due_ns = self.driver.backlog().oldest_due_ns
            return max(0.0, time.time() - due_ns / 1e9) if due_ns else 0.0

        metrics.asked.update(
            {
                "tables_map_bytes": ("How large the tables may grow in this process.", False, lambda: sizes(0)),
                "tables_file_bytes": ("Length of the file of tables.", False, lambda: sizes(1)),
                "tables_used_bytes": ("What of it rows take up.", False, lambda: sizes(2)),
                "journal_bytes": ("Journal since the last checkpoint.", False, lambda: store.journal_bytes),
                "journal_records": ("Records written to the journal.", True, lambda: store.appended),
                "journal_append_seconds": ("Time that writing them took.", True, lambda: store.append_ns / 1e9),
                "trash_inodes": ("Inodes in the trash.", False, lambda: usage().trash_inodes),
                "trash_bytes": ("Sizes of the files among those.", False, lambda: usage().trash_bytes),
                "trash_backlog_batches": (
                    "Batches of the trash that may be purged by now, and are still there; at most 10,000 are counted.",
                    False,
                    lambda: self.driver.backlog().batches,
                ),
                "trash_backlog_seconds": ("For how long the oldest of those that are due is due.", False, oldest_due_s),
                "objects_to_remove": (
                    "Objects of removed inodes that are still there.",
                    False,
                    lambda: self.keeper.objects_left,
                ),
            }
        )

    def close(self) -> None:
        """Store what is under way, checkpoint, let go of the lock. Sessions survive. A shard that has stopped is left alone."""
        try:
            if not self.driver.stopped:
                self.removals.begin()
                self.keeper.wait()
                self.keeper.settle()
        except OSError as error:
            log.warning("objects of removed files stay until the next start: %s", error)
        finally:
            self.keeper.stop()
            self.driver.end()
            self.objects.close()
