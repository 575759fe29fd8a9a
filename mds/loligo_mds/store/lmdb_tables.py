"""The tables on LMDB: one file, one named database a table, and one write transaction that lives until a checkpoint.

Owns the file `tables.mdb`: opening it, its map, the space it keeps allocated ahead, the transaction. It knows nothing
of the journal: `shard_store` decides when to commit, and rebuilds what an aborted transaction held.

Rules:
- LMDB's own locking is off (lock=False): with it a write transaction belongs to the thread that began it. In its
  place stand the flock on the folder, and the lock of the core, which every caller of this class holds.
- The map is address space, not memory and not disk. It cannot grow inside a transaction, so it is far larger than
  the file from the start, and doubles at a commit once it is half full: no step ever meets its end.
- LMDB copies a page before it changes it, so even a deletion needs free pages. `ensure_room` keeps `ROOM_BYTES` of
  them, inside the file or allocated behind its end; when it cannot, steps that do not free space must be refused.

Rows of META whose name starts with `store.` belong to the store:
    store.format    version u32 ‖ volume uuid (16 bytes) ‖ oldest loligo that reads it (ASCII)    little-endian
    store.position  u64, position of the last journal record that the tables contain              little-endian
The first four bytes of store.format mean the same in every version, and the ASCII at its end too.
"""

import os
from collections.abc import Iterable, Iterator
from struct import Struct
from typing import NamedTuple

import lmdb

from loligo_mds.core.tables import Table, Write
from loligo_mds.store.errors import FormatTooNew, NotOurs
from loligo_mds.store.memory_tables import MAX_KEY_BYTES
from loligo_runtime.failpoint import declare, failpoint

FORMAT_VERSION = 1
#: The oldest loligo that reads FORMAT_VERSION.
FORMAT_NEEDS = b"0.1.0"

#: Tables that the first files of this format do not have yet.
_ADDED = frozenset({Table.CLIENT, Table.DELEGATION, Table.TRASH, Table.TRASH_PLACE, Table.TRASH_BATCH, Table.TRASH_DUE})

MAP_BYTES = 16 << 30
ROOM_BYTES = 8 << 20

_FORMAT_ROW = b"store.format"
_POSITION_ROW = b"store.position"
_FORMAT = Struct("<I16s")
_POSITION = Struct("<Q")

declare("tables.commit.before", "tables.commit.after", "tables.room.before", "tables.room.after")


def create_tables(path: str, volume_uuid: bytes) -> None:
    """Make the file at `path` with empty tables, on disk when this returns (but for its name in the folder)."""
    env = _environment(path, create=True)
    try:
        with env.begin(write=True) as txn:
            databases = [env.open_db(table.name.lower().encode(), txn=txn) for table in Table]
            meta = databases[Table.META]
            row = _FORMAT.pack(FORMAT_VERSION, volume_uuid) + FORMAT_NEEDS
            txn.put(_FORMAT_ROW, row, db=meta)
            txn.put(_POSITION_ROW, _POSITION.pack(0), db=meta)
    finally:
        env.close()


def _environment(path: str, create: bool) -> lmdb.Environment:
    return lmdb.open(
        path,
        subdir=False,
        create=create,
        mode=0o600,
        map_size=MAP_BYTES,
        max_dbs=len(Table),
        lock=False,
        readahead=False,  # rows are small and scattered: read-ahead would push out the data's pages
        meminit=False,  # a page is written whole by us before anybody reads it
        max_spare_txns=1,
    )


class TableSizes(NamedTuple):
    """In bytes: how far the file may grow before the map must, how long it is, and what of it rows take up."""

    map_bytes: int
    file_bytes: int
    used_bytes: int


