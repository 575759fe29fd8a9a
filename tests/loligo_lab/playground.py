"""The volumes of `make up`, `make ceph`, `make bench`: made in ./.loligo, mounted in this folder, safe to repeat.

Everything goes through the `loligo` command, as a user would do it. The Ceph cluster is a `LoopbackCeph`.

    python -m loligo_lab.playground up|down|ceph|ceph-down
    python -m loligo_lab.playground bench [--rounds N] [LABEL=DIR …]
    python -m loligo_lab.playground upcall [--rounds N]
"""

import argparse
import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from loligo_lab.ceph import LoopbackCeph

ROOT = Path(__file__).resolve().parents[2]
HOME = ROOT / ".loligo"
LOLIGO = ROOT / ".venv" / "bin" / "loligo"
POOL = "loligo"
RESULTS = str(ROOT / "bench" / "results")

CONFIG = HOME / "config"


class PlaygroundError(Exception):
    """The text says what went wrong; the command that failed has said why."""


def up() -> None:
    directory = _mounted(ROOT / "mnt", HOME / "work", CONFIG, "work", (HOME / "work" / "data").as_uri())
    print(f"{directory} is a Loligo volume. Try:")
    _print_what_to_try(directory, "make down")


def ceph() -> None:
    # `make up` has to do without Ceph's packages.
    from loligo_lab.ceph import CephLabError, LoopbackCeph

    cluster = LoopbackCeph(HOME / "ceph", _port())
    try:
        cluster.start()
        cluster.create_pool(POOL)
    except CephLabError as error:
        raise PlaygroundError(str(error)) from None
    data = f"rados://{POOL}?conf={cluster.conf.as_uri().removeprefix('file://')}"
    directory = _mounted(ROOT / "mnt-ceph", HOME / "on-ceph", CONFIG, "on-ceph", data)
    print(f"{directory} is a Loligo volume with its data on Ceph. Try:")
    _print_what_to_try(directory, f"rados -c {cluster.conf} -p {POOL} ls | head", "make ceph-down")


def ceph_down() -> None:
    _unmounted(ROOT / "mnt-ceph")
    if (HOME / "ceph").exists():
        from loligo_lab.ceph import LoopbackCeph

        LoopbackCeph(HOME / "ceph").stop()


def bench(rounds: int, peers: list[str]) -> int:
    """A fresh volume, ext4's folder beside it, ceph-fuse on a cluster of its own, and whatever other peers there are."""
    from loligo_bench.compare import main as compare

    arguments = ["--rounds", str(rounds), "--out", RESULTS]
    with contextlib.ExitStack() as stack:
        place = stack.enter_context(_temporary())
        cluster = stack.enter_context(_temporary_cluster(place / "ceph"))
        ours, pid = stack.enter_context(_temporary_mount(place, "native"))
        arguments += ["--ours", f"loligo={ours}", "--pid", f"loligo={pid}"]
        (place / "ext4").mkdir()
        cluster.mount_ceph_fuse(place / "ceph-fuse")
        theirs = cluster.processes()
        arguments += ["--pid", f"ceph-fuse={theirs['fuse.0']}", "--pid", f"ceph-fuse/server={theirs['mds.a']}"]
        for peer in (f"ext4={place}/ext4", f"ceph-fuse={place}/ceph-fuse", *peers):
            arguments += ["--peer", peer]
        return compare(arguments)


def upcall(rounds: int) -> int:
    """The floors of both transports, and a fresh volume on each."""
    from loligo_bench.upcall import main as measure

    arguments = ["--rounds", str(rounds), "--out", RESULTS]
    with contextlib.ExitStack() as stack:
        for transport in ("native", "pyfuse3"):
            place = stack.enter_context(_temporary())
            directory, pid = stack.enter_context(_temporary_mount(place, transport))
            label = f"loligo-{transport}"
            arguments += ["--on", f"{label}={directory}", "--pid", f"{label}={pid}"]
        return measure(arguments)


