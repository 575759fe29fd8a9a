"""Random clients that open, claim, lose their connections and die, on a shard that restarts, and a slow keeper. Messages
travel in two queues a client, and are lost with the connection.

What is checked is what the clients believe, after each step: whoever has claimed a file is alone with it, and so is whoever
writes a file that he takes for uncontended. Such a client promises its callers changes of which the shard hears later (the
owner's number stands for all of them, and only grows): who asks after that hears of them, unless the client dies. Every name is
made once, however often the request is sent. When all is quiet, everything has been answered, and nobody waits to be resumed.
"""

from collections import deque
from dataclasses import dataclass, field
from errno import EINVAL, ENOENT
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loligo_mds.core.effects import Recall, RepairObjects, Repeat, Reply, Report, Resume
from loligo_mds.core.events import (
    Event,
    Hold,
    Repaired,
    SessionEnded,
    SessionOpened,
    SessionRestated,
    ShardRestarted,
    Submitted,
)
from loligo_mds.core.open_file import owner_of
from loligo_mds.core.requests import (
    CHANGING,
    STATED_BY_HOLDS,
    Claim,
    Close,
    Create,
    CreateUnnamed,
    GetAttributes,
    ListUnsettled,
    Open,
    Opened,
    Publish,
    Release,
    Reported,
    Request,
    SetAttributes,
    Settle,
    Unlink,
    Unsettle,
    Yielded,
)
from loligo_mds.core.tables import Table
from loligo_wire.attributes import FLAG_INLINE, Attributes
from loligo_wire.ids import ROOT_INO
from unit.shard_lab import FILE, ShardLab

R = int(ROOT_INO)
FILES = 2


@dataclass
class ClientFile:
    """What a client knows of a file that it has open."""

    count: int = 0
    writes: bool = False
    contended: bool = False
    #: From the Recall until Resume; `yielded`: it was said.
    recalled: bool = False
    yielded: bool = False
    #: From the answer to Claim until Release is sent.
    claimed: bool = False
    inline: bool = False
    #: From the Report until Reported is sent.
    report: bool = False

    @property
    def active(self) -> bool:
        return not self.yielded


@dataclass
class Promise:
    """The file's uid is at least this, a caller was told."""

    uid: int
    session: int


@dataclass
class Asked:
    request: Request
    sequence: int
    #: What was promised before it was asked, about the inode that it is about.
    expects: Promise | None = None


@dataclass
class Client:
    session: int
    files: dict[int, ClientFile] = field(default_factory=dict)
    #: Without an answer, by id; ids are given anew with each connection.
    unanswered: dict[int, Asked] = field(default_factory=dict)
    up: deque[Event] = field(default_factory=deque)
    down: deque[Any] = field(default_factory=deque)
    connected: bool = True
    #: While it comes back: the files that the shard has heard of by now. Notices of others would not fit what it states.
    stated: set[int] | None = None
    sequence: int = 0
    #: Promised, and not sent.
    lazy: list[SetAttributes] = field(default_factory=list)
    answered: set[int] = field(default_factory=set)

    @property
    def acknowledged(self) -> int:
        pending = [asked.sequence for asked in self.unanswered.values() if asked.sequence]
        return min(pending) - 1 if pending else self.sequence

    def hears(self, effect: Reply | Recall | Report | Resume) -> bool:
        if isinstance(effect, Reply) or self.stated is None:
            return self.connected
        return effect.ino in self.stated

    def waits_for(self, kind: type, ino: int) -> bool:
        return any(type(asked.request) is kind and asked.request.ino == ino for asked in self.unanswered.values())  # type: ignore[union-attr]


