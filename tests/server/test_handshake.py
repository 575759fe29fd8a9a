"""How a client and a server begin: what is told, what is refused, and that a refusal says what to do."""

from collections.abc import Callable
from stat import S_IFDIR, S_IFLNK, S_IFREG

import pytest

from loligo_lab.raw_client import RawClient, Refused, StreamEnded
from loligo_lab.serving import LabServer
from loligo_mds.core.requests import Create, GetAttributes, Lookup, RemoveDirectory
from loligo_runtime.volume import Volume
from loligo_wire.attributes import decode_attributes
from loligo_wire.ids import ROOT_INO
from loligo_wire.v1 import loligo_pb2 as pb

MakeClient = Callable[..., RawClient]


def refusal_of(client: RawClient) -> Refused:
    with pytest.raises(Refused) as refused:
        client.connect()
    return refused.value


def test_a_welcome_has_what_a_client_needs(server: LabServer, client: RawClient, volume: Volume) -> None:
    welcome = client.welcome
    assert welcome.protocol == 1
    assert welcome.session > 1
    assert len(welcome.secret) == 16
    assert not welcome.resumed
    assert welcome.root_ino == ROOT_INO
    assert decode_attributes(ROOT_INO, welcome.root_record).is_directory
    assert (welcome.volume_uuid, welcome.volume_name, welcome.data_url) == (volume.uuid, "lab", volume.data_url)
    assert (welcome.block_bytes, welcome.inline_limit_bytes) == (volume.block_bytes, volume.inline_limit_bytes)
    assert welcome.expiry_ms == 60_000
    assert 0 < welcome.heartbeat_ms <= welcome.expiry_ms / 4
    assert welcome.window >= 256


def test_sessions_and_secrets_differ(server: LabServer, make_client: MakeClient) -> None:
    welcomes = [make_client(server).welcome for _ in range(4)]
    assert len({welcome.session for welcome in welcomes}) == 4
    assert len({welcome.secret for welcome in welcomes}) == 4


@pytest.mark.parametrize(("low", "high", "who"), [(3, 9, "upgrade the server"), (0, 0, "upgrade the client")])
def test_without_a_common_protocol_the_older_side_is_named(
    server: LabServer, make_client: MakeClient, low: int, high: int, who: str
) -> None:
    refused = refusal_of(make_client(server, connect=False, protocol_min=low, protocol_max=high))
    assert refused.reason == pb.Refusal.PROTOCOL
    assert who in refused.text


def test_a_newer_client_that_speaks_ours_too_is_welcome(server: LabServer, make_client: MakeClient) -> None:
    assert make_client(server, protocol_min=1, protocol_max=7).welcome.protocol == 2


def test_another_volume_is_refused(server: LabServer, make_client: MakeClient) -> None:
    refused = refusal_of(make_client(server, connect=False, volume="other"))
    assert refused.reason == pb.Refusal.NO_SUCH_VOLUME
    assert "'lab'" in refused.text and "'other'" in refused.text


def test_a_directory_as_root(server: LabServer, client: RawClient, make_client: MakeClient) -> None:
    above = client.ask(Create(ROOT_INO, b"above", S_IFDIR | 0o755, 0, 0))
    root = client.ask(Create(above.ino, b"root", S_IFDIR | 0o755, 0, 0))
    below = make_client(server, root_path=b"/above//root/")
    assert below.welcome.root_ino == root.ino
    assert decode_attributes(root.ino, below.welcome.root_record).name == b"root"
    assert below.ask(GetAttributes(root.ino)).is_directory


@pytest.mark.parametrize("path", [b"missing", b"file", b"link", b"link/x", b"..", b"x" * 300, b"a\0b", b"\xff\xfe"])
def test_what_is_no_directory_is_no_root(
    server: LabServer, client: RawClient, make_client: MakeClient, path: bytes
) -> None:
    client.ask(Create(ROOT_INO, b"file", S_IFREG | 0o644, 0, 0))
    client.ask(Create(ROOT_INO, b"link", S_IFLNK | 0o777, 0, 0, target=b"/"))
    refused = refusal_of(make_client(server, connect=False, root_path=path))
    assert refused.reason == pb.Refusal.NO_SUCH_DIRECTORY
    assert "correct the path" in refused.text


def test_a_root_that_is_removed_stays_a_directory_without_entries(
    server: LabServer, client: RawClient, make_client: MakeClient
) -> None:
    client.ask(Create(ROOT_INO, b"root", S_IFDIR | 0o755, 0, 0))
    below = make_client(server, root_path=b"root")
    client.ask(RemoveDirectory(ROOT_INO, b"root"))
    below.break_off()
    assert below.connect().welcome.resumed
    assert decode_attributes(below.welcome.root_ino, below.welcome.root_record).is_directory
    with pytest.raises(FileNotFoundError):
        below.ask(Lookup(below.welcome.root_ino, b"x"))


def test_who_says_something_else_first_is_refused(server: LabServer, make_client: MakeClient) -> None:
    client = make_client(server, connect=False)
    client.open()
    client.begin([GetAttributes(ROOT_INO)])
    assert client.wait_for_refusal().reason == pb.Refusal.PROTOCOL


def test_a_second_hello_ends_the_stream_and_not_the_session(server: LabServer, client: RawClient) -> None:
    client.send(pb.ClientFrame(hello=client.hello))
    assert client.wait_for_refusal().reason == pb.Refusal.PROTOCOL
    client.break_off()
    assert client.connect().welcome.resumed


def test_texts_of_a_hello_have_a_limit(server: LabServer, make_client: MakeClient) -> None:
    refused = refusal_of(make_client(server, connect=False, host="h" * 5000))
    assert refused.reason == pb.Refusal.PROTOCOL


def test_a_path_of_a_root_has_a_limit(server: LabServer, make_client: MakeClient) -> None:
    """What is kept of a session must fit a record of the journal."""
    assert refusal_of(make_client(server, connect=False, root_path=b"/" * 5000)).reason == pb.Refusal.PROTOCOL


def test_a_text_of_a_hello_cannot_pass_for_a_line_of_the_log(server: LabServer, make_client: MakeClient) -> None:
    make_client(server, host="h\nTraceback", mounted_on="/mnt\x1b[2J")
    assert "(h?Traceback:/mnt?[2J)" in server.log()


def test_garbage_is_answered_by_a_refusal_and_others_are_not_disturbed(
    server: LabServer, client: RawClient, make_client: MakeClient
) -> None:
    for garbage in (b"\xff\xff\xff", b"\x0a\xff\xff\xff\xff\x0f", b"no frame at all"):
        hostile = make_client(server, connect=False)
        hostile.open()
        hostile.send_bytes(garbage)
        assert hostile.wait_for_refusal().reason == pb.Refusal.PROTOCOL
    assert client.ask(GetAttributes(ROOT_INO)).is_directory
    assert server.log().count("talks nonsense") == 3


def test_a_frame_that_is_too_long_ends_its_stream(
    server: LabServer, client: RawClient, make_client: MakeClient
) -> None:
    hostile = make_client(server)
    hostile.send_bytes(bytes(17 << 20))
    with pytest.raises(StreamEnded, match="larger than max"):
        hostile.next_frame()
    hostile.break_off()
    assert hostile.connect().welcome.resumed
    assert client.ask(GetAttributes(ROOT_INO)).is_directory
