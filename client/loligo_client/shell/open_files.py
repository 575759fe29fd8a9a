"""The files that are open here or have bytes under way, and what the metadata knows of them: opens, attributes, holds.

A file is opened at the metadata, for reading or for writing, before it is used, and closed once, when nobody uses it here any
more and everything is stored. So it stays one file for as long as anything of it is under way, and outlives its last name.
While the metadata has it open for us, and no other client shares it, opening it again asks nobody. So a file that was read is
kept open for `IDLE_NS` more: it is *idle*, until it is opened again, another client wants to write it or changes something in
its directory, or its last name goes.

Attributes that the metadata answers are news about an open file (`saw`): another client may have changed it. They are
shown to applications with what is not published yet on top.
"""

import logging
from collections.abc import Callable, Container
from concurrent.futures import Future
from errno import EIO, ENOENT
from functools import partial
from typing import Final

from loligo_client.core.contents import Contents
from loligo_client.core.leased_opens import LeasedOpens
from loligo_client.shell.file_data import FileData
from loligo_client.shell.settling import Settling
from loligo_client.shell.tasks import Metadata, Task
from loligo_mds.core.events import Hold
from loligo_mds.core.inodes import with_changes
from loligo_mds.core.requests import Close, Open, Opened, Reported, Request, SetAttributes
from loligo_wire.attributes import FLAG_ACCESS_ACL, FLAG_SPARSE, Attributes

log = logging.getLogger(__name__)

#: Of so many files that were closed it is remembered what they were, so that pages of them need not be read again.
REMEMBERED_MAX: Final = 100_000
#: For how long, and how many: a removed file takes up space for as long as somebody has it open, and here nobody hears of that
#: where no lease says so.
IDLE_NS: Final = 60_000_000_000
IDLE_MAX: Final = 4096


