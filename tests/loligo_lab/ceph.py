"""A real, small Ceph cluster on 127.0.0.1: one monitor, one manager, two BlueStore OSDs (or as many as
are asked for), one MDS if asked.

It lives in one folder: configuration (``ceph.conf``, what clients need), keys, data, logs and the
process ids of its daemons. Several clusters run side by side, each in its folder and on its port.

Rules
1. Only processes whose id is in our folder *and* whose command line names our folder are ever
   signalled.
2. A start that fails, or is interrupted, stops what it started.
3. A folder is complete when ``complete`` is in it; one that a failed start left behind is made
   anew. A folder that holds anything else is refused, never emptied.

The manager runs without its optional modules: it is here for the space statistics of pools.
It copies no data twice (pool size 1), so it says nothing about recovery or replication.

    python -m loligo_lab.ceph start|stop|status --dir DIR [--port PORT] [--with-mds]
"""

import base64
import contextlib
import functools
import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import rados

DEFAULT_PORT = 16789
OSDS = 2
START_LIMIT_S = 90.0
STOP_LIMIT_S = 10.0
POLL_S = 0.1

CONF = """\
# Written by loligo_lab.ceph
[global]
fsid = {fsid}
mon host = v1:127.0.0.1:{port}
ms bind msgr2 = false
public addr = 127.0.0.1
cluster addr = 127.0.0.1
keyring = {directory}/keyring
log file = {directory}/log/$name.log
admin socket =
run dir = {directory}
mon data = {directory}/mon
mgr data = {directory}/mgr
mds data = {directory}/mds
osd data = {directory}/osd.$id
osd pool default size = 1
osd pool default min size = 1
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
mon allow pool size one = true
mon allow pool delete = true
mon max pg per osd = 1000
mon warn on pool no redundancy = false
auth allow insecure global id reclaim = false
mgr disabled modules = balancer,crash,devicehealth,orchestrator,pg_autoscaler,progress,rbd_support,\
status,telemetry,volumes,dashboard,iostat,nfs,restful,prometheus,k8sevents,zabbix,influx,telegraf,\
alerts,insights,localpool,selftest,snap_schedule,stats,test_orchestrator,osd_perf_query,\
osd_support,diskprediction_local,mirroring,cephadm,rook
mgr stats period = 1
debug rocksdb = 0/0
debug bluestore = 0/0
debug bluefs = 0/0
debug ms = 0/0
debug mgrc = 0/0
debug osd = 0/0
osd objectstore = bluestore
bluestore block size = 10737418240
bluestore cache autotune = false
bluestore cache size = 134217728
osd memory target = 939524096

[osd]
# Without one an OSD does not answer `ceph tell`: the thread of its admin socket carries those out, too.
admin socket = {directory}/$name.asok
"""

ENTITIES = {
    "mon.": {"mon": "allow *"},
    "client.admin": {"mon": "allow *", "osd": "allow *", "mds": "allow *", "mgr": "allow *"},
    "mgr.a": {"mon": "allow profile mgr", "osd": "allow *", "mds": "allow *"},
    "mds.a": {"mon": "allow profile mds", "osd": "allow *", "mds": "allow", "mgr": "allow profile mds"},
}
OSD_CAPS = {"mon": "allow profile osd", "mgr": "allow profile osd", "osd": "allow *"}
#: For one OSD whose RocksDB is to lie elsewhere than its data.
DB_CONF = """
[osd.{osd}]
bluestore block db path = {path}
bluestore block db size = 1073741824
bluestore block db create = true
"""


class CephLabError(Exception):
    """The cluster could not be started or used; the text has the end of the daemon's log."""


def _print_progress(line: str) -> None:
    print(line, flush=True)


