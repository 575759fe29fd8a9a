"""`loligo volume create`"""

import os

import click

from loligo_runtime.sizes import parse_size
from loligo_trash.policy import PolicyInvalid, parse_time


def _size(ctx: click.Context, param: click.Parameter, value: str) -> int:
    try:
        return parse_size(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


def _time(ctx: click.Context, param: click.Parameter, value: str | None) -> bytes | None:
    if value is None:
        return None
    try:
        parse_time(value.encode())
    except PolicyInvalid as error:
        raise click.BadParameter(str(error)) from None
    return value.encode()


@click.command("create")
@click.argument("name")
@click.option("--meta", "meta_url", metavar="URL", required=True, help="Where metadata goes: file:///a/folder")
@click.option(
    "--data",
    "data_url",
    metavar="URL",
    required=True,
    help="Where file data goes: file:///a/folder or rados://POOL[/NAMESPACE]?conf=/etc/ceph/ceph.conf[&name=client.NAME]",
)
@click.option(
    "--block-size", metavar="SIZE", callback=_size, default="4M", show_default=True, help="Length of a data object."
)
@click.option(
    "--inline",
    metavar="SIZE",
    callback=_size,
    default="4K",
    show_default=True,
    help="Files up to this size live in the metadata; 0: none.",
)
@click.option(
    "--trash",
    metavar="TIME",
    callback=_time,
    help="What is removed is kept for so long: 7d, 12h; 0: it is gone at once.  [default: 7d]",
)
def command(name: str, meta_url: str, data_url: str, block_size: int, inline: int, trash: bytes | None) -> None:
    """Make a volume and remember it as NAME.

    Folders are made if need be; a Ceph pool must exist. Put the metadata on the fastest disk that survives a crash:
    every change of the file system is written there first. Whoever makes the volume owns its root directory.

    \b
    Examples:
      loligo volume create work --meta file:///srv/work/meta --data file:///srv/work/data
      loligo volume create big --meta file:///srv/big/meta --data 'rados://pool/big?conf=/etc/ceph/ceph.conf'
    """
    from loligo_client.shell.embedded import make_volume
    from loligo_runtime import volume as volumes

    volume = volumes.describe(name, meta_url, data_url, block_size, inline)
    taken = volumes.registered().get(name)
    if taken is not None:
        raise volumes.VolumeError(
            f"there is a volume {name!r} already, at {taken}: choose another name, or mount it with"
            f" 'loligo mount {name} DIR'"
        )
    volumes.register(make_volume(volume, os.getuid(), os.getgid(), trash))
    click.echo(f"volume {name} is made; mount it with: loligo mount {name} DIR")
