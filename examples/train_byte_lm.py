"""A small byte-level language model over the Python standard library's sources, with any mixer.

Without `--mixer` it compares six mixers in the same model: five of the library and one written below, whose gradients
nobody had derived before. Files are held out for validation. On CUDA the mixers run on Triton kernels.

    python -m examples.train_byte_lm [--mixer gla --mixer my_mixer.smir] [--steps 180] [--device cuda]
"""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import Progress, TaskID, TextColumn
from rich.table import Table
from torch import Tensor, nn
from torch.nn import functional as F

import smir
from examples.mixer_models import Block, Curve, Shape, State, parameter_count, stack, train
from examples.python_sources import Corpus, read_sources, windows

# A mixer of one's own: a memory that is corrected, and a fading one beside it for what was just read.
OWN = """mixer fast_and_slow
  input q, k: K
  input v: V
  input g: scalar in [-inf, 0]
  input beta: scalar in [0, 1]
  param share: scalar in [0, 1]
  state slow, fast: K, V
  slow[t] = slow[t-1] + k[t] @ (beta[t] * (v[t] - slow[t-1].T @ k[t])).T
  fast[t] = exp(g[t]) * fast[t-1] + k[t] @ v[t].T
  y[t] = (share * slow[t] + (1 - share) * fast[t]).T @ q[t]
"""
COMPARED = ("linear_attention", "retnet", "scalar_decay", "gla", "gated_delta_rule", OWN)
RATE = 4e-3
BITS = 1.4426950408889634  # bits per nat
VALIDATION_WINDOWS, EVALUATIONS = 32, 10


@dataclass(frozen=True)
class Run:
    """One trained model: losses in bits per byte."""

    name: str
    parameters: int
    form: str
    curve: Curve

    @property
    def final(self) -> float:
        """The validation loss at the end."""
        return self.curve.validation[-1]


@dataclass(frozen=True)
class Plan:
    """What every model of a comparison is trained with."""

    shape: Shape
    steps: int
    batch: int
    tokens: int
    seed: int
    device: str


class ByteModel(nn.Module):  # type: ignore[misc]
    """Bytes `[B, T]` to scores of the next byte `[B, T, 256]`."""

    def __init__(self, spec: str | Path, shape: Shape) -> None:
        super().__init__()
        self.embedding = nn.Embedding(256, shape.width)
        self.blocks = stack(spec, shape)
        self.head = nn.Linear(shape.width, 256)

    def forward(self, text: Tensor) -> Tensor:
        return self.head(self.blocks(self.embedding(text)))

    def read(self, text: Tensor, states: Sequence[State]) -> tuple[Tensor, list[State]]:
        """The next bytes of a sequence, `[B, n]`, to scores `[B, 256]` behind the last one; a state for each block."""
        x, states = self._carry(self.embedding(text), states, Block.read)
        return self.head(self.blocks[-1](x[:, -1])), states

    def step(self, byte: Tensor, states: Sequence[State]) -> tuple[Tensor, list[State]]:
        """One byte `[B]` to scores of the next, `[B, 256]`; the states are overwritten."""
        x, states = self._carry(self.embedding(byte), states, Block.step)
        return self.head(self.blocks[-1](x)), states

    def new_states(self, capacity: int) -> list[State]:
        """Those before the first byte, with room for so many where a state grows."""
        return [block.new_state(capacity) for block in self.blocks[:-1]]

    def _carry(
        self, x: Tensor, states: Sequence[State], through: Callable[[Block, Tensor, State], tuple[Tensor, State]]
    ) -> tuple[Tensor, list[State]]:
        after = []
        for block, state in zip(self.blocks[:-1], states, strict=True):
            x, state = through(block, x, state)
            after.append(state)
        return x, after

    def bits(self, text: Tensor, following: Tensor) -> Tensor:
        """The mean loss in bits per byte."""
        return BITS * F.cross_entropy(self(text).flatten(0, 1), following.flatten())


def new_model(spec: str | Path, plan: Plan) -> ByteModel:
    """A model with random weights."""
    torch.manual_seed(plan.seed)
    model = ByteModel(spec, plan.shape)
    model.to(plan.device)
    return model


