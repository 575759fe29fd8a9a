"""Objects as files in a folder: the store of embedded volumes.

``<directory>/<2 hex digits>/<object name>``. The 256 folders keep directories small. Neighbouring
inode numbers share a folder: files made together are read and removed together, and syncing them
touches few folders.

Rules
1. An `_OpenObject` owns a descriptor and closes it when its last reference goes. The cache holds
   one reference and every call in flight holds its own, so a descriptor is never closed, nor its
   number used again, under somebody's feet. That needs CPython's reference counts; in return a hit
   takes no lock.
2. Opening (into the cache) and unlinking (out of it) happen under `_lock`: after `remove` has
   returned, nobody finds the removed file in the cache, whoever was opening it meanwhile.
3. Up to INLINE_LIMIT_BYTES are written on the caller's thread: copying them into the page cache is
   cheaper than a hand-over. The kernel may still make such a writer wait, when too much is dirty.
4. A folder is "unsynced" from a change of its names until its fsync. All are at the start: the
   process before us may have died between the two.

What it does not do: it does not lock the directory against a second process; the volume does.
"""

import contextlib
import ctypes
import errno
import os
import stat
import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

from loligo_runtime.failpoint import declare, failpoint
from loligo_runtime.local_file import punch, read_soon
from loligo_runtime.object_store import (
    DONE,
    MISSING,
    OWNER_NAME,
    BytesLike,
    Missing,
    ObjectKey,
    StoreMissingError,
    completed,
    failed,
    parse_object_name,
    remove_one_by_one,
    taken,
)

FOLDERS = 256
OPEN_OBJECTS = 128
THREADS = 4
INLINE_LIMIT_BYTES = 128 * 1024
READ_NOW_LIMIT_BYTES = 1024 * 1024  # the largest FUSE read

# O_NOATIME: an update of the access time may wait for the journal, and read_now must not wait.
_OPEN_FLAGS = os.O_RDWR | os.O_CLOEXEC | os.O_NOATIME
_SYNC_FILE_RANGE_WRITE = 2

declare(
    "objects.write.before",
    "objects.write.after",
    "objects.truncate.before",
    "objects.truncate.after",
    "objects.zero.before",
    "objects.zero.after",
    "objects.remove.before",
    "objects.remove.after",
    "objects.sync.before",
    "objects.sync.after",
    "objects.sync_all.before",
    "objects.sync_all.after",
)

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syncfs.argtypes = (ctypes.c_int,)
_libc.sync_file_range.argtypes = (ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint)


class _OpenObject:
    __slots__ = ("fd",)

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def __del__(self) -> None:
        os.close(self.fd)


def _folder(ino: int, index: int) -> int:
    return (ino + index) >> 8 & (FOLDERS - 1)


def _path(ino: int, index: int) -> str:
    return f"{(ino + index) >> 8 & (FOLDERS - 1):02x}/{ino:016x}.{index:08x}"


