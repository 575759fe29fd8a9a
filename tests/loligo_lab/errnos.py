"""Expecting a system call to be refused with one errno."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def refused(number: int) -> Iterator[None]:
    """The block must raise OSError with this errno, and no other."""
    try:
        yield
    except OSError as error:
        assert error.errno == number, f"{name(error.errno)} instead of {name(number)}: {error}"
    else:
        raise AssertionError(f"it was not refused with {name(number)}")


def name(number: int | None) -> str:
    return f"{errno.errorcode.get(number or 0, number)} ({os.strerror(number or 0)})"
