"""Pictures of the examples with models."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib
import numpy as np

if TYPE_CHECKING:
    from examples.generate import Outcome
    from examples.train_byte_lm import Run
    from examples.train_digits_lion import Result


def save_curves(runs: "Sequence[Run]", folder: Path) -> Path:
    """Validation loss against steps and against time: writes `train_byte_lm.png` and returns its path."""
    plt = _pyplot()
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.2), sharey=True, layout="constrained")
    for run in runs:
        left.plot(run.curve.steps, run.curve.validation, marker=".", label=f"{run.name}, {run.final:.2f}")
        right.plot(run.curve.seconds, run.curve.validation, marker=".", label=run.name)
    left.set(title="language model of Python's sources", xlabel="steps", ylabel="bits per byte, held-out files")
    right.set(title="the same against time", xlabel="seconds of training")
    left.legend(fontsize="small")
    # the first point, where nothing is learnt yet, would flatten all others
    left.set_ylim(top=1.05 * max(loss for run in runs for loss in run.curve.validation[1:] or run.curve.validation))
    for ax in (left, right):
        ax.grid(alpha=0.3)
    return _save(plt, figure, folder / "train_byte_lm.png")


def save_digits(results: "Sequence[Result]", images: Any, grid: int, folder: Path) -> Path:
    """Accuracy by epoch, by patch, and a few images cut into patches: writes `train_digits_lion.png`."""
    plt = _pyplot()
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(13, 4), layout="constrained")
    for result in results:
        steps, losses = result.curve.steps, result.curve.validation
        left.plot(steps, losses, label=f"{result.name}: {result.accuracy:.1%}")
        middle.plot(np.arange(1, grid * grid + 1), result.by_patch, marker=".", label=result.name)
    left.set(title="held-out loss", xlabel="steps", ylabel="nats", yscale="log")
    middle.set(title="accuracy of what one patch answers", xlabel="patch, in reading order", ylabel="accuracy")
    left.legend(fontsize="small")
    middle.legend(fontsize="small")
    _digits(right, images, grid)
    return _save(plt, figure, folder / "train_digits_lion.png")


def save_generation(outcomes: "Sequence[Outcome]", folder: Path) -> Path:
    """Tokens per second and the size of the states by the text before them: writes `generate.png`."""
    plt = _pyplot()
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
    for outcome in outcomes:
        contexts = [w.context for w in outcome.windows]
        left.loglog(contexts, [w.rate for w in outcome.windows], marker=".", label=outcome.name)
        right.loglog(contexts, [w.state_bytes / 1e3 for w in outcome.windows], marker=".", label=outcome.name)
    left.set(title="generating, one sequence", xlabel="bytes before", ylabel="tokens per second")
    right.set(title="what has to be remembered", xlabel="bytes before", ylabel="kilobytes of state")
    left.legend(fontsize="small")
    for ax in (left, right):
        ax.grid(alpha=0.3)
    return _save(plt, figure, folder / "generate.png")


def _digits(ax: Any, images: Any, grid: int) -> None:
    rows = [np.hstack(images[i : i + 4]) for i in range(0, 12, 4)]
    ax.imshow(np.vstack(rows), cmap="gray_r")
    side = images.shape[-1] // grid
    for at in range(side, 4 * images.shape[-1], side):
        style = {"color": "C1", "linewidth": 1.2 if at % images.shape[-1] == 0 else 0.3}
        ax.axvline(at - 0.5, **style)
        if at < 3 * images.shape[-1]:
            ax.axhline(at - 0.5, **style)
    ax.set(title="digits and their patches", xticks=[], yticks=[])


def _pyplot() -> Any:
    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    return plt


def _save(plt: Any, figure: Any, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    plt.close(figure)
    return path
