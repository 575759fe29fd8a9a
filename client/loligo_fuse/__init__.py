"""A FUSE file system in Python without libfuse: the kernel's protocol, spoken on /dev/fuse.

    class Hello(Operations):
        def lookup(self, ctx, parent, name): ...

    fd = mount("/mnt/hello", fsname="hello", subtype="hello")
    Session(fd, Hello()).run()

Layers, each knowing only those above it:

- ``protocol``    pure: structs, flags, INIT negotiation, decode, encode
- ``operations``  the class a file system subclasses
- ``dispatch``    which request calls which operation
- ``session``     the loop: read, call, reply; futures, interrupts, notifications
- ``device``      mount and unmount

One thread reads and answers: a hand-over to another thread costs more than most operations do. What has to
wait returns a future. A loop in Python answers in 20 to 30 µs, most of it the kernel's two switches between
processes; a binding on libfuse with an event loop needs two to five times that.

It works with Linux 5.4 (protocol 7.31) and newer. Not used: splice, io_uring, the write-back cache (with it
the kernel ignores sizes and times that change on another machine).
"""

from loligo_fuse.device import MountError, mount, set_read_ahead, unmount
from loligo_fuse.operations import Answer, Operations
from loligo_fuse.protocol.constants import (
    FOPEN_CACHE_DIR,
    FOPEN_DIRECT_IO,
    FOPEN_KEEP_CACHE,
    FOPEN_NOFLUSH,
    FOPEN_NONSEEKABLE,
    FOPEN_PARALLEL_DIRECT_WRITES,
    FOPEN_STREAM,
    MINOR_MAX,
    MINOR_MIN,
    OPEN_KILL_SUIDGID,
    ROOT_ID,
    InitFlag,
)
from loligo_fuse.protocol.encode import Buffer, DirectoryEntry
from loligo_fuse.protocol.negotiation import Negotiated, UnsupportedKernelError
from loligo_fuse.protocol.values import Attributes, Context, FileLock, Opened, SetAttributes, StatFs
from loligo_fuse.session import Config, Session

__all__ = [
    "FOPEN_CACHE_DIR",
    "FOPEN_DIRECT_IO",
    "FOPEN_KEEP_CACHE",
    "FOPEN_NOFLUSH",
    "FOPEN_NONSEEKABLE",
    "FOPEN_PARALLEL_DIRECT_WRITES",
    "FOPEN_STREAM",
    "MINOR_MAX",
    "MINOR_MIN",
    "OPEN_KILL_SUIDGID",
    "ROOT_ID",
    "Answer",
    "Attributes",
    "Buffer",
    "Config",
    "Context",
    "DirectoryEntry",
    "FileLock",
    "InitFlag",
    "MountError",
    "Negotiated",
    "Opened",
    "Operations",
    "Session",
    "SetAttributes",
    "StatFs",
    "UnsupportedKernelError",
    "mount",
    "set_read_ahead",
    "unmount",
]
