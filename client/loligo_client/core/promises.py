"""What the server will answer, told in advance: changes of what this client has leased for itself.

See `loligo_mds.core.delegations`. Under such leases nobody else changes what `leased` knows, so callers are answered here, at
once, by the same code that the server runs, and the server is asked later. What is foreseen is heard by `leased` as if it had
been answered; what the server answers later says only whether it agrees.

Invariants
1. What is read to foresee something is covered by leases of ours alone. What is not known raises `Unforeseeable`: the server is
   asked, as always.
2. Nothing is foreseen about directories and inodes about which the server was asked and has not answered (`asking`): that
   answer may be older than the promise, or change what it was built on. Not so with what was written and is being published:
   what that makes of the file is foreseen, though nobody is promised anything.
3. A promise is asked for before the next is made, under one lock: in order.
"""

from collections.abc import Callable, Collection, Container, Iterator
from dataclasses import dataclass
from errno import ENAMETOOLONG
from typing import Any, Final

from loligo_client.core.leased import Forgotten, Leased
from loligo_mds.core import content, inodes, namespace
from loligo_mds.core.codec import Covered
from loligo_mds.core.lease import cover_of
from loligo_mds.core.limits import NAME_MAX_BYTES
from loligo_mds.core.namespace import ListingEntry
from loligo_mds.core.requests import (
    Create,
    FillIn,
    GetAttributes,
    Link,
    Lookup,
    Open,
    Publish,
    ReadDirectory,
    RecordAccess,
    RemoveDirectory,
    RemoveTree,
    RemoveXattr,
    Rename,
    Reserved,
    Restore,
    SetAttributes,
    SetXattr,
    Unlink,
)
from loligo_mds.core.state import Refused, ShardState
from loligo_wire.attributes import FLAG_ACCESS_ACL, FLAG_DEFAULT_ACL, Attributes

_Handler = Callable[[Any, Any, int], Any]

#: What is foreseen, by the handlers of the shard.
PROMISED: Final[dict[type, _Handler]] = {
    Create: namespace.create,
    Unlink: namespace.unlink,
    RemoveDirectory: namespace.remove_directory,
    Rename: namespace.rename,
    Link: namespace.link,
    SetAttributes: inodes.set_attributes,
    RecordAccess: inodes.record_access,
}
#: Those after whose answers something else is known of inodes.
_HEEDED: Final = frozenset(
    {FillIn, RemoveTree, Restore, Lookup, GetAttributes, ReadDirectory, SetXattr, RemoveXattr, Open, Publish, *PROMISED}
)


class Unforeseeable(Exception):
    """The server must say."""


@dataclass(slots=True)
class Foreseen:
    """`changed`: the inodes that are something else now. `moved`: those whose attributes the kernel must ask for.
    `given_back`: for want of room, behind this.
    """

    answer: Any
    changed: Collection[int]
    moved: list[int]
    given_back: list[Forgotten]


class _NoTables:
    """Rows are the server's."""

    def get(self, table: int, key: bytes) -> None:
        return None

    def put(self, table: int, key: bytes, value: bytes) -> None:
        return

    delete = get

    def scan(self, table: int, first: bytes) -> Iterator[tuple[bytes, bytes]]:
        return iter(())


