"""A client is shut out of the object store before others get at what it had open; where that fails, they do not."""

import contextlib
import json
import os
import signal
import urllib.request
from collections.abc import Callable, Iterator
from errno import EIO
from pathlib import Path

import pytest

from cli.command_line import CommandLine
from loligo_client.shell.mount_options import ServerOptions
from loligo_client.shell.remote import RemoteVolume
from loligo_client.shell.server_source import ServerSource
from loligo_fuse import Context
from loligo_lab.ceph import LoopbackCeph
from loligo_lab.mounts import make_lab_volume
from loligo_lab.processes import wait_until
from loligo_lab.raw_client import RawClient, Refused
from loligo_lab.serving import LabServer
from loligo_mds.core.requests import Create, Unlink, Unsettle
from loligo_mds.shell.fence import is_client_address
from loligo_runtime.ceph_keys import ADMIN, Administration
from loligo_runtime.ceph_users import users_of
from loligo_runtime.object_store import ObjectStore, ShutOutError
from loligo_runtime.object_url import RadosUrl, format_rados_url, open_object_store
from loligo_runtime.volume import Volume
from loligo_wire.ids import ROOT_INO
from loligo_wire.v1 import loligo_pb2 as pb

MakeServer = Callable[..., LabServer]
MakeClient = Callable[..., RawClient]

POOL = "fencing"
DAEMON = "client.fencing-daemon"


@pytest.fixture
def data(ceph_cluster: LoopbackCeph, tmp_path: Path, request: pytest.FixtureRequest) -> RadosUrl:
    """A namespace of its own, as the daemon's user sees it."""
    ceph_cluster.create_pool(POOL)
    namespace = request.node.name.replace("[", "-").replace("]", "")
    conf = ceph_cluster.write_user_conf(tmp_path)
    with conf.open("a") as lines:
        lines.write("rados mon op timeout = 1\n")
    url = RadosUrl(POOL, namespace, str(conf), f"{DAEMON}-{namespace}")
    daemon, _ = users_of(POOL, namespace, url.name, "client.nobody")
    with Administration(str(ceph_cluster.conf)) as administration:
        administration.make(daemon, str(tmp_path))
    return url


@pytest.fixture
def volume(tmp_path: Path, data: RadosUrl) -> Volume:
    return make_lab_volume(tmp_path, data_url=format_rados_url(data))


def open_data(cluster: LoopbackCeph, data: RadosUrl) -> ObjectStore:
    return open_object_store(f"rados://{POOL}/{data.namespace}?conf={cluster.conf}&name={ADMIN}", create=False)


@pytest.fixture
def objects(ceph_cluster: LoopbackCeph, data: RadosUrl, volume: Volume) -> Iterator[ObjectStore]:
    """The store, as the client has it open that is shut out."""
    store = open_data(ceph_cluster, data)
    yield store
    store.close()


@pytest.fixture
def witness(ceph_cluster: LoopbackCeph, data: RadosUrl, volume: Volume) -> Iterator[ObjectStore]:
    store = open_data(ceph_cluster, data)
    yield store
    store.close()


def assert_shut_out(objects: ObjectStore, witness: ObjectStore, ino: int) -> None:
    """The client writes until it is refused; nothing of that outlives the removal of the file."""
    wait_until(
        lambda: isinstance(objects.write(ino, 0, 0, b"after").exception(), ShutOutError), "the object store refuses it"
    )
    wait_until(lambda: witness.size(ino, 0).result() is None, "the file's object is gone")


@pytest.fixture
def cli(tmp_path: Path) -> Iterator[CommandLine]:
    line = CommandLine(tmp_path)
    yield line
    line.clean_up()


def tell_addresses(client: RawClient, objects: ObjectStore) -> None:
    client.send(pb.ClientFrame(fence=pb.Fence(addresses=objects.addresses())))
    client.heartbeat()


@contextlib.contextmanager
def silent_monitor(cluster: LoopbackCeph) -> Iterator[None]:
    """Inside, nobody can be put on the blocklist; objects are read and written as ever."""
    pid = cluster.processes()["mon.a"]
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def fence_failures(server: LabServer) -> float:
    with urllib.request.urlopen(f"http://127.0.0.1:{server.metrics_port}/metrics", timeout=10) as page:
        lines = page.read().decode().splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith("loligo_mds_fence_failures_total "))


