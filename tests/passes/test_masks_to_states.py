"""Masked operators as step equations: equal to the oracle's dense T x T product."""

import time

import numpy as np
import pytest

from smir.backends.numpy_reference.mixer_interpreter import run_mixer
from smir.frontends import parse_mixer
from smir.ir.mixer import Mixer
from smir.ir.operator import BEFORE, DECAYED
from smir.library import load
from smir.passes.masks.masks_to_states import masks_to_states
from smir.source import Source
from tests.passes.oracle_checks import PRELUDE, assert_equals_oracle, mixer_of, obstacles, random_arrays, recognised

APPLY = "\ny = (M * (q @ k.T)) @ v\n"
LINE = PRELUDE.count("\n")


def formula(entry: str) -> str:
    """A body whose mask has that entry."""
    return f"M[i, j] = {entry}{APPLY}"


# Body, and the kinds of the operators that it becomes.
MASKED = [
    ("y = (causal * (q @ k.T)) @ v\n", ["identity"]),
    ("y = (q @ k.T) @ v\n", ["identity", "identity"]),
    ("y = q @ (k.T @ v)\n", ["identity", "identity"]),
    ("y = (full * (q @ k.T)) @ v\n", ["identity", "identity"]),
    ("y = (decay(gamma) * (q @ k.T)) @ v\n", ["scalar"]),
    ("y = (selective(lam) * (q @ k.T)) @ v\n", ["scalar"]),
    ("y = (lion(exp(g)) * (q @ k.T)) @ v\n", ["scalar", "scalar"]),
    ("y = (lion(gamma) * (q @ k.T)) @ v\n", ["scalar", "scalar"]),
    ("y = ((causal + decay(gamma)) * (q @ k.T)) @ v\n", ["identity", "scalar"]),
    ("y = (selective(lam) * decay(gamma) * (q @ k.T)) @ v\n", ["scalar"]),
    ("y = normalize(selective(exp(g)) * ((elu(q)+1) @ (elu(k)+1).T)) @ v\n", ["scalar", "scalar"]),
    ("A = causal * ((elu(q)+1) @ (elu(k)+1).T)\ny = (A @ v) / (A @ ones(T))\n", ["identity", "identity"]),
    ("y = (causal * (q @ k.T) * sigmoid(w) * exp(lam).T) @ v\n", ["identity"]),
    ("param W: K, K\ny = (causal * ((q @ W) @ (k * u.T).T)) @ v\n", ["identity"]),
    ("y = (causal * (q @ k.T)) @ v + cumsum(v) * sigmoid(v)\n", ["identity", "identity"]),
    ("y = v / (1 + sum(lam, T))\n", ["identity", "identity"]),
    ("y = v * (ones(T).T @ k @ ones(K))\n", ["identity", "identity"]),
    (formula("where(j <= i, exp(-s*(i-j)), 0)"), ["scalar"]),
    (formula("where(j <= i, exp(sum(m, j+1, i, g[m])), 0)"), ["scalar"]),
    (formula("where(j <= i, exp(sum(m, 1, i, g[m]) - sum(m, 1, j, g[m])), 0)"), ["scalar"]),
    (formula("exp(sum(m, j+1, i, g[m]) + sum(m, i+1, j, g[m]))"), ["scalar", "scalar"]),
    (formula("gamma**abs(i-j)"), ["scalar", "scalar"]),
    (formula("where(j < i, prod(m, j+1, i, lam[m]), 0)"), ["scalar"]),
    (formula("where(j < i, prod(m, j+1, i-1, lam[m]), 0)"), ["scalar"]),
    (formula("where(j <= i, prod(m, j, i, lam[m]), 0)"), ["scalar"]),
    (formula("where(i <= j, prod(m, i, j-1, lam[m]), 0)"), ["scalar"]),
    (formula("where(i < j, prod(m, i+1, j-1, lam[m]), 0)"), ["scalar"]),
    (formula("where(j < i, prod(m, j, i-1, lam[m]), where(i < j, prod(m, i+1, j, lam[m]), 1))"), ["scalar", "scalar"]),
    (formula("where(j < i, prod(m, j+1, i, lam[m]), where(i == j, 2*w[i], 0))"), ["scalar"]),
    (formula("where(j <= i - 3, prod(m, j+1, i, lam[m]), 0)"), ["scalar"]),
    (formula("where(j >= i + 2, gamma**(j-i), 0)"), ["scalar"]),
    (formula("where(j <= i, prod(m, j+1, i, exp(g[m]*s)) * w[i] / (2 + w[j]**2), 0)"), ["scalar"]),
    (formula("where(j <= i, prod(m, j+1, i, lam[m]) * gamma**(i-j) * exp(-s*(i-j)), 0)"), ["scalar"]),
    (formula("where(j <= i, (w[i] - w[j])**2, 0)"), ["identity"] * 3),
    (formula("where(j <= i, exp(-s*min(i-j, 3)), 0)"), ["identity"]),
    (formula("where(j <= i, exp(sum(m, max(j+1, i-3), i, g[m])), 0)"), ["identity"]),
    ("M[i, j] = where(j <= i, (1 + q[i].T @ k[j]) * gamma**(i-j), 0)\ny = M @ v\n", ["scalar", "scalar"]),
    ("M[i, j] = where(j <= i, (1 - lam[j]) * prod(m, j+1, i, lam[m]), 0)\ny = M @ v\n", ["scalar"]),
    ("M[i, j] = where(j <= i, sum(q[i] * u * k[j] * lam[i], K) * gamma**(i-j), 0)\ny = M @ v\n", ["scalar"]),
    ("M[i, j] = where(j <= i, q[i], 0 * u).T @ k[j]\ny = M @ v\n", ["identity"]),
    # Bounded distances need no state, except a count where a missing input would not give zero.
    ("y = (window(4) * (q @ k.T)) @ v\n", []),
    ("y = (window(64) * (q @ k.T)) @ v\n", []),
    ("y = (window(5) * decay(gamma) * (q @ k.T)) @ v\n", []),
    ("y = (window(5) * selective(lam) * (q @ k.T)) @ v\n", []),
    ("y = normalize(window(3) * exp(q @ k.T)) @ v\n", ["identity"]),
    (formula("where(abs(i-j) <= 2, exp(-s*abs(i-j)), 0)"), []),
    ("y = (window(5) * selective(lam) / (1 + (q @ k.T)**2)) @ v\n", []),
    ("M[i, j] = exp(where(j <= i, -s*(i-j), -inf))\ny = (M * (q @ k.T)) @ v\n", ["scalar"]),
    ("M[i, j] = where(j < j, w[i], 0)\ny = (M * (q @ k.T)) @ v\n", []),
]


