"""What runs in the processes of `conftest`: kernels against numpy, and compilations."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

import smir
from smir.backends.numpy_reference.plan_interpreter import run_plan
from smir.ir.kernel import KernelPlan
from smir.sampling import sample, sample_states


@dataclass(frozen=True)
class Case:
    """One run: `sizes` by dimension name, `chunk` tokens a chunk, given or declared initial states."""

    sizes: tuple[tuple[str, int], ...] = ()
    T: int = 37
    chunk: int = 16
    states: bool = True
    extreme: bool = False
    B: int = 1
    H: int = 2


def compare(spec: str, form: str, case: Case) -> dict[str, float]:
    """Errors of the interpreted kernels in float32, as multiples of what numpy loses by computing in float32.

    One number for each result; 1 or so means as accurate as numpy, infinite a wrong shape or NaN.
    """
    mixer = smir.compile(spec)
    plan, sizes = mixer.compilation.plans[form], dict(case.sizes)
    arrays = sample(mixer.spec, case.B, case.T, case.H, sizes, seed=3, extreme=case.extreme)
    states = sample_states(mixer.spec, case.B, case.H, sizes, seed=4) if case.states else {}
    return compare_plan(plan, arrays, states, case.chunk)


def compare_plan(
    plan: KernelPlan, arrays: Mapping[str, Any], states: Mapping[str, Any], chunk: int
) -> dict[str, float]:
    """The same for a plan and its arrays, float64 numpy being the truth."""
    import torch

    from smir.backends.triton_gpu.runtime import run_triton

    narrow = [{n: np.asarray(a, np.float32) for n, a in group.items()} for group in (arrays, states)]
    truth = _named(*run_plan(plan, arrays, states, chunk=chunk))
    single = _named(*run_plan(plan, *narrow, chunk=chunk))
    given, held = ({n: torch.from_numpy(a.copy()) for n, a in group.items()} for group in narrow)
    y, final = run_triton(plan, given, held, chunk)
    found = _named(y.numpy(), {n: s.numpy() for n, s in final.items()})
    return {name: _multiple(found.get(name), truth[name], single[name]) for name in truth}


def _named(y: Any, final: Mapping[str, Any]) -> dict[str, Any]:
    return {"y": y, **final}


def _multiple(found: Any, truth: Any, single: Any) -> float:
    if found is None or found.shape != truth.shape or not np.array_equal(np.isnan(found), np.isnan(truth)):
        return float("inf")
    real = np.isfinite(truth)
    scale = np.sqrt(np.mean(np.square(truth[real]))) if real.any() else 1.0
    error = np.max(np.abs(found[real] - truth[real]), initial=0.0)
    return float(error / max(np.max(np.abs(single[real] - truth[real]), initial=0.0), 2e-7 * scale, 1e-30))


def resources(spec: str, form: str, target: str, size: int, dtype: str, chunk: int | None) -> list[tuple[Any, ...]]:
    """(kernel, shared bytes, registers, stack bytes, warps, within limits) of every kernel of a form."""
    from smir.backends.triton_gpu.ahead_of_time import Workload, compile_plan
    from smir.sampling import dimension_names

    mixer = smir.compile(spec)
    workload = Workload(dict.fromkeys(dimension_names(mixer.spec), size), dtype, chunk=chunk)
    found = compile_plan(mixer.compilation.plans[form], target, workload)
    return [(r.kernel, r.shared, r.registers, r.stack, r.num_warps, r.within_limits) for r in found]
