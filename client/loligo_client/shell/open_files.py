"""The files that are open here or have bytes under way, and what the metadata knows of them: opens, attributes, holds.

A file is opened at the metadata with each `open`, and closed once, when nobody uses it here any more and everything is
stored. So it stays one file for as long as anything of it is under way, and outlives its last name.

Attributes that the metadata answers are news about an open file (`saw`): another client may have changed it. They are
shown to applications with what is not published yet on top.
"""

import logging
from collections.abc import Callable
from concurrent.futures import Future
from errno import ENOENT
from typing import Final

from loligo_client.shell.file_data import FileData
from loligo_client.shell.settling import Settling
from loligo_client.shell.tasks import Metadata, Task
from loligo_mds.core.events import Hold
from loligo_mds.core.requests import Close, Open, Opened, Request
from loligo_wire.attributes import FLAG_SPARSE, Attributes

log = logging.getLogger(__name__)

#: Of so many files that were closed it is remembered what they were, so that pages of them need not be read again.
REMEMBERED_MAX: Final = 100_000


class OpenFiles:
    def __init__(
        self, metadata: Metadata, settling: Settling, forget_pages: Callable[[int], None], shared: bool
    ) -> None:
        """`forget_pages(ino)`: pages of the file must not be used any more. `shared`: others change files, too."""
        self.by_ino = settling.files
        self._ask = metadata.ask
        self._settling = settling
        self._shared = shared
        self.forget_pages = forget_pages
        #: What closed files were when this mount knew them last.
        self._known: dict[int, tuple[int, int, int]] = {}
        #: How many Opens of a file are not answered.
        self._opening: dict[int, int] = {}

    # -- coming and going -------------------------------------------------------------------------------------------

    def open(self, ino: int, writes: bool) -> Task[tuple[FileData, bool]]:
        """A task: the file, in use until `close`, and whether pages of it that were read earlier are as good as ever."""
        opened: Opened = yield from self._ask_to_open(ino, writes)
        attributes = opened.attributes
        known = self._known.pop(ino, None)
        same = not self._shared or known == state(attributes)
        before = self.by_ino.get(ino)
        file = self.opened(attributes, writes)
        if opened.inline is not None and not file.in_objects and not file.loaded:
            file.inline, file.inline_epoch = opened.inline, file.epoch
        if opened.contended:
            file.contended = True
            file.in_objects = not file.stored_inline
        return file, not file.contended and (same or before is not None)

    def _ask_to_open(self, ino: int, writes: bool) -> Task[Opened]:
        opening = self._opening
        opening[ino] = opening.get(ino, 0) + 1
        opened: Opened | None = None
        try:
            opened = yield Open(ino, writes)
            return opened
        finally:
            opening[ino] -= 1
            if not opening[ino]:
                del opening[ino]
            file = self.by_ino.get(ino)
            if opened is None and file is not None:
                self.let_go(file)

    def opened(self, attributes: Attributes, writes: bool) -> FileData:
        """The metadata has counted an open of ours."""
        file = self.by_ino.get(attributes.ino)
        if file is None:
            file = self.by_ino[attributes.ino] = FileData(attributes)
            self._settling.adopt(file)
        else:
            self.saw(file, attributes)
        file.held += 1
        file.opens += 1
        file.writes = file.writes or writes
        return file

    def let_go(self, file: FileData) -> None:
        """Close the file once nobody uses it and nothing of it is under way."""
        ino = file.ino
        if file.opens or file.busy or ino in self._settling.untrimmed or self.by_ino.get(ino) is not file:
            return
        if ino in self._opening:
            return  # a Recall in between would be for a file that we do not know
        del self.by_ino[file.ino]
        self._settling.keep(file)
        if self._shared and file.writes:
            self._settling.is_due(file.ino)
        if self._shared and not file.contended:
            known = self._known
            if len(known) >= REMEMBERED_MAX:
                del known[next(iter(known))]
            known[file.ino] = state(file.seen)
        self.tell(Close(file.ino, file.held))

    def tell(self, request: Request) -> None:
        """Ask without waiting. A refusal has nobody to go to; a server that was away is told by `holds` what it has missed."""
        try:
            answer = self._ask(request)
        except OSError as error:
            _log_refusal(request, error)
            return
        if isinstance(answer, Future):
            answer.add_done_callback(lambda done: _log_refusal(request, done.exception()))

    def holds(self) -> list[Hold]:
        """What a server must know of us after it was away: it says all that was told until now. Called with the lock."""
        return [
            Hold(file.ino, file.held, file.writes, file.contended, file.claims > 0, file.quiet)
            for file in self.by_ino.values()
            if file.held
        ]

    # -- attributes -------------------------------------------------------------------------------------------------

    def attributes(self, stored: Attributes) -> Attributes:
        """`stored`, that the metadata has just answered, as applications should see it."""
        file = self.by_ino.get(stored.ino)
        if file is None:
            return stored
        if file.seen is not stored:
            self.saw(file, stored)
        return self.shown(file, stored) if file.changed else stored

    def shown(self, file: FileData, stored: Attributes) -> Attributes:
        """With what is not published yet."""
        seen = stored.copy()
        seen.size = file.size
        if file.mtime_ns is not None:
            seen.mtime_ns = file.mtime_ns
            seen.ctime_ns = max(file.mtime_ns, seen.ctime_ns)
        return seen

    def saw(self, file: FileData, attributes: Attributes) -> None:
        """News from the metadata about an open file. Somebody here who changes its size knows better."""
        before, file.seen = file.seen, attributes
        if not self._shared or file.turn.taken:
            return
        if file.contended:
            self.grew(file, attributes)
            if state(attributes) != state(before):
                self.forget_pages(file.ino)
        elif file.clean and attributes.size != file.stored_size:
            file.stands_at(attributes)
            self.forget_pages(file.ino)

    def grew(self, file: FileData, attributes: Attributes) -> None:
        """Between two claims a contended file does nothing else."""
        file.stored_size = max(file.stored_size, attributes.size)
        file.size = max(file.size, attributes.size)
        file.sparse = file.sparse or bool(attributes.flags & FLAG_SPARSE)


def _log_refusal(request: Request, error: BaseException | None) -> None:
    if error is not None and getattr(error, "errno", 0) != ENOENT:  # a file may be gone meanwhile
        log.info("%r: %s", request, error)


def state(attributes: Attributes) -> tuple[int, int, int]:
    """Different, when the content is. ctime alone is not: it may be ahead of the clock of the client that wrote."""
    return attributes.ctime_ns, attributes.mtime_ns, attributes.size
