"""Written bytes: from the buffer of a file to the store, and to the metadata.

Rules
1. Bytes leave the buffer when a block is full, when the file is closed or synced, when they have waited long enough, or when
   buffers outgrow `dirty_limit_bytes`; beyond that limit writers wait.
2. A small file (up to `inline_limit_bytes`, never in objects) is published whole, inside its inode.
3. Otherwise: `Unsettle` is answered before an object may reach beyond the stored size; then objects are written; then
   `Publish` tells the metadata the size. So the metadata never promises bytes that are not in the store.
4. Blocks are stored in *rounds*: a round begins with the first block in flight and ends when none is left. Its end publishes,
   and tells those who wait. One Publish of a file is under way at a time; what reaches the store meanwhile is in the next.
5. Bytes that could not be stored, or published, stay buffered and are tried again; whoever writes, flushes or syncs next is
   told, once. A write that is refused has taken nothing.
6. What is written to a contended file (see `sharing`) goes to the store at once, and the writer waits for it.
7. A file that somebody has for himself (`FileData.turn`) is not flushed, but by him.

Nothing here blocks. Answers of the store and of the metadata come on their threads, take the lock, and go on from there.
"""

import logging
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from errno import EFBIG, EIO, ENOENT
from functools import partial
from typing import Any, Final

from loligo_client.core.write_buffer import Extent
from loligo_client.shell.file_data import FileData, Waiter
from loligo_client.shell.open_files import OpenFiles
from loligo_client.shell.pending import followed, when_all
from loligo_client.shell.settling import Settling
from loligo_client.shell.tasks import Metadata, Result, Task, Tasks, Waiting
from loligo_mds.core.limits import FILE_MAX_BYTES
from loligo_mds.core.requests import Publish, ReadInline, Unsettle
from loligo_runtime.failpoint import declare, failpoint
from loligo_runtime.object_store import ObjectStore, ShutOutError
from loligo_wire.attributes import Attributes

log = logging.getLogger(__name__)

#: An Unsettle covers this many blocks more than it must, so that a growing file needs few of them.
UNSETTLE_AHEAD_BLOCKS = 16

declare(
    "data.unsettle.before",
    "data.unsettle.after",
    "data.block.before",
    "data.block.after",
    "data.publish.before",
    "data.publish.after",
)


