"""Images as sequences of patches: a bidirectional mixer against its causal twin on scikit-learn's digits.

Both models have the same declarations, parameters and initial weights; only the recurrence differs. Every patch answers
which digit it belongs to, and the image's answer is the sum of its patches' scores. A causal patch has only seen what
lies before it, a bidirectional one the whole image.

    python -m examples.train_digits_lion [--steps 300] [--device cuda]
"""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.progress import Progress, TaskID, TextColumn
from rich.table import Table
from torch import Tensor, nn
from torch.nn import functional as F

from examples.mixer_models import Curve, Shape, parameter_count, stack, train

BIDIRECTIONAL, CAUSAL = "lion_s", "scalar_decay"
SIDE, PATCH, CLASSES = 8, 2, 10
GRID = SIDE // PATCH
RATE, EVALUATIONS = 6e-3, 10


@dataclass(frozen=True)
class Digits:
    """Images `[n, 8, 8]` with values from 0 to 1, and what they show `[n]`, in a fixed random order."""

    train: tuple[Tensor, Tensor]
    test: tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Result:
    """One trained model: accuracy of whole images, and of each patch's answer `[16]`."""

    name: str
    parameters: int
    accuracy: float
    by_patch: np.ndarray
    curve: Curve


class DigitModel(nn.Module):  # type: ignore[misc]
    """Images `[B, 8, 8]` to every patch's scores of the ten digits `[B, 16, 10]`."""

    def __init__(self, spec: str | Path, shape: Shape) -> None:
        super().__init__()
        self.embedding = nn.Linear(PATCH * PATCH, shape.width)
        self.places = nn.Parameter(torch.randn(GRID * GRID, shape.width) * 0.02)
        self.blocks = stack(spec, shape)
        self.head = nn.Linear(shape.width, CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.blocks(self.embedding(patches(images)) + self.places))


def patches(images: Tensor) -> Tensor:
    """`[B, 8, 8]` to `[B, 16, 4]`, patches in reading order."""
    cut = images.unflatten(1, (GRID, PATCH)).unflatten(3, (GRID, PATCH))
    return cut.transpose(2, 3).flatten(3).flatten(1, 2)


def read_digits(seed: int = 0) -> Digits:
    """Three quarters to train on, one quarter to test."""
    from sklearn.datasets import load_digits

    found = load_digits()
    order = torch.from_numpy(np.random.default_rng(seed).permutation(len(found.target)))
    images = (torch.from_numpy(found.images).float() / 16)[order]
    digits = torch.from_numpy(found.target).long()[order]
    cut = 3 * len(order) // 4
    return Digits((images[:cut], digits[:cut]), (images[cut:], digits[cut:]))


def train_one(
    spec: str,
    data: Digits,
    shape: Shape,
    steps: int,
    batch: int,
    seed: int,
    device: str,
    report: Callable[[int, float], None],
) -> Result:
    """Trains a model with this mixer on every patch's answer."""
    torch.manual_seed(seed)
    model = DigitModel(spec, shape).to(device)
    drawn = torch.Generator().manual_seed(seed)
    images, digits = (part.to(device) for part in data.test)

    def loss(step: int) -> Tensor:
        picked = torch.randint(len(data.train[1]), (batch,), generator=drawn)
        return _loss(model(data.train[0][picked].to(device)), data.train[1][picked].to(device))

    def evaluate() -> float:
        with torch.no_grad():
            return float(_loss(model(images), digits))

    curve = train(model, loss, steps, RATE, evaluate, max(1, steps // EVALUATIONS), report)
    with torch.no_grad():
        scores = model(images)
    accuracy = (scores.log_softmax(-1).sum(1).argmax(-1) == digits).double().mean().item()
    by_patch = (scores.argmax(-1) == digits[:, None]).double().mean(0).cpu().numpy()
    return Result(spec, parameter_count(model), accuracy, by_patch, curve)


def _loss(scores: Tensor, digits: Tensor) -> Tensor:
    return F.cross_entropy(scores.flatten(0, 1), digits.repeat_interleave(GRID * GRID))


def show(results: Sequence[Result], console: Console) -> None:
    table = Table(title="accuracy on held-out digits", title_justify="left")
    for column in ("mixer", "weights", "images", "first patch", "all", "last", "seconds"):
        table.add_column(column, justify="left" if column == "mixer" else "right", no_wrap=True)
    for r in results:
        answers = (r.accuracy, r.by_patch[0], r.by_patch.mean(), r.by_patch[-1])
        table.add_row(r.name, f"{r.parameters:,}", *(f"{a:.1%}" for a in answers), f"{r.curve.seconds[-1]:.1f}")
    console.print(table)


def main(arguments: Sequence[str] | None = None) -> list[Result]:
    """The comparison: trains both, prints the table, saves the picture."""
    options = _options().parse_args(arguments)
    shape = Shape(options.width, options.heads, options.layers)
    console, data, results = Console(), read_digits(), []
    console.print(f"{len(data.train[1])} digits to train on, {len(data.test[1])} to test, {GRID * GRID} patches each")
    with Progress(*Progress.get_default_columns(), TextColumn("{task.fields[nats]}"), console=console) as progress:
        for spec in (options.mixer, options.twin):
            task = progress.add_task(spec, total=options.steps, nats="")

            def report(step: int, nats: float, task: TaskID = task) -> None:
                progress.update(task, completed=step + 1, nats=f"{nats:.2f} nats")

            results.append(
                train_one(spec, data, shape, options.steps, options.batch, options.seed, options.device, report)
            )
    show(results, console)
    from examples.training_pictures import save_digits

    console.print(f"picture: {save_digits(results, data.test[0].numpy(), GRID, options.out)}", soft_wrap=True)
    return results


def _options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mixer", default=BIDIRECTIONAL, help="a bidirectional library mixer")
    parser.add_argument("--twin", default=CAUSAL, help="a causal one to compare with")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--width", type=int, default=32)
    parser.add_argument("--heads", type=int, default=4)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu", help="cpu, or cuda for the Triton kernels")
    parser.add_argument("--out", type=Path, default=Path("demo-output"), help="folder of the picture")
    return parser


if __name__ == "__main__":
    main()
