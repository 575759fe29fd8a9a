"""What was removed from a Loligo volume: looked at, restored, purged. The command `loligo trash` and Python programs alike.

    import loligo

    for batch in loligo.trash.batches("/mnt/work"):
        print(batch.number, batch.names)
    loligo.trash.restore(17, mount="/mnt/work")
    loligo.trash.restore("/mnt/work/project/data", to="/mnt/work/found", on_conflict="rename")
    loligo.trash.purge(17, mount="/mnt/work")
    loligo.trash.pause(17, mount="/mnt/work")
    loligo.trash.set_priority(17, "low", mount="/mnt/work")
    loligo.trash.set_rate(17, 100, mount="/mnt/work")

A batch is told by its number, with a path on the mount (the current directory, if nothing is said), or by its path below
`.trash`. Errors are `TrashError`, whose text says what to do, and OSError.
"""

import contextlib
import errno
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

from loligo.trash_folder import Batch, Path, TrashError, TrashFolder, is_below, shown, trash_of
from loligo.trash_hands import Hands
from loligo_client.shell.mount_state import Mounted
from loligo_client.shell.own_names import CONTROL_NAME, PURGE_RATE, PURGE_XATTR, TRASH_NAME
from loligo_trash.names import batch_of_name
from loligo_trash.rate import RATE_MAX
from loligo_trash.restore_plan import Make, Move, OnConflict, Removed, RestorePlan, There, join, plan_restore

__all__ = [
    "Batch",
    "NotRestored",
    "Report",
    "Restored",
    "TrashError",
    "batches",
    "keep",
    "pause",
    "purge",
    "restore",
    "resume",
    "set_priority",
    "set_rate",
]

Conflicts = Literal["fail", "rename", "skip"]
Priority = Literal["high", "normal", "low"]
_TOLD_MAX = 3


@dataclass(frozen=True, slots=True)
class Restored:
    """`path`: where it was; `target`: where it is now."""

    path: bytes
    target: bytes
    is_renamed: bool


@dataclass(slots=True)
class Report:
    """What came of a restore. `skipped` and `left`: (what, why) of those that are still in the trash, or never were there.

    `skipped`: because of what is in the way, as the policy wants it.
    """

    restored: list[Restored] = field(default_factory=list)
    skipped: list[tuple[bytes, str]] = field(default_factory=list)
    left: list[tuple[bytes, str]] = field(default_factory=list)
    #: Nothing was changed, because of what is in the way.
    is_refused: bool = False


class NotRestored(TrashError):
    """Some of it, or all. `report` has the rest."""

    def __init__(self, report: Report) -> None:
        super().__init__(report)
        self.report = report

    def __str__(self) -> str:
        left = self.report.left
        told = "; ".join(f"{shown(what)}: {why}" for what, why in left[:_TOLD_MAX])
        more = f"; and {len(left) - _TOLD_MAX} more" if len(left) > _TOLD_MAX else ""
        return f"not restored: {told}{more}"


def batches(path: Path = ".") -> list[Batch]:
    """What this user (root: what anybody) has removed at that path or below it, and can have back; newest first. TrashError."""
    folder, below = trash_of(path)
    folder.check_reachable()
    return [listed.batch for listed in folder.listed(below)]


def purge(batch: int | Path, *, mount: Path = ".") -> None:
    """It need not be kept any longer: it goes for good, in the background, from now on, also if it was paused."""
    folder, name = find_batch(batch, mount)
    with _explained(folder, name):
        os.rmdir(folder.path_of(name))


def keep(batch: int | Path, *, mount: Path = ".") -> None:
    """Take `purge` back: what of it is not gone yet stays as long as it would have."""
    _say(batch, mount, b"keep")


def pause(batch: int | Path, *, mount: Path = ".") -> None:
    """No more of it is purged, whatever its time, until `resume`; or `purge`; or room is needed."""
    _say(batch, mount, b"pause")


