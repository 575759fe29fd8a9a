"""Files that are open here for reading, and of which the server has not heard: what leases are good for besides attributes.

While nobody else may change a file, its names or who has it open without asking us first (`loligo_mds.core.leases`), nobody
needs to know that it is open here: it is closed again, most of the time, before anybody asks. So a program that reads ten
thousand files sends nothing.

Invariant: each of these files is covered by a lease that we hold and that the server has not heard to be given back. Whoever
says that it is, or that one inode's attributes are, says in the same breath which files are open under it
(`LeaseReturned.open`); and before a name of such a file changes by our own doing, which may have another lease cover it, the
server is told.

A connection that is lost takes the leases along: then what is open is stated like all that is. Not what lies under a
delegation: that is kept, and the server may not even know the file yet.
"""

from collections.abc import Container
from typing import Final

from loligo_mds.core.lease import cover_of
from loligo_mds.core.limits import OPEN_RETURNED_MAX
from loligo_wire.attributes import Attributes

#: All of them may be open under one lease, and must fit one message.
LEASED_OPENS_MAX: Final = OPEN_RETURNED_MAX


class LeasedOpens:
    """Inode -> the lease that it is open under. Called with the lock of the metadata."""

    def __init__(self) -> None:
        self._covers: dict[int, int] = {}

    def __contains__(self, ino: int) -> bool:
        return ino in self._covers

    def __bool__(self) -> bool:
        return bool(self._covers)

    def open(self, attributes: Attributes) -> bool:
        """The file, of which we may believe these, is open from now on. False: there are too many, so ask for it."""
        if len(self._covers) >= LEASED_OPENS_MAX:
            return False
        self._covers[attributes.ino] = cover_of(attributes)
        return True

    def over(self, ino: int) -> None:
        """It is closed, or the server knows that it is open."""
        self._covers.pop(ino, None)

    def returned(self, key: int, attributes_of: int) -> list[int]:
        """What is to be said to be open when this is given back. It is not among these any more."""
        if attributes_of:
            said = [attributes_of] if self._covers.get(attributes_of) == key else []
        else:
            said = [ino for ino, cover in self._covers.items() if cover == key]
        return self._said(said)

    def lost(self, kept: Container[int]) -> list[int]:
        """What is to be stated to be open, now that all leases are lost but these."""
        return self._said([ino for ino, cover in self._covers.items() if cover not in kept])

    def _said(self, inos: list[int]) -> list[int]:
        for ino in inos:
            del self._covers[ino]
        return inos
