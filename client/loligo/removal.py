"""Removing a directory with all that is in it, at once: it is moved to the trash with one rename.

    removal = loligo.rmtree("/mnt/work/run-17")
    removal.restore()

    loligo.rmtree("/mnt/work/run-18", now=True).wait()

What Python programs call and `loligo rmtree` does. Refused are the root of a mount, the trash and what is in it, what
something is mounted on or below, and what is no directory.
"""

import errno
import os
import stat
import time
from collections.abc import Callable
from dataclasses import dataclass

from loligo import trash
from loligo.trash_folder import Batch, Path, TrashError, TrashFolder, absolute, moment, mounted_below, shown, trash_of
from loligo_client.shell.own_names import RMTREE_XATTR, TRASH_NAME
from loligo_trash.names import batch_of_name

_POLL_S = 0.1


@dataclass(frozen=True, slots=True)
class Removal:
    """`path`: what was removed. `batch`: under which number it is in the trash; None if that cannot be seen from here, or it is
    purged already.
    """

    path: str
    batch: int | None
    _folder: TrashFolder

    def look(self) -> Batch | None:
        """None: it is gone for good, or was restored."""
        if self.batch is None:
            return None
        name = self._folder.names().get(self.batch)
        return None if name is None else self._folder.batch(name)

    @property
    def is_kept(self) -> bool:
        """As far as can be seen from here."""
        batch = self.look()
        return batch.due_ns > time.time_ns() if batch is not None else not self._folder.is_reachable

    def wait(self, timeout_s: float | None = None, progress: Callable[[Batch], object] = lambda batch: None) -> None:
        """Until it is gone for good; `progress` is called with what is left of it, several times a second.

        TrashError if it is still kept; TimeoutError.
        """
        if self.batch is not None:
            wait_for(self._folder, self.batch, timeout_s, progress)
        elif not self._folder.is_reachable:
            raise TrashError(f"{self.path} is removed, but the trash cannot be seen from here, nor when it is purged")

    def restore(self, to: Path | None = None, on_conflict: trash.Conflicts = "fail") -> trash.Report:
        """Back where it was, or below `to`: see `loligo.trash.restore`."""
        if self.batch is None:
            raise TrashError(f"{self.path} cannot be restored: its batch is purged, or cannot be seen from here")
        return trash.restore(self.batch, to=to, on_conflict=on_conflict, mount=self._folder.root)


def rmtree(path: Path, now: bool = False) -> Removal:
    """Returns at once, whatever the size. `now`: it is not kept, but purged in the background. TrashError, OSError."""
    full = absolute(path)
    folder, below = _check(full)
    if now and not folder.is_reachable:
        folder.check_reachable()
    label = os.path.basename(full)
    if batch_of_name(label) is not None:
        label = b"tree " + label
    newest = next(iter(folder.names()), 0) if folder.is_reachable else 0
    try:
        if folder.is_reachable:
            os.rename(full, folder.path_of(label))
        else:
            os.setxattr(full, os.fsdecode(RMTREE_XATTR), label, follow_symlinks=False)
    except OSError as error:
        raise _explained(error, full) from None
    batch = _find_batch(folder, newest, label, below) if folder.is_reachable else None
    if now and batch is not None:
        trash.purge(batch, mount=folder.root)
    return Removal(os.fsdecode(full), batch, folder)


async def rmtree_async(path: Path, now: bool = False) -> Removal:
    """`rmtree`, for programs that run on trio."""
    import trio

    return await trio.to_thread.run_sync(rmtree, path, now)


def wait_for(
    folder: TrashFolder,
    number: int,
    timeout_s: float | None = None,
    progress: Callable[[Batch], object] = lambda b: None,
) -> None:
    """See `Removal.wait`."""
    end = None if timeout_s is None else time.monotonic() + timeout_s
    name = folder.names().get(number)
    while name is not None and (batch := folder.batch(name)) is not None:
        if batch.due_ns > time.time_ns():
            raise TrashError(
                f"batch {number} is kept until {moment(batch.due_ns)}: 'loligo trash purge {number}' lets it go at once"
            )
        progress(batch)
        if end is not None and time.monotonic() > end:
            raise TimeoutError(f"batch {number} is not purged yet: {batch.inodes} inodes are left")
        time.sleep(_POLL_S)


def _check(full: bytes) -> tuple[TrashFolder, bytes]:
    """The trash that it goes to, and its path from the root. TrashError, OSError."""
    found = os.lstat(full)
    folder, below = trash_of(full)
    top, _, inner = below.partition(b"/")
    if not below:
        whole = "the root of the volume" if folder.mount.root == "/" else "a mount point"
        raise TrashError(
            f"{shown(full)} is {whole}, and stays: remove what is in it, with 'loligo rmtree {shown(full)}/…'"
        )
    if top == TRASH_NAME and inner:
        batch = shown(inner.partition(b"/")[0])
        raise TrashError(f"{shown(full)} is in the trash already: 'loligo trash purge' lets batches go, as {batch}")
    if top == TRASH_NAME:
        raise TrashError(f"{shown(full)} is the trash: 'loligo trash empty' purges all that is in it")
    if not stat.S_ISDIR(found.st_mode):
        raise TrashError(f"{shown(full)} is no directory: remove it with rm, which keeps it in the trash too")
    mounted = mounted_below(full)
    if mounted:
        where = "a mount point" if full in mounted else f"in use: {shown(mounted[0])} is a mount point"
        raise TrashError(f"{shown(full)} is {where}; unmount that first, with 'umount {shown(mounted[0])}'")
    return folder, below


def _explained(error: OSError, full: bytes) -> Exception:
    if error.errno == errno.ENOENT:
        return TrashError(f"{shown(full)} went meanwhile: somebody else has removed or renamed it")
    if error.errno in (errno.EACCES, errno.EPERM):
        return TrashError(
            f"{shown(full)} is not yours to remove: that needs leave to write in the directory that it is in, and in it itself;"
            " where that is sticky, as /tmp is, it must be yours as well"
        )
    if error.errno == errno.EBUSY:
        return TrashError(
            f"{shown(full)} is a mount point, maybe of another namespace or another mount of the volume: unmount that first"
        )
    if error.errno == errno.EROFS:
        return TrashError(f"{shown(full)} is on a mount that is read-only: mount it without 'ro' to change anything")
    return OSError(error.errno, error.strerror, full)


def _find_batch(folder: TrashFolder, after: int, label: bytes, below: bytes) -> int | None:
    """The batch that we have just made; None: it is purged already."""
    for number, name in folder.names().items():
        if number <= after:
            break
        batch = folder.batch(name)
        is_ours = batch is not None and os.fsencode(batch.label) == label and batch.uid == os.geteuid()
        if is_ours and folder.has(name, below):
            return number
    return None
