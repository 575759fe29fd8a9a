"""The metadata server: one process, one shard, many clients.

Threads: the main thread runs the event loop, and on it everything that touches sessions; steps of the shard are taken there
directly; the purger is a task there. What waits for a disk or the cluster has threads of its own: `sync` (fdatasync of the
journal), `fence`, `keeper` (objects), `housekeeper` (checkpoints, settling), and prometheus_client's. grpc's threads only
move bytes.

The end, on SIGTERM, SIGINT and SIGHUP, in order: nobody new is let in, streams end between two frames, what is under way for
objects is finished, the tables are checkpointed, the lock is released. Sessions stay for the next start. When the shard stops
by itself because something broke, clients are not told of errors: the process ends with 1, and its next start goes on from
the journal.
"""

import asyncio
import contextlib
import logging
import signal
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib.metadata import version as version_of
from typing import Any

import grpc
import grpc.aio

from loligo_mds.shell.admin import Admin, socket_path
from loligo_mds.shell.config import ServeError, ServerConfig, split_address
from loligo_mds.shell.connection import FRAME_MAX_BYTES, Connection
from loligo_mds.shell.fence import Fencer
from loligo_mds.shell.journal_sync import JournalSync
from loligo_mds.shell.metrics import Metrics, MetricsPage
from loligo_mds.shell.notify import Notifier
from loligo_mds.shell.purger import Purger
from loligo_mds.shell.served_volume import ServedVolume
from loligo_mds.shell.service import SESSIONS_MAX, Service, refusal
from loligo_mds.shell.session_table import Session, SessionTable
from loligo_mds.shell.tls import server_credentials
from loligo_runtime.heap import bound_heap
from loligo_runtime.volume import Volume
from loligo_wire.v1 import loligo_pb2 as pb

log = logging.getLogger(__name__)

SERVICE = "loligo.v1.Metadata"
TICK_S = 0.25
KEEP_EVERY_S = 0.5
#: Streams that have not ended by then are cut.
STOP_WITHIN_S = 3.0
STREAMS_A_CONNECTION = 16
#: Streams of clients that are not let in yet, or are on their way out, besides those of sessions.
MORE_STREAMS = 1000
_OPTIONS = (
    ("grpc.so_reuseport", 0),  # a port that is taken is an error
    ("grpc.max_receive_message_length", FRAME_MAX_BYTES),
    ("grpc.max_concurrent_streams", STREAMS_A_CONNECTION),
    # A client whose machine is gone: its connection ends, and so does what waits to be written to it.
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_ping_interval_without_data_ms", 5000),
)


#: What logs of streams that could not be ended.
GRPC_LOG = "grpc._cython.cygrpc"


def is_of_interest(record: logging.LogRecord) -> bool:
    """A client that goes before the end of its stream could be said to it is no error, and none of the server's. grpc knows
    that, but sometimes hears of it too late, and shows the error.
    """
    error = record.exc_info[0] if record.exc_info else None
    return error is None or error.__name__ != "ExecuteBatchError"


def serve(config: ServerConfig, volume: Volume) -> None:
    """Serve until told to stop. ServeError, StoreError, ObjectStoreError, VolumeError, OSError: why it cannot go on."""
    bound_heap()
    logging.getLogger(GRPC_LOG).addFilter(is_of_interest)
    credentials = server_credentials(config) if config.has_tls else None
    asyncio.run(_Server(config, volume, credentials).run())


