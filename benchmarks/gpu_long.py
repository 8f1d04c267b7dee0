"""Outputs and gradients at full size on a GPU: errors of one head against float64, at the shapes whose times are given.

    python -m benchmarks.gpu_long [--specs gla,kda]

Heads don't meet each other, nor do sequences but in gradients of parameters: the float64 truth of one head (numpy, the
same form) does for the whole call, and it is computed while the kernels compile. What bfloat16 arguments make of the
result comes from the float32 kernels, which the truth has checked to a thousandth of that.
"""

import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import torch
import triton

import smir
from benchmarks.gpu_forward import BFLOAT_FACTOR, DTYPES, FLOOR32, SPEED_SHAPES, rms
from benchmarks.gpu_runs import CHECK, Task, check_summary, fast_form, float32_factor, large_arguments, run
from smir.ir.mixer import INPUT
from smir.sampling import common_size, common_sizes
from smir.specs import library_names

MODULE = "benchmarks.gpu_long"
SIZE = 128
# A T x T parameter of 16 heads would take 69 GB at 32768 tokens, and as much again for its gradient.
LONGEST_DENSE = 4096
Tensors = dict[str, Any]


@dataclass(frozen=True)
class Call:
    """One mixer at one shape: its arguments and the output's cotangent in float32 on the GPU."""

    name: str
    form: str
    shape: tuple[int, int, int]
    arguments: Mapping[str, Any]
    cotangent: Any

    def of_one_head(self) -> "Call":
        """The first head of the first sequence (of all sequences, where parameters sum over them), on the CPU."""
        spec = smir.compile(self.name).spec
        rows = slice(None) if spec.params else slice(1)
        given = {d.name: _head(self.arguments[d.name], d.kind == INPUT, rows) for d in spec.declarations}
        return Call(self.name, self.form, self.shape, given, _head(self.cotangent, True, rows))

    def results(self, kind: Any, backend: str, form: str | None = None, short: bool = False) -> Tensors:
        """y and `d_<argument>`; with `short`, for arguments and a cotangent that were rounded to bfloat16."""

        def cast(x: Any) -> Any:
            return (x.bfloat16() if short else x).to(kind, copy=True)

        given = {n: cast(x).requires_grad_() for n, x in self.arguments.items()}
        y = smir.compile(self.name, form=form or self.form, backend=backend)(**given)
        y.backward(cast(self.cotangent).to(y.dtype))
        grads = {f"d_{n}": torch.zeros_like(x) if x.grad is None else x.grad for n, x in given.items()}
        return {"y": y.detach(), **grads}

    def head_of(self, results: Tensors) -> Tensors:
        """What `of_one_head` gives results for, as float64 on the CPU."""
        spec = smir.compile(self.name).spec
        rows, params = (slice(None) if spec.params else slice(1)), {f"d_{d.name}" for d in spec.params}
        return {n: _head(x, n not in params, rows).double() for n, x in results.items()}


def _head(x: Any, has_rows: bool, rows: slice) -> Any:
    return (x[rows, :, :1] if has_rows else x[:1]).cpu()


def check(name: str) -> Iterator[dict[str, Any]]:
    """One row per shape, type and result: the output, and the gradients of all arguments."""
    spec, form = smir.compile(name).spec, fast_form(name)
    dense = any("T" in map(str, d.dims) for d in spec.declarations)
    shapes = [s for s in SPEED_SHAPES if not dense or s[1] <= LONGEST_DENSE]
    with ThreadPoolExecutor(len(shapes)) as pool:
        calls = [_call(name, form, shape) for shape in shapes]
        truths = [pool.submit(call.of_one_head().results, torch.float64, "numpy") for call in calls]
        for call, truth in zip(calls, truths, strict=True):
            yield from _compared(call, truth)


