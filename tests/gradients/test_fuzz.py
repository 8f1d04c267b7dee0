"""Gradients of random specs in all their forms: against slopes of the oracle, and against each other."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

import smir
from smir.ir.tile_program import CHUNKED, QUADRATIC, STEP
from smir.sampling import sample_states
from tests.fuzz.test_specs import Run, Spec, runs, specs, text
from tests.gradients.adjoints import (
    Arrays,
    Gradients,
    Point,
    loss,
    moved,
    random_cotangents,
    relative_errors,
    shapes,
    slope,
    spec,
)

SLOPE_BUDGET, FORM_BUDGET = 1e-6, 1e-9
# Gradients that cancel leave rounding errors of the terms they are made of; cotangents are of order one.
FLOOR = 1e-3
# Smaller ones where the first finds a kink or a strong curvature; the last still has ten digits.
STEPS = (1e-3, 1e-4, 1e-5)
# Recurrences with states inside of tanh and gates, which only the step form has, but for those whose states come in
# stages: what is non-linear in an earlier state is a coefficient of a later one.
STAGED = {"slots"}
NON_LINEAR = {
    "tanh": "input x: D; param W: D, D; state h: D; h[t] = tanh(W @ h[t-1] + x[t]); y[t] = h[t]",
    "gru": """input x, r, z: D; param U, R, Z: D, D; state h: D
      reset = sigmoid(r[t] + R @ h[t-1]); update = sigmoid(z[t] + Z @ h[t-1])
      h[t] = update * h[t-1] + (1 - update) * tanh(x[t] + U @ (reset * h[t-1]))
      y[t] = h[t]""",
    "lstm": """input x, f, i, o: D; param U, R: D, D; state c, h: D
      c[t] = sigmoid(f[t] + R @ h[t-1]) * c[t-1] + sigmoid(i[t]) * tanh(x[t] + U @ h[t-1])
      h[t] = sigmoid(o[t]) * tanh(c[t])
      y[t] = h[t]""",
    "backward": "input x: D; param w: D; state h: D; h[t] = sin(w * h[t+1]) + x[t]; y[t] = h[t] * x[t]",
    "both ways": """input x: D; param w: D; state f, b: D
      f[t] = tanh(w * f[t-1] + x[t]); b[t] = tanh(f[t] - w * b[t+1]); y[t] = f[t] * b[t]""",
    "matrix": """input q, k: K; input v: V; param eta: scalar in (0, 1); state S: K, V
      error = tanh(S[t-1].T @ k[t]) - v[t]
      S[t] = S[t-1] - eta * k[t] @ error.T
      y[t] = S[t].T @ q[t]""",
    "slots": """input q, k: K; input v: V; input s: M; state l: M = -inf; state A: K, M; state B: M, V
      l[t] = logaddexp(l[t-1], s[t])
      c = exp(l[t-1] - l[t]); e = exp(s[t] - l[t])
      A[t] = A[t-1] * c.T + k[t] @ e.T
      B[t] = c * B[t-1] + e @ v[t].T
      y[t] = B[t].T @ softmax(A[t].T @ q[t])""",
}  # fmt: skip


def check_slopes(made: Gradients, at: Point, found: Arrays, seed: int) -> None:
    """Each gradient, contracted with a random direction, is the slope of the oracle's loss along it."""
    rng = np.random.default_rng(seed)
    assert set(found) <= set(shapes(at))
    size = FLOOR * (1 + abs(loss(made.mixer, at)))
    for name, shape in shapes(at).items():
        # What has no influence has no gradient.
        gradient = found.get(name, np.zeros(shape))
        assert gradient.shape == shape, name
        direction = rng.normal(size=shape)
        direction /= max(1.0, np.linalg.norm(direction) / 3)
        got = float(np.sum(gradient * direction))
        errors = []
        for step in STEPS:

            def along(x: float, name: str = name, direction: np.ndarray = direction) -> float:
                return loss(made.mixer, moved(at, name, direction, x))

            expected = slope(along, step)
            errors.append(abs(got - expected) / (np.linalg.norm(gradient * direction) + abs(expected) + size))
            if errors[-1] <= SLOPE_BUDGET:
                break
        assert min(errors) <= SLOPE_BUDGET, f"{name} is off by {min(errors):.1e}"


def check_forms(made: Gradients, at: Point, expected: Arrays, chunk: int) -> None:
    """All forms' gradients are those of the step form."""
    for form in made.forms[1:]:
        for name, error in relative_errors(made(form, chunk, at), expected, FLOOR).items():
            assert error <= FORM_BUDGET, f"{form} form: {name} is off by {error:.1e}"


def point(made: Gradients, rows: str, cols: str, run: Run) -> Point:
    sizes = dict(zip((rows, cols), run.sizes, strict=True))
    arrays = smir.sample(made.mixer, run.batch, run.tokens, run.heads, sizes, run.seed)
    states = sample_states(made.mixer, run.batch, run.heads, sizes, run.seed + 1)
    return random_cotangents(made.mixer, arrays, states, run.seed + 2)


def check(random_spec: Spec, calls: list[Run]) -> None:
    source = text(random_spec)
    note(source)
    made = spec(source)
    for number, run in enumerate(calls):
        at = point(made, random_spec.rows, random_spec.cols, run)
        found = made(STEP, 1, at)
        check_forms(made, at, found, run.chunk)
        if number == 0:
            small = replace(run, tokens=min(run.tokens, 5), batch=1)
            near = point(made, random_spec.rows, random_spec.cols, small)
            check_slopes(made, near, made(STEP, 1, near), run.seed)


@settings(max_examples=12, suppress_health_check=[HealthCheck.too_slow])
@given(specs(), st.lists(runs, min_size=1, max_size=2))
def test_gradients_of_a_random_spec(random_spec: Spec, calls: list[Run]) -> None:
    check(random_spec, calls)


@pytest.mark.full
@settings(max_examples=600, suppress_health_check=[HealthCheck.too_slow])
@given(specs(), st.lists(runs, min_size=2, max_size=4))
def test_gradients_of_many_random_specs(random_spec: Spec, calls: list[Run]) -> None:
    check(random_spec, calls)


@pytest.mark.parametrize("tokens", [1, 6])
@pytest.mark.parametrize("name", NON_LINEAR)
def test_gradients_of_recurrences_that_are_not_linear(name: str, tokens: int) -> None:
    made = spec(f"mixer m; {NON_LINEAR[name]}")
    assert made.forms == ((STEP, CHUNKED, QUADRATIC) if name in STAGED else (STEP,))
    sizes = {n: 2 + i for i, n in enumerate(sorted({d for s in made.mixer.states for x in s.dims for d in x.names}))}
    arrays = smir.sample(made.mixer, 2, tokens, 2, sizes)
    states = sample_states(made.mixer, 2, 2, sizes, 1)
    at = random_cotangents(made.mixer, arrays, states, 2)
    found = made(STEP, 1, at)
    check_slopes(made, at, found, 3)
    check_forms(made, at, found, 4)
    by_tiles = made(STEP, 1, at, by_tiles=True)
    assert max(relative_errors(by_tiles, found).values()) < 1e-13
