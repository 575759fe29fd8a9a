"""The server empties the trash: what is due and no more, with nobody there, also if it dies again and again meanwhile."""

import contextlib
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cli.command_line import CommandLine
from loligo_lab.ceph import LoopbackCeph
from loligo_lab.mounts import assert_sound, make_lab_volume, stored_objects
from loligo_lab.processes import ProcessFailed, wait_until
from loligo_lab.raw_client import RawClient
from loligo_lab.serving import LabServer
from loligo_mds.core.requests import (
    Close,
    Create,
    GetUsage,
    Link,
    ListBatches,
    Lookup,
    Publish,
    PurgeBatch,
    RemoveTree,
    Restore,
    SetXattr,
    Unlink,
    Usage,
)
from loligo_mds.shell import purger
from loligo_runtime import failpoint
from loligo_runtime.object_store import ObjectStore
from loligo_runtime.object_url import open_object_store
from loligo_runtime.volume import Volume
from loligo_trash.batch import FLAG_COUNTED, FLAG_PARTLY, Batch, Word, decode_batch
from loligo_trash.policy import LIMIT_NAME, MINIMUM_AGE_NAME, RETENTION_NAME
from loligo_wire.attributes import Attributes
from loligo_wire.ids import ROOT_INO
from server.test_operators import metrics

assert purger  # imported for the failpoints that it brings along

MakeServer = Callable[..., LabServer]
MakeClient = Callable[..., RawClient]
R = int(ROOT_INO)
#: Of a file with two objects.
SIZE = 100_000
LIMIT_S = 30.0
POOL = "purging"

POINTS = [
    *[f"{name}:1" for name in failpoint.names() if name.startswith("purge.")],
    "purge.step.before:3",
    "purge.step.after:2",
    "driver.step.journaled:2",
    "driver.step.journaled:3",
    "data.remove.before:1",
    "data.remove.after:1",
    "data.remove.after:20",
    "objects.remove.after:5",
]


#: With a Ceph pool for the data, where removals end on librados' threads.
POINTS_ON_CEPH = ["purge.step.after:2", "data.remove.before:1", "data.remove.after:1", "data.remove.after:20"]


@pytest.fixture
def volume(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Volume]:
    if getattr(request, "param", "folder") == "folder":
        yield make_lab_volume(tmp_path)
        return
    cluster: LoopbackCeph = request.getfixturevalue("ceph_cluster")
    cluster.create_pool(POOL)
    try:
        yield make_lab_volume(tmp_path, data_url=f"rados://{POOL}?conf={cluster.conf}")
    finally:
        cluster.delete_pool(POOL)


@pytest.fixture
def cli(tmp_path: Path) -> Iterator[CommandLine]:
    line = CommandLine(tmp_path)
    yield line
    line.clean_up()


@pytest.fixture
def objects(volume: Volume) -> Iterator[ObjectStore]:
    store = open_object_store(volume.data_url, create=False)
    yield store
    store.close()


class Tree:
    """What a client makes and removes. New files may go to the trash, too."""

    def __init__(self, client: RawClient, objects: ObjectStore) -> None:
        self.client = client
        self._objects = objects
        client.ask(SetXattr(R, MINIMUM_AGE_NAME, b"0"))

    def directory(self, name: bytes, parent: int = R) -> int:
        made: Attributes = self.client.ask(Create(parent, name, 0o40755, 0, 0))
        return made.ino

    def file(self, name: bytes, parent: int = R, *, hold: bool = False) -> int:
        made: Attributes = self.client.ask(Create(parent, name, 0o100644, 0, 0, hold=hold))
        for index, length in enumerate((made.block_bytes, SIZE - made.block_bytes)):
            self._objects.write(made.ino, index, 0, b"x" * length).result()
        self.client.ask(Publish(made.ino, SIZE, 7))
        return made.ino

    def kept_for(self, directory: int, time: bytes) -> None:
        self.client.ask(SetXattr(directory, RETENTION_NAME, time))

    def batches(self) -> list[Batch]:
        return batches(self.client)


def batches(client: RawClient) -> list[Batch]:
    return [decode_batch(int.from_bytes(row[:8]), row[8:]) for row in client.ask(ListBatches(0, 100))]


@pytest.fixture
def tree(client: RawClient, objects: ObjectStore) -> Tree:
    return Tree(client, objects)


