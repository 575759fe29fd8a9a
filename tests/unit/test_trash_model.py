"""Random requests as in `test_shard_model`, and removals are kept: whole trees are removed, batches are looked at, filled in,
restored and purged, in answers and errnos as a trash of dicts says. `ShardLab` checks the tables after every step.
"""

from errno import EINVAL, ENOENT, ENOTDIR, ENOTEMPTY
from stat import S_IFDIR
from typing import Any

import pytest

from loligo_mds.core import entries
from loligo_mds.core.requests import (
    FillIn,
    ListBatches,
    ListPlaces,
    LookInTrash,
    Lookup,
    Purge,
    PurgeBatch,
    ReadTrash,
    RemoveTree,
    Restore,
    SetXattr,
)
from loligo_mds.core.restoring import RESTORE_WITHIN_NS
from loligo_trash.batch import FLAG_PURGED, PAUSE_NS, PRIORITIES, Word, decode_batch
from loligo_trash.places import decode_place
from loligo_trash.policy import DEFAULT_POLICY, MINIMUM_AGE_NAME
from unit.test_shard_model import NAMES, Machine, Model, No, Node

_Row = tuple[int, int, bytes]  # batch, directory, name


class Batch:
    def __init__(self, session: int, now_ns: int, label: bytes = b"") -> None:
        self.session = session
        self.last_ns = now_ns
        self.label = label
        self.purged = self.paused = False
        self.priority = Word.NORMAL
        self.rate = 0

    @property
    def is_as_made(self) -> bool:
        return not self.purged and not self.paused and self.priority is Word.NORMAL and not self.rate

    def hear(self, word: Word, rate: int) -> None:
        if word is Word.RATE:
            self.rate = rate
        elif word in (Word.HIGH, Word.NORMAL, Word.LOW):
            self.priority = word
        elif word in (Word.PURGE, Word.KEEP):
            self.purged = word is Word.PURGE
            self.paused = self.paused and word is Word.KEEP
        else:
            self.paused = word is Word.PAUSE

    def due_ns(self) -> int:
        return 0 if self.purged else self.last_ns + DEFAULT_POLICY.retention_ns


