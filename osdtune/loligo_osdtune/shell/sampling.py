"""Reads the counters of all OSDs again and again, for as long as asked."""

import time
from collections.abc import Callable, Iterable

from loligo_osdtune.core.answers import counters_of
from loligo_osdtune.core.bursts import Sample
from loligo_osdtune.core.facts import Counters, Facts
from loligo_osdtune.core.window import between
from loligo_osdtune.shell.cluster import Cluster
from loligo_osdtune.shell.failures import OsdtuneError

MOST_SAMPLES = 600
SHORTEST_S = 1.0


def sample_load(
    cluster: Cluster, facts: Facts, length_s: float, track: Callable[[Iterable[int]], Iterable[int]]
) -> tuple[list[Sample], dict[int, Counters]]:
    """-> samples, and the last counters by OSD. `track` wraps the samples, one step each. OsdtuneError: none answers."""
    count = max(2, min(MOST_SAMPLES, int(length_s / SHORTEST_S)))
    osds = [osd.osd for osd in facts.osds if osd.is_up and osd.counters is not None]
    if not osds:
        raise OsdtuneError("no OSD tells its performance counters, so there is nothing to sample; see the gaps above")
    before = _read(cluster, osds)
    started_s = last_s = time.monotonic()
    samples = []
    for number in track(range(1, count + 1)):
        time.sleep(max(0.0, started_s + number * length_s / count - time.monotonic()))
        after = _read(cluster, osds)
        now_s = time.monotonic()
        changes = [between(before[osd], counters) for osd, counters in after.items() if osd in before]
        samples.append(
            Sample(
                at_s=now_s - started_s,
                length_s=now_s - last_s,
                reads=sum(change.reads for change in changes),
                read_bytes=sum(change.read_bytes for change in changes),
                writes=sum(change.writes for change in changes),
                written_bytes=sum(change.written_bytes for change in changes),
            )
        )
        before, last_s = {**before, **after}, now_s
    return samples, before


def _read(cluster: Cluster, osds: list[int]) -> dict[int, Counters]:
    return {osd: counters_of(perf) for osd, perf in cluster.counters(osds).items()}
