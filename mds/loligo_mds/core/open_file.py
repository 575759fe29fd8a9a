"""A file that is open: by whom, and what that means for what others may do with it. How it comes about: `core.opens`."""

from errno import EINVAL
from typing import Final

from loligo_mds.core.requests import Claim, GetAttributes, Lookup, Open
from loligo_mds.core.state import Refused, ShardState
from loligo_wire.attributes import NS_MIN

#: The session that the shard's own process asks with, and the claimant of a file under repair.
SHARD_SESSION = 0


class Waits:
    """Stands for the answer that a later step gives."""


WAITS: Final = Waits()


class Opener:
    """A session that has a file open `count` times, and may not know of `promised` of them (see `core.sessions`).

    `asked`: it was sent a Recall and has not answered.
    """

    __slots__ = ("asked", "count", "promised", "quiet", "writes")

    def __init__(self, count: int, writes: bool) -> None:
        self.count = count
        self.promised = 0
        self.writes = writes
        self.asked = False
        self.quiet = False


#: What may have to wait for other sessions.
Waitable = Open | Claim | Lookup | GetAttributes


class Waiting:
    """A request that has to wait for others."""

    __slots__ = ("id", "request", "session")

    def __init__(self, session: int, id: int, request: Waitable) -> None:
        self.session = session
        self.id = id
        self.request = request


class OpenFile:
    """`claimants` is one session at most, if clients tell the truth after a restart.

    `mtime_set_ns`: when another session than one that writes has last set mtime. `repair`: the shard wants it for itself.
    `reporting`: its owner was sent a Report, for the questions in `round`, and has not answered; `questions` came since. See
    `core.news`.
    """

    __slots__ = (
        "claimants",
        "contended",
        "ino",
        "mtime_set_ns",
        "openers",
        "questions",
        "repair",
        "reporting",
        "round",
        "waiting",
    )

    def __init__(self, ino: int) -> None:
        self.ino = ino
        self.openers: dict[int, Opener] = {}
        self.contended = False
        self.claimants: tuple[int, ...] = ()
        self.mtime_set_ns = NS_MIN
        self.repair = False
        self.waiting: tuple[Waiting, ...] = ()
        self.reporting = False
        self.round: list[Waiting] = []
        self.questions: list[Waiting] = []


def hold(state: ShardState, session: int, ino: int, writes: bool) -> None:
    """Once more."""
    file = state.files.get(ino)
    if file is None:
        file = state.files[ino] = OpenFile(ino)
    opener = file.openers.get(session)
    if opener is not None:
        opener.count += 1
        opener.writes |= writes
        return
    file.openers[session] = Opener(1, writes)
    mine = state.session_files.get(session)
    if mine is None:
        mine = state.session_files[session] = {}
    mine[ino] = file


def is_held(state: ShardState, ino: int) -> bool:
    """Whether the inode must outlive its last name."""
    return ino in state.files or ino < state.reclaim_below


def owner_of(file: OpenFile) -> int | None:
    """The session that alone has the file open, and writes: it may hold back what it does to the file (see `core.news`)."""
    if file.contended or len(file.openers) != 1:
        return None
    ((session, opener),) = file.openers.items()
    return session if opener.writes and not opener.quiet else None


def is_held_back(state: ShardState, ino: int) -> bool:
    """Whether another session than the asking one may know better what the file is."""
    file = state.files.get(ino)
    if file is None or state.asking == SHARD_SESSION:
        return False
    owner = owner_of(file)
    return owner is not None and owner != state.asking


def check_may_publish(file: OpenFile, session: int) -> None:
    """EINVAL if `session` has no business to change the file: it has yielded, or another has claimed it."""
    mine = file.openers.get(session)
    if (mine is not None and mine.quiet) or (file.claimants and session not in file.claimants):
        raise Refused(EINVAL)


def check_may_reshape(file: OpenFile, session: int) -> None:
    """EINVAL if the file's bytes may not be cut or moved by `session`: others write to it, and it has no claim."""
    check_may_publish(file, session)
    if file.claimants:
        return
    if file.contended or others_write(file, session):
        raise Refused(EINVAL)


def may_settle(state: ShardState, ino: int, session: int) -> bool:
    """Whether `session` can know that objects and size agree: no other writes, and none has left without a word."""
    file = state.files.get(ino)
    if file is None:
        return ino >= state.reclaim_below
    if file.claimants:
        return session in file.claimants
    if file.repair or others_write(file, session):
        return False
    return ino >= state.reclaim_below or (session in file.openers and not file.contended)


def mtime_was_set(state: ShardState, ino: int, now_ns: int) -> None:
    """On purpose, by the asking session. What others have written before that does not move it any more."""
    file = state.files.get(ino)
    if file is not None and others_write(file, state.asking):
        file.mtime_set_ns = now_ns


def others_write(file: OpenFile, session: int) -> bool:
    openers = file.openers
    if len(openers) == 1 and session in openers:
        return False
    return any(opener.writes for other, opener in openers.items() if other != session)
