"""What was read of objects far away, kept in a file without a name on a local disk: a level between the kernel's pages, which
memory bounds, and the cluster.

`CachedObjects` is an object store on top of another. Rules:

1. What it has of a file is good for as long as the kernel's pages of that file would be: until `forget`, or until this client
   changes the object. Who reads what others may be writing asks the store itself (`fresh`).
2. Whole pages are kept, and the last one of what was read at the end of an object as far as it goes. So is what is written in
   short pieces: small files are often read soon after.
3. A piece is kept only if nothing has changed the object between question and answer: every change puts another `_Kept` in
   the place of the one that the question was asked with, once when it begins and once when it ends.
4. One thread writes to the disk; what is read faster than that is not kept. At most `limit_bytes` are, and objects that were
   not used for longest go first.
5. Nothing depends on it: an error of the disk, or a disk that gets full, ends it with a line in the log.

An object has a slot of the file, as long as a block; a slot that is given up is punched, so the file takes as much space as is
kept. All of it is gone when the process ends, however that happens.
"""

import logging
import os
import threading
from collections import OrderedDict
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from errno import EOPNOTSUPP
from functools import partial
from typing import Any, Final

from loligo_runtime.local_file import punch, read_soon
from loligo_runtime.object_store import MISSING, BytesLike, Missing, ObjectKey, ObjectStore, remove_one_by_one

log = logging.getLogger(__name__)

PAGE_BYTES: Final = 4096
#: Longer reads are copied by another thread.
READ_NOW_LIMIT_BYTES: Final = 128 << 10
#: Longer pieces that are written are not kept: nobody reads a checkpoint soon.
WRITE_LIMIT_BYTES: Final = 128 << 10
#: What waits to be written.
QUEUED_MAX_BYTES: Final = 32 << 20
OBJECTS_MAX: Final = 1 << 16
#: How often it is looked how full the disk is, and how much of it stays free.
LOOK_EVERY_BYTES: Final = 64 << 20
FREE_SHARE_MIN: Final = 0.05