@pytest.mark.ceph
@pytest.mark.parametrize("how", ["evicted", "silent", "restarted"])
def test_a_client_that_is_ended_writes_no_more(
    make_server: MakeServer,
    make_client: MakeClient,
    cli: CommandLine,
    objects: ObjectStore,
    witness: ObjectStore,
    how: str,
) -> None:
    server = make_server("--session-expiry", "60" if how == "evicted" else "1.5")
    client, other = make_client(server), make_client(server, connect=False)
    tell_addresses(client, objects)
    file = client.ask(Create(ROOT_INO, b"f", 0o100644, 0, 0, hold=True))
    client.ask_all([Unsettle(file.ino, 6), Unlink(ROOT_INO, b"f")])
    objects.write(file.ino, 0, 0, b"before").result()
    if how == "evicted":
        cli.run("session", "evict", f"{client.welcome.session:016x}")
    elif how == "restarted":
        server.kill()
        server.start()
    other.connect()

    wait_until(lambda: other.is_gone(file.ino), "its session ended")
    assert_shut_out(objects, witness, file.ino)


@pytest.mark.ceph
def test_a_client_that_cannot_be_shut_out_keeps_its_session_until_it_can(
    ceph_cluster: LoopbackCeph,
    make_server: MakeServer,
    make_client: MakeClient,
    cli: CommandLine,
    objects: ObjectStore,
    witness: ObjectStore,
) -> None:
    server = make_server()
    server.expect_error("cannot be shut out of the object store")
    client, other = make_client(server), make_client(server)
    tell_addresses(client, objects)
    file = client.ask(Create(ROOT_INO, b"f", 0o100644, 0, 0, hold=True))
    client.ask_all([Unsettle(file.ino, 6), Unlink(ROOT_INO, b"f")])
    name = f"{client.welcome.session:016x}"
    with silent_monitor(ceph_cluster):
        assert "it is tried again" in cli.refusal("session", "evict", name)
        assert fence_failures(server) >= 1
        client.break_off()
        with pytest.raises(Refused) as refused:
            client.connect()
        assert refused.value.reason == pb.Refusal.SESSION_GONE
        assert not other.is_gone(file.ino)
        assert name in [row["session"] for row in json.loads(cli.run("session", "list", "--json").stdout)]
    wait_until(lambda: other.is_gone(file.ino), "it is shut out", 30)
    assert_shut_out(objects, witness, file.ino)


@pytest.mark.ceph
def test_a_client_that_the_cluster_shuts_out_gives_up_at_once(
    make_server: MakeServer, data: RadosUrl, witness: ObjectStore, ceph_cluster: LoopbackCeph
) -> None:
    source = ServerSource((make_server().address,), "lab", b"")
    url = f"rados://{POOL}/{data.namespace}?conf={ceph_cluster.conf}&name={ADMIN}"
    client = RemoteVolume(source, ServerOptions(data_url=url))
    try:
        system = client.file_system
        root = Context(0, 0, 0, 0)
        file, opened = system.create(root, ROOT_INO, b"f", 0o644, 0, os.O_RDWR).result(10)
        handle = opened.handle
        system.write(root, file.ino, handle, 0, memoryview(bytes(10_000)), False, 0)
        system._data.fsync(system._handle(handle).file).result(10)
        witness.shut_out(client._objects.addresses())
        assert (
            witness.size(file.ino, 0).result() == 10_000
        )  # an OSD need not know of it before it has heard from whoever did it
        system.write(root, file.ino, handle, 0, memoryview(bytes(10_000)), False, 0)
        with pytest.raises(OSError) as failure:
            system._data.fsync(system._handle(handle).file).result(10)
        assert failure.value.errno == EIO
        wait_until(lambda: "shut this client out" in client.connection._gone, "everything else has ended, too")
        for call in (
            lambda: system.write(root, file.ino, handle, 0, memoryview(b"x"), False, 0),
            lambda: system.read(root, file.ino, handle, 0, 10),
            lambda: system.fsync(root, file.ino, handle, False),
            lambda: system.mkdir(root, ROOT_INO, b"d", 0o755, 0),
        ):
            with pytest.raises(OSError) as failure:
                call()
            assert failure.value.errno == EIO
    finally:
        with pytest.raises(OSError, match="written bytes are lost"):
            client.close()


@pytest.mark.ceph
def test_nobody_can_have_others_shut_out(
    make_server: MakeServer, make_client: MakeClient, objects: ObjectStore
) -> None:
    server = make_server()
    honest, hostile = make_client(server), make_client(server)
    tell_addresses(honest, objects)
    hostile.send(pb.ClientFrame(fence=pb.Fence(addresses=objects.addresses())))
    assert "cannot be its own" in hostile.wait_for_refusal().text


@pytest.mark.parametrize(
    ("text", "is_one"),
    [
        ("10.0.0.1:0/77", True),
        ("v1:10.0.0.1:6800/1234567890", True),
        ("v2:[2001:db8::1]:0/5", True),
        ("10.0.0.1", False),
        ("10.0.0.1:0/0", False),
        ("10.0.0.0/8", False),
        ("10.0.0.1:70000/5", False),
        ("10.0.0.999:0/5", False),
        ("", False),
    ],
)
def test_an_address_is_that_of_one_client(text: str, is_one: bool) -> None:
    assert is_client_address(text) == is_one
