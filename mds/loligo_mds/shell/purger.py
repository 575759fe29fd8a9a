"""Empties the trash in the background: what is due, what was asked for, and the oldest of the rest when room is needed.

`step` does a little, and says how long to wait until the next; it never blocks for longer than a few milliseconds. A server
calls it on its event loop, where steps of the shard are taken that sessions hear of; an embedded volume on a thread. No client
need be there. All that counts is in the shard's tables, so who starts it again after a crash goes on where it was.

Rules
1. Others go first: see `loligo_trash.pace`.
2. The object store sets the speed: nothing is purged while more than OBJECTS_LEFT_MAX objects are to be removed, or, while
   sessions ask for something, OBJECTS_LEFT_SHARED_MAX. With the cluster away, purging stops.
3. A directory that was moved to the trash as a whole is counted before it is purged, so that it can be told how much is left.
4. Nothing is purged before it is due, nor while it is paused, nor faster than its rate (`core.purging` sees to that), but by
   `PurgeBatch`: by who removed it, or here, if `loligo_trash.pressure` says so.
"""

import logging
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Final

from loligo_mds.core.requests import (
    CountTree,
    GetUsage,
    GetXattr,
    ListBatches,
    Purge,
    PurgeBatch,
    Request,
    Survey,
    Surveyed,
    Usage,
)
from loligo_mds.core.state import ino_of_key
from loligo_mds.shell.driver import ShardDriver
from loligo_mds.shell.keeper import Keeper
from loligo_mds.shell.removals import Removals
from loligo_runtime.failpoint import declare, failpoint
from loligo_trash.batch import FLAG_COUNTED, Batch, Word, decode_batch
from loligo_trash.pace import Pace
from loligo_trash.policy import LIMIT_NAME, parse_limit
from loligo_trash.pressure import Room, batches_to_purge, excess
from loligo_trash.tally import Tally
from loligo_wire.ids import ROOT_INO

log = logging.getLogger(__name__)

#: Several full rounds of the keeper: it has something to do while the next step is awaited.
OBJECTS_LEFT_MAX: Final = 2048
#: The same while others ask for something: the machines of the object store, and the disk of the journal, are theirs first.
OBJECTS_LEFT_SHARED_MAX: Final = 8
#: Who asked for something will again.
_PRESENT_FOR_S: Final = 0.1
#: While there are more.
WAIT_S: Final = 0.01
#: While there is nothing to do.
IDLE_S: Final = 0.2
#: After an error.
RETRY_S: Final = 1.0
#: What was purged shows in the free space of a cluster after so long.
ROOM_LAG_S: Final = 15.0
#: Of one step: names and inodes, and entries.
_PURGED_MAX: Final = 1000
_COUNTED_MAX: Final = 4000
_BATCHES_PAGE: Final = 100
#: With a limit of the rate, a step does no more than what is allowed in this time.
_RATE_SLICE_S: Final = 0.1

declare(
    "purge.step.before",
    "purge.step.after",
    "purge.count.before",
    "purge.count.after",
    "purge.pressed.before",
    "purge.pressed.after",
)


class _Walk:
    """Through a directory that was removed as a whole: what is left of the way, and what was found."""

    __slots__ = ("batch", "stack", "tally")

    def __init__(self, batch: int) -> None:
        self.batch = batch
        #: (directory, behind which entry)
        self.stack: list[tuple[int, bytes]] = [(0, b"")]
        self.tally = Tally()


