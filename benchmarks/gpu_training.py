"""Gradients on a GPU: errors against float64 within the budget of docs/verification.md.

    python -m benchmarks.gpu_training [--specs gla,kda] [--seconds 500]

Gradients go through torch's autograd, with cotangents for the output and for the final states; the truth is the float64
step form (of a mixer without step equations its only form), which the golden vectors anchor. Several calls fill one
file of results.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

import smir
from benchmarks.gpu_forward import BFLOAT_FACTOR, DTYPES, FLOOR32, rms
from benchmarks.gpu_runs import CHECK, Task, check_summary, draw, float32_factor, run, starts
from smir.sampling import dimension_names

B, T, H = 2, 200, 2
SIZES = {"N": 16, "M": 32}
MODULE = "benchmarks.gpu_training"


def check(name: str) -> Iterator[dict[str, Any]]:
    """One row per form, dtype, case and gradient of a library spec."""
    mixer = smir.compile(name)
    sizes = {name: SIZES.get(name, 64) for name in dimension_names(mixer.spec)}
    for case in ("usual", "extreme"):
        arrays = draw(mixer.spec, B, T, H, sizes, seed=1, extreme=case == "extreme")
        states = starts(mixer, B, H, sizes, seed=2)
        for dtype in DTYPES:
            yield from _case(mixer, name, case, dtype, arrays, states)


def _case(mixer: Any, name: str, case: str, dtype: str, arrays: Mapping[str, Any], states: Mapping[str, Any]
          ) -> Iterator[dict[str, Any]]:  # fmt: skip
    first = mixer.forms[0]
    truth = gradients(name, first, "numpy", "float64", arrays, states)
    rounded = {k: _round(v, dtype) for k, v in arrays.items()}
    ideal = gradients(name, first, "numpy", "float64", rounded, states, dtype)
    step = gradients(name, first, "numpy", "float32", arrays, states)
    for form in mixer.forms:
        found = gradients(name, form, "triton", dtype, arrays, states)
        again = gradients(name, form, "triton", dtype, arrays, states)
        for key, value in truth.items():
            # a factor of exactly zero has no logarithm: chunks give it no gradient (docs/verification.md)
            fine = np.isfinite(value) & _has_log(mixer, key, arrays.get(key), form)
            scale = rms(value[fine]) or 1.0
            error = rms((found[key] - value)[fine]) / scale
            rounding = rms((_round(ideal[key], dtype) - value)[fine]) / scale
            single = max(float32_factor(mixer) * rms((step[key] - value)[fine]) / scale, FLOOR32)
            budget = BFLOAT_FACTOR * rounding if dtype == "bfloat16" else single
            yield {"spec": name, "form": form, "dtype": dtype, "case": case, "result": f"d_{key}", "error": error,
                   "budget": budget, "repeats": bool(np.array_equal(found[key], again[key], equal_nan=True)),
                   "passed": bool(error <= budget)}  # fmt: skip


def _has_log(mixer: Any, key: str, values: Any, form: str) -> Any:
    """Where a gate that the spec promises to be a factor isn't exactly zero."""
    factor = next((d.range.lo == 0.0 for d in mixer.spec.declarations if d.name == key), False)
    return values != 0.0 if factor and form != "step" else True


def _round(x: Any, dtype: str) -> Any:
    import torch

    return torch.from_numpy(np.ascontiguousarray(x)).to(getattr(torch, dtype)).double().numpy()


def gradients(name: str, form: str, backend: str, dtype: str, arrays: Mapping[str, Any], states: Mapping[str, Any],
              cotangents: str = "float64") -> dict[str, Any]:  # fmt: skip
    """Gradients of all inputs, parameters and initial states for seeded cotangents, as float64 arrays."""
    import torch

    device, kind = ("cuda" if backend == "triton" else "cpu"), getattr(torch, dtype)
    given = {k: torch.from_numpy(np.ascontiguousarray(v)).to(device, kind).requires_grad_() for k, v in arrays.items()}
    held = {k: torch.from_numpy(v).to(device, kind if dtype == "float64" else torch.float32).requires_grad_()
            for k, v in states.items()}  # fmt: skip
    y, final = smir.compile(name, form=form, backend=backend)(**given, state=held or None, return_state=True)
    rng = np.random.default_rng(5)
    loss = torch.zeros((), device=device, dtype=torch.float64)
    for value in (y, *final.values()):
        seed = torch.from_numpy(_round(rng.standard_normal(tuple(value.shape)), cotangents))
        loss = loss + (value * seed.to(device, value.dtype)).double().sum()
    loss.backward()
    both = {**given, **held}
    return {k: (torch.zeros_like(v) if v.grad is None else v.grad).double().cpu().numpy() for k, v in both.items()}


if __name__ == "__main__":
    run(MODULE, __doc__, {CHECK: Task(check)}, check_summary, f"B={B} T={T} H={H}, dimensions {SIZES}")
