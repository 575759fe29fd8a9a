"""How a server starts, or says why it does not; how it ends; what it tells its service manager."""

import os
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cli.command_line import CommandLine
from loligo_lab.certificates import Authority
from loligo_lab.mounts import LabMount, assert_sound, make_lab_volume
from loligo_lab.ports import free_port
from loligo_lab.processes import ProcessFailed
from loligo_lab.raw_client import RawClient
from loligo_lab.serving import LabServer
from loligo_mds.core.requests import Create, GetUsage
from loligo_mds.shell.config import ConfigError, ServerConfig, make_config, read_config, split_address
from loligo_runtime.volume import Volume
from loligo_wire.ids import ROOT_INO

MakeServer = Callable[..., LabServer]
MakeClient = Callable[..., RawClient]


@pytest.fixture
def cli(tmp_path: Path) -> Iterator[CommandLine]:
    line = CommandLine(tmp_path)
    yield line
    line.clean_up()


def addresses() -> tuple[str, ...]:
    return ("--listen", f"127.0.0.1:{free_port()}", "--metrics", f"127.0.0.1:{free_port()}")


def refusal(cli: CommandLine, volume: Volume, *options: str) -> str:
    """The last line of a server that does not come up; nothing else is wrong."""
    done = cli.run("serve", volume.meta_url, *addresses(), *options, code=1)
    assert "Traceback" not in done.stderr, done.stderr
    return done.stderr.splitlines()[-1].removeprefix("loligo: ")


# -- what it is told ------------------------------------------------------------------------------------------------


def test_the_file_has_the_same_keys_as_the_flags_and_flags_win(tmp_path: Path) -> None:
    path = tmp_path / "serve.toml"
    path.write_text(
        'volume = "work"\nlisten = "127.0.0.1:1"\nmetrics = ""\ntls-cert = "/c"\ntls-key = "/k"\ntls-ca = "/a"\n'
        'insecure-network = true\nsession-expiry = 30\nlog-level = "debug"\n'
    )
    said = read_config(str(path))
    assert make_config(said) == ServerConfig("work", "127.0.0.1:1", "", "/c", "/k", "/a", True, 30.0, "debug")
    flags = {"volume": None, "listen": "127.0.0.1:2", "session_expiry": 5.0}
    assert make_config(said, flags) == ServerConfig("work", "127.0.0.1:2", "", "/c", "/k", "/a", True, 5.0, "debug")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("listne = 'x'", "'listne'; these are known: volume, listen, metrics,"),
        ("listen = 9440", "listen must be a text in quotes"),
        ("session-expiry = 'long'", "session-expiry must be a number"),
        ("insecure-network = 1", "insecure-network must be true or false"),
        ("listen = ", "no TOML file"),
    ],
)
def test_a_file_that_makes_no_sense(tmp_path: Path, text: str, complaint: str) -> None:
    path = tmp_path / "serve.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"serve\.toml") as error:
        read_config(str(path))
    assert complaint in str(error.value)


@pytest.mark.parametrize(
    ("said", "complaint"),
    [
        ({"volume": ""}, "no volume is given"),
        ({"listen": "9440"}, "give HOST:PORT"),
        ({"listen": "::1:9440"}, "give HOST:PORT"),
        ({"metrics": "127.0.0.1:99999"}, "metrics: "),
        ({"session_expiry": 0.1}, "between 1 and"),
        ({"log_level": "loud"}, "debug, info, warning, error"),
        ({"tls_cert": "/c"}, "tls-key is missing"),
        ({"tls_key": "/k"}, "tls-cert is missing"),
        ({"tls_ca": "/a"}, "tls-ca alone"),
        ({"listen": "0.0.0.0:9440"}, "say --insecure-network"),
        ({"listen": "[::]:9440"}, "without TLS"),
        ({"listen": "0.0.0.0:9440", "tls_cert": "/c", "tls_key": "/k"}, "without knowing who connects"),
    ],
)
def test_what_makes_no_sense_together(said: dict[str, object], complaint: str) -> None:
    with pytest.raises(ConfigError) as error:
        make_config({"volume": "work"}, said)
    assert complaint in str(error.value)


@pytest.mark.parametrize(
    "said",
    [
        {"listen": "localhost:9440"},
        {"listen": "[::1]:9440"},
        {"listen": "0.0.0.0:9440", "insecure_network": True},
        {"listen": "0.0.0.0:9440", "tls_cert": "/c", "tls_key": "/k", "tls_ca": "/a"},
    ],
)
def test_where_it_may_listen(said: dict[str, object]) -> None:
    assert make_config({"volume": "work"}, said).listen == said["listen"]


