"""What Prometheus is told, and the page on which it is.

Counting is plain arithmetic on the event loop's thread, a fraction of a microsecond a request; only a scrape, on a thread of
its own, makes anything of it. A scrape may see one number of a request and not yet the other, which nobody minds.
"""

import platform
from bisect import bisect_left
from collections.abc import Callable, Iterator
from errno import errorcode
from typing import Any

from prometheus_client import CollectorRegistry, Histogram, ProcessCollector, start_http_server
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)

from loligo_mds.core import codec
from loligo_mds.core.requests import Request
from loligo_mds.shell.config import ServeError, split_address

#: Upper ends of the latency buckets.
LATENCY_S = (0.00005, 0.0002, 0.001, 0.005, 0.025, 0.1, 1.0, 10.0)
_LATENCY_NS = tuple(int(limit * 1e9) for limit in LATENCY_S)
BATCH = (1, 2, 4, 8, 16, 32, 64, 128, 256)
LAG_S = (0.001, 0.005, 0.02, 0.1, 0.5, 2.0)
STEP_S = (0.0005, 0.001, 0.002, 0.005, 0.02, 0.1)
SYNC_S = (0.0005, 0.002, 0.01, 0.05, 0.25, 1.0, 5.0)


class Counted:
    """Requests of one kind: latency buckets (the last has no end), and results by errno."""

    __slots__ = ("buckets", "results", "total_ns")

    def __init__(self) -> None:
        self.buckets = [0] * (len(_LATENCY_NS) + 1)
        self.results: dict[int, int] = {0: 0}
        self.total_ns = 0

    def add(self, took_ns: int, errno: int) -> None:
        self.buckets[bisect_left(_LATENCY_NS, took_ns)] += 1
        self.total_ns += took_ns
        results = self.results
        if errno in results:
            results[errno] += 1
        else:
            results[errno] = 1


class Buckets:
    """A histogram of small numbers."""

    __slots__ = ("_ends", "counts", "total")

    def __init__(self, ends: tuple[int, ...]) -> None:
        self._ends = ends
        self.counts = [0] * (len(ends) + 1)
        self.total = 0

    def add(self, value: int) -> None:
        self.counts[bisect_left(self._ends, value)] += 1
        self.total += value


class Metrics:
    """Whoever counts does so on the loop's thread, but for `sync_s`."""

    def __init__(self, version: str, volume: str) -> None:
        self._info = {"version": version, "volume": volume, "python": platform.python_version()}
        kinds = (*Request.__args__, codec.Sync)
        #: By type of the request.
        self.requests: dict[type, Counted] = {kind: Counted() for kind in kinds}
        self.batch = Buckets(BATCH)
        self.frames_bad = 0
        self.handshakes: dict[str, int] = {"welcome": 0, "resumed": 0}
        self.recalls = 0
        self.reports = 0
        self.lease_recalls = 0
        self.expired = 0
        self.evicted = 0
        self.fence_failures = 0
        #: Numbers that somebody else knows, asked at a scrape: name -> (help, is a counter, how to ask).
        self.asked: dict[str, tuple[str, bool, Callable[[], float]]] = {}
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.loop_lag_s = Histogram(
            "loligo_mds_loop_lag_seconds",
            "How late the event loop comes to what is due; looked at four times a second.",
            buckets=LAG_S,
            registry=self.registry,
        )
        self.sync_s = Histogram(
            "loligo_mds_journal_sync_seconds",
            "Time to make the journal survive a power loss.",
            buckets=SYNC_S,
            registry=self.registry,
        )
        self.purge_step_s = Histogram(
            "loligo_mds_purge_step_seconds",
            "Time that a step took which emptied some of the trash; nobody is answered meanwhile.",
            buckets=STEP_S,
            registry=self.registry,
        )
        self.registry.register(self)

    def refused(self, reason: str) -> None:
        """A handshake that did not come to a session."""
        self.handshakes[reason] = self.handshakes.get(reason, 0) + 1

    # -- for prometheus_client --------------------------------------------------------------------------------------

    def describe(self) -> list[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        yield InfoMetricFamily("loligo_mds_build", "What runs here.", value=self._info)
        results = CounterMetricFamily("loligo_mds_requests", "Answered requests.", labels=["kind", "result"])
        latency = HistogramMetricFamily(
            "loligo_mds_request_seconds", "From arrival to answer; waiting for other clients included.", labels=["kind"]
        )
        for kind, counted in self.requests.items():
            done = {errno: count for errno, count in counted.results.items() if count}
            if not done:
                continue
            for errno, count in done.items():
                results.add_metric([kind.__name__, errorcode.get(errno, str(errno)) if errno else "ok"], count)
            latency.add_metric([kind.__name__], _cumulative(LATENCY_S, counted.buckets), counted.total_ns / 1e9)
        yield results
        yield latency
        batch = HistogramMetricFamily("loligo_mds_batch_requests", "Requests in a frame of a client.", labels=[])
        batch.add_metric([], _cumulative(BATCH, self.batch.counts), self.batch.total)
        yield batch
        handshakes = CounterMetricFamily("loligo_mds_handshakes", "Clients that said hello.", labels=["result"])
        for result, count in self.handshakes.items():
            handshakes.add_metric([result], count)
        yield handshakes
        for name, text, value in (
            ("bad_frames", "Frames that made no sense, and ended their connection.", self.frames_bad),
            ("recalls", "Files that a client was told to leave alone for a while.", self.recalls),
            ("reports", "Files that others asked about while a client was writing them.", self.reports),
            (
                "lease_recalls",
                "Leases that clients were asked to give back, as a whole or for one inode.",
                self.lease_recalls,
            ),
            ("sessions_expired", "Sessions that ended because their client was silent.", self.expired),
            ("sessions_evicted", "Sessions that the operator ended.", self.evicted),
            ("fence_failures", "Attempts to shut a client out of the object store that failed.", self.fence_failures),
        ):
            yield CounterMetricFamily(f"loligo_mds_{name}", text, value=value)
        for name, (text, is_counter, ask) in self.asked.items():
            family = CounterMetricFamily if is_counter else GaugeMetricFamily
            yield family(f"loligo_mds_{name}", text, value=ask())


def _cumulative(ends: tuple[Any, ...], counts: list[int]) -> list[tuple[str, float]]:
    found = []
    total = 0
    for end, count in zip((*map(str, map(float, ends)), "+Inf"), counts, strict=True):
        total += count
        found.append((end, float(total)))
    return found


class MetricsPage:
    """Serves the metrics over HTTP until it is closed."""

    def __init__(self, address: str, registry: CollectorRegistry) -> None:
        host, port = split_address(address, "metrics")
        try:
            self._server, self._thread = start_http_server(port, host, registry)
        except OSError as error:
            raise ServeError(
                f"metrics cannot be served on {address} ({error.strerror}): give another --metrics HOST:PORT, or ''"
            ) from None
        self.address = f"{f'[{host}]' if ':' in host else host}:{self._server.server_port}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
