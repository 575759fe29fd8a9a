"""ACLs against the kernel's own: what a shard makes of modes and ACLs is what ext4 makes of them."""

import os
import stat
from errno import EINVAL, EOPNOTSUPP
from itertools import count
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from loligo_mds.core.requests import Create, GetAttributes, GetXattr, RemoveXattr, SetAttributes, SetXattr
from loligo_wire import acl
from loligo_wire.acl import GROUP, GROUP_OBJ, MASK, OTHER, USER, USER_OBJ, Entry
from loligo_wire.ids import ROOT_INO
from unit.shard_lab import ShardLab

R = int(ROOT_INO)
permissions = st.integers(0, 7)
modes = st.integers(0, 0o7777)
_ids = st.lists(st.integers(1, 9), unique=True, max_size=3)


@st.composite
def acls(draw: st.DrawFn) -> list[Entry]:
    """A valid ACL, in order."""
    users = draw(_ids)
    groups = draw(_ids)
    entries = [(USER_OBJ, draw(permissions), 0)]
    entries += [(USER, draw(permissions), who) for who in sorted(users)]
    entries += [(GROUP_OBJ, draw(permissions), 0)]
    entries += [(GROUP, draw(permissions), who) for who in sorted(groups)]
    if users or groups or draw(permissions) & 1:
        entries.append((MASK, draw(permissions), 0))
    return [*entries, (OTHER, draw(permissions), 0)]


def encode(entries: list[Entry]) -> bytes:
    """As the kernel wants it: entries without a name have the id -1."""
    return acl.encode([(tag, bits, who if tag in (USER, GROUP) else 0xFFFF_FFFF) for tag, bits, who in entries])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """On a file system with ACLs, of root's."""
    path = tmp_path_factory.mktemp("acl")
    try:
        os.setxattr(path, acl.DEFAULT_NAME, encode([(USER_OBJ, 7, 0), (GROUP_OBJ, 5, 0), (OTHER, 0, 0)]))
        os.removexattr(path, acl.DEFAULT_NAME)
    except OSError as error:
        pytest.skip(f"no ACLs here: {error}")
    if os.geteuid() != 0:
        pytest.skip("set-id bits are root's to keep")
    return path


numbers = count()


class Pair:
    """One inode in a shard and on the kernel's file system, that must stay alike."""

    def __init__(self, folder: Path, mode: int) -> None:
        self.lab = ShardLab()
        self.number = next(numbers)
        self.path = self._make_real(folder / f"{self.number}", mode)
        self.ino = self.lab.ask(Create(R, b"%d" % self.number, mode, 0, 0)).ino

    def _make_real(self, path: Path, mode: int) -> Path:
        before = os.umask(0)
        try:
            if stat.S_ISDIR(mode):
                os.mkdir(path, mode & 0o7777)
                os.chmod(path, mode & 0o7777)
            else:
                os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDONLY, mode & 0o7777))
        finally:
            os.umask(before)
        return path

    def set_acl(self, name: bytes, value: bytes) -> None:
        real = 0
        try:
            os.setxattr(self.path, name, value)
        except OSError as error:
            # The kernel looks at the bytes before a file system does, and has an errno of its own for a wrong version.
            real = EINVAL if error.errno == EOPNOTSUPP else error.errno or 0
        assert self.lab.reply(SetXattr(self.ino, name, value)).errno == real

    def chmod(self, mode: int) -> None:
        os.chmod(self.path, mode)
        self.lab.ask(SetAttributes(self.ino, mode=mode))

    def same(self) -> None:
        alike(self.lab, self.ino, self.path)


def alike(lab: ShardLab, ino: int, path: Path) -> None:
    assert oct(lab.ask(GetAttributes(ino)).mode) == oct(os.stat(path).st_mode)
    for name in (acl.ACCESS_NAME, acl.DEFAULT_NAME):
        reply = lab.reply(GetXattr(ino, name))
        try:
            real = os.getxattr(path, name)
        except OSError as error:
            assert reply.errno == error.errno
        else:
            assert reply.errno == 0, f"the kernel has {acl.decode(real)}"
            assert acl.decode(reply.value) == acl.decode(real)


