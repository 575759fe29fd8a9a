"""Shuts clients out of the object store before their sessions end: what they may still have under way is void then.

RADOS refuses their addresses from then on (its blocklist); a store in a local folder knows no addresses, and only
processes of this machine write to it, so there is nothing to do. A client that never told its addresses has not opened
the store yet.

A client names its own addresses, and nobody can prove that they are its own. So an address must be that of a single client
(without a nonce it would be a whole machine), and neither ours nor one that another session has named.
"""

import asyncio
import ipaddress
import re
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor

from loligo_runtime.object_store import ObjectStore

_ADDRESS = re.compile(r"(?:v[12]:)?(?:\[([0-9a-fA-F:.]+)\]|([0-9.]+)):(\d{1,5})/([1-9]\d{0,19})")


def is_client_address(text: str) -> bool:
    """Whether that is the address of one client of RADOS: 10.0.0.1:0/77, v2:10.0.0.1:0/77, v1:[::1]:0/77"""
    found = _ADDRESS.fullmatch(text)
    if found is None or int(found[3]) > 65535:
        return False
    try:
        ipaddress.ip_address(found[1] or found[2])
    except ValueError:
        return False
    return True


class Fencer:
    """Asks the cluster on a thread of its own: it may take a while, or not answer."""

    def __init__(self, objects: ObjectStore) -> None:
        self._objects = objects
        self._own = frozenset(objects.addresses())
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="fence")

    def may_name(self, addresses: Iterable[str]) -> bool:
        """Whether a client can have these."""
        return all(is_client_address(address) and address not in self._own for address in addresses)

    async def shut_out(self, addresses: Sequence[str]) -> None:
        """OSError: it is not sure that they are."""
        if addresses:
            loop = asyncio.get_running_loop()
            await loop.run_in_executor(self._thread, self._objects.shut_out, addresses)

    def close(self) -> None:
        self._thread.shutdown(cancel_futures=True)
