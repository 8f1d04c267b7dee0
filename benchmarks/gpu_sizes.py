"""Sizes on a GPU: dimensions that are padded or wide, 16-bit types, heads that inputs share, NaN in one row.

    python -m benchmarks.gpu_sizes [--specs gla,kda]

One spec for each class, in the form that is fastest for long calls. Errors of outputs and of all gradients against
float64 on the CPU; groups of heads against the same heads repeated.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch

import smir
from benchmarks.gpu_forward import BFLOAT_FACTOR, FLOOR32
from benchmarks.gpu_runs import CHECK, Rows, Task, draw, fast_form, float32_factor, run
from smir.errors import IRError
from smir.ir.mixer import Mixer
from smir.sampling import common_size, dimension_names

MODULE = "benchmarks.gpu_sizes"
# Identity, scalar, diagonals, low rank, rotations, two directions with a normaliser, scans, token by token, pairs.
SPECS = (
    "linear_attention scalar_decay gla dfw delta_rule kda rwkv7 mamba3 lion_s_norm hgrn mamba1 gru softmax_causal "
    "forgetting_attention"
).split()
BATCH, TOKENS, HEADS = 2, 77, 4
PAIRS = [(1, 3), (3, 1), (17, 3), (3, 128), (128, 17), (128, 128), (512, 17), (17, 512), (512, 512)]
# A gradient this much smaller than the largest one is what rounding leaves of zero.
CANCELLED = 1e-6
Tensors = dict[str, Any]


def check(name: str) -> Iterator[dict[str, Any]]:
    """One row for each size and type, for each kind of groups, and for a NaN."""
    form, spec = fast_form(name), smir.compile(name).spec
    for pair in PAIRS:
        sizes = _sizes(spec, pair)
        for dtype in ("float32", "float16", "bfloat16"):
            row = {"spec": name, "form": form, "case": "x".join(map(str, sizes.values())), "dtype": dtype}
            yield row | _guarded(_against_oracle, name, form, _arguments(spec, sizes), dtype)
    arrays = _arguments(spec, _sizes(spec, (64, 32)))
    for count in (1, 2):
        row = {"spec": name, "form": form, "case": f"{count} of {HEADS} heads", "dtype": "float32"}
        yield row | _guarded(_groups, name, form, arrays, count)
    yield {"spec": name, "form": form, "case": "NaN", "dtype": "float32"} | _guarded(_nan, name, form, arrays)


def _guarded(share: Callable[..., dict[str, float]], *args: Any) -> dict[str, Any]:
    """The shares of the budget that errors take, largest first, or what was raised."""
    try:
        found = share(*args)
    except smir.SmirError as refused:
        return {"share": None, "passed": False, "refused": str(refused)}
    largest = max(found, key=lambda n: found[n])
    return {"share": found[largest], "result": largest, "passed": bool(found[largest] <= 1.0)}


def _arguments(spec: Mixer, sizes: Mapping[str, int]) -> Tensors:
    return {n: torch.from_numpy(a) for n, a in draw(spec, BATCH, TOKENS, HEADS, sizes, seed=3).items()}


def _sizes(spec: Mixer, pair: tuple[int, int]) -> dict[str, int]:
    """The pair in turn for the names of a spec, even where there are halves, small for what is small in practice."""
    chosen = {n: common_size(n, pair[i % 2]) for i, n in enumerate(dimension_names(spec))}
    for name in chosen:
        if not _are_whole(spec, chosen):
            chosen[name] += chosen[name] % 2
    return chosen


def _are_whole(spec: Mixer, sizes: Mapping[str, int]) -> bool:
    try:
        return all(dim.size({**sizes, "T": TOKENS}) for d in spec.declarations for dim in d.dims)
    except IRError:
        return False


def _results(name: str, form: str, backend: str, arrays: Tensors) -> Tensors:
    """y and all gradients of its squares, as float64 on the CPU."""
    given = {n: a.detach().requires_grad_() for n, a in arrays.items()}
    y = smir.compile(name, form=form, backend=backend)(**given)
    (y.float() if y.dtype.itemsize < 4 else y).square().sum().backward()
    found = {"y": y.detach(), **{f"d_{n}": torch.zeros_like(a) if a.grad is None else a.grad for n, a in given.items()}}
    return {n: a.double().cpu() for n, a in found.items()}


def _errors(found: Tensors, truth: Tensors) -> dict[str, float]:
    """RMS of the difference over that of the truth, or of what cancels over the largest; infinite for a NaN."""
    sizes, cancelled = _sizes_of(truth)
    largest = max(sizes.values()) or 1.0
    errors = {}
    for n, t in truth.items():
        there = found[n].shape == t.shape and bool(found[n].isfinite().all())
        difference = float((found[n] - t).square().mean().sqrt()) if there else math.inf
        errors[n] = difference / (largest if n in cancelled else sizes[n])
    return errors


def _sizes_of(truth: Tensors) -> tuple[dict[str, float], set[str]]:
    """RMS of every result, and those that are nothing but what rounding leaves of zero."""
    sizes = {n: float(t.square().mean().sqrt()) for n, t in truth.items()}
    return sizes, {n for n, size in sizes.items() if size <= CANCELLED * max(sizes.values())}


def _against_oracle(name: str, form: str, arrays: Tensors, dtype: str) -> dict[str, float]:
    """Of the kernels for arguments in a type: in float32 against that on the CPU, in 16 bits against what rounding
    arguments and results makes unavoidable; where all of a result cancels, against the largest budget."""
    kind = getattr(torch, dtype)
    rounded = {n: a.to(kind) for n, a in arrays.items()}
    found = _results(name, form, "triton", {n: a.cuda() for n, a in rounded.items()})
    if dtype == "float32":
        truth = _results(name, form, "numpy", {n: a.double() for n, a in rounded.items()})
        single, factor = _errors(_results(name, form, "numpy", rounded), truth), float32_factor(smir.compile(name))
        budgets = {n: max(factor * e, FLOOR32) for n, e in single.items()}
    else:
        truth = _results(name, form, "numpy", arrays)
        ideal = _results(name, form, "numpy", {n: a.double() for n, a in rounded.items()})
        unavoidable = _errors({n: a.to(kind).double() for n, a in ideal.items()}, truth)
        budgets = {n: BFLOAT_FACTOR * e for n, e in unavoidable.items()}
    budgets |= dict.fromkeys(_sizes_of(truth)[1], max(budgets.values()))
    return {n: (e / budgets[n] if e else 0.0) for n, e in _errors(found, truth).items()}


def _groups(name: str, form: str, arrays: Tensors, count: int) -> dict[str, float]:
    """Of inputs that have fewer heads, but for the first, against the same heads repeated."""
    inputs = [d.name for d in smir.compile(name).spec.inputs][1:]
    few = {n: a.float().cuda() for n, a in arrays.items()}
    few |= {n: few[n][:, :, :count] for n in inputs}
    repeated = {n: a.repeat_interleave(HEADS // count, 2) if n in inputs else a for n, a in few.items()}
    found, truth = (_results(name, form, "triton", given) for given in (few, repeated))
    for n in (f"d_{n}" for n in inputs):
        truth[n] = truth[n].unflatten(2, (count, -1)).sum(3)
    return {n: e / FLOOR32 for n, e in _errors(found, truth).items()}


def _nan(name: str, form: str, arrays: Tensors) -> dict[str, float]:
    """A NaN in one row changes no bit of the others, and is seen in its own: 0; else infinite."""
    call = smir.compile(name, form=form, backend="triton")
    given = {n: a.float().cuda() for n, a in arrays.items()}
    whole = call(**given)
    for d in smir.compile(name).spec.inputs:
        broken = {**given, d.name: given[d.name].clone()}
        broken[d.name][1, TOKENS // 2] = float("nan")
        y = call(**broken)
        if not torch.equal(y[0], whole[0]) or not bool(y[1].isnan().any()):
            return {d.name: math.inf}
    return {"y": 0.0}


def _summary(rows: Rows) -> None:
    """One line for each spec, then what is outside."""
    kinds = ("float32", "float16", "bfloat16")
    print(
        f"{'spec':<22}{'rows':>5}{'fail':>5}" + "".join(f"{kind:>10}" for kind in kinds) + "  largest share of budget"
    )
    for spec in sorted({r["spec"] for r in rows}):
        own = [r for r in rows if r["spec"] == spec and "passed" in r]
        shares = [max((r["share"] or 0.0 for r in own if r["dtype"] == kind), default=math.nan) for kind in kinds]
        failed = sum(not r["passed"] for r in own)
        print(f"{spec:<22}{len(own):>5}{failed:>5}" + "".join(f"{share:>10.2f}" for share in shares))
    for r in rows:
        if "crashed" in r:
            print(r["spec"], r["crashed"][-600:])
        elif not r["passed"]:
            print(
                "FAIL", r["spec"], r["form"], r["case"], r["dtype"], r.get("result"), r["share"], r.get("refused", "")
            )


if __name__ == "__main__":
    single = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    run(MODULE, __doc__, {CHECK: Task(check, variables=single)}, _summary, "see the rows", SPECS)
