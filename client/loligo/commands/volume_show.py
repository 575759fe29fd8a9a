"""`loligo volume show`"""

import json

import click

from loligo_runtime.sizes import format_size


@click.command("show")
@click.argument("volume")
@click.option("--json", "as_json", is_flag=True, help="For scripts: one object, sizes in bytes.")
def command(volume: str, as_json: bool) -> None:
    """What VOLUME (a name or the URL of its metadata) is made of, and where it is mounted here."""
    from loligo_client.shell.mount_state import mount_of_volume
    from loligo_runtime import volume as volumes

    found = volumes.resolve(volume)
    mounted = mount_of_volume(found.meta_url)
    shown = {
        "name": found.name,
        "uuid": found.uuid,
        "meta": found.meta_url,
        "data": found.data_url,
        "block_bytes": found.block_bytes,
        "inline_bytes": found.inline_limit_bytes,
        "format": found.format,
        "mounted_at": mounted[0].directory if mounted else None,
    }
    if as_json:
        click.echo(json.dumps(shown, indent=2))
        return
    shown["block_bytes"] = format_size(found.block_bytes)
    shown["inline_bytes"] = format_size(found.inline_limit_bytes)
    for name, value in shown.items():
        label = name.removesuffix("_bytes").replace("_", " ")
        click.echo(f"{label:<12} {'nowhere here' if value is None else value}")
