"""The comparison as text: one Markdown table that also reads well in a terminal, and JSON."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from loligo_bench.figures import (
    BASELINE,
    DAEMON_AGAINST,
    DAEMON_LIMIT_MIB,
    THROUGH_DAEMON,
    Figure,
    Figures,
    Promise,
    Verdict,
    fastest,
    promises,
    ratio,
    significant,
)
from loligo_bench.options import SERVER
from loligo_bench.rows import ROWS, STALE, Row

_MISSED = "MISS"
_ABOUT_TURNS = (
    "In a turn of two mounts in one directory one creates a file and the other lists, one rewrites it and the other looks at"
    " its size and reads it, one unlinks it and the other looks for it:"
)

Part: TypeAlias = tuple[str, str]
"""(label, role): some of the processes of a file system"""


@dataclass(slots=True)
class Cost:
    """What some processes of one file system used during the whole comparison."""

    cpu_s: float
    peak_rss_mib: float
    peak_anonymous_mib: float


@dataclass(slots=True)
class Comparison:
    """Everything that is reported. `labels` are the columns, the baseline first if it took part."""

    labels: list[str]
    ours: list[str]
    figures: Figures
    rounds: int
    machine: dict[str, str]
    costs: dict[Part, Cost]
    #: Of each row and part, the median of all rounds.
    cpu_s: dict[str, dict[Part, float]]
    verdicts: Sequence[Verdict]

    @property
    def peers(self) -> list[str]:
        """The networked file systems; the baseline is the floor, not a peer."""
        return [label for label in self.labels if label not in self.ours and label != BASELINE]

    @property
    def promises(self) -> list[Promise]:
        return promises(self.figures, self.ours)

    @property
    def daemon_mib(self) -> float | None:
        """Resident memory of our daemon at its largest."""
        cost = self.costs.get((THROUGH_DAEMON, SERVER))
        return None if cost is None else cost.peak_rss_mib


def markdown(comparison: Comparison) -> str:
    machine = ", ".join(f"{name} {value}" for name, value in comparison.machine.items())
    rounds = "One round" if comparison.rounds == 1 else f"Medians of {comparison.rounds} rounds"
    parts = [
        f"{rounds}, in seconds ({machine}).",
        table(_times(comparison)),
    ]
    errors = _errors(comparison)
    if errors:
        parts.append("What went wrong:\n\n" + "\n".join(f"- {error}" for error in errors))
    for row in ROWS:
        asked = [label for label in comparison.labels if not comparison.figures[row.key][label].not_available]
        if row.may_be_stale and asked:
            parts.append(_ABOUT_TURNS)
            parts.append(table(_stale_rows(comparison, row, asked)))
    if comparison.costs:
        parts.append(table(_cost_rows(comparison)))
        parts.append("CPU seconds a row, what it left to be done included; in brackets microseconds an operation:")
        parts.append(table(_cpu_rows(comparison)))
    verdicts = _verdict_rows(comparison)
    if len(verdicts) > 1:
        missed = sum(verdict[-1] == _MISSED for verdict in verdicts)
        parts.append(f"Targets: {len(verdicts) - 1 - missed} passed, {missed} missed.")
        parts.append(table(verdicts, texts=2))
    return "\n\n".join(parts) + "\n"


def as_json(comparison: Comparison) -> dict[str, Any]:
    return {
        "machine": comparison.machine,
        "rounds": comparison.rounds,
        "labels": comparison.labels,
        "ours": comparison.ours,
        "rows": [
            {
                "key": row.key,
                "title": row.title,
                "operations": row.operations or None,
                "figures": {
                    label: _figure_json(row, comparison.figures[row.key][label]) for label in comparison.labels
                },
                "cpu_s": {"/".join(part): round(used_s, 4) for part, used_s in comparison.cpu_s[row.key].items()},
            }
            for row in ROWS
        ],
        "costs": {
            "/".join(part): {
                "cpu_s": round(cost.cpu_s, 3),
                "peak_rss_mib": round(cost.peak_rss_mib, 1),
                "peak_anonymous_mib": round(cost.peak_anonymous_mib, 1),
            }
            for part, cost in comparison.costs.items()
        },
        "daemon_limit_mib": DAEMON_LIMIT_MIB,
        "targets": [
            {
                "target": verdict.target.name,
                "row": verdict.row,
                "speedup": None if verdict.speedup is None else round(verdict.speedup, 3),
                "wanted": round(verdict.target.speedup, 3),
                "passed": verdict.passed,
            }
            for verdict in comparison.verdicts
        ],
        "never_stale": [
            {"label": promise.label, "row": promise.row, "stale": promise.stale, "kept": promise.kept}
            for promise in comparison.promises
        ],
    }


def _figure_json(row: Row, figure: Figure) -> dict[str, Any]:
    return {
        "median_s": figure.median_s,
        "samples_s": figure.samples_s,
        "error": figure.error,
        "not_available": figure.not_available,
        **({"stale": {kind: figure.stale[kind] for kind in STALE}} if row.may_be_stale else {}),
    }


def _times(comparison: Comparison) -> list[list[str]]:
    """The row's title, a time for each file system, then two ratios for each of ours."""
    header = ["work", *comparison.labels]
    with_baseline = BASELINE in comparison.labels
    for label in comparison.ours:
        if with_baseline:
            header.append(f"{label} / {BASELINE}")
        if _has_counterpart(comparison, label):
            header.append(f"{label} / {DAEMON_AGAINST}")
        elif comparison.peers:
            header.append(f"best peer / {label}")
    lines = [header]
    for row in ROWS:
        by_label = comparison.figures[row.key]
        line = [row.title, *(by_label[label].text for label in comparison.labels)]
        best_s = fastest(by_label, comparison.peers)
        for label in comparison.ours:
            ours_s = by_label[label].median_s
            if with_baseline:
                line.append(_ratio_text(ratio(ours_s, by_label[BASELINE].median_s)))
            if _has_counterpart(comparison, label):
                line.append(_ratio_text(ratio(ours_s, by_label[DAEMON_AGAINST].median_s)))
            elif comparison.peers:
                line.append(_ratio_text(ratio(best_s, ours_s)))
        lines.append(line)
    return lines


