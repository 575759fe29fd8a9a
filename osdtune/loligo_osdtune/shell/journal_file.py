"""Journals on disk: FOLDER/FSID/0001.journal and so on, one for each apply on this host.

Rules
1. A line is synced before the caller goes on, and so is the name of a new journal.
2. Who writes has the folder's lock: no two changes at once from one host. The lock goes with the process. Reading needs none.
3. Journals that were undone stay, as a record.
"""

import contextlib
import fcntl
import os
import shlex
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from loligo_osdtune.core import journal as journals
from loligo_osdtune.core.journal import Journal, JournalError, State
from loligo_osdtune.shell.failures import OsdtuneError

FOLDER = "/var/lib/osdtune"
_SUFFIX = ".journal"


class JournalUnwritable(OsdtuneError):
    """The disk is full, say. The text names the file and says what to do."""


class JournalFolder:
    """Those of one cluster. As a context manager it makes the folder and holds the lock, to write."""

    def __init__(self, folder: Path, fsid: str) -> None:
        self.path = folder / fsid
        self._lock: int | None = None

    def __enter__(self) -> "JournalFolder":
        """OsdtuneError: another process of this host is at it."""
        with _permitted():
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = os.open(self.path / "lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            raise OsdtuneError(f"another osdtune is changing this cluster from this host ({self.path}/lock)") from None
        self._lock = lock
        return self

    def __exit__(self, *exception: object) -> None:
        assert self._lock is not None
        os.close(self._lock)

    def newest(self) -> "JournalFile | None":
        """That has something to say and is not undone altogether. OsdtuneError: it cannot be read."""
        return next(self._standing(), None)

    def standing(self) -> tuple[Journal, ...]:
        """Those that are not undone altogether, oldest first. OsdtuneError: one cannot be read."""
        return tuple(file.journal for file in reversed(tuple(self._standing())))

    def _standing(self) -> "Iterator[JournalFile]":
        for path in reversed(self._paths()):
            found = JournalFile.opened(path)
            if found is not None and not found.journal.is_closed:
                yield found

    def _paths(self) -> list[Path]:
        """Oldest first. OsdtuneError: it may not be looked into, which is not the same as that there are none."""
        try:
            with _permitted():
                return sorted(self.path / name for name in os.listdir(self.path) if name.endswith(_SUFFIX))
        except FileNotFoundError:
            return []

    def begin(self, journal: Journal) -> "JournalFile":
        last = max((int(path.stem) for path in self._paths()), default=0)
        return JournalFile.made(self.path / f"{last + 1:04}{_SUFFIX}", journal)


class JournalFile:
    """`journal` is what is on disk up to `whole_bytes`: behind that is a last line that was cut off, or what is damaged."""

    def __init__(self, path: Path, journal: Journal, whole_bytes: int) -> None:
        self.path = path
        self.journal = journal
        self._whole_bytes = whole_bytes

    @classmethod
    def made(cls, path: Path, journal: Journal) -> "JournalFile":
        """JournalUnwritable: then there is none."""
        file = cls(path, journal, 0)
        try:
            file._append(journals.first_line(journal))
        except JournalUnwritable:
            path.unlink(missing_ok=True)
            raise
        _sync_folder(path.parent)
        return file

    @classmethod
    def opened(cls, path: Path) -> "JournalFile | None":
        """None if nothing was ever written into it. OsdtuneError: its first line is damaged, or of another version."""
        with _permitted():
            text = path.read_bytes().decode(errors="surrogateescape")
        try:
            journal = journals.read(text)
        except JournalError as error:
            raise OsdtuneError(f"{path}: {error}") from None
        if journal is None:
            return None
        return cls(path, journal, len(journals.sound_lines(text, journal).encode(errors="surrogateescape")))

    def command(self, verb: str) -> str:
        """What to type for `verb` to find this journal, in quotes, for messages."""
        folder = str(self.path.parent.parent)
        journals_in = "" if folder == FOLDER else f" --journals {shlex.quote(folder)}"
        return f"'osdtune {verb} --yes{journals_in}'"

    def record(self, number: int, state: State) -> None:
        """JournalUnwritable: it is not recorded. The first record takes the place of what is damaged."""
        damage = self.journal.damage
        journal = replace(self.journal.with_state(number, state), damage=None)
        presumed = damage.presumed if damage is not None else ()
        self._append(
            "".join(journals.state_line(one, State.BEGUN) for one in presumed) + journals.state_line(number, state)
        )
        self.journal = journal

    def _append(self, line: str) -> None:
        """JournalUnwritable: it is not in the journal, but for a part that nobody reads."""
        try:
            with open(self.path, "ab") as file:
                file.truncate(self._whole_bytes)
                file.write(line.encode())
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise JournalUnwritable(
                f"the journal {self.path} cannot be written ({error.strerror}): see to it that there is room (df, quota, "
                "'ulimit -f'), and that its folder can be written"
            ) from None
        self._whole_bytes += len(line.encode())


@contextlib.contextmanager
def _permitted() -> Iterator[None]:
    try:
        yield
    except PermissionError as error:
        raise OsdtuneError(
            f"permission denied: {error.filename}; run as root, or name another folder for journals with --journals"
        ) from None


def _sync_folder(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
