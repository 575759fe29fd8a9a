"""`loligo trash policy`"""

import os
from typing import Final

import click

from loligo_trash.policy import LIMIT_NAME, MINIMUM_AGE_NAME, RETENTION_NAME, parse_limit, parse_time

_INHERIT: Final = "inherit"


@click.command("policy")
@click.argument("path")
@click.option(
    "--retention", metavar="TIME|inherit", help="How long what is removed is kept: 2w, 7d, 12h, 30m, 90s; 0: it is not."
)
@click.option("--minimum-age", metavar="TIME|inherit", help="What has lived for less when it is removed is not kept.")
@click.option(
    "--limit", metavar="SIZE|inherit", help="When the trash has more, the oldest goes; 0: no limit. Of the volume."
)
def command(path: str, retention: str | None, minimum_age: str | None, limit: str | None) -> None:
    """Show, and set, how long what is removed from PATH is kept.

    What a directory says holds for all below it, unless a directory further down, or a file of itself, says otherwise;
    'inherit' takes back what PATH says. It holds for what is removed from then on. The owner of PATH may set it, and root.
    The limit is the volume's: PATH is the root of its mount then, and only root may set it.

    \b
    Examples:
      loligo trash policy /mnt/work/project                    what holds there, and who says so
      loligo trash policy /mnt/work/scratch --retention 0      nothing is kept
      loligo trash policy /mnt/work/project --retention 30d
      loligo trash policy /mnt/work --limit 500G
    """
    from loligo.trash_folder import shown
    from loligo.trash_policy import policy_of, set_policy

    wanted = {RETENTION_NAME: retention, MINIMUM_AGE_NAME: minimum_age, LIMIT_NAME: limit}
    for name, value in wanted.items():
        if value is not None:
            set_policy(path, name, None if value == _INHERIT else value)
    for said in policy_of(path):
        label = os.fsdecode(said.name.rpartition(b".")[2]).replace("_", " ")
        keeps_nothing = said.name == RETENTION_NAME and not parse_time(said.value.encode())
        is_none = keeps_nothing or (said.name == LIMIT_NAME and not parse_limit(said.value.encode()))
        where = f"set for {shown(said.where)}" if said.where else "by default"
        more = ": what is removed is gone at once" if keeps_nothing else ""
        click.echo(f"{label:<12} {'none' if is_none else said.value:<8} {where}{more}")
