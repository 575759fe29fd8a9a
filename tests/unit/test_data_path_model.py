"""Random operations on files through the data path agree with byte arrays, in whatever order the store's calls end; after
a crash at any moment, what was synced is there, the rest is plausible, and objects and sizes agree.
"""

import os
from collections.abc import Callable, Iterator
from errno import EIO, ENOSPC
from random import Random
from typing import Any

import pytest

from loligo_client.shell.file_data import FileData
from loligo_client.shell.reshaping import FALLOC_KEEP_SIZE, FALLOC_PUNCH_HOLE, FALLOC_ZERO_RANGE
from loligo_lab.scripted_objects import ScriptedObjects
from loligo_mds.core.requests import Publish, Unsettle
from unit.data_lab import BLOCK_BYTES, DataLab

MAX_BYTES = 6 * BLOCK_BYTES


class ModelFile:
    """A file as it should be, and every content that it had since it was last synced."""

    def __init__(self, name: bytes, file: FileData) -> None:
        self.name = name
        self.ino = file.ino
        self.opens = [file]
        self.content = bytearray()
        self.versions: list[bytes] = [b""]
        #: Its creation is durable.
        self.synced = False

    def changed(self) -> None:
        self.versions.append(bytes(self.content))


class Run:
    """One random run. What is done depends on the seed alone, the order in which calls end on threads as well."""

    def __init__(self, seed: int, store: ScriptedObjects, later: bool = False) -> None:
        """`later`: the metadata is far away."""
        self.random = Random(seed)
        self.order = Random(seed)
        self.later = later
        self.lab = self.make_lab(store)
        #: What was done, for whoever looks into a failure.
        self.story: list[str] = []
        self.files: list[ModelFile] = []
        self.next_name = 0

    def make_lab(self, store: Any) -> DataLab:
        return DataLab(store, choose=self.order, later=self.later)

    # -- operations -------------------------------------------------------------------------------------------------

    def step(self) -> None:
        random = self.random
        if not self.files or random.random() < 0.05:
            self.create()
            return
        model = random.choice(self.files)
        choices = [self.resize, self.unlink, self.open, self.background]
        if model.opens:
            choices = [self.write] * 8 + [self.read] * 4 + choices
            choices += [self.punch, self.zero, self.grow, self.seek, self.close, self.close, self.fsync, self.flush]
        operation = random.choice(choices)
        self.tell(operation.__name__, model.name, len(model.content))
        operation(model)
        self.lab.nudge(self.order, 2)

    def tell(self, *what: object) -> None:
        self.story.append(" ".join(map(str, what)))

    def create(self) -> None:
        name = b"f%d" % self.next_name
        self.next_name += 1
        self.files.append(ModelFile(name, self.lab.create(name)))

    def span(self) -> tuple[int, int]:
        random = self.random
        offset = random.choice([0, BLOCK_BYTES * random.randrange(5), random.randrange(MAX_BYTES - 1)])
        length = random.choice([1, BLOCK_BYTES, 2 * BLOCK_BYTES, random.randrange(1, MAX_BYTES)])
        return offset, min(length, MAX_BYTES - offset)

    def write(self, model: ModelFile) -> None:
        offset, length = self.span()
        if self.random.random() < 0.5:  # append
            offset = min(len(model.content), MAX_BYTES - length)
        data = self.random.randbytes(length)
        self.tell("  at", offset, "length", length)
        answer = self.lab.write(self.random.choice(model.opens), offset, data)
        model.content.extend(bytes(max(0, offset - len(model.content))))
        model.content[offset : offset + length] = data
        model.changed()
        assert self.lab.wait(answer) == length

    def read(self, model: ModelFile) -> None:
        offset, length = self.span()
        file = self.random.choice(model.opens)
        assert self.lab.read(file, offset, length) == model.content[offset : offset + length]
        assert self.lab.stat(model.ino).size == len(model.content)

    def resize(self, model: ModelFile) -> None:
        size = self.random.choice([0, 0, 10, BLOCK_BYTES, self.random.randrange(MAX_BYTES)])
        self.tell("  to", size)
        assert self.lab.set_size(model.ino, size).size == size
        del model.content[size:]
        model.content.extend(bytes(size - len(model.content)))
        model.changed()

    def punch(self, model: ModelFile, mode: int = FALLOC_PUNCH_HOLE | FALLOC_KEEP_SIZE) -> None:
        offset, length = self.span()
        self.tell("  at", offset, "length", length, "mode", mode)
        self.lab.now_ns += 1
        self.lab.wait(self.lab.data.allocate(model.opens[0], offset, length, mode, self.lab.now_ns))
        if not mode & FALLOC_KEEP_SIZE:
            model.content.extend(bytes(max(0, offset + length - len(model.content))))
        if mode & (FALLOC_PUNCH_HOLE | FALLOC_ZERO_RANGE):
            end = min(offset + length, len(model.content))
            if offset < end:
                model.content[offset:end] = bytes(end - offset)
        model.changed()

    def zero(self, model: ModelFile) -> None:
        self.punch(model, self.random.choice([FALLOC_ZERO_RANGE, FALLOC_ZERO_RANGE | FALLOC_KEEP_SIZE]))

    def grow(self, model: ModelFile) -> None:
        self.punch(model, self.random.choice([0, FALLOC_KEEP_SIZE]))

    def seek(self, model: ModelFile) -> None:
        offset = self.random.randrange(MAX_BYTES)
        whence = self.random.choice([os.SEEK_DATA, os.SEEK_HOLE])
        try:
            found = self.lab.wait(self.lab.data.seek(model.opens[0], offset, whence))
        except OSError:
            assert not any(model.content[offset:])
            return
        assert found >= offset
        if whence == os.SEEK_DATA:
            assert not any(model.content[offset:found])
        elif found < len(model.content):
            assert model.content[found] == 0
        else:
            assert found == len(model.content)

    def open(self, model: ModelFile) -> None:
        model.opens.append(self.lab.open(model.name))

    def close(self, model: ModelFile) -> None:
        file = self.random.choice(model.opens)
        self.lab.wait(self.lab.data.flush(file))
        model.opens.remove(file)
        self.lab.data.close(file)

    def flush(self, model: ModelFile) -> None:
        self.lab.wait(self.lab.data.flush(model.opens[0]))

    def fsync(self, model: ModelFile) -> None:
        self.lab.fsync(model.opens[0])
        model.versions = [bytes(model.content)]
        self.names_synced()

    def names_synced(self) -> None:
        """A sync of the journal keeps every name."""
        for model in self.files:
            model.synced = True

    def unlink(self, model: ModelFile) -> None:
        if self.random.random() < 0.3:
            self.lab.unlink(model.name)
            for file in model.opens:
                assert self.lab.content(file) == model.content
                self.lab.data.close(file)
            self.files.remove(model)

    def background(self, model: ModelFile) -> None:
        kind = self.random.randrange(3)
        if kind == 0:
            self.lab.now_ns += 2_000_000_000
            self.lab.data.tick(self.lab.now_ns)
        elif kind == 1:
            self.lab.settle()
        else:
            self.lab.wait(self.lab.data.sync_all())
            for each in self.files:
                each.versions = [bytes(each.content)]
            self.names_synced()

    # -- the end ----------------------------------------------------------------------------------------------------

    def compare(self) -> None:
        for model in self.files:
            file = self.lab.open(model.name)
            assert self.lab.content(file) == model.content
            self.lab.data.close(file)

    def close_all(self) -> None:
        for model in self.files:
            for file in model.opens:
                self.lab.data.close(file)
            model.opens = []

    def finish(self) -> None:
        self.compare()
        self.close_all()
        self.lab.drain()
        self.lab.quiet()
        self.lab.check_at_rest()
        self.compare()
        self.lab.quiet()

    def crash(self, power: bool) -> None:
        before = {model.name: model for model in self.files}
        self.lab = self.lab.crashed(self.order, power=power)
        self.lab.drain()
        self.lab.quiet()
        self.lab.check_at_rest()
        for name, model in before.items():
            if power and not model.synced:
                continue
            file = self.lab.open(name)
            found = self.lab.content(file)
            self.lab.data.close(file)
            plausible(found, model.versions, power)


