"""`loligo status`"""

import json
import time
from typing import Any

import click

from loligo.sizes import format_size


@click.command("status")
@click.option("--json", "as_json", is_flag=True, help="For scripts: a list of objects, one a mount.")
def command(as_json: bool) -> None:
    """What is mounted on this machine, by which process, and how it is.

    State is "up"; "dead": the process is gone, 'loligo umount DIR' clears it away; or "unknown": the mount is not yours
    to look at.
    """
    from loligo_client.shell import mount_state

    found = [_describe(mount_state.read_note(mount), mount) for mount in mount_state.mounts()]
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    if not found:
        click.echo("nothing is mounted", err=True)
    for number, mount in enumerate(found):
        if number:
            click.echo()
        _print(mount)


def _describe(note: Any, mount: Any) -> dict[str, Any]:
    from loligo_client.shell import mount_state

    shown: dict[str, Any] = {
        "directory": mount.directory,
        "source": mount.source,
        "read_only": mount.read_only,
        "state": "unknown",
    }
    if note is None:
        return shown
    memory = mount_state.process_memory_bytes(note.pid) if note.is_alive else None
    return {
        **shown,
        "state": "up" if note.is_alive else "dead",
        "volume": note.volume,
        "meta": note.meta_url,
        "data": note.data_url,
        "transport": note.transport,
        "pid": note.pid,
        "since": time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(note.since_s)),
        "memory_bytes": memory[0] if memory else None,
        "memory_anonymous_bytes": memory[1] if memory else None,
        "log": note.log or None,
    }


def _print(mount: dict[str, Any]) -> None:
    mode = "read-only" if mount["read_only"] else "read-write"
    click.echo(f"{mount['directory']}: {mount.get('volume') or mount['source']}, {mount['state']}, {mode}")
    if "pid" not in mount:
        return
    memory = mount["memory_bytes"]
    anonymous = mount["memory_anonymous_bytes"]
    rows = {
        "metadata": mount["meta"],
        "data": mount["data"],
        "transport": mount["transport"],
        "process": mount["pid"],
        "since": mount["since"],
        "memory": memory is not None and f"{format_size(memory)}, {format_size(anonymous)} of it anonymous",
        "log": mount["log"],
    }
    for label, value in rows.items():
        if value:
            click.echo(f"  {label:<10} {value}")