@pytest.mark.parametrize(
    ("volume", "point"),
    [
        *[("folder", point) for point in POINTS],
        *[pytest.param("rados", point, marks=pytest.mark.ceph) for point in POINTS_ON_CEPH],
    ],
    indirect=["volume"],
)
def test_killed_while_it_purges(
    point: str, make_server: MakeServer, make_client: MakeClient, volume: Volume, objects: ObjectStore
) -> None:
    # Until the session has expired, what it may have open stays.
    server = make_server("--session-expiry", "1", environment={"LOLIGO_FAILPOINT": "purge.count.before:1"})
    client = make_client(server)
    tree = Tree(client, objects)
    soon = tree.directory(b"soon")
    tree.kept_for(soon, b"1s")
    top = tree.directory(b"top", soon)
    inner = tree.directory(b"inner", top)
    for number in range(20):
        tree.file(b"%d" % number, inner if number % 2 else top)
    stays = tree.file(b"linked", inner)
    client.ask(Link(stays, R, b"stays"))
    for name in (b"oldest", b"later"):
        tree.file(name)
    client.ask(Unlink(R, b"oldest", 0, 1))
    client.ask(Unlink(R, b"later", 0, 2))
    # The oldest of what is not due must go, too: there is no room for both. It dies when it is about to count the tree.
    client.begin([SetXattr(R, LIMIT_NAME, b"%d" % (SIZE + 1)), RemoveTree(soon, b"top", 0, 3, b"label")])
    wait_until(lambda: not server.is_running, "it dies")
    died_s = time.monotonic()
    client.break_off()
    server.kill()
    wait_until(lambda: time.monotonic() - died_s > 1, "the tree is due")

    with contextlib.suppress(ProcessFailed):
        server.start(LOLIGO_FAILPOINT=point)
    wait_until(lambda: not server.is_running, f"it dies at {point}", LIMIT_S)
    server.kill()
    with contextlib.suppress(ProcessFailed):
        server.start(LOLIGO_FAILPOINT=point)  # there may be nothing left of that
    server.kill()

    server.start(LOLIGO_FAILPOINT="purge.count.before:1000")
    kept = 2 + 2  # objects of what stays, and of the later one
    wait_until(lambda: len(stored_objects(volume)) == kept, "what is due is gone", LIMIT_S)
    client = make_client(server)
    (later,) = batches(client)
    assert (later.pid, later.names, later.inodes, later.size_bytes, later.flags) == (2, 1, 1, SIZE, 0)
    assert client.ask(GetUsage()) == Usage(4, 2 * SIZE, 1, SIZE)
    assert client.ask(Lookup(R, b"stays")).ino == stays
    assert client.ask(Restore(later.id, R, b"later", R, b"back")).size == SIZE
    client.goodbye()
    server.stop()
    assert_sound(volume)


def test_a_tree_is_counted_and_its_sums_go_down_as_it_is_purged(
    make_server: MakeServer, make_client: MakeClient, objects: ObjectStore, volume: Volume
) -> None:
    server = make_server("--purge-rate", "20")
    client = make_client(server)
    tree = Tree(client, objects)
    top = tree.directory(b"top")
    for number in range(12):
        tree.file(b"%d" % number, tree.directory(b"d%d" % number, top))
    twice = tree.file(b"a", top)
    client.ask(Link(twice, top, b"b"))
    stays = tree.file(b"c", top)
    client.ask(Link(stays, R, b"stays"))
    client.ask(RemoveTree(R, b"top", 0, 3))
    wait_until(lambda: tree.batches()[0].inodes == 26, "it is counted")
    (batch,) = tree.batches()
    assert (batch.names, batch.size_bytes, batch.label) == (1, 13 * SIZE, b"top")
    assert client.ask(GetUsage()) == Usage(28, 14 * SIZE, 26, 13 * SIZE)
    began_s = time.monotonic()
    client.ask(PurgeBatch(batch.id))
    seen: set[int] = set()

    def is_gone() -> bool:
        seen.update(batch.inodes for batch in tree.batches())
        return not tree.batches()

    wait_until(is_gone, "it is purged")
    assert time.monotonic() - began_s > 20 / 20, "there is a limit"
    assert len(seen) > 5 and max(seen) == 26
    assert client.ask(GetUsage()) == Usage(2, SIZE, 0, 0)
    wait_until(lambda: len(stored_objects(volume)) == 2, "the objects are gone")
    client.goodbye()
    server.stop()
    assert_sound(volume)


