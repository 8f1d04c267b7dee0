"""Trains the byte-level language model for a minute, then generates with `step` behind longer and longer texts.

The text is read in calls that carry the state; behind it bytes are generated one at a time. A recurrent mixer's state
has one size, and its bytes take one time, whatever came before; the tokens that a softmax keeps grow with the text.

    python -m examples.generate [--specs gated_delta_rule,softmax_causal] [--longest 100000] [--device cuda]
"""

import argparse
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median

import torch
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress, TaskID, TextColumn
from rich.table import Table
from torch import Tensor

import smir
from examples.mixer_models import Shape, State, one_torch_thread
from examples.python_sources import Corpus, read_sources
from examples.train_byte_lm import ByteModel, Plan, fit, new_model

SPECS = "gated_delta_rule,softmax_causal"
BATCH, TOKENS = 8, 128  # windows of training
HEADS = 1  # reading 100,000 bytes takes a softmax as many times as long
PROBE = 4  # steps that are timed to know how many there is time for; the first one prepares
SEGMENT = 4096  # bytes that are read at a time
UNTIMED = 2  # first bytes behind each text
TEMPERATURE = 0.7
Report = Callable[[int, str], None]


@dataclass(frozen=True)
class Window:
    """Generation behind a text of `context` bytes: seconds of one byte (the median), bytes of all states."""

    context: int
    seconds: float
    state_bytes: int

    @property
    def rate(self) -> float:
        """Tokens per second."""
        return 1 / self.seconds


@dataclass(frozen=True)
class Outcome:
    """One mixer: losses in bits per byte, the windows, and what it wrote behind the longest text."""

    name: str
    steps: int
    before: float
    after: float
    windows: tuple[Window, ...]
    written: str


@dataclass(frozen=True)
class Lengths:
    """How long the texts are, and how many bytes are generated behind each."""

    contexts: tuple[int, ...]
    generated: int

    @property
    def last(self) -> int:
        return self.contexts[-1] + self.generated


def lengths(longest: int, generated: int) -> Lengths:
    """Those that are measured: 1,000, 3,000, 10,000 and so on up to half the longest, and the longest."""
    below = [digit * 10**power for power in range(3, 9) for digit in (1, 3) if 2 * digit * 10**power <= longest]
    return Lengths((*below, longest), generated)


# ---- training ---------------------------------------------------------------------------------------------------


def timed(spec: str, corpus: Corpus, plan: Plan, seconds: float) -> Plan:
    """The plan with as many steps as take about so long."""
    curve = fit(new_model(spec, plan), corpus, replace(plan, steps=PROBE), lambda step, bits: None)
    one = (curve.seconds[-1] - curve.seconds[0]) / (PROBE - 1)
    return replace(plan, steps=max(PROBE, int(seconds / one)))


# ---- generation -------------------------------------------------------------------------------------------------


def generate(model: ByteModel, text: Tensor, sizes: Lengths, report: Report) -> Iterator[tuple[Window, bytes]]:
    """The text `[n]` is read up to each length, and bytes are generated behind it: they are part of what follows."""
    states, seen, drawn = model.new_states(sizes.last), 0, torch.Generator(text.device).manual_seed(0)
    for context in sizes.contexts:
        while seen < context:
            part = text[seen : min(context, seen + SEGMENT)].long()[None]
            scores, states = model.read(part, states)
            seen += part.shape[1]
            report(seen, f"{seen:,} bytes read")
        before, written, times = seen, [], []
        for _ in range(sizes.generated):
            start = time.perf_counter()
            byte = torch.multinomial((scores / TEMPERATURE).softmax(-1), 1, generator=drawn)[:, 0]
            scores, states = model.step(byte, states)
            written.append(byte.item())  # waits for the device
            times.append(time.perf_counter() - start)
        seen += sizes.generated
        yield Window(before, median(times[UNTIMED:]), state_bytes(states)), bytes(written)


def state_bytes(states: Sequence[State]) -> int:
    """What the blocks have to remember."""
    return sum(entry.nbytes for state in states for entry in (state or {}).values())


