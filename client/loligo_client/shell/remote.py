"""A volume that a metadata server serves: a session there, the objects here, and the same file system on top.

The sibling of `embedded.EmbeddedVolume`: names and attributes are asked of the server, bytes go straight to the object
store. Other clients have the volume too, so what the kernel may believe for long is covered by leases (`core.leased`).
"""

import logging
import os
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace
from importlib.metadata import version
from typing import Any, Final

from loligo_client.core.leased import Leased
from loligo_client.shell.block_cache import CachedObjects
from loligo_client.shell.connection import Connection
from loligo_client.shell.data_path import DataPath
from loligo_client.shell.filesystem import FileSystem
from loligo_client.shell.locks import Locks
from loligo_client.shell.mount_options import OptionError, ServerOptions
from loligo_client.shell.moved_directories import MovedDirectories
from loligo_client.shell.recalls import Recalls
from loligo_client.shell.remote_metadata import RemoteMetadata
from loligo_client.shell.served_metrics import ServedMetrics
from loligo_client.shell.server_source import ServerSource
from loligo_client.shell.tasks import Waiting
from loligo_client.shell.wire import Tls
from loligo_mds.shell.volume_parts import open_objects
from loligo_runtime.clock import SystemClock
from loligo_runtime.heap import trim_heap
from loligo_runtime.object_store import ObjectStore
from loligo_runtime.object_url import RadosUrl, format_rados_url, parse_object_url
from loligo_runtime.volume import Volume
from loligo_wire.v1 import loligo_pb2 as pb

log = logging.getLogger(__name__)

#: Bytes under way count about three times: here, in a copy for librados, and inside it.
DIRTY_LIMIT_BYTES: Final = 24 << 20
TICK_S: Final = 0.5
SETTLE_EVERY_S: Final = 5.0


