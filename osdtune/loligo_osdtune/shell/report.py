"""Facts, loads, plans, opinions and layouts as text for a terminal."""

import textwrap
from collections.abc import Iterator, Sequence

from loligo_osdtune.core import devices
from loligo_osdtune.core.actions import OwnFile, Put, Work, describe
from loligo_osdtune.core.bursts import Load
from loligo_osdtune.core.facts import Counters, Facts, Osd
from loligo_osdtune.core.figures import Effect, Measurement, Move, small_write_ratios
from loligo_osdtune.core.layout.judge import Layout
from loligo_osdtune.core.layout.steps import Right
from loligo_osdtune.core.opinion import Opinion
from loligo_osdtune.core.plan import Plan, Step
from loligo_runtime.sizes import format_size

WIDTH = 110
MOST_NAMED = 8


def facts_lines(facts: Facts) -> Iterator[str]:
    releases = sorted({f"{osd.version} {osd.release}" for osd in facts.osds if osd.version})
    yield f"cluster {facts.fsid}: {facts.health}, {len(facts.osds)} OSDs, Ceph {', '.join(releases) or 'of an unknown release'}"
    yield from (f"  {check.code}: {check.message}" for check in facts.checks)
    yield ""
    head = (
        "osd",
        "class",
        "host",
        "size",
        "used",
        "pgs",
        "block.db",
        "wal",
        "rocksdb",
        "min_alloc",
        "mclock",
        "commit",
        "deferred",
        "waits",
    )
    yield from _table([head, *(_osd_row(osd) for osd in facts.osds)])
    for osd in facts.osds:
        if osd.is_up and (why := devices.doubt(facts, osd)):
            yield f"  {osd.name}: {why}"
    for slow in devices.slow_osds(facts):
        yield (
            f"  osd.{slow.osd} is slow: a commit takes {slow.commit_s * 1e3:.1f} ms, those of its class "
            f"{slow.peers_commit_s * 1e3:.1f} ms"
        )
    if facts.pools:
        yield ""
        rows = [
            (
                pool.pool,
                "EC" if pool.is_erasure_coded else f"x{pool.size}",
                str(pool.pg_num),
                pool.autoscale_mode,
                pool.crush_rule,
                format_size(pool.stored_bytes),
            )
            for pool in facts.pools
        ]
        yield from _table([("pool", "copies", "pgs", "autoscale", "rule", "stored"), *rows])
    for host in facts.hosts:
        yield ""
        yield (
            f"host {host.host}: kernel {host.kernel}, {host.cpus} CPUs, {format_size(host.memory_bytes)}, "
            f"swap {format_size(host.swap_bytes)}, governor {host.governor or 'none'}"
        )
        yield "  " + ", ".join(f"{option.name}={option.value}" for option in host.sysctls)
        for device in host.devices:
            yield (
                f"  {device.device}: {'rotational' if device.is_rotational else 'not rotational'}"
                f"{', virtual' if device.is_virtual else ''}, scheduler {device.scheduler}, cache {device.write_cache}"
            )
    own = [
        (osd.name, option.name, option.value, option.source)
        for osd in facts.osds
        for option in osd.options
        if option.source != "default"
    ]
    if own:
        yield ""
        yield from _table([("osd", "option (not Ceph's default)", "value", "source"), *own])
    if facts.config:
        yield ""
        lines = [(entry.section, entry.mask, entry.name, entry.value) for entry in facts.config]
        yield from _table([("set in the monitors for", "mask", "option", "value"), *lines])
    yield from _gap_lines(facts.gaps)


def load_lines(load: Load) -> Iterator[str]:
    yield ""
    rows = [
        ("writes/s", f"{load.write_iops.peak:.0f}", f"{load.write_iops.mean:.0f}"),
        ("reads/s", f"{load.read_iops.peak:.0f}", f"{load.read_iops.mean:.0f}"),
        ("written MB/s", f"{load.write_bytes.peak / 1e6:.1f}", f"{load.write_bytes.mean / 1e6:.1f}"),
        ("read MB/s", f"{load.read_bytes.peak / 1e6:.1f}", f"{load.read_bytes.mean / 1e6:.1f}"),
    ]
    yield from _table([(f"load of {load.length_s:.0f} s", "peak", "mean"), *rows])
    if load.longest_burst_s:
        yield f"longest burst of writes: {load.longest_burst_s:.0f} s, {format_size(load.longest_burst_bytes)}"
        yield f"an SSD journal of {format_size(load.journal_bytes)} would have absorbed it all"
    else:
        yield "no burst: writes never went above twice their mean"


