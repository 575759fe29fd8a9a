"""Extended attributes and access control lists."""

import errno
import os
import stat
import struct
import subprocess
from pathlib import Path

import pytest

from loligo_lab import system_calls
from loligo_lab.errnos import refused
from loligo_lab.users import NOBODY, SOMEBODY, as_user

NAMES = ("user.one", "trusted.two", "security.three")


@pytest.fixture
def path(here: Path) -> Path:
    made = here / "file"
    made.touch()
    return made


@pytest.mark.parametrize("name", [*NAMES, "user." + "n" * 250])
@pytest.mark.parametrize("value", [b"", b"value", b"\0\xff" * 2000, b"x" * 65536])
def test_set_get_list_remove(path: Path, name: str, value: bytes) -> None:
    os.setxattr(path, name, value)
    assert os.getxattr(path, name) == value
    assert os.listxattr(path) == [name]
    os.setxattr(path, name, b"other")
    assert os.getxattr(path, name) == b"other"
    os.removexattr(path, name)
    assert os.listxattr(path) == []
    with refused(errno.ENODATA):
        os.getxattr(path, name)
    with refused(errno.ENODATA):
        os.removexattr(path, name)


def test_on_every_kind_of_file(here: Path) -> None:
    (here / "folder").mkdir()
    (here / "link").symlink_to("folder")
    os.mkfifo(here / "fifo")
    os.setxattr(here / "folder", "user.x", b"1")
    assert os.getxattr(here / "link", "user.x") == b"1"
    for name in ("link", "fifo"):
        os.setxattr(here / name, "trusted.x", b"2", follow_symlinks=False)
        assert os.getxattr(here / name, "trusted.x", follow_symlinks=False) == b"2"
        with refused(errno.EPERM):
            os.setxattr(here / name, "user.x", b"3", follow_symlinks=False)


def test_create_and_replace(path: Path) -> None:
    with refused(errno.ENODATA):
        os.setxattr(path, "user.x", b"1", os.XATTR_REPLACE)
    os.setxattr(path, "user.x", b"1", os.XATTR_CREATE)
    with refused(errno.EEXIST):
        os.setxattr(path, "user.x", b"2", os.XATTR_CREATE)
    os.setxattr(path, "user.x", b"3", os.XATTR_REPLACE)
    assert os.getxattr(path, "user.x") == b"3"


def test_sizes_are_told_and_kept(path: Path) -> None:
    raw = os.fsencode(path)
    os.setxattr(path, "user.x", b"12345")
    os.setxattr(path, "user.longer", b"")
    listed = len(b"user.x\0user.longer\0")
    assert system_calls.getxattr(raw, b"user.x", 0) == 5
    assert system_calls.getxattr(raw, b"user.x", 5) == 5
    assert system_calls.getxattr(raw, b"user.x", 100) == 5
    assert system_calls.getxattr(raw, b"user.longer", 0) == 0
    assert system_calls.listxattr(raw, 0) == system_calls.listxattr(raw, listed) == listed
    with refused(errno.ERANGE):
        system_calls.getxattr(raw, b"user.x", 4)
    with refused(errno.ERANGE):
        system_calls.listxattr(raw, listed - 1)


def test_what_is_refused(path: Path) -> None:
    with refused(errno.ERANGE):
        os.setxattr(path, "user." + "n" * 251, b"")
    with refused(errno.E2BIG):
        os.setxattr(path, "user.x", b"x" * 65537)
    for name in ("other.x", "x", "system.x"):
        with refused(errno.EOPNOTSUPP):
            os.setxattr(path, name, b"")


def test_trusted_is_for_root(path: Path) -> None:
    path.chmod(0o666)
    for name in NAMES:
        os.setxattr(path, name, b"v")
    assert sorted(os.listxattr(path)) == sorted(NAMES)
    assert sorted(as_user(lambda: os.listxattr(path))) == ["security.three", "user.one"]
    assert as_user(lambda: os.getxattr(path, "user.one")) == b"v"
    with refused(errno.ENODATA):
        as_user(lambda: os.getxattr(path, "trusted.two"))
    with refused(errno.EPERM):
        as_user(lambda: os.setxattr(path, "trusted.two", b"w"))


