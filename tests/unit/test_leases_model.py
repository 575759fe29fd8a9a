"""Random clients that look, change, promise, remember under their leases, give them back late, lose their connections, are not
heard for too long and die, on a shard that restarts. Each client is `Leased` and `Promises`, the real ones, in front of a
kernel that believes what it is told and forgets what it is told to.

Checked after every step:

- What a kernel believes, the shard knows: names, and attributes but for atime; but for what its own caller has changed and is
  not answered for, and what it is late to forget because of that (`waived`). So whatever was changed is seen by all when its
  caller is answered, and by all others at once.
- A file that a client has open is there, unless the client was cut off; and if it has it open under a lease alone, nobody else
  has it open for writing; but for what happened while it was not waited for (`waived`).
- Each client's own notes cover what its kernel believes, and what it notes the shard has granted it.
- Each change happens once, and those who asked are answered: at the end nothing waits.
- Delegations are exclusive. What a client has promised its callers nobody else believes otherwise, or is told otherwise; and
  the shard does exactly that, when it is asked.

`LOLIGO_SIM_STEPS` and `LOLIGO_SIM_SEED` ask for more (`make sim-long`).
"""

import os
from collections import deque
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from errno import ESTALE
from random import Random
from stat import S_IFDIR, S_IFREG
from typing import Any

import pytest

from loligo_client.core import leased as leased_module
from loligo_client.core.leased import Forgotten, Leased
from loligo_client.core.leased_opens import LeasedOpens
from loligo_client.core.newborns import Newborns
from loligo_client.core.promises import PROMISED, Promises, Unforeseeable
from loligo_mds.core import leases, namespace
from loligo_mds.core.codec import Covered
from loligo_mds.core.effects import AppendJournal, LeaseRecall, Recall, Reply, Report, Retry
from loligo_mds.core.entries import decode_entry, entry_key
from loligo_mds.core.events import (
    Event,
    Hold,
    LeasesLapsed,
    SessionEnded,
    SessionOpened,
    SessionRestated,
    ShardRestarted,
    Submitted,
)
from loligo_mds.core.lease import CALM_NS, cover_of
from loligo_mds.core.requests import (
    CHANGING,
    STATED_BY_HOLDS,
    Close,
    Create,
    FillIn,
    GetAttributes,
    LeaseReturned,
    Link,
    LookInTrash,
    Lookup,
    Open,
    Publish,
    Purge,
    PurgeBatch,
    ReadDirectory,
    RecordAccess,
    RemoveDirectory,
    RemoveTree,
    Rename,
    Reported,
    Request,
    ReserveInodes,
    Restore,
    SetAttributes,
    SetXattr,
    Unlink,
    Yielded,
)
from loligo_mds.core.state import ino_key
from loligo_mds.core.tables import Table
from loligo_mds.core.trash import Buried, look_in_trash
from loligo_trash.policy import MINIMUM_AGE_NAME
from loligo_wire.attributes import Attributes
from loligo_wire.ids import ROOT_INO
from unit.shard_lab import BLOCK_BYTES, ShardLab

R = int(ROOT_INO)
CLIENTS = 4
NAMES = [b"a", b"b", b"c", b"d"]
STEPS = int(os.environ.get("LOLIGO_SIM_STEPS", "2500"))
FIRST_SEED = int(os.environ.get("LOLIGO_SIM_SEED", "1"))
SEEDS = range(FIRST_SEED, FIRST_SEED + 40)


@dataclass
class Asked:
    request: Request
    sequence: int
    #: Nothing is foreseen about these meanwhile.
    about: list[int] = field(default_factory=list)
    #: It was published, and what comes of it is known.
    foreseen: bool = False
    promised_ns: int = 0
    was_sent: bool = False
    #: What a promise changes: rows, until that is done, and what inodes are then.
    rows: set[tuple[int, bytes]] = field(default_factory=set)
    changed: dict[int, Attributes] = field(default_factory=dict)


def amend(promise: Asked, change: Callable[[Any], None]) -> bool:
    if promise.was_sent:
        return False
    change(promise.request)
    return True


class Kernel:
    """Believes names (directory, name) -> inode or 0, and attributes."""

    def __init__(self) -> None:
        self.names: dict[tuple[int, bytes], int] = {}
        self.attributes: dict[int, Attributes] = {}

    def forget(self, forgotten: Forgotten) -> None:
        for name in (*forgotten.names, *forgotten.directories):
            self.names.pop((forgotten.directory, name), None)
        for ino in (*forgotten.inos, *([forgotten.directory] if forgotten.listing else ())):
            self.attributes.pop(ino, None)


