"""The tables in plain memory: the twin of `LmdbTables` for tests and the simulator. Same contract, no durability."""

from bisect import bisect_left, insort
from collections.abc import Iterator

from loligo_mds.core.tables import Table

#: What LMDB takes; the twin refuses the same keys.
MAX_KEY_BYTES = 511


class MemoryTables:
    """A dict for each table, and its keys in order."""

    __slots__ = ("_keys", "_rows")

    def __init__(self) -> None:
        self._rows: list[dict[bytes, bytes]] = [{} for _ in Table]
        self._keys: list[list[bytes]] = [[] for _ in Table]

    def get(self, table: int, key: bytes) -> bytes | None:
        return self._rows[table].get(key)

    def put(self, table: int, key: bytes, value: bytes) -> None:
        if not 1 <= len(key) <= MAX_KEY_BYTES:
            raise ValueError(f"a key has 1 to {MAX_KEY_BYTES} bytes, not {len(key)}")
        rows = self._rows[table]
        if key not in rows:
            insort(self._keys[table], key)
        rows[key] = value

    def delete(self, table: int, key: bytes) -> None:
        if self._rows[table].pop(key, None) is not None:
            keys = self._keys[table]
            del keys[bisect_left(keys, key)]

    def scan(self, table: int, first: bytes) -> Iterator[tuple[bytes, bytes]]:
        rows = self._rows[table]
        keys = self._keys[table]
        for index in range(bisect_left(keys, first), len(keys)):
            key = keys[index]
            yield key, rows[key]
