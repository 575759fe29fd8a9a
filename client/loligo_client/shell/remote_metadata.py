"""The metadata port of the data path and the file system, for a shard behind a connection.

What can be answered here is (`core.promises`): the caller has his answer at once, and the server is asked within
`UNHURRIED_NS`, with what else has gathered, or as soon as somebody waits for something behind it. A promise that the server
does not keep, as on a full disk, is told to whoever syncs next, and to who writes to a file that could not be made; what
was leased is given back then, so that everybody sees what is there.

Rules
1. A promise is made and asked for under the lock of `leased`, and whoever gives a lease back takes it from `leased` first: so
   the server hears of the promise before the lease comes back.
2. Attributes that are set one after the other, of one inode, are one promise while it is not on its way.
   What becomes of a newborn (`core.newborns`) is said by what makes it: attributes that are set, short content, that
   objects may follow, that it is closed again.
3. No more than PROMISES_MAX are not kept yet: then callers wait for the server again.

The root of a mount is inode 1 for the kernel; for the server it is the directory that was mounted.
"""

import logging
import time
from collections.abc import Callable, Collection, Iterable
from concurrent.futures import Future
from errno import EIO
from functools import partial
from typing import Any, Final

from loligo_client.core.leased import Forgotten, Leased
from loligo_client.core.newborns import Newborns
from loligo_client.core.promises import PROMISED, Promises, Unforeseeable
from loligo_client.shell.connection import Connection, Promise
from loligo_client.shell.tasks import Metadata
from loligo_mds.core.codec import Covered, Sync, encode_request
from loligo_mds.core.lease import cover_of
from loligo_mds.core.limits import RESERVED_INODES_MAX
from loligo_mds.core.requests import (
    Create,
    Publish,
    ReadDirectory,
    RecordAccess,
    Request,
    ReserveInodes,
    SetAttributes,
    Unsettle,
)
from loligo_wire.attributes import Attributes
from loligo_wire.ids import ROOT_INO
from loligo_wire.v1 import loligo_pb2 as pb

log = logging.getLogger(__name__)

PROMISES_MAX: Final = 4096
#: After one that was not kept nothing is promised for so long: on a full disk the next would not be kept either.
DISTRUST_S: Final = 5.0
_SETTING: Final = frozenset({SetAttributes, RecordAccess})


