"""What one call costs that the kernel cannot answer from its caches: microseconds by operation.

    python -m loligo_bench.upcall                               the floors: a file system that does nothing
    python -m loligo_bench.upcall --on loligo=/mnt/l --pid loligo=123       and a real mount beside them

Owns: the operations, and the mounts of the file systems that do nothing (`nothing`). Rules: every timed call
reaches the file system, whatever it lets the kernel cache: names are new or were dropped from the
caches (root only), getattr forces a fresh answer, reads go round the page cache. The figures include
the system call and the process that makes it; the second table is the CPU time of the serving
process alone. Both processes are held on one core (see `one_core`) unless --spread is given; a
process that serves a mount named by --on is held there only if --pid names it.

A call may be more than one request: create+close is LOOKUP, CREATE, perhaps FLUSH, RELEASE, and with
default_permissions a GETATTR of the parent; unlink, rename and mkdir begin with LOOKUPs of new names.
"""

import argparse
import ctypes
import json
import mmap
import multiprocessing
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import TypeVar

from loligo_bench.nothing import TRANSPORTS
from loligo_bench.options import labelled_directories, labelled_pids, write_text
from loligo_bench.process import Server
from loligo_bench.report import table
from loligo_bench.rows import can_drop_caches, drop_caches
from loligo_fuse import unmount

CALLS = 2_000
LISTINGS = 20
LISTED = 100
PAGE_BYTES = 4_096
MOUNT_LIMIT_S = 20.0

TITLES = {
    "getattr": "getattr",
    "chmod": "setattr (chmod)",
    "lookup-hit": "lookup, hit",
    "lookup-miss": "lookup, miss",
    "create": "create + close",
    "write": "write 4 KiB",
    "read": "read 4 KiB",
    "getxattr": "getxattr",
    "rename": "rename",
    "unlink": "unlink",
    "mkdir": "mkdir",
    "readdir": "readdir of 100",
}

_Item = TypeVar("_Item")


class Meter:
    """Times calls one after the other; keeps seconds a call, and the server's CPU seconds a call."""

    def __init__(self, server: Server | None) -> None:
        self._server = server
        self.wall_s: dict[str, list[float]] = {}
        self.cpu_s: dict[str, list[float]] = {}

    def __call__(self, operation: str, call: Callable[[_Item], object], items: Sequence[_Item]) -> None:
        cpu_s = self._cpu_s()
        start_ns = time.perf_counter_ns()
        for item in items:
            call(item)
        wall_s = (time.perf_counter_ns() - start_ns) / 1e9
        self.wall_s.setdefault(operation, []).append(wall_s / len(items))
        if self._server is not None:
            cpu_s = self._cpu_s() - cpu_s
            self.cpu_s.setdefault(operation, []).append(cpu_s / len(items))

    def _cpu_s(self) -> float:
        if self._server is None:
            return 0.0
        self._server.look()
        return self._server.cpu_s


# Names say what the file system that does nothing answers to a lookup: a name with `f` is a file, one
# with `d` a directory, all others are missing. On a real one they are made before they are used.
def measure(directory: str, meter: Meter) -> None:
    """One round in `directory`; the work's own directory in it is left for `clean`."""
    work = work_directory(directory)
    os.makedirs(work, exist_ok=True)
    names = [f"{number:05d}" for number in range(CALLS)]
    _one_file(f"{work}/file", meter)
    meter("lookup-miss", _absent, [f"{work}/missing_{name}" for name in names])
    meter("create", _create, [f"{work}/new_{name}" for name in names])
    pairs = [(f"{work}/new_{name}", f"{work}/renamed_{name}") for name in names]
    meter("rename", lambda pair: os.rename(*pair), pairs)
    meter("unlink", os.unlink, [new_name for _, new_name in pairs])
    meter("mkdir", os.mkdir, [f"{work}/new_{name}" for name in names])
    if can_drop_caches():
        _after_dropping(work, names, meter)


def work_directory(directory: str) -> str:
    return f"{directory}/d_upcall"


def clean(directory: str) -> None:
    shutil.rmtree(work_directory(directory), ignore_errors=True)


def _one_file(path: str, meter: Meter) -> None:
    """What can be repeated on one open file."""
    again = [path] * CALLS
    offsets = range(0, CALLS * PAGE_BYTES, PAGE_BYTES)
    data = bytes(range(256)) * (PAGE_BYTES // 256)
    fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        meter("write", lambda offset: os.pwrite(fd, data, offset), offsets)
        os.fsync(fd)
        os.setxattr(path, "user.bench", b"value")
    finally:
        os.close(fd)
    # Direct reads want an aligned buffer.
    with mmap.mmap(-1, PAGE_BYTES) as aligned:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECT)
        try:
            meter("read", lambda offset: os.preadv(fd, [aligned], offset), offsets)
        finally:
            os.close(fd)
    meter("getattr", _fresh_getattr, again)
    meter("chmod", lambda turn: os.chmod(path, 0o600 + turn % 2 * 0o44), range(CALLS))
    meter("getxattr", lambda path: os.getxattr(path, "user.bench"), again)


