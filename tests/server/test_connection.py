"""The client's connection against a scripted server: answers, breaks, restarts, silence, refusals."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from errno import EINTR, EIO, ENOENT
from pathlib import Path
from typing import Any

import grpc
import pytest

from loligo_client.shell import connection as module
from loligo_client.shell.connection import Connection
from loligo_client.shell.server_source import ServerError
from loligo_client.shell.wire import Tls
from loligo_lab.certificates import Authority
from loligo_mds.core.events import Hold
from loligo_mds.core.requests import Close, Create, GetAttributes, Open, SetXattr, Unlink
from loligo_wire.attributes import Attributes
from loligo_wire.v1 import loligo_pb2 as pb
from server.scripted_server import SECRET, SESSION, WINDOW, ScriptedServer

PATIENCE_S = 10.0


def until(what: str, condition: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + PATIENCE_S
    while not (found := condition()):
        assert time.monotonic() < deadline, f"waited in vain for: {what}"
        time.sleep(0.005)
    return found


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    server = ScriptedServer()
    try:
        yield server
    finally:
        server.close()


class Clients:
    def __init__(self) -> None:
        self.all: list[Connection] = []

    def connect(
        self, *servers: ScriptedServer, timeout_s: float = 20.0, tls: Tls | None = None, **hello: Any
    ) -> Connection:
        addresses = [server.address for server in servers]
        connection = Connection(addresses, pb.Hello(volume="v", **hello), tls=tls, timeout_s=timeout_s)
        self.all.append(connection)
        connection.connect()
        return connection


@pytest.fixture
def clients() -> Iterator[Clients]:
    clients = Clients()
    try:
        yield clients
    finally:
        for connection in clients.all:
            connection.close()


@pytest.fixture
def short_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FIRST_CONNECT_S", 0.3)


def create(name: str) -> Create:
    return Create(1, name.encode(), 0o100644, 0, 0)


def errno_of(answer: Future[Any]) -> int | None:
    error = answer.exception(PATIENCE_S)
    assert isinstance(error, OSError)
    return error.errno


def test_a_session_begins_with_hello_and_ends_with_goodbye(server: ScriptedServer, clients: Clients) -> None:
    connection = clients.connect(server, host="here", read_only=True)
    hello = server.hellos[0]
    assert (hello.volume, hello.host, hello.read_only, hello.session) == ("v", "here", True, 0)
    assert hello.protocol_min <= module.PROTOCOL <= hello.protocol_max
    connection.close()
    assert server.goodbyes == 1
    with pytest.raises(OSError, match="closed"):
        connection.ask(GetAttributes(1))


def test_answers_and_refusals_come_through_futures(server: ScriptedServer, clients: Clients) -> None:
    connection = clients.connect(server)
    assert connection.ask(GetAttributes(5)).result(PATIENCE_S).ino == 5
    assert connection.ask(create("a")).result(PATIENCE_S).ino == 101
    assert errno_of(connection.ask(Unlink(1, b"b"))) == ENOENT
    connection.sync()
    assert connection.ask(Open(7)).result(PATIENCE_S).attributes.ino == 7
    assert [sequence for sequence, _ in server.applied] == [1, 2]
    until(
        "an acknowledgement", lambda: connection.ask(GetAttributes(5)).result(PATIENCE_S) and server.acknowledged == 2
    )


def test_what_is_asked_together_goes_in_few_frames(server: ScriptedServer, clients: Clients) -> None:
    """Together is what is asked before the connection's thread looks again: here, in the callback of one answer."""
    connection = clients.connect(server)
    answers: list[Future[Any]] = []
    frames: list[int] = []

    def ask_all(_: Future[Any]) -> None:
        frames.append(server.frames)
        answers.extend(connection.ask(create(f"n{number}")) for number in range(16 * WINDOW))

    heeded = threading.Event()
    server.loses_before = lambda: not heeded.wait(PATIENCE_S)
    connection.ask(GetAttributes(5)).add_done_callback(ask_all)
    heeded.set()
    until("all is asked", lambda: len(answers) == 16 * WINDOW)
    assert [answer.result(PATIENCE_S).ino for answer in answers] == list(range(101, 101 + 16 * WINDOW))
    assert server.frames - frames[0] == 16


