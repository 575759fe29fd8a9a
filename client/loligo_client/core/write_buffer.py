"""The bytes of one file that were written and are not yet in the store.

They are kept as *extents*: runs of bytes within one block, sorted, neither overlapping nor touching. A block's extents
are *dirty* until `take` hands them out to be written, and *in flight* until `wrote` or `failed` says how that ended. New
writes to a block in flight are dirty beside it and win over it.

Rules
1. One hand-out a block at a time: `take` refuses a block in flight, so the store never has two writes of one object
   to put in order.
2. What was written can be read back from here until the store has it: `read` sees dirty over in flight.
3. `cost_bytes` counts every buffered byte and an allowance for each extent, so a bound on it bounds memory.
"""

from bisect import bisect_right
from collections.abc import Iterator

from loligo_wire.striping import extents

#: What one extent costs besides its bytes.
EXTENT_COST_BYTES = 256

Extent = tuple[int, bytearray]  # offset within the block, bytes


class _Runs:
    """Sorted, disjoint, never touching runs of bytes within one block."""

    __slots__ = ("data", "starts")

    def __init__(self) -> None:
        self.starts: list[int] = []
        self.data: list[bytearray] = []

    def write(self, start: int, data: memoryview | bytes | bytearray) -> int:
        """Returns by how much the cost grew."""
        starts = self.starts
        end = start + len(data)
        if starts:
            last = self.data[-1]
            if start == starts[-1] + len(last):  # appending: the common case
                last += data
                return len(data)
        first = bisect_right(starts, start)
        if first and starts[first - 1] + len(self.data[first - 1]) >= start:
            first -= 1
        last_index = bisect_right(starts, end)
        if first == last_index:
            starts.insert(first, start)
            self.data.insert(first, bytearray(data))
            return len(data) + EXTENT_COST_BYTES
        before = sum(map(len, self.data[first:last_index])) + (last_index - first) * EXTENT_COST_BYTES
        begin = min(start, starts[first])
        merged = self.data[first] if begin == starts[first] else bytearray()
        tail_start = starts[last_index - 1]
        tail = self.data[last_index - 1]
        rest = bytes(tail[end - tail_start :]) if tail_start + len(tail) > end else b""
        offset = start - begin
        merged[offset : offset + len(data)] = data
        del merged[offset + len(data) :]
        merged += rest
        starts[first:last_index] = [begin]
        self.data[first:last_index] = [merged]
        return len(merged) + EXTENT_COST_BYTES - before

    def cut(self, length: int) -> int:
        """Drop everything from `length` on. Returns by how much the cost shrank."""
        freed = 0
        while self.starts and self.starts[-1] >= length:
            freed += len(self.data.pop()) + EXTENT_COST_BYTES
            self.starts.pop()
        if self.starts:
            last = self.data[-1]
            excess = self.starts[-1] + len(last) - length
            if excess > 0:
                del last[-excess:]
                freed += excess
        return freed

    def pieces(self, start: int, end: int) -> Iterator[tuple[int, bytes]]:
        """(offset, a copy of the bytes) of what is here of [start, end)."""
        index = max(0, bisect_right(self.starts, start) - 1)
        for run, data in zip(self.starts[index:], self.data[index:], strict=True):
            if run >= end:
                return
            low, high = max(run, start), min(run + len(data), end)
            if low < high:
                yield low, bytes(memoryview(data)[low - run : high - run])

    @property
    def cost_bytes(self) -> int:
        return sum(map(len, self.data)) + len(self.data) * EXTENT_COST_BYTES