class _Foresight(ShardState):
    """The shard's state as far as `leased` knows it, for one request; what the handler changes is noted."""

    def __init__(self, leased: Leased, asked: Container[int], block_bytes: int) -> None:
        """`asked`: inodes that nothing may be foreseen about, and names in these directories may lead to any of their children;
        with `_BLIND` among them, there are names that may lead anywhere.
        """
        super().__init__(0, _NoTables(), block_bytes)
        self.keeps_trash = False  # what becomes of what is removed is the server's
        self._leased = leased
        self._asked = asked
        #: The number that the next inode gets; 0: none is reserved.
        self.next_ino = 0
        self.changed: dict[int, Attributes] = {}
        self.made = False

    def begin(self) -> None:
        self.changed = {}
        self.made = False

    def find_inode(self, ino: int) -> Attributes:
        found = self.changed.get(ino)
        if found is not None:
            return found
        found = self._leased.attributes(ino)
        if found is None or not self._leased.is_delegated(cover_of(found)):
            raise Unforeseeable
        if self.is_in_doubt(found):
            raise Unforeseeable
        if found.flags & (FLAG_DEFAULT_ACL | FLAG_ACCESS_ACL):
            raise Unforeseeable  # ACLs are not known here
        return found

    inode = find_inode

    def is_in_doubt(self, found: Attributes) -> bool:
        """The server is asked about it."""
        asked = self._asked
        if _ALL in asked:
            return True
        if found.ino in asked or found.parent in asked:
            return True
        return _BLIND in asked and (found.nlink > 1 or not found.parent) and not found.is_directory

    def put_inode(self, attributes: Attributes) -> None:
        self.changed[attributes.ino] = attributes

    delete_inode = put_inode

    def find_entry(self, directory: int, name: bytes) -> int:
        if len(name) > NAME_MAX_BYTES:
            raise Refused(ENAMETOOLONG)
        found = self._leased.name(directory, name) if self._leased.is_delegated(directory) else None
        if found is None:
            raise Unforeseeable
        return found

    def put_entry(self, directory: int, name: bytes, attributes: Attributes) -> None:
        return

    def delete_entry(self, directory: int, name: bytes) -> None:
        return

    def allocate_inos(self, count: int) -> int:
        if not self.next_ino:
            raise Unforeseeable
        self.made = True
        return self.next_ino

    def count(self, inodes: int, size_bytes: int) -> None:
        return

    def put(self, table: int, key: bytes, value: bytes) -> None:
        return

    def delete(self, table: int, key: bytes) -> None:
        return

    def remove_objects(self, attributes: Attributes, end: int) -> None:
        return


