"""Loss of power under a mount that works: what an fsync promised is there, the rest is a first part of what was done."""

import os
from pathlib import Path
from random import Random

import pytest

from chaos.life import Life
from chaos.lossy_disk import LossyDisk

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="mounting a disk image needs root")


@pytest.mark.parametrize("seed", range(5))
def test_power_lost_at_any_time(seed: int, tmp_path: Path) -> None:
    random = Random(seed)
    with LossyDisk(tmp_path) as disk, Life(disk.path, seed=2000 + seed, power_loss=True) as life:
        for _ in range(4):
            assert life.work(10_000, kill_after_s=random.uniform(0.01, 0.5))
            disk.lose_power(random)
            life.check_recovered()
