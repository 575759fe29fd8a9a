"""What the data path knows of one file that is open, or has bytes under way to the store."""

from collections import deque
from concurrent.futures import Future
from stat import S_ISGID, S_ISUID, S_IXGRP

from loligo_client.core.write_buffer import WriteBuffer
from loligo_client.shell.tasks import Waiting
from loligo_wire.attributes import FLAG_INLINE, FLAG_SPARSE, Attributes


class Waiter:
    """Somebody waits until everything written so far is in the store and published, whatever is written meanwhile. Who gives up
    leaves the bytes on their way.
    """

    __slots__ = ("done", "landings", "size", "version")

    def __init__(self, file: "FileData") -> None:
        self.done = Waiting(lambda _: file.waiters.remove(self))
        #: Blocks that have yet to reach the store, and how often.
        self.landings = file.buffer.landings()
        self.size = file.size
        self.version = file.version


class Turn:
    """Tasks that need a file for themselves take turns."""

    __slots__ = ("_waiting", "taken")

    def __init__(self) -> None:
        self.taken = False
        self._waiting: deque[Waiting] = deque()

    def take(self) -> Waiting | None:
        """None: it is the caller's; otherwise, once the future is done."""
        if not self.taken:
            self.taken = True
            return None
        waiting = Waiting(self._waiting.remove)
        self._waiting.append(waiting)
        return waiting

    def pass_on(self) -> None:
        """The next task runs at once."""
        if self._waiting:
            self._waiting.popleft().set_result(None)
        else:
            self.taken = False


class FileData:
    """Guarded by the lock of the metadata. Its owner is `open_files`; each part of the data path changes what is its own.

    The file's content is what the store or the inode has, with `buffer` on top, up to `size`.
    """

    __slots__ = (
        "_inline",
        "_inline_epoch",
        "announced_end",
        "announcing",
        "arrived",
        "buffer",
        "changed",
        "claims",
        "contended",
        "draining",
        "epoch",
        "error",
        "failing",
        "held",
        "held_back",
        "in_objects",
        "ino",
        "loaded",
        "making",
        "mtime_ns",
        "opens",
        "publishing",
        "quiet",
        "recalled",
        "refused",
        "round_failed",
        "seen",
        "size",
        "sparse",
        "stored_inline",
        "stored_size",
        "syncing",
        "telling",
        "telling_last",
        "told",
        "turn",
        "unlinked",
        "unpublished_since_ns",
        "unsettled_end",
        "unsure",
        "unsynced",
        "users",
        "version",
        "waiters",
        "writes",
    )

    def __init__(self, attributes: Attributes) -> None:
        self.ino = attributes.ino
        self.buffer = WriteBuffer(attributes.block_bytes)
        #: Counts how often the content that the metadata has was replaced: what was read of it before is old.
        self.epoch = 0
        #: The content at `_inline_epoch`, if it is inline and known here.
        self._inline: bytes | None = None
        self._inline_epoch = 0
        self.stands_at(attributes)

        # -- what is not published
        #: Size, mtime or content differ from what the metadata says.
        self.changed = False
        #: Counts changes made here, and how many of them the metadata has been told of.
        self.version = 0
        self.told = 0
        self.unpublished_since_ns = 0
        #: When data was last written; None if mtime was set to something else since.
        self.mtime_ns: int | None = None
        #: A Publish is not answered yet; and something has reached the store since it was sent.
        self.publishing = False
        self.arrived = False
        #: Changes of attributes that callers have been promised, and that are not answered yet: see `attributes`.
        self.telling = 0
        self.telling_last: Future[Attributes] | None = None
        #: errno of one of them that was refused, and not reported yet.
        self.refused = 0

        # -- on the way to the store
        #: The metadata says that objects may reach this far; it is being told that they may reach that far.
        self.unsettled_end = 0
        self.announcing: Future[None] | None = None
        self.announced_end = 0
        #: Blocks written since they were last synced, and those that somebody is syncing now.
        self.unsynced: set[int] = set()
        self.syncing: list[set[int]] = []
        #: errno of a write that failed and was not reported yet.
        self.error = 0
        #: errno of the last try to store what is buffered; 0 once a try went well.
        self.failing = 0
        #: The try under way has failed already.
        self.round_failed = False
        #: Completed once everything written so far is in the store and published.
        self.waiters: list[Waiter] = []

        # -- who has it
        #: Handles and operations that may still write; those that only need the file to stay.
        self.opens = 0
        self.users = 0
        #: How often the metadata knows that we have it open, and whether for writing.
        self.held = 0
        self.writes = False
        #: It was read under a lease that was lost: others may have changed it meanwhile, and we were not told.
        self.unsure = False
        #: The metadata does not know the file yet: it is promised.
        self.making = False
        #: The last name is gone: when nobody has it open, its bytes need not be kept.
        self.unlinked = False

        # -- who has it for himself
        #: While it is taken nothing is flushed, unless the one whose turn it is drains the file.
        self.turn = Turn()
        self.draining = False
        #: See `sharing`.
        self.contended = False
        self.recalled = False
        self.quiet = False
        self.claims = 0
        #: Completed when the file may be used again.
        self.held_back: list[Waiting] = []

    def stands_at(self, attributes: Attributes) -> None:
        """The metadata has this, and nothing is on top."""
        #: The attributes as they were last heard of.
        self.seen = attributes
        #: The size that applications see, and the one that the metadata has.
        self.size = self.stored_size = attributes.size
        #: Until objects have all of the content that is in the inode, the inode keeps it.
        self.stored_inline = bool(attributes.flags & FLAG_INLINE)
        #: Whether the content beneath the buffer is in objects; otherwise it is inline, or there is none.
        self.in_objects = attributes.size > 0 and not self.stored_inline
        #: The buffer holds the whole content: the inline part was copied into it, or there is none.
        self.loaded = attributes.size == 0
        self.sparse = bool(attributes.flags & FLAG_SPARSE)
        self.epoch += 1

    def content_is(self, content: bytes | None) -> None:
        """That is what the inode has now; None: it is not to be remembered here."""
        self._inline, self._inline_epoch = content, self.epoch

    def known_content(self) -> bytes | None:
        """The content that the inode has, if that is known here."""
        return self._inline if self._inline_epoch == self.epoch else None

    @property
    def block_bytes(self) -> int:
        return self.buffer.block_bytes

    @property
    def is_done_with(self) -> bool:
        """Nobody has it open, nothing is to be told of it, and it was opened but once, when it was made here."""
        return not (self.opens or self.held_back) and self.users == 1 and self.held == 1 and self.clean

    @property
    def clean(self) -> bool:
        """Everything written is in the store, and the metadata says so."""
        return not self.changed and not self.buffer

    @property
    def busy(self) -> bool:
        return not self.clean or self.users > 0

    @property
    def takes_bytes(self) -> bool:
        """What is written can go into the buffer as it comes."""
        return (self.in_objects or (self.loaded and not self.contended)) and not self.recalled

    @property
    def privileged(self) -> bool:
        """It runs as somebody else: writing takes that away."""
        mode = self.seen.mode
        return bool(mode & S_ISUID) or mode & (S_ISGID | S_IXGRP) == S_ISGID | S_IXGRP
