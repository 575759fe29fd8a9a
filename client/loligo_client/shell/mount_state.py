"""What is mounted on this machine: the kernel's table, and a note that each mount process leaves beside it.

The kernel's table (/proc/self/mountinfo) is the truth about what is mounted. It knows nothing of processes, so a mount
process writes a note, named after the device number of its mount and its own id. (Once something is unmounted, its number is
given to the next mount, while its process may still be storing; so no process touches the note of another that lives.)

    /run/loligo/MINOR-PID.json                                  mounts of root
    /run/user/UID/loligo/… or, without it, /tmp/loligo-UID/…    mounts of others

The note goes when the process has stored everything. One that stays tells of a process that died or failed.
Nothing here touches a mounted file system: it may hang or be dead.
"""

import json
import os
import re
import stat
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from loligo_client.shell.server_source import ServerSource, SourceError, parse_source
from loligo_runtime.state_folder import make_state_folder, state_folder

FS_TYPE = "fuse.loligo"

_OWN_TABLE = "/proc/self/mountinfo"
_ESCAPE = re.compile(r"\\([0-7]{3})")
_OWNER = re.compile(r"(?:^|,)user_id=(\d+)")


@dataclass(frozen=True, slots=True)
class Mounted:
    """A row of the kernel's table. `device` is its number, "major:minor"; `root`: what of the file system is seen there, which
    is all of it unless it is a bind mount.
    """

    directory: str
    source: str
    device: str
    read_only: bool
    owner_uid: int
    root: str = "/"


@dataclass(frozen=True, slots=True)
class Note:
    """What a mount process says of itself. `process_start` tells it from a later process with the same id."""

    pid: int
    process_start: int
    device: str
    directory: str
    volume: str
    meta_url: str
    data_url: str
    transport: str
    since_s: float
    log: str
    #: Why not everything could be stored, once that is known.
    failure: str = ""
    #: "host:port" of the metadata server, if there is one, since when it is away, and why it has ended the mount's session.
    server: str = ""
    server_away_since_s: float | None = None
    ended: str = ""

    @property
    def is_alive(self) -> bool:
        return process_start(self.pid) == self.process_start


def mounts(table: str = _OWN_TABLE) -> list[Mounted]:
    """Our mounts, in the order in which they were made."""
    found = []
    for fields in _rows(table):
        dash = fields.index("-", 6)
        if fields[dash + 1] != FS_TYPE:
            continue
        options = fields[5].split(",")
        owner = _OWNER.search(fields[dash + 3])
        found.append(
            Mounted(
                directory=_unescape(fields[4]),
                source=_unescape(fields[dash + 2]),
                device=fields[2],
                read_only="ro" in options or "ro" in fields[dash + 3].split(","),
                owner_uid=int(owner[1]) if owner else 0,
                root=_unescape(fields[3]),
            )
        )
    return found


def mount_points(table: str = _OWN_TABLE) -> list[str]:
    """Where anything at all is mounted."""
    return [_unescape(fields[4]) for fields in _rows(table)]


def has_mounts(device: str, path: bytes, table: str = _OWN_TABLE) -> bool:
    """Whether something is mounted on our mount with that number, or on another mount of the same volume of a server: on
    `path`, which is from the root of ours and begins with a slash, or below. A table that cannot be read is that of a process
    which is gone, or out of our sight.
    """
    inner = os.fsdecode(path)
    try:
        rows = _rows(table)
    except OSError:
        rows = _rows(_OWN_TABLE)
    source = next((_server_source(row) for row in rows if row[2] == device), None)
    for one in rows:
        root = _unescape(one[3]).rstrip("/")
        within = inner if one[2] == device else _within(source, inner, _server_source(one))
        if within is None or not f"{within}/".startswith(f"{root}/"):
            continue
        if root and within == root:
            return True  # it is mounted elsewhere, too: who calls may mean that
        there = _unescape(one[4]).rstrip("/") + within[len(root) :]
        if any(row is not one and f"{_unescape(row[4])}/".startswith(f"{there}/") for row in rows):
            return True
    return False


def _server_source(row: list[str]) -> ServerSource | None:
    dash = row.index("-", 6)
    if row[dash + 1] != FS_TYPE:
        return None
    try:
        return parse_source(_unescape(row[dash + 2]))
    except SourceError:
        return None


def _within(source: ServerSource | None, path: str, other: ServerSource | None) -> str | None:
    """Where what one mount has at `path` is on the other; None: nowhere."""
    if source is None or other is None or source.volume != other.volume:
        return None
    if not set(source.addresses) & set(other.addresses):
        return None
    whole = f"/{os.fsdecode(source.root_path)}".rstrip("/") + path
    above = f"/{os.fsdecode(other.root_path)}".rstrip("/")
    return whole[len(above) :] if f"{whole}/".startswith(f"{above}/") else None


