"""A metadata port that keeps what it is asked; the test answers."""

import threading
from concurrent.futures import Future
from typing import Any

from loligo_client.shell.tasks import Metadata


class SlowMetadata(Metadata):
    is_away = False

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.asked: list[tuple[Any, Future[Any]]] = []

    def ask(self, request: Any) -> Future[Any]:
        answer: Future[Any] = Future()
        self.asked.append((request, answer))
        return answer

    def sync(self) -> None:
        raise AssertionError("nobody needs it here")

    def asked_for(self, kind: type) -> list[Any]:
        return [request for request, _ in self.asked if isinstance(request, kind)]
