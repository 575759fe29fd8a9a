"""An object store whose every step is the test's to decide: in which order calls end, how, and what a crash keeps.

A call that would wait is a `Call` in `pending` until the test runs it (`run`), in any order, with success or an errno. With
`at_once` the store answers changes on the spot, as the local store does with small ones.

It also watches its user. What breaks a rule of `loligo_runtime.object_store` is noted in `violations`: two changes of one
object at a time (rule 3), data that changes while it is written (rule 4), empty ranges (rule 7).
"""

import contextlib
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from errno import EIO, errorcode
from random import Random
from typing import Any

from loligo_runtime.object_store import MISSING, BytesLike, Missing, ObjectKey, completed, failed, remove_one_by_one

Objects = dict[ObjectKey, bytes]

_WHOLE = range(1 << 62)


class Call:
    """One call that has not ended. It changes `span` of `key`, if any."""

    def __init__(self, kind: str, key: ObjectKey | None, span: range, work: Callable[[], Any]) -> None:
        self.kind = kind
        self.key = key
        self.span = span
        self.work = work
        self.future: Future[Any] = Future()

    def __repr__(self) -> str:
        return f"{self.kind} {self.key}"

    def collides(self, key: ObjectKey | None, span: range) -> bool:
        return key is not None and key == self.key and span.start < self.span.stop and self.span.start < span.stop