@contextlib.contextmanager
def _temporary() -> Iterator[Path]:
    HOME.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="bench-", dir=HOME) as place:
        yield Path(place)


@contextlib.contextmanager
def _temporary_cluster(directory: Path) -> "Iterator[LoopbackCeph]":
    from loligo_lab.ceph import CephLabError, LoopbackCeph, free_port

    cluster = LoopbackCeph(directory, free_port(), with_mds=True)
    try:
        cluster.start()
        cluster.create_pool(POOL)
        yield cluster
    except CephLabError as error:
        raise PlaygroundError(str(error)) from None
    finally:
        cluster.destroy()


@contextlib.contextmanager
def _temporary_mount(place: Path, transport: str) -> Iterator[tuple[Path, int]]:
    """(directory, process) of a fresh volume."""
    directory = place / "mnt"
    options = ("-o", f"transport={transport}")
    _mounted(directory, place, place / "config", "bench", (place / "data").as_uri(), *options)
    try:
        serving = next(mount for mount in _status() if mount["directory"] == str(directory))
        yield directory, serving["pid"]
    finally:
        _unmounted(directory)


def _print_what_to_try(directory: Path, *more: str) -> None:
    for line in (
        f"cd {directory} && git init demo && cd demo && python3 -m venv venv",
        f"df -h {directory}",
        f"{LOLIGO} status",
        f"LOLIGO_CONFIG_DIR={CONFIG} {LOLIGO} volume list",
        *more,
    ):
        print(f"  {line}")


def _port() -> int:
    """For a cluster that is to be made; one that exists keeps its port. Below those that the kernel gives to clients."""
    from loligo_lab.ceph import DEFAULT_PORT, free_port

    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", DEFAULT_PORT))
        except OSError:
            return free_port()
        return DEFAULT_PORT


def _mounted(directory: Path, place: Path, config: Path, name: str, data_url: str, *options: str) -> Path:
    """The volume at `place` is mounted on `directory`, made first if need be."""
    os.environ["LOLIGO_CONFIG_DIR"] = str(config)
    mounts = {mount["directory"]: mount["state"] for mount in _status()}
    if mounts.get(str(directory)) == "up":
        return directory
    if str(directory) in mounts:
        _loligo("umount", str(directory), may_fail=True)
    directory.mkdir(exist_ok=True)
    if not (place / "meta" / "volume.json").exists():
        _loligo("volume", "create", name, "--meta", (place / "meta").as_uri(), "--data", data_url)
    _loligo("mount", name, str(directory), *options)
    return directory


def _unmounted(directory: Path) -> None:
    if any(mount["directory"] == str(directory) for mount in _status()):
        _loligo("umount", str(directory))
    if directory.is_dir() and not any(directory.iterdir()):
        directory.rmdir()


def _status() -> list[dict[str, Any]]:
    done = subprocess.run([LOLIGO, "status", "--json"], check=True, stdout=subprocess.PIPE)
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


def _loligo(*arguments: str, may_fail: bool = False) -> None:
    done = subprocess.run([LOLIGO, *arguments], check=False, stdin=subprocess.DEVNULL)
    if done.returncode and not may_fail:
        raise PlaygroundError(f"'loligo {' '.join(arguments)}' failed")


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m loligo_lab.playground", description=__doc__)
    parser.add_argument("action", choices=["up", "down", "ceph", "ceph-down", "bench", "upcall"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("peers", nargs="*", metavar="LABEL=DIR")
    options = parser.parse_args(arguments)
    try:
        match options.action:
            case "up":
                up()
            case "down":
                _unmounted(ROOT / "mnt")
            case "ceph":
                ceph()
            case "ceph-down":
                ceph_down()
            case "upcall":
                return upcall(options.rounds)
            case _:
                return bench(options.rounds, options.peers)
    except PlaygroundError as error:
        print(f"playground: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
