"""The path of file data: buffered writes, reads, truncation, holes, and the order that keeps a crash harmless.

Order of things, for every file:
1. Written bytes wait in the file's `WriteBuffer`. They leave it when a block is full, when the file is closed or synced,
   after `FLUSH_AFTER_NS`, or when buffers outgrow `dirty_limit_bytes`; beyond that limit writers wait.
2. A small file (up to `inline_limit_bytes`, never in objects) is published whole, inside its inode.
3. Otherwise: `Unsettle` is in the journal before an object may reach beyond the stored size; then objects are written; then
   `Publish` tells the metadata the size. So the metadata never promises bytes that are not in the store.
4. Objects and size agree *durably* once the store has synced: `settle` does that for many files at once, and takes their
   rows in UNSETTLED away. What a crash leaves behind is the keeper's (`loligo_mds.shell.keeper`).
5. A shrinking file, a punched hole: first the metadata says so, durably, then the objects follow, and nothing else of
   that file is flushed meanwhile (`exclusive`). Otherwise a loss of power might bring back the size and not the bytes.

6. Blocks of a file are stored in *rounds*: a round begins with the first block in flight and ends when none is left. Its end
   publishes, and tells those who wait. Bytes that could not be stored stay buffered and are tried again; whoever writes,
   flushes or syncs next is told, once. A write that is refused has taken nothing. Only `drain`, at the end, gives such
   bytes up; the file is then again as the metadata has it.

Threads: all state is guarded by the lock of the metadata, which every public method takes. Futures of the store complete on
its threads and take the lock too. What must block does so on a pool of our own, without the lock.

Bytes that are missing from a file without holes are an EIO and a log line that names the object, never zeros.
"""

import logging
import os
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from errno import EFBIG, EINVAL, EIO, ENOSPC, ENXIO, EOPNOTSUPP
from functools import partial
from typing import Any, Protocol

from loligo_client.shell.file_data import FileData, Waiter
from loligo_client.shell.pending import followed, gather, when_all
from loligo_mds.core.limits import FILE_MAX_BYTES
from loligo_mds.core.requests import (
    Close,
    GetAttributes,
    Open,
    Publish,
    ReadInline,
    Request,
    SetAttributes,
    Settle,
    Unsettle,
)
from loligo_runtime.failpoint import declare, failpoint
from loligo_runtime.object_store import MISSING, ObjectStore, object_name
from loligo_wire.attributes import FLAG_INLINE, FLAG_SPARSE, Attributes
from loligo_wire.striping import block_count, extents

log = logging.getLogger(__name__)

#: How long written bytes may wait for company.
FLUSH_AFTER_NS = 1_000_000_000
#: ... and how much longer after the store refused them.
RETRY_AFTER_NS = 2_000_000_000
#: An Unsettle covers this many blocks more than it must, so that a growing file needs few of them.
UNSETTLE_AHEAD_BLOCKS = 16
SETTLE_BATCH = 1000
#: More unsynced blocks than these are not remembered one by one: the whole store is synced for them.
UNSYNCED_MAX_BLOCKS = 1000
ALL_BLOCKS = -1
#: Removals of objects under way at once.
REMOVALS_IN_FLIGHT = 32

FALLOC_KEEP_SIZE = 0x01
FALLOC_PUNCH_HOLE = 0x02
FALLOC_ZERO_RANGE = 0x10

Data = bytes | bytearray | memoryview

declare(
    "data.unsettle.before",
    "data.unsettle.after",
    "data.block.before",
    "data.block.after",
    "data.publish.before",
    "data.publish.after",
    "data.fsync.before",
    "data.fsync.stored",
    "data.fsync.after",
    "data.resize.before",
    "data.resize.told",
    "data.resize.trimmed",
    "data.clear.told",
    "data.clear.after",
    "data.settle.before",
    "data.settle.synced",
    "data.settle.after",
)


class Metadata(Protocol):
    """What the data path needs of the metadata. `call` raises OSError for a refusal."""

    lock: Any

    def call(self, request: Request) -> Any: ...

    def sync(self) -> None: ...


