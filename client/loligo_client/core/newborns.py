"""What is promised to be made, and not on its way to the server: it can still be told to be made otherwise.

Most files are made, written, given to somebody and closed within milliseconds. All of that is one request then: the file is
made as what has become of it.

Invariant: between the request that makes a newborn and what is asked next, nothing is asked about it, or promised. So it makes
no difference that what becomes of it now is said there.
"""

from collections.abc import Callable, Iterable
from typing import Any

from loligo_mds.core.requests import Create
from loligo_wire.attributes import RECORD_SIZE, Attributes

#: Has a promise say something else; False: it is on its way. What is changed has the fields of `Create`.
Amend = Callable[[Any, Callable[[Any], None]], bool]


class Newborns:
    """Every method is called with the lock of `leased`."""

    def __init__(self, amend: Amend) -> None:
        self._amend = amend
        #: inode -> the promise that makes it.
        self._promises: dict[int, Any] = {}

    def __contains__(self, ino: int) -> bool:
        return ino in self._promises

    def promised(self, request: Any, changed: Iterable[int], promise: Any) -> None:
        """It changes those inodes."""
        self.asked(changed)
        if type(request) is Create:
            self._promises[request.new_ino] = promise

    def asked(self, about: Iterable[int]) -> None:
        """Something is, that has to do with these inodes; a number below 0 stands for any."""
        for ino in about:
            if ino < 0:
                self._promises.clear()
            else:
                self._promises.pop(ino, None)

    def becomes(self, ino: int, attributes: Attributes, inline: bytes | None = None) -> bool:
        """Whether it is made as that, with that content."""

        def change(create: Any) -> None:
            create.became = attributes.encode()[:RECORD_SIZE]
            if inline is not None:
                create.inline = inline

        return self._change(ino, change)

    def unsettle(self, ino: int, end: int) -> bool:
        """Whether it is made as a file whose objects may reach so far."""

        def change(create: Any) -> None:
            create.unsettled_end = max(create.unsettled_end, end)

        return self._change(ino, change)

    def close(self, ino: int) -> bool:
        """Whether it is made without being held open."""

        def change(create: Any) -> None:
            create.hold = False

        return self._change(ino, change)

    def _change(self, ino: int, change: Callable[[Any], None]) -> bool:
        promise = self._promises.get(ino)
        if promise is None:
            return False
        if not self._amend(promise, change):
            del self._promises[ino]
            return False
        return True