def test_addresses() -> None:
    assert split_address("host:80", "x") == ("host", 80)
    assert split_address("[fe80::1]:80", "x") == ("fe80::1", 80)


# -- why it does not start ------------------------------------------------------------------------------------------


def test_no_such_volume_and_no_volume(cli: CommandLine) -> None:
    assert "no volume is called 'nothing'" in cli.refusal("serve", "nothing")
    assert "name it as the argument" in cli.refusal("serve")


def test_a_network_is_refused_without_tls(cli: CommandLine, volume: Volume) -> None:
    done = cli.run("serve", volume.meta_url, "--listen", "0.0.0.0:0", code=1)
    assert "--insecure-network" in done.stderr and done.stderr.count("\n") == 1


def test_the_volume_is_mounted(cli: CommandLine, volume: Volume, tmp_path: Path) -> None:
    with LabMount(volume, tmp_path / "mounted") as mount:
        assert f"in use by process {mount.pid}" in refusal(cli, volume)


def test_the_volume_is_served(cli: CommandLine, server: LabServer, volume: Volume) -> None:
    assert f"in use by process {server.pid}: stop it first" in refusal(cli, volume)


def test_a_server_does_not_come_between_another_volume_and_its_signals(
    cli: CommandLine, server: LabServer, volume: Volume
) -> None:
    """Had the mount process asked by gRPC whose the server is, its threads would take SIGTERM, and die of it."""
    cli.create()
    cli.mount()
    pid = cli.mounted()["pid"]
    assert "cygrpc" not in Path(f"/proc/{pid}/maps").read_text()
    (cli.directory / "file").write_text("text")
    cli.run("umount", str(cli.directory))


def test_a_server_that_was_killed_does_not_keep_its_volume(cli: CommandLine, server: LabServer, volume: Volume) -> None:
    server.kill()
    cli.run("mount", volume.meta_url, str(cli.directory))
    cli.run("umount", str(cli.directory))


def test_a_served_volume_cannot_be_mounted_directly(cli: CommandLine, server: LabServer, volume: Volume) -> None:
    said = cli.refusal("mount", volume.meta_url, str(cli.directory))
    assert f"in use by process {server.pid}" in said
    assert f"mount it through that, as {server.address}/{volume.name}" in said


def test_the_data_is_another_volume_s(cli: CommandLine, volume: Volume, tmp_path: Path) -> None:
    (tmp_path / "data").rename(tmp_path / "aside")
    make_lab_volume(tmp_path / "other", data_url=volume.data_url)
    assert "holds the data of volume" in refusal(cli, volume)


def test_the_metadata_is_another_volume_s(cli: CommandLine, volume: Volume, tmp_path: Path) -> None:
    other = make_lab_volume(tmp_path / "other")
    Path(volume.shard_folder).rename(tmp_path / "aside")
    Path(other.shard_folder).rename(volume.shard_folder)
    assert "folders were mixed up" in refusal(cli, volume)


