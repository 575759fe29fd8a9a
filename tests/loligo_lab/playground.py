"""The volumes of `make up`, `make ceph`, `make bench`: made in ./.loligo, mounted in this folder, safe to repeat.

Everything goes through the `loligo` command, as a user would do it: see `loligo_lab.places`, `loligo_lab.ceph_place`.

    python -m loligo_lab.playground up|down|ceph|ceph-down
    python -m loligo_lab.playground bench [--rounds N] [LABEL=DIR[:SECOND] …]
    python -m loligo_lab.playground upcall [--rounds N]
    python -m loligo_lab.playground throughput
    python -m loligo_lab.playground trash [options of loligo_bench.trash]
"""

import argparse
import contextlib
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from loligo_lab.places import LOLIGO, ROOT, EmbeddedPlace, PlaceError, mount_pid, unmount

if TYPE_CHECKING:
    from loligo_lab.ceph_place import CephPlace

HOME = ROOT / ".loligo"
RESULTS = str(ROOT / "bench" / "results")

CONFIG = HOME / "config"


def up() -> None:
    place = EmbeddedPlace(HOME / "work", "work", ROOT / "mnt", CONFIG)
    place.up()
    print(f"{place.mount_point} is a Loligo volume. Try:")
    _print_what_to_try(place.mount_point, "make down")


def ceph() -> None:
    # `make up` has to do without Ceph's packages.
    from loligo_lab.ceph_place import POOL

    place = _ceph_place()
    place.up()
    print(
        f"{place.mount_point} is a Loligo volume with its data on Ceph, behind the daemon at {place.daemon.address}. Try:"
    )
    _print_what_to_try(
        place.mount_point,
        f"mkdir /tmp/second; {LOLIGO} mount {place.daemon.address}/on-ceph /tmp/second -o {place.client_options}",
        f"{LOLIGO} session list",
        f"rados -c {place.cluster.conf} -p {POOL} -N on-ceph ls | head",
        "make ceph-down",
    )


def ceph_down() -> None:
    if not (HOME / "ceph").exists():
        unmount(ROOT / "mnt-ceph")
        return
    _ceph_place().down()


def _ceph_place() -> "CephPlace":
    from loligo_lab.ceph_place import CephPlace

    return CephPlace(HOME / "on-ceph", "on-ceph", ROOT / "mnt-ceph", CONFIG, HOME / "ceph")


def bench(rounds: int, peers: list[str]) -> int:
    """Fresh volumes, embedded and behind a daemon; ceph-fuse on the same cluster; ext4; and whatever other peers there are.

    The two on Ceph are mounted twice.
    What is local, the embedded volume's folders and the folder on ext4, stands on an ext4 made for it.
    """
    from loligo_bench.compare import main as compare

    arguments = ["--rounds", str(rounds), "--out", RESULTS]
    with _temporary() as home, contextlib.ExitStack() as stack:
        disk = _disk(home, stack)
        embedded = stack.enter_context(_temporary_mount(disk, "native"))
        arguments += ["--ours", f"loligo={embedded.mount_point}", "--pid", f"loligo={embedded.mount_pid}"]
        served = _served_place(home, stack)
        second = home / "mnt-ceph-2"
        stack.callback(served.unmount, second)
        served.mount(second)
        arguments += ["--ours", f"loligo-ceph={served.mount_point}:{second}"]
        arguments += _pids("loligo-ceph", served.mount_pid, mount_pid(second), served.daemon.pid)
        (disk / "ext4").mkdir()
        for number in ("", "-2"):
            served.cluster.mount_ceph_fuse(home / f"ceph-fuse{number}")
        theirs = served.cluster.processes()
        arguments += _pids("ceph-fuse", theirs["fuse.0"], theirs["fuse.1"], theirs["mds.a"])
        for peer in (f"ext4={disk}/ext4", f"ceph-fuse={home}/ceph-fuse:{home}/ceph-fuse-2", *peers):
            arguments += ["--peer", peer]
        return compare(arguments)


def _pids(label: str, client: int, second: int, server: int | None) -> list[str]:
    pairs = (("client", client), ("second", second), ("server", server))
    return [word for role, pid in pairs for word in ("--pid", f"{label}/{role}={pid}")]


def upcall(rounds: int) -> int:
    """The floors of both transports, and a fresh volume on each."""
    from loligo_bench.upcall import main as measure

    arguments = ["--rounds", str(rounds), "--out", RESULTS]
    with contextlib.ExitStack() as stack:
        for transport in ("native", "pyfuse3"):
            home = stack.enter_context(_temporary())
            place = stack.enter_context(_temporary_mount(home, transport))
            label = f"loligo-{transport}"
            arguments += ["--on", f"{label}={place.mount_point}", "--pid", f"{label}={place.mount_pid}"]
        return measure(arguments)


