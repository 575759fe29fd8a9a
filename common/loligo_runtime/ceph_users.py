"""The two users of Ceph that a volume needs, each with the least it can do with. Pure: `ceph_keys` makes them.

- the daemon (`loligo serve`) removes and repairs objects, and shuts out clients that were silent for too long
- the clients (`loligo mount`) read, write and remove objects

Both may touch the objects of one namespace in one pool. Only the daemon may blocklist, and only single clients. Neither
can make pools, see keys, or take anything off the blocklist.
"""

import re
import shlex
from dataclasses import dataclass

_ENTITY = re.compile(r"client\.[A-Za-z0-9_.-]+")
_PLAIN = re.compile(r"[A-Za-z0-9_.-]+")
_NOT_PLAIN = re.compile(r"[^A-Za-z0-9_.-]")


class CephUserError(Exception):
    """A user of Ceph cannot be named, asked for or made. The text says what to do."""


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


def entities_of(volume: str) -> tuple[str, str]:
    """(the daemon's, the clients') names for a volume, or for a namespace that is called as its volume."""
    plain = _NOT_PLAIN.sub("-", volume)
    return f"client.loligo-{plain}-daemon", f"client.loligo-{plain}"


def users_of(pool: str, namespace: str, daemon: str, client: str) -> tuple[CephUser, CephUser]:
    """(the daemon's, the clients') of the volume whose data is there. CephUserError: what cannot be said to Ceph."""
    for entity in (daemon, client):
        if not _ENTITY.fullmatch(entity):
            raise CephUserError(
                f"{entity!r} is no name of a Ceph user: give client.NAME, of letters, digits, '.', '_', '-'"
            )
    if daemon == client:
        raise CephUserError(
            f"the daemon and its clients cannot both be {daemon}: clients must not be able to blocklist"
        )
    # Without a namespace in it a capability would be for all of them.
    objects = f"allow rw pool={_quoted(pool)} namespace={_quoted(namespace)}"
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
        raise CephUserError(f'{name!r} cannot be named in the capabilities of a Ceph user: choose one without " and *')
    return name if _PLAIN.fullmatch(name) else f'"{name}"'
