"""Outputs and gradients at full size on a GPU: errors of one head against float64, at the shapes whose times are given.

    python -m benchmarks.gpu_long [--specs gla,kda]

Heads don't meet each other, so the float64 truth of the first one (numpy, the same form) does for the whole call.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import torch

import smir
from benchmarks.gpu_forward import DTYPES, ERASE_FACTOR, FLOOR32, SPEED_SHAPES, STEP_FACTOR, rms
from benchmarks.gpu_runs import CHECK, Task, fast_form, large_arguments, run
from benchmarks.gpu_training import BFLOAT_FACTOR
from smir.ir.tile_program import QUADRATIC
from smir.sampling import dimension_names

MODULE = "benchmarks.gpu_long"
SIZE = 128
# Where every pair of tokens meets, the truth of a long sequence would take hours.
LONGEST_PAIRS = 4096


def check(name: str) -> Iterator[dict[str, Any]]:
    """One row per shape, type and result: the output, and the gradients of all arguments."""
    form = fast_form(name)
    spec = smir.compile(name).spec
    dense = any("T" in map(str, d.dims) for d in spec.declarations)
    for batch, tokens, heads in SPEED_SHAPES:
        if (form == QUADRATIC and tokens > LONGEST_PAIRS) or dense:
            continue
        arrays, cotangent = _arguments(spec, batch, tokens, heads)
        one, d_y = _first_head(spec, arrays), cotangent[:, :, :1].cpu()
        truth = _gradients(name, form, "numpy", one, d_y, torch.float64)
        single = _gradients(name, form, "numpy", one, d_y, torch.float32)
        ideal = _gradients(name, form, "numpy", _rounded(one), _rounded({"": d_y})[""], torch.float64)
        for dtype in DTYPES:
            kind = getattr(torch, dtype)
            found, again = (
                _of_first_head(spec, _gradients(name, form, "triton", arrays, cotangent, kind)) for _ in range(2)
            )
            for key, value in truth.items():
                scale = rms(value) or 1.0
                error = rms(found[key] - value) / scale
                rounding = rms(_rounded(ideal)[key].double() - value) / scale
                allowed = max(_factor(name) * rms(single[key] - value) / scale, FLOOR32)
                budget = BFLOAT_FACTOR * rounding if dtype == "bfloat16" else allowed
                yield {"spec": name, "form": form, "dtype": dtype, "case": f"{batch}x{tokens}x{heads}x{SIZE}",
                       "result": key, "error": error, "budget": budget, "passed": bool(error <= budget),
                       "repeats": bool(torch.equal(found[key], again[key]))}  # fmt: skip


def _factor(name: str) -> float:
    operators = smir.compile(name).compilation.operators
    return ERASE_FACTOR if operators and any(o.erases for o in operators.operators) else STEP_FACTOR


def _arguments(spec: Any, batch: int, tokens: int, heads: int) -> tuple[dict[str, Any], Any]:
    """Random float32 arguments inside the promised ranges, and a cotangent of the output, on the GPU."""
    dims = [d.size({name: _size(name) for name in dimension_names(spec)}) for d in spec.output_dims]
    given = large_arguments(spec, (batch, tokens, heads), _size)
    return given, torch.randn(batch, tokens, heads, *dims, device="cuda")


def _size(name: str) -> int:
    return {"N": 16, "M": 64}.get(name, SIZE)


def _first_head(spec: Any, arrays: Mapping[str, Any]) -> dict[str, Any]:
    kinds = {d.name: d.kind for d in spec.declarations}
    return {n: (x[:, :, :1] if kinds[n] == "input" else x[:1]).cpu() for n, x in arrays.items()}


def _of_first_head(spec: Any, found: Mapping[str, Any]) -> dict[str, Any]:
    params = {f"d_{d.name}" for d in spec.params}
    return {n: x[:1] if n in params else x[:, :, :1] for n, x in found.items()}


def _rounded(arrays: Mapping[str, Any]) -> dict[str, Any]:
    return {n: x.bfloat16().double() for n, x in arrays.items()}


def _gradients(name: str, form: str, backend: str, arrays: Mapping[str, Any], d_y: Any, kind: Any) -> dict[str, Any]:
    """y and `d_<argument>` in float64 on the CPU."""
    given = {n: x.to(kind, copy=True).requires_grad_() for n, x in arrays.items()}
    y = smir.compile(name, form=form, backend=backend)(**given)
    y.backward(d_y.to(y.dtype))
    found = {"y": y.detach(), **{f"d_{n}": torch.zeros_like(x) if x.grad is None else x.grad for n, x in given.items()}}
    return {n: x.double().cpu() for n, x in found.items()}


def _summary(rows: list[dict[str, Any]]) -> None:
    for spec in sorted({r["spec"] for r in rows}):
        own = [r for r in rows if r["spec"] == spec and "error" in r]
        worst = {d: max((r["error"] / r["budget"] for r in own if r["dtype"] == d), default=0.0) for d in DTYPES}
        print(f"{spec:<27}{len(own):>5} {worst['float32']:.2f} {worst['bfloat16']:.2f} moved "
              f"{sum(not r['repeats'] for r in own)}")  # fmt: skip
    for r in rows:
        if "crashed" in r:
            print(r["spec"], r["crashed"][-500:])
        elif not r["passed"]:
            print("FAIL", *(r[k] for k in ("spec", "dtype", "case", "result")), f"{r['error']:.2e} > {r['budget']:.2e}")


if __name__ == "__main__":
    run(MODULE, __doc__, {CHECK: Task(check)}, _summary, f"first of all heads, dimensions {SIZE}")
