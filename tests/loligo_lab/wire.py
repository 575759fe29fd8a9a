"""A wire between clients and a server that a test may cut: TCP connections that pass through this process.

    with Wire(server.port) as wire:
        …                       # clients connect to 127.0.0.1:wire.port
        wire.cut()              # every connection is reset, wherever it is in the middle of

Whoever finds the server away finds the wire dead too: a connection that it does not take is reset.
"""

import contextlib
import socket
import struct
import threading

#: Closing sends RST, and what was not sent yet is lost.
_RESET = struct.pack("ii", 1, 0)


class Wire:
    def __init__(self, to_port: int) -> None:
        self._to_port = to_port
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self._lock = threading.Lock()
        self._ends: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> "Wire":
        self._start(self._accept)
        return self

    def __exit__(self, *exception: object) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self.cut()
        for thread in self._threads:
            thread.join()
        self.cut()

    def cut(self) -> int:
        """How many connections there were."""
        with self._lock:
            ends, self._ends = self._ends, set()
        for end in ends:
            with contextlib.suppress(OSError):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                end.shutdown(socket.SHUT_RDWR)
        return len(ends) // 2

    def _start(self, work: object, *arguments: object) -> None:
        thread = threading.Thread(target=work, args=arguments, name="wire", daemon=True)  # type: ignore[arg-type]
        self._threads = [*(one for one in self._threads if one.is_alive()), thread]
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listening.accept()
            except OSError:
                return
            try:
                far = socket.create_connection(("127.0.0.1", self._to_port))
            except OSError:
                near.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                near.close()
                continue
            for end in (near, far):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._lock:
                self._ends |= {near, far}
            both = _Pair(near, far)
            self._start(self._pump, both, near, far)
            self._start(self._pump, both, far, near)

    def _pump(self, both: "_Pair", source: socket.socket, target: socket.socket) -> None:
        """Until one of the ends is closed; then both are."""
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                target.sendall(data)
        with self._lock:
            self._ends -= {source, target}
        both.end()


class _Pair:
    """Two ends of one connection; closed when both directions are done."""

    def __init__(self, near: socket.socket, far: socket.socket) -> None:
        self._ends = (near, far)
        self._left = 2
        self._lock = threading.Lock()

    def end(self) -> None:
        for end in self._ends:
            with contextlib.suppress(OSError):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                end.shutdown(socket.SHUT_RDWR)
        with self._lock:
            self._left -= 1
            if not self._left:
                for end in self._ends:
                    end.close()
