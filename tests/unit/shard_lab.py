"""A shard on tables in memory, with the checks that every step has to pass, whatever the test is about."""

from dataclasses import replace
from typing import Any

import pytest

from loligo_mds.core.effects import (
    AppendJournal,
    Effect,
    LeaseRecall,
    Recall,
    RemoveObjects,
    RepairObjects,
    Repeat,
    Reply,
    Report,
    Resume,
    Retry,
)
from loligo_mds.core.events import Event, Repaired, SessionOpened, Submitted
from loligo_mds.core.invariants import check_shard
from loligo_mds.core.requests import WRITING, Create, LeaseReturned, Lookup, Reported, Request, Yielded
from loligo_mds.core.shard import Shard, initialise
from loligo_mds.core.tables import Table, Write
from loligo_mds.store.journal import MAX_RECORD_BYTES
from loligo_mds.store.memory_tables import MemoryTables
from loligo_wire.attributes import Attributes
from loligo_wire.ids import ROOT_INO

BLOCK_BYTES = 4096
FILE = 0o100644
DIRECTORY = 0o040755
SYMLINK = 0o120777

Rows = dict[tuple[int, bytes], bytes]


def rows(tables: MemoryTables) -> Rows:
    return {(table, key): value for table in Table for key, value in tables.scan(table, b"")}


def replayed(journal: list[list[Write]]) -> MemoryTables:
    """What recovery makes of these records."""
    tables = MemoryTables()
    for writes in journal:
        for table, key, value in writes:
            if value is None:
                tables.delete(table, key)
            else:
                tables.put(table, key, value)
    return tables


def record_bytes(writes: list[Write]) -> int:
    """What the journal needs for them, see the format there."""
    return 37 + sum(7 + len(key) + len(value or b"") for _, key, value in writes)