class _Kept:
    """What is kept of an object. `pages`: a bit for each whole page; `tail`: what ends within a page is good up to there."""

    __slots__ = ("pages", "slot", "tail", "used_bytes")

    def __init__(self) -> None:
        self.slot = -1
        self.pages = 0
        self.tail = 0
        self.used_bytes = 0

    def has(self, offset: int, length: int) -> bool:
        end = offset + length
        first, whole_end = offset // PAGE_BYTES, end // PAGE_BYTES
        wanted = (1 << max(0, whole_end - first)) - 1
        if (self.pages >> first) & wanted != wanted:
            return False
        if end % PAGE_BYTES == 0 or self.pages >> whole_end & 1:
            return True
        return self.tail // PAGE_BYTES == whole_end and self.tail >= end

    def add(self, offset: int, length: int) -> int:
        """-> how many bytes more are used"""
        end = offset + length
        first, whole_end = -(-offset // PAGE_BYTES), end // PAGE_BYTES
        if whole_end > first:
            self.pages |= ((1 << whole_end - first) - 1) << first
        if end % PAGE_BYTES and first <= whole_end:
            self.tail = end
        before, self.used_bytes = self.used_bytes, (self.pages.bit_count() + (self.tail > 0)) * PAGE_BYTES
        return self.used_bytes - before


class CachedObjects:
    """An ObjectStore. `close` closes the store, too."""

    def __init__(self, store: ObjectStore, directory: str, limit_bytes: int, block_bytes: int) -> None:
        """OSError if there can be no such file in `directory`, which is made if need be."""
        os.makedirs(directory, mode=0o700, exist_ok=True)
        self._fd = os.open(directory, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
        #: The store itself.
        self.fresh = store
        self._limit_bytes = limit_bytes
        self._block_bytes = block_bytes
        self._lock = threading.Lock()
        #: By object, the one that was used last at the end.
        self._kept: OrderedDict[ObjectKey, _Kept] = OrderedDict()
        self._indexes: dict[int, set[int]] = {}
        self._free_slots: list[int] = []
        self._slots = 0
        self._used_bytes = 0
        self._queued_bytes = 0
        self._unlooked_bytes = LOOK_EVERY_BYTES
        self._has_ended = False
        self._reads_now = True
        self.hits = 0
        self.misses = 0
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="cache-writer")
        self._readers = ThreadPoolExecutor(2, thread_name_prefix="cache-reader")
        self.size = store.size
        self.sync = store.sync
        self.sync_all = store.sync_all
        self.owner = store.owner
        self.claim = store.claim
        self.list = store.list
        self.usage = store.usage
        self.addresses = store.addresses
        self.shut_out = store.shut_out

    # -- reading ------------------------------------------------------------------------------------------------------

    def read_now(self, ino: int, index: int, offset: int, length: int) -> bytes | Missing | None:
        if length > READ_NOW_LIMIT_BYTES or not self._reads_now:
            return None
        kept = self._find((ino, index), offset, length)
        return None if kept is None else self._read((ino, index), kept, offset, length, waits=False)

    def read(self, ino: int, index: int, offset: int, length: int) -> Future[bytes | Missing]:
        key = (ino, index)
        kept = self._find(key, offset, length)
        if kept is not None:
            self.hits += 1
            return self._readers.submit(self._read_or_ask, key, kept, offset, length)
        self.misses += 1
        asked_with = self._begin(key)
        answer = self.fresh.read(ino, index, offset, length)
        answer.add_done_callback(partial(self._arrived, key, asked_with, offset))
        return answer

    def _find(self, key: ObjectKey, offset: int, length: int) -> _Kept | None:
        with self._lock:
            kept = self._kept.get(key)
            if kept is None or not kept.has(offset, length):
                return None
            self._kept.move_to_end(key)
            return kept

    def _read(self, key: ObjectKey, kept: _Kept, offset: int, length: int, *, waits: bool) -> bytes | None:
        """None if it is not there any more, or would have to wait."""
        buffer = bytearray(length)
        part = (memoryview(buffer),)
        at = kept.slot * self._block_bytes + offset
        try:
            count = os.preadv(self._fd, part, at) if waits else read_soon(self._fd, part, at)
        except BlockingIOError:
            return None
        except OSError as error:
            if error.errno == EOPNOTSUPP and not waits:
                self._reads_now = False  # this file system cannot tell whether it would have to wait
            else:
                self._end(f"it cannot be read: {error}")
            return None
        with self._lock:
            if count < length or self._kept.get(key) is not kept:
                return None  # its slot was given up, or what is behind this has not arrived
        if not waits:
            self.hits += 1
        return bytes(buffer)

    def _read_or_ask(self, key: ObjectKey, kept: _Kept, offset: int, length: int) -> bytes | Missing:
        data = self._read(key, kept, offset, length, waits=True)
        return self.fresh.read(*key, offset, length).result() if data is None else data

    # -- keeping ------------------------------------------------------------------------------------------------------

    def _begin(self, key: ObjectKey) -> _Kept | None:
        """What an answer must still find in its place to be kept."""
        with self._lock:
            if self._has_ended:
                return None
            kept = self._kept.get(key)
            if kept is None:
                kept = self._kept[key] = _Kept()
                self._indexes.setdefault(key[0], set()).add(key[1])
            return kept

    def _arrived(self, key: ObjectKey, asked_with: _Kept | None, offset: int, answer: Future[bytes | Missing]) -> None:
        data = MISSING if answer.exception() is not None else answer.result()
        self._queue(key, asked_with, offset, b"" if data is MISSING else data)

    def _queue(self, key: ObjectKey, kept: _Kept | None, offset: int, data: bytes) -> None:
        if kept is None:
            return
        with self._lock:
            if self._has_ended:
                return
            fits = offset + len(data) <= self._block_bytes and self._queued_bytes + len(data) <= QUEUED_MAX_BYTES
            if not (data and fits):
                if kept.slot < 0 and self._kept.get(key) is kept:
                    self._drop(key)  # nothing is kept of it
                return
            self._queued_bytes += len(data)
        self._submit(partial(self._keep, key, kept, offset, data))

    def _submit(self, work: Any) -> None:
        try:
            self._writer.submit(work)
        except RuntimeError:
            log.debug("the cache is closed")

    def _keep(self, key: ObjectKey, kept: _Kept, offset: int, data: bytes) -> None:
        """On the writer's thread, which alone gives slots away: none changes hands while it writes."""
        try:
            with self._lock:
                self._queued_bytes -= len(data)
                if self._kept.get(key) is not kept:
                    return
                if kept.slot < 0:
                    kept.slot = self._take_slot()
            written = 0
            while written < len(data):
                at = kept.slot * self._block_bytes + offset + written
                written += os.pwrite(self._fd, memoryview(data)[written:], at)
            with self._lock:
                is_ours = self._kept.get(key) is kept
                if is_ours:
                    self._used_bytes += kept.add(offset, len(data))
                gone = self._too_many()
            if not is_ours:
                punch(self._fd, kept.slot * self._block_bytes, self._block_bytes)
            self._release(gone)
            self._look_at_disk(len(data))
        except OSError as error:
            self._end(f"it cannot be written: {error}")

    def _take_slot(self) -> int:
        if self._free_slots:
            return self._free_slots.pop()
        self._slots += 1
        return self._slots - 1

    def _too_many(self) -> list[_Kept]:
        gone = []
        while self._kept and (self._used_bytes > self._limit_bytes or len(self._kept) > OBJECTS_MAX):
            gone.append(self._drop(next(iter(self._kept))))
        return gone

    def _drop(self, key: ObjectKey) -> _Kept:
        kept = self._kept.pop(key)
        self._used_bytes -= kept.used_bytes
        indexes = self._indexes[key[0]]
        indexes.remove(key[1])
        if not indexes:
            del self._indexes[key[0]]
        return kept

    def _release(self, gone: list[_Kept]) -> None:
        """On the writer's thread."""
        for kept in gone:
            if kept.slot >= 0:
                try:
                    given_back = punch(self._fd, kept.slot * self._block_bytes, self._block_bytes)
                except OSError as error:
                    self._end(f"space cannot be given back: {error}")
                    return
                if not given_back:
                    self._end("the file system of its folder cannot give space back: put data_cache_dir= on another")
                    return
                with self._lock:
                    self._free_slots.append(kept.slot)

    def _look_at_disk(self, length: int) -> None:
        self._unlooked_bytes += length
        if self._unlooked_bytes < LOOK_EVERY_BYTES:
            return
        self._unlooked_bytes = 0
        disk = os.fstatvfs(self._fd)
        if disk.f_bavail < disk.f_blocks * FREE_SHARE_MIN:
            self._end("its disk is nearly full")

    # -- forgetting ---------------------------------------------------------------------------------------------------

    def forget(self, ino: int) -> None:
        """What is kept of the file is not its content any more. Waits for nothing."""
        with self._lock:
            gone = [self._drop((ino, index)) for index in list(self._indexes.get(ino, ()))]
        self._give_up(gone)

    def _changes(self, key: ObjectKey) -> None:
        with self._lock:
            gone = [self._drop(key)] if key in self._kept else []
        self._give_up(gone)

    def _give_up(self, gone: list[_Kept]) -> None:
        if any(kept.slot >= 0 for kept in gone):
            self._submit(partial(self._release, gone))

    def _end(self, why: str) -> None:
        with self._lock:
            if self._has_ended:
                return
            self._has_ended = True
            self._kept.clear()
            self._indexes.clear()
            self._used_bytes = 0
        log.warning("nothing is cached on the local disk any more: %s", why)
        try:
            os.ftruncate(self._fd, 0)
        except OSError as error:
            log.warning("the space of the cache is free when this mount ends: %s", error)

    # -- changing -----------------------------------------------------------------------------------------------------

    def write(self, ino: int, index: int, offset: int, data: BytesLike) -> Future[None]:
        key = (ino, index)
        done = self._changing(key, partial(self.fresh.write, ino, index, offset, data))
        if len(data) <= WRITE_LIMIT_BYTES:
            done.add_done_callback(partial(self._written, key, offset, data))
        return done

    def _written(self, key: ObjectKey, offset: int, data: BytesLike, done: Future[None]) -> None:
        if done.exception() is None:
            self._queue(key, self._begin(key), offset, bytes(data))  # a copy: its owner may change it from now on

    def truncate(self, ino: int, index: int, length: int) -> Future[None]:
        return self._changing((ino, index), partial(self.fresh.truncate, ino, index, length))

    def zero(self, ino: int, index: int, offset: int, length: int) -> Future[None]:
        return self._changing((ino, index), partial(self.fresh.zero, ino, index, offset, length))

    def remove(self, ino: int, index: int) -> Future[None]:
        return self._changing((ino, index), partial(self.fresh.remove, ino, index))

    def remove_many(self, objects: Iterable[ObjectKey]) -> dict[int, OSError]:
        return remove_one_by_one(self, objects)

    def _changing(self, key: ObjectKey, change: Any) -> Future[None]:
        self._changes(key)
        done: Future[None] = change()
        done.add_done_callback(lambda _: self._changes(key))
        return done

    def wait(self) -> None:
        """Until what was read is kept, and what is not needed is given back."""
        self._writer.submit(lambda: None).result()

    def close(self) -> None:
        self.fresh.close()
        self._readers.shutdown()
        self._writer.shutdown(cancel_futures=True)
        os.close(self._fd)
        log.info("read from the local cache %d times, from the cluster %d times", self.hits, self.misses)
