"""Bytes as people read them."""


def size_text(size_bytes: int) -> str:
    """To one decimal: "4 KiB", "1.5 TiB"."""
    size = float(size_bytes)
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.1f}".removesuffix(".0") + f" {unit}"
        size /= 1024
    return f"{size:.1f}".removesuffix(".0") + " TiB"