@dataclass
class Client:
    session: int
    leased: Leased
    promises: Promises
    newborns: Newborns
    kernel: Kernel = field(default_factory=Kernel)
    #: Opens that were answered, by inode: how many, and whether to write.
    opens: dict[int, list[int]] = field(default_factory=dict)
    #: Those of which the shard has not heard.
    leased_opens: LeasedOpens = field(default_factory=LeasedOpens)
    unanswered: dict[int, Asked] = field(default_factory=dict)
    up: deque[Event] = field(default_factory=deque)
    down: deque[Any] = field(default_factory=deque)
    #: Rows that the shard has changed for requests of ours whose answers are on the way, by id.
    changed: dict[int, set[tuple[int, bytes]]] = field(default_factory=dict)
    #: Given back by the table, and not by the kernel yet.
    forgetting: list[Forgotten] = field(default_factory=list)
    connected: bool = True
    sequence: int = 0
    reserving: bool = False

    @property
    def unkept(self) -> list[Asked]:
        return [asked for asked in self.unanswered.values() if asked.promised_ns]

    @property
    def unmade(self) -> set[int]:
        """Inodes that are promised, and of which it has not heard that they were made."""
        return {getattr(asked.request, "new_ino", 0) for asked in self.unkept} - {0}

    @property
    def acknowledged(self) -> int:
        pending = [asked.sequence for asked in self.unanswered.values() if asked.sequence]
        return min(pending) - 1 if pending else self.sequence


