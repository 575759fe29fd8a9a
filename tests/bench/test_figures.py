"""The arithmetic of the comparison (medians, ratios, targets) and the reports made of it."""

import json
import xml.etree.ElementTree

import pytest

from loligo_bench.chart import svg
from loligo_bench.figures import TARGETS, Figure, Promise, Served, Target, fastest, judge, promises, ratio, significant
from loligo_bench.report import Comparison, Cost, as_json, markdown
from loligo_bench.rows import NAME_STILL, OLD_SIZE, ROWS, STEPS


def figures_with(seconds: dict[str, float]) -> dict[str, dict[str, Figure]]:
    """The same time in every row for each label."""
    return {row.key: {label: Figure([value]) for label, value in seconds.items()} for row in ROWS}


def test_a_figure_is_the_median_of_its_samples() -> None:
    assert Figure([0.3, 9.0, 0.1]).median_s == 0.3
    assert Figure([1.0, 2.0]).median_s == 1.5
    assert Figure([]).median_s is None


def test_one_failure_spoils_the_lucky_rounds() -> None:
    figure = Figure([0.1, 0.2], error="No space left on device")
    assert figure.median_s is None
    assert figure.text == "failed"


def test_a_row_the_machine_cannot_do_has_no_figure() -> None:
    assert Figure([], not_available=True).text == "n/a"


@pytest.mark.parametrize(
    ("value", "text"),
    [(234.5, "234"), (23.45, "23.4"), (2.345, "2.35"), (0.2345, "0.234"), (0.0023, "0.0023")],
)
def test_three_significant_digits(value: float, text: str) -> None:
    assert significant(value) == text


def test_ratio_of_what_is_missing_is_missing() -> None:
    assert ratio(3.0, 2.0) == 1.5
    assert ratio(None, 2.0) is None
    assert ratio(3.0, None) is None
    assert ratio(3.0, 0.0) is None


def test_the_fastest_peer_is_looked_for_among_those_that_finished() -> None:
    by_label = {"a": Figure([1.0], error="boom"), "b": Figure([3.0]), "c": Figure([2.0])}
    assert fastest(by_label, ["a", "b", "c"]) == 2.0
    assert fastest(by_label, ["a"]) is None
    assert fastest(by_label, ["b", "absent"]) == 3.0


def verdicts_of(ours: Figure, **peers: Figure) -> list[tuple[float | None, bool]]:
    target = Target("three times", ("untar",), tuple(peers), 3.0)
    figures = {"untar": {"loligo": ours, **peers}}
    return [(verdict.speedup, verdict.passed) for verdict in judge(figures, [target])]


def test_a_target_against_two_is_a_target_against_the_faster() -> None:
    assert verdicts_of(Figure([1.0]), a=Figure([9.0]), b=Figure([3.0])) == [(3.0, True)]
    assert verdicts_of(Figure([1.0]), a=Figure([9.0]), b=Figure([2.9])) == [(2.9, False)]


def test_our_failure_is_a_miss_and_a_failed_peer_is_left_out() -> None:
    failed = Figure(error="boom")
    assert verdicts_of(failed, a=Figure([9.0])) == [(None, False)]
    assert verdicts_of(Figure([1.0]), a=Figure([9.0]), b=failed) == [(9.0, True)]
    assert verdicts_of(Figure([1.0]), a=failed) == []


def test_what_the_machine_cannot_do_is_not_judged() -> None:
    absent = Figure(not_available=True)
    assert verdicts_of(absent, a=absent) == []


def test_targets_wait_for_all_their_file_systems() -> None:
    assert judge(figures_with({"ext4": 1, "loligo": 1, "ceph-fuse": 1})) == []
    assert judge(figures_with({"ext4": 1, "ceph-fuse": 1, "juicefs": 1})) == []
    # juicefs alone is enough for the target that names only juicefs
    only = judge(figures_with({"loligo": 1, "juicefs": 2}))
    assert [(verdict.row, verdict.passed) for verdict in only] == [("cp", True)]