def plausible(found: bytes, versions: list[bytes], power: bool) -> None:
    """Every byte is one that was there since the last sync; after a power loss, or a zero where they differ."""
    assert min(map(len, versions)) <= len(found) <= max(map(len, versions))
    for at, byte in enumerate(found):
        possible = {version[at] for version in versions if at < len(version)}
        if power and (len(possible) > 1 or any(len(version) <= at for version in versions)):
            possible.add(0)
        assert byte in possible, f"byte {at} is {byte}, not one of {possible}"


class FailingRun(Run):
    """The store and the metadata refuse now and then. Whoever is told tries again; only closed files lose bytes."""

    def __init__(self, seed: int, store: ScriptedObjects, later: bool = False) -> None:
        super().__init__(seed, store, later)
        self.faults = Random(seed)
        self.told = 0
        store.fault = self.fault_of_store
        self.lab.metadata.fault = lambda request: self.chance(ENOSPC) if isinstance(request, (Publish, Unsettle)) else 0

    def fault_of_store(self, kind: str) -> int:
        if kind in ("write", "zero"):
            return self.chance(ENOSPC)
        # A cut takes many removals, and all of them have to succeed.
        return self.chance(EIO, 0.01 if kind == "remove" else 0.1) if kind != "read" else 0

    def chance(self, errno: int, probability: float = 0.15) -> int:
        return errno if self.faults.random() < probability else 0

    def until_it_works(self, work: Callable[[], Any]) -> Any:
        error: OSError | None = None
        for _ in range(100):
            try:
                return work()
            except OSError as told:
                assert told.errno, "an error without a reason"
                error = told
                self.told += 1
        raise AssertionError("it never works") from error

    def write(self, model: ModelFile) -> None:
        offset, length = self.span()
        data = self.random.randbytes(length)
        self.tell("  at", offset, "length", length)
        file = self.random.choice(model.opens)

        def write() -> None:
            self.lab.now_ns += 10_000_000_000
            self.lab.data.tick(self.lab.now_ns)
            self.lab.nudge(self.order, 5)
            assert self.lab.wait(self.lab.write(file, offset, data)) == length

        self.until_it_works(write)
        model.content.extend(bytes(max(0, offset - len(model.content))))
        model.content[offset : offset + length] = data
        model.changed()

    def resize(self, model: ModelFile) -> None:
        if model.opens:
            self.until_it_works(lambda: self.lab.fsync(model.opens[0]))
            size = self.random.choice([0, 0, 10, BLOCK_BYTES, self.random.randrange(MAX_BYTES)])
            self.tell("  to", size)
            self.until_it_works(lambda: self.lab.set_size(model.ino, size))
            del model.content[size:]
            model.content.extend(bytes(size - len(model.content)))
            model.changed()

    def fsync(self, model: ModelFile) -> None:
        self.until_it_works(lambda: Run.fsync(self, model))

    def flush(self, model: ModelFile) -> None:
        self.until_it_works(lambda: Run.flush(self, model))

    def seek(self, model: ModelFile) -> None:
        """Its drain may fail like any other."""

    def punch(self, model: ModelFile, mode: int = 0) -> None:
        """Half a hole is not in the model."""

    def close(self, model: ModelFile) -> None:
        """The last one to close makes sure first."""
        self.until_it_works(lambda: self.lab.fsync(model.opens[0]))
        file = model.opens.pop()
        self.lab.data.close(file)

    def background(self, model: ModelFile) -> None:
        try:
            Run.background(self, model)
        except OSError:
            self.told += 1

    def finish(self) -> None:
        self.lab.quiet()
        self.lab.store.fault = lambda kind: 0
        self.lab.metadata.fault = lambda request: 0
        for model in self.files:
            for file in model.opens:
                self.until_it_works(lambda file=file: self.lab.fsync(file))  # type: ignore[misc]
        assert self.lab.lost == []
        self.compare()
        self.crash(power=self.random.random() < 0.5)  # the next mount makes up for what could not be removed


