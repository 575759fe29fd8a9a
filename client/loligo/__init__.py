"""The public package: the `loligo` command, the helper that mount(8) calls, and what Python programs may use.

loligo.rmtree(path)           a directory with all that is in it, removed at once (`loligo.removal`)
loligo.trash.batches(path)    what was removed and can be restored (`loligo.trash`)
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from loligo import trash
    from loligo.removal import Removal, rmtree, rmtree_async
    from loligo.trash_folder import TrashError

__all__ = ["Removal", "TrashError", "rmtree", "rmtree_async", "trash"]

#: Imported when they are used: `loligo --help` needs none of it.
_WHERE = {
    "Removal": "loligo.removal",
    "TrashError": "loligo.trash_folder",
    "rmtree": "loligo.removal",
    "rmtree_async": "loligo.removal",
}


def __getattr__(name: str) -> Any:
    if name == "trash":
        return importlib.import_module("loligo.trash")
    if name in _WHERE:
        return getattr(importlib.import_module(_WHERE[name]), name)
    raise AttributeError(f"module 'loligo' has no attribute {name!r}")
