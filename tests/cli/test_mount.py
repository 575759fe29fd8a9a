"""`loligo mount`, `umount` and `status`, with real processes."""

import contextlib
import errno
import os
import re
import signal
import subprocess
import time

import pytest

from cli.command_line import SCRIPTS, CommandLine, has_ended, wait_until

TRANSPORTS = ("native", "pyfuse3")
AS_NOBODY = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_remount_has_everything(cli: CommandLine, transport: str) -> None:
    cli.create()
    cli.mount("-o", f"transport={transport}")
    large = os.urandom(5 << 20)
    (cli.directory / "large").write_bytes(large)
    (cli.directory / "small").write_text("text")
    cli.umount()
    assert not cli.is_mounted()
    assert os.listdir(cli.directory) == []
    cli.mount("-o", f"transport={transport}")
    assert (cli.directory / "large").read_bytes() == large
    assert (cli.directory / "small").read_text() == "text"


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_status_tells_what_is_mounted(cli: CommandLine, transport: str) -> None:
    cli.create()
    before = time.time()
    cli.mount("-o", f"transport={transport}")
    status = cli.mounted()
    assert {key: status[key] for key in ("source", "volume", "meta", "data", "transport", "state", "read_only")} == {
        "source": "work",
        "volume": "work",
        "meta": cli.meta().as_uri(),
        "data": cli.data_url(),
        "transport": transport,
        "state": "up",
        "read_only": False,
    }
    assert 10 << 20 < status["memory_bytes"] < 200 << 20
    assert status["memory_anonymous_bytes"] < status["memory_bytes"]
    since = time.mktime(time.strptime(status["since"][:19], "%Y-%m-%dT%H:%M:%S"))
    assert before - 2 < since <= time.time()
    text = cli.run("status").stdout
    assert f"{cli.directory}: work, up, read-write" in text
    assert str(status["pid"]) in text


def test_umount_waits_for_the_process(cli: CommandLine) -> None:
    cli.create()
    cli.mount()
    pid = cli.mounted()["pid"]
    cli.umount()
    assert has_ended(pid)
    assert "work is stored" in cli.log()


def test_a_mount_by_url(cli: CommandLine) -> None:
    cli.create()
    cli.mount(name=cli.meta().as_uri())
    assert cli.mounted()["source"] == cli.meta().as_uri()


def test_the_process_is_on_its_own(cli: CommandLine) -> None:
    """It has a session of its own, and neither the caller's files nor its folder."""
    cli.create()
    cli.mount()
    pid = cli.mounted()["pid"]
    assert os.getsid(pid) == pid
    assert os.readlink(f"/proc/{pid}/cwd") == "/"
    assert {os.readlink(f"/proc/{pid}/fd/{fd}") for fd in (0, 1, 2)} == {"/dev/null"}


def test_the_mount_survives_its_terminal(cli: CommandLine) -> None:
    cli.create()
    master, slave = os.openpty()
    command = ["setsid", "--ctty", "--wait", str(SCRIPTS / "loligo"), "mount", "work", str(cli.directory)]
    subprocess.run(command, env=cli.environment, stdin=slave, stdout=slave, stderr=slave, check=True, timeout=60)
    os.close(slave)
    os.close(master)
    (cli.directory / "file").write_text("still there")
    assert cli.mounted()["state"] == "up"


def test_read_only(cli: CommandLine) -> None:
    cli.create()
    cli.mount()
    (cli.directory / "file").write_text("text")
    cli.umount()
    cli.mount("-o", "ro")
    assert (cli.directory / "file").read_text() == "text"
    with pytest.raises(OSError, match="Read-only"):
        (cli.directory / "other").touch()
    assert cli.mounted()["read_only"] is True


