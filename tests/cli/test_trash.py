"""`loligo trash`, `loligo rmtree` and `loligo jobs`, and the same from Python, on a real mount."""

import json
import os
import stat
import subprocess
from functools import partial
from pathlib import Path

import pytest
import trio

import loligo
from cli.command_line import CommandLine, wait_until
from loligo.trash import NotRestored
from loligo.trash_folder import TrashError, shown
from loligo_lab.users import NOBODY, SOMEBODY, as_user
from loligo_trash.rate import RATE_MAX


@pytest.fixture
def mnt(cli: CommandLine) -> Path:
    """A mount that keeps also what has just been made, on which everybody may write."""
    cli.create()
    cli.mount()
    os.setxattr(cli.directory, "loligo.trash.minimum_age", b"0")
    cli.directory.chmod(0o1777)
    return cli.directory


def remove(*paths: Path) -> None:
    """By a process of its own, so as a batch of its own."""
    subprocess.run(["rm", "-rf", *paths], check=True)


def make_tree(top: Path) -> list[str]:
    for number in range(3):
        (top / f"d{number}").mkdir(parents=True)
        for index in range(4):
            (top / f"d{number}" / f"f{index}").write_bytes(b"x" * index)
    return tree(top)


def tree(top: Path) -> list[str]:
    return sorted(str(path.relative_to(top)) for path in top.rglob("*"))


def listed(cli: CommandLine, *arguments: str) -> list[dict[str, object]]:
    told: list[dict[str, object]] = json.loads(cli.run("trash", "list", *arguments, "--json").stdout)
    return told


# -- list ---------------------------------------------------------------------------------------------------------------


def test_a_batch_is_a_line(cli: CommandLine, mnt: Path) -> None:
    make_tree(mnt / "a" / "tree")
    for name in "xyz":
        (mnt / "a" / name).write_text("abc")
    remove(mnt / "a" / "tree")
    remove(mnt / "a" / "x", mnt / "a" / "y", mnt / "a" / "z")
    loligo.rmtree(mnt / "a")
    told = [" ".join(line.split()) for line in cli.run("trash", "list", str(mnt)).stdout.splitlines()]
    assert [line.split()[0] for line in told] == ["BATCH", "3", "2", "1"]
    assert told[1].split()[3] in ("tree", "1") and told[1].endswith(f" {mnt}/a")
    assert " root 3 9 bytes 6d 23h " in told[2] and told[2].endswith(" and 2 others")
    assert " root 16 18 bytes 6d 23h " in told[3] and told[3].endswith(f" {mnt}/a/tree")
    newest, second, first = listed(cli, str(mnt))
    assert (newest["batch"], newest["label"], newest["paths"]) == (3, "a", [f"{mnt}/a"])
    assert (second["common"], second["names"], second["size_bytes"]) == (f"{mnt}/a", 3, 9)
    assert first["uid"] == 0 and not first["purged"] and first["all_paths"]
    assert os.path.isdir(str(first["trash"]))


def test_only_below_a_path_since_a_time_and_by_a_user(cli: CommandLine, mnt: Path) -> None:
    for name in "ab":
        make_tree(mnt / name)
    remove(mnt / "a" / "d0")
    remove(mnt / "b")
    as_user(lambda: (mnt / "c").touch(), NOBODY)
    as_user(lambda: (mnt / "c").unlink(), NOBODY)

    def found(*arguments: str) -> list[object]:
        return [row["batch"] for row in listed(cli, *arguments)]

    assert found(str(mnt)) == [3, 2, 1]
    assert found(str(mnt / "a")) == [1]
    assert found(str(mnt / "b")) == found(str(mnt / "b" / "d1" / "f2")) == [2]
    assert listed(cli, str(mnt / "b" / "d1"))[0]["paths"] == [f"{mnt}/b/d1"]
    assert found(str(mnt / "nothing")) == []
    assert found(str(mnt), "--by", "nobody") == found(str(mnt), "--by", str(NOBODY)) == [3]
    assert found(str(mnt), "--since", "1h") == [3, 2, 1]
    assert found(str(mnt), "--since", "2999-01-01") == []
    assert "no time" in cli.refusal("trash", "list", str(mnt), "--since", "yesterday")
    assert "no user 'noone'" in cli.refusal("trash", "list", str(mnt), "--by", "noone")
    assert "nothing that you could restore" in cli.run("trash", "list", str(mnt / "nothing")).stderr


def requests(mnt: Path) -> int:
    """So many were asked so far."""
    lines = (mnt / ".loligo" / "stats").read_text().splitlines()
    return sum(int(line.split()[-1]) for line in lines if line.startswith("loligo_client_requests_total"))


def test_many_batches_are_listed_with_a_few_requests(cli: CommandLine, mnt: Path) -> None:
    for number in range(400):
        (mnt / f"tree {number}").mkdir()
        os.rename(mnt / f"tree {number}", mnt / ".trash" / f"tree {number}")
    make_tree(mnt / "a")
    loligo.rmtree(mnt / "a")
    before = requests(mnt)
    rows = listed(cli, str(mnt))
    assert [row["paths"] for row in rows] == [[f"{mnt}/a"], *([f"{mnt}/tree {n}"] for n in reversed(range(400)))]
    told = cli.run("trash", "list", str(mnt)).stdout
    assert told.count("\n") == 402
    assert requests(mnt) - before < 2 * 25, "those of one batch are a few"
    before = requests(mnt)
    assert [row["paths"] for row in listed(cli, str(mnt / "tree 7"))] == [[f"{mnt}/tree 7"]]
    assert [row["paths"] for row in listed(cli, str(mnt / "a" / "d1"))] == [[f"{mnt}/a/d1"]]
    assert loligo.trash.restore(mnt / "tree 8").restored[0].target == os.fsencode(mnt / "tree 8")
    assert len(loligo.trash.batches(mnt)) == 400
    assert requests(mnt) - before < 150


