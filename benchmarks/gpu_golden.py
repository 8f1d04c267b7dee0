"""The golden vectors of tests/golden on a GPU: every legal form in both types, outputs, final states and gradients.

    python -m benchmarks.gpu_golden [--specs gla,kda] [--tasks check]

The truth is the vectors' own float64 results, made by implementations that are independent of this project; the budget
is that of docs/verification.md. Needs the folder tests/golden (its vectors, `vectors.py` and `rows.py`).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np

from benchmarks.gpu_forward import BFLOAT_FACTOR, DTYPES, FLOOR32, rms
from benchmarks.gpu_runs import CHECK, Task, check_summary, float32_factor, run
from smir.backends.numpy_reference.plan_interpreter import run_results
from smir.compiled import CompiledMixer
from smir.derivatives import training_plan
from smir.ir.kernel import KernelPlan
from smir.ir.tile_program import CHUNKED, QUADRATIC, SCAN, STEP
from tests.golden.rows import compilation
from tests.golden.vectors import Case, cases, load, names

MODULE, INTERPRETED = "benchmarks.gpu_golden", "interpreted"
# 37 tokens: two whole chunks and a part of one.
CHUNK = 16
MOVES = 4
CHUNKED_FORMS = (CHUNKED, QUADRATIC, SCAN)
Results = dict[str, np.ndarray]
Tensors = dict[str, Any]


def check(name: str) -> Iterator[dict[str, Any]]:
    """One row per case, form, type and result of a mixer."""
    for case in cases(name):
        for form in compilation(name).forms:
            for dtype in DTYPES:
                yield from compare(name, case, form, dtype, "cuda")


def compare(name: str, case: str, form: str, dtype: str, device: str, runs: int = 2) -> Iterator[dict[str, Any]]:
    """One row per result of a vector in one form: its error, what is allowed, and whether all runs agree in every bit.

    What is beyond the budget also says what is unavoidable.
    """
    import torch

    mixer, golden, kind = _mixer(name, form, "triton"), load(name, case), getattr(torch, dtype)
    found, *more = (outcome(mixer, golden, kind, device) for _ in range(runs))
    known = _reference(name, case)
    for key, value in known.truth.items():
        scale = rms(value) or 1.0
        error = rms(found[key] - value) / scale
        rounding = rms(_rounded(known.ideal[key]) - value) / scale
        single = max(float32_factor(mixer) * rms(known.single[key] - value) / scale, FLOOR32)
        budget = BFLOAT_FACTOR * rounding if dtype == "bfloat16" else single
        row = {"spec": name, "form": form, "dtype": dtype, "case": case, "result": key, "error": error,
               "budget": budget, "repeats": all(np.array_equal(found[key], x[key], equal_nan=True) for x in more),
               "passed": bool(error <= budget)}  # fmt: skip
        yield row if row["passed"] else row | {"unavoidable": unavoidable(name, case)[key]}


def interpreted(name: str) -> Iterator[dict[str, Any]]:
    """The same rows of kernels in Triton's interpreter, which multiplies float32 only, on the CPU; minutes a mixer."""
    plans = compilation(name).plans
    for row in (r for case in cases(name) for form in plans for r in compare(name, case, form, "float32", "cpu", 1)):
        yield {"task": INTERPRETED, **row}


@dataclass(frozen=True)
class Reference:
    """The vector's results, those of the first form in float32 on numpy, and those of its arguments in bfloat16."""

    truth: Results
    single: Results
    ideal: Results


@cache
def _reference(name: str, case: str) -> Reference:
    import torch

    golden = load(name, case)
    gradients = {f"d_{n.removeprefix('initial_state_')}": d for n, d in golden.gradients.items()}
    first = _mixer(name, compilation(name).forms[0], "numpy")
    short = replace(golden, inputs={n: _rounded(x) for n, x in golden.inputs.items()}, dy=_rounded(golden.dy))
    return Reference(
        {"y": golden.y, **golden.final, **gradients},
        outcome(first, golden, torch.float32, "cpu"),
        outcome(first, short, torch.float64, "cpu"),
    )


@cache
def unavoidable(name: str, case: str) -> dict[str, float]:
    """Errors of exact results for arguments that differ in the last bit of float32, of the results' RMS.

    Where a denominator nearly cancels, no float32 arithmetic does better: what the forms lose there is chance.
    """
    golden, known, rng = load(name, case), _reference(name, case).truth, np.random.default_rng(0)
    first, squares = _mixer(name, compilation(name).forms[0], "numpy"), dict.fromkeys(known, 0.0)
    for _ in range(MOVES):
        moved = {n: x * (1 + rng.choice([-1, 1], x.shape) * 2.0**-24) for n, x in golden.inputs.items()}
        found = _outcome64(first, replace(golden, inputs=moved))
        squares = {n: s + (rms(found[n] - known[n]) / (rms(known[n]) or 1.0)) ** 2 for n, s in squares.items()}
    return {n: float(np.sqrt(s / MOVES)) for n, s in squares.items()}


