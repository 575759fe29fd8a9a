"""What a volume is: its description, written once when it is made, and where the names of volumes are kept.

The description is `volume.json` in the folder of the volume's metadata. It holds no secrets. The registry maps names to
metadata URLs, one small file a name, under LOLIGO_CONFIG_DIR, or /etc/loligo for root, or ~/.config/loligo.
"""

import json
import os
import re
import uuid
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

DESCRIPTION = "volume.json"
SHARD_FOLDER = "shard-0000"
FORMAT = 1

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
BLOCK_MIN_BYTES = 64 << 10
BLOCK_MAX_BYTES = 64 << 20
INLINE_MAX_BYTES = 64 << 10


class VolumeError(Exception):
    """A volume cannot be made, found or opened. The text says what to do."""


@dataclass(frozen=True)
class Volume:
    """`meta_url` is where it was found; everything else is stored."""

    name: str
    uuid: str
    meta_url: str
    data_url: str
    block_bytes: int
    inline_limit_bytes: int
    format: int = FORMAT

    @property
    def meta_folder(self) -> str:
        return folder_of(self.meta_url)

    @property
    def shard_folder(self) -> str:
        return os.path.join(self.meta_folder, SHARD_FOLDER)


def folder_of(meta_url: str) -> str:
    """The folder that a metadata URL names."""
    parts = urlsplit(meta_url)
    if parts.scheme != "file" or parts.netloc or parts.query or not parts.path.startswith("/") or parts.path == "/":
        raise VolumeError(
            f"{meta_url!r} is no place for metadata: give file:///a/folder (three slashes, absolute path)"
        )
    return unquote(parts.path)


def describe(name: str, meta_url: str, data_url: str, block_bytes: int, inline_limit_bytes: int) -> Volume:
    """A new volume, checked but not written."""
    if not NAME.fullmatch(name):
        raise VolumeError(f"{name!r} is no name for a volume: letters, digits, '.', '_' and '-', at most 63 of them")
    if not BLOCK_MIN_BYTES <= block_bytes <= BLOCK_MAX_BYTES or block_bytes & (block_bytes - 1):
        raise VolumeError("the block size must be a power of two between 64K and 64M")
    if not 0 <= inline_limit_bytes <= min(INLINE_MAX_BYTES, block_bytes):
        raise VolumeError("the inline limit must be between 0 (off) and 64K")
    folder_of(meta_url)
    return Volume(name, str(uuid.uuid4()), meta_url, data_url, block_bytes, inline_limit_bytes)


def save(volume: Volume, folder: str) -> None:
    """Write the description into `folder`, durably."""
    path = os.path.join(folder, DESCRIPTION)
    stored = {key: value for key, value in asdict(volume).items() if key != "meta_url"}
    _write_durably(path, json.dumps(stored, indent=2) + "\n")


def load(meta_url: str) -> Volume:
    path = os.path.join(folder_of(meta_url), DESCRIPTION)
    try:
        with open(path, encoding="utf-8") as file:
            stored = json.load(file)
    except FileNotFoundError:
        raise VolumeError(
            f"there is no volume at {meta_url} ({path} is missing): make one with 'loligo volume create'"
        ) from None
    except (OSError, ValueError) as error:
        raise VolumeError(f"cannot read the description of the volume, {path}: {error}") from None
    return _check(stored, meta_url, path)


def _check(stored: Any, meta_url: str, path: str) -> Volume:
    if not isinstance(stored, dict) or not isinstance(stored.get("format"), int):
        raise VolumeError(f"{path} does not describe a Loligo volume")
    if stored["format"] > FORMAT:
        raise VolumeError(
            f"{path} has format {stored['format']}, made by a newer Loligo; this one knows formats up to {FORMAT}: upgrade it"
        )
    kinds = {field.name: field.type for field in fields(Volume) if field.name != "meta_url"}
    if stored.keys() != kinds.keys() or any(type(stored[name]).__name__ != str(kinds[name].__name__) for name in kinds):  # type: ignore[union-attr]
        raise VolumeError(f"{path} is damaged: it should have {', '.join(kinds)}")
    return Volume(meta_url=meta_url, **stored)


# -- names ----------------------------------------------------------------------------------------------------------


def registry_folder() -> Path:
    given = os.environ.get("LOLIGO_CONFIG_DIR")
    if given:
        return Path(given) / "volumes"
    if os.geteuid() == 0:
        return Path("/etc/loligo/volumes")
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "loligo" / "volumes"


def register(volume: Volume) -> None:
    folder = registry_folder()
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / volume.name
    if path.exists() and path.read_text().strip() != volume.meta_url:
        raise VolumeError(
            f"the name {volume.name!r} is taken by {path.read_text().strip()}: choose another, or remove {path}"
        )
    _write_durably(str(path), volume.meta_url + "\n")


def registered() -> dict[str, str]:
    """name -> metadata URL"""
    folder = registry_folder()
    if not folder.is_dir():
        return {}
    return {path.name: path.read_text().strip() for path in sorted(folder.iterdir()) if NAME.fullmatch(path.name)}


def resolve(source: str) -> Volume:
    """The volume that a name or a metadata URL means."""
    if ":" in source:
        return load(source)
    url = registered().get(source)
    if url is None:
        known = ", ".join(registered()) or "none"
        raise VolumeError(
            f"no volume is called {source!r} (known: {known}): give its metadata URL, or make it with 'loligo volume create'"
        )
    return load(url)


def _write_durably(path: str, text: str) -> None:
    partial = f"{path}.new"
    with open(partial, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, path)
    folder = os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
