"""Ports that the lab gives to servers: nobody has them, no other test process gets them, and they are no burden."""

import os
import socket
import subprocess
import sys
from pathlib import Path

from loligo_lab.ports import BLOCK, blocks, free_port

TESTS = Path(__file__).parents[1]
THREE = "from loligo_lab.ports import free_port; print(free_port(), free_port(), free_port())"


def test_each_is_another_and_costs_no_descriptor() -> None:
    free_port()
    before = len(os.listdir("/proc/self/fd"))
    assert len({free_port() for _ in range(BLOCK // 2)}) == BLOCK // 2
    assert len(os.listdir("/proc/self/fd")) == before


def test_another_process_gets_others() -> None:
    ours = free_port() // BLOCK
    environment = {**os.environ, "PYTHONPATH": str(TESTS)}
    done = subprocess.run([sys.executable, "-c", THREE], env=environment, capture_output=True, check=True)
    (theirs,) = {int(port) // BLOCK for port in done.stdout.split()}
    assert theirs != ours


def test_one_that_somebody_listens_on_is_left_out() -> None:
    with socket.create_server(("127.0.0.1", free_port())) as other:
        assert other.getsockname()[1] not in {free_port() for _ in range(2 * BLOCK)}


def test_those_that_the_kernel_gives_to_connections_come_last() -> None:
    first = blocks(32_768, 60_999)
    assert first[:12] == list(range(20_000, 32_000, BLOCK)) and 61_000 in first[:16]
    assert blocks(1024, 65_535) == sorted(first)  # where it may take any there is no choice
