"""The durable state of one shard, in a folder: tables and journal joined.

    DIR/lock         flock of the process that has the volume open, with a JSON note {"pid": …, "boot": …}: who, and which
                     start of the machine; {} when it was closed in order
    DIR/tables.mdb   see lmdb_tables
    DIR/journal/     see journal

The order of a step is the contract; the caller holds the core's lock around all of it:

    reserve()           may refuse (StoreFull) before anything has changed
    put, delete, …      change the tables in the open transaction, in memory
    append(writes)      one write to the journal: from here on the step survives the process
    (answer)            and, for those who asked, after sync(position): the machine
    checkpoint()        when `needs_checkpoint`: the tables to disk, a fresh journal

Only `sync`, `synced_position` and `StoreFailed` know other threads.

A commit of the tables that fails loses nothing: the transaction is rebuilt from the journal, which is kept, and the
store goes on; a later checkpoint tries again. The way there: reserve() refuses steps that do not free space once the
next commit or the next journal piece cannot be given its space beforehand; the rest of the piece is left for
those that do.
"""

import contextlib
import errno
import fcntl
import json
import logging
import os
import time
from collections.abc import Callable, Iterator, Sequence
from time import perf_counter_ns
from typing import Any, Self

import lmdb

from loligo_mds.core.tables import Write
from loligo_mds.store.errors import (
    NotOurs,
    NoVolume,
    StoreError,
    StoreFailed,
    StoreFull,
    TablesMissing,
    VolumeBusy,
    VolumeExists,
)
from loligo_mds.store.journal import (
    FIRST_RECORD,
    MAX_RECORD_BYTES,
    Journal,
    create_journal,
    fsync_folder,
    segment_path,
    verify_journal,
)
from loligo_mds.store.lmdb_tables import ROOM_BYTES, LmdbTables, TableSizes, create_tables
from loligo_mds.store.mapped_memory import drop_mapped_pages, mapped_file_bytes
from loligo_runtime.failpoint import declare, failpoint

log = logging.getLogger(__name__)

#: A checkpoint is due behind so much journal, or so many changed keys: fewer when the disk is nearly full, so that
#: the commit finds room in what is left.
CHECKPOINT_BYTES = 8 << 20
CHECKPOINT_KEYS = 24_000
#: What a changed key may cost in pages: its leaf, and its share of the branches above.
PAGE_BYTES_A_KEY = 8192
#: Left to steps that free space, besides the record that every step may write.
LAST_RESERVE_BYTES = 1 << 20
#: Below this clients stop promising: each has some MiB of promises under way at most.
LOW_ROOM_BYTES = 128 << 20
#: While commits fail, the journal may grow up to this.
JOURNAL_LIMIT_BYTES = 64 << 20

#: Pages of files that may stay resident in this process.
MAPPED_LIMIT_BYTES = 24 << 20

_LOCK_POLL_S = 0.05
_NOTE_BYTES = 128
_BOOT_ID = "/proc/sys/kernel/random/boot_id"

declare("store.create.journal", "store.create.tables", "store.create.renamed")


