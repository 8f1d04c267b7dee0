"""Segments, steps and rows on a GPU: whole = any split = prompt and steps, within the budget of docs/verification.md;
a row's bits in every batch, no bit of the past changed by the future, states in place as apart, replayed from a graph.

    python -m benchmarks.gpu_equivalences [--specs gla,mamba3]

What is about bits has as its error the number of elements that differ.
"""

import itertools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

import smir
from benchmarks.gpu_forward import BFLOAT_FACTOR, DTYPES, FLOOR32, rms
from benchmarks.gpu_runs import CHECK, Task, check_summary, draw, float32_factor, run
from smir.calls.form_choice import NOMINAL_BATCH
from smir.ir.convolution import CONVOLUTION
from smir.ir.tile_program import STEP
from smir.sampling import dimension_names
from smir.specs import library_names

MODULE = "benchmarks.gpu_equivalences"
B, T, H = 3, 200, 2
SIZES = {"K": 64, "V": 64, "N": 16, "M": 32}
# Ends of segments; of the last ones each is a single token.
EDGES = (0, 1, 70, 150, T)
PROMPT, CHANGED = T - 12, 130
Arrays = dict[str, Any]
Row = dict[str, Any]


class Checks:
    """One spec in one type: its arguments on the GPU, the float64 truth, and what rounding alone makes of it."""

    def __init__(self, name: str, dtype: str) -> None:
        import torch

        self.name, self.dtype = name, dtype
        self.truth = smir.compile(name, backend="numpy")
        spec = self.truth.spec
        sizes = {n: SIZES.get(n, 64) for n in dimension_names(spec)}
        drawn, others = (draw(spec, B, T, H, sizes, seed=seed) for seed in (1, 2))
        kind = getattr(torch, dtype)
        self.given = {n: torch.from_numpy(np.ascontiguousarray(a)).to(kind).cuda() for n, a in drawn.items()}
        self.others = {n: torch.from_numpy(np.ascontiguousarray(a)).to(kind).cuda() for n, a in others.items()}
        self.inputs = {d.name for d in spec.inputs}
        self.y = self.truth(**drawn)
        exact = {n: a.double().cpu().numpy() for n, a in self.given.items()}
        self.ideal = torch.from_numpy(self.truth(**exact)).to(kind).double().numpy()
        self.step32 = 0.0
        if dtype == "float32":
            form = self.truth.forms[0]
            one = smir.compile(name, form=form, backend="numpy")(**{n: a.astype("float32") for n, a in drawn.items()})
            self.step32 = rms(one - self.y) / (rms(self.y) or 1.0)

    def cut(self, take: Callable[[Any], Any], arrays: Mapping[str, Any] | None = None) -> Arrays:
        return {n: take(a) if n in self.inputs else a for n, a in (arrays or self.given).items()}

    def close(self, form: str, result: str, found: Any) -> Row:
        """Against the truth, within the budget of outputs."""
        scale = rms(self.y) or 1.0
        error = rms(found.double().cpu().numpy() - self.y) / scale
        unavoidable = rms(self.ideal - self.y) / scale
        budget = BFLOAT_FACTOR * unavoidable
        if self.dtype == "float32":
            budget = max(float32_factor(self.truth) * self.step32, FLOOR32)
        return self.row(form, result, error, budget)

    def equal(self, form: str, result: str, found: Any, expected: Any) -> Row:
        """The same bits."""
        import torch

        same = (found == expected) | (torch.isnan(found) & torch.isnan(expected))
        return self.row(form, result, float((~same).sum()), 0.5)

    def row(self, form: str, result: str, error: float, budget: float) -> Row:
        return {"spec": self.name, "form": form, "dtype": self.dtype, "case": f"{B}x{T}x{H}", "result": result,
                "error": error, "budget": budget, "passed": bool(error <= budget), "repeats": True}  # fmt: skip


def check(name: str) -> Iterator[Row]:
    """One row per type, form and equivalence; none for a spec that looks ahead, which must refuse a step."""
    mixer = smir.compile(name)
    if mixer.compilation.lookahead is not None:
        yield _refusal(name)
        return
    for dtype in DTYPES:
        known = Checks(name, dtype)
        for form in (None, *mixer.forms):
            yield from _form(known, form)
        yield from _steps(known)


def _refusal(name: str) -> Row:
    try:
        smir.compile(name).step(**smir.sample(smir.compile(name).spec, T=2), several=True)
        refused = False
    except smir.FormError:
        refused = True
    return {"spec": name, "form": "step", "dtype": "float32", "case": "refused", "result": "y", "budget": 0.5,
            "error": float(not refused), "passed": refused, "repeats": True}  # fmt: skip


