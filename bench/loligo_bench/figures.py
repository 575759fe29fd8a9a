"""The arithmetic of the comparison: medians, ratios, targets. Pure: no clock, no files.

A `Figure` is what one file system did in one row over all rounds. It is a time, or it says why
there is none: `failed` (the work went wrong there) or `n/a` (this machine cannot do the row, or
this file system is mounted only once). A row that went wrong in one round counts as failed: a median
over the lucky rounds would lie. Stale answers do not make a row fail; they are counted beside its time.
"""

import statistics
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from loligo_bench.rows import ROWS

BASELINE = "ext4"
CEPH_FUSE = "ceph-fuse"
JUICEFS = "juicefs"
TARGET_OF = "loligo"
TARGET_AGAINST = (CEPH_FUSE, JUICEFS)
#: Ours through the daemon, and the peer on the same cluster that it is measured by.
THROUGH_DAEMON = "loligo-ceph"
DAEMON_AGAINST = CEPH_FUSE
#: The daemon's resident memory.
DAEMON_LIMIT_MIB = 200.0


@dataclass(slots=True)
class Figure:
    """All samples of one file system in one row, in seconds, the first error, if any, and the stale answers by kind."""

    samples_s: list[float] = field(default_factory=list)
    error: str | None = None
    not_available: bool = False
    stale: Counter[str] = field(default_factory=Counter)

    @property
    def median_s(self) -> float | None:
        if self.error is not None or self.not_available or not self.samples_s:
            return None
        return statistics.median(self.samples_s)

    @property
    def text(self) -> str:
        if self.error is not None:
            return "failed"
        return "n/a" if self.median_s is None else significant(self.median_s)


# Row key -> label -> figure.
Figures = Mapping[str, Mapping[str, Figure]]


def significant(value: float) -> str:
    """Three significant digits from 1 ms upwards, never an exponent."""
    if value >= 100:
        return f"{value:.0f}"
    if value >= 10:
        return f"{value:.1f}"
    if value >= 1:
        return f"{value:.2f}"
    return f"{value:.3f}" if value >= 0.1 else f"{value:.4f}"


def ratio(numerator_s: float | None, denominator_s: float | None) -> float | None:
    if numerator_s is None or not denominator_s:
        return None
    return numerator_s / denominator_s


def fastest(figures: Mapping[str, Figure], labels: Sequence[str]) -> float | None:
    """The best median among `labels`, leaving out those that have none."""
    medians = [median for label in labels if label in figures and (median := figures[label].median_s) is not None]
    return min(medians, default=None)


@dataclass(frozen=True, slots=True)
class Target:
    """In each of `rows` `of` must be at least `speedup` times as fast as the fastest of `against`.

    Being three times as fast as the faster one is being three times as fast as both. A speed-up
    below one is a limit on how much slower we may be.
    """

    name: str
    rows: tuple[str, ...]
    against: tuple[str, ...]
    speedup: float
    of: str = TARGET_OF


@dataclass(frozen=True, slots=True)
class Verdict:
    """How one row stands to one target; `speedup` is None if we or all peers have no figure."""

    target: Target
    row: str
    speedup: float | None
    passed: bool


@dataclass(frozen=True, slots=True)
class Served:
    """What is wanted of ours through the daemon in `row`: at least so many times as fast as the peers, and at most so
    many times as slow as the baseline; None: there is no such target."""

    row: str
    ceph_fuse: float
    juicefs: float
    baseline: float | None = None

    def targets(self) -> Iterator[Target]:
        for against, times in ((CEPH_FUSE, self.ceph_fuse), (JUICEFS, self.juicefs)):
            name = f"{THROUGH_DAEMON} at least {times:g} x as fast as {against}"
            yield Target(name, (self.row,), (against,), times, of=THROUGH_DAEMON)
        if self.baseline is not None:
            name = f"{THROUGH_DAEMON} at most {self.baseline:g} x as slow as {BASELINE}"
            yield Target(name, (self.row,), (BASELINE,), 1 / self.baseline, of=THROUGH_DAEMON)


#: "Just created" is how files come to be known; what was written is read cold when the page cache has been dropped.
SERVED = (
    Served("untar", 4, 5, 3.5),
    Served("walk", 50, 2.5, 2),
    Served("read-warm", 8, 1.7, 6),
    Served("git-add", 4.5, 3, 3),
    Served("git-status", 18, 2.5, 2.5),
    Served("cp", 8, 3),
    Served("rm", 8, 3.5),
    Served("walk-cold", 3, 3),
    Served("create", 5, 4, 1.5),
    Served("stat", 50, 2.5, 2),
    Served("stat-missing", 50, 25, 2),
    Served("unlink", 8, 3.5),
    Served("fsync", 3, 2.5),
    Served("turns", 3, 1.5),
    Served("write-large", 1, 1),
    Served("read-large-dropped", 1, 1),
)

TARGETS = (
    Target(
        "at least 3 x as fast as both ceph-fuse and juicefs",
        ("untar", "git-add", "create", "unlink", "rm"),
        TARGET_AGAINST,
        3.0,
    ),
    Target("at least 2 x as fast as juicefs", ("cp",), ("juicefs",), 2.0),
    Target(
        "no slower than 1.2 x the faster of ceph-fuse and juicefs",
        tuple(row.key for row in ROWS),
        TARGET_AGAINST,
        1 / 1.2,
    ),
    Target(
        f"{THROUGH_DAEMON} no slower than 1.5 x {DAEMON_AGAINST}",
        tuple(row.key for row in ROWS if row.key not in {served.row for served in SERVED}),
        (DAEMON_AGAINST,),
        1 / 1.5,
        of=THROUGH_DAEMON,
    ),
    *(target for served in SERVED for target in served.targets()),
)


def judge(figures: Figures, targets: Sequence[Target] = TARGETS) -> list[Verdict]:
    """Verdicts for every row of every target whose file systems all took part.

    A row that no peer could finish is not judged; a row that we could not finish is missed, unless
    the machine cannot do it at all.
    """
    verdicts = []
    for target in targets:
        for row in target.rows:
            by_label = figures.get(row, {})
            if not {target.of, *target.against} <= by_label.keys():
                continue
            ours = by_label[target.of]
            peer_s = fastest(by_label, target.against)
            if peer_s is None or ours.not_available:
                continue
            speedup = ratio(peer_s, ours.median_s)
            passed = speedup is not None and speedup >= target.speedup
            verdicts.append(Verdict(target, row, speedup, passed))
    return verdicts


@dataclass(frozen=True, slots=True)
class Promise:
    """That ours gives no stale answer: how many it gave in one row, None if the row failed and nobody knows."""

    label: str
    row: str
    stale: int | None

    @property
    def kept(self) -> bool:
        return self.stale == 0


def promises(figures: Figures, ours: Sequence[str]) -> list[Promise]:
    """Unlike a target this does not depend on the machine, and not on the peers."""
    return [
        Promise(label, row.key, None if figure.error is not None else figure.stale.total())
        for row in ROWS
        if row.may_be_stale
        for label in ours
        if not (figure := figures[row.key][label]).not_available
    ]