def train_one(spec: str | Path, corpus: Corpus, plan: Plan, report: Callable[[int, float], None]) -> Run:
    """Trains a model with this mixer. All mixers see the same batches in the same order."""
    model = new_model(spec, plan)
    curve = fit(model, corpus, plan, report)
    mixer = model.blocks[0].mixer
    backend = "triton" if plan.device.startswith("cuda") else "numpy"
    form = mixer.compiled.form_for(plan.tokens, plan.batch * plan.shape.heads, backend, **mixer.sizes)
    return Run(mixer.compiled.spec.name, parameter_count(model), form, curve)


def fit(model: ByteModel, corpus: Corpus, plan: Plan, report: Callable[[int, float], None]) -> Curve:
    """Trains the model on windows of the corpus, in an order that the seed decides."""
    drawn = torch.Generator().manual_seed(plan.seed)
    last = len(corpus.validation) - plan.tokens - 1
    held_out = windows(corpus.validation, torch.linspace(0, last, VALIDATION_WINDOWS).long(), plan.tokens)

    def loss(step: int) -> Tensor:
        starts = torch.randint(len(corpus.train) - plan.tokens, (plan.batch,), generator=drawn)
        text, following = windows(corpus.train, starts, plan.tokens)
        return model.bits(text.to(plan.device), following.to(plan.device))

    def evaluate() -> float:
        with torch.no_grad():
            return float(model.bits(*(part.to(plan.device) for part in held_out)))

    return train(model, loss, plan.steps, RATE, evaluate, max(1, plan.steps // EVALUATIONS), report)


def show(runs: Sequence[Run], console: Console) -> None:
    """Final losses, best first."""
    table = Table(title="bits per byte, less is better", title_justify="left")
    for column in ("mixer", "form", "parameters", "training", "validation", "seconds"):
        table.add_column(column, justify="left" if column in ("mixer", "form") else "right", no_wrap=True)
    for run in sorted(runs, key=lambda r: r.final):
        curve = run.curve
        table.add_row(run.name, run.form, f"{run.parameters:,}", f"{curve.train[-1]:.3f}", f"{run.final:.3f}",
                      f"{curve.seconds[-1]:.1f}")  # fmt: skip
    console.print(table)


def main(arguments: Sequence[str] | None = None) -> list[Run]:
    """The comparison: trains, prints the table, saves the picture."""
    options = _options().parse_args(arguments)
    shape = Shape(options.width, options.heads, options.layers)
    plan = Plan(shape, options.steps, options.batch, options.tokens, options.seed, options.device)
    console, corpus = Console(), read_sources()
    console.print(
        f"{len(corpus.train):,} bytes of {corpus.files[0]} files to train on, "
        f"{len(corpus.validation):,} of {corpus.files[1]} to validate; {plan.tokens} bytes at a time"
    )
    runs = []
    with Progress(*Progress.get_default_columns(), TextColumn("{task.fields[bits]}"), console=console) as progress:
        for spec in options.mixer or COMPARED:
            name = smir.compile(spec).spec.name
            task = progress.add_task(name, total=plan.steps, bits="")
            report = _reporter(progress, task)
            runs.append(train_one(spec, corpus, plan, report))
    show(runs, console)
    from examples.training_pictures import save_curves

    console.print(f"picture: {save_curves(runs, options.out)}", soft_wrap=True)
    return runs


def _reporter(progress: Progress, task: TaskID) -> Callable[[int, float], None]:
    def report(step: int, bits: float) -> None:
        progress.update(task, completed=step + 1, bits=f"{bits:.2f} bits")

    return report


def _options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--mixer", action="append", help="a library name, a path or a spec's text; several times to compare"
    )
    parser.add_argument("--steps", type=int, default=180)
    parser.add_argument("--batch", type=int, default=8, help="windows per step")
    parser.add_argument("--tokens", type=int, default=128, help="bytes per window")
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--heads", type=int, default=4)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu", help="cpu, or cuda for the Triton kernels")
    parser.add_argument("--out", type=Path, default=Path("demo-output"), help="folder of the picture")
    return parser


if __name__ == "__main__":
    main()
