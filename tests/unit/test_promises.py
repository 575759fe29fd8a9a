"""What is foreseen, what is not, and what is known then. That the server does the same is shown in `test_leases_model`."""

import errno
from contextlib import nullcontext
from stat import S_IFDIR, S_IFREG
from typing import Any

import pytest

from loligo_client.core.leased import Leased
from loligo_client.core.promises import Foreseen, Promises, Unforeseeable
from loligo_mds.core.codec import Covered
from loligo_mds.core.requests import (
    Create,
    GetAttributes,
    Link,
    Lookup,
    Publish,
    ReadDirectory,
    RecordAccess,
    RemoveDirectory,
    Rename,
    Reserved,
    SetAttributes,
    Unlink,
)
from loligo_wire.attributes import FLAG_DEFAULT_ACL, Attributes

D, E, F = 10, 11, 12
FIRST = 1000
NOW_NS = 99


def directory(ino: int, parent: int = 1, size: int = 0, nlink: int = 2, flags: int = 0) -> Attributes:
    return Attributes(ino, S_IFDIR | 0o755, 0, 0, nlink=nlink, size=size, parent=parent, flags=flags)


class Lab:
    """The directory `d`, known whole and for us alone, with the file `f` in it and the directory `e`."""

    def __init__(self) -> None:
        self.leased = Leased(1, nullcontext())
        self.promises = Promises(self.leased, 1 << 22)
        self.promises.reserved(Reserved(FIRST, 100))
        self.heard(Create(1, b"d", S_IFDIR, 0, 0), directory(D), leases=[1, D], delegations=[D])
        self.made(Create(D, b"f", S_IFREG | 0o644, 0, 0), Attributes(F, S_IFREG | 0o644, 0, 0, parent=D))
        self.made(Create(D, b"e", S_IFDIR, 0, 0), directory(E, D), leases=[E], delegations=[E])

    def heard(self, request: Any, answer: Any, leases: Any = (), delegations: Any = (), about: Any = ()) -> None:
        covered = Covered(list(about), list(leases), False, [], delegations=delegations)
        self.leased.heard(request, answer, covered)

    def made(self, request: Create, answer: Attributes, **covered: Any) -> None:
        self.heard(request, answer, about=[directory(D, size=2, nlink=3)], **covered)

    def foresee(self, request: Any) -> Foreseen:
        return self.promises.foresee(request, NOW_NS)

    def refused(self, request: Any, number: int) -> None:
        with pytest.raises(OSError, match="refused") as caught:
            self.foresee(request)
        assert caught.value.errno == number

    def unforeseeable(self, *requests: Any) -> None:
        for request in requests:
            with pytest.raises(Unforeseeable):
                self.foresee(request)


@pytest.fixture
def lab() -> Lab:
    return Lab()


def test_a_file_is_made_with_the_next_number_and_the_time_of_the_promise(lab: Lab) -> None:
    for number in range(3):
        request = Create(D, b"n%d" % number, S_IFREG | 0o666, 7, 8, umask=0o22)
        made = lab.foresee(request).answer
        assert request.new_ino == made.ino == FIRST + number
        assert (made.mode & 0o777, made.uid, made.gid, made.parent, made.ctime_ns) == (0o644, 7, 8, D, NOW_NS)
        assert lab.leased.find(D, request.name) == (True, made) and lab.leased.believes(made)
    above = lab.leased.directory(D)
    assert above is not None and (above.size, above.mtime_ns) == (5, NOW_NS)


def test_a_new_directory_is_ours_alone_and_known_whole(lab: Lab) -> None:
    made = lab.foresee(Create(D, b"sub", S_IFDIR | 0o755, 0, 0)).answer
    assert lab.leased.is_delegated(made.ino) and lab.leased.find(made.ino, b"x") == (True, None)
    inside = lab.foresee(Create(made.ino, b"x", S_IFREG, 0, 0)).answer
    lab.refused(RemoveDirectory(D, b"sub"), errno.ENOTEMPTY)
    lab.foresee(Unlink(made.ino, b"x"))
    assert lab.leased.file(inside.ino) is None
    assert lab.foresee(RemoveDirectory(D, b"sub")).answer.nlink == 0
    assert not lab.leased.is_delegated(made.ino) and lab.leased.find(D, b"sub") == (True, None)


def test_what_the_server_would_refuse_is_refused(lab: Lab) -> None:
    lab.refused(Create(D, b"f", S_IFREG, 0, 0), errno.EEXIST)
    lab.refused(Create(D, b"n" * 256, S_IFREG, 0, 0), errno.ENAMETOOLONG)
    lab.refused(Unlink(D, b"x"), errno.ENOENT)
    lab.refused(Unlink(D, b"e"), errno.EISDIR)
    lab.refused(RemoveDirectory(D, b"f"), errno.ENOTDIR)
    lab.refused(Rename(D, b"f", D, b"e"), errno.EISDIR)
    lab.refused(Rename(D, b"e", D, b"f", 1), errno.EEXIST)


