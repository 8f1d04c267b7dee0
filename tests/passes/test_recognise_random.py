"""Random spellings of random linear mixers: recognised, and equal to the oracle."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smir.backends.numpy_reference.mixer_interpreter import run_mixer
from smir.ir.mixer import Mixer
from smir.ir.verifier import verify
from smir.passes.masks.masks_to_states import masks_to_states
from tests.passes.oracle_checks import assert_equals_oracle, mixer_of, random_arrays, recognised

SCALARS = [
    "exp(g[T])",
    "lam[T]",
    "gamma",
    "sigmoid(w[T])",
    "w[T]",
    "0.5",
    "(1 - beta[T])",
    "where(lam[T] < 0.3, 0, gamma)",
]
COLUMNS = ["exp(gk[T])", "sigmoid(u)", "(1 - exp(gk[T]))", "u"]
ROWS = ["exp(gv[T]).T", "sigmoid(v[T]).T"]
KEYS = [
    "k[t]",
    "k2[t]",
    "q[t]",
    "(k[t] * u)",
    "(1 - exp(gk[t]))",
    "l2norm(k[t])",
    "(k[t] - k[t-1])",
    "(beta[t] * k2[t])",
]
VALUES = ["v[t]", "(beta[t] * v[t])", "tanh(v[t])", "exp(gv[t])", "(v[t] / (2 + w[t]**2))"]
OUTSIDE = ["{}", "tanh({})", "{} * sigmoid(v[t]) + v[t]", "{} / (1 + abs(k[t].T @ q[t]))", "rmsnorm({})", "-{} - {}"]

scalars, columns, rows = st.sampled_from(SCALARS), st.sampled_from(COLUMNS), st.sampled_from(ROWS)
keys, values = st.sampled_from(KEYS), st.sampled_from(VALUES)


@st.composite
def decayed(draw: st.DrawFn, previous: str) -> str:
    """The previous state under some decays, in some order and notation."""
    text = previous
    for kind in draw(st.lists(st.sampled_from("scrd"), max_size=3)):
        if kind == "s":
            s = draw(scalars)
            text = draw(st.sampled_from([f"{s} * {text}", f"({text}) * {s}", f"(({text}).T * {s}).T"]))
        elif kind == "c":
            c = draw(columns)
            text = draw(st.sampled_from([f"{c} * ({text})", f"diag({c}) @ ({text})", f"(({text}).T @ diag({c})).T"]))
        elif kind == "d":
            text = f"({text}) / (1 + lam[T])"
        else:
            text = f"({text}) * {draw(rows)}"
        text = f"({text})"
    return text


@st.composite
def erased(draw: st.DrawFn, state: str) -> str:
    """The change by one low-rank term of `state`."""
    left, a = draw(keys), draw(keys)
    size = draw(st.sampled_from(["0.1", "beta[t]", "-0.2 * lam[t]"]))
    return draw(
        st.sampled_from(
            [
                f"{left} @ ({size} * ({state}.T @ {a})).T",
                f"({size} * {left} @ {a}.T) @ {state}",
                f"({left} * {size}) @ ({a}.T @ {state})",
                f"{left} @ ({size} * ({draw(values)} - {state}.T @ {a})).T",
            ]
        )
    )


@st.composite
def bodies(draw: st.DrawFn) -> str:
    """A mixer with one matrix state: decay, up to two writes, up to two erases in one or two micro-steps, two reads."""
    ahead = draw(st.booleans())
    at = "t+1" if ahead and draw(st.booleans()) else "t"
    previous = "S[t+1]" if ahead else "S[t-1]"
    lines = ["state S: K, V", f"R = {draw(decayed(previous))}".replace("[T]", f"[{at}]")]
    source = draw(st.sampled_from(["R", previous]))
    erase = [draw(erased(source)) for _ in range(draw(st.integers(0, 2)))]
    write = [f"{draw(keys)} @ {draw(values)}.T" for _ in range(draw(st.integers(0, 2)))]
    lines.append("P = " + " + ".join(["R", *erase, *write]))
    lines.append("S[t] = P" + (f" - {draw(erased('P'))}" if draw(st.booleans()) else ""))
    state = draw(st.sampled_from(["S[t]", previous, "R", "P", f"(S[t] + {previous})", "(S[t] - k[t] @ v[t].T)"]))
    read = draw(st.sampled_from(["(%s.T @ %s)", "(%s.T @ (2 * %s))"])) % (state, draw(keys))
    lines.append("y[t] = " + draw(st.sampled_from(OUTSIDE)).format(read, f"(S[t].T @ {draw(keys)})"))
    return "\n".join(lines) + "\n"


@settings(max_examples=60)
@given(bodies())
def test_random_linear_mixer(body: str) -> None:
    check_recurrence(body)


@pytest.mark.full
@settings(max_examples=600)
@given(bodies())
def test_many_random_linear_mixers(body: str) -> None:
    check_recurrence(body)


def check_recurrence(body: str) -> None:
    mixer = mixer_of(body)
    program = recognised(mixer)
    verify(program)
    assert_equals_oracle(mixer, program, tokens=5)


@st.composite
def masks(draw: st.DrawFn) -> str:
    """A mask as a product of named ones and formulas."""
    parts = ["causal", "decay(gamma)", "selective(lam)", "lion(exp(g))", "lion(gamma)", "window(3)", "full", "M", "N"]
    return " * ".join(draw(st.lists(st.sampled_from(parts), min_size=1, max_size=3, unique=True)))


@st.composite
def masked(draw: st.DrawFn) -> str:
    """A masked operator: random index formula, mask product, feature maps, normaliser and post-processing."""
    low, high = draw(st.sampled_from([("j+1", "i"), ("j", "i-1"), ("j+1", "i-1"), ("j", "i")]))
    body = draw(st.sampled_from(["lam[m]", "exp(g[m])", "gamma"]))
    strict = draw(st.sampled_from(["j < i", "j + 1 < i", "j <= i - 3"]))
    entry = (
        f"where({strict}, prod(m, {low}, {high}, {body}) * {draw(st.sampled_from(['1', 'w[i]', 'w[j]', 's']))}, 1 - s)"
    )
    other = draw(st.sampled_from(["gamma**abs(i-j)", "where(i <= j, exp(-s*(j-i)), w[j])", "exp(w[i] - w[j])"]))
    q, k = draw(st.sampled_from([("q", "k"), ("exp(q)", "exp(k)"), ("(elu(q) + 1)", "sigmoid(k)")]))
    kernel = f"{draw(masks())} * ({q} @ {k}.T)"
    output = draw(
        st.sampled_from(["A @ v", "A @ v + v", "tanh(A @ v) * sigmoid(w)", "(A @ v) / (1 + abs(A @ ones(T)))"])
    )
    return f"M[i, j] = {entry}\nN[i, j] = {other}\nA = {kernel}\ny = {output}\n"


@settings(max_examples=40)
@given(masked(), st.sampled_from([1, 4, 7]))
def test_random_masked_operator(body: str, tokens: int) -> None:
    check_masked(body, tokens)


@pytest.mark.full
@settings(max_examples=300)
@given(masked(), st.sampled_from([1, 4, 7]))
def test_many_random_masked_operators(body: str, tokens: int) -> None:
    check_masked(body, tokens)


def check_masked(body: str, tokens: int) -> None:
    mixer = mixer_of(body)
    steps = masks_to_states(mixer)
    assert isinstance(steps, Mixer)
    verify(steps)
    arrays = random_arrays(mixer, tokens)
    y, _ = run_mixer(mixer, arrays)
    np.testing.assert_allclose(run_mixer(steps, arrays)[0], y, rtol=1e-9, atol=1e-9)
    assert_equals_oracle(steps, recognised(mixer), tokens)
