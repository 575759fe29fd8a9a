"""The write buffer against arrays of bytes."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from loligo_client.core.write_buffer import EXTENT_COST_BYTES, WriteBuffer, _Runs

BLOCKS = 4
Layer = dict[int, int]  # file offset -> byte


def runs_of(layer: Layer, block_bytes: int) -> list[tuple[int, int]]:
    """(first, end) of every run of bytes that ends with its block."""
    runs: list[tuple[int, int]] = []
    for at in sorted(layer):
        if runs and runs[-1][1] == at and at % block_bytes:
            runs[-1] = (runs[-1][0], at + 1)
        else:
            runs.append((at, at + 1))
    return runs


def cost_of(layer: Layer, block_bytes: int) -> int:
    return len(layer) + EXTENT_COST_BYTES * len(runs_of(layer, block_bytes))


class Buffer(RuleBasedStateMachine):
    @initialize(block_bytes=st.sampled_from([1, 7, 16]))
    def begin(self, block_bytes: int) -> None:
        self.block_bytes = block_bytes
        self.buffer = WriteBuffer(block_bytes)
        self.dirty: Layer = {}
        self.in_flight: Layer = {}
        self.store: Layer = {}
        self.handed_out: dict[int, list[tuple[int, bytes]]] = {}
        self.forgotten: set[int] = set()

    def block_of(self, layer: Layer, index: int) -> Layer:
        return {at: byte for at, byte in layer.items() if at // self.block_bytes == index}

    @rule(offset=st.integers(0, 60), data=st.binary(min_size=1, max_size=40), kind=st.sampled_from([bytes, memoryview]))
    def write(self, offset: int, data: bytes, kind: type) -> None:
        offset %= BLOCKS * self.block_bytes
        last = self.buffer.write(offset, kind(data))
        assert last == (offset + len(data) - 1) // self.block_bytes
        self.dirty.update((offset + at, byte) for at, byte in enumerate(data))

    @precondition(lambda self: self.buffer.ready_blocks())
    @rule(choose=st.randoms(use_true_random=False))
    def take(self, choose: object) -> None:
        index = choose.choice(self.buffer.ready_blocks())  # type: ignore[attr-defined]
        taken = self.buffer.take(index)
        block = self.block_of(self.dirty, index)
        base = index * self.block_bytes
        assert [(base + start, base + start + len(data)) for start, data in taken] == runs_of(block, self.block_bytes)
        assert {base + start + at: byte for start, data in taken for at, byte in enumerate(data)} == block
        self.handed_out[index] = [(start, bytes(data)) for start, data in taken]
        self.lent = getattr(self, "lent", {})
        self.lent[index] = taken
        self.in_flight.update(block)
        for at in block:
            del self.dirty[at]

    @precondition(lambda self: self.handed_out)
    @rule(choose=st.randoms(use_true_random=False), fails=st.booleans())
    def land(self, choose: object, fails: bool) -> None:
        index = choose.choice(sorted(self.handed_out))  # type: ignore[attr-defined]
        assert [(start, bytes(data)) for start, data in self.lent.pop(index)] == self.handed_out.pop(index), "changed"
        block = self.block_of(self.in_flight, index)
        for at in block:
            del self.in_flight[at]
        if fails:
            assert self.buffer.failed(index) is (index not in self.forgotten)
            if index not in self.forgotten:
                self.dirty = block | self.dirty
        else:
            self.buffer.wrote(index)
            self.store |= block
        self.forgotten.discard(index)

    @rule()
    def forget(self) -> None:
        self.buffer.forget()
        self.dirty = {}
        self.forgotten |= self.handed_out.keys()

    @precondition(lambda self: not self.handed_out)
    @rule(size=st.integers(0, 80))
    def truncate(self, size: int) -> None:
        self.buffer.truncate(size)
        self.dirty = {at: byte for at, byte in self.dirty.items() if at < size}

    @rule(offset=st.integers(0, 60), length=st.integers(1, 60))
    def read(self, offset: int, length: int) -> None:
        found: Layer = {}
        for low, data in self.buffer.read(offset, length):
            assert offset <= low and low + len(data) <= offset + length
            found.update((low + at, byte) for at, byte in enumerate(data))
        wanted = {at: byte for at, byte in self.in_flight.items() if at // self.block_bytes not in self.forgotten}
        expected = wanted | self.dirty
        assert found == {at: byte for at, byte in expected.items() if offset <= at < offset + length}
        content = self.buffer.content(offset, length)
        assert content == bytes(expected.get(at, 0) for at in range(offset, offset + length))

    @invariant()
    def agrees(self) -> None:
        if not hasattr(self, "buffer"):
            return
        buffer, block = self.buffer, self.block_bytes
        assert buffer.cost_bytes == cost_of(self.dirty, block) + cost_of(self.in_flight, block)
        assert bool(buffer) == bool(self.dirty or self.in_flight)
        assert buffer.has_dirty == bool(self.dirty)
        assert buffer.in_flight == len(self.handed_out)
        assert buffer.first_unstored == min([*self.dirty, *self.in_flight], default=None)
        flying = {at // block for at in self.in_flight}
        touched = flying | {at // block for at in self.dirty}
        assert buffer.landings() == {
            index: (index in flying) + bool(self.block_of(self.dirty, index)) for index in touched
        }
        dirty = {at // block for at in self.dirty}
        assert buffer.ready_blocks() == sorted(dirty - self.handed_out.keys())
        whole = [index for index in dirty if len(self.block_of(self.dirty, index)) == block]
        complete = sorted(index for index in whole if index not in self.handed_out)
        assert [index for index in range(200) if buffer.is_complete(index)] == complete


TestBuffer = Buffer.TestCase
TestBuffer.settings = settings(deadline=None, max_examples=60, stateful_step_count=50)


def test_appending_makes_no_new_extents() -> None:
    buffer = WriteBuffer(1 << 20)
    for at in range(0, 1 << 20, 4096):
        buffer.write(at, bytes(4096))
    assert buffer.cost_bytes == (1 << 20) + EXTENT_COST_BYTES
    assert buffer.is_complete(0)


def test_runs_report_what_they_cost() -> None:
    runs = _Runs()
    assert runs.write(10, b"abc") == 3 + EXTENT_COST_BYTES
    assert runs.write(13, b"d") == 1
    assert runs.write(20, b"x") == 1 + EXTENT_COST_BYTES
    assert runs.write(12, b"-" * 9) == 5 + 1 - EXTENT_COST_BYTES
    assert runs.cost_bytes == 11 + EXTENT_COST_BYTES
    assert runs.cut(12) == 9
    assert runs.cut(0) == 2 + EXTENT_COST_BYTES