def test_user_attributes_follow_the_mode(path: Path) -> None:
    os.setxattr(path, "user.x", b"1")
    path.chmod(0o600)
    with refused(errno.EACCES):
        as_user(lambda: os.getxattr(path, "user.x"))
    path.chmod(0o644)
    assert as_user(lambda: os.getxattr(path, "user.x")) == b"1"
    with refused(errno.EACCES):
        as_user(lambda: os.setxattr(path, "user.x", b"2"))


def test_attributes_stay_with_the_file(path: Path) -> None:
    os.setxattr(path, "user.x", b"1")
    os.link(path, path.with_name("second"))
    path.rename(path.with_name("renamed"))
    assert os.getxattr(path.with_name("second"), "user.x") == b"1"
    with path.with_name("renamed").open("rb") as file:
        path.with_name("renamed").unlink()
        path.with_name("second").unlink()
        assert os.getxattr(file.fileno(), "user.x") == b"1"
    path.touch()
    assert os.listxattr(path) == []


# -- access control lists -------------------------------------------------------------------------------------------------


def setfacl(path: Path, *arguments: str) -> None:
    subprocess.run(["setfacl", *arguments, path], check=True)


def getfacl(path: Path) -> list[str]:
    command = ["getfacl", "--absolute-names", "--numeric", "--no-effective", "--omit-header", str(path)]
    listed = subprocess.run(command, check=True, capture_output=True, text=True)
    return [line for line in listed.stdout.splitlines() if line]


def may(path: Path, how: int, uid: int = NOBODY, gid: int = NOBODY) -> bool:
    return as_user(lambda: os.access(path, how, effective_ids=True), uid, gid)


def test_an_acl_admits_a_user_and_a_group(path: Path) -> None:
    path.write_bytes(b"shared")
    path.chmod(0o600)
    setfacl(path, "-m", f"u:{NOBODY}:rw,g:{SOMEBODY}:r")
    assert getfacl(path) == [
        "user::rw-",
        f"user:{NOBODY}:rw-",
        "group::---",
        f"group:{SOMEBODY}:r--",
        "mask::rw-",
        "other::---",
    ]
    assert may(path, os.W_OK) and may(path, os.R_OK, uid=1, gid=SOMEBODY)
    assert not may(path, os.W_OK, uid=1, gid=SOMEBODY) and not may(path, os.R_OK, uid=1, gid=1)
    assert as_user(lambda: path.read_bytes()) == b"shared"
    setfacl(path, "-b")
    assert getfacl(path) == ["user::rw-", "group::---", "other::---"]
    assert not may(path, os.R_OK)
    assert os.listxattr(path) == []


def test_the_group_bits_of_chmod_are_the_mask(path: Path) -> None:
    path.chmod(0o640)
    setfacl(path, "-m", f"u:{NOBODY}:rw")
    assert stat.S_IMODE(path.stat().st_mode) == 0o660
    path.chmod(0o600)
    assert "mask::---" in getfacl(path) and f"user:{NOBODY}:rw-" in getfacl(path)
    assert not may(path, os.R_OK)
    path.chmod(0o640)
    assert may(path, os.R_OK) and not may(path, os.W_OK)
    setfacl(path, "-m", "m::rw")
    assert stat.S_IMODE(path.stat().st_mode) == 0o660


def test_an_acl_that_says_no_more_than_the_mode_is_the_mode(path: Path) -> None:
    setfacl(path, "-m", "u::rwx,g::r,o::-")
    assert stat.S_IMODE(path.stat().st_mode) == 0o740
    assert os.listxattr(path) == []