def resume(batch: int | Path, *, mount: Path = ".") -> None:
    """Take `pause` back: its purge goes on where it was, or it stays for as long as it would have."""
    _say(batch, mount, b"resume")


def set_priority(batch: int | Path, priority: Priority, *, mount: Path = ".") -> None:
    """Of what may be purged by now, "high" goes before "normal", and that before "low"."""
    if priority not in get_args(Priority):
        raise ValueError(f"{priority!r} is no priority: say one of {', '.join(get_args(Priority))}")
    _say(batch, mount, priority.encode())


def set_rate(batch: int | Path, rate: int | None, *, mount: Path = ".") -> None:
    """No more than `rate` files (and directories) a second of it are purged, while others go at their own pace; None: as many
    as can be.
    """
    if rate is not None and not 1 <= rate <= RATE_MAX:
        raise ValueError(f"{rate} is no rate: say how many files a second, 1 to {RATE_MAX}, or None")
    _say(batch, mount, PURGE_RATE + (b"none" if rate is None else b"%d/s" % rate))


def _say(batch: int | Path, mount: Path, word: bytes) -> None:
    folder, name = find_batch(batch, mount)
    with _explained(folder, name):
        os.setxattr(folder.path_of(name), os.fsdecode(PURGE_XATTR), word)


@contextlib.contextmanager
def _explained(folder: TrashFolder, name: bytes) -> Iterator[None]:
    """TrashError for what a batch may refuse."""
    try:
        yield
    except OSError as error:
        if error.errno == errno.ENOENT:
            raise TrashError(f"batch {batch_of_name(name)} is gone already") from None
        if error.errno == errno.EROFS:
            raise TrashError(
                f"{folder.mount.directory} is mounted read-only: do this on a mount without 'ro', or on the server's machine"
            ) from None
        raise


def find_batch(batch: int | Path, mount: Path) -> tuple[TrashFolder, bytes]:
    """The trash that has it, and its name there. `batch`: a number, a name, or a path below `.trash`. TrashError."""
    number = as_number(batch)
    if number is not None:
        folder, _ = trash_of(mount)
        folder.check_reachable()
        name = b"" if isinstance(batch, int) else os.fsencode(batch)
        return folder, name if batch_of_name(name) and folder.is_ours(name) else folder.name_of(number)
    assert not isinstance(batch, int)
    text = os.fsencode(batch)
    if b"/" in text or os.path.lexists(text):
        folder, path = trash_of(batch)
        top, _, rest = path.partition(b"/")
        number = batch_of_name(rest)
        if top == TRASH_NAME and number is not None:
            return folder, folder.name_of(number)
    raise TrashError(
        f"{shown(text)} is no batch: 'loligo jobs' shows those that are being purged, with their numbers, and 'loligo trash"
        " list' all of them; or give a directory of .trash"
    )


def as_number(what: int | Path) -> int | None:
    """None: it is a path."""
    if isinstance(what, int):
        return what
    text = os.fsencode(what)
    return int(text) if text.isdigit() and len(text) < 20 else batch_of_name(text)


# -- restoring ------------------------------------------------------------------------------------------------------------


