"""`loligo jobs …`"""

import json
import sys
import time
from collections.abc import Callable
from typing import Any

import click

_EVERY_S = 1.0
#: Also behind the name of what is to be done.
_MOUNT = click.option("--mount", metavar="PATH", help="A path on the volume that has BATCH.  [default: where you are]")
_PRIORITIES = ("high", "normal", "low")


@click.group("jobs", invoke_without_command=True)
@click.option("--watch", is_flag=True, help="Show it again every second, until nothing is left but what is paused.")
@click.option("--json", "as_json", is_flag=True, help="For scripts: a list of objects, one a batch.")
@click.option("--mount", metavar="PATH", default=".", help="A path on the volume.  [default: where you are]")
@click.pass_context
def command(context: click.Context, watch: bool, as_json: bool, mount: str) -> None:
    """What is being purged, or could be by now, or is paused, of the volume that you are in, and what is left of it: a line a
    batch, in the order in which they go.

    You see what you have removed yourself, root everything; and who sees a batch may pause, resume and cancel it and set its
    priority and its rate.

    \b
    Examples:
      loligo jobs --watch
      loligo jobs pause 17 18
      loligo jobs priority 17 18 low
      loligo jobs rate 17 100/s
    """
    context.obj = mount
    if context.invoked_subcommand is not None:
        return
    if watch and as_json:
        raise click.UsageError("--watch is for people, --json for scripts: give one of them")
    if as_json:
        click.echo(json.dumps([_describe(batch) for batch in _jobs(mount)], indent=2))
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
        if not watch or all(batch.is_paused for batch in jobs):
            return
        time.sleep(_EVERY_S)
    click.echo("nothing is being purged", err=True)


@command.command("pause")
@click.argument("batches", nargs=-1, required=True, metavar="BATCH...")
@_MOUNT
@click.pass_context
def pause(context: click.Context, batches: tuple[str, ...], mount: str | None) -> None:
    """Purge no more of BATCH..., until 'resume'.

    Whatever their time: also one that is not purged yet stays. It can be restored, as any.

    'loligo trash purge' ends the pause, and so does the need of room: when the trash is beyond its limit or the store nearly
    full, the oldest batches go, paused or not.
    """
    from loligo.trash import pause

    _do(mount or context.obj, batches, pause, "is paused")


@command.command("resume")
@click.argument("batches", nargs=-1, required=True, metavar="BATCH...")
@_MOUNT
@click.pass_context
def resume(context: click.Context, batches: tuple[str, ...], mount: str | None) -> None:
    """Take a pause back: the purge of BATCH... goes on where it was.

    Time went on meanwhile: what is due by now goes at once.
    """
    from loligo.trash import resume

    _do(mount or context.obj, batches, resume, "is resumed")


@command.command("priority")
@click.argument("batches", nargs=-1, required=True, metavar="BATCH...")
@click.argument("priority", type=click.Choice(_PRIORITIES))
@_MOUNT
@click.pass_context
def priority(context: click.Context, batches: tuple[str, ...], priority: Any, mount: str | None) -> None:
    """Purge BATCH... before others, or after them.

    Of what may be purged by now, everything of a higher priority goes first, and of one priority what has been due for longest.
    """
    from loligo.trash import set_priority

    def set_one(batch: str, mount: str) -> None:
        set_priority(batch, priority, mount=mount)

    _do(mount or context.obj, batches, set_one, f"has priority {priority}")


@command.command("rate", context_settings={"ignore_unknown_options": True})  # so -5/s is a rate that is none
@click.argument("batches", nargs=-1, required=True, metavar="BATCH...")
@click.argument("rate", metavar="N/s|none")
@_MOUNT
@click.pass_context
def rate(context: click.Context, batches: tuple[str, ...], rate: str, mount: str | None) -> None:
    """Purge no more than N files (and directories) a second of each BATCH, while others go at their own pace.

    The limit is 1/s to 1048575/s; 'none' takes it back. So does the need of room: when the trash is beyond its limit or the
    store nearly full, the oldest batches go as fast as they can.
    """
    from loligo.trash import set_rate
    from loligo_trash.rate import RateInvalid, parse_rate

    for batch in batches:
        if batch.startswith("-"):
            raise click.NoSuchOption(batch, ctx=context)
    try:
        number = parse_rate(rate)
    except RateInvalid as error:
        raise click.UsageError(str(error)) from None

    def set_one(batch: str, mount: str) -> None:
        set_rate(batch, number or None, mount=mount)

    _do(mount or context.obj, batches, set_one, f"goes at {rate} at most" if number else "goes as fast as it can")


@command.command("cancel")
@click.argument("batches", nargs=-1, required=True, metavar="BATCH...")
@_MOUNT
@click.pass_context
def cancel(context: click.Context, batches: tuple[str, ...], mount: str | None) -> None:
    """Take a purge back: what is not gone yet of BATCH... stays as long as it would have. ('loligo trash keep' is the same.)

    One that is paused stays paused.
    """
    from loligo.trash import keep

    _do(mount or context.obj, batches, keep, "is kept")


def _do(mount: str, batches: tuple[str, ...], work: Callable[..., None], done: str) -> None:
    from loligo.each import for_each

    def do_one(batch: str) -> str:
        work(batch, mount=mount)
        return f"batch {batch} {done}"

    if not for_each(batches, do_one):
        sys.exit(1)


def _jobs(mount: str) -> list[Any]:
    """In the order in which they go; those that are paused come last."""
    from loligo.trash import batches
    from loligo.trash_folder import trash_of

    folder, _ = trash_of(mount)
    now_ns = time.time_ns()
    found = [batch for batch in batches(folder.root) if batch.is_purged or batch.is_paused or batch.due_ns <= now_ns]
    return sorted(
        found,
        key=lambda batch: (batch.is_paused, _PRIORITIES.index(batch.priority), batch.due_ns, batch.number),
    )


def _left(batch: Any) -> str:
    from loligo_runtime.sizes import format_size

    what = batch.label or batch.name
    why = _why(batch)
    if not batch.is_counted:
        return f"{what}: a whole directory, which is being counted; {why}"
    return f"{what}: {batch.inodes} files, {format_size(batch.size_bytes)} left, {why}"


def _why(batch: Any) -> str:
    from loligo.trash_folder import moment

    if batch.is_purged:
        why = "purged by hand"
    elif batch.due_ns <= time.time_ns():
        why = "its time has come"
    else:
        why = f"kept until {moment(batch.due_ns)}"
    if batch.priority != "normal":
        why += f", {batch.priority} priority"
    if batch.rate:
        why += f", at most {batch.rate}/s"
    return f"{why}, paused" if batch.is_paused else why


def _describe(batch: Any) -> dict[str, Any]:
    from loligo.trash_folder import moment

    return {
        "batch": batch.number,
        "name": batch.name,
        "label": batch.label or None,
        "uid": batch.uid,
        "due": moment(batch.due_ns) if batch.due_ns else None,
        "purged": batch.is_purged,
        "partly_purged": batch.is_partly_purged,
        "paused": batch.is_paused,
        "priority": batch.priority,
        "rate": batch.rate or None,
        "counted": batch.is_counted,
        "names": batch.names,
        "inodes": batch.inodes,
        "size_bytes": batch.size_bytes,
    }
