"""Seeded calls on a tree: each fits the tree as the model has it, so none is refused."""

import stat
from collections.abc import Iterator
from random import Random

from chaos.tree import FILE_LIMIT_BYTES, Call, Model

_FOLDERS = ("", "a/", "a/b/", "c/")
_NAMES = ("one", "two", "three", "four", "five")
_MTIME_NS = 1_500_000_000_123_456_789

#: How often each is tried; what does not fit the tree is skipped.
_WEIGHTS = {
    "create": 14,
    "write": 24,
    "append": 8,
    "overwrite": 6,
    "rewrite": 5,
    "replace": 8,
    "truncate": 6,
    "punch": 4,
    "fsync": 6,
    "hold": 2,
    "let_go": 2,
    "mkdir": 4,
    "rmdir": 1,
    "symlink": 2,
    "link": 3,
    "unlink": 8,
    "rename": 5,
    "chmod": 2,
    "set_mtime": 2,
    "set_xattr": 3,
    "remove_xattr": 1,
    "read": 3,
}


def calls(random: Random, model: Model) -> Iterator[Call]:
    """Endless. `model` must have taken each call before the next is asked for."""
    kinds, weights = list(_WEIGHTS), list(_WEIGHTS.values())
    while True:
        yield from _Draw(random, model).calls(random.choices(kinds, weights)[0])


class _Draw:
    """One random call, or the few that make up a habit of applications. Names are few, so that calls meet."""

    def __init__(self, random: Random, model: Model) -> None:
        self._random = random
        self._model = model
        parents = [folder for folder in _FOLDERS if folder == "" or folder[:-1] in model.names]
        self._path = random.choice(parents) + random.choice(_NAMES)
        self._is_free = self._path not in model.names
        files = sorted(path for path, number in model.names.items() if model.nodes[number].kind == stat.S_IFREG)
        self._file = random.choice(files) if files else ""

    def calls(self, kind: str) -> Iterator[Call]:
        random, model, path, file = self._random, self._model, self._path, self._file
        match kind:
            case "create" | "symlink" if self._is_free:
                yield kind, (path, 0o640) if kind == "create" else (f"{random.random()}", path)
            case "mkdir":
                folder = random.choice(_FOLDERS[1:])[:-1]
                parent = folder.rpartition("/")[0]
                if folder not in model.names and (not parent or parent in model.names):
                    yield "mkdir", (folder, 0o750)
            case "rmdir":
                folder = random.choice(_FOLDERS[1:])[:-1]
                if folder in model.names and not any(name.startswith(folder + "/") for name in model.names):
                    yield "rmdir", (folder,)
            case "let_go":
                yield "let_go", ()
            case "replace" if self._is_free or model.at(path).kind == stat.S_IFREG:
                # As editors do it.
                new = path + "~"
                if new not in model.names:
                    yield "create", (new, 0o600)
                    yield "write", (new, 0, self._data(FILE_LIMIT_BYTES), random.random() < 0.3)
                    if random.random() < 0.3:
                        yield "fsync", (new,)
                    yield "rename", (new, path)
            case _ if file:
                yield from self._on_file(kind, file)

    def _on_file(self, kind: str, file: str) -> Iterator[Call]:
        random, model = self._random, self._model
        node = model.at(file)
        size = len(node.content)
        somewhere = random.randint(0, size)
        room = FILE_LIMIT_BYTES - somewhere
        match kind:
            case "write":
                # Now and then behind a gap.
                offset = min(somewhere + random.choice([0, 0, 0, 10_000, 150_000]), FILE_LIMIT_BYTES - 1)
                yield "write", (file, offset, self._data(FILE_LIMIT_BYTES - offset), random.random() < 0.3)
            case "append" if size < FILE_LIMIT_BYTES:
                yield "write", (file, size, self._data(FILE_LIMIT_BYTES - size), random.random() < 0.3)
            case "overwrite" if size:
                yield "write", (file, 0, self._data(size), False)
            case "rewrite":
                yield "truncate", (file, 0)
                yield "write", (file, 0, self._data(FILE_LIMIT_BYTES), False)
            case "truncate":
                yield "truncate", (file, random.choice([0, somewhere, min(size + 70_000, FILE_LIMIT_BYTES)]))
            case "punch" if size:
                yield "punch", (file, random.randrange(size), random.randint(1, max(1, room)))
            case "fsync" | "hold" | "read":
                yield kind, (file,)
            case "unlink":
                yield "unlink", (file,)
            case "link" if self._is_free:
                yield "link", (file, self._path)
            case "rename" if self._is_free or (
                model.at(self._path).kind == stat.S_IFREG and model.names[self._path] != model.names[file]
            ):
                yield "rename", (file, self._path)
            case "chmod":
                yield "chmod", (file, random.choice([0o600, 0o644, 0o755]))
            case "set_mtime":
                yield "set_mtime", (file, _MTIME_NS + random.randrange(10**18))
            case "set_xattr":
                yield (
                    "set_xattr",
                    (file, f"user.{random.choice(_NAMES)}", random.randbytes(random.choice([0, 20, 900]))),
                )
            case "remove_xattr" if node.xattrs:
                yield "remove_xattr", (file, min(node.xattrs))

    def _data(self, limit: int) -> bytes:
        """1 to `limit` bytes: what fits into an inode, what fits into a block, and more."""
        return self._random.randbytes(
            self._random.randint(1, min(limit, self._random.choice([500, 9000, 70_000, 300_000])))
        )