def test_what_is_open_stays_until_it_is_closed(tree: Tree, client: RawClient, volume: Volume) -> None:
    ino = tree.file(b"f", hold=True)
    client.ask(Unlink(R, b"f", 0, 1))
    client.ask(PurgeBatch(tree.batches()[0].id))
    wait_until(lambda: not tree.batches(), "it is purged")
    assert not client.is_gone(ino) and len(stored_objects(volume)) == 2
    client.ask(Close(ino, 1))
    wait_until(lambda: not stored_objects(volume), "the objects are gone")


def test_who_takes_a_purge_back_keeps_what_is_left(
    make_server: MakeServer, make_client: MakeClient, objects: ObjectStore
) -> None:
    client = make_client(make_server("--purge-rate", "1"))
    tree = Tree(client, objects)
    for number in range(5):
        tree.file(b"%d" % number)
        client.ask(Unlink(R, b"%d" % number, 0, 1))
    (batch,) = tree.batches()
    client.ask(PurgeBatch(batch.id))
    wait_until(lambda: tree.batches()[0].inodes < 5, "it begins")
    client.ask(PurgeBatch(batch.id, Word.KEEP))
    (left,) = tree.batches()
    assert 0 < left.inodes < 5 and left.flags == FLAG_PARTLY


def test_killed_while_a_purge_is_paused(
    make_server: MakeServer, make_client: MakeClient, objects: ObjectStore, volume: Volume
) -> None:
    server = make_server("--session-expiry", "1", "--purge-rate", "5")
    client = make_client(server)
    tree = Tree(client, objects)
    tree.kept_for(R, b"1s")
    top = tree.directory(b"top")
    for number in range(12):
        tree.file(b"%d" % number, top)
    client.ask(RemoveTree(R, b"top", 0, 1))
    wait_until(lambda: tree.batches()[0].inodes in range(2, 13), "it is counted and begins")
    client.ask(PurgeBatch(1, Word.PAUSE))
    paused = tree.batches()
    assert 0 < paused[0].inodes < 13 and paused[0].is_paused
    client.break_off()
    server.kill()
    server.start()
    client = make_client(server)
    tree = Tree(client, objects)
    for number in (2, 3, 4):
        tree.file(b"other")
        client.ask(Unlink(R, b"other", 0, number))
        wait_until(lambda: tree.batches() == paused, "what is due and not paused goes, and all of that")
    client.ask(PurgeBatch(1, Word.RESUME))
    wait_until(lambda: not tree.batches(), "it goes on", LIMIT_S)
    wait_until(lambda: not stored_objects(volume), "the objects are gone", LIMIT_S)
    client.goodbye()
    server.stop()
    assert_sound(volume)


def test_killed_while_a_batch_goes_slowly(
    make_server: MakeServer, make_client: MakeClient, objects: ObjectStore, volume: Volume
) -> None:
    server = make_server("--session-expiry", "1")
    client = make_client(server)
    tree = Tree(client, objects)
    top = tree.directory(b"top")
    for number in range(9):
        tree.file(b"%d" % number, top)
    client.ask_all([RemoveTree(R, b"top", 0, 1), PurgeBatch(1, Word.RATE, 5)])
    wait_until(lambda: bool(tree.batches()[0].flags & FLAG_COUNTED), "it is counted")
    client.ask(PurgeBatch(1))
    began_s = time.monotonic()
    for number in range(30):
        tree.file(b"%d" % number)
        client.ask(Unlink(R, b"%d" % number, 0, 2))
    client.ask(PurgeBatch(2))
    wait_until(lambda: [batch.pid for batch in tree.batches()] == [1], "others go at their own pace")
    (slow,) = tree.batches()
    assert 10 - slow.inodes <= 1 + 5 * (time.monotonic() - began_s) and slow.rate == 5
    client.break_off()
    server.kill()
    server.start()
    client = make_client(server)
    left = batches(client)[0]
    assert left.rate == 5 and left.inodes <= slow.inodes
    wait_until(lambda: not batches(client), "it goes on", LIMIT_S)
    assert time.monotonic() - began_s > (10 - 2) / 5, "two may go at once: the first, and the first after the restart"
    client.goodbye()
    server.stop()
    assert_sound(volume)


