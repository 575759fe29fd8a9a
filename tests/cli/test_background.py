"""The process in the background reports once, whatever becomes of it."""

import contextlib
import os
import subprocess
import sys
import time
from pathlib import Path

from cli.command_line import CommandLine, has_ended, wait_until

SCRIPT = """
import os, sys, time
from loligo.background import run_in_background
from loligo.failures import CommandError
from loligo.logs import log_to_file

def work(on_ready):
    {work}

try:
    print(run_in_background(work, sys.argv[1], log_to_file))
except CommandError as error:
    print(error)
"""


def said(log: Path, work: str) -> str:
    # A process of its own: forking one with pytest's threads and files would be asking for trouble.
    command = [sys.executable, "-c", SCRIPT.format(work=work), str(log)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, timeout=60, check=True).stdout


def test_it_returns_when_the_work_is_ready(tmp_path: Path) -> None:
    began = time.monotonic()
    pid = int(said(tmp_path / "log", "on_ready(); time.sleep(1)"))
    assert time.monotonic() - began < 0.9
    assert not has_ended(pid)
    wait_until(lambda: has_ended(pid), "the end of the work")


def test_an_error_is_the_callers(tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert said(log, "raise FileNotFoundError(2, 'No such file', '/some/where')") == "/some/where: No such file\n"
    assert "/some/where: No such file" in log.read_text()


def test_a_bug_leaves_its_traceback_in_the_log(tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert said(log, "1 / 0") == f"ZeroDivisionError: division by zero (a bug in loligo): see {log}\n"
    assert "Traceback" in log.read_text()


def test_an_error_after_ready_is_in_the_log(tmp_path: Path) -> None:
    log = tmp_path / "log"
    pid = int(said(log, "on_ready(); raise OSError(5, 'Input/output error')"))
    wait_until(lambda: has_ended(pid), "the end of the work")
    assert "Input/output error" in log.read_text()


def test_a_process_that_ends_without_a_word(tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert said(log, "os._exit(7)") == f"the mount process ended before the mount worked (exit code 7): see {log}\n"
    assert "(signal 9)" in said(log, "os.kill(os.getpid(), 9)")


def test_a_mount_that_is_killed_while_it_recovers(cli: CommandLine) -> None:
    cli.create()
    cli.mount()
    file = os.open(cli.directory / "file", os.O_WRONLY | os.O_CREAT)
    (cli.directory / "file").unlink()
    cli.kill()  # so that recovery has a file to remove
    with contextlib.suppress(OSError):
        os.close(file)
    cli.environment["LOLIGO_FAILPOINT"] = "journal.append.before:1"
    assert "(signal 9)" in cli.refusal("mount", "work", str(cli.directory))
    assert not cli.is_mounted()
    del cli.environment["LOLIGO_FAILPOINT"]
    cli.mount()
