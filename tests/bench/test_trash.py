"""What the benchmark of the trash stands on: its trees, made in a real server, and its table."""

from pathlib import Path

from loligo_bench.trash import Line, report
from loligo_bench.trees import FILES_A_DIRECTORY, session
from loligo_lab.mounts import assert_sound, make_lab_volume
from loligo_lab.raw_client import RawClient
from loligo_lab.serving import LabServer
from loligo_mds.core.requests import GetUsage, Lookup, ReadInline
from loligo_wire.ids import ROOT_INO


def test_trees_have_the_files_that_were_asked_for_and_leave_a_sound_volume(tmp_path: Path) -> None:
    volume = make_lab_volume(tmp_path)
    with LabServer(volume, tmp_path) as server:
        with session(server.address, volume.name) as trees:
            trees.make("empty", 250)
            trees.make_with_content("full", 150)
        with RawClient(server.address, volume=volume.name) as client:
            directories = sum(1 + -(-files // FILES_A_DIRECTORY) for files in (250, 150))
            symbolic_links = 3
            assert client.ask(GetUsage()).inodes == 1 + 250 + 150 + directories + symbolic_links
            top = client.ask(Lookup(ROOT_INO, b"full")).ino
            linked = client.ask(Lookup(top, b"link-1"))
            assert linked.nlink == 2
            assert client.ask(ReadInline(linked.ino)).startswith(b"file %d\n" % linked.ino)
            client.goodbye()
    assert_sound(volume)


def test_the_table_says_which_targets_are_missed() -> None:
    text = report(
        [
            Line("fast", "1 s", target="< 2 s", passed=True),
            Line("slow", "3 s", target="< 2 s", passed=False),
            Line("any", "4 s"),
        ]
    )
    verdicts = [line.split("|")[-2].strip() for line in text.splitlines() if line.startswith("| ")]
    assert verdicts[2:] == ["pass", "MISS", ""]
