"""The examples with models on a GPU, as they are by default: held-out losses, times of a step, speed of generation.

    python -m benchmarks.gpu_examples [--specs lm:gla,digits:lion_s]

`warm` compiles the kernels of all models at once; `times` then trains them one after the other.
"""

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from benchmarks.gpu_runs import TIMES, Task, run
from examples import generate
from examples import train_byte_lm as lm
from examples import train_digits_lion as digits
from examples.mixer_models import Curve, Shape
from examples.python_sources import read_sources

MODULE = "benchmarks.gpu_examples"
OWN = "fast_and_slow"
MODELS = (
    *(f"lm:{OWN if spec == lm.OWN else spec}" for spec in lm.COMPARED),
    *(f"digits:{spec}" for spec in (digits.BIDIRECTIONAL, digits.CAUSAL)),
    *(f"generate:{spec}" for spec in generate.SPECS.split(",")),
)
BATCH, TOKENS = 8, 128
LONGEST, GENERATED = 100_000, 64


def train(name: str, device: str, steps: int | None = None) -> dict[str, Any]:
    """One model of one example, `example:mixer`; `steps` as many as the example takes, if it says nothing else."""
    example, mixer = name.split(":")
    if example == "generate":
        return _generated(name, mixer, device, steps)
    if example == "lm":
        plan = lm.Plan(Shape(), steps or 180, BATCH, TOKENS, 0, device)
        done = lm.train_one(lm.OWN if mixer == OWN else mixer, read_sources(), plan, lambda step, loss: None)
        return _row(name, "train_byte_lm", mixer, done.curve, "bits per byte")
    result = digits.train_one(
        mixer, digits.read_digits(), Shape(width=32), steps or 300, 64, 0, device, lambda step, loss: None
    )
    return _row(name, "train_digits_lion", mixer, result.curve, "nats")


def _generated(name: str, mixer: str, device: str, steps: int | None) -> dict[str, Any]:
    plan = lm.Plan(Shape(heads=generate.HEADS), steps or 180, BATCH, TOKENS, 0, device)
    sizes = generate.lengths(LONGEST, GENERATED)
    done = generate.run_one(mixer, read_sources(), plan, sizes, lambda *_: None, lambda *_: None)
    return {"task": TIMES, "spec": name, "example": "generate", "mixer": mixer, **asdict(done)}


def _row(name: str, example: str, mixer: str, curve: Curve, unit: str) -> dict[str, Any]:
    # the first step compiles
    seconds = (curve.seconds[-1] - curve.seconds[0]) / max(1, curve.steps[-1] - curve.steps[0])
    return {"task": TIMES, "spec": name, "example": example, "mixer": mixer, "steps": curve.steps[-1],
            "loss before": curve.validation[0], "loss after": curve.validation[-1], "unit": unit,
            "ms a step": 1e3 * seconds, "first step s": curve.seconds[0]}  # fmt: skip


def times(name: str) -> Iterator[dict[str, Any]]:
    yield train(name, "cuda")


def warm(name: str) -> Iterator[dict[str, Any]]:
    yield {**train(name, "cuda", steps=2), "task": "warm"}


def _summary(rows: list[dict[str, Any]]) -> None:
    for row in rows:
        print({k: round(v, 4) if isinstance(v, float) else v for k, v in row.items()})


if __name__ == "__main__":
    tasks = {"warm": Task(warm, recorded=False), TIMES: Task(times, alone=True)}
    run(MODULE, __doc__, tasks, _summary, "the examples' own models", MODELS)
