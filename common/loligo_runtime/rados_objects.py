"""Objects in a RADOS pool: the store of cluster volumes. A namespace of the pool per volume.

Rules
1. All operations are asynchronous, but for `remove_many`. Completions come on librados' threads, take
   the GIL there, and complete the futures there.
2. At most IN_FLIGHT operations are with librados; more wait in our queue, in order, without
   blocking the caller. Those of `remove_many` come on top of them. Bytes are the caller's to bound
   (librados' own limit, on which it would block the caller, is lifted).
3. Acknowledged means durable on all OSDs that hold the object, so there is nothing to sync.
4. Nothing waits for ever. ceph.conf may set client_mount_timeout, rados_mon_op_timeout and
   rados_osd_op_timeout (seconds); TIMEOUTS holds where it leaves Ceph's defaults, which are no limit
   or five minutes. An operation that ran into its timeout fails with ETIMEDOUT, and may still be
   carried out later.
5. A full cluster or pool answers ENOSPC (or EDQUOT for a quota) instead of waiting until it is not.
6. Connect after forking: librados' threads do not survive a fork.

What it does not do: it makes no pools (their placement is the administrator's choice), and gives no
hints about devices (placement is by pool).
"""

import contextlib
import errno
import json
import os
import re
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from itertools import islice
from typing import Any

import rados

from loligo_runtime.object_store import (
    DONE,
    MISSING,
    OWNER_NAME,
    REMOVALS_IN_FLIGHT,
    BytesLike,
    Missing,
    ObjectKey,
    ShutOutError,
    StoreMissingError,
    StoreUnreachableError,
    object_name,
    parse_object_name,
    taken,
)

IN_FLIGHT = 128
# Option: (Ceph's default, ours)
TIMEOUTS = {
    "client_mount_timeout": (300.0, "10"),
    "rados_mon_op_timeout": (0.0, "30"),
    "rados_osd_op_timeout": (0.0, "60"),
}
#: A client may have been frozen for long, with writes on their way; Ceph forgets after an hour if not told otherwise.
SHUT_OUT_S = 7 * 86400.0
#: Ceph's EBLOCKLISTED
BLOCKLISTED = errno.ESHUTDOWN
# host:port/nonce, the host of version 6 in brackets
_ADDRESS = re.compile(r"(?:[0-9.]+|\[[0-9A-Fa-f:.%]+\]):\d+/\d+")
NO_BYTE_LIMIT = {"objecter_inflight_op_bytes": str(4 << 30)}


class _Operation:
    """One operation: how to begin it, and its future's result from return code and data."""

    __slots__ = ("answer", "arguments", "begin", "future")

    def __init__(
        self,
        begin: Callable[..., object],
        arguments: tuple[object, ...],
        answer: Callable[[int, Any], object],
    ) -> None:
        self.begin = begin
        self.arguments = arguments
        self.answer = answer
        self.future: Future[Any] = Future()


