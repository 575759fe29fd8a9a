"""`.trash` at the root of a mount, as system calls show it: which mount a path is on, its batches, and what they have.

Whatever is asked here is asked as the user who runs the program; the file system shows people their own batches only, and root
all. How it is laid out is told in `loligo_client.shell.trash_files`.

Paths are bytes. Those "from the root" have no slash at either end, as in `loligo_trash.restore_plan`; `shown` makes of a path
what can be printed.
"""

import errno
import json
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from typing import Any, Final

from loligo.trash_hands import Hands
from loligo_client.shell.mount_state import Mounted, mount_points, mounts
from loligo_client.shell.own_names import BATCH_XATTR, BATCHES_XATTR, PLACE_XATTR, TRASH_NAME
from loligo_trash.names import batch_of_name
from loligo_trash.restore_plan import Directory, Removed, join

Path = str | bytes | os.PathLike[str] | os.PathLike[bytes]

#: Paths that are told of a batch.
_TOLD_MAX: Final = 100
#: What a getxattr says that finds none, or may not look.
_NO_XATTR = {errno.ENODATA, errno.ENOTSUP, errno.EACCES}


class TrashError(Exception):
    """What was asked of the trash cannot be done. The text says why, and what to do."""


@dataclass(frozen=True, slots=True)
class Batch:
    """What was removed together. Times are ns since 1970, sizes bytes.

    `label`: what the directory was called that was moved to the trash as a whole, if it was. What is in it is counted
    afterwards; before that is done (`is_counted`), `inodes` and `size_bytes` are too low. `due_ns`: when it may go for good; 0:
    now.
    """

    number: int
    name: str
    #: The directory of the mount.
    mount: str
    uid: int
    pid: int
    first_ns: int
    last_ns: int
    due_ns: int
    names: int
    inodes: int
    size_bytes: int
    label: str
    is_purged: bool
    is_paused: bool
    #: Some of it is gone for good.
    is_partly_purged: bool
    #: "high", "normal" or "low".
    priority: str
    #: Files a second at most; 0: as many as can be.
    rate: int
    is_counted: bool


@dataclass(frozen=True, slots=True)
class Listed:
    """A batch, and what it has at the path that was asked for, or below: some paths from the root, and whether these are all.

    `is_itself`: it has what had that very path, and not only something below.
    """

    batch: Batch
    paths: tuple[bytes, ...]
    is_all: bool
    is_itself: bool


