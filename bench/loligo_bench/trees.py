"""Trees of files for the benchmark of the trash, made through the wire protocol: a mount takes much longer.

Some files are hard links, symbolic links, or have modes, owners and extended attributes of their own, so that whoever compares
a tree with its copy sees if something of that was lost.
"""

import os
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from stat import S_IFDIR, S_IFLNK, S_IFREG
from typing import Any

from loligo_lab.raw_client import RawClient
from loligo_mds.core.requests import Create, Link, Publish, SetXattr
from loligo_runtime.object_store import object_name
from loligo_wire.ids import ROOT_INO

FILES_A_DIRECTORY = 100
FRAME = 64
FRAMES_UNDER_WAY = 4
OBJECT_BYTES = 8 << 10
IN_FLIGHT = 128
_SPECIAL_EVERY = 50
_LIMIT_S = 300.0


@contextmanager
def session(server: str, volume: str) -> "Iterator[Trees]":
    """Short: one that asks nothing for a minute is ended by the server."""
    with RawClient(server, volume=volume, limit_s=_LIMIT_S) as client:
        yield Trees(client)
        client.goodbye()


class Trees:
    def __init__(self, client: RawClient) -> None:
        self._client = client

    def make(self, name: str, files: int) -> None:
        """A directory in the root, empty files in directories of FILES_A_DIRECTORY."""
        self._make_files(self._directory(name), files)

    def make_with_content(self, name: str, files: int) -> None:
        """Small contents, which are in the metadata."""
        top = self._directory(name)
        inos = self._make_files(top, files, varied=True)
        texts = ((ino, b"file %d\n" % ino * (1 + ino % 20)) for ino in inos)
        self._all(Publish(ino, len(text), None, text) for ino, text in texts)
        special = inos[::_SPECIAL_EVERY]
        self._all(SetXattr(ino, b"user.number", b"%d" % ino) for ino in special)
        self._all(Link(ino, top, b"link-%d" % number) for number, ino in enumerate(special))
        self._all(
            Create(top, b"symlink-%d" % number, S_IFLNK | 0o777, 0, 0, target=b"link-%d" % number)
            for number in range(len(special))
        )

    def make_with_objects(self, name: str, files: int, pool: Any) -> None:
        """Files of one object of OBJECT_BYTES each. `pool`: an ioctx of the volume's namespace."""
        inos = self._make_files(self._directory(name), files)
        write_objects(pool, [object_name(ino, 0) for ino in inos])
        self._all(Publish(ino, OBJECT_BYTES, None) for ino in inos)

    def _directory(self, name: str) -> int:
        return int(self._client.ask(Create(ROOT_INO, os.fsencode(name), S_IFDIR | 0o755, 0, 0)).ino)

    def _make_files(self, top: int, files: int, *, varied: bool = False) -> list[int]:
        """Their inodes. `varied`: modes and owners."""
        count = -(-files // FILES_A_DIRECTORY)
        directories = [made.ino for made in self._all(_directories(top, count))]

        def creates() -> Iterator[Create]:
            for number in range(files):
                odd = varied and number % 3
                mode, uid = (0o600, 1000 + number % 7) if odd else (0o644, 0)
                parent = directories[number // FILES_A_DIRECTORY]
                yield Create(parent, b"file-%d" % number, S_IFREG | mode, uid, uid)

        return [made.ino for made in self._all(creates())]

    def _all(self, requests: Iterable[Any]) -> list[Any]:
        """Their answers, in order. OSError for the first that is refused."""
        client = self._client
        answers: list[Any] = []
        under_way: deque[list[int]] = deque()
        acknowledged: deque[int] = deque()

        def finish_one() -> None:
            for answer in client.finish(under_way.popleft()):
                if isinstance(answer, OSError):
                    raise answer
                answers.append(answer)

        frame: list[Any] = []
        answered = client.sequence

        def send() -> None:
            nonlocal answered
            if len(under_way) >= FRAMES_UNDER_WAY:
                finish_one()
                answered = acknowledged.popleft()
            under_way.append(client.begin(frame, acknowledged=answered))
            acknowledged.append(client.sequence)
            frame.clear()

        for request in requests:
            frame.append(request)
            if len(frame) == FRAME:
                send()
        if frame:
            send()
        while under_way:
            finish_one()
        return answers


def _directories(top: int, count: int) -> Iterator[Create]:
    return (Create(top, b"directory-%d" % number, S_IFDIR | 0o755, 0, 0) for number in range(count))


def write_objects(pool: Any, names: list[str]) -> None:
    content = bytes(OBJECT_BYTES)
    _pipelined(lambda name: pool.aio_write_full(name, content), names)


def remove_objects(pool: Any, names: list[str]) -> None:
    """As fast as librados does it for one caller."""
    _pipelined(pool.aio_remove, names)


def _pipelined(begin: Any, names: list[str]) -> None:
    under_way: deque[Any] = deque()

    def finish_one() -> None:
        completion = under_way.popleft()
        completion.wait_for_complete()
        code = completion.get_return_value()
        if code < 0:
            raise OSError(-code, os.strerror(-code))

    for name in names:
        if len(under_way) >= IN_FLIGHT:
            finish_one()
        under_way.append(begin(name))
    while under_way:
        finish_one()
