"""Samples of load -> what a cluster does at peak, and how large an SSD journal would have taken its bursts.

A burst is a run of samples whose writes are above twice the mean of all samples. The journal is reckoned as a bucket: each
sample pours in what was written, and the disks take out the mean; the highest level it reaches is the size that would
have absorbed everything, with the disks never working above the mean.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

BURST_FACTOR = 2.0


@dataclass(frozen=True, slots=True)
class Sample:
    """What happened in the `length_s` seconds that ended `at_s` seconds after the start, over all OSDs."""

    at_s: float
    length_s: float
    reads: int
    read_bytes: int
    writes: int
    written_bytes: int


@dataclass(frozen=True, slots=True)
class Rates:
    peak: float
    mean: float


@dataclass(frozen=True, slots=True)
class Load:
    """Operations and bytes per second. A burst of 0 s: there was none."""

    length_s: float
    write_iops: Rates
    read_iops: Rates
    write_bytes: Rates
    read_bytes: Rates
    longest_burst_s: float
    longest_burst_bytes: int
    journal_bytes: int


def load_of(samples: Sequence[Sample]) -> Load:
    length_s = sum(sample.length_s for sample in samples)
    write_bytes = _rates(samples, [sample.written_bytes for sample in samples], length_s)
    burst_s, burst_bytes = _longest_burst(samples, BURST_FACTOR * write_bytes.mean)
    return Load(
        length_s=length_s,
        write_iops=_rates(samples, [sample.writes for sample in samples], length_s),
        read_iops=_rates(samples, [sample.reads for sample in samples], length_s),
        write_bytes=write_bytes,
        read_bytes=_rates(samples, [sample.read_bytes for sample in samples], length_s),
        longest_burst_s=burst_s,
        longest_burst_bytes=burst_bytes,
        journal_bytes=_journal(samples, write_bytes.mean),
    )


def _rates(samples: Sequence[Sample], amounts: Sequence[int], length_s: float) -> Rates:
    if not samples:
        return Rates(0.0, 0.0)
    peak = max(amount / sample.length_s for amount, sample in zip(amounts, samples, strict=True))
    return Rates(peak, sum(amounts) / length_s)


def _longest_burst(samples: Iterable[Sample], above: float) -> tuple[float, int]:
    longest, now = (0.0, 0), (0.0, 0)
    for sample in samples:
        if sample.written_bytes > above * sample.length_s:
            now = (now[0] + sample.length_s, now[1] + sample.written_bytes)
            longest = max(longest, now)
        else:
            now = (0.0, 0)
    return longest


def _journal(samples: Iterable[Sample], drain: float) -> int:
    level = highest = 0.0
    for sample in samples:
        level = max(0.0, level + sample.written_bytes - drain * sample.length_s)
        highest = max(highest, level)
    return round(highest)