class _Server:
    def __init__(self, config: ServerConfig, volume: Volume, credentials: Any) -> None:
        self._config = config
        self._volume = volume
        self._credentials = credentials
        self._notifier = Notifier()
        self._stop = asyncio.Event()

    async def run(self) -> None:
        self._loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            self._loop.add_signal_handler(number, self._told_to_stop, number)
        served = ServedVolume(self._volume, self._on_repaired)
        try:
            async with contextlib.AsyncExitStack() as stack:
                await self._serve(served, stack)
        finally:
            self._notifier.say(STOPPING=1, STATUS="storing what is left")
            served.close()
            self._notifier.close()
        if served.driver.stopped:
            raise ServeError("the shard has stopped, see the log: start the server again, it goes on from the journal")
        log.info("%s is stored", self._volume.name)

    def _told_to_stop(self, number: int) -> None:
        log.info("%s: stopping", signal.Signals(number).name)
        self._stop.set()

    def _on_repaired(self, ino: int) -> None:
        # From a thread of the keeper, which may be the last to end.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(lambda: self._service.repaired(ino))

    # -- from start to stop ---------------------------------------------------------------------------------------------

    async def _serve(self, served: ServedVolume, stack: contextlib.AsyncExitStack) -> None:
        version = version_of("loligo")
        metrics = Metrics(version, self._volume.name)
        sync = JournalSync(served.driver.sync, metrics.sync_s.observe)
        stack.push_async_callback(sync.close)
        fencer = Fencer(served.objects)
        stack.callback(fencer.close)
        sessions = SessionTable(self._config.session_expiry)
        self._service = service = Service(self._volume, version, served.driver, sessions, sync, fencer, metrics)
        stack.callback(service.close)
        self._measure(metrics, served)

        server = grpc.aio.server(options=_OPTIONS, maximum_concurrent_rpcs=SESSIONS_MAX + MORE_STREAMS)
        stack.push_async_callback(server.stop, None)
        listen = self._bind(server)
        page = MetricsPage(self._config.metrics, metrics.registry) if self._config.metrics else None
        if page is not None:
            stack.callback(page.close)
        admin = Admin(service, served.driver, listen, page.address if page else "", socket_path(self._volume.uuid))

        self._notifier.say(STATUS="recovering")
        for id, record in (await asyncio.to_thread(served.recover)).items():
            sessions.add(Session(id, record, self._loop.time()))
        service.look_at_room(served.store.room_is_low)
        if len(sessions):
            log.info("%d sessions may come back within %g s", len(sessions), sessions.expiry_s)
        await server.start()
        await admin.start()
        stack.push_async_callback(admin.close)
        purger = self._purger(served, service, metrics)
        tasks = [
            asyncio.create_task(self._watch_clock(service, metrics)),
            asyncio.create_task(self._keep_house(served)),
            asyncio.create_task(self._purge(served, purger)),
        ]
        stack.push_async_callback(_cancel, tasks)
        log.info("%s is served on %s; metrics on %s", self._volume.name, listen, page.address if page else "no port")
        self._notifier.say(READY=1, STATUS=f"serving {self._volume.name} on {listen}")

        stopped = asyncio.create_task(self._stop.wait())
        await asyncio.wait([stopped, *tasks], return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            if task.done():
                task.result()  # it never ends but by an error
        self._notifier.say(STOPPING=1, STATUS="ending connections")
        await self._end_streams(server)

    def _bind(self, server: grpc.aio.Server) -> str:
        """Take the port; nobody is answered before `start`."""
        listen = self._config.listen
        host, port = split_address(listen, "listen")
        _check_free(listen, host, port)
        server.add_generic_rpc_handlers(
            (
                grpc.method_handlers_generic_handler(
                    SERVICE, {"Session": grpc.stream_stream_rpc_method_handler(self._converse)}
                ),
            )
        )
        try:
            if self._credentials is None:
                port = server.add_insecure_port(listen)
            else:
                port = server.add_secure_port(listen, self._credentials)
        except RuntimeError as error:
            raise ServeError(f"{listen} cannot be listened on: {error}") from None
        return f"{f'[{host}]' if ':' in host else host}:{port}"

    async def _converse(self, requests: Any, context: Any) -> None:
        await Connection(self._service, context).run()

    async def _end_streams(self, server: grpc.aio.Server) -> None:
        service = self._service
        service.stopping = True
        for connection in list(service.connections):
            connection.close(refusal(pb.Refusal.BUSY, "the server is stopping: try again"))
        await server.stop(STOP_WITHIN_S)

    # -- while it serves ------------------------------------------------------------------------------------------------

    async def _watch_clock(self, service: Service, metrics: Metrics) -> None:
        """Sessions that are silent, how busy the loop is, and the watchdog."""
        watchdog_s = self._notifier.watchdog_s
        alive_s = 0.0
        due_s = self._loop.time() + TICK_S
        while True:
            await asyncio.sleep(due_s - self._loop.time())
            now_s = self._loop.time()
            late_s = max(0.0, now_s - due_s)
            metrics.loop_lag_s.observe(late_s)
            if late_s > 1.0:
                log.warning("the server was busy, or stopped, for %.1f s", late_s)
                service.excuse(late_s)
            service.look_at_clock(now_s)
            if watchdog_s is not None and now_s - alive_s >= watchdog_s / 2:
                alive_s = now_s
                self._notifier.say(WATCHDOG=1, STATUS=f"serving {self._volume.name}, {len(service.sessions)} sessions")
            due_s = now_s + TICK_S

    async def _keep_house(self, served: ServedVolume) -> None:
        """Ends when the shard has stopped."""
        driver = served.driver
        may_step = self._service.may_step
        said = ""
        with ThreadPoolExecutor(1, thread_name_prefix="housekeeper") as thread:
            while not driver.stopped:
                await asyncio.sleep(KEEP_EVERY_S)
                try:
                    if served.store.needs_checkpoint:
                        may_step.clear()
                        await self._loop.run_in_executor(thread, partial(driver.checkpoint, only_if_due=True))
                        may_step.set()
                    await self._loop.run_in_executor(thread, served.keep)
                    self._service.look_at_room(served.store.room_is_low)
                except OSError as error:
                    if str(error) != said:  # twice a second would be too often
                        said = str(error)
                        log.warning("housekeeping will be tried again: %s", error)
                finally:
                    may_step.set()

    def _purger(self, served: ServedVolume, service: Service, metrics: Metrics) -> Purger:
        purger = Purger(
            served.driver,
            service.ask,
            served.keeper,
            served.removals,
            lambda: served.space,
            rate=self._config.purge_rate,
            on_step=metrics.purge_step_s.observe,
        )
        metrics.asked.update(
            {
                "purged_inodes": ("Inodes that left the trash for good.", True, lambda: purger.inodes),
                "purged_bytes": ("Sizes of the files among those.", True, lambda: purger.size_bytes),
            }
        )
        return purger

    async def _purge(self, served: ServedVolume, purger: Purger) -> None:
        """Ends when the shard has stopped."""
        while not served.driver.stopped:
            await self._service.may_step.wait()
            await asyncio.sleep(purger.step())

    def _measure(self, metrics: Metrics, served: ServedVolume) -> None:
        served.measure(metrics)
        sessions = self._service.sessions
        began_s = time.monotonic()
        metrics.asked.update(
            {
                "sessions": ("Clients with a session.", False, lambda: len(sessions)),
                "leases": (
                    "Leases that clients have.",
                    False,
                    lambda: sum(served.driver.leases(session.id) for session in sessions),
                ),
                "locks": (
                    "Locks of files that clients have.",
                    False,
                    lambda: sum(served.driver.locks(session.id) for session in sessions),
                ),
                "lock_waits": ("Requests that wait for locks.", False, lambda: len(served.driver.lock_waits())),
                "sessions_connected": ("... of them connected.", False, lambda: sessions.connected),
                "up_seconds": ("Since the start of this server.", False, lambda: time.monotonic() - began_s),
            }
        )


def _check_free(listen: str, host: str, port: int) -> None:
    """ServeError if nobody can listen there: gRPC would say so in words of its own, into the log.

    As for gRPC, one of the addresses of a name is enough.
    """
    reason: str | None = None
    try:
        for family, kind, protocol, _, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
            try:
                with socket.socket(family, kind, protocol) as probe:
                    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    probe.bind(address)
            except OSError as error:
                reason = error.strerror
            else:
                return
    except socket.gaierror as error:
        reason = error.strerror
    raise ServeError(
        f"{listen} cannot be listened on ({reason}): another process has that port, or this machine has no such address;"
        " give another --listen HOST:PORT"
    )


async def _cancel(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