def plan_lines(plan: Plan) -> Iterator[str]:
    yield f"plan for cluster {plan.fsid} (Ceph {plan.release}): {_changes(len(plan.steps))}, {len(plan.refused)} refused"
    for number, step in enumerate(plan.steps, 1):
        yield ""
        yield from _step_lines(number, step)
    if plan.refused:
        yield ""
        yield "not proposed:"
        for refused in plan.refused:
            yield from _wrapped(f"  {_targets(refused.targets)}: ", f"{refused.why}  [{refused.rule}]")
    yield from _gap_lines(plan.gaps)


def diff_lines(plan: Plan) -> Iterator[str]:
    yield f"--- {plan.fsid} now"
    yield f"+++ {plan.fsid} proposed"
    for step in plan.steps:
        yield f"@@ {_targets(step.targets)} ({step.rule}) @@"
        yield f"-{step.setting} = {step.current}"
        yield f"+{step.setting} = {step.proposed}"


def opinion_lines(opinion: Opinion) -> Iterator[str]:
    yield f"health: {opinion.health}"
    for finding in opinion.findings:
        yield from _wrapped("  - ", finding)
    yield ""
    if not opinion.worth:
        yield "nothing to change: all that the rules look at is as it should be"
        return
    yield "most worth changing:"
    for number, step in enumerate(opinion.worth, 1):
        yield ""
        yield from _step_lines(number, step)
    if opinion.left:
        yield ""
        yield f"{opinion.left} more: osdtune plan"


def work_lines(work: Work) -> Iterator[str]:
    yield f"{_changes(len(work.actions))}{', in this order' if len(work.actions) > 1 else ''}{':' if work.actions else ''}"
    for number, action in enumerate(work.actions, 1):
        yield from _wrapped(f"{number:4}. ", f"{describe(action)}  [{', '.join(action.rules)}]")
        if isinstance(action, Put) and isinstance(action.place, OwnFile) and action.new is not None:
            yield from (f"      | {line}" for line in action.new.splitlines())
    if work.left:
        yield ""
        yield "left to you:"
        for one in work.left:
            yield from _wrapped(f"  {_targets(one.targets)}: ", f"{one.why}  [{one.rule}]")


def layout_lines(layout: Layout) -> Iterator[str]:
    """All that was found; of steps also what is typed for them."""
    right = [finding for finding in layout.findings if isinstance(finding, Right)]
    yield (
        f"layout on cluster {layout.fsid} (Ceph {layout.release}): {len(right)} right, {len(layout.steps)} missing, "
        f"{len(layout.wrong)} wrong"
    )
    for pool in layout.pools:
        yield from _wrapped(f"  {pool.pool}: ", f"for {pool.use}")
    if right:
        yield ""
        yield "right:"
        for finding in right:
            yield from _wrapped(f"  {finding.target}: ", finding.says)
    if layout.steps:
        yield ""
        yield "missing, in this order:"
        for number, step in enumerate(layout.steps, 1):
            yield from _wrapped(f"{number:4}. ", f"{step.target}: {step.does}")
            yield f"      $ {step.words}"
            yield from _wrapped("      why     ", step.why)
            yield from _wrapped("      source  ", step.source)
    if layout.wrong:
        yield ""
        yield "wrong, and left to you:"
        for wrong in layout.wrong:
            yield from _wrapped(f"  {wrong.target}: ", wrong.says)
            yield from _wrapped("      ", wrong.remedy)
    if layout.notes:
        yield ""
        yield "to know:"
        for note in layout.notes:
            yield from _wrapped("  - ", note)


def measurement_lines(measurement: Measurement) -> Iterator[str]:
    yield f"pool {measurement.pool}, {measurement.rounds} rounds: the median, and the spread of the rounds"
    rows: dict[tuple[str, str], list[str]] = {}
    for figure in measurement.figures:
        rows.setdefault((figure.target, figure.work), []).append(f"{_short(figure.value)} ± {_short(figure.noise)}")
    head = ("target", "work", "p50 ms", "p99 ms", "IOPS", "MB/s")
    yield from _table([head, *((*key, *values) for key, values in rows.items())])
    ratios = small_write_ratios(measurement)
    if len(ratios) > 1:
        yield ""
        yield "a synchronous write of 4 KiB, OSD by OSD, fastest first:"
        for osd, value_ms, ratio in ratios:
            yield f"  {osd}: {_short(value_ms)} ms" + (f", {_short(ratio)} times the fastest" if ratio > 1 else "")


