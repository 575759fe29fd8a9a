"""Where the kernel was told that directories are, last. It takes each for being in one place: a directory, and a name in it.

Numbers are those that the kernel knows. What is not known here is no error: at most `limit` are remembered, those that were
told last. The kernel counts how often it is told of an inode, and says that number when it forgets it: it may have been told
anew meanwhile.
"""

from typing import Final, TypeAlias

from loligo_wire.ids import ROOT_INO

#: Each costs some 400 bytes.
PLACES_MAX: Final = 32_768

Place: TypeAlias = tuple[int, bytes]


class ToldPlaces:
    """One directory in each place, and one place for each directory."""

    def __init__(self, limit: int = PLACES_MAX) -> None:
        self._limit = limit
        #: Those told longest ago first.
        self._places: dict[int, Place] = {}
        self._directories: dict[Place, int] = {}
        self._times: dict[int, int] = {}
        #: The kernel may still have them where they were before.
        self._unsure: set[int] = set()

    def __len__(self) -> int:
        return len(self._places)

    def told(self, ino: int, place: Place) -> bool:
        """Whether the kernel may go on having it in another place."""
        known = self._places.get(ino)
        if known == place:
            self._places[ino] = self._places.pop(ino)
            self._times[ino] += 1
            return ino in self._unsure
        self._put(ino, place, self._drop(ino) + 1)
        if known is not None:
            self._unsure.add(ino)
        return known is not None

    def is_unsure(self, ino: int) -> bool:
        return ino in self._unsure

    def seen(self, ino: int) -> None:
        """The kernel has it where it was told, for sure."""
        self._unsure.discard(ino)

    def renamed(self, source: Place, destination: Place, exchange: bool) -> None:
        """The kernel has asked for that, and knows."""
        moved, replaced = self._directories.get(source, 0), self._directories.get(destination, 0)
        if moved == replaced:
            return
        times = self._drop(moved), self._drop(replaced)
        if moved:
            self._put(moved, destination, times[0])
        if replaced and exchange:
            self._put(replaced, source, times[1])

    def forgotten(self, ino: int, times: int) -> None:
        """An inode of any kind, of which the kernel was told so many times."""
        if ino in self._times:
            self._times[ino] -= times
            if self._times[ino] <= 0:
                self._drop(ino)

    def is_told(self, place: Place) -> bool:
        """Whether there is a directory, as far as is known."""
        return place in self._directories

    def find(self, ino: int) -> Place | None:
        return self._places.get(ino)

    def path(self, ino: int) -> bytes | None:
        """From the root of the mount, with a slash before each name. None: not all of it is known."""
        path = b""
        passed = set()
        while ino != ROOT_INO:
            place = self._places.get(ino)
            if place is None or ino in passed:  # of what others move in turns there may be a circle
                return None
            passed.add(ino)
            ino, name = place
            path = b"/" + name + path
        return path

    def _put(self, ino: int, place: Place, times: int) -> None:
        self._drop(self._directories.get(place, 0))
        self._places[ino] = place
        self._directories[place] = ino
        self._times[ino] = times
        if len(self._places) > self._limit:
            self._drop(next(iter(self._places)))

    def _drop(self, ino: int) -> int:
        """-> how often the kernel was told of it"""
        place = self._places.pop(ino, None)
        if place is None:
            return 0
        del self._directories[place]
        self._unsure.discard(ino)
        return self._times.pop(ino)