@pytest.mark.parametrize("umask", [0, 0o077])
def test_a_default_acl_is_inherited_and_replaces_the_umask(here: Path, umask: int) -> None:
    os.umask(umask)
    folder = here / "folder"
    folder.mkdir()
    folder.chmod(0o777)
    setfacl(folder, "-d", "-m", f"u::rwx,u:{NOBODY}:rwx,g::rx,o::-")
    default = ["user::rwx", f"user:{NOBODY}:rwx", "group::r-x", "mask::rwx", "other::---"]

    os.mkdir(folder / "sub", 0o777)
    assert getfacl(folder / "sub") == default + [f"default:{entry}" for entry in default]
    assert stat.S_IMODE((folder / "sub").stat().st_mode) == 0o770

    os.close(os.open(folder / "file", os.O_CREAT | os.O_WRONLY, 0o666))
    # What the maker asked for narrows the mask and the owner's bits.
    assert getfacl(folder / "file") == ["user::rw-", f"user:{NOBODY}:rwx", "group::r-x", "mask::rw-", "other::---"]
    assert may(folder / "file", os.W_OK)

    os.mkfifo(folder / "sub" / "fifo", 0o640)
    assert getfacl(folder / "sub" / "fifo") == [
        "user::rw-",
        f"user:{NOBODY}:rwx",
        "group::r-x",
        "mask::r--",
        "other::---",
    ]
    os.symlink("x", folder / "link")
    assert stat.S_IMODE((folder / "link").lstat().st_mode) == 0o777


def test_who_may_set_an_acl(path: Path, here: Path) -> None:
    with refused(errno.EPERM):
        as_user(lambda: os.setxattr(path, "system.posix_acl_access", acl((1, 6, -1), (4, 4, -1), (32, 4, -1))))
    as_user(lambda: (here / "theirs").touch())
    as_user(lambda: os.setxattr(here / "theirs", "system.posix_acl_access", acl((1, 6, -1), (4, 0, -1), (32, 0, -1))))
    assert stat.S_IMODE((here / "theirs").stat().st_mode) == 0o600


def acl(*entries: tuple[int, int, int]) -> bytes:
    """Version 2 of the kernel's format: (tag, permissions, id)."""
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHi", *entry) for entry in entries)


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"nonsense",
        struct.pack("<I", 3),
        acl((1, 6, -1)),
        acl((1, 6, -1), (2, 6, 5), (4, 4, -1), (32, 4, -1)),  # no mask
        acl((4, 4, -1), (1, 6, -1), (32, 4, -1)),  # wrong order
        acl((1, 15, -1), (4, 4, -1), (32, 4, -1)),
        acl((1, 6, -1), (4, 4, -1), (64, 4, -1)),
    ],
)
def test_a_malformed_acl_is_refused(path: Path, value: bytes) -> None:
    before = getfacl(path)
    try:
        os.setxattr(path, "system.posix_acl_access", value)
    except OSError as error:
        assert error.errno in (errno.EINVAL, errno.EOPNOTSUPP), error
    else:
        assert value == b"", "an empty value means none"
    assert getfacl(path) == before


def test_an_acl_by_who_is_not_of_the_group_takes_setgid_away(here: Path) -> None:
    path = here / "file"
    as_user(lambda: path.touch())
    os.chown(path, NOBODY, SOMEBODY)
    path.chmod(0o2771)
    value = acl((1, 7, -1), (2, 7, 5), (4, 7, -1), (16, 7, -1), (32, 1, -1))
    as_user(lambda: os.setxattr(path, "system.posix_acl_access", value), groups=[SOMEBODY])
    assert path.stat().st_mode & stat.S_ISGID
    as_user(lambda: os.setxattr(path, "system.posix_acl_access", value))
    assert not path.stat().st_mode & stat.S_ISGID


def test_only_directories_have_a_default_acl(path: Path) -> None:
    with refused(errno.EACCES):
        os.setxattr(path, "system.posix_acl_default", acl((1, 7, -1), (4, 5, -1), (32, 5, -1)))
