"""A read-only file system with one file. ``python -m loligo_fuse.examples.hello DIRECTORY``, Ctrl-C ends it."""

import errno
import stat
import sys
from collections.abc import Iterator
from dataclasses import dataclass

from loligo_fuse import (
    ROOT_ID,
    Context,
    DirectoryEntry,
    Opened,
    Operations,
    Session,
    mount,
    unmount,
)

NAME = b"hello.txt"
FILE_INO = 2
CONTENT = b"Hello from a file system in Python.\n"


@dataclass(frozen=True)
class Inode:
    ino: int
    mode: int
    nlink: int
    size: int = 0
    generation: int = 0
    uid: int = 0
    gid: int = 0
    rdev: int = 0
    blocks: int = 0
    block_size: int = 4096
    atime_ns: int = 0
    mtime_ns: int = 0
    ctime_ns: int = 0


INODES = {
    ROOT_ID: Inode(ROOT_ID, stat.S_IFDIR | 0o755, nlink=2),
    FILE_INO: Inode(FILE_INO, stat.S_IFREG | 0o444, nlink=1, size=len(CONTENT)),
}


class Hello(Operations):
    def lookup(self, ctx: Context, parent: int, name: bytes) -> Inode | None:
        return INODES[FILE_INO] if (parent, name) == (ROOT_ID, NAME) else None

    def getattr(self, ctx: Context, ino: int, handle: int | None) -> Inode:
        return INODES[ino]

    def readdir(self, ctx: Context, ino: int, handle: int, cookie: int, plus: bool) -> Iterator[DirectoryEntry]:
        names = [(b".", ROOT_ID, None), (b"..", ROOT_ID, None), (NAME, FILE_INO, INODES[FILE_INO])]
        for index, (name, entry_ino, attributes) in enumerate(names[cookie:], start=cookie):
            yield name, index + 1, entry_ino, INODES[entry_ino].mode, attributes

    def open(self, ctx: Context, ino: int, flags: int) -> Opened:
        if flags & 3:
            raise OSError(errno.EROFS, "read-only")
        return Opened()

    def read(self, ctx: Context, ino: int, handle: int, offset: int, size: int) -> bytes:
        return CONTENT[offset : offset + size]


def main(directory: str) -> None:
    fd = mount(directory, fsname="hello", subtype="hello", options=["ro", "default_permissions"])
    try:
        Session(fd, Hello()).run()
    except KeyboardInterrupt:
        unmount(directory, lazy=True)


if __name__ == "__main__":
    main(sys.argv[1])
