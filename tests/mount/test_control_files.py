"""`.loligo` at the root of a mount: found by its name, seen by nobody who walks the tree, changed by nobody."""

import errno
import mmap
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from stat import S_IMODE, S_ISDIR, S_ISREG

import pytest

from loligo_lab.errnos import refused
from loligo_lab.mounts import LabMount, assert_sound, make_lab_volume
from loligo_lab.processes import wait_until
from loligo_lab.serving import LabServer, RemoteMount
from loligo_lab.system_calls import getdents

NOBODY = 65534


def numbers(mount: Path) -> dict[str, float]:
    """name{its own label} -> value; the label of the mount is the same in all of them."""
    found = {}
    for line in (mount / ".loligo" / "stats").read_text().splitlines():
        if not line.startswith("#"):
            name, value = line.rsplit(" ", 1)
            assert f'mount="{mount}"' in name
            found[name.replace(f'mount="{mount}"', "").replace(",}", "}").removesuffix("{}")] = float(value)
    return found


def upcalls(before: dict[str, float], after: dict[str, float], op: str) -> float:
    name = f'loligo_client_upcalls_total{{op="{op}"}}'
    return after.get(name, 0) - before.get(name, 0)


@pytest.fixture
def control(mounted: LabMount) -> Path:
    return mounted.path / ".loligo"


# -- what it is -----------------------------------------------------------------------------------------------------


def test_it_is_a_directory_with_files(mounted: LabMount, control: Path) -> None:
    status, file = os.stat(control), os.stat(control / "stats")
    assert S_ISDIR(status.st_mode) and S_IMODE(status.st_mode) == 0o555
    assert S_ISREG(file.st_mode) and S_IMODE(file.st_mode) == 0o444 and file.st_size > 0
    assert os.listdir(control) == ["stats"]
    with os.scandir(control) as entries:
        assert [(entry.inode(), entry.is_file()) for entry in entries] == [(file.st_ino, True)]
    assert os.stat(control / "..").st_ino == os.stat(mounted.path).st_ino
    assert not (control / "other").exists()
    assert os.listxattr(control) == os.listxattr(control / "stats") == []
    with refused(errno.ENODATA):
        os.getxattr(control / "stats", "user.x")


def test_who_walks_the_tree_does_not_meet_it(mounted: LabMount) -> None:
    assert ".loligo" not in os.listdir(mounted.path)
    found = subprocess.run(["find", mounted.path, "-name", ".loligo"], capture_output=True, check=True)
    assert found.stdout == found.stderr == b""


def test_it_is_at_the_root_only(here: Path) -> None:
    with pytest.raises(FileNotFoundError):
        os.stat(here / ".loligo")
    (here / ".loligo").mkdir()
    (here / ".loligo" / "stats").write_text("mine")
    assert os.listdir(here) == [".loligo"]
    assert (here / ".loligo" / "stats").read_text() == "mine"


# -- what cannot be done to it --------------------------------------------------------------------------------------