class ShardStore:
    """Implements `core.tables.Tables`; see the module for the order of calls."""

    __slots__ = (
        "_checkpoint_bytes",
        "_checkpoint_keys",
        "_checkpointed",
        "_disk_free_bytes",
        "_folder",
        "_free_until",
        "_journal",
        "_keys",
        "_lock_fd",
        "_tables",
        "_trouble",
        "after_power_loss",
        "append_ns",
        "appended",
        "delete",
        "get",
        "put",
        "scan",
        "sync",
    )

    @classmethod
    def create(cls, folder: str, volume_uuid: bytes) -> None:
        """Make an empty shard in `folder`, which is made if need be. Complete or not there, also after a crash.

        VolumeExists, VolumeBusy, StoreFull.
        """
        if len(volume_uuid) != 16:
            raise ValueError(f"a volume uuid has 16 bytes, not {len(volume_uuid)}")
        os.makedirs(folder, exist_ok=True)
        lock_fd, _ = _lock(folder, 0.0)
        try:
            _check_creatable(folder)
            new = f"{folder}/tables.new"
            with contextlib.suppress(FileNotFoundError):
                os.unlink(new)
            create_journal(f"{folder}/journal", volume_uuid)
            failpoint("store.create.journal")
            create_tables(new, volume_uuid)
            failpoint("store.create.tables")
            os.rename(new, f"{folder}/tables.mdb")
            failpoint("store.create.renamed")
            fsync_folder(folder)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise StoreFull(f"{folder}: no space for a new volume: give it 32 MiB") from error
            raise
        finally:
            os.close(lock_fd)

    @classmethod
    def open(cls, folder: str, wait_s: float = 0.0) -> Self:
        """Open the shard, and replay what a crash left in the journal. Waits `wait_s` for another process to end.

        Any StoreError but StoreFull and StoreFailed; it has changed nothing then.
        """
        if not os.path.exists(f"{folder}/tables.mdb"):
            if os.path.exists(f"{folder}/journal"):
                raise TablesMissing(
                    f"{folder} has a journal but no tables.mdb: if its creation was interrupted, create the "
                    "volume again; else restore the folder from a backup"
                )
            raise NoVolume(f"{folder} holds no volume: create one, or correct the path")
        lock_fd, after_power_loss = _lock(folder, wait_s)
        try:
            return cls(folder, lock_fd, after_power_loss)
        except lmdb.Error as error:
            os.close(lock_fd)
            raise NotOurs(
                f"{folder}/tables.mdb is damaged ({error}): restore the volume's folder from a backup"
            ) from error
        except BaseException:
            os.close(lock_fd)
            raise

    def __init__(self, folder: str, lock_fd: int, after_power_loss: bool) -> None:
        """Use `open`."""
        self._folder = folder
        #: The machine stopped while the volume was open: records that nobody had synced may be gone.
        self.after_power_loss = after_power_loss
        self._lock_fd = lock_fd
        self._tables = tables = LmdbTables(f"{folder}/tables.mdb")
        try:
            self._checkpointed = committed = tables.committed_position()
            journal_folder = f"{folder}/journal"
            tail = verify_journal(journal_folder, tables.volume_uuid, committed)
            replayed = [record for record in tail.records if record.position > committed]
            for record in replayed:
                tables.apply(record.decode())
            # Nothing was written up to here, and nothing of what follows can find the volume unsound.
            self._journal = Journal(journal_folder, tables.volume_uuid, tail)
        except BaseException:
            tables.close()
            raise
        if replayed:
            log.info("%s: replayed %d records behind %d", folder, len(replayed), committed)
        self._keys = sum(record.count for record in replayed)
        self._trouble = ""
        #: Records of this process, and the time that writing them took.
        self.appended = 0
        self.append_ns = 0
        # Bound here, so that a call costs no step in between.
        self.get: Callable[[int, bytes], bytes | None] = tables.get
        self.put: Callable[[int, bytes, bytes], None] = tables.put
        self.delete: Callable[[int, bytes], None] = tables.delete
        self.scan: Callable[[int, bytes], Iterator[tuple[bytes, bytes]]] = tables.scan
        self.sync: Callable[[int], None] = self._journal.sync
        self._plan_checkpoint()
        self._look_for_room()

    @property
    def volume_uuid(self) -> bytes:
        return self._tables.volume_uuid

    @property
    def position(self) -> int:
        """Of the last record."""
        return self._journal.position

    @property
    def synced_position(self) -> int:
        """Everything up to this record survives a power loss."""
        return self._journal.synced

    def power_loss_is_over(self) -> None:
        """What a loss of power may have left in other places is dealt with. Until then every `open` tells of it."""
        self.after_power_loss = False
        _write_note(self._lock_fd, {"pid": os.getpid(), "boot": _boot_id()})

    @property
    def journal_bytes(self) -> int:
        """Since the last checkpoint."""
        return self._journal.used_bytes

    @property
    def room_is_low(self) -> bool:
        """Steps may soon be refused. Any thread may ask."""
        return self._look_at_disk() < LOW_ROOM_BYTES

    @property
    def rows_have_little_room(self) -> bool:
        """Rows that go would make room: what the file of tables has free does not make up for a disk that is nearly full."""
        free_bytes = self._look_at_disk()
        if free_bytes >= LOW_ROOM_BYTES:
            return False
        _, file_bytes, used_bytes = self._tables.sizes()
        return free_bytes + file_bytes - used_bytes < LOW_ROOM_BYTES

    def table_sizes(self) -> TableSizes:
        return self._tables.sizes()

    # A step.

    def reserve(self, reclaiming: bool = False) -> None:
        """Make sure that the coming step can be journaled. `reclaiming`: the step frees space.

        StoreFull: nothing has changed, answer ENOSPC. StoreFailed.
        """
        if self._journal.offset > self._free_until:
            self._make_room(reclaiming)

    def append(self, writes: Sequence[Write]) -> int:
        """Journal a step, whose `writes` are in the tables already. Its position, for `sync`. StoreFailed.

        No writes, no record: the position is that of the last one.
        """
        if not writes:
            return self._journal.position
        self._keys += len(writes)
        began_ns = perf_counter_ns()
        position = self._journal.append(writes)
        self.append_ns += perf_counter_ns() - began_ns
        self.appended += 1
        return position

    # Checkpoints.

    @property
    def needs_checkpoint(self) -> bool:
        return self._keys > self._checkpoint_keys or self._journal.offset > self._checkpoint_bytes

    def checkpoint(self) -> bool:
        """Commit the tables and begin a fresh journal. False: it failed, nothing is lost, a later call tries again."""
        journal = self._journal
        position = journal.position
        if position == self._checkpointed:
            return True
        try:
            if not journal.prepare():
                self._postpone("no space for the next journal segment")
                return False
        except OSError as error:
            self._postpone(f"the next journal segment: {error}")
            return False
        try:
            self._tables.commit(position)
        except (lmdb.Error, OSError) as error:
            if not self._rebuild(position):
                journal.unprepare()
                # LMDB calls a write cut short by a full disk an I/O error.
                free_mib = self._look_at_disk() >> 20
                self._postpone(f"the tables: {error}; {free_mib} MiB are free on the disk")
                return False
        self._checkpointed = position
        self._keys = 0
        self._trouble = ""
        journal.switch()
        self._plan_checkpoint()
        self._look_for_room()
        return True

    def _plan_checkpoint(self) -> None:
        """When the next one is due."""
        self._free_until = -1
        self._disk_free_bytes = self._look_at_disk()
        room_keys = (self._disk_free_bytes + ROOM_BYTES) // PAGE_BYTES_A_KEY
        self._checkpoint_keys = min(CHECKPOINT_KEYS, room_keys)
        self._checkpoint_bytes = CHECKPOINT_BYTES

    def _postpone(self, why: str) -> None:
        """Go on with the journal that is there; try again after some more of it, or when the disk has more space."""
        if why != self._trouble:
            log.warning("%s: checkpoint postponed: %s", self._folder, why)
        self._trouble = why
        self._free_until = -1
        self._disk_free_bytes = self._look_at_disk()
        self._checkpoint_keys = self._keys + CHECKPOINT_KEYS // 8
        self._checkpoint_bytes = self._journal.offset + CHECKPOINT_BYTES // 32

    def _look_at_disk(self) -> int:
        status = os.statvfs(self._folder)
        return status.f_bavail * status.f_frsize

    def _rebuild(self, position: int) -> bool:
        """A failed commit has dropped the transaction: bring the tables back to the last record.

        True if the commit up to `position` had reached the file and failed behind that. StoreFailed.
        """
        try:
            self._tables.reopen()
            committed = self._tables.committed_position()
            if committed == position:
                self._tables.flush()
                return True
            for record in self._journal.read().records:
                if record.position > committed:
                    self._tables.apply(record.decode())
        except (lmdb.Error, OSError, StoreError) as error:
            raise StoreFailed(
                f"{self._folder}: the tables cannot be rebuilt after a failed checkpoint ({error}): end this "
                "process, look after the disk, and open the volume again; the journal has everything"
            ) from error
        return False

    def close(self) -> None:
        """A last checkpoint, and the lock is released. If that fails the journal has it all, as after a crash."""
        try:
            if self.checkpoint() and not self.after_power_loss:
                _write_note(self._lock_fd, {})
        finally:
            self._journal.close()
            self._tables.close()
            os.close(self._lock_fd)

    def trim_memory(self) -> None:
        """Once the tables' pages take up much of this process's memory, give them back.

        Under the lock, as all else here: a checkpoint may put the map in another place.
        """
        if mapped_file_bytes() > MAPPED_LIMIT_BYTES:
            drop_mapped_pages(f"{self._folder}/tables.mdb")

    # Space.

    def _look_for_room(self) -> bool:
        """Allocate ahead what the coming steps and their checkpoint need; whether all of it is there."""
        journal = self._journal
        wanted = MAX_RECORD_BYTES + LAST_RESERVE_BYTES
        if journal.offset > JOURNAL_LIMIT_BYTES:
            return False
        # The journal first: without a spare there is no checkpoint, and without that no page comes back.
        if not journal.ensure_spare():
            return False
        if journal.free_bytes < wanted and not journal.extend():
            return False
        if not self._tables.ensure_room():
            return False
        # A commit has failed: it needs more than the room that is kept for one.
        if self._trouble and self._look_at_disk() < self._keys * PAGE_BYTES_A_KEY:
            return False
        self._free_until = journal.allocated - wanted
        return True

    def _make_room(self, reclaiming: bool) -> None:
        journal = self._journal
        journal.raise_if_failed()
        if self._look_for_room():
            return
        # A checkpoint gives back the journal's space, and the pages of what was deleted.
        if self._trouble:
            due = self._look_at_disk() > self._disk_free_bytes
        else:
            scarce = journal.free_bytes < MAX_RECORD_BYTES + LAST_RESERVE_BYTES // 2
            due = not reclaiming or scarce
        if (
            (due or self.needs_checkpoint)
            and journal.position != self._checkpointed
            and self.checkpoint()
            and journal.offset <= self._free_until
        ):
            return
        if not reclaiming or journal.free_bytes < MAX_RECORD_BYTES:
            raise StoreFull(
                f"{self._folder}: no space left for metadata"
                + (f" ({self._trouble})" if self._trouble else "")
                + ": delete files, or give space to the disk that holds this folder"
            )

    def check(self) -> list[str]:
        """What the store can verify by itself, on the open volume: the findings in words; none is good."""
        findings = self._tables.check()
        try:
            tail = self._journal.read()
        except StoreError as error:
            findings.append(str(error))
        else:
            if tail.end != self._journal.offset or tail.torn_bytes:
                findings.append(f"the journal ends at byte {tail.end}, not at {self._journal.offset}")
        return findings


