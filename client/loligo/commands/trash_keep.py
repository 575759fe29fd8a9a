"""`loligo trash keep`"""

import sys

import click


@click.command("keep")
@click.argument("batches", nargs=-1, required=True, metavar="BATCH...")
@click.option(
    "--mount", metavar="PATH", default=".", help="A path on the volume that has them.  [default: where you are]"
)
def command(batches: tuple[str, ...], mount: str) -> None:
    """Take a purge back: what is not gone yet of BATCH... stays as long as it would have.

    ('loligo jobs cancel' is the same.)
    """
    from loligo.each import for_each
    from loligo.trash import keep

    def keep_one(batch: str) -> str:
        keep(batch, mount=mount)
        return f"batch {batch} is kept"

    if not for_each(batches, keep_one):
        sys.exit(1)
