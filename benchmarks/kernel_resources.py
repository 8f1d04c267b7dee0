"""What every kernel of the library takes of a GPU, compiled ahead of time: shared memory, registers, stack (spills).

Forward kernels of all forms, and those of all gradients of each.

Needs no GPU. Run with `python -m benchmarks.kernel_resources [--specs a,b] [--jobs 2] [--forward-only]`.
"""

import argparse
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from importlib.metadata import version
from multiprocessing import get_context

import smir
from benchmarks.report import publish
from smir.backends.triton_gpu.ahead_of_time import Workload, compile_plan
from smir.compiler import training_plan
from smir.sampling import dimension_names

TARGET, DTYPE = "sm_90", "bfloat16"
# Dimensions that are not named here have `SIZE` elements.
SIZE, SIZES = 128, {"N": 16, "M": 64}
FORWARD, BACKWARD = "forward", "backward"
COLUMNS = (
    "spec",
    "form",
    "pass",
    "kernel",
    "shared bytes",
    "registers",
    "stack bytes",
    "warps",
    "within limits",
    "failed",
)
Row = tuple[str | int | bool, ...]


def resources(name: str, form: str, direction: str) -> list[Row]:
    """One row per kernel of one pass of a form; what doesn't compile is one row that says why."""
    mixer = smir.compile(name)
    plan = mixer.compilation.plans[form]
    if direction == BACKWARD:
        wanted = frozenset({d.name for d in mixer.spec.declarations} | {s.name for s in mixer.spec.states})
        plan = training_plan(mixer.compilation, form, wanted).backward
    sizes = {name: SIZES.get(name, SIZE) for name in dimension_names(mixer.spec)}
    try:
        found = compile_plan(plan, TARGET, Workload(sizes, DTYPE))
    except smir.BackendError as error:
        return [(name, form, direction, "", 0, 0, 0, 0, False, str(error)[:500])]
    return [
        (name, form, direction, r.kernel, r.shared, r.registers, r.stack, r.num_warps, r.within_limits, "")
        for r in found
    ]


def main(arguments: Sequence[str] | None = None) -> list[Row]:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--specs", default="")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--forward-only", action="store_true", help="leave the gradients out")
    asked = parser.parse_args(arguments)
    specs = [s for s in asked.specs.split(",") if s] or list(smir.library_names())
    work = [(name, form, FORWARD) for name in specs for form in smir.compile(name).compilation.plans]
    if not asked.forward_only:
        work += [(name, form, BACKWARD) for name, form, _ in work]
    with ProcessPoolExecutor(asked.jobs, mp_context=get_context("spawn")) as pool:
        rows = [row for found in pool.map(resources, *zip(*work, strict=True)) for row in found]
    others = ", ".join(f"{name} = {size}" for name, size in SIZES.items())
    title = f"kernels compiled for {TARGET}, all dimensions {SIZE} but {others}, default chunks, {DTYPE}"
    publish("kernel_resources", title, COLUMNS, rows, triton=version("triton"))
    return rows


if __name__ == "__main__":
    sys.exit(any(row[-1] for row in main()))
