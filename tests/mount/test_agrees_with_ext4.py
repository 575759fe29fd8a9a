"""Random operations on a mount and on a plain local directory give the same answers, and leave the same tree (`agreement`).

Examples are the same in each run; `LOLIGO_EXPLORE=N` runs N times as many, new ones.
"""

import os
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from loligo_lab.mounts import LabMount, assert_sound
from mount.agreement import Operation, Pair, examples, paired

EXPLORE = int(os.environ.get("LOLIGO_EXPLORE", "0"))
EXAMPLES = 400 * max(EXPLORE, 1)


@pytest.fixture(scope="module")
def pair(mounted: LabMount, transport: str) -> Iterator[Pair]:
    with paired(mounted, can_allocate=transport != "pyfuse3") as made:
        yield made


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=not EXPLORE,
    phases=(Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example],
)
@given(examples)
def test_random_operations_agree(pair: Pair, steps: list[Operation]) -> None:
    pair.run(steps)


def test_everything_is_the_same_after_a_new_mount(pair: Pair) -> None:
    """Runs after the examples, on all that they left."""
    pair.mount.unmount()
    try:
        assert_sound(pair.mount.volume)
    finally:
        pair.mount.start()
    pair.compare_all()
