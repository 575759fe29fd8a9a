"""What a restore does with its hands: looks, makes directories, moves.

Root restores what others own, and they may change the tree meanwhile; so every path is walked from the root of the mount,
directory by directory, and no symlink is followed. What may not be looked at is PermissionError, with the full path of the
directory that does not let us.
"""

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from typing import Final

from loligo_trash.restore_plan import Directory, There, join

_WALK: Final = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_READ: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_OPEN_MAX: Final = 64
#: What who makes a directory needs in it.
_OWNER_WX: Final = 0o300


class Hands:
    """Paths are bytes, from the root. Use it as a context manager, which gives descriptors back and closes directories that
    nobody was to write in.
    """

    def __init__(self, root: bytes) -> None:
        self._path = root
        self._root = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        self._open: dict[bytes, int] = {}
        #: Directories, by path, that get their modes last.
        self._modes: dict[bytes, int] = {}

    def __enter__(self) -> "Hands":
        return self

    def __exit__(self, *exception: object) -> None:
        try:
            for path, mode in reversed(self._modes.items()):
                with contextlib.suppress(OSError):  # it is there, with a mode that is wider for its owner
                    self._set_mode(path, mode)
        finally:
            self._forget()
            os.close(self._root)

    def reach(self, path: bytes) -> bytes:
        """A short path to that directory, valid until the second next call. OSError"""
        return b"/proc/self/fd/%d" % self._directory(path)

    def look(self, path: bytes) -> There:
        above, name = os.path.split(path)
        directory = self._directory(above)
        try:
            with self._saying_where(above):
                found = os.stat(name, dir_fd=directory, follow_symlinks=False)
        except FileNotFoundError:
            return There.NOTHING
        return There.DIRECTORY if stat.S_ISDIR(found.st_mode) else There.OTHER

    def make(self, path: bytes, like: Directory) -> None:
        """With its mode and, as far as this user may, its owner. OSError."""
        above, name = os.path.split(path)
        os.mkdir(name, 0o700, dir_fd=self._directory(above))
        directory = os.open(name, _READ, dir_fd=self._directory(above))
        try:
            with contextlib.suppress(PermissionError):
                os.fchown(directory, like.uid, like.gid)
            if os.geteuid() != 0 and like.mode & _OWNER_WX != _OWNER_WX:
                self._modes[path] = like.mode
            else:
                os.fchmod(directory, like.mode)
        finally:
            os.close(directory)

    def move(self, source: bytes, target: bytes) -> None:
        """OSError; EEXIST: nothing is replaced."""
        above, name = os.path.split(source)
        new_above, new_name = os.path.split(target)
        new_directory = self._directory(new_above)
        try:
            os.rename(name, new_name, src_dir_fd=self._directory(above), dst_dir_fd=new_directory)
        except OSError as error:
            if error.errno in (errno.ENOTEMPTY, errno.ENOTDIR, errno.EISDIR):  # the kernel compared them
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST)) from None
            raise

    def _set_mode(self, path: bytes, mode: int) -> None:
        above, name = os.path.split(path)
        directory = os.open(name, _READ, dir_fd=self._directory(above))
        try:
            os.fchmod(directory, mode)
        finally:
            os.close(directory)

    def _directory(self, path: bytes) -> int:
        """Valid until the second next call."""
        if not path:
            return self._root
        found = self._open.pop(path, None)
        if found is None:
            found = self._walk(path)
        self._open[path] = found  # as the last
        if len(self._open) > _OPEN_MAX:
            os.close(self._open.pop(next(iter(self._open))))
        return found

    def _walk(self, path: bytes) -> int:
        above, _, name = path.rpartition(b"/")
        if above in self._open or not above:
            directory = self._directory(above)
            with self._saying_where(above):
                return os.open(name, _WALK, dir_fd=directory)
        at = os.dup(self._root)
        above = b""
        for step in path.split(b"/"):
            try:
                with self._saying_where(above):
                    below = os.open(step, _WALK, dir_fd=at)
            finally:
                os.close(at)
            at = below
            above = join(above, step)
        return at

    @contextlib.contextmanager
    def _saying_where(self, directory: bytes) -> Iterator[None]:
        try:
            yield
        except PermissionError as error:
            full = join(self._path.rstrip(b"/"), directory) if directory else self._path
            raise PermissionError(error.errno, error.strerror, full) from None

    def _forget(self) -> None:
        while self._open:
            os.close(self._open.popitem()[1])
