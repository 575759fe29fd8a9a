"""100,000 frames from enemies, of every kind, and a client that works meanwhile and is not disturbed.

The enemies have sessions as anybody may get them: below a directory, reading only, both, and of the whole volume (those
leave the others' files alone, because nobody could forbid it to them). Each stream carries many frames; where the
server must end it another one follows, and sessions are left behind as they are.
"""

import asyncio
import os
import threading
import time
import urllib.request
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from random import Random
from stat import S_IFDIR, S_IFLNK, S_IFREG
from typing import Any

import pytest

from loligo_lab.mounts import assert_sound, make_lab_volume
from loligo_lab.processes import wait_until
from loligo_lab.raw_client import RawClient
from loligo_lab.serving import LabServer
from loligo_mds.core.codec import Sync
from loligo_mds.core.invariants import check_shard
from loligo_mds.core.requests import (
    Close,
    Create,
    GetAttributes,
    GetXattr,
    Link,
    ListBatches,
    ListXattrs,
    Lookup,
    Publish,
    PurgeBatch,
    ReadDirectory,
    ReadInline,
    ReadLink,
    RemoveDirectory,
    Rename,
    SetXattr,
    Unlink,
)
from loligo_mds.store.shard_store import ShardStore
from loligo_runtime.volume import Volume
from loligo_trash.policy import MINIMUM_AGE_NAME, RETENTION_NAME
from loligo_wire.ids import ROOT_INO
from loligo_wire.v1 import loligo_pb2 as pb
from server.attackers import Role, attack
from server.hostile import BEYOND, Enemy, keeps_to

SEED = 4
FRAMES = 100_000
STREAMS = 6
EXPIRY_S = 4
#: In everything that a session below a directory must not see.
MARK = b"none-of-yours"
PROTECTED = (b"good", b"kept", b"cage")
#: A frame of the good client is answered within this, whatever goes on. The machine is busy with us, too.
ANSWER_S = 5.0
#: The frames come in so many parts. What a later one may cost in memory beyond the one before, and in descriptors. A leak grows
#: with every part; what malloc keeps for itself comes and goes, so that one part may.
PARTS = 3
GROWTH_KIB = 12 << 10
GROWTH_FDS = 4
#: What the daemon may need for a moment, for frames that are as long as they may be.
PEAK_KIB = 250 << 10


# -- who is disturbed, or not ---------------------------------------------------------------------------------------


class GoodClient(threading.Thread):
    """Makes, changes and removes files, and knows what every answer must be."""

    def __init__(self, address: str, directory: int, outside: set[int]) -> None:
        super().__init__(name="good client")
        self._client = RawClient(address).connect()
        self._directory = directory
        #: Every inode that it has made.
        self._outside = outside
        self._random = Random(1)
        self.rounds = 0
        self.worst_s = 0.0
        self.error: BaseException | None = None
        self._ending = threading.Event()
        self._held = self._make(b"held")

    def run(self) -> None:
        try:
            while not self._ending.is_set():
                self._round(self.rounds)
                self.rounds += 1
            self._ask(Close(self._held))
            self._ask(Unlink(self._directory, b"held"))
            assert self._names() == []
            assert not self._client.notices
            self._client.goodbye()
        except BaseException as error:  # noqa: BLE001 - `end` raises it
            self.error = error

    def end(self) -> None:
        self._ending.set()
        self.join()
        self._client.break_off()
        if self.error is not None:
            raise self.error

    def _ask(self, request: Any) -> Any:
        began_s = time.monotonic()
        answer = self._client.ask(request, acknowledged=self._client.sequence)
        self.worst_s = max(self.worst_s, time.monotonic() - began_s)
        return answer

    def _make(self, name: bytes) -> int:
        made = self._ask(Create(self._directory, name, S_IFREG | 0o640, 7, 8, hold=True))
        self._outside.add(made.ino)
        assert (made.mode, made.uid, made.gid, made.nlink, made.size) == (S_IFREG | 0o640, 7, 8, 1, 0)
        return int(made.ino)

    def _names(self) -> list[bytes]:
        return sorted(entry[0] for entry in self._ask(ReadDirectory(self._directory, 0, 100)))

    def _round(self, number: int) -> None:
        ask, here = self._ask, self._directory
        name, other = b"%s-%d" % (MARK, number), b"%s-other" % MARK
        content, value = MARK + self._random.randbytes(100), MARK + self._random.randbytes(20)
        ino = self._make(name)
        assert ask(Publish(ino, len(content), 5, content)).size == len(content)
        ask(SetXattr(ino, b"user.x", value))
        assert ask(Link(ino, here, other)).nlink == 2
        assert ask(ReadInline(ino)) == content
        assert (ask(GetXattr(ino, b"user.x")), ask(ListXattrs(ino))) == (value, [b"user.x"])
        assert self._names() == sorted([b"held", name, other])
        assert ask(Unlink(here, name)).nlink == 1
        assert ask(Lookup(here, name)) is None
        assert ask(Rename(here, other, here, name)) is None
        found = ask(Lookup(here, name))
        assert (found.ino, found.size, found.mtime_ns, found.nlink) == (ino, len(content), 5, 1)
        assert ask(Unlink(here, name)).nlink == 0
        assert ask(GetAttributes(ino)).nlink == 0  # it is open
        ask(Close(ino))
        with pytest.raises(FileNotFoundError):
            ask(GetAttributes(ino))
        if number % 20 == 0:
            ask(Sync())


