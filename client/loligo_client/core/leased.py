"""What this client and its kernel believe about names and attributes without asking, under the leases that it holds.

The rules of leases are told in `loligo_mds.core.leases`. Here is kept, for each lease, what the kernel was told under it: names
that are there or are not, and inodes of which it has the attributes. The kernel believes what it was told until it hears
otherwise, so whoever gives a lease back has the kernel forget exactly that first (`Forgotten`).

Invariants
1. The kernel was told to believe nothing for long but what is noted here, and what is noted is covered by a lease that we hold.
2. What is known agrees with the last answer of the server: `heard` is called for each, in order, before whoever asked it.
3. At most NAMES_MAX names and inodes, and LEASES_KEPT leases: then those that were used longest ago are given back.

Besides what the kernel knows, this is a cache of its own: of directories it keeps the attributes, of a directory that was
listed what the kernel has not asked for yet; and one that was made here, or listed to its end, is *whole*: what is not in it is
not there.
"""

from bisect import bisect_left
from contextlib import AbstractContextManager
from dataclasses import dataclass
from stat import S_IFDIR, S_IFMT
from typing import Any, Final

from loligo_mds.core.codec import Covered
from loligo_mds.core.entries import cookie_of
from loligo_mds.core.lease import cover_of
from loligo_mds.core.limits import LEASES_MAX, LISTING_PAGE_MAX, NAME_MAX_BYTES
from loligo_mds.core.namespace import ListingEntry
from loligo_mds.core.requests import (
    Create,
    FillIn,
    GetAttributes,
    LeaseReturned,
    Link,
    Lookup,
    Publish,
    ReadDirectory,
    RecordAccess,
    RemoveDirectory,
    RemoveTree,
    RemoveXattr,
    Rename,
    Restore,
    SetAttributes,
    SetXattr,
    Unlink,
)
from loligo_wire.attributes import Attributes
from loligo_wire.ids import ROOT_INO

#: Each costs some 800 bytes.
NAMES_MAX: Final = 100_000
LEASES_KEPT: Final = LEASES_MAX * 3 // 4
#: Directories with more entries are not listed only because names in them are looked up.
WHOLE_MAX: Final = 4096
#: For so many ticks after the last use.
IDLE_TICKS: Final = 10
_EXCHANGE: Final = 2

#: A name that is not there.
_ABSENT: Final = 0


class _Lease:
    """`names`: inode numbers, negative those of directories; they may be known to the kernel. `inos`: of which it may have
    attributes, and whether it may believe them. `attributes`: the directory's own.
    `order`: cookies and names of what is there, as listings have them, if it was listed here. `listed_to`: the cookie up to
    which the server has listed it. `misses`: names that were asked for. `was_exclusive`: for a while
    nobody else had it.
    """

    __slots__ = (
        "attributes",
        "inos",
        "is_file",
        "listed_to",
        "misses",
        "names",
        "order",
        "was_exclusive",
        "whole",
    )

    def __init__(self) -> None:
        self.is_file = self.was_exclusive = False
        self.attributes: Attributes | None = None
        self.names: dict[bytes, int] = {}
        self.inos: dict[int, bool] = {}
        self.order: list[tuple[int, bytes]] | None = None
        self.whole = False
        self.listed_to = 0
        self.misses = 0


@dataclass(slots=True)
class Forgotten:
    """What the kernel has to forget before `answer` is sent, if there is one: names in `directory`, those of directories apart,
    and attributes of `inos`, which are looked up there, if anywhere; with `listing` its own attributes, looked up in `above`,
    and what was listed of it.
    """

    answer: LeaseReturned | None
    directory: int
    above: int
    names: list[bytes]
    directories: list[bytes]
    inos: list[int]
    listing: bool


