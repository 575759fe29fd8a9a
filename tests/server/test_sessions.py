"""A session outlives connections and servers, applies each change once, and ends when it must."""

import json
import os
import signal
import time
from collections.abc import Callable
from errno import EINVAL, ENOENT
from pathlib import Path
from stat import S_IFDIR, S_IFREG

import pytest

from loligo_lab.mounts import assert_sound
from loligo_lab.processes import wait_until
from loligo_lab.raw_client import RawClient, Refused, StreamEnded
from loligo_lab.serving import LabServer
from loligo_mds.core.codec import Sync
from loligo_mds.core.events import Hold
from loligo_mds.core.requests import (
    Claim,
    Close,
    Create,
    GetAttributes,
    GetUsage,
    Lookup,
    Open,
    Publish,
    Release,
    Unlink,
    Yielded,
)
from loligo_runtime.volume import Volume
from loligo_wire.ids import ROOT_INO
from loligo_wire.v1 import loligo_pb2 as pb

MakeServer = Callable[..., LabServer]
MakeClient = Callable[..., RawClient]


def new_file(name: bytes, hold: bool = False) -> Create:
    return Create(ROOT_INO, name, S_IFREG | 0o644, 0, 0, hold=hold)


# -- connections come and go ----------------------------------------------------------------------------------------


def test_a_session_goes_on_with_another_connection(server: LabServer, client: RawClient) -> None:
    session = client.welcome.session
    file = client.ask(new_file(b"f", hold=True))
    client.break_off()
    client.connect([Hold(file.ino, 1, writes=True)])
    assert client.welcome.resumed and client.welcome.session == session
    client.ask(Unlink(ROOT_INO, b"f"))
    assert client.ask(GetAttributes(file.ino)).nlink == 0
    client.ask(Close(file.ino))
    with pytest.raises(FileNotFoundError):
        client.ask(GetAttributes(file.ino))


def test_what_is_not_stated_again_is_closed(server: LabServer, client: RawClient) -> None:
    file = client.ask(new_file(b"f", hold=True))
    client.ask(Unlink(ROOT_INO, b"f"), acknowledged=client.sequence)
    client.ask(GetUsage())
    client.break_off()
    client.connect()
    client.ask(Create(ROOT_INO, b"d", S_IFDIR | 0o755, 0, 0), acknowledged=client.sequence)
    with pytest.raises(FileNotFoundError):
        client.ask(GetAttributes(file.ino))


def test_an_older_connection_of_the_session_is_closed(
    server: LabServer, client: RawClient, make_client: MakeClient
) -> None:
    again = make_client(server, connect=False)
    again.hello.CopyFrom(client.hello)
    again.connect()
    assert again.welcome.resumed
    assert "another connection" in client.wait_for_refusal().text
    assert again.ask(GetAttributes(ROOT_INO)).is_directory


def test_a_secret_is_needed_to_come_back(server: LabServer, client: RawClient, make_client: MakeClient) -> None:
    thief = make_client(server, connect=False, session=client.welcome.session, secret=b"x" * 16)
    with pytest.raises(Refused) as refused:
        thief.connect()
    assert refused.value.reason == pb.Refusal.SESSION_GONE
    assert client.ask(GetAttributes(ROOT_INO)).is_directory


def test_an_unknown_session_is_gone(server: LabServer, make_client: MakeClient) -> None:
    with pytest.raises(Refused) as refused:
        make_client(server, session=12345, secret=b"x" * 16)
    assert refused.value.reason == pb.Refusal.SESSION_GONE
    assert "mount again" in refused.value.text


def test_nothing_may_be_asked_before_what_is_open_was_stated(server: LabServer, client: RawClient) -> None:
    client.break_off()
    client.open()
    client.send(pb.ClientFrame(hello=client.hello))
    client.next_frame()
    client.begin([GetAttributes(ROOT_INO)])
    assert "stated what is open" in client.wait_for_refusal().text


def test_a_new_session_states_nothing(server: LabServer, client: RawClient) -> None:
    client.restate([])
    assert client.wait_for_refusal().reason == pb.Refusal.PROTOCOL


def test_goodbye_ends_the_session(server: LabServer, client: RawClient) -> None:
    client.ask(new_file(b"f"))
    client.goodbye()
    with pytest.raises(Refused) as refused:
        client.connect()
    assert refused.value.reason == pb.Refusal.SESSION_GONE


# -- exactly once ---------------------------------------------------------------------------------------------------


