"""Mutual TLS: who has no certificate of the authority gets no word, and a session belongs to the certificate it began with."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest

from loligo_lab.certificates import Authority, Pair
from loligo_lab.raw_client import RawClient, Refused, StreamEnded
from loligo_lab.serving import LabServer
from loligo_mds.core.requests import GetAttributes
from loligo_wire.ids import ROOT_INO
from loligo_wire.v1 import loligo_pb2 as pb

MakeServer = Callable[..., LabServer]
MakeClient = Callable[..., RawClient]


def channel_credentials(authority: Authority, own: Pair | None) -> Any:
    return grpc.ssl_channel_credentials(
        authority.cert.read_bytes(), own.key.read_bytes() if own else None, own.cert.read_bytes() if own else None
    )


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def secure_server(make_server: MakeServer, authority: Authority) -> LabServer:
    own = authority.sign("server", "IP:127.0.0.1")
    return make_server("--tls-cert", str(own.cert), "--tls-key", str(own.key), "--tls-ca", str(authority.cert))


def test_a_client_with_a_certificate_of_the_authority_is_served(
    secure_server: LabServer, make_client: MakeClient, authority: Authority
) -> None:
    client = make_client(secure_server, credentials=channel_credentials(authority, authority.sign("alice")))
    assert client.ask(GetAttributes(ROOT_INO)).is_directory


def test_others_are_not(
    secure_server: LabServer, make_client: MakeClient, authority: Authority, tmp_path: Path
) -> None:
    stranger = Authority(tmp_path).sign("alice")
    for credentials in (None, channel_credentials(authority, None), channel_credentials(authority, stranger)):
        with pytest.raises(StreamEnded) as ended:
            make_client(secure_server, credentials=credentials)
        assert "UNAVAILABLE" in str(ended.value.code)


def test_a_client_does_not_trust_a_server_of_another_authority(
    secure_server: LabServer, make_client: MakeClient, authority: Authority, tmp_path: Path
) -> None:
    credentials = channel_credentials(Authority(tmp_path), authority.sign("alice"))
    with pytest.raises(StreamEnded):
        make_client(secure_server, credentials=credentials)


def test_a_session_cannot_be_taken_over_with_another_certificate(
    secure_server: LabServer, make_client: MakeClient, authority: Authority
) -> None:
    alice = authority.sign("alice")
    client = make_client(secure_server, credentials=channel_credentials(authority, alice))
    client.break_off()
    bob = make_client(secure_server, connect=False, credentials=channel_credentials(authority, authority.sign("bob")))
    bob.hello.CopyFrom(client.hello)
    with pytest.raises(Refused) as refused:
        bob.connect()
    assert refused.value.reason == pb.Refusal.NOT_ALLOWED
    assert client.connect().welcome.resumed


def test_without_an_authority_clients_show_nothing(
    make_server: MakeServer, make_client: MakeClient, authority: Authority
) -> None:
    own = authority.sign("server", "IP:127.0.0.1")
    server = make_server("--tls-cert", str(own.cert), "--tls-key", str(own.key))
    client = make_client(server, credentials=channel_credentials(authority, None))
    assert client.ask(GetAttributes(ROOT_INO)).is_directory
