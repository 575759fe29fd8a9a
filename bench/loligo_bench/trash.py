"""What the trash costs and what it saves: moving huge trees into it, `rm -rf` with it and without, restoring, purging.

    python -m loligo_bench.trash --server 127.0.0.1:9440 --metrics 127.0.0.1:9441 --volume work --mount /mnt/work
        --conf /etc/ceph/ceph.conf --pool loligo [--ceph-fuse /mnt/cephfs]

Rules: what is compared is measured in the same run and takes turns; figures are medians, unless they say otherwise. Trees come
from `trees`; a mount sees them first when they are removed, unless a row says that it knew them. Before each measurement the
server has done what the last one left it to do, counting of trees included.

Removals of objects are compared with those of librados alone, of equal objects in the same pool, with as many in flight. The
purge is measured from the first removal that shows in the server's metrics to the last: that it looks for work only now and
then says nothing about its speed.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loligo_bench.figures import significant
from loligo_bench.options import write_text
from loligo_bench.report import table

if TYPE_CHECKING:
    from loligo_bench.trees import Trees

RMTREE_LIMIT_S = 0.050
RMTREE_GROWTH_MAX = 2.0
RM_RATIO_MAX = 1.3
RESTORE_LIMIT_S = 10.0
PURGE_SHARE_MIN = 0.8
FOREGROUND_GROWTH_MAX = 2.0

WAIT_LIMIT_S = 900.0
POLL_S = 0.05
SAMPLED_S = 3.0
LOOK_S = 0.3
SMALL_BYTES = 200


@dataclass(frozen=True, slots=True)
class Line:
    """A figure, the one beside it, and how they relate. `passed` None: there is no target."""

    work: str
    figure: str
    beside: str = ""
    ratio: str = ""
    target: str = ""
    passed: bool | None = None
    samples: dict[str, list[float]] = field(default_factory=dict)


class Bench:
    """The mount, and what stands behind it."""

    def __init__(
        self, mount: Path, metrics: str, trees: "Callable[[], AbstractContextManager[Trees]]", pool: Any, raw_pool: Any
    ) -> None:
        """`pool`, `raw_pool`: ioctxs of the volume's namespace and of one beside it."""
        self.mount = mount
        self.trash = mount / ".trash"
        self.trees = trees
        self.pool = pool
        self.raw_pool = raw_pool
        self._metrics = metrics

    def figures(self) -> dict[str, float]:
        """What the server says of itself."""
        with urllib.request.urlopen(f"http://{self._metrics}/metrics") as page:
            lines = page.read().decode().splitlines()
        pairs = (line.rsplit(" ", 1) for line in lines if line.startswith("loligo_mds_") and "{" not in line)
        return {name.removeprefix("loligo_mds_"): float(value) for name, value in pairs}

    def batches(self) -> dict[int, Path]:
        return {int(entry.name.rpartition("-")[2]): Path(entry.path) for entry in os.scandir(self.trash)}

    def newest_batch(self) -> Path:
        return max(self.batches().items())[1]

    def rmtree(self, name: str, files: int) -> float:
        """Seconds. Returns when it is counted."""
        os.statvfs(self.mount)  # the way to the server is warm, the tree is not
        with _timed() as took_s:
            os.rename(self.mount / name, self.trash / name)
        batch = self.newest_batch()
        _wait(lambda: json.loads(os.getxattr(batch, "loligo.trash.batch"))["inodes"] >= files, f"count of {name}")
        return took_s[0]

    def wait_until_idle(self) -> None:
        _wait(self.is_idle, "end of purging")

    def is_idle(self) -> bool:
        """Nothing is to be purged, no objects are to be removed. Asking costs the server a few milliseconds."""
        figures = self.figures()
        return not figures["trash_backlog_batches"] and not figures["objects_to_remove"]

    def objects_removed(self) -> float:
        """By the purge, where each file has one."""
        figures = self.figures()
        return figures["purged_inodes_total"] - figures["objects_to_remove"]

    def begin_purge(self) -> float:
        """Of the newest batch. Returns, when some of it is done, `objects_removed` by then."""
        before = now = self.objects_removed()
        os.rmdir(self.newest_batch())
        while now <= before:
            time.sleep(POLL_S)
            now = self.objects_removed()
        return now

    @contextmanager
    def directory(self, name: str) -> Iterator[Path]:
        """What is removed below it is kept, however young it is."""
        made = self.mount / name
        made.mkdir()
        os.setxattr(made, "loligo.trash.minimum_age", b"0")
        try:
            yield made
        finally:
            os.setxattr(made, "loligo.trash.retention", b"0")
            shutil.rmtree(made)