class Leased:
    """Any thread may look here; `heard` is the connection's."""

    def __init__(self, root_ino: int, lock: AbstractContextManager[Any]) -> None:
        """`root_ino`: what inode 1 of this mount is at the server. `lock` is held for microseconds; whoever has it may look
        here, too.
        """
        self._root_ino = root_ino
        self.lock = lock
        #: Those used longest ago first.
        self._held: dict[int, _Lease] = {}
        #: Names and inodes in all of them.
        self._names = 0
        #: Attributes of inodes that are no directories, covered by leases that we hold.
        self._known: dict[int, Attributes] = {}
        #: Those that are exclusive -> the tick of their last use; those not used for longest first.
        self._exclusive: dict[int, int] = {}
        self._ticks = 0

    def __len__(self) -> int:
        return len(self._held)

    # -- what is known ------------------------------------------------------------------------------------------------

    def find(self, parent: int, name: bytes) -> tuple[bool, Attributes | None]:
        """Whether it is known what `name` is, and what it is; the kernel may be told, and to believe it."""
        key = self._here(parent)
        with self.lock:
            lease = self._held.pop(key, None)
            if lease is None:
                return False, None
            self._held[key] = lease  # the last one to be given back
            known = lease.names.get(name)
            if known is None:
                if not lease.whole or name in (b".", b"..") or len(name) > NAME_MAX_BYTES:
                    lease.misses += 1
                    return False, None
                if self._names < NAMES_MAX:  # else the kernel asks again
                    self._set(lease, name, _ABSENT)
                return True, None
            if known == _ABSENT:
                return True, None
            child = self._held.get(abs(known))
            if known < 0:
                found = child.attributes if child is not None else None
            else:
                found = self._known.get(known)
                if found is not None:
                    self._believe(found)
            return found is not None, found

    def wants_listing(self, directory: int) -> bool:
        """Whether names are looked up there, one after the other, that would come with one listing."""
        lease = self._held.get(self._here(directory))
        if lease is None or lease.whole or lease.misses < 2 or lease.attributes is None:
            return False
        return lease.attributes.size <= WHOLE_MAX

    def listing(self, request: ReadDirectory) -> list[ListingEntry] | None:
        """As the server would list it; None: not all is known that is asked for, or it is so much that others would wait."""
        lease = self._held.get(request.ino)
        if lease is None or not lease.whole or len(lease.names) > 2 * WHOLE_MAX:
            return None
        self._held[request.ino] = self._held.pop(request.ino)  # the last one to be given back
        if lease.order is None:
            lease.order = sorted((cookie_of(name), name) for name, known in lease.names.items() if known != _ABSENT)
        page: list[ListingEntry] = []
        count = min(request.count, LISTING_PAGE_MAX)
        for at in range(bisect_left(lease.order, (request.after_cookie + 1, b"")), len(lease.order)):
            cookie, name = lease.order[at]
            known = lease.names[name]
            if len(page) >= count and page[-1][1] != cookie:
                break
            child = self._held.get(-known) if known < 0 else None
            found = self._known.get(known) if known > 0 else child.attributes if child is not None else None
            if found is None and known > 0:
                return None
            kind = S_IFDIR if found is None else S_IFMT(found.mode)
            page.append((name, cookie, abs(known), kind, found if request.with_attributes else None))
        return page

    def listed_to(self, directory: int) -> int:
        """The cookie behind which a listing of it is to go on."""
        lease = self._held.get(self._here(directory))
        return lease.listed_to if lease is not None else 0

    def is_whole(self, directory: int) -> bool:
        lease = self._held.get(self._here(directory))
        return lease is not None and lease.whole

    def directory(self, ino: int) -> Attributes | None:
        """Its attributes, if they are known, and the kernel may believe them."""
        lease = self._held.get(self._here(ino))
        return lease.attributes if lease is not None else None

    def file(self, ino: int) -> Attributes | None:
        """Attributes of what is no directory, if they are known; the kernel is told, and may believe them."""
        with self.lock:
            found = self._known.get(ino)
            if found is not None:
                self._believe(found)
            return found

    def holds(self, directory: int) -> bool:
        """Whether the kernel may believe what it is told now about all that the lease covers."""
        return self._here(directory) in self._held

    def believes_name(self, parent: int, name: bytes) -> bool:
        """Whether the kernel may believe what it was, or is being, told about this name."""
        lease = self._held.get(self._here(parent))
        return lease is not None and name in lease.names

    def believes(self, attributes: Attributes) -> bool:
        """Whether it may believe them."""
        lease = self._held.get(self._here(cover_of(attributes)))
        if lease is None:
            return False
        if attributes.is_directory:
            return lease.attributes is not None
        return lease.inos.get(attributes.ino, False)

    def doubts(self, directory: int) -> None:
        """Its attributes are being changed, and who looks at them next must see that."""
        with self.lock:
            lease = self._held.get(self._here(directory))
            if lease is not None:
                lease.attributes = None

    def told(self, directory: int, name: bytes) -> None:
        """The kernel is told all about it with a listing."""
        with self.lock:
            lease = self._held.get(self._here(directory))
            known = lease.names.get(name, _ABSENT) if lease is not None else _ABSENT
            found = self._known.get(known)
            if found is not None:
                self._believe(found)

    # -- what is heard ------------------------------------------------------------------------------------------------

    def heard(self, request: Any, answer: Any, covered: Covered) -> list[Forgotten]:
        """The server has granted the request, or, if `covered.repeated`, had done so before. -> what is given back for want of
        room
        """
        kind = type(request)
        if kind not in _HEARD:
            return []
        if covered.repeated:
            if kind in (RemoveDirectory, Rename) and answer is not None:  # the server took the lease away with it
                with self.lock:
                    self._gone(answer)
            return []
        with self.lock:
            held = self._held
            for key in covered.leases:
                self._forget(key)
                held[key] = _Lease()
            for key in covered.delegations:
                self._delegated(key)
            for ino in covered.forgets:
                self._moved(request, answer, ino)
            for directory in covered.directories:
                lease = held.pop(directory.ino, None)
                if lease is not None:
                    held[directory.ino] = lease  # the last one to be given back
                    lease.attributes = directory
            _HEARD[kind](self, request, answer, covered)
            given_back = self._moved_blindly(request) if kind is Rename else []
            while self._names > NAMES_MAX or len(held) > LEASES_KEPT:
                forgotten = self._give_back(next(iter(held)))
                if forgotten is not None:
                    given_back.append(forgotten)
            return given_back

    def _looked_up(self, request: Lookup, answer: Attributes | None, covered: Covered) -> None:
        if request.name in (b".", b".."):
            return
        lease = self._held.pop(request.parent, None)
        if lease is not None:
            self._held[request.parent] = lease  # the last one to be given back
            self._set(lease, request.name, _ABSENT if answer is None else _number_of(answer))
        if answer is not None:
            self._got(request, answer, covered)

    def _got(self, request: Any, answer: Attributes, covered: Covered) -> None:
        if not covered.unsure:
            self._believe(answer)
            return
        lease = self._held.get(cover_of(answer))
        if lease is not None:
            self._doubt(lease, answer.ino)

    def _accessed(self, request: RecordAccess, answer: Attributes, covered: Covered) -> None:
        lease = self._held.get(answer.ino) if answer.is_directory else None
        if lease is not None and (lease.attributes is not None or answer.ino in self._exclusive):
            lease.attributes = answer
        elif answer.ino in self._known:
            self._learn(answer)

    def _created(self, request: Create, answer: Attributes, covered: Covered) -> None:
        lease = self._held.get(request.parent)
        if lease is not None:
            self._set(lease, request.name, _number_of(answer))
        self._got(request, answer, covered)
        if answer.is_directory and answer.ino in covered.leases:
            self._held[answer.ino].whole = True

    def _linked(self, request: Link | Restore, answer: Attributes, covered: Covered) -> None:
        lease = self._held.get(request.new_parent)
        if lease is not None:
            self._set(lease, request.new_name, _number_of(answer))
        self._got(request, answer, covered)

    def _filled_in(self, request: FillIn, answer: Attributes, covered: Covered) -> None:
        """Nobody believes anything of what is in the trash; files that have other names were among `covered.forgets`."""

    def _removed(self, request: Unlink | RemoveDirectory, answer: Attributes, covered: Covered) -> None:
        lease = self._held.get(request.parent)
        if lease is not None:
            self._set(lease, request.name, _ABSENT)
        self._gone(answer)

    def _moved_away(self, request: RemoveTree, answer: Attributes, covered: Covered) -> None:
        """What is in it is as it was, and believed until the lease is recalled, as all below it: the shard waits for that."""
        lease = self._held.get(request.parent)
        if lease is not None:
            self._set(lease, request.name, _ABSENT)
        lease = self._held.get(answer.ino)
        if lease is not None:
            self._doubt(lease, answer.ino)

    def _renamed(self, request: Rename, answer: Attributes | None, covered: Covered) -> None:
        source = self._held.get(request.parent)
        destination = self._held.get(request.new_parent)
        moved = source.names.get(request.name) if source is not None else None
        replaced = destination.names.get(request.new_name) if destination is not None else None
        if moved is not None and moved == replaced:
            return  # two names of one inode stay as they are
        left: int | None = _ABSENT
        if request.flags & _EXCHANGE:
            left = replaced
        elif answer is None and replaced is None and not (destination is not None and destination.whole):
            left = None  # so they may be
        if source is not None:
            self._settle_in(source, request.name, left)
        if destination is not None:
            self._settle_in(destination, request.new_name, moved)
        if answer is not None:
            self._gone(answer)

    def _moved_blindly(self, request: Rename) -> list[Forgotten]:
        """Names of which it is not known what became of them: what the kernel believes of one has moved with it. That it is
        asked to forget now.
        """
        names = [(request.new_parent, request.new_name)]
        if request.flags & _EXCHANGE:
            names.append((request.parent, request.name))
        blind = []
        for directory, name in names:
            lease = self._held.get(directory)
            if lease is None or name not in lease.names:
                blind.append(Forgotten(None, self._there(directory), 0, [], [name], [], listing=False))
        return blind

    def _settle_in(self, lease: _Lease, name: bytes, known: int | None) -> None:
        """`name` is now what was known by another name."""
        if known is not None:
            self._set(lease, name, known)
        elif lease.names.pop(name, None) is not None:
            self._names -= 1
        if known is None:
            lease.whole = False
            lease.listed_to = 0
            lease.order = None

    def _listed(self, request: ReadDirectory, answer: list[Any], covered: Covered) -> None:
        lease = self._held.get(request.ino)
        if lease is None:
            return
        for name, _, ino, kind, attributes in answer:
            self._set(lease, name, -ino if kind == S_IFDIR else ino)
            if attributes is not None:
                self._learn(attributes)
        if request.after_cookie <= lease.listed_to:
            if answer:
                lease.listed_to = max(lease.listed_to, answer[-1][1])
            lease.whole = lease.whole or len(answer) < min(request.count, LISTING_PAGE_MAX)

    def _changed(self, request: Publish, answer: Attributes, covered: Covered) -> None:
        if covered.unsure:
            self.doubt(answer.ino)
        elif answer.ino in self._known:
            self._learn(answer)

    def _set(self, lease: _Lease, name: bytes, known: int) -> None:
        if name not in lease.names:
            self._names += 1
        lease.names[name] = known
        if lease.order is not None:
            place = cookie_of(name), name
            at = bisect_left(lease.order, place)
            is_there = at < len(lease.order) and lease.order[at] == place
            if is_there and known == _ABSENT:
                del lease.order[at]
            elif not is_there and known != _ABSENT:
                lease.order.insert(at, place)

    def _learn(self, attributes: Attributes) -> None:
        """Without telling the kernel."""
        lease = self._held.get(cover_of(attributes))
        if lease is None:
            return
        if attributes.is_directory:
            lease.attributes = attributes
        else:
            self._known[attributes.ino] = attributes

    def _believe(self, attributes: Attributes) -> None:
        """The kernel is told."""
        lease = self._held.get(cover_of(attributes))
        if lease is None:
            return
        if attributes.is_directory:
            lease.attributes = attributes
        else:
            lease.is_file = lease is self._held.get(attributes.ino)
            if attributes.ino not in lease.inos:
                self._names += 1
            lease.inos[attributes.ino] = True
            self._known[attributes.ino] = attributes

    def _moved(self, request: Any, answer: Attributes | None, ino: int) -> None:
        """Its attributes are others now, and may be covered by another lease; the kernel forgets them, too."""
        may_have_covered = {ino, getattr(request, "parent", answer.parent if answer is not None else 0)}
        if type(request) is Rename:
            may_have_covered.add(request.new_parent)
        for key in may_have_covered:
            lease = self._held.get(key)
            if lease is not None:
                self._doubt(lease, ino)
                if lease.inos.pop(ino, None) is not None:
                    self._names -= 1

    def _gone(self, attributes: Attributes) -> None:
        if not attributes.nlink:
            self._forget(attributes.ino)

    def _doubt(self, lease: _Lease, ino: int) -> None:
        if lease.attributes is not None and lease.attributes.ino == ino:
            lease.attributes = None
        if ino in lease.inos:
            lease.inos[ino] = False  # it is forgotten with the lease in any case: that may be done before this is
        self._known.pop(ino, None)

    def give_back(self, key: int) -> Forgotten | None:
        """None: we have no such lease."""
        with self.lock:
            return self._give_back(key)

    # -- what is ours alone --------------------------------------------------------------------------------------------

    def _delegated(self, key: int) -> None:
        lease = self._held.get(key)
        if lease is not None:
            lease.was_exclusive = True
            self._exclusive[key] = self._ticks

    def delegations(self) -> list[int]:
        with self.lock:
            return list(self._exclusive)

    @property
    def has_delegations(self) -> bool:
        return bool(self._exclusive)

    def is_delegated(self, key: int) -> bool:
        return key in self._exclusive

    def shared(self, key: int) -> bool:
        """Others may have the lease, too, from now on. Whether it was ours alone."""
        with self.lock:
            return self._exclusive.pop(key, None) is not None

    def idle_delegations(self) -> list[int]:
        """Time has passed: those that have not been used for IDLE_TICKS of these calls."""
        with self.lock:
            self._ticks += 1
            idle = []
            for key, used in self._exclusive.items():
                if self._ticks - used < IDLE_TICKS:
                    break
                idle.append(key)
            return idle

    def used(self, key: int) -> None:
        """With the lock."""
        del self._exclusive[key]
        self._exclusive[key] = self._ticks

    def name(self, directory: int, name: bytes) -> int | None:
        """The inode of that name, 0 if there is none; None if it is not known."""
        lease = self._held.get(directory)
        if lease is None:
            return None
        known = lease.names.get(name)
        if known is None:
            return _ABSENT if lease.whole else None
        return abs(known)

    def attributes(self, ino: int) -> Attributes | None:
        lease = self._held.get(ino)
        if lease is not None and lease.attributes is not None:
            return lease.attributes
        return self._known.get(ino)

    def learn(self, attributes: Attributes) -> None:
        """They are so now, and the kernel has not been told."""
        self._learn(attributes)

    def doubt(self, ino: int) -> None:
        """Attributes of what is no directory may be others by now."""
        known = self._known.pop(ino, None)
        lease = self._held.get(cover_of(known)) if known is not None else None
        if lease is not None:
            self._doubt(lease, ino)

    # -- giving back --------------------------------------------------------------------------------------------------

    def recalled(self, recall: LeaseReturned) -> Forgotten | None:
        """What the kernel must forget now. None: we have no such lease, and the server knows that by now."""
        key, ino = recall.ino, recall.attributes_of
        with self.lock:
            lease = self._held.get(key)
            if lease is None:
                return None
            if not ino:
                return self._give_back(key)
            above = self._above(lease)
            self._doubt(lease, ino)
            if ino == key and not lease.is_file:
                return Forgotten(recall, self._there(key), above, [], [], [], listing=True)
            return Forgotten(recall, self._there(key), above, [], [], [ino], listing=False)

    def lost(self) -> list[Forgotten]:
        """Nothing is believed any more. But nobody else gets what was ours alone before the server has heard of us again, or
        for the last time: it may not know yet what we have promised.
        """
        with self.lock:
            kept = dict(self._exclusive)
            forgotten = [one for key in list(self._held) if (one := self._give_back(key)) is not None]
            for key in kept:
                self._held[key] = _Lease()
                self._delegated(key)
            return forgotten

    def _give_back(self, key: int) -> Forgotten | None:
        lease = self._forget(key)
        if lease is None:
            return None
        names = [name for name, known in lease.names.items() if known >= 0]
        directories = [name for name, known in lease.names.items() if known < 0]
        above = self._above(lease)
        return Forgotten(
            LeaseReturned(key, was_exclusive=lease.was_exclusive),
            self._there(key),
            above,
            names,
            directories,
            [*lease.inos],
            not lease.is_file,
        )

    def _above(self, lease: _Lease) -> int:
        """The directory that has the name of the directory; 0: not known."""
        return self._there(lease.attributes.parent) if lease.attributes is not None else 0

    def _forget(self, key: int) -> _Lease | None:
        lease = self._held.pop(key, None)
        if lease is not None:
            self._names -= len(lease.names) + len(lease.inos)
            self._exclusive.pop(key, None)
            for ino in (key, *lease.inos, *lease.names.values()):  # a file with several names has a lease of its own
                self._known.pop(ino, None)
        return lease

    # -- inode numbers here and there -----------------------------------------------------------------------------------

    def _here(self, ino: int) -> int:
        """As the server knows it."""
        return self._root_ino if ino == ROOT_INO else ino

    def _there(self, ino: int) -> int:
        """As the kernel knows it."""
        return ROOT_INO if ino == self._root_ino else ino


def _number_of(attributes: Attributes) -> int:
    return -attributes.ino if attributes.is_directory else attributes.ino


_HEARD: Final[dict[type, Any]] = {
    Lookup: Leased._looked_up,
    GetAttributes: Leased._got,
    SetAttributes: Leased._got,
    SetXattr: Leased._got,
    RemoveXattr: Leased._got,
    RecordAccess: Leased._accessed,
    Create: Leased._created,
    Link: Leased._linked,
    Unlink: Leased._removed,
    RemoveDirectory: Leased._removed,
    RemoveTree: Leased._moved_away,
    Restore: Leased._linked,
    FillIn: Leased._filled_in,
    Rename: Leased._renamed,
    ReadDirectory: Leased._listed,
    Publish: Leased._changed,
}
