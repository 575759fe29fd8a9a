"""`mount -t loligo` and lines of fstab, as mount(8) does them.

mount(8) looks for its helpers in /sbin. So that the machine stays as it is, a folder of ours is laid over /sbin, in a
mount namespace that ends with the test.
"""

import os
import subprocess
from pathlib import Path

import pytest

from cli.command_line import SCRIPTS, CommandLine


def in_namespace(cli: CommandLine, script: str) -> subprocess.CompletedProcess[str]:
    helpers = cli.root / "helpers"
    helpers.mkdir()
    (helpers / "mount.loligo").symlink_to(SCRIPTS / "mount.loligo")
    laid_over = f"mount -t overlay overlay -o lowerdir={helpers}:/usr/sbin /usr/sbin"
    environment = {**cli.environment, "DIR": str(cli.directory), "LOLIGO": str(SCRIPTS / "loligo")}
    return subprocess.run(
        ["unshare", "--mount", "sh", "-euc", f"{laid_over}\n{script}"],
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_mount_8_finds_its_helper(cli: CommandLine) -> None:
    cli.create()
    script = """
        mount -t loligo work $DIR -o noatime,nodev,x-nothing
        grep " $DIR " /proc/mounts
        echo text > $DIR/file
        $LOLIGO umount $DIR
        mount -t loligo -r work $DIR
        cat $DIR/file
        ! touch $DIR/other 2>/dev/null
        $LOLIGO umount $DIR
    """
    done = in_namespace(cli, script)
    assert done.returncode == 0, done
    row, text = done.stdout.splitlines()
    assert text == "text"
    source, directory, fs_type, options, *_ = row.split()
    assert (source, directory, fs_type) == ("work", str(cli.directory), "fuse.loligo")
    assert {"rw", "nodev", "noatime", "default_permissions", "allow_other"} <= set(options.split(","))


def test_a_line_in_fstab(cli: CommandLine) -> None:
    cli.create()
    fstab = cli.root / "fstab"
    fstab.write_text(f"work {cli.directory} loligo defaults,noauto,_netdev,x-systemd.requires=network.target 0 0\n")
    script = f"""
        mount --fstab {fstab} $DIR
        sed -i s/noauto,// {fstab}
        mount --fstab {fstab} --all
        grep -c " $DIR " /proc/mounts
        $LOLIGO umount $DIR
    """
    done = in_namespace(cli, script)
    assert done.returncode == 0, done
    assert done.stdout == "1\n"


def helper(cli: CommandLine, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [str(SCRIPTS / "mount.loligo"), *arguments]
    return subprocess.run(command, env=cli.environment, capture_output=True, text=True, timeout=60)


def test_the_helper_is_quiet_unless_asked(cli: CommandLine) -> None:
    cli.create()
    assert helper(cli, "work", str(cli.directory), "-n", "-o", "rw").stdout == ""
    cli.umount()
    assert "is mounted on" in helper(cli, "work", str(cli.directory), "-v", "-o", "rw").stdout


def test_the_helper_only_pretends_when_told(cli: CommandLine) -> None:
    cli.create()
    assert helper(cli, "work", str(cli.directory), "-f").returncode == 0
    assert not os.path.ismount(cli.directory)
    assert helper(cli, "wrok", str(cli.directory), "-f").returncode == 32


@pytest.mark.parametrize(
    ("arguments", "code"),
    [(["work"], 1), (["-Q", "work", "{dir}"], 1), (["wrok", "{dir}"], 32), (["work", "{dir}", "-o", "size=5"], 32)],
)
def test_exit_codes_are_those_of_mount_8(cli: CommandLine, arguments: list[str], code: int) -> None:
    cli.create()
    done = helper(cli, *(argument.format(dir=cli.directory) for argument in arguments))
    assert done.returncode == code
    assert done.stderr.startswith("mount.loligo: ") and done.stderr.count("\n") == 1


def test_sloppy(cli: CommandLine) -> None:
    cli.create()
    assert helper(cli, "work", str(cli.directory), "-s", "-o", "size=5").returncode == 0
    assert Path(cli.directory).is_mount()
