"""The comparison as text: one Markdown table that also reads well in a terminal, and JSON."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from loligo_bench.figures import (
    BASELINE,
    Figure,
    Figures,
    Verdict,
    fastest,
    ratio,
    significant,
)
from loligo_bench.rows import ROWS


@dataclass(slots=True)
class Cost:
    """What the processes of one file system used during the whole comparison."""

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
    costs: dict[str, Cost]
    verdicts: Sequence[Verdict]

    @property
    def peers(self) -> list[str]:
        """The networked file systems; the baseline is the floor, not a peer."""
        return [label for label in self.labels if label not in self.ours and label != BASELINE]


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
    if comparison.costs:
        parts.append(table(_cost_rows(comparison)))
    if comparison.verdicts:
        missed = sum(not verdict.passed for verdict in comparison.verdicts)
        parts.append(f"Targets: {len(comparison.verdicts) - missed} passed, {missed} missed.")
        parts.append(table(_verdict_rows(comparison), texts=2))
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
                "figures": {label: _figure_json(comparison.figures[row.key][label]) for label in comparison.labels},
            }
            for row in ROWS
        ],
        "costs": {
            label: {
                "cpu_s": round(cost.cpu_s, 3),
                "peak_rss_mib": round(cost.peak_rss_mib, 1),
                "peak_anonymous_mib": round(cost.peak_anonymous_mib, 1),
            }
            for label, cost in comparison.costs.items()
        },
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
    }


def _figure_json(figure: Figure) -> dict[str, Any]:
    return {
        "median_s": figure.median_s,
        "samples_s": figure.samples_s,
        "error": figure.error,
        "not_available": figure.not_available,
    }


def _times(comparison: Comparison) -> list[list[str]]:
    """The row's title, a time for each file system, then two ratios for each of ours."""
    header = ["work", *comparison.labels]
    with_baseline = BASELINE in comparison.labels
    for label in comparison.ours:
        if with_baseline:
            header.append(f"{label} / {BASELINE}")
        if comparison.peers:
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
            if comparison.peers:
                line.append(_ratio_text(ratio(best_s, ours_s)))
        lines.append(line)
    return lines


def _ratio_text(value: float | None) -> str:
    return "" if value is None else f"{significant(value) if value < 1 else f'{value:.1f}'} x"


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
                label,
                significant(cost.cpu_s),
                f"{cost.peak_rss_mib:.0f}",
                f"{cost.peak_anonymous_mib:.0f}",
            ]
            for label, cost in comparison.costs.items()
        ),
    ]


def _verdict_rows(comparison: Comparison) -> list[list[str]]:
    titles = {row.key: row.title for row in ROWS}
    return [
        ["target", "work", "speed-up", "verdict"],
        *(
            [
                verdict.target.name,
                titles[verdict.row],
                "failed" if verdict.speedup is None else _ratio_text(verdict.speedup),
                "pass" if verdict.passed else "MISS",
            ]
            for verdict in comparison.verdicts
        ),
    ]


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