class LoopbackCeph:
    def __init__(
        self,
        directory: Path,
        port: int = DEFAULT_PORT,
        *,
        with_mds: bool = False,
        osds: int = OSDS,
        block_db: Mapping[int, Path] | None = None,
        report: Callable[[str], None] = _print_progress,
    ) -> None:
        """`port` and `block_db` count when the cluster is made; one that exists keeps its own.

        `block_db`: files for the RocksDB of single OSDs. Who names them removes them.
        """
        self.directory = directory.resolve()
        self.conf = self.directory / "ceph.conf"
        self._port = port
        self._with_mds = with_mds
        self._osds = osds
        self._block_db = block_db or {}
        self._report = report
        self._children: dict[int, subprocess.Popen[bytes]] = {}
        self._started_at = 0.0

    # -- life ------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start the cluster, and make it first if need be. Nothing happens if it runs already."""
        if self.is_running():
            self._say(f"runs already: {self.conf}")
            return
        _require_programs(self._with_mds)
        self._started_at = time.monotonic()
        try:
            self.stop()
            if not self._is_complete():
                self._make()
            self._start_daemons()
        except BaseException:
            self.stop()
            raise
        self._say(f"ready: {self.conf}")

    def stop(self) -> None:
        """Stop all daemons and mounts of this cluster; data stays. Nothing happens if none runs."""
        for mount_point in self._our_mounts():
            self.unmount(mount_point)
        pids = dict(self._pids())
        monitor = pids.pop("mon.a", None)
        self._end(pids)
        if monitor is not None:  # last: an OSD that finds no monitor to say goodbye to waits for it
            self._end({"mon.a": monitor})

    def destroy(self) -> None:
        """Stop the cluster and remove its folder."""
        self.stop()
        if self.conf.exists() or self._is_complete():
            shutil.rmtree(self.directory)

    def is_running(self) -> bool:
        return self._is_complete() and set(self._daemons()) <= set(dict(self._pids()))

    # -- use -------------------------------------------------------------------------------------

    def create_pool(self, name: str, pg_num: int = 16) -> None:
        """Make a pool; when this returns it can be written and the cluster has statistics of it.

        One that exists is fine.
        """
        with self._admin() as admin:
            _command(admin, "osd pool create", pool=name, pg_num=pg_num, pgp_num=pg_num)
            _command(admin, "osd pool application enable", pool=name, app="loligo")
            with admin.open_ioctx(name) as pool:
                pool.write_full("loligo-lab", b"")
                pool.remove_object("loligo-lab")
            self._wait(f"pool {name}", "mgr.a", lambda: _pool_has_statistics(admin, name))

    def delete_pool(self, name: str) -> None:
        with self._admin() as admin:
            _command(
                admin,
                "osd pool delete",
                pool=name,
                pool2=name,
                yes_i_really_really_mean_it=True,
            )

    def command(self, prefix: str, **arguments: object) -> Any:
        """Run one monitor command; its JSON answer."""
        with self._admin() as admin:
            return _command(admin, prefix, **arguments)

    def write_user_conf(self, folder: Path) -> Path:
        """A ceph.conf in `folder` for those who are no administrators: it finds only the keyrings beside it."""
        conf = folder / "ceph.conf"
        keyring = f"keyring = {folder}/ceph.$name.keyring"
        wanted = ("fsid", "mon host", "ms bind msgr2", "admin socket")
        everybodys = self.conf.read_text().partition("[osd]")[0]
        lines = [line for line in everybodys.splitlines() if line.partition(" =")[0] in wanted]
        conf.write_text("\n".join(["# Written by loligo_lab.ceph", "[global]", *lines, keyring]) + "\n")
        return conf

    def processes(self) -> dict[str, int]:
        """Process ids by name: mon.a, mgr.a, osd.0 …, mds.a, and fuse.0 … in the order of `mount_ceph_fuse`."""
        return dict(self._pids())

    @contextlib.contextmanager
    def silent_osds(self) -> Iterator[None]:
        """Inside, the OSDs are frozen: connections stay, answers do not come."""
        pids = [pid for name, pid in self._pids() if name.startswith("osd.")]
        try:
            for pid in pids:
                _signal(pid, signal.SIGSTOP)
            yield
        finally:
            for pid in pids:
                _signal(pid, signal.SIGCONT)

    def kill_osd(self, number: int) -> None:
        """-9, and start it again; returns when it takes part again."""
        name = f"osd.{number}"
        pid = dict(self._pids())[name]
        _signal(pid, signal.SIGKILL)
        self._wait_for_end([pid], STOP_LIMIT_S)
        self.start_osd(number)
        with self._admin() as admin:
            self._wait(name, name, functools.partial(_osd_is_up, admin, number))

    def stop_osd(self, number: int) -> None:
        """As systemd would; returns when its process has ended."""
        name = f"osd.{number}"
        self._end({name: dict(self._pids())[name]})

    def start_osd(self, number: int) -> None:
        """Returns when its process runs; it takes part some time later."""
        self._spawn(f"osd.{number}", ["ceph-osd", "-f", "-i", str(number)])

    def mount_ceph_fuse(self, mount_point: Path) -> None:
        """Mount CephFS with ceph-fuse (a cluster with an MDS only)."""
        mount_point.mkdir(parents=True, exist_ok=True)
        name = f"fuse.{len(self._our_mounts())}"
        self._spawn(name, ["ceph-fuse", "-f", "-n", "client.admin", str(mount_point)])
        self._wait(f"the mount at {mount_point}", name, lambda: os.path.ismount(mount_point))

    def unmount(self, mount_point: Path) -> None:
        """Unmount what `mount_ceph_fuse` mounted, and wait for its process to end."""
        before = self._fuse_pids()
        done = subprocess.run(["umount", str(mount_point)], capture_output=True, text=True)
        if done.returncode != 0:
            subprocess.run(["umount", "-l", str(mount_point)], capture_output=True)
        wanted = os.fsencode(mount_point)
        self._wait_for_end([pid for pid in before if wanted in _command_line(pid)], STOP_LIMIT_S)

    # -- making ----------------------------------------------------------------------------------

    def _make(self) -> None:
        if self.directory.exists():
            if self.conf.exists() and self.conf.read_text().startswith("# Written by loligo_lab"):
                shutil.rmtree(self.directory)  # left by a start that failed
            elif any(self.directory.iterdir()):
                raise CephLabError(f"{self.directory} holds something that is no cluster of ours; name an empty folder")
        for part in ("log", "mon", "mgr", "mds", *(f"osd.{osd}" for osd in range(self._osds))):
            (self.directory / part).mkdir(parents=True)
        self._say("making keys and the monitor")
        fsid = str(uuid.uuid4())
        own = "".join(DB_CONF.format(osd=osd, path=path) for osd, path in self._block_db.items())
        self.conf.write_text(CONF.format(fsid=fsid, port=self._port, directory=self.directory) + own)
        keyring = self.directory / "keyring"
        keyring.touch(mode=0o600)
        keyring.write_text(_keyring(self._osds))
        monmap = self.directory / "monmap"
        address = f"[v1:127.0.0.1:{self._port}]"
        self._run(["monmaptool", "--create", "--fsid", fsid, "--addv", "a", address, str(monmap)], "mon.a")
        self._run(["ceph-mon", "--mkfs", "-i", "a", "--monmap", str(monmap)], "mon.a")
        self._require_port()
        self._spawn("mon.a", ["ceph-mon", "-f", "-i", "a"])
        for osd in range(self._osds):
            self._say(f"making osd.{osd}")
            osd_uuid = str(uuid.uuid4())
            with self._admin() as admin:
                _command(admin, "osd new", uuid=osd_uuid, id=osd)
            self._run(["ceph-osd", "--mkfs", "-i", str(osd), "--osd-uuid", osd_uuid], f"osd.{osd}")
        (self.directory / "complete").touch()

    def _start_daemons(self) -> None:
        running = dict(self._pids())
        if "mon.a" not in running:
            self._require_port()
        for name in self._daemons():
            if name not in running:
                kind, ident = name.split(".")
                self._spawn(name, [f"ceph-{kind}", "-f", "-i", ident])
        with self._admin() as admin:
            for osd in range(self._osds):
                self._wait(f"osd.{osd}", f"osd.{osd}", functools.partial(_osd_is_up, admin, osd))
            self._wait("the manager", "mgr.a", lambda: _command(admin, "mgr dump")["available"])
            if self._with_mds:
                self._make_file_system(admin)

    def _make_file_system(self, admin: "rados.Rados") -> None:
        if not _command(admin, "fs ls"):
            for pool in ("cephfs_metadata", "cephfs_data"):
                _command(admin, "osd pool create", pool=pool, pg_num=16, pgp_num=16)
            _command(admin, "fs new", fs_name="cephfs", metadata="cephfs_metadata", data="cephfs_data")
        self._wait("the file system", "mds.a", lambda: _mds_is_active(admin))

    def _daemons(self) -> list[str]:
        return ["mon.a", "mgr.a", *(f"osd.{osd}" for osd in range(self._osds)), *["mds.a"] * self._with_mds]

    @contextlib.contextmanager
    def _admin(self) -> "Iterator[rados.Rados]":
        limit_s = str(int(START_LIMIT_S))
        admin = rados.Rados(
            conffile=str(self.conf),
            name="client.admin",
            conf={
                "client_mount_timeout": limit_s,
                "rados_mon_op_timeout": limit_s,
                "rados_osd_op_timeout": limit_s,
                "log_file": "",
            },
        )
        try:
            admin.connect()
        except rados.Error as error:
            raise CephLabError(f"no connection to the monitor: {error}{self._log_tail('mon.a')}") from None
        try:
            yield admin
        finally:
            admin.shutdown()

    def _require_port(self) -> None:
        port = int(self.conf.read_text().split("mon host = v1:127.0.0.1:")[1].split()[0])
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError as error:
                raise CephLabError(
                    f"port {port} on 127.0.0.1 is taken ({error.strerror}), perhaps by another "
                    "cluster: stop that, or make this one in an empty folder with another port"
                ) from None

    # -- processes -------------------------------------------------------------------------------

    def _run(self, command: list[str], name: str) -> None:
        done = subprocess.run([*command, "-c", str(self.conf)], capture_output=True, text=True, timeout=START_LIMIT_S)
        if done.returncode != 0:
            raise CephLabError(f"{command[0]} failed:\n{done.stderr}{self._log_tail(name)}")

    def _spawn(self, name: str, command: list[str]) -> None:
        self._say(f"starting {name}")
        with (self.directory / "log" / f"{name}.stderr").open("ab") as stderr:
            child = subprocess.Popen(
                [*command, "-c", str(self.conf)],
                stdin=subprocess.DEVNULL,
                stdout=stderr,
                stderr=stderr,
                start_new_session=True,  # a Ctrl-C at the terminal is ours to handle
            )
        self._children[child.pid] = child
        self._pid_file(name).write_text(f"{child.pid}\n")

    def _wait(self, what: str, name: str, is_done: Callable[[], bool]) -> None:
        deadline = time.monotonic() + START_LIMIT_S
        while not is_done():
            if name not in dict(self._pids()):
                raise CephLabError(f"{name} ended while starting{self._log_tail(name)}")
            if time.monotonic() > deadline:
                raise CephLabError(f"{what} is not there after {START_LIMIT_S:.0f} s{self._log_tail(name)}")
            time.sleep(POLL_S)

    def _end(self, pids: dict[str, int]) -> None:
        for number in (signal.SIGTERM, signal.SIGKILL):
            for pid in pids.values():
                if self._is_ours(pid):
                    _signal(pid, number)
            self._wait_for_end(list(pids.values()), STOP_LIMIT_S)
        for name, pid in pids.items():
            if self._is_ours(pid):
                raise CephLabError(f"{name} (process {pid}) does not go away")
            self._pid_file(name).unlink(missing_ok=True)

    def _wait_for_end(self, pids: list[int], limit_s: float) -> None:
        deadline = time.monotonic() + limit_s
        while any(self._is_ours(pid) for pid in pids) and time.monotonic() < deadline:
            time.sleep(POLL_S)

    def _pid_file(self, name: str) -> Path:
        return self.directory / f"{name}.pid"

    def _pids(self) -> Iterator[tuple[str, int]]:
        """The daemons and mounts of ours that are alive."""
        for path in sorted(self.directory.glob("*.pid")):
            with contextlib.suppress(ValueError, FileNotFoundError):
                pid = int(path.read_text())
                if self._is_ours(pid):
                    yield path.stem, pid

    def _fuse_pids(self) -> list[int]:
        return [pid for name, pid in self._pids() if name.startswith("fuse.")]

    def _is_ours(self, pid: int) -> bool:
        child = self._children.get(pid)
        if child is not None:
            return child.poll() is None
        return os.fsencode(self.conf) in _command_line(pid)

    def _our_mounts(self) -> list[Path]:
        points = []
        for pid in self._fuse_pids():
            arguments = _command_line(pid)
            points.append(Path(os.fsdecode(arguments[arguments.index(b"client.admin") + 1])))
        return points

    def _is_complete(self) -> bool:
        return (self.directory / "complete").exists()

    def _log_tail(self, name: str, lines: int = 15) -> str:
        text = ""
        for path in (
            self.directory / "log" / f"{name}.stderr",
            self.directory / "log" / f"ceph-{name}.log",
            self.directory / "log" / f"{name}.log",
        ):
            with contextlib.suppress(FileNotFoundError):
                tail = path.read_text(errors="replace").splitlines()[-lines:]
                text += f"\n--- the end of {path}\n" + "\n".join(tail)
        return text

    def _say(self, text: str) -> None:
        elapsed_s = time.monotonic() - self._started_at if self._started_at else 0.0
        self._report(f"ceph lab {elapsed_s:5.1f} s: {text}")


