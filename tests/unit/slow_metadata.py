"""A metadata port that keeps what it is asked; the test answers."""

import threading
from concurrent.futures import Future
from typing import Any

from loligo_client.shell.tasks import Metadata
from loligo_wire.attributes import Attributes


class SlowMetadata(Metadata):
    is_away = False

    def __init__(self) -> None:
        self.lock = threading.RLock()
        #: What leases say.
        self.leased: dict[int, Attributes] = {}
        self.promised: set[int] = set()
        self.asked: list[tuple[Any, Future[Any]]] = []

    def ask(self, request: Any) -> Future[Any]:
        answer: Future[Any] = Future()
        self.asked.append((request, answer))
        return answer

    def known(self, ino: int) -> Attributes | None:
        return self.leased.get(ino)

    def is_promised(self, ino: int) -> bool:
        return ino in self.promised

    def sync(self) -> None:
        raise AssertionError("nobody needs it here")

    def asked_for(self, kind: type) -> list[Any]:
        return [request for request, _ in self.asked if isinstance(request, kind)]
