"""The `osdtune` command."""

import dataclasses
import functools
import json
import os
import platform
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import click

from loligo_osdtune.core.actions import Work
from loligo_osdtune.core.answers import facts_of
from loligo_osdtune.core.bursts import Sample, load_of
from loligo_osdtune.core.facts import Facts
from loligo_osdtune.core.figures import compare, effects_of
from loligo_osdtune.core.layout.judge import Layout, layout_of
from loligo_osdtune.core.layout.steps import Right, Step
from loligo_osdtune.core.layout.values import LAYOUT_OPTIONS
from loligo_osdtune.core.layout.wish import HOST, OSD, Erasure, Replicas, Wish, parse_coding
from loligo_osdtune.core.opinion import opinion_of
from loligo_osdtune.core.plan import plan_of
from loligo_osdtune.core.recording import decode, decode_measurement, encode, encode_measurement
from loligo_osdtune.core.rules import OPTIONS
from loligo_osdtune.core.window import facts_of_window
from loligo_osdtune.shell import report
from loligo_osdtune.shell.apply import Applying, applied_since
from loligo_osdtune.shell.bench import measure
from loligo_osdtune.shell.changing import Changing
from loligo_osdtune.shell.cluster import Cluster
from loligo_osdtune.shell.failures import OsdtuneError, explain
from loligo_osdtune.shell.host import host_facts
from loligo_osdtune.shell.journal_file import FOLDER
from loligo_osdtune.shell.layout import LayingOut
from loligo_osdtune.shell.places import Places
from loligo_osdtune.shell.plot import require_plottable, write_plot
from loligo_osdtune.shell.restart import restarter_of
from loligo_osdtune.shell.sampling import sample_load
from loligo_runtime.ceph_keys import Administration

_LENGTH = re.compile(r"(\d+)([smh]?)")
_DRY_RUN = "nothing was changed; --yes does it"
_UNIT_S = {"": 1, "s": 1, "m": 60, "h": 3600}


def _seconds(ctx: click.Context, param: click.Parameter, value: str | None) -> int | None:
    """From "90s", "10m", "2h"."""
    if value is None:
        return None
    matched = _LENGTH.fullmatch(value)
    if matched is None or not int(matched[1]):
        raise click.BadParameter(f"{value!r} is no length of time: write 90s, 10m or 2h")
    return int(matched[1]) * _UNIT_S[matched[2]]


def _cluster_options(command: Callable[..., None]) -> Callable[..., None]:
    conf = click.option(
        "--conf", envvar="CEPH_CONF", default="/etc/ceph/ceph.conf", show_default=True, help="The cluster's ceph.conf."
    )
    name = click.option("--name", default="client.admin", show_default=True, help="Whose key to use.")
    return conf(name(command))


_facts_option = click.option(
    "--facts",
    "recorded",
    type=click.Path(exists=True, dir_okay=False),
    help="Recorded by 'observe --json'; asks no cluster.",
)
_json_option = click.option("--json", "as_json", is_flag=True, help="For scripts.")


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="loligo", message="osdtune %(version)s")
def osdtune() -> None:
    """Looks at a Ceph cluster, and says what to change so that small synchronous writes become faster, and why.

    Works on any cluster of Pacific (16) to Squid (19). Only 'apply', 'undo' and 'layout' change it,
    with --yes. Kernel and disks are looked at on the host it runs on. Exit codes: 0, 1 (could not; the line says why and what
    to do), 2 (called wrongly).
    """


