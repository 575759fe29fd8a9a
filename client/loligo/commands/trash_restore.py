"""`loligo trash restore`"""

import sys

import click

from loligo.failures import CommandError


@click.command("restore")
@click.argument("what", nargs=-1, required=True, metavar="BATCH|PATH...")
@click.option(
    "--to",
    metavar="DIR",
    help="Restore into this directory, on the mount that PATH or --mount is on, instead of where things were.",
)
@click.option(
    "--on-conflict",
    type=click.Choice(["fail", "rename", "skip"]),
    default="fail",
    show_default=True,
    help="What happens where something else has a name by now.",
)
@click.option(
    "--mount", metavar="PATH", default=".", help="A path on the volume that has BATCH.  [default: where you are]"
)
def command(what: tuple[str, ...], to: str | None, on_conflict: str, mount: str) -> None:
    """Put back what was removed, with all that it was: content, owner, modes, times, attributes.

    BATCH is a number or a name, as 'loligo trash list' and 'ls .trash' show it. PATH is what something was called: the newest
    batch that has it is asked; or, if only things below were removed, the newest that has some of those. A path below .trash is
    that very thing. (A file called 17 is ./17.)

    Directories that are not there any more are made again, with the mode and the owner that they had, as far as you may. Of
    several batches the newest is restored first.

    \b
    --on-conflict:
      fail     nothing is restored, and all that is in the way is listed
      rename   it comes back as NAME.restored, or NAME.restored-2, …
      skip     it stays in the trash; all else is restored

    Nothing is ever replaced, and nothing merged: a directory that is there again is in the way of the whole tree that had its
    name. Restore single files of it by their paths, or rename, and take them from NAME.restored.

    Exit code 1 if something was not restored, also if it was skipped.

    \b
    Examples:
      loligo trash restore 17
      loligo trash restore /mnt/work/thesis --on-conflict rename
      loligo trash restore 17 18 --mount /mnt/work --to /mnt/work/found
    """
    from loligo.trash import NotRestored, restore
    from loligo.trash_folder import shown

    try:
        report = restore(*what, to=to, on_conflict=on_conflict, mount=mount)  # type: ignore[arg-type]
    except NotRestored as error:
        report = error.report
    for restored in report.restored:
        was = f" (was {shown(restored.path)})" if restored.path != restored.target else ""
        click.echo(f"{shown(restored.target)}{was}")
    for path, why in report.skipped:
        click.echo(f"loligo: skipped {shown(path)}: {why}", err=True)
    for path, why in report.left:
        click.echo(f"loligo: not restored: {shown(path)}: {why}", err=True)
    if report.skipped or report.left:
        if report.is_refused:
            raise CommandError("nothing was changed: see --on-conflict=rename and skip, or --to")
        sys.exit(1)
