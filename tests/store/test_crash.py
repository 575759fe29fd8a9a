"""kill -9 at every failpoint: what was acknowledged is there, and at most the step in flight with it."""

import os
import signal
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from loligo_mds.store.shard_store import ShardStore
from loligo_runtime import failpoint
from store.steps import UUID, contents, files, model_after, segment, small_pieces, step_writes, take

SEED = 11
STEPS_A_RUN = 150
COUNTS = (1, 2, 5)

#: Those of the store; the names of modules that other tests have imported are theirs.
NAMES = [name for name in failpoint.names() if name.startswith(("journal.", "store.", "tables."))]

#: Not met at every step or checkpoint.
RARE = ("journal.cut.", "store.create.", "tables.room.")


def serve(folder: Path, acknowledge: int) -> None:
    """The life of the process that gets killed: create if need be, open, steps, checkpoints, close."""
    if not (folder / "tables.mdb").exists():
        ShardStore.create(str(folder), UUID)
    store = ShardStore.open(str(folder))
    for number in range(store.position + 1, store.position + 1 + STEPS_A_RUN):
        position = take(store, step_writes(SEED, number))
        assert position == number
        if number % 7 == 0:
            store.sync(position)
        os.write(acknowledge, struct.pack("<Q", number))
        if number % 20 == 0:
            store.checkpoint()
    store.close()


def run_and_kill(folder: Path, setting: str) -> tuple[int, bool]:
    """`serve` in a child with the failpoint armed: the last step that it acknowledged, and whether it was killed."""
    read_end, write_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            failpoint.arm(setting)
            serve(folder, write_end)
            code = 0
        finally:
            os._exit(code)
    os.close(write_end)
    _, status = os.waitpid(pid, 0)
    with open(read_end, "rb") as pipe:
        acknowledged = max((number for (number,) in struct.iter_unpack("<Q", pipe.read())), default=0)
    killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
    assert killed or status == 0, f"the child failed: {status}"
    return acknowledged, killed


def tear(folder: Path) -> None:
    """As after a power loss: half of a record behind the last one."""
    path = segment(folder)
    data = path.read_bytes()
    end = -(-len(data.rstrip(b"\0")) // 8) * 8
    with open(path, "r+b") as file:
        file.seek(max(end, 512))
        file.write(struct.pack("<I", 100))


@pytest.mark.parametrize("name", NAMES)
def test_killed_at(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "volume"
    done = 0
    kills = 0
    with small_pieces():
        if not name.startswith("store.create."):
            ShardStore.create(str(folder), UUID)
        for count in COUNTS:
            if name.startswith("journal.cut."):
                tear(folder)
            acknowledged, killed = run_and_kill(folder, f"{name}:{count}")
            kills += killed
            done = max(done, acknowledged)
            if not (folder / "tables.mdb").exists():
                assert name.startswith("store.create.")
                continue
            store = ShardStore.open(str(folder))
            # The step in flight may have come to the journal, but not to the one who asked.
            assert store.position in (done, done + 1)
            done = store.position
            assert contents(store) == model_after(SEED, done)
            assert store.check() == []
            # And it lives on.
            for number in range(done + 1, done + 31):
                take(store, step_writes(SEED, number))
            done += 30
            assert store.checkpoint()
            assert contents(store) == model_after(SEED, done)
            store.close()
            assert {path.name for path in (folder / "journal").iterdir()} - {"spare.new"} == {
                "spare",
                segment(folder).name,
            }
    assert kills >= (1 if name.startswith(RARE) else 2), "the failpoint was not met"


def test_the_variable_arms_a_process(tmp_path: Path) -> None:
    folder = tmp_path / "volume"
    code = (
        "import sys; sys.path[:0] = sys.argv[2:]\n"
        "from loligo_mds.store.shard_store import ShardStore\n"
        "ShardStore.create(sys.argv[1], bytes(16))\n"
    )
    for setting, status in [("store.create.tables:1", -signal.SIGKILL), ("store.create.tables:2", 0)]:
        process = subprocess.run(
            [sys.executable, "-c", code, str(folder), *sys.path],
            env={**os.environ, "LOLIGO_FAILPOINT": setting},
            check=False,
        )
        assert process.returncode == status
    assert "tables.mdb" in files(folder)


def test_names_are_declared_once_and_settings_are_checked() -> None:
    with pytest.raises(ValueError, match="declared twice"):
        failpoint.declare("journal.append.before")
    for setting in ("journal.append.before", "journal.append.before:0", ":1", "x:y"):
        with pytest.raises(ValueError, match="say NAME:COUNT"):
            failpoint.arm(setting)
