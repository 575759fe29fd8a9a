"""Reads and writes the places that actions name: lines of the monitors' configuration, kernel values, files of ours."""

import os
from collections.abc import Iterable
from pathlib import Path

from loligo_osdtune.core.actions import ConfigLine, KernelValue, OwnFile, Place
from loligo_osdtune.shell.cluster import Cluster
from loligo_osdtune.shell.host import chosen


class Places:
    """`root`: where /proc, /sys and /etc are."""

    def __init__(self, cluster: Cluster, root: Path = Path("/")) -> None:
        self._cluster = cluster
        self._root = root

    def read(self, places: Iterable[Place]) -> dict[Place, str | None]:
        places = tuple(places)
        lines = self._cluster.config_lines() if any(isinstance(place, ConfigLine) for place in places) else {}
        return {place: lines.get(place) if isinstance(place, ConfigLine) else self._file(place) for place in places}

    def write(self, place: Place, value: str | None) -> None:
        """None: nothing shall be there."""
        if isinstance(place, ConfigLine):
            self._cluster.set_config(place, value)
        elif isinstance(place, KernelValue):
            assert value is not None
            self._path(place).write_text(value)
        elif value is None:
            self._path(place).unlink()
        else:
            _replace(self._path(place), value)

    def _file(self, place: KernelValue | OwnFile) -> str | None:
        try:
            text = self._path(place).read_text()
        except FileNotFoundError:
            return None
        return text if isinstance(place, OwnFile) else chosen(text.strip())

    def _path(self, place: KernelValue | OwnFile) -> Path:
        return self._root / place.path.lstrip("/")


def _replace(path: Path, text: str) -> None:
    partial = path.with_name(f".{path.name}.new")
    with open(partial, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, path)