@osdtune.command()
@_cluster_options
@_json_option
@click.option(
    "--for",
    "length_s",
    metavar="TIME",
    callback=_seconds,
    help="Sample the load for so long (90s, 10m, 2h) and report bursts.",
)
@click.option("--plot/--no-plot", default=True, help="With --for: draw the load.", show_default=True)
@click.option("--plot-file", default="osdtune-load.png", show_default=True, type=click.Path(dir_okay=False))
def observe(conf: str, name: str, as_json: bool, length_s: int | None, plot: bool, plot_file: str) -> None:
    """What there is: OSDs, devices, layout, options and their sources, pools, counters, this host; with --for the load."""
    if length_s is not None and plot:
        require_plottable(plot_file)
    load = None
    samples: list[Sample] = []
    with Cluster(conf, name) as cluster:
        facts = _observe(cluster)
        if length_s is not None:
            samples, last = sample_load(cluster, facts, length_s, _track("sampling"))
            load = load_of(samples)
            facts = facts_of_window(facts, last)
    if as_json:
        _print_json(encode(facts, load))
    else:
        _print(report.facts_lines(facts))
        if load is not None:
            _print(report.load_lines(load))
    if load is not None and plot:  # last, so that a file that cannot be written costs no figures
        write_plot(plot_file, samples, load)
        click.echo(f"plot: {plot_file}", err=True)


@osdtune.command()
@_cluster_options
@_facts_option
@_json_option
@click.option("--diff", "as_diff", is_flag=True, help="Only what is and what should be.")
def plan(conf: str, name: str, recorded: str | None, as_json: bool, as_diff: bool) -> None:
    """What should be changed, where, and why; and what looks tunable but is better left alone."""
    made = plan_of(_facts(conf, name, recorded))
    if as_json:
        _print_json(dataclasses.asdict(made))
    else:
        _print(report.diff_lines(made) if as_diff else report.plan_lines(made))


@osdtune.command()
@_cluster_options
@_facts_option
def doctor(conf: str, name: str, recorded: str | None) -> None:
    """How the cluster is, in one page, with the three changes most worth making."""
    facts = _facts(conf, name, recorded)
    _print(report.opinion_lines(opinion_of(facts, plan_of(facts))))


_yes_option = click.option("--yes", is_flag=True, help="Do it. Without, only what would be done is shown.")
_journals_option = click.option(
    "--journals",
    default=FOLDER,
    show_default=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Where journals are, with all old values.",
)


@osdtune.command()
@_cluster_options
@_json_option
@_yes_option
@_journals_option
@click.option("--only", "only", multiple=True, metavar="RULE", help="Only what this rule proposes; may be repeated.")
@click.option("--continue", "goes_on", is_flag=True, help="Go on with one that was stopped, as it was planned then.")
def apply(conf: str, name: str, as_json: bool, yes: bool, journals: Path, only: tuple[str, ...], goes_on: bool) -> None:
    """Put the plan in place, as far as it can be undone: options, this host's kernel; one OSD after another.

    Shows what it would do; does it with --yes. Looks at the cluster's health after each change and stops if anything is worse
    than before. Every change is in a journal before it happens, with the old value: 'undo' puts all of it back.
    """
    if goes_on and only:
        raise click.UsageError("--continue does what is left of the journal; --only chooses from a new plan")
    with Cluster(conf, name) as cluster:
        applying = _applying(cluster, journals)
        work = Work(applying.left_to_do(), ()) if goes_on else applying.work(_observe(cluster), only)
        if as_json:
            _print_json({"applied": yes, **dataclasses.asdict(work)})
        else:
            _print(report.work_lines(work))
        for rule in work.idle(only):
            click.echo(f"{rule}: nothing to do", err=True)
        if not yes and not goes_on and (earlier := applying.in_the_way()):
            click.echo(f"before anything can be applied: {earlier}", err=True)
        if not work.actions:
            click.echo("nothing to do", err=True)
        elif not yes:
            _dry_run(applying, work)
        else:
            file = applying.go_on() if goes_on else applying.apply(work)
            click.echo(f"done; {file.path} has all old values, and {file.command('undo')} puts them back", err=True)


@osdtune.command()
@_cluster_options
@_json_option
@_yes_option
@_journals_option
def undo(conf: str, name: str, as_json: bool, yes: bool, journals: Path) -> None:
    """Put back what the newest apply of this host has changed, done or stopped: exactly the values of before.

    What somebody else has changed since stays, and is named at the end (exit code 1).
    """
    with Cluster(conf, name) as cluster:
        applying = _applying(cluster, journals)
        work = Work(applying.left_to_undo(), ())
        if damage := applying.damage():
            click.echo(damage, err=True)
        if as_json:
            _print_json({"undone": yes, **dataclasses.asdict(work)})
        else:
            _print(report.work_lines(work))
        if not yes:
            _dry_run(applying, work)
        elif passed := applying.undo():
            raise OsdtuneError(f"all else was put back, but {'; '.join(passed)}")
        else:
            click.echo("done; all values are as they were before", err=True)


