"""A load over time as a PNG."""

import os
from collections.abc import Sequence

from loligo_osdtune.core.bursts import Load, Sample
from loligo_osdtune.shell.failures import OsdtuneError


def require_plottable(path: str) -> None:
    """OsdtuneError, before anybody waits for ten minutes of samples: there is nothing to draw with, or no place for it."""
    folder = os.path.dirname(os.path.abspath(path))
    if not os.path.isdir(folder):
        raise OsdtuneError(f"there is no folder {folder} for the plot: make it, or name another with --plot-file")
    if not os.access(folder, os.W_OK):
        raise OsdtuneError(f"permission denied: {folder}; name another folder for the plot with --plot-file")
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise OsdtuneError("a plot needs matplotlib: pip install 'loligo[plot]', or say --no-plot") from None


def write_plot(path: str, samples: Sequence[Sample], load: Load) -> None:
    from matplotlib.figure import Figure

    times = [sample.at_s for sample in samples]
    figure = Figure(figsize=(10, 6), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True)
    above.plot(times, [sample.written_bytes / sample.length_s / 1e6 for sample in samples], label="written")
    above.plot(times, [sample.read_bytes / sample.length_s / 1e6 for sample in samples], label="read")
    above.axhline(load.write_bytes.mean / 1e6, linestyle=":", label="written, mean")
    above.set_ylabel("MB/s")
    above.legend()
    below.plot(times, [sample.writes / sample.length_s for sample in samples], label="writes")
    below.plot(times, [sample.reads / sample.length_s for sample in samples], label="reads")
    below.set_ylabel("operations/s")
    below.set_xlabel("s")
    below.legend()
    figure.savefig(path, format="png")
