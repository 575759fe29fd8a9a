"""`loligo trash empty`"""

import sys

import click

from loligo_runtime.sizes import format_size


@click.command("empty")
@click.argument("path", default=".")
@click.option("--yes", is_flag=True, help="Do not ask.")
def command(path: str, yes: bool) -> None:
    """Purge everything that you have removed from the volume that PATH is on; as root, what anybody has.

    Says how much it is, and asks. It goes in the background; 'loligo trash keep' takes it back, for what is not gone yet.
    """
    from loligo.each import for_each
    from loligo.trash import Batch, batches, purge
    from loligo.trash_folder import trash_of

    folder, _ = trash_of(path)
    root = folder.mount.directory
    found = [batch for batch in batches(root) if batch.is_paused or not batch.is_purged]
    if not found:
        click.echo("there is nothing to purge", err=True)
        return
    trees = sum(not batch.is_counted for batch in found)
    counted = f"{sum(batch.inodes for batch in found)} files, {format_size(sum(batch.size_bytes for batch in found))}"
    more = f", and what is in {trees} whole directories, which is not counted yet" if trees else ""
    users = len({batch.uid for batch in found})
    click.echo(f"{len(found)} batches of {users} users on {root}: {counted}{more}", err=True)
    if not yes:
        click.confirm("Let all of it go for good?", abort=True, err=True)

    def purge_one(batch: Batch) -> str:
        purge(batch.name, mount=root)
        return f"batch {batch.number} is being purged"

    if not for_each(found, purge_one):
        sys.exit(1)
