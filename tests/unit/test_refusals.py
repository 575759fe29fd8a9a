"""Everything that a shard refuses, and the errno it says it with. `ShardLab` checks that no refusal leaves a trace."""

import errno
from collections.abc import Callable

import pytest

from loligo_mds.core import limits
from loligo_mds.core.namespace import RENAME_EXCHANGE, RENAME_NOREPLACE
from loligo_mds.core.requests import (
    Close,
    Create,
    CreateUnnamed,
    GetAttributes,
    GetXattr,
    Link,
    ListXattrs,
    Lookup,
    Open,
    Publish,
    ReadDirectory,
    ReadInline,
    ReadLink,
    RecordAccess,
    RemoveDirectory,
    RemoveXattr,
    Rename,
    Request,
    SetAttributes,
    SetXattr,
    Unlink,
    Unsettle,
)
from loligo_mds.core.xattrs import XATTR_CREATE, XATTR_REPLACE
from loligo_wire import acl
from loligo_wire.ids import ROOT_INO
from unit.shard_lab import DIRECTORY, FILE, SYMLINK, ShardLab

NOBODY = 999
LONG = b"n" * (limits.NAME_MAX_BYTES + 1)
SOME_ACL = acl.encode([(acl.USER_OBJ, 7, 0), (acl.GROUP_OBJ, 5, 0), (acl.OTHER, 0, 0)])


class Tree(ShardLab):
    """/d/sub/file, /d2 (empty), /f, /other, /link -> f"""

    def __init__(self) -> None:
        super().__init__()
        self.d = self.make(b"d", DIRECTORY)
        self.sub = self.make(b"d/sub", DIRECTORY)
        self.file = self.make(b"d/sub/file")
        self.d2 = self.make(b"d2", DIRECTORY)
        self.f = self.make(b"f")
        self.other = self.make(b"other")
        self.link = self.make(b"link", SYMLINK, b"f")
        self.ask(SetXattr(self.f, b"user.set", b"value"))


R = int(ROOT_INO)
Case = tuple[int, Callable[[Tree], Request]]