def missing_programs(with_mds: bool = False) -> list[str]:
    programs = ["ceph-mon", "ceph-mgr", "ceph-osd", "monmaptool"]
    if with_mds:
        programs += ["ceph-mds", "ceph-fuse"]
    return [program for program in programs if shutil.which(program) is None]


def _require_programs(with_mds: bool) -> None:
    missing = missing_programs(with_mds)
    if missing:
        raise CephLabError(
            f"{', '.join(missing)} not found; on Debian 12: apt-get install --no-install-recommends "
            "ceph-mon ceph-mgr ceph-osd ceph-mds ceph-fuse ceph-common python3-rados"
        )


def _keyring(osds: int) -> str:
    text = ""
    for entity, caps in {**ENTITIES, **{f"osd.{osd}": OSD_CAPS for osd in range(osds)}}.items():
        # Ceph's key format: type 1 (AES), seconds, nanoseconds, length, key.
        secret = struct.pack("<HIIH", 1, int(time.time()), 0, 16) + os.urandom(16)
        text += f"[{entity}]\n\tkey = {base64.b64encode(secret).decode()}\n"
        text += "".join(f'\tcaps {service} = "{cap}"\n' for service, cap in caps.items())
    return text


def _command(admin: "rados.Rados", prefix: str, **arguments: object) -> Any:
    request = json.dumps({"prefix": prefix, "format": "json", **arguments})
    code, output, status = admin.mon_command(request, b"")
    if code != 0:
        raise CephLabError(f"'{prefix}' failed: {status} ({os.strerror(-code)})")
    return json.loads(output) if output.strip() else None


