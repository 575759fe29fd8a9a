"""What a mount has done and what it has, in numbers, as Prometheus reads them: one "name value" a line.

Whoever counts does so with plain arithmetic in his own place, and says here, when he is asked, what he has (`Statistics.add`).
Counts may be a little behind each other: nothing is locked for them.

Names begin with `loligo_client_`; numbers since the mount began end in `_total`. Every line carries the labels of the mount, so
that the files of several mounts on a machine can be collected together. The text is not `prometheus_client`'s, which writes
12345678 as 1.2345678e+07: people read this.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple


class Metric(NamedTuple):
    """`value`: a number, or numbers by what `label` is. `counts`: it only grows, since the mount began."""

    name: str
    about: str
    value: float | Mapping[str, float]
    counts: bool = False
    label: str = ""


class Statistics:
    def __init__(self) -> None:
        self.labels: dict[str, str] = {}
        self._sources: list[Callable[[], Iterable[Metric]]] = []

    def add(self, source: Callable[[], Iterable[Metric]]) -> None:
        """It is called on the thread that serves the kernel, whenever somebody wants to know; it must wait for nothing."""
        self._sources.append(source)

    def text(self) -> bytes:
        lines: list[str] = []
        for source in self._sources:
            for metric in source():
                lines += self._lines(metric)
        return "".join(f"{line}\n" for line in lines).encode(errors="replace")

    def _lines(self, metric: Metric) -> Iterable[str]:
        name = f"loligo_client_{metric.name}{'_total' if metric.counts else ''}"
        yield f"# HELP {name} {metric.about}"
        yield f"# TYPE {name} {'counter' if metric.counts else 'gauge'}"
        values = metric.value if isinstance(metric.value, Mapping) else {"": metric.value}
        for which, value in values.items():
            labels = {metric.label: which, **self.labels} if metric.label else self.labels
            shown = ",".join(f'{label}="{_escaped(text)}"' for label, text in labels.items())
            yield f"{name}{{{shown}}} {value}" if shown else f"{name} {value}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