class Promises:
    """Every method is called with the lock of `leased`."""

    def __init__(
        self, leased: Leased, block_bytes: int, holds_bytes: Callable[[int], bool] = lambda ino: False
    ) -> None:
        """`holds_bytes`: whether something that was written to the file, or may yet be, is not stored."""
        self._leased = leased
        #: What is asked about: inode -> how often; `_BLIND`: how often it is not known what.
        self._asked: dict[int, int] = {}
        self._foresight = _Foresight(leased, self._asked, block_bytes)
        self._end_ino = 0
        self._holds_bytes = holds_bytes

    # -- promising ----------------------------------------------------------------------------------------------------

    def foresee(self, request: Any, now_ns: int) -> Foreseen:
        """What the server will answer when it is told that this happens at `now_ns`. The request gets the number of what it
        makes.

        Unforeseeable; OSError with what the server would refuse it with.
        """
        kind = type(request)
        handler = PROMISED.get(kind)
        if handler is None or (kind is SetAttributes and request.size is not None):
            raise Unforeseeable
        if kind is Rename and request.parent != request.new_parent and self._moves_directory(request):
            raise Unforeseeable  # whether it would come to lie below itself is known where others move them, too
        foresight = self._foresight
        foresight.begin()
        if kind is SetAttributes and request.drop_privileges:
            request.drop_privileges = _has_privileges(foresight.inode(request.ino))
        try:
            answer = handler(foresight, request, now_ns)
        except Refused as refused:
            raise OSError(refused.errno, "refused") from None
        if type(answer) is Attributes and not answer.nlink and self._holds_bytes(answer.ino):
            raise Unforeseeable  # whether they are kept with the file is the server's to say
        changed = foresight.changed
        if foresight.made:
            request.new_ino = foresight.next_ino
            foresight.next_ino = foresight.next_ino + 1 if foresight.next_ino + 1 < self._end_ino else 0
        return self._hear(request, answer, changed)

    def published(self, request: Publish) -> Attributes | None:
        """What the server will answer; None if that is not known. Nobody is promised it."""
        self._foresight.begin()
        try:
            return content.publish(self._foresight, request, 0)
        except (Unforeseeable, Refused):
            return None

    def listing(self, request: ReadDirectory) -> list[ListingEntry] | None:
        """What the server would answer, if we know, and nothing is asked that may change it."""
        return None if {request.ino, _BLIND, _ALL} & self._asked.keys() else self._leased.listing(request)

    def known(self, ino: int) -> Attributes | None:
        """What the inode is, if it is that for as long as we have the lease, and nothing is asked that may change it."""
        found = self._leased.attributes(ino)
        if found is None or not self._leased.holds(cover_of(found)) or self._foresight.is_in_doubt(found):
            return None
        return found

    def _moves_directory(self, request: Rename) -> bool:
        for directory, name in ((request.parent, request.name), (request.new_parent, request.new_name)):
            ino = self._leased.name(directory, name)
            found = self._leased.attributes(ino) if ino else None
            if found is not None and found.is_directory:
                return True
        return False

    def _hear(self, request: Any, answer: Any, changed: dict[int, Attributes]) -> Foreseen:
        leased = self._leased
        named = _directories_of(request)
        for ino in changed:
            if leased.is_delegated(ino):
                leased.used(ino)
        moved: list[int] = []
        if type(request) is Create:
            granted = [answer.ino] if answer.is_directory else []
        else:
            moved = [ino for ino in changed if named and ino not in named]
            granted = [ino for ino in moved if cover_of(changed[ino]) == ino and changed[ino].nlink]
        covered = Covered(
            [changed[ino] for ino in named if ino in changed],
            [ino for ino in granted if not leased.is_delegated(ino)],
            False,
            moved,
            delegations=granted,
        )
        given_back = leased.heard(request, answer, covered)
        left = [ino for ino in moved if changed[ino].nlink]
        for ino in left:
            if leased.is_delegated(cover_of(changed[ino])):
                leased.learn(changed[ino])
        return Foreseen(answer, changed, left, given_back)

    # -- what is asked of the server ------------------------------------------------------------------------------------

    def asking(self, request: Any) -> list[int]:
        """The server is asked, and until it answers (`heard`) nothing is foreseen about what is returned: inodes, and with a
        number below 0 among them perhaps others.
        """
        if type(request) not in _HEEDED:
            return []
        if type(request) is RemoveTree:
            about = [_ALL]
            self._asked[_ALL] = self._asked.get(_ALL, 0) + 1
            return about
        about = [number for field in _FIELDS if (number := getattr(request, field, 0))]
        names = [self._leased.name(*place) for place in _names_in(request)]
        about += [ino for ino in names if ino]
        if None in names or type(request) in (ReadDirectory, Restore, FillIn):
            about.append(_BLIND)
        for ino in about:
            self._asked[ino] = self._asked.get(ino, 0) + 1
        return about

    def heard(self, about: list[int]) -> None:
        for ino in about:
            self._asked[ino] -= 1
            if not self._asked[ino]:
                del self._asked[ino]

    # -- inode numbers ------------------------------------------------------------------------------------------------

    @property
    def needs_inodes(self) -> bool:
        """Only then they may be asked for: what is left could not be used any more."""
        return not self._foresight.next_ino

    def reserved(self, numbers: Reserved) -> None:
        self._foresight.next_ino = numbers.first
        self._end_ino = numbers.first + numbers.count


def _has_privileges(attributes: Attributes) -> bool:
    without = attributes.copy()
    inodes.drop_privileges(without)
    return without.mode != attributes.mode


#: Stands for what nobody knows.
_BLIND: Final = -1
#: Stands for everything: a tree is being removed, and nobody here knows what is in it.
_ALL: Final = -2
_FIELDS: Final = ("ino", "parent", "new_parent")


def _directories_of(request: Any) -> tuple[int, ...]:
    """Those in which it changes names."""
    kind = type(request)
    if kind is Rename:
        return (request.parent,) if request.parent == request.new_parent else (request.parent, request.new_parent)
    if kind is Link:
        return (request.new_parent,)
    return (request.parent,) if kind in (Create, Unlink, RemoveDirectory) else ()


def _names_in(request: Any) -> list[tuple[int, bytes]]:
    kind = type(request)
    if kind is Rename:
        return [(request.parent, request.name), (request.new_parent, request.new_name)]
    return [(request.parent, request.name)] if kind in (Lookup, Unlink, RemoveDirectory) else []
