"""The mount process: opens a volume, mounts it, serves it until it is unmounted, stores what is left.

Threads: the main thread serves the kernel. `signals` waits for SIGTERM, SIGINT and SIGHUP, which every other thread has
blocked: unmounting from a signal handler would stand in the way of the thread that must answer the kernel meanwhile.
`prover` asks the mount once whether it works. `notifier` tells the kernel what to forget: such a message may wait for an
operation, so it is never sent from one (but for attributes alone, which waits for nothing).

The end, in order: unmounted (by anybody), the kernel's descriptor closed, the volume stored and closed, the note removed.
SIGTERM and SIGINT unmount. If the mount is busy it is taken out of the tree, and those who still use it have
`GRACE_S`; after that, or at a second signal, they get errors. Whatever was written until then is stored.
"""

import logging
import os
import queue
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Protocol

from loligo_client.shell import mount_state
from loligo_client.shell.embedded import EmbeddedVolume
from loligo_client.shell.filesystem import FileSystem
from loligo_client.shell.mount_options import MountOptions
from loligo_client.shell.recalls import KernelCaches
from loligo_client.shell.server_source import ServerSource
from loligo_client.shell.statistics import Metric
from loligo_fuse import MINOR_MAX, Config, MountError, Session, mount, set_read_ahead, unmount
from loligo_runtime.heap import bound_heap
from loligo_runtime.volume import Volume

if TYPE_CHECKING:
    from loligo_client.shell.remote import RemoteVolume

log = logging.getLogger(__name__)

SUBTYPE = "loligo"
READ_AHEAD_KB = 4096
GRACE_S = 10.0
_SIGNALS = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGHUP})
#: Exit code of a process that was told to end before it had mounted anything.
_STOPPED_EARLY = 1


@dataclass(frozen=True, slots=True)
class MountPlan:
    """`volume`: whose shard this process runs, or where the server of it is. `source` is what the user called it: the
    kernel's table shows that, and mount(8) compares it.
    """

    volume: Volume | ServerSource
    source: str
    directory: str
    options: MountOptions
    log: str


