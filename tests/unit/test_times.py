"""Times that applications see move forward only, and only for a reason."""

from loligo_mds.core.requests import Create, Publish, SetAttributes
from loligo_wire.ids import ROOT_INO
from unit.shard_lab import FILE, ShardLab


def test_ctime_does_not_go_back_when_bytes_from_before_a_chmod_are_published() -> None:
    lab = ShardLab()
    ino = lab.ask(Create(ROOT_INO, b"f", FILE, 0, 0)).ino
    written_ns = lab.now_ns
    chmod = lab.ask(SetAttributes(ino, mode=0o600))
    published = lab.ask(Publish(ino, 4, written_ns, b"four"))
    assert published.mtime_ns == written_ns
    assert published.ctime_ns == chmod.ctime_ns > written_ns


def test_publishing_moves_nothing_when_mtime_was_set_since() -> None:
    lab = ShardLab()
    ino = lab.ask(Create(ROOT_INO, b"f", FILE, 0, 0)).ino
    before = lab.ask(SetAttributes(ino, mtime_ns=-5))
    published = lab.ask(Publish(ino, 4, None, b"four"))
    assert (published.mtime_ns, published.ctime_ns) == (-5, before.ctime_ns)
