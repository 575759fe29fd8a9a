"""Carries out the actions of a journal, or takes them back: one at a time, with a look at the cluster after each.

Rules
1. The journal says what is about to happen before it happens, and that it has happened when it was seen to be so.
2. A cluster that does worse than before stops it. What was done stays, and is in the journal: `apply --continue` or `undo`.
   Before is when the apply began, also for one that goes on: what it has made worse itself is not stepped over. Undoing may
   be what mends that, so it compares with how the cluster did when undoing began.
3. An OSD is restarted only if no placement group stops to serve meanwhile, and the next thing happens when it is back and
   all of its placement groups have been reported since.
4. A value that somebody else has changed is not touched: applying stops there, undoing passes it over and says so.
"""

import time
from collections.abc import Callable, Sequence
from typing import NoReturn

from loligo_osdtune.core.actions import (
    ConfigLine,
    Doing,
    Put,
    Restart,
    describe,
    doing,
    inverse,
    is_read_at_start,
    same,
    shown,
    started_with,
)
from loligo_osdtune.core.facts import FactsError
from loligo_osdtune.core.health import Health, worse_than
from loligo_osdtune.core.journal import State
from loligo_osdtune.shell.cluster import Cluster
from loligo_osdtune.shell.failures import OsdtuneError, explain
from loligo_osdtune.shell.journal_file import JournalFile, JournalUnwritable
from loligo_osdtune.shell.places import Places
from loligo_osdtune.shell.restart import Restarter
from loligo_runtime.failpoint import declare, failpoint

declare("osdtune.begun", "osdtune.changed", "osdtune.done", "osdtune.undoing", "osdtune.restored", "osdtune.undone")

SETTLE_LIMIT_S = 300.0
TAKE_LIMIT_S = 60.0
POLL_S = 0.5
_FAILURES = (OsdtuneError, FactsError, OSError)