class World:
    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.lab = ShardLab()
        self.lab.event(SessionEnded(1))
        self.now_ns = 0
        self.last_id = 0
        self.last_session = 1
        self.clients: list[Client] = []
        for _ in range(CLIENTS):
            self.begin()
        self.ask_now(SetXattr(R, MINIMUM_AGE_NAME, b"0"))
        for name in (b"x", b"y"):
            self.ask_now(Create(R, name, S_IFDIR | 0o755, 0, 0))

    # -- the shard ------------------------------------------------------------------------------------------------------

    def step(self, event: Event) -> None:
        # Time passes unevenly, so that leases are busy, and are not.
        self.lab.now_ns += self.random.choice((0, 1, CALM_NS // 3, 2 * CALM_NS))
        todo = deque([event])
        while todo:
            event = todo.popleft()
            submitted = event if isinstance(event, Submitted) else None
            asks = self.find(submitted.session) if submitted is not None else None
            promise = asks.unanswered.get(submitted.id) if asks is not None and submitted is not None else None
            for effects in self.lab.whole_event(event):
                if promise is not None and promise.promised_ns:
                    self.check_kept(promise, effects)
                for effect in effects:
                    if isinstance(effect, AppendJournal):
                        if submitted is not None and asks is not None and asks.connected:
                            asks.changed[submitted.id] = {(table, key) for table, key, _ in effect.writes}
                    elif isinstance(effect, Retry):
                        todo.append(effect.event)
                    elif isinstance(effect, Reply | LeaseRecall) or hasattr(effect, "session"):
                        client = self.find(effect.session)
                        if client is not None and client.connected:
                            client.down.append(effect)
                            if isinstance(effect, Reply) and not effect.errno and effect.id in client.unanswered:
                                self.check_told(client, client.unanswered[effect.id].request, effect.value)

    def is_waived(self, client: Client, key: int) -> bool:
        lease = self.lab.shard.state.session_leases.get(client.session, {}).get(key)
        return lease is not None and lease.waived

    def find(self, session: int) -> Client | None:
        return next((client for client in self.clients if client.session == session), None)

    def ask_now(self, request: Request) -> None:
        client = self.random.choice(self.clients)
        self.ask(client, request)
        while client.unanswered:
            self.some_message()

    # -- clients --------------------------------------------------------------------------------------------------------

    def begin(self) -> None:
        self.last_session += 1
        leased = Leased(R, nullcontext())
        client = Client(self.last_session, leased, Promises(leased, BLOCK_BYTES), Newborns(amend))
        self.clients.append(client)
        self.step(SessionOpened(client.session, b"client %d" % client.session, takes_leases=True))

    def ask(self, client: Client, request: Any) -> None:
        """As `shell.remote_metadata` does."""
        if isinstance(request, Unlink | Rename | Link | Restore) and self.make_known(client, request):
            return
        if isinstance(request, FillIn) and client.leased_opens:  # it cannot know which of them get another name
            for ino in list(client.leased_opens._covers):
                self.ask(client, Open(ino, writes=False))
            return
        if isinstance(request, LeaseReturned) and not request.kept:
            request.open = client.leased_opens.returned(request.ino, request.attributes_of)
            for ino in request.open:
                client.opens.setdefault(ino, [0, 0])[0] += 1
        if isinstance(request, ReadDirectory) and client.connected:
            page = client.promises.listing(request)
            if page is not None:
                self.check_listing(client, request, page)
                self.told(client, request, page)
                return
        asked = Asked(request, 0)
        if client.connected and type(request) in PROMISED and self.promise(client, asked):
            return
        if isinstance(request, Publish):
            known = client.promises.published(request)
            client.kernel.attributes.pop(request.ino, None)  # it has written, and asks for them again
            if known is not None:
                asked.foreseen = True
                client.leased.learn(known)
                if request.inline is not None and self.become(client, known, request.inline):
                    return
                client.newborns.asked((request.ino,))
        if not asked.foreseen:
            asked.about = client.promises.asking(request)
            client.newborns.asked((getattr(request, "ino", 0), *asked.about))
        self.number(client, asked)
        self.send(client, asked)

    def promise(self, client: Client, asked: Asked) -> bool:
        """Whether the caller is answered now."""
        if client.leased.has_delegations and client.promises.needs_inodes and not client.reserving:
            client.reserving = True
            self.ask(client, ReserveInodes(4))
        request: Any = asked.request
        now_ns = self.lab.now_ns + 1
        try:
            foreseen = client.promises.foresee(request, now_ns)
        except Unforeseeable:
            return False
        except OSError:
            return True
        client.forgetting += foreseen.given_back
        if isinstance(request, SetAttributes | RecordAccess) and self.become(client, foreseen.answer):
            self.told(client, request, foreseen.answer)
            return True
        client.newborns.promised(request, foreseen.changed, asked)
        asked.promised_ns = now_ns
        asked.changed = dict(client.promises._foresight.changed)
        names = [(getattr(request, "parent", 0), getattr(request, "name", b""))]
        names.append((getattr(request, "new_parent", 0), getattr(request, "new_name", b"")))
        asked.rows = {(int(Table.DENTRY), entry_key(*place)) for place in names if place[1]}
        asked.rows |= {(int(Table.INODE), ino_key(ino)) for ino in asked.changed}
        self.number(client, asked)
        self.send(client, asked)
        for ino in foreseen.moved:
            client.kernel.attributes.pop(ino, None)
        self.told(client, request, foreseen.answer)
        return True

    def become(self, client: Client, attributes: Attributes, inline: bytes | None = None) -> bool:
        if not client.newborns.becomes(attributes.ino, attributes, inline):
            return False
        promise = next(asked for asked in client.unkept if getattr(asked.request, "new_ino", 0) == attributes.ino)
        promise.changed[attributes.ino] = attributes
        return True

    def number(self, client: Client, asked: Asked) -> None:
        if type(asked.request) in CHANGING:
            client.sequence += 1
            asked.sequence = client.sequence

    def send(self, client: Client, asked: Asked) -> None:
        self.last_id += 1
        client.unanswered[self.last_id] = asked
        event = Submitted(
            client.session,
            asked.sequence,
            asked.request,
            client.acknowledged,
            self.last_id,
            promised_ns=asked.promised_ns,
        )
        if isinstance(asked.request, LeaseReturned) and not asked.request.was_exclusive and self.random.random() < 0.5:
            client.up.appendleft(event)  # it overtakes
        else:
            client.up.append(event)

    def some_message(self) -> bool:
        """Something arrives, or a kernel has forgotten. Whether there was anything."""
        ways = [(client, "up") for client in self.clients if client.up]
        ways += [(client, "down") for client in self.clients if client.down]
        ways += [(client, "kernel") for client in self.clients if client.forgetting]
        if not ways:
            return False
        client, way = self.random.choice(ways)
        if way == "up":
            event = client.up.popleft()
            if isinstance(event, Submitted):
                client.unanswered[event.id].was_sent = True
            self.step(event)
        elif way == "down":
            self.hear(client, client.down.popleft())
        else:
            forgotten = client.forgetting.pop(self.random.randrange(len(client.forgetting)))
            client.kernel.forget(forgotten)
            if client.connected and forgotten.answer is not None:
                self.ask(client, forgotten.answer)
        return True

    def hear(self, client: Client, effect: Any) -> None:
        if isinstance(effect, LeaseRecall):
            if effect.share:
                self.share(client, effect.ino)
                return
            forgotten = client.leased.recalled(LeaseReturned(effect.ino, effect.attributes_of))
            if forgotten is not None:
                client.forgetting.append(forgotten)
        elif isinstance(effect, Recall) and effect.ino in client.opens:
            self.ask(client, Yielded(effect.ino))
        elif isinstance(effect, Report):
            self.ask(client, Reported(effect.ino))
        elif isinstance(effect, Reply):
            asked = client.unanswered.pop(effect.id)
            client.changed.pop(effect.id, None)
            client.promises.heard(asked.about)
            if asked.promised_ns:
                assert not effect.errno, f"{client.session} had promised {asked.request}"
            elif asked.foreseen:
                if effect.errno:
                    client.leased.doubt(asked.request.ino)  # type: ignore[union-attr]
            elif isinstance(asked.request, ReserveInodes):
                client.reserving = False
                client.promises.reserved(effect.value)
            elif not effect.errno:
                self.answered(client, asked.request, effect)
            elif effect.errno == ESTALE:
                kinds = Create | Unlink | RemoveDirectory | RemoveTree | Rename | Link | Restore
                assert isinstance(asked.request, kinds)

    def answered(self, client: Client, request: Any, reply: Reply) -> None:
        covered = Covered(
            list(reply.directories),
            list(reply.leases),
            reply.unsure,
            list(reply.forgets),
            reply.repeated,
            reply.delegations,
        )
        for ino in covered.forgets:
            client.kernel.attributes.pop(ino, None)
        if isinstance(request, FillIn):
            for ino in covered.forgets:
                client.leased.doubt(ino)
            return
        client.forgetting += client.leased.heard(request, reply.value, covered)
        self.told(client, request, reply.value)

    def told(self, client: Client, request: Any, value: Any) -> None:
        kernel, leased = client.kernel, client.leased
        if isinstance(request, Open):
            client.leased_opens.over(request.ino)
            held = client.opens.setdefault(request.ino, [0, 0])
            held[0] += 1
            held[1] |= request.writes
        elif isinstance(request, (Lookup, Create)):
            self.tell_name(client, request.parent, request.name, value)
        elif isinstance(request, Link | Restore):
            self.tell_name(client, request.new_parent, request.new_name, value)
        elif isinstance(request, GetAttributes | SetAttributes):
            self.tell(client, value)
        elif isinstance(request, Publish | SetXattr):
            kernel.attributes.pop(request.ino, None)  # it asks for them again
        elif isinstance(request, ReadDirectory):
            for name, _, _, _, attributes in value:
                if attributes is not None and self.random.random() < 0.5:
                    leased.told(request.ino, name)
                    self.tell_name(client, request.ino, name, attributes)
        elif isinstance(request, RemoveTree):  # renamed, with what it believes of names in it
            kernel.names.pop((request.parent, request.name), None)
            kernel.attributes.pop(value.ino, None)
        elif isinstance(request, Unlink | RemoveDirectory):
            # The kernel knows what it has removed, and believes nothing of it but that.
            kernel.names.pop((request.parent, request.name), None)
            self.left(client, value)
        elif isinstance(request, Rename):
            moved = kernel.names.pop((request.parent, request.name), None)
            replaced = kernel.names.pop((request.new_parent, request.new_name), None)
            if moved:
                kernel.names[request.new_parent, request.new_name] = moved
            if replaced and request.flags & 2:
                kernel.names[request.parent, request.name] = replaced
            self.left(client, value)
        if isinstance(request, Unlink | RemoveDirectory | RemoveTree | Rename | Create | Link | Restore):
            for ino in (getattr(request, name, 0) for name in ("parent", "new_parent")):
                kernel.attributes.pop(ino, None)  # the kernel asks for them again

    def share(self, client: Client, key: int) -> None:
        if client.leased.shared(key):
            self.ask(client, LeaseReturned(key, kept=True, was_exclusive=True))

    def left(self, client: Client, victim: Attributes | None) -> None:
        """A name of the victim has gone by the kernel's own doing."""
        kernel = client.kernel
        if victim is not None:
            kernel.attributes.pop(victim.ino, None)
            if not victim.nlink:  # a directory takes with it what is known of names in it
                kernel.names = {place: ino for place, ino in kernel.names.items() if place[0] != victim.ino}

    def tell_name(self, client: Client, parent: int, name: bytes, found: Attributes | None) -> None:
        client.kernel.names.pop((parent, name), None)
        if client.leased.believes_name(parent, name):
            client.kernel.names[parent, name] = 0 if found is None else found.ino
        if found is not None:
            self.tell(client, found)

    def tell(self, client: Client, found: Attributes) -> None:
        client.kernel.attributes.pop(found.ino, None)
        if client.leased.believes(found):
            client.kernel.attributes[found.ino] = found

    # -- what happens -----------------------------------------------------------------------------------------------------

    def directories(self) -> list[int]:
        state = self.lab.shard.state
        return [ino for ino in range(1, state.next_counter) if (found := state.find_inode(ino)) and found.is_directory]

    def files(self) -> list[int]:
        state = self.lab.shard.state
        return [ino for ino in range(1, state.next_counter) if (found := state.find_inode(ino)) and found.is_file]

    def some_request(self, client: Client) -> Request | None:
        choose = self.random
        directories = self.directories()
        if choose.random() < 0.75:  # most of the time each works on its own
            own = [ino for ino in directories if ino % len(self.clients) == client.session % len(self.clients)]
            directories = client.leased.delegations() or own or directories
        parent, other = choose.choice(directories), choose.choice(directories)
        name, new_name = choose.choice(NAMES), choose.choice(NAMES)
        file = choose.choice(self.files() or [R])
        inode = choose.choice([file, file, parent])
        if choose.random() < 0.15:
            return self.some_tree() if choose.random() < 0.3 else self.some_restoration(parent, name)
        return choose.choice(
            [
                Lookup(parent, name),
                Lookup(parent, name),
                Lookup(parent, name),
                GetAttributes(inode),
                ReadDirectory(parent, 0, choose.choice((2, 100)), with_attributes=choose.random() < 0.7),
                Create(parent, name, choose.choice((S_IFREG | 0o644, S_IFREG | 0o644, S_IFDIR | 0o755)), 0, 0),
                Create(parent, name, S_IFREG | 0o644, 0, 0),
                Unlink(parent, name),
                RemoveDirectory(parent, name),
                Rename(parent, name, other, new_name, choose.choice((0, 0, 2))),
                Link(file, parent, name),
                SetAttributes(inode, mode=choose.randrange(0o1000)),
                SetXattr(inode, b"user.x", b"%d" % choose.randrange(9)),
                Open(file, writes=choose.random() < 0.5) if file != R else None,
            ]
        )

    def some_tree(self) -> Request | None:
        ino = self.random.choice(self.directories())
        directory = self.lab.shard.state.inode(ino)
        return RemoveTree(directory.parent, directory.name) if ino != R and directory.size else None

    def some_restoration(self, parent: int, name: bytes) -> Request | None:
        rows = list(self.lab.tables.scan(Table.TRASH, b""))
        if not rows:
            return None
        key, row = self.random.choice(rows)
        batch, buried = int.from_bytes(key[:8]), Buried(key[8:], row)
        if buried.kind == S_IFDIR and self.random.random() < 0.5:
            return FillIn(batch, buried.ino)
        if self.random.random() < 0.1:
            return PurgeBatch(batch)
        directory, removed, ino = buried.directory, buried.name, buried.ino
        while self.random.random() < 0.5:  # or something in it
            inside = list(self.lab.shard.state.scan_prefix(Table.DENTRY, ino_key(ino)))
            if not inside:
                break
            key, value = self.random.choice(inside)
            directory, removed, ino = ino, key[16:], decode_entry(value)[0]
        return Restore(batch, directory, removed, parent, name)

    def deed(self) -> None:
        choose = self.random
        client = choose.choice(self.clients)
        chance = choose.random()
        if chance < 0.62:
            self.some_message()
        elif chance < 0.89:
            if client.connected and len(client.unanswered) - len(client.unkept) < 3 and len(client.unkept) < 8:
                request = self.look(client) if choose.random() < 0.3 else self.some_request(client)
                if request is not None:
                    self.ask(client, request)
        elif chance < 0.91:
            self.work_on_open_file(client)
        elif chance < 0.94:
            self.read_under_lease(client)
        elif chance < 0.96:
            if client.connected and not len(client.unanswered) > 8:
                self.work_alone(client)
        elif chance < 0.97:
            if client.connected and choose.random() < 0.5:
                self.lose_connection(client)
            elif not client.connected:
                self.reconnect(client)
        elif chance < 0.98:
            if not client.connected:
                self.step(LeasesLapsed(client.session))
        elif chance < 0.983:
            for key in client.leased.idle_delegations() if client.connected else ():
                self.share(client, key)
        elif chance < 0.986:
            self.clients.remove(client)
            self.step(SessionEnded(client.session))
            self.begin()
        elif chance < 0.988:
            self.restart()
        elif chance < 0.993:
            self.step(Submitted(0, 0, Purge(choose.choice((1, 5, 100)))))

    def look(self, client: Client) -> Request | None:
        """In the client's own memory first, as a lookup of its kernel does."""
        parent, name = self.random.choice(self.directories()), self.random.choice(NAMES)
        is_known, found = client.leased.find(parent, name)
        if is_known:
            self.tell_name(client, parent, name, found)
            return None
        return Lookup(parent, name)

    def work_alone(self, client: Client) -> None:
        """Some changes, one after the other, in what is leased by the client alone."""
        choose = self.random
        if not client.leased.delegations() or client.promises.needs_inodes:
            self.ask(client, Create(choose.choice(self.directories()), choose.choice(NAMES), S_IFDIR | 0o755, 0, 0))
            while client.unanswered and self.some_message():
                pass
        for _ in range(choose.randrange(1, 8)):
            directories = client.leased.delegations()
            if not directories:
                return
            parent, other = choose.choice(directories), choose.choice(directories)
            name, new_name = choose.choice(NAMES), choose.choice(NAMES)
            ino = client.leased.name(parent, choose.choice(NAMES)) or parent
            request: Any = choose.choice(
                [
                    Create(parent, name, S_IFREG | 0o644, 0, 0),
                    Create(parent, name, S_IFREG | 0o644, 0, 0),
                    Create(parent, name, S_IFDIR | 0o755, 0, 0),
                    Unlink(parent, name),
                    RemoveDirectory(parent, name),
                    Rename(parent, name, other, new_name, choose.choice((0, 0, 1, 2))),
                    Link(ino, other, new_name),
                    SetAttributes(ino, mode=choose.randrange(0o1000)),
                    RecordAccess(ino, self.lab.now_ns),
                ]
            )
            self.ask(client, request)
            if request.__class__ is Create:
                self.raise_newborn(client, client.leased.name(parent, name) or 0)

    def raise_newborn(self, client: Client, ino: int) -> None:
        """Something becomes of what the client has just made."""
        choose = self.random
        while choose.random() < 0.7 and ino in client.newborns:
            text = b"x" * choose.randrange(1, 9)
            changes: list[Any] = [SetAttributes(ino, mode=choose.randrange(0o1000)), RecordAccess(ino, self.lab.now_ns)]
            found = client.leased.attributes(ino)
            if found is not None and found.is_file:
                changes += [Publish(ino, len(text), self.lab.now_ns, text), SetAttributes(ino, mtime_ns=5, uid=7)]
            self.ask(client, choose.choice(changes))

    def read_under_lease(self, client: Client) -> None:
        """Opens a file without asking, or closes one."""
        open_ones = list(client.leased_opens._covers)
        if open_ones and self.random.random() < 0.3:
            client.leased_opens.over(self.random.choice(open_ones))
        if client.connected and not client.unanswered:
            self.ask(client, ReadDirectory(self.random.choice(self.directories()), 0, 100, with_attributes=True))
        for ino in list(client.leased._known) if client.connected else ():
            known = client.promises.known(ino)
            if known is not None and known.nlink and ino not in client.leased_opens and ino not in client.opens:
                client.leased_opens.open(known)

    def make_known(self, client: Client, request: Any) -> bool:
        """Before names of files change that are open under leases. Whether there are any: then they are opened first."""
        places = [(getattr(request, "parent", 0), getattr(request, "name", b""))]
        places.append((getattr(request, "new_parent", 0), getattr(request, "new_name", b"")))
        inos = {client.leased.name(*place) for place in places} | {getattr(request, "ino", 0)}
        if isinstance(request, Restore):
            found = look_in_trash(
                self.lab.shard.state, LookInTrash(request.batch, request.directory, request.name), self.lab.now_ns
            )
            inos.add(found.ino if found is not None else 0)
        if client.leased_opens and None in inos:
            return True  # it would look first
        about = [ino for ino in inos if ino and ino in client.leased_opens]
        for ino in about:
            self.ask(client, Open(ino, writes=False))
        return bool(about)

    def work_on_open_file(self, client: Client) -> None:
        """Who has a file open for writing, alone, changes it as it pleases; then it closes it."""
        if not client.opens or not client.connected or client.unanswered:
            return
        ino, (count, writes) = self.random.choice(list(client.opens.items()))
        file = self.lab.shard.state.files.get(ino)
        if writes and file is not None and not file.contended and self.random.random() < 0.6:
            self.ask(client, Publish(ino, self.random.randrange(1, 100), self.lab.now_ns))
        else:
            del client.opens[ino]
            self.ask(client, Close(ino, count))

    def lose_connection(self, client: Client) -> None:
        """It believes nothing any more, before it comes back."""
        client.connected = False
        client.up.clear()
        client.down.clear()
        client.changed.clear()
        under_way, client.forgetting = client.forgetting, []
        for late in under_way:
            if late.answer is not None and late.answer.was_exclusive:
                late.answer.open = client.leased_opens.returned(late.answer.ino, 0)
                for ino in late.answer.open:
                    client.opens.setdefault(ino, [0, 0])[0] += 1
                self.last_id += 1
                client.unanswered[self.last_id] = Asked(late.answer, 0)
        for forgotten in (*under_way, *client.leased.lost()):
            client.kernel.forget(forgotten)
        for ino in client.leased_opens.lost(client.leased.delegations()):
            client.opens.setdefault(ino, [0, 0])[0] += 1
        assert not client.kernel.names, "it believed in names that no lease covered"
        assert not client.kernel.attributes, "it believed in attributes that no lease covered"

    def reconnect(self, client: Client) -> None:
        client.connected = True
        unmade = client.unmade
        found = self.lab.shard.state.find_inode
        client.opens = {ino: open_ for ino, open_ in client.opens.items() if ino in unmade or found(ino)}
        again = []
        delegations = []
        last: LeaseReturned | None = None
        for asked in client.unanswered.values():
            if getattr(asked.request, "was_exclusive", False):
                reads = [ino for ino in asked.request.open if ino in unmade]  # type: ignore[union-attr]
                last = LeaseReturned(asked.request.ino, was_exclusive=True, again=True, open=reads)  # type: ignore[union-attr]
                asked.request = last
                delegations.append(asked.request.ino)
                client.leased.give_back(asked.request.ino)
            elif type(asked.request) in STATED_BY_HOLDS:
                client.promises.heard(asked.about)
                continue
            again.append(asked)
        client.unanswered.clear()
        kept = client.leased.delegations()
        delegations += kept
        for ino in client.leased_opens.lost(kept):
            client.opens.setdefault(ino, [0, 0])[0] += 1
            if ino in unmade:
                assert last is not None
                last.open = [*last.open, ino]
        holds = [Hold(ino, count, bool(writes)) for ino, (count, writes) in client.opens.items() if ino not in unmade]
        # An Open that was answered by the shard and not heard of is not stated, so it is over.
        event = SessionRestated(client.session, holds, acknowledged=client.acknowledged, delegations=delegations)
        self.step(event)
        for asked in again:
            self.send(client, asked)

    def restart(self) -> None:
        for client in self.clients:
            if client.connected:
                self.lose_connection(client)
        self.lab.restarted()
        sessions = tuple(client.session for client in self.clients)
        self.step(ShardRestarted(sessions, lease_takers=sessions))

    # -- checks -----------------------------------------------------------------------------------------------------------

    def check_kept(self, promise: Asked, effects: list[Any]) -> None:
        """The shard has done what was promised, no more and no less."""
        state = self.lab.shard.state
        promise.rows = set()  # it is known from now on
        if any(isinstance(effect, Reply) and effect.repeated for effect in effects):
            return
        assert any(isinstance(effect, Reply) and not effect.errno for effect in effects), (
            f"{promise.request} has to wait"
        )
        for ino, changed in promise.changed.items():
            found = state.find_inode(ino)
            if found is None:
                assert not changed.nlink, f"{promise.request}: inode {ino} is gone"
            else:
                assert as_told(found) == as_told(changed), f"{promise.request}: inode {ino}"

    def check_listing(self, client: Client, request: ReadDirectory, page: list[Any]) -> None:
        """What a client lists by itself is what the shard would."""
        state = self.lab.shard.state
        if client.unanswered or self.is_waived(client, request.ino):
            return  # it knows better, or worse
        listed = [(name, cookie, ino, kind) for name, cookie, ino, kind, _ in page]
        expected = [entry[:4] for entry in namespace.read_directory(state, request, 0)]
        assert listed == expected, f"{client.session} lists {request.ino}"
        for entry in page:
            known = entry[4] and state.inode(entry[2])
            if known and not (entry[3] == S_IFDIR and self.is_waived(client, entry[2])):
                assert as_told(entry[4]) == as_told(known), f"{client.session} lists {entry[0]!r}"

    def check_told(self, client: Client, request: Any, value: Any) -> None:
        """Nobody is told what another has promised to be otherwise."""
        state = self.lab.shard.state
        about: set[tuple[int, bytes]] = set()
        if isinstance(request, Lookup):
            about.add((int(Table.DENTRY), entry_key(request.parent, request.name)))
        if isinstance(request, Lookup | GetAttributes) and value is not None:
            about.add((int(Table.INODE), ino_key(value.ino)))
        if isinstance(request, ReadDirectory):
            about |= {(int(Table.DENTRY), entry_key(request.ino, name)) for name in NAMES}
            about |= {(int(Table.INODE), ino_key(entry[2])) for entry in value if entry[4] is not None}
        for other in self.clients:
            for promise in other.unkept if other is not client else ():
                assert not about & promise.rows, f"{client.session} is told of {request} before {promise.request}"
        for key, owner in state.delegations.items():
            others = [lease for session, lease in state.leases[key].items() if session != owner]
            assert all(lease.recalled for lease in others), "what is left of a second name goes"

    def check(self) -> None:
        state = self.lab.shard.state
        promised = {client.session: set().union(*(asked.rows for asked in client.unkept)) for client in self.clients}
        for client in self.clients:
            mine = set().union(*client.changed.values()) | promised[client.session]
            others = set().union(*(rows for session, rows in promised.items() if session != client.session))
            for key in client.leased.delegations():
                new = any(key in asked.changed for asked in client.unkept)
                lease = state.leases.get(key, {}).get(client.session)
                is_here = state.delegations.get(key) == client.session or (lease is not None and lease.waived)
                assert new or is_here or self.is_in_doubt(client, key) or self.is_gone(key), (
                    f"{client.session} thinks that {key} is its own"
                )
            rows = {(int(Table.DENTRY), entry_key(*place)) for place in client.kernel.names}
            rows |= {(int(Table.INODE), ino_key(ino)) for ino in client.kernel.attributes}
            assert not rows & others - mine, f"{client.session} believes what another has promised to be otherwise"
            late = {key for key, lease in state.session_leases.get(client.session, {}).items() if lease.waived}
            late |= {forgotten.directory for forgotten in client.forgetting if forgotten.answer is None}
            for (parent, name), ino in client.kernel.names.items():
                if (Table.DENTRY, entry_key(parent, name)) in mine or parent in late:
                    continue
                found = namespace.lookup(state, Lookup(parent, name), 0) if state.find_inode(parent) else None
                assert (found.ino if found is not None else 0) == ino, f"{client.session} believes in {parent}/{name!r}"
            for ino, believed in client.kernel.attributes.items():
                if (Table.INODE, ino_key(ino)) in mine or cover_of(believed) in late:
                    continue
                known = state.find_inode(ino)
                if known is None and not believed.nlink:
                    continue  # no name leads there, and nobody has it open
                assert known is not None, f"{client.session} believes in inode {ino}"
                assert as_told(known) == as_told(believed), f"{client.session} believes other attributes of {ino}"
            for ino in client.opens.keys() - client.unmade if client.connected else ():
                assert state.find_inode(ino) is not None, f"{client.session} has inode {ino} open, which is gone"
            for ino, cover in client.leased_opens._covers.items():
                if any(ino in asked.changed for asked in client.unkept):
                    continue
                known, file = state.find_inode(ino), state.files.get(ino)
                assert known is not None, f"{client.session} reads inode {ino}, which is gone"
                if cover in late:
                    continue
                assert known.nlink, f"{client.session} believes in inode {ino}, which has no name"
                writers = [one for one, opener in file.openers.items() if opener.writes] if file is not None else []
                assert set(writers) <= {client.session}, f"{client.session} reads inode {ino}, and others write"
            held = set(client.leased._held)
            granted = set(state.session_leases.get(client.session, ()))
            granted |= set().union(*(asked.changed.keys() for asked in client.unkept))
            granted |= {ino for ino in held if (Table.INODE, ino_key(ino)) in mine}  # it loses its last name, say
            granted |= {effect.ino for effect in client.down if isinstance(effect, LeaseRecall)}  # it will hear of that
            granted |= {key for key in held if self.is_in_doubt(client, key)}
            made_up = [ino for ino in held - granted if not self.is_gone(ino)]
            assert not made_up, f"{client.session} has {made_up}, which nobody granted"

    def is_in_doubt(self, client: Client, key: int) -> bool:
        """Whether it promises nothing there, and is told, when it comes back, if that is not its own any more."""
        told = [effect.ino for effect in client.down if isinstance(effect, LeaseRecall)]
        return key in client.promises._asked and (key in told or not client.connected)

    def is_gone(self, ino: int) -> bool:
        """There is nothing to believe of it."""
        found = self.lab.shard.state.find_inode(ino)
        return found is None or not found.nlink or (found.is_directory and found.trashed > 0)

    def finish(self) -> None:
        for client in self.clients:
            if not client.connected:
                self.reconnect(client)
        while self.some_message():
            self.check()
        state = self.lab.shard.state
        assert not state.parked, "somebody waits for ever"
        assert not any(client.unanswered for client in self.clients)
        for session, mine in state.session_leases.items():
            owed = [key for key, lease in mine.items() if lease.recalled or lease.sharing or lease.asked]
            assert not owed, f"{session} does not answer for {owed}, and will be waited for"


def as_told(attributes: Attributes) -> tuple[Any, ...]:
    if attributes.is_directory and (attributes.trashed or not attributes.nlink):
        return ()  # it is dead, here or there
    return (
        attributes.mode,
        attributes.uid,
        attributes.nlink,
        attributes.size,
        attributes.mtime_ns,
        attributes.ctime_ns,
        attributes.parent if attributes.is_directory else 0,
    )


@pytest.mark.parametrize("seed", SEEDS)
def test_nobody_believes_what_is_not_so(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "CROWD", 2)
    if seed % 3 == 0:  # so few that they are given back for want of room
        monkeypatch.setattr(leased_module, "NAMES_MAX", 4)
        monkeypatch.setattr(leased_module, "LEASES_KEPT", 3)
    if seed % 4 == 0:
        monkeypatch.setattr(leases, "EXCEPTED_MAX", 1)
    world = World(seed)
    for _ in range(STEPS):
        world.deed()
        world.check()
    world.finish()