def test_a_callback_may_ask_on(server: ScriptedServer, clients: Clients) -> None:
    connection = clients.connect(server)
    done: Future[int] = Future()

    def step(answer: Future[Any]) -> None:
        ino = answer.result().ino
        if ino < 150:
            connection.ask(create("x")).add_done_callback(step)
        else:
            done.set_result(ino)

    connection.ask(create("x")).add_done_callback(step)
    assert done.result(PATIENCE_S) == 150


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_request_whose_connection_broke_is_applied_once_and_answered(
    server: ScriptedServer, clients: Clients, moment: str
) -> None:
    connection = clients.connect(server)
    lost = []

    def loses() -> bool:
        lost.append(1)
        return len(lost) == 1

    if moment == "before":
        server.loses_before = loses
    else:
        server.loses_after = loses
    answers = [connection.ask(create(str(number))) for number in range(3)]
    assert [answer.result(PATIENCE_S).ino for answer in answers] == [101, 102, 103]
    assert [sequence for sequence, _ in server.applied] == [1, 2, 3]
    assert (server.hellos[1].session, server.hellos[1].secret) == (SESSION, SECRET)


def test_connections_that_break_all_the_time_lose_and_double_nothing(server: ScriptedServer, clients: Clients) -> None:
    connection = clients.connect(server)
    frames = [0]

    def loses() -> bool:
        frames[0] += 1
        return frames[0] % 7 == 0

    server.loses_before = server.loses_after = loses
    asking = [
        threading.Thread(target=lambda: [connection.ask(create("x")).result(60) for _ in range(30)]) for _ in "abcd"
    ]
    for thread in asking:
        thread.start()
    for thread in asking:
        thread.join()
    sequences = [sequence for sequence, _ in server.applied]
    assert sequences == list(range(1, 121))
    assert len(server.hellos) > 5


def test_calls_wait_for_a_server_that_is_away_and_go_on(server: ScriptedServer, clients: Clients) -> None:
    connection = clients.connect(server)
    server.stop()
    until("notice that the server is away", lambda: connection.is_away)
    answers = [connection.ask(create("a")), connection.ask(GetAttributes(3))]
    assert not wait(answers, 0.3).done
    server.start()
    assert answers[0].result(PATIENCE_S).ino == 101
    assert answers[1].result(PATIENCE_S).ino == 3
    assert not connection.is_away


def test_a_server_that_is_away_for_too_long_is_an_eio_and_the_call_never_happens(
    server: ScriptedServer, clients: Clients
) -> None:
    connection = clients.connect(server, timeout_s=0.5)
    server.stop()
    until("notice that the server is away", lambda: connection.is_away)
    began = time.monotonic()
    assert errno_of(connection.ask(create("a"))) == EIO
    assert 0.4 < time.monotonic() - began < 3
    server.start()
    until("the server to be back", lambda: not connection.is_away)
    assert connection.ask(create("b")).result(PATIENCE_S).ino == 101
    assert [request.name for _, request in server.applied] == [b"b"]


def test_who_is_interrupted_while_the_server_is_away_is_let_go(server: ScriptedServer, clients: Clients) -> None:
    connection = clients.connect(server)
    server.ignored.add(GetAttributes)
    there = connection.ask(GetAttributes(1))
    until("the request to arrive", lambda: server.asked)
    connection.let_go(there)
    assert not wait([there], 0.2).done, "the server is there: its answer is worth waiting for"
    server.stop()
    until("notice that the server is away", lambda: connection.is_away)
    away = connection.ask(create("a"))
    for answer in (there, away):
        connection.let_go(answer)
        assert errno_of(answer) == EINTR
    server.start()
    assert connection.ask(create("b")).result(PATIENCE_S).ino == 101
    assert [request.name for _, request in server.applied] == [b"b"]


def test_a_close_is_not_sent_again_behind_what_is_stated(server: ScriptedServer, clients: Clients) -> None:
    """What is open would be closed once too often, if it was opened again meanwhile."""
    connection = clients.connect(server)
    server.ignored.add(Close)
    sent = connection.ask(Close(9))
    until("the Close to arrive", lambda: Close(9) in server.asked)
    server.stop()
    until("notice that the server is away", lambda: connection.is_away)
    waiting = connection.ask(Close(8))
    connection.holds = lambda: [Hold(7, 1, writes=True)]
    opening = connection.ask(Open(9))
    server.start()
    assert opening.result(PATIENCE_S).attributes.ino == 9
    assert sent.result(PATIENCE_S) is None and waiting.result(PATIENCE_S) is None
    assert [request for request in server.asked if isinstance(request, Close)] == [Close(9)]
    assert [hold.ino for hold in server.holds] == [7]


