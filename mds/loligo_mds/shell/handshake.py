"""How a client is let in: Hello, and Welcome or a Refusal that says what to do."""

import asyncio
from typing import Any, Final

from loligo_mds.shell.service import SESSIONS_MAX, Service, gone_text, refusal
from loligo_mds.shell.session_record import SessionRecord, digest_of, new_secret, new_session_id
from loligo_mds.shell.session_table import Session
from loligo_wire.attributes import Attributes
from loligo_wire.v1 import loligo_pb2 as pb

#: What this server speaks. Since 2 Create says what has become of what it makes.
PROTOCOL_MIN: Final = 1
PROTOCOL_MAX: Final = 2
#: Requests of a client that may be unanswered.
WINDOW: Final = 1024
TEXT_MAX: Final = 1024
PATH_MAX_BYTES: Final = 4096


class Refused(Exception):
    """The stream ends with this refusal."""

    def __init__(self, reason: Any, text: str) -> None:
        super().__init__(text)
        self.refusal = refusal(reason, text)


async def shake_hands(service: Service, hello: pb.Hello, identity: str) -> tuple[Session, pb.Welcome]:
    """The session that the client has from now on. `identity`: of its certificate. Refused, OSError."""
    if service.stopping:
        raise Refused(pb.Refusal.BUSY, "the server is stopping: try again")
    _check_protocol(service, hello)
    volume = service.volume
    if hello.volume != volume.name:
        raise Refused(
            pb.Refusal.NO_SUCH_VOLUME,
            f"this server has the volume {volume.name!r} and no {hello.volume[:64]!r}: correct the name",
        )
    texts = (hello.version, hello.host, hello.mounted_on)
    if max(map(len, texts)) > TEXT_MAX or len(hello.root_path) > PATH_MAX_BYTES:
        raise Refused(pb.Refusal.PROTOCOL, "a text of the hello is too long: this is no client of ours")
    if hello.session:
        session = _find(service, hello, identity)
        return session, _welcome(service, session, hello, hello.secret, resumed=True)
    session, secret = await _begin(service, hello, identity)
    return session, _welcome(service, session, hello, secret, resumed=False)


def _check_protocol(service: Service, hello: pb.Hello) -> None:
    if hello.protocol_max < PROTOCOL_MIN or hello.protocol_min > PROTOCOL_MAX:
        older = "client" if hello.protocol_max < PROTOCOL_MIN else "server"
        raise Refused(
            pb.Refusal.PROTOCOL,
            f"the client ({_on_a_line(hello.version[:64]) or 'unknown'}) speaks protocols {hello.protocol_min} to"
            f" {hello.protocol_max}, the server ({service.version}) {PROTOCOL_MIN} to {PROTOCOL_MAX}: upgrade the {older}",
        )


def _on_a_line(text: str) -> str:
    """For the log, and terminals: nothing in it can pass for a line of ours."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def _find(service: Service, hello: pb.Hello, identity: str) -> Session:
    session = service.sessions.get(hello.session)
    if session is None or not session.record.is_secret(hello.secret):
        raise Refused(pb.Refusal.SESSION_GONE, gone_text("the server does not know it any more"))
    if session.ending:
        raise Refused(pb.Refusal.SESSION_GONE, gone_text(session.ending))
    if session.record.identity != identity:
        raise Refused(
            pb.Refusal.NOT_ALLOWED,
            "this session belongs to a client with another certificate: use the one that it began with",
        )
    return session


async def _begin(service: Service, hello: pb.Hello, identity: str) -> tuple[Session, bytes]:
    if len(service.sessions) >= SESSIONS_MAX:
        raise Refused(
            pb.Refusal.BUSY, f"the server has {SESSIONS_MAX} sessions already: unmount some, or try again later"
        )
    try:
        root = service.find_root(hello.root_path)
    except (OSError, ValueError):
        shown = hello.root_path[:TEXT_MAX].decode(errors="replace")
        raise Refused(
            pb.Refusal.NO_SUCH_DIRECTORY,
            f"there is no directory {shown!r} in volume {service.volume.name}: correct the path, without symbolic links",
        ) from None
    secret = new_secret()
    record = SessionRecord(
        secret_sha256=digest_of(secret),
        host=_on_a_line(hello.host),
        mounted_on=_on_a_line(hello.mounted_on),
        root_ino=root.ino,
        root_path=hello.root_path.decode(errors="surrogateescape"),
        read_only=hello.read_only,
        identity=identity,
        version=_on_a_line(hello.version),
        takes_leases=hello.takes_leases,
    )
    session = Session(new_session_id(), record, asyncio.get_running_loop().time())
    await service.open_session(session)
    return session, secret


def _welcome(service: Service, session: Session, hello: pb.Hello, secret: bytes, resumed: bool) -> pb.Welcome:
    volume = service.volume
    expiry_s = service.sessions.expiry_s
    root_ino = session.record.root_ino
    # A directory that was removed answers ENOENT to everything, as on any file system.
    root = service.root_now(root_ino) or Attributes(root_ino, 0o040000, nlink=0)
    return pb.Welcome(
        protocol=min(PROTOCOL_MAX, hello.protocol_max),
        version=service.version,
        session=session.id,
        secret=secret,
        resumed=resumed,
        root_ino=root_ino,
        root_record=root.encode(),
        volume_uuid=volume.uuid,
        volume_name=volume.name,
        data_url=volume.data_url,
        block_bytes=volume.block_bytes,
        inline_limit_bytes=volume.inline_limit_bytes,
        heartbeat_ms=int(service.sessions.heartbeat_s * 1000),
        expiry_ms=int(expiry_s * 1000),
        window=WINDOW,
        lease_ms=int(service.sessions.lease_s * 1000),
    )
