"""Making a volume: in one piece, and never on top of another."""

import os
from pathlib import Path

import pytest

from loligo_client.shell.check import check_volume
from loligo_client.shell.embedded import EmbeddedVolume, make_volume
from loligo_mds.store.errors import NotOurs
from loligo_runtime import volume as volumes
from loligo_runtime.object_store import StoreTakenError
from loligo_runtime.volume import Volume, VolumeError


def described(tmp_path: Path, meta: str, data: str) -> Volume:
    return volumes.describe("lab", (tmp_path / meta).as_uri(), (tmp_path / data).as_uri(), 65536, 4096)


def test_two_volumes_cannot_share_a_place_for_data(tmp_path: Path) -> None:
    make_volume(described(tmp_path, "one", "data"), 0, 0)
    with pytest.raises(StoreTakenError, match="would destroy each other"):
        make_volume(described(tmp_path, "two", "data"), 0, 0)
    assert not (tmp_path / "two").exists()
    with pytest.raises(VolumeError, match="no volume at"):
        volumes.load((tmp_path / "two").as_uri())


def test_what_an_interrupted_attempt_left_is_made_anew(tmp_path: Path) -> None:
    (tmp_path / "one.new" / "shard-0000").mkdir(parents=True)
    (tmp_path / "one.new" / "shard-0000" / "tables.mdb").write_bytes(b"half")
    volume = described(tmp_path, "one", "data")
    make_volume(volume, 0, 0)
    assert sorted(os.listdir(tmp_path)) == ["data", "one"]
    with EmbeddedVolume(volume):
        pass


def test_a_folder_with_other_files_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "thesis.tex").write_text("mine")
    with pytest.raises(VolumeError, match="not empty"):
        make_volume(described(tmp_path, "one", "data"), 0, 0)
    assert sorted(os.listdir(tmp_path)) == ["one"]


def test_data_of_another_volume_is_refused_at_mount(tmp_path: Path) -> None:
    volume = described(tmp_path, "one", "data")
    make_volume(volume, 0, 0)
    make_volume(described(tmp_path, "two", "data2"), 0, 0)
    os.rename(tmp_path / "data", tmp_path / "away")
    os.rename(tmp_path / "data2", tmp_path / "data")
    with pytest.raises(VolumeError, match="holds the data of volume"):
        EmbeddedVolume(volume)


def test_an_attempt_that_failed_does_not_lock_itself_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may have claimed the place for data before it failed."""
    rename = os.rename

    def rename_but_the_last(old: str, new: str) -> None:
        if new.endswith("/one"):
            raise OSError("no")
        rename(old, new)

    with monkeypatch.context() as failing:
        failing.setattr(os, "rename", rename_but_the_last)
        with pytest.raises(OSError, match="no"):
            make_volume(described(tmp_path, "one", "data"), 0, 0)
    volume = make_volume(described(tmp_path, "one", "data"), 0, 0)
    with EmbeddedVolume(volume):
        pass


def test_a_new_volume_knows_of_no_loss_of_power(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    volume = make_volume(described(tmp_path, "one", "data"), 0, 0)
    for _ in range(2):
        with EmbeddedVolume(volume):
            pass
    assert "power" not in caplog.text


def test_metadata_cannot_be_a_file(tmp_path: Path) -> None:
    (tmp_path / "one").write_text("mine")
    with pytest.raises(VolumeError, match="is a file"):
        make_volume(described(tmp_path, "one", "data"), 0, 0)
    assert os.listdir(tmp_path) == ["one"]


def test_the_check_refuses_data_of_another_volume(tmp_path: Path) -> None:
    volume = make_volume(described(tmp_path, "one", "data"), 0, 0)
    os.rename(tmp_path / "data", tmp_path / "away")
    make_volume(described(tmp_path, "two", "data"), 0, 0)
    with pytest.raises(VolumeError, match="holds the data of volume"):
        check_volume(volume)


def test_tables_that_are_cut_off_are_refused(tmp_path: Path) -> None:
    volume = make_volume(described(tmp_path, "one", "data"), 0, 0)
    tables = os.path.join(volume.shard_folder, "tables.mdb")
    os.truncate(tables, 3 * 4096)
    with pytest.raises(NotOurs, match="cut off"):
        EmbeddedVolume(volume)
    with pytest.raises(NotOurs, match="cut off"):
        check_volume(volume)
