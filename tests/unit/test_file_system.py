"""The file system without a kernel: what it answers while the data path goes on."""

from typing import Any

from loligo_client.shell.filesystem import FileSystem
from loligo_fuse import Context
from loligo_runtime.clock import SystemClock
from loligo_wire.ids import ROOT_INO
from unit.data_lab import DataLab


def test_a_listing_tells_the_size_though_bytes_are_published_while_it_is_packed() -> None:
    lab = DataLab()
    try:
        system = FileSystem(lab.metadata, lab.data, SystemClock(), update_atime=True)
        file = lab.create(b"file")
        lab.write(file, 0, b"x" * 300)
        listing: Any = system.readdir(Context(0, 0, 0, 0), ROOT_INO, 0, 0, True)
        assert [next(listing)[0] for _ in range(2)] == [b".", b".."]
        lab.fsync(file)
        assert file.clean
        name, _, _, _, attributes = next(listing)
        assert name == b"file"
        assert attributes is not None and attributes.size == 300
    finally:
        lab.close()