# -- the rows -----------------------------------------------------------------------------------------------------------


def rmtrees(bench: Bench, sizes: Sequence[int], rounds: int) -> Iterator[Line]:
    medians = {}
    for files in sizes:
        samples = []
        for number in range(rounds if files <= 100_000 else 1):
            name = f"tree-{files}-{number}"
            with bench.trees() as trees:
                trees.make(name, files)
            samples.append(bench.rmtree(name, files))
        medians[files] = median_s = statistics.median(samples)
        yield Line(
            f"rmtree of {files:,} files",
            _milliseconds(median_s),
            target=f"<= {RMTREE_LIMIT_S * 1e3:.0f} ms",
            passed=median_s <= RMTREE_LIMIT_S,
            samples={"seconds": samples},
        )
    growth = medians[max(sizes)] / medians[min(sizes)]
    yield Line(
        "the largest against the smallest",
        _milliseconds(medians[max(sizes)]),
        _milliseconds(medians[min(sizes)]),
        _times(growth),
        f"<= {RMTREE_GROWTH_MAX:g} x",
        growth <= RMTREE_GROWTH_MAX,
    )


def rmtree_of_known(bench: Bench, files: int, rounds: int) -> Iterator[Line]:
    samples = []
    for number in range(rounds):
        name = f"known-{number}"
        with bench.trees() as trees:
            trees.make(name, files)
        for _ in os.walk(bench.mount / name):
            pass
        samples.append(bench.rmtree(name, files))
    median_s = statistics.median(samples)
    yield Line(
        f"rmtree of {files:,} files that the mount has listed",
        _milliseconds(median_s),
        target=f"<= {RMTREE_LIMIT_S * 1e3:.0f} ms",
        passed=median_s <= RMTREE_LIMIT_S,
        samples={"seconds": samples},
    )


def rm_with_and_without(bench: Bench, files: int, rounds: int) -> Iterator[Line]:
    samples: dict[str, list[float]] = {"on": [], "off": []}
    retentions = {"on": b"7d", "off": b"0"}
    with bench.directory("rm") as directory:
        for number in range(rounds):
            for kind in ("on", "off") if number % 2 else ("off", "on"):
                os.setxattr(directory, "loligo.trash.retention", retentions[kind])
                make_small_files(directory / "tree", files)
                bench.wait_until_idle()
                samples[kind].append(_rm(directory / "tree"))
    on_s, off_s = (statistics.median(samples[kind]) for kind in ("on", "off"))
    yield Line(
        f"rm -rf of {files:,} files with the trash, and without",
        f"{significant(on_s)} s",
        f"{significant(off_s)} s",
        _times(on_s / off_s),
        f"<= {RM_RATIO_MAX:g} x",
        on_s / off_s <= RM_RATIO_MAX,
        samples,
    )


def beside_ceph_fuse(bench: Bench, ceph_fuse: Path, files: int) -> Iterator[Line]:
    make_small_files(ceph_fuse / "tree", files)
    theirs_s = _rm(ceph_fuse / "tree")
    with bench.trees() as trees:
        trees.make("beside", files)
    ours_s = bench.rmtree("beside", files)
    yield Line(
        f"rmtree of {files:,} files, and ceph-fuse's rm -rf",
        _milliseconds(ours_s),
        f"{significant(theirs_s)} s",
        f"1/{theirs_s / ours_s:.0f}",
        samples={"ours": [ours_s], "ceph-fuse": [theirs_s]},
    )


