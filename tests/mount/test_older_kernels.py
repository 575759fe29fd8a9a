"""Kernels that offer less: an older protocol, and without flags that we would like to have.

This kernel plays them: the session is not told of what it may not use, and does without.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from loligo_fuse import InitFlag
from loligo_lab.mounts import LabMount, assert_sound, make_lab_volume
from mount.agreement import Operation, Pair, examples, paired

ALL = (1 << 64) - 1
NOTHING = 0
WITHOUT_LISTINGS = ALL & ~(
    InitFlag.DO_READDIRPLUS | InitFlag.READDIRPLUS_AUTO | InitFlag.NO_OPENDIR_SUPPORT | InitFlag.PARALLEL_DIROPS
)
WITHOUT_CACHES = ALL & ~(InitFlag.EXPLICIT_INVAL_DATA | InitFlag.CACHE_SYMLINKS | InitFlag.ATOMIC_O_TRUNC)

#: What is allowed, and what the session then says it has agreed on.
KERNELS = {
    "Linux 5.4": ("protocol=7.31", ALL, "minor=31"),
    "Linux 5.12": ("protocol=7.33", ALL, "minor=33"),
    "bare": ("protocol=7.31", NOTHING, "flags=<InitFlag: 0>"),
    "without listings": ("", WITHOUT_LISTINGS, "CACHE_SYMLINKS"),
    "without caches": ("", WITHOUT_CACHES, "AUTO_INVAL_DATA"),
}


@pytest.fixture(scope="module", params=KERNELS)
def pair(request: pytest.FixtureRequest, scratch: Path) -> Iterator[Pair]:
    options, flags_allowed, agreed = KERNELS[request.param]
    folder = scratch / request.param.replace(" ", "-")
    folder.mkdir()
    volume = make_lab_volume(folder)
    mount = LabMount(volume, folder / "mnt", options=(options,) if options else (), flags_allowed=flags_allowed)
    with mount, paired(mount, can_allocate=True) as made:
        assert agreed in mount.log()
        yield made
    assert_sound(volume)


@settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    phases=(Phase.explicit, Phase.generate, Phase.shrink),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example],
)
@given(examples)
def test_random_operations_agree(pair: Pair, steps: list[Operation]) -> None:
    pair.run(steps)


def test_a_large_file(pair: Pair) -> None:
    content = bytes(range(256)) * 10_000
    path = pair.mount.path / "large"
    path.write_bytes(content)
    assert path.read_bytes() == content
