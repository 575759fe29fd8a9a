"""How much the purger leaves to be done while others want something: with what it needs of a server played by stand-ins."""

from threading import RLock
from types import SimpleNamespace
from typing import Any

from loligo_mds.core.requests import GetUsage, Purge, Purged, Usage
from loligo_mds.shell.purger import OBJECTS_LEFT_MAX, OBJECTS_LEFT_SHARED_MAX, Purger
from loligo_mds.shell.removals import Removals


def test_fewer_objects_are_on_their_way_while_sessions_ask() -> None:
    purges: list[Purge] = []

    def ask(request: Any) -> Any:
        if isinstance(request, Purge):
            purges.append(request)
            return Purged(0)
        return Usage(0, 0, 0, 0) if isinstance(request, GetUsage) else []

    driver: Any = SimpleNamespace(asked=0)
    keeper: Any = SimpleNamespace(objects_left=OBJECTS_LEFT_SHARED_MAX + 1)
    lock: Any = RLock()
    purger = Purger(driver, ask, keeper, Removals(lock, lambda effect: None), lambda: (0, 0))
    purger.step()
    assert len(purges) == 1
    driver.asked += 1
    purger.step()
    assert len(purges) == 1
    keeper.objects_left = OBJECTS_LEFT_SHARED_MAX
    purger.step()
    assert len(purges) == 2
    keeper.objects_left = OBJECTS_LEFT_MAX + 1
    purger.step()
    assert len(purges) == 2
