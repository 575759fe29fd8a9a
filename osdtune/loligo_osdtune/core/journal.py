"""The journal of one apply: what it was going to do, how far it came, and what follows from that.

The format is one JSON object a line. The first names the cluster, says how it did, and holds all actions with the old values;
each further one says that an action is about to be done (`begun`), was done (`done`), is about to be undone (`undoing`), was
undone (`undone`), or stays because somebody else has changed its value (`kept`). A line is on disk before what it announces
happens.

Rules
1. Every prefix of a journal is a journal: a last line that is cut off was never written, so what it announced did not happen.
   A line that is damaged otherwise, and all behind it, is not known: each action that it could speak of may have happened,
   or not. There is no going on from there, only undoing, for which line 1 has all that is needed.
2. An action that is begun and not done may have happened, or not. Actions are idempotent: to go on, it is done again.
3. To undo goes backwards, over all that was begun. An OSD is restarted after what it was restarted for was put back.
4. Once undoing has begun there is no going on, only undoing to the end.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

from loligo_osdtune.core.actions import Action, ConfigLine, KernelValue, OwnFile, Place, Put, Restart, is_of
from loligo_osdtune.core.health import Health

VERSION = 2


class JournalError(Exception):
    """The journal cannot be used. The text says why."""


class State(Enum):
    WAITING = "waiting"  # never written: it is what no line says
    BEGUN = "begun"
    DONE = "done"
    UNDOING = "undoing"
    UNDONE = "undone"
    KEPT = "kept"


_START = '{"osdtune_journal": '
_MALFORMED = (ValueError, KeyError, TypeError, IndexError, AttributeError)
_AFTER = {
    State.WAITING: (State.BEGUN,),
    State.BEGUN: (State.BEGUN, State.DONE, State.UNDOING),
    State.DONE: (State.UNDOING,),
    State.UNDOING: (State.UNDOING, State.UNDONE, State.KEPT),
    State.UNDONE: (),
    State.KEPT: (),
}
_PLACES: dict[str, type[ConfigLine] | type[KernelValue] | type[OwnFile]] = {
    "config": ConfigLine,
    "kernel": KernelValue,
    "file": OwnFile,
}


@dataclass(frozen=True, slots=True)
class Damage:
    """`line`: the first that cannot be read. `presumed`: actions that are taken for begun only because nobody knows."""

    line: int
    presumed: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Journal:
    """`began_s`: when, in seconds since 1970. `health`: how the cluster did then; when its OSDs came up is not kept."""

    fsid: str
    began_s: int
    health: Health
    actions: tuple[Action, ...]
    states: tuple[State, ...]
    damage: Damage | None = None

    def with_state(self, number: int, state: State) -> "Journal":
        """JournalError: `state` cannot follow, or there is no such action."""
        if type(number) is not int or not 0 <= number < len(self.actions):
            raise JournalError(f"there is no action {number}")
        if state not in _AFTER[self.states[number]]:
            raise JournalError(f"action {number} cannot be {state.value} after {self.states[number].value}")
        return replace(self, states=(*self.states[:number], state, *self.states[number + 1 :]))

    @property
    def is_being_undone(self) -> bool:
        return any(state in (State.UNDOING, State.UNDONE, State.KEPT) for state in self.states)

    @property
    def is_finished(self) -> bool:
        """Nothing of it is half-done: neither the changes, nor undoing them."""
        return not (self.to_do() if self.can_go_on else self.to_undo())

    @property
    def can_go_on(self) -> bool:
        return not self.is_being_undone and self.damage is None

    @property
    def is_closed(self) -> bool:
        """There is nothing left to undo."""
        return not self.to_undo()

    def to_do(self) -> tuple[int, ...]:
        """Numbers of the actions that are left, in their order. None if there is no going on."""
        if not self.can_go_on:
            return ()
        return tuple(number for number, state in enumerate(self.states) if state is not State.DONE)

    def to_begin(self) -> tuple[int, ...]:
        return tuple(number for number, state in enumerate(self.states) if state is State.WAITING)

    def to_undo(self) -> tuple[int, ...]:
        """Numbers of the actions that are left to be undone, in that order."""
        order: list[int] = []
        held: int | None = None
        for number in reversed(range(len(self.actions))):
            action = self.actions[number]
            if held is not None and not is_of(action, _osd(self.actions[held])):
                order.append(held)
                held = None
            if isinstance(action, Restart):
                held = number
            else:
                order.append(number)
        if held is not None:
            order.append(held)
        open_states = (State.BEGUN, State.DONE, State.UNDOING)
        return tuple(number for number in order if self.states[number] in open_states)


def begin(fsid: str, began_s: int, health: Health, actions: Iterable[Action]) -> Journal:
    actions = tuple(actions)
    return Journal(fsid, began_s, replace(health, since={}), actions, (State.WAITING,) * len(actions))


def first_line(journal: Journal) -> str:
    actions = [_encode(action) for action in journal.actions]
    health = {
        "down": sorted(journal.health.down),
        "unclean": journal.health.unclean,
        "checks": sorted(journal.health.checks),
    }
    head = {"osdtune_journal": VERSION, "fsid": journal.fsid, "began_s": journal.began_s, "health": health}
    return json.dumps({**head, "actions": actions}) + "\n"


def state_line(number: int, state: State) -> str:
    return json.dumps({"action": number, "state": state.value}) + "\n"


def _whole_lines(text: str) -> str:
    """`text` without a last line that was cut off."""
    return text[: text.rfind("\n") + 1]


def sound_lines(text: str, journal: Journal) -> str:
    """The part of `text` that `journal` was read from."""
    whole = _whole_lines(text)
    if journal.damage is None:
        return whole
    return "".join(line + "\n" for line in whole.split("\n")[: journal.damage.line - 1])


def read(text: str) -> Journal | None:
    """`text`: bytes that are no UTF-8 are lone surrogates in it.

    None: nothing was ever written, so nothing was ever done. JournalError: it is no journal, or one of another version.
    """
    lines = _whole_lines(text).split("\n")[:-1]
    if not lines and (text.startswith(_START) or _START.startswith(text)):
        return None
    journal = _read_first(lines[0] if lines else text)
    for line_number, line in enumerate(lines[1:], 2):
        try:
            record = _json(line)
            journal = journal.with_state(record["action"], State(record["state"]))
        except (JournalError, *_MALFORMED):
            return _damaged(journal, line_number)
    return journal


def _read_first(line: str) -> Journal:
    try:
        head = _json(line)
        version = head.get("osdtune_journal")
        if version not in (None, VERSION):
            raise JournalError(f"it has format {version}, this osdtune reads {VERSION}: use the one that wrote it")
        did = head["health"]
        health = Health({}, frozenset(did["down"]), did["unclean"], frozenset(did["checks"]))
        return begin(head["fsid"], head["began_s"], health, (_decode(action) for action in head["actions"]))
    except _MALFORMED:
        raise JournalError(
            "its first line is damaged, and with it all old values: nothing can be undone from it. Move it away, and osdtune "
            "goes on as if this apply had never been: what it has changed stays ('ceph config dump' and "
            "/etc/*.d/90-osdtune.* show values, not the old ones)"
        ) from None


def _json(line: str) -> Any:
    line.encode()  # UnicodeEncodeError, a ValueError: there is a byte that is no UTF-8
    return json.loads(line)


def _damaged(journal: Journal, line: int) -> Journal:
    """Nothing is begun any more once undoing has begun."""
    waiting = () if journal.is_being_undone else journal.to_begin()
    for number in waiting:
        journal = journal.with_state(number, State.BEGUN)
    return replace(journal, damage=Damage(line, waiting))


def _osd(action: Action) -> int:
    assert isinstance(action, Restart)
    return action.osd


def _encode(action: Action) -> dict[str, Any]:
    if isinstance(action, Restart):
        return {"kind": "restart", "rules": action.rules, "osd": action.osd}
    (kind,) = (name for name, place in _PLACES.items() if isinstance(action.place, place))
    place = {name: getattr(action.place, name) for name in type(action.place).__slots__}
    return {"kind": kind, "rules": action.rules, "place": place, "old": action.old, "new": action.new}


def _decode(recorded: dict[str, Any]) -> Action:
    rules = tuple(recorded["rules"])
    if recorded["kind"] == "restart":
        return Restart(rules, recorded["osd"])
    place: Place = _PLACES[recorded["kind"]](**recorded["place"])
    return Put(rules, place, recorded["old"], recorded["new"])
