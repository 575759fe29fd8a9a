"""The side-by-side comparison: the same work on several directories, each on another file system.

    python -m loligo_bench.compare --ours loligo-ceph=/mnt/l:/mnt/l2 --peer ext4=/tmp/e --peer juicefs=/mnt/j:/mnt/j2

Owns: the loop, the progress lines, the files it writes. Rules: within a round every step is done on
one file system after the other, and each step begins with another one, so that drift of the
machine hits all alike; before each step the machine is given time to finish what the last one left
behind; a step that goes wrong on one file system is reported for that one, and the rest goes on.
Labels with a meaning: `ext4` is the column that ratios refer to; `loligo` (embedded, native
transport), `loligo-ceph` (through the daemon, data on Ceph), `ceph-fuse` and `juicefs` are the
names in the targets. Others are free. Behind a colon is a second mount of the same file system, for
the rows that want two.

A target that is missed is shown, and no more: machines differ. A stale answer of ours is a bug on
any machine: then the exit code is 1.

What the last step left behind (write-back, a purge) is not in its time, but it is in the CPU
seconds of the processes named by --pid, of the row and of the whole.
"""

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence

from loligo_bench.chart import svg
from loligo_bench.figures import BASELINE, Figure, judge
from loligo_bench.options import ROLES, Mounts, labelled_mounts, labelled_roles, write_text
from loligo_bench.process import Server
from loligo_bench.report import Comparison, Cost, Part, as_json, markdown
from loligo_bench.rows import ROWS, STEPS, Place, Step, Watch, WorkWentWrong, can_drop_caches
from loligo_bench.tree import Source, make_source

QUIET_SHARE = 0.3
QUIET_WINDOW_S = 0.1
QUIET_LIMIT_S = 3.0


class Comparing:
    """One run: the file systems by label, and the figures as they come in."""

    def __init__(self, mounts: dict[str, Mounts], servers: dict[Part, Server]) -> None:
        self.mounts = mounts
        self.servers = servers
        self.labels = list(mounts)
        self.figures = {row.key: {label: Figure() for label in self.labels} for row in ROWS}
        #: CPU seconds of each row and part, a sample a round.
        self.cpu_s: dict[str, dict[Part, list[float]]] = {row.key: {part: [] for part in servers} for row in ROWS}

    def run(self, source: Source, rounds: int) -> None:
        drops = can_drop_caches()
        for number in range(rounds):
            places = self._begin_round(number, source)
            _wait_until_quiet()
            try:
                for index, step in enumerate(STEPS):
                    first = (index + number) % len(self.labels)
                    turn = self.labels[first:] + self.labels[:first]
                    for label in turn:
                        if label in places:
                            self._run_step(step, label, places[label], drops)
                    _progress(f"round {number + 1}/{rounds}", step, self.figures, self.labels)
            finally:
                for place in places.values():
                    shutil.rmtree(place.directory, ignore_errors=True)
        for server in self.servers.values():
            server.look()

    def _begin_round(self, number: int, source: Source) -> dict[str, Place]:
        """Fresh directories; a file system that cannot make one has failed every row."""
        places = {}
        for label, mounts in self.mounts.items():
            try:
                fresh = tempfile.mkdtemp(prefix=f"loligo-bench-{number}-", dir=mounts.first)
            except OSError as problem:
                self._failed([row.key for row in ROWS], label, problem)
            else:
                second = None if mounts.second is None else f"{mounts.second}/{os.path.basename(fresh)}"
                places[label] = Place(fresh, source, second)
        return places

    def _failed(self, keys: Sequence[str], label: str, problem: Exception) -> None:
        for key in keys:
            self.figures[key][label].error = self.figures[key][label].error or str(problem)

    def _run_step(self, step: Step, label: str, place: Place, drops: bool) -> None:
        if (step.drops and not drops) or (step.second and place.second is None):
            for key in step.rows:
                self.figures[key][label].not_available = True
            return
        spending = _Spending({part: server for part, server in self.servers.items() if part[0] == label})
        watch = Watch(spending.begin)
        try:
            step.run(place, watch)
        except (OSError, WorkWentWrong, subprocess.TimeoutExpired) as problem:
            # Checks run after the watch has stopped: a time that it showed already proves nothing.
            self._failed(step.rows, label, problem)
        else:
            for key, seconds in watch.seconds.items():
                self.figures[key][label].samples_s.append(seconds)
        for key in step.rows:
            self.figures[key][label].stale += watch.stale
        _wait_until_quiet()
        spending.end()
        for row, part, seconds in spending.found:
            self.cpu_s[row][part].append(seconds)


