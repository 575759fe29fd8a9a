"""What a server keeps of a session with the shard's rows: who it is, and how to shut it out. JSON, opaque to the core.

The secret itself is not kept: who reads the tables cannot take over a session.
"""

import hashlib
import hmac
import json
import secrets
from dataclasses import asdict, dataclass, fields

SECRET_BYTES = 16
_SESSION_BITS = 63


@dataclass(frozen=True, slots=True)
class SessionRecord:
    """`root_path` is for people, `root_ino` counts. `identity` is that of the client's certificate. Text of bytes that are
    no UTF-8 has surrogates.
    """

    secret_sha256: str
    host: str = ""
    mounted_on: str = ""
    root_ino: int = 1
    root_path: str = ""
    read_only: bool = False
    identity: str = ""
    fence: tuple[str, ...] = ()
    version: str = ""
    takes_leases: bool = False

    def encode(self) -> bytes:
        return json.dumps(asdict(self), separators=(",", ":")).encode()

    def is_secret(self, secret: bytes) -> bool:
        """Takes the same time for every wrong one."""
        return hmac.compare_digest(digest_of(secret), self.secret_sha256)

    @property
    def who(self) -> str:
        """For people."""
        return f"{self.host or 'unknown host'}:{self.mounted_on or '?'}"


_KINDS = {field.name: field.type for field in fields(SessionRecord)}


def decode_record(record: bytes) -> SessionRecord:
    """ValueError if that is none. What a later version has added is left out."""
    said = json.loads(record)
    if not isinstance(said, dict) or not isinstance(said.get("secret_sha256"), str):
        raise ValueError("no record of a session")
    known = {name: value for name, value in said.items() if name in _KINDS}
    known["fence"] = tuple(str(address) for address in known.get("fence", ()))
    return SessionRecord(**known)


def digest_of(secret: bytes) -> str:
    return hashlib.sha256(secret).hexdigest()


def new_secret() -> bytes:
    return secrets.token_bytes(SECRET_BYTES)


def new_session_id() -> int:
    """Not one that can be guessed, nor 0 or 1, which mean something else."""
    return 2 + secrets.randbelow((1 << _SESSION_BITS) - 2)
