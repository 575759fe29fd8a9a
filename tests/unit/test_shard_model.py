"""Random requests of two sessions agree with a tree of dicts, in answers and in errnos; `ShardLab` checks the tables after
every step, and that a refusal leaves no trace. At the end the journal alone makes the same tables.
"""

from errno import EEXIST, EINVAL, EISDIR, ENODATA, ENOENT, ENOTDIR, ENOTEMPTY, EPERM
from random import Random
from stat import S_IFDIR, S_IFLNK, S_IFMT, S_IFREG
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loligo_mds.core import entries
from loligo_mds.core.events import Hold, SessionEnded, SessionOpened, SessionRestated, ShardRestarted
from loligo_mds.core.namespace import RENAME_EXCHANGE, RENAME_NOREPLACE
from loligo_mds.core.open_file import check_may_reshape
from loligo_mds.core.requests import (
    Close,
    Create,
    CreateUnnamed,
    GetAttributes,
    GetUsage,
    GetXattr,
    Link,
    ListUnsettled,
    ListXattrs,
    Lookup,
    Open,
    Publish,
    ReadDirectory,
    ReadInline,
    ReadLink,
    RemoveDirectory,
    RemoveXattr,
    Rename,
    Request,
    SetAttributes,
    Settle,
    SetXattr,
    Unlink,
    Unsettle,
)
from loligo_mds.core.state import Refused
from loligo_wire import acl
from loligo_wire.attributes import FLAG_INLINE
from loligo_wire.ids import ROOT_INO
from unit.shard_lab import ShardLab, replayed, rows

NAMES = [b"a", b"b", b"c", b"dd", b"ee"]
SESSIONS = (1, 2)
XATTRS = [b"user.a", b"user.b", b"trusted.c"]
DEFAULT_ACL = acl.encode(
    [(acl.USER_OBJ, 7, 0), (acl.USER, 5, 9), (acl.GROUP_OBJ, 5, 0), (acl.MASK, 7, 0), (acl.OTHER, 0, 0)]
)


class No(Exception):
    """The model refuses."""

    def __init__(self, errno: int) -> None:
        self.errno = errno


class Node:
    def __init__(self, ino: int, kind: int, target: bytes = b"") -> None:
        self.ino = ino
        self.kind = kind
        self.target = target
        self.nlink = 2 if kind == S_IFDIR else 1
        #: Rows of the trash that name it.
        self.trashed = 0
        self.size = len(target)
        self.inline: bytes | None = None
        self.xattrs: dict[bytes, bytes] = {}
        self.entries: dict[bytes, Node] = {}
        self.parent: Node | None = None
        #: session -> opens
        self.held: dict[int, int] = {}


class Model:
    """POSIX, in dicts."""

    def __init__(self) -> None:
        self.root = Node(int(ROOT_INO), S_IFDIR)
        self.nodes = {self.root.ino: self.root}

    def node(self, ino: int) -> Node:
        if ino not in self.nodes:
            raise No(ENOENT)
        return self.nodes[ino]

    def directory(self, ino: int) -> Node:
        node = self.node(ino)
        if node.kind != S_IFDIR:
            raise No(ENOTDIR)
        return node

    def entry(self, directory: Node, name: bytes) -> Node:
        if name not in directory.entries:
            raise No(ENOENT)
        return directory.entries[name]

    def free(self, directory: Node, name: bytes) -> None:
        if name in directory.entries:
            raise No(EEXIST)

    def put(self, directory: Node, name: bytes, node: Node) -> None:
        directory.entries[name] = node
        if node.kind == S_IFDIR:
            node.parent = directory
            directory.nlink += 1

    def take(self, directory: Node, name: bytes) -> Node:
        node = directory.entries.pop(name)
        if node.kind == S_IFDIR:
            directory.nlink -= 1
        return node

    def unlinked(self, node: Node) -> None:
        node.nlink = 0 if node.kind == S_IFDIR else node.nlink - 1
        self.collect(node)

    def collect(self, node: Node) -> None:
        if not node.nlink and not node.trashed and not node.held:
            del self.nodes[node.ino]

    def above(self, node: Node, directory: Node | None) -> bool:
        """Whether `directory` is `node` or below it."""
        while directory is not None:
            if directory is node:
                return True
            directory = directory.parent
        return False