def test_a_request_sent_again_is_answered_as_the_first_time(server: LabServer, client: RawClient) -> None:
    first = client.ask(new_file(b"f"))
    again = client.ask(new_file(b"f"), sequence=client.sequence)
    assert again == first
    with pytest.raises(FileExistsError):
        client.ask(new_file(b"f"))


def test_a_resend_after_kill_9_is_applied_once(server: LabServer, client: RawClient) -> None:
    """Answered, or only journaled: the same number gets the same answer."""
    changes = [new_file(b"a"), Unlink(ROOT_INO, b"missing"), new_file(b"b", hold=True), Unlink(ROOT_INO, b"a")]
    answers = client.ask_all(changes, sequence=1)
    client.sequence = 4
    before = client.ask(GetUsage())
    server.kill()
    client.break_off()
    server.start()
    client.connect()
    assert client.welcome.resumed
    again = client.ask_all(changes, sequence=1)
    assert [type(answer) for answer in again] == [type(answer) for answer in answers]
    assert again[0] == answers[0] and again[2:] == answers[2:]
    assert again[1].errno == answers[1].errno == ENOENT
    assert client.ask(GetUsage()) == before
    client.ask(Close(answers[2].ino))  # its answer came again, so the session has it open


@pytest.mark.parametrize("point", ["journal.append.before", "journal.append.after", "driver.step.journaled"])
def test_a_server_that_dies_inside_a_change(
    make_server: MakeServer, make_client: MakeClient, point: str, volume: Volume
) -> None:
    server = make_server()
    client = make_client(server)
    client.ask(new_file(b"first"))
    session = client.hello.session
    server.kill()
    client.break_off()
    server.start(LOLIGO_FAILPOINT=f"{point}:1")  # starting and coming back make no record, the change is the first
    client.connect()
    asked = client.begin([new_file(b"second")])
    with pytest.raises(StreamEnded):
        client.finish(asked)
    wait_until(lambda: not server.is_running, "the server died")
    client.break_off()
    server.kill()
    server.start()
    client.connect()
    assert client.welcome.session == session
    made = client.ask(new_file(b"second"), sequence=client.sequence)
    assert client.ask(Lookup(ROOT_INO, b"second")) == made
    assert client.ask(GetUsage()).inodes == 3


def test_what_was_synced_and_acknowledged_is_there_after_kill_9(server: LabServer, client: RawClient) -> None:
    names = [b"file-%d" % number for number in range(200)]
    for start in range(0, 200, 50):
        client.ask_all([new_file(name) for name in names[start : start + 50]], acknowledged=client.sequence)
    assert client.ask(Sync()) is None
    server.kill()
    client.break_off()
    server.start()
    client.connect()
    assert all(client.ask_all([Lookup(ROOT_INO, name) for name in names]))
    with pytest.raises(OSError) as refused:
        client.ask(new_file(names[0]), sequence=1)
    assert refused.value.errno == EINVAL  # it was acknowledged, so its answer is forgotten


# -- the end --------------------------------------------------------------------------------------------------------


def test_a_silent_session_ends_and_lets_go(make_server: MakeServer, make_client: MakeClient) -> None:
    server = make_server("--session-expiry", "1.5")
    silent, other = make_client(server), make_client(server)
    assert silent.welcome.expiry_ms == 1500
    file = silent.ask(new_file(b"f", hold=True))
    silent.ask(Unlink(ROOT_INO, b"f"))
    began_s = time.monotonic()
    wait_until(lambda: other.is_gone(file.ino), "what it had open is gone")
    assert 1.0 < time.monotonic() - began_s < 4.0
    refused = silent.wait_for_refusal()
    assert refused.reason == pb.Refusal.SESSION_GONE and "silent" in refused.text
    silent.break_off()
    with pytest.raises(Refused) as again:
        silent.connect()
    assert again.value.reason == pb.Refusal.SESSION_GONE


def test_a_heartbeat_keeps_a_session(make_server: MakeServer, make_client: MakeClient) -> None:
    server = make_server("--session-expiry", "1")
    client = make_client(server)
    end_s = time.monotonic() + 3
    while time.monotonic() < end_s:
        client.heartbeat()
        time.sleep(client.welcome.heartbeat_ms / 1000)
    assert client.ask(GetAttributes(ROOT_INO)).is_directory


def test_a_stopped_server_blames_nobody(make_server: MakeServer, make_client: MakeClient) -> None:
    """Who was asleep heard nobody."""
    server = make_server("--session-expiry", "2")
    client = make_client(server)
    os.kill(server.pid, signal.SIGSTOP)
    time.sleep(3)
    os.kill(server.pid, signal.SIGCONT)
    assert client.ask(GetAttributes(ROOT_INO)).is_directory
    wait_until(lambda: "busy, or stopped" in server.log(), "it says why it asked for nobody")


