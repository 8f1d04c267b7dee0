"""Gradients where arithmetic is hard: exact resets, strong decays, zeros, correlated keys, ragged ends."""

from functools import cache

import numpy as np
import pytest

import smir
from smir.calls.binding import bind
from smir.ir.tile_program import CHUNKED, QUADRATIC, STEP
from smir.sampling import divisor_names, sample_states
from tests.golden.resets import vectors
from tests.golden.resets.make_vectors import GATES
from tests.gradients.adjoints import Arrays, Gradients, Point, library, random_cotangents, relative_errors, spec

WAYS = [(CHUNKED, 5), (CHUNKED, 16), (QUADRATIC, 64)]
each_way = pytest.mark.parametrize(("form", "chunk"), WAYS)
ROWS = ["retnet", "gla", "rwkv6", "mamba2_ssd", "gated_rfa", "gated_delta_rule", "kda", "rwkv7", "lion_s_norm"]
each_row = pytest.mark.parametrize("name", ROWS)
FLOAT64_BUDGET, FLOAT32_BUDGET, STEP_FACTOR, ERASE_FACTOR = 1e-9, 2e-6, 2.0, 5.0
KINDS = ("strong decays", "no decay", "zeros", "correlated keys", "one token", "two tokens")


def finite(gradients: Arrays) -> bool:
    return all(np.isfinite(a).all() for a in gradients.values())


def without_zero_gates(name: str, at: Point, gradients: Arrays) -> Arrays:
    """Chunks know decays by their logarithms: the gradient of a factor of zero is left out (zero there)."""
    zero = {gate: np.where(at.arrays[gate] == 0.0, 0.0, gradients[gate]) for gate in GATES[name]}
    return {**gradients, **zero}


@cache
def with_resets(name: str) -> tuple[Gradients, Point, Arrays]:
    """A row with exact resets at every kind of place, and the step form's gradients."""
    made, given = library(name), vectors.load(name)
    bound = bind(made.mixer, (), given.inputs, given.initial or None)
    at = random_cotangents(made.mixer, dict(bound.arrays), dict(bound.states), 0)
    return made, at, made(STEP, 1, at)


@pytest.mark.parametrize("name", vectors.names())
def test_the_step_form_is_finite_under_resets(name: str) -> None:
    assert finite(with_resets(name)[2])


@each_way
@pytest.mark.parametrize("name", vectors.names())
def test_every_form_is_exact_under_resets(name: str, form: str, chunk: int) -> None:
    made, at, expected = with_resets(name)
    found = made(form, chunk, at)
    assert finite(found)
    found, expected = without_zero_gates(name, at, found), without_zero_gates(name, at, expected)
    for gradient, error in relative_errors(found, expected).items():
        assert error <= FLOAT64_BUDGET, gradient


@each_way
@pytest.mark.parametrize("name", vectors.names())
def test_float32_is_never_nan_under_resets(name: str, form: str, chunk: int) -> None:
    made, at, _ = with_resets(name)
    assert finite(made(form, chunk, at.cast(np.float32)))


@each_way
@pytest.mark.parametrize("name", ["gla", "scalar_decay", "gated_delta_rule"])
def test_nothing_passes_a_reset_backward(name: str, form: str, chunk: int) -> None:
    """What comes after a reset has no gradient by what came before it, to the last bit."""
    made, token = library(name), 15
    arrays = smir.sample(made.mixer, 1, 37, 2)
    arrays[GATES[name][0]][:, token] = -np.inf
    at = random_cotangents(made.mixer, arrays, sample_states(made.mixer, 1, 2, seed=1), 2)
    at.dy[:, :token] = 0.0
    found = made(form, chunk, at)
    assert finite(found) and not found["state S"].any()
    for before in ("q", "k", "v"):
        assert not found[before][:, :token].any() and found[before][:, token:].any()


@cache
def hard(name: str, kind: str) -> tuple[Gradients, Point]:
    """A row at one kind of difficult place."""
    made = library(name)
    tokens = {"one token": 1, "two tokens": 2}.get(kind, 37)
    arrays = smir.sample(made.mixer, 2, tokens, 2, seed=3)
    rng = np.random.default_rng(4)
    for d in made.mixer.declarations:
        values, gate = arrays[d.name], d.name in GATES.get(name, ())
        if gate and kind in ("strong decays", "no decay") and d.range.lo == -np.inf:
            arrays[d.name] = np.full_like(values, -8.0 if kind == "strong decays" else 0.0)
        if kind == "zeros" and not gate and d.name not in divisor_names(made.mixer):
            arrays[d.name] = np.where(rng.random(values.shape[:2] + (1,) * (values.ndim - 2)) < 0.3, 0.0, values)
        if kind == "correlated keys" and d.name == "k":
            shared = values[:, :1] + 0.05 * values
            arrays[d.name] = shared / np.linalg.norm(shared, axis=-1, keepdims=True)
    return made, random_cotangents(made.mixer, arrays, sample_states(made.mixer, 2, 2, seed=5), 6)


