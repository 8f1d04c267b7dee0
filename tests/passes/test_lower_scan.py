"""The scan form: what it can express, that every value and gradient is the step form's, and why some mixers lack it."""

from functools import cache
from typing import Any

import numpy as np
import pytest

import smir
from smir.backends.numpy_reference.emit import emit_numpy
from smir.backends.numpy_reference.mixer_interpreter import run_mixer
from smir.backends.numpy_reference.plan_interpreter import run_plan
from smir.backends.numpy_reference.tile_interpreter import run_tile
from smir.derivatives import training_plan
from smir.ir.kernel import GRID, PER_CHUNK
from smir.ir.tile_program import SCAN, STEP
from smir.sampling import sample, sample_states
from smir.source import Source
from tests.gradients.adjoints import Gradients, Point, relative_errors

T = 11
SPECS = {
    "a function of the state": """
  input x: D;  input g: D in [0, 1]
  state h: D
  h[t] = g[t] * h[t-1] + x[t]
  y[t] = tanh(h[t]) * h[t-1] + sum(h[t], D)""",
    "older values": """
  input x: D;  param p: D in [-1, 1]
  state h: D = 0.5
  h[t] = p * h[t-1] + x[t] * x[t-1]
  y[t] = h[t] - 2 * h[t-1] + h[t-2] * h[t-3]""",
    "backward": """
  input x: D;  input g: D in [0, 1]
  state h: D
  h[t] = g[t+1] * h[t+1] + x[t]
  y[t] = h[t] * h[t+1] + h[t+2]""",
    "both directions": """
  input x: D;  input g: D in [0, 1]
  state f, b: D
  f[t] = g[t] * f[t-1] + x[t]
  b[t] = g[t] * b[t+1] + f[t]
  y[t] = sigmoid(f[t]) * b[t]""",
    "states of states": """
  input x: D;  input a: scalar in [0, 1]
  state m: scalar = -inf
  state h, l: D
  m[t] = max(m[t-1] - a[t], sum(x[t], D))
  h[t] = exp(m[t-1] - m[t]) * h[t-1] + x[t]
  l[t] = logaddexp(l[t-1] - a[t], h[t])
  y[t] = h[t] + l[t] * m[t]""",
    "matrices": """
  input g: K, V in [0, 1];  input q, k: K;  input v: V;  param W: K, V
  state S: K, V
  S[t] = g[t] * S[t-1] + k[t] @ v[t].T - W * a
  y[t] = S[t].T @ q[t] + sum(tanh(S[t-1]), K).T
  a = 0.1""",
    "matrices the other way round": """
  input g: V, K in [0, 1];  input q, k: K;  input v: V
  state S: V, K
  S[t] = g[t] * S[t-1] + (k[t] @ v[t].T).T
  y[t] = S[t] @ q[t] + (v[t].T @ S[t]).T.T @ q[t] * v[t]""",
    "a matrix as the output": """
  input g: K, V in [0, 1];  input k: K;  input v: V
  state S: K, V
  S[t] = g[t] * S[t-1] + k[t] @ v[t].T
  y[t] = tanh(S[t])""",
    "a diagonal matrix": """
  input x: D;  input g: D in [0, 1]
  state h: D
  h[t] = diag(g[t]) @ h[t-1] / 2 + where(x[t] < 0, h[t-1], x[t])
  y[t] = h[t]""",
    "a pair": """
  input x: D;  input th: D
  param r: D in [0, 1]
  state a, b: D
  a[t] = r * cos(th[t]) * a[t-1] + r * sin(th[t]) * b[t-1] + x[t]
  b[t] = r * cos(th[t]) * b[t-1] - r * sin(th[t]) * a[t-1]
  y[t] = a[t] * b[t-1]""",
}


@cache
def gradients(name: str) -> Gradients:
    return Gradients(Source(name, f"mixer some\n{SPECS[name]}\n"))


def point(made: Gradients) -> Point:
    rng = np.random.default_rng(1)
    arrays = sample(made.mixer, 2, T, 1, {}, seed=2)
    states = sample_states(made.mixer, 2, 1, {}, seed=3)
    dy = rng.normal(size=run_mixer(made.mixer, arrays, states)[0].shape)
    return Point(arrays, states, dy, {n: rng.normal(size=s.shape) for n, s in states.items()})


