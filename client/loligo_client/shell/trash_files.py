"""`.trash` at the root of a mount: what was removed, as directories and files that can be looked at, copied, and moved out
again.

`.trash`               a directory for each batch; people see their own, root all
`.trash/BATCH/a/b/c`   where c was removed from a/b: a and b are shown as they were then, c is what was removed
mv DIR .trash/         a tree is removed with one rename, whatever is in it
mv .trash/BATCH/a/b/c TARGET     it is restored, in one piece
rmdir .trash/BATCH     it is purged
getfattr -n loligo.trash.batches .trash                what is in it, as JSON
setfattr -n loligo.trash.purge -v WORD .trash/BATCH     it hears `loligo_trash.batch.Word`, in small letters; or rate=100/s

Rules
1. Nothing here can be changed but by moving and purging. The kernel checks who may look at what: a batch is its remover's
   alone, and what is in it has its own owners and modes.
2. An inode of the trash has a number of its own here, for as long as the kernel remembers it: what it is to those who still
   have it open is another matter. The kernel believes in no name of what can be restored, so what another mount removes or
   restores is seen at once; in attributes, and in batches and the ways to what was removed, which nobody moves, for SHOWN_S.
3. Methods are tasks (`tasks`), run by the file system.

How the trash works is told in `loligo_mds.core.trash`.
"""

import json
import os
import re
from collections.abc import Callable, Iterator, Sequence
from errno import EACCES, EINVAL, EISDIR, ENODATA, ENOENT, ENOTEMPTY, EPERM, EROFS
from heapq import merge
from stat import S_IFDIR
from typing import Any, Final

from loligo_client.shell.own_names import (
    BATCH_XATTR,
    BATCHES_XATTR,
    PLACE_XATTR,
    PURGE_RATE,
    PURGE_WORDS,
    PURGE_XATTR,
    TRASH_INO,
)
from loligo_client.shell.tasks import Task
from loligo_fuse import Context, DirectoryEntry
from loligo_mds.core.entries import cookie_of
from loligo_mds.core.limits import LISTING_PAGE_MAX
from loligo_mds.core.namespace import RENAME_NOREPLACE
from loligo_mds.core.requests import (
    FillIn,
    GetAttributes,
    GetXattr,
    ListBatches,
    ListPlaces,
    ListRemoved,
    ListXattrs,
    LookInTrash,
    PurgeBatch,
    ReadTrash,
    Restore,
)
from loligo_trash.batch import FLAG_COUNTED, FLAG_PURGED, Batch, Word, decode_batch
from loligo_trash.names import batch_name, batch_of_name
from loligo_trash.places import Step, decode_place
from loligo_trash.rate import RateInvalid, parse_rate
from loligo_trash.told import Told, decode_told
from loligo_wire.attributes import FLAG_XATTR, Attributes
from loligo_wire.ids import ROOT_INO

_DOT_COOKIE: Final = 1
_DOTDOT_COOKIE: Final = 2
#: For so long the kernel believes what it is shown.
SHOWN_S: Final = 1.0
#: A row of a listing that is no batch, but how far was looked.
_BARE_BYTES: Final = 8
#: What is told at once: batches that are asked for, and bytes of JSON, for which the kernel's 64 KiB must do.
_TOLD_AT_ONCE: Final = 250
_TOLD_MAX_BYTES: Final = 65_000
_TOLD_NAME: Final = re.compile(re.escape(BATCHES_XATTR) + rb"(?:\.(\d{1,18}))?")
#: Batches whose places are remembered.
_BATCHES_KNOWN_MAX: Final = 64


class _Node:
    """`ino`: the inode; ROOT_INO: the batch itself. `step`: a directory that was on the way, and need not be there any more.

    `lookups`: what the kernel gives back with forget. `has_xattrs`: it may have some.
    """

    __slots__ = ("batch", "has_xattrs", "ino", "lookups", "step")

    def __init__(self, batch: int, ino: int, step: Step | None) -> None:
        self.batch = batch
        self.ino = ino
        self.step = step
        self.lookups = 0
        self.has_xattrs = True


