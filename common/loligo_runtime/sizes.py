"""Sizes as people write them: 4096, 4K, 4M, 4MiB."""

import re

_UNITS = {"": 0, "K": 10, "M": 20, "G": 30, "T": 40}
_SIZE = re.compile(r"(\d+)\s*([KMGT]?)(?:i?B)?", re.IGNORECASE)


def parse_size(text: str) -> int:
    """Bytes. ValueError."""
    matched = _SIZE.fullmatch(text.strip())
    if matched is None:
        raise ValueError(f"{text!r} is no size: write 65536, 64K or 4M")
    return int(matched[1]) << _UNITS[matched[2].upper()]


def format_size(size_bytes: int) -> str:
    """As short as it is exact to one decimal: "4 MiB", "1.5 GiB"."""
    size = float(size_bytes)
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.1f}".removesuffix(".0") + f" {unit}"
        size /= 1024
    return f"{size:.1f}".removesuffix(".0") + " TiB"
