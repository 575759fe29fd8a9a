"""`loligo mount HOST:PORT/VOLUME`, `status` and `umount`, with a real server that may be killed."""

import contextlib
import errno
import fcntl
import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import loligo
from cli.command_line import CommandLine, has_ended, wait_until
from cli.test_mount_helper import in_namespace
from loligo_lab.certificates import Authority
from loligo_lab.errnos import refused
from loligo_lab.serving import LabServer, ending_servers
from loligo_runtime import volume as volumes


@pytest.fixture(autouse=True)
def logs_are_removed(cli: CommandLine) -> Iterator[None]:
    yield
    folder = Path("/var/log/loligo")
    for log in folder.glob("*.log*"):
        if cli.root.name.replace("-", "\\x2d") in log.name:
            log.unlink()
    with contextlib.suppress(OSError):  # logs of others are in there
        folder.rmdir()


@pytest.fixture
def make_server(cli: CommandLine) -> Iterator[Callable[..., LabServer]]:
    with ending_servers() as servers:

        def make(*options: str) -> LabServer:
            cli.create()
            servers.append(LabServer(volumes.load(cli.meta().as_uri()), cli.root, options=options))
            servers[-1].start()
            return servers[-1]

        yield make


@pytest.fixture
def server(make_server: Callable[..., LabServer]) -> LabServer:
    return make_server()


@pytest.fixture
def mount(cli: CommandLine) -> Iterator[Callable[..., Path]]:
    """Mounts `server`'s volume on our directory, or on another one; what is mounted at the end is unmounted."""
    directories: list[Path] = []

    def mount(server: LabServer, *options: str, root: str = "", directory: Path = cli.directory) -> Path:
        directory.mkdir(exist_ok=True)
        cli.run("mount", f"{server.address}/work{root}", str(directory), *options)
        directories.append(directory)
        return directory

    try:
        yield mount
        for directory in directories:
            if os.path.ismount(directory):
                cli.run("umount", str(directory))
    finally:
        for directory in directories:
            if os.path.ismount(directory):
                subprocess.run(["umount", "-l", directory], check=True)


def sessions(cli: CommandLine) -> list[dict[str, object]]:
    found: list[dict[str, object]] = json.loads(cli.run("session", "list", "--json").stdout)
    return [session for session in found if str(session["mounted_on"]).startswith(str(cli.root))]


def test_a_remount_has_everything(cli: CommandLine, server: LabServer, mount: Callable[..., Path]) -> None:
    mount(server)
    large = os.urandom(5 << 20)
    (cli.directory / "large").write_bytes(large)
    (cli.directory / "small").write_text("text")
    assert [session["mounted_on"] for session in sessions(cli)] == [str(cli.directory)]
    cli.umount()
    assert sessions(cli) == []
    mount(server)
    assert (cli.directory / "large").read_bytes() == large
    assert (cli.directory / "small").read_text() == "text"


def test_status_tells_of_the_server(cli: CommandLine, server: LabServer, mount: Callable[..., Path]) -> None:
    mount(server)
    wait_until(lambda: cli.mounted()["server"] == server.address, "the note to name the server")
    status = cli.mounted()
    assert {key: status[key] for key in ("source", "volume", "meta", "data", "state", "server_away_since")} == {
        "source": f"{server.address}/work",
        "volume": "work",
        "meta": f"{server.address}/work",
        "data": cli.data_url(),
        "state": "up",
        "server_away_since": None,
    }
    escaped = str(cli.directory).strip("/").replace("-", "\\x2d").replace("/", "-")
    assert status["log"] == f"/var/log/loligo/{escaped}.log"
    assert "mounted on" in Path(status["log"]).read_text()
    assert f"server     {server.address}, connected" in cli.run("status").stdout
    server.kill()
    wait_until(lambda: cli.mounted()["server_away_since"] is not None, "the note to tell that the server is away")
    assert f"server     {server.address}, away since 2" in cli.run("status").stdout
    server.start()
    wait_until(lambda: cli.mounted()["server_away_since"] is None, "the note to tell that the server is back")


