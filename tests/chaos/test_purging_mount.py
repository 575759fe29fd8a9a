"""An embedded volume empties its trash by itself, also if its mount is killed again and again meanwhile."""

import contextlib
import os
from pathlib import Path

import pytest

from loligo_lab.mounts import LabMount, assert_sound, make_lab_volume, stored_objects
from loligo_lab.processes import ProcessFailed, wait_until


@pytest.mark.parametrize("point", ["purge.step.before:5", "purge.step.after:1", "data.remove.after:3"])
def test_killed_while_it_purges(point: str, tmp_path: Path) -> None:
    volume = make_lab_volume(tmp_path)
    with LabMount(volume, tmp_path / "mnt") as mount:
        os.setxattr(mount.path, "loligo.trash.minimum_age", b"0")
        soon = mount.path / "soon"
        soon.mkdir()
        os.setxattr(soon, "loligo.trash.retention", b"2s")
        for directory in (soon, mount.path):
            for number in range(20):
                (directory / f"f{number}").write_bytes(b"x" * 10_000)
        os.sync()
        for number in range(20):
            (soon / f"f{number}").unlink()
        (mount.path / "f0").unlink()
        mount.kill()
        dying = LabMount(volume, mount.path, environment={"LOLIGO_FAILPOINT": point})
        with contextlib.suppress(ProcessFailed):
            dying.start()
        wait_until(lambda: not dying.is_running, "it dies", 20)
        dying.kill()
        mount.start()
        wait_until(lambda: len(stored_objects(volume)) == 20, "what is due is gone, and nothing else", 20)
        assert sorted(os.listdir(mount.path)) == sorted([*(f"f{number}" for number in range(1, 20)), "soon"])
    assert_sound(volume)
