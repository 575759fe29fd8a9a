"""`osdtune apply` and `osdtune undo`, without their options and output.

Two locks: a key in the monitors' store that names host and journals, from the first change to the last, and after a crash
until somebody has gone on or undone; and one of the host, in the folder of its journals.
"""

import platform
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from loligo_osdtune.core import journal as journals
from loligo_osdtune.core.actions import Action, Put, Restart, Work, fulfilled, inverse, places_of, work_of
from loligo_osdtune.core.facts import Facts
from loligo_osdtune.core.journal import Journal
from loligo_osdtune.core.plan import plan_of
from loligo_osdtune.shell.changing import Changing
from loligo_osdtune.shell.cluster import Cluster
from loligo_osdtune.shell.failures import OsdtuneError
from loligo_osdtune.shell.journal_file import JournalFile, JournalFolder, JournalUnwritable
from loligo_osdtune.shell.places import Places
from loligo_osdtune.shell.restart import Restarter, restartable


class Applying:
    def __init__(
        self, cluster: Cluster, places: Places, restarter: Restarter, changing: Changing, journals_in: Path
    ) -> None:
        self._cluster = cluster
        self._places = places
        self._restarter = restarter
        self._changing = changing
        self._folder = JournalFolder(journals_in, cluster.fsid())
        self._owner = f"{platform.node()} (journals in {self._folder.path})"

    def work(self, facts: Facts, only: Iterable[str]) -> Work:
        """What there is to do. FactsError: no plan can be made. OsdtuneError: `only` names what the plan has not."""
        plan = plan_of(facts)
        if unknown := sorted(set(only) - {step.rule for step in plan.steps} - fulfilled(plan)):
            raise OsdtuneError(f"the plan has no {', '.join(unknown)}; 'osdtune plan' shows what it has")
        can = restartable(self._restarter, facts)
        current = self._places.read(places_of(plan, facts, can))
        return work_of(plan, facts, can, current, only)

    def in_the_way(self) -> str:
        """Why no new apply may begin: an earlier one is half-done, or cannot be read; "" if one may."""
        try:
            earlier = self._folder.newest()
        except OsdtuneError as error:
            return str(error)
        if earlier is None or earlier.journal.is_finished:
            return ""
        undo = earlier.command("undo")
        if earlier.journal.damage is not None:
            return f"{_damage_of(earlier)}: {undo} first"
        if earlier.journal.is_being_undone:
            return f"{earlier.path} is half undone: {undo} first"
        return f"{earlier.path} is half-done: {earlier.command('apply --continue')} or {undo} first"

    def apply(self, work: Work) -> JournalFile:
        """OsdtuneError: stopped, or an earlier apply is half-done."""
        with self._folder as folder:
            if earlier := self.in_the_way():
                raise OsdtuneError(earlier)
            self._cluster.lock(self._owner)
            try:
                file = folder.begin(self._journal(work.actions))
            except BaseException as error:  # nothing was done, so nobody is at work
                self._cluster.unlock()
                if isinstance(error, JournalUnwritable):
                    raise OsdtuneError(f"{error}. Nothing was changed") from None
                raise
            self._locked(file, self._changing.apply)
            return file

    def not_now(self, actions: Iterable[Action]) -> Iterator[str]:
        """Of the OSDs that would be restarted those that could not be at this moment, with the reason."""
        up = self._cluster.health().since
        for action in actions:
            if isinstance(action, Restart) and action.osd in up and (why := self._cluster.why_not_stop(action.osd)):
                yield f"osd.{action.osd} could not be restarted now, and would be waited for: {why}"

    def left_to_do(self) -> tuple[Action, ...]:
        """Of an apply that was stopped. OsdtuneError: there is none."""
        journal = _half_done(self._folder).journal
        return tuple(journal.actions[number] for number in journal.to_do())

    def go_on(self) -> JournalFile:
        """OsdtuneError: stopped again, or there is none that was stopped."""
        with self._folder as folder:
            file = _half_done(folder)
            self._cluster.lock(self._owner)
            self._locked(file, self._changing.apply)
            return file

    def left_to_undo(self) -> tuple[Action, ...]:
        """Of the newest apply that is not undone. OsdtuneError: there is none."""
        journal = _newest(self._folder).journal
        actions = [journal.actions[number] for number in journal.to_undo()]
        return tuple(inverse(action) if isinstance(action, Put) else action for action in actions)

    def damage(self) -> str:
        """What is wrong with the journal that `undo` would take; "" if it is sound."""
        return _damage_of(_newest(self._folder))

    def undo(self) -> tuple[str, ...]:
        """-> what was passed over. OsdtuneError: stopped, or there is nothing to undo."""
        passed: list[str] = []
        with self._folder as folder:
            file = _newest(folder)
            self._cluster.lock(self._owner)
            self._locked(file, lambda file: passed.extend(self._changing.undo(file)))
        return tuple(passed)

    def _journal(self, actions: Iterable[Action]) -> Journal:
        return journals.begin(self._cluster.fsid(), int(time.time()), self._cluster.health(), actions)

    def _locked(self, file: JournalFile, change: Callable[[JournalFile], None]) -> None:
        try:
            change(file)
        finally:
            if file.journal.is_finished or file.journal.is_closed:
                self._cluster.unlock()


def applied_since(journals_in: Path, fsid: str, since_s: int) -> tuple[Action, ...]:
    """What applies of this host that began at `since_s` or later have changed, and was not undone."""
    found: list[Action] = []
    for journal in JournalFolder(journals_in, fsid).standing():
        if journal.began_s >= since_s:
            found += [journal.actions[number] for number in sorted(journal.to_undo())]
    return tuple(found)


def _damage_of(file: JournalFile) -> str:
    damage = file.journal.damage
    if damage is None:
        return ""
    return (
        f"{file.path} is damaged from line {damage.line} on, so how far it came is not known. All old values are in line 1, "
        "which is whole: to undo, each value is compared, and put back where it was changed"
    )


def _newest(folder: JournalFolder) -> JournalFile:
    file = folder.newest()
    if file is None:
        raise OsdtuneError(f"there is nothing to undo: no journal in {folder.path} has a change that still stands")
    return file


def _half_done(folder: JournalFolder) -> JournalFile:
    file = folder.newest()
    if file is None or file.journal.is_finished:
        raise OsdtuneError(f"there is nothing to continue: no journal in {folder.path} is half-done")
    if file.journal.damage is not None:
        raise OsdtuneError(f"{_damage_of(file)}. It cannot be continued, but undone: {file.command('undo')}")
    if file.journal.is_being_undone:
        raise OsdtuneError(f"{file.path} is being undone already: {file.command('undo')} goes on with that")
    return file
