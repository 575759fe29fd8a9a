"""How far a purge is: a bar on a terminal, nothing elsewhere."""

import sys
import time
from typing import Any

import click

from loligo_runtime.sizes import format_size

_WIDTH = 24


class Progress:
    """Called with what is left of a batch. Use it as a context manager, which ends the line."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._began_s = self._told_s = time.monotonic()
        #: The most that was left so far: a directory that was removed as a whole is counted first.
        self._inodes = self._size_bytes = 0
        self._shows = sys.stderr.isatty()
        self._has_shown = False

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *exception: object) -> None:
        if self._has_shown:
            click.echo(err=True)

    def show(self, batch: Any) -> None:
        if self._shows:
            self._has_shown = True
            click.echo(f"\r\x1b[K{self._what}: {self.told(batch, time.monotonic())}", nl=False, err=True)

    def told(self, batch: Any, now_s: float) -> str:
        """Files, bytes, rate and time left."""
        self._inodes = max(self._inodes, batch.inodes)
        self._size_bytes = max(self._size_bytes, batch.size_bytes)
        if not batch.is_counted:
            self._began_s = now_s
            return f"counting what is in it: {batch.inodes} files so far, {format_size(batch.size_bytes)}"
        if batch.is_paused:
            self._began_s += now_s - self._told_s  # it does not count for the rate
        self._told_s = now_s
        done = self._inodes - batch.inodes
        filled = done * _WIDTH // max(1, self._inodes)
        rate = done / max(0.001, now_s - self._began_s)
        left = f", {batch.inodes / rate:.0f} s left" if rate else ""
        speed = "paused" if batch.is_paused else f"{rate:.0f}/s{left}"
        return (
            f"[{'#' * filled}{' ' * (_WIDTH - filled)}] {done} of {self._inodes} files,"
            f" {format_size(self._size_bytes - batch.size_bytes)} of {format_size(self._size_bytes)}, {speed}"
        )
