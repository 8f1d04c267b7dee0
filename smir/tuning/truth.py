"""What a candidate's results are compared with: float64 on a small problem, within the budget of `verify`."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from smir.calls.array_kinds import NUMPY, to_numpy
from smir.calls.execution import find_backend
from smir.compilation import Compilation
from smir.ir.mixer import INPUT
from smir.ir.tile_program import OUTPUT, STEP
from smir.tuning.arguments import Shape, draw, placed
from smir.tuning.passes import passes
from smir.tuning.problem import Problem
from smir.verify import CANCELLED, ERASE_FACTOR, FLOAT32_BUDGET, FLOAT64_BUDGET, STEP_FACTOR, relative_rms, rms

Results = Mapping[str, Any]
# Beyond this multiple of the budget a result is wrong, whatever the rule's own options give.
GROSS = 4.0
# How much further off than the rule's options a candidate may be where those are outside of the budget themselves.
AS_GOOD = 1.25


@dataclass(frozen=True)
class Truth:
    """Arguments of a short call, all heads, with float64 results of the first few and the errors that they may have."""

    arrays: Results
    cotangent: Any
    values: Results
    allowed: Mapping[str, float]
    head_axis: Mapping[str, int]

    def excess(self, found: Results) -> dict[str, float]:
        """RMS errors of results as multiples of what is allowed; inf where a number is missing."""
        scale = max(map(rms, self.values.values())) * CANCELLED
        return {
            name: _error(_first(found[name], value, self.head_axis.get(name, 2)), value, scale) / self.allowed[name]
            for name, value in self.values.items()
        }


def _first(found: Any, like: Any, axis: int) -> Any:
    """The first heads of a result, as many as the truth has."""
    return _heads(to_numpy(found), axis, like.shape[axis])


def make_truth(done: Compilation, problem: Problem, tokens: int) -> Truth:
    """For a call of one row and this many tokens. Heads don't meet, so few of them do for the truth."""
    shape = replace(problem.shape, batch=1, tokens=min(tokens, problem.shape.tokens))
    few = max(1, shape.most_heads // min(shape.heads.values()))
    few = min(shape.most_heads, few if few > 1 else 2)
    exact = draw(done.spec, shape)
    cotangent = np.random.default_rng(1).standard_normal(_output_shape(done, shape))
    kinds = {d.name: d.kind == INPUT for d in done.spec.declarations}
    part = {n: _own_heads(a, kinds[n], shape, few) for n, a in exact.items()}
    wanted, few_d_y = frozenset(problem.wanted), cotangent[:, :, :few]
    rounded = {n: _rounded(a, problem.dtypes[n]) for n, a in part.items()}
    values = _reference(done, part, few_d_y, wanted, "float64")
    ideal = _reference(done, rounded, _rounded(few_d_y, problem.dtype), wanted, "float64")
    single = _reference(done, part, few_d_y, wanted, "float32")
    scale = max(map(rms, values.values())) * CANCELLED
    factor = (
        ERASE_FACTOR if done.operators is not None and any(o.erases for o in done.operators.operators) else STEP_FACTOR
    )
    allowed = {
        n: max(STEP_FACTOR * _error(_rounded(ideal[n], problem.dtype), v, scale),
               factor * _error(single[n], v, scale), FLOAT32_BUDGET)
        for n, v in values.items()
    }  # fmt: skip
    if problem.dtype == "float64":
        allowed = dict.fromkeys(values, FLOAT64_BUDGET)
    placed_on = problem.device, problem.kind
    return Truth(
        placed(exact, problem.dtypes, *placed_on),
        placed({OUTPUT: cotangent}, {OUTPUT: problem.dtype}, *placed_on)[OUTPUT],
        values,
        allowed,
        {f"d_{n}": 2 if kinds[n] else 0 for n in exact},
    )


def _reference(done: Compilation, arrays: Results, d_y: Any, wanted: frozenset[str], dtype: str) -> Results:
    """By the first form, token by token where there are step equations, else the sequence as one chunk."""
    form = next(f for f in done.forms if f in done.plans)
    backend, chunk = find_backend(NUMPY), 1 if form == STEP else int(d_y.shape[1])
    given = {n: a.astype(dtype) for n, a in arrays.items()}
    return passes(done, form, wanted).run(
        lambda side, plan, arrays: backend.prepare(plan, arrays, chunk), given, d_y.astype(dtype)
    )


def _output_shape(done: Compilation, shape: Shape) -> tuple[int, ...]:
    return (shape.batch, shape.tokens, shape.most_heads, *(d.size({**shape.sizes, "T": shape.tokens})
                                                          for d in done.spec.output_dims))  # fmt: skip


def _own_heads(array: Any, is_input: bool, shape: Shape, few: int) -> Any:
    """The part of an argument that belongs to the first few heads."""
    count = array.shape[2 if is_input else 0]
    return _heads(array, 2 if is_input else 0, few * count // shape.most_heads)


def _heads(array: Any, axis: int, few: int) -> Any:
    return array[:, :, :few] if axis == 2 else array[:few]


def _rounded(array: Any, dtype: str) -> Any:
    """In float64, with only the digits that the type has."""
    if dtype != "bfloat16":
        return array.astype(dtype).astype("float64")
    bits = np.ascontiguousarray(array, "float32").view("uint32")
    bits = (bits + 0x7FFF + ((bits >> 16) & 1)) & np.uint32(0xFFFF0000)
    return bits.view("float32").astype("float64")


def _error(found: Any, truth: Any, least: float) -> float:
    """RMS of the difference over that of the truth, where the truth is a number; inf where a number is missing."""
    error = relative_rms(np.asarray(found), truth, least)
    return error if np.isfinite(error) else float("inf")
