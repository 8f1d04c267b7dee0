"""The demo's picture: accuracy over the text, time per form, and the mixers' T x T operator matrices."""

import itertools
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib
import numpy as np

if TYPE_CHECKING:
    from examples.associative_memory import Results

WINDOW = 1024
STYLES = {"step": ":", "chunked": "-", "quadratic": "--"}


def save_picture(results: "Results", folder: Path) -> Path:
    """Writes `associative_memory.png` and returns its path."""
    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    mixers = list(results.operators)
    figure = plt.figure(figsize=(3.4 * max(3, len(mixers)), 8), layout="constrained")
    top, bottom = figure.subfigures(2, 1)
    left, right = top.subplots(1, 2)
    _accuracy(left, results)
    _times(right, results)
    axes = bottom.subplots(1, len(mixers), squeeze=False)[0]
    for ax, name in zip(axes, mixers, strict=True):
        _operator(ax, name, results.operators[name])
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "associative_memory.png"
    figure.savefig(path, dpi=110)
    plt.close(figure)
    return path


def _accuracy(ax: Any, results: "Results") -> None:
    baseline = itertools.cycle(("dotted", "dashed", "dashdot"))
    for name, hits in results.hits.items():
        window = min(WINDOW, len(hits))
        running = np.convolve(hits, np.ones(window) / window, mode="valid")
        style = {} if name in results.operators else {"color": "0.5", "linestyle": next(baseline)}
        ax.plot(np.arange(window, len(hits) + 1), running, label=name, **style)
    ax.set(title=f"next-byte accuracy, mean over {WINDOW} bytes", xlabel="bytes read", ylabel="accuracy")
    ax.legend(fontsize="x-small", loc="upper center", ncols=4)
    ax.set_ylim(0, 1)


def _times(ax: Any, results: "Results") -> None:
    for i, (name, forms) in enumerate(results.seconds.items()):
        for form, times in forms.items():
            milliseconds = [1e3 * s for s in times.values()]
            ax.loglog(list(times), milliseconds, STYLES.get(form, "-"), color=f"C{i}", label=f"{name}, {form}")
    ax.set_xscale("log", base=2)
    ax.set(title="time of one call", xlabel="T", ylabel="milliseconds")
    ax.legend(fontsize="xx-small", ncols=2)


def _operator(ax: Any, name: str, matrix: Any) -> None:
    limit = float(np.quantile(np.abs(matrix), 0.995)) or 1.0
    ax.imshow(matrix, cmap="RdBu_r", vmin=-limit, vmax=limit, interpolation="nearest")
    ax.set(title=name, xlabel="written at", ylabel="read at")
