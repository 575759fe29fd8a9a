"""Bursts, and the journal that would have absorbed them."""

from dataclasses import replace

from loligo_osdtune.core.bursts import Rates, Sample, load_of
from loligo_osdtune.core.window import between
from osdtune import shapes


def samples(*written_bytes: int) -> list[Sample]:
    return [Sample(at + 1.0, 1.0, 0, 0, size // 10, size) for at, size in enumerate(written_bytes)]


def test_a_steady_load_has_no_burst_and_needs_no_journal() -> None:
    load = load_of(samples(100, 100, 100))
    assert load.write_bytes == Rates(100.0, 100.0)
    assert load.write_iops == Rates(10.0, 10.0)
    assert (load.longest_burst_s, load.longest_burst_bytes, load.journal_bytes) == (0.0, 0, 0)


def test_the_journal_takes_what_is_above_the_mean() -> None:
    load = load_of(samples(0, 0, 600, 600, 0, 0))  # the mean is 200
    assert (load.longest_burst_s, load.longest_burst_bytes) == (2.0, 1200)
    assert load.journal_bytes == 800


def test_of_several_bursts_the_longest_is_told_and_the_journal_fits_all() -> None:
    load = load_of(samples(900, 0, 0, 0, 700, 700, 0, 0, 0, 0))  # the mean is 230
    assert (load.longest_burst_s, load.longest_burst_bytes) == (2.0, 1400)
    assert load.journal_bytes == 940  # the first burst has drained when the second comes


def test_nothing_written_is_no_burst() -> None:
    assert load_of(samples(0, 0)).journal_bytes == 0


def test_an_osd_that_restarted_counts_from_zero() -> None:
    before, after = shapes.COUNTERS, replace(shapes.COUNTERS, commits=5, writes=4, written_bytes=4096)
    assert between(before, after).written_bytes == 4096
    assert between(before, replace(before, writes=1010, written_bytes=before.written_bytes + 7)).writes == 10