def throughput() -> int:
    """A fresh volume and its daemon, without a mount."""
    from loligo_bench.throughput import main as measure
    from loligo_lab.ceph_place import Daemon

    with _temporary() as home, contextlib.ExitStack() as stack:
        place = EmbeddedPlace(home, "bench", home / "mnt", home / "config")
        place.make()
        daemon = Daemon(home, fixed_ports=False)
        stack.callback(daemon.stop)
        daemon.start(place.meta_url)
        return measure(["--server", daemon.address, "--volume", "bench", "--pid", str(daemon.pid), "--out", RESULTS])


def trash(options: list[str]) -> int:
    """A fresh volume behind a daemon, its data on a cluster of its own; ceph-fuse on the same cluster."""
    from loligo_bench.trash import main as measure
    from loligo_lab.ceph_place import POOL

    with _temporary() as home, contextlib.ExitStack() as stack:
        scratch = _disk(home, stack) / "scratch"
        scratch.mkdir()
        served = _served_place(home, stack)
        ceph_fuse = home / "ceph-fuse"
        served.cluster.mount_ceph_fuse(ceph_fuse)
        arguments = ["--server", served.daemon.address, "--metrics", served.daemon.metrics_address]
        arguments += ["--volume", served.name, "--mount", str(served.mount_point)]
        arguments += ["--conf", str(served.cluster.conf), "--pool", POOL, "--ceph-fuse", str(ceph_fuse)]
        return measure([*arguments, "--scratch", str(scratch), "--out", RESULTS, *options])


def _served_place(home: Path, stack: contextlib.ExitStack) -> "CephPlace":
    """A fresh volume, mounted through a daemon, on a cluster that has an MDS, too; until the stack ends."""
    from loligo_lab.ceph_place import CephPlace

    served = CephPlace(
        home / "served",
        "served",
        home / "mnt-ceph",
        home / "config",
        home / "ceph",
        with_mds=True,
        fixed_ports=False,
    )
    stack.callback(served.cluster.destroy)
    stack.callback(served.down)
    served.up()
    return served


def _disk(home: Path, stack: contextlib.ExitStack) -> Path:
    """A folder for what is to be local, until the stack ends."""
    from loligo_bench.local_disk import NoDisk, local_disk

    try:
        stack.enter_context(local_disk(home / "disk.img", home / "disk"))
    except NoDisk as problem:
        print(f"no ext4 can be made for what is local ({problem}): it is in {home} itself", file=sys.stderr)
        return home
    return home / "disk"


@contextlib.contextmanager
def _temporary() -> Iterator[Path]:
    HOME.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="bench-", dir=HOME) as home:
        yield Path(home)


@contextlib.contextmanager
def _temporary_mount(home: Path, transport: str) -> Iterator[EmbeddedPlace]:
    """A fresh volume."""
    place = EmbeddedPlace(home, "bench", home / "mnt", home / "config")
    try:
        place.up("-o", f"transport={transport}")
        yield place
    finally:
        place.down()


def _print_what_to_try(directory: Path, *more: str) -> None:
    for line in (
        f"cd {directory} && git init demo && cd demo && python3 -m venv venv",
        f"df -h {directory}",
        f"{LOLIGO} status",
        f"LOLIGO_CONFIG_DIR={CONFIG} {LOLIGO} volume list",
        *more,
    ):
        print(f"  {line}")


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m loligo_lab.playground", description=__doc__)
    parser.add_argument("action", choices=["up", "down", "ceph", "ceph-down", "bench", "throughput", "upcall", "trash"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("peers", nargs="*", metavar="LABEL=DIR[:SECOND]")
    if arguments[:1] == ["trash"]:
        options, rest = argparse.Namespace(action="trash"), arguments[1:]  # which has options of its own
    else:
        options, rest = (
            parser.parse_intermixed_args(arguments),
            [],
        )  # options may stand between the command and its peers
    try:
        match options.action:
            case "up":
                up()
            case "down":
                unmount(ROOT / "mnt")
            case "ceph":
                ceph()
            case "ceph-down":
                ceph_down()
            case "throughput":
                return throughput()
            case "trash":
                return trash(rest)
            case "upcall":
                return upcall(options.rounds)
            case _:
                return bench(options.rounds, options.peers)
    except PlaceError as error:
        print(f"playground: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