class TrashFolder:
    """The trash of one mount."""

    def __init__(self, mount: Mounted) -> None:
        self.mount = mount
        self.root = os.fsencode(mount.directory)
        self.path = join(self.root.rstrip(b"/"), TRASH_NAME)
        #: A bind mount of a directory shows no trash.
        self.is_reachable = mount.root == "/" and os.path.isdir(self.path)

    def check_reachable(self) -> None:
        """TrashError"""
        if self.mount.root != "/":
            raise TrashError(
                f"{self.mount.directory} shows only {self.mount.root} of the volume, and the trash is at its root: do this"
                " where all of it is mounted"
            )
        if not self.is_reachable:
            raise TrashError(
                f"{self.mount.directory} has no trash: an older Loligo serves it; unmount it, and mount again"
            )

    def full(self, path: bytes) -> bytes:
        """Of a path from the root."""
        return join(self.root.rstrip(b"/"), path) if path else self.root

    # -- batches --------------------------------------------------------------------------------------------------------

    def names(self) -> dict[int, bytes]:
        """Number -> name, newest first."""
        found = {batch_of_name(name): name for name in os.listdir(self.path)}
        return {number: found[number] for number in sorted((n for n in found if n is not None), reverse=True)}

    def batch(self, name: bytes) -> Batch | None:
        """None: there is no such batch any more."""
        try:
            told = json.loads(os.getxattr(join(self.path, name), os.fsdecode(BATCH_XATTR)))
        except FileNotFoundError:
            return None
        return self._batch(os.fsdecode(name), told)

    def listed(self, below: bytes = b"") -> Iterator[Listed]:
        """Batches that have something at that path or below it, the newest first; of a path in `.trash` the batch that it is
        in. A few requests for all together, and for each that has a tree in which it would be. TrashError.
        """
        top, _, inner = below.partition(b"/")
        if top == TRASH_NAME and inner:
            yield from self._listed_in(inner)
            return
        below = b"" if top == TRASH_NAME else below
        for batch, paths, is_all in reversed(list(self._told())):
            name = os.fsencode(batch.name)
            found = tuple(path for path in paths if not below or is_below(path, below))
            is_itself = below in found
            if below and not is_itself and (not is_all or any(is_below(below, path) for path in paths)):
                is_itself = self.was_removed(name, below)
                if not found and self.has(name, below):
                    found, is_all = self._some_removed(name, below)
            if found:
                yield Listed(batch, found, is_all, is_itself)

    def _listed_in(self, inner: bytes) -> Iterator[Listed]:
        name, below = self.find(inner)
        batch = self.batch(name)
        if batch is not None:
            paths, is_all = self._some_removed(name, below)
            yield Listed(batch, paths, is_all, is_itself=True)

    def find(self, inner: bytes) -> tuple[bytes, bytes]:
        """Of a path in `.trash`: the batch, and what of it. TrashError if there is no such thing."""
        name, _, below = inner.partition(b"/")
        number = batch_of_name(name)
        if number is None:
            raise TrashError(
                f"{shown(join(self.path, name))} is no batch: 'loligo trash list {shown(self.root)}' shows which there are"
            )
        name = self.name_of(number)
        if below and not self.has(name, below):
            raise TrashError(f"batch {number} has no such thing: it was restored, or never was in it")
        return name, below

    def _told(self) -> Iterator[tuple[Batch, list[bytes], bool]]:
        """The oldest first."""
        after = 0
        while after is not None:
            page = json.loads(os.getxattr(self.path, f"{os.fsdecode(BATCHES_XATTR)}.{after}"))
            for told in page["batches"]:
                yield self._batch(told["name"], told), list(map(os.fsencode, told["paths"])), told["all_paths"]
            after = page["next"]

    def _some_removed(self, name: bytes, below: bytes) -> tuple[tuple[bytes, ...], bool]:
        try:
            paths = [removed.path for removed in islice(self.removed(name, below), _TOLD_MAX + 1)]
        except FileNotFoundError:  # it went meanwhile
            return (), True
        return tuple(paths[:_TOLD_MAX]), len(paths) <= _TOLD_MAX

    def _batch(self, name: str, told: dict[str, Any]) -> Batch:
        return Batch(
            number=told["batch"],
            name=name,
            mount=self.mount.directory,
            uid=told["uid"],
            pid=told["pid"],
            first_ns=told["first_ns"],
            last_ns=told["last_ns"],
            due_ns=told["due_ns"],
            names=told["names"],
            inodes=told["inodes"],
            size_bytes=told["size_bytes"],
            label=told["label"],
            is_purged=told["purged"],
            is_paused=told["paused"],
            is_partly_purged=told["partly_purged"],
            priority=told["priority"],
            rate=told["rate"],
            is_counted=told["counted"],
        )

    def name_of(self, number: int) -> bytes:
        """TrashError"""
        self.check_reachable()
        name = self.names().get(number)
        if name is None:
            raise TrashError(
                f"there is no batch {number} of yours on {self.mount.directory}: it was restored, or purged, or somebody else"
                " has removed it; see 'loligo trash list'"
            )
        return name

    def is_ours(self, name: bytes) -> bool:
        """Whether there is a batch of that name, and this user may see it."""
        try:
            return os.geteuid() in (0, os.lstat(self.path_of(name)).st_uid)
        except FileNotFoundError:
            return False

    def path_of(self, name: bytes) -> bytes:
        return join(self.path, name)

    # -- what a batch has -------------------------------------------------------------------------------------------------

    def has(self, name: bytes, path: bytes) -> bool:
        """Whether the batch removed that path, or something below it."""
        with self._hands() as hands:
            at = _reach(hands, name, path)
            return at is not None and os.path.lexists(at)

    def was_removed(self, name: bytes, path: bytes) -> bool:
        """Whether that path itself is in the batch, with or without what it was in."""
        with self._hands() as hands:
            at = _reach(hands, name, path)
            return at is not None and os.path.lexists(at) and _place(at) is None

    def removed(self, name: bytes, below: bytes = b"") -> Iterator[Removed]:
        """What is restored to restore the batch; or that of it which has the path `below`, or is below that."""
        parents: list[Directory] = []
        at = join(TRASH_NAME, name)
        with self._hands() as hands:
            place: Directory | None = None
            for step in below.split(b"/") if below else ():
                here = join(hands.reach(at), step)
                at = join(at, step)
                place = _place(here)
                parents.append(place or _as_it_is(here))
            if below and place is None:
                yield Removed(at, tuple(parents[:-1]), parents[-1].name)
                return
            stack = [(at, tuple(parents))]
            while stack:
                at, way = stack.pop()
                with os.scandir(hands.reach(at)) as entries:
                    for entry in entries:
                        place = _place(entry.path) if entry.is_dir(follow_symlinks=False) else None
                        if place is not None:
                            stack.append((join(at, entry.name), (*way, place)))
                        else:
                            yield Removed(join(at, entry.name), way, entry.name)

    def _hands(self) -> Hands:
        """Paths in the trash may be longer than a system call takes: what was removed had such a path without what comes before
        it here.
        """
        return Hands(self.root)


