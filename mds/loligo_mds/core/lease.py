"""A lease: what one session has of it, who waits for it, and what it covers. How they come and go: `core.leases`."""

from loligo_mds.core.events import Submitted
from loligo_mds.core.state import ShardState
from loligo_wire.attributes import Attributes

#: A lease that is recalled from many sessions twice within this time is not granted for as long; one that was exclusive, and
#: asked about by others, is not exclusive again for as long.
CALM_NS = 1_000_000_000


class Lease:
    """What one session has. `exclusive`: nobody else has it; `sharing`: it was asked to let others have it. `asked`: inodes
    whose attributes were recalled, `recalled`: all was, and it has not answered; `waived`: nobody waits for that. `excepted`:
    inodes whose attributes it does not believe. `stated`: it was exclusive already when the session came back. `assumed`: files
    of which a name has changed while it was waived, and count as open until the session has said which of them it is reading.
    """

    __slots__ = ("asked", "assumed", "excepted", "exclusive", "recalled", "sharing", "stated", "waived")

    def __init__(self) -> None:
        self.recalled = self.waived = self.exclusive = self.sharing = self.stated = False
        self.asked: set[int] = set()
        self.excepted: set[int] = set()
        self.assumed: set[int] = set()


class Parked:
    """A request that waits, and for which leases."""

    __slots__ = ("event", "keys", "touched")

    def __init__(self, event: Submitted, keys: set[int], touched: frozenset[tuple[int, int]]) -> None:
        self.event = event
        self.keys = keys
        self.touched = touched


class Busy:
    """A lease that sessions get in each other's way for. `shared_ns`: when it last was not exclusive any more."""

    __slots__ = ("recalled_ns", "shared_ns", "until_ns")

    def __init__(self) -> None:
        self.recalled_ns = self.until_ns = self.shared_ns = -CALM_NS


def cover_of(attributes: Attributes) -> int:
    """The lease that covers the attributes of the inode."""
    if attributes.is_directory or attributes.nlink != 1 or not attributes.parent:
        return attributes.ino
    return attributes.parent


def is_withheld(state: ShardState, attributes: Attributes) -> bool:
    """Whether another session than the asking one has the lease that covers them for itself."""
    return state.delegations.get(cover_of(attributes), state.asking) != state.asking
