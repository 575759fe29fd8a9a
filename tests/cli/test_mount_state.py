import os
from pathlib import Path

import pytest

from loligo_client.shell.mount_state import (
    Mounted,
    has_mounts,
    mount_points,
    mounts,
    process_memory_bytes,
    process_start,
)

TABLE = r"""
22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/root rw
61 22 0:57 / /mnt/a\040b rw,nosuid shared:9 master:2 - fuse.loligo my\134work rw,user_id=1000,group_id=1000
62 22 0:58 / /mnt/ro ro,relatime - fuse.loligo work rw,user_id=0,group_id=0,default_permissions,allow_other
63 22 0:59 / /mnt/other rw - fuse.sshfs host: rw,user_id=0,group_id=0
64 22 0:58 /a\040b/c /mnt/part rw - fuse.loligo work rw,user_id=0,group_id=0
""".lstrip()


def test_the_kernels_table_is_read(tmp_path: Path) -> None:
    table = tmp_path / "mountinfo"
    table.write_text(TABLE)
    assert mounts(str(table)) == [
        Mounted("/mnt/a b", "my\\work", "0:57", read_only=False, owner_uid=1000),
        Mounted("/mnt/ro", "work", "0:58", read_only=True, owner_uid=0),
        Mounted("/mnt/part", "work", "0:58", read_only=False, owner_uid=0, root="/a b/c"),
    ]
    assert mount_points(str(table)) == ["/", "/mnt/a b", "/mnt/ro", "/mnt/other", "/mnt/part"]


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (b"/a b", True),  # above the one that has another on it
        (b"/a b/c", True),  # has another on it, and is itself what another mount shows
        (b"/a b/c/d", True),
        (b"/a b/c/d\xff", False),
        (b"/a b/c/d e", False),
        (b"/a", False),
    ],
)
def test_what_is_mounted_on_a_mount_is_found(tmp_path: Path, path: bytes, expected: bool) -> None:
    table = tmp_path / "mountinfo"
    inner = "65 64 0:60 / /mnt/ro/a\\040b/c/d rw - tmpfs none rw\n66 64 0:61 / /mnt/part/x rw - tmpfs none rw\n"
    table.write_text(TABLE + inner)
    assert has_mounts("0:58", path, str(table)) is expected
    assert not has_mounts("0:57", path, str(table))
    table.write_text(TABLE)
    assert has_mounts("0:58", b"/a b/c", str(table)) and not has_mounts("0:58", b"/a b", str(table))
    table.write_text(TABLE + inner)
    assert has_mounts("0:58", b"/a b/c/x", str(table)), "below the bind mount of a directory"


@pytest.mark.parametrize(
    ("other", "path", "expected"),
    [
        ("mds1:9440/work", b"/a", True),
        ("mds1:9440/work", b"/a/b/c", True),
        ("mds1:9440/work", b"/a/b/c/d", False),
        ("mds2:9440,mds1:9440/work", b"/a/b", True),  # one server in common
        ("mds1:9440/work/top", b"/top/a", True),
        ("mds1:9440/work/top", b"/a", False),
        ("mds1:9440/work/top/a", b"/top", False),  # its root has no name there
        ("mds1:9440/other", b"/a", False),
        ("mds2:9440/work", b"/a", False),
        ("mds1:no port/work", b"/a", False),
        ("work", b"/a", False),
    ],
)
def test_what_is_mounted_on_another_mount_of_the_volume_is_found(
    tmp_path: Path, other: str, path: bytes, expected: bool
) -> None:
    table = tmp_path / "mountinfo"
    source = other.replace(" ", "\\040")
    table.write_text(
        "61 22 0:57 / /one rw - fuse.loligo mds1:9440/work rw,user_id=0,group_id=0\n"
        f"62 22 0:58 / /two rw - fuse.loligo {source} rw,user_id=0,group_id=0\n"
        "63 62 0:59 / /two/a/b/c rw - tmpfs none rw\n"
    )
    assert has_mounts("0:57", path, str(table)) is expected
    assert has_mounts("0:58", b"/a", str(table)) and not has_mounts("0:58", b"/b", str(table))


def test_a_mount_of_a_directory_knows_what_is_mounted_on_that_of_the_volume(tmp_path: Path) -> None:
    table = tmp_path / "mountinfo"
    table.write_text(
        "61 22 0:57 / /part rw - fuse.loligo mds1:9440/work/top rw\n"
        "62 22 0:58 / /whole rw - fuse.loligo mds1:9440/work rw\n"
        "63 62 0:59 / /whole/top/a/b rw - tmpfs none rw\n"
        "64 62 0:60 / /whole/c rw - tmpfs none rw\n"
    )
    assert has_mounts("0:57", b"/a", str(table)) and not has_mounts("0:57", b"/c", str(table))


def test_a_process_is_known_by_when_it_started() -> None:
    start = process_start(os.getpid())
    assert start is not None and start > 0
    assert process_start(2**22 + 1) is None


def test_memory_of_a_process() -> None:
    memory = process_memory_bytes(os.getpid())
    assert memory is not None and memory[0] >= memory[1] > 1 << 20
    assert process_memory_bytes(2**22 + 1) is None
