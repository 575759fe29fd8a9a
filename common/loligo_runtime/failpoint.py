"""Places where a test may kill the process, to see what a crash leaves behind.

    from loligo_runtime.failpoint import declare, failpoint
    declare("journal.append.before", "journal.append.after")
    ...
    failpoint("journal.append.before")

`LOLIGO_FAILPOINT="journal.append.before:3"` in the environment of a process kills it (SIGKILL: no
handler, no buffer flushed) at the third hit of that point. Without the variable a failpoint costs
one call that tests one name.

Rules: a module declares its names when it is imported, so that a test can run through `names()` and
miss none; a name says what comes before or after it. Nothing but crashing happens here: faults that
return are made with real disks and small file systems.
"""

import os
import signal

_names: set[str] = set()


_armed: str | None = None
_left = 0


def arm(setting: str) -> None:
    """What the environment variable does, for a process that was forked: "NAME:COUNT". ValueError."""
    global _armed, _left
    name, _, count = setting.rpartition(":")
    if not name or not count.isdigit() or int(count) < 1:
        raise ValueError(f"LOLIGO_FAILPOINT={setting!r}: say NAME:COUNT, for example a.b.before:1")
    _armed, _left = name, int(count)


if _setting := os.environ.get("LOLIGO_FAILPOINT"):
    arm(_setting)


def declare(*names: str) -> None:
    """Make `names` known to `names()`. ValueError if one is taken: two places would share a count."""
    for name in names:
        if name in _names:
            raise ValueError(f"failpoint {name} is declared twice")
        _names.add(name)


def names() -> list[str]:
    """All failpoints of the modules imported so far, sorted."""
    return sorted(_names)


def failpoint(name: str) -> None:
    """Die here, if the environment says so."""
    if _armed is not None:
        _hit(name)


def _hit(name: str) -> None:
    global _left
    if name not in _names:
        raise ValueError(f"failpoint {name} is not declared")
    if name == _armed:
        _left -= 1
        if _left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
