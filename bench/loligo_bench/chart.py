"""The comparison as a chart: an SVG of horizontal bars on a log scale, grouped by row.

Drawn by hand, because a dozen rectangles and texts need no plotting library. Rules: the order of
the bars in a group is the order of the columns in the table; colour says who (ours is the only
strong one, the baseline is grey); every bar carries its value, so that the scale is never guessed.
"""

import math
from collections.abc import Iterator
from html import escape

from loligo_bench.figures import BASELINE, Figure, significant
from loligo_bench.report import Comparison
from loligo_bench.rows import ROWS

WIDTH = 1000
LEFT = 270
RIGHT = 130
TOP = 92
BAR = 11
BAR_GAP = 2
GROUP_GAP = 13
BOTTOM = 30

_INK = "#1f2933"
_SOFT = "#7b8794"
_GRID = "#e4e7eb"
_BASELINE_COLOUR = "#b8c0c9"
_OUR_COLOURS = ("#d6336c", "#9c36b5", "#e8590c", "#f08c00")
_PEER_COLOURS = ("#4c8dbf", "#63a375", "#8d7fb8", "#a08b5b", "#5fa8a8")


def svg(comparison: Comparison) -> str:
    medians = [
        median for row in ROWS for label in comparison.labels if (median := comparison.figures[row.key][label].median_s)
    ]
    low = math.floor(math.log10(min(medians, default=0.001)))
    # At least one decade, so that the scale exists.
    high = max(low + 1, math.ceil(math.log10(max(medians, default=1.0))))
    group = len(comparison.labels) * (BAR + BAR_GAP) + GROUP_GAP
    bottom = TOP + len(ROWS) * group
    height = bottom + BOTTOM
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}"'
            f' width="{WIDTH}" height="{height}" font-family="DejaVu Sans, Verdana, sans-serif"'
            f' font-size="12" fill="{_INK}">',
            f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
            *_head(comparison),
            *_grid(low, high, bottom),
            *_groups(comparison, low, high, group),
            "</svg>\n",
        ]
    )


def _colours(comparison: Comparison) -> dict[str, str]:
    colours = {BASELINE: _BASELINE_COLOUR}
    for labels, palette in ((comparison.ours, _OUR_COLOURS), (comparison.peers, _PEER_COLOURS)):
        for number, label in enumerate(labels):
            colours[label] = palette[number % len(palette)]
    return colours


def _text(x: float, y: float, content: str, attributes: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" {attributes}>{escape(content)}</text>'


def _head(comparison: Comparison) -> Iterator[str]:
    yield _text(20, 28, "Time for the same work, side by side", 'font-size="17" font-weight="bold"')
    rounds = "1 round" if comparison.rounds == 1 else f"{comparison.rounds} rounds, medians"
    yield _text(20, 47, f"time on a log scale, shorter is better; {rounds}", f'fill="{_SOFT}"')
    x = 20.0
    for label, colour in _legend(comparison):
        yield f'<rect x="{x:.1f}" y="60" width="12" height="12" rx="2" fill="{colour}"/>'
        weight = 'font-weight="bold"' if label in comparison.ours else ""
        yield _text(x + 18, 70.5, label, weight)
        x += 42 + 8 * len(label)


def _legend(comparison: Comparison) -> list[tuple[str, str]]:
    colours = _colours(comparison)
    return [(label, colours[label]) for label in comparison.labels]


def _x(seconds: float, low: int, high: int) -> float:
    share = (math.log10(seconds) - low) / (high - low)
    return LEFT + share * (WIDTH - LEFT - RIGHT)


def _grid(low: int, high: int, bottom: float) -> Iterator[str]:
    for decade in range(low, high + 1):
        x = _x(10.0**decade, low, high)
        yield (f'<line x1="{x:.1f}" y1="{TOP - 6}" x2="{x:.1f}" y2="{bottom - GROUP_GAP + 4}" stroke="{_GRID}"/>')
        attributes = f'text-anchor="middle" font-size="11" fill="{_SOFT}"'
        yield _text(x, bottom + 8, _decade(decade), attributes)


def _decade(exponent: int) -> str:
    if exponent >= 0:
        return f"{10**exponent} s"
    return f"{10 ** (exponent + 3)} ms" if exponent >= -3 else f"{10 ** (exponent + 6)} µs"


def _groups(comparison: Comparison, low: int, high: int, group: int) -> Iterator[str]:
    bars = group - GROUP_GAP
    for number, row in enumerate(ROWS):
        top = TOP + number * group
        yield _text(LEFT - 12, top + bars / 2 + 3, row.title, 'text-anchor="end"')
        for place, (label, colour) in enumerate(_legend(comparison)):
            y = top + place * (BAR + BAR_GAP)
            yield from _bar(comparison, row.key, label, colour, y, low, high)


def _bar(comparison: Comparison, row: str, label: str, colour: str, y: float, low: int, high: int) -> Iterator[str]:
    figure = comparison.figures[row][label]
    x = LEFT if figure.median_s is None else max(LEFT + 1.0, _x(figure.median_s, low, high))
    if figure.median_s is not None:
        yield (f'<rect x="{LEFT}" y="{y}" width="{x - LEFT:.1f}" height="{BAR}" rx="1.5" fill="{colour}"/>')
    weight = 'font-weight="bold"' if label in comparison.ours else f'fill="{_SOFT}"'
    yield _text(x + 5, y + BAR - 2, _value(figure), f'font-size="10" {weight}')


def _value(figure: Figure) -> str:
    seconds = figure.median_s
    if seconds is None:
        return figure.text
    return f"{significant(seconds)} s" if seconds >= 0.1 else f"{seconds * 1000:.1f} ms"
