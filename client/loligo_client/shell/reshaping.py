"""What changes a file otherwise than by writing to it: its size, holes, and where its content is.

Rules
1. First the metadata says so, durably, then the objects follow, and nothing else of that file is flushed meanwhile (`alone`).
   Otherwise a loss of power might bring back the size and not the bytes.
2. What was cut off and is not taken out of the objects yet is known as `untrimmed`: the file stays open, does not grow and is
   not settled until that is made up for. `tick` tries again.
3. A change of size that fails may have been made all the same, if the metadata was away, or the caller was let go while it
   was: the file counts as untrimmed then.
4. In a contended file all of this needs a claim, and its content leaves the inode before anybody writes.

What blocks does so on the pool, without the lock.
"""

import os
from collections.abc import Callable
from concurrent.futures import Future
from errno import EFBIG, EINTR, EINVAL, EIO, ENOENT, ENOSPC, ENXIO, EOPNOTSUPP
from functools import partial
from typing import Any, Final

from loligo_client.shell.file_data import FileData
from loligo_client.shell.open_files import OpenFiles
from loligo_client.shell.settling import Settling
from loligo_client.shell.sharing import Sharing
from loligo_client.shell.tasks import Metadata, Task, Tasks
from loligo_client.shell.writing import Writing
from loligo_mds.core.limits import FILE_MAX_BYTES
from loligo_mds.core.requests import GetAttributes, Publish, ReadInline, SetAttributes
from loligo_runtime.failpoint import declare, failpoint
from loligo_runtime.object_store import ObjectStore, remove_blocks
from loligo_wire.attributes import FLAG_INLINE, Attributes
from loligo_wire.striping import block_count, extents

FALLOC_KEEP_SIZE: Final = 0x01
FALLOC_PUNCH_HOLE: Final = 0x02
FALLOC_ZERO_RANGE: Final = 0x10

declare(
    "data.resize.before",
    "data.resize.told",
    "data.resize.trimmed",
    "data.clear.told",
    "data.clear.after",
)


