"""A cluster and a host in memory, for the driver of apply and undo: values, restarts, and a death at any of its effects."""

from pathlib import Path

from loligo_osdtune.core.actions import ConfigLine
from loligo_osdtune.core.health import Health
from loligo_osdtune.shell.cluster import Cluster
from loligo_osdtune.shell.failures import OsdtuneError


class Died(BaseException):
    """What kill -9 is to a process: nothing that handles errors handles it."""


class FakeCluster(Cluster):
    """OSDs 0 to 2. `running`: what each took when it started, or at once. It restarts OSDs, too."""

    def __init__(self) -> None:
        self.lines: dict[ConfigLine, str] = {ConfigLine("osd.1", "bluefs_buffered_io"): "false"}
        self.started: list[int] = []
        self.epoch = 10
        self.since = {0: 1, 1: 1, 2: 1}
        self.running: dict[ConfigLine, str] = {}
        self.locked_by: str | None = None
        self.checks: set[str] = set()
        self.broken: set[int] = set()
        self.unstoppable: set[int] = set()
        self.dies_at: int | None = None
        self.effects = 0

    def fsid(self) -> str:
        return "fake"

    def health(self) -> Health:
        down = frozenset({0, 1, 2} - set(self.since))
        return Health(dict(self.since), down, 0, frozenset(self.checks))

    def config_lines(self) -> dict[ConfigLine, str]:
        return dict(self.lines)

    def running_value(self, osd: int, option: str) -> str:
        return self.running.get(ConfigLine(f"osd.{osd}", option), "default")

    def is_reported(self, osd: int, epoch: int) -> bool:
        return True

    def why_not_stop(self, osd: int) -> str:
        return "1 PGs would become inactive" if osd in self.unstoppable else ""

    def set_config(self, line: ConfigLine, value: str | None) -> None:
        self._die_before()
        if value is None:
            del self.lines[line]
        else:
            self.lines[line] = value
        if line.name == "osd_scrub_during_recovery":
            self._take(line)
        self._die_after()

    def lock(self, owner: str) -> None:
        if self.locked_by not in (None, owner):
            raise OsdtuneError(f"{self.locked_by} is at work")
        self.locked_by = owner

    def unlock(self) -> None:
        self.locked_by = None

    def why_not(self, osd: int, host: str) -> str:
        return ""

    def restart(self, osd: int) -> None:
        self._die_before()
        self.started.append(osd)
        self.epoch += 1
        self.since.pop(osd, None)
        if osd not in self.broken:
            self.since[osd] = self.epoch
        for line in {*self.lines, *self.running}:
            if line.section == f"osd.{osd}":
                self._take(line)
        self._die_after()

    def _take(self, line: ConfigLine) -> None:
        if line in self.lines:
            self.running[line] = self.lines[line]
        else:
            self.running.pop(line, None)

    def _die_before(self) -> None:
        self.effects += 1
        if self.dies_at == 2 * self.effects:
            raise Died

    def _die_after(self) -> None:
        if self.dies_at == 2 * self.effects + 1:
            raise Died


def fake_host(root: Path) -> None:
    """A host under `root` whose kernel allows too few process ids."""
    for path, text in (
        ("proc/sys/kernel/pid_max", "32768\n"),
        ("sys/block/sdb/queue/scheduler", "[none] mq-deadline\n"),
        ("etc/sysctl.d/README", "not ours\n"),
        ("etc/udev/rules.d/README", "not ours\n"),
    ):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
