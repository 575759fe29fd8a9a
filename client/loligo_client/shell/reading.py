"""Reading: what is buffered, on top of what is in the inode or in objects.

What the store can answer at once is returned at once. Bytes that are missing from a file without holes are an EIO and a log
line that names the object, never zeros; but the file may have been cut or written anew, here or elsewhere, since it was
asked for them. So the attributes are asked for anew and the bytes read again, until that changes nothing.
"""

import logging
from collections.abc import Callable
from concurrent.futures import Future
from errno import EIO
from functools import partial
from typing import Any, TypeAlias

from loligo_client.shell.file_data import FileData
from loligo_client.shell.open_files import OpenFiles, state
from loligo_client.shell.pending import gather, pass_on
from loligo_client.shell.sharing import Sharing
from loligo_client.shell.tasks import Metadata, Result, Task, Tasks
from loligo_mds.core.requests import GetAttributes, ReadInline
from loligo_runtime.object_store import MISSING, ObjectStore, ShutOutError, object_name
from loligo_wire.attributes import Attributes
from loligo_wire.striping import extents

log = logging.getLogger(__name__)

Data: TypeAlias = bytes | bytearray | memoryview


class _BytesMissing(Exception):
    """An object is missing or short, where the file has no holes."""


class Reading:
    def __init__(
        self,
        metadata: Metadata,
        tasks: Tasks,
        store: ObjectStore,
        fresh: ObjectStore,
        files: OpenFiles,
        sharing: Sharing,
    ) -> None:
        """`fresh`: the store without what was read of it before; for files that others may be writing."""
        self._lock = metadata.lock
        self._tasks = tasks
        self._store = store
        self._fresh = fresh
        self._files = files
        self._sharing = sharing
        #: The store has refused this client for good. It must only take a note.
        self.on_shut_out: Callable[[], None]

    def read(self, file: FileData, offset: int, length: int) -> list[Data] | Future[list[Data]]:
        """The bytes from `offset`, fewer at the end of the file, as pieces to be joined."""
        with self._lock:
            if not (file.contended or file.quiet):
                wanted = min(length, file.size - offset)
                if wanted <= 0:
                    return []
                if file.in_objects:
                    if not file.buffer:
                        pieces = self._read_now(file, offset, wanted)
                        if pieces is not None:
                            return pieces
                        if offset % file.block_bytes + wanted <= file.block_bytes:
                            return self._read_one(file, offset, wanted)
                elif file.loaded:
                    return [file.buffer.content(offset, wanted)]
                elif (content := file.known_content()) is not None:
                    return [memoryview(content)[offset : offset + wanted]]
            return self._tasks.run(self._read(file, offset, length))

    def _read_now(self, file: FileData, offset: int, length: int) -> list[Data] | None:
        """None: that has to wait, or bytes are missing."""
        pieces: list[Data] = []
        read_now = self._store.read_now
        for index, start, piece in extents(offset, length, file.block_bytes):
            data = read_now(file.ino, index, start, piece)
            if data is None:
                return None
            if data is MISSING or len(data) < piece:
                if not file.sparse:
                    return None
                have = b"" if data is MISSING else bytes(data)
                data = have + bytes(piece - len(have))
            pieces.append(data)
        return pieces

    def _read_one(self, file: FileData, offset: int, length: int) -> Future[list[Data]]:
        """What is within one object, and usually there: a task would cost a fifth of the time that such a read takes."""
        index, start = divmod(offset, file.block_bytes)
        result = Result()

        def end(read: Future[Any]) -> None:
            error = read.exception()
            if error is not None:
                if isinstance(error, ShutOutError):
                    self.on_shut_out()
                result.set_exception(error)
                return
            data = read.result()
            if data is not MISSING and len(data) == length:
                result.set_result([data])
                return
            try:
                again = self._tasks.run(self._read(file, offset, length))
            except Exception as error:  # noqa: BLE001 - whoever waits for it is told
                result.set_exception(error)
                return
            if isinstance(again, Future):
                result.waits_for = again
                again.add_done_callback(partial(pass_on, result))
            else:
                result.set_result(again)

        asked = self._store.read(file.ino, index, start, length)
        result.waits_for = asked
        asked.add_done_callback(end)
        return result

    def _read(self, file: FileData, offset: int, length: int) -> Task[list[Data]]:
        known: Attributes | None = None
        while True:
            while file.quiet:
                yield from self._sharing.until_resumed(file)
            if file.contended and offset + length > file.size and known is None:
                known = yield from self._look_again(file)
            try:
                return (yield from self._read_once(file, offset, min(length, file.size - offset)))
            except ShutOutError:
                self.on_shut_out()
                raise
            except (_BytesMissing, FileNotFoundError) as missing:
                before, known = known, (yield from self._look_again(file))
                if before is not None and state(before) == state(known):
                    log.error("inode %d is damaged: %s", file.ino, missing)
                    raise OSError(EIO, str(missing)) from None

    def _look_again(self, file: FileData) -> Task[Attributes]:
        attributes: Attributes = yield GetAttributes(file.ino)
        self._files.saw(file, attributes)
        return attributes

    def _read_once(self, file: FileData, offset: int, length: int) -> Task[list[Data]]:
        if length <= 0:
            return []
        if not file.in_objects:
            if file.loaded:
                return [file.buffer.content(offset, length)]
            epoch = file.epoch
            content = yield ReadInline(file.ino)  # FileNotFoundError: it has moved into objects, or is empty
            if not file.contended and epoch == file.epoch:
                file.content_is(content)
            return [memoryview(content)[offset : offset + length]]
        # What is buffered wins; only the gaps between are asked of the store.
        buffered = file.buffer.read(offset, length) if file.buffer else []
        gaps = _gaps(offset, length, buffered) if buffered else [(offset, offset + length)]
        wanted = [extent for low, high in gaps for extent in extents(low, high - low, file.block_bytes)]
        results: list[Any] = []
        if wanted:
            store = self._fresh if file.contended else self._store
            results = yield gather([store.read(file.ino, *extent) for extent in wanted], list)
        pieces = [self._filled(file, *extent, data) for extent, data in zip(wanted, results, strict=True)]
        if not buffered:
            return pieces
        whole = bytearray(length)
        for (index, start, piece), data in zip(wanted, pieces, strict=True):
            at = index * file.block_bytes + start - offset
            whole[at : at + piece] = data
        for low, bytes_ in buffered:
            whole[low - offset : low - offset + len(bytes_)] = bytes_
        return [whole]

    def _filled(self, file: FileData, index: int, start: int, length: int, data: Any) -> Data:
        """What stands for a range of which the store has only `data`: zeros where the file may have holes.

        The file may have shrunk or been punched since the question was asked, so it is judged as it is now.
        """
        if data is not MISSING and len(data) == length:
            return data  # type: ignore[no-any-return]
        have = b"" if data is MISSING else bytes(data)
        if not file.sparse and index * file.block_bytes + start + len(have) < file.size:
            raise _BytesMissing(
                f"object {object_name(file.ino, index)} lacks bytes {start + len(have)} to {start + length},"
                " and the file has no holes"
            )
        return have + bytes(length - len(have))


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
