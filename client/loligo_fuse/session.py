"""The loop that serves a mount: reads requests, calls operations, writes replies; notifications.

Rules:

- One thread runs `run`. It answers each request before it reads the next one, unless the operation returned
  a future; that reply is written by whichever thread completes the future.
- Every request that wants a reply gets exactly one: a result, an error, or EINTR when the thread that waits for
  it is killed while its future is pending; the last only if the request changes nothing (see `operations`). Whether more
  than that can be let go is for the operations to say (`Operations.interrupted`).
  Whoever takes the request out of `_pending` replies, both under `_lock`, so that after `run` has returned nothing
  is written to the descriptor any more.
- Notifications may block until operations that hold the same directory or page are answered. So they are never
  sent from an operation nor under a lock that an operation takes. `notify_inval_attributes` alone waits for nothing.
- The caller owns the descriptor and closes it after `run`.

The request buffer is made once and reused; operations see views of it only during their call.
"""

import errno
import logging
import os
import select
import signal
import struct
import time
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from threading import Lock
from typing import Any, Final

from loligo_fuse.dispatch import NO_REPLY, Row, build_rows
from loligo_fuse.operations import Operations
from loligo_fuse.protocol.constants import MINOR_MAX, PAGE_BYTES, Opcode
from loligo_fuse.protocol.decode import REQUEST_HEADER, decode_u64
from loligo_fuse.protocol.encode import (
    Buffer,
    Reply,
    encode_error,
    encode_inval_entry,
    encode_inval_inode,
    encode_store,
)
from loligo_fuse.protocol.negotiation import (
    ALL_FLAGS,
    Negotiated,
    UnsupportedKernelError,
    decode_init,
    encode_init,
    encode_init_major,
    negotiate,
)
from loligo_fuse.protocol.values import Context

logger = logging.getLogger(__name__)

# Read errors after which to read again: a signal, nothing there, a request taken back before it was read.
_READ_AGAIN: Final = frozenset({errno.EINTR, errno.EAGAIN, errno.ENOENT})
_GONE: Final = frozenset({errno.ENODEV, errno.ECONNABORTED})
_NO_REPLY_OPCODES: Final = frozenset({Opcode.FORGET, Opcode.BATCH_FORGET, Opcode.INTERRUPT, Opcode.NOTIFY_REPLY})
#: Measured with two cores: a getattr takes 50 µs without, 35 with 10 µs, 20 with 50 and no less with more.
SPIN_NS: Final = 60_000
_ERRNO_MAX: Final = 511  # the kernel takes no larger one
_INTERRUPTED_POLL_MS: Final = 100
_UNTIL_DONE: Final = -1  # stands for the thread that waits for a change
_SIGNAL_MASKS: Final = (b"SigPnd", b"ShdPnd", b"SigBlk", b"SigIgn", b"SigCgt")
_HARMLESS_SIGNALS: Final = sum(  # by default they stop or continue a process, or do nothing
    1 << number - 1
    for number in (
        signal.SIGCHLD,
        signal.SIGCONT,
        signal.SIGSTOP,
        signal.SIGTSTP,
        signal.SIGTTIN,
        signal.SIGTTOU,
        signal.SIGURG,
        signal.SIGWINCH,
    )
)


@dataclass(frozen=True, slots=True)
class Config:
    """`minor_max` and `flags_allowed` (InitFlag bits) restrict what is negotiated, for tests and trouble."""

    max_write: int = 1 << 20
    max_background: int = 64
    minor_max: int = MINOR_MAX
    flags_allowed: int = ALL_FLAGS