class _Known:
    """Of a batch, while its record is this: directory -> the steps that lead on from it."""

    __slots__ = ("record", "steps")

    def __init__(self, record: bytes, steps: dict[int, dict[bytes, Step]]) -> None:
        self.record = record
        self.steps = steps


class TrashFiles:
    def __init__(
        self, now_ns: Callable[[], int], root_ino: int, as_written: Callable[[Attributes], Attributes]
    ) -> None:
        """`root_ino`: what the root of the mount is in the volume. `as_written`: attributes, with what is not stored yet."""
        self._as_written = as_written
        self._root_ino = root_ino
        self._began_ns = now_ns()
        self._nodes: dict[int, _Node] = {}
        self._numbers: dict[tuple[int, int], int] = {}
        self._next = TRASH_INO + 1
        self._known: dict[int, _Known] = {}

    # -- names ----------------------------------------------------------------------------------------------------------

    def lookup(self, ctx: Context, parent: int, name: bytes) -> Task[Attributes | None]:
        found = yield from self._find(ctx, parent, name)
        ctx.attribute_timeout_s = SHOWN_S
        stays = found is not None and (found.ino == TRASH_INO or not self.inode(found.ino))
        ctx.entry_timeout_s = SHOWN_S if stays else 0.0
        return found

    def _find(self, ctx: Context, parent: int, name: bytes) -> Task[Attributes | None]:
        if name == b"." or parent == ROOT_INO:
            return (yield from self.getattr(ctx, parent if parent != ROOT_INO else TRASH_INO))
        if parent == TRASH_INO:
            batch = yield from self._named(name)
            return (
                None if batch is None else self._as_batch(batch, self._number(batch.id, ROOT_INO, None, looked_up=True))
            )
        node = self._node(parent)
        found = yield LookInTrash(node.batch, node.ino, name)
        if found is not None:
            if found.is_file:  # who wrote it last may not have said how long it is
                found = yield GetAttributes(found.ino)
            number = self._number(node.batch, found.ino, None, looked_up=True)
            return self._shown(self._nodes[number], found, number)
        steps = yield from self._steps(node)
        step = steps.get(name) or next((step for step in steps.values() if _aside(step) == name), None)
        if step is None:
            return None
        number = self._number(node.batch, step.ino, step, looked_up=True)
        return self._as_step(step, number)

    def getattr(self, ctx: Context, ino: int) -> Task[Attributes]:
        ctx.attribute_timeout_s = SHOWN_S
        if ino == TRASH_INO:
            now_ns = self._began_ns
            return Attributes(ino, S_IFDIR | 0o1777, nlink=2, atime_ns=now_ns, mtime_ns=now_ns, ctime_ns=now_ns)
        node = self._node(ino)
        if node.ino == ROOT_INO:
            return self._as_batch((yield from self._batch(node.batch)), ino)
        if node.step is not None:
            return self._as_step(node.step, ino)
        return self._shown(node, (yield GetAttributes(node.ino)), ino)

    def _shown(self, node: _Node, found: Attributes, number: int) -> Attributes:
        node.has_xattrs = bool(found.flags & FLAG_XATTR)
        return _as_shown(self._as_written(found), number)

    def forget(self, ino: int, count: int) -> None:
        node = self._nodes.get(ino)
        if node is not None:
            node.lookups -= count
            if node.lookups <= 0:
                del self._nodes[ino], self._numbers[node.batch, node.ino]

    def readdir(self, ctx: Context, ino: int, cookie: int, count: int) -> Task[Iterator[DirectoryEntry]]:
        """Nothing is the end."""
        entries: list[DirectoryEntry] = []
        if cookie < _DOT_COOKIE:
            entries.append((b".", _DOT_COOKIE, ino, S_IFDIR, None))
        if cookie < _DOTDOT_COOKIE:
            entries.append((b"..", _DOTDOT_COOKIE, ROOT_INO if ino == TRASH_INO else TRASH_INO, S_IFDIR, None))
        entries += (
            (yield from self._batches(ctx, cookie, count))
            if ino == TRASH_INO
            else (yield from self._below(ino, cookie, count))
        )
        return iter(entries)

    def _batches(self, ctx: Context, cookie: int, count: int) -> Task[list[DirectoryEntry]]:
        """A position is the number of a batch, behind those of the dots."""
        entries: list[DirectoryEntry] = []
        after = max(0, cookie - _DOTDOT_COOKIE)
        while not entries:
            rows = yield ListBatches(after, count, ctx.uid)
            for row in rows:
                after = int.from_bytes(row[:8])
                if len(row) == _BARE_BYTES:
                    continue
                name = batch_name(after, decode_batch(after, row[8:]).first_ns)
                entries.append((name, after + _DOTDOT_COOKIE, self._ino_in_listing(after), S_IFDIR, None))
            if not rows:
                break
        return entries

    def _ino_in_listing(self, batch: int) -> int:
        return self._numbers.get((batch, ROOT_INO), TRASH_INO)

    def _below(self, ino: int, cookie: int, count: int) -> Task[list[DirectoryEntry]]:
        node = self._node(ino)
        page = yield ReadTrash(node.batch, node.ino, cookie, count)
        listed = [(at, name, child, kind) for name, at, child, kind, _ in page]
        end = listed[-1][0] if len(listed) >= count else None
        removed = {name for _, name, _, _ in listed}
        steps = sorted(
            (cookie_of(name), name if name not in removed else _aside(step), step.ino, S_IFDIR)
            for name, step in (yield from self._steps(node)).items()
            if cookie_of(name) > cookie and (end is None or cookie_of(name) <= end)
        )
        return [(name, at, child, kind, None) for at, name, child, kind in merge(listed, steps)]

    # -- moving in, out and away ------------------------------------------------------------------------------------------

    def restore(self, parent: int, name: bytes, new_parent: int, new_name: bytes, flags: int) -> Task[Attributes]:
        if flags & ~RENAME_NOREPLACE:
            raise OSError(EINVAL, "what is in the trash is moved out, and nothing else")
        node = self._node(parent)
        request = Restore(node.batch, node.ino, name, new_parent, new_name)
        while True:
            try:
                restored: Attributes = yield request
                return restored
            except OSError as error:
                if error.errno != ENOTEMPTY:
                    raise
            found = yield LookInTrash(node.batch, node.ino, name)
            if found is None:
                raise OSError(ENOENT, "it is not in the trash any more")
            yield FillIn(node.batch, found.ino)

    def purge(self, parent: int, name: bytes) -> Task[None]:
        """`rmdir` of a batch."""
        if parent != TRASH_INO:
            raise OSError(EPERM, "only whole batches are purged: remove .trash/BATCH")
        batch = yield from self._named(name)
        if batch is None:
            raise OSError(ENOENT, "no such batch")
        yield PurgeBatch(batch.id)

    # -- what is in files, and about them ---------------------------------------------------------------------------------

    def real(self, ino: int, flags: int) -> int:
        """The inode that is to be opened."""
        if flags & os.O_ACCMODE != os.O_RDONLY or flags & os.O_TRUNC:
            raise OSError(EROFS, "what is in the trash can only be read: restore it first")
        node = None if ino == TRASH_INO else self._node(ino)
        if node is None or node.step is not None or node.ino == ROOT_INO:
            raise OSError(EISDIR, "a directory")
        return node.ino

    def inode(self, ino: int) -> int:
        """The inode behind the number; 0: there need not be one."""
        node = self._nodes.get(ino)
        return node.ino if node is not None and node.step is None and node.ino != ROOT_INO else 0

    def getxattr(self, ctx: Context, ino: int, name: bytes) -> Task[bytes]:
        if ino == TRASH_INO:
            found = _TOLD_NAME.fullmatch(name)
            if found is None:
                raise OSError(ENODATA, "no such attribute")
            return (yield from self._told(ctx, int(found[1] or 0)))
        node = self._nodes.get(ino)
        if node is not None and node.ino == ROOT_INO and name == BATCH_XATTR:
            return json.dumps(_described((yield from self._batch(node.batch)))).encode()
        if node is not None and node.step is not None and name == PLACE_XATTR:
            return _place_as_json(node.step)
        inode = self.inode(ino)
        if node is None or not inode or not node.has_xattrs:
            raise OSError(ENODATA, "no such attribute")
        value: bytes = yield GetXattr(inode, name)
        return value

    def _told(self, ctx: Context, after: int) -> Task[bytes]:
        """As many batches as an attribute has room for. "next": behind which it goes on; null: there are no more."""
        rows: Sequence[bytes] = yield ListRemoved(after, _TOLD_AT_ONCE, ctx.uid)
        told: list[bytes] = []
        left_bytes = _TOLD_MAX_BYTES
        for row in rows:
            if len(row) > _BARE_BYTES:
                text = _told_as_json(decode_told(row))
                left_bytes -= len(text) + 2
                if left_bytes < 0 and told:
                    break
                told.append(text)
            after = int.from_bytes(row[:8])
        return b'{"next": %s, "batches": [%s]}' % (b"%d" % after if rows else b"null", b", ".join(told))

    def listxattr(self, ino: int) -> Task[list[bytes]]:
        inode = self.inode(ino)
        return (yield ListXattrs(inode)) if inode else []

    def setxattr(self, ctx: Context, ino: int, name: bytes, value: bytes) -> Task[None]:
        node = self._nodes.get(ino)
        if node is None or node.ino != ROOT_INO or name != PURGE_XATTR:
            raise OSError(EROFS, "what is in the trash cannot be changed")
        word, rate = _word(value)
        batch = yield from self._batch(node.batch)
        if ctx.uid not in (0, batch.uid):
            raise OSError(EACCES, "it is somebody else's")
        yield PurgeBatch(batch.id, word, rate)

    # -- what is where ----------------------------------------------------------------------------------------------------

    def _node(self, ino: int) -> _Node:
        node = self._nodes.get(ino)
        if node is None:
            raise OSError(ENOENT, "nothing of the trash has that number any more")
        return node

    def _number(self, batch: int, ino: int, step: Step | None, *, looked_up: bool) -> int:
        number = self._numbers.get((batch, ino))
        if number is None:
            number = self._next
            self._next += 1
            self._numbers[batch, ino] = number
            self._nodes[number] = _Node(batch, ino, step)
        self._nodes[number].lookups += looked_up
        self._nodes[number].step = step
        return number

    def _named(self, name: bytes) -> Task[Batch | None]:
        id = batch_of_name(name)
        if id is None:
            return None
        try:
            batch = yield from self._batch(id)
        except OSError as error:
            if error.errno != ENOENT:
                raise
            return None
        return batch if batch_name(batch.id, batch.first_ns) == name else None

    def _batch(self, id: int) -> Task[Batch]:
        rows: Sequence[bytes] = yield ListBatches(id - 1, 1, 0)
        if not rows or int.from_bytes(rows[0][:8]) != id or len(rows[0]) == _BARE_BYTES:
            raise OSError(ENOENT, "the batch is not there any more")
        return decode_batch(id, rows[0][8:])

    def _steps(self, node: _Node) -> Task[dict[bytes, Step]]:
        """Directories of the way to what was removed, that lead on from here."""
        batch = yield from self._batch(node.batch)
        record = batch.encode()
        known = self._known.get(batch.id)
        if known is None or known.record != record:
            known = _Known(record, (yield from self._ways(batch.id)))
            self._known[batch.id] = known
            if len(self._known) > _BATCHES_KNOWN_MAX:
                del self._known[next(iter(self._known))]
        return known.steps.get(node.ino, {})

    def _ways(self, batch: int) -> Task[dict[int, dict[bytes, Step]]]:
        ways: dict[int, dict[bytes, Step]] = {}
        after = 0
        while rows := (yield ListPlaces(batch, after, LISTING_PAGE_MAX)):
            for row in rows:
                after = int.from_bytes(row[:8])
                at = 0
                for step in decode_place(row[8:]).steps:
                    if at:
                        leads_to = ways.setdefault(at, {})
                        there = leads_to.setdefault(step.name, step)
                        if there.ino != step.ino:  # another directory had the name at another time
                            leads_to[_aside(step)] = step
                        at = step.ino
                    elif step.ino == self._root_ino:
                        at = ROOT_INO
        return ways

    def _as_batch(self, batch: Batch, number: int) -> Attributes:
        return Attributes(
            number,
            S_IFDIR | 0o700,
            batch.uid,
            nlink=2,
            atime_ns=batch.last_ns,
            mtime_ns=batch.last_ns,
            ctime_ns=batch.last_ns,
        )

    def _as_step(self, step: Step, number: int) -> Attributes:
        now_ns = self._began_ns
        return Attributes(
            number,
            S_IFDIR | step.mode & 0o7777 | 0o555,
            step.uid,
            step.gid,
            2,
            atime_ns=now_ns,
            mtime_ns=now_ns,
            ctime_ns=now_ns,
        )