class RemoteVolume:
    """A volume that is open through its server. Use as a context manager; `file_system` goes to a transport."""

    def __init__(
        self,
        source: ServerSource,
        options: ServerOptions,
        *,
        mounted_on: str = "",
        read_only: bool = False,
        update_atime: bool = True,
        on_lost: Callable[[int], None] = lambda ino: None,
    ) -> None:
        """ServerError, OptionError, VolumeError, ObjectStoreError: why it cannot be opened. `on_lost`: see `DataPath`."""
        hello = pb.Hello(
            version=version("loligo"),
            volume=source.volume,
            root_path=source.root_path,
            read_only=read_only,
            host=socket.gethostname(),
            mounted_on=mounted_on,
            takes_leases=True,
        )
        tls = Tls(options.ca, options.cert, options.key) if options.ca else None
        self.connection = Connection(source.addresses, hello, tls=tls, timeout_s=options.timeout_s)
        welcome = self.connection.connect()
        try:
            self.volume = Volume(
                name=welcome.volume_name,
                uuid=welcome.volume_uuid,
                meta_url=f"{','.join(source.addresses)}/{source.volume}",
                data_url=_data_url(welcome.data_url, options),
                block_bytes=welcome.block_bytes,
                inline_limit_bytes=welcome.inline_limit_bytes,
            )
            self._objects = open_objects(self.volume)
            try:
                cache = _open_cache(self.volume, self._objects, options)
            except BaseException:
                self._objects.close()
                raise
        except BaseException:
            self.connection.close()
            raise
        self.connection.tell_fence(self._objects.addresses())
        leased = Leased(welcome.root_ino, threading.RLock())
        metadata = RemoteMetadata(self.connection, welcome.root_ino, leased, self.volume.block_bytes)
        self.data = DataPath(
            metadata,
            self._objects,
            inline_limit_bytes=self.volume.inline_limit_bytes,
            dirty_limit_bytes=DIRTY_LIMIT_BYTES,
            on_lost=on_lost,
            shared=True,
            cache=cache,
        )
        #: What is to be closed: the cache closes the store.
        self._closes = cache or self._objects
        self.connection.holds = self.data.holds
        self.connection.on_restating = self.data.leases_lost
        self.connection.on_recall = self.data.recalled
        self.connection.on_resume = self.data.resumed
        self.connection.on_report = self.data.report
        self.connection.on_gone = lambda why: self.data.shut_out()
        self.data.on_shut_out = lambda: self.connection.give_up("the object store has shut this client out")
        self.recalls = recalls = Recalls(leased, self.connection.ask, metadata.lock, self.data)
        locks = Locks(metadata)
        self.connection.locks = locks.held
        self.file_system = file_system = FileSystem(
            metadata,
            self.data,
            SystemClock(),
            update_atime=update_atime,
            leased=leased,
            moved=MovedDirectories(mounted_on) if mounted_on else None,
            locks=locks,
        )
        served = ServedMetrics(self.connection, metadata, leased, locks, cache)
        file_system.statistics.add(served.collect)

        metadata.forget_attributes = lambda ino: file_system.forget_attributes(ino)
        metadata.give_back = recalls.give_back
        metadata.holds_bytes = self.data.holds_bytes
        self.connection.on_lease_recall = recalls.recalled
        self.connection.on_away = recalls.lost
        self.file_system.let_go = self._let_go
        #: Called with (address, since when it is away or None, why the session has ended or ""), on the housekeeper's thread,
        #: when that has changed.
        self.on_server: Callable[[str, float | None, str], None] = lambda address, away_since_s, gone: None
        self._ending = threading.Event()
        self._housekeeper = threading.Thread(target=self._keep, name="housekeeper")
        self._housekeeper.start()

    def _let_go(self, future: Future[Any]) -> bool:
        if not isinstance(future, Waiting):
            return self.connection.let_go(future)
        if self.connection.is_away:
            with self.connection.lock:
                future.give_up()
        return True

    def _keep(self) -> None:
        """Time passes: flush what has waited, settle what is stored. The server sees to its own journal."""
        settled_at = time.monotonic()
        said = ""
        told: tuple[str, float | None, str] | None = None
        while not self._ending.wait(TICK_S):
            try:
                server = self.connection.address, self.connection.away_since_s, self.connection.gone
                if server != told:
                    self.on_server(*server)
                    told = server
                self.recalls.tick()
                self.data.tick(time.time_ns())
                if time.monotonic() - settled_at >= SETTLE_EVERY_S:
                    self.data.settle()
                    trim_heap()
                    settled_at = time.monotonic()
                said = ""
            except OSError as error:
                if str(error) != said:  # twice a second would be too often
                    said = str(error)
                    log.warning("housekeeping will be tried again: %s", error)

    def close(self) -> None:
        """Store and publish everything; OSError, after closing all the same, if something could not be stored.

        Then there is no goodbye either: the server shuts this client out of the store before it looks at its files, in case
        a write that was given up is still under way.
        """
        self._ending.set()
        self._housekeeper.join()
        clean = False
        try:
            self.data.drain()
            clean = True
        finally:
            self.data.stop()
            self.connection.close(goodbye=clean)
            self.recalls.close()
            self._closes.close()

    def __enter__(self) -> "RemoteVolume":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def _open_cache(volume: Volume, objects: ObjectStore, options: ServerOptions) -> CachedObjects | None:
    """None if there is none. OptionError if one was asked for that cannot be."""
    if not options.data_cache_bytes or not isinstance(parse_object_url(volume.data_url), RadosUrl):
        return None
    directory = options.data_cache_dir or default_cache_directory()
    try:
        if not options.data_cache_dir:
            os.makedirs(directory, mode=0o700, exist_ok=True)
        disk = os.statvfs(directory)
        limit_bytes = min(options.data_cache_bytes, disk.f_bavail * disk.f_frsize // 4)
        return CachedObjects(objects, directory, limit_bytes, volume.block_bytes)
    except OSError as error:
        text = f"there can be no cache in {directory} ({error.strerror}); give another data_cache_dir=, or data_cache=0"
        if {"data_cache", "data_cache_dir"} & set(options.given):
            raise OptionError(text) from None
        log.warning("%s", text)
        return None


def default_cache_directory() -> str:
    if os.geteuid() == 0:
        return "/var/cache/loligo"
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return os.path.join(home, "loligo")


def _data_url(told: str, options: ServerOptions) -> str:
    """Where the objects are, as seen from here."""
    url = options.data_url or told
    if not (options.ceph_conf or options.ceph_name):
        return url
    parsed = parse_object_url(url)
    if not isinstance(parsed, RadosUrl):
        raise OptionError(f"ceph_conf= and ceph_name= are for data on RADOS; this volume has it at {url}")
    return format_rados_url(
        replace(parsed, conf=options.ceph_conf or parsed.conf, name=options.ceph_name or parsed.name)
    )