def restoring(bench: Bench, files: int, scratch: Path) -> Iterator[Line]:
    name = "restored"
    tree, copy = bench.mount / name, scratch / "copy"
    with bench.trees() as trees:
        trees.make_with_content(name, files)
    os.setxattr(tree, "loligo.trash.minimum_age", b"0")
    _rsync(tree, copy)
    removed_s = _rm(tree)
    batch = bench.newest_batch()
    with _timed() as took_s:
        os.rename(batch / name, tree)
    restored_s = took_s[0]
    yield Line(
        f"restoring an rm -rf of {files:,} files, and that rm -rf",
        f"{significant(restored_s)} s",
        f"{significant(removed_s)} s",
        _times(restored_s / removed_s),
        f"< {RESTORE_LIMIT_S:g} s",
        restored_s < RESTORE_LIMIT_S,
        {"seconds": [restored_s], "rm": [removed_s]},
    )
    differences = _rsync(tree, copy, "-n", "--delete", "-i").splitlines()
    for difference in differences[:5]:
        print(f"differs: {difference}", file=sys.stderr)
    yield Line(
        "differences that rsync -aHAXn --delete finds then", str(len(differences)), target="0", passed=not differences
    )
    os.rename(tree, bench.trash / name)


def purging(bench: Bench, files: int, rounds: int) -> Iterator[Line]:
    samples: dict[str, list[float]] = {"purge": [], "librados": []}
    names = [f"raw-{number}" for number in range(files)]
    for number in range(rounds):
        tree = f"purged-{number}"
        _write_raw(bench, names)
        with bench.trees() as trees:
            trees.make_with_objects(tree, files, bench.pool)
        bench.rmtree(tree, files)
        time.sleep(SAMPLED_S)  # the OSDs are done with what was written
        for kind in ("purge", "librados") if number % 2 else ("librados", "purge"):
            if kind == "purge":
                samples[kind].append(_purge(bench))
            else:
                samples[kind].append(_remove_raw(bench, names))
    purged, raw = (statistics.median(samples[kind]) for kind in ("purge", "librados"))
    yield Line(
        f"objects of {files:,} purged files a second, and by librados alone",
        f"{purged:.0f}/s",
        f"{raw:.0f}/s",
        f"{purged / raw:.0%}",
        f">= {PURGE_SHARE_MIN:.0%}",
        purged / raw >= PURGE_SHARE_MIN,
        samples,
    )


def foreground(bench: Bench, files: int, rounds: int) -> Iterator[Line]:
    latencies: dict[str, list[float]] = {"purging": [], "quiet": []}
    purged, took_s = 0.0, 0.0
    directory = bench.mount / "foreground"
    directory.mkdir()
    for number in range(rounds):
        tree = f"behind-{number}"
        with bench.trees() as trees:
            trees.make_with_objects(tree, files, bench.pool)
        bench.rmtree(tree, files)
        time.sleep(SAMPLED_S)
        latencies["quiet"] += _use(directory, lambda: True)
        before = bench.begin_purge()
        began_s = time.monotonic()
        latencies["purging"] += _use(directory, lambda: not bench.is_idle())
        took_s += time.monotonic() - began_s
        purged += bench.objects_removed() - before
        bench.wait_until_idle()
    directory.rmdir()
    halves, ends = ([_percentile(latencies[kind], share) for kind in ("purging", "quiet")] for share in (0.5, 0.99))
    about = f"create + write + fsync + stat + unlink while {purged / took_s:.0f} files a second are purged"
    yield Line(
        f"{about}, and quiet: p50", _milliseconds(halves[0]), _milliseconds(halves[1]), _times(halves[0] / halves[1])
    )
    yield Line(
        "the same: p99",
        _milliseconds(ends[0]),
        _milliseconds(ends[1]),
        _times(ends[0] / ends[1]),
        f"<= {FOREGROUND_GROWTH_MAX:g} x",
        ends[0] / ends[1] <= FOREGROUND_GROWTH_MAX,
        latencies,
    )