def _word(value: bytes) -> tuple[Word, int]:
    """And the rate that it brings along."""
    if value.startswith(PURGE_RATE):
        try:
            return Word.RATE, parse_rate(value.removeprefix(PURGE_RATE).decode("ascii", "replace"))
        except RateInvalid as error:
            raise OSError(EINVAL, str(error)) from None
    word = PURGE_WORDS.get(value)
    if word is None:
        raise OSError(EINVAL, f"say one of {b', '.join(PURGE_WORDS).decode()}, or rate=100/s")
    return word, 0


def _aside(step: Step) -> bytes:
    """Its name where something else has the one that it had."""
    return step.name + b"~%d" % step.ino


def _as_shown(found: Attributes, number: int) -> Attributes:
    shown = found.copy()
    shown.ino = number
    shown.generation = 0
    shown.nlink = 2 if found.is_directory else found.nlink + found.trashed
    return shown


def _told_as_json(told: Told) -> bytes:
    """Of its paths as many as there is room for."""
    batch, paths, is_all = told.batch, list(map(os.fsdecode, told.paths)), told.is_all
    while True:
        named = {"name": batch_name(batch.id, batch.first_ns).decode(), "paths": paths, "all_paths": is_all}
        text = json.dumps({**_described(batch), **named}).encode()
        if len(text) <= _TOLD_MAX_BYTES or len(paths) < 2:
            return text
        paths, is_all = paths[: len(paths) // 2], False


def _described(batch: Batch) -> dict[str, Any]:
    return {
        "batch": batch.id,
        "uid": batch.uid,
        "pid": batch.pid,
        "first_ns": batch.first_ns,
        "last_ns": batch.last_ns,
        "due_ns": batch.due_ns,
        "names": batch.names,
        "inodes": batch.inodes,
        "size_bytes": batch.size_bytes,
        "label": os.fsdecode(batch.label),
        "purged": bool(batch.flags & FLAG_PURGED),
        "paused": batch.is_paused,
        "partly_purged": batch.is_partly_purged,
        "priority": batch.priority.name.lower(),
        "rate": batch.rate,
        "counted": not batch.label or bool(batch.flags & FLAG_COUNTED),
    }


def _place_as_json(step: Step) -> bytes:
    return json.dumps(
        {"name": os.fsdecode(step.name), "mode": step.mode & 0o7777, "uid": step.uid, "gid": step.gid}
    ).encode()
