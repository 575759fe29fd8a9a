"""Which errors are the operator's or the cluster's to mend; all others are bugs with a traceback."""

from loligo_osdtune.core.facts import FactsError
from loligo_osdtune.core.layout.wish import LayoutError
from loligo_runtime.ceph_users import CephUserError
from loligo_runtime.object_store import ObjectStoreError


class OsdtuneError(Exception):
    """osdtune cannot do what it was asked. The text says what to do."""


class NotOffered(OsdtuneError):
    """Ceph has no such command, or not with these arguments: a module of the manager is off, say."""


def explain(error: BaseException) -> str | None:
    """A line for an error that is no bug; None for all others."""
    if isinstance(error, CephUserError | FactsError | LayoutError | ObjectStoreError | OsdtuneError):
        return " ".join(str(error).split())
    if isinstance(error, OSError) and error.errno is not None:
        where = f"{error.filename}: " if error.filename is not None else ""
        return f"{where}{error.strerror}"
    return None