class RadosObjectStore:
    """See `loligo_runtime.object_store.ObjectStore` for the methods."""

    def __init__(self, *, pool: str, namespace: str, conf: str, name: str) -> None:
        """Connect. StoreMissingError or StoreUnreachableError say what is wrong and what to do."""
        self._cluster = connect(conf, name)
        try:
            self._pool = self._cluster.open_ioctx(pool)
        except rados.ObjectNotFound:
            self._cluster.shutdown()
            raise StoreMissingError(
                f"the cluster of {conf} has no pool {pool!r}; make it with: "
                f"ceph osd pool create {pool} && ceph osd pool application enable {pool} loligo"
            ) from None
        except rados.Error as error:
            self._cluster.shutdown()
            raise StoreUnreachableError(f"pool {pool!r} cannot be opened: {error}") from None
        self._pool_name = pool
        self._namespace = namespace
        self._user = name
        self._pool.set_namespace(namespace)
        self._pool.set_osdmap_full_try()
        self._idle = threading.Condition()
        self._in_flight = 0
        self._waiting: deque[_Operation] = deque()

    # -- reading ---------------------------------------------------------------------------------

    def read_now(self, ino: int, index: int, offset: int, length: int) -> bytes | Missing | None:
        return None

    def read(self, ino: int, index: int, offset: int, length: int) -> Future[bytes | Missing]:
        name = object_name(ino, index)
        return self._submit(_Operation(self._pool.aio_read, (name, length, offset), _answer_to_read))

    def size(self, ino: int, index: int) -> Future[int | None]:
        name = object_name(ino, index)
        return self._submit(_Operation(self._pool.aio_stat, (name,), _answer_to_size))

    # -- changing --------------------------------------------------------------------------------

    def write(self, ino: int, index: int, offset: int, data: BytesLike) -> Future[None]:
        name = object_name(ino, index)
        whole = data if type(data) is bytes else bytes(data)  # the binding takes nothing else
        return self._submit(_Operation(self._pool.aio_write, (name, whole, offset), _answer_to_change))

    def truncate(self, ino: int, index: int, length: int) -> Future[None]:
        name = object_name(ino, index)

        def begin(oncomplete: Callable[..., None]) -> None:
            with rados.WriteOpCtx() as change:
                change.truncate(length)
                self._pool.operate_aio_write_op(change, name, oncomplete)

        return self._submit(_Operation(begin, (), _answer_to_change))

    def zero(self, ino: int, index: int, offset: int, length: int) -> Future[None]:
        # Not WriteOp.zero: the binding of Ceph 16 to 19 swaps its two arguments, later ones do not
        # (https://tracker.ceph.com/issues/67471), and a zero of length 0 kills an OSD of Ceph 16.
        # Truncating needs no zeros; a hole in the middle is rare, so that sending them is good
        # enough.
        result: Future[None] = Future()

        def on_size(answer: Future[int | None]) -> None:
            error = answer.exception()
            size = 0 if error else answer.result() or 0
            if error is not None:
                result.set_exception(error)
            elif offset >= size:
                result.set_result(None)
            elif offset + length >= size:
                self.truncate(ino, index, offset).add_done_callback(on_change)
            else:
                self.write(ino, index, offset, bytes(length)).add_done_callback(on_change)

        def on_change(answer: Future[None]) -> None:
            error = answer.exception()
            if error is None:
                result.set_result(None)
            else:
                result.set_exception(error)

        self.size(ino, index).add_done_callback(on_size)
        return result

    def remove(self, ino: int, index: int) -> Future[None]:
        name = object_name(ino, index)
        return self._submit(_Operation(self._pool.aio_remove, (name,), _answer_to_change))

    def remove_many(self, objects: Iterable[ObjectKey]) -> dict[int, OSError]:
        # With futures, completed on librados' threads, each would take three times as much of the processor.
        under_way: deque[tuple[int, rados.Completion]] = deque()
        errors: dict[int, OSError] = {}

        def finish_one() -> None:
            ino, completion = under_way.popleft()
            completion.wait_for_complete()
            try:
                _answer_to_change(completion.get_return_value(), None)
            except OSError as error:
                errors[ino] = error

        for ino, index in objects:
            if ino in errors:
                continue
            if len(under_way) >= REMOVALS_IN_FLIGHT:
                finish_one()
            try:
                under_way.append((ino, self._pool.aio_remove(object_name(ino, index))))
            except rados.Error as error:
                errors[ino] = _error(error.errno or errno.EIO)
        while under_way:
            finish_one()
        return errors

    def sync(self, objects: Iterable[ObjectKey]) -> Future[None]:
        return DONE

    def sync_all(self) -> Future[None]:
        return DONE

    # -- the whole -------------------------------------------------------------------------------

    def owner(self) -> str | None:
        try:
            return str(self._pool.read(OWNER_NAME, 256).decode().strip())
        except rados.ObjectNotFound:
            return None
        except rados.Error as error:
            raise self._unreachable(error) from None

    def _unreachable(self, error: rados.Error) -> StoreUnreachableError:
        if isinstance(error, rados.PermissionError):
            return StoreUnreachableError(
                f"{self._user} may not use namespace {self._namespace!r} of pool {self._pool_name!r}: name a user who may"
                " (name= in the URL, ceph_name= of a mount); 'loligo volume users' makes some"
            )
        return StoreUnreachableError(
            f"pool {self._pool_name!r} does not answer ({error}): see 'ceph health detail', and try again when its OSDs are up"
        )

    def claim(self, owner: str) -> None:
        try:
            with rados.WriteOpCtx() as change, contextlib.suppress(rados.ObjectExists):
                change.new(rados.LIBRADOS_CREATE_EXCLUSIVE)
                change.write_full(owner.encode() + b"\n")
                self._pool.operate_write_op(change, OWNER_NAME)
        except rados.Error as error:
            raise self._unreachable(error) from None
        if self.owner() != owner:
            raise taken(self.owner())

    def list(self) -> Iterator[tuple[int, int, int]]:
        keys = (parse_object_name(found.key) for found in self._pool.list_objects())
        known = (key for key in keys if key is not None)
        while batch := [(*key, self.size(*key)) for key in islice(known, IN_FLIGHT)]:
            for ino, index, future in batch:
                size = future.result()
                if size is not None:  # else removed meanwhile
                    yield ino, index, size

    def usage(self) -> tuple[int, int]:
        request = json.dumps({"prefix": "df", "format": "json"})
        code, output, status = self._cluster.mon_command(request, b"")
        if code != 0:
            raise OSError(-code, f"no space statistics from the cluster: {status}")
        for pool in json.loads(output)["pools"]:
            if pool["name"] == self._pool_name:
                stored, free = int(pool["stats"]["stored"]), int(pool["stats"]["max_avail"])
                return stored + free, free
        raise OSError(errno.EAGAIN, f"the cluster has no space statistics of pool {self._pool_name!r} yet")

    def addresses(self) -> tuple[str, ...]:
        # One, or several of the same process: 10.0.0.1:0/77, v2:10.0.0.1:0/77, [v2:[::1]:0/77,v1:[::1]:0/77]
        return tuple(sorted(set(_ADDRESS.findall(self._cluster.get_addrs()))))

    def shut_out(self, addresses: Iterable[str]) -> None:
        for address in addresses:
            request = json.dumps(
                {"prefix": "osd blocklist", "blocklistop": "add", "addr": address, "expire": SHUT_OUT_S}
            )
            code, _, status = self._cluster.mon_command(request, b"")
            if code != 0:
                raise OSError(-code, f"client {address} cannot be shut out of the cluster: {status}")
        # An OSD that hears from us after this first gets the map that names them.
        self._cluster.wait_for_latest_osdmap()

    def close(self) -> None:
        with self._idle:
            self._idle.wait_for(lambda: self._in_flight == 0)
        self._pool.close()
        self._cluster.shutdown()

    # -- operations ------------------------------------------------------------------------------

    def _submit(self, operation: _Operation) -> Future[Any]:
        with self._idle:
            if self._in_flight >= IN_FLIGHT:
                self._waiting.append(operation)
                return operation.future
            self._in_flight += 1
        self._begin(operation)
        return operation.future

    def _begin(self, operation: _Operation) -> None:
        def oncomplete(completion: "rados.Completion", *data: object) -> None:
            self._finish(operation, completion.get_return_value(), data[0] if data else None)

        try:
            operation.begin(*operation.arguments, oncomplete)
        except rados.Error as error:
            self._finish(operation, -(error.errno or errno.EIO), None)

    def _finish(self, operation: _Operation, code: int, data: object) -> None:
        with self._idle:
            following = self._waiting.popleft() if self._waiting else None
            if following is None:
                self._in_flight -= 1
                if self._in_flight == 0:
                    self._idle.notify_all()
        if following is not None:
            self._begin(following)
        try:
            result = operation.answer(code, data)
        except OSError as error:
            operation.future.set_exception(error)
        else:
            operation.future.set_result(result)


