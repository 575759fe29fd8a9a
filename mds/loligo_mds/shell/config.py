"""What a server is told: flags and a TOML file with the same keys. Flags win.

    volume = "work"                      a name, or the URL of the metadata
    listen = "127.0.0.1:9440"            where clients connect
    metrics = "127.0.0.1:9441"           where Prometheus asks; "" for nowhere
    tls-cert = "/etc/loligo/server.pem"  this server's certificate, and its key
    tls-key = "/etc/loligo/server.key"
    tls-ca = "/etc/loligo/ca.pem"        clients must show a certificate that this one has signed
    insecure-network = false             listen beyond this machine though nobody is authenticated
    session-expiry = 60                  seconds of silence after which a client is shut out
    purge-rate = 0                       inodes that leave the trash in a second, at most; 0: as many as can be
    log-level = "info"

Everything is checked here, but for what only the operating system knows: whether files can be read, and ports taken.
"""

import ipaddress
import socket
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

LOG_LEVELS = ("debug", "info", "warning", "error")
EXPIRY_MIN_S = 1.0
EXPIRY_MAX_S = 86400.0


class ServeError(Exception):
    """A server cannot be started as it was told. The text says what to do."""


class ConfigError(ServeError):
    """What it was told makes no sense."""


@dataclass(frozen=True, slots=True)
class ServerConfig:
    """Keys of the file are these names with '-' for '_'; `session_expiry` is in seconds, `purge_rate` in inodes a second."""

    volume: str
    listen: str = "127.0.0.1:9440"
    metrics: str = "127.0.0.1:9441"
    tls_cert: str = ""
    tls_key: str = ""
    tls_ca: str = ""
    insecure_network: bool = False
    session_expiry: float = 60.0
    log_level: str = "info"
    purge_rate: float = 0.0

    @property
    def has_tls(self) -> bool:
        return bool(self.tls_cert)


_KEYS = {field.name.replace("_", "-"): field for field in fields(ServerConfig)}


def read_config(path: str) -> dict[str, Any]:
    """What the file says, by field. ConfigError, also if it cannot be read."""
    try:
        with open(path, "rb") as file:
            said = tomllib.load(file)
    except OSError as error:
        raise ConfigError(f"config {path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is no TOML file: {error}") from None
    found = {}
    for key, value in said.items():
        field = _KEYS.get(key)
        if field is None:
            raise ConfigError(f"{path}: there is no key {key!r}; these are known: {', '.join(_KEYS)}")
        kind: Any = field.type
        if kind is float and type(value) is int:
            value = float(value)
        if type(value) is not kind:
            kinds = {str: "a text in quotes", bool: "true or false", float: "a number"}
            raise ConfigError(f"{path}: {key} must be {kinds[kind]}")
        found[field.name] = value
    return found


def make_config(*sources: Mapping[str, Any]) -> ServerConfig:
    """The configuration of these sources, later ones win. A value None says nothing. ConfigError."""
    said = {name: value for source in sources for name, value in source.items() if value is not None}
    if not said.get("volume"):
        raise ConfigError("no volume is given: name it as the argument, or as 'volume' in the file of --config")
    config = ServerConfig(**said)
    if not EXPIRY_MIN_S <= config.session_expiry <= EXPIRY_MAX_S:
        raise ConfigError(f"session-expiry must be between {EXPIRY_MIN_S:g} and {EXPIRY_MAX_S:g} seconds")
    if not 0 <= config.purge_rate < float("inf"):
        raise ConfigError("purge-rate must be a number of inodes a second; 0 for no limit")
    if config.log_level not in LOG_LEVELS:
        raise ConfigError(f"{config.log_level!r} is no log-level: choose one of {', '.join(LOG_LEVELS)}")
    _check_tls(config)
    _check_network(config)
    if config.metrics:
        split_address(config.metrics, "metrics")
    return config


def _check_tls(config: ServerConfig) -> None:
    if bool(config.tls_cert) != bool(config.tls_key):
        missing = "tls-key" if config.tls_cert else "tls-cert"
        raise ConfigError(f"TLS needs a certificate and its key: {missing} is missing")
    if config.tls_ca and not config.tls_cert:
        raise ConfigError("tls-ca alone protects nothing: give tls-cert and tls-key too")


def _check_network(config: ServerConfig) -> None:
    host, _ = split_address(config.listen, "listen")
    if config.tls_ca or config.insecure_network or _is_loopback(host):
        return
    lacking = "without knowing who connects" if config.has_tls else "without TLS"
    raise ConfigError(
        f"listening on {config.listen}, beyond this machine, {lacking} lets everybody there read and change everything:"
        " give --tls-cert, --tls-key and --tls-ca, or say --insecure-network if all of that network is to be trusted"
    )


def split_address(address: str, what: str) -> tuple[str, int]:
    """(host, port) of "host:port" or "[::1]:port". ConfigError."""
    host, colon, port = address.rpartition(":")
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if not colon or not bare or (":" in bare and bare == host) or not port.isdecimal() or int(port) > 65535:
        raise ConfigError(
            f"{what}: {address!r} is no address; give HOST:PORT, for example 127.0.0.1:9440 or [::1]:9440"
        )
    return bare, int(port)


def _is_loopback(host: str) -> bool:
    """Whether only this machine can connect to what listens there. ConfigError if nobody knows the host."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError as error:
        raise ConfigError(f"listen: {host!r} is no address of this machine ({error.strerror})") from None
    return all(ipaddress.ip_address(str(address[0]).partition("%")[0]).is_loopback for *_, address in found)
