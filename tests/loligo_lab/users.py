"""Doing something as another user, in a child process: credentials of a thread would leak into the test's own."""

import os
import pickle
from collections.abc import Callable, Sequence
from typing import TypeVar

NOBODY = 65534
SOMEBODY = 12345

_Result = TypeVar("_Result")


def as_user(
    work: Callable[[], _Result], uid: int = NOBODY, gid: int | None = None, groups: Sequence[int] = ()
) -> _Result:
    """The result of `work()`, or the exception it raised; both must be picklable. Its process has no privileges."""
    return in_child(work, lambda: _become(uid, uid if gid is None else gid, groups))


def in_child(work: Callable[[], _Result], prepare: Callable[[], None] = lambda: None) -> _Result:
    """`work()` in a forked process, which ends with it."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        try:
            prepare()
            answer = pickle.dumps((True, work()))
        except BaseException as error:  # noqa: BLE001 - the parent raises it
            answer = pickle.dumps((False, error))
        with open(writing, "wb") as pipe:
            pipe.write(answer)
        os._exit(0)
    os.close(writing)
    with open(reading, "rb") as pipe:
        said = pipe.read()
    _, status = os.waitpid(pid, 0)
    assert said, f"the child ended with status {status} and no answer"
    succeeded, result = pickle.loads(said)
    if not succeeded:
        raise result
    return result  # type: ignore[no-any-return]


def _become(uid: int, gid: int, groups: Sequence[int]) -> None:
    os.setgroups(groups)
    os.setgid(gid)
    os.setuid(uid)