def test_what_a_batch_has(cli: CommandLine, mnt: Path) -> None:
    """A path in .trash."""
    before = make_tree(mnt / "a" / "t")
    for number in range(150):
        (mnt / f"f{number}").touch()
    remove(mnt / "a" / "t", *(mnt / f"f{number}" for number in range(3)))
    remove(*(mnt / f"f{number}" for number in range(3, 150)))
    loligo.rmtree(mnt / "a")
    tree_batch, many, few = (mnt / ".trash" / batch.name for batch in loligo.trash.batches(mnt))
    lines = cli.run("trash", "list", str(few)).stdout.splitlines()
    assert len(lines) == 5 and lines[1].split()[0] == "1"
    assert sorted(line.split()[-1] for line in lines[1:]) == [f"{mnt}/a/t", *(f"{mnt}/f{n}" for n in range(3))]
    assert [row["paths"] for row in listed(cli, str(few / "a"))] == [[f"{mnt}/a/t"]]
    assert [row["paths"] for row in listed(cli, str(few / "a" / "t" / before[0]))] == [[f"{mnt}/a/t/{before[0]}"]]
    assert [row["batch"] for row in listed(cli, f"{mnt}/.trash")] == [3, 2, 1]
    assert cli.run("trash", "list", str(tree_batch)).stdout.splitlines()[1].endswith(f" {mnt}/a")
    (row,) = listed(cli, str(many))
    assert (row["batch"], len(row["paths"]), row["all_paths"]) == (2, 100, False)  # type: ignore[arg-type]
    assert cli.run("trash", "list", str(many)).stdout.splitlines()[-1].strip() == "…"
    assert listed(cli, str(mnt))[1]["all_paths"] is False
    assert f"'loligo trash list {mnt}' shows which" in cli.refusal("trash", "list", f"{mnt}/.trash/other")
    assert "no such thing" in cli.refusal("trash", "list", str(few / "none"))
    assert [batch.number for batch in loligo.trash.batches(many)] == [2]
    (mnt / "f140").touch()
    assert [row["batch"] for row in listed(cli, str(mnt / "f140"))] == [2], "also what is not among those that are told"


