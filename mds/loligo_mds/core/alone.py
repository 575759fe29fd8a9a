"""Who made a directory, for as long as nobody else has made, moved or removed a name in it.

Such a session knows what is not there, and need not ask: unpacking a tree looks for every name before it makes it. It is told
with its answers (`IN_DIRECTORIES`) that it is still alone, and what it was told holds for as long as names are believed at all.
When another session joins in, that is told at once; nobody waits until it has been heard.

In memory only, and of the last ALONE_MAX directories: what is forgotten is only asked for.
"""

from loligo_mds.core.effects import Joined
from loligo_mds.core.limits import ALONE_MAX
from loligo_mds.core.state import ShardState


def made(state: ShardState, directory: int) -> None:
    """By the session that asks."""
    alone = state.alone
    if len(alone) >= ALONE_MAX:
        del alone[next(iter(alone))]
    alone[directory] = state.asking


def names_changed(state: ShardState, directory: int) -> None:
    """By the session that asks."""
    maker = state.alone.get(directory)
    if maker is not None and maker != state.asking:
        del state.alone[directory]
        state.notices.append(Joined(maker, directory))


def is_alone(state: ShardState, session: int, directory: int) -> bool:
    return state.alone.get(directory) == session
