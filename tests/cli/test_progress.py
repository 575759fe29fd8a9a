import time
from dataclasses import dataclass

from loligo.progress import Progress


@dataclass
class Left:
    """Of a batch."""

    inodes: int
    size_bytes: int
    is_counted: bool = True
    is_paused: bool = False


def test_how_far_a_purge_is() -> None:
    began_s = time.monotonic()
    progress = Progress("tree")
    assert progress.told(Left(400, 3 << 20, is_counted=False), began_s) == (
        "counting what is in it: 400 files so far, 3 MiB"
    )
    assert progress.told(Left(1000, 8 << 20), began_s + 1) == (
        "[                        ] 0 of 1000 files, 0 bytes of 8 MiB, 0/s"
    )
    assert progress.told(Left(750, 6 << 20), began_s + 10) == (
        "[######                  ] 250 of 1000 files, 2 MiB of 8 MiB, 25/s, 30 s left"
    )
    assert progress.told(Left(0, 0), began_s + 20) == (
        "[########################] 1000 of 1000 files, 8 MiB of 8 MiB, 50/s, 0 s left"
    )


def test_a_pause_does_not_count_for_the_rate() -> None:
    began_s = time.monotonic()
    progress = Progress("tree")
    progress.told(Left(1000, 0), began_s)
    progress.told(Left(750, 0), began_s + 10)
    assert progress.told(Left(750, 0, is_paused=True), began_s + 500).endswith(
        " 250 of 1000 files, 0 bytes of 0 bytes, paused"
    )
    assert progress.told(Left(750, 0), began_s + 500).endswith(", 25/s, 30 s left")
