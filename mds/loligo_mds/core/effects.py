"""Everything a shard wants done, in the order in which it must become durable or visible."""

from dataclasses import dataclass
from typing import Any

from loligo_mds.core.events import Event
from loligo_mds.core.tables import Write


@dataclass(slots=True)
class AppendJournal:
    """Make this write set durable as one record, before any effect behind it."""

    writes: list[Write]


@dataclass(slots=True)
class RemoveObjects:
    """The inode is gone, its objects may go: those that hold bytes below `end`. Say `Settle` when it is done."""

    ino: int
    end: int
    block_bytes: int


@dataclass(slots=True)
class Reply:
    """`errno` 0 means that `value` is the answer; otherwise the request is refused and changed nothing."""

    session: int
    sequence: int
    value: Any
    errno: int = 0


@dataclass(slots=True)
class Repeat:
    """Last effect of a step that could not do all at once: give the shard `event` again, before any other."""

    event: Event


Effect = AppendJournal | RemoveObjects | Reply | Repeat
