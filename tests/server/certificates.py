"""Certificates for tests, made with openssl: an authority, servers and clients that it vouches for."""

import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc


@dataclass(frozen=True)
class Certificate:
    cert: Path
    key: Path


def _openssl(*arguments: str | Path) -> None:
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)


_NEW_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


class Authority:
    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder
        self._name = name
        self.cert = folder / f"{name}.pem"
        self._key = folder / f"{name}.key"
        _openssl(
            "req", "-x509", *_NEW_KEY, "-keyout", self._key, "-out", self.cert, "-days", "2", "-subj", f"/CN={name}"
        )

    def issue(self, name: str) -> Certificate:
        """For `name`, at 127.0.0.1."""
        cert, key = (self._folder / f"{self._name}-{name}.{end}" for end in ("pem", "key"))
        request = self._folder / f"{name}.csr"
        names = self._folder / f"{name}.ext"
        names.write_text(f"subjectAltName=DNS:{name},IP:127.0.0.1\n")
        _openssl("req", *_NEW_KEY, "-keyout", key, "-out", request, "-subj", f"/CN={name}")
        _openssl(
            *("x509", "-req", "-in", request, "-CA", self.cert, "-CAkey", self._key, "-CAcreateserial"),
            *("-out", cert, "-days", "2", "-extfile", names),
        )
        return Certificate(cert, key)


def channel_credentials(authority: Authority, own: Certificate | None) -> Any:
    return grpc.ssl_channel_credentials(
        authority.cert.read_bytes(), own.key.read_bytes() if own else None, own.cert.read_bytes() if own else None
    )