@pytest.fixture(params=[False, True], ids=["here", "far away"])
def later(request: pytest.FixtureRequest) -> bool:
    """Where the metadata is."""
    return bool(request.param)


@pytest.fixture
def run(request: pytest.FixtureRequest, seed: int, later: bool) -> Iterator[Run]:
    kind = getattr(request, "param", Run)
    run = kind(seed, ScriptedObjects(at_once=seed % 3 == 0), later)
    try:
        yield run
    finally:
        run.lab.abandon()
        print("\n".join(run.story))


@pytest.mark.parametrize("seed", range(25))
def test_agrees_with_byte_arrays(run: Run, seed: int) -> None:
    for _ in range(80):
        run.step()
        run.lab.check()
    run.finish()


@pytest.mark.parametrize("power", [False, True], ids=["killed", "power lost"])
@pytest.mark.parametrize("seed", range(40))
def test_a_crash_at_any_moment(run: Run, seed: int, power: bool) -> None:
    for _ in range(seed + 10):
        run.step()
    run.crash(power)


@pytest.mark.parametrize("run", [FailingRun], indirect=True)
@pytest.mark.parametrize("seed", range(25))
def test_errors_are_told_and_made_up_for(run: FailingRun, seed: int) -> None:
    for _ in range(60):
        run.step()
        run.lab.check()
    run.finish()
    assert run.told
