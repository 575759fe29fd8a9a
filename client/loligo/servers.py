"""The metadata servers that run on this machine, asked through their sockets.

Only who runs a server, and root, may ask it.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from loligo.failures import CommandError
from loligo_runtime.state_folder import state_folder

ANSWER_WITHIN_S = 3.0
#: An eviction may have to wait for the object store.
EVICT_WITHIN_S = 15.0
_ADMIN = "/loligo.v1.Admin"


def sockets() -> list[Path]:
    """Of servers that are, or were, run by this user."""
    return sorted(state_folder(os.geteuid()).glob("serve-*.sock"))


def running_servers() -> list[tuple[Path, Any]]:
    """(socket, its ServerStatus) of each that answers."""
    found = []
    for socket in sockets():
        status = _ask(socket, "Status", "StatusRequest", "ServerStatus", {}, ANSWER_WITHIN_S)
        if status is not None:
            found.append((socket, status))
    return found


def server_of(meta_url: str) -> Any:
    """The ServerStatus of the one that has this volume; None if none here has it."""
    return next((status for _, status in running_servers() if status.meta_url == meta_url), None)


def evict(socket: Path, session: int) -> str:
    """What stood in the way; empty: it is done. CommandError if the server does not answer."""
    reply = _ask(socket, "Evict", "EvictRequest", "EvictReply", {"session": session}, EVICT_WITHIN_S)
    if reply is None:
        raise CommandError(f"the server behind {socket} does not answer: see its log")
    return str(reply.problem)


def _ask(socket: Path, method: str, request: str, reply: str, values: dict[str, Any], within_s: float) -> Any:
    """None if nobody answers."""
    import grpc

    from loligo_wire.v1 import loligo_pb2 as pb

    with _channel(socket) as channel:
        call = channel.unary_unary(
            f"{_ADMIN}/{method}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=getattr(pb, reply).FromString,
        )
        try:
            return call(getattr(pb, request)(**values), timeout=within_s)
        except grpc.RpcError:
            return None


@contextmanager
def _channel(socket: Path) -> Iterator[Any]:
    import grpc

    with grpc.insecure_channel(f"unix:{socket}", options=(("grpc.enable_http_proxy", 0),)) as channel:
        yield channel