def test_sessions_survive_a_restart_and_have_the_full_time_to_come_back(
    make_server: MakeServer, make_client: MakeClient
) -> None:
    server = make_server("--session-expiry", "2")
    stays, goes = make_client(server), make_client(server)
    mine = stays.ask(new_file(b"mine", hold=True))
    theirs = goes.ask(new_file(b"theirs", hold=True))
    stays.ask_all([Unlink(ROOT_INO, b"mine"), Unlink(ROOT_INO, b"theirs")])
    time.sleep(1.2)
    for client in (stays, goes):
        client.heartbeat()
    server.stop()
    for client in (stays, goes):
        assert client.wait_for_refusal().reason == pb.Refusal.BUSY
        client.break_off()
    server.start()
    time.sleep(1.2)  # more than what was left before the restart
    stays.connect([Hold(mine.ino, 1, writes=True)])
    # The other one may still come back, so what it had open is still there.
    assert stays.ask_all([GetAttributes(theirs.ino)])[0].nlink == 0
    wait_until(lambda: stays.is_gone(theirs.ino), "the other session ended")
    assert stays.ask(GetAttributes(mine.ino)).nlink == 0


def test_no_session_survives_a_loss_of_power(server: LabServer, client: RawClient, volume: Volume) -> None:
    """What the client was told last may be lost. The machine's start is written in the lock file: make it another one."""
    client.ask(new_file(b"f"))
    server.kill()
    client.break_off()
    lock = Path(volume.shard_folder) / "lock"
    note = json.loads(lock.read_text())
    lock.write_text(json.dumps({**note, "boot": "another"}).ljust(len(lock.read_text())))
    server.start()
    assert "lost power: 1 sessions of before have ended" in server.log()
    with pytest.raises(Refused) as refused:
        client.connect()
    assert refused.value.reason == pb.Refusal.SESSION_GONE
    server.stop()
    assert_sound(volume)


def test_files_that_two_have_open_are_shared_by_recall(
    server: LabServer, client: RawClient, make_client: MakeClient
) -> None:
    other = make_client(server)
    file = client.ask(new_file(b"f", hold=True))
    opening = other.begin([Open(file.ino, writes=True)])
    client.wait_for_notice("recall", file.ino)
    assert not other.is_answered(opening[0])
    client.ask_all([Publish(file.ino, 3, 1, b"abc"), Yielded(file.ino)])
    opened = other.finish(opening)[0]
    assert opened.contended and opened.attributes.size == 3
    client.wait_for_notice("resume", file.ino)


def test_an_answer_for_an_older_connection_is_not_given_to_the_new_one(
    server: LabServer, client: RawClient, make_client: MakeClient
) -> None:
    """Ids begin anew: the answer to an Open that waited must not be taken for that of another request."""
    other = make_client(server)
    file = client.ask(new_file(b"f", hold=True))
    waits = other.begin([Open(file.ino, writes=True)])
    client.wait_for_notice("recall", file.ino)
    assert waits == [1]
    other.break_off()
    other.connect()
    again = other.begin([Open(file.ino, writes=True)])
    assert again == [1]
    client.ask(Yielded(file.ino))
    assert other.finish(again)[0].contended
    other.heartbeat()
    assert not other._answers


def test_nobody_is_told_of_a_file_before_he_has_stated_it(
    server: LabServer, client: RawClient, make_client: MakeClient
) -> None:
    """To resume what is stated as quiet right behind it: shard and client would believe different things."""
    other = make_client(server)
    file = client.ask(new_file(b"f", hold=True))
    opening = other.begin([Open(file.ino, writes=True)])
    client.wait_for_notice("recall", file.ino)
    client.ask(Yielded(file.ino))
    other.finish(opening)
    client.wait_for_notice("resume", file.ino)
    claiming = other.begin([Claim(file.ino)])
    client.wait_for_notice("recall", file.ino)
    client.ask(Yielded(file.ino))
    other.finish(claiming)

    client.break_off()
    client.open()
    client.send(pb.ClientFrame(hello=client.hello))
    welcome = client.next_frame()
    assert welcome is not None and welcome.welcome.resumed
    other.ask(Release(file.ino))
    client.heartbeat()
    assert client.notices == []
    client.restate([Hold(file.ino, 1, writes=True, contended=True, quiet=True)])
    client.heartbeat()
    assert client.notices == [("resume", file.ino)]
