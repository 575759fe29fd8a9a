"""How batches are called: when the first of it was removed, in UTC, and its number, as ``2026-11-29T05:31:12Z-17``.

The number is all that counts; the time is for people, who look for what they removed this morning.
"""

import re
from datetime import UTC, datetime
from typing import Final

_NAME: Final = re.compile(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ-([1-9]\d{0,18})")


def batch_name(id: int, first_ns: int) -> bytes:
    when = datetime.fromtimestamp(first_ns // 1_000_000_000, UTC)
    return f"{when:%Y-%m-%dT%H:%M:%SZ}-{id}".encode()


def batch_of_name(name: bytes) -> int | None:
    """Its number; None: no batch is called so."""
    found = _NAME.fullmatch(name)
    return int(found[1]) if found else None