def run_one(spec: str, corpus: Corpus, plan: Plan, sizes: Lengths, training: Report, reading: Report) -> Outcome:
    """Trains, then generates, and reports how far either is."""
    model = new_model(spec, plan)
    losses = fit(model, corpus, plan, lambda step, bits: training(step + 1, f"{bits:.2f} bits")).validation
    text = torch.cat([corpus.validation, corpus.train])[: sizes.contexts[-1]].to(plan.device)
    with torch.no_grad(), one_torch_thread():
        windows, written = zip(*generate(model, text, sizes, reading), strict=True)
    name = model.blocks[0].mixer.compiled.spec.name
    return Outcome(name, plan.steps, losses[0], losses[-1], windows, written[-1].decode("ascii", "replace"))


# ---- showing it -------------------------------------------------------------------------------------------------


def show(outcomes: Sequence[Outcome], console: Console) -> None:
    """Tokens per second and kilobytes of state by context, and what was written."""
    table = Table(title="generating behind a text, token by token", title_justify="left")
    table.add_column("bytes before", justify="right")
    for outcome in outcomes:
        table.add_column(f"{outcome.name}\ntokens/s", justify="right")
        table.add_column("\nstate, kB", justify="right")
    for row in zip(*(o.windows for o in outcomes), strict=True):
        cells = [text for w in row for text in (f"{w.rate:,.0f}", f"{w.state_bytes / 1e3:,.1f}")]
        table.add_row(f"{row[0].context:,}", *cells)
    console.print(table)
    for outcome in outcomes:
        console.print(f"{outcome.name}: {outcome.before:.2f} bits per byte, {outcome.after:.2f} after {outcome.steps} "
                      f"steps. Behind {outcome.windows[-1].context:,} bytes it wrote:")  # fmt: skip
        console.print(escape(outcome.written), style="cyan")


def main(arguments: Sequence[str] | None = None) -> list[Outcome]:
    """Trains and generates with each mixer, prints the table, saves it and a picture."""
    options = _options().parse_args(arguments)
    shape, specs = Shape(options.width, options.heads, options.layers), options.specs.split(",")
    plan = Plan(shape, options.steps, BATCH, TOKENS, options.seed, options.device)
    sizes, corpus, console = lengths(options.longest, options.tokens), read_sources(), Console()
    outcomes = []
    with Progress(*Progress.get_default_columns(), TextColumn("{task.fields[note]}"), console=console) as progress:
        for spec in specs:
            name = smir.compile(spec).spec.name
            training = progress.add_task(f"{name}: training", total=None, note="")
            chosen = plan if plan.steps else timed(spec, corpus, plan, options.seconds / len(specs))
            progress.update(training, total=chosen.steps)
            reading = progress.add_task(f"{name}: generating", total=sizes.contexts[-1], note="")
            reports = _reporter(progress, training), _reporter(progress, reading)
            outcomes.append(run_one(spec, corpus, chosen, sizes, *reports))
    show(outcomes, console)
    from examples.training_pictures import save_generation

    console.print(f"picture: {save_generation(outcomes, options.out)}", soft_wrap=True)
    console.print(f"numbers: {save_numbers(outcomes, options.out)}", soft_wrap=True)
    return outcomes


def save_numbers(outcomes: Sequence[Outcome], folder: Path) -> Path:
    """Writes `generate.json` and returns its path."""
    path = folder / "generate.json"
    path.write_text(json.dumps([asdict(outcome) for outcome in outcomes], indent=1) + "\n", encoding="utf-8")
    return path


def _reporter(progress: Progress, task: TaskID) -> Report:
    def report(done: int, note: str) -> None:
        progress.update(task, completed=done, note=note)

    return report


def _options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--specs", default=SPECS, help="library names or paths, with commas")
    parser.add_argument("--seconds", type=float, default=60, help="of training, shared by the mixers")
    parser.add_argument(
        "--steps", type=int, default=0, help="of training for each, instead of as many as there is time for"
    )
    parser.add_argument("--longest", type=_above(0), default=100_000, help="bytes of the longest text")
    parser.add_argument("--tokens", type=_above(UNTIMED), default=64, help="bytes generated behind each text")
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--heads", type=int, default=HEADS)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu", help="cpu, or cuda for the Triton kernels")
    parser.add_argument("--out", type=Path, default=Path("demo-output"), help="folder of the picture")
    return parser


def _above(least: int) -> Callable[[str], int]:
    def number(text: str) -> int:
        if int(text) <= least:
            raise argparse.ArgumentTypeError(f"{text} is not more than {least}")
        return int(text)

    return number


if __name__ == "__main__":
    main()
