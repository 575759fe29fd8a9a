"""The offline check of a whole volume: the metadata against itself, and the object store against the metadata.

Opens the volume as a mount does, under its lock, so what a crash left in the journal is replayed first; but it
repairs nothing, and looks at the rows in UNSETTLED as they are. See `loligo_mds.core.content` for what they admit.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from loligo_mds.core.content import list_unsettled
from loligo_mds.core.invariants import all_inodes, check_shard
from loligo_mds.core.requests import ListUnsettled
from loligo_mds.core.state import ShardState
from loligo_mds.shell.volume_parts import open_objects, open_shard_store
from loligo_mds.store.shard_store import ShardStore
from loligo_runtime.object_store import ObjectStore, object_name
from loligo_runtime.volume import Volume
from loligo_wire.attributes import FLAG_INLINE, FLAG_SPARSE
from loligo_wire.striping import block_count

_ALL = 1 << 62


@dataclass(slots=True)
class Report:
    inodes: int
    objects: int
    object_bytes: int
    problems: list[str]


class FileFacts(NamedTuple):
    """`solid_end`: below it no byte may be missing. `end`: no object may reach beyond it."""

    size: int
    block_bytes: int
    solid_end: int
    end: int


def check_volume(volume: Volume) -> Report:
    """StoreError, ObjectStoreError, VolumeError, OSError: it cannot be checked."""
    store = open_shard_store(volume)
    try:
        objects = open_objects(volume)
        try:
            problems = store.check() + check_shard(store)
            inodes = sum(1 for _ in all_inodes(store))
            report = Report(inodes, 0, 0, problems)
            _check_objects(_files(store), objects, report)
            return report
        finally:
            objects.close()
    finally:
        store.close()


def _files(store: ShardStore) -> dict[int, FileFacts]:
    """Every inode that may have objects, those that are gone included."""
    files = {}
    for found in all_inodes(store):
        if found.is_file:
            in_objects = found.size if not found.flags & FLAG_INLINE else 0
            solid_end = 0 if found.flags & FLAG_SPARSE else in_objects
            files[found.ino] = FileFacts(in_objects, found.block_bytes, solid_end, in_objects)
    rows = list_unsettled(ShardState(0, store, 0), ListUnsettled(0, _ALL), 0)
    for ino, start, end, block_bytes, _ in rows:
        known = files.get(ino) or FileFacts(0, block_bytes, 0, 0)
        files[ino] = FileFacts(known.size, known.block_bytes, min(known.solid_end, start), max(known.end, end))
    return files


def _check_objects(files: dict[int, FileFacts], objects: ObjectStore, report: Report) -> None:
    #: Of files that must be whole: how many of their objects are.
    whole: dict[int, int] = {}
    for ino, index, size in objects.list():
        report.objects += 1
        report.object_bytes += size
        facts = files.get(ino)
        name = object_name(ino, index)
        if facts is None:
            report.problems.append(f"object {name} belongs to no file")
            continue
        start = index * facts.block_bytes
        if size > facts.block_bytes or start + size > facts.end:
            report.problems.append(
                f"object {name} has {size} bytes; inode {ino} ends at {facts.end}, its blocks have {facts.block_bytes}"
            )
        if start < facts.solid_end and size >= min(facts.block_bytes, facts.solid_end - start):
            whole[ino] = whole.get(ino, 0) + 1
    for ino, facts in files.items():
        count = block_count(facts.solid_end, facts.block_bytes) if facts.solid_end else 0
        if whole.get(ino, 0) < count:
            report.problems += _missing(ino, facts, count, objects)


def _missing(ino: int, facts: FileFacts, count: int, objects: ObjectStore) -> Iterator[str]:
    for index in range(count):
        wanted = min(facts.block_bytes, facts.solid_end - index * facts.block_bytes)
        size = objects.size(ino, index).result()
        if size is None or size < wanted:
            has = "is missing" if size is None else f"has {size} bytes"
            yield f"object {object_name(ino, index)} {has}; inode {ino} has no holes and needs {wanted} bytes of it"