class Changing:
    """`tell` hears what is done and waited for, line by line. `settle_limit_s`: how long the cluster may take to do as well as
    before, and an OSD to come back."""

    def __init__(
        self,
        cluster: Cluster,
        places: Places,
        restarter: Restarter,
        tell: Callable[[str], None],
        settle_limit_s: float = SETTLE_LIMIT_S,
    ) -> None:
        self._cluster = cluster
        self._places = places
        self._restarter = restarter
        self._tell = tell
        self._settle_limit_s = settle_limit_s
        self._waits_for = ""  # also when it was interrupted in that

    def apply(self, file: JournalFile) -> None:
        """All that is left of it. OsdtuneError: stopped, with the reason and what can be done now."""
        before = file.journal.health
        numbers = file.journal.to_do()
        try:
            self._require_no_worse(file, numbers)
        except (*_FAILURES, KeyboardInterrupt) as error:
            self._stop(error, "stopped before the next change", _after(file))
        for count, number in enumerate(numbers, 1):
            action = file.journal.actions[number]
            try:
                if isinstance(action, Put):
                    self._apply_put(file, number, action)
                else:
                    self._apply_restart(file, number, action, before)
                self._settle(before)
            except (*_FAILURES, KeyboardInterrupt) as error:
                self._stop(error, f"stopped at {describe(action)}, change {count} of {len(numbers)}", _after(file))
            self._close(file, number, State.DONE, _after(file))
            failpoint("osdtune.done")

    def undo(self, file: JournalFile) -> tuple[str, ...]:
        """-> what was passed over, since somebody else has changed it. OsdtuneError: stopped."""
        before = self._cluster.health()
        passed: list[str] = []
        presumed = file.journal.damage.presumed if file.journal.damage is not None else ()
        put_back: set[str] = set()  # sections of lines that were not as before
        for number in file.journal.to_undo():
            action = file.journal.actions[number]
            try:
                restarts = isinstance(action, Restart) and (number not in presumed or f"osd.{action.osd}" in put_back)
                if isinstance(action, Restart) and restarts:
                    self._require_stoppable(action.osd)
                file.record(number, State.UNDOING)
                failpoint("osdtune.undoing")
                state = State.UNDONE
                if isinstance(action, Put):
                    todo, found = self._undo_put(action)
                    if todo is Doing.WRITE and isinstance(action.place, ConfigLine):
                        put_back.add(action.place.section)
                    if todo is Doing.CONFLICT:
                        state = State.KEPT
                        passed.append(found)
                elif restarts:
                    self._tell(describe(action))
                    self._restart(action.osd)
                    self._settle(before)
                failpoint("osdtune.restored")
            except (*_FAILURES, KeyboardInterrupt) as error:
                self._stop(error, f"stopped undoing at {describe(action)}", _after_undoing(file))
            self._close(file, number, state, _after_undoing(file))
            failpoint("osdtune.undone")
        return tuple(passed)

    def _require_no_worse(self, file: JournalFile, numbers: Sequence[int]) -> None:
        """An OSD that is down and whose restart comes first may be what is wrong: that is looked at after the restart."""
        first = file.journal.actions[numbers[0]] if numbers else None
        if isinstance(first, Restart) and first.osd not in self._cluster.health().since:
            return
        if worse := self._worse(file.journal.health):
            raise OsdtuneError(f"the cluster does worse than when this began: {worse}; mend that first")

    def _close(self, file: JournalFile, number: int, state: State, what_now: str) -> None:
        """What is not recorded is done again, which changes nothing more."""
        try:
            file.record(number, state)
        except JournalUnwritable as error:
            action = file.journal.actions[number]
            which = describe(inverse(action) if isinstance(action, Put) and state is not State.DONE else action)
            raise OsdtuneError(f"{which}: that is done, but not recorded: {error}. {what_now}") from None

    def _stop(self, error: BaseException, where: str, what_now: str) -> NoReturn:
        """Ctrl-C goes on as such, when it is said how things stand."""
        if isinstance(error, KeyboardInterrupt):
            waited = f" It was waiting for {self._waits_for}." if self._waits_for else ""
            self._tell(f"{where}: interrupted.{waited} {what_now}")
            raise error
        raise OsdtuneError(f"{where}: {explain(error)}. {what_now}") from None

    def _apply_put(self, file: JournalFile, number: int, put: Put) -> None:
        found = self._places.read([put.place])[put.place]
        todo = doing(put, found)
        if todo is Doing.CONFLICT:
            raise OsdtuneError(f"somebody else has set it to {shown(found)} meanwhile; it was {shown(put.old)}")
        file.record(number, State.BEGUN)
        failpoint("osdtune.begun")
        if todo is Doing.WRITE:
            self._tell(describe(put))
            self._places.write(put.place, put.new)
        failpoint("osdtune.changed")
        if isinstance(put.place, ConfigLine) and not is_read_at_start(file.journal.actions, number):
            self._require_taken(put)

    def _apply_restart(self, file: JournalFile, number: int, restart: Restart, before: Health) -> None:
        puts = started_with(file.journal.actions, number)
        self._require_ours(puts)
        self._require_stoppable(restart.osd)
        file.record(number, State.BEGUN)
        failpoint("osdtune.begun")
        self._tell(describe(restart))
        self._restart(restart.osd)
        self._settle(before)
        for put in puts:
            self._require_taken(put)
        failpoint("osdtune.changed")

    def _require_ours(self, puts: Sequence[Put]) -> None:
        """What was set some time ago is still so: else the restart would be for nothing, or for what somebody else wants."""
        found = self._places.read(put.place for put in puts)
        for put in puts:
            if not same(put.place, value := found[put.place], put.new):
                raise OsdtuneError(
                    f"somebody else changed {put.place} from {shown(put.new)} to {shown(value)} since it was set here: set it "
                    "back to go on, or undo, which lets it stay"
                )

    def _undo_put(self, put: Put) -> tuple[Doing, str]:
        """-> what there was to do, and for a conflict what was found instead."""
        found = self._places.read([put.place])[put.place]
        todo = doing(inverse(put), found)
        if todo is Doing.WRITE:
            self._tell(describe(inverse(put)))
            self._places.write(put.place, put.old)
        return (
            todo,
            f"{put.place} is {shown(found)}: somebody else has set it since, so it stays (it was {shown(put.old)})",
        )

    def _require_stoppable(self, osd: int) -> None:
        """One that is down serves nobody, and may need the restart to come back."""

        def why_not() -> str:
            return self._cluster.why_not_stop(osd) if osd in self._cluster.health().since else ""

        if why := self._wait(f"osd.{osd} to be dispensable", self._settle_limit_s, why_not):
            raise OsdtuneError(f"without it some data could not be used while it restarts: {why}")

    def _restart(self, osd: int) -> None:
        """Returns when it is up again and known in full."""
        was_up_since = self._cluster.health().since.get(osd, 0)
        self._restarter.restart(osd)

        def why_not() -> str:
            since = self._cluster.health().since.get(osd, 0)
            if since <= was_up_since:
                return "it is not up"
            return "" if self._cluster.is_reported(osd, since) else "its placement groups are not reported"

        if self._wait(f"osd.{osd} to come back", self._settle_limit_s, why_not):
            raise OsdtuneError(
                f"osd.{osd} did not come back within {self._settle_limit_s:.0f} s of its restart; see its log"
            )

    def _settle(self, before: Health) -> None:
        if worse := self._worse(before):
            raise OsdtuneError(f"the cluster does worse than before, for {self._settle_limit_s:.0f} s: {worse}")

    def _worse(self, before: Health) -> str:
        """In what the cluster does worse, and goes on to."""

        def worse() -> str:
            return ", ".join(worse_than(before, self._cluster.health()))

        return self._wait("the cluster to do as well as before", self._settle_limit_s, worse)

    def _require_taken(self, put: Put) -> None:
        """The OSD works with it."""
        assert isinstance(put.place, ConfigLine) and put.new is not None
        place, new = put.place, put.new
        osd = int(place.section.removeprefix("osd."))

        def other() -> str:
            value = self._cluster.running_value(osd, place.name)
            return "" if same(place, value, new) else f"{place.name} = {value}"

        if found := self._wait(f"{place.section} to work with {place.name} = {new}", TAKE_LIMIT_S, other):
            raise OsdtuneError(
                f"{place.section} still works with {found} after {TAKE_LIMIT_S:.0f} s: a line with a mask, or 'ceph tell', "
                "wins; see 'ceph config show'"
            )

    def _wait(self, what: str, limit_s: float, why_not: Callable[[], str]) -> str:
        """Until `why_not` has nothing to say, at most so long -> what it says at the end. Who looks on hears of it at once."""
        self._waits_for = what
        deadline = time.monotonic() + limit_s
        is_told = False
        while why := why_not():
            if not is_told:
                self._tell(f"waiting for {what}, {limit_s:.0f} s at most: {why}")
                is_told = True
            if time.monotonic() > deadline:
                break
            time.sleep(POLL_S)
        if is_told and not why:
            self._tell("going on")
        self._waits_for = ""
        return why


def _after(file: JournalFile) -> str:
    """What somebody whose apply was stopped can do now."""
    if file.journal.is_closed:
        return "Nothing was changed"
    go_on, undo = file.command("apply --continue"), file.command("undo")
    return f"What was done is in {file.path}: {go_on} goes on, {undo} takes it back"


def _after_undoing(file: JournalFile) -> str:
    return f"How far it came is in {file.path}: {file.command('undo')} goes on"
