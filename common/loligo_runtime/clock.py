"""The one place that reads clocks. Everything else is given a `Clock`."""

import time
from typing import Protocol


class Clock(Protocol):
    def time_ns(self) -> int:
        """Wall time, ns since 1970."""


class SystemClock:
    time_ns = staticmethod(time.time_ns)
