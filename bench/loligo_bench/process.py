"""What the processes that serve a file system cost: CPU seconds and resident memory.

A file system may be served by several processes (a mount process and its servers); their figures
are added up. A process that has ended keeps the figures it had when it was last looked at.
"""

import time
from dataclasses import dataclass


@dataclass(slots=True)
class _Process:
    pid: int
    start_cpu_s: float
    cpu_s: float
    peak_rss_kib: int = 0
    peak_anonymous_kib: int = 0


class Server:
    """The processes of one file system; `look()` after each step keeps the figures current."""

    def __init__(self, pids: list[int]) -> None:
        self._processes = [_Process(pid, cpu := _cpu_s(pid), cpu) for pid in pids]
        self.look()

    def look(self) -> None:
        for process in self._processes:
            try:
                process.cpu_s = _cpu_s(process.pid)
                peak_rss_kib, anonymous_kib = _memory_kib(process.pid)
            except OSError:
                continue
            process.peak_rss_kib = peak_rss_kib
            process.peak_anonymous_kib = max(process.peak_anonymous_kib, anonymous_kib)

    @property
    def cpu_s(self) -> float:
        """CPU seconds since the benchmark began."""
        return sum(process.cpu_s - process.start_cpu_s for process in self._processes)

    @property
    def peak_rss_mib(self) -> float:
        """The kernel's high-water mark (VmHWM): since the process began, not the benchmark."""
        return sum(process.peak_rss_kib for process in self._processes) / 1024

    @property
    def peak_anonymous_mib(self) -> float:
        """The most anonymous memory (RssAnon) seen after any step: memory without mapped files."""
        return sum(process.peak_anonymous_kib for process in self._processes) / 1024


def _cpu_s(pid: int) -> float:
    """The process's CPU clock, to the nanosecond (/proc/PID/stat counts ticks of 10 ms)."""
    # What clock_getcpuclockid(3) computes: the complement of the number, and CPUCLOCK_SCHED.
    return time.clock_gettime((~pid << 3) | 2)


def _memory_kib(pid: int) -> tuple[int, int]:
    """VmHWM and RssAnon; zero for a process that has ended but is not yet waited for."""
    values = {b"VmHWM": 0, b"RssAnon": 0}
    with open(f"/proc/{pid}/status", "rb") as status_file:
        for line in status_file:
            name, _, value = line.partition(b":")
            if name in values:
                values[name] = int(value.split()[0])
    return values[b"VmHWM"], values[b"RssAnon"]