# -- parts of them ------------------------------------------------------------------------------------------------------


def make_small_files(top: Path, files: int) -> None:
    """As a user makes them."""
    content = b"x" * SMALL_BYTES
    for number in range(files):
        directory = f"{top}/directory-{number // 100}"
        if not number % 100:
            os.makedirs(directory)
        with open(f"{directory}/file-{number}", "xb", buffering=0) as file:
            file.write(content)
    os.sync()


def _purge(bench: Bench) -> float:
    """The newest batch. Objects a second, from the first that shows in the metrics to the last look before all are gone."""
    began = bench.begin_purge()
    began_s = time.monotonic()
    rate = 0.0
    while True:
        time.sleep(LOOK_S)
        removed, now_s = bench.objects_removed(), time.monotonic()
        if bench.is_idle():
            return rate or (removed - began) / (now_s - began_s)
        rate = (removed - began) / (now_s - began_s)


def _write_raw(bench: Bench, names: list[str]) -> None:
    from loligo_bench.trees import write_objects

    write_objects(bench.raw_pool, names)


def _remove_raw(bench: Bench, names: list[str]) -> float:
    from loligo_bench.trees import remove_objects

    with _timed() as took_s:
        remove_objects(bench.raw_pool, names)
    return len(names) / took_s[0]


def _use(directory: Path, goes_on: Callable[[], bool]) -> list[float]:
    """How long each turn of somebody took who works with files there for a while, as long as something `goes_on`."""
    path = f"{directory}/file"
    samples = []
    end_s = time.monotonic() + SAMPLED_S
    looked_s = 0.0
    while (began_s := time.monotonic()) < end_s:
        if began_s - looked_s > LOOK_S:
            if not goes_on():
                break
            looked_s = began_s = time.monotonic()
        file = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
        os.write(file, b"x" * SMALL_BYTES)
        os.fsync(file)
        os.close(file)
        os.stat(path)
        os.unlink(path)
        samples.append(time.monotonic() - began_s)
    return samples


def _rm(path: Path) -> float:
    with _timed() as took_s:
        subprocess.run(["rm", "-rf", path], check=True)
    return took_s[0]


def _rsync(source: Path, target: Path, *options: str) -> str:
    done = subprocess.run(
        ["rsync", "-aHAX", *options, f"{source}/", f"{target}/"], check=True, stdout=subprocess.PIPE, text=True
    )
    return done.stdout


def _wait(condition: Callable[[], bool], what: str) -> None:
    end_s = time.monotonic() + WAIT_LIMIT_S
    while not condition():
        if time.monotonic() > end_s:
            raise TimeoutError(f"no {what} in {WAIT_LIMIT_S:g} s")
        time.sleep(POLL_S)


@contextmanager
def _timed() -> Iterator[list[float]]:
    """A list, which has the seconds when it is done."""
    took_s: list[float] = []
    began_s = time.monotonic()
    yield took_s
    took_s.append(time.monotonic() - began_s)


def _percentile(samples: list[float], share: float) -> float:
    return sorted(samples)[min(len(samples) - 1, int(share * len(samples)))]


def _milliseconds(seconds: float) -> str:
    return f"{significant(seconds * 1e3)} ms"


def _times(ratio: float) -> str:
    return f"{significant(ratio)} x"


# -- all of it ----------------------------------------------------------------------------------------------------------


