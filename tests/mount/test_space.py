"""Holes, large files, fallocate and the questions where data are."""

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from loligo_lab.errnos import refused
from loligo_lab.mounts import LabMount, stored_objects
from loligo_lab.system_calls import (
    FALLOC_COLLAPSE_RANGE,
    FALLOC_KEEP_SIZE,
    FALLOC_PUNCH_HOLE,
    FALLOC_ZERO_RANGE,
    fallocate,
)

BLOCK = 64 << 10
GIB = 1 << 30
PUNCH = FALLOC_PUNCH_HOLE | FALLOC_KEEP_SIZE


def drop_pages(fd: int) -> None:
    os.fsync(fd)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)


@pytest.fixture
def fd(here: Path) -> Iterator[int]:
    opened = os.open(here / "file", os.O_CREAT | os.O_RDWR)
    yield opened
    os.close(opened)


@pytest.mark.parametrize("offset", [1, 4096, BLOCK - 1, BLOCK, 5 * BLOCK + 7])
def test_what_was_skipped_reads_as_zeros(fd: int, offset: int) -> None:
    os.pwrite(fd, b"end", offset)
    for _ in range(2):
        assert os.pread(fd, offset + 10, 0) == bytes(offset) + b"end"
        drop_pages(fd)
    os.pwrite(fd, b"s", 0)
    assert os.pread(fd, offset + 10, 0) == b"s" + bytes(offset - 1) + b"end"


@pytest.mark.parametrize("size", [10, 4096, 4097, BLOCK, 3 * BLOCK + 1])
def test_growing_by_truncation_adds_zeros(fd: int, size: int) -> None:
    os.write(fd, b"x" * 100)
    os.ftruncate(fd, 50)
    os.ftruncate(fd, size)
    expected = (b"x" * 50 + bytes(size))[:size]
    assert os.pread(fd, size + 1, 0) == expected
    drop_pages(fd)
    assert os.pread(fd, size + 1, 0) == expected


def test_cut_bytes_do_not_come_back(fd: int) -> None:
    for cut in (10, 5000, BLOCK + 5, 2 * BLOCK):
        os.pwrite(fd, b"x" * (3 * BLOCK), 0)
        os.ftruncate(fd, cut)
        os.ftruncate(fd, 3 * BLOCK)
        drop_pages(fd)
        assert os.pread(fd, 3 * BLOCK, 0) == b"x" * cut + bytes(3 * BLOCK - cut)


def test_beyond_4_gib(fd: int) -> None:
    at = 4 * GIB + 3 * BLOCK - 2
    os.pwrite(fd, b"start", 0)
    os.pwrite(fd, b"far away", at)
    drop_pages(fd)
    assert os.fstat(fd).st_size == at + 8
    assert os.pread(fd, 100, at - 10) == bytes(10) + b"far away"
    assert os.pread(fd, 100, 2 * GIB) == bytes(100)
    os.ftruncate(fd, 4 * GIB + 1)
    os.pwrite(fd, b"!", 4 * GIB + 1)
    assert os.pread(fd, 10, 4 * GIB) == b"\0!"


def test_a_file_has_a_largest_size(fd: int) -> None:
    with refused(errno.EFBIG):
        os.ftruncate(fd, (16 << 40) + 1)
    with refused(errno.EFBIG):
        os.pwrite(fd, b"x", 16 << 40)
    assert os.fstat(fd).st_size == 0