def _form(known: Checks, form: str | None) -> Iterator[Row]:
    """Segments, rows and later tokens in one form (None: the one that a call takes)."""
    import torch

    mixer, label = smir.compile(known.name, form=form, backend="triton"), form or "chosen"
    y = mixer(**known.given)
    parts, state = [], None
    for first, last in itertools.pairwise(EDGES):
        part, state = mixer(**known.cut(lambda a, i=first, j=last: a[:, i:j]), state=state, return_state=True)  # type: ignore[misc]
        parts.append(part)
    yield known.close(label, "segments", torch.cat(parts, 1))
    for row in (0, B - 1):
        one = mixer(**known.cut(lambda a, r=row: a[r : r + 1].clone()))  # type: ignore[misc]
        yield known.equal(label, f"row {row} alone", one[0], y[row])
    many = mixer(**known.cut(lambda a: a.repeat(5, *[1] * (a.ndim - 1))))
    yield known.equal(label, "five times the batch", many[-B:], y)
    later = {n: a.clone() for n, a in known.given.items()}
    for n in known.inputs:
        later[n][:, CHANGED:] = known.others[n][:, CHANGED:]
    chosen = mixer.form_for(T=T, sequences=NOMINAL_BATCH * H, backend="triton") if form is None else form
    if chosen != CONVOLUTION:
        yield known.equal(label, "other later tokens", mixer(**later)[:, :CHANGED], y[:, :CHANGED])


def _steps(known: Checks) -> Iterator[Row]:
    """A prompt, then tokens: apart, in place, several at once, and from a graph that replays the step in place."""
    import torch

    mixer = smir.compile(known.name, backend="triton")
    y, prompt = mixer(**known.cut(lambda a: a[:, :PROMPT]), return_state=True)
    state, own = prompt, {n: a.clone() for n, a in prompt.items()}
    apart, in_place = [], []
    for t in range(PROMPT, T):
        token = known.cut(lambda a, t=t: a[:, t])  # type: ignore[misc]
        step, state = mixer.step(**token, state=state)
        again, own = mixer.step(**token, state=own, inplace=True)
        apart.append(step)
        in_place.append(again)
    yield known.close(STEP, "prompt and steps", torch.cat([y, torch.stack(apart, 1)], 1))
    yield known.equal(STEP, "in place", torch.stack(in_place, 1), torch.stack(apart, 1))
    for name in state:
        yield known.equal(STEP, f"{name} in place", own[name], state[name])
    rest, _ = mixer.step(**known.cut(lambda a: a[:, PROMPT:]), state=prompt, several=True)
    yield known.close(STEP, "several at once", torch.cat([y, rest], 1))
    if known.truth.compilation.equations is not None:
        yield from _replayed(known, mixer, prompt, torch.stack(apart, 1))
        yield _launches(known, mixer, prompt)


def _replayed(known: Checks, mixer: Any, prompt: Arrays, expected: Any) -> Iterator[Row]:
    import torch

    token = known.cut(lambda a: a[:, PROMPT].clone())
    state = {n: a.clone() for n, a in prompt.items()}
    with torch.no_grad():
        mixer.step(**token, state={n: a.clone() for n, a in prompt.items()}, inplace=True)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.no_grad(), torch.cuda.graph(graph):
        y, _ = mixer.step(**token, state=state, inplace=True)
    for n, a in prompt.items():
        state[n].copy_(a)
    found = []
    for t in range(PROMPT, T):
        for n in known.inputs:
            token[n].copy_(known.given[n][:, t])
        graph.replay()
        found.append(y.clone())
    yield known.equal(STEP, "replayed", torch.stack(found, 1), expected)


def _launches(known: Checks, mixer: Any, prompt: Arrays) -> Row:
    """Kernels of one step, as many as its plan has."""
    import torch
    from torch.profiler import ProfilerActivity, profile

    token = known.cut(lambda a: a[:, PROMPT])
    torch.cuda.synchronize()
    with profile(activities=[ProfilerActivity.CUDA]) as profiler:
        mixer.step(**token, state=prompt)
        torch.cuda.synchronize()
    count = sum(1 for e in profiler.events() if e.device_type == torch.autograd.DeviceType.CUDA)
    expected = len(known.truth.compilation.plans[STEP].kernels)
    return {**known.row(STEP, "kernels of a step", float(count), expected + 0.5), "kernels": count}


if __name__ == "__main__":
    run(MODULE, __doc__, {CHECK: Task(check)}, check_summary, f"B={B} T={T} H={H}, dimensions {SIZES}", library_names())
