"""`loligo umount`"""

import os
import select
import time

import click

from loligo.failures import CommandError
from loligo_client.shell import mount_state
from loligo_fuse import MountError, unmount

_SHOWN_HOLDERS = 3
_PATIENCE_S = 3.0
#: Between the unmount and the end of the process its note may be gone already; a dead process leaves it.
_POLL_MS = 200


@click.command("umount")
@click.argument("directory")
def command(directory: str) -> None:
    """Unmount DIRECTORY, and wait until everything is stored and the mount process has ended.

    (umount(8) does not wait: the process goes on storing for a moment after it.) A mount in use is left alone; the error
    says by whom it is used.
    """
    mount = mount_state.find_mount(directory)
    if mount is None:
        raise CommandError(f"no Loligo volume is mounted on {directory}: 'loligo status' lists what is")
    note = mount_state.read_note(mount)
    if note is not None and not note.is_alive:
        unmount(mount.directory, lazy=True, force=True)
        raise CommandError(
            f"{mount.directory} is unmounted, but its process ({note.pid}) had died: what was not synced in its last"
            " second may be lost; the next mount recovers all else"
        )
    process = _open_process(note)
    try:
        try:
            unmount(mount.directory)
        except MountError as error:
            users = list(mount_state.holders(mount.directory))
            if not users:
                raise
            more = f" and {len(users) - _SHOWN_HOLDERS} more" if len(users) > _SHOWN_HOLDERS else ""
            raise CommandError(f"{error}: {'; '.join(users[:_SHOWN_HOLDERS])}{more}") from None
        if note is None or process is None:
            return
        _wait(process, mount.directory)
    finally:
        if process is not None:
            os.close(process)
    left = mount_state.read_note(mount)
    if left is not None and left.pid == note.pid:
        raise CommandError(
            f"{mount.directory} is unmounted, but its process ended badly"
            f" ({left.failure or 'without a word'}): see {left.log or 'its terminal'}"
        )


def _open_process(note: mount_state.Note | None) -> int | None:
    """A descriptor that becomes readable when the process has ended."""
    if note is None:
        return None
    try:
        process = os.pidfd_open(note.pid)
    except ProcessLookupError:
        return None
    if note.is_alive:
        return process
    os.close(process)  # it belongs to another process of the same number
    return None


def _wait(process: int, directory: str) -> None:
    poll = select.poll()
    poll.register(process, select.POLLIN)
    told = False
    began = time.monotonic()
    while not poll.poll(_POLL_MS):
        if not told and time.monotonic() - began > _PATIENCE_S:
            told = True
            click.echo(f"{directory} is unmounted; waiting until everything is stored …", err=True)
