"""`.loligo` at the root of a mount: files that tell of the mount itself, and that the volume does not have.

Rules
1. Its name and its inode numbers are the mount's own: see `own_names`.
2. Nothing in it can be changed, by nobody: names and attributes are EPERM, opening for writing is EACCES.
3. A file's content is made when it is opened, and read past the kernel's pages. The kernel believes nothing of it for long.
4. They can be read while the metadata server is away, and after it has ended the session: the root, on the way to them, is then
   shown as it was last.

What the files say is somebody else's: a row of the table is a name, and what is called for the content.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from errno import EACCES, EBADF, EISDIR
from stat import S_IFDIR, S_IFREG
from typing import Final

from loligo_client.shell.own_names import CONTROL_NAME
from loligo_fuse import FOPEN_DIRECT_IO, FOPEN_NOFLUSH, Context, DirectoryEntry, Opened
from loligo_wire.attributes import Attributes
from loligo_wire.ids import FIRST_CLIENT_INO, ROOT_INO

_DIRECTORY_INO: Final = FIRST_CLIENT_INO


class ControlFiles:
    """Methods are operations on inodes from FIRST_CLIENT_INO on; all on the thread that serves the kernel."""

    def __init__(self, files: Mapping[bytes, Callable[[], bytes]], now_ns: Callable[[], int]) -> None:
        """`files`: name -> what makes the content."""
        self._now_ns = now_ns
        self._began_ns = now_ns()
        self._files: dict[int, Callable[[], bytes]] = {}
        self._inos: dict[tuple[int, bytes], int] = {(ROOT_INO, CONTROL_NAME): _DIRECTORY_INO}
        self._listing: list[DirectoryEntry] = [
            (b".", 1, _DIRECTORY_INO, S_IFDIR, None),
            (b"..", 2, ROOT_INO, S_IFDIR, None),
        ]
        for number, (name, content) in enumerate(files.items(), 1):
            ino = _DIRECTORY_INO + number
            self._files[ino] = content
            self._inos[_DIRECTORY_INO, name] = ino
            self._listing.append((name, len(self._listing) + 1, ino, S_IFREG, None))
        #: What is open. Handles are as far from those of the volume's files as the inode numbers are.
        self._opened: dict[int, bytes] = {}
        self._next_handle: int = FIRST_CLIENT_INO

    def lookup(self, ctx: Context, parent: int, name: bytes) -> Attributes | None:
        ctx.entry_timeout_s = 0.0
        ino = parent if name == b"." else self._inos.get((parent, name))
        return None if ino is None else self.getattr(ctx, ino)

    def getattr(self, ctx: Context, ino: int) -> Attributes:
        ctx.attribute_timeout_s = 0.0
        content = self._files.get(ino)
        now_ns = self._began_ns if content is None else self._now_ns()
        found = Attributes(ino, S_IFDIR | 0o555, nlink=2, atime_ns=now_ns, mtime_ns=now_ns, ctime_ns=now_ns)
        if content is not None:
            found.mode, found.nlink, found.size = S_IFREG | 0o444, 1, len(content())
        return found

    def readdir(self, cookie: int) -> Iterator[DirectoryEntry]:
        """A cookie is how many entries came before."""
        return iter(self._listing[cookie:])

    def open(self, ino: int, flags: int) -> Opened:
        content = self._files.get(ino)
        if content is None:
            raise OSError(EISDIR, "a directory")
        if flags & os.O_ACCMODE != os.O_RDONLY or flags & os.O_TRUNC:
            raise OSError(EACCES, "it can only be read")
        handle = self._next_handle
        self._next_handle = handle + 1
        self._opened[handle] = content()
        return Opened(handle, FOPEN_DIRECT_IO | FOPEN_NOFLUSH)

    def read(self, handle: int, offset: int, size: int) -> bytes:
        content = self._opened.get(handle)
        if content is None:
            raise OSError(EBADF, "no such handle")
        return content[offset : offset + size]

    def release(self, handle: int) -> None:
        self._opened.pop(handle, None)
