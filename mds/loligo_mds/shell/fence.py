"""Shuts clients out of the object store before their sessions end: what they may still have under way is void then.

RADOS refuses their addresses from then on (its blocklist); a store in a local folder knows no addresses, and only
processes of this machine write to it, so there is nothing to do. A client that never told its addresses has not opened
the store yet.
"""

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from loligo_runtime.object_store import ObjectStore


class Fencer:
    """Asks the cluster on a thread of its own: it may take a while, or not answer."""

    def __init__(self, objects: ObjectStore) -> None:
        self._objects = objects
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="fence")

    async def shut_out(self, addresses: Sequence[str]) -> None:
        """OSError: it is not sure that they are."""
        if addresses:
            loop = asyncio.get_running_loop()
            await loop.run_in_executor(self._thread, self._objects.shut_out, addresses)

    def close(self) -> None:
        self._thread.shutdown(cancel_futures=True)