def _reach(hands: Hands, name: bytes, path: bytes) -> bytes | None:
    """A short way to what was removed at that path, valid until the second next call; None: there is no such directory."""
    above, last = os.path.split(path)
    try:
        return join(hands.reach(join(join(TRASH_NAME, name), above) if above else join(TRASH_NAME, name)), last)
    except OSError:
        return None


def _place(path: bytes) -> Directory | None:
    """What a directory was that is only the way to what was removed; None: it was removed itself."""
    try:
        told = json.loads(os.getxattr(path, os.fsdecode(PLACE_XATTR), follow_symlinks=False))
    except OSError as error:
        if error.errno in _NO_XATTR:
            return None
        raise
    return Directory(os.fsencode(told["name"]), told["mode"], told["uid"], told["gid"])


def _as_it_is(path: bytes) -> Directory:
    """Of one that was removed, when something in it is wanted without it."""
    found = os.lstat(path)
    return Directory(os.path.basename(path), stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid)


# -- which mount ----------------------------------------------------------------------------------------------------------


def absolute(path: Path) -> bytes:
    """Without symlinks, but for the last part."""
    found = os.path.abspath(os.fsencode(path))
    above, name = os.path.split(found)
    return os.path.join(os.path.realpath(above), name)


def trash_of(path: Path) -> tuple[TrashFolder, bytes]:
    """The trash of the mount that the path is on, and the path from its root. It need not exist any more. TrashError."""
    found = absolute(path)
    there = found
    while not os.path.lexists(there):
        there = os.path.dirname(there)
    device = os.lstat(there).st_dev
    number = f"{os.major(device)}:{os.minor(device)}"
    above = [mount for mount in mounts() if mount.device == number and is_below(there, os.fsencode(mount.directory))]
    if not above:
        raise TrashError(f"{shown(found)} is on no Loligo volume{_mounted_here()}")
    folder = TrashFolder(max(above, key=lambda mount: len(mount.directory)))
    return folder, found[len(folder.root.rstrip(b"/")) :].strip(b"/")


def mounted_below(path: bytes) -> list[bytes]:
    """Mount points there, the path itself among them."""
    return [point for point in map(os.fsencode, mount_points()) if is_below(point, path)]


def is_below(path: bytes, directory: bytes) -> bool:
    """Whether it is the directory, or below it."""
    return path == directory or path.startswith(directory.rstrip(b"/") + b"/")


def _mounted_here() -> str:
    here = sorted({mount.directory for mount in mounts()})
    return f": those here are at {', '.join(here)}" if here else "; 'loligo mount' mounts one"


# -- for people -----------------------------------------------------------------------------------------------------------


def shown(path: bytes) -> str:
    """What can be printed on a line, of whatever bytes."""
    text = path.decode("utf-8", "backslashreplace")
    return text if text.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def moment(time_ns: int) -> str:
    """In UTC, as in the names of batches, to the second."""
    return f"{datetime.fromtimestamp(time_ns // 1_000_000_000, UTC):%Y-%m-%dT%H:%M:%SZ}"
