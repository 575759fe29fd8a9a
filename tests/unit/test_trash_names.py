"""How batches are called, and which names are none."""

import pytest

from loligo_trash.names import batch_name, batch_of_name

FIRST_NS = 1_795_930_272_999_999_999


def test_a_name_tells_when_and_which() -> None:
    assert batch_name(17, FIRST_NS) == b"2026-11-29T05:31:12Z-17"
    assert batch_name((1 << 60) + 3, 0) == b"1970-01-01T00:00:00Z-1152921504606846979"


@pytest.mark.parametrize("number", [1, 17, 10**18, (1 << 62) - 1])
def test_only_the_number_counts(number: int) -> None:
    assert batch_of_name(batch_name(number, FIRST_NS)) == number
    assert batch_of_name(b"0000-99-99T99:99:99Z-%d" % number) == number


@pytest.mark.parametrize(
    "name",
    [
        b"",
        b"17",
        b"2026-11-29T05:31:12Z",
        b"2026-11-29T05:31:12Z-",
        b"2026-11-29T05:31:12Z-0",
        b"2026-11-29T05:31:12Z-017",
        b"2026-11-29T05:31:12Z--17",
        b"2026-11-29T05:31:12Z-17 ",
        b"2026-11-29T05:31:12Z-17\n",
        b"2026-11-29 05:31:12-17",
        b"2026-11-29T05:31:12Z-12345678901234567890",
    ],
)
def test_what_is_no_name_of_a_batch(name: bytes) -> None:
    assert batch_of_name(name) is None