class World:
    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.lab = ShardLab()
        self.lab.event(SessionEnded(1))
        self.last_id = 0
        self.last_session = 1
        self.names = 0
        self.repairs: list[int] = []
        self.promises: dict[int, Promise] = {}
        self.last_uid = 1000
        self.clients: list[Client] = []
        self.inos = [self.lab.make(b"f%d" % number) for number in range(FILES)]
        for _ in range(3):
            self.new_client()

    # -- the server's side ---------------------------------------------------------------------------------------------

    def event(self, event: Event) -> None:
        for effects in self.lab.whole_event(event):
            for effect in effects:
                if isinstance(effect, RepairObjects):
                    self.repairs.append(effect.ino)
                elif isinstance(effect, Reply | Recall | Report | Resume):
                    for client in self.clients:
                        if client.session == effect.session and client.hears(effect):
                            client.down.append(effect)
                assert not isinstance(effect, Repeat) or effect is effects[-1]

    def new_client(self) -> None:
        self.last_session += 1
        self.event(SessionOpened(self.last_session, b"client"))
        self.clients.append(Client(self.last_session))

    def restart(self) -> None:
        for client in self.clients:
            self.disconnect(client)
        self.repairs.clear()
        self.lab.restarted()
        self.event(ShardRestarted(tuple(client.session for client in self.clients)))
        if not self.clients:  # as whoever starts does
            self.lab.ask(Settle([row[0] for row in self.lab.ask(ListUnsettled(0, 1000))]), 0)

    def repair(self) -> None:
        if self.repairs:
            ino = self.repairs.pop(self.random.randrange(len(self.repairs)))
            self.lab.ask(Settle([ino]), 0)
            self.event(Repaired(ino))

    def take(self, client: Client) -> None:
        if client.up:
            event = client.up.popleft()
            if isinstance(event, SessionRestated):
                assert client.stated is not None
                client.stated |= {said.ino for said in event.holds}
            elif isinstance(event, Submitted):
                self._excuse(client, event)
            self.event(event)
            if isinstance(event, SessionRestated) and event.complete:
                client.stated = None

    def _excuse(self, client: Client, event: Submitted) -> None:
        """After a restart the shard does not know who may have promised something before he has said what he has open."""
        asked = client.unanswered.get(event.id)
        if asked is not None and asked.expects is not None and asked.expects.session in self.lab.shard.state.reclaiming:
            asked.expects = None

    # -- the client's side ---------------------------------------------------------------------------------------------

    def promise(self, client: Client, ino: int) -> None:
        self.last_uid += 1
        self.promises[ino] = Promise(self.last_uid, client.session)
        client.lazy.append(SetAttributes(ino, uid=self.last_uid))

    def keep_promises(self, client: Client) -> None:
        lazy, client.lazy = client.lazy, []
        for promised in lazy:
            self.send(client, promised)

    def send(self, client: Client, request: Request) -> None:
        self.keep_promises(client)
        asked = Asked(request, 0)
        if type(request) is GetAttributes:
            asked.expects = self.promises.get(request.ino)
        if type(request) in CHANGING:
            client.sequence += 1
            asked.sequence = client.sequence
        self._send(client, asked)

    def _send(self, client: Client, asked: Asked) -> None:
        self.last_id += 1
        client.unanswered[self.last_id] = asked
        if client.connected:
            event = Submitted(client.session, asked.sequence, asked.request, client.acknowledged, self.last_id)
            client.up.append(event)

    def disconnect(self, client: Client) -> None:
        client.connected = False
        client.stated = None
        client.up.clear()
        client.down.clear()

    def connect(self, client: Client) -> None:
        client.connected = True
        client.stated = set()
        pending = list(client.unanswered.values())
        client.unanswered.clear()
        # The holds say all that was said with these, and would be undone by them.
        pending = [asked for asked in pending if type(asked.request) not in STATED_BY_HOLDS]
        acknowledged = min([asked.sequence for asked in pending if asked.sequence], default=client.sequence + 1) - 1
        holds = [
            Hold(ino, file.count, file.writes, file.contended, file.claimed, file.yielded)
            for ino, file in client.files.items()
        ]
        middle = self.random.randrange(len(holds) + 1)
        pieces = [holds[:middle], holds[middle:]] if middle else [holds]
        for number, piece in enumerate(pieces):
            last = number == len(pieces) - 1
            client.up.append(SessionRestated(client.session, piece, number == 0, last, acknowledged))
        for asked in pending:
            self._send(client, asked)

    def give_up(self, client: Client) -> None:
        """It does not wait any longer for the server, which may have done it all the same."""
        opens = [id for id, asked in client.unanswered.items() if type(asked.request) in (Open, Claim, CreateUnnamed)]
        if opens:
            del client.unanswered[self.random.choice(opens)]

    def die(self, client: Client) -> None:
        self.clients.remove(client)
        self.event(SessionEnded(client.session))
        self.new_client()

    def hear(self, client: Client) -> None:
        if not client.down:
            return
        effect = client.down.popleft()
        if isinstance(effect, Recall):
            file = client.files.get(effect.ino)
            if file is not None and not file.yielded:
                file.recalled = True
        elif isinstance(effect, Report):
            file = client.files.get(effect.ino)
            if file is not None and not file.recalled:
                file.report = True
        elif isinstance(effect, Resume):
            file = client.files.get(effect.ino)
            if file is not None:
                file.recalled = file.yielded = False
                file.contended = True
                file.inline = bool(effect.attributes.flags & FLAG_INLINE)
        else:
            self.answer(client, effect)

    def answer(self, client: Client, reply: Reply) -> None:
        asked = client.unanswered.pop(reply.id, None)
        if asked is None:
            return  # it was asked on an earlier connection
        request, errno = asked.request, reply.errno
        kind = type(request)
        if asked.sequence:
            assert asked.sequence not in client.answered
            client.answered.add(asked.sequence)
        if kind is Open:
            assert errno in (0, ENOENT)
            if errno == 0:
                assert isinstance(reply.value, Opened)
                file = client.files.setdefault(request.ino, ClientFile())  # type: ignore[union-attr]
                file.count += 1
                file.writes |= request.writes  # type: ignore[union-attr]
                file.contended |= reply.value.contended
                file.inline = bool(reply.value.attributes.flags & FLAG_INLINE)
        elif kind is Create or kind is CreateUnnamed:
            assert errno == 0, f"{request} was answered with {errno}"
            file = client.files.setdefault(reply.value.ino, ClientFile())
            assert file.count == 0
            file.count = 1
            file.writes = True
            if kind is Create:
                self.inos.append(reply.value.ino)
        elif kind is Claim:
            assert errno in (0, EINVAL, ENOENT)
            file = client.files.get(request.ino, ClientFile())  # type: ignore[union-attr]
            assert errno == 0 or not file.count
            file.claimed = errno == 0
            if file.yielded:  # the answer has overtaken the word to resume
                file.recalled = file.yielded = False
        elif kind is Unlink:
            assert errno in (0, ENOENT)
        elif kind is GetAttributes:
            assert errno in (0, ENOENT)
            expects = asked.expects
            if errno == 0 and expects is not None:
                lives = any(other.session == expects.session for other in self.clients)
                assert not lives or reply.value.uid >= expects.uid, "a promise was not kept"
        else:
            assert errno == 0, f"{request} was refused with {errno}"
            if isinstance(reply.value, Attributes) and reply.value.ino in client.files:
                client.files[reply.value.ino].inline = bool(reply.value.flags & FLAG_INLINE)

    def close(self, client: Client, ino: int, file: ClientFile) -> None:
        self.send(client, Close(ino))
        file.count -= 1
        if not file.count:
            del client.files[ino]

    def act(self, client: Client) -> None:
        random = self.random
        if random.random() < 0.3:
            ino = random.choice(self.inos[-4:])
            if not any(client.waits_for(Open, ino) for _ in (0,)) or random.random() < 0.3:
                self.send(client, Open(ino, random.random() < 0.6))
            return
        if random.random() < 0.2:
            self.send(client, GetAttributes(random.choice(self.inos[-4:])))
            return
        if random.random() < 0.1:
            if random.random() < 0.5:
                self.names += 1
                self.send(client, Create(R, b"new%d" % self.names, FILE, 0, 0, hold=True))
            else:
                self.send(client, CreateUnnamed(R, FILE, 0, 0))
            return
        if random.random() < 0.04 and self.names:
            self.send(client, Unlink(R, b"new%d" % random.randint(1, self.names)))
            return
        if random.random() < 0.1:
            self.keep_promises(client)
            return
        if client.files:
            ino = random.choice(list(client.files))
            self.use(client, ino, client.files[ino])

    def use(self, client: Client, ino: int, file: ClientFile) -> None:
        random = self.random
        if file.report and random.random() < 0.5:
            self.send(client, Reported(ino))
            file.report = False
            return
        owned = file.writes and file.active and not (file.contended or file.recalled or file.claimed)
        if owned and random.random() < 0.3:
            self.promise(client, ino)
            return
        busy = file.claimed
        #: What was asked is answered, so it may say that it is done.
        done = not client.lazy and not any(client.waits_for(kind, ino) for kind in (Publish, SetAttributes, Unsettle))
        if file.recalled and not file.yielded and done and random.random() < 0.7:
            self.send(client, Yielded(ino))
            file.yielded = True
            return
        if busy:
            if random.random() < 0.5 and done and file.active:
                self.send(client, Release(ino))
                file.claimed = False
                return
            if file.active:
                self.reshape(client, ino)
            return
        if random.random() < 0.2 and not client.waits_for(Claim, ino) and not client.waits_for(Open, ino) and done:
            self.close(client, ino, file)
            return
        if not file.active or not file.writes:
            return
        if file.contended:
            if random.random() < 0.5:
                if not client.waits_for(Claim, ino) and not client.waits_for(Release, ino):
                    self.send(client, Claim(ino))
            else:
                self.send(client, Unsettle(ino, random.randrange(100_000)))
            if not file.inline:
                self.send(client, Publish(ino, random.randrange(100_000), 1))
        elif not client.waits_for(Claim, ino):
            self.reshape(client, ino)

    def reshape(self, client: Client, ino: int) -> None:
        if self.random.random() < 0.5:
            self.send(client, SetAttributes(ino, size=self.random.randrange(1000)))
        else:
            self.send(client, Publish(ino, 3, 1, b"abc"))

    # -- what must hold ------------------------------------------------------------------------------------------------

    def check(self) -> None:
        for ino in {ino for client in self.clients for ino in client.files}:
            openers = [client.files[ino] for client in self.clients if ino in client.files]
            claimed = [file for file in openers if file.claimed]
            active = [file for file in openers if file.active]
            assert len(claimed) <= 1, "two have claimed it"
            if claimed:
                assert [file for file in active if file is not claimed[0]] == [], "one who has claimed it is not alone"
            for file in active:
                if file.writes and not file.contended:
                    assert len(active) == 1, "one who takes the file for his is not alone"
            if ino in self.repairs:
                assert not active, "it is being repaired"
        for known in self.lab.shard.state.files.values():
            assert known.openers or known.claimants or known.waiting or known.repair
            assert not known.reporting or owner_of(known) is not None
            assert known.reporting or not (known.questions or known.round)
            assert known.reporting is (known.ino in self.lab.shard.state.asked_about)

    def step(self) -> None:
        random = self.random
        client = random.choice(self.clients)
        chance = random.random()
        if chance < 0.01:
            self.restart()
        elif chance < 0.02:
            self.die(client)
        elif chance < 0.04:
            self.disconnect(client)
        elif not client.connected:
            if chance < 0.4:
                self.connect(client)
            elif chance < 0.5:
                self.give_up(client)
        elif chance < 0.1:
            self.repair()
        elif chance < 0.4:
            self.act(client)
        elif chance < 0.7:
            self.take(client)
        else:
            self.hear(client)
        self.check()

    def come_to_rest(self) -> None:
        """Everybody does what he is asked for, and nothing new."""
        for _ in range(10_000):
            for client in self.clients:
                while client.up:
                    self.take(client)
                while client.down:
                    self.hear(client)
                for ino, file in list(client.files.items()):
                    if file.report:
                        self.send(client, Reported(ino))
                        file.report = False
                    if file.claimed and file.active:
                        self.send(client, Release(ino))
                        file.claimed = False
                    elif client.lazy:
                        self.keep_promises(client)
                    elif file.recalled and not file.yielded:
                        self.send(client, Yielded(ino))
                        file.yielded = True
            self.repair()
            self.check()
            if not self.repairs and not any(client.up or client.down for client in self.clients):
                return
        raise AssertionError("they never come to rest")

    def finish(self) -> None:
        for client in self.clients:
            if not client.connected:
                self.connect(client)
        self.come_to_rest()
        for client in self.clients:
            self.send(client, Settle([]))  # and acknowledge what was not asked again
        self.come_to_rest()
        for client in self.clients:
            assert client.unanswered == {}, "somebody waits for ever"
            for ino, file in client.files.items():
                assert file.active, "somebody waits to be resumed"
                opener = self.lab.shard.state.files[ino].openers[client.session]
                assert (opener.count, opener.asked, opener.quiet) == (file.count, False, False)
        state = self.lab.shard.state
        assert set(state.files) == {ino for client in self.clients for ino in client.files}
        assert not state.reclaiming and not state.waited_for and not state.asked_about
        names = {bytes(key[16:]) for key, _ in self.lab.tables.scan(Table.DENTRY, b"")}
        assert len(names) == len(list(self.lab.tables.scan(Table.DENTRY, b"")))
        orphans = {int.from_bytes(key) for key, _ in self.lab.tables.scan(Table.ORPHAN, b"")}
        assert orphans <= set(state.files)


def play(seed: int, steps: int) -> None:
    world = World(seed)
    for _ in range(steps):
        world.step()
    world.finish()


@settings(deadline=None, max_examples=100)
@given(st.integers(0, 1 << 32), st.integers(1, 400))
def test_nobody_disturbs_who_is_alone_and_nobody_waits_for_ever(seed: int, steps: int) -> None:
    play(seed, steps)


@pytest.mark.parametrize("seed", range(5))
def test_long_lives(seed: int) -> None:
    play(seed, 3000)