class Machine:
    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.lab = ShardLab()
        self.lab.event(SessionOpened(2))
        self.model = Model()

    # -- choosing -----------------------------------------------------------------------------------------------------

    def some_ino(self) -> int:
        """Any inode, now and then one that is gone or never was."""
        if self.random.random() < 0.05:
            return self.random.choice([999, max(self.model.nodes) + 1])
        return self.random.choice(list(self.model.nodes))

    def some_directory(self) -> int:
        if self.random.random() < 0.1:
            return self.some_ino()
        return self.random.choice([ino for ino, node in self.model.nodes.items() if node.kind == S_IFDIR])

    def some_file(self) -> int:
        files = [ino for ino, node in self.model.nodes.items() if node.kind == S_IFREG]
        return self.random.choice(files) if files and self.random.random() > 0.05 else self.some_ino()

    def name(self) -> bytes:
        return self.random.choice(NAMES)

    # -- one step -----------------------------------------------------------------------------------------------------

    def step(self) -> None:
        random = self.random
        session = random.choice(SESSIONS)
        steps: list[Any] = [self.create] * 6 + [self.rename] * 6
        steps += [self.unlink, self.rmdir, self.link, self.unnamed, self.open, self.close, self.publish] * 2
        steps += [self.unsettle, self.settle, self.resize, self.set_xattr, self.remove_xattr, self.look, self.set_acl]
        if random.random() < 0.02:
            self.restart()
        elif random.random() < 0.02:
            self.end_session(session)
        else:
            random.choice(steps)(session)

    def agree(self, session: int, request: Request, expected: Any) -> Any:
        """The shard refuses what the model refuses, for the same reason. -> (reply's value, whether it was granted)"""
        errno = 0
        value = None
        try:
            value = expected()
        except No as no:
            errno = no.errno
        reply = self.lab.patient_reply(request, session)
        assert reply.errno == errno, f"{request}: {reply.errno}, expected {errno}"
        return reply.value, value, errno == 0

    def create(self, session: int) -> None:
        kind = self.random.choice([S_IFREG, S_IFREG, S_IFDIR, S_IFLNK])
        hold = kind == S_IFREG and self.random.random() < 0.3
        parent, name = self.some_directory(), self.name()
        target = b"target" if kind == S_IFLNK else b""

        def expected() -> Node:
            directory = self.model.directory(parent)
            self.model.free(directory, name)
            return directory

        request = Create(parent, name, kind | 0o755, 1, 2, target=target, hold=hold)
        made, directory, granted = self.agree(session, request, expected)
        if granted:
            assert made.ino not in self.model.nodes
            node = self.model.nodes[made.ino] = Node(made.ino, kind, target)
            self.model.put(directory, name, node)
            if hold:
                node.held[session] = 1
            self.same(node)

    def unnamed(self, session: int) -> None:
        parent = self.some_directory()
        request = CreateUnnamed(parent, S_IFREG | 0o600, 1, 2)
        made, _, granted = self.agree(session, request, lambda: self.model.directory(parent))
        if granted:
            node = self.model.nodes[made.ino] = Node(made.ino, S_IFREG)
            node.nlink = 0
            node.held[session] = 1

    def link(self, session: int) -> None:
        ino, parent, name = self.some_ino(), self.some_directory(), self.name()

        def expected() -> tuple[Node, Node]:
            node, directory = self.model.node(ino), self.model.directory(parent)
            if node.kind == S_IFDIR:
                raise No(EPERM)
            self.model.free(directory, name)
            return node, directory

        _, value, granted = self.agree(session, Link(ino, parent, name), expected)
        if granted:
            node, directory = value
            node.nlink += 1
            self.model.put(directory, name, node)
            self.same(node)

    def unlink(self, session: int) -> None:
        parent, name = self.some_directory(), self.name()

        def expected() -> Node:
            directory = self.model.directory(parent)
            if self.model.entry(directory, name).kind == S_IFDIR:
                raise No(EISDIR)
            node = self.model.take(directory, name)
            self.model.unlinked(node)
            return node

        answer, node, granted = self.agree(session, Unlink(parent, name), expected)
        if granted:
            assert (answer.ino, answer.nlink) == (node.ino, node.nlink)

    def rmdir(self, session: int) -> None:
        parent, name = self.some_directory(), self.name()

        def expected() -> Node:
            directory = self.model.directory(parent)
            node = self.model.entry(directory, name)
            if node.kind != S_IFDIR:
                raise No(ENOTDIR)
            if node.entries:
                raise No(ENOTEMPTY)
            self.model.unlinked(self.model.take(directory, name))
            return node

        answer, node, granted = self.agree(session, RemoveDirectory(parent, name), expected)
        if granted:
            assert (answer.ino, answer.nlink) == (node.ino, 0)

    def rename(self, session: int) -> None:
        parent, name, new_parent, new_name = self.some_directory(), self.name(), self.some_directory(), self.name()
        flags = self.random.choice([0, 0, 0, RENAME_NOREPLACE, RENAME_EXCHANGE, 3])
        model = self.model

        def expected() -> Node | None:
            if flags == 3:
                raise No(EINVAL)
            source, destination = model.directory(parent), model.directory(new_parent)
            moved = model.entry(source, name)
            replaced = destination.entries.get(new_name)
            if flags == RENAME_EXCHANGE:
                if replaced is None:
                    raise No(ENOENT)
                if model.above(moved, destination) or model.above(replaced, source):
                    raise No(EINVAL)
                model.take(source, name)
                if replaced is not moved or source is not destination or name != new_name:
                    model.take(destination, new_name)
                    model.put(source, name, replaced)
                model.put(destination, new_name, moved)
                return None
            if replaced is not None:
                if flags == RENAME_NOREPLACE:
                    raise No(EEXIST)
                if replaced is moved:
                    return None
                if moved.kind == S_IFDIR and replaced.kind != S_IFDIR:
                    raise No(ENOTDIR)
                if moved.kind != S_IFDIR and replaced.kind == S_IFDIR:
                    raise No(EISDIR)
                if replaced.entries:
                    raise No(ENOTEMPTY)
            if moved.kind == S_IFDIR and model.above(moved, destination):
                raise No(EINVAL)
            if replaced is not None:
                model.take(destination, new_name)
            model.put(destination, new_name, model.take(source, name))
            if replaced is not None:
                model.unlinked(replaced)
            return replaced

        answer, replaced, granted = self.agree(session, Rename(parent, name, new_parent, new_name, flags), expected)
        if granted:
            assert (answer is None) == (replaced is None)
            assert answer is None or (answer.ino, answer.nlink) == (replaced.ino, replaced.nlink)

    def open(self, session: int) -> None:
        ino = self.some_ino()

        def expected() -> None:
            node = self.model.node(ino)
            if node.kind == S_IFDIR:
                raise No(EISDIR)
            node.held[session] = node.held.get(session, 0) + 1

        self.agree(session, Open(ino), expected)

    def close(self, session: int) -> None:
        held = [ino for ino, node in self.model.nodes.items() if session in node.held]
        ino = self.random.choice(held) if held and self.random.random() < 0.9 else self.some_ino()

        def expected() -> None:
            node = self.model.node(ino)
            if session not in node.held:
                raise No(ENOENT)
            self.let_go(node, session)

        self.agree(session, Close(ino), expected)

    def let_go(self, node: Node, session: int) -> None:
        node.held[session] -= 1
        if not node.held[session]:
            del node.held[session]
        self.model.collect(node)

    def publish(self, session: int) -> None:
        ino = self.some_file()
        content = self.random.randbytes(self.random.randrange(1, 50)) if self.random.random() < 0.5 else None
        size = len(content) if content is not None else self.random.randrange(20_000)

        def expected() -> None:
            node = self.model.node(ino)
            if node.kind != S_IFREG or (not self.may_reshape(ino, session) and (content or node.inline is not None)):
                raise No(EINVAL)
            node.size, node.inline = (size if content is not None else max(size, node.size)), content

        self.agree(session, Publish(ino, size, 7, content), expected)

    def resize(self, session: int) -> None:
        ino, size = self.some_file(), self.random.choice([0, self.random.randrange(100)])

        def expected() -> Node:
            node = self.model.node(ino)
            if node.kind == S_IFDIR:
                raise No(EISDIR)
            if node.kind != S_IFREG or not self.may_reshape(ino, session):
                raise No(EINVAL)
            node.size = size
            if node.inline is not None:
                node.inline = node.inline[:size].ljust(size, b"\0") if size else None
            return node

        self.agree(session, SetAttributes(ino, size=size), expected)

    def may_reshape(self, ino: int, session: int) -> bool:
        """Taken from the shard: `test_opens` is about what it says."""
        file = self.lab.shard.state.files.get(ino)
        try:
            if file is not None:
                check_may_reshape(file, session)
        except Refused:
            return False
        return True

    def unsettle(self, session: int) -> None:
        ino = self.some_file()

        def expected() -> None:
            if self.model.node(ino).kind != S_IFREG:
                raise No(EINVAL)

        self.agree(session, Unsettle(ino, self.random.randrange(100_000)), expected)

    def settle(self, session: int) -> None:
        doubtful = [row[0] for row in self.lab.ask(ListUnsettled(0, 1000))]
        self.agree(session, Settle([ino for ino in doubtful if self.random.random() < 0.7]), lambda: None)

    def set_xattr(self, session: int) -> None:
        ino, name, value = self.some_ino(), self.random.choice(XATTRS), self.random.randbytes(5)
        flags = self.random.choice([0, 0, 1, 2])

        def expected() -> None:
            node = self.model.node(ino)
            if flags == 1 and name in node.xattrs:
                raise No(EEXIST)
            if flags == 2 and name not in node.xattrs:
                raise No(ENODATA)
            node.xattrs[name] = value

        self.agree(session, SetXattr(ino, name, value, flags), expected)

    def remove_xattr(self, session: int) -> None:
        ino, name = self.some_ino(), self.random.choice(XATTRS)

        def expected() -> None:
            if self.model.node(ino).xattrs.pop(name, None) is None:
                raise No(ENODATA)

        self.agree(session, RemoveXattr(ino, name), expected)

    def set_acl(self, session: int) -> None:
        """What it does to modes is tested against the kernel; here it is one more thing that the tables must bear."""
        self.lab.reply(SetXattr(self.some_ino(), acl.DEFAULT_NAME, self.random.choice([DEFAULT_ACL, b""])), session)
        self.lab.reply(SetXattr(self.some_ino(), acl.ACCESS_NAME, DEFAULT_ACL), session)
        self.lab.reply(SetAttributes(self.some_ino(), mode=self.random.randrange(0o1000)), session)

    def look(self, session: int) -> None:
        parent, name = self.some_directory(), self.name()
        found, node, granted = self.agree(
            session, Lookup(parent, name), lambda: self.model.directory(parent).entries.get(name)
        )
        if granted:
            assert (found is None) == (node is None)
            if found is not None:
                assert found.ino == node.ino
                self.same(node)

    def same(self, node: Node) -> None:
        found = self.lab.ask(GetAttributes(node.ino))
        size = len(node.entries) if node.kind == S_IFDIR else node.size
        assert (S_IFMT(found.mode), found.nlink, found.size) == (node.kind, node.nlink, size)
        names: list[bytes] = [name for name in self.lab.ask(ListXattrs(node.ino)) if not name.startswith(b"system.")]
        assert names == sorted(node.xattrs)
        for name, value in node.xattrs.items():
            assert self.lab.ask(GetXattr(node.ino, name)) == value
        if node.kind == S_IFREG:
            assert bool(found.flags & FLAG_INLINE) == (node.inline is not None)
            if node.inline is not None:
                assert self.lab.ask(ReadInline(node.ino)) == node.inline
        if node.kind == S_IFLNK:
            assert self.lab.ask(ReadLink(node.ino)) == node.target
        if node.kind == S_IFDIR:
            page = self.lab.ask(ReadDirectory(node.ino, 0, 1000))
            assert {name: (ino, kind) for name, _, ino, kind, _ in page} == {
                name: (child.ino, child.kind) for name, child in node.entries.items()
            }
            assert self.lab.ask(Lookup(node.ino, b"..")).ino == (node.parent or node).ino

    # -- sessions and restarts ----------------------------------------------------------------------------------------

    def end_session(self, session: int) -> None:
        self.lab.event(SessionEnded(session))
        self.lab.comply()
        for node in list(self.model.nodes.values()):
            if session in node.held:
                node.held[session] = 1
                self.let_go(node, session)
        self.lab.event(SessionOpened(session))

    def restart(self) -> None:
        self.lab.restarted()
        survives = self.random.random() < 0.5
        self.lab.event(ShardRestarted(SESSIONS if survives else ()))
        for session in SESSIONS:
            self.lab.event(SessionOpened(session))
            if survives:
                nodes = [node for node in self.model.nodes.values() if session in node.held]
                self.lab.event(SessionRestated(session, [Hold(node.ino, node.held[session]) for node in nodes]))
                self.lab.comply()
        if not survives:
            for node in list(self.model.nodes.values()):
                node.held = {}
                self.model.collect(node)

    def finish(self) -> None:
        for node in self.model.nodes.values():
            self.same(node)
        usage = self.lab.ask(GetUsage())
        assert usage.inodes == len(self.model.nodes)
        assert usage.size_bytes == sum(node.size for node in self.model.nodes.values() if node.kind == S_IFREG)
        assert rows(replayed(self.lab.journal)) == rows(self.lab.tables)


def play(seed: int, steps: int) -> None:
    machine = Machine(seed)
    for _ in range(steps):
        machine.step()
    machine.finish()


@settings(deadline=None, max_examples=100)
@given(st.integers(0, 1 << 32), st.integers(1, 400))
def test_agrees_with_a_tree_of_dicts(seed: int, steps: int) -> None:
    play(seed, steps)


@pytest.mark.parametrize("seed", range(3))
def test_names_with_one_cookie(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(entries, "cookie_of", lambda name: 8 + len(name))
    monkeypatch.setattr("loligo_mds.core.invariants.cookie_of", entries.cookie_of)
    play(seed, 400)


@pytest.mark.parametrize("seed", range(3))
def test_with_a_cache_that_holds_next_to_nothing(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("loligo_mds.core.state.INODE_CACHE_MAX", 2)
    play(1000 + seed, 400)
