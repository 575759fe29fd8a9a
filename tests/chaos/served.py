"""The mount process of these tests: the product's own, with limits so small that a second of work meets all of them.

LOLIGO_FAILPOINT arms it from its first instruction, as everywhere; LOLIGO_LAB_FAILPOINT once it is mounted.
LOLIGO_LAB_BOOT_ID names the file that tells one start of the machine from another.

    python -m chaos.served META_URL DIRECTORY OPTIONS FLAGS_ALLOWED
"""

import os
import sys
from collections.abc import Callable

from loligo_client.shell import data_path, embedded, mount, writing
from loligo_lab.mounts import main
from loligo_mds.store import journal, lmdb_tables, shard_store
from loligo_runtime import failpoint

_LIMITS = (
    (embedded, "TICK_S", 0.02),
    (embedded, "SETTLE_EVERY_S", 0.1),
    (embedded, "DIRTY_LIMIT_BYTES", 400 << 10),
    (data_path, "FLUSH_AFTER_NS", 30_000_000),
    (writing, "UNSETTLE_AHEAD_BLOCKS", 2),
    (journal, "PIECE_BYTES", 64 << 10),
    (journal, "MAX_RECORD_BYTES", 24 << 10),
    (shard_store, "MAX_RECORD_BYTES", 24 << 10),
    (shard_store, "LAST_RESERVE_BYTES", 8 << 10),
    (shard_store, "CHECKPOINT_BYTES", 48 << 10),
    (lmdb_tables, "ROOM_BYTES", 64 << 10),
)


def _serve(plan: mount.MountPlan, on_ready: Callable[[], None]) -> None:
    def arm_and_tell() -> None:
        if setting := os.environ.get("LOLIGO_LAB_FAILPOINT"):
            failpoint.arm(setting)
        on_ready()

    _real_serve(plan, arm_and_tell)


if __name__ == "__main__":
    for module, name, value in _LIMITS:
        assert hasattr(module, name)
        setattr(module, name, value)
    if path := os.environ.get("LOLIGO_LAB_BOOT_ID"):
        shard_store._BOOT_ID = path
    _real_serve = mount.serve
    mount.serve = _serve
    main(*sys.argv[1:])
