"""What the trash has to give back before its time, because somebody needs the room: the oldest batches first, and no more than
it takes. Also those that are paused: else whoever pauses all that he removes would fill the store, or others' would go instead.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from loligo_trash.batch import Batch

#: So much of the store of data is kept free, as long as the trash has anything to give.
KEPT_FREE_PART: Final = 20
#: Of a large one so much is enough: whoever writes that much is not faster than the purger.
KEPT_FREE_MAX_BYTES: Final = 64 << 30


@dataclass(frozen=True, slots=True)
class Room:
    """`total_bytes` 0: nothing is known of the store of data. `limit_bytes` 0: the trash may hold what there is room for."""

    trash_bytes: int
    limit_bytes: int = 0
    total_bytes: int = 0
    free_bytes: int = 0
    metadata_is_low: bool = False


@dataclass(frozen=True, slots=True)
class Excess:
    """What has to go: files of so many bytes, or any batch at all."""

    over_limit_bytes: int
    missing_bytes: int
    metadata_is_low: bool

    def __bool__(self) -> bool:
        return self.over_limit_bytes > 0 or self.missing_bytes > 0 or self.metadata_is_low


def excess(room: Room) -> Excess:
    wanted_bytes = min(room.total_bytes // KEPT_FREE_PART, KEPT_FREE_MAX_BYTES)
    return Excess(
        room.trash_bytes - room.limit_bytes if room.limit_bytes else 0,
        wanted_bytes - room.free_bytes if room.total_bytes else 0,
        room.metadata_is_low,
    )


def batches_to_purge(oldest_first: Iterable[Batch], too_much: Excess) -> list[int]:
    """The numbers of those that go."""
    left_bytes = max(too_much.over_limit_bytes, too_much.missing_bytes)
    chosen: list[int] = []
    for batch in oldest_first:
        if left_bytes <= 0 and (chosen or not too_much.metadata_is_low):
            break
        chosen.append(batch.id)
        left_bytes -= batch.size_bytes
    return chosen
