"""The ext4 that local file systems are measured on."""

import subprocess
from pathlib import Path

import pytest

from loligo_bench.local_disk import NoDisk, local_disk


def mounted(directory: Path) -> str:
    """The type of what is mounted there, "" if nothing is."""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields = line.split()
        if fields[4] == str(directory):
            return fields[fields.index("-") + 1]
    return ""


def loop_devices(image: Path) -> str:
    return subprocess.run(["losetup", "--associated", image], capture_output=True, text=True, check=True).stdout


def test_it_is_an_ext4_and_goes_with_its_image(tmp_path: Path) -> None:
    image, directory = tmp_path / "image", tmp_path / "disk"
    with local_disk(image, directory):
        assert mounted(directory) == "ext4"
        (directory / "file").write_text("content")
        assert loop_devices(image)
    assert mounted(directory) == "" and not image.exists() and not loop_devices(image)


def test_what_goes_wrong_in_the_middle_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image, directory = tmp_path / "image", tmp_path / "disk"
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("mkfs.ext4", "losetup"):
        (tools / name).symlink_to(subprocess.check_output(["which", name], text=True).strip())
    monkeypatch.setenv("PATH", str(tools))
    with pytest.raises(NoDisk, match="mount"), local_disk(image, directory):
        pass
    monkeypatch.undo()
    assert not image.exists() and not loop_devices(image)