def test_names_move(lab: Lab) -> None:
    foreseen = lab.foresee(Rename(D, b"f", E, b"g"))
    assert foreseen.answer is None and foreseen.moved == [F]
    assert lab.leased.find(D, b"f") == (True, None)
    is_known, moved = lab.leased.find(E, b"g")
    assert is_known and moved is not None and (moved.ino, moved.parent, moved.ctime_ns) == (F, E, NOW_NS)
    lab.foresee(Create(D, b"f", S_IFREG, 0, 0))
    replaced = lab.foresee(Rename(D, b"f", E, b"g")).answer
    assert (replaced.ino, replaced.nlink) == (F, 0)


def test_a_second_name_and_the_first_one_gone(lab: Lab) -> None:
    linked = lab.foresee(Link(F, D, b"g")).answer
    assert linked.nlink == 2 and lab.leased.is_delegated(F), "it has a lease of its own"
    left = lab.foresee(Unlink(D, b"f")).answer
    assert left.nlink == 1
    assert lab.leased.find(D, b"g") == (True, left)


def test_attributes_of_what_is_ours(lab: Lab) -> None:
    assert lab.foresee(SetAttributes(D, mode=0o700)).answer.mode & 0o777 == 0o700
    changed = lab.leased.directory(D)
    assert changed is not None and changed.mode & 0o777 == 0o700
    assert lab.foresee(RecordAccess(D, 5)).answer.atime_ns == 5
    assert lab.foresee(SetAttributes(F, uid=5)).answer.uid == 5
    lab.unforeseeable(SetAttributes(F, size=5))


def test_what_is_published_is_known(lab: Lab) -> None:
    published = lab.promises.published(Publish(F, 4, 77, b"four"))
    assert published is not None and (published.size, published.mtime_ns) == (4, 77)
    assert lab.promises.published(Publish(99, 4, 77, b"four")) is None


def test_what_is_not_ours_alone_is_the_servers(lab: Lab) -> None:
    lab.heard(Lookup(1, b"other"), Attributes(50, S_IFREG, 0, 0, parent=1))
    lab.unforeseeable(
        Create(1, b"x", S_IFREG, 0, 0), Unlink(1, b"other"), Rename(D, b"f", 1, b"x"), SetAttributes(50, 0o600)
    )
    assert lab.leased.shared(D)
    lab.unforeseeable(Create(D, b"x", S_IFREG, 0, 0), Unlink(D, b"f"), Rename(D, b"f", E, b"x"), Link(F, E, b"x"))


def test_what_is_not_known_is_the_servers(lab: Lab) -> None:
    lab.heard(Lookup(D, b"g"), Attributes(60, S_IFREG, 0, 0, nlink=2, parent=D))
    lab.unforeseeable(Unlink(D, b"g"), Link(61, D, b"h"))
    lab.heard(RecordAccess(D, 5), directory(D, flags=FLAG_DEFAULT_ACL))
    lab.unforeseeable(Create(D, b"x", S_IFREG, 0, 0))


def test_a_directory_that_moves_to_another_is_the_servers(lab: Lab) -> None:
    other = lab.foresee(Create(D, b"other", S_IFDIR, 0, 0)).answer
    lab.unforeseeable(Rename(D, b"e", other.ino, b"e"))
    lab.foresee(Rename(D, b"e", D, b"e2"))


def test_without_a_number_nothing_is_made(lab: Lab) -> None:
    lab.promises.reserved(Reserved(5000, 1))
    assert not lab.promises.needs_inodes
    lab.foresee(Create(D, b"x", S_IFREG, 0, 0))
    assert lab.promises.needs_inodes
    lab.unforeseeable(Create(D, b"y", S_IFREG, 0, 0))


@pytest.mark.parametrize(
    "asked",
    [Lookup(D, b"x"), ReadDirectory(D, 0, 10), GetAttributes(D), Create(D, b"x", S_IFREG, 0, 0), Lookup(1, b"d")],
)
def test_behind_what_is_not_answered_nothing_is_foreseen(lab: Lab, asked: Any) -> None:
    """The answer may be older, or change what a promise would be built on."""
    about = lab.promises.asking(asked)
    lab.unforeseeable(Create(D, b"y", S_IFREG, 0, 0), Unlink(D, b"f"))
    lab.promises.heard(about)
    lab.foresee(Unlink(D, b"f"))


def test_nor_about_files_with_more_names_behind_names_that_may_be_theirs(lab: Lab) -> None:
    lab.foresee(Link(F, D, b"g"))
    about = lab.promises.asking(Lookup(99, b"who knows"))
    lab.unforeseeable(Unlink(D, b"f"))
    lab.foresee(Create(D, b"x", S_IFREG, 0, 0))
    lab.promises.heard(about)
    lab.foresee(Unlink(D, b"f"))


def test_nothing_is_known_of_what_is_ours_after_the_connection_was_lost(lab: Lab) -> None:
    lab.leased.lost()
    assert set(lab.leased.delegations()) == {D, E}, "the server has to hear of our promises first"
    lab.unforeseeable(Create(D, b"x", S_IFREG, 0, 0), Unlink(D, b"f"))
    assert lab.leased.find(D, b"f") == (False, None)
