"""What was measured, with its noise, and whether it moved.

A *cell* is one kind of work on one target: the whole pool, or the objects whose first copy is on one OSD. It is measured in
rounds, with all other cells between two of them, so that what else goes on in the cluster falls on all cells alike. Each
round gives a value of each measure; a figure is their median, and its noise the spread of the rounds: the median absolute
deviation, times 1.4826 (which makes it a standard deviation where noise is normal).

A figure has moved if the medians differ by more than NOISE_FACTOR times the larger noise and by more than LEAST_MOVE. The
latter is for the case that the rounds agree by chance.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import ceil
from statistics import median
from typing import Literal

from loligo_osdtune.core.actions import Action, ConfigLine, Restart

NOISE_FACTOR = 3.0
LEAST_MOVE = 0.05
_NORMAL = 1.4826
POOL_TARGET = "pool"

Measure = Literal["p50_ms", "p99_ms", "iops", "mb_s"]
MEASURES: tuple[Measure, ...] = ("p50_ms", "p99_ms", "iops", "mb_s")
LESS_IS_BETTER = ("p50_ms", "p99_ms")


@dataclass(frozen=True, slots=True)
class Workload:
    """`depth`: operations under way at once; 1 is synchronous."""

    work: str
    size_bytes: int
    depth: int
    is_read: bool
    of_large: bool  # on objects of 4 MiB; else on small ones, written as a whole


SMALL_WRITES = (
    Workload("write 4 KiB", 4096, 1, False, False),
    Workload("write 4 KiB x16", 4096, 16, False, False),
    Workload("write 64 KiB", 65536, 1, False, False),
    Workload("write 64 KiB x16", 65536, 16, False, False),
)
WORKLOADS = (
    *SMALL_WRITES,
    Workload("write 4 MiB x4", 4 << 20, 4, False, True),
    Workload("read 4 KiB", 4096, 1, True, True),
    Workload("read 4 MiB x4", 4 << 20, 4, True, True),
)


@dataclass(frozen=True, slots=True)
class Round:
    """Seconds each operation took, and all of them together."""

    latencies_s: Sequence[float]
    length_s: float


@dataclass(frozen=True, slots=True)
class Figure:
    target: str  # POOL_TARGET or "osd.3"
    work: str
    measure: str
    value: float
    noise: float


@dataclass(frozen=True, slots=True)
class Measurement:
    """`measured_s`: when it began, in seconds since 1970."""

    fsid: str
    pool: str
    measured_s: int
    rounds: int
    figures: tuple[Figure, ...]

    def figure(self, target: str, work: str, measure: Measure) -> Figure | None:
        return next(
            (one for one in self.figures if (one.target, one.work, one.measure) == (target, work, measure)), None
        )


@dataclass(frozen=True, slots=True)
class Move:
    before: Figure
    after: Figure
    verdict: Literal["better", "worse", "within noise"]


@dataclass(frozen=True, slots=True)
class Effect:
    """What moved where rules were applied. `moves`: of its figures those above the noise."""

    target: str
    rules: tuple[str, ...]
    is_measured: bool
    moves: tuple[Move, ...]


def figures_of(target: str, work: Workload, rounds: Sequence[Round]) -> tuple[Figure, ...]:
    values: dict[Measure, list[float]] = {
        "p50_ms": [median(one.latencies_s) * 1e3 for one in rounds],
        "p99_ms": [_percentile(one.latencies_s, 0.99) * 1e3 for one in rounds],
        "iops": [len(one.latencies_s) / one.length_s for one in rounds],
        "mb_s": [len(one.latencies_s) * work.size_bytes / one.length_s / 1e6 for one in rounds],
    }
    return tuple(
        Figure(target, work.work, measure, round(median(values[measure]), 4), round(_noise(values[measure]), 4))
        for measure in MEASURES
    )


def compare(before: Measurement, after: Measurement) -> tuple[Move, ...]:
    """Of figures that are in both."""
    known = {(one.target, one.work, one.measure): one for one in before.figures}
    keys = [(one.target, one.work, one.measure) for one in after.figures]
    return tuple(_move(known[key], one) for key, one in zip(keys, after.figures, strict=True) if key in known)


def effects_of(actions: Iterable[Action], moves: Sequence[Move]) -> tuple[Effect, ...]:
    """By OSD, or by pool for what was changed on hosts. Rules that were applied to one OSD together cannot be told apart."""
    rules: dict[str, dict[str, None]] = {}
    for action in actions:
        if isinstance(action, Restart):
            continue
        target = action.place.section if isinstance(action.place, ConfigLine) else POOL_TARGET
        rules.setdefault(target, {}).update(dict.fromkeys(action.rules))
    measured = {move.after.target for move in moves}
    return tuple(
        Effect(
            target,
            tuple(names),
            target in measured,
            tuple(move for move in moves if move.after.target == target and move.verdict != "within noise"),
        )
        for target, names in rules.items()
    )


def small_write_ratios(measurement: Measurement) -> tuple[tuple[str, float, float], ...]:
    """(OSD, milliseconds of a synchronous write of 4 KiB, how many times the fastest), fastest first."""
    found = [
        (one.value, one.target)
        for one in measurement.figures
        if one.target != POOL_TARGET and one.work == SMALL_WRITES[0].work and one.measure == "p50_ms"
    ]
    return tuple((target, value, value / min(found)[0]) for value, target in sorted(found))


def _move(before: Figure, after: Figure) -> Move:
    change = after.value - before.value
    if abs(change) <= max(NOISE_FACTOR * max(before.noise, after.noise), LEAST_MOVE * before.value):
        return Move(before, after, "within noise")
    return Move(before, after, "better" if (change < 0) == (after.measure in LESS_IS_BETTER) else "worse")


def _noise(values: Sequence[float]) -> float:
    middle = median(values)
    return _NORMAL * median(abs(value - middle) for value in values)


def _percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that so many are not above."""
    return sorted(values)[ceil(share * len(values)) - 1]
