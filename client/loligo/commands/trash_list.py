"""`loligo trash list`"""

import json
import os
import pwd
import re
import time
from datetime import datetime
from typing import Any

import click

from loligo.failures import CommandError
from loligo_runtime.sizes import format_size

_IN_PART = " (what is left: some of it is purged)"
_AGO = re.compile(r"\d+[smhdw]")


@click.command("list")
@click.argument("path", required=False)
@click.option(
    "--since", metavar="TIME", help="Only what was removed since then: 2h (ago), 7d, 2026-11-29, 2026-11-29T05:31."
)
@click.option("--by", metavar="USER", help="Only what this user has removed; a name or a number.")
@click.option("--json", "as_json", is_flag=True, help="For scripts: a list of objects, one a batch.")
def command(path: str | None, since: str | None, by: str | None, as_json: bool) -> None:
    """What was removed and can be restored: a line a batch, the newest first.

    PATH: only what was removed there or below; it need not exist any more. Of a batch, or something in it (.trash/BATCH), all
    paths that it has are shown. Without it, all of the volume that you are in. You see what you have removed yourself, root
    what anybody has.

    Columns: the number of the batch, when, who, how many files and directories, their size, in how much time it goes for good,
    and what it was. 'tree': a directory that was moved to the trash as a whole, and what is in it is not counted yet.
    """
    from loligo.trash_folder import moment, shown, trash_of
    from loligo_client.shell.own_names import TRASH_NAME

    since_ns = 0 if since is None else _since(since)
    uid = None if by is None else _uid(by)
    folder, below = trash_of(path or ".")
    folder.check_reachable()
    rows = [
        (found.batch, [folder.full(path) for path in found.paths], found.is_all)
        for found in folder.listed(b"" if path is None else below)
        if found.batch.last_ns >= since_ns and uid in (None, found.batch.uid)
    ]
    shows_all = below.startswith(TRASH_NAME + b"/")
    if as_json:
        click.echo(json.dumps([_describe(batch, paths, is_all) for batch, paths, is_all in rows], indent=2))
        return
    if not rows:
        click.echo("nothing that you could restore was removed there", err=True)
        return
    now_ns = time.time_ns()
    lines = [("BATCH", "REMOVED", "BY", "FILES", "SIZE", "GOES IN", "WHAT")]
    for batch, paths, is_all in rows:
        lines.append(
            (
                str(batch.number),
                moment(batch.first_ns),
                _user(batch.uid),
                str(batch.inodes if batch.label else batch.names) if batch.is_counted else "tree",
                format_size(batch.size_bytes) if batch.is_counted else "-",
                _goes_in(batch, now_ns),
                (_told(paths, is_all) if not shows_all else shown(paths[0]))
                + (_IN_PART if batch.is_partly_purged else ""),
            )
        )
        if shows_all:
            lines += [("", "", "", "", "", "", what) for what in [*map(shown, paths[1:]), *([] if is_all else ["…"])]]
    widths = [max(len(line[column]) for line in lines) for column in range(6)]
    for number, removed, who, files, size, goes, what in lines:
        click.echo(
            f"{number:>{widths[0]}}  {removed:<{widths[1]}}  {who:<{widths[2]}}  {files:>{widths[3]}}  {size:>{widths[4]}}"
            f"  {goes:>{widths[5]}}  {what}"
        )


def _told(paths: list[bytes], is_all: bool) -> str:
    from loligo.trash_folder import shown

    if len(paths) == 1:
        return shown(paths[0])
    others = f"{len(paths) - 1} others" if is_all else f"more than {len(paths) - 1} others"
    return f"{shown(paths[0])} and {'1 other' if others == '1 others' else others}"


def _describe(batch: Any, paths: list[bytes], is_all: bool) -> dict[str, Any]:
    from loligo.trash_folder import moment

    return {
        "batch": batch.number,
        "name": batch.name,
        "trash": os.path.join(batch.mount, ".trash", batch.name),
        "first": moment(batch.first_ns),
        "last": moment(batch.last_ns),
        "due": moment(batch.due_ns) if batch.due_ns else None,
        "purged": batch.is_purged,
        "partly_purged": batch.is_partly_purged,
        "paused": batch.is_paused,
        "priority": batch.priority,
        "rate": batch.rate or None,
        "uid": batch.uid,
        "pid": batch.pid,
        "names": batch.names,
        "inodes": batch.inodes,
        "size_bytes": batch.size_bytes,
        "counted": batch.is_counted,
        "label": batch.label or None,
        "paths": [os.fsdecode(path) for path in paths],
        "all_paths": is_all,
        "common": os.fsdecode(os.path.commonpath(paths)),
    }


def _since(text: str) -> int:
    """ns since 1970. CommandError."""
    from loligo_trash.policy import PolicyInvalid, parse_time

    try:
        if _AGO.fullmatch(text):
            return time.time_ns() - parse_time(text.encode())
        return int(datetime.fromisoformat(text).astimezone().timestamp() * 1e9)
    except (PolicyInvalid, ValueError, OverflowError):
        raise CommandError(f"{text!r} is no time: write 2h or 7d (ago), 2026-11-29, or 2026-11-29T05:31") from None


def _uid(user: str) -> int:
    """CommandError"""
    if user.isdigit():
        return int(user)
    try:
        return pwd.getpwnam(user).pw_uid
    except KeyError:
        raise CommandError(f"there is no user {user!r} here: give a number instead, as 'ls -n' shows it") from None


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _goes_in(batch: Any, now_ns: int) -> str:
    if batch.is_paused:
        return "paused"
    return "now" if batch.due_ns <= now_ns else _duration(batch.due_ns - now_ns)


def _duration(time_ns: int) -> str:
    """In its two largest units."""
    left_s = time_ns // 1_000_000_000
    days, hours, minutes = left_s // 86400, left_s // 3600 % 24, left_s // 60 % 60
    if days:
        return f"{days}d {hours}h"
    return f"{hours}h {minutes}m" if hours else f"{minutes}m {left_s % 60}s"
