"""The client's connection and the real server: nothing is lost or done twice while the server is killed and comes back."""

import queue
import random
import threading
import time
from collections.abc import Iterator
from errno import EIO
from pathlib import Path
from typing import Any

import pytest

from loligo_client.shell.connection import Connection
from loligo_lab.mounts import assert_sound, make_lab_volume
from loligo_lab.serving import LabServer
from loligo_mds.core.codec import Covered
from loligo_mds.core.events import Hold
from loligo_mds.core.requests import Close, Create, GetAttributes, LeaseReturned, Lookup, ReadDirectory, Rename, Unlink
from loligo_wire.ids import ROOT_INO
from loligo_wire.v1 import loligo_pb2 as pb

PATIENCE_S = 30.0


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[LabServer]:
    volume = make_lab_volume(tmp_path)
    with LabServer(volume, tmp_path) as server:
        yield server
    assert_sound(volume)


def connect(daemon: LabServer, **hello: Any) -> Connection:
    connection = Connection([daemon.address], pb.Hello(volume=daemon.volume.name, **hello), tls=None, timeout_s=60)
    connection.connect()
    return connection


def create(name: str, *, hold: bool = False) -> Create:
    return Create(ROOT_INO, name.encode(), 0o100644, 0, 0, hold=hold)


def names(connection: Connection) -> list[str]:
    found: list[str] = []
    after = 0
    while page := connection.ask(ReadDirectory(ROOT_INO, after, 100)).result(PATIENCE_S):
        found.extend(entry[0].decode() for entry in page)
        after = page[-1][1]
    return sorted(found)


def test_changes_survive_a_server_that_is_killed_again_and_again(daemon: LabServer) -> None:
    """A change done twice would be refused: the name would be there, or gone."""
    connection = connect(daemon)
    ending = threading.Event()
    made: list[set[str]] = [set() for _ in range(4)]
    failures: list[BaseException] = []

    def work(number: int) -> None:
        chance = random.Random(number)
        mine = made[number]
        count = 0
        try:
            while not ending.is_set():
                count += 1
                name = f"{number}-{count}"
                pipelined = [create(name), create(f"{name}-b")]
                for answer in [connection.ask(request) for request in pipelined]:
                    answer.result(PATIENCE_S)
                mine |= {name, f"{name}-b"}
                gone = chance.choice(sorted(mine))
                connection.ask(Rename(ROOT_INO, gone.encode(), ROOT_INO, f"{gone}-r".encode())).result(PATIENCE_S)
                mine.remove(gone)
                if chance.random() < 0.7:
                    connection.ask(Unlink(ROOT_INO, f"{gone}-r".encode())).result(PATIENCE_S)
                else:
                    mine.add(f"{gone}-r")
        except BaseException as error:  # noqa: BLE001 - told by the test
            failures.append(error)

    workers = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for worker in workers:
        worker.start()
    try:
        for _ in range(4):
            time.sleep(0.3)  # for work to be under way; any moment is a good one
            daemon.kill()
            daemon.start()
    finally:
        ending.set()
        for worker in workers:
            worker.join()
    assert not failures
    assert names(connection) == sorted(set().union(*made))
    connection.close()


def test_a_change_waits_until_the_lease_in_its_way_has_come_back(daemon: LabServer) -> None:
    connection, other = connect(daemon, takes_leases=True), connect(daemon)
    told: list[Covered] = []
    connection.on_answer = lambda request, answer, covered: told.append(covered)
    recalled: queue.Queue[LeaseReturned] = queue.Queue()
    connection.on_lease_recall = recalled.put
    made = connection.ask(Create(ROOT_INO, b"d", 0o40755, 0, 0)).result(PATIENCE_S)
    assert sorted(told[0].leases) == [ROOT_INO, made.ino] and not told[0].unsure
    joins = other.ask(Create(made.ino, b"g", 0o100644, 0, 0))
    recall = recalled.get(timeout=PATIENCE_S)
    assert recall == LeaseReturned(made.ino) and not joins.done()
    assert connection.ask(Lookup(made.ino, b"g")).result(PATIENCE_S) is None
    assert told[1].leases == [], "no lease is granted while one is in the way"
    connection.ask(recall)
    joins.result(PATIENCE_S)
    assert connection.ask(Lookup(made.ino, b"g")).result(PATIENCE_S) is not None
    for one in (connection, other):
        one.close()


def test_a_file_without_a_name_stays_open_over_a_restart_and_goes_with_its_last_close(daemon: LabServer) -> None:
    connection = connect(daemon)
    ino = connection.ask(create("file", hold=True)).result(PATIENCE_S).ino
    connection.holds = lambda: [Hold(ino, 1, writes=True)]
    connection.ask(Unlink(ROOT_INO, b"file")).result(PATIENCE_S)
    daemon.kill()
    daemon.start()
    assert connection.ask(GetAttributes(ino)).result(PATIENCE_S).nlink == 0
    connection.holds = list
    connection.ask(Close(ino)).result(PATIENCE_S)
    with pytest.raises(FileNotFoundError):
        connection.ask(GetAttributes(ino)).result(PATIENCE_S)
    connection.close()


def test_a_server_that_stops_politely_is_waited_for(daemon: LabServer) -> None:
    connection = connect(daemon)
    assert names(connection) == []
    daemon.stop()
    answer = connection.ask(create("file"))
    daemon.start()
    answer.result(PATIENCE_S)
    assert names(connection) == ["file"]
    connection.close()


def test_a_session_that_expired_is_gone(tmp_path: Path) -> None:
    volume = make_lab_volume(tmp_path)
    with LabServer(volume, tmp_path, options=("--session-expiry", "1")) as server:
        connection = connect(server)
        gone = threading.Event()
        connection.on_gone = lambda text: gone.set()
        with connection._state:  # so that it says nothing: to the server that is a client that is dead
            deadline = time.monotonic() + PATIENCE_S
            while "it is shut out" not in server.log():
                assert time.monotonic() < deadline, "the server did not end the session"
                time.sleep(0.02)
        assert gone.wait(PATIENCE_S)
        with pytest.raises(OSError, match="gone") as refused:
            connection.ask(create("file"))
        assert refused.value.errno == EIO
        connection.close()
