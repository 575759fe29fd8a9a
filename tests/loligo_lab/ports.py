"""TCP ports on 127.0.0.1 for servers of tests, which must find them free at each start."""

import contextlib
import socket
from pathlib import Path

_LOWEST = 10_000

_reservations: list[socket.socket] = []


def free_port() -> int:
    """A TCP port on 127.0.0.1 that nobody listens on, and that nobody else gets for as long as this process lives.

    It lies below those that the kernel gives to connections by itself: one of those may be the near end of somebody's
    connection by the time that it is listened on. What keeps other test processes from it is a name, a socket in the
    abstract namespace, since a server that is started again must find its port free.
    """
    first_of_kernel = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    for port in range(first_of_kernel - 1, _LOWEST - 1, -1):
        reservation = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        with contextlib.suppress(OSError), socket.socket() as probe:
            reservation.bind(f"\0loligo-lab-port-{port}")
            probe.bind(("127.0.0.1", port))
            _reservations.append(reservation)
            return port
        reservation.close()
    raise OSError(f"no TCP port is free between {_LOWEST} and {first_of_kernel}")