class RemoteMetadata(Metadata):
    def __init__(self, connection: Connection, root_ino: int, leased: Leased, block_bytes: int) -> None:
        self.lock = connection.lock
        self._connection = connection
        self.root_ino = root_ino
        self._leased = leased
        #: See `Promises`.
        self.holds_bytes: Callable[[int], bool] = lambda ino: False
        self._promises = Promises(leased, block_bytes, lambda ino: self.holds_bytes(ino))
        connection.on_answer = self._heard
        connection.leased = leased
        #: Tells the kernel to ask for an inode's attributes again. It must wait for nothing.
        self.forget_attributes: Callable[[int], object] = lambda ino: None
        #: What is given back, for the kernel to forget it first. It must wait for nothing.
        self.give_back: Callable[[Forgotten], object] = lambda forgotten: None
        #: How many promises are not kept yet; files that are being made: inode -> the promise.
        self.unkept = 0
        self._making: dict[int, tuple[Promise, list[Callable[[BaseException | None], object]]]] = {}
        #: All inodes that are promised, and not made yet.
        self._unmade = connection.unmade
        self._newborns = Newborns(lambda promise, change: connection.amend(promise, lambda said: change(said.create)))
        #: What was asked last, if it set attributes and was promised.
        self._last_set: tuple[SetAttributes, Promise] | None = None
        #: What is being published, and what the answer will be is known already.
        self._foreseen: set[int] = set()
        self._reserving = False
        self._promises_from_s = 0.0
        #: errno of a promise that was not kept, and of which nobody was told.
        self._refused = 0

    # -- asking -------------------------------------------------------------------------------------------------------

    def ask(self, request: Request | Sync) -> Any:
        return self._ask(request, self._connection.ask)

    def ask_lazily(self, request: Request) -> Any:
        return self._ask(request, self._connection.ask_lazily)

    def _ask(self, request: Any, ask: Callable[[Any], Future[Any]]) -> Any:
        if self.root_ino != ROOT_INO:
            for name in ("ino", "parent", "new_parent", "directory"):
                if getattr(request, name, 0) == ROOT_INO:
                    setattr(request, name, self.root_ino)
        kind = type(request)
        promises = self._promises
        with self._leased.lock:
            last_set, self._last_set = self._last_set, None
            if kind in PROMISED and self._may_promise():
                now_ns = time.time_ns()
                try:
                    foreseen = promises.foresee(request, now_ns)
                except Unforeseeable:
                    pass
                else:
                    if kind in _SETTING and self._newborns.becomes(request.ino, foreseen.answer):
                        pass
                    elif last_set is not None and self._merge(*last_set, request, now_ns):
                        self._last_set = last_set
                    else:
                        self._promise(request, foreseen.changed, now_ns)
                    for ino in foreseen.moved:
                        self.forget_attributes(ino)
                    for forgotten in foreseen.given_back:
                        self.give_back(forgotten)
                    return foreseen.answer
            if kind is ReadDirectory and not self._connection.is_away:
                page = promises.listing(request)
                if page is not None:
                    return page
            if kind is RecordAccess:
                self._leased.doubts(request.ino)
            if kind is Publish:
                known = promises.published(request)
                if known is not None:
                    at_once = request.inline is not None and self._newborns.becomes(request.ino, known, request.inline)
                    self._leased.learn(known)
                    if at_once:
                        return known
                    self._newborns.asked((request.ino,))
                    self._foreseen.add(id(request))
                    published = ask(request)
                    published.add_done_callback(partial(self._published, request))
                    return published
            if kind is Unsettle:
                made = self._unsettle(request)
                if made is not None:
                    return made
            about = promises.asking(request)
            self._newborns.asked((getattr(request, "ino", 0), *about))
            asked = ask(request)
        if about:
            asked.add_done_callback(partial(self._answered, about))
        return asked

    def _may_promise(self) -> bool:
        if not self._leased.has_delegations or self.unkept >= PROMISES_MAX:
            return False
        if self._promises.needs_inodes:
            self._reserve()
        return not self._promises_from_s or time.monotonic() >= self._promises_from_s

    def _answered(self, about: list[int], answer: Future[Any]) -> None:
        with self._leased.lock:
            self._promises.heard(about)

    def _published(self, request: Publish, answer: Future[Any]) -> None:
        with self._leased.lock:
            self._foreseen.discard(id(request))
            if answer.exception() is not None:
                self._leased.doubt(request.ino)

    def _heard(self, request: Any, answer: Any, covered: Covered) -> None:
        """On the connection's thread, before whoever asked."""
        if id(request) in self._foreseen:
            return
        if type(request) is Publish and request.mtime_ns not in (None, answer.mtime_ns):
            self.forget_attributes(request.ino)  # another client has set it since; the kernel was told what we knew
        for ino in covered.forgets:
            self.forget_attributes(ino)
        for forgotten in self._leased.heard(request, answer, covered):
            self.give_back(forgotten)

    # -- promises -----------------------------------------------------------------------------------------------------

    def _promise(self, request: Any, changed: Collection[int], now_ns: int) -> None:
        promise = self._connection.promise(request, now_ns, partial(self._kept, request))
        self._newborns.promised(request, changed, promise)
        self.unkept += 1
        kind = type(request)
        if kind is Create:
            self._unmade.add(request.new_ino)
            if request.hold:
                self._making[request.new_ino] = promise, []
        elif kind is SetAttributes:
            self._last_set = request, promise

    def _unsettle(self, request: Unsettle) -> Future[None] | None:
        """What makes the file says so now. None: no."""
        making = self._making.get(request.ino)
        if making is None or not self._newborns.unsettle(request.ino, request.end):
            return None
        answer: Future[None] = Future()
        making[1].append(lambda error: answer.set_result(None) if error is None else answer.set_exception(error))
        return answer

    def _merge(self, last: SetAttributes, promise: Promise, request: Any, now_ns: int) -> bool:
        """Whether the promise before says so now, too."""
        if (
            type(request) is not SetAttributes
            or request.ino != last.ino
            or request.drop_privileges
            or last.drop_privileges
        ):
            return False

        def change(message: pb.Request) -> None:
            encode_request(request, message)  # what it does not name stays as it is
            message.promised_ns = now_ns

        return self._connection.amend(promise, change)

    def _kept(self, request: Any, error: BaseException | None) -> None:
        told: Iterable[Callable[[BaseException | None], object]] = ()
        with self._leased.lock:
            self.unkept -= 1
            if type(request) is Create:
                self._unmade.discard(request.new_ino)
                self._newborns.asked((request.new_ino,))
                _, told = self._making.pop(request.new_ino, (None, ()))
        for one in told:
            one(error)
        if error is not None:
            self._broken(request, error)

    def _broken(self, request: Any, error: BaseException) -> None:
        with self._leased.lock:
            self._refused = getattr(error, "errno", 0) or EIO
            self._promises_from_s = time.monotonic() + DISTRUST_S
            about = [getattr(request, name, 0) for name in ("ino", "parent", "new_parent", "new_ino")]
            given_back = [self._leased.give_back(ino) for ino in about if ino]
        if not self._connection.gone:
            log.error("a change that a caller was told of cannot be made: %r: %s", request, error)
        for forgotten in given_back:
            if forgotten is not None:
                self.give_back(forgotten)

    def latest(self, attributes: Attributes) -> Attributes:
        with self._leased.lock:
            known = self._leased.attributes(attributes.ino)
            return known if known is not None and self._leased.is_delegated(cover_of(known)) else attributes

    def known(self, ino: int) -> Attributes | None:
        with self._leased.lock:
            return None if self._connection.is_away else self._promises.known(ino)

    def is_promised(self, ino: int) -> bool:
        return ino in self._unmade

    def when_made(self, ino: int, told: Callable[[BaseException | None], object]) -> bool:
        with self._leased.lock:
            making = self._making.get(ino)
            if making is not None:
                making[1].append(told)
        return making is not None

    def make_closed(self, ino: int) -> bool:
        with self._leased.lock:
            if ino not in self._making or not self._newborns.close(ino):
                return False
            del self._making[ino]
            return True

    def _reserve(self) -> None:
        if not self._reserving:
            self._reserving = True
            self._connection.ask(ReserveInodes(RESERVED_INODES_MAX)).add_done_callback(self._reserved)

    def _reserved(self, answer: Future[Any]) -> None:
        with self._leased.lock:
            self._reserving = False
            if answer.exception() is None:
                self._promises.reserved(answer.result())

    # -- the rest of the port -------------------------------------------------------------------------------------------

    @property
    def is_away(self) -> bool:
        return self._connection.is_away

    def hurry(self) -> None:
        self._connection.hurry()

    def sync(self) -> None:
        self._connection.sync()
        refused, self._refused = self._refused, 0
        if refused:
            raise OSError(refused, "a change of names that was made before could not be stored")
