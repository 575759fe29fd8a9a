"""Files that several clients have open: what one writes the others read, and nothing that was cut off comes back."""

from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest

from loligo_client.shell.file_data import FileData
from loligo_client.shell.reshaping import FALLOC_KEEP_SIZE, FALLOC_PUNCH_HOLE
from loligo_client.shell.tasks import Task
from loligo_mds.core.requests import GetAttributes, SetAttributes, Unlink
from loligo_wire.ids import ROOT_INO
from unit.data_lab import BLOCK_BYTES, DEADLINE_S, INLINE_LIMIT_BYTES
from unit.sharing_lab import Client, SharingLab

BLOCK = bytes(range(BLOCK_BYTES))
MAX_BYTES = 6 * BLOCK_BYTES


@pytest.fixture
def lab(seed: int) -> Iterator[SharingLab]:
    lab = SharingLab(Random(seed))
    try:
        yield lab
    finally:
        lab.close()


seeds = pytest.mark.parametrize("seed", range(10))


@seeds
def test_a_small_file_that_is_written_is_handed_over(lab: SharingLab) -> None:
    a, b = lab.clients
    mine = a.create(b"f")
    a.wait(a.write(mine, 0, b"from a"))
    theirs = b.open(b"f")
    assert theirs.contended
    assert b.content(theirs) == b"from a"
    b.wait(b.write(theirs, 5, b"b, too"))
    assert a.content(mine) == b"from b, too"
    a.data.close(mine)
    b.data.close(theirs)
    lab.check_at_rest()


@pytest.mark.parametrize("seed", range(30))
def test_who_is_just_opening_a_file_that_its_writer_removes_gets_all_of_it(lab: SharingLab) -> None:
    a, b = lab.clients
    mine = a.create(b"f")
    a.write(mine, 0, BLOCK * 3)
    a.data.close(mine)
    opening = b.start(b.data.open(mine.ino, False))
    with lab.store.changed:  # the Recall arrives before the store has answered anything
        lab.store.changed.wait_for(lambda: any(call.kind == "link" for call in lab.store.pending), DEADLINE_S)
    while not mine.recalled and (link := [at for at, call in enumerate(lab.store.pending) if call.kind == "link"]):
        lab.store.run(link[0])

    def unlink() -> Task[None]:
        gone = yield Unlink(ROOT_INO, b"f")
        a.data.unlinked(gone.ino)

    lab.wait(opening, a.start(unlink()))
    theirs = b.data.find(mine.ino)
    assert theirs is not None and b.content(theirs) == BLOCK * 3
    b.data.close(theirs)


@seeds
def test_what_was_cut_off_does_not_come_back(lab: SharingLab) -> None:
    a, b = lab.clients
    mine = a.create(b"f")
    a.wait(a.write(mine, 0, BLOCK * 3))
    theirs = b.open(b"f")
    under_way = b.write(theirs, 3 * BLOCK_BYTES, BLOCK)
    cut = a.start(a.data.set_size(SetAttributes(mine.ino, size=10)))
    lab.wait(cut, under_way)
    grown = a.start(a.data.set_size(SetAttributes(mine.ino, size=4 * BLOCK_BYTES)))
    lab.wait(grown)
    cut_first = BLOCK[:10] + bytes(3 * BLOCK_BYTES - 10) + BLOCK
    for client, file in ((a, mine), (b, theirs)):
        assert client.content(file) in (cut_first, BLOCK[:10] + bytes(4 * BLOCK_BYTES - 10))
        client.data.close(file)
    lab.check_at_rest()


@seeds
def test_both_want_it_for_themselves(lab: SharingLab) -> None:
    a, b = lab.clients
    mine = a.create(b"f")
    a.wait(a.write(mine, 0, BLOCK * 4))
    theirs = b.open(b"f")
    sizes = [3 * BLOCK_BYTES, 10, 2 * BLOCK_BYTES + 5, BLOCK_BYTES]
    lab.wait(
        *(
            client.start(client.data.set_size(SetAttributes(file.ino, size=size), file))
            for size, (client, file) in zip(sizes, [(a, mine), (b, theirs)] * 2, strict=True)
        )
    )
    content = a.content(mine)
    assert len(content) in sizes
    assert content[:10] == BLOCK[:10] and not any(content[10:])
    assert b.content(theirs) == content
    a.data.close(mine)
    b.data.close(theirs)
    lab.check_at_rest()


