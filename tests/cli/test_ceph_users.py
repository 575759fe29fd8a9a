"""`loligo volume users` on a real cluster: what its two users can do, and what they cannot."""

import errno
import itertools
import json
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import rados

from cli.command_line import CommandLine
from loligo_lab.ceph import LoopbackCeph
from loligo_runtime.object_url import open_object_store

pytestmark = pytest.mark.ceph

POOLS = ("users", "others")
_names = (f"vol{number}" for number in itertools.count())


@dataclass
class Made:
    """The users of a volume that has its data in namespace `name` of the first pool; `conf` finds their keys alone."""

    name: str
    conf: Path
    said: str
    daemon: str
    client: str

    def url(self, entity: str, pool: str = POOLS[0], namespace: str | None = None) -> str:
        return f"rados://{pool}/{self.name if namespace is None else namespace}?conf={self.conf}&name={entity}"


@pytest.fixture(scope="session")
def cluster(ceph_cluster: LoopbackCeph) -> LoopbackCeph:
    for pool in POOLS:
        ceph_cluster.create_pool(pool)
    return ceph_cluster


@pytest.fixture
def made(cli: CommandLine, cluster: LoopbackCeph) -> Made:
    name = next(_names)
    conf = cluster.write_user_conf(cli.root)
    url = f"rados://{POOLS[0]}/{name}?conf={conf}"
    done = cli.run("volume", "users", url, "--create", "--admin-conf", str(cluster.conf))
    return Made(name, conf, done.stdout + done.stderr, f"client.loligo-{name}-daemon", f"client.loligo-{name}")


@pytest.fixture(params=["daemon", "client"])
def entity(request: pytest.FixtureRequest, made: Made) -> str:
    found: str = getattr(made, request.param)
    return found


@pytest.fixture
def connection(made: Made, entity: str) -> "Iterator[rados.Rados]":
    cluster = rados.Rados(conffile=str(made.conf), name=entity)
    cluster.connect()
    yield cluster
    cluster.shutdown()


def asked(connection: "rados.Rados", prefix: str, **arguments: object) -> int:
    """The errno of a monitor command; 0: done."""
    code, _, _ = connection.mon_command(json.dumps({"prefix": prefix, "format": "json", **arguments}), b"")
    return -int(code)


def blocklisted(connection: "rados.Rados", address: str) -> int:
    return asked(connection, "osd blocklist", blocklistop="add", addr=address)


def test_each_user_works_in_the_volumes_namespace(made: Made, entity: str) -> None:
    store = open_object_store(made.url(entity), create=False)
    try:
        assert store.owner() is None
        store.claim("us")
        assert store.owner() == "us"
        for index in range(3):
            store.write(7, index, 0, b"squid").result()
        store.truncate(7, 1, 2).result()
        store.zero(7, 2, 0, 1).result()
        assert store.read(7, 0, 0, 9).result() == b"squid"
        assert sorted(store.list()) == [(7, 0, 5), (7, 1, 2), (7, 2, 5)]
        total_bytes, free_bytes = store.usage()
        assert 0 < free_bytes <= total_bytes
        for index in range(3):
            store.remove(7, index).result()
        assert list(store.list()) == []
    finally:
        store.close()


@pytest.mark.parametrize(("pool", "namespace"), [(POOLS[0], "other"), (POOLS[0], ""), (POOLS[1], None), (POOLS[1], "")])
def test_no_user_reaches_another_place(
    pool: str, namespace: str | None, made: Made, entity: str, cluster: LoopbackCeph
) -> None:
    place = made.name if namespace is None else namespace
    admin = open_object_store(f"rados://{pool}/{place}?conf={cluster.conf}", create=False)
    store = open_object_store(made.url(entity, pool, place), create=False)
    try:
        admin.write(9, 0, 0, b"not yours").result()
        for call in (
            store.read(9, 0, 0, 9),
            store.size(9, 0),
            store.write(9, 0, 0, b"x"),
            store.truncate(9, 0, 0),
            store.remove(9, 0),
            store.write(9, 1, 0, b"x"),
        ):
            error = call.exception()
            assert isinstance(error, OSError)
            assert error.errno == errno.EPERM
        assert list(store.list()) == []
        assert admin.read(9, 0, 0, 99).result() == b"not yours"
    finally:
        admin.remove(9, 0).result()
        admin.close()
        store.close()


def test_no_user_administers_the_cluster(connection: "rados.Rados", entity: str) -> None:
    for prefix, arguments in (
        ("osd pool create", {"pool": "evil", "pg_num": 1}),
        ("osd pool delete", {"pool": POOLS[1], "pool2": POOLS[1], "yes_i_really_really_mean_it": True}),
        ("auth ls", {}),
        ("auth get", {"entity": entity}),
        ("auth caps", {"entity": entity, "caps": ["mon", "allow *", "osd", "allow *"]}),
        ("config-key dump", {}),
        ("osd down", {"ids": ["0"]}),
        ("osd blocklist", {"blocklistop": "rm", "addr": "127.0.0.1:0/7"}),
        ("osd blocklist clear", {}),
    ):
        assert asked(connection, prefix, **arguments) == errno.EACCES, prefix