@each_way
@pytest.mark.parametrize("kind", KINDS)
@each_row
def test_hard_places_agree_in_float64(name: str, kind: str, form: str, chunk: int) -> None:
    made, at = hard(name, kind)
    found = made(form, chunk, at)
    assert finite(found)
    for gradient, error in relative_errors(found, made(STEP, 1, at), 1e-6).items():
        assert error <= FLOAT64_BUDGET, gradient


@cache
def float32_errors(name: str, kind: str, form: str, chunk: int) -> dict[str, float]:
    made, at = hard(name, kind)
    # The arguments are rounded first: only the arithmetic is compared.
    near = at.cast(np.float32)
    found = made(form, chunk, near)
    assert finite(found) and all(a.dtype == np.float32 for a in found.values())
    return relative_errors(found, made(STEP, 1, near.cast(np.float64)), 1e-3)


@each_way
@pytest.mark.parametrize("kind", KINDS)
@each_row
def test_hard_places_keep_the_float32_budget(name: str, kind: str, form: str, chunk: int) -> None:
    factor = ERASE_FACTOR if library(name).erases else STEP_FACTOR
    step = float32_errors(name, kind, STEP, 1)
    for gradient, error in float32_errors(name, kind, form, chunk).items():
        assert error <= max(factor * step[gradient], FLOAT32_BUDGET), gradient


TAILS = ["u * (@)", "W.T @ (@)", "tanh(W.T @ (@)) * log(2 + z[t].T @ q[t])", "u ** (z[t].T @ q[t]) * (@)"]


@pytest.mark.parametrize("tokens", [1, 7, 8])
@pytest.mark.parametrize("tail", TAILS)
def test_parameters_after_a_quotient(tail: str, tokens: int) -> None:
    """Beyond the end of the sequence it is 0/0, and a parameter's gradient is a sum over all rows of a chunk."""
    made = spec(f"""mixer m; input q, k: K in (0, 4); input v: V; param u: V in (0, 2); param W: V, V
      state S: K, V; state z: K
      S[t] = 0.9 * S[t-1] + k[t] @ v[t].T
      z[t] = 0.9 * z[t-1] + k[t]
      y[t] = {tail.replace("@)", "(S[t].T @ q[t]) / (z[t].T @ q[t]))")} + W.T @ (v[t] * u)""")
    arrays = smir.sample(made.mixer, 2, tokens, 2, {"K": 3, "V": 2})
    at = random_cotangents(made.mixer, arrays, sample_states(made.mixer, 2, 2, {"K": 3, "V": 2}), 1)
    for form, chunk in ((CHUNKED, 4), (CHUNKED, 64), (QUADRATIC, 64)):
        assert max(relative_errors(made(form, chunk, at), made(STEP, 1, at)).values()) < FLOAT64_BUDGET


@each_way
@pytest.mark.parametrize("gate", ["keep[t]", "abs(keep[t])", "(1 - beta[t])"])
def test_a_factor_of_zero_has_no_gradient_in_chunks_and_spoils_no_other(gate: str, form: str, chunk: int) -> None:
    """Chunks know decays by their logarithms. The step form has the gradient."""
    made = spec(f"""mixer m; input q, k: K; input v: V; input keep, beta: scalar in [0, 1]; state S: K, V
      S[t] = {gate} * S[t-1] + k[t] @ v[t].T
      y[t] = S[t].T @ q[t]""")
    arrays = smir.sample(made.mixer, 2, 37, 2)
    arrays["keep"][:, ::5], arrays["beta"][:, ::5] = 0.0, 1.0
    at = random_cotangents(made.mixer, arrays, sample_states(made.mixer, 2, 2, seed=1), 2)
    found, expected = made(form, chunk, at), made(STEP, 1, at)
    assert finite(found)
    for name in {"keep", "beta"} & set(found):
        assert not found[name][:, ::5].any()
        assert expected[name][:, 5::5].any() or gate.startswith("abs")
        expected[name][:, ::5] = 0.0
    assert max(relative_errors(found, expected).values()) < FLOAT64_BUDGET
