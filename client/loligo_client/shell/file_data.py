"""What the data path knows of one file that is open, or has bytes under way to the store."""

from concurrent.futures import Future
from threading import Lock

from loligo_client.core.write_buffer import WriteBuffer
from loligo_wire.attributes import FLAG_INLINE, FLAG_SPARSE, Attributes


class Waiter:
    """Somebody waits until everything written so far is in the store and published, whatever is written meanwhile."""

    __slots__ = ("done", "landings", "size")

    def __init__(self, file: "FileData") -> None:
        self.done: Future[None] = Future()
        #: Blocks that have yet to reach the store, and how often.
        self.landings = file.buffer.landings()
        self.size = file.size


class FileData:
    """Guarded by the lock of the metadata. Its owner is `data_path`; others read it.

    The file's content is what the store or the inode has, with `buffer` on top, up to `size`.
    """

    __slots__ = (
        "atime_due",
        "buffer",
        "changed",
        "draining",
        "error",
        "exclusive",
        "failing",
        "held",
        "in_objects",
        "ino",
        "loaded",
        "mtime_ns",
        "opens",
        "round_failed",
        "size",
        "sparse",
        "stored_inline",
        "stored_size",
        "syncing",
        "turn",
        "unlinked",
        "unpublished_since_ns",
        "unsettled_end",
        "unsynced",
        "waiters",
    )

    def __init__(self, attributes: Attributes) -> None:
        self.ino = attributes.ino
        self.buffer = WriteBuffer(attributes.block_bytes)
        #: The size that applications see, and the one that the metadata has.
        self.size = attributes.size
        self.stored_size = attributes.size
        #: Until objects have all of the content that is in the inode, the inode keeps it.
        self.stored_inline = bool(attributes.flags & FLAG_INLINE)
        #: Whether the content beneath the buffer is in objects; otherwise it is inline, or there is none.
        self.in_objects = attributes.size > 0 and not attributes.flags & FLAG_INLINE
        #: The buffer holds the whole content: the inline part was copied into it, or there is none.
        self.loaded = attributes.size == 0
        self.sparse = bool(attributes.flags & FLAG_SPARSE)
        #: Size, mtime or content differ from what the metadata says.
        self.changed = False
        self.unpublished_since_ns = 0
        #: When data was last written; None if mtime was set to something else since.
        self.mtime_ns: int | None = None
        #: The metadata says that objects may reach this far.
        self.unsettled_end = 0
        #: Blocks written since they were last synced, and those that somebody is syncing now.
        self.unsynced: set[int] = set()
        self.syncing: list[set[int]] = []
        self.opens = 0
        #: The metadata knows that we have it open.
        self.held = False
        #: Operations that need the file's objects for themselves: nothing is flushed meanwhile.
        self.exclusive = 0
        #: ... but by the operation itself.
        self.draining = False
        #: They take turns.
        self.turn = Lock()
        #: errno of a write that failed and was not reported yet.
        self.error = 0
        #: errno of the last try to store what is buffered; 0 once a try went well.
        self.failing = 0
        #: The try under way has failed already.
        self.round_failed = False
        #: Completed once everything written so far is in the store and published.
        self.waiters: list[Waiter] = []
        #: The last name is gone: when nobody has it open, its bytes need not be kept.
        self.unlinked = False
        #: The next read of stored bytes moves atime.
        self.atime_due = False

    @property
    def block_bytes(self) -> int:
        return self.buffer.block_bytes

    @property
    def clean(self) -> bool:
        """Everything written is in the store, and the metadata says so."""
        return not self.buffer and not self.changed

    @property
    def busy(self) -> bool:
        return not self.clean or self.exclusive > 0
