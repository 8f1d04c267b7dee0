"""Times on a CPU beside other people's references and plain loops in torch, on the same inputs in the same process.

    python -m benchmarks.cpu_peers

References of flash-linear-attention and the loops of `smir/bench/torch_loops.py` go token by token, on as many threads
as torch takes. Forward, and forward with backward through torch's autograd, in float32.
"""

import torch

import smir
from benchmarks.report import publish
from smir.bench.floors import BOTH, FORWARD
from smir.bench.run import OURS, Timing, bench
from smir.sampling import dimension_names
from smir.tuning.arguments import Shape
from smir.tuning.problem import Problem

SPECS = ("scalar_decay", "gla", "gated_delta_rule")
B, HEADS, SIZE, TOKENS = 1, 4, 64, (256, 1024)
COLUMNS = ("mixer", "T", "who", "forward ms", "forward + backward ms", "theirs / ours")


def rows(name: str) -> list[tuple[object, ...]]:
    """One row for each length and implementation: ours first."""
    mixer = smir.compile(name, backend="numpy")
    sizes = dict.fromkeys(dimension_names(mixer.spec), SIZE)
    problems = [Problem.of_sizes(mixer.compilation, "numpy", Shape.even(mixer.spec, B, tokens, HEADS, sizes), "float32")
                for tokens in TOKENS]  # fmt: skip
    timings = bench(mixer, problems, kinds=(FORWARD, BOTH)).timings
    for t in timings:
        if t.error:
            print(f"{t.who}: {t.error}", flush=True)
    found = {(t.tokens, t.who, t.what): t for t in timings if t.milliseconds is not None}
    pairs = dict.fromkeys((tokens, who) for tokens, who, _ in found)
    return [_row(name, tokens, who, found) for tokens, who in pairs]


def _row(name: str, tokens: int, who: str, found: dict[tuple[int, str, str], Timing]) -> tuple[object, ...]:
    times = [_milliseconds(found[tokens, who, what]) for what in (FORWARD, BOTH)]
    ours = [_milliseconds(found[tokens, OURS, what]) for what in (FORWARD, BOTH)]
    ratio = " / ".join(f"{b / a:.1f}" for a, b in zip(ours, times, strict=True)) if who != OURS else ""
    return name, tokens, who, *times, ratio


def _milliseconds(t: Timing) -> float:
    if t.milliseconds is None:
        raise ValueError(f"{t.who} has no time")
    return t.milliseconds


def main() -> None:
    title = f"Numpy programs beside token-by-token peers: B = {B}, {HEADS} heads, K = V = {SIZE}, float32"
    found = [row for name in SPECS for row in rows(name)]
    publish("cpu_peers", title, COLUMNS, found, torch=torch.__version__, threads=str(torch.get_num_threads()))


if __name__ == "__main__":
    main()