def test_nothing_makes_removes_or_moves_it(control: Path, here: Path) -> None:
    stats = control / "stats"
    makers: list[Callable[[Path], object]] = [os.mkdir, os.mkfifo, lambda path: path.symlink_to("x")]
    for make in makers:
        with refused(errno.EEXIST):
            make(control)
    with refused(errno.EEXIST):
        os.open(control, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
    (here / "folder").mkdir()
    (here / "file").write_text("text")
    deeds: list[Callable[[], object]] = [
        lambda: control.rmdir(),
        lambda: stats.unlink(),
        lambda: (control / "other").mkdir(),
        lambda: (control / "other").write_text("x"),
        lambda: (control / "other").symlink_to("x"),
        lambda: control.rename(here / "moved"),
        lambda: stats.rename(here / "moved"),
        lambda: os.rename(here / "folder", control),
        lambda: os.rename(here / "file", control / "other"),
        lambda: os.rename(here / "file", stats),
        lambda: os.link(stats, here / "linked"),
        lambda: os.link(here / "file", control / "other"),
    ]
    for deed in deeds:
        with refused(errno.EPERM):
            deed()
    assert sorted(os.listdir(here)) == ["file", "folder"]
    assert os.listdir(control) == ["stats"]


def test_nothing_changes_what_it_says(control: Path) -> None:
    stats = control / "stats"
    for flags in (os.O_WRONLY, os.O_RDWR, os.O_RDONLY | os.O_TRUNC, os.O_WRONLY | os.O_APPEND):
        with refused(errno.EACCES):
            os.open(stats, flags)
    deeds: list[Callable[[], object]] = [
        lambda: os.truncate(stats, 0),
        lambda: stats.chmod(0o777),
        lambda: os.chown(control, 1, 1),
        lambda: os.utime(stats),
        lambda: os.setxattr(stats, "user.x", b"v"),
        lambda: os.removexattr(control, "user.x"),
    ]
    for deed in deeds:
        with refused(errno.EPERM):
            deed()


def test_others_may_read_it_and_no_more(control: Path) -> None:
    child = os.fork()
    if not child:
        code = 1
        try:
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
            assert (control / "stats").read_text().startswith("# HELP")
            for path in (control / "stats", control / "other"):
                with refused(errno.EACCES):
                    path.write_text("x")
            code = 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


# -- reading --------------------------------------------------------------------------------------------------------


def test_programs_read_it_as_a_file(control: Path, here: Path) -> None:
    text = subprocess.run(["cat", control / "stats"], capture_output=True, check=True).stdout
    assert text.startswith(b"# HELP") and text.endswith(b"\n")
    shutil.copyfile(control / "stats", here / "copy")
    subprocess.run(["cp", control / "stats", here / "copy2"], check=True)
    for copy in (here / "copy", here / "copy2"):
        assert copy.read_bytes().count(b"\n") >= text.count(b"\n") - 1
    with (control / "stats").open("rb") as file:
        os.fsync(file.fileno())
        whole = file.read()
        assert os.pread(file.fileno(), 10, 5) == whole[5:15]
        assert os.pread(file.fileno(), 10, len(whole)) == b""


def test_it_is_as_it_was_when_it_was_opened(control: Path, here: Path) -> None:
    with (control / "stats").open("rb", buffering=0) as file:
        first = os.pread(file.fileno(), 1 << 20, 0)
        (here / "file").write_text("text")
        assert os.pread(file.fileno(), 1 << 20, 0) == first
    assert (control / "stats").read_bytes() != first


def test_it_cannot_be_mapped_to_be_written(control: Path) -> None:
    with (control / "stats").open("rb") as file, refused(errno.EACCES):
        mmap.mmap(file.fileno(), 100, mmap.MAP_SHARED, mmap.PROT_WRITE)


# -- what it tells --------------------------------------------------------------------------------------------------


def test_it_counts_what_the_kernel_asks(mounted: LabMount, here: Path) -> None:
    before = numbers(mounted.path)
    for number in range(20):
        (here / f"f{number}").write_bytes(b"x" * 100)
    for number in range(20):
        fd = os.open(here / f"f{number}", os.O_RDONLY)
        os.close(fd)
    os.sync()
    after = numbers(mounted.path)
    assert upcalls(before, after, "CREATE") == 20
    assert upcalls(before, after, "WRITE") == 20
    assert upcalls(before, after, "LOOKUP") >= 20
    assert upcalls(before, after, "OPEN") >= 20
    assert upcalls(before, after, "MKDIR") == 0
    assert after["loligo_client_written_bytes_total"] - before["loligo_client_written_bytes_total"] == 2000
    made = [sum(value for name, value in one.items() if 'kind="Create"' in name) for one in (before, after)]
    assert made[1] - made[0] == 20


def test_it_counts_bytes_that_are_read(mounted: LabMount, here: Path) -> None:
    (here / "short").write_bytes(b"x" * 300)
    (here / "long").write_bytes(b"x" * 200_000)
    for name in ("short", "long"):
        fd = os.open(here / name, os.O_RDWR)
        os.fsync(fd)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(fd)
    before = numbers(mounted.path)
    assert len((here / "short").read_bytes()) + len((here / "long").read_bytes()) == 200_300
    after = numbers(mounted.path)
    assert after["loligo_client_read_bytes_total"] - before["loligo_client_read_bytes_total"] == 200_300
    with (here / "short").open():
        assert numbers(mounted.path)["loligo_client_open_handles"] - after["loligo_client_open_handles"] == 1


# -- through a server -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["native", "pyfuse3"])
def served(request: pytest.FixtureRequest) -> Iterator[tuple[Path, Path]]:
    """Mounts of a volume, and of its directory `sub`: the first native, the other by either transport."""
    folder = Path(tempfile.mkdtemp(prefix="loligo-control-"))
    volume = make_lab_volume(folder)
    try:
        with ExitStack() as stack:
            server = stack.enter_context(LabServer(volume, folder))
            whole = stack.enter_context(RemoteMount(server, folder / "whole"))
            (whole.path / "sub").mkdir()
            options = (f"transport={request.param}",)
            below = stack.enter_context(RemoteMount(server, folder / "below", root="sub", options=options))
            yield whole.path, below.path
        assert_sound(volume)
    finally:
        shutil.rmtree(folder)


def test_a_mount_of_a_directory_has_it_at_its_root(served: tuple[Path, Path]) -> None:
    whole, below = served
    for mount in served:
        assert numbers(mount)["loligo_client_server_connected"] == 1
        assert ".loligo" not in os.listdir(mount)
    assert not (whole / "sub" / ".loligo").exists()
    with refused(errno.EPERM):
        (below / ".loligo").rmdir()


def test_what_has_the_name_in_the_volume_is_hidden_where_it_would_be_at_the_root(served: tuple[Path, Path]) -> None:
    whole, below = served
    real = whole / "sub" / ".loligo"
    real.mkdir()
    (real / "file").write_text("text")
    (below / "other").write_text("text")
    for _ in range(2):
        assert os.listdir(below) == ["other"]
        assert [entry.name for entry in os.scandir(below) if entry.stat().st_size == 4] == ["other"]
        assert os.listdir(below / ".loligo") == ["stats"]
    assert sorted(os.listdir(whole / "sub")) == [".loligo", "other"]
    assert (real / "file").read_text() == "text"
    real.rename(whole / "sub" / "seen")
    assert sorted(os.listdir(below)) == ["other", "seen"]
    assert os.listdir(below / ".loligo") == ["stats"]
    shutil.rmtree(below / "seen")
    (below / "other").unlink()


def test_a_listing_of_many_pages_is_whole_but_for_it(served: tuple[Path, Path]) -> None:
    whole, below = served
    (whole / "sub" / ".loligo").touch()
    names = [f"a-name-of-some-length-{number:04d}" for number in range(1500)]
    for name in names:
        (whole / "sub" / name).touch()
    fd = os.open(below, os.O_RDONLY)
    try:
        listed: list[bytes] = []
        while entries := getdents(fd, 512):
            listed += [name for name, *_ in entries]
    finally:
        os.close(fd)
    assert sorted(os.fsdecode(name) for name in listed) == sorted([".", "..", *names])
    for name in (".loligo", *names):
        (whole / "sub" / name).unlink()


def test_it_tells_of_the_session(served: tuple[Path, Path]) -> None:
    whole, _ = served
    before = numbers(whole)
    (whole / "folder").mkdir()
    for number in range(20):
        (whole / "folder" / f"f{number}").touch()
    unkept = "loligo_client_promises_unkept"
    wait_until(lambda: numbers(whole)[unkept] == 0, "the server has confirmed what was promised")
    after = numbers(whole)
    made = [one.get('loligo_client_promises_total{kind="Create"}', 0.0) for one in (before, after)]
    assert made[1] - made[0] >= 15  # inodes may have to be reserved first
    assert after["loligo_client_frames_sent_total"] - before["loligo_client_frames_sent_total"] >= 1
    assert after["loligo_client_leases"] >= after["loligo_client_delegations"] >= 1
    assert after["loligo_client_session_ended"] == 0 and after["loligo_client_connections_total"] == 1
    shutil.rmtree(whole / "folder")


def test_recalls_are_counted(served: tuple[Path, Path]) -> None:
    """Of what was looked at here and is changed there."""
    whole, below = served
    (whole / "sub" / "mine").write_text("text")
    assert (below / "mine").stat().st_size == 4
    before = numbers(below)
    (whole / "sub" / "mine").rename(whole / "sub" / "yours")
    assert not (below / "mine").exists()
    name = 'loligo_client_notices_total{kind="lease"}'
    assert numbers(below)[name] > before[name]
    (whole / "sub" / "yours").unlink()
