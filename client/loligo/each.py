"""What commands do that are given several things: one that fails does not stop the others."""

from collections.abc import Callable, Iterable
from typing import TypeVar

import click

from loligo.failures import explain
from loligo.trash_folder import TrashError

_Thing = TypeVar("_Thing")


def for_each(things: Iterable[_Thing], work: Callable[[_Thing], str]) -> bool:
    """Tells for each what `work` says of it, or why it could not be done. Whether all of it was."""
    succeeded = True
    for thing in things:
        try:
            click.echo(work(thing))
        except (OSError, TrashError) as error:
            click.echo(f"loligo: {explain(error)}", err=True)
            succeeded = False
    return succeeded