def _answer_to_read(code: int, data: bytes) -> bytes | Missing:
    if code > 0:
        return data
    if code == 0:
        return b""  # not `data`: the binding hands out its buffer uncut when nothing was read
    if code == -errno.ENOENT:
        return MISSING
    raise _error(-code)


def _answer_to_size(code: int, size: int) -> int | None:
    if code == -errno.ENOENT:
        return None
    if code < 0:
        raise _error(-code)
    return size


def _answer_to_change(code: int, data: None) -> None:
    if code < 0 and code != -errno.ENOENT:
        raise _error(-code)


def _error(number: int) -> OSError:
    return ShutOutError() if number == BLOCKLISTED else OSError(number, os.strerror(number))


def connect(conf: str, name: str) -> "rados.Rados":
    """A connection that is bounded in time. StoreMissingError or StoreUnreachableError say why there is none."""
    if not os.path.isfile(conf):
        raise StoreMissingError(f"no Ceph configuration at {conf}; copy the cluster's ceph.conf there")
    try:
        cluster = rados.Rados(conffile=conf, name=name, conf=NO_BYTE_LIMIT)
    except rados.Error as error:
        raise StoreMissingError(f"{conf} cannot be used as a Ceph configuration: {error}") from None
    for option, (of_ceph, ours) in TIMEOUTS.items():
        if float(cluster.conf_get(option)) == of_ceph:
            cluster.conf_set(option, ours)
    monitors = cluster.conf_get("mon_host")
    try:
        cluster.connect()
    except rados.Error as error:
        if error.errno in (errno.EPERM, errno.EACCES):
            problem = f"refuses {name}; give it a key: ceph auth get-or-create {name} …"
        elif error.errno in (errno.ENOENT, errno.EOPNOTSUPP):  # without a key Ceph offers no way to prove who we are
            problem = f"cannot be asked: no key for {name} in {cluster.conf_get('keyring')}"
        else:
            limit_s = cluster.conf_get("client_mount_timeout")
            problem = (
                f"does not answer within {limit_s} s ({error}); is a monitor running, and can it be reached from here?"
            )
    else:
        return cluster
    cluster.shutdown()
    raise StoreUnreachableError(f"the Ceph cluster at {monitors} ({conf}) {problem}")
