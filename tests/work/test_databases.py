"""SQLite: locks, shared memory, journals, several processes at once."""

import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from work.places import EVERYWHERE, LIMIT_S

pytestmark = EVERYWHERE

PROCESSES = 3
TRANSACTIONS = 40

#: Each transaction moves an amount between two accounts, so the sum stays, and writes it down.
WORKER = """
import random, sqlite3, sys
path, who, transactions = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
database = sqlite3.connect(path, timeout=60, isolation_level=None)
random.seed(who)
for number in range(transactions):
    one, other = random.sample(range(10), 2)
    database.execute("begin immediate")
    database.execute("update account set amount = amount - 1 where id = ?", (one,))
    database.execute("update account set amount = amount + 1 where id = ?", (other,))
    database.execute("insert into moved values (?, ?, ?)", (who, number, random.randbytes(3000)))
    database.execute("rollback" if number % 10 == 9 else "commit")
    assert database.execute("select sum(amount) from account").fetchone() == (1000,)
"""


@pytest.mark.parametrize("journal", ["wal", "delete", "truncate"])
def test_processes_share_a_database(journal: str, here: Path) -> None:
    path = here / "database"
    with closing(sqlite3.connect(path)) as database:
        assert database.execute(f"pragma journal_mode = {journal}").fetchone() == (journal,)
        database.execute("create table account (id integer primary key, amount integer)")
        database.execute("create table moved (who integer, number integer, note blob)")
        database.execute("create index of_who on moved (who, number)")
        database.executemany("insert into account values (?, 100)", [(number,) for number in range(10)])
        database.commit()
    workers = [
        subprocess.Popen([sys.executable, "-c", WORKER, path, str(who), str(TRANSACTIONS)]) for who in range(PROCESSES)
    ]
    try:
        assert [worker.wait(LIMIT_S) for worker in workers] == [0] * PROCESSES
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()
    with closing(sqlite3.connect(path)) as database:
        assert database.execute("pragma integrity_check").fetchall() == [("ok",)]
        count = database.execute("select count(*), sum(length(note)) from moved").fetchone()
        kept = PROCESSES * TRANSACTIONS * 9 // 10
        assert count == (kept, kept * 3000)
        assert database.execute("select sum(amount) from account").fetchone() == (1000,)
        database.execute("vacuum")
        assert database.execute("pragma integrity_check").fetchall() == [("ok",)]
    assert {found.name for found in here.iterdir()} == {"database"}