def test_the_limit_of_a_fifth_slower() -> None:
    at_limit = judge(figures_with({"loligo": 1.19, "ceph-fuse": 1.0, "juicefs": 5.0}))
    over_limit = judge(figures_with({"loligo": 1.21, "ceph-fuse": 1.0, "juicefs": 5.0}))
    assert all(verdict.passed for verdict in at_limit if verdict.target is TARGETS[2])
    assert not any(verdict.passed for verdict in over_limit if verdict.target is TARGETS[2])
    assert len([v for v in at_limit if v.target is TARGETS[2]]) == len(ROWS)


def test_what_is_served_has_a_target_against_each_and_one_that_limits_how_slow() -> None:
    targets = list(Served("untar", 4, 2.5, 3.5).targets())
    at_limit = figures_with({"ext4": 1.0, "ceph-fuse": 14.0, "juicefs": 8.75, "loligo-ceph": 3.5})
    over_limit = figures_with({"ext4": 1.0, "ceph-fuse": 14.0, "juicefs": 8.75, "loligo-ceph": 3.6})
    assert [(verdict.target.name, verdict.passed) for verdict in judge(at_limit, targets)] == [
        ("loligo-ceph at least 4 x as fast as ceph-fuse", True),
        ("loligo-ceph at least 2.5 x as fast as juicefs", True),
        ("loligo-ceph at most 3.5 x as slow as ext4", True),
    ]
    assert [verdict.passed for verdict in judge(over_limit, targets)] == [False] * 3
    assert [target.against for target in Served("cp", 8, 3).targets()] == [("ceph-fuse",), ("juicefs",)]


def test_what_is_served_is_judged_in_every_row_and_against_ceph_fuse_once() -> None:
    rows = [
        row for target in TARGETS if target.of == "loligo-ceph" and "ceph-fuse" in target.against for row in target.rows
    ]
    assert sorted(rows) == sorted(row.key for row in ROWS)


def test_every_row_is_filled_by_one_step_and_targets_name_rows() -> None:
    keys = [row.key for row in ROWS]
    assert [key for step in STEPS for key in step.rows] == keys
    for target in TARGETS:
        assert set(target.rows) <= set(keys)


def test_a_row_that_failed_proves_no_promise_and_one_that_cannot_be_done_breaks_none() -> None:
    figures = figures_with({"kept": 1, "broken": 1, "failed": 1, "once": 1, "peer": 1})
    by_label = figures["turns"]
    by_label["broken"].stale.update({OLD_SIZE: 2, NAME_STILL: 1})
    by_label["failed"].error = "Input/output error"
    by_label["once"].not_available = True
    by_label["peer"].stale[OLD_SIZE] = 100
    found = promises(figures, ["kept", "broken", "failed", "once"])
    assert found == [Promise("kept", "turns", 0), Promise("broken", "turns", 3), Promise("failed", "turns", None)]
    assert [promise.kept for promise in found] == [True, False, False]


def comparison() -> Comparison:
    figures = figures_with({"ext4": 0.5, "ceph-fuse": 8.0, "juicefs": 4.0, "loligo": 1.0})
    figures["cp"]["juicefs"] = Figure([1.0], error="Input/output <error>")
    figures["rm"] = {label: Figure(not_available=True) for label in figures["rm"]}
    return Comparison(
        labels=["ext4", "ceph-fuse", "juicefs", "loligo"],
        ours=["loligo"],
        figures=figures,
        rounds=1,
        machine={"processors": "2"},
        costs={("loligo", "client"): Cost(1.25, 80.0, 40.0)},
        cpu_s={row.key: {("loligo", "client"): 0.5} for row in ROWS},
        verdicts=judge(figures),
    )


def cells(text: str, title: str) -> list[str]:
    line = next(line for line in text.splitlines() if line.startswith(f"| {title} "))
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_the_table_gives_ratios_to_the_baseline_and_to_the_best_peer() -> None:
    text = markdown(comparison())
    assert cells(text, "untar") == ["untar", "0.500", "8.00", "4.00", "1.00", "2.0 x", "4.0 x"]
    assert cells(text, "cp -r") == ["cp -r", "0.500", "8.00", "failed", "1.00", "2.0 x", "8.0 x"]
    assert cells(text, "rm -rf") == ["rm -rf", "n/a", "n/a", "n/a", "n/a", "", ""]
    assert "cp -r, juicefs: Input/output <error>" in text
    assert cells(text, "loligo, client") == ["loligo, client", "1.25", "80", "40"]


