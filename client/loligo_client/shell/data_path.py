"""The path of file data, and what keeps a crash harmless; this module is its front, the parts say what holds for each.

| `open_files` | what is open here, and what the metadata knows of it |
| `writing` | from the buffer to the store and the metadata, in the order that keeps promises |
| `reading` | what is buffered, in the inode, or in objects |
| `reshaping` | sizes, holes, and bytes that were cut off |
| `sharing` | turns, and yielding to other clients |
| `settling` | syncing, and the end of doubt |

What a crash leaves behind, and objects of inodes that are gone, are the keeper's (`loligo_mds.shell.keeper`).

Threads: all state is guarded by the lock of the metadata, which every public method takes, but for *tasks* (see `tasks`):
those run under it. No call waits for the store or the metadata; what has to wait returns a future. Futures of the store and
of the metadata complete on their threads and take the lock too. What must block does so on a pool of our own, without it.
"""

import logging
from collections.abc import Callable, Container, Iterable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from errno import EIO
from functools import partial
from os import strerror
from typing import Any, Final, NoReturn

from loligo_client.shell.block_cache import CachedObjects
from loligo_client.shell.file_data import FileData
from loligo_client.shell.open_files import OpenFiles
from loligo_client.shell.pending import when_all
from loligo_client.shell.reading import Data, Reading
from loligo_client.shell.reshaping import Reshaping
from loligo_client.shell.settling import Settling
from loligo_client.shell.sharing import Sharing
from loligo_client.shell.tasks import Metadata, Result, Task, Tasks
from loligo_client.shell.writing import Writing
from loligo_mds.core.events import Hold
from loligo_mds.core.requests import GetAttributes, SetAttributes
from loligo_runtime.failpoint import declare, failpoint
from loligo_runtime.object_store import ObjectStore
from loligo_wire.attributes import Attributes

log = logging.getLogger(__name__)

#: How long written bytes may wait for company.
FLUSH_AFTER_NS = 1_000_000_000
#: ... and how much longer after the store refused them.
RETRY_AFTER_NS = 2_000_000_000

_SHUT_OUT: Final = "this client was shut out of the volume"

declare("data.fsync.before", "data.fsync.stored", "data.fsync.after")


