"""The text that a mount tells its numbers in."""

import pytest
from prometheus_client.parser import text_string_to_metric_families

from loligo_client.shell.statistics import Metric, Statistics


@pytest.fixture
def statistics() -> Statistics:
    return Statistics()


def test_each_line_is_a_name_and_a_value(statistics: Statistics) -> None:
    statistics.add(
        lambda: [Metric("frames_sent", "Frames.", 12345678, counts=True), Metric("away_seconds", "Away.", 0.5)]
    )
    assert statistics.text().decode() == (
        "# HELP loligo_client_frames_sent_total Frames.\n"
        "# TYPE loligo_client_frames_sent_total counter\n"
        "loligo_client_frames_sent_total 12345678\n"
        "# HELP loligo_client_away_seconds Away.\n"
        "# TYPE loligo_client_away_seconds gauge\n"
        "loligo_client_away_seconds 0.5\n"
    )


def test_prometheus_reads_it(statistics: Statistics) -> None:
    statistics.labels = {"mount": 'a "b"\\c\nd'}
    statistics.add(lambda: [Metric("upcalls", "Calls.", {"LOOKUP": 3, "READ": 4}, counts=True, label="op")])
    statistics.add(lambda: [Metric("leases", "Leases.", 5)])
    first, second = text_string_to_metric_families(statistics.text().decode())
    assert (first.type, second.type) == ("counter", "gauge")
    assert [(sample.name, sample.labels, sample.value) for sample in (*first.samples, *second.samples)] == [
        ("loligo_client_upcalls_total", {"op": "LOOKUP", "mount": 'a "b"\\c\nd'}, 3),
        ("loligo_client_upcalls_total", {"op": "READ", "mount": 'a "b"\\c\nd'}, 4),
        ("loligo_client_leases", {"mount": 'a "b"\\c\nd'}, 5),
    ]


def test_who_tells_is_asked_each_time(statistics: Statistics) -> None:
    counts = iter([1, 2])
    statistics.add(lambda: [Metric("x", "X.", next(counts))])
    assert [statistics.text().split()[-1] for _ in range(2)] == [b"1", b"2"]


def test_a_mount_whose_path_is_no_text_does_no_harm(statistics: Statistics) -> None:
    statistics.labels = {"mount": "/mnt/\udcff"}
    statistics.add(lambda: [Metric("x", "X.", 1)])
    assert statistics.text().endswith(b'{mount="/mnt/?"} 1\n')
