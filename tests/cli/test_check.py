"""`loligo volume check`: silent about sound volumes, and a sentence for each thing that is wrong."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from cli.command_line import CommandLine
from loligo_runtime.object_store import ObjectStore, object_name
from loligo_runtime.object_url import open_object_store

BLOCK = 64 << 10


def report(cli: CommandLine, code: int = 0) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(cli.run("volume", "check", "work", "--json", code=code).stdout)
    return found


@contextmanager
def objects(cli: CommandLine) -> Iterator[ObjectStore]:
    store = open_object_store(cli.data_url(), create=False)
    try:
        yield store
    finally:
        store.close()


def make_files(cli: CommandLine) -> int:
    """Of every kind; the inode number of the one with three and a half blocks."""
    cli.create("work", None, "--block-size", "64K")
    cli.mount()
    (cli.directory / "empty").touch()
    (cli.directory / "small").write_bytes(b"inline")
    (cli.directory / "folder").mkdir()
    (cli.directory / "link").symlink_to("small")
    with open(cli.directory / "sparse", "wb") as sparse:
        sparse.truncate(10 * BLOCK)
        sparse.seek(5 * BLOCK)
        sparse.write(b"in the middle")
    (cli.directory / "large").write_bytes(os.urandom(3 * BLOCK + BLOCK // 2))
    ino = (cli.directory / "large").stat().st_ino
    cli.umount()
    return ino


def test_a_sound_volume(cli: CommandLine) -> None:
    make_files(cli)
    found = report(cli)
    assert found["problems"] == []
    assert found["inodes"] == 7
    assert found["objects"] == 5
    assert "sound" in cli.run("volume", "check", cli.meta().as_uri()).stdout


def test_a_volume_after_a_crash_is_sound(cli: CommandLine) -> None:
    cli.create("work", None, "--block-size", "64K")
    cli.mount()
    for number in range(30):
        (cli.directory / f"file-{number}").write_bytes(os.urandom(BLOCK * (number % 4) + number))
    for number in range(0, 30, 3):
        (cli.directory / f"file-{number}").unlink()
    cli.kill()
    assert report(cli)["problems"] == []
    cli.mount()
    cli.umount()
    assert report(cli)["problems"] == []


def test_a_volume_in_use_is_not_checked(cli: CommandLine) -> None:
    cli.create()
    cli.mount()
    said = cli.refusal("volume", "check", "work")
    assert f"in use by process {cli.mounted()['pid']}" in said


def test_a_missing_object_is_named(cli: CommandLine) -> None:
    ino = make_files(cli)
    with objects(cli) as store:
        store.remove(ino, 1).result()
    problems = report(cli, code=1)["problems"]
    assert problems == [
        f"object {object_name(ino, 1)} is missing; inode {ino} has no holes and needs 65536 bytes of it"
    ]
    assert problems[0] in cli.run("volume", "check", "work", code=1).stdout


def test_a_short_object_is_named(cli: CommandLine) -> None:
    ino = make_files(cli)
    with objects(cli) as store:
        store.truncate(ino, 3, 5).result()
    assert report(cli, code=1)["problems"] == [
        f"object {object_name(ino, 3)} has 5 bytes; inode {ino} has no holes and needs 32768 bytes of it"
    ]


def test_bytes_beyond_the_end_are_found(cli: CommandLine) -> None:
    ino = make_files(cli)
    with objects(cli) as store:
        store.write(ino, 4, 0, b"?").result()
    assert report(cli, code=1)["problems"] == [
        f"object {object_name(ino, 4)} has 1 bytes; inode {ino} ends at {3 * BLOCK + BLOCK // 2}, its blocks have {BLOCK}"
    ]


def test_an_object_of_no_file_is_found(cli: CommandLine) -> None:
    make_files(cli)
    with objects(cli) as store:
        store.write(99999, 0, 0, b"?").result()
    assert report(cli, code=1)["problems"] == [f"object {object_name(99999, 0)} belongs to no file"]


def test_a_missing_object_is_an_error_of_the_reader_and_of_the_log(cli: CommandLine) -> None:
    ino = make_files(cli)
    with objects(cli) as store:
        store.remove(ino, 2).result()
    cli.mount()
    try:
        (cli.directory / "large").read_bytes()
    except OSError as error:
        assert error.strerror == "Input/output error"
    else:
        raise AssertionError("zeros were made up")
    assert object_name(ino, 2) in cli.log()
