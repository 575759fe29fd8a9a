"""The port to the place where file data lives: a flat store of small objects.

A file's bytes are striped over objects. An object is named by two numbers, the file's inode number
and the index of the stripe, and is a string of at most a few MiB. Two adapters stand behind this
port: ``local_objects`` (a folder of files) and ``rados_objects`` (a RADOS pool); ``object_url``
opens either from a URL. One suite, ``tests/contracts/test_object_store.py``, holds both to the
rules below.

Rules
1. Every call may come from any thread. Calls that return a future return at once; the future is
   completed on the calling thread (the answer was at hand) or on a thread of the store. Its
   callbacks run there: they must be short and must not block.
2. A write, truncate, zero or remove is done when it survives the death of this process. Only
   ``sync`` and ``sync_all`` promise that it survives a power loss.
3. Nothing is promised about the order of calls in flight on one object: the caller waits for one
   change of an object before it starts the next. It also bounds the bytes in flight.
4. The data given to ``write`` must not change until the future is done.
5. Bytes never written read as zeros; a read behind the end of an object is short. An object that
   was never written, or was removed, is MISSING: the caller reads that as zeros too, but may want
   to know.
6. Futures fail with `OSError` and its errno: ENOSPC (full), ETIMEDOUT (the cluster does not
   answer), EIO and so on. After a failed write the range holds old bytes, new bytes, or some of
   each.

7. Lengths to read, write and zero are at least 1.
8. A client that was shut out of the store (its metadata server took it for dead) gets `ShutOutError`
   from every call from then on: trying again is of no use.

What it does not do: it knows no files, sizes or leases, does not cache, and does not try again.
"""

import enum
import errno
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, wait
from typing import Any, Final, Protocol, TypeAlias, TypeVar


class Missing(enum.Enum):
    """The type of `MISSING`; an enum, so that ``is MISSING`` narrows types."""

    MISSING = "missing"


MISSING: Final = Missing.MISSING

ObjectKey: TypeAlias = tuple[int, int]
"""(inode number, stripe index)"""

BytesLike: TypeAlias = bytes | bytearray | memoryview


class ObjectStoreError(Exception):
    """A store cannot be opened. The text says what to do.

    ObjectStoreError
    ├── UrlError               the URL is malformed; do not retry
    ├── StoreMissingError      no such folder, pool or configuration; make it first, do not retry
    ├── StoreTakenError        another volume's data is there; do not retry
    └── StoreUnreachableError  the cluster does not answer or refuses us; retrying may help
    """


class UrlError(ObjectStoreError, ValueError):
    pass


class StoreMissingError(ObjectStoreError):
    pass


class StoreTakenError(ObjectStoreError):
    pass


class StoreUnreachableError(ObjectStoreError):
    pass


class ShutOutError(OSError):
    """This client was shut out of the store for good; what it has not written by now is lost."""

    def __init__(self) -> None:
        super().__init__(errno.EIO, "this client was shut out of the object store")


def object_name(ino: int, index: int) -> str:
    """``<ino:016x>.<index:08x>``, the name of an object in every store."""
    return f"{ino:016x}.{index:08x}"


def parse_object_name(name: str) -> ObjectKey | None:
    """The key of an object's name; None if it is not the name of an object."""
    ino, dot, index = name.partition(".")
    if dot and len(ino) == 16 and len(index) == 8:
        try:
            key = int(ino, 16), int(index, 16)
        except ValueError:
            return None
        if object_name(*key) == name:
            return key
    return None


#: The name under which a store keeps its owner's; no object's name looks like it.
OWNER_NAME: Final = "loligo-volume"


def taken(owner: str | None) -> StoreTakenError:
    return StoreTakenError(
        f"this place holds the data of volume {owner}: choose another folder, pool or namespace (two volumes in one would"
        " destroy each other), or empty it if that volume is gone"
    )


T = TypeVar("T")

#: Of one caller.
REMOVALS_IN_FLIGHT: Final = 128


def completed(result: T) -> Future[T]:
    """A future that is done already."""
    future: Future[T] = Future()
    future.set_result(result)
    return future


