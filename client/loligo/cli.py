"""The `loligo` command: finds the subcommand, and turns its errors into a line and an exit code."""

import importlib
import sys
from typing import Any

import click

from loligo.failures import explain


class LazyGroup(click.Group):
    """Imports a command when it is used, so that `loligo status` does not wait for what `loligo mount` needs."""

    def __init__(self, *args: Any, where: dict[str, str], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._where = where

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self._where)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self._where:
            return None
        command: click.Command = importlib.import_module(self._where[cmd_name]).command
        return command


@click.group(
    cls=LazyGroup,
    where={
        "volume": "loligo.commands.volume",
        "mount": "loligo.commands.mount",
        "umount": "loligo.commands.umount",
        "status": "loligo.commands.status",
        "serve": "loligo.commands.serve",
        "session": "loligo.commands.session",
        "trash": "loligo.commands.trash",
        "rmtree": "loligo.commands.rmtree",
        "jobs": "loligo.commands.jobs",
    },
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(package_name="loligo", message="loligo %(version)s")
def loligo() -> None:
    """Loligo, a shared POSIX file system on Ceph RADOS; on one machine also without Ceph.

    \b
    A volume on local disks:
      loligo volume create work --meta file:///srv/loligo/meta --data file:///srv/loligo/data
      loligo mount work /mnt/work
      …
      loligo umount /mnt/work

    \b
    The same with its data in a Ceph pool:
      loligo volume create big --meta file:///srv/big/meta --data 'rados://mypool?conf=/etc/ceph/ceph.conf'

    \b
    From other machines, through a metadata server ('loligo serve'):
      loligo mount mds1:9440/work /mnt/work -o ca=/etc/loligo/ca.pem

    \b
    Something was removed, and should not have been:
      loligo trash list /mnt/work
      loligo trash restore /mnt/work/thesis

    \b
    At boot, as a line of /etc/fstab:
      work            /mnt/work    loligo  defaults,_netdev                          0  0
      mds1:9440/work  /mnt/remote  loligo  defaults,_netdev,ca=/etc/loligo/ca.pem    0  0

    Every command has its own --help. Errors say what to do; the exit code is 1 then, and 2 for a wrong call.
    """


def main() -> None:
    try:
        loligo(prog_name="loligo")
    except Exception as error:
        text = explain(error)
        if text is None:
            raise
        print(f"loligo: {text}", file=sys.stderr)
        sys.exit(1)
