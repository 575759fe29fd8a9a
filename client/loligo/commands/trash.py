"""`loligo trash …`"""

import click

from loligo.cli import LazyGroup


@click.group(
    "trash",
    cls=LazyGroup,
    where={
        "list": "loligo.commands.trash_list",
        "restore": "loligo.commands.trash_restore",
        "purge": "loligo.commands.trash_purge",
        "keep": "loligo.commands.trash_keep",
        "empty": "loligo.commands.trash_empty",
        "policy": "loligo.commands.trash_policy",
    },
)
def command() -> None:
    """Get back what was removed, or let it go.

    What is removed from a volume is kept for a while (7 days, if nobody says otherwise), in batches: what one process removes
    in one go, as 'rm -rf' does, is one batch, with a number. It is all in the directory .trash at the root of the mount, which
    is not listed but can be looked at: ls, find, cp. People see what they have removed themselves, root all.

    \b
      loligo trash list                         what was removed from the volume that you are in
      loligo trash restore 17                   put batch 17 back where it was
      loligo trash restore /mnt/work/thesis     put back what had that path
    """
