"""A short benchmark of librados: on the whole of a pool, and on single OSDs of it.

Rules
1. Its objects lie in a namespace of their own in the pool, under names that are always the same. They are removed at the end,
   also after Ctrl-C; what a run that was killed has left the next one removes.
2. An OSD is measured by objects whose first copy CRUSH puts there. An acknowledged write is on all copies, so with several
   the figures are those of the OSD and whoever holds the others.
3. It writes what is not compressible, and reads what it has written; that may come from an OSD's memory.
"""

import contextlib
import errno
import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from loligo_osdtune.core.figures import (
    POOL_TARGET,
    SMALL_WRITES,
    WORKLOADS,
    Figure,
    Measurement,
    Round,
    Workload,
    figures_of,
)
from loligo_osdtune.shell.cluster import Cluster
from loligo_osdtune.shell.failures import OsdtuneError

NAMESPACE = "osdtune-verify"
ROUNDS = 5
LARGE_BYTES = 4 << 20
LEAST_SMALL, LEAST_LARGE = 8, 4  # operations in a round of a cell, however long they take
LEAST_S = 0.05  # of a round of a cell
SMALL_OBJECTS = 16
LARGE_OBJECTS = 4
MOST_NAMES = 4096  # tried for one OSD


class _Target:
    def __init__(self, target: str, works: Sequence[Workload], small: Sequence[str], large: Sequence[str]) -> None:
        self.target = target
        self.works = works
        self.small = small
        self.large = large


def measure(
    cluster: Cluster, pool: str, osds: Sequence[int], length_s: float, track: Callable[[Iterable[int]], Iterable[int]]
) -> Measurement:
    """`osds`: which to measure apart, none: all. `length_s`: of all together, longer on slow OSDs. `track` wraps the rounds.

    OsdtuneError: there is no such pool, an OSD of it does not answer, or `length_s` is too short.
    """
    measured_s = int(time.time())
    with cluster.pool(pool, NAMESPACE) as objects:
        firsts = cluster.primaries_of(pool)
        if strangers := sorted(set(osds) - set(firsts)):
            raise OsdtuneError(
                f"no placement group of {pool} has its first copy on {', '.join(f'osd.{osd}' for osd in strangers)}: "
                "is it in the pool's CRUSH rule, and up?"
            )
        chosen = osds or firsts
        cells = len(WORKLOADS) + len(chosen) * len(SMALL_WRITES)
        round_s = length_s / (cells * ROUNDS)
        if round_s < LEAST_S:
            least_s = int(LEAST_S * cells * ROUNDS) + 1
            raise OsdtuneError(
                f"{length_s:.0f} s are too short to measure {len(chosen)} OSDs apart: say --for {least_s}s or more, or "
                "choose some with --osd"
            )
        targets = [_Target(POOL_TARGET, WORKLOADS, _names("small", SMALL_OBJECTS), _names("large", LARGE_OBJECTS))]
        targets += [_on_osd(cluster, pool, osd) for osd in chosen]
        rounds: dict[tuple[str, Workload], list[Round]] = {}
        order = [(target, work) for _ in range(ROUNDS) for target in targets for work in target.works]
        with _removing(objects, targets):
            for name in targets[0].large:
                require(objects.aio_write_full(name, os.urandom(LARGE_BYTES)))
            for step in track(range(len(order))):
                target, work = order[step]
                names = target.large if work.of_large else target.small
                rounds.setdefault((target.target, work), []).append(_round(objects, work, names, round_s))
    figures: list[Figure] = []
    for (name, work), done in rounds.items():
        figures += figures_of(name, work, done)
    return Measurement(cluster.fsid(), pool, measured_s, ROUNDS, tuple(figures))


def _on_osd(cluster: Cluster, pool: str, osd: int) -> _Target:
    found: list[str] = []
    for name in _names("small", MOST_NAMES):
        if cluster.primary_of(pool, NAMESPACE, name) == osd:
            found.append(name)
            if len(found) == SMALL_OBJECTS:
                break
    if not found:  # one that left within this moment
        raise OsdtuneError(f"no object of {pool} has its first copy on osd.{osd} any more: has it gone down?")
    return _Target(f"osd.{osd}", SMALL_WRITES, found, ())


def _round(objects: Any, work: Workload, names: Sequence[str], length_s: float) -> Round:
    data = os.urandom(work.size_bytes)
    latencies: list[float] = []
    under_way: deque[Any] = deque()
    started_s = time.monotonic()
    number = 0
    least = max(LEAST_LARGE if work.of_large else LEAST_SMALL, work.depth)
    try:
        while number < least or time.monotonic() < started_s + length_s:
            if len(under_way) == work.depth:
                require(under_way.popleft())
            under_way.append(_begin(objects, work, names[number % len(names)], number, data, latencies))
            number += 1
    finally:
        while (
            under_way
        ):  # also after Ctrl-C: a write that is still on its way would make an object anew that was removed
            require(under_way.popleft())
    return Round(latencies, time.monotonic() - started_s)


def _begin(objects: Any, work: Workload, name: str, number: int, data: bytes, latencies: list[float]) -> Any:
    begun_s = time.monotonic()

    def on_end(*_: object) -> None:
        latencies.append(time.monotonic() - begun_s)

    if work.is_read:
        blocks = LARGE_BYTES // work.size_bytes
        offset = number * 7919 % blocks * work.size_bytes  # a prime, so that neighbours in time are none on the disk
        return objects.aio_read(name, work.size_bytes, offset, on_end)
    return objects.aio_write_full(name, data, on_end)


def require(completion: Any) -> None:
    """Wait for it. OsdtuneError: it failed."""
    completion.wait_for_complete_and_cb()
    code = completion.get_return_value()
    if -code in (errno.EPERM, errno.EACCES):
        raise OsdtuneError(
            f"permission denied: the user of --name may not read and write in this pool, in namespace {NAMESPACE}; its "
            "capabilities need osd 'allow rw pool=POOL', see 'ceph auth get', or name another"
        )
    if code < 0:
        raise OsdtuneError(f"the pool does not do what it is asked for: {os.strerror(-code)}; see 'ceph health detail'")


@contextlib.contextmanager
def _removing(objects: Any, targets: Sequence[_Target]) -> Iterator[None]:
    try:
        yield
    finally:
        names = {name for target in targets for name in (*target.small, *target.large)}
        for completion in [objects.aio_remove(name) for name in sorted(names)]:
            completion.wait_for_complete()


def _names(kind: str, count: int) -> list[str]:
    return [f"{kind}-{number}" for number in range(count)]