def test_the_server_is_told_what_is_open_before_anything_else(server: ScriptedServer, clients: Clients) -> None:
    connection = clients.connect(server)
    connection.holds = lambda: [Hold(number, 1, writes=True) for number in range(1, 10_001)]
    connection.tell_fence(["10.0.0.1:0/7"])
    until("the fence", lambda: server.fences == [["10.0.0.1:0/7"]])
    server.lose_connections()
    until("another connection", lambda: len(server.hellos) == 2)
    connection.ask(GetAttributes(1)).result(PATIENCE_S)
    assert [hold.ino for hold in server.holds] == list(range(1, 10_001))
    assert server.fences == [["10.0.0.1:0/7"]] * 2


def test_a_server_that_does_not_answer_heartbeats_is_taken_for_dead(clients: Clients) -> None:
    server = ScriptedServer(heartbeat_ms=100)
    try:
        connection = clients.connect(server, timeout_s=1.0)
        time_of_life = time.monotonic() + 0.5
        until("some heartbeats", lambda: server.frames > 3 and time.monotonic() > time_of_life)
        assert len(server.hellos) == 1 and not connection.is_away
        server.is_silent = True
        until("notice that the server is away", lambda: connection.is_away)
        until("another try", lambda: len(server.hellos) >= 2)
        server.is_silent = False
        server.lose_connections()
        until("the server to be back", lambda: not connection.is_away)
        connection.close()
    finally:
        server.close()


def test_notices_reach_who_listens(server: ScriptedServer, clients: Clients) -> None:
    connection = clients.connect(server)
    heard: list[Any] = []
    connection.on_recall = heard.append
    connection.on_resume = lambda attributes: heard.append((attributes.ino, attributes.size))
    server.recall(5)
    server.resume(Attributes(5, 0o100644, size=17))
    until("two notices", lambda: len(heard) == 2)
    assert heard == [5, (5, 17)]


def test_a_listener_that_fails_does_not_cost_the_connection(
    server: ScriptedServer, clients: Clients, caplog: pytest.LogCaptureFixture
) -> None:
    connection = clients.connect(server)

    def fail(ino: int) -> None:
        raise RuntimeError("a bug")

    connection.on_recall = fail
    server.recall(5)
    until("a word in the log", lambda: "not heeded" in caplog.text)
    assert connection.ask(GetAttributes(1)).result(PATIENCE_S).ino == 1
    assert len(server.hellos) == 1


def test_a_session_that_the_server_does_not_know_any_more_is_gone_for_good(
    server: ScriptedServer, clients: Clients
) -> None:
    connection = clients.connect(server)
    gone: list[str] = []
    connection.on_gone = gone.append
    server.stop()
    until("notice that the server is away", lambda: connection.is_away)
    waiting = connection.ask(create("a"))
    server.refusal = pb.Refusal(reason=pb.Refusal.SESSION_GONE, text="expired")
    server.start()
    assert errno_of(waiting) == EIO
    until("the news", lambda: gone == ["expired"])
    with pytest.raises(OSError, match="expired"):
        connection.ask(create("b"))
    assert server.applied == []


def test_another_refusal_of_a_session_that_exists_is_tried_again(server: ScriptedServer, clients: Clients) -> None:
    connection = clients.connect(server)
    server.refusal = pb.Refusal(reason=pb.Refusal.BUSY, text="later")
    server.lose_connections()
    until("some tries", lambda: len(server.hellos) >= 3)
    server.refusal = None
    assert connection.ask(create("a")).result(PATIENCE_S).ino == 101


def test_the_first_connection_fails_with_what_the_server_says(server: ScriptedServer, clients: Clients) -> None:
    server.refusal = pb.Refusal(reason=pb.Refusal.NO_SUCH_VOLUME, text="no volume is called v")
    with pytest.raises(ServerError, match=f"{server.address} refuses: no volume is called v"):
        clients.connect(server)


def test_the_first_connection_fails_soon_when_nobody_is_there(
    server: ScriptedServer, clients: Clients, short_patience: None
) -> None:
    server.stop()
    with pytest.raises(ServerError, match=f"no metadata server answers: {server.address}: connection refused; is"):
        clients.connect(server)