def test_calls_wait_for_a_server_that_was_killed(
    cli: CommandLine, server: LabServer, mount: Callable[..., Path]
) -> None:
    mount(server)
    (cli.directory / "before").write_text("text")
    server.kill()
    command = f"mkdir {cli.directory}/folder && echo text > {cli.directory}/folder/file && cat {cli.directory}/before"
    with subprocess.Popen(["sh", "-ec", command], stdout=subprocess.PIPE, text=True) as child:
        with pytest.raises(subprocess.TimeoutExpired):
            child.wait(0.5)
        server.start()
        assert child.wait(60) == 0
        assert child.stdout is not None and child.stdout.read() == "text"
    assert (cli.directory / "folder" / "file").read_text() == "text\n"


def test_a_server_that_stays_away_is_an_eio(cli: CommandLine, server: LabServer, mount: Callable[..., Path]) -> None:
    mount(server, "-o", "timeout=1")
    server.kill()
    began = time.monotonic()
    with pytest.raises(OSError) as failure:
        os.mkdir(cli.directory / "folder")
    assert failure.value.errno == errno.EIO
    assert 0.8 < time.monotonic() - began < 15
    server.start()
    wait_until(lambda: cli.mounted()["server_away_since"] is None, "the server to be back")
    assert os.listdir(cli.directory) == []
    os.mkdir(cli.directory / "folder")


def test_the_numbers_of_a_mount_are_told_without_its_server(
    cli: CommandLine, server: LabServer, mount: Callable[..., Path]
) -> None:
    stats = mount(server) / ".loligo" / "stats"

    def told(name: str) -> float:
        return next(float(line.split()[-1]) for line in stats.read_text().splitlines() if line.startswith(name))

    assert (told("loligo_client_server_connected"), told("loligo_client_server_away_seconds")) == (1, 0)
    server.kill()
    wait_until(lambda: bool(cli.mounted()["server_away_since"]), "the mount to notice that the server is away")
    assert told("loligo_client_server_connected") == 0 and told("loligo_client_server_away_seconds") > 0
    server.start()
    wait_until(lambda: told("loligo_client_server_connected") == 1, "the server to be back")
    assert told("loligo_client_connections_total") == 2
    cli.run("session", "evict", str(sessions(cli)[0]["session"]))
    wait_until(lambda: told("loligo_client_session_ended") == 1, "the session to be over")