def _after_dropping(work: str, names: list[str], meter: Meter) -> None:
    files = [f"{work}/file_{name}" for name in names]
    for path in files:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT, 0o644))
    directories = [f"{work}/d_{number:02d}" for number in range(LISTINGS)]
    for directory in directories:
        os.makedirs(directory, exist_ok=True)
        for number in range(LISTED):
            os.close(os.open(f"{directory}/file_{number:03d}", os.O_WRONLY | os.O_CREAT, 0o644))
    drop_caches()
    for directory in [*directories, work]:
        os.stat(directory)
    meter("lookup-hit", os.stat, files)
    meter("readdir", os.listdir, directories)


def _absent(path: str) -> None:
    try:
        os.stat(path)
    except FileNotFoundError:
        return
    raise FileExistsError(path)


def _create(path: str) -> None:
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644))


_libc = ctypes.CDLL(None, use_errno=True)
_AT_FDCWD = -100
_AT_STATX_FORCE_SYNC = 0x2000
_STATX_BASIC_STATS = 0x7FF
_statx_buffer = ctypes.create_string_buffer(256)


def _fresh_getattr(path: str) -> None:
    """statx that does not take the kernel's cached attributes for an answer."""
    if _libc.statx(_AT_FDCWD, path.encode(), _AT_STATX_FORCE_SYNC, _STATX_BASIC_STATS, _statx_buffer):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), path)


@contextmanager
def one_core(pids: Sequence[int]) -> Iterator[None]:
    """Hold these processes and this one on one core: a wake-up across cores costs several times
    what the file system does, and whether there is one is the scheduler's choice of the day."""
    core = {max(os.sched_getaffinity(0))}  # the first one gets most interrupts
    threads = [int(tid) for pid in [os.getpid(), *pids] for tid in os.listdir(f"/proc/{pid}/task")]
    before = {tid: os.sched_getaffinity(tid) for tid in threads}
    for tid in threads:
        os.sched_setaffinity(tid, core)
    try:
        yield
    finally:
        for tid, cores in before.items():
            with suppress(ProcessLookupError):
                os.sched_setaffinity(tid, cores)


@contextmanager
def floor(transport: str) -> Iterator[tuple[str, int]]:
    """The mount point and the serving process; unmounted at the end."""
    with tempfile.TemporaryDirectory(prefix="loligo-upcall-") as mountpoint:
        process = multiprocessing.get_context("spawn").Process(target=TRANSPORTS[transport], args=(mountpoint,))
        process.start()
        assert process.pid is not None
        try:
            _wait_for_mount(mountpoint, process.is_alive)
            yield mountpoint, process.pid
        finally:
            if os.path.ismount(mountpoint):
                unmount(mountpoint)
            process.join(MOUNT_LIMIT_S)
            if process.is_alive():
                process.kill()
                process.join()


def _wait_for_mount(mountpoint: str, alive: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + MOUNT_LIMIT_S
    while not os.path.ismount(mountpoint):
        if not alive() or time.monotonic() > deadline_s:
            raise SystemExit("the file system that does nothing could not be mounted; see above")
        time.sleep(0.02)


def _us(samples: dict[str, list[float]], operation: str) -> str:
    values_s = samples.get(operation)
    return f"{statistics.median(values_s) * 1e6:.1f}" if values_s else ""


def _report(meters: dict[str, Meter], rounds: int, spread: bool) -> str:
    wall = [["microseconds a call", *meters]]
    cpu = [["CPU microseconds of the server", *meters]]
    for operation, title in TITLES.items():
        wall.append([title, *(_us(meter.wall_s, operation) for meter in meters.values())])
        cpu.append([title, *(_us(meter.cpu_s, operation) for meter in meters.values())])
    cores = "on the scheduler's choice of cores" if spread else "all on one core"
    head = f"Medians of {rounds} rounds of {CALLS} calls, {cores}."
    return "\n\n".join([head, table(wall), table(cpu)]) + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m loligo_bench.upcall",
        description="Measure what one call costs that the kernel's caches cannot answer.",
    )
    parser.add_argument("--on", action="append", default=[], metavar="LABEL=DIR", help="a mount to measure as well")
    parser.add_argument("--pid", action="append", default=[], metavar="LABEL=PID", help="a process that serves it")
    parser.add_argument("--spread", action="store_true", help="let the scheduler place the processes on any core")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", default="bench/results", help="directory for the results")
    options = parser.parse_args(arguments)
    real = dict(labelled_directories(parser, "--on", options.on))
    directories = dict(real)
    pids = labelled_pids(parser, options.pid, directories)

    with ExitStack() as stack:
        for transport in TRANSPORTS:
            label = f"nothing, {transport}"
            directories[label], pid = stack.enter_context(floor(transport))
            pids[label] = [pid]
        if not options.spread:
            stack.enter_context(one_core([pid for served in pids.values() for pid in served]))
        meters = {label: Meter(Server(pids[label]) if label in pids else None) for label in directories}
        for number in range(options.rounds):
            for label, directory in directories.items():
                print(f"round {number + 1}/{options.rounds}  {label}", file=sys.stderr, flush=True)
                try:
                    measure(directory, meters[label])
                finally:
                    if label in real:
                        clean(directory)

    text = _report(meters, options.rounds, options.spread)
    data = {label: {"wall_s": meter.wall_s, "server_cpu_s": meter.cpu_s} for label, meter in meters.items()}
    os.makedirs(options.out, exist_ok=True)
    write_text(f"{options.out}/upcall.json", json.dumps(data, indent=1) + "\n")
    write_text(f"{options.out}/upcall.md", text)
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