def _outcome64(mixer: CompiledMixer, golden: Case) -> Results:
    import torch

    return outcome(mixer, golden, torch.float64, "cpu")


@cache
def _mixer(name: str, form: str, backend: str) -> CompiledMixer:
    return CompiledMixer(compilation(name), form, backend, CHUNK if form in CHUNKED_FORMS else None)


def outcome(mixer: CompiledMixer, golden: Case, kind: Any, device: str) -> Results:
    """y, the final states multiplied out, and `d_<argument or state>`, as float64 arrays."""
    import torch

    def tensor(x: np.ndarray, kind: Any) -> Any:
        return torch.from_numpy(np.ascontiguousarray(x)).to(device, kind)

    wide = torch.float64 if kind == torch.float64 else torch.float32
    given = {n: tensor(x, kind).requires_grad_() for n, x in golden.inputs.items()}
    held = {n: tensor(x, wide).requires_grad_() for n, x in golden.initial.items()}
    if held and mixer.compilation.lookahead is not None:
        cotangents = {"d_y": tensor(golden.dy, kind), **{f"d_{n}": tensor(d, wide) for n, d in golden.dfinal.items()}}
        results = _by_plans(mixer, given, held, cotangents)
        return {n: x.detach().double().cpu().numpy() for n, x in results.items()}
    y, final = mixer(**given, state=held or None, return_state=True)
    scales = {n: _scale(n, final) for n in golden.final}
    results = {"y": y, **{n: final[n].double() * scale for n, scale in scales.items()}}
    ends = [(y, tensor(golden.dy, y.dtype))]
    ends += [(final[n], (tensor(d, torch.float64) * scales[n]).to(final[n].dtype)) for n, d in golden.dfinal.items()]
    torch.autograd.backward(*zip(*ends, strict=True))
    results |= {f"d_{n}": torch.zeros_like(x) if x.grad is None else x.grad for n, x in {**given, **held}.items()}
    return {n: x.detach().double().cpu().numpy() for n, x in results.items()}


def _by_plans(mixer: CompiledMixer, given: Tensors, held: Tensors, ends: Tensors) -> Tensors:
    """The same of a mixer that looks ahead, whose calls take no initial states: by its kernel plans."""
    plans = training_plan(mixer.compilation, mixer.form or STEP, frozenset({*given, *held}))

    def run(plan: KernelPlan, arrays: Tensors, states: Tensors) -> Tensors:
        arrays, states = ({n: x.detach() for n, x in group.items()} for group in (arrays, states))
        if mixer.asked["backend"] == "triton":
            from smir.backends.triton_gpu.runtime import run_triton_results

            results, final = run_triton_results(plan, arrays, states, None if plan.form == STEP else CHUNK)
            return {**results, **final}
        import torch

        groups = ({n: x.numpy() for n, x in group.items()} for group in (arrays, states))
        results, final = run_results(plan, *groups, chunk=CHUNK)
        return {n: torch.from_numpy(x) for n, x in {**results, **final}.items()}

    forward = run(plans.forward, given, held)
    kept = {inner: forward[outer] for outer, inner in plans.kept.items()}
    of_states = {n: d for n, d in ends.items() if n.removeprefix("d_") in held}
    backward = run(plans.backward, {**given, **kept, "d_y": ends["d_y"]}, {**held, **of_states})
    return {n: x for n, x in {**forward, **backward}.items() if n in ("y", *held) or n.startswith("d_")}


def _scale(name: str, final: Mapping[str, Any]) -> Any:
    """What the mantissa of a stabilised state is multiplied by, with as many axes; 1 for any other state."""
    import torch

    log = final.get(f"{name}_log")
    if log is None:
        return torch.ones((), dtype=torch.float64, device=final[name].device)
    return log.detach().double().exp().reshape(*log.shape, *(1,) * (final[name].ndim - log.ndim))


def _rounded(x: np.ndarray) -> np.ndarray:
    """To bfloat16 and back."""
    import torch

    return np.asarray(torch.from_numpy(np.ascontiguousarray(x)).bfloat16().double())


if __name__ == "__main__":
    sizes = f"B=2 T=37 H=2 K=8 V=12, the vectors' own sizes, chunks of {CHUNK} tokens"
    tasks = {CHECK: Task(check), INTERPRETED: Task(interpreted, variables={"TRITON_INTERPRET": "1"})}
    run(MODULE, __doc__, tasks, check_summary, sizes, names())
