"""What can go wrong with the store of a shard. Every message says what to do.

    StoreError
    ├── StoreFull            no room for the next step; delete something or give space, then go on      retry
    ├── VolumeBusy           another process has it open                                                retry
    ├── StoreFailed          the disk refused a write; this process must stop, a new open recovers      reopen
    ├── VolumeExists         create() into a folder that already holds something                        operator
    ├── NoVolume             open() of a folder that holds no volume                                    operator
    ├── TablesMissing        a journal, but no tables                                                   operator
    ├── NotOurs              the files are damaged beyond their first page, or of another program       operator
    ├── FormatTooNew         written by a later loligo                                                  operator
    ├── VolumeMismatch       journal and tables are of two volumes                                      operator
    ├── JournalMissing       the segment that follows the tables is not there                           operator
    └── JournalCorrupt       bytes that had been written were changed or lost                           operator

An open() that raises has changed nothing on disk but the note in the lock file.
"""


class StoreError(Exception):
    """The root. Not raised itself."""


class StoreFull(StoreError):
    """The step cannot be journaled (ENOSPC). Nothing has changed; steps that free space may still be taken."""


class VolumeBusy(StoreError):
    def __init__(self, folder: str, pid: int | None) -> None:
        self.pid = pid
        who = f"process {pid}" if pid else "another process"
        super().__init__(f"{folder} is in use by {who}: stop it first, or wait until it ends")


class StoreFailed(StoreError):
    """A write or fsync of the journal failed: what is on disk is unknown until the volume is opened again."""


class VolumeExists(StoreError):
    pass


class NoVolume(StoreError):
    pass


class TablesMissing(StoreError):
    pass


class NotOurs(StoreError):
    pass


class FormatTooNew(StoreError):
    def __init__(self, path: str, version: int, needs: str, known: int) -> None:
        self.version = version
        self.needs = needs
        super().__init__(
            f"{path} has format {version}, this loligo knows up to {known}: "
            f"use loligo {needs or 'of a later version'} or newer"
        )


class VolumeMismatch(StoreError):
    pass


class JournalMissing(StoreError):
    pass


class JournalCorrupt(StoreError):
    def __init__(self, path: str, offset: int, position: int, what: str) -> None:
        self.path = path
        self.offset = offset
        self.position = position
        super().__init__(
            f"{path}: {what} at byte {offset}, record {position}. Nothing was changed. Check the disk, and "
            f"restore the volume's folder from a backup; the records before {position} are intact"
        )
