"""How fast one batch goes for good, if somebody limits that: so many inodes a second.

It goes in slices, and rests behind each for as long as that much takes. What rests holds nobody up: others go meanwhile, in
their order.

Said as ``100/s``, or ``none``: as fast as can be.
"""

import re
from typing import Final

#: What a batch's record has room for; more than a server purges.
RATE_MAX: Final = (1 << 20) - 1
_RATE: Final = re.compile(r"(\d{1,9})/s")
_SECOND_NS: Final = 1_000_000_000
#: A slice is what may go in this time; and so much is made good when the next comes late.
_SLICE_NS: Final = 100_000_000
#: Longer than any rest: a clock that was set back does not make one.
_REST_MAX_NS: Final = 10 * _SECOND_NS


class RateInvalid(ValueError):
    """The text says what was expected."""


def parse_rate(text: str) -> int:
    """Inodes a second; 0: there is no limit. RateInvalid."""
    if text == "none":
        return 0
    found = _RATE.fullmatch(text)
    rate = int(found[1]) if found else 0
    if not 1 <= rate <= RATE_MAX:
        raise RateInvalid(f"{text!r} is no rate: write 1/s to {RATE_MAX}/s, or none")
    return rate


def slice_inodes(rate: int) -> int:
    """What goes at once."""
    return max(1, rate * _SLICE_NS // _SECOND_NS)


def rest_until(rate: int, before_ns: int, now_ns: int, inodes: int) -> int:
    """So many are gone. `before_ns`: until when it was to rest before that; 0: not at all."""
    began_ns = max(before_ns, now_ns - _SLICE_NS) if before_ns else now_ns
    return min(began_ns, now_ns) + inodes * _SECOND_NS // rate


def rest_left_ns(until_ns: int, now_ns: int) -> int:
    """0: it goes on."""
    left_ns = until_ns - now_ns
    return left_ns if 0 < left_ns <= _REST_MAX_NS else 0
