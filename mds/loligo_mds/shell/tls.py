"""The TLS of a server: its own certificate, and whose certificates clients must show."""

import ssl
from typing import Any

import grpc

from loligo_mds.shell.config import ConfigError, ServerConfig


def server_credentials(config: ServerConfig) -> Any:
    """For grpc, which says nothing useful about bad files: everything is checked before. ConfigError."""
    certificate = _read("tls-cert", config.tls_cert)
    key = _read("tls-key", config.tls_key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(config.tls_cert, config.tls_key, password=_no_password)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise ConfigError(
                f"{config.tls_key} is not the key of {config.tls_cert}: give the pair that belongs together"
            ) from None
        raise ConfigError(
            f"{config.tls_cert} and {config.tls_key} are no certificate and key in PEM form ({error.reason or error})"
        ) from None
    if not config.tls_ca:
        return grpc.ssl_server_credentials([(key, certificate)])
    authority = _read("tls-ca", config.tls_ca)
    try:
        context.load_verify_locations(config.tls_ca)
    except ssl.SSLError as error:
        raise ConfigError(f"{config.tls_ca} is no certificate in PEM form ({error.reason or error})") from None
    return grpc.ssl_server_credentials([(key, certificate)], root_certificates=authority, require_client_auth=True)


def peer_identity(context: Any) -> str:
    """Whose certificate the client of a call has shown: its names, as gRPC's authors order them. "" without one."""
    identities = context.peer_identities()
    return ",".join(name.decode(errors="replace") for name in identities) if identities else ""


def _no_password() -> str:
    raise ConfigError("the TLS key has a password: a server has nobody to ask for it; give a key without")


def _read(option: str, path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise ConfigError(f"{option} {path}: {error.strerror}") from None
