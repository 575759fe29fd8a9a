"""`loligo jobs …`"""

import sys
import time
from typing import Any

import click

_EVERY_S = 1.0


@click.group("jobs", invoke_without_command=True)
@click.option("--watch", is_flag=True, help="Show it again every second, until nothing is left.")
@click.option("--mount", metavar="PATH", default=".", help="A path on the volume.  [default: where you are]")
@click.pass_context
def command(context: click.Context, watch: bool, mount: str) -> None:
    """What is being purged, or could be by now, of the volume that you are in, and what is left of it.

    You see what you have removed yourself, root everything.
    """
    context.obj = mount
    if context.invoked_subcommand is not None:
        return
    from loligo.progress import Progress

    known: dict[int, Progress] = {}
    while jobs := _jobs(mount):
        lines = []
        for batch in jobs:
            progress = known.setdefault(batch.number, Progress(""))
            lines.append(f"{batch.number:>6}  {_left(batch) if not watch else progress.told(batch, time.monotonic())}")
        if watch and sys.stdout.isatty():
            click.clear()
        click.echo("\n".join(lines))
        if not watch:
            return
        time.sleep(_EVERY_S)
    click.echo("nothing is being purged", err=True)


@command.command("cancel")
@click.argument("batches", nargs=-1, required=True, metavar="BATCH...")
@click.pass_context
def cancel(context: click.Context, batches: tuple[str, ...]) -> None:
    """Take a purge back: what is not gone yet of BATCH... stays as long as it would have. ('loligo trash keep' is the same.)"""
    from loligo.each import for_each
    from loligo.trash import keep

    def keep_one(batch: str) -> str:
        keep(batch, mount=context.obj)
        return f"batch {batch} is kept"

    if not for_each(batches, keep_one):
        sys.exit(1)


def _jobs(mount: str) -> list[Any]:
    from loligo.trash import batches
    from loligo.trash_folder import trash_of

    folder, _ = trash_of(mount)
    now_ns = time.time_ns()
    return [batch for batch in batches(folder.root) if batch.is_purged or batch.due_ns <= now_ns]


def _left(batch: Any) -> str:
    from loligo_runtime.sizes import format_size

    what = batch.label or batch.name
    why = "purged by hand" if batch.is_purged else "its time has come"
    if not batch.is_counted:
        return f"{what}: a whole directory, which is being counted; {why}"
    return f"{what}: {batch.inodes} files, {format_size(batch.size_bytes)} left, {why}"
