"""The metadata servers that run on this machine, asked through their sockets.

Only who runs a server, and root, may ask it.
"""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from loligo.failures import CommandError
from loligo_runtime.state_folder import socket_name, state_folder
from loligo_runtime.volume import Volume

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
    for path in sockets():
        status = _ask(path, "Status", "StatusRequest", "ServerStatus", {}, ANSWER_WITHIN_S)
        if status is not None:
            found.append((path, status))
    return found


def server_of(volume: Volume) -> Any:
    """The ServerStatus of the one that has this volume; None if none here has it. CommandError if it does not answer.

    gRPC, with its threads, comes into this process only if there is one: who goes on without must be able to fork.
    """
    path = state_folder(os.geteuid()) / socket_name(volume.uuid)
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except OSError:  # there is none, or it was left behind
            return None
    status = _ask(path, "Status", "StatusRequest", "ServerStatus", {}, ANSWER_WITHIN_S)
    if status is None:
        raise CommandError(f"the server of {volume.name}, behind {path}, does not answer: see its log")
    return status


def evict(path: Path, session: int) -> str:
    """What stood in the way; empty: it is done. CommandError if the server does not answer."""
    reply = _ask(path, "Evict", "EvictRequest", "EvictReply", {"session": session}, EVICT_WITHIN_S)
    if reply is None:
        raise CommandError(f"the server behind {path} does not answer: see its log")
    return str(reply.problem)


def _ask(path: Path, method: str, request: str, reply: str, values: dict[str, Any], within_s: float) -> Any:
    """None if nobody answers."""
    import grpc

    from loligo_wire.v1 import loligo_pb2 as pb

    with _channel(path) as channel:
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
def _channel(path: Path) -> Iterator[Any]:
    import grpc

    with grpc.insecure_channel(f"unix:{path}", options=(("grpc.enable_http_proxy", 0),)) as channel:
        yield channel
