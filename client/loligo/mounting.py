"""What `loligo mount` and mount(8)'s helper have in common: check first, then mount."""

import os
from collections.abc import Callable

from loligo.failures import CommandError
from loligo_client.shell import mount_state
from loligo_client.shell.mount_options import MountOptions
from loligo_runtime import volume as volumes

LOG_NAME = "mount.log"


def mount_volume(
    source: str, directory: str, options: MountOptions, *, foreground: bool, say: Callable[[str], None]
) -> None:
    """Returns when the mount works; in the foreground when it has ended."""
    volume = volumes.resolve(source)
    directory = os.path.abspath(directory)
    check_directory(directory)
    directory = os.path.realpath(directory)
    mounted = mount_state.mount_of_volume(volume.meta_url)
    if mounted is not None:
        mount, note = mounted
        raise CommandError(
            f"{volume.name} is mounted on {mount.directory} already (process {note.pid}):"
            f" use it there, or unmount it first with 'loligo umount {mount.directory}'"
        )
    log_path = os.path.join(volume.meta_folder, LOG_NAME)

    def work(on_ready: Callable[[], None]) -> None:
        # Only this process needs what these import.
        from loligo_client.shell.mount import MountPlan, serve

        serve(MountPlan(volume, source, directory, options, "" if foreground else log_path), on_ready)

    if foreground:
        from loligo.logs import log_to_terminal

        log_to_terminal()
        work(lambda: say(f"{volume.name} is mounted on {directory}; Ctrl-C unmounts it"))
        return
    from loligo.background import run_in_background
    from loligo.logs import log_to_file

    pid = run_in_background(work, log_path, log_to_file)
    say(f"{volume.name} is mounted on {directory} (process {pid}, log {log_path})")


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