class LmdbTables:
    """`core.tables.Tables` on the file at `path`. Opening writes nothing; the first transaction is open then."""

    __slots__ = ("_databases", "_delete", "_env", "_get", "_path", "_put", "_txn", "volume_uuid")

    def __init__(self, path: str) -> None:
        """NotOurs, FormatTooNew."""
        self._path = path
        self.volume_uuid = b""
        self._open()

    def _open(self) -> None:
        try:
            # LMDB would make an empty file into a new environment.
            if os.stat(self._path).st_size == 0:
                raise NotOurs(f"{self._path} is empty: restore the volume's folder from a backup")
            self._env = _environment(self._path, create=False)
        except (lmdb.InvalidError, lmdb.CorruptedError, lmdb.VersionMismatchError) as error:
            raise NotOurs(
                f"{self._path} is not a file of tables ({error}): restore the volume's folder from a backup"
            ) from error
        try:
            self._check_length()
            self._begin()
            self._check_format()
        except BaseException:
            self._env.close()
            raise

    def _check_length(self) -> None:
        """The map reaches beyond the file: touching a page that is not there would end the process."""
        needed = (self._env.info()["last_pgno"] + 1) * self._env.stat()["psize"]
        size = os.stat(self._path).st_size
        if size < needed:
            raise NotOurs(
                f"{self._path} is cut off, {size} of {needed} bytes: restore the volume's folder from a backup"
            )

    def _begin(self) -> None:
        self._txn = txn = self._env.begin(write=True)
        try:
            self._databases = [
                self._env.open_db(table.name.lower().encode(), txn=txn, create=table in _ADDED) for table in Table
            ]
        except lmdb.Error as error:
            raise NotOurs(f"{self._path} is LMDB, but not loligo's ({error})") from error
        # Bound once a transaction: a lookup less on every call.
        self._get = txn.get
        self._put = txn.put
        self._delete = txn.delete

    def _check_format(self) -> None:
        row = self.get(Table.META, _FORMAT_ROW)
        if row is None or len(row) < _FORMAT.size:
            raise NotOurs(f"{self._path} is LMDB, but not loligo's (no format in it)")
        version, self.volume_uuid = _FORMAT.unpack_from(row)
        if version > FORMAT_VERSION:
            needs = row[_FORMAT.size :].decode("ascii", "replace")
            raise FormatTooNew(self._path, version, needs, FORMAT_VERSION)

    # The port. A step calls these some ten times: keep them as thin as they are.

    def get(self, table: int, key: bytes) -> bytes | None:
        return self._get(key, None, self._databases[table])

    def put(self, table: int, key: bytes, value: bytes) -> None:
        try:
            self._put(key, value, True, True, False, self._databases[table])
        except lmdb.BadValsizeError as error:
            raise ValueError(f"a key has 1 to {MAX_KEY_BYTES} bytes, not {len(key)}") from error

    def delete(self, table: int, key: bytes) -> None:
        self._delete(key, b"", self._databases[table])

    def scan(self, table: int, first: bytes) -> Iterator[tuple[bytes, bytes]]:
        # Closed by `finally`, also when the caller drops the generator half way or after the transaction has ended.
        cursor = self._txn.cursor(self._databases[table])
        try:
            if cursor.set_range(first):
                yield from cursor
        finally:
            cursor.close()

    def apply(self, writes: Iterable[Write]) -> None:
        for table, key, value in writes:
            if value is None:
                self.delete(table, key)
            else:
                self.put(table, key, value)

    # The transaction.

    def committed_position(self) -> int:
        """The position that the last commit was given, as the open transaction sees it."""
        row = self.get(Table.META, _POSITION_ROW)
        if row is None or len(row) != _POSITION.size:
            raise NotOurs(f"{self._path} holds no journal position: restore it from a backup")
        position: int = _POSITION.unpack(row)[0]
        return position

    def commit(self, position: int) -> None:
        """Everything so far is on disk, with `position`, and the next transaction is open, when this returns.

        lmdb.Error: nothing was committed, and the caller must `reopen()`.
        """
        self.put(Table.META, _POSITION_ROW, _POSITION.pack(position))
        failpoint("tables.commit.before")
        self._txn.commit()
        failpoint("tables.commit.after")
        info = self._env.info()
        if 2 * info["last_pgno"] * self._env.stat()["psize"] > info["map_size"]:
            self._env.set_mapsize(2 * info["map_size"])
        self._begin()

    def reopen(self) -> None:
        """Drop the transaction and go back to the last commit, in a fresh environment: a failed one may refuse."""
        self.close()
        self._open()

    def flush(self) -> None:
        """Everything written to the file is on disk when this returns. OSError."""
        fd = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def close(self) -> None:
        """Without a commit: what changed since the last one is dropped. Closing again does nothing."""
        self._txn.abort()
        self._env.close()

    # Space.

    def sizes(self) -> TableSizes:
        used_pages = 0
        for database in self._databases:
            stat = self._txn.stat(database)
            used_pages += stat["branch_pages"] + stat["leaf_pages"] + stat["overflow_pages"]
        page_bytes = self._env.stat()["psize"]
        return TableSizes(self._env.info()["map_size"], os.stat(self._path).st_size, used_pages * page_bytes)

    def ensure_room(self) -> bool:
        """Whether `ROOM_BYTES` of pages are free for the coming commits, after trying to allocate them."""
        _, file_bytes, used_bytes = self.sizes()
        missing_bytes = ROOM_BYTES - (file_bytes - used_bytes)
        if missing_bytes <= 0:
            return True
        failpoint("tables.room.before")
        try:
            fd = os.open(self._path, os.O_WRONLY | os.O_CLOEXEC)
            try:
                # More than is missing, so that a growing volume does not come back at every checkpoint.
                os.posix_fallocate(fd, file_bytes, missing_bytes + ROOM_BYTES // 2)
            finally:
                os.close(fd)
        except OSError:
            return False
        failpoint("tables.room.after")
        return True

    def check(self) -> list[str]:
        """Walk every table. The findings in words; none is good."""
        findings = []
        for table in Table:
            rows = 0
            last = b""
            try:
                for key, _ in self.scan(table, b""):
                    if key <= last:
                        findings.append(f"{table.name}: key {key!r} follows {last!r}")
                    last = key
                    rows += 1
                counted = self._txn.stat(self._databases[table])["entries"]
            except lmdb.Error as error:
                findings.append(f"{table.name}: unreadable after key {last!r}: {error}")
                continue
            if rows != counted:
                findings.append(f"{table.name}: {rows} rows found, {counted} counted")
        return findings
