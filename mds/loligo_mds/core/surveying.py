"""What is in a directory that was moved to the trash as a whole: nobody knows when that happens, since moving it is one rename.

It is counted afterwards, a slice at a time, by whoever has the time for it (`shell.purger`); what is found is stored with the
row of the directory, so that all sums are those of rows. A tree in the trash stays as it is, but for what somebody still
writes to its files, so what is stored is what the trash holds as far as that can be told.

Who still believes names in the directories that it comes through is asked to forget them: nobody gets there by a path, and who
purges them need not wait. The cache of inodes is left to those who work.
"""

from itertools import islice
from stat import S_IFDIR

from loligo_mds.core import leases, trash
from loligo_mds.core.entries import decode_entry
from loligo_mds.core.limits import LISTING_PAGE_MAX
from loligo_mds.core.requests import CountTree, Survey, Surveyed
from loligo_mds.core.state import InvariantBroken, ShardState, ino_key
from loligo_mds.core.tables import Table
from loligo_trash.batch import FLAG_COUNTED
from loligo_wire.attributes import decode_attributes

_INODE = int(Table.INODE)
_DENTRY = int(Table.DENTRY)


def survey(state: ShardState, request: Survey, now_ns: int) -> Surveyed:
    found = Surveyed()
    if not request.directory:
        buried = trash.first_buried(state, request.batch)
        if buried is not None:
            _count(state, found, buried.ino, buried.kind)
        return found
    leases.recall_all(state, request.directory)
    count = max(1, min(request.count, LISTING_PAGE_MAX))
    prefix = ino_key(request.directory)
    page = list(islice(state.tables.scan(_DENTRY, request.after + b"\0" if request.after else prefix), count))
    for key, value in page:
        if not key.startswith(prefix):
            return found
        _count(state, found, *decode_entry(value))
    if len(page) == count:
        found.after = page[-1][0]
    return found


def _count(state: ShardState, found: Surveyed, ino: int, kind: int) -> None:
    record = state.tables.get(_INODE, ino_key(ino))
    if record is None:
        raise InvariantBroken(f"a directory in the trash has inode {ino}, which does not exist")
    attributes = decode_attributes(ino, record)
    size_bytes = attributes.size if attributes.is_file else 0
    if kind != S_IFDIR and attributes.nlink > 1:
        found.linked.append((ino, attributes.nlink, size_bytes))
        return
    found.inodes += 1
    found.size_bytes += size_bytes
    if kind == S_IFDIR and attributes.size:
        found.directories.append(ino)


def count_tree(state: ShardState, request: CountTree, now_ns: int) -> bool:
    batch = trash.find_batch(state, request.batch)
    if batch is None or batch.flags & FLAG_COUNTED:
        return False
    buried = trash.first_buried(state, batch.id)
    if buried is None:
        raise InvariantBroken(f"batch {batch.id} is empty")
    trash.recount(state, batch, buried, max(1, request.inodes), request.size_bytes)
    return True
