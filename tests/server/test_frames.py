"""Frames: what belongs together, what must not be, and clients that do not behave."""

import time
from collections.abc import Callable
from stat import S_IFDIR, S_IFREG

import pytest

from loligo_lab.raw_client import RawClient
from loligo_lab.serving import LabServer
from loligo_mds.core.codec import Sync, decode_covered
from loligo_mds.core.events import Hold
from loligo_mds.core.requests import (
    Create,
    GetAttributes,
    GetUsage,
    Link,
    Lookup,
    Open,
    Publish,
    ReadDirectory,
    RemoveDirectory,
    Rename,
    Request,
    SetXattr,
    Unlink,
    Yielded,
)
from loligo_mds.shell.handshake import WINDOW
from loligo_wire.ids import ROOT_INO
from loligo_wire.v1 import loligo_pb2 as pb

MakeServer = Callable[..., LabServer]
MakeClient = Callable[..., RawClient]


def new_file(name: bytes, hold: bool = False) -> Create:
    return Create(ROOT_INO, name, S_IFREG | 0o644, 0, 0, hold=hold)


def test_one_frame_answers_one_frame(server: LabServer, client: RawClient) -> None:
    ids = client.begin([GetAttributes(ROOT_INO)] * 20)  # in much less time than one frame gets
    frame = client.next_frame()
    assert frame is not None
    assert [answer.id for answer in frame.answers] == ids


def test_requests_are_applied_in_order(server: LabServer, client: RawClient) -> None:
    made, found, missing, again = client.ask_all(
        [new_file(b"f"), Lookup(ROOT_INO, b"f"), Lookup(ROOT_INO, b"g"), new_file(b"f")]
    )
    assert found == made
    assert missing is None
    assert isinstance(again, FileExistsError)


def test_changes_of_names_tell_what_became_of_the_directories(server: LabServer, make_client: MakeClient) -> None:
    client = make_client(server, takes_leases=True)
    a, b = client.ask_all([Create(ROOT_INO, name, S_IFDIR | 0o755, 0, 0) for name in (b"a", b"b")])

    def told(request: Request) -> dict[int, tuple[int, int]]:
        client.begin([request])
        frame = client.next_frame()
        assert frame is not None
        return {found.ino: (found.size, found.nlink) for found in decode_covered(frame.answers[0]).directories}

    file = client.ask(Create(a.ino, b"f", S_IFREG | 0o644, 0, 0))
    assert told(Create(a.ino, b"d", S_IFDIR | 0o755, 0, 0)) == {a.ino: (2, 3)}
    assert told(Link(file.ino, b.ino, b"g")) == {b.ino: (1, 2)}
    assert told(Rename(a.ino, b"d", b.ino, b"d")) == {a.ino: (1, 2), b.ino: (2, 3)}
    assert told(Rename(b.ino, b"d", b.ino, b"e")) == {b.ino: (2, 3)}
    assert told(RemoveDirectory(b.ino, b"e")) == {b.ino: (1, 2)}
    assert told(Unlink(b.ino, b"g")) == {b.ino: (0, 2)}
    assert told(Unlink(b.ino, b"g")) == {}
    assert told(Lookup(a.ino, b"f")) == {}


def test_who_opens_a_file_gets_its_content_if_that_is_short_and_nobody_else_changes_it(
    server: LabServer, client: RawClient, make_client: MakeClient
) -> None:
    short, long, empty = client.ask_all([new_file(name) for name in (b"short", b"long", b"empty")])
    client.ask_all([Publish(short.ino, 5, None, b"hello"), Publish(long.ino, 9000, None, bytes(9000))])
    assert client.ask(Open(short.ino)).inline == b"hello"
    assert client.ask(Open(long.ino)).inline is None
    assert client.ask(Open(empty.ino)).inline is None
    client.ask(Publish(short.ino, 6, None, None))  # it is in objects now
    assert client.ask(Open(short.ino)).inline is None


def test_a_heartbeat_is_answered_by_one(server: LabServer, client: RawClient) -> None:
    client.send(pb.ClientFrame())
    frame = client.next_frame()
    assert frame is not None and frame.ByteSize() == 0


def test_what_waits_is_answered_later_and_the_rest_is_not_held_up(
    server: LabServer, client: RawClient, make_client: MakeClient
) -> None:
    other = make_client(server)
    file = client.ask(new_file(b"f", hold=True))
    waits, goes = other.begin([Open(file.ino, writes=True), GetUsage()])
    assert other.finish([goes])[0].inodes == 2
    assert not other.is_answered(waits)
    client.wait_for_notice("recall", file.ino)
    client.ask(Yielded(file.ino))
    assert other.finish([waits])[0].contended