def move_lines(moves: Sequence[Move], effects: Sequence[Effect]) -> Iterator[str]:
    moved = [move for move in moves if move.verdict != "within noise"]
    yield ""
    yield f"since the baseline: {len(moved)} of {len(moves)} figures moved by more than the noise"
    if moved:
        yield from _table([("target", "work", "", "before", "now", "", ""), *map(_move_row, moved)])
    for effect in effects:
        yield ""
        together = " (together)" if len(effect.rules) > 1 else ""
        yield f"applied to {effect.target}: {', '.join(effect.rules)}{together}"
        if not effect.is_measured:
            yield "  it was not measured apart"
        elif not effect.moves:
            yield "  nothing moved by more than the noise"
        for move in effect.moves:
            change = f"{_short(move.before.value)} -> {_short(move.after.value)}"
            yield f"  {move.after.work}, {move.after.measure}: {move.verdict}, {change}"


def _move_row(move: Move) -> tuple[str, ...]:
    before, after = move.before, move.after
    change = f"{(after.value / before.value - 1) * 100:+.0f} %" if before.value else ""
    noise = max(before.noise, after.noise)
    return (
        after.target,
        after.work,
        after.measure,
        _short(before.value),
        _short(after.value),
        f"{change} {move.verdict}",
        f"noise {_short(noise)}",
    )


def _short(value: float) -> str:
    """Three digits that count."""
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _osd_row(osd: Osd) -> tuple[str, ...]:
    commit = devices.commit_s(osd)
    counters = osd.counters
    return (
        osd.name if osd.is_up else f"{osd.name} down",
        osd.device_class or "-",
        osd.host or "-",
        format_size(osd.size_bytes),
        f"{osd.used_percent:.0f} %",
        str(osd.pgs),
        _part(osd.has_db, osd.db_size_bytes, osd.db_devices),
        _part(osd.has_wal, osd.wal_size_bytes, osd.wal_devices),
        _rocksdb(counters),
        format_size(osd.min_alloc_bytes) if osd.min_alloc_bytes else "?",
        _capacity(osd),
        f"{commit * 1e3:.1f} ms" if commit is not None else "-",
        str(counters.deferred_writes) if counters else "?",
        str(counters.throttle_waits) if counters else "?",
    )


def _part(is_there: bool, size_bytes: int, names: Sequence[str]) -> str:
    if not is_there:
        return "with data"
    return f"{format_size(size_bytes)} {','.join(names)}".rstrip()


def _rocksdb(counters: Counters | None) -> str:
    if counters is None:
        return "?"
    spilled = f" + {format_size(counters.slow_used_bytes)} spilled" if counters.slow_used_bytes else ""
    return format_size(counters.db_used_bytes) + spilled


def _capacity(osd: Osd) -> str:
    """What mClock believes of it, in operations a second; "-" under another scheduler."""
    queue = osd.option("osd_op_queue")
    capacity = osd.option(f"osd_mclock_max_capacity_iops_{'hdd' if osd.is_rotational else 'ssd'}")
    if queue is None or queue.value != "mclock_scheduler" or capacity is None:
        return "-"
    return f"{float(capacity.value):.0f} iops"


def _step_lines(number: int, step: Step) -> Iterator[str]:
    yield f"{number}. {step.setting}: {_targets(step.targets)}"
    yield f"   current   {step.current}{f' ({step.current_source})' if step.current_source else ''}"
    for note in step.notes[:MOST_NAMED]:
        yield f"             {note}"
    if len(step.notes) > MOST_NAMED:
        yield f"             and {len(step.notes) - MOST_NAMED} more"
    yield f"   proposed  {step.proposed}"
    yield from _wrapped("   why       ", step.reason)
    yield from _wrapped("   source    ", step.source)
    if step.by_hand:
        yield from _wrapped("   by hand   ", step.by_hand)
    when = "only when the OSD is made" if step.creation_only else "after a restart" if step.needs_restart else "at once"
    yield f"   risk      {step.risk}; takes effect {when}  [{step.rule}]"


def _changes(count: int) -> str:
    return "1 change" if count == 1 else f"{count} changes"


def _targets(targets: Sequence[str]) -> str:
    shown = ", ".join(targets[:MOST_NAMED])
    return shown if len(targets) <= MOST_NAMED else f"{shown} and {len(targets) - MOST_NAMED} more"


def _gap_lines(gaps: Sequence[str]) -> Iterator[str]:
    if gaps:
        yield ""
        yield "could not be learned:"
        for gap in gaps:
            yield from _wrapped("  ", gap)


def _wrapped(label: str, text: str) -> Iterator[str]:
    indent = " " * min(len(label), 13)
    yield from textwrap.wrap(text, WIDTH, initial_indent=label, subsequent_indent=indent, break_on_hyphens=False)


def _table(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
