"""What must hold in a shard's tables at every moment, and the walk that proves it.

`check_shard` reads everything: for tests after each scenario, and for `loligo volume check`.
"""

from collections.abc import Iterator
from stat import S_IFDIR, S_IFLNK, S_IFMT, S_IFREG

from loligo_mds.core.namespace import cookie_of
from loligo_mds.core.state import ShardState, ino_key, ino_of_key
from loligo_mds.core.tables import Table, Tables
from loligo_wire import acl
from loligo_wire.attributes import (
    FLAG_ACCESS_ACL,
    FLAG_DEFAULT_ACL,
    FLAG_INLINE,
    FLAG_XATTR,
    Attributes,
    decode_attributes,
)
from loligo_wire.ids import ROOT_INO


def all_inodes(tables: Tables) -> Iterator[Attributes]:
    for key, record in tables.scan(Table.INODE, b""):
        yield decode_attributes(ino_of_key(key)[0], record)


def check_shard(tables: Tables, shard: int = 0) -> list[str]:
    """Every contradiction found, a sentence each; an empty list is good news."""
    problems: list[str] = []
    counters = ShardState(shard, tables, 0)
    inodes = {attributes.ino: attributes for attributes in all_inodes(tables)}
    names: dict[int, int] = {}
    entries: dict[int, int] = {}
    subdirectories: dict[int, int] = {}
    place: dict[int, tuple[int, bytes]] = {}

    for key, value in tables.scan(Table.DENTRY, b""):
        directory, cookie = ino_of_key(key)[0], int.from_bytes(key[8:16])
        name, child, kind = key[16:], ino_of_key(value)[0], value[8] << 12
        where = f"entry {name!r} of directory {directory}"
        if cookie != cookie_of(name):
            problems.append(f"{where} has cookie {cookie}, not its own")
        if directory not in inodes or not inodes[directory].is_directory:
            problems.append(f"{where}: no such directory")
        entries[directory] = entries.get(directory, 0) + 1
        found = inodes.get(child)
        if found is None:
            problems.append(f"{where} names inode {child}, which does not exist")
            continue
        if S_IFMT(found.mode) != kind:
            problems.append(f"{where} says type {kind:o}, inode {child} is {found.mode:o}")
        names[child] = names.get(child, 0) + 1
        if kind == S_IFDIR:
            subdirectories[directory] = subdirectories.get(directory, 0) + 1
            place[child] = (directory, name)

    orphans = {ino_of_key(key)[0] for key, _ in tables.scan(Table.ORPHAN, b"")}
    inline = {ino_of_key(key)[0]: len(value) for key, value in tables.scan(Table.INLINE, b"")}
    xattr_names: dict[int, set[bytes]] = {}
    for key, _ in tables.scan(Table.XATTR, b""):
        xattr_names.setdefault(ino_of_key(key)[0], set()).add(key[8:])

    for ino, found in inodes.items():
        if found.is_directory:
            problems += _check_directory(found, entries.get(ino, 0), subdirectories.get(ino, 0), place.get(ino))
        elif found.nlink != names.get(ino, 0):
            problems.append(f"inode {ino} has nlink {found.nlink} and {names.get(ino, 0)} names")
        if (found.nlink == 0) != (ino in orphans):
            problems.append(f"inode {ino} with nlink {found.nlink}: orphan is {ino in orphans}")
        if bool(found.flags & FLAG_INLINE) != (ino in inline):
            problems.append(f"inode {ino}: flag and table disagree whether its content is inline")
        elif ino in inline and inline[ino] != found.size:
            problems.append(f"inode {ino} has size {found.size}, inline {inline[ino]} bytes")
        if S_IFMT(found.mode) == S_IFLNK and ino not in inline:
            problems.append(f"symbolic link {ino} has no target")
        if S_IFMT(found.mode) == S_IFREG and not found.block_bytes:
            problems.append(f"file {ino} has no block size")
        problems += _check_xattr_flags(found, xattr_names.get(ino, set()))

    for table, present in (
        ("ORPHAN", orphans),
        ("INLINE", set(inline)),
        ("XATTR", set(xattr_names)),
    ):
        for ino in sorted(present - inodes.keys()):
            problems.append(f"table {table} has a row for inode {ino}, which does not exist")

    problems += _check_reachable(inodes)
    size_bytes = sum(found.size for found in inodes.values() if found.is_file)
    if (counters.inode_count, counters.size_bytes) != (len(inodes), size_bytes):
        problems.append(
            f"counters say {counters.inode_count} inodes, {counters.size_bytes} bytes;"
            f" there are {len(inodes)} and {size_bytes}"
        )
    highest = max(inodes, default=0)
    if highest >= int.from_bytes(ino_key(shard << 48 | counters.next_counter)):
        problems.append(f"inode {highest} lies beyond the next number to be given out")
    return problems


def _check_directory(
    found: Attributes, entries: int, subdirectories: int, place: tuple[int, bytes] | None
) -> list[str]:
    problems = []
    if found.size != entries:
        problems.append(f"directory {found.ino} has size {found.size} and {entries} entries")
    if found.nlink != 2 + subdirectories:
        problems.append(f"directory {found.ino} has nlink {found.nlink} and {subdirectories} subdirectories")
    if found.ino != ROOT_INO and place != (found.parent, found.name):
        problems.append(f"directory {found.ino} says it is {found.name!r} in {found.parent}; its entry: {place}")
    return problems


def _check_xattr_flags(found: Attributes, names: set[bytes]) -> list[str]:
    said = (
        bool(found.flags & FLAG_XATTR),
        bool(found.flags & FLAG_ACCESS_ACL),
        bool(found.flags & FLAG_DEFAULT_ACL),
    )
    true = (bool(names), acl.ACCESS_NAME in names, acl.DEFAULT_NAME in names)
    return [] if said == true else [f"inode {found.ino}: flags say {said} of xattrs, rows {true}"]


def _check_reachable(inodes: dict[int, Attributes]) -> list[str]:
    """Every directory's chain of parents ends at the root."""
    reached = {int(ROOT_INO)}
    problems = []
    for start, found in inodes.items():
        if not found.is_directory:
            continue
        path: list[int] = []
        ino = start
        while ino not in reached and ino in inodes and ino not in path and len(path) < 1 << 16:
            path.append(ino)
            ino = inodes[ino].parent
        if ino in reached:
            reached.update(path)
        else:
            problems.append(f"directory {start} cannot be reached from the root")
    return problems
