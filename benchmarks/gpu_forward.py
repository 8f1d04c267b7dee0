"""Forward kernels on a GPU: errors against the float64 oracle with the budget of docs/verification.md.

Run with `python -m benchmarks.gpu_forward [--specs a,b]`. Every spec runs in a process of its own,
so that a kernel that crashes the GPU's context takes nothing else down. Several calls fill one file of results.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

import smir
from benchmarks.gpu_runs import CHECK, Task, check_summary, draw, float32_factor, run, starts
from smir.backends.numpy_reference.mixer_interpreter import run_mixer
from smir.sampling import dimension_names

MODULE = "benchmarks.gpu_forward"
B, T, H = 2, 300, 3
# Dimensions that are not named here have 64 elements.
SIZES = {"K": 64, "V": 128, "N": 16, "M": 32}
SPEED_SHAPES = ((4, 4096, 16), (1, 32768, 16))
DTYPES = ("float32", "bfloat16")
FLOOR32, BFLOAT_FACTOR = 2e-6, 2.0


def rms(x: Any) -> float:
    """Root mean square over the finite entries of the truth (0/0 of a normaliser is not compared)."""
    return float(np.sqrt(np.mean(np.square(np.asarray(x, np.float64)))))


def check(name: str) -> Iterator[dict[str, Any]]:
    """One row per form, dtype, case and result of a library spec."""
    mixer = smir.compile(name)
    sizes = {name: SIZES.get(name, 64) for name in dimension_names(mixer.spec)}
    for case in ("usual", "extreme"):
        arrays = draw(mixer.spec, B, T, H, sizes, seed=1, extreme=case == "extreme")
        states = starts(mixer, B, H, sizes, seed=2) if case == "usual" else {}
        for dtype in DTYPES:
            yield from _case(name, case, dtype, arrays, states)


def _case(name: str, case: str, dtype: str, arrays: Mapping[str, Any], states: Any) -> Iterator[dict[str, Any]]:
    import torch

    def rounded(x: Any) -> Any:
        return torch.from_numpy(np.ascontiguousarray(x)).to(getattr(torch, dtype))

    mixer = smir.compile(name)
    truth = results(*run_mixer(mixer.spec, arrays, states))
    given = {k: rounded(v) for k, v in arrays.items()}
    held = {k: torch.from_numpy(v).float() for k, v in states.items()} if states else None
    exact = {k: v.double().numpy() for k, v in given.items()}
    ideal = results(*run_mixer(mixer.spec, exact, {k: v.double().numpy() for k, v in held.items()} if held else None))
    step: dict[str, float] = {}
    for form in mixer.forms:
        gpu = smir.compile(name, form=form, backend="triton")
        cuda = {k: v.cuda() for k, v in given.items()}
        on = {k: v.cuda() for k, v in held.items()} if held else None
        try:
            found = results(*gpu(**cuda, state=on, return_state=True))
            again = results(*gpu(**cuda, state=on, return_state=True))
        except smir.BackendError as refusal:
            yield {"spec": name, "form": form, "dtype": dtype, "case": case, "refused": str(refusal)}
            continue
        for key, value in truth.items():
            fine = np.isfinite(value)
            error = rms((found[key] - value)[fine]) / rms(value[fine])
            step.setdefault(key, error)
            rounding = rms((rounded(ideal[key]).double().numpy() - value)[fine]) / rms(value[fine])
            budget = (BFLOAT_FACTOR * rounding if dtype == "bfloat16"
                      else max(float32_factor(mixer) * step[key], FLOOR32))  # fmt: skip
            yield {"spec": name, "form": form, "dtype": dtype, "case": case, "result": key, "error": error,
                   "budget": budget, "repeats": bool(np.array_equal(found[key], again[key], equal_nan=True)),
                   "passed": bool(error <= budget)}  # fmt: skip


def results(y: Any, final: Mapping[str, Any]) -> dict[str, Any]:
    """y and the final states as float64 arrays; a state that comes as mantissa and log-scale is multiplied out."""
    found = {k: v if isinstance(v, np.ndarray) else v.double().cpu().numpy() for k, v in {"y": y, **final}.items()}
    logs = {name: found.pop(f"{name}_log") for name in tuple(found) if f"{name}_log" in found}
    return {k: v * _over(np.exp(logs[k]), v) if k in logs else v for k, v in found.items()}


def _over(scale: Any, state: Any) -> Any:
    """A scale `[B, H, *rows]` with as many axes as the state."""
    return scale.reshape(scale.shape + (1,) * (state.ndim - scale.ndim))


if __name__ == "__main__":
    run(MODULE, __doc__, {CHECK: Task(check)}, check_summary, f"B={B} T={T} H={H}, dimensions {SIZES}")
