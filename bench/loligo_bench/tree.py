"""The tree of files that the benchmark unpacks, reads, adds to git, copies and removes.

Owns: its shape, its contents and the tar file. Rule: the tree is a function of the constants below
and of nothing else, so that two machines and two releases measure the same work. Only
`Random.random` is used, the one method whose sequence Python promises to keep.

It resembles a source tree: most files are small, a few are large, nine in ten hold text that zlib
shrinks about threefold, the tenth holds bytes that it cannot shrink.
"""

import hashlib
import io
import math
import random
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass

FILES = 1100
DIRECTORIES = 90
MEDIAN_BYTES = 9_000
SPREAD = 1.6
LARGEST_BYTES = 2_000_000
TOTAL_BYTES = 35_000_000
BINARY_EVERY = 10
SEED = 20240229

_POOL_BYTES = 4 << 20
_WORDS = 6_000
_MTIME_S = 1_700_000_000


@dataclass(frozen=True, slots=True)
class Source:
    """A tar file on the local disk and what must come out of it (paths relative to the tree)."""

    tar: str
    files: tuple[tuple[str, int], ...]
    directories: int

    @property
    def total_bytes(self) -> int:
        return sum(size for _, size in self.files)


def make_source(tar_path: str) -> Source:
    """Write the tar file to `tar_path`; its members are below one directory named `tree`."""
    rng = random.Random(SEED)
    directories = _directory_names(rng)
    sizes = _sizes(rng)
    text = _text_pool(rng)
    noise = hashlib.shake_256(b"loligo").digest(_POOL_BYTES)
    files = []
    with tarfile.open(tar_path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for directory in ["", *directories]:
            _add(tar, f"tree/{directory}".rstrip("/"), None)
        for number, size in enumerate(sizes):
            binary = number % BINARY_EVERY == 0
            directory = directories[_below(rng, len(directories))]
            name = f"{directory}/module_{number:04d}.{'so' if binary else 'py'}"
            _add(tar, f"tree/{name}", _content(rng, noise if binary else text, size))
            files.append((name, size))
    return Source(tar_path, tuple(files), len(directories) + 1)


def _below(rng: random.Random, limit: int) -> int:
    return int(rng.random() * limit)


def _directory_names(rng: random.Random) -> list[str]:
    """Parents before children, at most four levels deep."""
    names: list[str] = []
    for number in range(DIRECTORIES):
        parent = names[_below(rng, len(names))] if names and rng.random() < 0.7 else ""
        if parent.count("/") >= 3:
            parent = ""
        names.append(f"{parent}/package_{number:02d}".lstrip("/"))
    return names


def _sizes(rng: random.Random) -> list[int]:
    """Log-normal (a sum of twelve uniform numbers is as good as normal), scaled to the total."""
    raw = [MEDIAN_BYTES * math.exp(SPREAD * (sum(rng.random() for _ in range(12)) - 6)) for _ in range(FILES)]
    scale = TOTAL_BYTES / sum(raw)
    return [min(LARGEST_BYTES, round(size * scale)) for size in raw]


def _text_pool(rng: random.Random) -> bytes:
    letters = "etaoinshrdlucmfwypvbgkqjxz_"
    words = [
        "".join(letters[int(len(letters) * rng.random() ** 1.7)] for _ in range(2 + _below(rng, 9)))
        for _ in range(_WORDS)
    ]
    pool = io.StringIO()
    while pool.tell() < _POOL_BYTES:
        # Cubing favours the first words: a text repeats its common words, and zlib lives on that.
        line = (words[int(_WORDS * rng.random() ** 3)] for _ in range(3 + _below(rng, 9)))
        pool.write("    " * _below(rng, 4) + " ".join(line) + "\n")
    return pool.getvalue().encode()


def _content(rng: random.Random, pool: bytes, size: int) -> bytes:
    return b"".join(_slices(rng, pool, size))


def _slices(rng: random.Random, pool: bytes, size: int) -> Iterator[bytes]:
    while size > 0:
        take = min(size, 1_000 + _below(rng, 8_000))
        start = _below(rng, len(pool) - take)
        yield pool[start : start + take]
        size -= take


def _add(tar: tarfile.TarFile, name: str, content: bytes | None) -> None:
    member = tarfile.TarInfo(name)
    member.mtime = _MTIME_S
    if content is None:
        member.type = tarfile.DIRTYPE
        member.mode = 0o755
        tar.addfile(member)
    else:
        member.size = len(content)
        member.mode = 0o644
        tar.addfile(member, io.BytesIO(content))
