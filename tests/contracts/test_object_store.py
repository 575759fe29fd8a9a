"""The rules of `loligo_runtime.object_store`, held up to every adapter.

A test that takes `store` runs on both adapters, and on one with a cache in front of it; the faults at the end need one of them.
"""

import errno
import itertools
import os
import random
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import TypeVar

import pytest

from loligo_client.shell.block_cache import CachedObjects
from loligo_lab.ceph import LoopbackCeph
from loligo_lab.folders import DISK
from loligo_lab.ports import free_port
from loligo_runtime.local_file import QUICK_READ_BYTES
from loligo_runtime.local_objects import (
    INLINE_LIMIT_BYTES,
    OPEN_OBJECTS,
    READ_NOW_LIMIT_BYTES,
    LocalObjectStore,
)
from loligo_runtime.object_store import (
    MISSING,
    ObjectStore,
    ShutOutError,
    StoreMissingError,
    StoreTakenError,
    StoreUnreachableError,
    object_name,
    parse_object_name,
)
from loligo_runtime.object_url import open_object_store

T = TypeVar("T")
LIMIT_S = 30.0
INO = 0x0003_0000_0000_1234

_namespaces = (f"contract-{number}" for number in itertools.count())


def got(future: "Future[T]") -> T:
    return future.result(LIMIT_S)


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """On a disk: `forget_pages` cannot make a file system in memory forget them."""
    path = Path(tempfile.mkdtemp(prefix="loligo-objects-", dir=DISK))
    yield path
    shutil.rmtree(path)


@pytest.fixture(scope="session")
def pool(ceph_cluster: LoopbackCeph) -> str:
    ceph_cluster.create_pool("contracts")
    return "contracts"


