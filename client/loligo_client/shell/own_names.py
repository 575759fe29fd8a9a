"""What the root of a mount has that the volume does not: names, extended attributes, and inode numbers such as no shard has
(`loligo_wire.ids`).

Both directories are found by their names and listed nowhere, so whoever walks the tree (git, rsync, rm -rf) does not meet them.
In the root of a mount the names mean this and nothing else: what has them in the volume, because it was made through a mount of
a directory above, is neither found nor listed there. Through that other mount it can be seen, renamed and removed.
"""

from errno import EPERM, EROFS
from typing import Final

from loligo_trash.batch import Word
from loligo_wire.ids import FIRST_CLIENT_INO, ROOT_INO

#: See `control_files` and `trash_files`.
CONTROL_NAME: Final = b".loligo"
TRASH_NAME: Final = b".trash"
OWN_NAMES: Final = frozenset({CONTROL_NAME, TRASH_NAME})
#: Extended attributes. Of a batch: what it is, as JSON; and to set it says how it is to be purged: one of `PURGE_WORDS`, or
#: "rate=" and what `loligo_trash.rate` can read.
BATCH_XATTR: Final = b"loligo.trash.batch"
PURGE_XATTR: Final = b"loligo.trash.purge"
PURGE_WORDS: Final = {word.name.lower().encode(): word for word in Word if word is not Word.RATE}
PURGE_RATE: Final = b"rate="
#: Of the trash: its batches and what they have, as JSON, from the oldest on; with ".17" behind it: those after batch 17.
BATCHES_XATTR: Final = b"loligo.trash.batches"
#: Of a directory that is only the way to what was removed: what it was, as JSON. Nothing else has it.
PLACE_XATTR: Final = b"loligo.trash.place"
#: To set it on a directory removes that, with all that is in it.
RMTREE_XATTR: Final = b"loligo.rmtree"
#: From here on inode numbers are the trash's.
TRASH_INO: Final = FIRST_CLIENT_INO + (1 << 32)


def check_inode(ino: int) -> None:
    """An inode, or a directory, is to be changed. OSError if it is one of ours."""
    if ino >= TRASH_INO:
        raise OSError(EROFS, "what is in the trash cannot be changed")
    if ino >= FIRST_CLIENT_INO:
        raise OSError(EPERM, "what tells of the mount cannot be changed")


def check_name(parent: int, name: bytes) -> None:
    """A name is to be made, removed or moved. OSError if it is one of ours."""
    check_inode(parent)
    if parent == ROOT_INO and name in OWN_NAMES:
        raise OSError(EPERM, "the name has a meaning here, and cannot be changed")
