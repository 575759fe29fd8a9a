"""fio writes patterns, reads them back and compares: every way to do I/O, several sizes."""

import os
from pathlib import Path

import pytest

from work.places import EVERYWHERE, WITHOUT_PYFUSE3, run


def verify(here: Path, *options: str) -> None:
    """Write, then read and compare in another process, to which the kernel shows what the file system has."""
    fio = (
        "fio",
        "--name=verify",
        "--filename=file",
        "--verify=crc32c",
        "--verify_fatal=1",
        "--randseed=1",
        "--fallocate=none",
        *options,
    )
    run(*fio, "--do_verify=0", cwd=here)
    with open(here / "file", "rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    run(*fio, "--verify_only", cwd=here)


@EVERYWHERE
@pytest.mark.parametrize("direct", [0, 1])
@pytest.mark.parametrize(
    ("pattern", "block", "size"),
    [("write", "4k", "4m"), ("randwrite", "4k", "4m"), ("write", "1m", "40m"), ("randwrite", "64k", "20m")],
)
def test_verify(pattern: str, block: str, size: str, direct: int, here: Path) -> None:
    verify(here, "--ioengine=psync", f"--rw={pattern}", f"--bs={block}", f"--size={size}", f"--direct={direct}")


@WITHOUT_PYFUSE3
@pytest.mark.parametrize("pattern", ["write", "randwrite"])
def test_verify_mmap(pattern: str, here: Path) -> None:
    verify(here, "--ioengine=mmap", f"--rw={pattern}", "--bs=4k", "--size=8m")


@WITHOUT_PYFUSE3
def test_verify_odd_sizes_and_places(here: Path) -> None:
    verify(here, "--ioengine=psync", "--rw=randwrite", "--bsrange=512-200k", "--bs_unaligned=1", "--size=12m")


@WITHOUT_PYFUSE3
def test_verify_many_in_flight(here: Path) -> None:
    """Several writers, each of its own file, asynchronous."""
    jobs = ("--ioengine=libaio", "--iodepth=16", "--direct=1", "--rw=randwrite", "--bs=16k", "--size=4m")
    options = (*jobs, "--numjobs=3", "--filename_format=file.$jobnum", "--name=many", "--randseed=7")
    checked = ("--verify=crc32c", "--verify_fatal=1", "--fallocate=none")
    run("fio", *options, *checked, "--do_verify=0", cwd=here)
    run("fio", *options, *checked, "--verify_only", cwd=here)
