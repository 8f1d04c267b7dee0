"""What every kernel of the library takes of a GPU, compiled ahead of time: shared memory, registers, stack (spills).

Kernels of all forms: of a call, of a training step's two passes, and of those that start from no states where these
have kernels of their own. Needs no GPU. Run with

    python -m benchmarks.kernel_resources [--specs a,b] [--forms step] [--jobs 16] [--fresh]

Results are written as they come, and a kernel whose text and options are recorded isn't compiled again: a run that was
ended goes on where it was (`--fresh` begins anew).
"""

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import smir
from benchmarks.report import RESULTS, show, write
from smir.backends.triton_gpu.ahead_of_time import Workload, compile_launch, launch_key, recorded_launches
from smir.backends.triton_gpu.options import DEFAULT_CHUNK
from smir.calls.execution import joined_where_it_fits
from smir.compiled import CompiledMixer
from smir.derivatives import stateless_training_plan, training_plan
from smir.ir.kernel import KernelPlan
from smir.sampling import common_sizes

NAME, TARGET, DTYPE, SIZE = "kernel_resources", "sm_90", "bfloat16", 128
FORWARD, BACKWARD, TRAINING, STATELESS = "forward", "backward", "training forward", "without states"
WALKS, JOINED = "by walks", "joined"
# What identifies a row, and what was measured.
WHERE = ("spec", "form", "pass", "kernel")
FIGURES = ("shared bytes", "registers", "stack bytes", "warps", "within limits", "failed")
COLUMNS = (*WHERE, *FIGURES, "key")
TITLE = f"kernels compiled for {TARGET}, K = V = {SIZE}, N = 16, M = 64, default chunks, {DTYPE}"
Row = dict[str, Any]


def plans(mixer: CompiledMixer, form: str) -> Iterator[tuple[str, KernelPlan]]:
    """Every plan of a form by its pass; its walks, and its results in one kernel, as plans of their own."""
    sizes = common_sizes(mixer.spec, SIZE)
    for name, plan in _plans(mixer, form):
        yield name, plan
        if (joined := joined_where_it_fits(plan, sizes, DEFAULT_CHUNK, float32=False)) is not plan:
            yield f"{name} {JOINED}", joined
        if plan.walks:
            yield f"{name} {WALKS}", plan.walked


def _plans(mixer: CompiledMixer, form: str) -> Iterator[tuple[str, KernelPlan]]:
    done = mixer.compilation
    yield FORWARD, done.plans[form]
    inputs = frozenset(d.name for d in mixer.spec.declarations)
    training = training_plan(done, form, inputs | {s.name for s in mixer.spec.states})
    yield TRAINING, training.forward
    yield BACKWARD, training.backward
    if (stateless := stateless_training_plan(done, form, inputs)) is not None:
        yield f"{TRAINING} {STATELESS}", stateless.forward
        yield f"{BACKWARD} {STATELESS}", stateless.backward


def resources(name: str, form: str, known: Mapping[str, Row]) -> list[Row]:
    """One row per kernel of a form; what doesn't compile is a row that says why. `known`: rows by key."""
    mixer = smir.compile(name)
    workload, rows, found = Workload(common_sizes(mixer.spec, SIZE), DTYPE), list[Row](), dict(known)
    for direction, plan in plans(mixer, form):
        for launch in recorded_launches(plan, workload, TARGET):
            key = launch_key(*launch, TARGET)
            if key not in found:
                found[key] = _figures(launch)
            where = dict(zip(WHERE, (name, form, direction, launch[0]), strict=True))
            rows.append({**found[key], **where, "key": key})
    return rows


def _figures(launch: tuple[str, Any, dict[str, Any]]) -> Row:
    try:
        r = compile_launch(*launch, TARGET)
    except smir.BackendError as error:
        return dict(zip(FIGURES, (0, 0, 0, 0, False, str(error)[:500]), strict=True))
    figures = (r.shared, r.registers, r.stack, r.num_warps, r.within_limits, "")
    return dict(zip(FIGURES, figures, strict=True))


def recorded(path: Path = RESULTS / f"{NAME}.json") -> list[Row]:
    """The rows of earlier runs."""
    rows = json.loads(path.read_text(encoding="utf-8"))["rows"] if path.exists() else []
    return [r for r in rows if "key" in r]


def main(arguments: Sequence[str] | None = None) -> list[Row]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--specs", default="", help="with commas between them; default: all")
    parser.add_argument("--forms", default="", help="with commas between them; default: all")
    parser.add_argument("--jobs", type=int, default=2, help="processes at once")
    parser.add_argument("--out", type=Path, default=RESULTS / f"{NAME}.json", help="where to go on")
    parser.add_argument("--fresh", action="store_true", help="forget what is recorded")
    asked = parser.parse_args(arguments)
    specs = [s for s in asked.specs.split(",") if s] or list(smir.library_names())
    forms = {(s, f) for s in specs for f in smir.compile(s).compilation.plans if f in (asked.forms or f).split(",")}
    rows = [] if asked.fresh else recorded(asked.out)
    known = {r["key"]: r for r in rows}
    with ProcessPoolExecutor(asked.jobs, mp_context=get_context("spawn")) as pool:
        work = {pool.submit(resources, *form, known): form for form in sorted(forms)}
        for done in as_completed(work):
            rows = _ordered([r for r in rows if (r["spec"], r["form"]) != work[done]] + done.result())
            write(asked.out, TITLE, COLUMNS, _cells(rows), triton=version("triton"))
            print(*work[done], "worst stack", max((r["stack bytes"] for r in done.result()), default=0), flush=True)
    beyond = [r for r in rows if not r["within limits"]]
    show(f"{len(rows)} {TITLE}, beyond their bounds: {len(beyond)}", COLUMNS, _cells(beyond))
    return rows


def _ordered(rows: list[Row]) -> list[Row]:
    """Specs and forms in one order however the processes end; kernels in that of their launches."""
    return sorted(rows, key=lambda r: (r["spec"], r["form"]))


def _cells(rows: list[Row]) -> list[tuple[Any, ...]]:
    return [tuple(r[c] for c in COLUMNS) for r in rows]


if __name__ == "__main__":
    sys.exit(any(not row["within limits"] for row in main()))
