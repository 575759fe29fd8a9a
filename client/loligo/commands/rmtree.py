"""`loligo rmtree`"""

import os
import sys

import click


@click.command("rmtree")
@click.argument("paths", nargs=-1, required=True, metavar="PATH...")
@click.option("--now", is_flag=True, help="Do not keep it: let it go for good, from now on.")
@click.option("--wait", is_flag=True, help="Return when it is gone for good, and show how far that is.")
def command(paths: tuple[str, ...], now: bool, wait: bool) -> None:
    """Remove directories with all that is in them, at once, whatever their size.

    Each PATH is moved to the trash with one rename, so it is gone when the command returns; as a batch, whose number is
    printed, it can be restored for as long as the volume keeps what was removed. With --now it is not kept: it goes in the
    background, and 'loligo jobs' shows how far that is.

    You need leave to write in the directory that PATH is in, and in PATH itself, but in nothing below. Programs that have files
    of it open go on reading and writing them.

    Not removed: the root of a volume, the trash, mount points and what has some below it, a directory that is bind-mounted
    elsewhere (but what has such a one further down is), and what is no directory.

    \b
    Examples:
      loligo rmtree /mnt/work/run-17                  and 'loligo trash restore NUMBER' takes it back
      loligo rmtree /mnt/work/run-* --now --wait
    """
    from loligo.each import for_each
    from loligo.progress import Progress
    from loligo.removal import Removal, rmtree
    from loligo.trash_folder import shown

    removals: list[Removal] = []

    def remove(path: str) -> str:
        removal = rmtree(path, now)
        removals.append(removal)
        number = "" if removal.batch is None else f"batch {removal.batch}, "
        return f"{told(removal)}: {number}{what_becomes_of(removal)}"

    def told(removal: Removal) -> str:
        return shown(os.fsencode(removal.path))

    def what_becomes_of(removal: Removal) -> str:
        if now:
            return "being purged"
        if removal.is_kept:
            return "in the trash"
        return "not kept: 'loligo trash policy' on the directory that it was in tells why"

    def wait_for(removal: Removal) -> str:
        with Progress(removal.path) as progress:
            removal.wait(progress=progress.show)
        return f"{told(removal)}: purged"

    succeeded = for_each(paths, remove)
    if wait:
        succeeded &= for_each(removals, wait_for)
    if not succeeded:
        sys.exit(1)