def test_only_the_daemon_shuts_out_a_client(connection: "rados.Rados", made: Made, entity: str) -> None:
    victim = open_object_store(made.url(made.client), create=False)
    try:
        victim.write(8, 0, 0, b"x").result()
        (address,) = victim.addresses()
        if entity == made.client:
            assert blocklisted(connection, address) == errno.EACCES
            victim.remove(8, 0).result()
            return
        assert blocklisted(connection, "127.0.0.1") == errno.EACCES, "a whole machine"
        daemon = open_object_store(made.url(made.daemon), create=False)
        try:
            daemon.shut_out([address])
            daemon.remove(8, 0).result()
            assert victim.write(8, 0, 0, b"again").exception() is not None
            assert daemon.size(8, 0).result() is None
        finally:
            daemon.close()
    finally:
        victim.close()


def keyrings(made: Made) -> dict[str, Path]:
    return {entity: made.conf.parent / f"ceph.{entity}.keyring" for entity in (made.daemon, made.client)}


def test_keys_are_in_the_keyrings_alone(made: Made, cli: CommandLine, cluster: LoopbackCeph) -> None:
    contents = {}
    for entity, path in keyrings(made).items():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        found = re.fullmatch(rf"\[{entity}\]\n\tkey = (\S+)\n", path.read_text())
        assert found is not None
        assert found[1] not in made.said
        assert str(path) in made.said and "does not look for it" not in made.said
        contents[path] = path.read_text()
    assert sorted(cli.root.glob("*keyring*")) == sorted(contents), "no half-written ones"
    # Safe to repeat, and repairs what is missing or open to others.
    one, other = contents
    one.unlink()
    other.chmod(0o644)
    url = f"rados://{POOLS[0]}/{made.name}?conf={made.conf}"
    cli.run("volume", "users", url, "--create", "--admin-conf", str(cluster.conf))
    for path, content in contents.items():
        assert path.read_text() == content
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_volume_is_made_by_the_daemons_user_and_mounted_by_the_clients(made: Made, cli: CommandLine) -> None:
    cli.create("work", made.url(made.daemon))
    description = cli.meta() / "volume.json"
    described: dict[str, Any] = json.loads(description.read_text())
    description.write_text(json.dumps({**described, "data_url": made.url(made.client)}))
    cli.mount()
    (cli.directory / "file").write_bytes(b"squid" * 2_000_000)
    cli.umount()
    assert "3 objects" in cli.run("volume", "check", "work").stdout
    cli.mount()
    assert (cli.directory / "file").read_bytes() == b"squid" * 2_000_000
    (cli.directory / "file").unlink()
    cli.umount()
    # The names of users come from the volume's, and the printed commands say what --create did.
    said = cli.run("volume", "users", "work").stdout
    assert "'allow rw pool=users namespace=" in said
    assert "client.loligo-work-daemon mon 'profile simple-rados-client-with-blocklist'" in said
    assert "client.loligo-work mon 'profile simple-rados-client'" in said


def test_a_user_of_another_namespace_is_told_so(made: Made, cli: CommandLine) -> None:
    url = f"rados://{POOLS[0]}/another?conf={made.conf}&name={made.client}"
    said = cli.refusal("volume", "create", "another", "--meta", cli.meta("another").as_uri(), "--data", url)
    assert f"{made.client} may not use namespace 'another' of pool '{POOLS[0]}'" in said


def test_printed_commands_do_what_create_does(cli: CommandLine, cluster: LoopbackCeph, made: Made) -> None:
    url = f"rados://{POOLS[0]}/{made.name}?conf={made.conf}"
    said = cli.run("volume", "users", url).stdout
    for entity in (made.daemon, made.client):
        (found,) = cluster.command("auth get", entity=entity)
        for service, cap in found["caps"].items():
            assert re.search(rf"get-or-create {entity} .*{service} '{re.escape(cap)}'", said)


def test_without_a_namespace_a_warning_and_the_default_one_alone(cli: CommandLine, cluster: LoopbackCeph) -> None:
    conf = cluster.write_user_conf(cli.root)
    url = f"rados://{POOLS[1]}?conf={conf}"
    done = cli.run("volume", "users", url, "--create", "--admin-conf", str(cluster.conf))
    assert "names no namespace" in done.stderr and f"rados://{POOLS[1]}/NAMESPACE" in done.stderr
    user = f"conf={conf}&name=client.loligo-{POOLS[1]}"
    store = open_object_store(f"rados://{POOLS[1]}?{user}", create=False)
    other = open_object_store(f"rados://{POOLS[1]}/other?{user}", create=False)
    try:
        store.write(1, 0, 0, b"x").result()
        store.remove(1, 0).result()
        error = other.write(1, 0, 0, b"x").exception()
        assert isinstance(error, OSError) and error.errno == errno.EPERM
    finally:
        store.close()
        other.close()


def test_refusals(cli: CommandLine, cluster: LoopbackCeph, made: Made) -> None:
    url = f"rados://{POOLS[0]}/{made.name}?conf={made.conf}"
    cli.create("plain")
    assert "local folder" in cli.refusal("volume", "users", "plain")
    assert "no name of a Ceph user" in cli.refusal("volume", "users", url, "--client", "osd.0")
    assert "must not be able" in cli.refusal("volume", "users", url, "--client", "client.x", "--daemon", "client.x")
    assert "cannot be named" in cli.refusal("volume", "users", f"rados://{POOLS[0]}/a*?conf={made.conf}")
    taken = ("--create", "--admin-conf", str(cluster.conf), "--daemon", made.client, "--client", "client.new")
    assert f"ceph auth get {made.client}" in cli.refusal("volume", "users", url, *taken)
    nowhere = str(cli.root / "nowhere")
    assert nowhere in cli.refusal("volume", "users", url, "--create", "--keyrings", nowhere)