@pytest.mark.parametrize(("body", "kinds"), MASKED)
def test_masked_operator(body: str, kinds: list[str]) -> None:
    mixer = mixer_of(body)
    steps = masks_to_states(mixer)
    assert isinstance(steps, Mixer)
    assert not steps.masked
    arrays = random_arrays(mixer, tokens=9)
    y, _ = run_mixer(mixer, arrays)
    by_steps, _ = run_mixer(steps, arrays)
    np.testing.assert_allclose(by_steps / (1 + np.abs(y).max()), y / (1 + np.abs(y).max()), rtol=0, atol=1e-12)
    program = recognised(mixer)
    assert sorted(o.kind for o in program.operators) == sorted(kinds)
    assert_equals_oracle(steps, program)


@pytest.mark.parametrize("tokens", [1, 2, 3])
@pytest.mark.parametrize("body", [b for b, _ in MASKED][::4])
def test_short_sequences(body: str, tokens: int) -> None:
    mixer = mixer_of(body)
    arrays = random_arrays(mixer, tokens)
    y, _ = run_mixer(mixer, arrays)
    steps = masks_to_states(mixer)
    assert isinstance(steps, Mixer)
    np.testing.assert_allclose(run_mixer(steps, arrays)[0], y, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("body", ["y = (selective(exp(g)) * (q @ k.T)) @ v\n", "y = (lion(exp(g)) * (q @ k.T)) @ v\n"])
def test_exact_resets(body: str) -> None:
    mixer = mixer_of(body)
    steps = masks_to_states(mixer)
    assert isinstance(steps, Mixer)
    arrays = random_arrays(mixer, resets=True)
    np.testing.assert_allclose(run_mixer(steps, arrays)[0], run_mixer(mixer, arrays)[0], rtol=1e-10, atol=1e-12)
    assert_equals_oracle(steps, recognised(mixer), resets=True)


def test_missing_inputs_that_would_divide_by_zero_are_left_out() -> None:
    mixer = mixer_of("y = (window(3) / (q @ k.T)) @ v\n")
    steps = masks_to_states(mixer)
    assert isinstance(steps, Mixer)
    assert [s.name for s in steps.states] == ["count"]
    arrays = random_arrays(mixer)
    np.testing.assert_allclose(run_mixer(steps, arrays)[0], run_mixer(mixer, arrays)[0], rtol=1e-9)


def test_upper_part_is_read_without_the_diagonal() -> None:
    decayed = recognised(mixer_of("y = (lion(exp(g)) * (q @ k.T)) @ v\n")).reads
    plain = recognised(mixer_of("y = (q @ k.T) @ v\n")).reads
    assert DECAYED in [r.when for r in decayed]
    assert BEFORE in [r.when for r in plain]


def test_new_states_never_take_a_declared_name() -> None:
    mixer = parse_mixer(
        Source("spec", "mixer m\ninput q, S: K\ninput B: V\nparam z: scalar\ny = z * ((q @ S.T) @ B)\n")
    )
    steps = masks_to_states(mixer)
    assert isinstance(steps, Mixer)
    names = [s.name for s in steps.states] + [d.name for d in steps.declarations]
    assert len(set(names)) == len(names)


BROKEN = [
    ("y = softmax(q @ k.T, causal) @ v\n", "softmax over positions does not factor", 1),
    ("y = (causal * exp(q @ k.T)) @ v\n", "does not factor into functions of i and of j: exp(q[i].T @ k[j])", 1),
    ("y = (causal * (q @ k.T)**2) @ v\n", "does not factor", 1),
    ("y = (window(100) * (q @ k.T)) @ v\n", "a window of 100 positions (at most 64", 1),
    (formula("where(j <= 3, 1, 0)"), "no comparison of i - j with a number: j <= 3", 1),
    (formula("where(w[i] == w[j], 1, 0)"), "no comparison of i - j with a number", 1),
    (formula("where(j <= i, 1/(1+i-j), 0)"), "does not factor", 2),
    (formula("where(j <= i, sum(m, j+1, i, g[m]), 0)"), "does not factor", 2),
    (formula("where(j <= i, exp(-s*i), 0)"), "a position outside a difference", 2),
    (formula("where(j <= i, prod(m, j+1, i+1, lam[m]), 0)"), "may leave the sequence", 2),
    (formula("where(j <= i, prod(m, j+1, i+1, gamma), 0)"), "may leave the sequence", 2),
    (formula("where(j <= i, prod(m, i+1, i+1, lam[m]), 0)"), "may leave the sequence", 2),
    ("y = (selective(lam) / decay(gamma) * (k @ k.T)) @ v\n", "an entry that is no number", 1),
    ("param b: T, T\ny = exp(b) @ v\n", "without an index formula", 2),
]


@pytest.mark.parametrize(("body", "fragment", "line"), BROKEN)
def test_obstacles(body: str, fragment: str, line: int) -> None:
    (found,) = obstacles(mixer_of(body))
    assert fragment in str(found)
    assert found.span is not None
    assert found.span.line == LINE + line


def test_ranges_may_leave_the_sequence_where_missing_inputs_are_neutral() -> None:
    mixer = mixer_of(formula("where(j <= i, exp(sum(m, j+1, i+1, g[m])), 0)"))
    assert_equals_oracle(mixer, recognised(mixer))


def test_recognition_is_fast_once_warm() -> None:
    mixer = parse_mixer(load("lion_s_repo_norm"))
    recognised(mixer)
    started = time.process_time()
    recognised(mixer)
    assert time.process_time() - started < 0.15