class Transport(KernelCaches, Protocol):
    """The session of either transport: the same methods, so what carries the file system is a choice at mount."""

    @property
    def calls(self) -> Mapping[str, int]: ...

    def run(self) -> None: ...

    def stop(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Served:
    """A mount and its session. `forget_inode`: the kernel must drop what it has cached of an inode; may block."""

    fd: int
    transport: Transport
    forget_inode: Callable[[int], None]


def serve(plan: MountPlan, on_ready: Callable[[], None]) -> None:
    """Mount and serve; returns when everything is stored. `on_ready` is called, from another thread, when it works.

    MountError, ServerError, VolumeError, StoreError, ObjectStoreError, UnsupportedKernelError, OSError: why it does not.
    """
    if len(os.listdir("/proc/self/task")) > 1:
        raise RuntimeError("this process has threads that take signals")
    bound_heap()
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    ending = _Ending(plan.directory)
    threading.Thread(target=ending.wait_for_signals, name="signals", daemon=True).start()
    notifier = _Notifier()
    volume = _open(plan, notifier)
    note = None
    try:
        served = _mount(plan, volume.file_system)
        try:
            ending.mounted(served.transport)
            volume.file_system.drop_pages = notifier.drop
            volume.file_system.forget_name = notifier.forget_name
            volume.file_system.statistics.labels = {"mount": plan.directory}
            volume.file_system.statistics.add(partial(_upcalls, served.transport))
            if not isinstance(volume, EmbeddedVolume):
                volume.recalls.start(served.transport)
            notifier.start(served.transport)
            note = _write_note(plan, volume)
            if note is not None:
                volume.file_system.has_mounts = partial(_has_mounts, note.device)
            prover = _Prover(plan.directory, served.transport, on_ready)
            threading.Thread(target=prover.prove, name="prover", daemon=True).start()
            served.transport.run()
        finally:
            ending.served()
            notifier.stop()
            if not isinstance(volume, EmbeddedVolume):
                volume.recalls.stop()
            os.close(served.fd)  # who still uses the mount gets errors from now on
            _leave_tree(plan.directory, note)
        log.info("unmounted; storing what is left")
        if prover.failure:
            raise MountError(prover.failure)
    finally:
        try:
            volume.close()
        except OSError as error:
            if note is not None:
                mount_state.note_failure(note, f"not everything could be stored: {error}")
            raise
        if note is not None:
            mount_state.remove_note(note)
    log.info("%s is stored", volume.volume.name)


def _open(plan: MountPlan, notifier: "_Notifier") -> "EmbeddedVolume | RemoteVolume":
    options = plan.options
    if isinstance(plan.volume, Volume):
        return EmbeddedVolume(plan.volume, update_atime=options.update_atime, on_lost=notifier.forget)
    from loligo_client.shell.remote import RemoteVolume  # embedded volumes need no wire format

    return RemoteVolume(
        plan.volume,
        options.server,
        mounted_on=plan.directory,
        read_only=options.read_only,
        update_atime=options.update_atime,
        on_lost=notifier.forget,
    )


def _mount(plan: MountPlan, file_system: FileSystem) -> Served:
    native = plan.options.transport == "native"
    options = list(plan.options.kernel)
    if not native:
        # Before anything is mounted: trio and pyfuse3 take a while to import, and may be missing.
        from loligo_client.shell.fuse_pyfuse3 import Pyfuse3Session

        if os.geteuid() == 0:
            options.append("acl")  # libfuse cannot ask for what this stands for; see fuse_pyfuse3
    fd = mount(plan.directory, fsname=plan.source, subtype=SUBTYPE, options=options)
    if native:
        session = Session(fd, file_system, Config(minor_max=plan.options.minor_max or MINOR_MAX))
        file_system.forget_attributes = session.notify_inval_attributes
        file_system.forget_listing = partial(_forget_inode, session)
        return Served(fd, session, partial(_forget_inode, session))
    other = Pyfuse3Session(fd, file_system)
    file_system.forget_attributes = other.notify_inval_attributes
    return Served(fd, other, partial(_forget_inode, other))


def _upcalls(transport: Transport) -> Iterator[Metric]:
    yield Metric("upcalls", "Requests of the kernel, by operation.", transport.calls, counts=True, label="op")


def _forget_inode(kernel: KernelCaches, ino: int) -> None:
    kernel.notify_inval_inode(ino, 0, 0)


def _has_mounts(device: str, path: bytes, pid: int) -> bool:
    return mount_state.has_mounts(device, path, f"/proc/{pid}/mountinfo")


def _write_note(plan: MountPlan, opened: "EmbeddedVolume | RemoteVolume") -> mount_state.Note | None:
    mounted = mount_state.find_mount(plan.directory)
    if mounted is None:
        return None  # unmounted already
    volume = opened.volume
    note = mount_state.write_note(
        mounted,
        volume=volume.name,
        meta_url=volume.meta_url,
        data_url=volume.data_url,
        transport=plan.options.transport,
        log=plan.log,
    )
    if not isinstance(opened, EmbeddedVolume):
        opened.on_server = partial(mount_state.note_server, note)
    return note


def _leave_tree(directory: str, note: mount_state.Note | None) -> None:
    """Serving may have ended for another reason than an unmount: leave no dead mount behind."""
    mounted = mount_state.find_mount(directory)
    if mounted is not None and (note is None or mounted.device == note.device):
        try:
            unmount(directory, lazy=True)
        except MountError as error:
            log.warning("%s", error)


class _Prover:
    """Asks the mount once, as an application would, and reports that it works."""

    def __init__(self, directory: str, transport: Transport, on_ready: Callable[[], None]) -> None:
        self._directory = directory
        self._transport = transport
        self._on_ready = on_ready
        self.failure = ""

    def prove(self) -> None:
        try:
            os.statvfs(self._directory)
        except OSError as error:
            self.failure = f"the mount on {self._directory} does not answer: {error.strerror}"
            self._transport.stop()
            return
        try:
            if os.geteuid() == 0:
                set_read_ahead(self._directory, READ_AHEAD_KB)
        except OSError as error:  # without /sys, or where it is read-only
            log.warning("large reads will be slower: %s", error)
        log.info("mounted on %s", self._directory)
        self._on_ready()


class _Notifier:
    """Tells the kernel to forget what it has cached of inodes, whose bytes were lost or are others by now, and of names that
    went without its doing.
    """

    def __init__(self) -> None:
        self._lost: queue.SimpleQueue[tuple[int, bytes, Future[None]] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def forget(self, ino: int) -> None:
        self.drop(ino)

    def drop(self, ino: int) -> Future[None]:
        """As `forget`; done when the kernel has done so, or cannot."""
        return self.forget_name(ino, b"")

    def forget_name(self, directory: int, name: bytes) -> Future[None]:
        """Done when the kernel has no such name any more, or cannot be told. That may wait for what is under way there."""
        done: Future[None] = Future()
        self._lost.put((directory, name, done))
        return done

    def start(self, kernel: KernelCaches) -> None:
        self._thread = threading.Thread(target=self._run, args=(kernel,), name="notifier", daemon=True)
        self._thread.start()

    def _run(self, kernel: KernelCaches) -> None:
        while (lost := self._lost.get()) is not None:
            ino, name, done = lost
            try:
                if name:
                    kernel.notify_inval_entry(ino, name)
                else:
                    _forget_inode(kernel, ino)
            except OSError as error:
                log.warning("the kernel may go on showing old bytes, or names, of inode %d: %s", ino, error)
            finally:
                done.set_result(None)

    def stop(self) -> None:
        self._lost.put(None)
        if self._thread is not None:
            self._thread.join(1.0)


class _Ending:
    """Ends the mount when the process is told to."""

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._lock = threading.Lock()
        self._transport: Transport | None = None
        self._served = threading.Event()
        self._told = False

    def mounted(self, transport: Transport) -> None:
        with self._lock:
            self._transport = transport

    def served(self) -> None:
        self._served.set()

    def wait_for_signals(self) -> None:
        while True:
            name = signal.Signals(signal.sigwait(_SIGNALS)).name
            if self._served.is_set():
                log.info("%s: what was written is still being stored", name)
                continue
            with self._lock:
                transport = self._transport
                if transport is None:
                    # Recovery needs no goodbye: it starts again from the same journal.
                    log.info("%s before anything was mounted", name)
                    os._exit(_STOPPED_EARLY)
            if self._told:
                log.info("%s again: whoever still uses the mount gets errors", name)
                transport.stop()
                continue
            self._told = True
            log.info("%s: unmounting", name)
            threading.Thread(target=self._end, args=(transport,), name="ending", daemon=True).start()

    def _end(self, transport: Transport) -> None:
        try:
            unmount(self._directory)
        except MountError:
            try:
                unmount(self._directory, lazy=True)
                log.warning("%s is busy: its users have %g s", self._directory, GRACE_S)
            except MountError as error:
                log.warning("%s", error)
        if not self._served.wait(GRACE_S):
            transport.stop()
