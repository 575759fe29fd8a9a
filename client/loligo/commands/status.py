"""`loligo status`"""

import json
import time
from typing import Any

import click

from loligo_runtime.sizes import format_size


@click.command("status")
@click.option("--json", "as_json", is_flag=True, help="For scripts: a list of objects, one a mount or server.")
def command(as_json: bool) -> None:
    """What is mounted and served on this machine, by which process, and how it is.

    State is "up"; "dead": the process is gone, 'loligo umount DIR' clears it away; "ended": the server has shut this mount
    out, and it answers with errors until it is unmounted and mounted again; or "unknown": the mount is not yours to look at.
    A mount is up also while its metadata server is away; 'server' tells that. Of a server that runs here: which mounts have
    locks (flock, fcntl), which processes wait for one, and who has what is in their way.
    """
    from loligo_client.shell import mount_state

    found = [_describe(mount_state.read_note(mount), mount) for mount in mount_state.mounts()]
    served = _servers()
    if as_json:
        click.echo(json.dumps(found + served, indent=2))
        return
    if not found and not served:
        click.echo("nothing is mounted", err=True)
    for number, shown in enumerate(found + served):
        if number:
            click.echo()
        _print_server(shown) if "listen" in shown else _print(shown)


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
        "state": "dead" if not note.is_alive else "ended" if note.ended else "up",
        "ended": note.ended or None,
        "volume": note.volume,
        "meta": note.meta_url,
        "data": note.data_url,
        "server": note.server or None,
        "server_away_since": note.server_away_since_s and _moment(note.server_away_since_s),
        "transport": note.transport,
        "pid": note.pid,
        "since": _moment(note.since_s),
        "memory_bytes": memory[0] if memory else None,
        "memory_anonymous_bytes": memory[1] if memory else None,
        "log": note.log or None,
    }


def _moment(time_s: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(time_s))


def _servers() -> list[dict[str, Any]]:
    from loligo import servers
    from loligo_client.shell.mount_state import process_memory_bytes

    found = []
    for _, status in servers.running_servers():
        memory = process_memory_bytes(status.pid)
        found.append(
            {
                "listen": status.listen,
                "state": "up",
                "volume": status.volume,
                "meta": status.meta_url,
                "metrics": status.metrics or None,
                "pid": status.pid,
                "version": status.version,
                "up_s": round(status.up_s, 1),
                "sessions": len(status.sessions),
                "sessions_connected": sum(session.connected for session in status.sessions),
                "inodes": status.inodes,
                "size_bytes": status.size_bytes,
                "trash_inodes": status.trash_inodes,
                "trash_bytes": status.trash_bytes,
                "locks": _locks(status),
                "lock_waits": _lock_waits(status),
                "memory_bytes": memory[0] if memory else None,
            }
        )
    return found


def _locks(status: Any) -> list[dict[str, Any]]:
    """Of each session that has some, or waits for some."""
    return [
        {
            "session": f"{session.session:016x}",
            "mount": _mount_of(session),
            "locks": session.locks,
            "waits": session.lock_waits,
        }
        for session in status.sessions
        if session.locks or session.lock_waits
    ]


def _lock_waits(status: Any) -> list[dict[str, Any]]:
    mounts = {session.session: _mount_of(session) for session in status.sessions}
    return [
        {
            "mount": mounts.get(wait.session, f"session {wait.session:x}"),
            "pid": wait.pid,
            "inode": wait.ino,
            "kind": "flock" if wait.whole else "fcntl",
            "held_by": [mounts.get(session, f"session {session:x}") for session in wait.held_by],
        }
        for wait in status.lock_waits
    ]


def _mount_of(session: Any) -> str:
    return f"{session.host or '?'}:{session.mounted_on or '?'}"


def _print_server(server: dict[str, Any]) -> None:
    click.echo(f"server of {server['volume']} on {server['listen']}: {server['state']}")
    memory = server["memory_bytes"]
    rows = {
        "metadata": server["meta"],
        "process": server["pid"],
        "up": f"{server['up_s']:.0f} s",
        "sessions": f"{server['sessions']}, {server['sessions_connected']} of them connected",
        "holds": f"{server['inodes']} inodes, {format_size(server['size_bytes'])}",
        "trash": server["trash_inodes"]
        and f"{server['trash_inodes']} of these inodes, {format_size(server['trash_bytes'])}",
        "metrics": server["metrics"] and f"http://{server['metrics']}/metrics",
        "memory": memory is not None and format_size(memory),
    }
    _print_rows(rows)
    for held in server["locks"]:
        waits = f", waits for {held['waits']}" if held["waits"] else ""
        _print_rows({"locks": f"{held['mount']} has {held['locks']}{waits}"})
    for wait in server["lock_waits"]:
        why = f"held by {' and '.join(wait['held_by'])}" if wait["held_by"] else "until all clients are back"
        who = f"process {wait['pid']} of {wait['mount']}"
        _print_rows({"waiting": f"{who} for a lock ({wait['kind']}) on inode {wait['inode']}, {why}"})


def _print(mount: dict[str, Any]) -> None:
    mode = "read-only" if mount["read_only"] else "read-write"
    click.echo(f"{mount['directory']}: {mount.get('volume') or mount['source']}, {mount['state']}, {mode}")
    if "pid" not in mount:
        return
    memory = mount["memory_bytes"]
    anonymous = mount["memory_anonymous_bytes"]
    rows = {
        "metadata": mount["meta"],
        "ended": mount["ended"],
        "server": mount["server"] and f"{mount['server']}, {_contact(mount)}",
        "data": mount["data"],
        "transport": mount["transport"],
        "process": mount["pid"],
        "since": mount["since"],
        "memory": memory is not None and f"{format_size(memory)}, {format_size(anonymous)} of it anonymous",
        "log": mount["log"],
    }
    _print_rows(rows)


def _contact(mount: dict[str, Any]) -> str:
    if mount["ended"]:
        return "which lets it in no more"
    away_since = mount["server_away_since"]
    return f"away since {away_since}" if away_since else "connected"


def _print_rows(rows: dict[str, Any]) -> None:
    for label, value in rows.items():
        if value:
            click.echo(f"  {label:<10} {value}")
