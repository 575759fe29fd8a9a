"""`loligo trash purge`"""

import sys

import click


@click.command("purge")
@click.argument("batches", nargs=-1, required=True, metavar="BATCH...")
@click.option(
    "--mount", metavar="PATH", default=".", help="A path on the volume that has them.  [default: where you are]"
)
def command(batches: tuple[str, ...], mount: str) -> None:
    """Let BATCH... go for good, now and not when their time has come.

    Returns at once; they go in the background, and 'loligo jobs' shows how far that is. 'loligo trash keep' takes it back, for
    what is not gone yet. People purge what they have removed themselves, root anything.
    """
    from loligo.each import for_each
    from loligo.trash import purge

    def purge_one(batch: str) -> str:
        purge(batch, mount=mount)
        return f"batch {batch} is being purged"

    if not for_each(batches, purge_one):
        sys.exit(1)
