"""Which errors are the user's or the machine's to mend: those are told in a line, all others are bugs with a traceback.

Commands exit with 0 (done), 1 (could not; the line says why and what to do) or 2 (called wrongly).
"""

import os


class CommandError(Exception):
    """A command cannot do what it was asked. The text says what to do."""


def explain(error: BaseException) -> str | None:
    """A line for an error that is no bug; None for all others."""
    from loligo.trash_folder import TrashError
    from loligo_client.shell.mount_options import OptionError
    from loligo_client.shell.server_source import ServerError, SourceError
    from loligo_fuse import MountError, UnsupportedKernelError
    from loligo_mds.shell.config import ServeError
    from loligo_mds.store.errors import StoreError
    from loligo_runtime.ceph_users import CephUserError
    from loligo_runtime.object_store import ObjectStoreError
    from loligo_runtime.volume import VolumeError

    expected = (
        CephUserError,
        CommandError,
        MountError,
        ObjectStoreError,
        OptionError,
        ServeError,
        ServerError,
        SourceError,
        StoreError,
        TrashError,
        UnsupportedKernelError,
        VolumeError,
    )
    if isinstance(error, expected):
        return " ".join(str(error).split())
    if isinstance(error, OSError) and error.errno is not None:
        where = f"{os.fsdecode(error.filename)}: " if error.filename is not None else ""
        return f"{where}{error.strerror}"
    return None