class WriteBuffer:
    __slots__ = ("_dirty", "_forgotten", "_in_flight", "block_bytes", "cost_bytes")

    def __init__(self, block_bytes: int) -> None:
        self.block_bytes = block_bytes
        self.cost_bytes = 0
        self._dirty: dict[int, _Runs] = {}
        self._in_flight: dict[int, _Runs] = {}
        #: Blocks in flight that nobody wants any more.
        self._forgotten: set[int] = set()

    def __bool__(self) -> bool:
        return bool(self._dirty or self._in_flight)

    @property
    def has_dirty(self) -> bool:
        return bool(self._dirty)

    @property
    def in_flight(self) -> int:
        """Blocks handed out and not yet answered for."""
        return len(self._in_flight)

    def write(self, offset: int, data: memoryview | bytes | bytearray) -> int:
        """Copy `data` in. Returns the index of the last block touched."""
        index, start = divmod(offset, self.block_bytes)
        if start + len(data) <= self.block_bytes:
            self._write_block(index, start, data)
            return index
        view = memoryview(data)
        done = 0
        for index, start, length in extents(offset, len(data), self.block_bytes):
            self._write_block(index, start, view[done : done + length])
            done += length
        return index

    def _write_block(self, index: int, start: int, data: memoryview | bytes | bytearray) -> None:
        runs = self._dirty.get(index)
        if runs is None:
            runs = self._dirty[index] = _Runs()
        self.cost_bytes += runs.write(start, data)

    def read(self, offset: int, length: int) -> list[tuple[int, bytes]]:
        """What is buffered of the range: (file offset, bytes), in order of age: later ones win."""
        found: list[tuple[int, bytes]] = []
        for layer in (self._in_flight, self._dirty):
            if layer:
                for index, start, piece in extents(offset, length, self.block_bytes):
                    runs = layer.get(index)
                    if runs is not None and not (layer is self._in_flight and index in self._forgotten):
                        base = index * self.block_bytes
                        found += [(base + low, data) for low, data in runs.pieces(start, start + piece)]
        return found

    def is_complete(self, index: int) -> bool:
        """Nothing is left to be added to the dirty block: it is full, and not in flight."""
        runs = self._dirty.get(index)
        return (
            runs is not None
            and len(runs.starts) == 1
            and len(runs.data[0]) == self.block_bytes
            and index not in self._in_flight
        )

    def ready_blocks(self) -> list[int]:
        """Dirty blocks that may be taken, in order."""
        return sorted(index for index in self._dirty if index not in self._in_flight)

    def is_ready(self, index: int) -> bool:
        return index in self._dirty and index not in self._in_flight

    def take(self, index: int) -> list[Extent]:
        """Hand out the dirty extents of a block; they are in flight from now on, and must not be changed."""
        assert index not in self._in_flight, "a block has one hand-out at a time"
        runs = self._dirty.pop(index)
        self._in_flight[index] = runs
        return list(zip(runs.starts, runs.data, strict=True))

    def wrote(self, index: int) -> None:
        """The store has what was taken."""
        self.cost_bytes -= self._in_flight.pop(index).cost_bytes
        self._forgotten.discard(index)

    def failed(self, index: int) -> bool:
        """The store does not have it: what was taken is dirty again, below what was written since.

        False: it was forgotten meanwhile, and is not.
        """
        if index in self._forgotten:
            self.wrote(index)
            return False
        taken = self._in_flight.pop(index)
        newer = self._dirty.get(index)
        if newer is not None:
            self.cost_bytes -= taken.cost_bytes + newer.cost_bytes
            for start, data in zip(newer.starts, newer.data, strict=True):
                taken.write(start, data)
            self.cost_bytes += taken.cost_bytes
        self._dirty[index] = taken
        return True

    def forget(self) -> None:
        """All of it: what is in flight, too, need not arrive."""
        self.truncate(0)
        self._forgotten.update(self._in_flight)

    def truncate(self, size: int) -> None:
        """Forget dirty bytes from `size` on. Nothing may be in flight there."""
        keep, rest = divmod(size, self.block_bytes)
        for index in [index for index in self._dirty if index >= keep]:
            runs = self._dirty[index]
            self.cost_bytes -= runs.cut(rest if index == keep else 0)
            if not runs.starts:
                del self._dirty[index]

    def content(self, offset: int, length: int) -> bytearray:
        """A range of a file that is wholly buffered: what was not written is zero."""
        whole = bytearray(length)
        for low, data in self.read(offset, length):
            whole[low - offset : low - offset + len(data)] = data
        return whole

    def landings(self) -> dict[int, int]:
        """How often each block must be written until the store has all that is buffered now."""
        needed = dict.fromkeys(self._in_flight, 1)
        for index in self._dirty:
            needed[index] = needed.get(index, 0) + 1
        return needed

    @property
    def first_unstored(self) -> int | None:
        """The lowest byte that the store does not have, for all we know."""
        found = [
            index * self.block_bytes + layer[index].starts[0]
            for layer in (self._dirty, self._in_flight)
            if layer
            for index in (min(layer),)
        ]
        return min(found, default=None)