def restore(*what: int | Path, to: Path | None = None, on_conflict: Conflicts = "fail", mount: Path = ".") -> Report:
    """Put back what was removed: batches, or paths, each from the newest batch that has it. The newest goes first.

    `to`: a directory, on the same mount, to restore into instead of where things were. `on_conflict`: what happens where
    something has a name by now. "fail": nothing is restored at all; "rename": it comes back as NAME.restored; "skip": it stays
    in the trash.

    Who restores a batch takes its `purge` back. NotRestored, with the report, if something was not restored that was not
    skipped, also because it had been purged before.
    """
    report = Report()
    policy = OnConflict(on_conflict)
    wanted: dict[str, list[_Wanted]] = {}
    for one in what:
        try:
            found = _find(one, mount)
        except TrashError as error:
            report.left.append((str(one).encode() if isinstance(one, int) else os.fsencode(one), str(error)))
        else:
            wanted.setdefault(found.folder.mount.directory, []).append(found)
    with contextlib.ExitStack() as stack:
        plans = []
        for of_mount in wanted.values():
            folder = of_mount[0].folder
            hands = stack.enter_context(Hands(folder.root))
            target = None if to is None else _target(folder, to)
            try:
                plan = plan_restore(_removed(of_mount, report), hands.look, policy, target)
            except PermissionError as error:
                raise TrashError(
                    f"you may not look into {shown(os.fsencode(error.filename))}, where it was: restore it elsewhere, with --to"
                    " DIR, or ask root"
                ) from None
            plans.append((folder, hands, plan))
        for folder, _, plan in plans:
            told = report.left if policy is OnConflict.FAIL else report.skipped
            for conflict in plan.conflicts:
                in_the_way = folder.full(conflict.in_the_way)
                told.append((folder.full(conflict.removed.path), f"{shown(in_the_way)} is in the way"))
                report.is_refused = policy is OnConflict.FAIL
        if not report.is_refused and any(plan.steps for _, _, plan in plans):
            for of_mount in wanted.values():
                for found in of_mount:
                    _end_purge(found)
            for folder, hands, plan in plans:
                _tell_what_is_gone(wanted[folder.mount.directory], hands, report)
                _carry_out(folder, hands, plan, report)
    if report.left:
        raise NotRestored(report)
    return report


@dataclass(frozen=True, slots=True)
class _Wanted:
    """Of a batch what was at the path `below`, or below it."""

    folder: TrashFolder
    number: int
    name: bytes
    below: bytes


def _end_purge(wanted: _Wanted) -> None:
    """Of a batch that is restored as a whole."""
    batch = wanted.folder.batch(wanted.name)
    if batch is not None and batch.is_purged and not wanted.below:
        _say(batch.number, wanted.folder.root, b"keep")


def _tell_what_is_gone(wanted: Sequence[_Wanted], hands: Hands, report: Report) -> None:
    """Of batches that were purged in part, unless only one file of them is restored."""
    for one in wanted:
        batch = one.folder.batch(one.name)
        source = join(join(TRASH_NAME, one.name), one.below) if one.below else join(TRASH_NAME, one.name)
        if batch is not None and batch.is_partly_purged and hands.look(source) is There.DIRECTORY:
            report.left.append((b"batch %d" % batch.number, "what had been purged of it before is gone for good"))


def _find(what: int | Path, mount: Path) -> _Wanted:
    """TrashError"""
    number = as_number(what)
    if isinstance(what, int) or number is not None:
        folder, name = find_batch(what, mount)
        return _wanted(folder, name, b"")
    folder, path = trash_of(what)
    folder.check_reachable()
    top, _, rest = path.partition(b"/")
    if top == TRASH_NAME:
        return _wanted(folder, *folder.find(rest))
    if not path:
        raise TrashError("that is the root, below which everything was: name batches, or paths")
    listed = list(folder.listed(path))
    for one in sorted(listed, key=lambda one: not one.is_itself)[:1]:
        return _wanted(folder, os.fsencode(one.batch.name), path)
    raise TrashError(
        "nothing that you have removed was there: it was not kept, is purged, or somebody else has removed it; see"
        f" 'loligo trash list {shown(folder.root)}'"
    )


def _wanted(folder: TrashFolder, name: bytes, below: bytes) -> _Wanted:
    number = batch_of_name(name)
    assert number is not None
    return _Wanted(folder, number, name, below)


