"""Everything a shard wants done, in the order in which it must become durable or visible."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from loligo_mds.core.events import Event, Submitted
from loligo_mds.core.tables import Write
from loligo_wire.attributes import Attributes


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
class RepairObjects:
    """Whoever wrote the file is gone without a word: make its objects and its size agree, then say `Repaired`."""

    ino: int


@dataclass(slots=True)
class Recall:
    """Tell the session to store and publish what it has of the file, to leave it alone, and to answer `Yielded`."""

    session: int
    ino: int


@dataclass(slots=True)
class Report:
    """Tell the session, which owns the file, that another wants to know what it is: it answers `Reported`. See `core.news`."""

    session: int
    ino: int


@dataclass(slots=True)
class Resume:
    """Tell the session that it may use the file again, and what it is now. From now on the file is contended."""

    session: int
    ino: int
    attributes: Attributes


@dataclass(slots=True)
class LeaseRecall:
    """Tell the session to believe nothing any more that the lease of `ino` covers, or nothing of the attributes of one inode,
    and to answer `LeaseReturned`. `share`: only that it is exclusive ends. See `core.leases`.
    """

    session: int
    ino: int
    attributes_of: int = 0
    share: bool = False


@dataclass(slots=True)
class Reply:
    """`errno` 0 means that `value` is the answer; otherwise the request is refused and changed nothing.

    `id` is that of the request, which may have come in an earlier step, from another session than the one of this step.
    `directories`, of those that the request was about, are as they are now, and covered by leases as all that is answered,
    but for an inode in `value` if `unsure`. `leases` are those granted with it; attributes of the inodes in `forgets` are
    covered no more. `repeated`: it is the answer of when the request came first, and nothing covers it. `delegations` are the
    leases that are exclusive from now on. See `core.leases`.
    """

    session: int
    id: int
    value: Any
    errno: int = 0
    directories: Sequence[Attributes] = ()
    leases: Sequence[int] = ()
    unsure: bool = True
    forgets: Sequence[int] = ()
    repeated: bool = False
    delegations: Sequence[int] = ()


@dataclass(slots=True)
class Retry:
    """A request that had to wait can go on: give it to the shard once more, as if it had come now."""

    event: Submitted


@dataclass(slots=True)
class Repeat:
    """Last effect of a step that could not do all at once: give the shard `event` again, before any other."""

    event: Event


Effect = AppendJournal | RemoveObjects | RepairObjects | Recall | Report | Resume | LeaseRecall | Reply | Retry | Repeat

#: What a step may have to say to sessions.
SAID = (Reply, Recall, Report, Resume, LeaseRecall)