CASES: list[Case] = [
    # a directory that is none
    (errno.ENOENT, lambda t: Lookup(NOBODY, b"x")),
    (errno.ENOTDIR, lambda t: Lookup(t.f, b"x")),
    (errno.ENAMETOOLONG, lambda t: Lookup(R, LONG)),
    (errno.ENOENT, lambda t: ReadDirectory(NOBODY, 0, 10)),
    (errno.ENOTDIR, lambda t: ReadDirectory(t.f, 0, 10)),
    (errno.ENOENT, lambda t: Create(NOBODY, b"x", FILE, 0, 0)),
    (errno.ENOTDIR, lambda t: Create(t.link, b"x", FILE, 0, 0)),
    (errno.ENOENT, lambda t: CreateUnnamed(NOBODY, FILE, 0, 0)),
    (errno.ENOTDIR, lambda t: CreateUnnamed(t.f, FILE, 0, 0)),
    (errno.ENOENT, lambda t: Unlink(NOBODY, b"x")),
    (errno.ENOTDIR, lambda t: Unlink(t.f, b"x")),
    (errno.ENOENT, lambda t: RemoveDirectory(NOBODY, b"x")),
    (errno.ENOTDIR, lambda t: RemoveDirectory(t.f, b"x")),
    (errno.ENOENT, lambda t: Link(t.f, NOBODY, b"x")),
    (errno.ENOTDIR, lambda t: Link(t.f, t.other, b"x")),
    (errno.ENOENT, lambda t: Rename(NOBODY, b"x", R, b"y")),
    (errno.ENOTDIR, lambda t: Rename(t.f, b"x", R, b"y")),
    (errno.ENOENT, lambda t: Rename(R, b"f", NOBODY, b"y")),
    (errno.ENOTDIR, lambda t: Rename(R, b"f", t.other, b"y")),
    # an inode that is none
    (errno.ENOENT, lambda t: GetAttributes(NOBODY)),
    (errno.ENOENT, lambda t: SetAttributes(NOBODY, mode=0)),
    (errno.ENOENT, lambda t: RecordAccess(NOBODY, 1)),
    (errno.ENOENT, lambda t: Link(NOBODY, R, b"x")),
    (errno.ENOENT, lambda t: ReadLink(NOBODY)),
    (errno.ENOENT, lambda t: GetXattr(NOBODY, b"user.x")),
    (errno.ENOENT, lambda t: ListXattrs(NOBODY)),
    (errno.ENOENT, lambda t: SetXattr(NOBODY, b"user.x", b"")),
    (errno.ENOENT, lambda t: RemoveXattr(NOBODY, b"user.x")),
    (errno.ENOENT, lambda t: Open(NOBODY)),
    (errno.ENOENT, lambda t: Close(NOBODY)),
    (errno.ENOENT, lambda t: ReadInline(NOBODY)),
    (errno.ENOENT, lambda t: Unsettle(NOBODY, 1)),
    (errno.ENOENT, lambda t: Publish(NOBODY, 1, None)),
    # names
    (errno.EEXIST, lambda t: Create(R, b"f", FILE, 0, 0)),
    (errno.EEXIST, lambda t: Create(R, b"d", DIRECTORY, 0, 0)),
    (errno.EEXIST, lambda t: Create(R, b".", DIRECTORY, 0, 0)),
    (errno.EEXIST, lambda t: Create(R, b"..", FILE, 0, 0)),
    (errno.EINVAL, lambda t: Create(R, b"", FILE, 0, 0)),
    (errno.EINVAL, lambda t: Create(R, b"a/b", FILE, 0, 0)),
    (errno.EINVAL, lambda t: Create(R, b"a\0b", FILE, 0, 0)),
    (errno.ENAMETOOLONG, lambda t: Create(R, LONG, FILE, 0, 0)),
    (errno.EINVAL, lambda t: Create(R, b"x", 0o644, 0, 0)),
    (errno.EINVAL, lambda t: CreateUnnamed(R, DIRECTORY, 0, 0)),
    (errno.EISDIR, lambda t: Create(R, b"x", DIRECTORY, 0, 0, hold=True)),
    (errno.ENOENT, lambda t: Create(R, b"x", SYMLINK, 0, 0)),
    (errno.EINVAL, lambda t: Create(R, b"x", SYMLINK, 0, 0, target=b"a\0b")),
    (errno.ENAMETOOLONG, lambda t: Create(R, b"x", SYMLINK, 0, 0, target=b"t" * (limits.SYMLINK_MAX_BYTES + 1))),
    (errno.ENOENT, lambda t: Unlink(R, b"missing")),
    (errno.EISDIR, lambda t: Unlink(R, b"d2")),
    (errno.ENAMETOOLONG, lambda t: Unlink(R, LONG)),
    (errno.ENOENT, lambda t: RemoveDirectory(R, b"missing")),
    (errno.ENOTDIR, lambda t: RemoveDirectory(R, b"f")),
    (errno.ENOTDIR, lambda t: RemoveDirectory(R, b"link")),
    (errno.ENOTEMPTY, lambda t: RemoveDirectory(R, b"d")),
    (errno.EINVAL, lambda t: RemoveDirectory(t.d, b".")),
    (errno.ENOTEMPTY, lambda t: RemoveDirectory(t.d, b"..")),
    (errno.EPERM, lambda t: Link(t.d, R, b"x")),
    (errno.EEXIST, lambda t: Link(t.f, R, b"other")),
    (errno.EEXIST, lambda t: Link(t.f, R, b"f")),
    (errno.EINVAL, lambda t: Link(t.f, R, b"a/b")),
    (errno.ENAMETOOLONG, lambda t: Link(t.f, R, LONG)),
    (errno.EINVAL, lambda t: ReadLink(t.f)),
    # renames
    (errno.ENOENT, lambda t: Rename(R, b"missing", R, b"x")),
    (errno.EEXIST, lambda t: Rename(R, b"f", R, b"..")),
    (errno.ENAMETOOLONG, lambda t: Rename(R, b"f", R, LONG)),
    (errno.EISDIR, lambda t: Rename(R, b"f", R, b"d2")),
    (errno.ENOTDIR, lambda t: Rename(R, b"d", R, b"f")),
    (errno.ENOTEMPTY, lambda t: Rename(R, b"d2", R, b"d")),
    (errno.ENOTEMPTY, lambda t: Rename(t.d, b"sub", R, b"d")),
    (errno.EINVAL, lambda t: Rename(R, b"d", t.d, b"x")),
    (errno.EINVAL, lambda t: Rename(R, b"d", t.sub, b"x")),
    (errno.EEXIST, lambda t: Rename(R, b"f", R, b"other", RENAME_NOREPLACE)),
    (errno.EEXIST, lambda t: Rename(R, b"f", R, b"f", RENAME_NOREPLACE)),
    (errno.ENOENT, lambda t: Rename(R, b"f", R, b"missing", RENAME_EXCHANGE)),
    (errno.EINVAL, lambda t: Rename(R, b"d", t.sub, b"file", RENAME_EXCHANGE)),
    (errno.EINVAL, lambda t: Rename(t.sub, b"file", R, b"d", RENAME_EXCHANGE)),
    (errno.EINVAL, lambda t: Rename(R, b"f", R, b"other", RENAME_NOREPLACE | RENAME_EXCHANGE)),
    (errno.EINVAL, lambda t: Rename(R, b"f", R, b"other", 4)),
    # sizes and content
    (errno.EISDIR, lambda t: SetAttributes(t.d, size=0)),
    (errno.EINVAL, lambda t: SetAttributes(t.link, size=0)),
    (errno.EINVAL, lambda t: SetAttributes(t.f, size=-1)),
    (errno.EFBIG, lambda t: SetAttributes(t.f, size=limits.FILE_MAX_BYTES + 1)),
    (errno.ENOENT, lambda t: ReadInline(t.f)),
    (errno.EINVAL, lambda t: Publish(t.d, 0, None)),
    (errno.EINVAL, lambda t: Publish(t.link, 1, None, b"g")),
    (errno.EINVAL, lambda t: Publish(t.f, 3, None, b"four")),
    (errno.EINVAL, lambda t: Publish(t.f, -1, None)),
    (errno.EFBIG, lambda t: Publish(t.f, limits.FILE_MAX_BYTES + 1, None)),
    (
        errno.EINVAL,
        lambda t: Publish(t.f, limits.INLINE_MAX_BYTES + 1, None, bytes(limits.INLINE_MAX_BYTES + 1)),
    ),
    (errno.EINVAL, lambda t: Unsettle(t.d, 1)),
    (errno.EINVAL, lambda t: Unsettle(t.link, 1)),
    # held open
    (errno.EISDIR, lambda t: Open(t.d)),
    (errno.ENOENT, lambda t: Close(t.f)),
    # extended attributes
    (errno.ENODATA, lambda t: GetXattr(t.f, b"user.missing")),
    (errno.ENODATA, lambda t: GetXattr(t.other, b"user.set")),
    (errno.ENODATA, lambda t: GetXattr(t.f, acl.ACCESS_NAME)),
    (errno.EOPNOTSUPP, lambda t: GetXattr(t.f, b"system.other")),
    (errno.EOPNOTSUPP, lambda t: GetXattr(t.f, b"nonsense")),
    (errno.EINVAL, lambda t: SetXattr(t.f, b"user.", b"")),
    (errno.EINVAL, lambda t: SetXattr(t.f, b"user.a\0b", b"")),
    (errno.EOPNOTSUPP, lambda t: SetXattr(t.f, b"userx", b"")),
    (errno.ERANGE, lambda t: SetXattr(t.f, b"user." + b"x" * 251, b"")),
    (errno.E2BIG, lambda t: SetXattr(t.f, b"user.x", bytes(limits.XATTR_VALUE_MAX_BYTES + 1))),
    (errno.EEXIST, lambda t: SetXattr(t.f, b"user.set", b"", XATTR_CREATE)),
    (errno.ENODATA, lambda t: SetXattr(t.f, b"user.missing", b"", XATTR_REPLACE)),
    (errno.ENODATA, lambda t: SetXattr(t.other, b"user.missing", b"", XATTR_REPLACE)),
    (errno.ENODATA, lambda t: RemoveXattr(t.f, b"user.missing")),
    (errno.ENODATA, lambda t: RemoveXattr(t.other, b"user.missing")),
    (errno.EOPNOTSUPP, lambda t: RemoveXattr(t.f, b"nonsense")),
    # access control lists
    (errno.EOPNOTSUPP, lambda t: SetXattr(t.link, acl.ACCESS_NAME, SOME_ACL)),
    (errno.EACCES, lambda t: SetXattr(t.f, acl.DEFAULT_NAME, SOME_ACL)),
    (errno.EINVAL, lambda t: SetXattr(t.f, acl.ACCESS_NAME, b"\3\0\0\0")),
    (errno.EINVAL, lambda t: SetXattr(t.f, acl.ACCESS_NAME, SOME_ACL + b"x")),
    (errno.EINVAL, lambda t: SetXattr(t.f, acl.ACCESS_NAME, SOME_ACL[:-8])),
]