class OpenFiles:
    def __init__(
        self,
        metadata: Metadata,
        settling: Settling,
        forget_pages: Callable[[int], None],
        forget_cached: Callable[[int], None],
        shared: bool,
    ) -> None:
        """`forget_pages(ino)`: pages of the file must not be used any more, the kernel's or ours; `forget_cached(ino)`: ours.

        `shared`: others change files, too.
        """
        self.by_ino = settling.files
        self._metadata = metadata
        self._ask = metadata.ask
        self._ask_lazily = metadata.ask_lazily
        self._lock = metadata.lock
        self._settling = settling
        self._shared = shared
        self.forget_pages = forget_pages
        self._forget_cached = forget_cached
        #: What closed files were when this mount knew them last.
        self._known: dict[int, tuple[int, int, int]] = {}
        #: Files that nobody uses -> since when; oldest first.
        self._idle: dict[int, int] = {}
        self._now_ns = 0
        self._ending = False
        #: What was inline in files that are closed.
        self._contents = Contents()
        #: Those of which the metadata has not heard.
        self.leased_opens = LeasedOpens()
        #: How many Opens of a file are not answered.
        self._opening: dict[int, int] = {}

    # -- coming and going -------------------------------------------------------------------------------------------

    def open(self, ino: int, writes: bool) -> Task[tuple[FileData, bool]]:
        """A task: the file, in use until `close`, and whether pages of it that were read earlier are as good as ever."""
        ours = self.by_ino.get(ino)
        if ours is not None and self._covers(ours, writes):
            if self._idle.pop(ino, None) is not None:
                self._recollect(ours)
            ours.opens += 1
            return ours, True
        attributes = self._believed(ino) if ours is None and not writes else None
        if attributes is not None and self.leased_opens.open(attributes):
            return self._open_under_lease(attributes)
        opened: Opened = yield from self._ask_to_open(ino, writes)
        attributes = opened.attributes
        known = self._known.pop(ino, None)
        same = not self._shared or known == state(attributes)
        before = self.by_ino.get(ino)
        epoch = before.epoch if before is not None else -1
        file = self.opened(attributes, writes)
        same = same or file.epoch == epoch
        if opened.inline is not None and not file.in_objects and not file.loaded:
            file.content_is(opened.inline)
        if opened.contended:
            file.contended = True
            file.in_objects = not file.stored_inline
        keeps_pages = same and not file.contended
        if not keeps_pages:
            self._forget_cached(ino)
        return file, keeps_pages

    def _covers(self, file: FileData, writes: bool) -> bool:
        """Whether the metadata has the file open for us already, for that and for us alone."""
        if (writes and not file.writes) or file.contended or file.recalled or file.unsure:
            return False
        if not file.held and file.ino not in self.leased_opens:
            return False
        if self._metadata.is_away:
            return False  # it may have been given to another by now
        return file.ino not in self._opening

    def _believed(self, ino: int) -> Attributes | None:
        """What a file is that may be opened for reading without asking; None: ask."""
        found = self._metadata.known(ino) if self._shared and ino not in self._opening else None
        return found if found is not None and found.is_file and found.nlink else None

    def _open_under_lease(self, attributes: Attributes) -> tuple[FileData, bool]:
        ino = attributes.ino
        keeps_pages = self._known.pop(ino, None) == state(attributes)
        file = self.by_ino[ino] = FileData(attributes)
        self._settling.adopt(file)
        file.opens = 1
        self._recollect(file)
        if not keeps_pages:
            self._forget_cached(ino)
        return file, keeps_pages

    def _recollect(self, file: FileData) -> None:
        content = self._contents.find(file.ino, state(file.seen)) if file.stored_inline else None
        if content is not None:
            file.content_is(content)

    def _keep_content(self, file: FileData) -> None:
        content = file.known_content()
        if content is not None and not (file.contended or file.unsure):
            self._contents.keep(file.ino, state(file.seen), content)
            file.content_is(None)

    def make_known(self, ino: int) -> Task[FileData | None]:
        """See `DataPath.opened_for`."""
        if ino not in self.leased_opens:
            return None
        opened = yield from self._ask_to_open(ino, writes=False)
        return self.opened(opened.attributes, writes=False)

    def lease_returned(self, key: int, attributes_of: int) -> list[int]:
        """What the metadata is being told to be open."""
        said = self.leased_opens.returned(key, attributes_of)
        for ino in said:
            self.by_ino[ino].held += 1
        return said

    def leases_lost(self, kept: Container[int]) -> list[int]:
        stated = self.leased_opens.lost(kept)
        for ino in stated:
            file = self.by_ino[ino]
            file.held += 1
            file.unsure = True
        return stated

    def _ask_to_open(self, ino: int, writes: bool) -> Task[Opened]:
        opening = self._opening
        opening[ino] = opening.get(ino, 0) + 1
        self._idle.pop(ino, None)
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
        self._idle.pop(file.ino, None)
        file.held += 1
        file.opens += 1
        file.writes = file.writes or writes
        self.leased_opens.over(file.ino)
        if not file.making and self._metadata.when_made(file.ino, partial(self._made, file)):
            file.making = True
            file.users += 1  # to be closed when it is there
        return file

    def _made(self, file: FileData, error: BaseException | None) -> None:
        with self._lock:
            file.making = False
            file.users -= 1
            if error is not None:
                file.error = getattr(error, "errno", 0) or EIO
            self.let_go(file)

    def let_go(self, file: FileData) -> None:
        """Close the file once nobody uses it and nothing of it is under way."""
        ino = file.ino
        if file.making and file.is_done_with and self._metadata.make_closed(ino):
            file.making = False
            file.users -= 1
            file.held = 0
        if file.opens or file.busy or ino in self._settling.untrimmed or self.by_ino.get(ino) is not file:
            return
        if ino in self._opening:
            return  # a Recall in between would be for a file that we do not know
        if (
            self._shared
            and file.held
            and not (self._ending or file.writes or file.contended or file.unlinked or file.recalled)
        ):
            if ino in self._idle:
                return
            if len(self._idle) >= IDLE_MAX:
                self.close_idle(next(iter(self._idle)))
            self._idle[ino] = self._now_ns
            self._keep_content(file)
        else:
            self._close(file)

    @property
    def has_unclean(self) -> bool:
        """Whether there is a file of which something is not stored and published. Called with the lock."""
        idle = self._idle
        return any(not file.clean for ino, file in self.by_ino.items() if ino not in idle)

    def tick(self, now_ns: int) -> None:
        """Idle files do not stay so for ever. Called with the lock."""
        self._now_ns = now_ns
        for ino in [ino for ino, since_ns in self._idle.items() if now_ns - since_ns >= IDLE_NS]:
            self.close_idle(ino)

    def end(self) -> None:
        """No file is kept open any more. Called with the lock."""
        self._ending = True
        for ino in list(self._idle):
            self.close_idle(ino)

    def close_idle(self, ino: int) -> bool:
        """Whether it was idle."""
        if ino not in self._idle:
            return False
        self._close(self.by_ino[ino])
        return True

    def _close(self, file: FileData) -> None:
        self._idle.pop(file.ino, None)
        self.leased_opens.over(file.ino)
        del self.by_ino[file.ino]
        self._settling.keep(file)
        if self._shared and file.writes and file.held:
            self._settling.is_due(file.ino)
        if self._shared and not (file.contended or file.unsure):
            known = self._known
            if len(known) >= REMEMBERED_MAX:
                del known[next(iter(known))]
            known[file.ino] = state(file.seen)
            self._keep_content(file)
        if file.held:
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
            if file.held and not self._metadata.is_promised(file.ino)  # what makes it, or gives back its lease, says so
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

    def news(self, file: FileData) -> Reported:
        """What is not published yet, for others."""
        return Reported(file.ino, file.size, file.mtime_ns) if file.changed else Reported(file.ino)

    def has_no_news(self, ino: int) -> None:
        """The file was closed meanwhile, or the answer that opens it has not arrived: nobody was promised anything."""
        if ino not in self._opening:  # else it would come behind the Open, and be taken for news of after it
            self.tell(Reported(ino))

    def shown(self, file: FileData, stored: Attributes) -> Attributes:
        """With what is not published yet."""
        seen = stored.copy()
        seen.size = file.size
        if file.mtime_ns is not None:
            seen.mtime_ns = file.mtime_ns
            seen.ctime_ns = max(file.mtime_ns, seen.ctime_ns)
        return seen

    def may_change_lazily(self, file: FileData, request: SetAttributes) -> bool:
        """Whether callers may be answered before the metadata knows: nobody hears what the file is without asking us (see
        `loligo_mds.core.news`), and what `request` makes of it can be told here.
        """
        if not self._shared or not (file.held and file.writes) or file.contended or file.recalled:
            return False
        if self._metadata.is_away:
            return False
        return request.mode is None or not file.seen.flags & FLAG_ACCESS_ACL

    def change_lazily(self, file: FileData, request: SetAttributes, now_ns: int) -> Attributes:
        """-> what the file is now, about: ctime will be the metadata's.

        If it refuses, as on a full disk, who syncs is told; so is who closes, if that is known by then.
        """
        answer = self._ask_lazily(request)
        if not isinstance(answer, Future):
            file.seen = answer
            return self.shown(file, answer) if file.changed else answer
        file.seen = with_changes(file.seen, request, now_ns)
        file.users += 1
        file.telling += 1
        file.telling_last = answer
        answer.add_done_callback(partial(self._changed, file))
        return self.shown(file, file.seen) if file.changed else file.seen

    def _changed(self, file: FileData, answer: Future[Attributes]) -> None:
        with self._lock:
            file.users -= 1
            file.telling -= 1
            if not file.telling:
                file.telling_last = None
            error = answer.exception()
            if error is not None:
                file.refused = getattr(error, "errno", 0) or EIO
                log.warning("inode %d: attributes that a caller has set are not stored: %s", file.ino, error)
            elif not file.telling:
                self.saw(file, answer.result())
            self.let_go(file)

    def saw(self, file: FileData, attributes: Attributes) -> None:
        """News from the metadata about an open file. Somebody here who changes its size knows better."""
        before = file.seen
        if self._mtime_was_set(file, attributes):
            file.mtime_ns = None
        if file.unsure:
            file.unsure = False
            if file.clean and state(attributes) != state(before):
                file.stands_at(attributes)
                self.forget_pages(file.ino)
        if not file.telling:  # else it may be older than what we have told our callers
            file.seen = self._metadata.latest(attributes)
        if not self._shared or file.turn.taken:
            return
        if file.contended:
            self.grew(file, attributes)
            if state(attributes) != state(before):
                self.forget_pages(file.ino)
        elif file.clean and attributes.size != file.stored_size:
            file.stands_at(attributes)
            self.forget_pages(file.ino)

    def _mtime_was_set(self, file: FileData, attributes: Attributes) -> bool:
        """By another client, later than we have written: nothing that we say is under way, and mtime is another than we knew.
        The metadata compares these two clocks, too.
        """
        if file.mtime_ns is None or file.publishing or file.telling or attributes.mtime_ns == file.seen.mtime_ns:
            return False
        return attributes.ctime_ns >= file.mtime_ns

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
