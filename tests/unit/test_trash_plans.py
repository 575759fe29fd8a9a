"""What the purger decides without looking at anything: which batches go early, what a tree keeps, how fast it works, and each
batch.
"""

import struct

import pytest

from loligo_trash.batch import FLAG_LOW, FLAG_PARTLY, FLAG_PAUSED, Batch, Word, decode_batch
from loligo_trash.pace import Pace
from loligo_trash.pressure import KEPT_FREE_MAX_BYTES, Room, batches_to_purge, excess
from loligo_trash.rate import RATE_MAX, RateInvalid, parse_rate, rest_left_ns, rest_until, slice_inodes
from loligo_trash.tally import Tally


def batches(*sizes: int) -> list[Batch]:
    return [Batch(id, 0, 0, 0, 0, 0, 0, size_bytes=size) for id, size in enumerate(sizes, 1)]


def chosen(room: Room, *sizes: int) -> list[int]:
    too_much = excess(room)
    return batches_to_purge(batches(*sizes), too_much) if too_much else []


# -- room -----------------------------------------------------------------------------------------------------------


def test_with_room_for_all_nothing_goes() -> None:
    assert chosen(Room(600), 100, 200, 300) == []
    assert chosen(Room(600, limit_bytes=600, total_bytes=1000, free_bytes=50), 100, 200, 300) == []


def test_beyond_the_limit_the_oldest_go_and_no_more_than_it_takes() -> None:
    assert chosen(Room(600, limit_bytes=599), 100, 200, 300) == [1]
    assert chosen(Room(600, limit_bytes=500), 100, 200, 300) == [1]
    assert chosen(Room(600, limit_bytes=499), 100, 200, 300) == [1, 2]
    assert chosen(Room(600, limit_bytes=1), 100, 200, 300) == [1, 2, 3]


def test_what_holds_no_bytes_goes_along_when_it_is_older() -> None:
    assert chosen(Room(100, limit_bytes=50), 0, 0, 100, 0) == [1, 2, 3]


def test_some_of_the_store_is_kept_free() -> None:
    assert chosen(Room(600, total_bytes=1000, free_bytes=49), 100, 200, 300) == [1]
    assert chosen(Room(600, total_bytes=10_000, free_bytes=0), 100, 200, 300) == [1, 2, 3]
    huge = 1 << 60
    assert chosen(Room(600, total_bytes=huge, free_bytes=KEPT_FREE_MAX_BYTES), 600) == []
    assert chosen(Room(600, total_bytes=huge, free_bytes=KEPT_FREE_MAX_BYTES - 1), 600) == [1]


def test_with_little_room_for_metadata_one_batch_goes_at_a_time() -> None:
    assert chosen(Room(600, metadata_is_low=True), 0, 200, 300) == [1]


# -- trees ----------------------------------------------------------------------------------------------------------


def test_an_inode_counts_when_all_its_names_were_seen() -> None:
    tally = Tally()
    tally.add(3, 30, [(7, 2, 100), (8, 2, 1000)])
    assert (tally.inodes, tally.size_bytes) == (3, 30)
    tally.add(1, 0, [(7, 2, 100)])
    assert (tally.inodes, tally.size_bytes) == (5, 130)


# -- rates ----------------------------------------------------------------------------------------------------------


def test_a_batch_keeps_its_rate_and_its_flags_apart() -> None:
    batch = Batch(5, 1, 2, 3, 4, 5, 6, label=b"label")
    for word in Word:
        batch.hear(word, RATE_MAX)
        assert decode_batch(5, batch.encode()) == batch
    assert batch.rate == RATE_MAX and batch.flags
    assert batch.hear(Word.RATE) and not batch.hear(Word.RATE) and batch.rate == 0


def test_a_record_of_before_there_were_rates() -> None:
    flags = FLAG_PARTLY | FLAG_LOW | FLAG_PAUSED
    record = struct.pack(">IIQqqQQQQI", 1, 2, 3, 4, 5, 6, 7, 8, 9, flags) + b"label"
    batch = decode_batch(5, record)
    assert (batch.flags, batch.rate, batch.label) == (flags, 0, b"label") and batch.encode() == record


@pytest.mark.parametrize(("text", "rate"), [("none", 0), ("1/s", 1), ("100/s", 100), (f"{RATE_MAX}/s", RATE_MAX)])
def test_rates_are_read(text: str, rate: int) -> None:
    assert parse_rate(text) == rate


@pytest.mark.parametrize(
    "text", ["", "0/s", "100", "-1/s", "1.5/s", "100/m", f"{RATE_MAX + 1}/s", "9" * 99 + "/s", "None"]
)
def test_what_is_no_rate(text: str) -> None:
    with pytest.raises(RateInvalid, match="is no rate: write 1/s"):
        parse_rate(text)


@pytest.mark.parametrize("rate", [1, 7, 100, 12_345])
def test_over_a_while_no_more_goes_than_may(rate: int) -> None:
    """Also if each step comes a little late."""
    now_ns = until_ns = gone = 0
    while now_ns < 20_000_000_000:
        until_ns = rest_until(rate, until_ns, now_ns, slice_inodes(rate))
        gone += slice_inodes(rate)
        now_ns += rest_left_ns(until_ns, now_ns) + 3_000_000
    assert 0.93 * 20 * rate <= gone <= 20 * rate + slice_inodes(rate)


# -- pace -----------------------------------------------------------------------------------------------------------


def settled(cost_s: float, others: int, count_max: int = 10_000) -> tuple[Pace, float]:
    """After many steps, whose units cost that much each; the time of a step and its pause is as the pace says."""
    pace = Pace(count_max)
    now_s = pause_s = 0.0
    for _ in range(100):
        took_s = pace.count * cost_s
        now_s += pause_s + took_s
        pause_s = pace.after(took_s, now_s, others)
    return pace, pause_s


def test_steps_are_short_and_shorter_among_others() -> None:
    alone, _ = settled(20e-6, 0)
    among, _ = settled(20e-6, 1)
    assert 0.001 < alone.count * 20e-6 < 0.003
    assert 0.0003 < among.count * 20e-6 < 0.0007
    assert settled(1e-6, 0, count_max=500)[0].count == 500


def test_the_more_others_ask_the_longer_is_the_pause() -> None:
    pauses = [settled(20e-6, others)[1] for others in (0, 1, 5, 20)]
    assert pauses[0] > pauses[1]  # of a longer step
    assert pauses[1] < pauses[2] < pauses[3]


def test_a_step_that_the_machine_let_wait_changes_little() -> None:
    pace, _ = settled(20e-6, 0)
    before = pace.count
    pace.after(5.0, 1000.0, 0)
    assert pace.count >= before // 2
