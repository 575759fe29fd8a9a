"""What must hold in a shard's tables at every moment, and the walk that proves it.

`check_shard` reads everything: for tests after each scenario, and for `loligo volume check`.
"""

from collections.abc import Iterator
from stat import S_IFDIR, S_IFLNK, S_IFMT, S_IFREG

from loligo_mds.core.content import DOUBT_BYTES
from loligo_mds.core.entries import cookie_of
from loligo_mds.core.limits import NAME_MAX_BYTES
from loligo_mds.core.sessions import ANSWER_BYTES
from loligo_mds.core.state import (
    COUNTERS_BEFORE_TRASH_BYTES,
    COUNTERS_BYTES,
    COUNTERS_KEY,
    ShardState,
    ino_key,
    ino_of_key,
)
from loligo_mds.core.tables import Table, Tables
from loligo_mds.core.trash import BURIED_BYTES, DUE_PREFIXES, Buried, batch_due, due_key
from loligo_trash.batch import RECORD_BYTES, decode_batch
from loligo_trash.places import decode_place
from loligo_trash.policy import POLICY_NAMES
from loligo_wire import acl
from loligo_wire.attributes import (
    FLAG_ACCESS_ACL,
    FLAG_DEFAULT_ACL,
    FLAG_INLINE,
    FLAG_TRASH_POLICY,
    FLAG_XATTR,
    RECORD_SIZE,
    Attributes,
    decode_attributes,
)
from loligo_wire.ids import ROOT_INO


def all_inodes(tables: Tables) -> Iterator[Attributes]:
    for key, record in tables.scan(Table.INODE, b""):
        yield decode_attributes(ino_of_key(key)[0], record)


def check_shard(tables: Tables, shard: int = 0) -> list[str]:
    """Every contradiction found, a sentence each; an empty list is good news."""
    malformed = _malformed(tables)
    if malformed:
        return malformed  # what else there is cannot be read
    problems: list[str] = []
    counters = ShardState(shard, tables, 0)
    inodes = {attributes.ino: attributes for attributes in all_inodes(tables)}
    names: dict[int, int] = {}
    entries: dict[int, int] = {}
    subdirectories: dict[int, int] = {}
    place: dict[int, tuple[int, bytes]] = {}
    at_parent: set[int] = set()

    for key, value in tables.scan(Table.DENTRY, b""):
        directory, cookie = ino_of_key(key)[0], int.from_bytes(key[8:16])
        name, child, kind = key[16:], ino_of_key(value)[0], value[8] << 12
        where = f"entry {name!r} of directory {directory}"
        if not name or name in (b".", b"..") or b"/" in name or len(name) > NAME_MAX_BYTES:
            problems.append(f"{where} has no valid name")
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
        elif found.parent == directory:
            at_parent.add(child)

    orphans = {ino_of_key(key)[0] for key, _ in tables.scan(Table.ORPHAN, b"")}
    inline = {ino_of_key(key)[0]: len(value) for key, value in tables.scan(Table.INLINE, b"")}
    xattr_names: dict[int, set[bytes]] = {}
    acls: dict[tuple[int, bytes], bytes] = {}
    for key, value in tables.scan(Table.XATTR, b""):
        ino, name = ino_of_key(key)[0], key[8:]
        xattr_names.setdefault(ino, set()).add(name)
        if name in (acl.ACCESS_NAME, acl.DEFAULT_NAME):
            acls[ino, name] = value

    for ino, found in inodes.items():
        if found.is_directory:
            problems += _check_directory(found, entries.get(ino, 0), subdirectories.get(ino, 0), place.get(ino))
            if names.get(ino, 0) != (ino != ROOT_INO and not found.trashed):
                problems.append(f"directory {ino} has {names.get(ino, 0)} names")
        elif found.nlink != names.get(ino, 0):
            problems.append(f"inode {ino} has nlink {found.nlink} and {names.get(ino, 0)} names")
        elif found.parent and ino not in at_parent:
            problems.append(f"inode {ino} says it has a name in {found.parent}, which has no entry for it")
        if found.is_unnamed != (ino in orphans):
            problems.append(
                f"inode {ino} with nlink {found.nlink}, {found.trashed} names in the trash: orphan is {ino in orphans}"
            )
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

    for (ino, name), value in acls.items():
        if ino in inodes:
            problems += _check_acl(inodes[ino], name, value)
    problems += _check_unsettled(tables, inodes)
    problems += _check_sessions(tables)
    problems += _check_trash(tables, counters, inodes)
    if shard == 0 and (ROOT_INO not in inodes or not inodes[ROOT_INO].is_directory):
        problems.append("there is no root directory")
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