def report(lines: Sequence[Line]) -> str:
    verdicts = {None: "", True: "pass", False: "MISS"}
    rows = [["work", "figure", "beside it", "ratio", "target", "verdict"]]
    rows += [[line.work, line.figure, line.beside, line.ratio, line.target, verdicts[line.passed]] for line in lines]
    return f"The trash, on {os.cpu_count()} processors that servers, clients and the cluster share.\n\n{table(rows)}\n"


def _run(options: argparse.Namespace, bench: Bench) -> Iterator[Line]:
    sizes = (*options.sizes, *((1_000_000,) if options.large else ()))
    rows: dict[str, Callable[[], Iterator[Line]]] = {
        "rm": lambda: rm_with_and_without(bench, options.rm_files, options.rounds),
        "ceph-fuse": lambda: beside_ceph_fuse(bench, options.ceph_fuse, options.beside_files),
        "restore": lambda: restoring(bench, options.restored_files, options.scratch),
        "purge": lambda: purging(bench, options.purged_files, options.rounds),
        "foreground": lambda: foreground(bench, options.behind_files, options.rounds),
        "known": lambda: rmtree_of_known(bench, min(10_000, max(sizes)), options.rounds),
        # Last: its trees stay in the tables.
        "rmtree": lambda: rmtrees(bench, sizes, options.rounds),
    }
    if options.ceph_fuse is None:
        del rows["ceph-fuse"]
    for name, row in rows.items():
        if not options.row or name in options.row:
            bench.wait_until_idle()
            yield from row()


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m loligo_bench.trash", description="Measure what the trash costs and what it saves."
    )
    parser.add_argument("--server", required=True, metavar="HOST:PORT")
    parser.add_argument("--metrics", required=True, metavar="HOST:PORT")
    parser.add_argument("--volume", required=True, help="also the namespace of its objects")
    parser.add_argument("--mount", type=Path, required=True, help="where it is mounted")
    parser.add_argument("--conf", required=True, help="ceph.conf of an administrator")
    parser.add_argument("--pool", required=True)
    parser.add_argument("--ceph-fuse", type=Path, help="a mount of CephFS on the same cluster")
    parser.add_argument("--scratch", type=Path, required=True, help="an empty folder on a local disk")
    parser.add_argument("--out", default="bench/results", help="directory for the results")
    parser.add_argument(
        "--row", action="append", help="only these: rm, ceph-fuse, restore, purge, foreground, known, rmtree"
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--sizes", type=int, nargs="+", default=[1_000, 100_000], help="of trees for rmtree, in files")
    parser.add_argument("--large", action="store_true", help="rmtree of 1,000,000 files, too")
    parser.add_argument("--rm-files", type=int, default=5_000)
    parser.add_argument("--beside-files", type=int, default=10_000, help="of the tree for ceph-fuse")
    parser.add_argument("--restored-files", type=int, default=10_000)
    parser.add_argument("--purged-files", type=int, default=8_000)
    parser.add_argument("--behind-files", type=int, default=10_000, help="purged behind somebody's back")
    options = parser.parse_args(arguments)

    import rados

    from loligo_bench.trees import session

    lines: list[Line] = []
    with (
        rados.Rados(conffile=options.conf, name="client.admin") as cluster,
        cluster.open_ioctx(options.pool) as pool,
        cluster.open_ioctx(options.pool) as raw_pool,
    ):
        pool.set_namespace(options.volume)
        raw_pool.set_namespace("raw")
        bench = Bench(options.mount, options.metrics, lambda: session(options.server, options.volume), pool, raw_pool)
        for line in _run(options, bench):
            lines.append(line)
            print(f"{line.work}: {line.figure} {line.beside} {line.ratio}", file=sys.stderr, flush=True)
    text = report(lines)
    os.makedirs(options.out, exist_ok=True)
    write_text(f"{options.out}/trash.json", json.dumps([asdict(line) for line in lines], indent=1) + "\n")
    write_text(f"{options.out}/trash.md", text)
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
