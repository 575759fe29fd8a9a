"""The two users of Ceph that a volume needs, each with the least it can do with.

- the daemon (`loligo serve`) removes and repairs objects, and shuts out clients that were silent for too long
- the clients (`loligo mount`) read, write and remove objects

Both may touch the objects of one namespace in one pool. Only the daemon may blocklist, and only single clients. Neither
can make pools, see keys, or take anything off the blocklist.

Rule: keys go from the monitor into files that only their owner reads; never into arguments, output, errors or logs.
"""

import contextlib
import json
import os
import re
import shlex
from dataclasses import dataclass

import rados

from loligo.failures import CommandError
from loligo_runtime.object_url import RadosUrl
from loligo_runtime.rados_objects import connect

ADMIN = "client.admin"

_ENTITY = re.compile(r"client\.[A-Za-z0-9_.-]+")
_PLAIN = re.compile(r"[A-Za-z0-9_.-]+")


@dataclass(frozen=True, slots=True)
class CephUser:
    """`entity`: client.NAME. `capabilities` by service."""

    entity: str
    purpose: str
    capabilities: dict[str, str]

    @property
    def command(self) -> str:
        """What an administrator types to make it; the key comes out of it."""
        caps = " ".join(f"{service} {shlex.quote(cap)}" for service, cap in self.capabilities.items())
        return f"ceph auth get-or-create {self.entity} {caps}"

    @property
    def keyring_name(self) -> str:
        """Where Ceph looks for the key, in /etc/ceph, if ceph.conf says nothing else."""
        return f"ceph.{self.entity}.keyring"


def users_of(data: RadosUrl, daemon: str, client: str) -> tuple[CephUser, CephUser]:
    """(the daemon's, the clients') of the volume whose data is at `data`."""
    for entity in (daemon, client):
        if not _ENTITY.fullmatch(entity):
            raise CommandError(
                f"{entity!r} is no name of a Ceph user: give client.NAME, of letters, digits, '.', '_', '-'"
            )
    if daemon == client:
        raise CommandError(f"the daemon and its clients cannot both be {daemon}: clients must not be able to blocklist")
    # Without a namespace in it a capability would be for all of them.
    objects = f"allow rw pool={_quoted(data.pool)} namespace={_quoted(data.namespace)}"
    return (
        CephUser(
            daemon,
            "for the daemon, 'loligo serve': may blocklist clients",
            {"mon": "profile simple-rados-client-with-blocklist", "osd": objects},
        ),
        CephUser(client, "for 'loligo mount', on every client", {"mon": "profile simple-rados-client", "osd": objects}),
    )


def _quoted(name: str) -> str:
    if '"' in name or "*" in name:  # cannot be written; stands for everything that begins like it
        raise CommandError(f'{name!r} cannot be named in the capabilities of a Ceph user: choose one without " and *')
    return name if _PLAIN.fullmatch(name) else f'"{name}"'


class Administration:
    """A connection with the administrator's key; use as a context manager."""

    def __init__(self, conf: str) -> None:
        """StoreMissingError, StoreUnreachableError: why there is none."""
        self._cluster = connect(conf, ADMIN)

    def __enter__(self) -> "Administration":
        return self

    def __exit__(self, *exception: object) -> None:
        self._cluster.shutdown()

    def make(self, user: CephUser, folder: str) -> str:
        """Make the user, or find it made as it should be, and write its keyring into `folder`. -> the keyring's path"""
        caps = [part for pair in user.capabilities.items() for part in pair]
        request = {"prefix": "auth get-or-create", "entity": user.entity, "caps": caps, "format": "json"}
        code, output, status = self._cluster.mon_command(json.dumps(request), b"")
        if code:
            if "does not match" in status:
                status = f"it exists with other capabilities; see 'ceph auth get {user.entity}', and name another user"
            raise CommandError(f"Ceph did not make {user.entity}: {status or os.strerror(-code)}")
        path = os.path.join(folder, user.keyring_name)
        _write_secret(path, f"[{user.entity}]\n\tkey = {json.loads(output)[0]['key']}\n")
        return path


def finds_keyring(conf: str, user: CephUser, path: str) -> bool:
    """Whether who connects as `user` with `conf` looks for its key in `path`."""
    with contextlib.suppress(rados.Error):
        cluster = rados.Rados(conffile=conf, name=user.entity)
        return os.path.abspath(path) in cluster.conf_get("keyring").replace(",", " ").split()
    return False


def _write_secret(path: str, text: str) -> None:
    partial = f"{path}.new"
    with contextlib.suppress(FileNotFoundError):
        os.unlink(partial)  # whoever made it may still have it open
    fd = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with open(fd, "w", encoding="ascii") as file:
        file.write(text)
        file.flush()
        os.fsync(fd)
    os.replace(partial, path)