class Purger:
    """One thread calls `step`; the counts may be read by any."""

    def __init__(
        self,
        driver: ShardDriver,
        ask: Callable[[Request], Any],
        keeper: Keeper,
        removals: Removals,
        space: Callable[[], tuple[int, int]],
        *,
        rate: float = 0.0,
        on_step: Callable[[float], None] = lambda took_s: None,
    ) -> None:
        """`ask`: a step of the shard's own process, OSError when it is refused. `space`: (total, free) bytes of the object
        store, (0, 0) while they are not known; must not block. `rate`: inodes a second, 0: as many as can be. `on_step`: told
        how long each step took that purged something.
        """
        self._driver = driver
        self._ask = ask
        self._keeper = keeper
        self._removals = removals
        self._space = space
        self._rate = rate
        self._on_step = on_step
        self._purging = Pace(_PURGED_MAX)
        self._counting = Pace(_COUNTED_MAX)
        #: Of sessions, when this was looked at last.
        self._asked = 0
        #: The same, looked at before each step; and until when they are taken to be there.
        self._asked_before = 0
        self._shared_until_s = 0.0
        #: The last batch of which it is known whether it is to be counted, and those that are.
        self._seen_batch = 0
        self._trees: deque[int] = deque()
        self._walk: _Walk | None = None
        #: Until then the free space that is known says nothing.
        self._room_unknown_until_s = 0.0
        self._said = ""
        #: Since the start.
        self.inodes = 0
        self.size_bytes = 0

    def step(self) -> float:
        """Seconds to wait before the next one."""
        if self._keeper.objects_left > self._objects_left_max():
            return WAIT_S
        try:
            pause_s = self._step()
        except OSError as error:
            if str(error) != self._said:
                self._said = str(error)
                log.warning("the trash is not emptied for now: %s", error)
            return RETRY_S
        self._said = ""
        return pause_s

    def _objects_left_max(self) -> int:
        """Looked at before each step: while it is waited for the object store, others come and go."""
        now_s = time.monotonic()
        asked = self._driver.asked
        if asked != self._asked_before:
            self._asked_before = asked
            self._shared_until_s = now_s + _PRESENT_FOR_S
        return OBJECTS_LEFT_SHARED_MAX if now_s < self._shared_until_s else OBJECTS_LEFT_MAX

    def _step(self) -> float:
        if self._look_for_trees():
            return self._count()
        is_due, pause_s = self._purge()
        return pause_s if is_due or not self._make_room() else 0.0

    def _pause(self, pace: Pace, began_s: float) -> float:
        asked, self._asked = self._asked, self._driver.asked
        now_s = time.monotonic()
        return pace.after(now_s - began_s, now_s, self._asked - asked)

    # -- what is due --------------------------------------------------------------------------------------------------

    def _purge(self) -> tuple[bool, float]:
        """Whether anything is due that does not rest, and the pause."""
        began_s = time.monotonic()
        count = self._purging.count
        if self._rate:
            count = min(count, max(1, int(2 * self._rate * _RATE_SLICE_S)))  # a file is a name and an inode
        left, inodes = count, 0
        while left > 0:
            failpoint("purge.step.before")
            with self._removals.at_once():
                purged = self._ask(Purge(left))
            failpoint("purge.step.after")
            if not purged.names:
                break
            left -= purged.names + purged.inodes
            inodes += purged.inodes
            self.size_bytes += purged.size_bytes
        if left == count:
            if purged.batch:
                return True, WAIT_S  # leases of what is to go are still on their way back
            return False, min(IDLE_S, purged.rest_ns / 1e9) if purged.rest_ns else IDLE_S
        self.inodes += inodes
        self._on_step(time.monotonic() - began_s)
        pause_s = self._pause(self._purging, began_s)
        return True, max(pause_s, inodes / self._rate) if self._rate else pause_s

    # -- what nobody has counted --------------------------------------------------------------------------------------

    def _look_for_trees(self) -> bool:
        """Whether there is something to count."""
        for batch in self._batches(self._seen_batch):
            self._seen_batch = batch.id
            if batch.label and not batch.flags & FLAG_COUNTED:
                self._trees.append(batch.id)
        if self._walk is None and self._trees:
            self._walk = _Walk(self._trees.popleft())
        return self._walk is not None

    def _count(self) -> float:
        walk = self._walk
        assert walk is not None
        began_s = time.monotonic()
        left = self._counting.count
        while walk.stack and left > 0:
            directory, after = walk.stack.pop()
            found: Surveyed = self._ask(Survey(walk.batch, directory, after, left))
            walk.tally.add(found.inodes, found.size_bytes, found.linked)
            if found.after:
                walk.stack.append((directory, found.after))
            walk.stack += [(inner, b"") for inner in found.directories]
            left -= 4 + found.inodes + len(found.linked)  # asking takes its time, too
        if not walk.stack:
            failpoint("purge.count.before")
            self._ask(CountTree(walk.batch, walk.tally.inodes, walk.tally.size_bytes))
            failpoint("purge.count.after")
            self._walk = None
        return self._pause(self._counting, began_s)

    # -- what is not due, but in the way ------------------------------------------------------------------------------

    def _make_room(self) -> bool:
        """Whether something is due now that was not."""
        usage: Usage = self._ask(GetUsage())
        if not usage.trash_inodes:
            return False
        now_s = time.monotonic()
        limit_bytes = self._limit_bytes()
        room = Room(usage.trash_bytes, limit_bytes)
        if now_s >= self._room_unknown_until_s and not self._keeper.objects_left:
            room = Room(usage.trash_bytes, limit_bytes, *self._space(), self._driver.rows_have_little_room())
        too_much = excess(room)
        chosen = batches_to_purge(self._batches(0), too_much) if too_much else []
        for batch in chosen:
            failpoint("purge.pressed.before")
            self._ask(PurgeBatch(batch, Word.RATE))  # there is no time for that
            self._ask(PurgeBatch(batch))
            failpoint("purge.pressed.after")
        if chosen:
            log.info("room is needed: batches %s of the trash are purged before they are due", chosen)
        if too_much.missing_bytes > 0 or too_much.metadata_is_low:
            self._room_unknown_until_s = now_s + ROOM_LAG_S
        return bool(chosen)

    def _limit_bytes(self) -> int:
        try:
            return parse_limit(self._ask(GetXattr(ROOT_INO, LIMIT_NAME)))
        except OSError:
            return 0

    def _batches(self, after: int) -> list[Batch]:
        """Some of them, the oldest first."""
        page = self._ask(ListBatches(after, _BATCHES_PAGE))
        return [decode_batch(ino_of_key(row)[0], row[8:]) for row in page]