def snapshot(client: RawClient, ino: int) -> dict[bytes, Any]:
    """Everything below a directory."""
    found: dict[bytes, Any] = {}
    for name, _, child, kind, attributes in client.ask(ReadDirectory(ino, 0, 1000, with_attributes=True)):
        xattrs = {key: client.ask(GetXattr(child, key)) for key in client.ask(ListXattrs(child))}
        content = b""
        if kind == S_IFREG and attributes.size:
            content = client.ask(ReadInline(child))
        elif kind == S_IFLNK:
            content = client.ask(ReadLink(child))
        found[name] = (attributes, xattrs, content, snapshot(client, child) if kind == S_IFDIR else {})
    return found


def inodes_of(tree: dict[bytes, Any]) -> Iterator[int]:
    for attributes, _, _, below in tree.values():
        yield attributes.ino
        yield from inodes_of(below)


def make_kept(client: RawClient) -> int:
    """What nobody may touch; the directory that holds it."""
    kept = client.ask(Create(ROOT_INO, b"kept", S_IFDIR | 0o755, 0, 0))
    folder = client.ask(Create(kept.ino, MARK + b"-folder", S_IFDIR | 0o700, 0, 0))
    for parent in (kept.ino, folder.ino):
        for number in range(8):
            file = client.ask(Create(parent, b"%s%d" % (MARK, number), S_IFREG | 0o600, 0, 0))
            client.ask(Publish(file.ino, 200, 5, MARK * 15 + b"12345"))
            client.ask(SetXattr(file.ino, b"user.a", MARK))
        client.ask(Create(parent, MARK + b"-link", S_IFLNK | 0o777, 0, 0, target=MARK))
    return int(kept.ino)


def remove_all(client: RawClient, ino: int, but: Collection[bytes] = ()) -> None:
    while page := [entry for entry in client.ask(ReadDirectory(ino, 0, 1000)) if entry[0] not in but]:
        for name, _, child, kind, _ in page:
            if kind == S_IFDIR:
                remove_all(client, child)
                client.ask(RemoveDirectory(ino, name), acknowledged=client.sequence)
            else:
                client.ask(Unlink(ino, name), acknowledged=client.sequence)


def empty_trash(client: RawClient) -> None:
    """Of files that enemies have removed, too, they have said what is not so."""
    while rows := client.ask(ListBatches(0, 1000)):
        client.ask_all([PurgeBatch(int.from_bytes(row[:8])) for row in rows])
        wait_until(lambda: client.ask(ListBatches(0, 1)) != rows[:1], "the oldest is gone", 30)


# -- the test -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Usage:
    """Of memory that is the process's own; the file of tables in it comes and goes as the kernel likes."""

    anonymous_kib: int
    fds: int


def usage_of(server: LabServer) -> Usage:
    return Usage(status_kib(server, "RssAnon"), len(os.listdir(f"/proc/{server.pid}/fd")))


