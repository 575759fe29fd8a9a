"""What a client knows under its leases, and what its kernel has to forget: `loligo_client.core.leased`."""

from contextlib import nullcontext
from stat import S_IFDIR, S_IFREG
from typing import Any

import pytest

from loligo_client.core import leased as module
from loligo_client.core.leased import Leased
from loligo_mds.core.codec import Covered
from loligo_mds.core.requests import (
    Create,
    GetAttributes,
    LeaseReturned,
    Link,
    Lookup,
    Publish,
    ReadDirectory,
    RemoveDirectory,
    Rename,
    Unlink,
)
from loligo_wire.attributes import Attributes

ROOT, D, F, E = 70, 71, 72, 73


def directory(ino: int, size: int = 0, parent: int = ROOT) -> Attributes:
    return Attributes(ino, S_IFDIR | 0o755, 0, 0, nlink=2, size=size, parent=parent)


def file(ino: int, parent: int = D, size: int = 0, nlink: int = 1) -> Attributes:
    return Attributes(ino, S_IFREG | 0o644, 0, 0, nlink=nlink, size=size, parent=parent)


def covered(*leases: int, directories: Any = (), unsure: bool = False, forgets: Any = ()) -> Covered:
    return Covered(list(directories), list(leases), unsure, list(forgets))


@pytest.fixture
def known() -> Leased:
    """The root, which is 70 at the server, and the directory `d`, which has a name `f`."""
    leased = Leased(ROOT, nullcontext())
    leased.heard(Lookup(ROOT, b"d"), directory(D, size=1), covered(ROOT, D))
    leased.heard(Lookup(D, b"f"), file(F), covered())
    return leased


def test_what_was_answered_under_a_lease_may_be_believed(known: Leased) -> None:
    assert known.believes_name(1, b"d") and known.believes_name(D, b"f")
    assert known.believes(file(F)) and known.believes(directory(D))
    assert known.find(1, b"d") == (True, directory(D, size=1)), "a directory's attributes are kept"
    assert known.find(D, b"f") == (True, file(F)) and known.file(F) == file(F)
    assert not known.believes_name(D, b"other") and not known.believes(file(99))


def test_what_no_lease_covers_is_not_believed(known: Leased) -> None:
    known.heard(Lookup(D, b"g"), file(80), covered(unsure=True))
    assert known.believes_name(D, b"g") and not known.believes(file(80))
    known.heard(GetAttributes(F), file(F), covered(unsure=True))
    assert not known.believes(file(F))
    known.heard(Lookup(E, b"x"), file(81, parent=E), covered())
    assert not known.believes_name(E, b"x") and not known.believes(file(81, parent=E))


def test_a_repeated_answer_says_nothing_of_now(known: Leased) -> None:
    known.heard(Create(D, b"g", S_IFREG, 0, 0), file(80), Covered([], [], True, [], repeated=True))
    assert not known.believes_name(D, b"g") and not known.believes(file(80))


def test_a_directory_that_was_made_here_is_known_whole(known: Leased) -> None:
    known.heard(Create(D, b"e", S_IFDIR, 0, 0), directory(E, parent=D), covered(E))
    assert known.find(E, b"missing") == (True, None)
    assert known.find(E, b"..") == known.find(E, b"n" * 300) == (False, None)
    known.heard(Create(E, b"n", S_IFREG, 0, 0), file(80, parent=E), covered())
    assert known.find(E, b"n") == (True, file(80, parent=E)) and known.believes_name(E, b"n")
    known.heard(Unlink(E, b"n"), file(80, parent=0, nlink=0), covered(forgets=[80]))
    assert known.find(E, b"n") == (True, None) and not known.believes(file(80, parent=E))


def test_so_is_one_that_was_listed_to_its_end(known: Leased) -> None:
    first = [(b"f", 10, F, S_IFREG, file(F)), (b"g", 20, 80, S_IFREG, file(80))]
    known.heard(ReadDirectory(D, 0, 2, True), first, covered())
    assert not known.is_whole(D) and known.listed_to(D) == 20
    known.heard(ReadDirectory(D, 20, 2, True), [(b"h", 30, E, S_IFDIR, directory(E, parent=D))], covered(E))
    assert known.is_whole(D)
    assert known.believes_name(D, b"g") and not known.believes(file(80)), "the kernel was not told"
    assert known.find(D, b"g") == (True, file(80)) and known.believes(file(80))
    assert known.find(D, b"h") == (True, directory(E, parent=D)) and known.find(D, b"i") == (True, None)


def test_what_has_changed_and_no_lease_covers_is_asked_for(known: Leased) -> None:
    for number, change in enumerate((Publish(80, 5, 1), GetAttributes(80))):
        known.heard(ReadDirectory(D, 0, 10, True), [(b"g", 20, 80, S_IFREG, file(80))], covered())
        known.heard(change, file(80, size=number), covered(unsure=True))
        assert known.find(D, b"g") == (False, None) and known.file(80) is None