def test_access_times_move_unless_told_otherwise(cli: CommandLine) -> None:
    cli.create()
    cli.mount()
    file = cli.directory / "file"
    file.write_text("text")
    os.utime(file, ns=(1, 2))
    assert file.read_text() == "text"
    assert file.stat().st_atime_ns > 2
    os.utime(file, ns=(1, 2))
    cli.umount()
    cli.mount("-o", "noatime")
    assert file.read_text() == "text"
    assert file.stat().st_atime_ns == 1


def test_an_older_protocol(cli: CommandLine) -> None:
    cli.create()
    cli.mount("-o", "protocol=7.31")
    (cli.directory / "file").write_text("text")
    assert (cli.directory / "file").read_text() == "text"


def test_root_lets_others_in_as_permissions_say(cli: CommandLine) -> None:
    cli.create()
    cli.mount()
    (cli.directory / "open").write_text("text")
    (cli.directory / "closed").touch(mode=0o600)

    def read_as_nobody(name: str) -> int:
        return subprocess.run([*AS_NOBODY, "cat", str(cli.directory / name)], capture_output=True).returncode

    assert read_as_nobody("open") == 0
    assert read_as_nobody("closed") == 1
    cli.umount()
    cli.mount("-o", "noallow_other")
    assert read_as_nobody("open") == 1


# -- what cannot be mounted -------------------------------------------------------------------------------------------


def test_a_volume_that_is_mounted(cli: CommandLine) -> None:
    cli.create()
    cli.mount()
    pid = cli.mounted()["pid"]
    elsewhere = cli.root / "elsewhere"
    elsewhere.mkdir()
    said = cli.refusal("mount", "work", str(elsewhere))
    assert f"mounted on {cli.directory} already (process {pid})" in said and "loligo umount" in said
    said = cli.refusal("mount", "work", str(cli.directory))
    assert "already" in said and "loligo umount" in said
    assert cli.mounted()["pid"] == pid


def test_places_to_mount_on(cli: CommandLine) -> None:
    cli.create()
    assert "mkdir -p" in cli.refusal("mount", "work", str(cli.root / "nowhere"))
    file = cli.root / "file"
    file.touch()
    assert "is no directory" in cli.refusal("mount", "work", str(file))
    assert "is not empty" in cli.refusal("mount", "work", str(cli.root))


def test_wrong_calls(cli: CommandLine) -> None:
    cli.create()
    assert "unknown option 'size=5'" in cli.refusal("mount", "work", str(cli.directory), "-o", "size=5")
    assert "known: work" in cli.refusal("mount", "wrok", str(cli.directory))
    assert "no volume at" in cli.refusal("mount", cli.root.as_uri(), str(cli.directory))
    cli.run("mount", "work", code=2)
    cli.run("mout", code=2)


def test_umount_of_what_is_not_mounted(cli: CommandLine) -> None:
    assert "loligo status" in cli.refusal("umount", str(cli.directory))


# -- the end ------------------------------------------------------------------------------------------------------------


def test_a_busy_mount_stays_and_its_user_is_named(cli: CommandLine) -> None:
    cli.create()
    cli.mount()
    with open(cli.directory / "file", "w"):
        said = cli.refusal("umount", str(cli.directory))
        assert f"process {os.getpid()}) uses {cli.directory}/file" in said
        assert cli.mounted()["state"] == "up"
    cli.umount()


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_unmounts_and_stores(cli: CommandLine, transport: str, number: signal.Signals) -> None:
    cli.create()
    cli.mount("-o", f"transport={transport}")
    (cli.directory / "file").write_text("text")
    pid = cli.mounted()["pid"]
    os.kill(pid, number)
    wait_until(lambda: has_ended(pid), "the end of the process")
    assert not cli.is_mounted()
    assert "work is stored" in cli.log()
    cli.mount()
    assert (cli.directory / "file").read_text() == "text"


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_second_signal_does_not_wait_for_users(cli: CommandLine, transport: str) -> None:
    cli.create()
    cli.mount("-o", f"transport={transport}")
    pid = cli.mounted()["pid"]
    file = os.open(cli.directory / "file", os.O_WRONLY | os.O_CREAT)
    try:
        os.write(file, b"before")
        os.kill(pid, signal.SIGTERM)
        wait_until(lambda: not cli.is_mounted(), "the mount is out of the tree")
        os.write(file, b" and after")
        os.kill(pid, signal.SIGTERM)
        wait_until(lambda: has_ended(pid), "the end of the process")
        with pytest.raises(OSError) as failed:
            os.write(file, b"too late")
        assert failed.value.errno in (errno.ENOTCONN, errno.ECONNABORTED)
    finally:
        with contextlib.suppress(OSError):
            os.close(file)
    cli.mount()
    assert (cli.directory / "file").read_bytes() == b"before and after"