class DataPath:
    def __init__(
        self,
        metadata: Metadata,
        store: ObjectStore,
        *,
        inline_limit_bytes: int,
        dirty_limit_bytes: int,
        on_lost: Callable[[int], None] = lambda ino: None,
    ) -> None:
        """`on_lost(ino)`: written bytes of this file could not be stored and were dropped; caches must forget it."""
        self._metadata = metadata
        self._call = metadata.call
        self._lock = metadata.lock
        self._store = store
        self._inline_limit_bytes = inline_limit_bytes
        self._dirty_limit_bytes = dirty_limit_bytes
        self._on_lost = on_lost
        self._files: dict[int, FileData] = {}
        self._dirty_bytes = 0
        #: Writers that wait for room: (their file, what completes them, what they get).
        self._blocked: deque[tuple[FileData, Future[int], int]] = deque()
        #: (total, free) bytes of the store, as of the last tick; (0, 0) if it did not say.
        self.space = (0, 0)
        #: `FileData.unsynced` of files that nobody has open any more: an fsync through another descriptor may come.
        self._unsynced: dict[int, set[int]] = {}
        #: ino -> end: bytes beyond the file's size that could not be taken out of its objects, yet. Such a file does not
        #: grow, or they would come to light, and its row in UNSETTLED stays.
        self._untrimmed: dict[int, int] = {}
        self._to_settle: dict[int, None] = {}
        self._settling: dict[int, None] = {}
        self._looking = False
        self._look_at_space()
        #: What `_alone` has started.
        self._under_way: set[Future[Any]] = set()
        self._pool = ThreadPoolExecutor(16, thread_name_prefix="data")

    # -- open files ---------------------------------------------------------------------------------------------

    def open(self, ino: int) -> FileData:
        """The file's data, held open until `close`."""
        with self._lock:
            file = self._files.get(ino)
            if file is None or not file.held:
                attributes = self._call(Open(ino))
                if file is None:
                    file = self._files[ino] = FileData(attributes)
                    file.unsynced.update(self._unsynced.pop(ino, ()))
                file.held = True
            file.opens += 1
            return file

    def opened(self, attributes: Attributes) -> FileData:
        """As `open`, for a file that was created held."""
        with self._lock:
            file = self._files[attributes.ino] = FileData(attributes)
            file.held = True
            file.opens = 1
            return file

    def close(self, file: FileData) -> None:
        """Ends one `open`. What is buffered goes to the store by itself."""
        with self._lock:
            file.opens -= 1
            if file.opens == 0:
                if file.unlinked:
                    self._forget_bytes(file)
                elif not file.clean:
                    self._start_flush(file)
                self._finish(file)

    def _let_go(self, file: FileData) -> None:
        """Drop the file once nobody has it open and nothing of it is under way."""
        if file.opens or file.busy or self._files.get(file.ino) is not file:
            return
        del self._files[file.ino]
        unsynced = file.unsynced.union(*file.syncing)  # who syncs them now may fail, or go away
        if unsynced:
            self._unsynced[file.ino] = unsynced | self._unsynced.get(file.ino, set())
        if file.held:
            self._call(Close(file.ino))

    def find(self, ino: int) -> FileData | None:
        return self._files.get(ino)

    def attributes(self, stored: Attributes) -> Attributes:
        """`stored` as applications should see it: with what is not published yet."""
        file = self._files.get(stored.ino)
        if file is None or not file.changed:
            return stored
        seen = stored.copy()
        seen.size = file.size
        if file.mtime_ns is not None:
            seen.mtime_ns = file.mtime_ns
            seen.ctime_ns = max(file.mtime_ns, seen.ctime_ns)
        return seen

    def mtime_was_set(self, ino: int) -> None:
        """mtime was set on purpose: writes from before do not move it any more."""
        file = self._files.get(ino)
        if file is not None:
            file.mtime_ns = None

    def unlinked(self, ino: int) -> None:
        """The file has lost its last name."""
        with self._lock:
            file = self._files.get(ino)
            if file is not None:
                file.unlinked = True
                if file.opens == 0:
                    self._forget_bytes(file)
                    self._finish(file)

    # -- reading ------------------------------------------------------------------------------------------------

    def read(self, file: FileData, offset: int, length: int) -> list[Data] | Future[Any]:
        """The bytes from `offset`, fewer at the end of the file, as pieces to be joined."""
        with self._lock:
            length = min(length, file.size - offset)
            if length <= 0:
                return []
            if not file.in_objects:
                if file.loaded:
                    return [file.buffer.content(offset, length)]
                return [memoryview(self._call(ReadInline(file.ino)))[offset : offset + length]]
            if file.buffer:
                buffered = file.buffer.read(offset, length)
                if buffered:
                    return self._read_around(file, offset, length, buffered)
            pieces: list[Data] = []
            read_now = self._store.read_now
            for index, start, piece in extents(offset, length, file.block_bytes):
                data = read_now(file.ino, index, start, piece)
                if data is None:
                    return self._read_later(file, offset, length)
                if data is MISSING or len(data) < piece:
                    data = self._fill(file, index, start, piece, data)
                pieces.append(data)
            return pieces

    def _read_later(self, file: FileData, offset: int, length: int) -> Future[Any]:
        wanted = list(extents(offset, length, file.block_bytes))
        futures = [self._store.read(file.ino, *extent) for extent in wanted]

        def join(results: list[Any]) -> list[Data]:
            with self._lock:
                return [
                    data
                    if data is not MISSING and len(data) == length
                    else self._fill(file, index, start, length, data)
                    for (index, start, length), data in zip(wanted, results, strict=True)
                ]

        return gather(futures, join)

    def _read_around(
        self, file: FileData, offset: int, length: int, buffered: list[tuple[int, bytes]]
    ) -> list[Data] | Future[Any]:
        """What is buffered wins; only the gaps between are asked of the store."""
        gaps = _gaps(offset, length, buffered)
        wanted = [extent for low, high in gaps for extent in extents(low, high - low, file.block_bytes)]

        def join(results: list[Any]) -> list[Data]:
            whole = bytearray(length)
            with self._lock:
                for (index, start, piece), data in zip(wanted, results, strict=True):
                    if data is MISSING or len(data) < piece:
                        data = self._fill(file, index, start, piece, data)
                    at = index * file.block_bytes + start - offset
                    whole[at : at + piece] = data
            for low, data in buffered:
                whole[low - offset : low - offset + len(data)] = data
            return [whole]

        if not wanted:
            return join([])
        return gather([self._store.read(file.ino, *extent) for extent in wanted], join)

    def _fill(self, file: FileData, index: int, start: int, length: int, data: Any) -> bytes:
        """What stands for a range of which the store has only `data`: zeros where the file may have holes.

        The file may have shrunk or been punched since the question was asked, so it is judged as it is now.
        """
        have = b"" if data is MISSING else bytes(data)
        begin = index * file.block_bytes + start + len(have)
        missing = length - len(have)
        if not file.sparse and begin < file.size:
            log.error(
                "inode %d is damaged: object %s lacks bytes %d to %d, and the file has no holes",
                file.ino,
                object_name(file.ino, index),
                start + len(have),
                start + length,
            )
            raise OSError(EIO, "an object is missing or short")
        return have + bytes(missing)

    # -- writing ------------------------------------------------------------------------------------------------

    def write(self, file: FileData, offset: int, data: memoryview, now_ns: int) -> int | Future[int]:
        """Take `data` in; a future if there is too much under way already."""
        length = len(data)
        if offset + length > FILE_MAX_BYTES:
            raise OSError(EFBIG, "a file can have 16 TiB")
        if not length:
            return 0
        with self._lock:
            if file.error:
                raise self._reported(file)
            if file.failing and self._dirty_bytes > self._dirty_limit_bytes:
                raise OSError(file.failing, "bytes written before could not be stored yet")
            if not file.in_objects and not file.loaded:
                self._load(file)
            if self._untrimmed and offset + length > file.size and file.ino in self._untrimmed:
                raise OSError(EIO, "what was cut off this file before is not gone yet")
            if offset > file.size:
                file.sparse = True
            if not file.changed:
                file.changed = True
                file.unpublished_since_ns = now_ns
            file.mtime_ns = now_ns
            buffer = file.buffer
            before = buffer.cost_bytes
            last = buffer.write(offset, data)
            self._dirty_bytes += buffer.cost_bytes - before
            file.size = max(file.size, offset + length)
            if file.in_objects or file.size > self._inline_limit_bytes:
                first = offset // file.block_bytes
                if (offset + length) % file.block_bytes == 0 or first != last:
                    for index in range(first, last + 1):
                        if buffer.is_complete(index) and not file.exclusive:
                            self._enter_objects(file)
                            self._write_block(file, index)
            if self._dirty_bytes <= self._dirty_limit_bytes:
                return length
            return self._wait_for_room(file, length)

    def _load(self, file: FileData) -> None:
        """Inline content enters the buffer as if it had just been written."""
        before = file.buffer.cost_bytes
        file.buffer.write(0, self._call(ReadInline(file.ino)))
        self._dirty_bytes += file.buffer.cost_bytes - before
        file.loaded = True

    def _enter_objects(self, file: FileData) -> None:
        """From now on the content beneath the buffer is in objects. Until now the buffer had all of it."""
        if not file.in_objects:
            file.in_objects = True
            if sum(len(data) for _, data in file.buffer.read(0, file.size)) < file.size:
                file.sparse = True

    def _wait_for_room(self, file: FileData, length: int) -> int | Future[int]:
        for other in list(self._files.values()):
            if other.buffer.has_dirty:
                self._start_flush(other)
        if self._may_go_on(file):
            return length
        waiting: Future[int] = Future()
        self._blocked.append((file, waiting, length))
        return waiting

    def _may_go_on(self, file: FileData) -> bool:
        """A writer waits for others to make room only while bytes of its own file are under way."""
        return self._dirty_bytes <= self._dirty_limit_bytes or not file.buffer or file.failing != 0

    def _reported(self, file: FileData) -> OSError:
        error = OSError(file.error, "written bytes could not be stored")
        file.error = 0
        return error

    # -- to the store -------------------------------------------------------------------------------------------

    def _start_flush(self, file: FileData) -> None:
        """Send everything that is dirty on its way, and publish if nothing is in flight."""
        if file.exclusive and not file.draining:
            return  # its end starts a flush
        if not file.in_objects:
            if file.size <= self._inline_limit_bytes and not file.buffer.in_flight:
                self._publish_inline(file)
                return
            self._enter_objects(file)
        if not file.buffer.in_flight:
            file.round_failed = False
        self._send_ready(file)
        self._arrived(file)

    def _send_ready(self, file: FileData) -> None:
        for index in file.buffer.ready_blocks():
            # A block that lands while it is being sent has already sent those after it.
            if file.buffer.is_ready(index):
                self._write_block(file, index)
            if file.round_failed:
                return

    def _write_block(self, file: FileData, index: int) -> None:
        """Send a block on its way. It may have arrived, or failed, when this returns."""
        buffer = file.buffer
        if not buffer.in_flight:
            file.round_failed = False
        taken = buffer.take(index)
        start, data = taken[-1]
        end = index * file.block_bytes + start + len(data)
        stored_end = 0 if file.stored_inline else file.stored_size
        if end > stored_end and end > file.unsettled_end:
            ahead = (index + UNSETTLE_AHEAD_BLOCKS) * file.block_bytes
            failpoint("data.unsettle.before")
            try:
                self._call(Unsettle(file.ino, ahead if index else end))
            except OSError as error:
                self._block_failed(file, index, error)
                return
            file.unsettled_end = ahead if index else end
            failpoint("data.unsettle.after")
        self._objects_change(file.ino)
        failpoint("data.block.before")
        pending = [self._store.write(file.ino, index, start, data) for start, data in taken]
        if file.stored_inline and index == 0:
            # These bytes may have been promised, and the publish to come takes them out of the inode.
            pending = [followed(pending, lambda: self._store.sync([(file.ino, 0)]))]
        if all(future.done() for future in pending):
            self._block_done(file, index, pending)
        else:
            when_all(pending, partial(self._block_landed, file, index))

    def _objects_change(self, ino: int) -> None:
        """The next `settle` may, the one under way must not say that they agree with the inode."""
        if ino in self._settling:
            del self._settling[ino]
            self._to_settle[ino] = None

    def _block_landed(self, file: FileData, index: int, futures: list[Future[None]]) -> None:
        with self._lock:
            self._block_done(file, index, futures)
            if file.waiters and not file.round_failed and (file.draining or not file.exclusive):
                self._send_ready(file)
            self._arrived(file)
            self._admit_blocked()

    def _block_done(self, file: FileData, index: int, futures: list[Future[None]]) -> None:
        file.unsynced.add(index)  # by a write that failed half-way, too
        error = next((future.exception() for future in futures if future.exception()), None)
        if error is not None:
            self._block_failed(file, index, error)
            return
        failpoint("data.block.after")
        before = file.buffer.cost_bytes
        file.buffer.wrote(index)
        for waiter in file.waiters:
            if index in waiter.landings:
                waiter.landings[index] -= 1
                if not waiter.landings[index]:
                    del waiter.landings[index]
        self._dirty_bytes += file.buffer.cost_bytes - before

    def _block_failed(self, file: FileData, index: int, error: BaseException) -> None:
        """The bytes stay buffered, to be tried again."""
        self._failed(file, error)
        before = file.buffer.cost_bytes
        file.buffer.failed(index)
        self._dirty_bytes += file.buffer.cost_bytes - before

    def _failed(self, file: FileData, error: BaseException) -> None:
        """The round under way has failed. What is buffered stays so and is tried again, for as long as it takes."""
        if not file.failing:
            log.warning("inode %d: written bytes are not stored yet, and will be tried again: %s", file.ino, error)
        file.round_failed = True
        file.error = file.failing = error.errno if isinstance(error, OSError) and error.errno else EIO

    def _lose(self, file: FileData) -> None:
        """The end has come, and its bytes cannot be stored: the file is again as the metadata has it."""
        log.error("inode %d: written bytes are lost: %s", file.ino, os.strerror(file.failing))
        file.error = file.failing = 0
        # Some of the lost bytes may be in objects: they must not come to light when the file grows.
        self._untrimmed[file.ino] = max(file.stored_size, file.unsettled_end, self._untrimmed.get(file.ino, 0))
        self._forget_bytes(file)
        self._alone(file, partial(self._trim_again, file))
        self._on_lost(file.ino)

    def _forget_bytes(self, file: FileData) -> None:
        before = file.buffer.cost_bytes
        file.buffer.truncate(0)
        self._dirty_bytes += file.buffer.cost_bytes - before
        file.changed = False
        file.size = file.stored_size
        file.in_objects = file.stored_size > 0 and not file.stored_inline
        file.loaded = file.stored_size == 0
        file.mtime_ns = None
        self._admit_blocked()

    def _fail_waiters(self, file: FileData) -> None:
        """Who waits for all of it is told; writers go on: what they wrote is buffered, and the next call hears of it."""
        waiters, file.waiters = file.waiters, []
        if waiters:
            error = self._reported(file)
            for waiter in waiters:
                waiter.done.set_exception(error)
        self._admit_blocked()

    def _admit_blocked(self) -> None:
        if not self._blocked:
            return
        entries, self._blocked = self._blocked, deque()
        for entry in entries:
            file, waiting, length = entry
            if self._may_go_on(file):
                waiting.set_result(length)
            else:
                self._blocked.append(entry)

    def _arrived(self, file: FileData) -> None:
        """If the round has ended, or what somebody waits for is there: publish it, and tell them."""
        in_flight = file.buffer.in_flight
        if in_flight and all(waiter.landings for waiter in file.waiters):
            return
        unstored = file.buffer.first_unstored
        if file.changed and file.in_objects:
            size = file.size if unstored is None else max(file.stored_size, min(file.size, unstored))
            try:
                # What is inline goes with the first publish, so objects must have all of it.
                if unstored is None or not file.stored_inline or unstored >= file.stored_size:
                    self._publish(file, size, None)
            except OSError as error:
                self._failed(file, error)
        if file.round_failed:
            if not in_flight:
                self._fail_waiters(file)
            return
        self._tell_waiters(file)
        if in_flight:
            return
        file.failing = 0
        if unstored is None:
            file.changed = False
            self._finish(file)
        elif file.waiters or self._blocked:
            self._start_flush(file)

    def _tell_waiters(self, file: FileData) -> None:
        still_inline = file.in_objects and file.stored_inline
        waiters, file.waiters = file.waiters, []
        for waiter in waiters:
            stored = not waiter.landings and not still_inline and file.stored_size >= min(waiter.size, file.size)
            if file.clean or stored:
                waiter.done.set_result(None)
            else:
                file.waiters.append(waiter)

    def _publish_inline(self, file: FileData) -> None:
        file.round_failed = False
        if file.changed:
            if not file.loaded:
                self._load(file)
            content = bytes(file.buffer.content(0, file.size))
            try:
                self._publish(file, file.size, content or None)
            except OSError as error:
                self._failed(file, error)
                self._fail_waiters(file)
                return
            file.failing = 0
            before = file.buffer.cost_bytes
            file.buffer.truncate(0)
            self._dirty_bytes += file.buffer.cost_bytes - before
            file.loaded = file.size == 0
            file.changed = False
        self._finish(file)

    def _publish(self, file: FileData, size: int, inline: bytes | None) -> None:
        failpoint("data.publish.before")
        self._call(Publish(file.ino, size, file.mtime_ns, inline, file.sparse and inline is None))
        failpoint("data.publish.after")
        file.stored_size = size
        file.stored_inline = inline is not None
        if file.unsettled_end:
            self._to_settle[file.ino] = None

    def _finish(self, file: FileData) -> None:
        if file.clean:
            file.error = file.failing = 0  # what could not be stored at first is there now
            self._tell_waiters(file)
            self._admit_blocked()
            self._let_go(file)

    # -- flush and sync -----------------------------------------------------------------------------------------

    def flush(self, file: FileData) -> Future[None] | None:
        """A descriptor of the file is closed: send what is dirty on its way. OSError if something could not be stored.

        Waits for the store only while space is low, when it may well refuse.
        """
        with self._lock:
            if not file.error and not file.clean:
                self._start_flush(file)
            if file.error:
                raise self._reported(file)
            return self._when_stored(file) if self._space_is_low and not file.clean else None

    def _when_stored(self, file: FileData) -> Future[None]:
        """Done when everything written so far is in the store and published; others may go on writing meanwhile."""
        waiter = Waiter(file)
        if file.clean:
            waiter.done.set_result(None)
        else:
            file.waiters.append(waiter)
            self._start_flush(file)
        return waiter.done

    def fsync(self, file: FileData) -> Future[None]:
        """Done when everything written so far, and the metadata, survive a power loss."""
        with self._lock:
            if file.error:
                raise self._reported(file)
            clean = self._when_stored(file)
        return self._after([clean], partial(self._sync_file, file))

    def _sync_file(self, file: FileData) -> None:
        failpoint("data.fsync.before")
        self._sync_blocks(file)
        failpoint("data.fsync.stored")
        self._metadata.sync()
        failpoint("data.fsync.after")

    def _sync_blocks(self, file: FileData) -> None:
        """Returns when every block written so far is durable, those too that another caller is about to sync."""
        with self._lock:
            mine, file.unsynced = file.unsynced, set()
            file.syncing.append(mine)
            indexes = set().union(*file.syncing)
        done = False
        try:
            if ALL_BLOCKS in indexes:
                self._store.sync_all().result()
            elif indexes:
                self._store.sync((file.ino, index) for index in indexes).result()
            done = True
        finally:
            with self._lock:
                file.syncing.remove(mine)
                if not done:
                    file.unsynced |= mine

    def when_stored(self, file: FileData, then: Callable[[], None]) -> Future[None]:
        """Run `then` on the pool once everything written to the file so far is stored and published."""
        with self._lock:
            clean = self._when_stored(file)
        return self._after([clean], then)

    def _after(self, futures: list[Future[None]], then: Callable[[], None]) -> Future[None]:
        """Run `then` on the pool once all `futures` are done, unless one failed. None of the pool's threads waits for them:
        what completes them may need one.
        """
        ended: Future[None] = Future()

        def submit(_: object) -> None:
            self._pool.submit(run)

        def run() -> None:
            try:
                for future in futures:
                    future.result()
                then()
            except Exception as error:  # noqa: BLE001 - whoever waits for it is told
                ended.set_exception(error)
            else:
                ended.set_result(None)

        if futures:
            when_all(futures, submit)
        else:
            submit(None)
        return ended

    def sync_metadata(self) -> Future[None]:
        """Every change of the namespace so far survives a power loss."""
        return self._pool.submit(self._metadata.sync)

    def sync_all(self) -> Future[None]:
        """As `fsync`, for the whole volume."""

        def sync() -> None:
            self._store.sync_all().result()
            self._metadata.sync()

        with self._lock:
            clean = [self._when_stored(file) for file in list(self._files.values())]
        return self._after(clean, sync)

    # -- size and holes -----------------------------------------------------------------------------------------

    def set_size(self, change: SetAttributes) -> Attributes | Future[Any]:
        """Truncate or extend: the attributes of `change` are set with the size. -> the attributes after it"""
        size = change.size
        if size is None:
            raise ValueError("set_size without a size")
        with self._lock:
            file = self._files.get(change.ino) or FileData(self._call(GetAttributes(change.ino)))
            if size > FILE_MAX_BYTES:
                raise OSError(EFBIG, "a file can have 16 TiB")
            if not file.in_objects and not file.exclusive and file.ino not in self._untrimmed:
                if size < file.size and file.loaded:
                    self._cut(file, size)
                if file.size <= self._inline_limit_bytes:
                    self._publish_inline(file)
                    if file.error:
                        raise self._reported(file)
                if file.clean and (size <= self._inline_limit_bytes or file.size == 0):
                    return self._resized(file, change)
            return self._alone(file, partial(self._set_size_slowly, file, change))

    def _cut(self, file: FileData, size: int) -> None:
        before = file.buffer.cost_bytes
        file.buffer.truncate(size)
        self._dirty_bytes += file.buffer.cost_bytes - before
        file.size = size
        file.changed = True

    def _resized(self, file: FileData, change: SetAttributes) -> Attributes:
        """The metadata takes the new size; the file follows it."""
        attributes: Attributes = self._call(change)
        # Bytes that were written meanwhile, by way of a mapping, say, stay as far as they lie below the new size.
        before = file.buffer.cost_bytes
        file.buffer.truncate(attributes.size)
        self._dirty_bytes += file.buffer.cost_bytes - before
        file.changed = bool(file.buffer)
        file.size = file.stored_size = attributes.size
        file.sparse = bool(attributes.flags & FLAG_SPARSE)
        file.stored_inline = bool(attributes.flags & FLAG_INLINE)
        file.in_objects = attributes.size > 0 and not file.stored_inline
        file.loaded = attributes.size == 0 or (file.loaded and file.changed)
        file.mtime_ns = None
        self._admit_blocked()
        return attributes

    def _set_size_slowly(self, file: FileData, change: SetAttributes) -> Attributes:
        """On the pool, alone with the file: nothing is in flight or dirty."""
        self._trim_again(file)
        with self._lock:
            if not file.in_objects and file.size:  # content that outgrows the inode
                if not file.loaded:
                    self._load(file)
                self._enter_objects(file)
                file.changed = True
        self._drain(file)
        with self._lock:
            old_end = max(file.stored_size, file.unsettled_end)
            failpoint("data.resize.before")
            attributes = self._resized(file, change)
            failpoint("data.resize.told")
            if attributes.size < old_end:
                self._untrimmed[file.ino] = old_end
                self._objects_change(file.ino)
        if attributes.size < old_end:
            self._metadata.sync()
            self._trim(file.ino, attributes.size, old_end, file.block_bytes)
            failpoint("data.resize.trimmed")
        return attributes

    def _trim(self, ino: int, size: int, end: int, block_bytes: int) -> None:
        """Take every byte from `size` on out of the objects of a file that reached up to `end`. Blocks.

        OSError: some may be left; `_trim_again` tries until they are gone.
        """
        with self._lock:
            end = self._untrimmed[ino] = max(end, self._untrimmed.get(ino, 0))
            self._objects_change(ino)
        keep, rest = divmod(size, block_bytes)
        if rest:
            self._store.truncate(ino, keep, rest).result()
            self._note_unsynced(ino, range(keep, keep + 1))
            keep += 1
        last = block_count(end, block_bytes)
        self._remove_blocks(ino, keep, last)
        self._note_unsynced(ino, range(keep, last))
        with self._lock:
            self._untrimmed.pop(ino, None)
            self._to_settle[ino] = None

    def _trim_again(self, file: FileData) -> None:
        """What an earlier trim left. On the pool, alone with the file."""
        with self._lock:
            size = 0 if file.stored_inline else file.stored_size
            end = self._untrimmed.get(file.ino, 0)
        if end:
            self._trim(file.ino, size, end, file.block_bytes)

    def _note_unsynced(self, ino: int, indexes: range) -> None:
        """An fsync must cover what was cut off, too: it would come to light again in a file that has grown since."""
        with self._lock:
            file = self._files.get(ino)
            unsynced = file.unsynced if file is not None else self._unsynced.setdefault(ino, set())
            unsynced.update(indexes if len(indexes) <= UNSYNCED_MAX_BLOCKS else (ALL_BLOCKS,))

    def _remove_blocks(self, ino: int, first: int, last: int) -> None:
        under_way: deque[Future[None]] = deque()
        for index in range(first, last):
            under_way.append(self._store.remove(ino, index))
            if len(under_way) >= REMOVALS_IN_FLIGHT:
                under_way.popleft().result()
        for future in under_way:
            future.result()

    def allocate(self, file: FileData, offset: int, length: int, mode: int, now_ns: int) -> Future[None] | None:
        """fallocate(2): extend, punch a hole, or zero a range. Space is not reserved; a full store is told at once."""
        if mode & ~(FALLOC_KEEP_SIZE | FALLOC_PUNCH_HOLE | FALLOC_ZERO_RANGE):
            raise OSError(EOPNOTSUPP, "fallocate mode")
        punch, zero = bool(mode & FALLOC_PUNCH_HOLE), bool(mode & FALLOC_ZERO_RANGE)
        if offset < 0 or length <= 0 or (punch and (zero or not mode & FALLOC_KEEP_SIZE)):
            raise OSError(EINVAL if not punch else EOPNOTSUPP, "fallocate range or mode")
        end = offset + length
        if end > FILE_MAX_BYTES:
            raise OSError(EFBIG, "a file can have 16 TiB")
        total, free = self.space
        if not punch and total and length > free:
            raise OSError(ENOSPC, "fewer bytes are free")
        grow = not punch and not mode & FALLOC_KEEP_SIZE

        def change() -> None:
            self._trim_again(file)
            if punch or zero:
                self._drain(file)
                self._clear(file, offset, min(end, file.size), now_ns)
            if grow and end > file.size:
                with self._lock:
                    inline = not file.in_objects and end <= self._inline_limit_bytes
                if inline:
                    self._drain(file)
                    with self._lock:
                        self._resized(file, SetAttributes(file.ino, size=end))
                else:
                    self._set_size_slowly(file, SetAttributes(file.ino, size=end))

        with self._lock:
            self._call(SetAttributes(file.ino, mtime_ns=now_ns))  # even if nothing else will change
            file.mtime_ns = None
            if not (punch or zero) and not (grow and end > file.size):
                return None
            return self._alone(file, change)

    def _clear(self, file: FileData, offset: int, end: int, now_ns: int) -> None:
        """Make [offset, end), within the size, read as zeros. On the pool, alone with the file, nothing dirty."""
        if offset >= end:
            return
        with self._lock:
            if not file.in_objects:
                if not file.loaded:
                    self._load(file)
                before = file.buffer.cost_bytes
                file.buffer.write(offset, bytes(end - offset))
                self._dirty_bytes += file.buffer.cost_bytes - before
                file.changed = True
                file.mtime_ns = now_ns
                return
            file.sparse = True
            file.mtime_ns = now_ns
            self._publish(file, file.stored_size, None)
        failpoint("data.clear.told")
        self._metadata.sync()
        for index, start, length in extents(offset, end - offset, file.block_bytes):
            if length == file.block_bytes:
                self._store.remove(file.ino, index).result()
            else:
                self._store.zero(file.ino, index, start, length).result()
        failpoint("data.clear.after")
        self._note_unsynced(file.ino, range(offset // file.block_bytes, block_count(end, file.block_bytes)))

    def seek(self, file: FileData, offset: int, whence: int) -> int | Future[int]:
        """SEEK_DATA and SEEK_HOLE, by whole blocks; a file without holes is all data."""
        data = whence == os.SEEK_DATA
        with self._lock:
            if offset < 0 or offset >= file.size:
                raise OSError(ENXIO, "beyond the end")
            if not file.in_objects or not file.sparse:
                return offset if data else file.size
            return self._alone(file, partial(self._seek_slowly, file, offset, data))

    def _seek_slowly(self, file: FileData, offset: int, data: bool) -> int:
        self._drain(file)
        block = file.block_bytes
        for index, start, length in extents(offset, file.size - offset, block):
            known = self._store.size(file.ino, index).result() or 0
            if data and start < known:
                return index * block + start
            if not data and known < start + length:
                return index * block + max(start, known)
        if data:
            raise OSError(ENXIO, "only a hole is left")
        return file.size

    def _alone(self, file: FileData, work: Callable[[], Any]) -> Future[Any]:
        """Run `work` on the pool while nothing else of this file is flushed. Called with the lock."""
        if not file.held:  # or it might be removed meanwhile
            self._call(Open(file.ino))
            file.held = True
        file.exclusive += 1
        self._files[file.ino] = file
        file.unsynced.update(self._unsynced.pop(file.ino, ()))

        def run() -> Any:
            try:
                with file.turn:
                    return work()
            finally:
                with self._lock:
                    file.exclusive -= 1
                    if not file.exclusive and not file.clean and (file.waiters or not file.failing):
                        self._start_flush(file)
                    else:
                        self._finish(file)

        future = self._pool.submit(run)
        self._under_way.add(future)
        future.add_done_callback(self._under_way.discard)
        return future

    def _drain(self, file: FileData) -> None:
        """Everything buffered reaches the store and the metadata. On the pool, with the file to ourselves."""
        in_flight = 1
        while in_flight:
            with self._lock:
                file.draining = True
                clean = self._when_stored(file)
            try:
                clean.result()
            finally:
                with self._lock:
                    file.draining = False
                    in_flight = file.buffer.in_flight  # of bytes that were written meanwhile

    # -- in the background --------------------------------------------------------------------------------------

    def tick(self, now_ns: int) -> None:
        """Now and then: send on its way what has waited long enough, and try again what could not be done."""
        with self._lock:
            if not self._looking:
                self._looking = True
                self._pool.submit(self._look_at_space)
            for file in list(self._files.values()):
                if file.changed and now_ns - file.unpublished_since_ns >= FLUSH_AFTER_NS:
                    file.unpublished_since_ns = now_ns + (RETRY_AFTER_NS if file.failing else 0)
                    self._start_flush(file)
            for ino in list(self._untrimmed):
                file = self._files.get(ino) or FileData(self._call(GetAttributes(ino)))
                if not file.exclusive:
                    self._alone(file, partial(self._trim_again, file)).add_done_callback(_log_failure)

    def _look_at_space(self) -> None:
        """May take as long as the cluster does to answer."""
        try:
            self.space = self._store.usage()
        except OSError as error:
            log.info("free space is not known: %s", error)
            self.space = (0, 0)
        total, free = self.space
        self._space_is_low = free < max(4 * self._dirty_limit_bytes, total >> 7)
        self._looking = False

    def settle(self) -> None:
        """Make durable what is in objects, and take the files off the list of those to look at after a crash. Blocks.

        What comes while this runs waits for the next time.
        """
        with self._lock:
            due = [ino for ino in self._to_settle if not self._is_writing(ino) and ino not in self._untrimmed]
            unsynced = bool(self._unsynced)
        for first in range(0, max(len(due), int(unsynced)), SETTLE_BATCH):
            self._settle(due[first : first + SETTLE_BATCH])

    def _settle(self, batch: list[int]) -> None:
        with self._lock:
            for ino in batch:
                self._to_settle.pop(ino, None)
            self._settling = dict.fromkeys(batch)
            unsynced = dict(self._unsynced)
        try:
            failpoint("data.settle.before")
            self._store.sync_all().result()
            failpoint("data.settle.synced")
            with self._lock:
                for ino, indexes in unsynced.items():
                    # Whoever opened the file meanwhile has taken them, and may have left others.
                    if self._unsynced.get(ino) is indexes:
                        del self._unsynced[ino]
                settled = list(self._settling)
                if settled:
                    self._call(Settle(settled))
                self._settling = {}
                failpoint("data.settle.after")
                for ino in settled:
                    file = self._files.get(ino)
                    if file is not None:
                        file.unsettled_end = 0
        except BaseException:
            with self._lock:
                self._to_settle.update(self._settling)
                self._settling = {}
            raise

    def _is_writing(self, ino: int) -> bool:
        file = self._files.get(ino)
        return file is not None and file.busy

    def inode_gone(self, ino: int) -> None:
        """The keeper removes its objects: what was to be done about them need not be. Called with the lock."""
        self._settling.pop(ino, None)
        self._to_settle.pop(ino, None)
        self._unsynced.pop(ino, None)
        self._untrimmed.pop(ino, None)

    def drain(self) -> None:
        """The end: everything buffered is stored and published, durably, and the rows in UNSETTLED are gone. Blocks.

        Files that are still open, when a busy mount was torn away, are let go. OSError, at the end, if written bytes
        could not be stored.
        """
        lost: OSError | None = None
        with self._lock:
            waiting = [(file, self._when_stored(file)) for file in list(self._files.values())]
        for file, clean in waiting:
            try:
                clean.result()
            except OSError as error:
                file.error = error.errno or EIO
                lost = error
        with self._lock:
            for file in list(self._files.values()):
                file.opens = 0
                if file.clean:
                    self._let_go(file)
                else:
                    self._lose(file)
            under_way = list(self._under_way)
        wait(under_way)
        self.settle()
        if lost is not None:
            raise OSError(lost.errno, f"written bytes are lost: {lost.strerror}")

    def stop(self) -> None:
        """After `drain`."""
        self._pool.shutdown()


def _gaps(offset: int, length: int, buffered: list[tuple[int, bytes]]) -> list[tuple[int, int]]:
    """What of [offset, offset + length) no buffered piece covers."""
    gaps = []
    at = offset
    for low, data in sorted(buffered, key=lambda piece: piece[0]):
        if low > at:
            gaps.append((at, low))
        at = max(at, low + len(data))
    if at < offset + length:
        gaps.append((at, offset + length))
    return gaps


def _log_failure(future: Future[Any]) -> None:
    error = future.exception()
    if error is not None:
        log.warning("this will be tried again: %s", error)
