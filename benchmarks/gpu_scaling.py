"""How times go with sizes on a GPU: with T at a constant number of tokens, with K = V, with the number of heads.

    python -m benchmarks.gpu_scaling [--specs gla] [--seconds 60]

Forward, and forward with backward, in bfloat16: ours alone, medians. Everything is compiled first, many processes at
once. A minute and a half on one card.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import smir
from benchmarks.ahead import COMPILE, MEASURE, Job, Run
from benchmarks.gpu_runs import Rows, chosen
from smir.sampling import dimension_names
from smir.tuning.arguments import Shape, draw_tensors

MODULE = "benchmarks.gpu_scaling"
RESULTS = Path(__file__).parent / "results" / "gpu_scaling.json"
SPECS = ("linear_attention", "gla", "gated_delta_rule", "kda")
DTYPE = "bfloat16"
# (B, T, H, K = V) of every point
LENGTHS = tuple((2**18 >> n, 2**n, 4, 128) for n in range(10, 19, 2))
SIZES = {size: ((4, 4096, 16, size),) for size in (32, 64, 128, 256)}
HEADS = tuple((batch, 4096, 8, 128) for batch in (1, 2, 4, 8, 16, 32))
# every size has kernels of its own, and so a process of its own that compiles them
SWEEPS: Mapping[str, tuple[tuple[int, int, int, int], ...]] = {
    "T": LENGTHS, **{f"K = V = {size}": points for size, points in SIZES.items()}, "B H": HEADS,
}  # fmt: skip


def child(mode: str, name: str, sweep: str) -> None:
    """Prints a row for each point of a sweep, as JSON. A measuring one first waits for a line on its input."""
    import torch  # noqa: F401

    mixer = smir.compile(name, backend="triton")
    if mode == MEASURE:
        sys.stdin.readline()
    for row in _rows(mixer, sweep, mode):
        print(json.dumps(row), flush=True)


def _rows(mixer: Any, sweep: str, mode: str) -> Iterator[dict[str, Any]]:
    import torch

    for batch, tokens, heads, size in SWEEPS[sweep]:
        shape = Shape.even(mixer.spec, batch, tokens, heads, dict.fromkeys(dimension_names(mixer.spec), size))
        types = {d.name: DTYPE for d in mixer.spec.declarations}
        given = {n: x.requires_grad_() for n, x in draw_tensors(mixer.spec, shape, types, "cuda").items()}
        found = {"B": batch, "T": tokens, "H": heads, "K": size}
        try:
            yield found | _point(mixer, given, mode)
        except torch.cuda.OutOfMemoryError:
            yield found | {"refused": "out of memory"}
        del given
        torch.cuda.empty_cache()


def _point(mixer: Any, given: dict[str, Any], mode: str) -> dict[str, float]:
    import torch
    import triton

    y = mixer(**given)
    seed = torch.randn_like(y)
    y.backward(seed)
    torch.cuda.synchronize()
    if mode == COMPILE:
        return {}

    def forward() -> None:
        with torch.no_grad():
            mixer(**given)

    def both() -> None:
        for x in given.values():
            x.grad = None
        mixer(**given).backward(seed)

    def milliseconds(run: Any) -> float:
        return float(triton.testing.do_bench(run, warmup=20, rep=80, return_mode="median"))

    return {"forward_ms": milliseconds(forward), "both_ms": milliseconds(both)}


def _show(rows: Rows) -> None:
    for r in rows:
        print({k: (round(v, 3) if isinstance(v, float) else v) for k, v in r.items() if k != "task"}, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--specs", default="", help="with commas between them; default: all")
    parser.add_argument("--out", type=Path, default=RESULTS, help="a file that is there is added to")
    parser.add_argument("--seconds", type=float, default=3600, help="after which nothing new begins")
    parser.add_argument("--child", nargs=4, metavar=("MODE", "SPEC", "SWEEP", "THREADS"), help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.child:
        child(*asked.child[:3])
        return
    jobs = tuple(Job(name, sweep) for name in chosen(parser, "--specs", asked.specs, SPECS) for sweep in SWEEPS)
    end = time.monotonic() + asked.seconds
    Run(MODULE, jobs, asked.out, f"{DTYPE}, medians", end, 120, os.cpu_count() or 1, 1).both(_show, "sweeps")


if __name__ == "__main__":
    main()