def _rows(table: str) -> list[list[str]]:
    with open(table, encoding="utf-8", errors="surrogateescape") as rows:
        return [row.rstrip("\n").split(" ") for row in rows]


def find_mount(directory: str) -> Mounted | None:
    """Our mount on `directory`, the topmost if there are several."""
    on_top = {mount.directory: mount for mount in mounts()}
    absolute = os.path.abspath(directory)
    # The last part is resolved only if need be: it would ask a file system that may be dead.
    plain = os.path.join(os.path.realpath(os.path.dirname(absolute)), os.path.basename(absolute))
    return on_top.get(plain) or on_top.get(os.path.realpath(absolute))


def mount_of_volume(meta_url: str) -> tuple[Mounted, Note] | None:
    """The living mount of the volume, if it is mounted here."""
    for mount in mounts():
        note = read_note(mount)
        if note is not None and note.meta_url == meta_url and note.is_alive:
            return mount, note
    return None


def process_start(pid: int) -> int | None:
    """When the process was started, in clock ticks since the machine was; None if there is none, or a dead one."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = text.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else int(fields[19])


def process_memory_bytes(pid: int) -> tuple[int, int] | None:
    """(resident, of it anonymous) memory of the process; None if it cannot be read."""
    found = {}
    try:
        for line in Path(f"/proc/{pid}/status").read_text(encoding="utf-8", errors="replace").splitlines():
            name, _, value = line.partition(":")
            if name in ("VmRSS", "RssAnon"):
                found[name] = int(value.split()[0]) << 10
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return None
    return (found["VmRSS"], found["RssAnon"]) if len(found) == 2 else None


def holders(directory: str) -> Iterator[str]:
    """Who keeps a mount busy: a text for each process that has something open in it or stands there."""
    inside = directory.rstrip("/") + "/"
    for process in Path("/proc").iterdir():
        if not process.name.isdigit():
            continue
        try:
            links = [process / "cwd", process / "root", *(process / "fd").iterdir()]
            for link in links:
                target = str(link.readlink())
                if target == directory or target.startswith(inside):
                    name = (process / "comm").read_text(errors="replace").strip()
                    yield f"{name} (process {process.name}) uses {target}"
                    break
        except OSError:
            continue  # it has ended meanwhile, or is not ours to look at


# -- notes ----------------------------------------------------------------------------------------------------------


def write_note(
    mount: Mounted, *, volume: str, meta_url: str, data_url: str, transport: str, log: str, failure: str = ""
) -> Note:
    """Say that this process serves `mount`."""
    pid = os.getpid()
    start = process_start(pid)
    if start is None:
        raise OSError(f"/proc/{pid}/stat cannot be read: is /proc mounted?")
    note = Note(
        pid, start, mount.device, mount.directory, volume, meta_url, data_url, transport, time.time(), log, failure
    )
    make_state_folder()
    for path, left in _notes(os.geteuid(), mount.device):
        if not left.is_alive:
            path.unlink(missing_ok=True)
    _store_note(note)
    return note


def note_failure(note: Note, failure: str) -> None:
    _store_note(replace(note, failure=failure))


def note_server(note: Note, server: str, away_since_s: float | None, ended: str) -> None:
    _store_note(replace(note, server=server, server_away_since_s=away_since_s, ended=ended))


def remove_note(note: Note) -> None:
    _path(note).unlink(missing_ok=True)


def read_note(mount: Mounted) -> Note | None:
    """What the process of `mount` said last; None if it said nothing that can be believed."""
    # A mount whose process was killed leaves its note, and its number may be given to another mount.
    found = [note for _, note in _notes(mount.owner_uid, mount.device) if note.directory == mount.directory]
    return max(found, key=lambda note: note.since_s, default=None)


def _notes(uid: int, device: str) -> Iterator[tuple[Path, Note]]:
    """Of all processes that this number was given to."""
    for path in state_folder(uid).glob(f"{_minor(device)}-*.json"):
        note = _read(path, uid)
        if note is not None:
            yield path, note


def _read(path: Path, owner_uid: int) -> Note | None:
    try:
        with open(path, encoding="utf-8") as file:
            status = os.fstat(file.fileno())
            if status.st_uid != owner_uid or not stat.S_ISREG(status.st_mode):
                return None
            return Note(**json.load(file))
    except (OSError, ValueError, TypeError):
        return None


def _store_note(note: Note) -> None:
    path = _path(note)
    partial = path.with_suffix(".new")
    partial.write_text(json.dumps(asdict(note)) + "\n", encoding="utf-8")
    partial.replace(path)


def _path(note: Note) -> Path:
    return state_folder(os.geteuid()) / f"{_minor(note.device)}-{note.pid}.json"


def _minor(device: str) -> str:
    return device.partition(":")[2]


def _unescape(field: str) -> str:
    """Space, tab, newline and backslash are octal numbers in the kernel's table."""
    return _ESCAPE.sub(lambda matched: chr(int(matched[1], 8)), field)