def _has_counterpart(comparison: Comparison, label: str) -> bool:
    return label == THROUGH_DAEMON and DAEMON_AGAINST in comparison.labels


def _ratio_text(value: float | None) -> str:
    return "" if value is None else f"{significant(value) if value < 1 else f'{value:.1f}'} x"


def _stale_rows(comparison: Comparison, row: Row, asked: Sequence[str]) -> list[list[str]]:
    """How often which file system answered what was no longer so; a failed row's counts are those before it failed."""
    by_label = comparison.figures[row.key]
    return [
        [f"stale answers in {comparison.rounds * row.operations} turns", *asked],
        *([kind, *(str(by_label[label].stale[kind]) for label in asked)] for kind in STALE),
    ]


def _errors(comparison: Comparison) -> list[str]:
    return [
        f"{row.title}, {label}: {error}"
        for row in ROWS
        for label in comparison.labels
        if (error := comparison.figures[row.key][label].error) is not None
    ]


def _cost_rows(comparison: Comparison) -> list[list[str]]:
    return [
        ["serving processes", "CPU s", "peak RSS MiB", "peak anonymous MiB"],
        *(
            [
                ", ".join(part),
                significant(cost.cpu_s),
                f"{cost.peak_rss_mib:.0f}",
                f"{cost.peak_anonymous_mib:.0f}",
            ]
            for part, cost in comparison.costs.items()
        ),
    ]


def _cpu_rows(comparison: Comparison) -> list[list[str]]:
    lines = [["CPU seconds", *(", ".join(part) for part in comparison.costs)]]
    for row in ROWS:
        line = [row.title]
        for part in comparison.costs:
            used_s = comparison.cpu_s[row.key].get(part)
            text = "" if used_s is None else significant(used_s)
            if text and row.operations and used_s is not None:
                text += f" ({used_s / row.operations * 1e6:.0f})"
            line.append(text)
        lines.append(line)
    return lines


def _verdict_rows(comparison: Comparison) -> list[list[str]]:
    titles = {row.key: row.title for row in ROWS}
    lines = [
        ["target", "work", "speed-up", "verdict"],
        *(
            [
                verdict.target.name,
                titles[verdict.row],
                "failed" if verdict.speedup is None else _ratio_text(verdict.speedup),
                "pass" if verdict.passed else _MISSED,
            ]
            for verdict in comparison.verdicts
        ),
    ]
    for promise in comparison.promises:
        count_text = "failed" if promise.stale is None else f"{promise.stale} stale"
        verdict_text = "pass" if promise.kept else _MISSED
        lines.append([f"{promise.label} never stale", titles[promise.row], count_text, verdict_text])
    mib = comparison.daemon_mib
    if mib is not None:
        verdict_text = "pass" if mib < DAEMON_LIMIT_MIB else _MISSED
        lines.append([f"the daemon below {DAEMON_LIMIT_MIB:.0f} MiB", "all of it", f"{mib:.0f} MiB", verdict_text])
    return lines


def table(lines: list[list[str]], texts: int = 1) -> str:
    """A Markdown table, padded; the first `texts` columns to the left, figures to the right."""
    widths = [max(len(cell) for cell in column) for column in zip(*lines, strict=True)]
    rule = ["-" * width if index < texts else "-" * (width - 1) + ":" for index, width in enumerate(widths)]
    padded = [
        [
            cell.ljust(width) if index < texts else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(line, widths, strict=True))
        ]
        for line in [lines[0], rule, *lines[1:]]
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in padded)