def _compared(call: Call, truth: Future[Tensors]) -> Iterator[dict[str, Any]]:
    kinds = [getattr(torch, dtype) for dtype in DTYPES]
    before = loaded_kernels()
    found, repeats, kernels = zip(*(_twice(call, kind, before) for kind in kinds), strict=True)
    ideal = call.head_of(call.results(torch.float32, "triton", short=True))
    for dtype, own, same, new in zip(DTYPES, found, repeats, kernels, strict=True):
        for key, value in truth.result().items():
            scale = rms(value) or 1.0
            error = rms(own[key] - value) / scale
            rounding = rms(ideal[key].bfloat16().double() - value) / scale
            budget = BFLOAT_FACTOR * rounding if dtype == "bfloat16" else _budget32(call, key, value, error)
            case = "x".join(map(str, (*call.shape, SIZE)))
            yield {"spec": call.name, "form": call.form, "dtype": dtype, "case": case, "result": key, "error": error,
                   "budget": budget, "passed": bool(error <= budget), "repeats": same[key],
                   **({"kernels": new} if key == "y" else {})}  # fmt: skip


def _twice(call: Call, kind: Any, seen: dict[str, Any]) -> tuple[Tensors, dict[str, bool], list[Any]]:
    """The head's results, whether a second run agrees in every bit of all heads, and the kernels that are new."""
    first, second = (call.results(kind, "triton") for _ in range(2))
    new = {key: k for key, k in loaded_kernels().items() if key not in seen}
    seen |= new
    return call.head_of(first), {n: torch.equal(first[n], second[n]) for n in first}, list(new.values())


def _call(name: str, form: str, shape: tuple[int, int, int]) -> Call:
    """Random float32 arguments inside the promised ranges, and a cotangent of the output, on the GPU."""
    spec = smir.compile(name).spec
    dims = [d.size(common_sizes(spec, SIZE)) for d in spec.output_dims]
    return Call(name, form, shape, large_arguments(spec, shape, common_size), torch.randn(*shape, *dims, device="cuda"))


def _budget32(call: Call, key: str, truth: Any, error: float) -> float:
    """Only what needs more than the least budget waits for the float32 step form."""
    if error <= FLOOR32:
        return FLOOR32
    mixer, one = smir.compile(call.name), call.of_one_head()
    step = one.results(torch.float32, "numpy", mixer.forms[0])[key].double()
    return max(float32_factor(mixer) * rms(step - truth) / (rms(truth) or 1.0), FLOOR32)


def loaded_kernels() -> dict[str, dict[str, Any]]:
    """The kernels that this process has launched, by hash: registers and stack of a thread, shared memory, warps."""
    packages = [m for m in tuple(sys.modules.values()) if hasattr(m, "launch")]
    functions = [f for m in packages for f in vars(m).values() if isinstance(f, triton.JITFunction)]
    caches = [compiled for f in functions for compiled, *_ in f.device_caches.values()]
    return {k.hash: {"kernel": k.name, "registers": k.n_regs, "stack bytes": 4 * k.n_spills,
                     "shared bytes": k.metadata.shared, "warps": k.metadata.num_warps}
            for compiled in caches for k in compiled.values() if k.module is not None}  # fmt: skip


def _summary(rows: list[dict[str, Any]]) -> None:
    check_summary(rows)
    kernels = [(k["stack bytes"], r["spec"], r["dtype"], k) for r in rows for k in r.get("kernels", ())]
    print(f"{len(kernels)} kernels; the largest stacks:")
    for stack, spec, dtype, k in sorted(kernels, key=lambda found: -found[0])[:12]:
        print(f"  {spec:<27}{dtype:<10}{k['kernel']:<24}{stack:>6} bytes, {k['registers']} registers")


if __name__ == "__main__":
    # the longest truths, of softmaxes over pairs, stand at the end of the alphabet: they begin first
    single = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    tasks = {CHECK: Task(check, variables=single)}
    run(
        MODULE,
        __doc__,
        tasks,
        _summary,
        f"first of all heads, dimensions {SIZE}",
        sorted(library_names(), reverse=True),
    )