def test_where_somebody_is(cli: CommandLine, mnt: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_tree(mnt / "a")
    make_tree(mnt / "b")
    remove(mnt / "b" / "d0")
    monkeypatch.chdir(mnt / "a")
    try:
        assert [row["batch"] for row in listed(cli)] == [1] and listed(cli, ".") == []
        assert cli.run("trash", "restore", "1").stdout == f"{mnt}/b/d0\n"
    finally:
        monkeypatch.undo()


def test_names_that_cannot_be_printed(cli: CommandLine, mnt: Path) -> None:
    name = b"a\nb\xff\x1b[1m"
    os.mkdir(os.path.join(os.fsencode(mnt), name))
    os.rmdir(os.path.join(os.fsencode(mnt), name))
    assert cli.run("trash", "list", str(mnt)).stdout.endswith(f"{mnt}/a\\nb\\xff\\x1b[1m\n")
    (row,) = listed(cli, str(mnt))
    assert row["paths"] == [os.path.join(str(mnt), os.fsdecode(name))]
    cli.run("trash", "restore", "1", "--mount", str(mnt))
    assert os.listdir(os.fsencode(mnt)) == [name]
    assert shown(b"\xc3\xa9 \xff\t") == "é \\xff\\t"


def test_where_there_is_no_volume(cli: CommandLine, mnt: Path) -> None:
    for arguments in (["list", "/tmp"], ["restore", "/tmp/f"], ["purge", "1", "--mount", "/tmp"], ["empty", "/"]):
        done = cli.run("trash", *arguments, code=1)
        assert "is on no Loligo volume" in done.stderr and str(mnt) in done.stderr, done
    assert "is on no Loligo volume" in cli.run("rmtree", "/tmp", code=1).stderr


# -- restore ------------------------------------------------------------------------------------------------------------


def test_a_batch_comes_back_by_number_by_name_and_by_path(cli: CommandLine, mnt: Path) -> None:
    before = make_tree(mnt / "t")
    for what in ("{number}", "{name}", "{mnt}/t", "{mnt}/.trash/{name}", "{mnt}/.trash/{name}/t"):
        remove(mnt / "t")
        (batch,) = loligo.trash.batches(mnt)
        named = what.format(number=batch.number, name=batch.name, mnt=mnt)
        assert cli.run("trash", "restore", named, "--mount", str(mnt)).stdout == f"{mnt}/t\n"
        assert tree(mnt / "t") == before
        assert loligo.trash.batches(mnt) == []


def test_one_thing_of_many(cli: CommandLine, mnt: Path) -> None:
    make_tree(mnt / "t")
    (mnt / "t" / "d1").chmod(0o2750)
    os.chown(mnt / "t" / "d1", 5, 6)
    remove(mnt / "t")
    cli.run("trash", "restore", str(mnt / "t" / "d1" / "f2"))
    assert tree(mnt / "t") == ["d1", "d1/f2"] and (mnt / "t" / "d1" / "f2").read_bytes() == b"xx"
    made = (mnt / "t" / "d1").stat()
    assert (stat.S_IMODE(made.st_mode), made.st_uid, made.st_gid) == (0o2750, 5, 6)


def test_one_file_of_a_tree_that_was_moved_as_a_whole(cli: CommandLine, mnt: Path) -> None:
    before = make_tree(mnt / "a" / "t")
    cli.run("rmtree", str(mnt / "a" / "t"))
    wait_until(lambda: loligo.trash.batches(mnt)[0].is_counted, "it is counted")
    batch = loligo.trash.batches(mnt)[0]
    cli.run("trash", "restore", str(mnt / "a" / "t" / "d1" / "f2"))
    assert tree(mnt) == ["a", "a/t", "a/t/d1", "a/t/d1/f2"] and (mnt / "a" / "t" / "d1" / "f2").read_bytes() == b"xx"
    left = loligo.trash.batches(mnt)[0]
    assert (left.inodes, left.size_bytes) == (batch.inodes - 1, batch.size_bytes - 2)
    cli.run("trash", "restore", str(mnt / ".trash" / batch.name / "a" / "t" / "d0"), "--to", str(mnt / "a"))
    assert [path for path in tree(mnt / "a") if path.startswith("d0")] == [p for p in before if p.startswith("d0")]
    (mnt / "a" / "d0" / "new").mkdir()
    (mnt / "a" / "t").rename(mnt / "a" / "some")
    (mnt / "a" / "d0" / "new").rmdir()
    cli.run("trash", "restore", str(mnt / "a" / "t"))
    rest = [path for path in before if not path.startswith("d0") and path != "d1/f2"]
    assert tree(mnt / "a" / "t") == rest


def test_paths_as_long_as_can_be(cli: CommandLine, mnt: Path) -> None:
    """In the trash they are longer than that."""
    deep = mnt / "/".join(["d" * 200] * ((4095 - len(str(mnt)) - 2) // 201))
    deep.mkdir(parents=True)
    (deep / "f").write_text("text")
    for removed in (deep / "f", mnt / ("d" * 200)):
        subprocess.run(["rm", "-r", removed], check=True)
        (batch,) = listed(cli, str(mnt))
        assert batch["paths"] == [str(removed)]
        assert cli.run("trash", "list", str(removed)).stdout
        cli.run("trash", "restore", str(batch["batch"]), "--mount", str(mnt))
        assert (deep / "f").read_text() == "text"
    remove(deep / "f")
    cli.run("trash", "restore", str(deep / "f"))
    assert (deep / "f").read_text() == "text"


def test_what_was_removed_below_a_directory_that_is_still_there(cli: CommandLine, mnt: Path) -> None:
    before = make_tree(mnt / "t")
    subprocess.run(["find", mnt / "t", "-type", "f", "-delete"], check=True)
    done = cli.run("trash", "restore", str(mnt / "t"))
    assert done.stdout.count("\n") == 12 and tree(mnt / "t") == before


def test_missing_directories_are_made_as_they_were(cli: CommandLine, mnt: Path) -> None:
    (mnt / "a" / "b").mkdir(parents=True)
    (mnt / "a" / "b" / "f").touch()
    (mnt / "a").chmod(0o2711)
    (mnt / "a" / "b").chmod(0o570)
    os.chown(mnt / "a" / "b", 7, 8)
    remove(mnt / "a" / "b" / "f")
    remove(mnt / "a")
    cli.run("trash", "restore", "1", "--mount", str(mnt))
    assert tree(mnt) == ["a", "a/b", "a/b/f"]
    found = (mnt / "a" / "b").stat()
    assert (stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid) == (0o570, 7, 8)
    assert stat.S_IMODE((mnt / "a").stat().st_mode) == 0o2711


def test_several_batches_the_newest_first(cli: CommandLine, mnt: Path) -> None:
    for content in ("old", "new"):
        (mnt / "f").write_text(content)
        remove(mnt / "f")
    done = cli.run("trash", "restore", "1", "2", "--mount", str(mnt), "--on-conflict", "rename")
    assert done.stdout == f"{mnt}/f\n{mnt}/f.restored (was {mnt}/f)\n"
    assert (mnt / "f").read_text() == "new" and (mnt / "f.restored").read_text() == "old"


def test_what_is_in_the_way(cli: CommandLine, mnt: Path) -> None:
    (mnt / "d").mkdir()
    for name in ("f", "g", "d/h"):
        (mnt / name).write_text("removed")
    remove(mnt / "f", mnt / "g", mnt / "d")
    (mnt / "f").write_text("new")
    (mnt / "d").write_text("no directory")

    done = cli.run("trash", "restore", "1", "--mount", str(mnt), code=1)
    assert f"not restored: {mnt}/f: {mnt}/f is in the way" in done.stderr and f"{mnt}/d is in the way" in done.stderr
    assert "nothing was changed" in done.stderr and done.stdout == ""
    assert tree(mnt) == ["d", "f"]

    done = cli.run("trash", "restore", "1", "--mount", str(mnt), "--on-conflict", "skip", code=1)
    assert done.stdout == f"{mnt}/g\n" and done.stderr.count("loligo: skipped ") == 2
    assert (mnt / "f").read_text() == "new"

    done = cli.run("trash", "restore", "1", "--mount", str(mnt), "--on-conflict", "rename")
    assert sorted(done.stdout.splitlines()) == [
        f"{mnt}/d.restored (was {mnt}/d)",
        f"{mnt}/f.restored (was {mnt}/f)",
    ]
    assert (mnt / "f").read_text() == "new" and (mnt / "f.restored").read_text() == "removed"
    assert tree(mnt) == ["d", "d.restored", "d.restored/h", "f", "f.restored", "g"]


def test_a_directory_that_is_there_again_is_not_merged(cli: CommandLine, mnt: Path) -> None:
    make_tree(mnt / "t")
    remove(mnt / "t")
    (mnt / "t" / "d1").mkdir(parents=True)
    done = cli.run("trash", "restore", str(mnt / "t"), "--on-conflict", "skip", code=1)
    assert done.stdout == "" and f"skipped {mnt}/t: {mnt}/t is in the way" in done.stderr
    cli.run("trash", "restore", str(mnt / "t" / "d1" / "f2"))
    assert tree(mnt / "t") == ["d1", "d1/f2"]
    cli.run("trash", "restore", str(mnt / "t"), "--on-conflict", "rename")
    assert tree(mnt / "t") == ["d1", "d1/f2"] and len(tree(mnt / "t.restored")) == 14


def test_a_file_where_the_directory_was(cli: CommandLine, mnt: Path) -> None:
    (mnt / "d").mkdir()
    (mnt / "d" / "f").write_text("removed")
    (mnt / "d" / "f").unlink()
    (mnt / "d").rmdir()
    (mnt / "d").write_text("a file")
    source = str(mnt / ".trash" / loligo.trash.batches(mnt)[0].name / "d" / "f")
    assert f"{mnt}/d is in the way" in cli.run("trash", "restore", source, code=1).stderr
    cli.run("trash", "restore", source, "--on-conflict", "rename")
    assert (mnt / "d.restored" / "f").read_text() == "removed" and (mnt / "d").read_text() == "a file"


def test_no_symlink_is_followed(cli: CommandLine, mnt: Path) -> None:
    """Else who puts one where a directory was would be given what root restores elsewhere."""
    outside = cli.root / "outside"
    outside.mkdir()
    (mnt / "a" / "b").mkdir(parents=True)
    (mnt / "a" / "b" / "f").touch()
    remove(mnt / "a" / "b")
    (mnt / "a").rmdir()
    (mnt / "a").symlink_to(outside)
    assert f"{mnt}/a is in the way" in cli.run("trash", "restore", "1", "--mount", str(mnt), code=1).stderr
    assert list(outside.iterdir()) == []


def test_elsewhere(cli: CommandLine, mnt: Path) -> None:
    before = make_tree(mnt / "a" / "t")
    remove(mnt / "a" / "t")
    (mnt / "to").mkdir()
    done = cli.run("trash", "restore", "1", "--mount", str(mnt), "--to", str(mnt / "to"))
    assert done.stdout == f"{mnt}/to/t (was {mnt}/a/t)\n"
    assert tree(mnt / "to" / "t") == before and not (mnt / "a" / "t").exists()


def test_places_that_nothing_is_restored_to(cli: CommandLine, mnt: Path) -> None:
    (mnt / "f").touch()
    (mnt / "file").touch()
    remove(mnt / "f")
    for to, why in {
        mnt / "file": "is no directory",
        mnt / "none": "mkdir -p",
        cli.root: "moves nothing elsewhere",
        mnt / ".trash": "is in the trash",
        mnt / ".loligo": "only tells of the mount: name another directory",
    }.items():
        said = cli.refusal("trash", "restore", "1", "--mount", str(mnt), "--to", str(to))
        assert why in said and len(loligo.trash.batches(mnt)) == 1


def test_restoring_across_volumes_is_told_and_loses_nothing(cli: CommandLine, mnt: Path) -> None:
    other = cli.root / "other"
    other.mkdir()
    cli.create("second")
    cli.run("mount", "second", str(other))
    try:
        (mnt / "f").write_text("text")
        remove(mnt / "f")
        said = cli.refusal("trash", "restore", "1", "--mount", str(mnt), "--to", str(other))
        assert "moves nothing elsewhere" in said and f"if {other} is the same volume" in said and "cp -a" in said
        assert "no batch 1 of yours" in cli.run("trash", "restore", "1", "--mount", str(other), code=1).stderr
        (other / "g").write_text("text")
        os.setxattr(other, "loligo.trash.minimum_age", b"0")
        remove(other / "g")
        done = cli.run("trash", "restore", str(mnt / "f"), str(other / "g"))
        assert done.stdout == f"{mnt}/f\n{other}/g\n"
    finally:
        cli.run("umount", str(other))


def test_where_it_is_bind_mounted_is_another_mount(cli: CommandLine, mnt: Path) -> None:
    (mnt / "a" / "to").mkdir(parents=True)
    (mnt / "f").touch()
    remove(mnt / "f")
    inside = cli.root / "inside"
    inside.mkdir()
    subprocess.run(["mount", "--bind", mnt / "a", inside], check=True)
    try:
        said = cli.refusal("trash", "restore", "1", "--mount", str(mnt), "--to", str(inside / "to"))
        assert f"is not on {mnt}, where the batch is looked up" in said and f"say --to {mnt}/a/to, " in said
    finally:
        subprocess.run(["umount", inside], check=True)
    cli.run("trash", "restore", "1", "--mount", str(mnt), "--to", str(mnt / "a" / "to"))
    assert tree(mnt) == ["a", "a/to", "a/to/f"]


def test_what_is_gone(cli: CommandLine, mnt: Path) -> None:
    (mnt / "f").write_text("text")
    remove(mnt / "f")
    asked = ("17", str(mnt / "none"), str(mnt / ".trash" / "x"), str(mnt / ".trash"), str(mnt), "1")
    done = cli.run("trash", "restore", *asked, "--mount", str(mnt), code=1)
    assert done.stdout == f"{mnt}/f\n", "one that cannot be restored does not stop the others"
    for why in ("no batch 17 of yours", "nothing that you have removed was there", "no batch", "the root"):
        assert why in done.stderr
    assert "no batch 1 of yours" in cli.run("trash", "restore", "1", "--mount", str(mnt), code=1).stderr
    cli.run("trash", "restore", code=2)
    cli.run("trash", "restore", "1", "--on-conflict", "overwrite", code=2)


def test_as_the_wrong_user(cli: CommandLine, mnt: Path) -> None:
    make_tree(mnt / "roots")
    remove(mnt / "roots")
    as_user(lambda: make_tree(mnt / "theirs"), SOMEBODY)
    as_user(lambda: remove(mnt / "theirs"), SOMEBODY)

    def numbers() -> list[int]:
        return [batch.number for batch in loligo.trash.batches(mnt)]

    assert numbers() == [2, 1] and as_user(numbers, SOMEBODY) == [2] and as_user(numbers, NOBODY) == []
    for what in (1, mnt / "roots", mnt / "theirs", mnt / ".trash" / loligo.trash.batches(mnt)[0].name):
        with pytest.raises(NotRestored):
            as_user(partial(loligo.trash.restore, what, mount=mnt), NOBODY)
    with pytest.raises(TrashError):
        as_user(lambda: loligo.trash.purge(2, mount=mnt), NOBODY)
    with pytest.raises(TrashError):
        as_user(lambda: loligo.trash.keep(2, mount=mnt), NOBODY)
    as_user(lambda: loligo.trash.restore(2, mount=mnt), SOMEBODY)
    assert (mnt / "theirs" / "d0" / "f1").stat().st_uid == SOMEBODY


def test_a_user_restores_below_a_directory_that_he_cannot_list(cli: CommandLine, mnt: Path) -> None:
    """As /home often is."""
    (mnt / "home" / "user").mkdir(parents=True)
    (mnt / "home").chmod(0o711)
    os.chown(mnt / "home" / "user", SOMEBODY, SOMEBODY)
    file = mnt / "home" / "user" / "f"
    as_user(lambda: file.write_text("text"), SOMEBODY)
    as_user(lambda: file.unlink(), SOMEBODY)
    as_user(lambda: loligo.trash.restore(1, mount=mnt), SOMEBODY)
    assert file.read_text() == "text"


def test_why_a_user_cannot_restore_is_told_with_the_whole_path(cli: CommandLine, mnt: Path) -> None:
    for name in ("closed", "fixed"):
        (mnt / "a" / name / "in" / "it").mkdir(parents=True)
        subprocess.run(["chmod", "-R", "777", mnt / "a" / name], check=True)
        as_user(lambda name=name: (mnt / "a" / name / "in" / "it" / "f").touch(), SOMEBODY)  # type: ignore[misc]
        as_user(lambda name=name: remove(mnt / "a" / name / "in" / "it" / "f"), SOMEBODY)  # type: ignore[misc]
    (mnt / "a" / "closed").chmod(0o700)
    with pytest.raises(TrashError, match=f"you may not look into {mnt}/a/closed, where it was: .*--to"):
        as_user(lambda: loligo.trash.restore(1, mount=mnt), SOMEBODY)
    remove(mnt / "a" / "fixed" / "in")
    (mnt / "a" / "fixed").chmod(0o755)
    with pytest.raises(NotRestored) as refused:
        as_user(lambda: loligo.trash.restore(2, mount=mnt), SOMEBODY)
    ((path, why),) = refused.value.report.left
    assert path == os.fsencode(mnt / "a" / "fixed" / "in" / "it" / "f")
    assert why.startswith(f"{mnt}/a/fixed/in is gone, and you may not write in {mnt}/a/fixed to make it again")
    (mnt / "to").mkdir()
    (mnt / "to").chmod(0o777)
    as_user(lambda: loligo.trash.restore(1, 2, to=mnt / "to", on_conflict="rename", mount=mnt), SOMEBODY)


def test_a_user_cannot_restore_into_what_is_not_his(cli: CommandLine, mnt: Path) -> None:
    (mnt / "d").mkdir()
    (mnt / "d").chmod(0o777)
    as_user(lambda: (mnt / "d" / "f").write_text("text"), SOMEBODY)
    as_user(lambda: (mnt / "d" / "f").unlink(), SOMEBODY)
    (mnt / "d").chmod(0o755)
    with pytest.raises(TrashError, match="root can restore it"):
        as_user(lambda: loligo.trash.restore(1, mount=mnt), SOMEBODY)
    loligo.trash.restore(1, mount=mnt)
    assert (mnt / "d" / "f").stat().st_uid == SOMEBODY


# -- purge, keep, empty, jobs ---------------------------------------------------------------------------------------------


def test_purge_and_keep(cli: CommandLine, mnt: Path) -> None:
    for name in "ab":
        (mnt / name).touch()
        remove(mnt / name)
    done = cli.run("trash", "purge", "17", "1", "--mount", str(mnt), code=1)
    assert done.stdout == "batch 1 is being purged\n" and "no batch 17" in done.stderr
    assert "no batch" in cli.run("trash", "purge", str(mnt / "c"), code=1).stderr
    done = cli.run("trash", "keep", "17", "2", "--mount", str(mnt), code=1)
    assert done.stdout == "batch 2 is kept\n" and "no batch 17" in done.stderr
    assert [batch.number for batch in loligo.trash.batches(mnt) if not batch.is_purged] == [2]


def test_everything_is_let_go_only_if_somebody_says_so(cli: CommandLine, mnt: Path) -> None:
    for name in "ab":
        (mnt / name).write_text("abc")
        remove(mnt / name)
    done = cli.run("trash", "empty", str(mnt), code=1)
    assert f"2 batches of 1 users on {mnt}: 2 files, 6 bytes" in done.stderr
    assert not any(batch.is_purged for batch in loligo.trash.batches(mnt))
    cli.run("trash", "empty", str(mnt), "--yes")
    assert all(batch.is_purged for batch in loligo.trash.batches(mnt))
    assert "nothing to purge" in cli.run("trash", "empty", str(mnt), "--yes").stderr


def test_jobs_of_an_idle_volume(cli: CommandLine, mnt: Path) -> None:
    (mnt / "a").touch()
    remove(mnt / "a")
    assert "nothing is being purged" in cli.run("jobs", "--mount", str(mnt)).stderr
    done = cli.run("jobs", "--mount", str(mnt), "cancel", "17", code=1)
    assert "no batch 17" in done.stderr


def jobs(cli: CommandLine, mnt: Path) -> list[dict[str, object]]:
    told: list[dict[str, object]] = json.loads(cli.run("jobs", "--mount", str(mnt), "--json").stdout)
    return told


def test_what_is_paused_stays_until_it_is_resumed(cli: CommandLine, mnt: Path) -> None:
    os.setxattr(mnt, "loligo.trash.retention", b"1s")
    for number, name in enumerate("abcd", 1):
        (mnt / name).write_text("abc")
        remove(mnt / name)
        if number < 4:
            done = cli.run("jobs", "--mount", str(mnt), "pause", str(number))
            assert done.stdout == f"batch {number} is paused\n"
    wait_until(lambda: len(loligo.trash.batches(mnt)) == 3, "what is not paused is gone")
    cli.run("jobs", "--mount", str(mnt), "priority", "2", "3", "low")
    cli.run("jobs", "--mount", str(mnt), "priority", "3", "high")
    lines = cli.run("jobs", "--mount", str(mnt)).stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["3", "1", "2"]
    assert lines[0].endswith(": 1 files, 3 bytes left, its time has come, high priority, paused")
    assert lines[1].endswith("its time has come, paused")
    assert lines[2].endswith("its time has come, low priority, paused")
    watched = cli.run("jobs", "--mount", str(mnt), "--watch").stdout
    assert len(watched.splitlines()) == 3 and "paused" in watched, "it does not wait for what nobody resumes"
    high, normal, low = jobs(cli, mnt)
    assert (high["batch"], high["priority"], high["paused"], high["purged"]) == (3, "high", True, False)
    assert (normal["priority"], low["priority"], low["inodes"], low["size_bytes"]) == ("normal", "low", 1, 3)
    told = [" ".join(line.split()) for line in cli.run("trash", "list", str(mnt)).stdout.splitlines()[1:]]
    assert all(" paused /" in line for line in told), told
    assert {(row["paused"], row["priority"]) for row in listed(cli, str(mnt))} == {
        (True, "high"),
        (True, "normal"),
        (True, "low"),
    }
    assert cli.run("jobs", "cancel", "2", "--mount", str(mnt)).stdout == "batch 2 is kept\n"
    assert cli.run("jobs", "--mount", str(mnt), "resume", "3").stdout == "batch 3 is resumed\n"
    cli.run("trash", "purge", "--mount", str(mnt), "1")
    wait_until(lambda: [batch.number for batch in loligo.trash.batches(mnt)] == [2], "two are gone")
    cli.run("umount", str(mnt))
    cli.mount()
    (left,) = loligo.trash.batches(mnt)
    assert (left.number, left.is_paused, left.priority) == (2, True, "low")
    cli.run("trash", "empty", str(mnt), "--yes")
    wait_until(lambda: not loligo.trash.batches(mnt), "all is gone")


def test_a_batch_goes_no_faster_than_is_said(cli: CommandLine, mnt: Path) -> None:
    for name in "abc":
        make_tree(mnt / name)
        loligo.rmtree(mnt / name)
    at = ("--mount", str(mnt))
    assert cli.run("jobs", *at, "rate", "1", "2", "1/s").stdout == (
        "batch 1 goes at 1/s at most\nbatch 2 goes at 1/s at most\n"
    )
    loligo.trash.set_rate(2, 3, mount=mnt)
    assert jobs(cli, mnt) == [], "it is kept as before"
    assert [row["rate"] for row in listed(cli, str(mnt))] == [None, 3, 1]
    wait_until(lambda: all(batch.is_counted for batch in loligo.trash.batches(mnt)), "they are counted")
    for number in (1, 2, 3):
        loligo.trash.purge(number, mount=mnt)
    wait_until(lambda: [batch.number for batch in loligo.trash.batches(mnt)] == [2, 1], "the third is gone")
    line = cli.run("jobs", *at).stdout.splitlines()[0]
    assert line.startswith("     1  a: ") and line.endswith(" left, purged by hand, at most 1/s")
    assert [(row["batch"], row["rate"]) for row in jobs(cli, mnt)][:1] == [(1, 1)]
    cli.run("umount", str(mnt))
    cli.mount()
    (left,) = [batch for batch in loligo.trash.batches(mnt) if batch.number == 1]
    assert left.rate == 1 and left.inodes > 5
    assert cli.run("jobs", *at, "rate", "1", "none").stdout == "batch 1 goes as fast as it can\n"
    wait_until(lambda: not loligo.trash.batches(mnt), "all is gone")


def test_what_is_no_rate_of_a_batch(cli: CommandLine, mnt: Path) -> None:
    (mnt / "d").mkdir()
    loligo.rmtree(mnt / "d")
    at = ("--mount", str(mnt))
    for rate in ("1", "0/s", "-5/s", "fast", f"{RATE_MAX + 1}/s"):
        assert "is no rate: write 1/s" in cli.run("jobs", *at, "rate", "1", rate, code=2).stderr
    misspelt = cli.run("jobs", "rate", "--mont", str(mnt), "1", "5/s", code=2).stderr
    assert "No such option" in misspelt and "--mont" in misspelt
    assert f"1/s to {RATE_MAX}/s" in " ".join(cli.run("jobs", "rate", "--help").stdout.split())
    assert "no batch 17" in cli.run("jobs", *at, "rate", "17", "1/s", code=1).stderr
    for number in (0, -1, 1 << 20):
        with pytest.raises(ValueError, match="is no rate"):
            loligo.trash.set_rate(1, number, mount=mnt)
    (batch,) = loligo.trash.batches(mnt)
    for word in (b"rate=", b"rate=1", b"rate", b"rate=\xff"):
        with pytest.raises(OSError, match="Invalid"):
            os.setxattr(mnt / ".trash" / batch.name, "loligo.trash.purge", word)
    os.setxattr(mnt / ".trash" / batch.name, "loligo.trash.purge", b"rate=7/s")
    assert loligo.trash.batches(mnt)[0].rate == 7
    with pytest.raises(TrashError, match="no batch 1 of yours"):
        as_user(lambda: loligo.trash.set_rate(1, None, mount=mnt), NOBODY)


def test_jobs_that_are_nobodys_or_somebody_elses(cli: CommandLine, mnt: Path) -> None:
    as_user(lambda: (mnt / "f").touch(), SOMEBODY)
    as_user(lambda: remove(mnt / "f"), SOMEBODY)
    for arguments in (["pause", "17"], ["resume", "17"], ["priority", "17", "low"]):
        done = cli.run("jobs", "--mount", str(mnt), *arguments, code=1)
        assert "no batch 17" in done.stderr
    for arguments in (["pause"], ["priority", "1"], ["priority", "1", "highest"], ["--watch", "--json"]):
        cli.run("jobs", "--mount", str(mnt), *arguments, code=2)
    done = cli.run("jobs", "--mount", str(mnt), "pause", "all", "1", code=1)
    assert "loligo: all is no batch: 'loligo jobs' shows those that are being purged" in done.stderr
    assert "is on no Loligo volume" in cli.run("jobs", "--mount", str(mnt), "pause", "/usr", code=1).stderr
    assert "is no batch" in cli.run("jobs", "--mount", str(mnt), "pause", str(mnt / "f"), code=1).stderr
    assert done.stdout == "batch 1 is paused\n"
    (batch,) = loligo.trash.batches(mnt)
    for change in (loligo.trash.pause, loligo.trash.resume, partial(loligo.trash.set_priority, priority="low")):
        with pytest.raises(TrashError, match="no batch 1 of yours"):
            as_user(partial(change, 1, mount=mnt), NOBODY)
    with pytest.raises(PermissionError):
        as_user(lambda: os.setxattr(mnt / ".trash" / batch.name, "loligo.trash.purge", b"resume"), NOBODY)
    assert loligo.trash.batches(mnt) == [batch]
    as_user(lambda: loligo.trash.resume(1, mount=mnt), SOMEBODY)
    as_user(lambda: loligo.trash.set_priority(1, "high", mount=mnt), SOMEBODY)
    (batch,) = loligo.trash.batches(mnt)
    assert (batch.is_paused, batch.priority) == (False, "high")
    with pytest.raises(ValueError, match="high, normal, low"):
        loligo.trash.set_priority(1, "highest", mount=mnt)  # type: ignore[arg-type]
    for name, value, refusal in (
        ("purge", b"highest", "Invalid"),
        ("purge", b"", "Invalid"),
        ("batch", b"", "Read-only"),
    ):
        with pytest.raises(OSError, match=refusal):
            os.setxattr(mnt / ".trash" / batch.name, f"loligo.trash.{name}", value)


def test_jobs_of_a_mount_that_is_read_only(cli: CommandLine, mnt: Path) -> None:
    (mnt / "f").touch()
    remove(mnt / "f")
    cli.run("umount", str(mnt))
    cli.mount("-o", "ro")
    for command in (["jobs", "pause"], ["jobs", "resume"], ["jobs", "cancel"], ["trash", "keep"], ["trash", "purge"]):
        group, word = command
        at = ["--mount", str(mnt)]
        done = cli.run(group, *at, word, "1", code=1) if group == "jobs" else cli.run(group, word, *at, "1", code=1)
        assert f"{mnt} is mounted read-only" in done.stderr, command
    assert "is mounted read-only" in cli.run("jobs", "--mount", str(mnt), "priority", "1", "low", code=1).stderr
    (batch,) = loligo.trash.batches(mnt)
    assert (batch.is_paused, batch.is_purged, batch.priority) == (False, False, "normal")


def test_a_tree_is_gone_for_good_when_the_command_returns(cli: CommandLine, mnt: Path) -> None:
    make_tree(mnt / "t")
    make_tree(mnt / "u")
    done = cli.run("rmtree", str(mnt / "t"), str(mnt / "u"), "--now", "--wait")
    assert [line for line in done.stdout.splitlines() if line.endswith(": purged")] == [
        f"{mnt}/{name}: purged" for name in "tu"
    ]
    assert loligo.trash.batches(mnt) == [] and list((cli.root / "work" / "data").rglob("*.0")) == []


def test_waiting_for_what_is_kept(cli: CommandLine, mnt: Path) -> None:
    (mnt / "t").mkdir()
    done = cli.run("rmtree", str(mnt / "t"), "--wait", code=1)
    assert "is kept until" in done.stderr and "loligo trash purge 1" in done.stderr


def test_jobs_are_watched_until_nothing_is_left(cli: CommandLine, mnt: Path) -> None:
    for name in "ab":
        make_tree(mnt / name)
        loligo.rmtree(mnt / name, now=True)
    assert "nothing is being purged" in cli.run("jobs", "--mount", str(mnt), "--watch").stderr
    assert loligo.trash.batches(mnt) == []


# -- policies -------------------------------------------------------------------------------------------------------------


def test_a_policy_is_shown_with_who_says_it(cli: CommandLine, mnt: Path) -> None:
    (mnt / "a" / "b").mkdir(parents=True)

    def told(path: Path) -> list[str]:
        return [" ".join(line.split()) for line in cli.run("trash", "policy", str(path)).stdout.splitlines()]

    cli.run("trash", "policy", str(mnt / "a"), "--retention", " 30d ", "--minimum-age", "1m")
    assert os.getxattr(mnt / "a", "loligo.trash.retention") == b"30d"
    cli.run("trash", "policy", str(mnt), "--limit", "5G")
    assert told(mnt / "a" / "b") == [
        f"retention 30d set for {mnt}/a",
        f"minimum age 1m set for {mnt}/a",
        f"limit 5G set for {mnt}",
    ]
    assert told(mnt)[0] == "retention 7d by default"
    cli.run("trash", "policy", str(mnt), "--limit", "inherit")
    assert told(mnt)[2] == "limit none by default"
    cli.run("trash", "policy", str(mnt / "a"), "--retention", "inherit", "--minimum-age", "inherit")
    cli.run("trash", "policy", str(mnt / "a"), "--retention", "inherit")
    assert told(mnt / "a")[:2] == [
        "retention 7d by default",
        f"minimum age 0 set for {mnt}",
    ]
    cli.run("trash", "policy", str(mnt / "a"), "--retention", "0d", "--minimum-age", "0")
    assert told(mnt / "a")[:2] == [
        f"retention none set for {mnt}/a: what is removed is gone at once",
        f"minimum age 0 set for {mnt}/a",
    ]
    cli.run("trash", "policy", str(mnt / "a"), "--minimum-age", "inherit")
    (mnt / "a" / "f").touch()
    remove(mnt / "a" / "f")
    assert loligo.trash.batches(mnt) == []


def test_policies_that_cannot_be_set(cli: CommandLine, mnt: Path) -> None:
    (mnt / "a").mkdir()
    assert "no time" in cli.refusal("trash", "policy", str(mnt), "--retention", "long")
    assert "no size" in cli.refusal("trash", "policy", str(mnt), "--limit", "much")
    assert "the volume's" in cli.refusal("trash", "policy", str(mnt / "a"), "--limit", "5G")
    assert "No such file" in cli.refusal("trash", "policy", str(mnt / "none"))
    with pytest.raises(TrashError, match="owner's, or root's, to say"):
        as_user(lambda: set_retention(mnt / "a"), NOBODY)


def set_retention(path: Path) -> None:
    from loligo.trash_policy import set_policy

    set_policy(path, b"loligo.trash.retention", "1d")


# -- rmtree -----------------------------------------------------------------------------------------------------------------


def test_a_tree_is_removed_and_comes_back(cli: CommandLine, mnt: Path) -> None:
    before = make_tree(mnt / "a" / "t")
    (mnt / "f").touch()
    done = cli.run("rmtree", str(mnt / "a" / "t"), str(mnt / "f"), str(mnt / "none"), code=1)
    assert done.stdout == f"{mnt}/a/t: batch 1, in the trash\n"
    assert "is no directory" in done.stderr and "No such file" in done.stderr
    assert not (mnt / "a" / "t").exists()
    cli.run("trash", "restore", str(mnt / "a" / "t"))
    assert tree(mnt / "a" / "t") == before
    cli.run("trash", "policy", str(mnt / "a"), "--retention", "0")
    assert "not kept" in cli.run("rmtree", str(mnt / "a" / "t")).stdout


def test_a_tree_is_removed_from_python(mnt: Path) -> None:
    before = make_tree(mnt / "t")
    removal = loligo.rmtree(mnt / "t")
    assert removal.batch == 1 and not (mnt / "t").exists()
    with pytest.raises(TrashError, match="is kept until"):
        removal.wait()
    removal.restore()
    assert tree(mnt / "t") == before and removal.look() is None
    with pytest.raises(NotRestored):
        removal.restore()
    removal = trio.run(loligo.rmtree_async, os.fsencode(mnt / "t"), True)
    found = removal.look()
    assert not (mnt / "t").exists() and (found is None or found.is_purged)


def test_a_directory_that_is_called_like_a_batch(mnt: Path) -> None:
    (mnt / "keep").mkdir()
    loligo.rmtree(mnt / "keep")
    name = loligo.trash.batches(mnt)[0].name
    make_tree(mnt / name)
    assert loligo.rmtree(mnt / name).restore().restored[0].path == os.fsencode(mnt / name)


def test_what_is_no_tree_to_remove(cli: CommandLine, mnt: Path) -> None:
    (mnt / "d").mkdir()
    (mnt / "link").symlink_to("d")
    loligo.rmtree(mnt / "d")
    batch = loligo.trash.batches(mnt)[0].name
    for path, why in {
        mnt: "the root of the volume",
        mnt / ".trash": "trash empty",
        mnt / ".trash" / batch: "in the trash already",
        mnt / ".trash" / batch / "d": "in the trash already",
        mnt / "link": "is no directory",
        mnt / ".loligo": "",
    }.items():
        assert why in cli.run("rmtree", str(path), code=1).stderr
    assert len(loligo.trash.batches(mnt)) == 1 and os.path.islink(mnt / "link")


def test_mount_points_stay(cli: CommandLine, mnt: Path) -> None:
    (mnt / "a" / "b").mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "none", mnt / "a" / "b"], check=True)
    try:
        (mnt / "a" / "b" / "f").touch()
        assert "is on no Loligo volume" in cli.run("rmtree", str(mnt / "a" / "b"), code=1).stderr
        assert f"umount {mnt}/a/b" in cli.run("rmtree", str(mnt / "a"), code=1).stderr
        assert (mnt / "a" / "b" / "f").exists()
    finally:
        subprocess.run(["umount", mnt / "a" / "b"], check=True)
    subprocess.run(["mount", "--bind", mnt / "a", mnt / "a" / "b"], check=True)
    try:
        assert "a mount point" in cli.run("rmtree", str(mnt / "a" / "b"), code=1).stderr
    finally:
        subprocess.run(["umount", mnt / "a" / "b"], check=True)
    subprocess.run(["mount", "-t", "tmpfs", "none", mnt / "a" / "b"], check=True)
    try:
        (mnt / "a" / "b" / "precious").write_text("text")
        moved = subprocess.run(["mv", mnt / "a", mnt / ".trash"], capture_output=True, text=True, check=False)
        assert moved.returncode == 1 and "busy" in moved.stderr
        with pytest.raises(OSError, match="busy"):
            os.setxattr(mnt / "a", "loligo.rmtree", b"")
        assert (mnt / "a" / "b" / "precious").read_text() == "text"
    finally:
        subprocess.run(["umount", mnt / "a" / "b"], check=True)
    cli.run("rmtree", str(mnt / "a"))


def test_where_the_trash_cannot_be_seen(cli: CommandLine, mnt: Path) -> None:
    """As in a container that was given a directory of the volume."""
    before = make_tree(mnt / "given" / "t")
    inside = cli.root / "inside"
    inside.mkdir()
    subprocess.run(["mount", "--bind", mnt / "given", inside], check=True)
    try:
        assert "where all of it is mounted" in cli.refusal("trash", "list", str(inside))
        assert "where all of it is mounted" in cli.run("rmtree", "--now", str(inside / "t"), code=1).stderr
        assert "a mount point" in cli.run("rmtree", str(inside), code=1).stderr
        assert cli.run("rmtree", str(inside / "t")).stdout == f"{inside}/t: in the trash\n"
        assert not (inside / "t").exists() and not (mnt / "given" / "t").exists()
    finally:
        subprocess.run(["umount", inside], check=True)
    cli.run("trash", "restore", str(mnt / "given" / "t"))
    assert tree(mnt / "given" / "t") == before


def test_who_may_not_write_there_removes_nothing(mnt: Path) -> None:
    make_tree(mnt / "a" / "t")
    with pytest.raises(TrashError, match="not yours to remove"):
        as_user(lambda: loligo.rmtree(mnt / "a" / "t"), NOBODY)
    with pytest.raises(TrashError, match="not yours to remove"):  # the root is sticky
        as_user(lambda: loligo.rmtree(mnt / "a"), NOBODY)
    assert (mnt / "a" / "t" / "d0").exists()


def test_a_tree_that_goes_meanwhile(mnt: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_tree(mnt / "t")
    from loligo import removal

    def vanish(path: bytes) -> list[bytes]:
        (mnt / "t").rename(mnt / "elsewhere")
        return []

    monkeypatch.setattr(removal, "mounted_below", vanish)
    with pytest.raises(TrashError, match="went meanwhile"):
        loligo.rmtree(mnt / "t")
    assert (mnt / "elsewhere" / "d0").exists() and loligo.trash.batches(mnt) == []
