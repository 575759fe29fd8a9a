"""The data path on the store of embedded volumes: random operations agree with byte arrays, on real files and threads."""

from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future
from pathlib import Path
from random import Random
from typing import Any

import pytest

from loligo_lab.scripted_objects import ScriptedObjects
from loligo_runtime.local_objects import LocalObjectStore
from unit.data_lab import DEADLINE_S, DataLab
from unit.test_data_path_model import Run


class LocalObjects(LocalObjectStore):
    """As the lab wants it: nothing is pending, what is waited for comes by itself."""

    def __init__(self, directory: bytes) -> None:
        super().__init__(directory, create=True)
        self.pending: list[Any] = []
        self.violations: list[str] = []
        self.fault: Callable[[str], int] = lambda kind: 0


class LocalLab(DataLab):
    def wait(self, answer: Any) -> Any:
        if isinstance(answer, Generator):
            answer = self.start(answer)
        return answer.result(DEADLINE_S) if isinstance(answer, Future) else answer

    def quiet(self) -> None:
        self.data.sync_all().result(DEADLINE_S)
        self.keeper.wait()

    def nudge(self, random: Random, most: int) -> None:
        """The store's own threads see to that."""


class LocalRun(Run):
    def make_lab(self, store: Any) -> DataLab:
        return LocalLab(store, choose=self.order)


@pytest.fixture
def run(tmp_path: Path, seed: int) -> Iterator[LocalRun]:
    store: Any = LocalObjects(bytes(tmp_path / "objects"))
    run = LocalRun(seed, store)
    try:
        yield run
    finally:
        run.lab.abandon()
        store.close()
        print("\n".join(run.story))


@pytest.mark.parametrize("seed", range(8))
def test_agrees_with_byte_arrays(run: LocalRun, seed: int) -> None:
    for _ in range(150):
        run.step()
        run.lab.check()
    run.finish()


def test_the_twin_has_every_method_of_the_store() -> None:
    public = {name for name in vars(LocalObjectStore) if not name.startswith("_")}
    assert public <= set(dir(ScriptedObjects))