@pytest.mark.parametrize("what", ["--listen", "--metrics"])
def test_the_port_is_taken(cli: CommandLine, volume: Volume, what: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        assert address in refusal(cli, volume, what, address)
        if what == "--listen":
            assert "another process has that port" in cli.refusal(
                "serve", volume.meta_url, what, address, "--metrics", ""
            )
    assert_sound(volume)  # and it is free


def test_an_address_that_is_not_ours(cli: CommandLine, volume: Volume) -> None:
    for host in ("192.0.2.1", "nowhere.invalid"):
        assert "no such address" in refusal(cli, volume, "--listen", f"{host}:9440", "--insecure-network")


def test_bad_tls_files(cli: CommandLine, volume: Volume, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    one, two = authority.sign("one"), authority.sign("two")
    nonsense = tmp_path / "nonsense.pem"
    nonsense.write_text("this is no certificate\n")

    def told(cert: Path, key: Path, ca: Path = authority.cert) -> str:
        return refusal(cli, volume, "--tls-cert", str(cert), "--tls-key", str(key), "--tls-ca", str(ca))

    missing = tmp_path / "missing.pem"
    assert told(missing, one.key) == f"tls-cert {missing}: No such file or directory"
    assert told(one.cert, one.key, missing) == f"tls-ca {missing}: No such file or directory"
    assert refusal(cli, volume, "--config", str(missing)) == f"config {missing}: No such file or directory"
    assert f"{two.key} is not the key of {one.cert}" in told(one.cert, two.key)
    assert "no certificate and key in PEM form" in told(nonsense, one.key)
    assert f"{nonsense} is no certificate" in told(one.cert, one.key, nonsense)
    encrypted = tmp_path / "encrypted.key"
    subprocess.run(
        ["openssl", "ec", "-in", one.key, "-aes128", "-passout", "pass:secret", "-out", encrypted],
        check=True,
        capture_output=True,
    )
    assert "has a password" in told(one.cert, encrypted)


# -- while it runs, and how it ends ---------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_clean_stop_leaves_a_sound_volume_and_lets_clients_go(
    server: LabServer, client: RawClient, volume: Volume, number: signal.Signals
) -> None:
    client.ask(Create(ROOT_INO, b"f", 0o100644, 0, 0))
    server.tell(number)
    assert "the server is stopping" in client.wait_for_refusal().text
    server.wait()
    assert "is stored" in server.log()
    assert_sound(volume)


def test_a_stop_under_load(make_server: MakeServer, make_client: MakeClient, volume: Volume) -> None:
    """Requests are on their way in while it stops: each is answered, or can be sent again."""
    server = make_server()
    client = make_client(server)
    asked = [Create(ROOT_INO, b"f%d" % number, 0o100644, 0, 0) for number in range(1000)]
    client.begin(asked, sequence=1)
    server.stop()
    client.break_off()
    server.start()
    client.connect()
    answers = client.ask_all(asked, sequence=1)
    assert not [answer for answer in answers if isinstance(answer, OSError)]
    assert client.ask(GetUsage()).inodes == 1001
    server.stop()
    client.break_off()
    assert_sound(volume)


def test_it_can_be_mounted_afterwards(server: LabServer, client: RawClient, volume: Volume, tmp_path: Path) -> None:
    client.ask(Create(ROOT_INO, b"f", 0o100644, 0, 0))
    client.goodbye()
    server.stop()
    with LabMount(volume, tmp_path / "mounted") as mount:
        assert os.listdir(mount.path) == ["f"]


def test_what_the_service_manager_is_told(volume: Volume, tmp_path: Path) -> None:
    path = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
        told.bind(str(path))
        told.settimeout(30)
        process = subprocess.Popen(
            [sys.executable, "-m", "loligo_lab.serving", volume.meta_url, *addresses(), "--log-level", "error"],
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join(sys.path),
                "NOTIFY_SOCKET": str(path),
                "WATCHDOG_USEC": "800000",
            },
            stderr=subprocess.PIPE,
        )
        heard: list[str] = []

        def hear(word: str) -> None:
            while not heard or word not in heard[-1].split("\n"):
                heard.append(told.recv(4096).decode())

        try:
            hear("READY=1")
            assert any(line.startswith("STATUS=serving lab on 127.0.0.1:") for line in heard[-1].split("\n"))
            began_s = time.monotonic()
            for _ in range(3):
                hear("WATCHDOG=1")
                heard.append("")
            assert time.monotonic() - began_s < 3 * 0.8
            process.send_signal(signal.SIGTERM)
            hear("STOPPING=1")
            assert process.wait(30) == 0
        finally:
            process.kill()
            process.wait()
            assert process.stderr is not None
            said = process.stderr.read()
            process.stderr.close()
    assert said == b""


def test_a_shard_that_stops_ends_the_server_and_nobody_hears_of_it(
    make_server: MakeServer, make_client: MakeClient, volume: Volume
) -> None:
    """The journal cannot be written any more: clients wait for the next start, which has everything."""
    server = make_server()
    server.expect_error(".")
    client = make_client(server)
    made = [Create(ROOT_INO, b"before-%d" % number, 0o100644, 0, 0) for number in range(500)]
    client.ask_all(made, acknowledged=500)
    limit_bytes = 100_000  # the log stays below, the journal is beyond
    resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (limit_bytes, limit_bytes))
    client.begin([Create(ROOT_INO, b"f", 0o100644, 0, 0)])
    assert "see its log" in client.wait_for_refusal().text
    with pytest.raises(ProcessFailed, match=r"failed \(1\)"):
        server.wait()
    assert "start the server again" in server.log()
    client.break_off()
    server.start()
    client.connect()
    assert client.ask(Create(ROOT_INO, b"f", 0o100644, 0, 0), sequence=501).is_file
    assert client.ask(GetUsage()).inodes == 502
