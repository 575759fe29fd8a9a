"""Puts a mount process into the background: the command returns when the mount works, or fails with its reason.

The process gets a session of its own, so it outlives its terminal, and keeps no file of the caller's open. It reports once
through a pipe: that it is ready, or why it ends. If it dies without a word, the end of the pipe tells that.
"""

import logging
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from typing import NoReturn

from loligo.failures import CommandError, explain

log = logging.getLogger(__name__)

_READY = b"\0"


def run_in_background(work: Callable[[Callable[[], None]], None], log_path: str, log_to: Callable[[str], None]) -> int:
    """Run `work(on_ready)` in a new process; return its id once it has called `on_ready`.

    CommandError with the process's own reason if it ends before. Call it while there are no other threads.
    """
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        _run_detached(work, writing, log_path, log_to)
    os.close(writing)
    try:
        with open(reading, "rb") as pipe:
            said = pipe.read()
    except KeyboardInterrupt:
        os.kill(pid, signal.SIGTERM)
        raise
    if said == _READY:
        return pid
    _, status = os.waitpid(pid, 0)
    if said:
        raise CommandError(said.decode(errors="replace"))
    how = (
        f"signal {os.WTERMSIG(status)}" if os.WIFSIGNALED(status) else f"exit code {os.waitstatus_to_exitcode(status)}"
    )
    raise CommandError(f"the mount process ended before the mount worked ({how}): see {log_path}")


def _run_detached(
    work: Callable[[Callable[[], None]], None], writing: int, log_path: str, log_to: Callable[[str], None]
) -> NoReturn:
    code = 1
    lock = threading.Lock()
    reported = False

    def report(text: bytes) -> None:
        nonlocal reported
        with lock:
            if not reported:
                reported = True
                os.write(writing, text)
                os.close(writing)

    try:
        os.setsid()
        os.chdir("/")
        sys.stdout.flush()
        nothing = os.open(os.devnull, os.O_RDWR)
        for standard in (0, 1, 2):
            os.dup2(nothing, standard)
        os.close(nothing)
        log_to(log_path)
        work(lambda: report(_READY))
        code = 0
    except BaseException as error:
        text = explain(error)
        if text is None:
            log.critical("this is a bug in loligo", exc_info=error)
            text = f"{traceback.format_exception_only(error)[-1].strip()} (a bug in loligo): see {log_path}"
        else:
            log.error("%s", text)
        report(text.encode())
    finally:
        logging.shutdown()
        os._exit(code)