def test_another_address_takes_over(clients: Clients) -> None:
    first, second = ScriptedServer(), ScriptedServer()
    try:
        first.stop()
        connection = clients.connect(first, second)
        assert connection.ask(create("a")).result(PATIENCE_S).ino == 101
        assert connection.address == second.address
        first.start()
        second.stop()
        assert connection.ask(GetAttributes(4)).result(PATIENCE_S).ino == 4
        assert first.hellos[0].session == SESSION
        connection.close()
    finally:
        first.close()
        second.close()


# -- TLS --------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def tls_server(authority: Authority) -> Iterator[ScriptedServer]:
    pair = authority.sign("server", "IP:127.0.0.1")
    server = ScriptedServer(
        credentials=grpc.ssl_server_credentials(
            [(pair.key.read_bytes(), pair.cert.read_bytes())],
            root_certificates=authority.cert.read_bytes(),
            require_client_auth=True,
        )
    )
    try:
        yield server
    finally:
        server.close()


def test_both_ends_show_certificates(tls_server: ScriptedServer, authority: Authority, clients: Clients) -> None:
    pair = authority.sign("client")
    connection = clients.connect(tls_server, tls=Tls(str(authority.cert), str(pair.cert), str(pair.key)))
    assert connection.ask(create("a")).result(PATIENCE_S).ino == 101
    tls_server.lose_connections()
    assert connection.ask(create("b")).result(PATIENCE_S).ino == 102


def test_a_client_without_a_certificate_is_not_let_in(
    tls_server: ScriptedServer, authority: Authority, clients: Clients, short_patience: None
) -> None:
    with pytest.raises(ServerError, match="cert= and key="):
        clients.connect(tls_server, tls=Tls(str(authority.cert)))
    assert tls_server.hellos == []


def test_a_client_without_tls_is_not_let_in(tls_server: ScriptedServer, clients: Clients, short_patience: None) -> None:
    with pytest.raises(ServerError, match="if it wants TLS, give ca=, cert= and key="):
        clients.connect(tls_server)
    assert tls_server.hellos == []


def test_a_server_that_calls_itself_something_else_is_told_nothing(
    authority: Authority, clients: Clients, short_patience: None
) -> None:
    pair = authority.sign("elsewhere", "DNS:elsewhere.example")
    credentials = grpc.ssl_server_credentials([(pair.key.read_bytes(), pair.cert.read_bytes())])
    server = ScriptedServer(credentials=credentials)
    try:
        with pytest.raises(ServerError, match="certificate is not good"):
            clients.connect(server, tls=Tls(str(authority.cert)))
        assert server.hellos == []
    finally:
        server.close()


def test_a_server_without_tls_is_told_nothing_by_a_client_that_wants_it(
    server: ScriptedServer, authority: Authority, clients: Clients, short_patience: None
) -> None:
    with pytest.raises(ServerError, match="does not speak TLS"):
        clients.connect(server, tls=Tls(str(authority.cert)))
    assert server.hellos == []


def test_a_server_that_another_authority_vouches_for_is_told_nothing(
    tls_server: ScriptedServer, tmp_path: Path, clients: Clients, short_patience: None
) -> None:
    other = Authority(tmp_path)
    with pytest.raises(ServerError, match="certificate is not good"):
        clients.connect(tls_server, tls=Tls(str(other.cert)))
    assert tls_server.hellos == []


def test_a_value_that_no_message_holds_fails_alone(server: ScriptedServer, clients: Clients) -> None:
    connection = clients.connect(server)
    with pytest.raises(OSError, match="cannot be asked"):
        connection.ask(GetAttributes(-1))
    good = connection.ask(GetAttributes(1))
    assert good.result(PATIENCE_S).ino == 1


def test_requests_larger_than_all_windows_arrive(server: ScriptedServer, clients: Clients) -> None:
    connection = clients.connect(server)
    values = [bytes([number]) * 65536 for number in range(100)]
    answers = [connection.ask(SetXattr(1, b"user.x", value)) for value in values]
    for answer in answers:
        answer.result(PATIENCE_S)
    assert [request.value for _, request in server.applied] == values


def test_requests_larger_than_all_windows_arrive_through_tls(
    tls_server: ScriptedServer, authority: Authority, clients: Clients
) -> None:
    pair = authority.sign("client")
    connection = clients.connect(tls_server, tls=Tls(str(authority.cert), str(pair.cert), str(pair.key)))
    answers = [connection.ask(SetXattr(1, b"user.x", bytes(65536))) for _ in range(100)]
    for answer in answers:
        answer.result(PATIENCE_S)
    assert len(tls_server.applied) == 100
