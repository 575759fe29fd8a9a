"""What a mount has to tell of its session at a metadata server, and of its cache on the local disk, for `statistics`."""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from loligo_client.core.leased import Leased
from loligo_client.shell.block_cache import CachedObjects
from loligo_client.shell.connection import Connection
from loligo_client.shell.locks import Locks
from loligo_client.shell.remote_metadata import RemoteMetadata
from loligo_client.shell.statistics import Metric


@dataclass(frozen=True, slots=True)
class ServedMetrics:
    connection: Connection
    metadata: RemoteMetadata
    leased: Leased
    locks: Locks
    cache: CachedObjects | None

    def collect(self) -> Iterator[Metric]:
        connection, leased = self.connection, self.leased
        asked, promised = _by_name(connection.asked), _by_name(connection.promised)
        yield Metric("requests", "Requests to the metadata, by kind.", asked, counts=True, label="kind")
        about = "Requests whose callers were answered here, and that are told to the server later, by kind."
        yield Metric("promises", about, promised, counts=True, label="kind")
        yield Metric("promises_unkept", "Those that the server has not confirmed yet.", self.metadata.unkept)
        about = "Frames to the server; each has as many requests as were there."
        yield Metric("frames_sent", about, connection.frames, counts=True)
        about = (
            "What the server has wanted of its own accord: leases back, files recalled and resumed, reports of files."
        )
        yield Metric("notices", about, connection.heeded, counts=True, label="kind")
        about = "Directories and files of which names and attributes are believed without asking."
        yield Metric("leases", about, len(leased))
        about = "Those of the leases that nobody else has: changes under them wait for no answer."
        yield Metric("delegations", about, len(leased.delegations()))
        with self.metadata.lock:
            locks = len(self.locks.held())
        yield Metric("locks", "Locks that programs have at the server.", locks)
        away_since_s = connection.away_since_s
        yield Metric("server_connected", "1: the server is there; 0: it is away.", int(away_since_s is None))
        away_s = 0.0 if away_since_s is None else max(0.0, time.time() - away_since_s)
        yield Metric("server_away_seconds", "How long the server has been away by now.", round(away_s, 3))
        yield Metric(
            "session_ended", "1: the server has ended the session, every call fails.", int(bool(connection.gone))
        )
        yield Metric("connections", "Connections to the server that there were.", connection.connections, counts=True)
        if self.cache is not None:
            yield Metric("cache_hits", "Reads that the local disk answered.", self.cache.hits, counts=True)
            yield Metric("cache_misses", "Reads that went to the object store.", self.cache.misses, counts=True)


def _by_name(counts: Mapping[type, int]) -> dict[str, float]:
    return {kind.__name__: count for kind, count in counts.items() if count}