class DataPath:
    def __init__(
        self,
        metadata: Metadata,
        store: ObjectStore,
        *,
        inline_limit_bytes: int,
        dirty_limit_bytes: int,
        on_lost: Callable[[int], None] = lambda ino: None,
        shared: bool = False,
        cache: CachedObjects | None = None,
    ) -> None:
        """`on_lost(ino)`: what caches have of this file's content is not its content any more; called with the lock.

        `shared`: other clients have the volume, too. `cache`: what keeps what is read of `store`; its owner closes it.
        """
        self._metadata = metadata
        self._lock = metadata.lock
        if cache is not None:
            fresh, store = store, cache
            forget_cached = cache.forget
        else:
            fresh, forget_cached = store, _nothing_is_cached

        def forget_pages(ino: int) -> None:
            forget_cached(ino)
            on_lost(ino)

        self._store = store
        self._dirty_limit_bytes = dirty_limit_bytes
        self._on_lost = forget_pages
        self._shared = shared
        #: Called once, on a thread of the pool, when the store has shut this client out.
        self.on_shut_out: Callable[[], None] = lambda: None
        self._is_shut_out = False
        self._has_lost = False
        #: Files of which `tick` waits to hear what they are.
        self._asked_about: set[int] = set()
        #: (total, free) bytes of the store, as of the last tick; (0, 0) if it did not say.
        self.space = (0, 0)
        #: So little is free that what is written may well be refused.
        self.space_is_low = False
        self._looking = False
        self._look_at_space()
        self._pool = ThreadPoolExecutor(16, thread_name_prefix="data")
        self.tasks = tasks = Tasks(metadata)
        self._settling = settling = Settling(metadata, store)
        self._open_files = files = OpenFiles(metadata, settling, forget_pages, forget_cached, shared)
        self._files = files.by_ino
        self._writing = writing = Writing(
            metadata,
            tasks,
            store,
            files,
            settling,
            inline_limit_bytes=inline_limit_bytes,
            dirty_limit_bytes=dirty_limit_bytes,
        )
        self._sharing = sharing = Sharing(metadata, tasks, files, writing, self._pool)
        self._reading = reading = Reading(metadata, tasks, store, fresh, files, sharing)
        self._reshaping = Reshaping(metadata, tasks, store, files, settling, writing, sharing)
        writing.made_ready = self._made_ready
        writing.on_shut_out = reading.on_shut_out = self._store_refuses
        sharing.trim_again = self._reshaping.trim_again
        #: The parts' own, for whoever calls often.
        self.attributes = files.attributes
        self.find = files.by_ino.get
        self.read: Callable[[FileData, int, int], list[Data] | Future[list[Data]]] = reading.read
        self.write = writing.write
        self.settle = settling.settle
        self.holds: Callable[[], list[Hold]] = files.holds
        self.recalled = sharing.recalled
        self.report = sharing.report
        self.may_change_lazily = files.may_change_lazily
        self.resumed = sharing.resumed

    # -- open files -------------------------------------------------------------------------------------------------

    def open(self, ino: int, writes: bool) -> Task[tuple[FileData, bool]]:
        """A task: the file, open until `close`, and whether pages that the kernel has of it are good."""
        return self._open_files.open(ino, writes)

    def opened(self, attributes: Attributes) -> FileData:
        """As `open` for writing, for a file that was created held. Called with the lock."""
        return self._open_files.opened(attributes, True)

    def close(self, file: FileData) -> None:
        """Ends one `open`. What is buffered goes to the store by itself."""
        with self._lock:
            file.opens -= 1
            if file.opens == 0:
                if file.unlinked and not (file.contended or file.recalled):
                    self._writing.forget_bytes(file)
                elif not file.clean:
                    self._writing.start_flush(file)
                self._writing.finish(file)

    def unlinked(self, ino: int) -> None:
        """The file has lost its last name. Its bytes matter only to those who have it open."""
        with self._lock:
            file = self._files.get(ino)
            if file is not None:
                file.unlinked = True
                if file.opens == 0 and not (file.contended or file.recalled):
                    self._writing.forget_bytes(file)
                    self._writing.finish(file)

    def close_idle(self, inos: Iterable[int]) -> None:
        """Others change something where these files have names: who keeps one open for nothing keeps its space."""
        with self._lock:
            for ino in inos:
                self._open_files.close_idle(ino)

    def lease_returned(self, key: int, attributes_of: int) -> list[int]:
        return self._open_files.lease_returned(key, attributes_of)

    def leases_lost(self, kept: Container[int]) -> list[int]:
        with self._lock:
            return self._open_files.leases_lost(kept)

    def holds_bytes(self, ino: int) -> bool:
        """Whether something that was written here, or may yet be, is not stored."""
        file = self._files.get(ino)
        return file is not None and (not file.clean or (file.opens > 0 and file.writes))

    def is_written(self, ino: int) -> bool:
        """Whether somebody here may be writing it, or anybody else while it is open here."""
        file = self._files.get(ino)
        return file is not None and (file.writes or file.contended)

    @property
    def has_leased_opens(self) -> bool:
        """Whether a file is open of which the metadata has not heard. Called with the lock."""
        return bool(self._open_files.leased_opens)

    def opened_for(self, ino: int) -> Task[FileData | None]:
        """A task: if the file is open under a lease alone, have the metadata know that; `close` what is returned."""
        return self._open_files.make_known(ino)

    def inode_gone(self, ino: int) -> None:
        """The keeper removes its objects: what was to be done about them need not be. Called with the lock."""
        self._settling.gone(ino)

    @property
    def has_unclean(self) -> bool:
        """Whether there is a file of which something is not stored and published. Called with the lock."""
        return self._open_files.has_unclean

    def change_lazily(self, file: FileData, request: SetAttributes, now_ns: int) -> Attributes:
        """As the request, if `may_change_lazily`: the metadata hears of it soon. Called with the lock."""
        if request.mtime_ns is not None:
            file.mtime_ns = None
        return self._open_files.change_lazily(file, request, now_ns)

    def mtime_will_be_set(self, ino: int) -> None:
        """mtime is being set on purpose: writes from before do not move it any more. Called with the lock."""
        file = self._files.get(ino)
        if file is not None:
            file.mtime_ns = None

    def _made_ready(self, file: FileData) -> Task[None]:
        if file.recalled:
            yield from self._sharing.until_resumed(file)
        elif file.contended:
            yield from self._sharing.alone(file, partial(self._reshaping.convert, file))
        else:
            yield from self._writing.load(file)

    # -- flush and sync ---------------------------------------------------------------------------------------------

    def flush(self, file: FileData) -> Future[None] | None:
        """A descriptor of the file is closed: send what is dirty on its way. OSError if something could not be stored.

        Waits for the store while space is low, when it may well refuse. Others who look at the file next make us `report`.
        """
        with self._lock:
            if not file.error and not file.clean:
                self._writing.start_flush(file)
            if file.error or file.refused:
                raise self._writing.reported(file)
            if file.clean or not (self.space_is_low or file.contended):
                return None
            return self._writing.when_stored(file)

    def fsync(self, file: FileData) -> Future[None]:
        """Done when everything written so far, and the metadata, survive a power loss."""
        with self._lock:
            if file.error or file.refused:
                raise self._writing.reported(file)
            if self._is_shut_out:
                self._refuse()
            clean = self._writing.when_stored(file)
        return self._after([clean], partial(self._sync_file, file))

    def _sync_file(self, file: FileData) -> None:
        failpoint("data.fsync.before")
        self._settling.sync_blocks(file)
        failpoint("data.fsync.stored")
        self._metadata.sync()
        with self._lock:
            if file.error or file.refused:  # answered before the sync was, what makes the file among it
                raise self._writing.reported(file)
        failpoint("data.fsync.after")

    def when_stored(self, file: FileData) -> Future[None]:
        """Done, without the lock, when everything written to the file so far is stored and published."""
        with self._lock:
            clean = self._writing.when_stored(file)
        return self._after([clean], lambda: None)

    def _after(self, futures: list[Future[None]], then: Callable[[], None]) -> Future[None]:
        """Run `then` on the pool once all `futures` are done, unless one failed. None of the pool's threads waits for them:
        what completes them may need one.
        """
        ended = Result()
        ended.waits_for = futures[0] if futures else None

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
            clean = [self._writing.when_stored(file) for file in list(self._files.values())]
        return self._after(clean, sync)

    # -- size and holes ---------------------------------------------------------------------------------------------

    def set_size(self, change: SetAttributes, file: FileData | None = None) -> Task[Attributes]:
        """A task: truncate or extend `file`, if it is open; the attributes of `change` are set with the size.

        -> the attributes after it
        """
        if file is None:
            file = self._files.get(change.ino)
        if file is not None and file.writes:
            file.opens += 1
        else:
            file, _ = yield from self._open_files.open(change.ino, True)
        try:
            attributes = yield from self._reshaping.set_size(file, change)
            return self._open_files.shown(file, attributes) if file.changed else attributes
        finally:
            self.close(file)

    def append(self, file: FileData, data: bytes, now_ns: int, *, through: bool) -> Task[int]:
        """A task: as `write`, at the end of the file, which the caller does not know."""
        return self._reshaping.append(file, data, now_ns, through=through)

    def allocate(self, file: FileData, offset: int, length: int, mode: int, now_ns: int) -> Task[None]:
        """A task: see `reshaping`."""
        return self._reshaping.allocate(file, offset, length, mode, now_ns, self.space)

    def seek(self, file: FileData, offset: int, whence: int) -> Task[int]:
        """A task: SEEK_DATA and SEEK_HOLE."""
        return self._reshaping.seek(file, offset, whence)

    # -- in the background ------------------------------------------------------------------------------------------

    def tick(self, now_ns: int) -> None:
        """Now and then: send on its way what has waited long enough, and try again what could not be done."""
        with self._lock:
            if self._is_shut_out:
                return
            self._open_files.tick(now_ns)
            if not self._looking:
                self._looking = True
                self._pool.submit(self._look_at_space)
            for file in list(self._files.values()):
                if file.changed and now_ns - file.unpublished_since_ns >= FLUSH_AFTER_NS:
                    file.unpublished_since_ns = now_ns + (RETRY_AFTER_NS if file.failing else 0)
                    self._writing.start_flush(file)
                if (file.contended or file.unsure) and file.opens and file.ino not in self._asked_about:
                    self._asked_about.add(file.ino)
                    self.tasks.run(self._hear_news(file))
            for ino in list(self._settling.untrimmed):
                untrimmed = self._files.get(ino)
                if untrimmed is not None and not untrimmed.turn.taken:
                    self._trim_again(untrimmed)

    def _hear_news(self, file: FileData) -> Task[None]:
        """The kernel reads its pages of an open file without asking, so it must be told when others have written to it."""
        try:
            self._open_files.attributes((yield GetAttributes(file.ino)))
        except OSError as error:
            log.info("attributes of inode %d: %s", file.ino, error)
        finally:
            self._asked_about.discard(file.ino)

    def _trim_again(self, file: FileData) -> None:
        trimmed = self.tasks.run(self._sharing.alone(file, partial(self._reshaping.trim_again, file)))
        if isinstance(trimmed, Future):
            trimmed.add_done_callback(_log_failure)

    def _look_at_space(self) -> None:
        """May take as long as the cluster does to answer."""
        try:
            self.space = self._store.usage()
        except OSError as error:
            log.info("free space is not known: %s", error)
            self.space = (0, 0)
        total, free = self.space
        self.space_is_low = free < max(4 * self._dirty_limit_bytes, total >> 7)
        self._looking = False

    def drain(self) -> None:
        """The end: everything buffered is stored and published, durably, and the rows in UNSETTLED are gone. Blocks.

        Files that are still open, when a busy mount was torn away, are let go. OSError, at the end, if written bytes
        could not be stored.
        """
        lost: OSError | None = None
        self._sharing.give_up()
        with self._lock:
            self._open_files.end()
            waiting = [(file, self._writing.when_stored(file)) for file in list(self._files.values())]
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
                    self._open_files.let_go(file)
                else:
                    self._lose(file)
            under_way = list(self._sharing.under_way)
        wait(under_way)
        if lost is not None or self._has_lost:
            lost = lost or OSError(EIO, _SHUT_OUT)
        if not self._is_shut_out:
            self.settle()
        if lost is not None:
            raise OSError(lost.errno, f"written bytes are lost: {lost.strerror}")

    def _lose(self, file: FileData) -> None:
        """The end has come, and its bytes cannot be stored: the file is again as the metadata has it."""
        log.error("inode %d: written bytes are lost: %s", file.ino, strerror(file.failing))
        file.error = file.failing = 0
        # Some of the lost bytes may be in objects: they must not come to light when the file grows.
        untrimmed = self._settling.untrimmed
        untrimmed[file.ino] = max(file.stored_size, file.unsettled_end, untrimmed.get(file.ino, 0))
        self._writing.forget_bytes(file)
        self._trim_again(file)
        self._on_lost(file.ino)

    # -- shut out ---------------------------------------------------------------------------------------------------

    def _store_refuses(self) -> None:
        if not self._is_shut_out:
            self._pool.submit(self.shut_out)

    def shut_out(self) -> None:
        """This client has no business with the volume any more: what is not stored is lost, who waits for it is told, and
        nothing is tried again. Called without the lock.
        """
        with self._lock:
            if self._is_shut_out:
                return
            self._is_shut_out = True
            self.read = self._refuse
            self._writing.is_shut_out = True
            self._settling.untrimmed.clear()
            for file in list(self._files.values()):
                if not file.clean:
                    log.error("inode %d: written bytes are lost: %s", file.ino, _SHUT_OUT)
                    self._has_lost = True
                    self._on_lost(file.ino)
                    self._writing.lose(file)
        self._sharing.give_up()
        self.on_shut_out()

    def _refuse(self, *arguments: object) -> NoReturn:
        raise OSError(EIO, _SHUT_OUT)

    def stop(self) -> None:
        """After `drain`."""
        self._sharing.stop()
        self._pool.shutdown()


def _log_failure(future: Future[Any]) -> None:
    error = future.exception()
    if error is not None:
        log.warning("this will be tried again: %s", error)


def _nothing_is_cached(ino: int) -> None:
    return
