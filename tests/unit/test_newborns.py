"""What has not been made yet is made as what has become of it; on the server's side that is the same as one after the other."""

from collections.abc import Callable
from dataclasses import dataclass
from errno import EEXIST
from stat import S_IFDIR, S_IFLNK, S_IFREG
from typing import Any

import pytest

from loligo_client.core.newborns import Newborns
from loligo_mds.core.requests import Create, Publish, ReadInline, Request, SetAttributes, Unsettle
from loligo_mds.core.tables import Table
from loligo_wire.attributes import RECORD_SIZE, Attributes
from loligo_wire.ids import ROOT_INO
from unit.shard_lab import ShardLab

R = int(ROOT_INO)


@dataclass
class Promised:
    request: Create
    was_sent: bool = False


def amend(promise: Promised, change: Callable[[Any], None]) -> bool:
    if not promise.was_sent:
        change(promise.request)
    return not promise.was_sent


def newborn(mode: int = S_IFREG | 0o644) -> tuple[Newborns, Promised]:
    newborns = Newborns(amend)
    promise = Promised(Create(R, b"f", mode, 0, 0, hold=True, new_ino=7))
    newborns.promised(promise.request, [7, R], promise)
    return newborns, promise


def test_it_is_made_as_what_has_become_of_it() -> None:
    newborns, promise = newborn()
    become = Attributes(7, S_IFREG | 0o600, 5, 6, mtime_ns=8)
    assert newborns.becomes(7, become)
    assert promise.request.became == become.encode()[:RECORD_SIZE] and promise.request.inline is None
    assert newborns.becomes(7, become, b"text") and promise.request.inline == b"text"
    assert newborns.unsettle(7, 9) and newborns.unsettle(7, 4) and promise.request.unsettled_end == 9
    assert newborns.close(7) and not promise.request.hold


def test_what_is_on_its_way_stays_as_it_is() -> None:
    newborns, promise = newborn()
    promise.was_sent = True
    assert not newborns.becomes(7, Attributes(7, S_IFREG), b"text")
    assert promise.request.became == b"" and promise.request.inline is None
    assert 7 not in newborns
    assert not newborns.close(7) and promise.request.hold


@pytest.mark.parametrize("about", [[7], [R, 7], [-1], [-2]], ids=str)
def test_behind_anything_else_about_it_nothing_is_changed(about: list[int]) -> None:
    newborns, promise = newborn()
    newborns.asked([99])
    assert 7 in newborns
    newborns.asked(about)
    assert not newborns.becomes(7, Attributes(7, S_IFREG)) and not newborns.unsettle(7, 9) and not newborns.close(7)
    assert promise.request == Create(R, b"f", S_IFREG | 0o644, 0, 0, hold=True, new_ino=7)


def test_a_directory_in_which_something_is_made_is_none_any_more() -> None:
    newborns, _ = newborn(S_IFDIR | 0o755)
    newborns.promised(Create(7, b"g", S_IFREG, 0, 0, new_ino=8), [8, 7], Promised(Create(7, b"g", S_IFREG, 0, 0)))
    assert 7 not in newborns and 8 in newborns


@pytest.mark.parametrize(
    "became",
    [
        [SetAttributes(0, mode=0o4751, uid=11, gid=12)],
        [SetAttributes(0, mtime_ns=3, atime_ns=4)],
        [Publish(0, 4, 99, b"four")],
        [Publish(0, 4, 99, b"four"), SetAttributes(0, mtime_ns=3), Publish(0, 2, None, b"xy")],
        [SetAttributes(0, mtime_ns=3), Publish(0, 0, 99, b"")],
        [Unsettle(0, 9000), SetAttributes(0, mode=0o400)],
    ],
    ids=str,
)
def test_it_is_the_same_as_one_after_the_other(became: list[Any]) -> None:
    one, other = ShardLab(), ShardLab()
    made = one.ask(Create(R, b"f", S_IFREG | 0o644, 1, 2, umask=0o022))
    newborns, promise = Newborns(amend), Promised(Create(R, b"f", S_IFREG | 0o644, 1, 2, umask=0o022))
    promise.request.new_ino = made.ino
    newborns.promised(promise.request, [made.ino, R], promise)
    promise.request.new_ino = 0  # none is reserved in this test
    for request in became:
        request.ino = made.ino
        answer = one.ask(request)
        if isinstance(request, Unsettle):
            assert newborns.unsettle(made.ino, request.end)
        else:
            assert newborns.becomes(made.ino, answer, getattr(request, "inline", None))
    assert other.ask(promise.request).ino == made.ino
    assert rows_of(one) == rows_of(other)
    assert one.shard.state.size_bytes == other.shard.state.size_bytes


def rows_of(lab: ShardLab) -> dict[Table, list[tuple[bytes, bytes]]]:
    tables = (Table.INODE, Table.DENTRY, Table.INLINE, Table.UNSETTLED)
    return {table: list(lab.tables.scan(table, b"")) for table in tables}


def test_links_and_directories_too() -> None:
    lab = ShardLab()
    for name, mode, target in ((b"l", S_IFLNK | 0o777, b"there"), (b"d", S_IFDIR | 0o755, b"")):
        now = Attributes(2, S_IFREG | 0o7700, 5, 6, nlink=9, size=99, atime_ns=1, mtime_ns=2, ctime_ns=3)
        made = lab.ask(Create(R, name, mode, 0, 0, target=target, became=now.encode()))
        assert (made.mode, made.uid, made.gid) == (mode & 0o170000 | 0o7700, 5, 6)
        assert (made.atime_ns, made.mtime_ns, made.ctime_ns) == (1, 2, 3)
        assert (made.nlink, made.size) == ((1, 5) if target else (2, 0)), "that is not for the asker to say"


def test_what_is_refused_leaves_nothing() -> None:
    lab = ShardLab()
    lab.make(b"f")
    request: Request = Create(R, b"f", S_IFREG, 0, 0, became=Attributes(2, 0).encode(), inline=b"text", unsettled_end=9)
    lab.refused(request, EEXIST)  # and the lab looks for traces
    made = lab.ask(Create(R, b"g", S_IFREG, 0, 0, inline=b"text"))
    assert lab.ask(ReadInline(made.ino)) == b"text" and made.size == 4
