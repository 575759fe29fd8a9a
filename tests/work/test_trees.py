"""Trees of files: unpacked, copied, compared, removed."""

import os
import shutil
import sysconfig
from pathlib import Path

import pytest

from work.places import EVERYWHERE, run

pytestmark = EVERYWHERE

SOURCE = Path(sysconfig.get_paths()["stdlib"])


@pytest.fixture(scope="session")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Python's library: a thousand and more files of all sizes."""
    path = tmp_path_factory.mktemp("archive") / "source.tar"
    run("tar", "--exclude=__pycache__", "--exclude=dist-packages", "-cf", path, "-C", SOURCE, ".", cwd=SOURCE)
    return path


def test_a_source_tree(here: Path, archive: Path, tmp_path: Path) -> None:
    tree, plain = here / "tree", tmp_path / "plain"
    for directory in (tree, plain):
        directory.mkdir()
        run("tar", "-xf", archive, "-C", directory, cwd=here)
    assert sum(len(files) for _, _, files in os.walk(tree)) > 500
    assert run("diff", "-r", "--no-dereference", plain, tree, cwd=here) == ""
    # tar compares types, sizes, modes, owners, times and contents.
    run("tar", "--compare", "-f", archive, "-C", tree, cwd=here)
    run("cp", "-a", tree, here / "copy", cwd=here)
    run("tar", "--compare", "-f", archive, "-C", here / "copy", cwd=here)
    run("rm", "-rf", here / "copy", cwd=here)
    run("tar", "--compare", "-f", archive, "-C", tree, cwd=here)


def test_rsync_there_and_back(here: Path, tmp_path: Path) -> None:
    source, back = tmp_path / "source", tmp_path / "back"
    _make_everything(source)
    rsync = ("rsync", "-aHAXS", "--numeric-ids", "--devices", "--specials", "-i")
    assert run(*rsync, f"{source}/", f"{here}/there/", cwd=tmp_path) != ""
    assert run(*rsync, "--delete", "--checksum", f"{source}/", f"{here}/there/", cwd=tmp_path) == ""
    assert run(*rsync, f"{here}/there/", f"{back}/", cwd=tmp_path) != ""
    assert run(*rsync, "--delete", "--checksum", f"{source}/", f"{back}/", cwd=tmp_path) == ""
    for copy in (here / "there", back):
        assert (copy / "linked").stat().st_nlink == 2
        assert os.path.samefile(copy / "linked", copy / "folder" / "same")
        for command in (("getfacl", "-R", "-n", "."), ("getfattr", "-R", "-d", "-m", "-", "-h", ".")):
            # A paragraph a file, in the order of the directory.
            told, wanted = (sorted(run(*command, cwd=folder).split("\n\n")) for folder in (copy, source))
            assert told == wanted
    assert (back / "sparse").stat().st_blocks * 512 < (32 << 20)
    # A change, a removal, and nothing else is carried over.
    (source / "text").write_text("changed\n")
    (source / "empty").unlink()
    changes = run(*rsync, "--delete", f"{source}/", f"{here}/there/", cwd=tmp_path).splitlines()
    assert sorted(line.split()[-1] for line in changes if not line.endswith("/")) == ["empty", "text"]


def _make_everything(folder: Path) -> None:
    """One of each kind that rsync knows."""
    (folder / "folder" / "deep").mkdir(parents=True)
    (folder / "empty").touch()
    (folder / "text").write_text("text\n")
    (folder / "big").write_bytes(os.urandom(9_000_001))
    (folder / "linked").write_bytes(os.urandom(10_000))
    os.link(folder / "linked", folder / "folder" / "same")
    (folder / "link").symlink_to("folder/deep")
    (folder / "dangling").symlink_to("/nowhere/at all")
    with open(folder / "sparse", "wb") as file:
        file.seek(40 << 20)
        file.write(b"end")
    (folder / os.fsdecode(b"name \xff\n")).write_bytes(b"odd")
    os.mkfifo(folder / "fifo", 0o620)
    os.mknod(folder / "device", 0o20600, os.makedev(1, 3))
    shutil.chown(folder / "text", 1234, 4321)
    os.chmod(folder / "text", 0o4751)
    os.chmod(folder / "folder", 0o3770)
    os.setxattr(folder / "text", "user.colour", b"blue\0")
    os.setxattr(folder / "big", "trusted.note", os.urandom(500))
    run("setfacl", "-m", "u:1234:rw,g:99:r", "big", cwd=folder)
    run("setfacl", "-d", "-m", "u:1234:rwx", "folder", cwd=folder)
    os.utime(folder / "empty", ns=(-1_000_000_001, 3_000_000_000_123_456_789))
