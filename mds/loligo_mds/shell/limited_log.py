"""Log lines that others can cause: some of a kind, then only how many more there were."""

import logging
import time

PERIOD_S = 10.0
LINES_IN_PERIOD = 10


class LimitedLog:
    def __init__(self, log: logging.Logger) -> None:
        self._log = log
        self._since_s = 0.0
        self._lines = 0

    def warning(self, text: str, *arguments: object) -> None:
        now_s = time.monotonic()
        if now_s - self._since_s > PERIOD_S:
            if self._lines > LINES_IN_PERIOD:
                self._log.warning("… and %d more like that", self._lines - LINES_IN_PERIOD)
            self._since_s = now_s
            self._lines = 0
        self._lines += 1
        if self._lines <= LINES_IN_PERIOD:
            self._log.warning(text, *arguments)
