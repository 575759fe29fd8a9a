"""Tells the service manager how this process is: the protocol of sd_notify(3)."""

import contextlib
import os
import socket


class Notifier:
    """Says nothing where nobody wants to know. Never an error: a manager that has gone is no reason to stop."""

    def __init__(self) -> None:
        path = os.environ.get("NOTIFY_SOCKET", "")
        self._address = "\0" + path[1:] if path.startswith("@") else path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) if path else None
        watched = os.environ.get("WATCHDOG_USEC", "")
        is_ours = os.environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        #: A WATCHDOG=1 is due at least so often; None: nobody watches.
        self.watchdog_s = int(watched) / 2e6 if watched.isdecimal() and is_ours and self._socket else None

    def say(self, **states: str | int) -> None:
        """For example say(READY=1, STATUS="serving")."""
        if self._socket is not None:
            text = "\n".join(f"{name}={value}" for name, value in states.items())
            with contextlib.suppress(OSError):
                self._socket.sendto(text.encode(), socket.MSG_DONTWAIT, self._address)

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