def test_who_needs_room_does_not_wait_for_a_slow_batch(tree: Tree, client: RawClient) -> None:
    for pid in (1, 2):
        for number in range(20):
            tree.file(b"%d" % number)
            client.ask(Unlink(R, b"%d" % number, 0, pid))
    client.ask_all([PurgeBatch(1, Word.RATE, 1), PurgeBatch(1)])
    began_s = time.monotonic()
    client.ask(SetXattr(R, LIMIT_NAME, b"%d" % (20 * SIZE)))
    wait_until(lambda: [batch.pid for batch in tree.batches()] == [2], "the oldest is gone")
    assert time.monotonic() - began_s < 10


def test_a_higher_priority_goes_before_what_has_begun(
    make_server: MakeServer, make_client: MakeClient, objects: ObjectStore
) -> None:
    client = make_client(make_server("--purge-rate", "2"))
    tree = Tree(client, objects)
    for pid in (1, 2):
        for number in range(4):
            tree.file(b"%d" % number)
            client.ask(Unlink(R, b"%d" % number, 0, pid))
    client.ask_all([PurgeBatch(1), PurgeBatch(2)])
    wait_until(lambda: tree.batches()[0].inodes < 4, "it begins")
    client.ask(PurgeBatch(2, Word.HIGH))
    left = tree.batches()[0].inodes
    wait_until(lambda: len(tree.batches()) == 1, "the other one is gone")
    (batch,) = tree.batches()
    assert (batch.pid, batch.inodes) == (1, left)


def test_who_needs_room_does_not_stop_at_a_pause(tree: Tree, client: RawClient) -> None:
    for number in range(3):
        tree.file(b"%d" % number)
        client.ask(Unlink(R, b"%d" % number, 0, number))
    client.ask(PurgeBatch(1, Word.PAUSE))
    client.ask(SetXattr(R, LIMIT_NAME, b"%d" % (2 * SIZE)))
    wait_until(lambda: [batch.pid for batch in tree.batches()] == [1, 2], "the oldest is gone")


def test_operators_see_what_is_in_the_trash(
    make_server: MakeServer, make_client: MakeClient, objects: ObjectStore, cli: CommandLine
) -> None:
    server = make_server("--purge-rate", "0.01")  # the second in 100 s
    client = make_client(server)
    tree = Tree(client, objects)
    tree.kept_for(R, b"1s")
    for number in range(3):
        tree.file(b"%d" % number)
        client.ask(Unlink(R, b"%d" % number, 0, number))
    wait_until(lambda: metrics(server)["loligo_mds_purged_inodes_total"] == 1, "one is purged, the others are due")
    wait_until(lambda: metrics(server)["loligo_mds_trash_backlog_batches"] == 2, "both are due")
    wait_until(lambda: metrics(server)["loligo_mds_trash_backlog_seconds"] > 0, "time passes")
    found = metrics(server)
    assert found["loligo_mds_trash_inodes"] == 2 and found["loligo_mds_trash_bytes"] == 2 * SIZE
    assert found["loligo_mds_purged_bytes_total"] == SIZE and found["loligo_mds_purge_step_seconds_count"] == 1
    (row,) = [row for row in json.loads(cli.run("status", "--json").stdout) if row.get("pid") == server.pid]
    assert (row["trash_inodes"], row["trash_bytes"]) == (2, 2 * SIZE)
    assert "2 of these inodes, 195.3 KiB" in cli.run("status").stdout


def test_beyond_its_limit_the_trash_gives_back_the_oldest(tree: Tree, client: RawClient, volume: Volume) -> None:
    for number in range(4):
        tree.file(b"%d" % number)
        client.ask(Unlink(R, b"%d" % number, 0, number))
    client.ask(SetXattr(R, LIMIT_NAME, b"%d" % (2 * SIZE)))
    wait_until(lambda: len(stored_objects(volume)) == 4, "two are gone")
    assert [batch.pid for batch in tree.batches()] == [2, 3]


def test_many_batches_are_purged_in_one_step(tree: Tree, client: RawClient, server: LabServer) -> None:
    for number in range(300):
        client.ask(Create(R, b"%d" % number, 0o100644, 0, 0))
        client.ask(Unlink(R, b"%d" % number, 0, number))
    tree.client.ask_all([PurgeBatch(batch) for batch in range(1, 301)])
    wait_until(lambda: not tree.batches(), "all are purged")
    assert metrics(server)["loligo_mds_purge_step_seconds_count"] < 300


def test_a_rate_that_is_none_is_refused(cli: CommandLine, volume: Volume) -> None:
    done = cli.run("serve", volume.meta_url, "--purge-rate", "-1", code=1)
    assert "purge-rate must be a number of inodes a second" in done.stderr
