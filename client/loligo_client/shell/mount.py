"""The mount process: opens a volume, mounts it, serves it until it is unmounted, stores what is left.

Threads: the main thread serves the kernel. `signals` waits for SIGTERM, SIGINT and SIGHUP, which every other thread has
blocked: unmounting from a signal handler would stand in the way of the thread that must answer the kernel meanwhile.
`prover` asks the mount once whether it works. `notifier` tells the kernel what to forget: such a message may wait for an
operation, so it is never sent from one.

The end, in order: unmounted (by anybody), the kernel's descriptor closed, the volume stored and closed, the note removed.
SIGTERM and SIGINT unmount. If the mount is busy it is taken out of the tree, and those who still use it have
`GRACE_S`; after that, or at a second signal, they get errors. Whatever was written until then is stored.
"""

import logging
import os
import queue
import signal
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from loligo_client.shell import mount_state
from loligo_client.shell.embedded import EmbeddedVolume
from loligo_client.shell.filesystem import FileSystem
from loligo_client.shell.mount_options import MountOptions
from loligo_fuse import MINOR_MAX, Config, MountError, Session, mount, unmount
from loligo_runtime.volume import Volume

log = logging.getLogger(__name__)

SUBTYPE = "loligo"
READ_AHEAD_KB = 4096
GRACE_S = 10.0
_SIGNALS = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGHUP})
#: Exit code of a process that was told to end before it had mounted anything.
_STOPPED_EARLY = 1


@dataclass(frozen=True, slots=True)
class MountPlan:
    """`source` is what the user called the volume: the kernel's table shows it, and mount(8) compares it."""

    volume: Volume
    source: str
    directory: str
    options: MountOptions
    log: str


class Transport(Protocol):
    """What carries the file system. Made when it is mounted."""

    def run(self) -> None:
        """Serve until it is unmounted or stopped."""

    def stop(self) -> None:
        """Make `run` return soon, from any thread, though it is still mounted."""

    def forget_inode(self, ino: int) -> None:
        """The kernel must drop what it has cached of this inode. May block."""

    def close(self) -> None:
        """Let go of the kernel's descriptor, after `run`: who still uses the mount gets errors from now on."""


def serve(plan: MountPlan, on_ready: Callable[[], None]) -> None:
    """Mount and serve; returns when everything is stored. `on_ready` is called, from another thread, when it works.

    MountError, VolumeError, StoreError, ObjectStoreError, UnsupportedKernelError, OSError: why it does not.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    ending = _Ending(plan.directory)
    threading.Thread(target=ending.wait_for_signals, name="signals", daemon=True).start()
    notifier = _Notifier()
    volume = EmbeddedVolume(plan.volume, update_atime=plan.options.update_atime, on_lost=notifier.forget)
    note = None
    try:
        transport = _mount(plan, volume.file_system)
        try:
            ending.mounted(transport)
            notifier.start(transport)
            note = _write_note(plan)
            _Prover(plan.directory, transport, on_ready).start()
            transport.run()
        finally:
            ending.served()
            notifier.stop()
            transport.close()
            _leave_tree(plan.directory, note)
        log.info("unmounted; storing what is left")
    finally:
        try:
            volume.close()
        except OSError as error:
            if note is not None:
                mount_state.note_failure(note, f"not everything could be stored: {error}")
            raise
    if note is not None:
        mount_state.remove_note(note)
    log.info("%s is stored", plan.volume.name)


def _mount(plan: MountPlan, file_system: FileSystem) -> Transport:
    if plan.options.transport == "native":
        return NativeTransport(plan, file_system)
    raise MountError("transport=pyfuse3 is not there yet")


class NativeTransport:
    def __init__(self, plan: MountPlan, file_system: FileSystem) -> None:
        self._fd = mount(
            plan.directory,
            fsname=plan.source,
            subtype=SUBTYPE,
            options=plan.options.kernel,
            read_ahead_kb=READ_AHEAD_KB if os.geteuid() == 0 else None,
        )
        self._session = Session(self._fd, file_system, Config(minor_max=plan.options.minor_max or MINOR_MAX))
        self.stop = self._session.stop

        self.run = self._session.run

    def close(self) -> None:
        os.close(self._fd)

    def forget_inode(self, ino: int) -> None:
        self._session.notify_inval_inode(ino, 0, 0)


def _write_note(plan: MountPlan) -> mount_state.Note | None:
    mounted = mount_state.find_mount(plan.directory)
    if mounted is None:
        return None  # unmounted already
    volume = plan.volume
    return mount_state.write_note(
        mounted,
        volume=volume.name,
        meta_url=volume.meta_url,
        data_url=volume.data_url,
        transport=plan.options.transport,
        log=plan.log,
    )


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

    def start(self) -> None:
        threading.Thread(target=self._prove, name="prover", daemon=True).start()

    def _prove(self) -> None:
        try:
            os.statvfs(self._directory)
        except OSError as error:
            log.error("the mount does not answer: %s", error)
            self._transport.stop()
        else:
            self._on_ready()


class _Notifier:
    """Tells the kernel to forget what it has cached of inodes whose bytes were lost."""

    def __init__(self) -> None:
        self._lost: queue.SimpleQueue[int | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def forget(self, ino: int) -> None:
        self._lost.put(ino)

    def start(self, transport: Transport) -> None:
        self._thread = threading.Thread(target=self._run, args=(transport,), name="notifier", daemon=True)
        self._thread.start()

    def _run(self, transport: Transport) -> None:
        while (ino := self._lost.get()) is not None:
            try:
                transport.forget_inode(ino)
            except OSError as error:
                log.warning("the kernel may go on showing lost bytes of inode %d: %s", ino, error)

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
