"""Waiting for the disk, for coroutines: one fdatasync of the journal serves everybody who waits when it begins."""

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor


class JournalSync:
    """`sync` blocks until everything so far survives a power loss; it runs on a thread of its own. `observe(took_s)`"""

    def __init__(self, sync: Callable[[], None], observe: Callable[[float], None]) -> None:
        self._sync = sync
        self._observe = observe
        self._waiting: list[asyncio.Future[None]] = []
        self._task: asyncio.Task[None] | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="sync")

    def wait(self) -> asyncio.Future[None]:
        """Done when everything that was answered up to now survives. OSError."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        self._waiting.append(future)
        if self._task is None:
            self._task = loop.create_task(self._run())
        return future

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while self._waiting:
            served, self._waiting = self._waiting, []
            problem: Exception | None = None
            try:
                await loop.run_in_executor(self._thread, self._timed)
            except Exception as error:  # noqa: BLE001 - theirs who wait
                problem = error
            for future in served:
                if future.cancelled():
                    continue
                if problem is None:
                    future.set_result(None)
                else:
                    future.set_exception(problem)
        self._task = None

    def _timed(self) -> None:
        began_s = time.perf_counter()
        self._sync()
        self._observe(time.perf_counter() - began_s)

    async def close(self) -> None:
        if self._task is not None:
            await self._task
        self._thread.shutdown()
