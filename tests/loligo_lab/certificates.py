"""A certificate authority for tests, and certificates that it signs. Made with openssl; valid for a day."""

import subprocess
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Pair:
    cert: Path
    key: Path


class Authority:
    def __init__(self, folder: Path, name: str = "ca") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._own = Pair(folder / f"{name}.pem", folder / f"{name}.key")
        self._openssl(
            *("req", "-x509", *self._key(self._own), "-subj", f"/CN={name}", "-days", "1"),
            *("-addext", "keyUsage=critical,keyCertSign"),
        )

    @property
    def cert(self) -> Path:
        return self._own.cert

    def sign(self, name: str, *addresses: str) -> Pair:
        """A certificate for `name`; `addresses` as openssl writes them: "DNS:localhost", "IP:127.0.0.1"."""
        pair = Pair(self._folder / f"{name}.pem", self._folder / f"{name}.key")
        alternatives = ("-addext", f"subjectAltName={','.join(addresses)}") if addresses else ()
        self._openssl(
            *("req", "-x509", *self._key(pair), "-subj", f"/CN={name}", "-days", "1", *alternatives),
            *(
                "-CA",
                str(self._own.cert),
                "-CAkey",
                str(self._own.key),
                "-addext",
                "basicConstraints=critical,CA:FALSE",
            ),
        )
        return pair

    @staticmethod
    def _key(pair: Pair) -> tuple[str, ...]:
        curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
        return *curve, "-keyout", str(pair.key), "-out", str(pair.cert)

    @staticmethod
    def _openssl(*arguments: str) -> None:
        done = subprocess.run(["openssl", *arguments], capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
