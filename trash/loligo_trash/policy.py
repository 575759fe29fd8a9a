"""How long removed files are kept. A directory says so in extended attributes, for what lies below it, unless a directory
further down says otherwise; the root says it for the volume, and where nobody says anything the defaults hold.

Values are a number with a unit: ``2w``, ``7d``, ``12h``, ``30m``, ``90s``; ``0`` is no time at all. The limit, which only the
root's counts, is a size: ``500G``; ``0`` is no limit.
"""

import re
from dataclasses import dataclass
from typing import Final

from loligo_runtime.sizes import parse_size

#: What is removed is kept for so long; 0: it is gone at once. Of a file: of this file.
RETENTION_NAME: Final = b"loligo.trash.retention"
#: What has lived for less when it is removed is gone at once: temporary files, mostly.
MINIMUM_AGE_NAME: Final = b"loligo.trash.minimum_age"
#: When more bytes than this are kept, the oldest go. 0: no limit.
LIMIT_NAME: Final = b"loligo.trash.limit"
POLICY_NAMES: Final = frozenset({RETENTION_NAME, MINIMUM_AGE_NAME, LIMIT_NAME})

_SECOND_NS: Final = 1_000_000_000
_UNITS_S: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_TIME: Final = re.compile(r"(\d{1,9})([smhdw])")
#: A hundred years: longer than anybody keeps what he has thrown away, and far from what overflows.
_TIME_MAX_NS: Final = 36525 * 86400 * _SECOND_NS


class PolicyInvalid(ValueError):
    """The text says what was expected."""


@dataclass(frozen=True, slots=True)
class Policy:
    retention_ns: int = 7 * 86400 * _SECOND_NS
    minimum_age_ns: int = 5 * _SECOND_NS


DEFAULT_POLICY: Final = Policy()


def parse_time(value: bytes) -> int:
    """ns. PolicyInvalid."""
    text = value.decode("ascii", "replace").strip()
    if text == "0":
        return 0
    found = _TIME.fullmatch(text)
    if found is None:
        raise PolicyInvalid(f"{text!r} is no time: write 2w, 7d, 12h, 30m or 90s, or 0 for none")
    time_ns = int(found[1]) * _UNITS_S[found[2]] * _SECOND_NS
    if time_ns > _TIME_MAX_NS:
        raise PolicyInvalid(f"{text!r} is more than a hundred years")
    return time_ns


def parse_limit(value: bytes) -> int:
    """Bytes; 0: there is none. PolicyInvalid."""
    try:
        return parse_size(value.decode("ascii", "replace"))
    except ValueError as error:
        raise PolicyInvalid(str(error)) from None


def check_value(name: bytes, value: bytes) -> None:
    """PolicyInvalid unless the attribute of that name can have that value."""
    if name == LIMIT_NAME:
        parse_limit(value)
    else:
        parse_time(value)
