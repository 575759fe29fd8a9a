"""SQLite on a mount that is killed: what was committed is there, and the database is sound."""

import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from random import Random

import pytest

from chaos.life import ChaosMount
from loligo_lab.mounts import assert_sound, make_lab_volume
from loligo_lab.processes import wait_until

#: Prints the number of each row once it is committed.
WRITER = """
import sqlite3, sys
database = sqlite3.connect(sys.argv[1], isolation_level=None)
database.execute("pragma synchronous = full")
first = database.execute("select count(*) from kept").fetchone()[0]
for number in range(first, 100_000):
    database.execute("begin")
    database.execute("insert into kept values (?, randomblob(?))", (number, number * 37 % 9000))
    database.execute("update counter set value = ?", (number + 1,))
    database.execute("commit")
    print(number, flush=True)
"""


@pytest.mark.parametrize("journal", ["wal", "delete"])
def test_committed_rows_outlive_the_mount(journal: str, tmp_path: Path) -> None:
    random = Random(journal)
    volume = make_lab_volume(tmp_path)
    with ChaosMount(volume, tmp_path / "mnt") as mount:
        path = mount.path / "database"
        with closing(sqlite3.connect(path)) as database:
            database.execute(f"pragma journal_mode = {journal}")
            database.execute("create table kept (number integer primary key, content blob)")
            database.execute("create table counter (value integer)")
            database.execute("insert into counter values (0)")
            database.commit()
        for _ in range(4):
            rows = tmp_path / "rows"
            with rows.open("wb") as told:
                writer = subprocess.Popen([sys.executable, "-c", WRITER, path], stdout=told, stderr=subprocess.DEVNULL)
            some = random.randint(1, 100)
            try:
                wait_until(lambda rows=rows, some=some: rows.read_bytes().count(b"\n") >= some, "rows")  # type: ignore[misc]
                mount.kill()
                assert writer.wait(30) != 0
            finally:
                writer.kill()
                writer.wait()
            last = int(rows.read_text().split()[-1])
            mount.start()
            with closing(sqlite3.connect(path)) as database:
                assert database.execute("pragma integrity_check").fetchall() == [("ok",)]
                count, highest = database.execute("select count(*), max(number) from kept").fetchone()
                assert count == highest + 1
                assert highest in (last, last + 1)
                assert database.execute("select value from counter").fetchone() == (count,)
    assert_sound(volume)
