"""Where the bytes of a file live: block `i` of a file is the object (ino, i), and byte `o` of the file is byte
`o % block` of block `o // block`. An object may be shorter than its block; what is missing was never written.
"""

from collections.abc import Iterator


def extents(offset: int, length: int, block_bytes: int) -> Iterator[tuple[int, int, int]]:
    """Yield (index, offset in the object, length) for the range, in order."""
    while length > 0:
        index, start = divmod(offset, block_bytes)
        piece = min(length, block_bytes - start)
        yield index, start, piece
        offset += piece
        length -= piece


def block_count(size: int, block_bytes: int) -> int:
    return -(-size // block_bytes)
