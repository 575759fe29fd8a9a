"""`loligo volume …`, and volumes that are not what they should be: a clear line, and nothing changed."""

import hashlib
import json
from pathlib import Path

import lmdb
import pytest

from cli.command_line import CommandLine


def digests(folder: Path) -> dict[str, str]:
    """What is stored below `folder`, but for the log and the note in the lock file."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in ("mount.log", "lock")
    }


def test_a_volume_is_made_listed_and_shown(cli: CommandLine) -> None:
    cli.create("work", None, "--block-size", "1M", "--inline", "0")
    cli.create("more")
    assert json.loads(cli.run("volume", "list", "--json").stdout) == [
        {"name": name, "meta": cli.meta(name).as_uri()} for name in ("more", "work")
    ]
    assert "work" in cli.run("volume", "list").stdout
    shown = json.loads(cli.run("volume", "show", "work", "--json").stdout)
    assert shown.pop("uuid")
    assert shown == {
        "name": "work",
        "meta": cli.meta().as_uri(),
        "data": cli.data_url(),
        "block_bytes": 1 << 20,
        "inline_bytes": 0,
        "format": 1,
        "mounted_at": None,
    }
    assert "4 MiB" in cli.run("volume", "show", cli.meta("more").as_uri()).stdout


def test_no_volumes_yet(cli: CommandLine) -> None:
    assert json.loads(cli.run("volume", "list", "--json").stdout) == []
    assert "loligo volume create" in cli.run("volume", "list").stderr
    assert "known: none" in cli.refusal("volume", "show", "work")


def test_help_teaches(cli: CommandLine) -> None:
    assert "loligo volume create work --meta" in cli.run("--help").stdout
    for command in (
        "volume",
        "volume create",
        "volume list",
        "volume show",
        "volume check",
        "mount",
        "umount",
        "status",
    ):
        assert "Usage: loligo" in cli.run(*command.split(), "--help").stdout


@pytest.mark.parametrize(
    ("meta", "data", "says"),
    [
        ("relative/folder", "file:///{root}/d", "give file:///a/folder"),
        ("file://host/folder", "file:///{root}/d", "give file:///a/folder"),
        ("file:///{root}/m", "relative", "a right one looks like file:///absolute/folder"),
        ("file:///{root}/m", "http://example.org/", "names no object store"),
        ("file:///{root}/m", "rados://pool", "needs conf="),
        ("file:///{root}/m", "rados://pool?conf=/nowhere/ceph.conf", "/nowhere/ceph.conf"),
    ],
)
def test_a_wrong_url_makes_nothing(cli: CommandLine, meta: str, data: str, says: str) -> None:
    root = str(cli.root).lstrip("/")
    said = cli.refusal("volume", "create", "w", "--meta", meta.format(root=root), "--data", data.format(root=root))
    assert says in said
    assert json.loads(cli.run("volume", "list", "--json").stdout) == []
    assert not (cli.root / "m" / "volume.json").exists()


@pytest.mark.parametrize(("option", "value"), [("--block-size", "many"), ("--inline", "4X")])
def test_a_malformed_size_is_a_wrong_call(cli: CommandLine, option: str, value: str) -> None:
    done = cli.run("volume", "create", "w", "--meta", "file:///m", "--data", "file:///d", option, value, code=2)
    assert "is no size" in done.stderr


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--block-size", "3M"), "power of two"),
        (("--block-size", "4K"), "between 64K and 64M"),
        (("--inline", "1M"), "between 0 (off) and 64K"),
    ],
)
def test_impossible_sizes_are_refused(cli: CommandLine, options: tuple[str, ...], says: str) -> None:
    meta = cli.meta().as_uri()
    assert says in cli.refusal("volume", "create", "work", "--meta", meta, "--data", cli.data_url(), *options)


def test_a_name_or_place_that_is_taken_stays_as_it_is(cli: CommandLine) -> None:
    cli.create()
    before = digests(cli.root)
    elsewhere = (cli.root / "elsewhere").as_uri()
    assert "choose another name" in cli.refusal("volume", "create", "work", "--meta", elsewhere, "--data", elsewhere)
    said = cli.refusal("volume", "create", "other", "--meta", cli.meta().as_uri(), "--data", cli.data_url())
    assert "already" in said
    assert digests(cli.root) == before


def test_a_description_of_a_newer_format(cli: CommandLine) -> None:
    cli.create()
    path = cli.meta() / "volume.json"
    path.write_text(path.read_text().replace('"format": 1', '"format": 2'))
    before = digests(cli.root)
    assert "upgrade it" in cli.refusal("mount", "work", str(cli.directory))
    assert digests(cli.root) == before


@pytest.mark.parametrize("text", ["", "{}", "[1]", "not json", '{"format": 1}'])
def test_a_damaged_description(cli: CommandLine, text: str) -> None:
    cli.create()
    (cli.meta() / "volume.json").write_text(text)
    assert "volume.json" in cli.refusal("mount", "work", str(cli.directory))


def test_tables_of_another_program(cli: CommandLine) -> None:
    cli.create()
    tables = cli.meta() / "shard-0000" / "tables.mdb"
    tables.unlink()
    with lmdb.open(str(tables), subdir=False, lock=False) as environment, environment.begin(write=True) as transaction:
        transaction.put(b"whose", b"somebody else's")
    before = digests(cli.root)
    assert "tables.mdb" in cli.refusal("mount", "work", str(cli.directory))
    assert digests(cli.root) == before
    assert not cli.is_mounted()


def test_tables_of_a_newer_format(cli: CommandLine) -> None:
    cli.create()
    tables = cli.meta() / "shard-0000" / "tables.mdb"
    environment = lmdb.open(str(tables), subdir=False, lock=False, max_dbs=16)
    meta = environment.open_db(b"meta")
    with environment, environment.begin(write=True) as transaction:
        row = transaction.get(b"store.format", db=meta)
        assert row is not None
        transaction.put(b"store.format", b"\x63" + row[1:-5] + b"9.8.7", db=meta)
    before = digests(cli.root)
    said = cli.refusal("mount", "work", str(cli.directory))
    assert "format 99" in said and "9.8.7" in said
    assert digests(cli.root) == before


def test_two_volumes_mixed_up(cli: CommandLine) -> None:
    cli.create("work")
    cli.create("more")
    (cli.meta("work") / "shard-0000").rename(cli.root / "aside")
    (cli.meta("more") / "shard-0000").rename(cli.meta("work") / "shard-0000")
    assert "another volume" in cli.refusal("mount", "work", str(cli.directory))


def test_a_data_folder_that_is_gone(cli: CommandLine) -> None:
    cli.create()
    (cli.root / "work" / "data").rename(cli.root / "aside")
    assert str(cli.root / "work" / "data") in cli.refusal("mount", "work", str(cli.directory))


def test_a_flipped_byte_in_the_journal(cli: CommandLine) -> None:
    """Files made, the process killed: they are in the journal only."""
    cli.create()
    cli.mount()
    for number in range(20):
        (cli.directory / f"file-{number}").touch()
    cli.kill()
    segments = list((cli.meta() / "shard-0000" / "journal").glob("*.segment"))
    with max(segments, key=lambda path: path.name).open("r+b") as segment:
        segment.seek(512 + 40)
        byte = segment.read(1)
        segment.seek(512 + 40)
        segment.write(bytes([byte[0] ^ 0x10]))
    before = digests(cli.root)
    said = cli.refusal("mount", "work", str(cli.directory))
    assert "Nothing was changed" in said and ".segment" in said
    assert digests(cli.root) == before
    assert "Nothing was changed" in cli.log()