def case_id(case: Case) -> str:
    code, make = case
    request = make(_names)
    return f"{type(request).__name__}-{errno.errorcode[code]}"


class _Names(Tree):
    """Any inode number will do to name a case."""

    def __init__(self) -> None:
        self.d = self.sub = self.file = self.d2 = self.f = self.other = self.link = 0


_names = _Names()


@pytest.mark.parametrize("case", CASES, ids=map(case_id, CASES))
def test_refused(case: Case) -> None:
    tree = Tree()
    code, make = case
    tree.refused(make(tree), code)


def test_links_have_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    tree = Tree()
    monkeypatch.setattr("loligo_mds.core.namespace.LINK_MAX", 2)
    tree.ask(Link(tree.f, R, b"second"))
    tree.refused(Link(tree.f, R, b"third"), errno.EMLINK)
    tree.refused(Create(tree.d2, b"x", DIRECTORY, 0, 0), errno.EMLINK)
    tree.refused(Rename(R, b"d", tree.d2, b"x"), errno.EMLINK)


def test_inline_content_cannot_outgrow_its_place() -> None:
    tree = Tree()
    tree.ask(Publish(tree.f, 4, None, b"four"))
    tree.refused(SetAttributes(tree.f, size=limits.INLINE_MAX_BYTES + 1), errno.EINVAL)


def test_the_names_of_xattrs_fit_one_list() -> None:
    tree = Tree()
    count = 0
    while tree.reply(SetXattr(tree.other, b"user.%0245d" % count, b"")).errno == 0:
        count += 1
    tree.refused(SetXattr(tree.other, b"user.%0245d" % count, b""), errno.ENOSPC)
    names: list[bytes] = tree.ask(ListXattrs(tree.other))
    assert limits.XATTR_LIST_MAX_BYTES - 251 < sum(len(name) + 1 for name in names) <= limits.XATTR_LIST_MAX_BYTES
    tree.ask(SetXattr(tree.other, names[0], b"a new value needs no room in the list"))