class _Spending:
    """What the parts of one file system spend on the rows of a step, each up to the beginning of the next."""

    def __init__(self, servers: dict[Part, Server]) -> None:
        self._servers = servers
        self._row = ""
        self._before: dict[Part, float] = {}
        self.found: list[tuple[str, Part, float]] = []

    def begin(self, row: str) -> None:
        self.end()
        self._row = row

    def end(self) -> None:
        for part, server in self._servers.items():
            server.look()
            if self._row:
                self.found.append((self._row, part, server.cpu_s - self._before[part]))
            self._before[part] = server.cpu_s


def _wait_until_quiet() -> None:
    """Wait until the processors are mostly idle, but not for ever: the machine may be shared."""
    os.sync()
    give_up_s = time.monotonic() + QUIET_LIMIT_S
    busy, total = _processor_ticks()
    while time.monotonic() < give_up_s:
        time.sleep(QUIET_WINDOW_S)
        busy_now, total_now = _processor_ticks()
        if busy_now - busy <= QUIET_SHARE * (total_now - total):
            return
        busy, total = busy_now, total_now


def _processor_ticks() -> tuple[int, int]:
    with open("/proc/stat", "rb") as stat_file:
        ticks = [int(field) for field in stat_file.readline().split()[1:9]]
    idle = ticks[3] + ticks[4]
    return sum(ticks) - idle, sum(ticks)


def _progress(round_text: str, step: Step, figures: dict[str, dict[str, Figure]], labels: Sequence[str]) -> None:
    for key in step.rows:
        newest = ", ".join(f"{label} {_newest(figures[key][label])}" for label in labels)
        print(f"{round_text}  {key:<19} {newest}", file=sys.stderr, flush=True)


def _newest(figure: Figure) -> str:
    if figure.error is not None or not figure.samples_s:
        return figure.text
    return Figure([figure.samples_s[-1]]).text


def _machine() -> dict[str, str]:
    memory_gib = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    return {
        "date": time.strftime("%Y-%m-%d"),
        "Linux": platform.release(),
        "Python": platform.python_version(),
        "processors": str(os.cpu_count()),
        "memory GiB": f"{memory_gib:.0f}",
    }


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m loligo_bench.compare",
        description="Time the same work on several mounted file systems, side by side.",
    )
    parser.add_argument(
        "--ours",
        action="append",
        default=[],
        metavar="LABEL=DIR[:SECOND]",
        help="a mount of Loligo, and a second one of the same volume",
    )
    parser.add_argument(
        "--peer",
        action="append",
        default=[],
        metavar="LABEL=DIR[:SECOND]",
        help="another file system; the label ext4 is the one that ratios refer to",
    )
    parser.add_argument(
        "--pid",
        action="append",
        default=[],
        metavar="LABEL[/ROLE]=PID",
        help="a process that serves this file system, as client (the mount; default), second (the second mount) or"
        " server (behind it): report its CPU time and memory (repeatable)",
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", default="bench/results", help="directory for the results")
    options = parser.parse_args(arguments)

    ours = labelled_mounts(parser, "--ours", options.ours)
    peers = labelled_mounts(parser, "--peer", options.peer)
    # The baseline is the leftmost column, ours the rightmost.
    columns = sorted(peers, key=lambda pair: pair[0] != BASELINE) + ours
    mounts = dict(columns)
    if not mounts:
        parser.error("name at least one directory with --ours or --peer")
    if len(mounts) != len(columns):
        parser.error("a label is used twice")
    if options.rounds < 1:
        parser.error("--rounds must be at least 1")
    pids = labelled_roles(parser, options.pid, mounts)

    servers = {(label, role): Server(pids[label, role]) for label in mounts for role in ROLES if (label, role) in pids}
    comparing = Comparing(mounts, servers)
    with tempfile.TemporaryDirectory(prefix="loligo-bench-") as scratch:
        print("making the tree", file=sys.stderr, flush=True)
        comparing.run(make_source(f"{scratch}/tree.tar"), options.rounds)

    comparison = Comparison(
        labels=list(mounts),
        ours=[label for label, _ in ours],
        figures=comparing.figures,
        rounds=options.rounds,
        machine=_machine(),
        costs={
            part: Cost(server.cpu_s, server.peak_rss_mib, server.peak_anonymous_mib) for part, server in servers.items()
        },
        cpu_s={
            row: {part: statistics.median(samples) for part, samples in by_part.items() if samples}
            for row, by_part in comparing.cpu_s.items()
        },
        verdicts=judge(comparing.figures),
    )
    text = markdown(comparison)
    os.makedirs(options.out, exist_ok=True)
    write_text(f"{options.out}/compare.json", json.dumps(as_json(comparison), indent=1) + "\n")
    write_text(f"{options.out}/compare.md", text)
    write_text(f"{options.out}/compare.svg", svg(comparison))
    print(text)
    broken = [promise.label for promise in comparison.promises if not promise.kept]
    if broken:
        print(f"not proven never to be stale: {', '.join(broken)}", file=sys.stderr)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