def failed(error: OSError) -> Future[Any]:
    """A future that has failed already."""
    future: Future[Any] = Future()
    # Its traceback would keep frames, and so open files of the store, for as long as it is kept.
    future.set_exception(error.with_traceback(None))
    return future


DONE: Final[Future[None]] = completed(None)
"""The one future for changes done on the spot: making another costs more than a small write."""


class ObjectStore(Protocol):
    def read_now(self, ino: int, index: int, offset: int, length: int) -> bytes | Missing | None:
        """As `read`, if that needs no waiting; None if it would have to wait. Raises OSError."""

    def read(self, ino: int, index: int, offset: int, length: int) -> Future[bytes | Missing]:
        """Up to `length` bytes from `offset`; fewer only where the object ends."""

    def write(self, ino: int, index: int, offset: int, data: BytesLike) -> Future[None]:
        """Write all of `data`; make or extend the object as needed."""

    def truncate(self, ino: int, index: int, length: int) -> Future[None]:
        """Set the object's length; a missing object stays missing."""

    def zero(self, ino: int, index: int, offset: int, length: int) -> Future[None]:
        """Make a range read as zeros, and give its space back where the store can.

        Never extends or makes an object. A range that reaches the end may shorten the object
        instead.
        """

    def remove(self, ino: int, index: int) -> Future[None]:
        """Remove the object; a missing one is fine."""

    def remove_many(self, objects: Iterable[ObjectKey]) -> dict[int, OSError]:
        """`remove` of each, some at a time. Blocks. Inodes of which one could not be removed, and why: then some others of that
        inode may be left, too.
        """

    def size(self, ino: int, index: int) -> Future[int | None]:
        """The length in bytes; None if the object is missing."""

    def sync(self, objects: Iterable[ObjectKey]) -> Future[None]:
        """Make all done changes of these objects, removals included, survive a power loss."""

    def sync_all(self) -> Future[None]:
        """`sync` of every object."""

    def owner(self) -> str | None:
        """Whose data this is: what `claim` was given; None before. Blocks."""

    def claim(self, owner: str) -> None:
        """Mark the store as `owner`'s, once and for all; StoreTakenError if it is another's. Blocks.

        Two volumes in one store would take each other's objects for their own.
        """

    def list(self) -> Iterator[tuple[int, int, int]]:
        """(ino, index, size) of every object, in no order. Blocks: for checks only."""

    def usage(self) -> tuple[int, int]:
        """(total, free) bytes that data can occupy here. May block: ask now and then."""

    def addresses(self) -> tuple[str, ...]:
        """What `shut_out` needs to know of this client. Empty for a store that cannot shut anybody out."""

    def shut_out(self, addresses: Iterable[str]) -> None:
        """Refuse those clients from now on (rule 8). OSError if it cannot be done. Blocks.

        When this has returned, none of them can change an object that was read or changed through
        *this* store since. Objects that nobody has touched since may see their last words for a moment.
        """

    def close(self) -> None:
        """Wait for what is in flight and let go of everything. No call may follow."""


def remove_blocks(store: ObjectStore, ino: int, first: int, last: int) -> None:
    """Remove objects `first` to `last` - 1 of a file, many at a time. Blocks. OSError: some may be left, none is under way."""
    under_way: deque[Future[None]] = deque()
    try:
        for index in range(first, last):
            under_way.append(store.remove(ino, index))
            if len(under_way) >= REMOVALS_IN_FLIGHT:
                under_way.popleft().result()
        while under_way:
            under_way.popleft().result()
    finally:
        wait(under_way)  # a new try must not meet what is left of this one


def remove_one_by_one(store: ObjectStore, objects: Iterable[ObjectKey]) -> dict[int, OSError]:
    """`remove_many` of a store that has nothing better."""
    under_way: deque[tuple[int, Future[None]]] = deque()
    errors: dict[int, OSError] = {}

    def finish_one() -> None:
        ino, removal = under_way.popleft()
        try:
            removal.result()
        except OSError as error:
            errors[ino] = error

    for ino, index in objects:
        if ino in errors:
            continue
        under_way.append((ino, store.remove(ino, index)))
        if len(under_way) >= REMOVALS_IN_FLIGHT:
            finish_one()
    while under_way:
        finish_one()
    return errors
