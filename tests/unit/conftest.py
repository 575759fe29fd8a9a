"""Fixtures of the tests of pure parts."""

from unit.shard_lab import lab

__all__ = ["lab"]