class ScriptedObjects:
    """See `loligo_runtime.object_store.ObjectStore` for the methods that are not explained here."""

    def __init__(self, *, at_once: bool = False) -> None:
        self.at_once = at_once
        #: What survives the death of the process, and what survives a power loss.
        self.objects: Objects = {}
        self.durable: Objects = {}
        #: How often an object was changed, and how much of that is durable.
        self._versions: dict[ObjectKey, int] = {}
        self._durable_versions: dict[ObjectKey, int] = {}
        self.pending: list[Call] = []
        #: Asked before every call: the errno to fail with, or 0.
        self.fault: Callable[[str], int] = lambda kind: 0
        self.violations: list[str] = []
        self.free_bytes = 1 << 40
        self._owner: str | None = None
        #: Guards all of it; notified whenever a call comes in.
        self.changed = threading.Condition()

    # -- the test's side ------------------------------------------------------------------------------------------

    def run(self, index: int = 0, errno: int = 0) -> None:
        """Let the pending call `index` end: well, or with `errno`."""
        with self.changed:
            call = self.pending.pop(index)
        if errno:
            call.future.set_exception(OSError(errno, f"scripted {errorcode[errno]}"))
            return
        try:
            result = call.work()
        except OSError as error:
            call.future.set_exception(error)
        else:
            call.future.set_result(result)

    def run_all(self) -> None:
        while self.pending:
            self.run()

    def wait_for(
        self,
        done: Callable[[], bool],
        choose: Random | None = None,
        deadline_s: float = 5.0,
        stop_at: tuple[str, ...] = (),
    ) -> None:
        """Let calls end, in an order of `choose`'s or as they came, until `done()`; but not those of the kinds `stop_at`."""
        while not done():
            with self.changed:
                free = [index for index, call in enumerate(self.pending) if call.kind not in stop_at]
                if not free:
                    if done():
                        return
                    if not self.changed.wait(min(deadline_s, 0.02)):
                        deadline_s -= 0.02
                        if deadline_s <= 0:
                            raise AssertionError("nothing is pending, and what the test waits for has not come")
                    continue
            self.run(choose.choice(free) if choose else free[0])

    def crash(self, choose: Random, *, power: bool) -> "ScriptedObjects":
        """The store as the next process finds it. Calls that had not ended took effect, or not, or partly."""
        with self.changed:
            calls, self.pending = self.pending, []
            choose.shuffle(calls)
            for call in calls:
                if choose.random() < 0.5 and call.key is not None:
                    with contextlib.suppress(OSError):
                        call.work()
            after = ScriptedObjects(at_once=self.at_once)
            if power:
                for key in sorted(self.objects.keys() | self.durable.keys()):
                    source = self.objects if choose.random() < 0.5 else self.durable
                    if key in source:
                        after.objects[key] = source[key]
            else:
                after.objects = dict(self.objects)
            after.durable = dict(after.objects)
        for call in calls:  # whoever waits for one in what is left of the process would wait for ever
            call.future.set_exception(OSError(EIO, "the process is dead"))
        return after

    def _violated(self, what: str) -> None:
        self.violations.append(what)

    def also(self, kind: str, work: Callable[[], Any]) -> None:
        """A call of something else than the store that ends among those of the store, in an order of the test's."""
        with self.changed:
            self.pending.append(Call(kind, None, _WHOLE, work))
            self.changed.notify_all()

    # -- the store's side -------------------------------------------------------------------------------------------

    def _call(self, kind: str, key: ObjectKey | None, span: range, work: Callable[[], Any]) -> Future[Any]:
        with self.changed:
            for call in self.pending:
                if call.collides(key, span):
                    self._violated(f"{kind} {key} while {call} is under way")
            errno = self.fault(kind)
            error = OSError(errno, f"scripted {errorcode[errno]}") if errno else None
            if self.at_once and key is not None:
                return failed(error) if error else completed(work())

            def broken() -> None:
                raise OSError(errno, f"scripted {errorcode[errno]}")

            call = Call(kind, key, span, broken if error else work)
            self.pending.append(call)
            self.changed.notify_all()
            return call.future

    def _change(
        self, kind: str, key: ObjectKey, change: Callable[[bytearray | None], bytes | None], span: range = _WHOLE
    ) -> Future[None]:
        def work() -> None:
            known = self.objects.get(key)
            changed = change(bytearray(known) if known is not None else None)
            self._versions[key] = self._versions.get(key, 0) + 1
            if changed is None:
                self.objects.pop(key, None)
            else:
                self.objects[key] = changed

        return self._call(kind, key, span, work)

    def read_now(self, ino: int, index: int, offset: int, length: int) -> bytes | Missing | None:
        self._check_range(length)
        if not self.at_once or self.fault("read"):
            return None
        return self._peek(ino, index, offset, length)

    def _peek(self, ino: int, index: int, offset: int, length: int) -> bytes | Missing:
        known = self.objects.get((ino, index))
        return MISSING if known is None else known[offset : offset + length]

    def _check_range(self, length: int) -> None:
        if length < 1:
            self._violated(f"a range of {length} bytes")

    def read(self, ino: int, index: int, offset: int, length: int) -> Future[bytes | Missing]:
        self._check_range(length)
        return self._call("read", None, _WHOLE, lambda: self._peek(ino, index, offset, length))

    def write(self, ino: int, index: int, offset: int, data: BytesLike) -> Future[None]:
        self._check_range(len(data))
        given = bytes(data)

        def change(known: bytearray | None) -> bytes:
            if bytes(data) != given:
                self._violated(f"data of {ino}.{index} changed while it was written")
            known = known or bytearray()
            known.extend(bytes(max(0, offset - len(known))))
            known[offset : offset + len(given)] = given
            return bytes(known)

        return self._change("write", (ino, index), change, range(offset, offset + len(given)))

    def truncate(self, ino: int, index: int, length: int) -> Future[None]:
        def change(known: bytearray | None) -> bytes | None:
            return None if known is None else bytes(known[:length].ljust(length, b"\0"))

        return self._change("truncate", (ino, index), change)

    def zero(self, ino: int, index: int, offset: int, length: int) -> Future[None]:
        self._check_range(length)

        def change(known: bytearray | None) -> bytes | None:
            if known is not None:
                end = min(len(known), offset + length)
                if offset < end:
                    known[offset:end] = bytes(end - offset)
            return None if known is None else bytes(known)

        return self._change("zero", (ino, index), change)

    def remove(self, ino: int, index: int) -> Future[None]:
        return self._change("remove", (ino, index), lambda known: None)

    def remove_many(self, objects: Iterable[ObjectKey]) -> dict[int, OSError]:
        return remove_one_by_one(self, objects)

    def size(self, ino: int, index: int) -> Future[int | None]:
        known = self.objects.get((ino, index))
        return completed(None if known is None else len(known))

    def sync(self, objects: Iterable[ObjectKey]) -> Future[None]:
        return self._sync("sync", list(objects))

    def sync_all(self) -> Future[None]:
        return self._sync("sync_all", sorted(self.objects.keys() | self.durable.keys()))

    def _sync(self, kind: str, keys: list[ObjectKey]) -> Future[None]:
        """It keeps what is done now; what ends later may have come too late."""
        now = [(key, self.objects.get(key), self._versions.get(key, 0)) for key in keys]

        def work() -> None:
            for key, data, version in now:
                if version >= self._durable_versions.get(key, 0):
                    self._durable_versions[key] = version
                    if data is None:
                        self.durable.pop(key, None)
                    else:
                        self.durable[key] = data

        return self._call(kind, None, _WHOLE, work)

    def owner(self) -> str | None:
        return self._owner

    def claim(self, owner: str) -> None:
        self._owner = owner

    def list(self) -> Iterator[tuple[int, int, int]]:
        for (ino, index), data in sorted(self.objects.items()):
            yield ino, index, len(data)

    def usage(self) -> tuple[int, int]:
        return 1 << 40, self.free_bytes

    def addresses(self) -> tuple[str, ...]:
        return ()

    def shut_out(self, addresses: Iterable[str]) -> None:
        pass

    def close(self) -> None:
        with self.changed:
            assert not self.pending
