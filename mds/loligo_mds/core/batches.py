"""The trash as a whole: which batches there are, and what each has, for who may see them.

Who is no root sees his own, and a session whose root is below the volume's those of which everything was removed below that. An
answer looks at so many rows and no more, whatever it finds there: then it ends with a row that is only the number of the batch
that it has come to.
"""

from collections.abc import Iterator
from itertools import islice
from typing import Final

from loligo_mds.core import trash
from loligo_mds.core.limits import LISTING_PAGE_MAX
from loligo_mds.core.requests import ListBatches, ListRemoved
from loligo_mds.core.state import ShardState, ino_key, ino_of_key
from loligo_mds.core.tables import Table
from loligo_trash.batch import Batch, decode_batch
from loligo_trash.places import Step, decode_place
from loligo_trash.told import Told
from loligo_wire.ids import ROOT_INO

#: Rows that one answer looks at, about.
LOOKED_AT_MAX: Final = 4096
#: Paths that are told of a batch, and of all in one answer, about.
PATHS_MAX: Final = 100
_PATHS_MAX_BYTES: Final = 8192
_ANSWER_MAX_BYTES: Final = 256 << 10


class _Looked:
    """How many rows were looked at."""

    __slots__ = ("rows",)

    def __init__(self) -> None:
        self.rows = 0


def list_batches(state: ShardState, request: ListBatches, now_ns: int) -> list[bytes]:
    count = max(1, min(request.count, LISTING_PAGE_MAX))
    page: list[bytes] = []
    for id, batch in _visible(state, request, _Looked()):
        page.append(ino_key(id) + (batch.encode() if batch is not None else b""))
        if len(page) >= count:
            break
    return page


def list_removed(state: ShardState, request: ListRemoved, now_ns: int) -> list[bytes]:
    count = max(1, min(request.count, LISTING_PAGE_MAX))
    page: list[bytes] = []
    looked = _Looked()
    size_bytes = 0
    for id, batch in _visible(state, request, looked):
        page.append(ino_key(id) if batch is None else _told(state, batch, request.below or ROOT_INO, looked).encode())
        size_bytes += len(page[-1])
        if len(page) >= count or size_bytes >= _ANSWER_MAX_BYTES:
            break
    return page


def is_all_below(state: ShardState, batch: int, directory: int) -> bool:
    """Whether everything in the batch was removed below the directory; also False if it would take long to tell."""
    looked = _Looked()
    return _is_all_below(state, batch, directory, looked)


def _visible(
    state: ShardState, request: ListBatches | ListRemoved, looked: _Looked
) -> Iterator[tuple[int, Batch | None]]:
    """(number, batch); the last without the batch: no further was looked."""
    for key, record in state.tables.scan(Table.TRASH_BATCH, ino_key(request.after + 1)):
        id = ino_of_key(key)[0]
        batch = decode_batch(id, record)
        looked.rows += 1
        if request.uid in (0, batch.uid) and (not request.below or _is_all_below(state, id, request.below, looked)):
            yield id, batch
        if looked.rows >= LOOKED_AT_MAX:
            yield id, None
            return


def _is_all_below(state: ShardState, batch: int, directory: int, looked: _Looked) -> bool:
    for number, (_, record) in enumerate(state.scan_prefix(Table.TRASH_PLACE, ino_key(batch)), 1):
        looked.rows += 1
        if number >= LISTING_PAGE_MAX or all(step.ino != directory for step in decode_place(record).steps):
            return False
    return True


def _told(state: ShardState, batch: Batch, root: int, looked: _Looked) -> Told:
    paths: list[bytes] = []
    left_bytes = _PATHS_MAX_BYTES
    is_all = True
    for path in islice(_paths(state, batch.id, root), PATHS_MAX + 1):
        looked.rows += 1
        is_all = not paths or (len(paths) < PATHS_MAX and len(path) <= left_bytes)
        if not is_all:
            break
        paths.append(path)
        left_bytes -= len(path)
    return Told(batch, tuple(paths), is_all)


def _paths(state: ShardState, batch: int, root: int) -> Iterator[bytes]:
    """From the root, of what is restored to restore the batch."""
    for key, record in state.scan_prefix(Table.TRASH_PLACE, ino_key(batch)):
        directory = ino_of_key(key, 8)[0]
        above = _below(decode_place(record).steps, root)
        for row in trash.rows(state, batch, directory):
            yield b"/".join((*above, row.name))


def _below(steps: tuple[Step, ...], root: int) -> list[bytes]:
    """Names of the directories that lead from the root on."""
    names = [step.name for step in steps]
    inos = [step.ino for step in steps]
    return names[inos.index(root) + 1 :] if root in inos else names[1:]