def test_what_is_published_is_known_if_it_was_before(known: Leased) -> None:
    for ino in (F, 80):
        known.heard(Publish(ino, 5, 1), file(ino, size=5), covered())
    assert known.find(D, b"f") == (True, file(F, size=5)) and known.file(80) is None


def test_listings_are_wanted_of_small_directories_in_which_names_are_looked_up(known: Leased) -> None:
    assert not known.wants_listing(D)
    for name in (b"a", b"b"):
        known.find(D, name)
    assert known.wants_listing(D)
    known.heard(
        ReadDirectory(D, 0, 1, False), [(b"f", 10, F, S_IFREG, None)], covered(directories=[directory(D, 1 << 20)])
    )
    assert not known.wants_listing(D)


def test_a_lease_that_is_recalled_takes_all_with_it(known: Leased) -> None:
    known.heard(Lookup(D, b"e"), directory(E, parent=D), covered(E))
    forgotten = known.recalled(LeaseReturned(D))
    assert forgotten is not None
    assert (forgotten.directory, forgotten.above, forgotten.listing) == (D, 1, True)
    assert (forgotten.names, forgotten.directories, forgotten.inos) == ([b"f"], [b"e"], [F])
    assert not known.believes_name(D, b"f") and not known.believes(file(F)) and known.directory(D) is None
    assert known.directory(E) is not None, "it has a lease of its own"
    assert known.recalled(LeaseReturned(D)) is None, "the server knows that we have it no more"


def test_of_one_inode_the_attributes_alone_may_be_recalled(known: Leased) -> None:
    forgotten = known.recalled(LeaseReturned(D, F))
    assert forgotten is not None and forgotten.inos == [F] and not (forgotten.names or forgotten.listing)
    assert known.believes_name(D, b"f") and not known.believes(file(F))
    whole = known.recalled(LeaseReturned(D))
    assert whole is not None and whole.inos == [F], "the kernel may have forgotten the whole first"


def test_the_root_of_the_mount_goes_by_its_number_here(known: Leased) -> None:
    known.heard(GetAttributes(ROOT), directory(ROOT, parent=5), covered())
    assert known.directory(1) == known.directory(ROOT) != None  # noqa: E711
    forgotten = known.recalled(LeaseReturned(ROOT))
    assert forgotten is not None and forgotten.directory == 1 and forgotten.directories == [b"d"]


def test_a_name_that_moves_is_known_by_where_it_is_now(known: Leased) -> None:
    known.heard(Create(D, b"e", S_IFDIR, 0, 0), directory(E, parent=D), covered(E))
    known.heard(Rename(D, b"f", E, b"g"), None, covered(forgets=[F]))
    assert known.find(D, b"f") == (True, None) and known.believes_name(E, b"g") and not known.believes(file(F))
    known.heard(Rename(D, b"e", ROOT, b"d2"), None, covered(forgets=[E]))
    assert known.directory(E) is None, "its parent is another"


def test_what_is_moved_to_where_no_lease_is_held_is_forgotten(known: Leased) -> None:
    (forgotten,) = known.heard(Rename(D, b"f", 90, b"g"), None, covered(forgets=[F]))
    assert (forgotten.directory, forgotten.directories, forgotten.answer) == (90, [b"g"], None)


def test_files_with_several_names_are_covered_by_themselves(known: Leased) -> None:
    known.heard(Link(F, D, b"g"), file(F, nlink=2), covered(F, forgets=[F]))
    assert known.believes(file(F, nlink=2)) and not known.believes(file(F))
    forgotten = known.recalled(LeaseReturned(F, F))
    assert forgotten is not None and forgotten.inos == [F] and not forgotten.listing


def test_a_directory_that_is_gone_is_forgotten(known: Leased) -> None:
    gone = directory(D)
    gone.nlink = 0
    known.heard(RemoveDirectory(ROOT, b"d"), gone, covered())
    assert known.find(1, b"d") == (True, None) and known.recalled(LeaseReturned(D)) is None


def test_those_used_longest_ago_are_given_back(known: Leased, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "NAMES_MAX", 4)
    for number in range(4):
        given_back = known.heard(Lookup(D, b"n%d" % number), None, covered())
        if given_back:
            break
    assert [forgotten.answer for forgotten in given_back] == [LeaseReturned(ROOT)]
    monkeypatch.setattr(module, "LEASES_KEPT", 1)
    given_back = known.heard(Lookup(E, b"x"), None, covered(E))
    assert [forgotten.answer for forgotten in given_back] == [LeaseReturned(D)]
    assert len(known) == 1