CALL = """
import os, signal, sys
signal.signal(signal.SIGUSR1, lambda *arguments: None)
print("ready", flush=True)
try:
    os.mkdir(sys.argv[1])
except InterruptedError:
    sys.exit(3)
"""


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGINT, signal.SIGKILL])
def test_who_waits_for_a_server_that_is_away_can_be_interrupted(
    cli: CommandLine, server: LabServer, mount: Callable[..., Path], number: signal.Signals
) -> None:
    mount(server)
    assert os.listdir(cli.directory) == []
    server.kill()
    wait_until(lambda: bool(cli.mounted()["server_away_since"]), "the mount to notice that the server is away")
    with subprocess.Popen(
        [sys.executable, "-c", CALL, cli.directory / "folder"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as child:
        try:
            assert child.stdout is not None and child.stdout.readline() == b"ready\n"
            with pytest.raises(subprocess.TimeoutExpired):
                child.wait(1)
            child.send_signal(number)
            assert child.wait(10) == {signal.SIGUSR1: 3, signal.SIGINT: -signal.SIGINT, signal.SIGKILL: -9}[number]
        finally:
            child.kill()
    server.start()
    os.mkdir(cli.directory / "other")
    assert os.listdir(cli.directory) == ["other"], "a call that was interrupted happened all the same"


LONG_CALLS = {
    "cut": "os.ftruncate(large, 5)",
    "replace": "os.write(new, b'NEW'); os.rename('new', 'old')",
    "write": "[os.pwrite(large, bytes(1 << 20), (10 << 20) + (number << 20)) for number in range(100)]",
    "sync": "os.write(new, b'NEW'); os.fsync(new)",
}
LONG_SCRIPT = """
import os, signal, sys
signal.signal(signal.SIGUSR1, lambda *arguments: sys.exit(3))
os.chdir(sys.argv[1])
large, new = os.open("large", os.O_RDWR), os.open("new", os.O_RDWR)
print("ready", flush=True)
input()
"""


@pytest.mark.parametrize(
    ("call", "number"),
    [("cut", signal.SIGUSR1), ("sync", signal.SIGUSR1), *((call, signal.SIGKILL) for call in LONG_CALLS)],
)
def test_who_waits_inside_a_longer_call_can_be_interrupted(
    cli: CommandLine, server: LabServer, mount: Callable[..., Path], call: str, number: signal.Signals
) -> None:
    """The file is open before the server goes, and what the call waits for is several steps away."""
    here = mount(server)
    (here / "large").write_bytes(os.urandom(6 << 20))
    for name in ("old", "new"):
        (here / name).write_text(name)
    script = LONG_SCRIPT + LONG_CALLS[call]
    with subprocess.Popen(
        [sys.executable, "-c", script, here], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as child:
        try:
            assert child.stdin is not None and child.stdout is not None
            assert child.stdout.readline() == b"ready\n"
            server.kill()
            wait_until(lambda: bool(cli.mounted()["server_away_since"]), "the mount to notice that the server is away")
            child.stdin.write(b"go\n")
            child.stdin.flush()
            with pytest.raises(subprocess.TimeoutExpired):
                child.wait(1.5)
            child.send_signal(number)
            assert child.wait(10) == (-9 if number == signal.SIGKILL else 3)
        finally:
            child.kill()
    server.start()
    assert (here / "old").read_text() in ("old", "NEW")
    (here / "large").write_bytes(b"as ever")
    (here / "new").write_text("as ever")
    assert (here / "large").read_bytes() == b"as ever"


def test_a_session_that_was_evicted_is_over(cli: CommandLine, server: LabServer, mount: Callable[..., Path]) -> None:
    mount(server)
    log = Path(cli.mounted()["log"])
    with (cli.directory / "file").open("w+b", buffering=0) as file, ThreadPoolExecutor(1) as thread:
        file.write(b"some")
        evicting = thread.submit(cli.run, "session", "evict", str(sessions(cli)[0]["session"]))
        with pytest.raises(OSError) as failure:
            while True:  # the last of it is not stored
                file.write(b"more")
                time.sleep(0.01)
        assert failure.value.errno == errno.EIO
        evicting.result()
        for call in (
            lambda: file.write(b"x"),
            lambda: os.fsync(file.fileno()),
            lambda: os.pread(file.fileno(), 10, 0),
            lambda: (cli.directory / "other").touch(),
            lambda: os.statvfs(cli.directory),
        ):
            with pytest.raises(OSError) as failure:
                call()
            assert failure.value.errno == errno.EIO
    assert "unmount, and mount again" in log.read_text()
    wait_until(lambda: cli.mounted()["state"] == "ended", "the note to tell so")
    assert "evicted by the operator" in str(cli.mounted()["ended"])
    assert "unmount, and mount again" in cli.run("status").stdout
    assert "written bytes are lost" in cli.run("umount", str(cli.directory), code=1).stderr
    mount(server)
    (cli.directory / "file").write_text("as ever")


def test_two_mounts_of_one_volume(cli: CommandLine, server: LabServer, mount: Callable[..., Path]) -> None:
    one = mount(server)
    other = mount(server, directory=cli.root / "other")
    (one / "file").write_text("from one")
    assert (other / "file").read_text() == "from one"
    (other / "file").unlink()
    assert not (one / "file").exists()
    assert len(sessions(cli)) == 2


def test_locks_hold_across_mounts(cli: CommandLine, server: LabServer, mount: Callable[..., Path]) -> None:
    one = mount(server)
    other = mount(server, directory=cli.root / "other")
    (one / "file").write_bytes(b"x" * 100)
    with (one / "file").open("r+b") as mine, (other / "file").open("r+b") as theirs:
        for lock in (fcntl.flock, fcntl.lockf):
            lock(mine, fcntl.LOCK_EX)
            with refused(errno.EAGAIN):
                lock(theirs, fcntl.LOCK_SH | fcntl.LOCK_NB)
            lock(mine, fcntl.LOCK_UN)
            lock(theirs, fcntl.LOCK_EX | fcntl.LOCK_NB)
            with refused(errno.EAGAIN):
                lock(mine, fcntl.LOCK_EX | fcntl.LOCK_NB)
            lock(theirs, fcntl.LOCK_UN)


def test_locks_outlive_the_server(cli: CommandLine, server: LabServer, mount: Callable[..., Path]) -> None:
    one = mount(server)
    other = mount(server, directory=cli.root / "other")
    (one / "file").write_bytes(b"x" * 100)
    with (one / "file").open("r+b") as mine, (other / "file").open("r+b") as theirs:
        fcntl.lockf(mine, fcntl.LOCK_EX, 10, 0)
        fcntl.flock(theirs, fcntl.LOCK_EX)
        server.kill()
        server.start()
        with refused(errno.EAGAIN):
            fcntl.lockf(theirs, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, 5)
        fcntl.lockf(theirs, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, 10)
        with refused(errno.EAGAIN):
            fcntl.flock(mine, fcntl.LOCK_EX | fcntl.LOCK_NB)


WAITING = """
import fcntl, os, sys
fcntl.flock(os.open(sys.argv[1], os.O_RDWR), fcntl.LOCK_EX)
"""


def served(cli: CommandLine, server: LabServer) -> dict[str, Any]:
    """What `loligo status` says of our server."""
    told: list[dict[str, Any]] = json.loads(cli.run("status", "--json").stdout)
    return next(shown for shown in told if shown.get("listen") == server.address)


def test_status_tells_who_has_locks_and_who_waits(
    cli: CommandLine, server: LabServer, mount: Callable[..., Path]
) -> None:
    one = mount(server)
    other = mount(server, directory=cli.root / "other")
    (one / "file").write_bytes(b"x" * 100)
    assert served(cli, server)["locks"] == served(cli, server)["lock_waits"] == []
    host = socket.gethostname()
    with (one / "file").open("r+b") as mine:
        fcntl.flock(mine, fcntl.LOCK_EX)
        fcntl.lockf(mine, fcntl.LOCK_EX, 10, 0)
        with subprocess.Popen([sys.executable, "-c", WAITING, other / "file"]) as waiter:
            wait_until(lambda: bool(served(cli, server)["lock_waits"]), "the server to tell of who waits")
            status = served(cli, server)
            shown = {row["mount"]: (row["locks"], row["waits"]) for row in status["locks"]}
            assert shown == {f"{host}:{one}": (2, 0), f"{host}:{other}": (0, 1)}
            assert status["lock_waits"] == [
                {
                    "mount": f"{host}:{other}",
                    "pid": waiter.pid,
                    "inode": os.stat(one / "file").st_ino,
                    "kind": "flock",
                    "held_by": [f"{host}:{one}"],
                }
            ]
            text = cli.run("status").stdout
            assert f"  locks      {host}:{one} has 2\n" in text
            assert f"  locks      {host}:{other} has 0, waits for 1\n" in text
            waits = f"process {waiter.pid} of {host}:{other} for a lock (flock) on inode"
            assert f"  waiting    {waits} {os.stat(one / 'file').st_ino}, held by {host}:{one}\n" in text
            assert ", 2 locks" in cli.run("session", "list").stdout
            fcntl.flock(mine, fcntl.LOCK_UN)
            assert waiter.wait(60) == 0
    wait_until(lambda: served(cli, server)["locks"] == [], "the locks to end with the files")


COUNTING = """
import fcntl, os, sys
fd = os.open(sys.argv[1], os.O_RDWR)
for _ in range(int(sys.argv[2])):
    fcntl.lockf(fd, fcntl.LOCK_EX)
    number = int(os.pread(fd, 20, 0))
    os.pwrite(fd, b"%020d" % (number + 1), 0)
    fcntl.lockf(fd, fcntl.LOCK_UN)
"""


def test_what_was_written_under_a_lock_is_read_under_the_next(
    cli: CommandLine, server: LabServer, mount: Callable[..., Path]
) -> None:
    mounts = [mount(server), mount(server, directory=cli.root / "other")]
    (mounts[0] / "count").write_bytes(b"%020d" % 0)
    command = [sys.executable, "-c", COUNTING]
    workers = [subprocess.Popen([*command, where / "count", "100"]) for where in (*mounts, *mounts)]
    assert [worker.wait(60) for worker in workers] == [0] * 4
    assert int((mounts[0] / "count").read_bytes()) == 400


def test_a_database_is_written_from_two_mounts(cli: CommandLine, server: LabServer, mount: Callable[..., Path]) -> None:
    mounts = [mount(server), mount(server, directory=cli.root / "other")]
    with closing(sqlite3.connect(mounts[0] / "db")) as database:
        database.execute("create table t (who integer, number integer)")
    command = [sys.executable, "-c", INSERTING]
    workers = [subprocess.Popen([*command, where / "db", str(who)]) for who, where in enumerate((*mounts, *mounts))]
    assert [worker.wait(60) for worker in workers] == [0] * 4
    for where in mounts:
        with closing(sqlite3.connect(where / "db")) as database:
            assert database.execute("pragma integrity_check").fetchall() == [("ok",)]
            assert database.execute("select who, count(distinct number) from t group by who").fetchall() == [
                (who, 25) for who in range(4)
            ]


INSERTING = """
import sqlite3, sys
database = sqlite3.connect(sys.argv[1], timeout=60, isolation_level=None)
for number in range(25):
    database.execute("begin immediate")
    database.execute("insert into t values (?, ?)", (int(sys.argv[2]), number))
    database.execute("commit")
"""


def test_a_directory_of_the_volume_as_root(cli: CommandLine, server: LabServer, mount: Callable[..., Path]) -> None:
    whole = mount(server)
    (whole / "a" / "b c").mkdir(parents=True)
    (whole / "a" / "b c" / "file").write_text("text")
    part = mount(server, root="/a/b c", directory=cli.root / "part")
    assert os.listdir(part) == ["file"]
    assert (part / "file").read_text() == "text"
    (part / "new").mkdir()
    (part / "new" / "file").write_text("new")
    (part / "file").rename(part / "new" / "moved")
    assert sorted(os.listdir(whole / "a" / "b c" / "new")) == ["file", "moved"]
    part.chmod(0o700)
    assert (whole / "a" / "b c").stat().st_mode & 0o777 == 0o700


def test_read_only(cli: CommandLine, server: LabServer, mount: Callable[..., Path]) -> None:
    (mount(server) / "file").write_text("text")
    reader = mount(server, "-o", "ro", directory=cli.root / "reader")
    assert (reader / "file").read_text() == "text"
    with pytest.raises(OSError, match="Read-only"):
        (reader / "other").touch()
    assert {session["mounted_on"]: session["read_only"] for session in sessions(cli)} == {
        str(cli.directory): False,
        str(reader): True,
    }


def test_the_trash_of_a_mount_of_a_directory_has_what_was_removed_there(
    cli: CommandLine, server: LabServer, mount: Callable[..., Path]
) -> None:
    whole = mount(server)
    os.setxattr(whole, "loligo.trash.minimum_age", b"0")
    for name in ("secret", "in/a", "in/b", "in/b/c"):
        (whole / name).mkdir(parents=True)
    part = mount(server, root="/in", directory=cli.root / "part")
    loligo.rmtree(whole / "secret")
    loligo.rmtree(whole / "in" / "a")
    loligo.rmtree(part / "b" / "c")
    assert [batch.label for batch in loligo.trash.batches(whole)] == ["c", "a", "secret"]
    assert [batch.label for batch in loligo.trash.batches(part)] == ["c", "a"]
    assert len(os.listdir(part / ".trash")) == 2
    told = cli.run("trash", "list", str(part)).stdout
    assert f" {part}/b/c\n" in told and f" {part}/a\n" in told and "secret" not in told
    assert b"secret" not in os.getxattr(part / ".trash", "loligo.trash.batches")
    hidden = loligo.trash.batches(whole)[2].name
    assert not (part / ".trash" / hidden).exists()
    assert cli.run("trash", "restore", str(part / "b" / "c")).stdout == f"{part}/b/c\n"
    assert (whole / "in" / "b" / "c").is_dir()


def test_what_is_restored_to_another_mount_is_looked_up_there(
    cli: CommandLine, server: LabServer, mount: Callable[..., Path]
) -> None:
    root, other = mount(server), mount(server, directory=cli.root / "other")
    os.setxattr(root, "loligo.trash.minimum_age", b"0")
    for name in ("a", "b", "to"):
        (root / name).mkdir()
    for name in ("a", "b"):
        loligo.rmtree(root / name)
    to = str(other / "to")
    for what in ([str(root / "a")], ["1", "--mount", str(root)]):
        said = cli.refusal("trash", "restore", *what, "--to", to)
        assert f"{to} is not on {root}, where the batch is looked up" in said
        assert f"by a path below {other} or with --mount {other} and its number" in said
    for what in ([str(other / "a")], ["2", "--mount", str(other)]):
        cli.run("trash", "restore", *what, "--to", to)
    assert sorted(os.listdir(root / "to")) == ["a", "b"]


def test_a_purge_is_paused_through_another_mount(
    cli: CommandLine, make_server: Callable[..., LabServer], mount: Callable[..., Path]
) -> None:
    server = make_server("--purge-rate", "5")
    root = mount(server)
    other = mount(server, directory=cli.root / "other")
    for number in range(60):
        (root / "tree" / str(number)).mkdir(parents=True)
    loligo.rmtree(root / "tree", now=True)
    wait_until(lambda: loligo.trash.batches(other)[0].inodes in range(2, 61), "it is counted and begins")
    cli.run("jobs", "--mount", str(other), "pause", "1")
    cli.run("jobs", "--mount", str(other), "priority", "1", "low")
    (paused,) = loligo.trash.batches(root)
    assert (paused.is_paused, paused.priority, paused.is_purged) == (True, "low", True) and paused.inodes > 0
    (root / "second").mkdir()
    loligo.rmtree(root / "second", now=True).wait()
    (left,) = loligo.trash.batches(other)
    assert (left.number, left.inodes) == (paused.number, paused.inodes)
    cli.run("jobs", "--mount", str(root), "resume", "1")
    wait_until(lambda: loligo.trash.batches(other)[0].inodes < left.inodes, "it goes on")


def test_what_was_purged_in_part_is_restored_in_part_and_that_is_told(
    cli: CommandLine, make_server: Callable[..., LabServer], mount: Callable[..., Path]
) -> None:
    root = mount(make_server("--purge-rate", "5"))
    os.setxattr(root, "loligo.trash.minimum_age", b"0")
    (root / "tree").mkdir()
    for number in range(100):
        (root / "tree" / str(number)).write_text("text")
    subprocess.run(["rm", "-rf", root / "tree"], check=True)
    loligo.trash.purge(1, mount=root)
    wait_until(lambda: loligo.trash.batches(root)[0].inodes < 101, "it begins")
    told = cli.run("trash", "list", str(root)).stdout
    assert told.endswith(f" {root}/tree (what is left: some of it is purged)\n")
    assert json.loads(cli.run("trash", "list", str(root), "--json").stdout)[0]["partly_purged"]
    assert json.loads(cli.run("jobs", "--mount", str(root), "--json").stdout)[0]["partly_purged"]
    (root / "tree").touch()
    assert "in the way" in cli.run("trash", "restore", "--mount", str(root), "1", code=1).stderr
    (batch,) = loligo.trash.batches(root)
    assert batch.is_purged, "who restores nothing changes nothing"
    (root / "tree").unlink()
    done = cli.run("trash", "restore", "--mount", str(root), "1", code=1)
    assert "batch 1: what had been purged of it before is gone for good" in done.stderr
    assert 0 < len(list((root / "tree").iterdir())) < 100


def test_a_signal_unmounts_and_stores(cli: CommandLine, server: LabServer, mount: Callable[..., Path]) -> None:
    mount(server)
    (cli.directory / "file").write_text("text")
    pid = cli.mounted()["pid"]
    os.kill(pid, signal.SIGTERM)
    wait_until(lambda: has_ended(pid), "the end of the process")
    assert not cli.is_mounted()
    mount(server)
    assert (cli.directory / "file").read_text() == "text"


def test_mutual_tls(cli: CommandLine, make_server: Callable[..., LabServer], mount: Callable[..., Path]) -> None:
    authority = Authority(cli.root / "certificates")
    of_server, of_client = authority.sign("server", "IP:127.0.0.1"), authority.sign("client")
    given = ("--tls-cert", str(of_server.cert), "--tls-key", str(of_server.key), "--tls-ca", str(authority.cert))
    server = make_server(*given)
    source = f"{server.address}/work"
    assert "if it wants TLS" in cli.refusal("mount", source, str(cli.directory))
    ca = f"ca={authority.cert}"
    mount(server, "-o", f"{ca},cert={of_client.cert},key={of_client.key}")
    (cli.directory / "file").write_text("text")
    assert (cli.directory / "file").read_text() == "text"


def test_a_line_in_fstab(cli: CommandLine, server: LabServer) -> None:
    fstab = cli.root / "fstab"
    fstab.write_text(f"{server.address}/work {cli.directory} loligo defaults,_netdev,timeout=30 0 0\n")
    script = f"""
        mount --fstab {fstab} --all
        grep " $DIR " /proc/mounts
        echo text > $DIR/file
        $LOLIGO umount $DIR
        mount -t loligo -r {server.address}/work $DIR -o noatime
        cat $DIR/file
        umount $DIR
    """
    done = in_namespace(cli, script)
    assert done.returncode == 0, done
    row, text = done.stdout.splitlines()
    assert row.split()[:3] == [f"{server.address}/work", str(cli.directory), "fuse.loligo"]
    assert text == "text"


# -- what cannot be mounted -------------------------------------------------------------------------------------------


def test_what_the_server_refuses(cli: CommandLine, server: LabServer) -> None:
    directory = str(cli.directory)
    assert "has the volume 'work'" in cli.refusal("mount", f"{server.address}/wrok", directory)
    whole = f"{server.address}/work"
    assert "'nowhere'" in cli.refusal("mount", f"{whole}/nowhere", directory)


def test_nobody_is_there(cli: CommandLine) -> None:
    said = cli.refusal("mount", "127.0.0.1:1/work", str(cli.directory))
    assert said == "no metadata server answers: 127.0.0.1:1: connection refused; is 'loligo serve' running there?"


def test_wrong_calls(cli: CommandLine) -> None:
    cli.create()
    directory = str(cli.directory)
    assert "names no volume" in cli.refusal("mount", "127.0.0.1:9440", directory)
    assert "insecure_network" in cli.refusal("mount", "192.0.2.1:9440/work", directory)
    for option in ("ca=/nowhere/ca.pem", "ceph_conf=/nowhere/ceph.conf", "data_cache_dir=/nowhere/cache"):
        said = cli.refusal("mount", "127.0.0.1:1/work", directory, "-o", option)
        assert said.startswith(f"{option}: No such file or directory; ")
    assert "timeout is for mounts through" in cli.refusal("mount", "work", directory, "-o", "timeout=5")
