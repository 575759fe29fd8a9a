"""A small tree of files, twice: `Disk` changes a real directory, `Model` remembers what a crash may leave of it.

Both have the same methods, one a call of the workload, so a call is its name and arguments.

What a killed mount process must keep, and `Model.differences` checks:
1. Every answered change of names, links, modes, xattrs, sizes set by truncate, and times that were set.
2. The bytes of a file as they were at its last fsync, or when it was renamed over another file. (Not at a syncfs: the
   kernel does not tell a FUSE file system of one.)
3. Bytes written since: each byte is one that the file had at that place then or later, never a foreign one, and a zero
   only where there was a zero or a hole; the size lies between the sizes that it had.
The call that was under way when the process died may have happened or not: the caller tries both models.

After a loss of power less is promised (`Model(power_loss=True)`): only an fsync makes bytes certain, of its file, and
changes of names up to it, all of them. Of the changes since then a first part may be there: the caller tries the models
after each. Where a file with holes has grown since, zeros may stand for what was written.
"""

import ctypes
import errno
import os
import stat
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

Call = tuple[str, tuple[Any, ...]]

#: More than one block of 64 KiB, and never much: every check reads everything.
FILE_LIMIT_BYTES = 300_000
_PUNCH_HOLE_KEEP_SIZE = 0x02 | 0x01

_libc = ctypes.CDLL(None, use_errno=True)
_libc.fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)


class Disk:
    """The calls as an application makes them. Raises OSError, once the mount is dead."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._held: list[int] = []

    def create(self, path: str, mode: int) -> None:
        os.close(os.open(self._root / path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, mode))

    def write(self, path: str, offset: int, data: bytes, hold: bool) -> None:
        """`hold`: leave the file open, so that nothing but time sends its bytes to the store."""
        fd = os.open(self._root / path, os.O_WRONLY)
        try:
            if os.pwrite(fd, data, offset) != len(data):
                raise OSError(errno.ECONNABORTED, "the mount died in the middle")
        except BaseException:
            with suppress(OSError):
                os.close(fd)
            raise
        if hold:
            self._held.append(fd)
        else:
            os.close(fd)

    def truncate(self, path: str, size: int) -> None:
        os.truncate(self._root / path, size)

    def punch(self, path: str, offset: int, length: int) -> None:
        fd = os.open(self._root / path, os.O_WRONLY)
        try:
            if _libc.fallocate(fd, _PUNCH_HOLE_KEEP_SIZE, offset, length) != 0:
                raise OSError(ctypes.get_errno(), "fallocate")
        finally:
            with suppress(OSError):
                os.close(fd)

    def fsync(self, path: str) -> None:
        fd = os.open(self._root / path, os.O_WRONLY)
        try:
            os.fsync(fd)
        finally:
            with suppress(OSError):
                os.close(fd)

    def hold(self, path: str) -> None:
        self._held.append(os.open(self._root / path, os.O_RDWR))

    def let_go(self) -> None:
        """Close what is held."""
        while self._held:
            with suppress(OSError):
                os.close(self._held.pop())

    def mkdir(self, path: str, mode: int) -> None:
        os.mkdir(self._root / path, mode)

    def rmdir(self, path: str) -> None:
        os.rmdir(self._root / path)

    def symlink(self, target: str, path: str) -> None:
        os.symlink(target, self._root / path)

    def link(self, path: str, new: str) -> None:
        os.link(self._root / path, self._root / new)

    def unlink(self, path: str) -> None:
        os.unlink(self._root / path)

    def rename(self, path: str, new: str) -> None:
        os.rename(self._root / path, self._root / new)

    def chmod(self, path: str, mode: int) -> None:
        os.chmod(self._root / path, mode)

    def set_mtime(self, path: str, mtime_ns: int) -> None:
        os.utime(self._root / path, ns=(mtime_ns, mtime_ns))

    def set_xattr(self, path: str, name: str, value: bytes) -> None:
        os.setxattr(self._root / path, name, value)

    def remove_xattr(self, path: str, name: str) -> None:
        os.removexattr(self._root / path, name)

    def read(self, path: str) -> bytes:
        return (self._root / path).read_bytes()


@dataclass(frozen=True, slots=True)
class Node:
    """`versions`: a file's contents at its last fsync and after each write since."""

    kind: int
    mode: int
    versions: tuple[bytes, ...] = (b"",)
    target: str = ""
    xattrs: dict[str, bytes] = field(default_factory=dict)
    mtime_ns: int | None = None

    @property
    def content(self) -> bytes:
        return self.versions[-1]


@dataclass(slots=True)
class Seen:
    """What a look at one name found."""

    status: os.stat_result
    content: bytes
    target: str
    xattrs: dict[str, bytes]


def _raise(error: OSError) -> None:
    """What cannot be listed is not empty."""
    raise error


def look(root: Path) -> dict[str, Seen]:
    """Everything below `root`, read whole."""
    seen: dict[str, Seen] = {}
    for folder, directories, files in os.walk(root, onerror=_raise):
        for name in directories + files:
            path = Path(folder, name)
            status = path.lstat()
            is_link = stat.S_ISLNK(status.st_mode)
            seen[str(path.relative_to(root))] = Seen(
                status,
                path.read_bytes() if stat.S_ISREG(status.st_mode) else b"",
                os.readlink(path) if is_link else "",
                {} if is_link else {key: os.getxattr(path, key) for key in os.listxattr(path)},
            )
    return seen


