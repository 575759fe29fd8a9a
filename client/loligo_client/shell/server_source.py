"""What a mount through a metadata server is called, checked before anything runs.

    HOST:PORT[,HOST:PORT ...]/VOLUME[/DIRECTORY]        an IPv6 address in brackets: [::1]:9440

Several addresses are of the same server, or of those that may take its place.
"""

import ipaddress
import os
from dataclasses import dataclass

from loligo_runtime.volume import NAME

_FORM = "HOST:PORT[,HOST:PORT]/VOLUME[/DIRECTORY], for example mds1:9440/work or [::1]:9440/work/projects"


class SourceError(Exception):
    """No such thing can be mounted. The text says what a right source looks like."""


class ServerError(Exception):
    """A metadata server cannot be reached, or refuses. The text says why."""


@dataclass(frozen=True, slots=True)
class ServerSource:
    """`root_path` is the directory within the volume that is mounted, without "/" at its ends; empty: all of it."""

    addresses: tuple[str, ...]
    volume: str
    root_path: bytes

    @property
    def stays_here(self) -> bool:
        """Whether no word leaves this machine."""
        return all(_is_loopback(address.rpartition(":")[0].strip("[]")) for address in self.addresses)


def parse_source(source: str) -> ServerSource | None:
    """None if `source` is none of a server: a volume's name, or the URL of its metadata. SourceError."""
    if ":" not in source or "://" in source:
        return None
    hosts, slash, path = source.partition("/")
    volume, _, directory = path.strip("/").partition("/")
    if not slash or not volume:
        raise SourceError(f"{source!r} names no volume: write {_FORM}")
    if not NAME.fullmatch(volume):
        raise SourceError(f"{volume!r} is no name of a volume: write {_FORM}")
    parts = [os.fsencode(part) for part in directory.split("/") if part]
    if {b".", b".."} & set(parts):
        raise SourceError(f"{source!r}: say which directory without '.' and '..'")
    addresses = tuple(hosts.split(","))
    for address in addresses:
        _check_address(address, source)
    return ServerSource(addresses, volume, b"/".join(parts))


def _check_address(address: str, source: str) -> None:
    host, colon, port = address.rpartition(":")
    if not colon or not host or not (port.isascii() and port.isdecimal()) or not 0 < int(port) < 65536:
        raise SourceError(f"{address!r} in {source!r} is no HOST:PORT: write {_FORM}")
    if host.startswith("[") and host.endswith("]"):
        try:
            ipaddress.IPv6Address(host[1:-1].partition("%")[0])
        except ValueError:
            raise SourceError(f"{host} in {source!r} is no IPv6 address") from None
    elif ":" in host:
        raise SourceError(f"{address!r} in {source!r}: put an IPv6 address in brackets, as in [::1]:9440")


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return False
