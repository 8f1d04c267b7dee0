"""Trying candidates: run, compare, measure. In a process of its own, because a wrong kernel can take it down."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from smir.calls.array_kinds import NUMPY
from smir.calls.execution import find_backend
from smir.compilation import Compilation
from smir.compiler import compile_spec
from smir.errors import SmirError
from smir.tuning.arguments import draw, draw_tensors, placed
from smir.tuning.passes import Passes, passes_of
from smir.tuning.problem import Candidate, Problem
from smir.tuning.targets import Target, target
from smir.tuning.truth import AS_GOOD, GROSS, Truth, make_truth

OK, WRONG, FAILED = "ok", "wrong", "failed"
# Tokens of the small problem: at least two chunks and a third that isn't full, for most chunk sizes the same number.
TOKENS, RAGGED = 277, 21
# How far the results of two configurations at full size may be apart, as a part of their RMS, by bytes an element.
FAR = {2: 0.03, 4: 1e-3, 8: 1e-8}


@dataclass(frozen=True)
class Outcome:
    """`milliseconds` of kernels by side and name, and of the whole call if it was asked for."""

    kind: str
    reason: str = ""
    kernels: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    whole: float | None = None

    def to_json(self) -> dict[str, Any]:
        return {"kind": self.kind, "reason": self.reason, "kernels": self.kernels, "whole": self.whole}


class Bench:
    """Tries candidates for one problem. `target` measures."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.done: Compilation = compile_spec(problem.spec_source)
        self.target: Target = target(problem.backend)
        self._truths: dict[int, Truth] = {}
        self._usual: dict[tuple[str, int], dict[str, float]] = {}
        self._full: tuple[tuple[str, int], Mapping[str, Any]] | None = None
        self._large: tuple[dict[str, Any], Any] | None = None

    def get_ready(self) -> None:
        """What every trial needs, while kernels are being compiled elsewhere."""
        self.truth(1)
        self.large  # noqa: B018, made when first asked for

    def attempt(self, candidate: Candidate) -> Outcome:
        """Errors that are no SmirError pass: after them the process may be unusable."""
        try:
            runs = _Runs(self, candidate)
            reason = self._checked(runs) or self._agrees(runs)
            return Outcome(WRONG, reason) if reason else runs.measured()
        except SmirError as error:
            return Outcome(FAILED, str(error))

    def truth(self, chunk: int) -> Truth:
        tokens = max(TOKENS, 2 * chunk + RAGGED)
        if tokens not in self._truths:
            self._truths[tokens] = make_truth(self.done, self.problem, tokens)
        return self._truths[tokens]

    @property
    def large(self) -> tuple[dict[str, Any], Any]:
        """Arguments at full size, and a cotangent of y."""
        if self._large is None:
            self._large = _arguments(self.done, self.problem)
        return self._large

    def _checked(self, runs: "_Runs") -> str | None:
        """What is wrong with the results of the small problem."""
        place = runs.candidate.form, runs.candidate.chunk
        if place not in self._usual and runs.candidate.options:
            self._usual[place] = self._excess(_Runs(self, Candidate(*place)))
        found = self._excess(runs)
        usual = self._usual.setdefault(place, found)
        for name, excess in found.items():
            if not excess <= min(max(1.0, AS_GOOD * usual[name]), GROSS):
                return f"{name} is {excess:.3g} times as far off as it may be"
        return None

    def _excess(self, runs: "_Runs") -> dict[str, float]:
        truth = self.truth(runs.candidate.chunk)
        return truth.excess(runs.results(truth.arrays, truth.cotangent))

    def _agrees(self, runs: "_Runs") -> str | None:
        """What is wrong at full size: results differ from run to run, or from those of the rule's options."""
        place = runs.candidate.form, runs.candidate.chunk
        first = runs.results(*self.large, watch=True)
        second = runs.results(*self.large)
        for name, value in first.items():
            if not _equal(value, second[name]):
                return f"{name} differs from run to run"
        if self._full is None or self._full[0] != place:
            self._full = None
            usual = first if not runs.candidate.options else _Runs(self, Candidate(*place)).results(*self.large)
            self._full = place, usual
        for name, value in self._full[1].items():
            if not _distance(first[name], value) <= FAR[value.dtype.itemsize]:
                return f"{name} differs from that of the usual options at full size"
        return None