@seeds
def test_a_client_that_dies_while_another_waits_for_it(lab: SharingLab) -> None:
    a, b = lab.clients
    mine = a.create(b"f")
    a.wait(a.write(mine, 0, BLOCK))
    a.fsync(mine)
    a.write(mine, BLOCK_BYTES, BLOCK * 3)
    opening = b.start(b.data.open(mine.ino, True))
    b.nudge(lab.choose, 10)
    lab.kill(a)
    [(theirs, _)] = lab.wait(opening)
    content = b.content(theirs)
    assert content[:BLOCK_BYTES] == BLOCK
    assert content == (BLOCK * 4)[: len(content)]
    b.wait(b.write(theirs, len(content), b"more"))
    assert b.content(theirs) == content + b"more"
    b.data.close(theirs)
    lab.check_at_rest()


@seeds
def test_pages_of_an_open_file_that_another_writes_to_are_dropped(lab: SharingLab) -> None:
    a, b = lab.clients
    mine = a.create(b"f")
    theirs = b.open(b"f")
    lab.wait(a.write(mine, 0, BLOCK * 2))
    b.data.tick(1)
    lab.quiet()
    b.lost.clear()
    b.data.tick(1)
    lab.quiet()
    assert b.lost == [], "nothing has changed"
    lab.wait(a.write(mine, 0, b"over it"))
    b.data.tick(1)
    lab.quiet()
    assert b.lost == [theirs.ino]


@seeds
def test_who_goes_on_after_a_repair_announces_his_objects_again(lab: SharingLab) -> None:
    a, b = lab.clients
    mine = a.create(b"f")
    a.wait(a.write(mine, 0, BLOCK * 2))
    b.open(b"f")
    a.wait(a.write(mine, 2 * BLOCK_BYTES, BLOCK))  # announces some blocks more
    lab.kill(b)
    lab.quiet()
    assert lab.unsettled() == []
    written = a.write(mine, 3 * BLOCK_BYTES, BLOCK)
    lab.store.wait_for(lambda: any(call.kind == "write" for call in lab.store.pending), lab.choose, stop_at=("write",))
    assert lab.unsettled() == [mine.ino]
    lab.wait(written)
    a.data.close(mine)
    lab.check_at_rest()


@seeds
def test_what_is_open_when_the_server_comes_back(lab: SharingLab) -> None:
    a, b = lab.clients
    mine = a.create(b"f")
    a.wait(a.write(mine, 0, BLOCK * 2))
    opening = b.start(b.data.open(mine.ino, True))
    a.nudge(lab.choose, 6)
    lab.restart()
    [(theirs, _)] = lab.wait(opening)
    assert b.content(theirs) == BLOCK * 2
    writing = [a.write(mine, 0, b"a"), b.write(theirs, BLOCK_BYTES, b"b")]
    cut = b.start(b.data.set_size(SetAttributes(mine.ino, size=BLOCK_BYTES + 1), theirs))
    b.nudge(lab.choose, 6)
    lab.restart()
    lab.wait(*writing, cut)
    expected = b"a" + BLOCK[1:] + b"b"
    assert a.content(mine) == expected and b.content(theirs) == expected
    a.data.close(mine)
    b.data.close(theirs)
    lab.check_at_rest()


@seeds
def test_who_wants_to_write_gets_what_another_only_keeps_open(lab: SharingLab) -> None:
    a, b = lab.clients
    mine = a.create(b"f")
    a.wait(a.write(mine, 0, BLOCK))
    a.wait(a.data.flush(mine))
    a.data.close(mine)
    lab.quiet()
    reading = b.open(b"f", writes=False)
    assert b.content(reading) == BLOCK
    b.data.close(reading)
    lab.quiet()
    assert lab.server.shard.state.files[mine.ino].openers.keys() == {b.link.session}
    mine = a.open(b"f")
    assert not mine.contended
    lab.wait(a.write(mine, 0, b"anew"))
    reading = b.open(b"f", writes=False)
    assert b.content(reading) == b"anew" + BLOCK[4:]
    lab.quiet()
    b.data.close(reading)
    a.data.close(mine)
    lab.check_at_rest()


def test_who_cannot_store_what_another_waits_for_still_says_how_much_it_is(tmp_path: Path) -> None:
    lab = SharingLab(Random(1), clients=3)
    try:
        a, b, c = lab.clients
        mine = a.create(b"f")
        a.wait(a.write(mine, 0, BLOCK * 2))
        opening = b.start(b.data.open(mine.ino, True))
        lab.store.wait_for(lambda: mine.recalled, lab.choose, stop_at=("write",))
        looking = c.link.ask(GetAttributes(mine.ino))
        lab.store.wait_for(looking.done, lab.choose, stop_at=("write",))
        assert looking.result().size == 2 * BLOCK_BYTES and not opening.done()
        [(theirs, _)] = lab.wait(opening)
        a.data.close(mine)
        b.data.close(theirs)
        lab.quiet()
        lab.check_at_rest()
    finally:
        lab.close()


# -- at random ------------------------------------------------------------------------------------------------------