class TrashModel(Model):
    """`rows`: what is in the trash. Who removes something says so in `asking` and `now_ns` first."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: dict[_Row, Node] = {}
        self.batches: dict[int, Batch] = {}
        self.joinable: dict[int, int] = {}
        self.last_batch = 0
        self.asking = 0
        self.now_ns = 0
        #: Of the last purge: inodes that lost their last name below a directory, and are open.
        self.kept_below = 0
        self._taken: dict[int, tuple[Node, bytes]] = {}

    def is_alive(self, node: Node | None) -> bool:
        while node is not None and node is not self.root:
            if node.trashed:
                return False
            node = node.parent
        return node is not None

    def directory(self, ino: int) -> Node:
        node = super().directory(ino)
        if not self.is_alive(node):
            raise No(ENOENT)
        return node

    def take(self, directory: Node, name: bytes) -> Node:
        node = super().take(directory, name)
        self._taken[node.ino] = directory, name
        return node

    def unlinked(self, node: Node) -> None:
        directory, name = self._taken[node.ino]
        batch = self.joinable.get(self.asking, 0)
        known = self.batches.get(batch)
        if (
            known is None
            or not known.is_as_made
            or self.now_ns - known.last_ns > PAUSE_NS
            or (batch, directory.ino, name) in self.rows
        ):
            batch = self.joinable[self.asking] = self.begin()
        self.bury(batch, directory, name, node)
        super().unlinked(node)

    def begin(self, label: bytes = b"") -> int:
        self.last_batch += 1
        self.batches[self.last_batch] = Batch(self.asking, self.now_ns, label)
        return self.last_batch

    def bury(self, batch: int, directory: Node, name: bytes, node: Node) -> None:
        self.batches[batch].last_ns = self.now_ns
        self.rows[batch, directory.ino, name] = node
        node.trashed += 1

    def dig_up(self, row: _Row) -> Node:
        node = self.rows.pop(row)
        node.trashed -= 1
        if not any(batch == row[0] for batch, _, _ in self.rows):
            del self.batches[row[0]]
            self.joinable = {session: batch for session, batch in self.joinable.items() if batch != row[0]}
        return node

    def put_back(self, row: _Row, directory: Node, name: bytes) -> Node:
        node = self.dig_up(row)
        if node.kind == S_IFDIR:
            node.nlink = 2 + sum(child.kind == S_IFDIR for child in node.entries.values())
        else:
            node.nlink += 1
        self.put(directory, name, node)
        return node

    def left(self, row: _Row) -> Node | None:
        """What was in a directory when that, or one above, was removed as a whole."""
        source = self.nodes.get(row[1])
        return source.entries.get(row[2]) if source is not None and self.is_left_in(row[0], source) else None

    def move_out(self, row: _Row, directory: Node, name: bytes) -> Node:
        source = self.nodes[row[1]]
        moved = super().take(source, row[2])
        if source.trashed:
            source.nlink = 0
        self.put(directory, name, moved)
        return moved

    def rows_of(self, batch: int, directory: int) -> list[_Row]:
        return [row for row in self.rows if row[:2] == (batch, directory)]

    def fill_in(self, batch: int, top: Node) -> int:
        """-> names"""
        filled = 0
        for row in self.rows_of(batch, top.ino):
            node = self.rows[row]
            filled += 1 + (self.fill_in(batch, node) if node.kind == S_IFDIR else 0)
            name, number = row[2], 1
            while name in top.entries:
                number += 1
                name = row[2] + b"~%d" % number
            self.put_back(row, top, name)
        if top.trashed:
            top.nlink = 0
        return filled

    def purge(self, batch: int) -> tuple[int, int]:
        """-> names, inodes"""
        names = 0
        before = len(self.nodes)
        kept = 0
        for row in [row for row in self.rows if row[0] == batch]:
            node = self.dig_up(row)
            names += 1
            if node.kind == S_IFDIR:
                names += self._remove_below(node)
            kept += self._let_go(node)
        return names, before - len(self.nodes) + kept

    def _remove_below(self, top: Node) -> int:
        names = 0
        for child in top.entries.values():
            names += 1
            if child.kind == S_IFDIR:
                names += self._remove_below(child)
                child.nlink = 0
            else:
                child.nlink -= 1
            self.kept_below += self._let_go(child)
        return names

    def _let_go(self, node: Node) -> int:
        """1 if it has no name, and stays because it is open."""
        self.collect(node)
        return int(node.ino in self.nodes and not node.nlink and not node.trashed)

    def is_left_in(self, batch: int, directory: Node | None) -> bool:
        while directory is not None and not directory.trashed:
            directory = directory.parent
        return directory is not None and any(node is directory and row[0] == batch for row, node in self.rows.items())


class TrashMachine(Machine):
    model: TrashModel

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.model = TrashModel()
        self.lab.ask(SetXattr(self.model.root.ino, MINIMUM_AGE_NAME, b"0"))
        self.model.root.xattrs[MINIMUM_AGE_NAME] = b"0"

    def some_directory(self) -> int:
        ino = super().some_directory()
        return super().some_directory() if not self.model.is_alive(self.model.nodes.get(ino)) else ino

    def some_row(self) -> _Row:
        if self.model.rows and self.random.random() < 0.9:
            row = self.random.choice(list(self.model.rows))
            node = self.model.rows[row]
            while node.kind == S_IFDIR and node.entries and self.random.random() < 0.5:  # or something in it
                name = self.random.choice(list(node.entries))
                row, node = (row[0], node.ino, name), node.entries[name]
            return row
        return self.random.randrange(1, self.model.last_batch + 2), self.some_directory(), self.name()

    def agree(self, session: int, request: Any, expected: Any) -> Any:
        self.model.asking = session
        self.model.now_ns = self.lab.now_ns
        return super().agree(session, request, expected)

    def step(self) -> None:
        if self.random.random() < 0.7:
            super().step()
            return
        steps: list[Any] = [self.remove_tree, self.restore, self.restore, self.fill_in, self.browse]
        steps += [self.purge_batch, self.purge, self.wait]
        self.random.choice(steps)(self.random.choice((1, 2)))

    def wait(self, session: int) -> None:
        self.lab.now_ns += self.random.choice((1, 2 * PAUSE_NS, DEFAULT_POLICY.retention_ns // 3))

    def restart(self) -> None:
        super().restart()
        self.rejoin()

    def rejoin(self) -> None:
        """What the shard knows after a start: of each session the last batch."""
        self.model.joinable = {one.session: batch for batch, one in self.model.batches.items() if not one.label}

    def look(self, session: int) -> None:
        """A directory that is dead is told of as long as it is there."""
        parent, name = self.some_directory(), self.name()

        def expected() -> Node | None:
            return Model.directory(self.model, parent).entries.get(name)

        found, node, granted = self.agree(session, Lookup(parent, name), expected)
        if granted:
            assert (found and found.ino) == (node and node.ino)

    def same(self, node: Node) -> None:
        if node.kind != S_IFDIR or self.model.is_alive(node):
            super().same(node)

    def remove_tree(self, session: int) -> None:
        parent, name = self.some_directory(), self.name()
        model = self.model

        def expected() -> Node:
            directory = model.directory(parent)
            node = model.entry(directory, name)
            if node.kind != S_IFDIR:
                raise No(ENOTDIR)
            model.bury(model.begin(b"label"), directory, name, model.take(directory, name))
            node.nlink = 0
            return node

        answer, node, granted = self.agree(session, RemoveTree(parent, name, label=b"label"), expected)
        if granted:
            assert (answer.ino, answer.nlink, answer.size) == (node.ino, 0, len(node.entries))

    def restore(self, session: int) -> None:
        row = self.some_row()
        parent, name = self.some_directory(), self.name()
        model = self.model

        def expected() -> Node:
            directory = model.directory(parent)
            removed = model.rows.get(row)
            node = removed or model.left(row)
            if node is None:
                raise No(ENOENT)
            model.free(directory, name)
            if node.kind == S_IFDIR and model.rows_of(row[0], node.ino):
                raise No(ENOTEMPTY)
            return model.put_back(row, directory, name) if removed else model.move_out(row, directory, name)

        was_removed = row in model.rows
        known = model.rows.get(row) or model.left(row)
        before = self.lab.shard.state.find_inode(known.ino) if known is not None else None
        answer, node, granted = self.agree(session, Restore(*row, parent, name), expected)
        if granted:
            assert before is not None
            assert (answer.ino, answer.nlink) == (node.ino, node.nlink)
            assert answer.generation == before.generation + (was_removed and node.kind == S_IFDIR)
            for kept in ("mode", "uid", "gid", "size", "atime_ns", "mtime_ns", "btime_ns", "flags"):
                assert getattr(answer, kept) == getattr(before, kept), kept
            self.same(node)

    def fill_in(self, session: int) -> None:
        row = self.some_row()
        node = self.model.rows.get(row)
        batch, ino = row[0], node.ino if node is not None and self.random.random() < 0.9 else self.some_ino()
        model = self.model

        def expected() -> tuple[Node, int]:
            if batch not in model.batches:
                raise No(ENOENT)
            top = model.node(ino)
            if top.kind != S_IFDIR:
                raise No(ENOTDIR)
            if not top.trashed:
                raise No(EINVAL)
            return top, model.fill_in(batch, top)

        _, value, granted = self.agree(session, FillIn(batch, ino), expected)
        if granted:
            top, names = value
            for _ in range(names - 1):
                reply = self.lab.reply(
                    FillIn(batch, ino), session
                )  # once too often, perhaps: then the batch may be gone
                assert reply.errno in ((0,) if batch in model.batches else (0, ENOENT))
            attributes = self.lab.shard.state.inode(ino)
            assert attributes.size == len(top.entries)
            assert attributes.nlink == 2 + sum(child.kind == S_IFDIR for child in top.entries.values())

    def purge_batch(self, session: int) -> None:
        batch = self.some_row()[0]
        word = self.random.choice((Word.PURGE, Word.PURGE, Word.KEEP, *Word))

        def expected() -> None:
            if batch not in self.model.batches:
                raise No(ENOENT)
            self.model.batches[batch].hear(word, rate)

        rate = self.random.choice((0, 1, 3, 1000)) if word is Word.RATE else 0
        self.agree(session, PurgeBatch(batch, word, rate), expected)

    def purge(self, session: int) -> None:
        """All that is due, in the order of priorities and times, and nothing of what is paused; in steps of any size, and the
        shard may be restarted between them. What has a limit of its rate goes when it may.
        """
        self.lab.now_ns += RESTORE_WITHIN_NS  # nobody is about to restore anything
        model = self.model
        turns = {
            id: (PRIORITIES.index(batch.priority), batch.due_ns(), id)
            for id, batch in model.batches.items()
            if not batch.paused and batch.due_ns() < self.lab.now_ns
        }
        due = sorted(turns, key=turns.__getitem__)
        in_order = [id for id in due if not model.batches[id].rate]
        model.kept_below = 0
        expected = [model.purge(batch) for batch in due]
        names = inodes = 0
        seen: dict[int, None] = {}
        may_restart = not any(node.held for node in model.nodes.values())
        count = self.random.choice((1, 2, 3, 7, 1000))
        while (purged := self.lab.ask(Purge(count), session=0)).batch or purged.rest_ns:
            if not purged.batch:
                self.lab.now_ns += purged.rest_ns
                continue
            assert purged.batch in due and purged.names and purged.names + purged.inodes <= count + 3
            seen[purged.batch] = None
            names += purged.names
            inodes += purged.inodes
            if may_restart and self.random.random() < 0.3:
                self.lab.restarted()
                self.rejoin()
        assert [id for id in seen if id in in_order] == in_order and sorted(seen) == sorted(due)
        assert names == sum(one for one, _ in expected)
        assert inodes == sum(one for _, one in expected) + model.kept_below

    def browse(self, session: int) -> None:
        """Batches are what they are, and lead to every row of theirs, and to nothing else."""
        model = self.model
        rows = self.lab.ask(ListBatches(0, 1000))
        batches = {int.from_bytes(row[:8]): decode_batch(0, row[8:]) for row in rows}
        assert list(batches) == sorted(model.batches)
        for id, batch in batches.items():
            known = model.batches[id]
            told = (
                batch.session,
                batch.label,
                bool(batch.flags & FLAG_PURGED),
                batch.is_paused,
                batch.priority,
                batch.rate,
            )
            assert told == (known.session, known.label, known.purged, known.paused, known.priority, known.rate)
        if not batches:
            return
        id = self.random.choice(list(batches))
        places = {int.from_bytes(row[:8]): decode_place(row[8:]) for row in self.lab.ask(ListPlaces(id, 0, 1000))}
        seen: set[_Row] = set()
        todo = list(places)
        while todo:
            directory = todo.pop()
            found = self.list_trash(id, directory)
            expected = {row[2]: model.rows[row].ino for row in model.rows_of(id, directory)}
            node = model.nodes.get(directory)
            left = node.entries if node is not None and model.is_left_in(id, node) else {}
            seen.update((id, directory, name) for name in expected)
            assert sorted(found) == sorted([*expected.items(), *((name, child.ino) for name, child in left.items())])
            for name, ino in found:
                child = self.lab.ask(LookInTrash(id, directory, name))
                assert child.ino == expected.get(name, ino)
                if child.is_directory:
                    todo.append(ino)
            assert self.lab.ask(LookInTrash(id, directory, b"none")) is None
        assert seen == {row for row in model.rows if row[0] == id}

    def list_trash(self, batch: int, directory: int) -> list[tuple[bytes, int]]:
        found: list[tuple[bytes, int]] = []
        after = 0
        count = self.random.choice((1, 2, 100))
        while page := self.lab.ask(ReadTrash(batch, directory, after, count)):
            found += [(entry[0], entry[2]) for entry in page]
            after = page[-1][1]
        return found


def play(seed: int, steps: int) -> None:
    machine = TrashMachine(seed)
    for _ in range(steps):
        machine.step()
    machine.browse(1)
    machine.finish()


@pytest.mark.parametrize("seed", range(40))
def test_agrees_with_a_trash_of_dicts(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    if seed % 2:
        monkeypatch.setattr("loligo_mds.core.restoring.FILLED_IN_MAX", 1 + seed % 3)
    if seed % 5 == 0:
        monkeypatch.setattr("loligo_mds.core.state.INODE_CACHE_MAX", 2)
    play(seed, 500)


@pytest.mark.parametrize("seed", range(3))
def test_names_with_one_cookie(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(entries, "cookie_of", lambda name: 8 + len(name))
    monkeypatch.setattr("loligo_mds.core.invariants.cookie_of", entries.cookie_of)
    assert len(NAMES) > 2
    play(seed, 400)
