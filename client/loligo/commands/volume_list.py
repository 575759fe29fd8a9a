"""`loligo volume list`"""

import json

import click


@click.command("list")
@click.option("--json", "as_json", is_flag=True, help="For scripts: a list of objects.")
def command(as_json: bool) -> None:
    """Names of volumes known on this machine, and where their metadata is."""
    from loligo_runtime import volume as volumes

    found = volumes.registered()
    if as_json:
        click.echo(json.dumps([{"name": name, "meta": url} for name, url in found.items()], indent=2))
    elif not found:
        click.echo(f"no volumes in {volumes.registry_folder()}; make one with: loligo volume create --help", err=True)
    for name, url in () if as_json else found.items():
        click.echo(f"{name:<20} {url}")