#: The length of keys and values, or the least one of those that end in a name.
_SHAPES = (
    # table, key, name behind it, value, name behind it
    (Table.INODE, 8, False, RECORD_SIZE, True),
    (Table.DENTRY, 16, True, 9, False),
    (Table.XATTR, 8, True, 0, True),
    (Table.INLINE, 8, False, 0, True),
    (Table.ORPHAN, 8, False, 0, False),
    (Table.UNSETTLED, 8, False, DOUBT_BYTES, False),
    (Table.REPLY, 16, False, ANSWER_BYTES, True),
    (Table.CLIENT, 8, False, 1, True),
    (Table.DELEGATION, 8, False, 8, False),
    (Table.TRASH, 24, True, BURIED_BYTES, False),
    (Table.TRASH_PLACE, 16, False, 8, True),
    (Table.TRASH_BATCH, 8, False, RECORD_BYTES, True),
    (Table.TRASH_DUE, 17, False, 0, False),
)


def _malformed(tables: Tables) -> list[str]:
    problems = []
    for table, key_bytes, key_grows, value_bytes, value_grows in _SHAPES:
        for key, value in tables.scan(table, b""):
            key_fits = len(key) >= key_bytes if key_grows else len(key) == key_bytes
            value_fits = len(value) >= value_bytes if value_grows else len(value) == value_bytes
            if not key_fits or not value_fits:
                problems.append(f"table {table.name} has a row of a wrong length at {key.hex()}")
    for key, value in tables.scan(Table.SESSION, b""):
        if len(key) != 8 or len(value) not in (8, 16, 32):  # those of before leases, and delegations, are shorter
            problems.append(f"table SESSION has a row of a wrong length at {key.hex()}")
    counters = tables.get(Table.META, COUNTERS_KEY)
    if counters is None or len(counters) not in (COUNTERS_BEFORE_TRASH_BYTES, COUNTERS_BYTES):
        problems.append("table META has no counters, or a row of a wrong length for them")
    return problems


def _check_acl(found: Attributes, name: bytes, value: bytes) -> list[str]:
    """Stored ACLs say more than the permission bits, and nothing else than them."""
    try:
        entries = acl.decode(value)
    except acl.AclInvalid as error:
        return [f"inode {found.ino} has an invalid ACL: {error}"]
    if not entries:
        return [f"inode {found.ino} has an empty ACL"]
    if name == acl.DEFAULT_NAME:
        return [] if found.is_directory else [f"inode {found.ino} is no directory and has a default ACL"]
    if acl.permission_bits(entries) != found.mode & 0o777 or acl.is_minimal(entries):
        return [f"inode {found.ino} has mode {found.mode:o}, its ACL says {acl.permission_bits(entries):o}"]
    return []


def _check_unsettled(tables: Tables, inodes: dict[int, Attributes]) -> list[str]:
    problems = []
    for key, value in tables.scan(Table.UNSETTLED, b""):
        ino = ino_of_key(key)[0]
        block_bytes = int.from_bytes(value[-4:], "little")
        found = inodes.get(ino)
        if not block_bytes or (found is not None and (not found.is_file or found.block_bytes != block_bytes)):
            problems.append(f"unsettled inode {ino} has blocks of {block_bytes} bytes: {found}")
    return problems


def _check_sessions(tables: Tables) -> list[str]:
    """An answer is kept only for what its session has asked."""
    applied = {ino_of_key(key)[0]: ino_of_key(value)[0] for key, value in tables.scan(Table.SESSION, b"")}
    problems = []
    for key, _ in tables.scan(Table.REPLY, b""):
        session, sequence = ino_of_key(key)[0], int.from_bytes(key[8:])
        if sequence > applied.get(session, 0):
            problems.append(f"an answer is kept for request {sequence} of session {session}, which never came")
    return problems


