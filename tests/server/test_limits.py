"""What the server refuses by itself, whatever the client's kernel would have refused: see core.admission for the rules."""

from collections.abc import Callable
from errno import EACCES, EINVAL, ENAMETOOLONG, EROFS
from stat import S_IFDIR, S_IFREG
from typing import Any

import pytest

from loligo_lab.raw_client import RawClient
from loligo_lab.serving import LabServer
from loligo_mds.core.events import Hold
from loligo_mds.core.requests import (
    Create,
    GetAttributes,
    Lookup,
    Open,
    ReadDirectory,
    RemoveDirectory,
    Rename,
    SetAttributes,
    Unlink,
)
from loligo_wire.ids import ROOT_INO
from loligo_wire.v1 import loligo_pb2 as pb

MakeClient = Callable[..., RawClient]


def errno_of(client: RawClient, request: Any) -> int:
    answer = client.ask_all([request])[0]
    return (answer.errno or 0) if isinstance(answer, OSError) else 0


def test_a_read_only_session_changes_nothing(server: LabServer, client: RawClient, make_client: MakeClient) -> None:
    file = client.ask(Create(ROOT_INO, b"f", S_IFREG | 0o644, 0, 0))
    reader = make_client(server, read_only=True)
    for change in (
        Create(ROOT_INO, b"g", S_IFREG | 0o644, 0, 0),
        Unlink(ROOT_INO, b"f"),
        SetAttributes(file.ino, mode=0o777),
        Open(file.ino, writes=True),
    ):
        assert errno_of(reader, change) == EROFS
    assert reader.ask(Lookup(ROOT_INO, b"f")) == file
    assert reader.ask(Open(file.ino)).attributes == file
    # Coming back does not make it more.
    reader.break_off()
    reader.hello.read_only = False
    reader.connect([Hold(file.ino, 1, writes=True)])
    assert errno_of(reader, Unlink(ROOT_INO, b"f")) == EROFS


def test_it_is_read_only_also_after_a_restart(server: LabServer, make_client: MakeClient) -> None:
    reader = make_client(server, read_only=True)
    server.kill()
    reader.break_off()
    server.start()
    reader.connect()
    assert errno_of(reader, Create(ROOT_INO, b"g", S_IFREG | 0o644, 0, 0)) == EROFS


def test_a_session_stays_below_its_root(server: LabServer, client: RawClient, make_client: MakeClient) -> None:
    root = client.ask(Create(ROOT_INO, b"root", S_IFDIR | 0o755, 0, 0))
    secret = client.ask(Create(ROOT_INO, b"secret", S_IFREG | 0o600, 0, 0))
    inside = client.ask(Create(root.ino, b"inside", S_IFREG | 0o644, 0, 0))
    below = make_client(server, root_path=b"root")
    for request in (
        GetAttributes(ROOT_INO),
        GetAttributes(secret.ino),
        Lookup(ROOT_INO, b"secret"),
        Lookup(root.ino, b".."),
        ReadDirectory(ROOT_INO, 0, 10),
        Open(secret.ino),
        Rename(root.ino, b"inside", ROOT_INO, b"outside"),
    ):
        assert errno_of(below, request) == EACCES, request
    assert below.ask(Lookup(root.ino, b"inside")) == inside
    deep = below.ask(Create(root.ino, b"deep", S_IFDIR | 0o755, 0, 0))
    made = below.ask(Create(deep.ino, b"made", S_IFREG | 0o644, 0, 0))
    assert below.ask(GetAttributes(made.ino)) == made
    below.break_off()
    below.connect([Hold(secret.ino, 1, writes=True)])
    assert errno_of(below, GetAttributes(secret.ino)) == EACCES


def test_a_change_that_was_admitted_is_answered_again(
    server: LabServer, client: RawClient, make_client: MakeClient
) -> None:
    """Though by now it would not be."""
    client.ask(Create(ROOT_INO, b"root", S_IFDIR | 0o755, 0, 0))
    below = make_client(server, root_path=b"root")
    mine = below.ask(Create(below.welcome.root_ino, b"mine", S_IFDIR | 0o755, 0, 0))
    inner = below.ask(Create(mine.ino, b"inner", S_IFDIR | 0o755, 0, 0))
    below.ask(RemoveDirectory(mine.ino, b"inner"))
    client.ask(RemoveDirectory(below.welcome.root_ino, b"mine"))
    below.break_off()
    below.connect()
    assert below.ask(RemoveDirectory(mine.ino, b"inner"), sequence=3).ino == inner.ino


def test_a_repetition_tells_nothing_of_other_directories(
    server: LabServer, client: RawClient, make_client: MakeClient
) -> None:
    client.ask(Create(ROOT_INO, b"root", S_IFDIR | 0o755, 0, 0))
    below = make_client(server, root_path=b"root", takes_leases=True)
    made = Create(below.welcome.root_ino, b"mine", S_IFREG | 0o644, 0, 0)
    below.ask(made)
    frame = pb.ClientFrame()
    below.add_request(frame, made, 1)
    below.add_request(frame, Create(ROOT_INO, b"mine", S_IFREG | 0o644, 0, 0), 1)
    below.send(frame)
    answers: list[pb.Answer] = []
    while len(answers) < 2:
        received = below.next_frame()
        assert received is not None
        answers += received.answers
    assert [[directory.ino for directory in answer.directories] for answer in answers] == [[], []]


@pytest.mark.parametrize(
    ("request_", "errno"),
    [
        (Create(ROOT_INO, b"a/b", S_IFREG, 0, 0), EINVAL),
        (Create(ROOT_INO, b"..", S_IFREG, 0, 0), EINVAL),
        (Create(ROOT_INO, b"x" * 256, S_IFREG, 0, 0), ENAMETOOLONG),
        (Create(ROOT_INO, b"x", 0o170000, 0, 0), EINVAL),
        (GetAttributes(0), EINVAL),
        (GetAttributes(1 << 63), EINVAL),
    ],
)
def test_nonsense_is_refused(client: RawClient, request_: Any, errno: int) -> None:
    assert errno_of(client, request_) == errno