def status_kib(server: LabServer, name: str) -> int:
    with open(f"/proc/{server.pid}/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith(f"{name}:"))


def sessions_of(server: LabServer) -> int:
    with urllib.request.urlopen(f"http://127.0.0.1:{server.metrics_port}/metrics", timeout=10) as page:
        lines = page.read().decode().splitlines()
    return int(float(next(line.split()[1] for line in lines if line.startswith("loligo_mds_sessions "))))


def make_roles(client: RawClient, outside: set[int], seen: set[int]) -> list[Role]:
    """`outside`: what those below the directory must never see. `seen`: what they did see."""
    cage = client.ask(Create(ROOT_INO, b"cage", S_IFDIR | 0o755, 0, 0)).ino
    inner = client.ask(Create(cage, b"inner", S_IFDIR | 0o755, 0, 0)).ino
    free = client.ask(Create(ROOT_INO, b"free", S_IFDIR | 0o755, 0, 0)).ino
    outside |= {free, ROOT_INO}
    foreign = sorted(outside)

    def watch(data: bytes, frame: pb.ServerFrame) -> None:
        assert MARK not in data, "a session below a directory was told what is outside"
        seen.update(inodes_in(frame))

    own = {0, free}

    def learn(data: bytes, frame: pb.ServerFrame) -> None:
        own.update(set(inodes_in(frame)) - outside)

    def spares_others(data: bytes) -> bool:
        return keeps_to(data, lambda ino: ino in own or ino >= BEYOND, PROTECTED)

    return [
        Role({"root_path": b"cage"}, [cage, inner], foreign, (b"inner",), sees=watch),
        Role({"root_path": b"cage/inner"}, [inner], [*foreign, cage], (b"..", b"kept"), sees=watch),
        Role({"root_path": b"cage", "read_only": True}, [cage, inner], foreign, (b"inner",), sees=watch),
        Role({"read_only": True}, [free], [], (b"kept", b"good"), spares_others, learn),
        Role({}, [free], [], (b"x",), spares_others, learn),
    ]


def inodes_in(frame: pb.ServerFrame) -> Iterator[int]:
    for answer in frame.answers:
        match answer.WhichOneof("value"):
            case "inode":
                yield answer.inode.ino
            case "opened":
                yield answer.opened.inode.ino
            case "listing":
                yield from (entry.ino for entry in answer.listing.entries)
        yield from (directory.ino for directory in answer.directories)
    for notice in frame.notices:
        yield notice.recall or notice.resume.ino


def send_monsters(server: LabServer, role: Role) -> None:
    for monster in Enemy(Random(SEED), role.inos, role.foreign, role.names).monsters():
        with RawClient(server.address, **role.hello) as client:
            client.send_bytes(monster)
            assert client.wait_for_refusal().reason == pb.Refusal.PROTOCOL


def check_metadata(volume: Volume) -> None:
    """What enemies said of their files' objects may be lies; but not what the shard says of itself."""
    store = ShardStore.open(volume.shard_folder)
    try:
        problems = store.check() + check_shard(store)
    finally:
        store.close()
    assert not problems, "\n".join(problems)


def test_enemies_get_nothing_and_disturb_nobody(tmp_path: Path) -> None:
    volume = make_lab_volume(tmp_path, block_bytes=4 << 20)
    server = LabServer(volume, tmp_path, options=("--session-expiry", str(EXPIRY_S)))
    try:
        server.start()
        pid = server.pid
        with RawClient(server.address) as client:
            kept = make_kept(client)
            before = snapshot(client, kept)
            good = client.ask(Create(ROOT_INO, b"good", S_IFDIR | 0o755, 0, 0)).ino
            # What enemies say of the root, who may, is not said of this: what is removed there is gone.
            client.ask(SetXattr(good, RETENTION_NAME, b"0"))
            client.ask(SetXattr(ROOT_INO, MINIMUM_AGE_NAME, b"0"))
            outside = {kept, good, *inodes_of(before)}
            seen: set[int] = set()
            roles = make_roles(client, outside, seen)
            client.goodbye()

        worker = GoodClient(server.address, good, outside)
        worker.start()
        try:
            usages = []
            heard = 0
            for part in range(PARTS):
                count = asyncio.run(attack(server.address, roles, SEED + part, FRAMES // PARTS + 1))
                print(f"part {part}, seed {SEED + part}: {count}")
                heard += count.frames
                send_monsters(server, roles[0])
                wait_until(lambda: sessions_of(server) == 1, "the enemies' sessions expire", 30)
                usages.append(usage_of(server))
        finally:
            worker.end()
        print(f"{worker.rounds} rounds of the good client, no answer later than {worker.worst_s:.2f} s; {usages}")
        assert heard >= FRAMES
        assert server.is_running and server.pid == pid
        assert worker.rounds > 20 and worker.worst_s < ANSWER_S
        assert min(later.anonymous_kib - one.anonymous_kib for one, later in pairwise(usages)) < GROWTH_KIB, usages
        assert min(later.fds - one.fds for one, later in pairwise(usages)) < GROWTH_FDS, usages
        assert status_kib(server, "VmHWM") < PEAK_KIB
        assert not (both := seen & outside), both
        with RawClient(server.address) as client:
            assert snapshot(client, kept) == before
            client.goodbye()
        server.stop()
        check_metadata(volume)

        server.start()
        with RawClient(server.address) as client:
            remove_all(client, ROOT_INO, but=(b"good", b"kept"))
            empty_trash(client)
            client.goodbye()
        server.stop()
        assert_sound(volume)
    finally:
        server.kill()
