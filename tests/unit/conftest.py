"""Fixtures of the tests of pure parts, and of the data path on scripted I/O."""

import pytest

pytest.register_assert_rewrite("unit.shard_lab", "unit.data_lab", "loligo_lab.scripted_objects")

from unit.shard_lab import lab  # noqa: E402 - its assertions are rewritten first

__all__ = ["lab"]
