"""`loligo session …`"""

import json
from typing import Any

import click


@click.group("session")
def command() -> None:
    """Who has a volume of a metadata server on this machine mounted.

    A session is one mount on one machine. It is named by a number in hexadecimal digits, of which the first few will do.
    """


@command.command("list")
@click.option("--json", "as_json", is_flag=True, help="For scripts: a list of objects, one a session.")
def list_(as_json: bool) -> None:
    """Every session of the servers that run here."""
    from loligo import servers

    running = servers.running_servers()
    rows = [_describe(status, session) for _, status in running for session in status.sessions]
    if as_json:
        click.echo(json.dumps(rows, indent=2))
        return
    if not running:
        click.echo("no server of yours runs here", err=True)
    elif not rows:
        click.echo("there are no sessions", err=True)
    for row in rows:
        click.echo(
            f"{row['session']}  {row['server']}/{row['volume']}{row['root'] if row['root'] != '/' else ''} on"
            f" {row['host'] or '?'}:"
            f"{row['mounted_on'] or '?'}, {row['state']}, {'read-only' if row['read_only'] else 'read-write'},"
            f" {row['open_files']} open files, {row['leases']} leases ({row['recalls']} recalled), {row['requests']} requests"
            + (f", {row['locks']} locks" if row["locks"] else "")
            + (f", waits for {row['lock_waits']} locks" if row["lock_waits"] else "")
            + (f", certificate {row['identity']}" if row["identity"] else "")
        )


def _describe(status: Any, session: Any) -> dict[str, Any]:
    return {
        "session": f"{session.session:016x}",
        "server": status.listen,
        "volume": status.volume,
        "root": "/" + session.root_path.decode(errors="replace").strip("/"),
        "host": session.host,
        "mounted_on": session.mounted_on,
        "peer": session.peer,
        "identity": session.identity,
        "version": session.version,
        "state": "connected" if session.connected else f"silent for {session.silent_s:.0f} s",
        "connected": session.connected,
        "silent_s": round(session.silent_s, 3),
        "read_only": session.read_only,
        "open_files": session.open_files,
        "leases": session.leases,
        "recalls": session.recalls,
        "locks": session.locks,
        "lock_waits": session.lock_waits,
        "requests": session.requests,
    }


@command.command("evict")
@click.argument("session")
def evict(session: str) -> None:
    """End SESSION: shut its client out of the data, and let go of what it has open.

    What that client has not stored yet is lost. Its mount answers with errors from then on, until it is unmounted and mounted
    again. Use it when a client hangs and holds others up; one that is gone for good is ended by itself after --session-expiry.
    """
    from loligo import servers
    from loligo.failures import CommandError

    wanted = session.lower().removeprefix("0x")
    matching = [
        (socket, found.session)
        for socket, status in servers.running_servers()
        for found in status.sessions
        if wanted and f"{found.session:016x}".startswith(wanted)
    ]
    if not matching:
        raise CommandError(f"there is no session {session!r} on a server of yours here: see 'loligo session list'")
    if len(matching) > 1:
        raise CommandError(
            f"{len(matching)} sessions begin with {session!r}: give more digits, see 'loligo session list'"
        )
    socket, number = matching[0]
    problem = servers.evict(socket, number)
    if problem:
        raise CommandError(f"session {number:016x}: {problem}")
    click.echo(f"session {number:016x} has ended")