def _osd_is_up(admin: "rados.Rados", osd: int) -> bool:
    return any(row["osd"] == osd and row["up"] for row in _command(admin, "osd dump")["osds"])


def _pool_has_statistics(admin: "rados.Rados", name: str) -> bool:
    usage = _command(admin, "df")
    return any(p["name"] == name and p["stats"]["max_avail"] > 0 for p in usage["pools"])


def _mds_is_active(admin: "rados.Rados") -> bool:
    systems = _command(admin, "fs dump")["filesystems"]
    return any(daemon["state"] == "up:active" for system in systems for daemon in system["mdsmap"]["info"].values())


def _command_line(pid: int) -> list[bytes]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except (FileNotFoundError, ProcessLookupError):
        return []


def _signal(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def main(arguments: list[str]) -> int:
    import argparse

    parser = argparse.ArgumentParser(prog="python -m loligo_lab.ceph", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("action", choices=["start", "stop", "status"])
    parser.add_argument("--dir", type=Path, required=True)
    parser.add_argument("--port", type=int, default=DEFAULT_PORT)
    parser.add_argument("--with-mds", action="store_true")
    options = parser.parse_args(arguments)
    lab = LoopbackCeph(options.dir, options.port, with_mds=options.with_mds)
    try:
        if options.action == "start":
            lab.start()
        elif options.action == "stop":
            lab.stop()
        else:
            print("running" if lab.is_running() else "stopped")
            return 0 if lab.is_running() else 3
    except CephLabError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; stopped what was started", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
