"""What operators see and do: status, sessions, eviction, metrics, logs."""

import json
import logging
import os
import re
import stat
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from grpc._cython import cygrpc

from cli.command_line import CommandLine
from loligo_lab.processes import wait_until
from loligo_lab.raw_client import RawClient, Refused
from loligo_lab.serving import LabServer
from loligo_mds.core.codec import Sync
from loligo_mds.core.requests import Create, GetAttributes, Lookup, SetLock, Unlink
from loligo_mds.shell.server import GRPC_LOG, is_of_interest
from loligo_runtime.state_folder import state_folder
from loligo_runtime.volume import Volume
from loligo_wire.ids import ROOT_INO
from loligo_wire.v1 import loligo_pb2 as pb

MakeServer = Callable[..., LabServer]
MakeClient = Callable[..., RawClient]


@pytest.fixture
def cli(tmp_path: Path) -> Iterator[CommandLine]:
    line = CommandLine(tmp_path)
    yield line
    line.clean_up()


def socket_of(volume: Volume) -> Path:
    return state_folder(os.geteuid()) / f"serve-{volume.uuid[:8]}.sock"


def sessions(cli: CommandLine) -> dict[str, dict[str, object]]:
    """Of the server of this test; others may run beside it."""
    listed = json.loads(cli.run("session", "list", "--json").stdout)
    return {row["session"]: row for row in listed}