class Writing:
    def __init__(
        self,
        metadata: Metadata,
        tasks: Tasks,
        store: ObjectStore,
        files: OpenFiles,
        settling: Settling,
        *,
        inline_limit_bytes: int,
        dirty_limit_bytes: int,
    ) -> None:
        self._metadata = metadata
        self._ask = metadata.ask
        self._ask_lazily = metadata.ask_lazily
        self._hurry = metadata.hurry
        self._lock = metadata.lock
        self._tasks = tasks
        self._store = store
        self._files = files
        self._settling = settling
        self.inline_limit_bytes = inline_limit_bytes
        self.dirty_limit_bytes: Final = dirty_limit_bytes
        self.dirty_bytes = 0
        #: Writers that wait for room: (their file, what completes them, what they get).
        self._blocked: deque[tuple[FileData, Waiting, int]] = deque()
        #: A task that ends when the file takes bytes (`FileData.takes_bytes`).
        self.made_ready: Callable[[FileData], Task[None]]
        #: The store has refused this client for good. It must only take a note.
        self.on_shut_out: Callable[[], None]
        #: Nothing is taken in, kept or tried any more.
        self.is_shut_out = False

    # -- taking bytes in --------------------------------------------------------------------------------------------

    def write(
        self, file: FileData, offset: int, data: memoryview | bytes, now_ns: int, *, through: bool = False
    ) -> int | Future[int]:
        """Take `data` in; a future if that has to wait. `through`: until it is stored, or could not be."""
        length = len(data)
        if offset + length > FILE_MAX_BYTES:
            raise OSError(EFBIG, "a file can have 16 TiB")
        if not length:
            return 0
        with self._lock:
            if file.error:
                raise self.reported(file)
            if self.is_shut_out:
                raise OSError(EIO, "this client was shut out")
            if file.failing and self.dirty_bytes > self.dirty_limit_bytes:
                raise OSError(file.failing, "bytes written before could not be stored yet")
            if not file.takes_bytes:
                return self._tasks.run(self._write_when_ready(file, offset, bytes(data), now_ns, through))
            untrimmed = self._settling.untrimmed
            if untrimmed and offset + length > file.size and file.ino in untrimmed:
                raise OSError(EIO, "what was cut off this file before is not gone yet")
            if offset > file.size:
                file.sparse = True
            if not file.changed:
                file.changed = True
                file.unpublished_since_ns = now_ns
            file.version += 1
            file.mtime_ns = now_ns
            buffer = file.buffer
            before = buffer.cost_bytes
            last = buffer.write(offset, data)
            self.dirty_bytes += buffer.cost_bytes - before
            file.size = max(file.size, offset + length)
            if file.in_objects or file.size > self.inline_limit_bytes:
                first = offset // file.block_bytes
                if (offset + length) % file.block_bytes == 0 or first != last:
                    self._send_complete(file, first, last)
            if file.contended or through:
                return self._write_through(file, length)
            if self.dirty_bytes <= self.dirty_limit_bytes:
                return length
            return self._wait_for_room(file, length)

    def _write_through(self, file: FileData, length: int) -> Future[int]:
        """Others look for it in the store, or the writer has to hear of errors. The bytes are tried again like any others."""
        taken = Result()
        taken.waits_for = self.when_stored(file)

        def tell(stored: Future[None]) -> None:
            error = stored.exception()
            if error is None:
                taken.set_result(length)
            else:
                taken.set_exception(error)

        taken.waits_for.add_done_callback(tell)
        return taken

    def _write_when_ready(self, file: FileData, offset: int, data: bytes, now_ns: int, through: bool) -> Task[int]:
        file.users += 1
        try:
            while not file.takes_bytes:
                yield from self.made_ready(file)
            taken = self.write(file, offset, data, now_ns, through=through)
            return (yield taken) if isinstance(taken, Future) else taken
        finally:
            file.users -= 1
            self.finish(file)

    def _send_complete(self, file: FileData, first: int, last: int) -> None:
        """Blocks to which nothing is left to be added need not wait for company."""
        for index in range(first, last + 1):
            if file.buffer.is_complete(index) and not file.turn.taken:
                if not file.in_objects:
                    if file.publishing:  # the content, into the inode
                        return
                    self.enter_objects(file)
                self._write_block(file, index)

    def load(self, file: FileData) -> Task[None]:
        """A task: inline content enters the buffer as if it had just been written."""
        epoch = file.epoch
        known = file.known_content()
        if known is not None:
            self.put_beneath(file, known)
            return
        try:
            content = yield ReadInline(file.ino)
        except OSError as error:
            if error.errno != ENOENT or epoch == file.epoch:
                raise
            return
        if epoch == file.epoch and not file.loaded and not file.in_objects:
            self.put_beneath(file, content)

    def put_beneath(self, file: FileData, content: bytes) -> None:
        """The buffer, empty until now, has all of the content."""
        self.put(file, 0, content)
        file.loaded = True

    def put(self, file: FileData, offset: int, data: bytes) -> None:
        before = file.buffer.cost_bytes
        file.buffer.write(offset, data)
        self.dirty_bytes += file.buffer.cost_bytes - before

    def enter_objects(self, file: FileData) -> None:
        """From now on the content beneath the buffer is in objects. Until now the buffer had all of it."""
        if not file.in_objects:
            file.in_objects = True
            if sum(len(data) for _, data in file.buffer.read(0, file.size)) < file.size:
                file.sparse = True

    def cut(self, file: FileData, size: int) -> None:
        """Forget dirty bytes from `size` on."""
        before = file.buffer.cost_bytes
        file.buffer.truncate(size)
        self.dirty_bytes += file.buffer.cost_bytes - before

    # -- room -------------------------------------------------------------------------------------------------------

    def _wait_for_room(self, file: FileData, length: int) -> int | Future[int]:
        for other in list(self._files.by_ino.values()):
            if other.buffer.has_dirty:
                self.start_flush(other)
        if self._may_go_on(file):
            return length
        waiting = Waiting(self._let_in)
        self._blocked.append((file, waiting, length))
        self._hurry()
        return waiting

    def _let_in(self, waiting: Waiting) -> None:
        """What is written is buffered: who does not wait for room has written all the same."""
        entry = next(entry for entry in self._blocked if entry[1] is waiting)
        self._blocked.remove(entry)
        waiting.set_result(entry[2])

    def _may_go_on(self, file: FileData) -> bool:
        """A writer waits for others to make room only while bytes of its own file are under way."""
        return self.dirty_bytes <= self.dirty_limit_bytes or not file.buffer or file.failing != 0

    def admit_blocked(self) -> None:
        if not self._blocked:
            return
        entries, self._blocked = self._blocked, deque()
        admitted = []
        for entry in entries:
            if self._may_go_on(entry[0]):
                admitted.append(entry)
            else:
                self._blocked.append(entry)
        for _, waiting, length in admitted:
            waiting.set_result(length)

    def reported(self, file: FileData) -> OSError:
        # Who waits for the end of a round that others have been told of hears why it failed, too.
        error = OSError(file.error or file.refused or file.failing, "what was written or set could not be stored")
        file.error = file.refused = 0
        return error

    # -- to the store -----------------------------------------------------------------------------------------------

    def start_flush(self, file: FileData) -> None:
        """Send everything that is dirty on its way, and publish if nothing is in flight."""
        if file.turn.taken and not file.draining:
            return  # its end starts a flush
        if not file.in_objects:
            if file.publishing:  # the content, into the inode
                file.arrived = True
                return
            if file.size <= self.inline_limit_bytes and not file.buffer.in_flight:
                self._publish_inline(file)
                return
            self.enter_objects(file)
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
        self._settling.changes(file.ino)
        stored_end = 0 if file.stored_inline else file.stored_size
        if end > stored_end and end > file.unsettled_end:
            self._announce(file, index, taken, end)
        else:
            self._store_block(file, index, taken)

    def _announce(self, file: FileData, index: int, taken: list[Extent], end: int) -> None:
        """The metadata must know that objects may reach up to `end`; then the block goes."""
        announcing = file.announcing
        if announcing is None or file.announced_end < end:
            file.announced_end = (index + UNSETTLE_AHEAD_BLOCKS) * file.block_bytes if index else end
            failpoint("data.unsettle.before")
            try:
                answer = self._say(file, Unsettle(file.ino, file.announced_end))
            except OSError as error:
                self._block_failed(file, index, error)
                return
            if not isinstance(answer, Future):
                file.unsettled_end = file.announced_end
                failpoint("data.unsettle.after")
                self._store_block(file, index, taken)
                return
            announcing = file.announcing = answer
            answer.add_done_callback(partial(self._announced, file, file.announced_end))
        announcing.add_done_callback(partial(self._block_announced, file, index, taken))

    def _announced(self, file: FileData, end: int, answer: Future[None]) -> None:
        with self._lock:
            if file.announcing is answer:
                file.announcing = None
            if answer.exception() is None:
                file.unsettled_end = max(file.unsettled_end, end)

    def _block_announced(self, file: FileData, index: int, taken: list[Extent], answer: Future[None]) -> None:
        with self._lock:
            error = answer.exception()
            if error is None:
                failpoint("data.unsettle.after")
                if not self._store_block(file, index, taken):
                    return
            else:
                self._block_failed(file, index, error)
            self._landed(file)

    def _store_block(self, file: FileData, index: int, taken: list[Extent]) -> bool:
        """Whether that has ended, well or not."""
        failpoint("data.block.before")
        pending = [self._store.write(file.ino, index, start, data) for start, data in taken]
        if file.stored_inline and index == 0:
            # These bytes may have been promised, and the publish to come takes them out of the inode.
            pending = [followed(pending, lambda: self._store.sync([(file.ino, 0)]))]
        if all(future.done() for future in pending):
            self._block_done(file, index, pending)
            return True
        when_all(pending, partial(self._block_landed, file, index))
        return False

    def _block_landed(self, file: FileData, index: int, futures: list[Future[None]]) -> None:
        with self._lock:
            self._block_done(file, index, futures)
            self._landed(file)

    def _landed(self, file: FileData) -> None:
        if file.waiters and not file.round_failed and (file.draining or not file.turn.taken):
            self._send_ready(file)
        self._arrived(file)
        self.admit_blocked()

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
        self.dirty_bytes += file.buffer.cost_bytes - before

    def _block_failed(self, file: FileData, index: int, error: BaseException) -> None:
        """The bytes stay buffered, to be tried again, unless nobody wants them any more: then all is well."""
        before = file.buffer.cost_bytes
        if file.buffer.failed(index):
            self._failed(file, error)
            if self.is_shut_out:
                file.buffer.truncate(0)
        elif isinstance(error, ShutOutError):
            self.on_shut_out()
        self.dirty_bytes += file.buffer.cost_bytes - before

    def _failed(self, file: FileData, error: BaseException) -> None:
        """The round under way has failed. What is buffered stays so and is tried again, for as long as it takes."""
        if not file.failing:
            log.warning("inode %d: written bytes are not stored yet, and will be tried again: %s", file.ino, error)
        if isinstance(error, ShutOutError):
            self.on_shut_out()
        file.round_failed = True
        file.error = file.failing = error.errno if isinstance(error, OSError) and error.errno else EIO

    # -- to the metadata --------------------------------------------------------------------------------------------

    def _arrived(self, file: FileData) -> None:
        """If the round has ended, or what somebody waits for is there: publish it, and tell them."""
        if file.buffer.in_flight and all(waiter.landings for waiter in file.waiters):
            return
        if file.publishing:
            file.arrived = True
            return
        if file.changed and file.in_objects:
            unstored = file.buffer.first_unstored
            # What is inline goes with the first publish, so objects must have all of it.
            if unstored is None or not file.stored_inline or unstored >= file.stored_size:
                size = file.size if unstored is None else max(file.stored_size, min(file.size, unstored))
                if file.told != file.version or size != file.stored_size or file.stored_inline:
                    self._publish(file, size, None)
                    return
        self._go_on(file)

    def _say(self, file: FileData, request: Unsettle | Publish) -> Any:
        return self._ask(request) if file.waiters or self._blocked else self._ask_lazily(request)

    def _publish_inline(self, file: FileData) -> None:
        file.round_failed = False
        if file.changed:
            self._publish(file, file.size, bytes(file.buffer.content(0, file.size)))
        else:
            self.finish(file)

    def _publish(self, file: FileData, size: int, inline: bytes | None) -> None:
        """Tell the metadata. It goes on with `_published`, now or later."""
        version = file.version
        failpoint("data.publish.before")
        try:
            answer = self._say(file, Publish(file.ino, size, file.mtime_ns, inline, file.sparse and inline is None))
        except OSError as error:
            self._failed(file, error)
            self._go_on(file)
            return
        if isinstance(answer, Future):
            file.publishing = True
            answer.add_done_callback(partial(self._publish_answered, file, version, inline))
        else:
            self._published(file, version, inline, answer)

    def _publish_answered(self, file: FileData, version: int, inline: bytes | None, answer: Future[Attributes]) -> None:
        with self._lock:
            file.publishing = False
            error = answer.exception()
            if error is None:
                self._published(file, version, inline, answer.result())
            else:
                self._failed(file, error)
                self._go_on(file)
            self.admit_blocked()

    def _published(self, file: FileData, version: int, inline: bytes | None, attributes: Attributes) -> None:
        failpoint("data.publish.after")
        file.told = version
        file.stored_inline = inline is not None
        file.stored_size = attributes.size
        if not file.telling:
            file.seen = self._metadata.latest(attributes)
        if file.contended:
            file.size = max(file.size, attributes.size)
            self._files.forget_pages(file.ino)  # `seen` does not tell any more whether others wrote before us
        if file.unsettled_end:
            self._settling.is_due(file.ino)
        if inline is not None:
            file.epoch += 1
            file.content_is(inline)
            if version == file.version:
                self.cut(file, 0)
                file.loaded = file.size == 0
                file.changed = False
                file.mtime_ns = None
        self._go_on(file)

    def _go_on(self, file: FileData) -> None:
        """The metadata knows what it can know by now, or has refused."""
        if file.arrived:
            file.arrived = False
            if not file.round_failed:
                self._tell_waiters(file)
                if file.in_objects:
                    self._arrived(file)
                else:
                    self.start_flush(file)
                return
        in_flight = file.buffer.in_flight
        if file.round_failed:
            if not in_flight:
                self._fail_waiters(file)
                self.finish(file)  # its bytes may have been forgotten meanwhile
            return
        self._tell_waiters(file)
        if in_flight:
            return
        file.failing = 0
        if not file.buffer and (not file.changed or file.told == file.version):
            file.changed = False
            file.mtime_ns = None  # told; others may have written since when it is our turn to publish again
            self.finish(file)
        elif file.waiters or self._blocked:
            self.start_flush(file)

    def _tell_waiters(self, file: FileData) -> None:
        waiters, file.waiters = file.waiters, []
        clean = file.clean
        told = []
        for waiter in waiters:
            if clean or (file.told >= waiter.version and self._has_landed(file, waiter)):
                told.append(waiter)
            else:
                file.waiters.append(waiter)
        for waiter in told:
            waiter.done.set_result(None)

    def _has_landed(self, file: FileData, waiter: Waiter) -> bool:
        if not file.in_objects:
            return True  # it went into the inode
        return not waiter.landings and not file.stored_inline and file.stored_size >= min(waiter.size, file.size)

    def _fail_waiters(self, file: FileData) -> None:
        """Who waits for all of it is told; writers go on: what they wrote is buffered, and the next call hears of it."""
        waiters, file.waiters = file.waiters, []
        if waiters:
            error = self.reported(file)
            for waiter in waiters:
                waiter.done.set_exception(error)
        self.admit_blocked()

    def lose(self, file: FileData) -> None:
        """What is buffered will never be stored: whoever waits for that, or asks next, is told; the file is again as the
        metadata has it.
        """
        file.error = EIO
        self.forget_bytes(file)
        self._fail_waiters(file)

    def finish(self, file: FileData) -> None:
        if file.clean:
            if not self.is_shut_out:
                file.error = file.failing = 0  # what could not be stored at first is there now
            self._tell_waiters(file)
            self.admit_blocked()
            self._files.let_go(file)

    # -- waiting for it ---------------------------------------------------------------------------------------------

    def when_stored(self, file: FileData) -> Future[None]:
        """Done when everything written so far is in the store and published; others may go on writing meanwhile."""
        waiter = Waiter(file)
        if file.clean:
            waiter.done.set_result(None)
        else:
            file.waiters.append(waiter)
            self.start_flush(file)
            self._hurry()
        return waiter.done

    def drain(self, file: FileData) -> None:
        """Everything buffered reaches the store and the metadata. Blocks: on the pool, for whom has the turn."""
        while True:
            with self._lock:
                file.draining = True
                clean = self.when_stored(file)
            try:
                self._tasks.block(clean)
            finally:
                with self._lock:
                    file.draining = False
                    under_way = file.buffer.in_flight or file.publishing  # of bytes that were written meanwhile
            if not under_way:
                return

    # -- giving up --------------------------------------------------------------------------------------------------

    def forget_bytes(self, file: FileData) -> None:
        """Nothing of what is buffered, or on its way, need be stored: the file is again as the metadata has it."""
        before = file.buffer.cost_bytes
        file.buffer.forget()
        self.dirty_bytes += file.buffer.cost_bytes - before
        file.round_failed = False  # of what was forgotten
        file.changed = False
        file.told = file.version
        file.size = file.stored_size
        file.in_objects = (file.stored_size > 0 or file.contended) and not file.stored_inline
        file.loaded = file.stored_size == 0
        file.mtime_ns = None
        self.admit_blocked()

    def resized(self, file: FileData, attributes: Attributes) -> None:
        """The metadata has given the file a new size; the file follows it."""
        # Bytes that were written meanwhile, by way of a mapping, say, stay as far as they lie below the new size.
        self.cut(file, attributes.size)
        loaded = file.loaded and bool(file.buffer)
        file.stands_at(attributes)
        file.loaded = file.loaded or loaded
        file.in_objects = file.in_objects or (file.contended and not file.stored_inline)
        file.changed = bool(file.buffer)
        file.mtime_ns = None
        if file.changed:
            file.version += 1
        else:
            file.told = file.version
        self.admit_blocked()