class Model:
    def __init__(self, *, power_loss: bool = False) -> None:
        self._power_loss = power_loss
        self.names: dict[str, int] = {}
        self.nodes: dict[int, Node] = {}
        self._next = 1

    def copy(self) -> "Model":
        copied = Model(power_loss=self._power_loss)
        copied.names, copied.nodes, copied._next = dict(self.names), dict(self.nodes), self._next
        return copied

    def at(self, path: str) -> Node:
        return self.nodes[self.names[path]]

    def _change(self, path: str, **changes: Any) -> None:
        self.nodes[self.names[path]] = replace(self.at(path), **changes)

    def _make(self, path: str, node: Node) -> None:
        self.names[path] = self._next
        self.nodes[self._next] = node
        self._next += 1

    # -- the calls, see `Disk` ------------------------------------------------------------------------------------

    def create(self, path: str, mode: int) -> None:
        self._make(path, Node(stat.S_IFREG, mode))

    def write(self, path: str, offset: int, data: bytes, hold: bool) -> None:
        old = self.at(path)
        new = old.content[:offset].ljust(offset, b"\0") + data + old.content[offset + len(data) :]
        self._change(path, versions=(*old.versions, new), mtime_ns=None)

    def truncate(self, path: str, size: int) -> None:
        old = self.at(path)
        new = old.content[:size].ljust(size, b"\0")
        self._change(path, versions=(*old.versions, new) if self._power_loss else (new,), mtime_ns=None)

    def punch(self, path: str, offset: int, length: int) -> None:
        old = self.at(path)
        zeros = bytes(max(0, min(length, len(old.content) - offset)))
        new = old.content[:offset] + zeros + old.content[offset + len(zeros) :]
        self._change(path, versions=(*old.versions, new), mtime_ns=None)

    def fsync(self, path: str) -> None:
        self._change(path, versions=(self.at(path).content,))

    def hold(self, path: str) -> None:
        pass

    def let_go(self) -> None:
        pass

    def mkdir(self, path: str, mode: int) -> None:
        self._make(path, Node(stat.S_IFDIR, mode))

    def rmdir(self, path: str) -> None:
        del self.names[path]

    def symlink(self, target: str, path: str) -> None:
        self._make(path, Node(stat.S_IFLNK, 0o777, target=target))

    def link(self, path: str, new: str) -> None:
        self.names[new] = self.names[path]

    def unlink(self, path: str) -> None:
        del self.names[path]

    def rename(self, path: str, new: str) -> None:
        if new in self.names and self.at(path).kind == stat.S_IFREG and not self._power_loss:
            self.fsync(path)
        for old in [old for old in self.names if old == path or old.startswith(path + "/")]:
            self.names[new + old[len(path) :]] = self.names.pop(old)

    def chmod(self, path: str, mode: int) -> None:
        self._change(path, mode=mode)

    def set_mtime(self, path: str, mtime_ns: int) -> None:
        self._change(path, mtime_ns=mtime_ns)

    def set_xattr(self, path: str, name: str, value: bytes) -> None:
        self._change(path, xattrs={**self.at(path).xattrs, name: value})

    def remove_xattr(self, path: str, name: str) -> None:
        self._change(path, xattrs={key: value for key, value in self.at(path).xattrs.items() if key != name})

    # -- the check ------------------------------------------------------------------------------------------------

    def differences(self, seen: dict[str, Seen], latest: "Model | None" = None) -> list[str]:
        """How what was found contradicts this model, in words. Bytes may be as late as in `latest`."""
        found = [f"{path} is missing" for path in self.names.keys() - seen.keys()]
        found += [f"{path} is there, and should not be" for path in seen.keys() - self.names.keys()]
        inos: dict[int, int] = {}
        links = list(self.names.values())
        for path in self.names.keys() & seen.keys():
            node, one = self.at(path), seen[path]
            number = self.names[path]
            if inos.setdefault(number, one.status.st_ino) != one.status.st_ino:
                found.append(f"{path} is another file than the other names of the same one")
            if (one.status.st_mode, one.target, one.xattrs) != (node.kind | node.mode, node.target, node.xattrs):
                found.append(f"{path}: {one.status.st_mode:o} {one.target} {one.xattrs}, not {node}")
            if node.kind != stat.S_IFDIR and one.status.st_nlink != links.count(number):
                found.append(f"{path} has {one.status.st_nlink} links, not {links.count(number)}")
            may_be_cut = self._power_loss and len(node.versions) > 1
            if node.mtime_ns not in (None, one.status.st_mtime_ns) and not may_be_cut:
                found.append(f"{path} has mtime {one.status.st_mtime_ns}, not {node.mtime_ns}")
            if node.kind == stat.S_IFREG:
                versions = (latest or self).nodes[number].versions
                if (
                    not self._power_loss
                ):  # a truncate under way, which leaves no other in `latest`, may not have happened
                    versions += node.versions
                certain = min(map(len, versions)) if self._power_loss else FILE_LIMIT_BYTES
                found += _content_differences(path, versions, one.content, certain)
        if len(set(inos.values())) != len(inos):
            found.append("one file has the names of two")
        return found

    def settle_on(self, seen: dict[str, Seen]) -> None:
        """Whatever was found is what the files hold from now on."""
        for path, one in seen.items():
            is_file = self.at(path).kind == stat.S_IFREG
            self._change(path, versions=(one.content,), mtime_ns=one.status.st_mtime_ns if is_file else None)


def _content_differences(path: str, versions: tuple[bytes, ...], content: bytes, certain: int) -> list[str]:
    if content in versions:
        return []
    sizes = [len(version) for version in versions]
    if not min(sizes) <= len(content) <= max(sizes):
        return [f"{path} has {len(content)} bytes; it had {sizes}"]
    for at, byte in enumerate(content):
        possible = {version[at] for version in versions if at < len(version)}
        if byte not in possible and (byte or at < certain):
            return [f"{path} has {byte:#x} at {at}, and never had; sizes {len(content)} of {sizes}"]
    return []
