"""`loligo volume …`"""

import click

from loligo.cli import LazyGroup


@click.group(
    "volume",
    cls=LazyGroup,
    where={
        "create": "loligo.commands.volume_create",
        "list": "loligo.commands.volume_list",
        "show": "loligo.commands.volume_show",
        "check": "loligo.commands.volume_check",
        "users": "loligo.commands.volume_users",
    },
)
def command() -> None:
    """Make, list, describe and check volumes, and the Ceph users that they need.

    A volume is one file system. It has a place for its metadata and one for its data. Names of volumes are kept
    on this machine, in /etc/loligo for root and ~/.config/loligo for others (or where LOLIGO_CONFIG_DIR points);
    wherever a name is asked for, the URL of the metadata does as well.
    """