class Reshaping:
    def __init__(
        self,
        metadata: Metadata,
        tasks: Tasks,
        store: ObjectStore,
        files: OpenFiles,
        settling: Settling,
        writing: Writing,
        sharing: Sharing,
    ) -> None:
        self._metadata = metadata
        self._lock = metadata.lock
        self._tasks = tasks
        self._store = store
        self._files = files
        self._settling = settling
        self._writing = writing
        self._sharing = sharing

    # -- size -------------------------------------------------------------------------------------------------------

    def set_size(self, file: FileData, change: SetAttributes) -> Task[Attributes]:
        """A task: truncate or extend; the attributes of `change` are set with the size. -> the attributes after it"""
        size = change.size
        if size is None:
            raise ValueError("set_size without a size")
        if size > FILE_MAX_BYTES:
            raise OSError(EFBIG, "a file can have 16 TiB")
        if file.publishing and size and self._may_be_resized_in_inode(file, size):
            published = self._writing.when_stored(file)
            if not published.done():
                yield published
        # What is published now is cut off right behind that.
        if not (file.publishing and size) and self._may_be_resized_in_inode(file, size):
            if size > file.stored_size and not file.clean:
                # What the inode has is shorter: it gets what is to be kept first.
                if size < file.size:
                    self._writing.cut(file, size)
                    file.size = size
                    file.version += 1
                stored = self._writing.when_stored(file)
                if stored.done():
                    stored.result()
            if (file.clean or size <= file.stored_size) and (
                size <= self._writing.inline_limit_bytes or file.size == 0
            ):
                return (yield from self._resize_in_inode(file, change))
        attributes: Attributes = yield from self._sharing.alone(file, partial(self._set_size_slowly, file, change))
        return attributes

    def _may_be_resized_in_inode(self, file: FileData, size: int) -> bool:
        return not (
            file.in_objects
            or file.contended
            or file.turn.taken
            or file.buffer.in_flight
            or min(file.size, size) > self._writing.inline_limit_bytes
            or file.ino in self._settling.untrimmed
        )

    def _resize_in_inode(self, file: FileData, change: SetAttributes) -> Task[Attributes]:
        file.turn.take()
        file.users += 1
        try:
            attributes: Attributes = yield change
            self._writing.resized(file, attributes)
            return attributes
        finally:
            self._sharing.end_turn(file)
            file.users -= 1
            self._writing.finish(file)

    def _set_size_slowly(self, file: FileData, change: SetAttributes) -> Attributes:
        """On the pool, alone with the file."""
        self.trim_again(file)
        self._leave_inode(file)
        size = change.size
        assert size is not None
        with self._lock:
            gives_up = size == 0 and file.failing != 0
            if gives_up:  # what cannot be stored is not wanted any more: so space is made on a full disk
                self._writing.forget_bytes(file)
        self._writing.drain(file)
        with self._lock:
            old_end = max(file.stored_size, file.unsettled_end)
        failpoint("data.resize.before")
        try:
            attributes: Attributes = self._tasks.wait(change)
        except OSError as error:
            with self._lock:
                if gives_up or error.errno in (EIO, EINTR):
                    self._settling.untrimmed[file.ino] = old_end
            raise
        with self._lock:
            self._writing.resized(file, attributes)
            failpoint("data.resize.told")
            if attributes.size < old_end:
                self._settling.untrimmed[file.ino] = old_end
                self._settling.changes(file.ino)
        if attributes.size < old_end:
            self._metadata.sync()
            self._trim(file, attributes.size, old_end)
            failpoint("data.resize.trimmed")
        return attributes

    def _load(self, file: FileData) -> None:
        """Content that is in the inode is in the buffer, too. On the pool, alone with the file."""
        while True:
            with self._lock:
                if file.in_objects or (file.loaded and not file.publishing):
                    return
                publishing, epoch = file.publishing, file.epoch
            if publishing:  # it will empty the buffer
                self._writing.drain(file)
                continue
            content = self._tasks.wait(ReadInline(file.ino))
            with self._lock:
                if epoch == file.epoch and not file.loaded and not file.in_objects:
                    self._writing.put_beneath(file, content)

    def _leave_inode(self, file: FileData) -> None:
        """Content that is in the inode is in the buffer, and will go into objects."""
        self._load(file)
        with self._lock:
            if not file.in_objects and file.size:
                self._writing.enter_objects(file)
                file.changed = True
                file.version += 1

    def convert(self, file: FileData) -> None:
        """The content of a contended file leaves the inode. On the pool, alone with the file."""
        self._leave_inode(file)
        self._writing.drain(file)

    # -- the end of a file that others write ------------------------------------------------------------------------

    def append(self, file: FileData, data: bytes, now_ns: int, *, through: bool) -> Task[int]:
        """A task: behind all that is in the file by now, in one piece. -> how many bytes

        The kernel has them where it believed the end to be, so it forgets what it has.
        """
        while not (file.contended or file.takes_bytes):
            yield from self._writing.made_ready(file)
        try:
            if file.contended:
                yield from self._sharing.alone(file, partial(self._append, file, data, now_ns))
            else:
                taken = self._writing.write(file, file.size, data, now_ns, through=through)
                if isinstance(taken, Future):
                    yield taken
        finally:
            self._files.forget_pages(file.ino)
        return len(data)

    def _append(self, file: FileData, data: bytes, now_ns: int) -> None:
        """On the pool, alone with the file."""
        self._leave_inode(file)
        with self._lock:
            self._writing.write(file, file.size, data, now_ns)
        self._writing.drain(file)

    # -- what is cut off --------------------------------------------------------------------------------------------

    def _trim(self, file: FileData, size: int, end: int) -> None:
        """Take every byte from `size` on out of the objects of a file that reached up to `end`. Blocks.

        OSError: some may be left; `trim_again` tries until they are gone.
        """
        ino, block_bytes = file.ino, file.block_bytes
        with self._lock:
            end = self._settling.untrimmed[ino] = max(end, self._settling.untrimmed.get(ino, 0))
            self._settling.changes(ino)
        keep, rest = divmod(size, block_bytes)
        first = keep
        if rest:
            self._store.truncate(ino, keep, rest).result()
            keep += 1
        last = block_count(end, block_bytes)
        remove_blocks(self._store, ino, keep, last)
        with self._lock:
            self._settling.note_unsynced(file, range(first, last))
            self._settling.untrimmed.pop(ino, None)
            self._settling.is_due(ino)

    def trim_again(self, file: FileData) -> None:
        """What an earlier cut left. On the pool, alone with the file."""
        with self._lock:
            end = self._settling.untrimmed.get(file.ino, 0)
        if not end:
            return
        try:
            attributes: Attributes = self._tasks.wait(GetAttributes(file.ino))
        except OSError as error:
            if error.errno != ENOENT:
                raise
            with self._lock:
                self._settling.gone(file.ino)
            return
        with self._lock:
            size = 0 if attributes.flags & FLAG_INLINE else attributes.size
            if attributes.size < file.stored_size:  # it was cut, though we were told that it failed
                if file.clean:
                    self._writing.resized(file, attributes)
                else:
                    file.sparse = True
                    file.stored_size = attributes.size
        self._trim(file, size, end)

    # -- holes ------------------------------------------------------------------------------------------------------

    def allocate(
        self, file: FileData, offset: int, length: int, mode: int, now_ns: int, space: tuple[int, int]
    ) -> Task[None]:
        """A task, fallocate(2): extend, punch a hole, or zero a range. Space is not reserved; a full store is told at once."""
        if mode & ~(FALLOC_KEEP_SIZE | FALLOC_PUNCH_HOLE | FALLOC_ZERO_RANGE):
            raise OSError(EOPNOTSUPP, "fallocate mode")
        punch, zero = bool(mode & FALLOC_PUNCH_HOLE), bool(mode & FALLOC_ZERO_RANGE)
        if offset < 0 or length <= 0 or (punch and (zero or not mode & FALLOC_KEEP_SIZE)):
            raise OSError(EINVAL if not punch else EOPNOTSUPP, "fallocate range or mode")
        end = offset + length
        if end > FILE_MAX_BYTES:
            raise OSError(EFBIG, "a file can have 16 TiB")
        total, free = space
        if not punch and total and length > free:
            raise OSError(ENOSPC, "fewer bytes are free")
        grow = not punch and not mode & FALLOC_KEEP_SIZE
        file.mtime_ns = None
        # Even if nothing else will change.
        self._files.attributes((yield SetAttributes(file.ino, mtime_ns=now_ns)))
        if punch or zero or (grow and (end > file.size or file.contended)):
            work = partial(self._allocate_slowly, file, offset, end, punch or zero, grow, now_ns)
            yield from self._sharing.alone(file, work)

    def _allocate_slowly(self, file: FileData, offset: int, end: int, clear: bool, grow: bool, now_ns: int) -> None:
        """On the pool, alone with the file."""
        self.trim_again(file)
        with self._lock:
            contended = file.contended
        if contended:
            self.convert(file)
        if clear:
            self._writing.drain(file)
            self._clear(file, offset, min(end, file.size), now_ns)
        if grow and end > file.size:
            change = SetAttributes(file.ino, size=end)
            with self._lock:
                inline = not file.in_objects and end <= self._writing.inline_limit_bytes
            if inline:
                self._writing.drain(file)
                attributes = self._tasks.wait(change)
                with self._lock:
                    self._writing.resized(file, attributes)
            else:
                self._set_size_slowly(file, change)

    def _clear(self, file: FileData, offset: int, end: int, now_ns: int) -> None:
        """Make [offset, end), within the size, read as zeros. Nothing is dirty."""
        if offset >= end:
            return
        self._load(file)
        with self._lock:
            if not file.in_objects:
                self._writing.put(file, offset, bytes(end - offset))
                file.changed = True
                file.version += 1
                file.mtime_ns = now_ns
                return
            file.sparse = True
            if file.mtime_ns is not None:
                file.mtime_ns = now_ns
            told = Publish(file.ino, file.stored_size, now_ns, None, True)
            self._settling.changes(file.ino)
        file.seen = self._tasks.wait(told)
        failpoint("data.clear.told")
        self._metadata.sync()
        for index, start, length in extents(offset, end - offset, file.block_bytes):
            if length == file.block_bytes:
                self._store.remove(file.ino, index).result()
            else:
                self._store.zero(file.ino, index, start, length).result()
        failpoint("data.clear.after")
        with self._lock:
            self._settling.note_unsynced(file, range(offset // file.block_bytes, block_count(end, file.block_bytes)))

    # -- looking for holes ------------------------------------------------------------------------------------------

    def seek(self, file: FileData, offset: int, whence: int) -> Task[int]:
        """A task, SEEK_DATA and SEEK_HOLE: by whole blocks; a file without holes is all data."""
        data = whence == os.SEEK_DATA
        if file.contended:
            self._files.attributes((yield GetAttributes(file.ino)))
        if offset < 0 or offset >= file.size:
            raise OSError(ENXIO, "beyond the end")
        if not file.in_objects or not file.sparse:
            return offset if data else file.size
        work: Callable[[], Any] = partial(self._seek_slowly, file, offset, data)
        found: int = yield from self._sharing.alone(file, work, reshapes=False)
        return found

    def _seek_slowly(self, file: FileData, offset: int, data: bool) -> int:
        self._writing.drain(file)
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
