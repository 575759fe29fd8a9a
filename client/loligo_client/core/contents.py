"""Short contents that live with their inodes, as they were read or written here last: to read them again asks nobody.

Each is kept with what the file was then, and is good for a file that is the same: see `shell.open_files.state`. The memory is
bounded, and what was not used for longest goes first.
"""

from collections import OrderedDict
from collections.abc import Hashable
from typing import Final

CONTENTS_MAX_BYTES: Final = 16 << 20
#: What an entry costs besides its bytes, about.
_ENTRY_BYTES: Final = 300


class Contents:
    """Called with the lock of the metadata."""

    def __init__(self) -> None:
        self._kept: OrderedDict[int, tuple[Hashable, bytes]] = OrderedDict()
        self._bytes = 0

    def keep(self, ino: int, state: Hashable, content: bytes) -> None:
        self.forget(ino)
        self._kept[ino] = state, content
        self._bytes += len(content) + _ENTRY_BYTES
        while self._bytes > CONTENTS_MAX_BYTES:
            self.forget(next(iter(self._kept)))

    def find(self, ino: int, state: Hashable) -> bytes | None:
        """The content of the file, if it is what it was."""
        kept = self._kept.get(ino)
        if kept is None or kept[0] != state:
            return None
        self._kept.move_to_end(ino)
        return kept[1]

    def forget(self, ino: int) -> None:
        kept = self._kept.pop(ino, None)
        if kept is not None:
            self._bytes -= len(kept[1]) + _ENTRY_BYTES