class ShardLab:
    """Takes events and requests; time goes up by one ns with each."""

    def __init__(self) -> None:
        self.tables = MemoryTables()
        self.now_ns = 1000
        self.journal = [effect.writes for effect in initialise(self.tables, self.now_ns, 0, 0)]
        self.shard = Shard(0, self.tables, BLOCK_BYTES)
        #: Effects of the last step.
        self.effects: list[Effect] = []
        self.last_id = 0
        self.event(SessionOpened(1))

    def event(self, event: Event) -> list[Effect]:
        self.now_ns += 1
        before = rows(self.tables)
        self.effects = effects = self.shard.step(self.now_ns, event)
        after = rows(self.tables)
        self._check_order(effects)
        records = [effect.writes for effect in effects if isinstance(effect, AppendJournal)]
        assert len(records) <= 1, "one step, one record"
        for writes in records:
            assert record_bytes(writes) <= MAX_RECORD_BYTES and len(writes) <= 0xFFFF, "more than the journal takes"
        assert bool(records) or before == after, "tables changed, and the journal knows nothing of it"
        self.journal += records
        if type(event) is Submitted and not event.sequence and effects:
            reply = effects[-1]
            if isinstance(reply, Reply) and reply.id == event.id and reply.errno:
                assert before == after and len(effects) == 1, "a refusal leaves no trace"
        if type(event) is Submitted and type(event.request) not in WRITING:
            assert not records, "a question changes nothing"
        assert check_shard(self.tables) == []
        return effects

    def whole_event(self, event: Event) -> list[list[Effect]]:
        """The effects of each of the steps that `event` takes."""
        steps = [self.event(event)]
        while steps[-1] and isinstance(steps[-1][-1], Repeat):
            steps.append(self.event(steps[-1][-1].event))
        return steps

    def _check_order(self, effects: list[Effect]) -> None:
        """The record, then what must not happen before it is durable; the answer, before what follows from it for others."""
        rank = {
            AppendJournal: 0,
            RemoveObjects: 1,
            RepairObjects: 1,
            Reply: 2,
            Recall: 2,
            Report: 2,
            Resume: 2,
            LeaseRecall: 2,
            Retry: 3,
            Repeat: 4,
        }
        ranks = [rank[type(effect)] for effect in effects]
        assert ranks == sorted(ranks)
        if RemoveObjects in map(type, effects):
            assert type(effects[0]) is AppendJournal

    def submit(self, request: Request, session: int = 1, sequence: int = 0, acknowledged: int = 0) -> int:
        """Ask, and do not expect an answer at once. -> id of the request"""
        self.last_id += 1
        self.event(Submitted(session, sequence, request, acknowledged, self.last_id))
        return self.last_id

    def reply(self, request: Request, session: int = 1, sequence: int = 0, acknowledged: int = 0) -> Reply:
        """The answer. A question may be about what another session has not told yet: then it does so now."""
        id = self.submit(request, session, sequence, acknowledged)
        waits = any(isinstance(effect, Report) or getattr(effect, "share", False) for effect in self.effects)
        said = self.comply() if waits else self.effects
        (reply,) = (effect for effect in said if isinstance(effect, Reply) and effect.id == id)
        assert reply.session == session
        return replace(reply, id=0, repeated=False)

    def patient_reply(self, request: Request, session: int = 1) -> Reply:
        """The answer, after everybody else has done what it waits for."""
        id = self.submit(request, session)
        effects = self.comply()
        (reply,) = (effect for effect in effects if isinstance(effect, Reply) and effect.id == id)
        return reply

    def comply(self) -> list[Effect]:
        """Sessions yield when they are recalled, files are repaired, until nobody is asked for anything any more.

        -> what was said meanwhile, and in the last step
        """
        said: list[Effect] = []
        todo = list(self.effects)
        while todo:
            effect = todo.pop(0)
            if isinstance(effect, Recall):
                todo += self.event(Submitted(effect.session, 0, Yielded(effect.ino), id=-1))
            elif isinstance(effect, Report):
                todo += self.event(Submitted(effect.session, 0, Reported(effect.ino), id=-1))
            elif isinstance(effect, LeaseRecall):
                returned = LeaseReturned(effect.ino, effect.attributes_of, effect.share, was_exclusive=True)
                todo += self.event(Submitted(effect.session, 0, returned, id=-1))
            elif isinstance(effect, Retry):
                todo += self.event(effect.event)
            elif isinstance(effect, RepairObjects):
                todo += self.event(Repaired(effect.ino))
            elif not isinstance(effect, AppendJournal):
                said.append(effect)
        return said

    def ask(self, request: Request, session: int = 1) -> Any:
        """The answer; the test fails if there is none."""
        reply = self.reply(request, session)
        assert reply.errno == 0, f"{request} was refused with errno {reply.errno}"
        return reply.value

    def refused(self, request: Request, errno: int, session: int = 1) -> None:
        assert self.reply(request, session).errno == errno, request

    def restarted(self) -> None:
        """The process dies and comes back: what the journal has is all that is left."""
        tables = replayed(self.journal)
        assert rows(tables) == rows(self.tables), "the journal and the tables tell different stories"
        self.tables = tables
        self.shard = Shard(0, tables, BLOCK_BYTES)

    # -- a tree in few words ----------------------------------------------------------------------------------

    def make(self, path: bytes, mode: int = FILE, target: bytes = b"", **more: Any) -> int:
        parent, name = self._place(path)
        made: Attributes = self.ask(Create(parent, name, mode, uid=10, gid=20, target=target, **more))
        return made.ino

    def look(self, path: bytes) -> Attributes | None:
        """What `path` names now."""
        parent, name = self._place(path)
        found: Attributes | None = self.ask(Lookup(parent, name))
        return found

    def _place(self, path: bytes) -> tuple[int, bytes]:
        parent = int(ROOT_INO)
        *above, name = path.split(b"/")
        for part in above:
            found = self.ask(Lookup(parent, part))
            assert found is not None, path
            parent = found.ino
        return parent, name

    def removals(self) -> list[RemoveObjects]:
        """What the last step wanted removed."""
        return [effect for effect in self.effects if isinstance(effect, RemoveObjects)]


@pytest.fixture
def lab() -> ShardLab:
    return ShardLab()
