"""What operators ask a running server, on a socket that only its own user may open.

    STATE/serve-<first 8 digits of the volume's uuid>.sock      STATE: see loligo_runtime.state_folder

The store's lock sees to it that a volume has one server, so a socket that is there already is what a dead one left.
"""

import os
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import grpc.aio

from loligo_mds.core.requests import GetUsage, Usage
from loligo_mds.shell.config import ServeError
from loligo_mds.shell.driver import ShardDriver
from loligo_mds.shell.service import Service
from loligo_runtime.state_folder import make_state_folder, socket_name
from loligo_wire.v1 import loligo_pb2 as pb

SERVICE = "loligo.v1.Admin"
#: Of those who wait for locks: more nobody reads.
LOCK_WAITS_TOLD = 100
#: The kernel's limit for the path of a socket.
_PATH_MAX_BYTES = 107


def socket_path(volume_uuid: str) -> str:
    """Its folder is made if need be. ServeError."""
    path = str(make_state_folder() / socket_name(volume_uuid))
    if len(os.fsencode(path)) > _PATH_MAX_BYTES:
        raise ServeError(f"{path} is too long for a socket: this user's state folder must have a shorter path")
    return path


class Admin:
    def __init__(self, service: Service, driver: ShardDriver, listen: str, metrics: str, path: str) -> None:
        self._service = service
        self._driver = driver
        self._listen = listen
        self._metrics = metrics
        self._path = path
        self._began_s = time.monotonic()
        self._server = grpc.aio.server()
        self._server.add_generic_rpc_handlers(
            (
                grpc.method_handlers_generic_handler(
                    SERVICE,
                    {
                        "Status": _method(self._status, pb.StatusRequest),
                        "Evict": _method(self._evict, pb.EvictRequest),
                    },
                ),
            )
        )

    async def start(self) -> None:
        """OSError, ServeError."""
        if os.path.exists(self._path):
            os.unlink(self._path)
        before = os.umask(0o177)
        try:
            self._server.add_insecure_port(f"unix:{self._path}")
        except RuntimeError as error:
            raise ServeError(f"no socket can be made at {self._path}: {error}") from None
        finally:
            os.umask(before)
        await self._server.start()

    async def close(self) -> None:
        await self._server.stop(0.5)
        if os.path.exists(self._path):
            os.unlink(self._path)

    async def _status(self, request: pb.StatusRequest, context: Any) -> pb.ServerStatus:
        usage: Usage = self._driver.ask(GetUsage())
        service = self._service
        status = pb.ServerStatus(
            version=service.version,
            volume=service.volume.name,
            meta_url=service.volume.meta_url,
            listen=self._listen,
            pid=os.getpid(),
            up_s=time.monotonic() - self._began_s,
            inodes=usage.inodes,
            size_bytes=usage.size_bytes,
            trash_inodes=usage.trash_inodes,
            trash_bytes=usage.trash_bytes,
            metrics=self._metrics,
        )
        waits = self._driver.lock_waits()
        for wait in waits[:LOCK_WAITS_TOLD]:
            status.lock_waits.add(
                session=wait.session, ino=wait.ino, pid=wait.pid, whole=wait.whole, held_by=wait.held_by
            )
        waiting = Counter(wait.session for wait in waits)
        now_s = service.now_s()
        for session in service.sessions:
            record = session.record
            status.sessions.add(
                session=session.id,
                host=record.host,
                mounted_on=record.mounted_on,
                connected=session.connection is not None,
                silent_s=max(0.0, now_s - session.heard_s),
                root_path=os.fsencode(record.root_path),
                read_only=record.read_only,
                open_files=self._driver.open_files(session.id),
                requests=session.requests,
                version=record.version,
                peer=session.connection.peer if session.connection is not None else "",
                identity=record.identity,
                leases=self._driver.leases(session.id),
                recalls=session.recalls,
                locks=self._driver.locks(session.id),
                lock_waits=waiting[session.id],
            )
        return status

    async def _evict(self, request: pb.EvictRequest, context: Any) -> pb.EvictReply:
        return pb.EvictReply(problem=await self._service.evict(request.session))


def _method(answer: Callable[[Any, Any], Awaitable[Any]], request: Any) -> Any:
    return grpc.unary_unary_rpc_method_handler(
        answer,
        request_deserializer=request.FromString,
        response_serializer=lambda message: message.SerializeToString(),
    )