def _target(folder: TrashFolder, to: Path) -> bytes:
    """From the root. TrashError."""
    found = os.path.realpath(os.fsencode(to))
    if not os.path.lexists(found):
        raise TrashError(f"{shown(found)} does not exist: make it first, with 'mkdir -p {shown(found)}'")
    if not os.path.isdir(found):
        raise TrashError(f"{shown(found)} is no directory: name one to restore into")
    there, path = _place_of(found)
    if there != folder.mount:
        raise TrashError(
            f"{shown(found)} is not on {folder.mount.directory}, where the batch is looked up, and a restore moves nothing"
            f" elsewhere: {_instead(folder, found, there, path)}restore first, then move; or copy from {shown(folder.path)}"
            " with 'cp -a'"
        )
    if is_below(found, folder.path):
        raise TrashError(f"{shown(found)} is in the trash: name another directory to restore into")
    if is_below(found, folder.full(CONTROL_NAME)):
        raise TrashError(f"{shown(found)} only tells of the mount: name another directory to restore into")
    return path


def _place_of(found: bytes) -> tuple[Mounted | None, bytes]:
    """Of a directory that is there: its mount, and the path from the root of that. None: it is on no Loligo volume."""
    try:
        folder, path = trash_of(found)
    except TrashError:
        return None, b""
    return folder.mount, path


def _instead(folder: TrashFolder, found: bytes, there: Mounted | None, path: bytes) -> str:
    """What to say, if a mount `there` shows `found`, so that it is restored to after all."""
    if there is None:
        return ""
    if there.device == folder.mount.device:  # a bind mount
        inner = join(os.fsencode(there.root).strip(b"/"), path).strip(b"/")
        return f"say --to {shown(folder.full(inner))}, which is the same; or "
    at = there.directory
    return (
        f"if {at} is the same volume, look it up there, by a path below {at} or with --mount {at} and its number; else "
    )


def _removed(wanted: Sequence[_Wanted], report: Report) -> list[Removed]:
    """Of the newest batch first."""
    found: list[Removed] = []
    for one in sorted(wanted, key=lambda one: -one.number):
        try:
            found += one.folder.removed(one.name, one.below)
        except FileNotFoundError:
            report.left.append((one.name, "it went meanwhile: somebody has restored or purged it"))
    return found


def _carry_out(folder: TrashFolder, hands: Hands, plan: RestorePlan, report: Report) -> None:
    """What fails is told, and all else is done."""
    not_made: dict[bytes, str] = {}
    for step in plan.steps:
        if isinstance(step, Make):
            above = os.path.dirname(step.path)
            try:
                hands.make(step.path, step.like)
            except OSError as error:
                not_made[step.path] = not_made.get(above) or _why_not_made(folder, step, error)
            continue
        path = folder.full(step.removed.path)
        try:
            hands.move(step.removed.source, step.target)
        except OSError as error:
            why = not_made.get(os.path.dirname(step.target)) or _why(folder, hands, step, error)
            report.left.append((path, why))
        else:
            report.restored.append(Restored(path, folder.full(step.target), step.target != step.wanted))


def _why_not_made(folder: TrashFolder, make: Make, error: OSError) -> str:
    path, above = shown(folder.full(make.path)), shown(folder.full(os.path.dirname(make.path)))
    if error.errno in (errno.EACCES, errno.EPERM):
        return f"{path} is gone, and you may not write in {above} to make it again: root can restore it, or you with --to DIR"
    return f"{path} is gone, and could not be made again: {error.strerror}"


def _why(folder: TrashFolder, hands: Hands, move: Move, error: OSError) -> str:
    directory = shown(folder.full(os.path.dirname(move.target)))
    if error.errno == errno.ENOENT and _went(hands, move.removed.source):
        return "it went meanwhile: somebody has restored or purged it"
    if error.errno == errno.EEXIST:
        return "something else has its name by now: call again"
    if error.errno in (errno.EACCES, errno.EPERM):
        return f"you may not write in {directory}, or not move what is somebody else's: root can restore it"
    return f"{error.strerror} ({directory})"


def _went(hands: Hands, source: bytes) -> bool:
    try:
        return hands.look(source) is There.NOTHING
    except OSError:  # with the directory that it was in
        return True