def test_a_killed_process_is_told_apart_and_nothing_synced_is_lost(cli: CommandLine) -> None:
    cli.create()
    cli.mount()
    with open(cli.directory / "file", "wb") as file:
        file.write(b"synced")
        file.flush()
        os.fsync(file.fileno())
    pid = cli.mounted()["pid"]
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: has_ended(pid), "the end of a killed process")
    assert cli.mounted()["state"] == "dead"
    assert "dead mount" in cli.refusal("mount", "work", str(cli.directory))
    assert f"its process ({pid}) had died" in cli.refusal("umount", str(cli.directory))
    assert not cli.is_mounted()
    cli.mount()
    assert (cli.directory / "file").read_bytes() == b"synced"


def test_in_the_foreground(cli: CommandLine) -> None:
    cli.create()
    command = [str(SCRIPTS / "loligo"), "mount", "work", str(cli.directory), "--foreground"]
    with subprocess.Popen(
        command, env=cli.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            assert f"work is mounted on {cli.directory}" in process.stdout.readline()
            assert cli.mounted()["pid"] == process.pid
            (cli.directory / "file").write_text("text")
        finally:
            process.send_signal(signal.SIGINT)
        _, log = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "work is stored" in log
    assert not (cli.meta() / "mount.log").exists()


def test_a_failure_in_the_foreground(cli: CommandLine) -> None:
    cli.create()
    cli.mount()
    elsewhere = cli.root / "elsewhere"
    elsewhere.mkdir()
    done = cli.run("mount", "work", str(elsewhere), "--foreground", code=1)
    assert re.search(r"^loligo: work is mounted on", done.stderr, re.MULTILINE)


def test_an_ordinary_user_mounts(cli: CommandLine) -> None:
    """In a mount namespace with a /dev/fuse for everybody, which not every machine has."""
    if subprocess.run([*AS_NOBODY, "test", "-x", str(SCRIPTS / "loligo")]).returncode != 0:
        pytest.skip(f"other users cannot reach {SCRIPTS}")
    home = cli.root / "home"
    home.mkdir()
    os.chown(home, 65534, 65534)
    as_user = """
        loligo volume create mine --meta file://$HOME/meta --data file://$HOME/data
        mkdir $HOME/mnt
        loligo mount mine $HOME/mnt
        echo text > $HOME/mnt/file
        cat $HOME/mnt/file
        loligo status
    """
    script = f"""
        mknod {cli.root}/fuse c 10 229
        chmod 666 {cli.root}/fuse
        mount --bind {cli.root}/fuse /dev/fuse
        export HOME={home} PATH={SCRIPTS}:$PATH
        {" ".join(AS_NOBODY)} sh -euc '{as_user}'
        loligo status
        {" ".join(AS_NOBODY)} loligo umount $HOME/mnt
    """
    environment = {
        key: value for key, value in cli.environment.items() if key not in ("LOLIGO_CONFIG_DIR", "XDG_CONFIG_HOME")
    }
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-euc", script], env=environment, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done
    assert "\ntext\n" in done.stdout
    assert done.stdout.count(f"{home}/mnt: mine, up, read-write") == 2
    assert (home / ".config" / "loligo" / "volumes" / "mine").exists()
    assert "mine is stored" in (home / "meta" / "mount.log").read_text()
