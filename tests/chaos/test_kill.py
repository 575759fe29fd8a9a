"""kill -9 of a mount that works, at every place where something is written, and at no place in particular.

After each death: the volume as it lies admits what is in doubt, the next mount recovers it, everything acknowledged is
there (see `chaos.tree`), and once it is unmounted in order objects and inodes agree exactly. Then the same volume goes on.
"""

from pathlib import Path
from random import Random

import pytest

from chaos.life import Life
from chaos.tree import Call
from loligo_client.shell import mount
from loligo_runtime import failpoint

assert mount  # imported for the failpoints that it brings along

#: At which hit of a failpoint the process dies, one life after the other.
COUNTS = (1, 4, 25)
CALLS_A_LIFE = 250

#: Met while a volume is made, or only behind a torn journal: the tests of the store see to them.
_OF_THE_STORE = ("store.create.", "journal.cut.")
#: Met while a crash is recovered from, and perhaps never after.
_RECOVERY = ("data.reconcile.before", "data.reconcile.after")
#: Met after a loss of power only.
_POWER = "data.reconcile.cut"
#: Not met often.
_RARE = ("tables.room.", "journal.extend.")
#: Met when something in the trash is due: see tests/server/test_purging.py.
_OF_THE_TRASH = ("purge.",)
NAMES = [
    name
    for name in failpoint.names()
    if not name.startswith(_OF_THE_STORE + _OF_THE_TRASH) and name not in (*_RECOVERY, _POWER)
]

#: Files that are being written, cut, and removed while they are open: recovery has something to do.
UNFINISHED: list[Call] = [
    *[("create", (name, 0o600)) for name in ("one", "two", "three", "four")],
    ("write", ("one", 0, Random(1).randbytes(250_000), False)),
    ("write", ("two", 0, Random(2).randbytes(250_000), False)),
    ("fsync", ("two",)),
    ("hold", ("two",)),
    ("write", ("three", 0, Random(3).randbytes(250_000), True)),
    ("unlink", ("two",)),
    ("write", ("four", 0, Random(4).randbytes(100_000), False)),
    ("truncate", ("one", 70_000)),
]
RECOVERING = [
    *_RECOVERY,
    "driver.step.before",
    "driver.step.journaled",
    "journal.append.before",
    "data.remove.before",
    "data.remove.after",
    "objects.remove.before",
    "objects.remove.after",
    "objects.truncate.before",
    "objects.truncate.after",
]


@pytest.mark.parametrize("name", NAMES)
def test_killed_at(name: str, tmp_path: Path) -> None:
    deaths = 0
    with Life(tmp_path, seed=NAMES.index(name)) as life:
        for count in COUNTS:
            deaths += life.work(CALLS_A_LIFE, failpoint=f"{name}:{count}")
            life.check_crashed()
            life.check_recovered()
    assert deaths or name.startswith(_RARE), "the failpoint was not met"


@pytest.mark.parametrize("name", RECOVERING)
def test_killed_while_recovering(name: str, tmp_path: Path) -> None:
    with Life(tmp_path, seed=0) as life:
        assert life.work(0, script=UNFINISHED, failpoint="data.resize.told:1")
        deaths = 0
        for count in (1, 2):
            deaths += life.die_recovering(f"{name}:{count}")
            life.check_crashed()
        life.check_recovered()
    assert deaths, "the failpoint was not met"


@pytest.mark.parametrize("seed", range(3))
def test_killed_at_any_time(seed: int, tmp_path: Path) -> None:
    random = Random(seed)
    with Life(tmp_path, seed=1000 + seed) as life:
        for _ in range(5):
            assert life.work(10_000, kill_after_s=random.uniform(0.01, 0.5))
            life.check_crashed()
            life.check_recovered()


# Found by the tests above, each as short as it can be.


def test_an_object_below_the_size_of_an_inline_file_is_in_doubt_too(tmp_path: Path) -> None:
    with Life(tmp_path, seed=0) as life:
        script: list[Call] = [
            ("create", ("file", 0o600)),
            ("write", ("file", 0, b"abc", False)),
            ("write", ("file", 150_000, b"abc", False)),
        ]
        assert life.work(0, script=script, failpoint="data.block.after:1")
        life.check_crashed()
        life.check_recovered()


def test_inline_content_stays_until_objects_have_it(tmp_path: Path) -> None:
    block_bytes = 256 << 10
    with Life(tmp_path, seed=0, block_bytes=block_bytes) as life:
        script: list[Call] = [
            ("create", ("file", 0o600)),
            ("write", ("file", 0, b"abc", False)),
            ("fsync", ("file",)),
            ("write", ("file", block_bytes, Random(1).randbytes(block_bytes), True)),
        ]
        assert life.work(0, script=script, failpoint="data.publish.after:2")
        life.check_crashed()
        life.check_recovered()
