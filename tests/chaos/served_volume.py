"""The metadata server of these tests: the product's own, which checkpoints and looks after objects all the time.

python -m chaos.served_volume ARGUMENTS OF LOLIGO SERVE
"""

from loligo_lab.serving import main
from loligo_mds.shell import served_volume, server
from loligo_mds.store import shard_store

_LIMITS = (
    (shard_store, "CHECKPOINT_BYTES", 1 << 20),
    (served_volume, "SETTLE_EVERY_S", 0.5),
    (server, "KEEP_EVERY_S", 0.1),
)

if __name__ == "__main__":
    for module, name, value in _LIMITS:
        assert hasattr(module, name)
        setattr(module, name, value)
    main()