class SharedFile:
    def __init__(self, name: bytes, ino: int) -> None:
        self.name = name
        self.ino = ino
        self.uid = 0
        self.content = bytearray()
        self.opens: list[tuple[Client, FileData]] = []


class Run:
    """Operations of both clients, one after the other; links, server and store go on between and meanwhile."""

    def __init__(self, lab: SharingLab, random: Random) -> None:
        self.lab = lab
        self.random = random
        self.files: list[SharedFile] = []
        self.story: list[str] = []

    def step(self) -> None:
        random = self.random
        if len(self.files) < 3:
            self.create()
            return
        model = random.choice(self.files)
        choices: list[Any] = [self.open, self.background, self.look, self.look, self.peek, self.peek]
        if model.opens:
            choices = [self.write] * 6 + [self.read] * 6 + [self.resize, self.resize, self.punch, *choices]
            choices += [self.close, self.flush, self.together, self.unlink, self.give, self.give]
        operation = random.choice(choices)
        self.story.append(f"{operation.__name__} {model.name!r} of {len(model.content)}")
        operation(model)
        self.lab.clients[0].nudge(self.lab.choose, 3)

    def create(self) -> None:
        client = self.random.choice(self.lab.clients)
        name = b"f%d" % len(self.story)
        self.story.append(f"create {name!r}")
        file = client.create(name)
        model = SharedFile(name, file.ino)
        model.opens.append((client, file))
        self.files.append(model)

    def look(self, model: SharedFile) -> None:
        """Whoever has it open, and whatever of it is under way: everybody sees what callers were told."""
        client = self.random.choice(self.lab.clients)
        self.story.append(f"  by {client.link.session}")
        found = client.stat(model.ino)
        assert (found.size, found.uid) == (len(model.content), model.uid)

    def peek(self, model: SharedFile) -> None:
        """Who only reads keeps the file open for a while."""
        client = self.random.choice(self.lab.clients)
        self.story.append(f"  by {client.link.session}")
        file = client.open(model.name, writes=False)
        assert client.content(file) == model.content
        client.data.close(file)

    def give(self, model: SharedFile) -> None:
        client, file = self.one(model)
        model.uid += 1
        request = SetAttributes(file.ino, uid=model.uid)
        with client.link.lock:
            lazily = client.data.may_change_lazily(file, request)
            self.story.append(f"  to {model.uid}, {'lazily' if lazily else 'asked'}")
            if lazily:
                found = client.data.change_lazily(file, request, self.lab.next_now_ns())
        if not lazily:
            found = client.wait(client.link.ask(request))
        assert found.uid == model.uid and (not lazily or found.size == len(model.content))

    def one(self, model: SharedFile) -> tuple[Client, FileData]:
        client, file = self.random.choice(model.opens)
        self.story.append(f"  by {client.link.session}")
        return client, file

    def span(self) -> tuple[int, int]:
        random = self.random
        offset = random.choice([0, BLOCK_BYTES * random.randrange(5), random.randrange(MAX_BYTES - 1)])
        length = random.choice([1, INLINE_LIMIT_BYTES // 2, BLOCK_BYTES, random.randrange(1, MAX_BYTES)])
        return offset, min(length, MAX_BYTES - offset)

    def write(self, model: SharedFile) -> None:
        client, file = self.one(model)
        offset, length = self.span()
        if self.random.random() < 0.5:
            offset = min(len(model.content), MAX_BYTES - length)
        data = self.random.randbytes(length)
        assert client.wait(client.write(file, offset, data)) == length
        self.written(model, offset, data)

    def written(self, model: SharedFile, offset: int, data: bytes) -> None:
        self.story.append(f"  {len(data)} at {offset}")
        model.content.extend(bytes(max(0, offset - len(model.content))))
        model.content[offset : offset + len(data)] = data

    def read(self, model: SharedFile) -> None:
        client, file = self.one(model)
        offset, length = self.span()
        assert client.read(file, offset, length) == model.content[offset : offset + length]
        assert client.stat(file.ino).size == len(model.content)

    def resize(self, model: SharedFile) -> None:
        client, file = self.one(model)
        size = self.random.choice([0, 10, BLOCK_BYTES, self.random.randrange(MAX_BYTES)])
        self.story.append(f"  to {size}")
        assert client.wait(client.data.set_size(SetAttributes(file.ino, size=size), file)).size == size
        del model.content[size:]
        model.content.extend(bytes(size - len(model.content)))

    def punch(self, model: SharedFile) -> None:
        client, file = self.one(model)
        offset, length = self.span()
        self.story.append(f"  {length} at {offset}")
        mode = FALLOC_PUNCH_HOLE | FALLOC_KEEP_SIZE
        client.wait(client.data.allocate(file, offset, length, mode, self.lab.next_now_ns()))
        end = min(offset + length, len(model.content))
        if offset < end:
            model.content[offset:end] = bytes(end - offset)

    def together(self, model: SharedFile) -> None:
        """Everybody writes a piece of his own, and somebody cuts beyond them, at the same time."""
        size = 10 * len(model.opens)
        answers = []
        for number, (client, file) in enumerate(model.opens):
            data = self.random.randbytes(10)
            answers.append(client.write(file, 10 * number, data))
            self.written(model, 10 * number, data)
        client, file = self.one(model)
        answers.append(client.start(client.data.set_size(SetAttributes(file.ino, size=size), file)))
        self.lab.wait(*answers)
        del model.content[size:]

    def open(self, model: SharedFile) -> None:
        if len(model.opens) < 4:
            client = self.random.choice(self.lab.clients)
            self.story.append(f"  by {client.link.session}")
            model.opens.append((client, client.open(model.name)))

    def close(self, model: SharedFile) -> None:
        client, file = self.one(model)
        model.opens.remove((client, file))
        client.wait(client.data.flush(file))
        client.data.close(file)

    def flush(self, model: SharedFile) -> None:
        client, file = self.one(model)
        client.wait(client.data.flush(file))

    def unlink(self, model: SharedFile) -> None:
        if self.random.random() < 0.3:
            self.random.choice(self.lab.clients).unlink(model.name)
            for client, file in model.opens:
                assert client.content(file) == model.content
            while model.opens:
                self.close(model)
            self.files.remove(model)

    def background(self, model: SharedFile) -> None:
        client = self.random.choice(self.lab.clients)
        if self.random.random() < 0.5:
            client.data.tick(self.lab.next_now_ns() + (1 << 50))
        else:
            client.run_blocking(client.data.settle)

    def finish(self) -> None:
        self.compare()
        for model in self.files:
            while model.opens:
                self.close(model)
        self.lab.check_at_rest()

    def compare(self) -> None:
        for model in self.files:
            for client in self.lab.clients:
                file = client.open(model.name)
                assert client.content(file) == model.content
                client.data.close(file)


class UnluckyRun(Run):
    """Connections break, and the server dies, now and then."""

    def step(self) -> None:
        chance = self.random.random()
        if chance < 0.1:
            self.story.append("reconnect")
            self.random.choice(self.lab.clients).link.reconnect()
        elif chance < 0.15:
            self.story.append("restart")
            self.lab.restart()
        super().step()


@pytest.mark.parametrize("kind", [Run, UnluckyRun], ids=["", "unlucky"])
@pytest.mark.parametrize("seed", range(40))
def test_agrees_with_byte_arrays(lab: SharingLab, seed: int, kind: type[Run]) -> None:
    run = kind(lab, Random(seed))
    try:
        for _ in range(60):
            run.step()
            lab.check()
        run.finish()
    finally:
        print("\n".join(run.story))


@pytest.mark.parametrize("together", [False, True], ids=["in turn", "together"])
@pytest.mark.parametrize("seed", range(10))
def test_what_is_kept_on_the_local_disk_is_never_old(
    seed: int, together: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`together`: both have the file open all the time."""
    monkeypatch.setattr("loligo_client.shell.block_cache.PAGE_BYTES", BLOCK_BYTES // 8)
    random = Random(seed)
    lab = SharingLab(Random(seed), cache_folder=str(tmp_path))
    try:
        content = bytearray(random.randbytes(4 * BLOCK_BYTES))
        first = lab.clients[0].create(b"f")
        lab.wait(lab.clients[0].write(first, 0, bytes(content)))
        lab.clients[0].data.close(first)
        lab.quiet()
        held = [(client, client.open(b"f")) for client in lab.clients] if together else []
        for _ in range(100):
            client = random.choice(lab.clients)
            offset = random.randrange(0, len(content), BLOCK_BYTES // 8)
            writes = random.random() < 0.1
            file = dict(held)[client] if together else client.open(b"f", writes)
            if writes:
                data = random.randbytes(random.randrange(1, BLOCK_BYTES))[: len(content) - offset]
                lab.wait(client.write(file, offset, data))
                content[offset : offset + len(data)] = data
            else:
                length = BLOCK_BYTES // 8 * random.randint(1, 4)
                assert client.read(file, offset, length) == content[offset : offset + length]
            if not together:
                client.data.close(file)
            if not together or random.random() < 0.7:
                lab.quiet()
                for client in lab.clients:
                    assert client.cache is not None
                    client.cache.wait()
        hits = sum(client.cache.hits for client in lab.clients if client.cache is not None)
        assert hits == 0 if together else hits > 0
        for client, file in held:
            client.data.close(file)
        lab.quiet()
        lab.check_at_rest()
    finally:
        lab.close()