@pytest.mark.parametrize("content", [100, 4096, 3 * BLOCK])
def test_fallocate(fd: int, transport: str, content: int) -> None:
    if transport == "pyfuse3":
        with refused(errno.EOPNOTSUPP):
            fallocate(fd, 0, 0, 100)
        os.posix_fallocate(fd, 0, content)  # the C library writes instead
        assert os.fstat(fd).st_size == content
        return
    os.write(fd, b"x" * content)
    fallocate(fd, 0, 10, content)
    assert os.fstat(fd).st_size == content + 10
    fallocate(fd, FALLOC_KEEP_SIZE, 0, 10 * content)
    assert os.fstat(fd).st_size == content + 10
    assert os.pread(fd, 2 * content + 20, 0) == b"x" * content + bytes(10)
    fallocate(fd, PUNCH, 20, 50)
    expected = b"x" * 20 + bytes(50) + b"x" * (content - 70) + bytes(10)
    assert os.pread(fd, 2 * content + 20, 0) == expected
    fallocate(fd, FALLOC_ZERO_RANGE, content, 100)
    assert os.fstat(fd).st_size == content + 100
    fallocate(fd, FALLOC_ZERO_RANGE | FALLOC_KEEP_SIZE, content - 5, 500)
    expected = expected[: content - 5] + bytes(105)
    drop_pages(fd)
    assert os.pread(fd, 2 * content + 1000, 0) == expected
    with refused(errno.EOPNOTSUPP):
        fallocate(fd, FALLOC_COLLAPSE_RANGE, 0, 4096)
    with refused(errno.EINVAL):
        fallocate(fd, 0, 0, 0)
    with refused(errno.ENOSPC):
        fallocate(fd, 0, 0, 15 << 40)


def test_punching_whole_blocks_removes_their_objects(fd: int, transport: str, mounted: LabMount) -> None:
    os.write(fd, b"x" * (5 * BLOCK))
    drop_pages(fd)
    if transport == "pyfuse3":
        with refused(errno.EOPNOTSUPP):
            fallocate(fd, PUNCH, BLOCK // 2, 3 * BLOCK)
        return
    fallocate(fd, PUNCH, BLOCK // 2, 3 * BLOCK)
    expected = b"x" * (BLOCK // 2) + bytes(3 * BLOCK) + b"x" * (BLOCK + BLOCK // 2)
    assert os.pread(fd, 6 * BLOCK, 0) == expected
    assert stored_objects(mounted.volume, os.fstat(fd).st_ino) == [0, 3, 4]
    os.pwrite(fd, b"y", 2 * BLOCK)
    drop_pages(fd)
    assert os.pread(fd, 6 * BLOCK, 0) == expected[: 2 * BLOCK] + b"y" + expected[2 * BLOCK + 1 :]


def test_where_data_are(fd: int, transport: str) -> None:
    os.pwrite(fd, b"x" * BLOCK, BLOCK)
    os.pwrite(fd, b"x" * 100, 4 * BLOCK)
    os.ftruncate(fd, 6 * BLOCK)
    size = 6 * BLOCK
    if transport == "pyfuse3":  # the kernel's own answer: all of it is data
        assert os.lseek(fd, 0, os.SEEK_DATA) == 0 and os.lseek(fd, 0, os.SEEK_HOLE) == size
    else:
        assert os.lseek(fd, 0, os.SEEK_DATA) == BLOCK
        assert os.lseek(fd, 0, os.SEEK_HOLE) == 0
        assert os.lseek(fd, BLOCK + 5, os.SEEK_DATA) == BLOCK + 5
        assert os.lseek(fd, BLOCK + 5, os.SEEK_HOLE) == 2 * BLOCK
        assert os.lseek(fd, 2 * BLOCK, os.SEEK_DATA) == 4 * BLOCK
        assert os.lseek(fd, 4 * BLOCK, os.SEEK_HOLE) == 4 * BLOCK + 100
        with refused(errno.ENXIO):
            os.lseek(fd, 5 * BLOCK, os.SEEK_DATA)
        assert os.lseek(fd, 5 * BLOCK, os.SEEK_HOLE) == 5 * BLOCK
    for whence in (os.SEEK_DATA, os.SEEK_HOLE):
        with refused(errno.ENXIO):
            os.lseek(fd, size, whence)
    assert os.lseek(fd, -1, os.SEEK_END) == size - 1


def test_a_file_without_holes_is_all_data(fd: int) -> None:
    os.write(fd, b"x" * 3 * BLOCK)
    assert os.lseek(fd, 7, os.SEEK_DATA) == 7
    assert os.lseek(fd, 7, os.SEEK_HOLE) == 3 * BLOCK