class LocalObjectStore:
    """See `loligo_runtime.object_store.ObjectStore` for the methods."""

    def __init__(self, directory: bytes, *, create: bool) -> None:
        """Open the store in `directory`, and make it first if told to.

        StoreMissingError if there is none, OSError if the folder cannot be used.
        """
        if create:
            _make_folders(directory)
        try:
            self._directory_fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except (FileNotFoundError, NotADirectoryError):
            raise StoreMissingError(
                f"no folder {os.fsdecode(directory)!r} to keep data in; "
                "make the volume first, or mount the disk that it is on"
            ) from None
        if not _has_folders(self._directory_fd):
            os.close(self._directory_fd)
            raise StoreMissingError(
                f"{os.fsdecode(directory)!r} holds no object store (it has no folders 00 … ff); "
                "make the volume first, or mount the disk that it is on"
            )
        self._lock = threading.Lock()
        self._open: OrderedDict[ObjectKey, _OpenObject] = OrderedDict()
        self._sync_lock = threading.Lock()
        self._unsynced = bytearray(b"\1" * FOLDERS)
        self._nowait_works = True
        self._scratch: list[memoryview] = []
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="local-objects")

    # -- reading ---------------------------------------------------------------------------------

    def read_now(self, ino: int, index: int, offset: int, length: int) -> bytes | Missing | None:
        opened = self._find(ino, index)
        if opened is None:
            return MISSING
        if length > READ_NOW_LIMIT_BYTES or not self._nowait_works:
            return None
        # One long-lived buffer and one copy: a fresh one for each read would be cleared first.
        try:
            buffer = self._scratch.pop()
        except IndexError:
            buffer = memoryview(bytearray(READ_NOW_LIMIT_BYTES))
        try:
            part = (buffer[:length],)
            count = read_soon(opened.fd, part, offset)
            if count < length and os.fstat(opened.fd).st_size > offset + count:
                return None  # only the beginning is in the page cache
            return buffer[:count].tobytes()
        except BlockingIOError:
            return None
        except OSError as error:
            if error.errno != errno.EOPNOTSUPP:
                raise
            self._nowait_works = False
            return None
        finally:
            self._scratch.append(buffer)

    def read(self, ino: int, index: int, offset: int, length: int) -> Future[bytes | Missing]:
        return self._threads.submit(self._read, ino, index, offset, length)

    def _read(self, ino: int, index: int, offset: int, length: int) -> bytes | Missing:
        opened = self._find(ino, index)
        return MISSING if opened is None else os.pread(opened.fd, length, offset)

    def size(self, ino: int, index: int) -> Future[int | None]:
        try:
            return completed(os.stat(_path(ino, index), dir_fd=self._directory_fd).st_size)
        except FileNotFoundError:
            return completed(None)
        except OSError as error:
            return failed(error)

    # -- changing --------------------------------------------------------------------------------

    def write(self, ino: int, index: int, offset: int, data: BytesLike) -> Future[None]:
        # To make a file costs a local file system 100 µs and more, and the caller serves everybody.
        if len(data) > INLINE_LIMIT_BYTES or (ino, index) not in self._open:
            return self._threads.submit(self._write, ino, index, offset, data)
        try:
            self._write(ino, index, offset, data)
        except OSError as error:
            return failed(error)
        return DONE

    def _write(self, ino: int, index: int, offset: int, data: BytesLike) -> None:
        key = (ino, index)
        failpoint("objects.write.before")
        opened = self._still_open(key) or self._open_file(key, os.O_CREAT)
        try:
            written = os.pwrite(opened.fd, data, offset)
            while written < len(data):
                written += os.pwrite(opened.fd, memoryview(data)[written:], offset + written)
        finally:
            del opened, data  # whoever keeps the error keeps this frame: the file would stay open, and take up space
        failpoint("objects.write.after")

    def truncate(self, ino: int, index: int, length: int) -> Future[None]:
        try:
            opened = self._find(ino, index)
            if opened is not None:
                failpoint("objects.truncate.before")
                os.ftruncate(opened.fd, length)
                failpoint("objects.truncate.after")
        except OSError as error:
            return failed(error)
        return DONE

    def zero(self, ino: int, index: int, offset: int, length: int) -> Future[None]:
        try:
            opened = self._find(ino, index)
            if opened is not None:
                failpoint("objects.zero.before")
                _zero(opened.fd, offset, length)
                failpoint("objects.zero.after")
        except OSError as error:
            return failed(error)
        return DONE

    def remove(self, ino: int, index: int) -> Future[None]:
        try:
            size = os.stat(_path(ino, index), dir_fd=self._directory_fd).st_size
            if size > INLINE_LIMIT_BYTES:  # giving its pages back takes a while
                return self._threads.submit(self._remove, ino, index)
            self._remove(ino, index)
        except FileNotFoundError:
            return DONE
        except OSError as error:
            return failed(error)
        return DONE

    def remove_many(self, objects: Iterable[ObjectKey]) -> dict[int, OSError]:
        return remove_one_by_one(self, objects)

    def _remove(self, ino: int, index: int) -> None:
        failpoint("objects.remove.before")
        with self._lock:
            opened = self._open.pop((ino, index), None)
            with contextlib.suppress(FileNotFoundError):
                os.unlink(_path(ino, index), dir_fd=self._directory_fd)
            self._unsynced[_folder(ino, index)] = 1
        del opened  # closing frees the pages: not under the lock
        failpoint("objects.remove.after")

    # -- power loss ------------------------------------------------------------------------------

    def sync(self, objects: Iterable[ObjectKey]) -> Future[None]:
        return self._threads.submit(self._sync, list(objects))

    def _sync(self, objects: list[ObjectKey]) -> None:
        failpoint("objects.sync.before")
        if len(objects) > 1:
            # All of them on their way to the disk before the first is waited for.
            for key in objects:
                opened = self._find(*key)
                if opened is not None:
                    _libc.sync_file_range(opened.fd, 0, 0, _SYNC_FILE_RANGE_WRITE)
        for key in objects:
            opened = self._find(*key)
            if opened is not None:
                os.fdatasync(opened.fd)
        for folder in sorted({_folder(*key) for key in objects}):
            # Under the lock, or a second caller could see "synced" before the first one's fsync is
            # done.
            with self._sync_lock:
                if self._unsynced[folder]:
                    self._unsynced[folder] = 0
                    try:
                        self._sync_folder(folder)
                    except OSError:
                        self._unsynced[folder] = 1
                        raise
        failpoint("objects.sync.after")

    def _sync_folder(self, folder: int) -> None:
        fd = os.open(f"{folder:02x}", os.O_RDONLY | os.O_CLOEXEC, dir_fd=self._directory_fd)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def sync_all(self) -> Future[None]:
        return self._threads.submit(self._sync_all)

    def _sync_all(self) -> None:
        failpoint("objects.sync_all.before")
        with self._sync_lock:
            self._unsynced[:] = bytes(FOLDERS)
            if _libc.syncfs(self._directory_fd) != 0:
                self._unsynced[:] = b"\1" * FOLDERS
                raise _last_error()
        failpoint("objects.sync_all.after")

    # -- the whole -------------------------------------------------------------------------------

    def owner(self) -> str | None:
        try:
            fd = os.open(OWNER_NAME, os.O_RDONLY | os.O_CLOEXEC, dir_fd=self._directory_fd)
        except FileNotFoundError:
            return None
        try:
            return os.read(fd, 256).decode().strip()
        finally:
            os.close(fd)

    def claim(self, owner: str) -> None:
        # A link fails if the name is there, and appears with its content or not at all.
        partial = f"{OWNER_NAME}.{owner}"
        fd = os.open(partial, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o644, dir_fd=self._directory_fd)
        try:
            os.write(fd, owner.encode() + b"\n")
            os.fsync(fd)
            with contextlib.suppress(FileExistsError):
                os.link(partial, OWNER_NAME, src_dir_fd=self._directory_fd, dst_dir_fd=self._directory_fd)
        finally:
            os.close(fd)
            os.unlink(partial, dir_fd=self._directory_fd)
        os.fsync(self._directory_fd)
        if self.owner() != owner:
            raise taken(self.owner())

    def list(self) -> Iterator[tuple[int, int, int]]:
        for folder in range(FOLDERS):
            fd = os.open(f"{folder:02x}", os.O_RDONLY | os.O_CLOEXEC, dir_fd=self._directory_fd)
            try:
                for name in os.listdir(fd):
                    key = parse_object_name(name)
                    if key is not None:
                        with contextlib.suppress(FileNotFoundError):  # removed meanwhile
                            yield *key, os.stat(name, dir_fd=fd).st_size
            finally:
                os.close(fd)

    def usage(self) -> tuple[int, int]:
        self._close_removed()
        space = os.statvfs(self._directory_fd)
        return space.f_blocks * space.f_frsize, space.f_bavail * space.f_frsize

    def _close_removed(self) -> None:
        """Files that another process has removed take up their space for as long as they are open here."""
        with self._lock:
            gone = [key for key, opened in list(self._open.items()) if not os.fstat(opened.fd).st_nlink]
            closed = [self._open.pop(key) for key in gone]
        del closed

    def addresses(self) -> tuple[str, ...]:
        return ()

    def shut_out(self, addresses: Iterable[str]) -> None:
        pass

    def close(self) -> None:
        self._threads.shutdown(wait=True)
        self._open.clear()
        os.close(self._directory_fd)

    # -- open files ------------------------------------------------------------------------------

    def _find(self, ino: int, index: int) -> _OpenObject | None:
        """The object's file, opened; None if the object is missing."""
        key = (ino, index)
        opened = self._still_open(key)
        if opened is None:
            try:
                return self._open_file(key, 0)
            except FileNotFoundError:
                return None
        return opened

    def _still_open(self, key: ObjectKey) -> _OpenObject | None:
        """The object's file, if it is open and still is the object: another client may have removed it, and made it anew."""
        try:
            opened = self._open[key]
            self._open.move_to_end(key)
        except KeyError:
            return None
        if os.fstat(opened.fd).st_nlink:
            return opened
        with self._lock:
            if self._open.get(key) is opened:
                del self._open[key]
        return None

    def _open_file(self, key: ObjectKey, create_flag: int) -> _OpenObject:
        with self._lock:
            opened = self._open.get(key)
            if opened is not None:
                return opened
            flags = _OPEN_FLAGS | create_flag
            fd = os.open(_path(*key), flags, 0o600, dir_fd=self._directory_fd)
            self._open[key] = opened = _OpenObject(fd)
            if create_flag:
                self._unsynced[_folder(*key)] = 1
            evicted = self._open.popitem(last=False) if len(self._open) > OPEN_OBJECTS else None
        del evicted  # closed outside the lock
        return opened


def _make_folders(directory: bytes) -> None:
    os.makedirs(directory, mode=0o700, exist_ok=True)
    for folder in range(FOLDERS):
        with contextlib.suppress(FileExistsError):
            os.mkdir(os.path.join(directory, b"%02x" % folder), 0o700)
    for path in (directory, os.path.dirname(os.path.abspath(directory))):
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


def _has_folders(directory_fd: int) -> bool:
    # The last one is made last: it stands for all.
    try:
        mode = os.stat(f"{FOLDERS - 1:02x}", dir_fd=directory_fd).st_mode
    except FileNotFoundError:
        return False
    return stat.S_ISDIR(mode)


def _zero(fd: int, offset: int, length: int) -> None:
    length = min(length, os.fstat(fd).st_size - offset)
    if length <= 0:
        return
    if punch(fd, offset, length):
        return
    zeros = bytes(length)
    written = 0
    while written < length:
        written += os.pwrite(fd, memoryview(zeros)[written:], offset + written)


def _last_error() -> OSError:
    code = ctypes.get_errno()
    return OSError(code, os.strerror(code))
