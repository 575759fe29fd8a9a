"""What two versions of a disk, or two ends of a wire, agree on, pinned to the byte."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loligo_wire.attributes import NS_MAX, NS_MIN, RECORD_SIZE, Attributes, clamp_ns, decode_attributes
from loligo_wire.ids import COUNTER_MAX, SHARD_MAX, ShardId, make_ino, shard_of
from loligo_wire.striping import block_count, extents

u32 = st.integers(0, (1 << 32) - 1)
u64 = st.integers(0, (1 << 64) - 1)
ns = st.integers(NS_MIN, NS_MAX)

# -- attributes -----------------------------------------------------------------------------------------------------

inodes = st.builds(
    Attributes, u64, u32, u32, u32, u32, u32, u32, u32, u32, u64, u64, ns, ns, ns, ns, name=st.binary(max_size=255)
)


@given(inodes)
def test_a_record_comes_back(attributes: Attributes) -> None:
    record = attributes.encode()
    assert len(record) == RECORD_SIZE + len(attributes.name)
    assert decode_attributes(attributes.ino, record) == attributes
    assert attributes.copy() == attributes
    for name in Attributes.__slots__:
        assert getattr(attributes.copy(), name) == getattr(attributes, name)


def test_the_layout_of_a_record() -> None:
    attributes = Attributes(
        77,
        0x01020304,
        uid=0x11121314,
        gid=0x21222324,
        nlink=0x31323334,
        rdev=0x41424344,
        generation=0x51525354,
        flags=0x61626364,
        block_bytes=0x71727374,
        size=0x0102030405060708,
        parent=0x1112131415161718,
        atime_ns=-2,
        mtime_ns=0x3132333435363738,
        ctime_ns=0x4142434445464748,
        btime_ns=0x5152535455565758,
        name=b"name",
    )
    assert attributes.encode() == bytes.fromhex(
        "04030201 14131211 24232221 34333231 44434241 54535251 64636261 74737271"
        "0807060504030201 1817161514131211"
        "feffffffffffffff 3837363534333231 4847464544434241 5857565554535251"
        "000000000000000000000000 6e616d65"
    )
    assert RECORD_SIZE == 92


def test_room_for_fields_to_come_is_ignored() -> None:
    record = bytearray(Attributes(5, 0o100644).encode())
    record[84:92] = b"to come."
    assert decode_attributes(5, bytes(record)) == Attributes(5, 0o100644)


def test_a_short_record_is_an_error() -> None:
    with pytest.raises(struct.error):
        decode_attributes(5, bytes(RECORD_SIZE - 1))


def test_equality() -> None:
    assert Attributes(1, 2) != Attributes(2, 2)
    assert Attributes(1, 2) != Attributes(1, 3)
    assert Attributes(1, 2) != (1, 2)


def test_times_are_clamped() -> None:
    assert [clamp_ns(time) for time in (NS_MIN - 1, NS_MIN, 0, NS_MAX, NS_MAX + 1)] == [
        NS_MIN,
        NS_MIN,
        0,
        NS_MAX,
        NS_MAX,
    ]


@pytest.mark.parametrize(("size", "blocks"), [(0, 0), (1, 1), (512, 1), (513, 2)])
def test_blocks_count_every_byte_of_a_file(size: int, blocks: int) -> None:
    assert Attributes(1, 0o100644, size=size).blocks == blocks
    assert Attributes(1, 0o040755, size=size).blocks == 0


# -- inode numbers --------------------------------------------------------------------------------------------------


@given(st.integers(0, SHARD_MAX), st.integers(1, COUNTER_MAX))
def test_an_inode_number_tells_its_shard(shard: int, counter: int) -> None:
    ino = make_ino(ShardId(shard), counter)
    assert shard_of(ino) == shard
    assert ino == shard << 48 | counter
    assert 0 < ino < 1 << 64


@pytest.mark.parametrize(("shard", "counter"), [(-1, 1), (SHARD_MAX + 1, 1), (0, 0), (0, COUNTER_MAX + 1)])
def test_no_inode_number(shard: int, counter: int) -> None:
    with pytest.raises(ValueError, match="no inode number"):
        make_ino(ShardId(shard), counter)


# -- striping -------------------------------------------------------------------------------------------------------


@given(st.integers(0, 1000), st.integers(0, 300), st.integers(1, 50))
def test_extents_cover_the_range_once_in_order(offset: int, length: int, block_bytes: int) -> None:
    covered: list[int] = []
    for index, start, piece in extents(offset, length, block_bytes):
        assert 0 <= start < block_bytes and 1 <= piece <= block_bytes - start
        covered += range(index * block_bytes + start, index * block_bytes + start + piece)
    assert covered == list(range(offset, offset + length))


@pytest.mark.parametrize(("size", "count"), [(0, 0), (1, 1), (64, 1), (65, 2), (1 << 44, 1 << 38)])
def test_block_count(size: int, count: int) -> None:
    assert block_count(size, 64) == count