def _lock(folder: str, wait_s: float) -> tuple[int, bool]:
    """The descriptor that holds the folder's lock, and whether the machine stopped under its last holder. VolumeBusy."""
    path = f"{folder}/lock"
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    deadline = time.monotonic() + wait_s
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            if time.monotonic() >= deadline:
                pid = _holder(fd)
                os.close(fd)
                raise VolumeBusy(folder, pid) from None
            time.sleep(_LOCK_POLL_S)
    boot = _boot_id()
    before = _note(fd)
    after_power_loss = before is None or before.get("boot", boot) != boot
    _write_note(fd, {"pid": os.getpid(), "boot": "" if after_power_loss else boot})
    return fd, after_power_loss


def _boot_id() -> str:
    with open(_BOOT_ID, encoding="ascii") as file:
        return file.read().strip()


def _note(fd: int) -> dict[str, Any] | None:
    """What the last holder of the lock noted; None if that cannot be read."""
    try:
        note = json.loads(os.pread(fd, _NOTE_BYTES, 0))
    except ValueError:
        return None
    return note if isinstance(note, dict) else None


def _write_note(fd: int, note: dict[str, Any]) -> None:
    # Always of one length: a full disk has room for it.
    os.pwrite(fd, json.dumps(note).encode().ljust(_NOTE_BYTES), 0)
    os.fdatasync(fd)


def _holder(fd: int) -> int | None:
    pid = (_note(fd) or {}).get("pid")  # nothing, while it is being written
    return pid if isinstance(pid, int) else None


def _check_creatable(folder: str) -> None:
    """VolumeExists, but for what an interrupted creation left."""
    if os.path.exists(f"{folder}/tables.mdb"):
        raise VolumeExists(f"{folder} holds a volume already: choose another folder")
    names = set(os.listdir(folder)) - {"lock", "journal", "tables.new"}
    if names:
        raise VolumeExists(f"{folder} is not empty ({min(names)}): choose another folder")
    journal = f"{folder}/journal"
    if os.path.isdir(journal):
        first = os.path.basename(segment_path(journal, 1))
        segments = {name for name in os.listdir(journal) if name.endswith(".segment")}
        if segments - {first} or (segments and _has_records(f"{journal}/{first}")):
            raise VolumeExists(f"{folder} holds the journal of a volume: restore its tables.mdb")


def _has_records(path: str) -> bool:
    with open(path, "rb") as file:
        file.seek(FIRST_RECORD)
        return bool(file.read().strip(b"\0"))