RUNS = settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])


@RUNS
@given(entries=acls(), mode=modes, then=modes, directory=st.booleans())
def test_an_access_acl_and_chmod(folder: Path, entries: list[Entry], mode: int, then: int, directory: bool) -> None:
    pair = Pair(folder, (stat.S_IFDIR if directory else stat.S_IFREG) | mode)
    pair.same()
    pair.set_acl(acl.ACCESS_NAME, encode(entries))
    pair.same()
    pair.chmod(then)
    pair.same()
    pair.lab.ask(RemoveXattr(pair.ino, acl.ACCESS_NAME))
    try:
        os.removexattr(pair.path, acl.ACCESS_NAME)
    except OSError:
        assert acl.is_minimal(entries)
    pair.same()


@RUNS
@given(entries=acls(), parent=modes, mode=modes, directory=st.booleans(), umask=st.integers(0, 0o777))
def test_what_a_default_acl_hands_down(
    folder: Path, entries: list[Entry], parent: int, mode: int, directory: bool, umask: int
) -> None:
    pair = Pair(folder, stat.S_IFDIR | parent)
    pair.set_acl(acl.DEFAULT_NAME, encode(entries))
    pair.same()
    child = pair.path / "child"
    # mkdir(2) takes permission bits and the sticky bit only.
    mode &= 0o1777 if directory else 0o7777
    before = os.umask(umask)
    try:
        if directory:
            os.mkdir(child, mode)
        else:
            os.mknod(child, stat.S_IFREG | mode)
    finally:
        os.umask(before)
    kind = stat.S_IFDIR if directory else stat.S_IFREG
    ino = pair.lab.ask(Create(pair.ino, b"child", kind | mode, 0, 0, umask)).ino
    alike(pair.lab, ino, child)


@RUNS
@given(
    value=st.one_of(
        st.binary(max_size=40),
        st.lists(
            st.tuples(st.sampled_from([1, 2, 4, 8, 16, 32, 64]), st.integers(0, 9), st.integers(0, 3)), max_size=6
        ).map(acl.encode),
        acls().map(encode),
    ),
    name=st.sampled_from([acl.ACCESS_NAME, acl.DEFAULT_NAME]),
)
def test_what_is_an_acl_and_what_is_not(folder: Path, value: bytes, name: bytes) -> None:
    pair = Pair(folder, stat.S_IFDIR | 0o755)
    pair.set_acl(name, value)
    pair.same()


def test_the_layout_of_an_acl() -> None:
    nobody = 0xFFFFFFFF  # the kernel's id for entries that name nobody
    entries = [(USER_OBJ, 7, nobody), (USER, 6, 1000), (GROUP_OBJ, 5, nobody), (MASK, 4, nobody), (OTHER, 1, nobody)]
    value = bytes.fromhex(
        "02000000 01000700ffffffff 02000600e8030000 04000500ffffffff 10000400ffffffff 20000100ffffffff"
    )
    assert acl.encode(entries[::-1]) == value
    assert acl.decode(value) == entries
    assert acl.permission_bits(entries) == 0o741


def test_removing_an_acl_that_is_not_there_is_no_mistake(lab: ShardLab) -> None:
    f = lab.make(b"f")
    assert lab.ask(RemoveXattr(f, acl.ACCESS_NAME)).ino == f
    assert lab.ask(SetXattr(f, acl.ACCESS_NAME, acl.encode([]))).flags == 0


def test_a_minimal_acl_is_kept_in_the_mode_alone(lab: ShardLab) -> None:
    f = lab.make(b"f", 0o102777)
    value = encode([(USER_OBJ, 6, 0), (GROUP_OBJ, 4, 0), (OTHER, 0, 0)])
    changed = lab.ask(SetXattr(f, acl.ACCESS_NAME, value, kill_sgid=True))
    assert (changed.mode, changed.flags) == (0o100640, 0)
