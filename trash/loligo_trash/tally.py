"""How much a tree keeps from being removed: an inode counts when all its names were seen in it. One that has a name elsewhere
goes on living there, whatever becomes of the tree.
"""

from collections.abc import Iterable
from typing import Final

#: Inodes of which some names were seen and others not yet, some 100 bytes each; beyond that they are not counted.
_PARTLY_SEEN_MAX: Final = 1 << 17


class Tally:
    def __init__(self) -> None:
        self.inodes = 0
        self.size_bytes = 0
        #: ino -> names that are still to come.
        self._partly_seen: dict[int, int] = {}

    def add(self, inodes: int, size_bytes: int, linked: Iterable[tuple[int, int, int]] = ()) -> None:
        """`linked`: for each name of an inode that has several, its number, how many names, and the size of the file."""
        self.inodes += inodes
        self.size_bytes += size_bytes
        missing = self._partly_seen
        for ino, links, size in linked:
            left = missing.get(ino, links) - 1
            if not left:
                del missing[ino]
                self.inodes += 1
                self.size_bytes += size
            elif ino in missing or len(missing) < _PARTLY_SEEN_MAX:
                missing[ino] = left
