"""What `loligo mount` and mount(8)'s helper have in common: check first, then mount.

A mount process of an embedded volume logs beside the metadata; one with a metadata server elsewhere to
/var/log/loligo/DIRECTORY.log, or ~/.local/state/loligo/DIRECTORY.log for an ordinary user, where "/" in DIRECTORY is "-".
"""

import os
import re
from collections.abc import Callable

from loligo.failures import CommandError
from loligo.servers import server_of
from loligo_client.shell import mount_state
from loligo_client.shell.mount_options import MountOptions, OptionError, ServerOptions, check_files
from loligo_client.shell.server_source import ServerSource, parse_source
from loligo_runtime import volume as volumes
from loligo_runtime.volume import Volume

LOG_NAME = "mount.log"


def mount_volume(
    source: str, directory: str, options: MountOptions, *, foreground: bool, say: Callable[[str], None]
) -> None:
    """Returns when the mount works; in the foreground when it has ended."""
    volume = resolve(source, options)
    directory = os.path.abspath(directory)
    check_directory(directory)
    directory = os.path.realpath(directory)
    if isinstance(volume, Volume):
        _check_unused(volume)
        name = volume.name
        log_path = os.path.join(volume.meta_folder, LOG_NAME)
    else:
        name = source
        log_path = _log_path(directory)

    def work(on_ready: Callable[[], None]) -> None:
        # Only this process needs what these import.
        from loligo_client.shell.mount import MountPlan, serve

        serve(MountPlan(volume, source, directory, options, "" if foreground else log_path), on_ready)

    if foreground:
        from loligo.logs import log_to_terminal

        log_to_terminal()
        work(lambda: say(f"{name} is mounted on {directory}; Ctrl-C unmounts it"))
        return
    from loligo.background import run_in_background
    from loligo.logs import log_to_file

    os.makedirs(os.path.dirname(log_path), exist_ok=True)
    pid = run_in_background(work, log_path, log_to_file)
    say(f"{name} is mounted on {directory} (process {pid}, log {log_path})")


def resolve(source: str, options: MountOptions) -> Volume | ServerSource:
    """What `source` means, if `options` fit it. SourceError, VolumeError, OptionError; OSError for a file of the options."""
    of_server = parse_source(source)
    if of_server is None:
        if options.server.given:
            raise OptionError(
                f"{options.server.given[0]} is for mounts through a metadata server: HOST:PORT/VOLUME instead of {source}"
            )
        return volumes.resolve(source)
    _check_network(of_server, options.server)
    check_files(options.server)
    return of_server


def _check_network(source: ServerSource, options: ServerOptions) -> None:
    """OptionError when names and contents would go over a network in the clear, and nobody has said that they may."""
    if not (options.ca or options.insecure_network or source.stays_here):
        raise OptionError(
            f"{','.join(source.addresses)} is on another machine, and without TLS everybody on the way can read and change"
            " everything: give ca= (and cert=, key=), or say insecure_network if that network is to be trusted"
        )


def _check_unused(volume: Volume) -> None:
    """One process at a time has an embedded volume. CommandError."""
    mounted = mount_state.mount_of_volume(volume.meta_url)
    if mounted is not None:
        mount, note = mounted
        raise CommandError(
            f"{volume.name} is mounted on {mount.directory} already (process {note.pid}):"
            f" use it there, or unmount it first with 'loligo umount {mount.directory}'"
        )
    served = server_of(volume)
    if served is not None:
        raise CommandError(
            f"{volume.name} is in use by process {served.pid}, a server: mount it through that, as"
            f" {served.listen}/{volume.name}"
        )


def _log_path(directory: str) -> str:
    """As systemd escapes a path: other characters, "-" among them, are hexadecimal."""
    escaped = re.sub(rb"[^A-Za-z0-9:_./]", lambda found: b"\\x%02x" % found[0][0], os.fsencode(directory.strip("/")))
    folder = "/var/log/loligo"
    if os.geteuid() != 0:
        folder = os.path.join(os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state"), "loligo")
    return os.path.join(folder, f"{escaped.decode().replace('/', '-')}.log")


def check_directory(directory: str) -> None:
    """A directory to mount on exists, is empty, and is no mount of ours. CommandError."""
    mount = mount_state.find_mount(directory)
    if mount is not None:
        note = mount_state.read_note(mount)
        if note is None or note.is_alive:
            raise CommandError(
                f"{mount.source} is mounted on {directory} already: unmount it first with 'loligo umount {directory}'"
            )
        raise CommandError(
            f"{directory} has a dead mount, left by process {note.pid}: remove it with 'loligo umount {directory}'"
        )
    try:
        with os.scandir(directory) as entries:
            first = next(entries, None)
    except FileNotFoundError:
        raise CommandError(f"{directory} does not exist: make it first, with 'mkdir -p {directory}'") from None
    except NotADirectoryError:
        raise CommandError(f"{directory} is no directory: name one to mount on") from None
    if first is not None:
        raise CommandError(f"{directory} is not empty ({first.name!r} is in it): mount on an empty directory")