class Session:
    """Serves one mount on descriptor `fd` with `operations`."""

    def __init__(self, fd: int, operations: Operations, config: Config | None = None) -> None:
        self._fd = fd
        self._operations = operations
        self._config = config or Config()
        self._lock = Lock()
        # Requests whose future is not done yet, by their unique id: the thread to let go when it is killed, or _UNTIL_DONE.
        self._pending: dict[int, tuple[int, Future[Any]]] = {}
        # Those of them whose waiting thread got a signal and may yet be let go. Only `run` touches it.
        self._interrupted: set[int] = set()
        self._rows: list[Row | None] = []
        # How many requests there were, by opcode.
        self._calls = [0] * (max(Opcode) + 1)
        self._stopping = False
        self._ended = False
        self._wake_fd = -1  # an eventfd while `run` runs

    def run(self) -> None:
        """Serve until unmounted or stopped. UnsupportedKernelError if the kernel is too old."""
        # The kernel wants room for the largest write and its headers.
        buffer = bytearray(max(self._config.max_write, PAGE_BYTES) + PAGE_BYTES)
        view = memoryview(buffer)
        negotiated = self._handshake(view)
        if negotiated is None:
            return
        self._operations.init(negotiated)
        self._rows = build_rows(self._operations, negotiated)
        with self._lock:
            self._wake_fd = os.eventfd(int(self._stopping))
        try:
            self._serve(view)
        finally:
            with self._lock:
                self._ended = True
                os.close(self._wake_fd)
            self._operations.destroy()

    def stop(self) -> None:
        """Make `run` return soon, from any thread. The mount is dead when the descriptor is closed."""
        with self._lock:
            self._stopping = True
            if self._wake_fd >= 0 and not self._ended:
                os.eventfd_write(self._wake_fd, 1)

    @property
    def calls(self) -> dict[str, int]:
        """How many requests of which kind (the opcode's name) operations were called for, of those that there were."""
        return {Opcode(opcode).name: count for opcode, count in enumerate(self._calls) if count}

    def notify_inval_inode(self, ino: int, offset: int, length: int) -> bool:
        """Drop cached attributes, and data from `offset` (negative: none), `length` 0 is up to the end. Whether it is known."""
        return self._notify([encode_inval_inode(ino, offset, length)])

    def notify_inval_attributes(self, ino: int) -> bool:
        """Drop cached attributes. Waits for no page and no directory, so an operation may call it before it answers."""
        return self.notify_inval_inode(ino, -1, 0)

    def notify_inval_entry(self, parent: int, name: bytes) -> None:
        """Drop a cached name, present or absent, and the parent's attributes. What is mounted there, or below, goes too."""
        self._notify([encode_inval_entry(parent, name)])

    def notify_expire_entry(self, parent: int, name: bytes) -> None:
        """Have a cached name looked up again at its next use; what is mounted there stays, if it is still the same inode."""
        self._notify([encode_inval_entry(parent, name, expire=True)])

    def notify_store(self, ino: int, offset: int, data: Buffer) -> None:
        """Put data into the kernel's page cache, ahead of the read that would ask for it."""
        self._notify(encode_store(ino, offset, data))

    def _notify(self, message: list[Any]) -> bool:
        try:
            os.writev(self._fd, message)
        except OSError as error:
            # ENOENT: the kernel does not know this inode or name, so nothing is stale.
            if error.errno != errno.ENOENT and error.errno not in _GONE:
                raise
            return False
        return True

    def _read(self, view: memoryview) -> int:
        """The length of the next request; 0 when the mount is gone."""
        while True:
            try:
                return os.readv(self._fd, [view])
            except OSError as error:
                if error.errno in _GONE:
                    return 0
                if error.errno not in _READ_AGAIN:
                    raise

    def _handshake(self, view: memoryview) -> Negotiated | None:
        """INIT is the first request. None if the mount went away before it was agreed."""
        config = self._config
        while length := self._read(view):
            _, opcode, unique, *_ = REQUEST_HEADER.unpack_from(view)
            if opcode != Opcode.INIT:
                os.write(self._fd, encode_error(unique, errno.EIO))
                continue
            try:
                negotiated = negotiate(
                    decode_init(view[REQUEST_HEADER.size : length]),
                    max_write=config.max_write,
                    max_background=config.max_background,
                    locks=self._operations.locks,
                    minor_max=config.minor_max,
                    flags_allowed=config.flags_allowed,
                )
            except UnsupportedKernelError:
                os.write(self._fd, encode_error(unique, errno.EPROTO))
                raise
            if negotiated is not None:
                os.write(self._fd, encode_init(unique, negotiated))
                return negotiated
            os.write(self._fd, encode_init_major(unique))
        return None

    def _serve(self, view: memoryview) -> None:
        # Everything the loop touches is a local name: this is the hot path.
        fd = self._fd
        operations = self._operations
        rows = self._rows
        row_count = len(rows)
        calls = self._calls
        buffers = [view]
        unpack_header = REQUEST_HEADER.unpack_from
        header_bytes = REQUEST_HEADER.size
        readv, write, writev = os.readv, os.write, os.writev
        # Nothing but a request or the end of the mount wakes a thread that blocks in read, so `stop` needs the poll.
        os.set_blocking(fd, False)
        ready = select.poll()
        ready.register(fd, select.POLLIN)
        ready.register(self._wake_fd, select.POLLIN)
        poll = ready.poll
        now_ns = time.perf_counter_ns
        idle_since_ns = 0  # 0: not idle
        long_ago_ns = 1
        while not self._stopping:
            try:
                length = readv(fd, buffers)
            except BlockingIOError:
                # A sleep and its wake-up cost more than most requests do, and a busy caller is back within
                # microseconds: look again for a moment before going to sleep. (read lets other threads run.)
                if not idle_since_ns:
                    idle_since_ns = now_ns()
                elif now_ns() - idle_since_ns > SPIN_NS:
                    poll(self._look_after_interrupted())
                continue
            except OSError as error:
                if error.errno in _GONE:
                    return
                if error.errno in _READ_AGAIN:
                    continue
                raise
            idle_since_ns = 0
            _, opcode, unique, ino, uid, gid, pid, extension_words, _ = unpack_header(view)
            row = rows[opcode] if opcode < row_count else None
            if row is None:
                self._without_row(opcode, unique, view[header_bytes:length])
                continue
            calls[opcode] += 1
            ctx = Context(uid, gid, pid, unique)
            try:
                result = row.call(operations, ctx, ino, view[header_bytes : length - extension_words * 8])
                if result is NO_REPLY:
                    continue
                if isinstance(result, Future):
                    self._defer(ctx, ino, row, result)
                    # This caller is not back before somebody else has done the work, and looking would be in their way.
                    idle_since_ns = long_ago_ns
                    continue
                reply = row.encode(ctx, result)
            except Exception as error:  # noqa: BLE001  whatever it is, one caller gets EIO
                result = NO_REPLY
                reply = _failure(row, ino, unique, error)
                if opcode in _NO_REPLY_OPCODES:
                    continue
            try:
                if reply.__class__ is bytes:
                    write(fd, reply)
                else:
                    writev(fd, reply)
            except OSError as error:
                self._not_sent(error, row, unique)
                self._undo(ctx, ino, row, result)

    def _without_row(self, opcode: int, unique: int, body: memoryview) -> None:
        if opcode == Opcode.INTERRUPT:
            try:
                self._interrupt(decode_u64(body))
            except struct.error:
                logger.exception("malformed INTERRUPT")
        elif opcode not in _NO_REPLY_OPCODES:
            with suppress(OSError):
                os.write(self._fd, encode_error(unique, errno.ENOSYS))

    def _interrupt(self, unique: int) -> None:
        """The thread that waits for request `unique` got a signal.

        Only one that is about to die is let go: most programs do not expect EINTR of mkdir or stat, and the
        kernel interrupts for every signal that has a handler (SIGCHLD, SIGALRM, the Go runtime's SIGURG).
        Local file systems, NFS and CephFS behave likewise.
        """
        self._interrupted.discard(unique)
        with self._lock:
            pending = self._pending.get(unique)
            if pending is None:  # answered meanwhile
                return
            thread_id, future = pending
            if thread_id != _UNTIL_DONE and _is_dying(thread_id):
                del self._pending[unique]
                with suppress(OSError):
                    os.write(self._fd, encode_error(unique, errno.EINTR))
                return
        # Without the lock: the future may be completed at once.
        may_be_let_go = self._operations.interrupted(future)
        if may_be_let_go or thread_id != _UNTIL_DONE:
            self._interrupted.add(unique)

    def _look_after_interrupted(self) -> int | None:
        """How many ms to sleep at most. The kernel tells of the first signal only, the deadly one may come later."""
        for unique in list(self._interrupted):
            self._interrupt(unique)
        return _INTERRUPTED_POLL_MS if self._interrupted else None

    def _defer(self, ctx: Context, ino: int, row: Row, future: Future[Any]) -> None:
        with self._lock:
            self._pending[ctx.unique] = (ctx.pid if row.killable and not ctx.changes else _UNTIL_DONE, future)
        future.add_done_callback(partial(self._complete, ctx, ino, row))

    def _complete(self, ctx: Context, ino: int, row: Row, future: Future[Any]) -> None:
        """Called once the future is done, on whichever thread did it."""
        result: Any = NO_REPLY
        reply: Reply
        try:
            error = future.exception()
            if error is None:
                result = future.result()
                reply = row.encode(ctx, result)
            else:
                reply = _failure(row, ino, ctx.unique, error)
        except Exception as error:  # noqa: BLE001  whatever it is, one caller gets EIO
            reply = _failure(row, ino, ctx.unique, error)
        delivered = False
        with self._lock:
            if self._ended:
                return
            if self._pending.pop(ctx.unique, None) is not None:
                try:
                    os.writev(self._fd, [reply] if isinstance(reply, bytes) else reply)
                    delivered = True
                except OSError as error:
                    self._not_sent(error, row, ctx.unique)
        if not delivered:
            self._undo(ctx, ino, row, result)

    def _not_sent(self, error: OSError, row: Row, unique: int) -> None:
        """ENOENT: the kernel gave the request up. Anything but that is a reply that it does not accept."""
        if error.errno == errno.ENOENT or error.errno in _GONE:
            return
        logger.error("the kernel refused the reply of %s", row.call.__name__, exc_info=error)
        with suppress(OSError):
            os.write(self._fd, encode_error(unique, errno.EIO))

    def _undo(self, ctx: Context, ino: int, row: Row, result: Any) -> None:
        if row.undo is None or result is NO_REPLY:
            return
        try:
            row.undo(self._operations, ctx, ino, result)
        except Exception:
            logger.exception("taking back the result of %s failed", row.call.__name__)


def _failure(row: Row, ino: int, unique: int, error: BaseException) -> bytes:
    """The reply to a request whose operation raised `error`."""
    if isinstance(error, OSError) and error.errno is not None and 0 < error.errno <= _ERRNO_MAX:
        return encode_error(unique, error.errno)
    logger.error("%s of inode %d failed", row.call.__name__, ino, exc_info=error)
    return encode_error(unique, errno.EIO)


def _is_dying(thread_id: int) -> bool:
    """Whether a deadly signal waits for a thread: one that it neither handles, ignores, nor blocks.

    True also if there is nothing to know: the thread is gone, hidden, or of another pid namespace (0).
    """
    masks = {}
    try:
        with open(f"/proc/{thread_id}/status", "rb") as status:
            for line in status:
                name, _, value = line.partition(b":")
                if name in _SIGNAL_MASKS:
                    masks[name] = int(value, 16)
    except (FileNotFoundError, ProcessLookupError):
        return True
    own, shared, blocked, ignored, caught = (masks[name] for name in _SIGNAL_MASKS)
    return (own | shared) & ~(blocked | ignored | caught | _HARMLESS_SIGNALS) != 0
