"""`loligo volume check`"""

import json
import sys

import click

from loligo_runtime.sizes import format_size


@click.command("check")
@click.argument("volume")
@click.option("--json", "as_json", is_flag=True, help="For scripts: one object with counts and a list of problems.")
def command(volume: str, as_json: bool) -> None:
    """Prove that VOLUME (a name or the URL of its metadata) is sound. It must not be mounted.

    Reads all metadata and lists all data objects: names, links and counters must agree, every object must belong
    to a file, and no file may lack bytes. Repairs nothing. A line for each problem; exit code 1 if there are any.
    """
    from loligo_client.shell.check import check_volume
    from loligo_runtime import volume as volumes

    found = volumes.resolve(volume)
    report = check_volume(found)
    if as_json:
        shown = {
            "name": found.name,
            "inodes": report.inodes,
            "objects": report.objects,
            "object_bytes": report.object_bytes,
            "problems": report.problems,
        }
        click.echo(json.dumps(shown, indent=2))
    else:
        for problem in report.problems:
            click.echo(problem)
        verdict = f"{len(report.problems)} problems" if report.problems else "sound"
        click.echo(
            f"{found.name}: {report.inodes} inodes, {report.objects} objects with"
            f" {format_size(report.object_bytes)}: {verdict}"
        )
    sys.exit(1 if report.problems else 0)