@dataclass
class _Runs:
    """One candidate, made ready for two sizes."""

    bench: Bench
    candidate: Candidate
    launches: dict[str, Any] = field(default_factory=dict)

    @property
    def passes(self) -> Passes:
        return passes_of(self.bench.done, self.bench.problem, self.candidate.form, self.candidate.chunk)

    def results(self, arrays: Mapping[str, Any], cotangent: Any, watch: bool = False) -> dict[str, Any]:
        """With `watch`, the launches are written down."""
        return self.passes.run(partial(self._prepare, watch=watch), arrays, cotangent)

    def _prepare(self, side: str, plan: Any, given: Mapping[str, Any], watch: bool) -> Any:
        options = {name: dict(o) for name, o in self.candidate.options.get(side, {}).items()}
        runner = find_backend(self.bench.problem.backend).prepare(plan, given, self.candidate.chunk, options)
        if watch:
            runner, self.launches[side] = self.bench.target.watched(runner, plan)
        return runner

    def prepared(self) -> Callable[[], object]:
        """The whole call at full size, with nothing left to decide."""
        ready: dict[str, Any] = {}

        def prepare(side: str, plan: Any, given: Mapping[str, Any]) -> Any:
            if side not in ready:
                ready[side] = self._prepare(side, plan, given, watch=False)
            return ready[side]

        calls = self.passes
        return lambda: calls.run(prepare, *self.bench.large)

    def measured(self) -> Outcome:
        """After a run at full size that was watched."""
        if self.candidate.timed is not None:
            side, name = self.candidate.timed
            return Outcome(OK, kernels={side: _milliseconds(self._kernels(side, {name}))})
        kernels = {side: _milliseconds(self._kernels(side, None)) for side in self.launches}
        self.launches.clear()
        return Outcome(
            OK, kernels=kernels, whole=1e3 * self.bench.target.seconds(lambda: self.results(*self.bench.large))
        )

    def _kernels(self, side: str, names: set[str] | None) -> Mapping[str, float]:
        names = {k.name for k in self.passes.plans[side].kernels} if names is None else names
        return self.bench.target.kernel_seconds(self.launches[side], names)


def _arguments(done: Compilation, problem: Problem) -> tuple[dict[str, Any], Any]:
    dims = [d.size({**problem.shape.sizes, "T": problem.shape.tokens}) for d in done.spec.output_dims]
    shape = (problem.shape.batch, problem.shape.tokens, problem.shape.most_heads, *dims)
    if problem.kind == NUMPY:
        import numpy as np

        d_y = np.random.default_rng(2).standard_normal(shape).astype(problem.dtype)
        return placed(draw(done.spec, problem.shape), problem.dtypes, problem.device, NUMPY), d_y
    import torch

    random = torch.Generator(problem.device).manual_seed(2)
    d_y = torch.randn(shape, generator=random, device=problem.device).to(getattr(torch, problem.dtype))
    return draw_tensors(done.spec, problem.shape, problem.dtypes, problem.device), d_y


def _milliseconds(found: Mapping[str, float]) -> dict[str, float]:
    return {name: 1e3 * s for name, s in found.items()}


def _equal(a: Any, b: Any) -> bool:
    return bool(((a == b) | ((a != a) & (b != b))).all())


def _distance(found: Any, usual: Any) -> float:
    """RMS of the difference over the RMS of the second, where that is finite."""
    fine = abs(usual) < float("inf")
    found, usual = _wide(found)[fine], _wide(usual)[fine]
    scale = float((usual**2).mean()) ** 0.5 if usual.shape[0] else 0.0
    difference = float(((found - usual) ** 2).mean()) ** 0.5 if usual.shape[0] else 0.0
    return difference / scale if scale else difference


def _wide(array: Any) -> Any:
    return array if array.dtype.itemsize > 2 else array.float() if hasattr(array, "float") else array.astype("float32")