@pytest.fixture(params=["local", "cached", pytest.param("rados", marks=pytest.mark.ceph)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty store."""
    if request.param in ("local", "cached"):
        return (tmp_path / "objects").as_uri()
    cluster: LoopbackCeph = request.getfixturevalue("ceph_cluster")
    pool = request.getfixturevalue("pool")
    return f"rados://{pool}/{next(_namespaces)}?conf={cluster.conf}"


@pytest.fixture
def store(url: str, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ObjectStore]:
    store = open_object_store(url, create=True)
    if request.node.callspec.params["url"] == "cached":
        store = CachedObjects(store, str(tmp_path / "cache"), 1 << 30, 1 << 24)
    yield store
    for ino, index, _ in list(store.list()):
        got(store.remove(ino, index))
    store.close()


def test_what_was_written_is_read(store: ObjectStore) -> None:
    got(store.write(INO, 0, 0, b"squid"))
    assert got(store.read(INO, 0, 0, 5)) == b"squid"
    assert got(store.read(INO, 0, 1, 3)) == b"qui"
    assert got(store.size(INO, 0)) == 5


def test_a_read_stops_where_the_object_ends(store: ObjectStore) -> None:
    got(store.write(INO, 0, 0, b"squid"))
    assert got(store.read(INO, 0, 2, 100)) == b"uid"
    assert got(store.read(INO, 0, 5, 100)) == b""
    assert got(store.read(INO, 0, 1000, 100)) == b""
    assert store.read_now(INO, 0, 2, 100) in (b"uid", None)
    assert store.read_now(INO, 0, 1000, 100) in (b"", None)


def test_an_object_never_written_is_missing(store: ObjectStore) -> None:
    got(store.write(INO, 0, 0, b"x"))
    assert got(store.read(INO, 1, 0, 1)) is MISSING
    assert got(store.read(INO + 1, 0, 0, 1)) is MISSING
    assert store.read_now(INO, 1, 0, 1) in (MISSING, None)
    assert got(store.size(INO, 1)) is None


def test_a_gap_reads_as_zeros(store: ObjectStore) -> None:
    got(store.write(INO, 0, 10, b"end"))
    assert got(store.read(INO, 0, 0, 100)) == bytes(10) + b"end"


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_any_bytes_like_data_is_written(
    store: ObjectStore, kind: "Callable[[bytes], bytes | bytearray | memoryview]"
) -> None:
    got(store.write(INO, 0, 0, kind(b"squid")))
    assert got(store.read(INO, 0, 0, 100)) == b"squid"


@pytest.mark.parametrize("length", [INLINE_LIMIT_BYTES, INLINE_LIMIT_BYTES + 1, READ_NOW_LIMIT_BYTES + 1, 4 << 20])
def test_large_writes(store: ObjectStore, length: int) -> None:
    data = random.Random(length).randbytes(length)
    got(store.write(INO, 0, 3, data))
    assert got(store.read(INO, 0, 3, length)) == data
    assert got(store.size(INO, 0)) == length + 3


def test_truncate(store: ObjectStore) -> None:
    got(store.write(INO, 0, 0, b"squid"))
    got(store.truncate(INO, 0, 2))
    assert got(store.read(INO, 0, 0, 100)) == b"sq"
    got(store.truncate(INO, 0, 4))
    assert got(store.read(INO, 0, 0, 100)) == b"sq\0\0"
    got(store.truncate(INO, 0, 0))
    assert got(store.size(INO, 0)) == 0


def test_zero_inside_an_object(store: ObjectStore) -> None:
    data = bytes(range(1, 101)) * 200
    got(store.write(INO, 0, 0, data))
    got(store.zero(INO, 0, 5, 10_000))
    assert got(store.read(INO, 0, 0, len(data))) == data[:5] + bytes(10_000) + data[10_005:]


@pytest.mark.parametrize(("offset", "length"), [(2, 3), (2, 100), (5, 1), (100, 100)])
def test_zero_at_the_end_never_extends(store: ObjectStore, offset: int, length: int) -> None:
    got(store.write(INO, 0, 0, b"squid"))
    got(store.zero(INO, 0, offset, length))
    read = got(store.read(INO, 0, 0, 1000))
    assert isinstance(read, bytes)
    assert len(read) <= 5
    assert read.ljust(5, b"\0") == b"squid"[:offset].ljust(5, b"\0")


def test_changing_or_removing_a_missing_object_makes_none(store: ObjectStore) -> None:
    got(store.truncate(INO, 0, 7))
    got(store.zero(INO, 0, 0, 7))
    got(store.remove(INO, 0))
    assert got(store.size(INO, 0)) is None
    assert list(store.list()) == []


def test_many_objects_are_removed_and_missing_ones_are_fine(store: ObjectStore) -> None:
    keys = [(INO + number // 3, number % 3) for number in range(100)]
    for ino, index in keys[::2]:
        got(store.write(ino, index, 0, b"something"))
    got(store.write(INO - 1, 0, 0, b"stays"))
    assert store.remove_many(keys) == {}
    assert [got(store.size(ino, index)) for ino, index in keys] == [None] * len(keys)
    assert got(store.size(INO - 1, 0)) == 5


@pytest.mark.parametrize("length", [5, INLINE_LIMIT_BYTES + 1])
def test_a_removed_object_is_missing_and_can_be_made_again(store: ObjectStore, length: int) -> None:
    got(store.write(INO, 0, 0, b"o" * length))
    assert got(store.read(INO, 0, 0, 1)) == b"o"
    got(store.remove(INO, 0))
    assert got(store.read(INO, 0, 0, 1)) is MISSING
    assert store.read_now(INO, 0, 0, 1) in (MISSING, None)
    got(store.write(INO, 0, 2, b"new"))
    assert got(store.read(INO, 0, 0, 100)) == b"\0\0new"


def test_sync_of_new_changed_missing_and_no_objects(store: ObjectStore) -> None:
    got(store.write(INO, 0, 0, b"squid"))
    got(store.sync([(INO, 0), (INO, 1)]))
    got(store.write(INO, 0, 0, b"S"))
    got(store.sync(iter([(INO, 0)])))
    got(store.remove(INO, 0))
    got(store.sync([(INO, 0)]))
    got(store.sync([]))
    got(store.sync_all())


def test_list_names_every_object_with_its_size(store: ObjectStore) -> None:
    expected = {(INO + number, number % 7, number) for number in range(300)}
    for ino, index, size in expected:
        got(store.write(ino, index, 0, b"x"))
        got(store.truncate(ino, index, size))
    assert set(store.list()) == expected


def test_the_largest_numbers(store: ObjectStore) -> None:
    key = ((1 << 64) - 1, (1 << 32) - 1)
    got(store.write(*key, 0, b"x"))
    assert list(store.list()) == [(*key, 1)]
    assert got(store.read(*key, 0, 1)) == b"x"


def test_usage_is_sensible(store: ObjectStore) -> None:
    total_bytes, free_bytes = store.usage()
    assert 0 < free_bytes <= total_bytes


def test_a_client_that_was_shut_out_is_told_at_once_and_changes_nothing(url: str) -> None:
    store = open_object_store(url, create=True)
    other = open_object_store(url, create=False)
    try:
        assert not set(store.addresses()) & set(other.addresses())
        for index in range(20):
            got(other.write(INO, index, 0, b"before"))
        store.shut_out(other.addresses())
        if not other.addresses():
            return  # a folder shuts nobody out
        for index in range(20):
            assert got(store.size(INO, index)) == 6
            began = time.monotonic()
            for call in (other.write(INO, index, 0, b"after"), other.remove(INO, index), other.read(INO, index, 0, 9)):
                error = call.exception(LIMIT_S)
                assert isinstance(error, ShutOutError)
                assert error.errno == errno.EIO
            assert time.monotonic() - began < 5
            assert got(store.read(INO, index, 0, 9)) == b"before"
    finally:
        other.close()
        for ino, index, _ in list(store.list()):
            got(store.remove(ino, index))
        store.close()


def test_everything_is_there_after_opening_again(url: str) -> None:
    store = open_object_store(url, create=True)
    got(store.write(INO, 3, 0, b"squid"))
    store.close()
    store = open_object_store(url, create=False)
    try:
        assert got(store.read(INO, 3, 0, 10)) == b"squid"
        got(store.remove(INO, 3))
    finally:
        store.close()


def test_close_waits_for_what_is_in_flight(url: str) -> None:
    store = open_object_store(url, create=True)
    writes = [store.write(INO, index, 0, bytes(1 << 20)) for index in range(20)]
    store.close()
    assert all(write.done() and write.exception() is None for write in writes)
    store = open_object_store(url, create=False)
    try:
        assert sorted(store.list()) == [(INO, index, 1 << 20) for index in range(20)]
        for index in range(20):
            got(store.remove(INO, index))
    finally:
        store.close()


def test_many_in_flight_from_many_threads(store: ObjectStore) -> None:
    # More objects than descriptors kept open, more operations than the store lets through at once.
    threads, objects = 4, max(OPEN_OBJECTS, 128)
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            names = [(INO + number, index) for index in range(objects)]
            content = {name: f"{name}".encode() * 50 for name in names}
            for write in [store.write(*name, 0, content[name]) for name in names]:
                got(write)
            reads = {name: store.read(*name, 0, 10_000) for name in names}
            for name, read in reads.items():
                assert got(read) == content[name]
                assert store.read_now(*name, 0, 10_000) in (content[name], None)
            for remove in [store.remove(*name) for name in names]:
                got(remove)
        except BaseException as error:  # noqa: BLE001  # handed to the test's own thread
            failures.append(error)

    workers = [threading.Thread(target=work, args=(number,)) for number in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert failures == []
    assert list(store.list()) == []


def test_random_operations_agree_with_a_bytearray(store: ObjectStore) -> None:
    rng = random.Random(7)
    model: bytearray | None = None
    for _ in range(150):
        offset, length = rng.randrange(20_000), rng.randrange(1, 10_000)
        action = rng.choice(["write", "write", "write", "truncate", "zero", "remove"])
        if action == "write":
            data = rng.randbytes(length)
            model = model if model is not None else bytearray()
            model.extend(bytes(max(0, offset - len(model))))
            model[offset : offset + length] = data
            got(store.write(INO, 0, offset, data))
        elif action == "truncate":
            if model is not None:
                model = model[:offset].ljust(offset, b"\0")
            got(store.truncate(INO, 0, offset))
        elif action == "zero":
            if model is not None:
                end = min(offset + length, len(model))
                model[offset:end] = bytes(max(0, end - offset))
            got(store.zero(INO, 0, offset, length))
        elif rng.random() < 0.3:
            model = None
            got(store.remove(INO, 0))
        read = got(store.read(INO, 0, 0, 40_000))
        if read is MISSING:
            assert model is None
        else:
            assert model is not None
            assert len(read) <= len(model)
            assert read.ljust(len(model), b"\0") == model
            now = store.read_now(INO, 0, offset, length)
            assert now is None or now == read[offset : offset + length]


# -- names ---------------------------------------------------------------------------------------


def test_names_are_parsed_back_and_others_refused() -> None:
    assert object_name(INO, 10) == "0003000000001234.0000000a"
    assert parse_object_name(object_name(INO, 10)) == (INO, 10)
    for alien in ("", ".", "0003000000001234", "0003000000001234.0000000A", "x" * 16 + ".00000000"):
        assert parse_object_name(alien) is None
    assert parse_object_name("+003000000001234.00000000") is None


# -- the local adapter ---------------------------------------------------------------------------


@pytest.fixture
def local(tmp_path: Path) -> Iterator[LocalObjectStore]:
    store = LocalObjectStore(os.fsencode(tmp_path / "objects"), create=True)
    yield store
    store.close()


def test_read_now_answers_from_the_page_cache(local: LocalObjectStore) -> None:
    got(local.write(INO, 0, 0, b"squid"))
    assert local.read_now(INO, 0, 1, 100) == b"quid"
    assert local.read_now(INO, 1, 0, 100) is MISSING


def forget_pages(tmp_path: Path) -> None:
    with next(tmp_path.rglob(object_name(INO, 0))).open("rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def test_read_now_does_not_wait_for_the_disk(local: LocalObjectStore, tmp_path: Path) -> None:
    length = 4 * QUICK_READ_BYTES
    got(local.write(INO, 0, 0, bytes(length)))
    got(local.sync([(INO, 0)]))
    forget_pages(tmp_path)
    if local.read_now(INO, 0, 0, length) is not None:
        pytest.skip("this file system keeps its pages")
    assert got(local.read(INO, 0, 0, length)) == bytes(length)
    assert local.read_now(INO, 0, 0, length) == bytes(length)


def test_a_short_read_waits_a_moment_for_the_disk_and_no_longer(local: LocalObjectStore, tmp_path: Path) -> None:
    content = os.urandom(8192)
    got(local.write(INO, 0, 0, content))
    got(local.sync([(INO, 0)]))
    for _ in range(50):
        forget_pages(tmp_path)
        assert local.read_now(INO, 0, 100, 8000) in (None, content[100:8100])


def test_small_writes_to_an_object_at_hand_are_done_at_once(local: LocalObjectStore) -> None:
    got(local.write(INO, 0, 0, b"made"))
    assert local.write(INO, 0, 0, bytes(INLINE_LIMIT_BYTES)).done()


def test_descriptors_stay_bounded(local: LocalObjectStore) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for index in range(3 * OPEN_OBJECTS):
        got(local.write(INO, index, 0, b"x"))
    assert len(os.listdir("/proc/self/fd")) <= before + OPEN_OBJECTS
    for index in range(3 * OPEN_OBJECTS):
        got(local.remove(INO, index))
    assert len(os.listdir("/proc/self/fd")) <= before


def test_a_removed_object_is_never_read_through_an_old_descriptor(local: LocalObjectStore) -> None:
    """Readers open and read all the time, while the object is removed and made again."""
    stop = threading.Event()
    generation = 0
    wrong: list[object] = []

    def read_all_the_time() -> None:
        while not stop.is_set():
            oldest_allowed = generation
            read = local.read_now(INO, 0, 0, 8)
            if isinstance(read, bytes) and read and int.from_bytes(read, "big") < oldest_allowed:
                wrong.append((oldest_allowed, read))
                return

    readers = [threading.Thread(target=read_all_the_time) for _ in range(2)]
    for reader in readers:
        reader.start()
    try:
        for number in range(1, 2000):
            got(local.remove(INO, 0))
            got(local.write(INO, 0, 0, number.to_bytes(8, "big")))
            generation = number
    finally:
        stop.set()
        for reader in readers:
            reader.join()
    assert wrong == []


def test_an_evicted_descriptor_is_not_closed_under_a_slow_call(local: LocalObjectStore) -> None:
    data = random.Random(1).randbytes(4 << 20)
    slow = [local.write(INO, index, 0, data) for index in range(4)]
    for index in range(2 * OPEN_OBJECTS):
        got(local.write(INO + 1, index, 0, b"x"))
    for write in slow:
        got(write)
    for index in range(4):
        assert got(local.read(INO, index, 0, len(data))) == data
    for index in range(2 * OPEN_OBJECTS):
        assert got(local.read(INO + 1, index, 0, 10)) == b"x"


def test_what_another_process_has_made_anew_is_the_object_from_then_on(local: LocalObjectStore, tmp_path: Path) -> None:
    local.write(7, 0, 0, b"old").result()
    assert local.read(7, 0, 0, 3).result() == b"old"
    (path,) = [found for found in tmp_path.rglob("*") if found.is_file() and found.read_bytes() == b"old"]
    path.unlink()
    path.write_bytes(b"new")
    assert local.read(7, 0, 0, 3).result() == b"new"
    local.write(7, 0, 0, b"own").result()
    assert path.read_bytes() == b"own"
    path.unlink()
    assert local.read(7, 0, 0, 3).result() is MISSING


def test_what_another_process_has_removed_takes_up_no_space(local: LocalObjectStore, tmp_path: Path) -> None:
    got(local.write(INO, 0, 0, b"squid" * 10_000))
    (path,) = (found for found in tmp_path.rglob("*.00000000"))
    path.unlink()
    local.usage()
    assert not [fd for fd in os.listdir("/proc/self/fd") if path.name in _target(fd)]


def _target(fd: str) -> str:
    try:
        return os.readlink(f"/proc/self/fd/{fd}")
    except FileNotFoundError:
        return ""


def test_aliens_in_the_folder_are_ignored(local: LocalObjectStore, tmp_path: Path) -> None:
    (tmp_path / "objects" / "00" / "lost+found").mkdir()
    (tmp_path / "objects" / "00" / "README").touch()
    assert list(local.list()) == []


def test_a_local_store_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(StoreMissingError, match="no folder"):
        open_object_store((tmp_path / "nothing").as_uri(), create=False)
    with pytest.raises(StoreMissingError, match="holds no object store"):
        open_object_store(tmp_path.as_uri(), create=False)
    (tmp_path / "file").touch()
    with pytest.raises(StoreMissingError, match="no folder"):
        open_object_store((tmp_path / "file").as_uri(), create=False)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MiB."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small disk needs root")
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "loligo-test", disk], check=True)
    yield disk
    subprocess.run(["umount", disk], check=True)


@pytest.mark.parametrize("chunk", [4096, 1 << 20])
def test_a_full_disk_says_so_and_recovers(small_disk: Path, chunk: int) -> None:
    store = LocalObjectStore(os.fsencode(small_disk / "objects"), create=True)
    try:
        error = None
        for number in range(2048):
            error = store.write(INO, number, 0, bytes(chunk)).exception(LIMIT_S)
            if error is not None:
                break
        assert isinstance(error, OSError)
        assert error.errno == errno.ENOSPC
        assert store.usage()[1] < chunk
        for ino, index, _ in list(store.list()):
            got(store.remove(ino, index))
        got(store.write(INO, 0, 0, bytes(chunk)))
        assert got(store.read(INO, 0, 0, chunk)) == bytes(chunk)
    finally:
        store.close()


# -- the RADOS adapter ---------------------------------------------------------------------------


@pytest.mark.ceph
def test_namespaces_are_apart(ceph_cluster: LoopbackCeph, pool: str) -> None:
    one = open_object_store(f"rados://{pool}/apart-1?conf={ceph_cluster.conf}", create=True)
    other = open_object_store(f"rados://{pool}/apart-2?conf={ceph_cluster.conf}", create=True)
    try:
        got(one.write(INO, 0, 0, b"squid"))
        assert got(other.read(INO, 0, 0, 10)) is MISSING
        assert list(other.list()) == []
        got(one.remove(INO, 0))
    finally:
        one.close()
        other.close()


@pytest.mark.ceph
def test_a_missing_pool_says_how_to_make_it(ceph_cluster: LoopbackCeph) -> None:
    with pytest.raises(StoreMissingError, match="ceph osd pool create no-such-pool"):
        open_object_store(f"rados://no-such-pool?conf={ceph_cluster.conf}", create=True)


@pytest.mark.ceph
def test_a_client_without_a_key(ceph_cluster: LoopbackCeph, pool: str) -> None:
    url = f"rados://{pool}?conf={ceph_cluster.conf}&name=client.nobody"
    with pytest.raises(StoreUnreachableError, match=r"client\.nobody"):
        open_object_store(url, create=True)


def test_a_missing_ceph_conf(tmp_path: Path) -> None:
    with pytest.raises(StoreMissingError, match="no Ceph configuration"):
        open_object_store(f"rados://pool?conf={tmp_path}/ceph.conf", create=True)


@pytest.mark.ceph
def test_a_cluster_that_is_away_is_named_in_bounded_time(ceph_cluster: LoopbackCeph, tmp_path: Path) -> None:
    conf = tmp_path / "ceph.conf"
    port = free_port()
    conf.write_text(
        f"[global]\nmon host = v1:127.0.0.1:{port}\nkeyring = {ceph_cluster.directory}/keyring\n"
        "client_mount_timeout = 1\nlog to stderr = false\n"
    )
    begin = time.monotonic()
    with pytest.raises(StoreUnreachableError, match=f"127.0.0.1:{port}.*does not answer"):
        open_object_store(f"rados://pool?conf={conf}", create=True)
    assert time.monotonic() - begin < 10


@pytest.mark.ceph
def test_a_full_pool_says_so_and_recovers(ceph_cluster: LoopbackCeph) -> None:
    """Full by a quota: the one fullness that can be had without filling disks."""
    ceph_cluster.create_pool("small")
    store = open_object_store(f"rados://small?conf={ceph_cluster.conf}", create=True)
    try:
        got(store.write(INO, 0, 0, b"before"))
        _set_quota(ceph_cluster, "small", 10)
        error = _first_failure(store)
        assert error.errno == errno.EDQUOT
        assert got(store.read(INO, 0, 0, 10)) == b"before"
        got(store.remove(INO, 0))
        _set_quota(ceph_cluster, "small", 0)
        _until_it_works(store)
    finally:
        store.close()
        ceph_cluster.delete_pool("small")


def _set_quota(cluster: LoopbackCeph, pool: str, objects: int) -> None:
    cluster.command("osd pool set-quota", pool=pool, field="max_objects", val=str(objects))


def _first_failure(store: ObjectStore) -> OSError:
    """The error of the first write that fails: the news takes a moment to reach the OSDs."""
    deadline = time.monotonic() + LIMIT_S
    for index in itertools.count(1):
        assert time.monotonic() < deadline, "no write failed"
        error = store.write(INO, index, 0, bytes(4096)).exception(LIMIT_S)
        if error is not None:
            assert isinstance(error, OSError)
            return error
    raise AssertionError  # not reached: the loop has no end


def _until_it_works(store: ObjectStore) -> None:
    deadline = time.monotonic() + LIMIT_S
    while store.write(INO, 0, 0, b"x").exception(LIMIT_S) is not None:
        assert time.monotonic() < deadline, "writes go on failing"


@pytest.mark.ceph
def test_silent_osds_end_in_a_timeout_and_their_return_in_success(
    ceph_cluster: LoopbackCeph, pool: str, tmp_path: Path
) -> None:
    conf = tmp_path / "ceph.conf"
    conf.write_text(ceph_cluster.conf.read_text() + "[client]\nrados osd op timeout = 2\n")
    store = open_object_store(f"rados://{pool}/silent?conf={conf}", create=True)
    try:
        got(store.write(INO, 0, 0, b"before"))
        with ceph_cluster.silent_osds():
            begin = time.monotonic()
            answers = [store.write(INO, index, 0, b"x") for index in range(300)]
            answers.append(store.read(INO, 0, 0, 10))  # type: ignore[arg-type]
            errors = [answer.exception(LIMIT_S) for answer in answers]
            assert {getattr(error, "errno", None) for error in errors} == {errno.ETIMEDOUT}
            assert time.monotonic() - begin < 2 * LIMIT_S / 3
        _until_it_works(store)
    finally:
        for ino, index, _ in list(store.list()):
            got(store.remove(ino, index))
        store.close()


def test_a_store_has_one_owner(url: str) -> None:
    store = open_object_store(url, create=True)
    try:
        assert store.owner() is None
        store.claim("one")
        store.claim("one")
        assert store.owner() == "one"
        with pytest.raises(StoreTakenError, match="volume one"):
            store.claim("other")
        assert store.owner() == "one"
        assert list(store.list()) == []
    finally:
        store.close()