def metrics(server: LabServer) -> dict[str, float]:
    with urllib.request.urlopen(f"http://127.0.0.1:{server.metrics_port}/metrics", timeout=10) as page:
        text = page.read().decode()
    return {
        name: float(value)
        for name, value in (line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    }


# -- status and sessions --------------------------------------------------------------------------------------------


def test_status_shows_the_server(cli: CommandLine, server: LabServer, client: RawClient, volume: Volume) -> None:
    client.ask(Create(ROOT_INO, b"f", 0o100644, 0, 0))
    shown = [row for row in json.loads(cli.run("status", "--json").stdout) if row.get("pid") == server.pid]
    assert len(shown) == 1
    row = shown[0]
    assert (row["volume"], row["meta"], row["listen"]) == ("lab", volume.meta_url, server.address)
    assert (row["sessions"], row["sessions_connected"], row["inodes"]) == (1, 1, 2)
    assert row["metrics"] == f"127.0.0.1:{server.metrics_port}"
    assert row["memory_bytes"] < 200 << 20
    text = cli.run("status").stdout
    assert f"server of lab on {server.address}: up" in text and str(server.pid) in text


def test_sessions_are_listed(cli: CommandLine, server: LabServer, make_client: MakeClient) -> None:
    client = make_client(server, host="node7", mounted_on="/mnt/work", read_only=True)
    other = make_client(server)
    file = other.ask(Create(ROOT_INO, b"f", 0o100644, 0, 0, hold=True))
    other.ask(GetAttributes(file.ino))
    listed = sessions(cli)
    first = listed[f"{client.welcome.session:016x}"]
    assert (first["host"], first["mounted_on"], first["connected"]) == ("node7", "/mnt/work", True)
    assert (first["read_only"], first["open_files"], first["root"]) == (True, 0, "/")
    second = listed[f"{other.welcome.session:016x}"]
    assert (second["open_files"], second["requests"]) == (1, 2)
    assert str(second["peer"]).startswith("ipv4:127.0.0.1:")
    client.break_off()
    wait_until(lambda: not sessions(cli)[f"{client.welcome.session:016x}"]["connected"], "the stream's end is noticed")
    text = cli.run("session", "list").stdout
    assert "lab on node7:/mnt/work, silent for" in text


def test_eviction(cli: CommandLine, server: LabServer, client: RawClient, make_client: MakeClient) -> None:
    other = make_client(server)
    file = client.ask(Create(ROOT_INO, b"f", 0o100644, 0, 0, hold=True))
    client.ask(Unlink(ROOT_INO, b"f"))
    name = f"{client.welcome.session:016x}"
    assert f"session {name} has ended" in cli.run("session", "evict", name).stdout
    assert "evicted by the operator" in client.wait_for_refusal().text
    client.break_off()
    with pytest.raises(Refused) as refused:
        client.connect()
    assert refused.value.reason == pb.Refusal.SESSION_GONE
    assert name not in sessions(cli)
    with pytest.raises(FileNotFoundError):
        other.ask(GetAttributes(file.ino))
    assert metrics(server)["loligo_mds_sessions_evicted_total"] == 1


def test_eviction_by_the_first_digits(cli: CommandLine, server: LabServer, client: RawClient) -> None:
    name = f"{client.welcome.session:016x}"
    assert name in cli.run("session", "evict", name[:10]).stdout
    assert "no session" in cli.refusal("session", "evict", name)


def test_eviction_of_nobody(cli: CommandLine, server: LabServer) -> None:
    assert "loligo session list" in cli.refusal("session", "evict", "123456789")


def test_the_socket_is_for_its_user_alone(server: LabServer, volume: Volume) -> None:
    status = socket_of(volume).stat()
    assert stat.S_ISSOCK(status.st_mode) and stat.S_IMODE(status.st_mode) == 0o600


def test_a_socket_that_a_dead_server_left_is_replaced(cli: CommandLine, server: LabServer, volume: Volume) -> None:
    server.slay()
    assert socket_of(volume).exists()
    mine = [row for row in json.loads(cli.run("status", "--json").stdout) if row.get("meta") == volume.meta_url]
    assert mine == []
    server.start()
    mine = [row for row in json.loads(cli.run("status", "--json").stdout) if row.get("meta") == volume.meta_url]
    assert [row["pid"] for row in mine] == [server.pid]
    server.stop()
    assert not socket_of(volume).exists()


# -- metrics --------------------------------------------------------------------------------------------------------


def test_metrics(server: LabServer, client: RawClient, volume: Volume) -> None:
    client.ask_all([Create(ROOT_INO, b"f%d" % number, 0o100644, 0, 0) for number in range(10)])
    client.ask_all([Lookup(ROOT_INO, b"f0"), GetAttributes(99)])
    client.ask(Sync())
    found = metrics(server)
    assert found['loligo_mds_requests_total{kind="Create",result="ok"}'] == 10
    assert found['loligo_mds_requests_total{kind="Lookup",result="ok"}'] == 1
    assert found['loligo_mds_requests_total{kind="GetAttributes",result="ENOENT"}'] == 1
    assert found['loligo_mds_requests_total{kind="Sync",result="ok"}'] == 1
    assert found['loligo_mds_request_seconds_count{kind="Create"}'] == 10
    assert found['loligo_mds_request_seconds_bucket{kind="Create",le="+Inf"}'] == 10
    assert 0 < found['loligo_mds_request_seconds_sum{kind="Create"}'] < 1
    assert (found["loligo_mds_batch_requests_count"], found["loligo_mds_batch_requests_sum"]) == (3, 13)
    assert found['loligo_mds_handshakes_total{result="welcome"}'] == 1
    assert (found["loligo_mds_sessions"], found["loligo_mds_sessions_connected"]) == (1, 1)
    assert found["loligo_mds_journal_records_total"] >= 10
    assert found["loligo_mds_journal_append_seconds_total"] > 0
    assert found["loligo_mds_journal_sync_seconds_count"] >= 2
    tables = Path(volume.shard_folder) / "tables.mdb"
    assert found["loligo_mds_tables_file_bytes"] == tables.stat().st_size
    assert 0 < found["loligo_mds_tables_used_bytes"] < found["loligo_mds_tables_map_bytes"]
    assert any(re.match(r'loligo_mds_build_info\{.*volume="lab"', name) for name in found)
    wait_until(lambda: metrics(server)["loligo_mds_loop_lag_seconds_count"] > 2, "the loop's lag is measured")
    assert found["process_cpu_seconds_total"] > 0
    assert found["process_resident_memory_bytes"] < 200 << 20


def test_locks_are_counted(server: LabServer, client: RawClient) -> None:
    file = client.ask(Create(ROOT_INO, b"f", 0o100644, 0, 0, hold=True))
    client.ask(SetLock(file.ino, 1, 0, 9, exclusive=True))
    client.ask(SetLock(file.ino, 1, 20, 29, exclusive=True))
    found = metrics(server)
    assert (found["loligo_mds_locks"], found["loligo_mds_lock_waits"]) == (2, 0)


def test_refusals_are_counted(server: LabServer, make_client: MakeClient) -> None:
    with pytest.raises(Refused):
        make_client(server, volume="other")
    hostile = make_client(server)
    hostile.send_bytes(b"\xff")
    hostile.wait_for_refusal()
    found = metrics(server)
    assert found['loligo_mds_handshakes_total{result="no_such_volume"}'] == 1
    assert found["loligo_mds_bad_frames_total"] == 1


def test_no_metrics_if_nobody_wants_them(make_server: MakeServer, cli: CommandLine) -> None:
    server = make_server("--metrics", "")
    mine = [row for row in json.loads(cli.run("status", "--json").stdout) if row.get("pid") == server.pid]
    assert mine[0]["metrics"] is None


# -- logs -----------------------------------------------------------------------------------------------------------


def test_logs_have_the_format_of_mounts_and_a_level(make_server: MakeServer, make_client: MakeClient) -> None:
    server = make_server()
    make_client(server, host="node7", mounted_on="/mnt/work").goodbye()
    server.stop()
    lines = server.log().splitlines()
    assert all(re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} INFO loligo_mds\.[a-z_.]+: ", line) for line in lines)
    assert any("(node7:/mnt/work) begins from ipv4:127.0.0.1:" in line for line in lines)
    assert any("has said goodbye" in line for line in lines)


def test_a_level_leaves_out_what_is_below(make_server: MakeServer, make_client: MakeClient) -> None:
    server = make_server("--log-level", "warning")
    make_client(server).goodbye()
    server.stop()
    assert server.log() == ""


def test_lines_that_others_cause_are_limited(server: LabServer, make_client: MakeClient) -> None:
    for _ in range(40):
        with pytest.raises(Refused):
            make_client(server, volume="other")
    assert 1 <= server.log().count("is refused") <= 20


def test_a_client_that_went_too_soon_is_no_error_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    log = logging.getLogger(GRPC_LOG)
    log.addFilter(is_of_interest)
    try:
        for error in (cygrpc.ExecuteBatchError("its stream"), ValueError("a bug")):
            try:
                raise error
            except Exception:
                log.exception("raised by a method")
    finally:
        log.removeFilter(is_of_interest)
    assert "its stream" not in caplog.text and "a bug" in caplog.text
