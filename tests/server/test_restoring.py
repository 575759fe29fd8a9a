"""A server that dies while something is thrown away, or restored: nothing is lost, and who asks again has it all."""

import contextlib
from collections.abc import Callable
from errno import ENOTEMPTY

import pytest

from loligo_lab.mounts import assert_sound
from loligo_lab.processes import ProcessFailed, wait_until
from loligo_lab.raw_client import RawClient, StreamEnded
from loligo_lab.serving import LabServer
from loligo_mds.core.requests import (
    Create,
    FillIn,
    GetUsage,
    Lookup,
    ReadDirectory,
    RemoveDirectory,
    RemoveTree,
    Restore,
    SetXattr,
    Unlink,
)
from loligo_runtime.volume import Volume
from loligo_trash.policy import MINIMUM_AGE_NAME
from loligo_wire.ids import ROOT_INO

MakeServer = Callable[..., LabServer]
MakeClient = Callable[..., RawClient]
R = int(ROOT_INO)
FILES = 30
POINTS = ["driver.step.before", "driver.step.journaled", "driver.reply.before"]
PID = 7


def make_tree(client: RawClient) -> int:
    client.ask(SetXattr(R, MINIMUM_AGE_NAME, b"0"))
    top: int = client.ask(Create(R, b"top", 0o40750, 5, 6)).ino
    for number in range(FILES):
        client.ask(Create(top, b"%d" % number, 0o100644, 5, 6))
    return top


def remove_all(client: RawClient, top: int) -> None:
    """As rm -rf does."""
    for number in range(FILES):
        client.ask(Unlink(top, b"%d" % number, 0, PID))
    client.ask(RemoveDirectory(R, b"top", 0, PID))


def restore_all(client: RawClient, top: int) -> None:
    """From wherever somebody has stopped."""
    while client.ask(Lookup(R, b"top")) is None:
        try:
            client.ask(Restore(1, R, b"top", R, b"top"))
        except OSError as error:
            assert error.errno == ENOTEMPTY
            client.ask(FillIn(1, top))


def dies(server: LabServer, client: RawClient, work: Callable[[], object]) -> None:
    with contextlib.suppress(StreamEnded):
        client.connect()
        work()
    client.break_off()
    wait_until(lambda: not server.is_running, "it dies")
    server.kill()


def assert_all_is_there(client: RawClient, top: int) -> None:
    found = client.ask(Lookup(R, b"top"))
    assert (found.ino, found.mode & 0o7777, found.uid, found.gid) == (top, 0o750, 5, 6)
    assert {entry[0] for entry in client.ask(ReadDirectory(top, 0, 100))} == {b"%d" % number for number in range(FILES)}
    usage = client.ask(GetUsage())
    assert (usage.inodes, usage.trash_inodes, usage.trash_bytes) == (2 + FILES, 0, 0)


@pytest.mark.parametrize("point", POINTS)
def test_killed_while_a_tree_is_thrown_away(
    make_server: MakeServer, make_client: MakeClient, volume: Volume, point: str
) -> None:
    server = make_server()
    client = make_client(server)
    top = make_tree(client)
    client.goodbye()
    server.stop()
    with contextlib.suppress(ProcessFailed):
        server.start(LOLIGO_FAILPOINT=f"{point}:2")  # the first step is the session's
        client = make_client(server, connect=False)
        dies(server, client, lambda: client.ask(RemoveTree(R, b"top", 0, PID, b"label")))
    server.kill()

    server.start()
    client = make_client(server)
    if client.ask(Lookup(R, b"top")) is None:
        client.ask(Restore(1, R, b"top", R, b"top"))
    assert_all_is_there(client, top)
    client.goodbye()
    server.stop()
    assert_sound(volume)


@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize("step", [2, 3])
def test_killed_while_a_tree_is_restored(
    make_server: MakeServer, make_client: MakeClient, volume: Volume, point: str, step: int
) -> None:
    server = make_server()
    client = make_client(server)
    top = make_tree(client)
    remove_all(client, top)
    client.goodbye()
    server.stop()
    with contextlib.suppress(ProcessFailed):
        server.start(LOLIGO_FAILPOINT=f"{point}:{step}")
        client = make_client(server, connect=False)
        dies(server, client, lambda: restore_all(client, top))
    server.kill()

    server.start()
    client = make_client(server)
    restore_all(client, top)
    assert_all_is_there(client, top)
    client.goodbye()
    server.stop()
    assert_sound(volume)
