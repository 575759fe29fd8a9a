"""TCP ports on 127.0.0.1 for servers of tests, which must find them free at each start.

Each process gives out those of a block that no other test process has. Blocks outside the range from which the kernel takes
ports for connections come first: one of those may be the near end of somebody's connection by the time that it is listened on.
"""

import contextlib
import functools
import socket
from collections.abc import Iterator
from itertools import cycle, islice
from pathlib import Path

_FIRST = 20_000
BLOCK = 1000

#: A name in the abstract namespace, for as long as this process lives.
_reserved: list[socket.socket] = []


def free_port() -> int:
    """A port that nobody listens on. No other test process gets it, and this one not soon again."""
    for port in islice(_ports(), BLOCK):
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            return port
    raise OSError(f"none of this process's {BLOCK} TCP ports on 127.0.0.1 is free")


@functools.cache
def _ports() -> Iterator[int]:
    """Those of this process's block, again and again."""
    low, high = map(int, Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split())
    for first in blocks(low, high):
        reservation = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            reservation.bind(f"\0loligo-lab-ports-{first}")
        except OSError:
            reservation.close()
            continue
        _reserved.append(reservation)
        return cycle(range(first, first + BLOCK))
    raise OSError("other test processes have all blocks of TCP ports")


def blocks(low: int, high: int) -> list[int]:
    """Their first ports, the best first. The kernel takes those from `low` to `high` for connections."""
    return sorted(range(_FIRST, 65_536 - BLOCK, BLOCK), key=lambda first: first <= high and first + BLOCK > low)
