"""Futures of answers that are still to come, combined without a thread that waits for them.

What is called on completion runs on whichever thread completes the last future: it must be short, and must not block.
"""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import Any


def when_all(futures: list[Future[Any]], then: Callable[[list[Future[Any]]], None]) -> None:
    """Call `then(futures)` once all are done, on the thread that completes the last."""
    left = [len(futures)]
    guard = threading.Lock()

    def one_done(_: Future[Any]) -> None:
        with guard:
            left[0] -= 1
            last = left[0] == 0
        if last:
            then(futures)

    for future in futures:
        future.add_done_callback(one_done)


def pass_on(to: Future[Any], done: Future[Any]) -> None:
    """`to` ends as `done` has."""
    error = done.exception()
    if error is None:
        to.set_result(done.result())
    else:
        to.set_exception(error)


def followed(futures: list[Future[None]], then: Callable[[], Future[None]]) -> Future[None]:
    """A future of `then()`, which is called once all `futures` are done; or of the first of their errors."""
    result: Future[None] = Future()

    def follow(done: list[Future[None]]) -> None:
        failed = next((future for future in done if future.exception()), None)
        (then() if failed is None else failed).add_done_callback(partial(pass_on, result))

    when_all(futures, follow)
    return result


def gather(futures: list[Future[Any]], join: Callable[[list[Any]], Any]) -> Future[Any]:
    """A future of `join(results)`."""
    joined: Future[Any] = Future()

    def finish(done: list[Future[Any]]) -> None:
        try:
            result = join([future.result() for future in done])
        except Exception as error:  # noqa: BLE001 - whoever waits for it is told
            joined.set_exception(error)
        else:
            joined.set_result(result)

    when_all(futures, finish)
    return joined
