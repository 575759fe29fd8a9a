"""When objects and sizes agree durably: which blocks a sync must cover, and which files may leave table UNSETTLED.

Rules
1. A file whose objects change is in doubt: it has a row in UNSETTLED, or gets one before the first object changes.
2. `settle` syncs the store, then says that the files agree that were due before and did not change since.
3. From the moment that is said, later changes announce themselves anew behind it.
4. What is said of a file that another client has open for writing at that moment counts for nothing. So contended files wait
   until they are closed, and who closes a file that he could write to says it for those who closed it before.

`untrimmed` are files that were cut and whose objects may hold bytes beyond, as yet: they are not settled, and do not grow,
or those bytes would come to light.
"""

from concurrent.futures import Future
from typing import Any, Final

from loligo_client.shell.file_data import FileData
from loligo_client.shell.tasks import Metadata
from loligo_mds.core.requests import Settle
from loligo_runtime.failpoint import declare, failpoint
from loligo_runtime.object_store import ObjectStore

SETTLE_BATCH: Final = 1000
#: More unsynced blocks than these are not remembered one by one: the whole store is synced for them.
UNSYNCED_MAX_BLOCKS: Final = 1000
ALL_BLOCKS: Final = -1

declare("data.settle.before", "data.settle.synced", "data.settle.after")


class Settling:
    def __init__(self, metadata: Metadata, store: ObjectStore) -> None:
        self._ask = metadata.ask
        self._lock = metadata.lock
        self._store = store
        #: Those that are open, by inode number; `open_files` looks after them.
        self.files: dict[int, FileData] = {}
        #: `FileData.unsynced` of files that nobody has open any more: an fsync through another descriptor may come.
        self._unsynced: dict[int, set[int]] = {}
        #: ino -> end of what was cut off.
        self.untrimmed: dict[int, int] = {}
        self._due: dict[int, None] = {}
        self._settling: dict[int, None] = {}

    # -- what happens to files. Called with the lock. ----------------------------------------------------------------

    def changes(self, ino: int) -> None:
        """Objects of the file are about to change: the `settle` under way must not say that they agree with the inode."""
        if ino in self._settling:
            del self._settling[ino]
            self._due[ino] = None

    def is_due(self, ino: int) -> None:
        """Objects of the file agree with the inode, and that may be said once they are durable."""
        self._due[ino] = None

    def gone(self, ino: int) -> None:
        """There is no such inode any more."""
        for known in (self._due, self._settling, self._unsynced, self.untrimmed):
            known.pop(ino, None)

    def adopt(self, file: FileData) -> None:
        """It is open."""
        file.unsynced.update(self._unsynced.pop(file.ino, ()))

    def keep(self, file: FileData) -> None:
        """It is closed."""
        unsynced = file.unsynced.union(*file.syncing)  # who syncs them now may fail, or go away
        if unsynced:
            self._unsynced[file.ino] = unsynced | self._unsynced.get(file.ino, set())

    def note_unsynced(self, file: FileData, indexes: range) -> None:
        """An fsync must cover what was cut off, too: it would come to light again in a file that has grown since."""
        file.unsynced.update(indexes if len(indexes) <= UNSYNCED_MAX_BLOCKS else (ALL_BLOCKS,))

    # -- syncing. Without the lock. -----------------------------------------------------------------------------------

    def sync_blocks(self, file: FileData) -> None:
        """Returns when every block written so far is durable, those too that another caller is about to sync. Blocks."""
        with self._lock:
            mine, file.unsynced = file.unsynced, set()
            file.syncing.append(mine)
            indexes = set().union(*file.syncing)
        done = False
        try:
            if ALL_BLOCKS in indexes:
                self._store.sync_all().result()
            elif indexes:
                self._store.sync((file.ino, index) for index in indexes).result()
            done = True
        finally:
            with self._lock:
                file.syncing.remove(mine)
                if not done:
                    file.unsynced |= mine

    def settle(self) -> None:
        """Make durable what is in objects, and take the files off the list of those to look at after a crash. Blocks.

        What comes while this runs waits for the next time, and so does what fails.
        """
        with self._lock:
            due = [ino for ino in self._due if ino not in self.untrimmed and not self._is_in_use(ino)]
            unsynced = bool(self._unsynced)
        for first in range(0, max(len(due), int(unsynced)), SETTLE_BATCH):
            self._settle(due[first : first + SETTLE_BATCH])

    def _is_in_use(self, ino: int) -> bool:
        file = self.files.get(ino)
        return file is not None and (file.busy or file.contended)

    def _settle(self, batch: list[int]) -> None:
        with self._lock:
            for ino in batch:
                self._due.pop(ino, None)
            self._settling = dict.fromkeys(batch)
            unsynced = dict(self._unsynced)
        said: list[int] = []
        try:
            failpoint("data.settle.before")
            self._store.sync_all().result()
            failpoint("data.settle.synced")
            with self._lock:
                for ino, indexes in unsynced.items():
                    # Whoever opened the file meanwhile has taken them, and may have left others.
                    if self._unsynced.get(ino) is indexes:
                        del self._unsynced[ino]
                said = [ino for ino in self._settling if not self._is_contended(ino)]
                answer = self._say(said) if said else None
                self._settling = {}
            if isinstance(answer, Future):
                answer.result()
            failpoint("data.settle.after")
        except BaseException:
            with self._lock:
                self._due.update(self._settling)
                self._due.update(dict.fromkeys(said))
                self._settling = {}
            raise

    def _is_contended(self, ino: int) -> bool:
        """It has become so, and what others write is not for us to know. Due again when it is closed."""
        file = self.files.get(ino)
        return file is not None and file.contended

    def _say(self, inos: list[int]) -> Any:
        for ino in inos:
            file = self.files.get(ino)
            if file is not None:
                file.unsettled_end = 0
        return self._ask(Settle(inos))
