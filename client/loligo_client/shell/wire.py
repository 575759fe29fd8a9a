"""A TCP connection, with TLS if wanted, that never blocks: what cannot be written now is kept, what is not there is b"".

It is not for several threads at once: whoever shares it has a lock.
"""

import errno
import os
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

_READ_BYTES: Final = 1 << 16
#: What HTTP/2 is called when TLS is agreed on.
_HTTP2: Final = "h2"


class WireError(Exception):
    """There is no connection (any more); says why."""


@dataclass(frozen=True, slots=True)
class Tls:
    """Paths of PEM files: the authority that signed the server's certificate; our certificate and its key, or neither."""

    ca: str
    cert: str = ""
    key: str = ""

    def context(self) -> ssl.SSLContext:
        """WireError if a file makes no sense; OSError if it cannot be read."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols([_HTTP2])
        path = self.ca
        try:
            context.load_verify_locations(self.ca)
            if self.cert:
                path = f"{self.cert} with the key {self.key}"
                context.load_cert_chain(self.cert, self.key, password=_no_password)
        except ssl.SSLError as error:
            raise WireError(f"{path} cannot be used for TLS ({error.reason or error})") from None
        return context


def _no_password() -> str:
    raise WireError("the TLS key has a password: a mount has nobody to ask for it; give a key without")


#: Waits until the socket can be read or (True) written; raises if that takes too long.
Wait = Callable[[socket.socket, bool], None]


class Wire:
    def __init__(self, address: str, tls: Tls | None, wait: Wait) -> None:
        """Connect to "host:port". WireError, or what `wait` raises."""
        host, _, port = address.rpartition(":")
        host = host.removeprefix("[").removesuffix("]")
        context = tls.context() if tls is not None else None
        self._socket = _connect(host, int(port), wait)
        #: Where received bytes arrive: to allocate so much for each time costs more than to receive.
        self._buffer = bytearray(_READ_BYTES)
        #: Bytes that the kernel has not taken yet.
        self._unsent = bytearray()
        self._tls: ssl.SSLObject | None = None
        if context is not None:
            self._came = ssl.MemoryBIO()
            self._leaves = ssl.MemoryBIO()
            self._tls = context.wrap_bio(self._came, self._leaves, server_hostname=host)
            try:
                self._agree(self._tls, wait)
            except BaseException:
                self.close()
                raise

    def fileno(self) -> int:
        return self._socket.fileno()

    @property
    def has_unsent(self) -> bool:
        return bool(self._unsent)

    def write(self, data: bytearray) -> None:
        """Take all of `data`; what the kernel does not take now waits for `flush`. WireError."""
        if self._tls is not None:
            self._tls.write(data)
            self._unsent += self._leaves.read()
            self.flush()
        elif self._unsent:
            self._unsent += data
            self.flush()
        else:
            sent = self._send(data)
            if sent < len(data):
                self._unsent += memoryview(data)[sent:]

    def flush(self) -> None:
        if self._unsent:
            del self._unsent[: self._send(self._unsent)]

    def read(self) -> bytes:
        """What has come; b"" if that is nothing. WireError at the end."""
        data = self._receive()
        if self._tls is None or not data:
            return data
        self._came.write(data)
        pieces = []
        try:
            while piece := self._tls.read(_READ_BYTES):
                pieces.append(piece)
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError as error:
            if not pieces:  # else the next read finds the end
                raise WireError(_tls_meaning(error)) from None
        self._unsent += self._leaves.read()
        self.flush()
        return b"".join(pieces)

    def close(self) -> None:
        self._socket.close()

    def _agree(self, tls: ssl.SSLObject, wait: Wait) -> None:
        while True:
            try:
                tls.do_handshake()
                done = True
            except ssl.SSLWantReadError:
                done = False
            except ssl.SSLError as error:
                raise WireError(_tls_meaning(error)) from None
            self._unsent += self._leaves.read()
            self.flush()
            while self._unsent:
                wait(self._socket, True)
                self.flush()
            if done:
                break
            wait(self._socket, False)
            self._came.write(self._receive())
        if tls.selected_alpn_protocol() != _HTTP2:
            raise WireError("it does not speak HTTP/2 over TLS")

    def _send(self, data: bytes | bytearray) -> int:
        try:
            return self._socket.send(data)
        except BlockingIOError:
            return 0
        except OSError as error:
            raise WireError(_meaning(error)) from None

    def _receive(self) -> bytes:
        try:
            length = self._socket.recv_into(self._buffer)
        except BlockingIOError:
            return b""
        except OSError as error:
            raise WireError(_meaning(error)) from None
        if not length:
            raise WireError("the server closed the connection")
        return bytes(memoryview(self._buffer)[:length])


def _connect(host: str, port: int, wait: Wait) -> socket.socket:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise WireError(f"nobody knows the host {host!r} ({error.strerror})") from None
    problem = WireError(f"the host {host!r} has no address")
    for family, kind, protocol, _, address in found:
        one = socket.socket(family, kind, protocol)
        try:
            one.setblocking(False)
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            code = one.connect_ex(address)
            if code == errno.EINPROGRESS:
                wait(one, True)
                code = one.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if code == 0:
                return one
            problem = WireError(_meaning(OSError(code, os.strerror(code))))
        except BaseException:
            one.close()
            raise
        one.close()
    raise problem


def _meaning(error: OSError) -> str:
    if error.errno == errno.ECONNREFUSED:
        return "connection refused; is 'loligo serve' running there?"
    return str(error.strerror or error).lower()


def _tls_meaning(error: ssl.SSLError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not good: {error.verify_message}"
    reason = error.reason or str(error)
    if reason == "WRONG_VERSION_NUMBER":
        return "it does not speak TLS; ca= is for servers that do"
    if reason in ("TLSV13_ALERT_CERTIFICATE_REQUIRED", "SSLV3_ALERT_HANDSHAKE_FAILURE"):
        return "it wants a certificate of this client: give cert= and key="
    return f"TLS failed ({reason.replace('_', ' ').lower()})"