def test_sync_waits_for_the_disk_and_not_the_others(server: LabServer, client: RawClient) -> None:
    ids = client.begin([new_file(b"f"), Sync(), Sync(), GetUsage()])
    answers = client.finish(ids)
    assert answers[1:3] == [None, None] and answers[3].inodes == 2


@pytest.mark.parametrize(
    ("frame", "text"),
    [
        (pb.ClientFrame(requests=[pb.Request(id=1)]), "asks for nothing"),
        (pb.ClientFrame(requests=[pb.Request(id=0, get_usage=pb.GetUsage())]), "request 0 behind 0"),
        (
            pb.ClientFrame(
                requests=[pb.Request(id=5, get_usage=pb.GetUsage()), pb.Request(id=5, get_usage=pb.GetUsage())]
            ),
            "request 5 behind 5",
        ),
        (
            pb.ClientFrame(requests=[pb.Request(id=1, create=pb.Create(parent=1, name=b"f", mode=0o100644))]),
            "Create without a sequence",
        ),
        (pb.ClientFrame(fence=pb.Fence(addresses=["a"] * 1000)), "too many addresses"),
        (pb.ClientFrame(holds=[pb.Hold(ino=1, count=1)]), "wrong time"),
    ],
    ids=["nothing", "id-0", "same-id", "no-sequence", "addresses", "holds"],
)
def test_frames_that_break_the_rules(server: LabServer, client: RawClient, frame: pb.ClientFrame, text: str) -> None:
    client.send(frame)
    refused = client.wait_for_refusal()
    assert refused.reason == pb.Refusal.PROTOCOL and text in refused.text
    client.break_off()
    assert client.connect().welcome.resumed


def test_no_more_than_the_window(server: LabServer, client: RawClient) -> None:
    assert len(client.ask_all([GetAttributes(ROOT_INO)] * WINDOW)) == WINDOW
    client.begin([GetAttributes(ROOT_INO)] * (WINDOW + 1))
    assert "without an answer" in client.wait_for_refusal().text


def test_requests_that_wait_count_too(server: LabServer, client: RawClient, make_client: MakeClient) -> None:
    other = make_client(server)
    file = client.ask(new_file(b"f", hold=True))
    other.begin([Open(file.ino, writes=True)] * 10)
    client.wait_for_notice("recall", file.ino)
    other.begin([GetUsage()] * (WINDOW - 5))
    assert "without an answer" in other.wait_for_refusal().text


def test_a_stop_just_after_a_welcome(server: LabServer, client: RawClient) -> None:
    """Its frame may still be on its way when the stream is ended."""
    for _ in range(6):
        server.stop()
        client.break_off()
        server.start()
        client.connect()


def test_too_many_holds_in_a_frame(server: LabServer, client: RawClient) -> None:
    client.break_off()
    client.connect([Hold(number, 1) for number in range(2, 70_000)])
    assert "delegations in a frame" in client.wait_for_refusal().text


def test_a_client_that_asks_for_much_and_reads_nothing(
    server: LabServer, client: RawClient, make_client: MakeClient
) -> None:
    """The server keeps a bounded part of the answers, and others get theirs at once."""
    directory = client.ask(Create(ROOT_INO, b"d", S_IFDIR | 0o755, 0, 0))
    for start in range(0, 1000, 250):
        client.ask_all(
            [Create(directory.ino, b"x" * 200 + b"%d" % number, S_IFREG, 0, 0) for number in range(start, start + 250)]
        )
    before_kib = resident_kib(server)
    greedy = make_client(server)
    # 300 MiB of answers: far more than gRPC's buffers on both sides.
    greedy.may_read.clear()
    greedy.begin([ReadDirectory(directory.ino, 0, 1000, with_attributes=True)] * WINDOW)
    worst_s = 0.0
    for _ in range(50):
        began_s = time.monotonic()
        client.ask(GetAttributes(ROOT_INO))
        worst_s = max(worst_s, time.monotonic() - began_s)
    assert worst_s < 0.5
    assert resident_kib(server) - before_kib < 100 << 10
    server.stop()  # which it cannot keep from ending
    greedy.break_off()


def resident_kib(server: LabServer) -> int:
    with open(f"/proc/{server.pid}/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS"))


def test_long_frames_let_others_go_on(server: LabServer, client: RawClient, make_client: MakeClient) -> None:
    busy = make_client(server)
    file = busy.ask(new_file(b"f"))
    value = bytes(60_000)
    worst_s = 0.0
    for _ in range(5):
        asked = busy.begin([SetXattr(file.ino, b"user.x", value)] * 200, acknowledged=busy.sequence)
        began_s = time.monotonic()
        client.ask(GetAttributes(ROOT_INO))
        worst_s = max(worst_s, time.monotonic() - began_s)
        busy.finish(asked)
    assert worst_s < 0.25
