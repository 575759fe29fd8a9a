"""Volumes with their data on Ceph, and what is said when it is away."""

import os
import time
from pathlib import Path

import pytest

from cli.command_line import CommandLine
from loligo_lab.ceph import LoopbackCeph
from loligo_lab.ports import free_port

#: Told in the cluster's configuration; without it Loligo waits 10 s.
CONNECT_LIMIT_S = 3


def conf_of_nobody(cli: CommandLine) -> Path:
    """A cluster whose monitor does not answer."""
    conf = cli.root / "ceph.conf"
    conf.write_text(
        f"[global]\nmon host = v1:127.0.0.1:{free_port()}\nkeyring = {cli.root}/keyring\n"
        f"client mount timeout = {CONNECT_LIMIT_S}\n"
    )
    (cli.root / "keyring").write_text("[client.admin]\n\tkey = AQAAAAAAAAAAEAAAAAAAAAAAAAAAAAAAAAAAAA==\n")
    return conf


def test_a_cluster_that_is_away_makes_no_volume(cli: CommandLine) -> None:
    conf = conf_of_nobody(cli)
    began = time.monotonic()
    said = cli.refusal(
        "volume", "create", "big", "--meta", cli.meta("big").as_uri(), "--data", f"rados://pool?conf={conf}"
    )
    assert time.monotonic() - began < CONNECT_LIMIT_S + 5
    assert str(conf) in said
    assert not (cli.meta("big") / "volume.json").exists()


def test_a_cluster_that_is_away_mounts_nothing(cli: CommandLine) -> None:
    cli.create()
    description = cli.meta() / "volume.json"
    description.write_text(description.read_text().replace(cli.data_url(), f"rados://pool?conf={conf_of_nobody(cli)}"))
    began = time.monotonic()
    said = cli.refusal("mount", "work", str(cli.directory))
    assert time.monotonic() - began < CONNECT_LIMIT_S + 5
    assert str(cli.root / "ceph.conf") in said
    assert not cli.is_mounted()


@pytest.mark.ceph
def test_a_volume_on_ceph(cli: CommandLine, ceph_cluster: LoopbackCeph) -> None:
    ceph_cluster.create_pool("cli")
    cli.create("work", f"rados://cli/work?conf={ceph_cluster.conf}")
    cli.mount()
    content = os.urandom(9 << 20)
    (cli.directory / "file").write_bytes(content)
    cli.umount()
    assert "3 objects" in cli.run("volume", "check", "work").stdout
    cli.mount()
    assert (cli.directory / "file").read_bytes() == content
    (cli.directory / "file").unlink()
    cli.umount()
    cli.run("volume", "check", "work")


@pytest.mark.ceph
def test_a_pool_that_is_not_there(cli: CommandLine, ceph_cluster: LoopbackCeph) -> None:
    said = cli.refusal(
        "volume", "create", "big", "--meta", cli.meta().as_uri(), "--data", f"rados://nopool?conf={ceph_cluster.conf}"
    )
    assert "ceph osd pool create nopool" in said