@pytest.mark.parametrize("chunk", [1, 4, 16])
@pytest.mark.parametrize("name", SPECS)
def test_values_are_the_oracles(name: str, chunk: int) -> None:
    made = gradients(name)
    at = point(made)
    y, final = run_mixer(made.mixer, at.arrays, at.states)
    for run, ir in ((run_tile, made.done.tiles), (run_plan, made.done.plans)):
        found, last = run(ir[SCAN], at.arrays, at.states, chunk=chunk)
        np.testing.assert_allclose(found, y, rtol=1e-11, atol=1e-11)
        assert set(last) == set(final)
        for state, value in final.items():
            np.testing.assert_allclose(last[state], value, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("name", SPECS)
def test_the_printed_program_agrees(name: str) -> None:
    made = gradients(name)
    at = point(made)
    y, final = run_mixer(made.mixer, at.arrays, at.states)
    scope: dict[str, Any] = {}
    exec(emit_numpy(made.done.plans[SCAN], chunk=4), scope)
    found, last = scope["run"](**at.arrays, state=at.states)
    np.testing.assert_allclose(found, y, rtol=1e-11, atol=1e-11)
    for state, value in final.items():
        np.testing.assert_allclose(last[state], value, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("by_tiles", [False, True])
@pytest.mark.parametrize("name", SPECS)
def test_gradients_are_those_of_the_step_form(name: str, by_tiles: bool) -> None:
    made = gradients(name)
    at = point(made)
    expected = made(STEP, 1, at)
    assert set(expected) >= {d.name for d in made.mixer.declarations}
    for chunk in (4, 16):
        errors = relative_errors(made(SCAN, chunk, at, by_tiles=by_tiles), expected)
        assert max(errors.values()) < 1e-10, errors


def test_states_cross_memory_once_a_chunk() -> None:
    """Never token by token: factor and summand of each chunk, and the state before it, which a backward pass keeps."""
    done = smir.compile("mamba1").compilation
    forward = done.plans[SCAN]
    assert [k.sequential for k in forward.kernels] == [False, True, False]
    assert all(k.role("D") == GRID for k in forward.kernels)
    assert {(b.rows, b.cols, b.extent) for b in forward.buffers} == {("1", "D.N", PER_CHUNK)}
    plan = training_plan(done, SCAN, frozenset({"u", "delta", "A", "B", "C", "D", "x"}))
    assert [(b.name, b.rows, b.cols) for b in plan.forward.saved] == [("x_before", "1", "D.N")]
    assert all(k.role("D") == GRID for k in plan.backward.kernels)
    stores = [s for k in plan.backward.kernels for s in k.stores]
    assert {s.target for s in stores if s.summed == "D"} == {"d_B", "d_C"}


def test_a_reset_forgets_exactly() -> None:
    """A decay of exactly zero: nothing before it has an influence, and its own gradient is that of the step form."""
    made = Gradients(Source("reset", "mixer some\n" + SPECS["a function of the state"] + "\n"))
    at = point(made)
    at.arrays["g"][:, 5] = 0.0
    at.dy[:, :6] = 0.0
    found, expected = made(SCAN, 4, at), made(STEP, 1, at)
    assert (found["x"][:, :5] == 0).all() and (found["state h"] == 0).all()
    np.testing.assert_allclose(found["g"][:, 5], expected["g"][:, 5], rtol=1e-12)
    assert np.abs(found["g"][:, 5]).min() > 0


OBSTACLES = {
    "contracted": ("gla", "scan carries every state by value; `S` is contracted by its reads: chunked"),
    "nonlinear": (
        "mixer m\n  input x: D\n  state h: D\n  h[t] = tanh(h[t-1]) + x[t]\n  y[t] = h[t]\n",
        "not linear in h: tanh(h[t-1]): scan carries every state by value at line 4",
    ),
    "coupled": (
        "mixer m\n  input x: D\n  param p: D\n  state a, b: D\n"
        "  a[t] = p * b[t-1] + x[t]\n  b[t] = p * a[t-1]\n  y[t] = a[t]\n",
        "states `a` and `b` need each other: p * b[t-1] + x[t]: scan carries every state by value at line 5",
    ),
    "three": (
        "mixer m\n  input x: D\n  state a, b, c: D\n"
        "  a[t] = b[t-1]\n  b[t] = c[t-1]\n  c[t] = a[t-1] + x[t]\n  y[t] = a[t]\n",
        "states `a`, `b`, `c` need each other: scan carries every state by value at line 3",
    ),
}


@pytest.mark.parametrize("name", OBSTACLES)
def test_explain_says_why_there_is_no_scan_form(name: str) -> None:
    spec, why = OBSTACLES[name]
    mixer = smir.compile(spec)
    assert SCAN not in mixer.forms
    assert [str(o) for o in mixer.compilation.obstacles[SCAN]] == [why]
    assert f"no scan form: {why}" in str(mixer.explain())


def test_a_scan_rules_products_of_chunks_out() -> None:
    assert "no chunked form: every state is used by value, none is contracted: scan" in str(
        smir.compile("hgrn").explain()
    )