@osdtune.command()
@_cluster_options
@_json_option
@_journals_option
@click.option("--pool", required=True, help="Which to measure. What is written there is removed.")
@click.option("--osd", "osds", type=int, multiple=True, help="Measure this one apart; may be repeated.  [default: all]")
@click.option(
    "--for",
    "length_s",
    default="2m",
    show_default=True,
    metavar="TIME",
    callback=_seconds,
    help="How long (90s, 10m, 2h); longer is less noise.",
)
@click.option(
    "--baseline",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="What 'verify --json' printed before: compare with that.",
)
def verify(
    conf: str,
    name: str,
    as_json: bool,
    journals: Path,
    pool: str,
    osds: tuple[int, ...],
    length_s: int,
    baseline: Path | None,
) -> None:
    """Measure small writes, streams and reads, on a pool and OSD by OSD; and what has moved since --baseline, above the noise.

    Objects go into the namespace osdtune-verify of the pool, and are removed at the end.

    \b
    Examples:
      osdtune verify --pool big --json >before.json
      osdtune apply --yes
      osdtune verify --pool big --baseline before.json
    """
    before = decode_measurement(baseline.read_bytes()) if baseline is not None else None
    with Cluster(conf, name) as cluster:
        if before is not None and (before.fsid, before.pool) != (cluster.fsid(), pool):
            raise OsdtuneError(
                f"{baseline} was measured on pool {before.pool} of cluster {before.fsid}: that is another one"
            )
        applied = applied_since(journals, cluster.fsid(), before.measured_s) if before is not None else ()
        after = measure(cluster, pool, osds, length_s, _track("measuring"))
        moves = compare(before, after) if before is not None else ()
        effects = effects_of(applied, moves)
    if as_json:
        _print_json(encode_measurement(after, moves, effects))
        return
    _print(report.measurement_lines(after))
    if before is not None:
        _print(report.move_lines(moves, effects))


