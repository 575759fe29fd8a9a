"""What one metadata server does for API clients: creates and stats a second, and what each costs on both sides.

    python -m loligo_bench.throughput --server 127.0.0.1:9440 --volume work --pid 123

Clients are processes of their own, which speak the wire protocol without a mount (`loligo_lab.raw_client`); each works in a
directory of its own. A frame holds one request or BATCH of them, as a client sends what has come together; the next goes
out when all of the last one is answered. Creates are journaled before they are answered, but not synced: nobody asks for it.

Rules: a figure is what all clients did in one window that begins when the last of them is ready; CPU seconds are those of the
window too. Clients and server share this machine: with more clients than cores the figures are of both together, and
the CPU of the server per operation is the one that says what a machine of its own would do.
"""

import argparse
import json
import multiprocessing
import os
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import count
from multiprocessing.synchronize import Barrier
from stat import S_IFDIR, S_IFREG
from typing import TYPE_CHECKING, Any

from loligo_bench.options import write_text
from loligo_bench.process import Server
from loligo_bench.report import table

if TYPE_CHECKING:
    from loligo_lab.raw_client import RawClient

CLIENTS = (1, 2, 4, 8)
BATCHES = (1, 64)
OPERATIONS = ("create", "stat")
WINDOW_S = 2.0
START_LIMIT_S = 60.0
#: Files that there are to be looked at, a client.
LOOKED_AT = 1000


@dataclass(frozen=True, slots=True)
class Measured:
    """All clients of one window together."""

    operation: str
    batch: int
    clients: int
    per_s: float
    frame_ms: float
    server_cpu_us: float
    client_cpu_us: float


def measure(address: str, volume: str, server: Server, operation: str, batch: int, clients: int) -> Measured:
    context = multiprocessing.get_context("spawn")
    ready = context.Barrier(clients + 1)
    results: Any = context.SimpleQueue()
    workers = [
        context.Process(
            target=_client, args=(address, volume, number, operation, batch, WINDOW_S, ready, results), daemon=True
        )
        for number in range(clients)
    ]
    for worker in workers:
        worker.start()
    try:
        ready.wait(START_LIMIT_S)
        server.look()
        before_s = server.cpu_s
        ready.wait(START_LIMIT_S + WINDOW_S)
        server.look()
        spent_s = server.cpu_s - before_s
        ready.wait(START_LIMIT_S)
        done = [results.get() for _ in workers]
    finally:
        for worker in workers:
            worker.join(START_LIMIT_S)
            worker.kill()
    operations = sum(answered for answered, _, _ in done)
    client_s = sum(used_s for _, used_s, _ in done)
    return Measured(
        operation,
        batch,
        clients,
        operations / WINDOW_S,
        statistics.median(frame_s for _, _, frame_s in done) * 1e3,
        spent_s / operations * 1e6,
        client_s / operations * 1e6,
    )


def _client(
    address: str, volume: str, number: int, operation: str, batch: int, window_s: float, ready: Barrier, results: Any
) -> None:
    """Three meetings at `ready`: everybody is connected, the window is over, the results may be fetched."""
    from loligo_lab.raw_client import RawClient
    from loligo_mds.core.requests import Create, GetAttributes
    from loligo_wire.ids import ROOT_INO

    with RawClient(address, volume=volume) as client:
        names = (b"%d" % index for index in count())
        name = b"%s-%d-%d-%d" % (operation.encode(), batch, number, os.getpid())
        parent = client.ask(Create(ROOT_INO, name, S_IFDIR | 0o755, 0, 0)).ino

        def creates(how_many: int) -> list[Any]:
            return [Create(parent, next(names), S_IFREG | 0o644, 0, 0) for _ in range(how_many)]

        inos: list[int] = []
        if operation == "stat":
            inos = [found.ino for found in _asked(client, creates(LOOKED_AT))]
        ready.wait(START_LIMIT_S)
        answered = 0
        frames_s = []
        cpu_s = time.process_time()
        began_s = now_s = time.monotonic()
        while now_s < began_s + window_s:
            if operation == "create":
                requests = creates(batch)
            else:
                requests = [GetAttributes(inos[(answered + index) % LOOKED_AT]) for index in range(batch)]
            _asked(client, requests)
            answered += batch
            before_s, now_s = now_s, time.monotonic()
            frames_s.append(now_s - before_s)
        cpu_s = time.process_time() - cpu_s
        ready.wait(START_LIMIT_S)
        results.put((answered, cpu_s, statistics.median(frames_s)))
        ready.wait(START_LIMIT_S)
        client.goodbye()


def _asked(client: "RawClient", requests: list[Any]) -> list[Any]:
    answers = client.ask_all(requests, acknowledged=client.sequence)
    for answer in answers:
        if isinstance(answer, OSError):
            raise answer
    return answers


def report(figures: Sequence[Measured], peak_mib: float) -> str:
    lines = [["work", "a frame", "clients", "a second", "ms a frame", "server CPU us", "client CPU us"]]
    lines += [
        [
            figure.operation,
            str(figure.batch),
            str(figure.clients),
            f"{figure.per_s:.0f}",
            f"{figure.frame_ms:.2f}",
            f"{figure.server_cpu_us:.0f}",
            f"{figure.client_cpu_us:.0f}",
        ]
        for figure in figures
    ]
    head = (
        f"One metadata server and its clients on {os.cpu_count()} processors; windows of {WINDOW_S:g} s; CPU microseconds"
        f" an operation. The server's resident memory at its largest: {peak_mib:.0f} MiB."
    )
    return f"{head}\n\n{table(lines)}\n"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m loligo_bench.throughput",
        description="Measure how many creates and stats a second one metadata server does, and their cost.",
    )
    parser.add_argument("--server", required=True, metavar="HOST:PORT")
    parser.add_argument("--volume", required=True)
    parser.add_argument("--pid", type=int, required=True, help="the server's process")
    parser.add_argument("--out", default="bench/results", help="directory for the results")
    options = parser.parse_args(arguments)
    server = Server([options.pid])
    figures = []
    for operation in OPERATIONS:
        for batch in BATCHES:
            for clients in CLIENTS:
                figure = measure(options.server, options.volume, server, operation, batch, clients)
                figures.append(figure)
                print(
                    f"{operation}, {batch} a frame, {clients} clients: {figure.per_s:.0f}/s",
                    file=sys.stderr,
                    flush=True,
                )
    server.look()
    text = report(figures, server.peak_rss_mib)
    data = {"peak_rss_mib": round(server.peak_rss_mib, 1), "figures": [asdict(figure) for figure in figures]}
    os.makedirs(options.out, exist_ok=True)
    write_text(f"{options.out}/throughput.json", json.dumps(data, indent=1) + "\n")
    write_text(f"{options.out}/throughput.md", text)
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
