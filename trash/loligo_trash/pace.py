"""How much a step of work in the background does, and how long it pauses then, so that those who wait for answers do not
notice: steps are short, and shorter while others are there; pauses are as long as a step took, and longer the more others ask.
"""

from typing import Final

#: How long a step takes: while nobody is there whom it keeps waiting, and else.
_STEP_ALONE_S: Final = 0.002
_STEP_S: Final = 0.0005
#: Who was there will be again.
_PRESENT_FOR_S: Final = 0.1
#: What a request of others takes, about: so it is known how much of the time they want.
_REQUEST_S: Final = 60e-6
#: How much longer the pause is when they want all of it.
_LONGER_TIMES: Final = 8.0
_COUNT_MIN: Final = 4
#: From one step to the next: a step that the machine let wait says little.
_CHANGE_MAX: Final = 2.0


class Pace:
    def __init__(self, count_max: int) -> None:
        self._count_max = count_max
        #: What the next step is to do, in whatever it counts.
        self.count = 32
        self._last_s = 0.0
        self._present_until_s = 0.0

    def after(self, took_s: float, now_s: float, others: int) -> float:
        """The pause, in seconds. `others`: requests of others since the last step."""
        if others:
            self._present_until_s = now_s + _PRESENT_FOR_S
        step_s = _STEP_S if now_s < self._present_until_s else _STEP_ALONE_S
        change = min(_CHANGE_MAX, max(1 / _CHANGE_MAX, step_s / max(took_s, 1e-6)))
        self.count = max(_COUNT_MIN, min(self._count_max, int(self.count * change)))
        share = min(1.0, others * _REQUEST_S / max(now_s - self._last_s, 1e-6))
        self._last_s = now_s
        return took_s * (1.0 + _LONGER_TIMES * share)