def _coding(ctx: click.Context, param: click.Parameter, value: str | None) -> Erasure | None:
    try:
        return None if value is None else parse_coding(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


@osdtune.command()
@_cluster_options
@_facts_option
@_json_option
@click.option("--yes", "does", is_flag=True, help="Make what is missing. Without, it is only shown.")
@click.option(
    "--hdd", required=True, metavar="CLASS", help="Device class of the data pool: hdd, or ssd where all is flash."
)
@click.option(
    "--ssd",
    metavar="CLASS",
    help="Device class of pools for metadata and journal. This release of Loligo uses neither: left out, they are not wanted.",
)
@click.option(
    "--prefix", default="loligo", show_default=True, help="What the names of pools, rules and profiles begin with."
)
@click.option(
    "--replicas", type=click.IntRange(2, 10), default=3, show_default=True, help="Copies in pools without --ec."
)
@click.option("--ec", "erasure", metavar="K+M", callback=_coding, help="Erasure code the data pool, such as 4+2.")
@click.option(
    "--failure-domain",
    "domain",
    type=click.Choice([HOST, OSD]),
    default=HOST,
    show_default=True,
    help="What no two copies are on.",
)
@click.option("--root", default="default", show_default=True, help="Root of the CRUSH tree.")
@click.option(
    "--volume",
    "volumes",
    multiple=True,
    metavar="NAME",
    help="A volume with its data in namespace NAME of the data pool: its two Ceph users, too; may be repeated.",
)
@click.option("--keyrings", metavar="FOLDER", help="Where keys of users go.  [default: the folder of --conf]")
def layout(
    conf: str,
    name: str,
    recorded: str | None,
    as_json: bool,
    does: bool,
    hdd: str,
    ssd: str | None,
    prefix: str,
    replicas: int,
    erasure: Erasure | None,
    domain: str,
    root: str,
    volumes: tuple[str, ...],
    keyrings: str | None,
) -> None:
    """The pools that Loligo volumes want, with CRUSH rules by device class, and the Ceph users of volumes: what is there and
    right, what is missing, what is wrong.

    With --yes makes what is missing: each step can be repeated, so after a crash do the same again. It never removes, shrinks
    or moves anything, and what would is left to you with its price. Keys are written to ceph.NAME.keyring, mode 0600, and
    shown nowhere.

    \b
    Examples:
      osdtune layout --hdd hdd --volume big
      osdtune layout --hdd hdd --volume big --yes
      osdtune layout --hdd hdd --ec 4+2 --prefix archive --yes
    """
    if recorded is not None and (does or volumes):
        raise click.UsageError("--facts asks no cluster: neither can anything be made there, nor are users known")
    wish = Wish(
        hdd=hdd,
        ssd=ssd,
        prefix=prefix,
        replicas=Replicas(replicas),
        erasure=erasure,
        domain=domain,
        root=root,
        volumes=tuple(dict.fromkeys(volumes)),
    )
    if recorded is not None:
        _show_layout(layout_of(decode(Path(recorded).read_bytes()), wish, {}), as_json, does)
        return
    folder = keyrings or os.path.dirname(os.path.abspath(conf))
    if volumes and not os.path.isdir(folder):
        raise OsdtuneError(f"there is no folder {folder} for keyrings: make it, or name another with --keyrings")
    with Cluster(conf, name) as cluster, Administration(conf, name) as administration:
        laying_out = LayingOut(cluster, administration, conf, wish, folder)
        found = laying_out.look()
        _show_layout(found, as_json, does)
        if does:
            laying_out.carry_out(found, functools.partial(click.echo, err=True))
            click.echo("all is as it should be", err=True)
        elif found.steps:
            click.echo("nothing was changed; --yes makes what is missing", err=True)
        for line in laying_out.volume_lines(found):
            click.echo(line, err=True)


def _show_layout(layout: Layout, as_json: bool, does: bool) -> None:
    if not as_json:
        _print(report.layout_lines(layout))
        return
    kinds = {Right: "right", Step: "missing"}
    findings = [
        {"finding": kinds.get(type(finding), "wrong"), **dataclasses.asdict(finding)} for finding in layout.findings
    ]
    _print_json({"applied": does, **dataclasses.asdict(layout), "findings": findings})


def _applying(cluster: Cluster, journals: Path) -> Applying:
    places = Places(cluster)
    restarter = restarter_of(cluster, platform.node())
    tell = functools.partial(click.echo, err=True)
    return Applying(cluster, places, restarter, Changing(cluster, places, restarter, tell), journals)


def _dry_run(applying: Applying, work: Work) -> None:
    for line in applying.not_now(work.actions):
        click.echo(line, err=True)
    click.echo(_DRY_RUN, err=True)


def _facts(conf: str, name: str, recorded: str | None) -> Facts:
    if recorded is not None:
        return decode(Path(recorded).read_bytes())
    with Cluster(conf, name) as cluster:
        return _observe(cluster)


def _observe(cluster: Cluster) -> Facts:
    return facts_of(cluster.observe(_track("asking OSDs")), (host_facts(),), (*OPTIONS, *LAYOUT_OPTIONS))


def _track(label: str) -> Callable[[Iterable[int]], Iterator[int]]:
    """A progress bar on standard error, if that is a terminal."""

    def track(steps: Iterable[int]) -> Iterator[int]:
        if not sys.stderr.isatty():
            yield from steps
            return
        with click.progressbar(list(steps), label=label, file=sys.stderr) as bar:
            yield from bar

    return track


def _print(lines: Iterable[str]) -> None:
    for line in lines:
        click.echo(line)


def _print_json(value: Any) -> None:
    click.echo(json.dumps(value, indent=2))


def main() -> None:
    try:
        osdtune(prog_name="osdtune")
    except Exception as error:
        text = explain(error)
        if text is None:
            raise
        print(f"osdtune: {text}", file=sys.stderr)
        sys.exit(1)
