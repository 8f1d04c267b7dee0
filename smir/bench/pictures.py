"""Time against the length of the sequence, and how close everything is to the device's limit. Needs matplotlib."""

from pathlib import Path

from smir.bench.run import BenchReport, Timing
from smir.errors import ArgumentError


def draw_report(report: BenchReport, path: Path) -> None:
    """Writes a picture (its suffix says which kind): one row for each thing measured. Raises ArgumentError."""
    try:
        import matplotlib
    except ImportError as error:
        raise ArgumentError("a plot needs matplotlib", hint="pip install matplotlib") from error
    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    kinds = list(dict.fromkeys(t.what for t in report.timings))
    figure, axes = plt.subplots(len(kinds), 2, figsize=(11, 3.6 * len(kinds)), squeeze=False)
    for (left, right), what in zip(axes, kinds, strict=True):
        own = [t for t in report.timings if t.what == what and t.milliseconds]
        _against_length(left, own, what)
        _against_limit(right, own, what)
    figure.suptitle(f"{report.mixer}: {report.calls}; {report.ceilings.device}")
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    plt.close(figure)


def _against_length(axes: object, timings: list[Timing], what: str) -> None:
    for who in dict.fromkeys(t.who for t in timings):
        points = sorted((t.tokens, t.milliseconds) for t in timings if t.who == who)
        axes.plot(*zip(*points, strict=True), marker="o", label=who)  # type: ignore[attr-defined]
    limits = sorted({(t.tokens, t.limit) for t in timings})
    if limits:
        axes.plot(*zip(*limits, strict=True), "k--", label="limit")  # type: ignore[attr-defined]
    axes.set(xscale="log", yscale="log", xlabel="tokens", ylabel=f"{what} ms")  # type: ignore[attr-defined]
    axes.legend(fontsize=7)  # type: ignore[attr-defined]


def _against_limit(axes: object, timings: list[Timing], what: str) -> None:
    for who in dict.fromkeys(t.who for t in timings):
        points = sorted((t.tokens, t.of_limit) for t in timings if t.who == who)
        axes.plot(*zip(*points, strict=True), marker="o", label=who)  # type: ignore[attr-defined]
    axes.axhline(1.0, color="k", linestyle="--")  # type: ignore[attr-defined]
    axes.set(xscale="log", yscale="log", xlabel="tokens", ylabel=f"{what}: part of the limit")  # type: ignore[attr-defined]