def test_through_the_daemon_ratios_and_targets_refer_to_ceph_fuse() -> None:
    figures = figures_with({"ceph-fuse": 1.0, "loligo-ceph": 1.4})
    figures["read-random"]["loligo-ceph"] = Figure([1.6])
    costs = {("loligo-ceph", role): Cost(2.0, mib, 10.0) for role, mib in (("client", 300.0), ("server", 199.0))}
    cpu_s = {row.key: {part: 0.25 for part in costs} for row in ROWS}
    shown = Comparison(["ceph-fuse", "loligo-ceph"], ["loligo-ceph"], figures, 1, {}, costs, cpu_s, judge(figures))
    # Those of single rows want more.
    shown.verdicts = [verdict for verdict in shown.verdicts if "1.5 x ceph-fuse" in verdict.target.name]
    text = markdown(shown)
    assert "loligo-ceph / ceph-fuse" in text and "best peer" not in text
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()]
    assert ["untar", "1.00", "1.40", "1.4 x"] in lines
    assert ["unlink 2,000", "0.250 (125)", "0.250 (125)"] in lines
    assert [line[1] for line in lines if line[-1] == "MISS"] == ["500 random 4 KiB reads, dropped"]
    assert ["the daemon below 200 MiB", "all of it", "199 MiB", "pass"] in lines
    costs["loligo-ceph", "server"].peak_rss_mib = 201.0
    assert cells(markdown(shown), "the daemon below 200 MiB")[2:] == ["201 MiB", "MISS"]


def test_stale_answers_are_shown_for_whoever_was_asked() -> None:
    shown = comparison()
    shown.figures["turns"]["juicefs"].stale.update({OLD_SIZE: 100, NAME_STILL: 80})
    shown.figures["turns"]["ext4"].not_available = True
    text = markdown(shown)
    assert cells(text, "stale answers in 100 turns")[1:] == ["ceph-fuse", "juicefs", "loligo"]
    assert cells(text, OLD_SIZE)[1:] == ["0", "100", "0"]
    assert cells(text, NAME_STILL)[1:] == ["0", "80", "0"]
    assert cells(text, "loligo never stale")[2:] == ["0 stale", "pass"]
    shown.figures["turns"]["loligo"].stale[OLD_SIZE] = 1
    assert cells(markdown(shown), "loligo never stale")[2:] == ["1 stale", "MISS"]
    for figure in shown.figures["turns"].values():
        figure.not_available = True
    assert "stale" not in markdown(shown)


def test_the_json_keeps_every_sample() -> None:
    data = json.loads(json.dumps(as_json(comparison())))
    rows = {row["key"]: row["figures"] for row in data["rows"]}
    assert rows["untar"]["loligo"]["samples_s"] == [1.0]
    assert rows["cp"]["juicefs"]["error"] == "Input/output <error>"
    assert {target["row"] for target in data["targets"]} >= {"untar", "create"}


def test_the_chart_has_a_bar_or_a_word_for_every_figure() -> None:
    root = xml.etree.ElementTree.fromstring(svg(comparison()))
    namespace = "{http://www.w3.org/2000/svg}"
    words = [element.text for element in root.iter(f"{namespace}text")]
    assert words.count("failed") == 1
    assert words.count("n/a") == 4
    bars = [element for element in root.iter(f"{namespace}rect") if element.get("rx") == "1.5"]
    assert len(bars) == 4 * len(ROWS) - 5


def test_bars_grow_with_the_logarithm() -> None:
    figures = figures_with({"a": 0.01, "b": 0.1, "c": 1.0})
    drawn = svg(Comparison(["a", "b", "c"], [], figures, 1, {}, {}, {}, []))
    root = xml.etree.ElementTree.fromstring(drawn)
    widths = [
        float(element.get("width", "0"))
        for element in root.iter("{http://www.w3.org/2000/svg}rect")
        if element.get("rx") == "1.5"
    ]
    assert widths[2] == pytest.approx(2 * widths[1], rel=0.01)
