"""Rounds become figures with their noise; two measurements are compared; changes get the figures of where they were applied."""

import json
from dataclasses import replace

import pytest

from loligo_osdtune.core.actions import ConfigLine, KernelValue, Put, Restart
from loligo_osdtune.core.facts import FactsError
from loligo_osdtune.core.figures import (
    SMALL_WRITES,
    Figure,
    Measurement,
    Round,
    compare,
    effects_of,
    figures_of,
    small_write_ratios,
)
from loligo_osdtune.core.recording import decode_measurement, encode_measurement

SYNC = SMALL_WRITES[0]


def rounds(*latencies_ms: float) -> list[Round]:
    """Each of ten operations that took so long, one after another."""
    return [Round([ms / 1e3] * 10, 10 * ms / 1e3) for ms in latencies_ms]


def measurement(*figures: Figure) -> Measurement:
    return Measurement("fsid", "data", 1_700_000_000, 5, figures)


def verdict(before: Figure, after: Figure) -> str:
    (move,) = compare(measurement(before), measurement(after))
    return move.verdict


def test_a_figure_is_the_median_of_its_rounds_and_its_noise_their_deviation() -> None:
    p50, p99, iops, mb_s = figures_of("pool", SYNC, rounds(10, 11, 12, 14, 90))
    assert (p50.value, p50.noise) == (12.0, 2.9652)  # deviations 2, 1, 0, 2, 78: their median is 2
    assert p99.value == 12.0 and p99.measure == "p99_ms"
    assert iops.value == 83.3333
    assert mb_s.value == 0.3413


def test_p99_is_the_slowest_but_for_one_in_a_hundred() -> None:
    many = Round([0.001] * 98 + [0.5, 0.9], 1.0)
    assert figures_of("pool", SYNC, [many])[1].value == 500.0
    assert figures_of("pool", SYNC, [Round([0.001, 0.9], 1.0)])[1].value == 900.0


@pytest.mark.parametrize(
    ("measure", "before", "after", "noise", "wanted"),
    [
        ("p50_ms", 10.0, 4.0, 1.0, "better"),
        ("p50_ms", 4.0, 10.0, 1.0, "worse"),
        ("p99_ms", 10.0, 7.5, 1.0, "within noise"),
        ("iops", 100.0, 140.0, 10.0, "better"),
        ("iops", 140.0, 100.0, 10.0, "worse"),
        ("mb_s", 100.0, 104.0, 0.0, "within noise"),  # rounds that agree by chance
        ("mb_s", 100.0, 106.0, 0.0, "better"),
    ],
)
def test_moved_is_what_is_above_the_noise(measure: str, before: float, after: float, noise: float, wanted: str) -> None:
    first = Figure("pool", "w", measure, before, noise)
    assert verdict(first, replace(first, value=after)) == wanted
    assert verdict(first, replace(first, value=after, noise=0.0)) == wanted  # the larger noise counts


def test_figures_that_are_in_one_measurement_only_are_not_compared() -> None:
    known, other = Figure("osd.1", "w", "iops", 1.0, 0.0), Figure("osd.2", "w", "iops", 1.0, 0.0)
    assert [move.after.target for move in compare(measurement(known), measurement(other, known))] == ["osd.1"]


def test_a_change_has_the_figures_of_its_osd_and_one_of_the_host_those_of_the_pool() -> None:
    before = measurement(*(Figure(target, "w", "p50_ms", 10.0, 0.1) for target in ("pool", "osd.1", "osd.2")))
    figures = {figure.target: figure for figure in before.figures}
    after = measurement(figures["pool"], replace(figures["osd.1"], value=5.0), figures["osd.2"])
    actions = (
        Put(("swappiness",), KernelValue("/proc/sys/vm/swappiness"), "60", "10"),
        Put(("a",), ConfigLine("osd.1", "x"), None, "1"),
        Put(("b",), ConfigLine("osd.1", "y"), None, "1"),
        Restart(("a", "b"), 1),
        Put(("a",), ConfigLine("osd.2", "x"), None, "1"),
        Put(("a",), ConfigLine("osd.3", "x"), None, "1"),
    )
    effects = {effect.target: effect for effect in effects_of(actions, compare(before, after))}
    assert list(effects) == ["pool", "osd.1", "osd.2", "osd.3"]
    assert effects["pool"].rules == ("swappiness",) and effects["pool"].moves == ()
    assert effects["osd.1"].rules == ("a", "b") and [move.verdict for move in effects["osd.1"].moves] == ["better"]
    assert effects["osd.2"].is_measured and effects["osd.2"].moves == ()
    assert not effects["osd.3"].is_measured


def test_osds_are_ranked_by_their_small_synchronous_writes() -> None:
    figures = [
        Figure(target, SYNC.work, "p50_ms", ms, 0.0) for target, ms in (("pool", 1.0), ("osd.0", 8.0), ("osd.2", 2.0))
    ]
    assert small_write_ratios(measurement(*figures)) == (("osd.2", 2.0, 1.0), ("osd.0", 8.0, 4.0))


def test_a_measurement_survives_a_recording_and_what_is_none_is_refused() -> None:
    measured = measurement(*figures_of("pool", SYNC, rounds(1, 2, 3)))
    moves = compare(measured, measured)
    recorded = encode_measurement(measured, moves, effects_of((), moves))
    assert len(recorded["moves"]) == 4 and decode_measurement(json.dumps(recorded)) == measured
    with pytest.raises(FactsError, match="no recorded figures; give what 'osdtune verify --json' printed"):
        decode_measurement("{}")
    with pytest.raises(FactsError, match="missing or unknown"):
        decode_measurement('{"osdtune_measurement": 1, "x": []}')