def _check_trash(tables: Tables, counters: ShardState, inodes: dict[int, Attributes]) -> list[str]:
    """See the invariants of `core.trash`."""
    problems = []
    rows = ((ino_of_key(key)[0], record) for key, record in tables.scan(Table.TRASH_BATCH, b""))
    batches = {id: decode_batch(id, record) for id, record in rows}
    counted: dict[int, list[int]] = {id: [0, 0, 0] for id in batches}
    trashed: dict[int, int] = {}
    from_where: set[tuple[int, int]] = set()
    dead: set[tuple[int, int]] = set()
    for key, value in tables.scan(Table.TRASH, b""):
        id, directory = ino_of_key(key)[0], ino_of_key(key, 8)[0]
        buried = Buried(key[8:], value)
        where = f"{buried.name!r} of directory {directory} in batch {id}"
        if buried.cookie != cookie_of(buried.name):
            problems.append(f"{where} has not its own cookie")
        found = inodes.get(buried.ino)
        if found is None or S_IFMT(found.mode) != buried.kind:
            problems.append(f"{where} is an inode of type {buried.kind:o}, {buried.ino} is {found}")
        trashed[buried.ino] = trashed.get(buried.ino, 0) + 1
        from_where.add((id, directory))
        if buried.kind == S_IFDIR:
            dead.add((id, buried.ino))
            if found is not None and (found.parent, found.name) != (directory, buried.name):
                problems.append(f"{where} says it was {found.name!r} in {found.parent}")
        sums = counted.setdefault(id, [0, 0, 0])
        for place, amount in enumerate((1, buried.inodes, buried.size_bytes)):
            sums[place] += amount
    for id, sums in counted.items():
        batch = batches.get(id)
        if batch is None or [batch.names, batch.inodes, batch.size_bytes] != sums or not batch.names:
            problems.append(f"batch {id} says {batch}; it has {sums} names, inodes, bytes")
    for ino, found in inodes.items():
        if found.trashed != trashed.get(ino, 0):
            problems.append(f"inode {ino} says {found.trashed} names in the trash; there are {trashed.get(ino, 0)}")
    places = set()
    for key, record in tables.scan(Table.TRASH_PLACE, b""):
        id, directory = ino_of_key(key)[0], ino_of_key(key, 8)[0]
        places.add((id, directory))
        try:
            way = [step.ino for step in decode_place(record).steps]
        except ValueError as error:
            way = []
            problems.append(f"batch {id}, directory {directory}: {error}")
        if way and (way[0], way[-1]) != (ROOT_INO, directory):
            problems.append(f"batch {id}: the way to directory {directory} is {way}")
    for id, directory in sorted(places ^ (from_where - dead)):
        problems.append(f"batch {id}: it is not known, or known for nothing, where directory {directory} was")
    due: dict[tuple[int, bytes], bytes] = {}
    for key, _ in tables.scan(Table.TRASH_DUE, b""):
        due.setdefault((batch_due(key), key[:-16]), key)
        if key[:-16] not in [bytes([prefix]) for prefix in DUE_PREFIXES]:
            problems.append(f"batch {batch_due(key)} is looked for where nobody looks, at {key.hex()}")
    for id, batch in batches.items():
        wanted = due_key(batch)
        looked = None if wanted is None else due.get((id, wanted[:-16]))
        if wanted is not None and (looked is None or looked > wanted):
            problems.append(f"batch {id} is due at {batch.due_ns}, nobody looks before {looked and looked.hex()}")
        if id >= counters.next_batch:
            problems.append(f"batch {id} lies beyond the next number to be given out")
    sums = [sum(column) for column in zip(*counted.values(), strict=True)] or [0, 0, 0]
    if (counters.trash_inodes, counters.trash_bytes) != (sums[1], sums[2]):
        problems.append(
            f"counters say {counters.trash_inodes} inodes, {counters.trash_bytes} bytes in the trash; there are {sums[1:]}"
        )
    return problems


def _check_directory(
    found: Attributes, entries: int, subdirectories: int, place: tuple[int, bytes] | None
) -> list[str]:
    problems = []
    if found.size != entries:
        problems.append(f"directory {found.ino} has size {found.size} and {entries} entries")
    if found.nlink != 2 + subdirectories:
        problems.append(f"directory {found.ino} has nlink {found.nlink} and {subdirectories} subdirectories")
    if found.ino != ROOT_INO and place != (None if found.trashed else (found.parent, found.name)):
        problems.append(f"directory {found.ino} says it is {found.name!r} in {found.parent}; its entry: {place}")
    return problems


def _check_xattr_flags(found: Attributes, names: set[bytes]) -> list[str]:
    said = (
        bool(found.flags & FLAG_XATTR),
        bool(found.flags & FLAG_ACCESS_ACL),
        bool(found.flags & FLAG_DEFAULT_ACL),
        bool(found.flags & FLAG_TRASH_POLICY),
    )
    true = (bool(names), acl.ACCESS_NAME in names, acl.DEFAULT_NAME in names, bool(names & POLICY_NAMES))
    return [] if said == true else [f"inode {found.ino}: flags say {said} of xattrs, rows {true}"]


def _check_reachable(inodes: dict[int, Attributes]) -> list[str]:
    """Every directory's chain of parents ends at the root, or at one that is in the trash."""
    reached = {int(ROOT_INO)} | {ino for ino, found in inodes.items() if found.trashed}
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
