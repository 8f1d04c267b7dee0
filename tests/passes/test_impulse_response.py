"""The convolution form: which mixers have it, what it is made of, and that it gives what the oracle gives."""

import numpy as np
import pytest

import smir
from smir.backends.numpy_reference.mixer_interpreter import run_mixer
from smir.ir.convolution import CONVOLUTION

TWO_LEVELS = """mixer two_levels
  input q, k, v: D
  param a, b: D
  state s, w: D
  s[t] = 0.9 * a * s[t-1] + k[t]
  w[t] = b * w[t-1] + 0.3 * s[t-1] + v[t-1] * k[t]
  y[t] = q[t] * (2 * w[t] - s[t-1])"""
SCALAR = """mixer one_driver
  input u: scalar
  input v: D
  param a: D in [0, 1]
  state h: D
  h[t] = a * h[t-1] + u[t]
  y[t] = h[t] * v[t] + tanh(h[t-1])"""
ROTATING = """mixer rotating
  input u: D
  param W: N, N
  param B, C: N
  state x: N
  x[t] = W @ x[t-1] + B * sum(u[t], D)
  y[t] = (C.T @ x[t]) * u[t]"""


def mixer(body: str) -> str:
    return f"mixer m\n  input u, g: D\n  param a: D\n  state h: D\n{body}"


@pytest.mark.parametrize("spec", [TWO_LEVELS, SCALAR, ROTATING], ids=["two levels", "scalar", "dense transition"])
@pytest.mark.parametrize("with_states", [False, True])
def test_convolutions_give_what_the_oracle_gives(spec: str, with_states: bool) -> None:
    compiled = smir.compile(spec, form=CONVOLUTION)
    sizes = {"D": 5, "N": 3} if "N" in spec else {"D": 5}
    arrays = {n: 0.4 * a.astype(np.float64) for n, a in smir.sample(compiled.spec, B=2, T=19, H=2, sizes=sizes).items()}
    rng = np.random.default_rng(3)
    states = {s.name: rng.standard_normal((2, 2, *(d.size(sizes) for d in s.dims))) for s in compiled.spec.states}
    given = states if with_states else {}
    expected, final = run_mixer(compiled.spec, arrays, given)
    y, found = compiled(**arrays, state=given or None, return_state=True)
    np.testing.assert_allclose(y, expected, rtol=1e-10, atol=1e-12)
    for name, value in final.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-10, atol=1e-12)


def test_a_read_is_one_convolution_per_driver() -> None:
    program = smir.compile(TWO_LEVELS).compilation.convolution
    assert program is not None
    (read,) = program.reads
    assert [term.driver.output.op for term in read.terms] == ["input", "mul"]
    assert all(not term.driver.states and len(term.response.states) == 2 for term in read.terms)
    assert not program.output.states


@pytest.mark.parametrize(
    ("body", "law"),
    [
        ("  h[t] = g[t] * h[t-1] + u[t]\n  y[t] = h[t]", "not linear with constant coefficients"),
        ("  h[t] = tanh(h[t-1]) + u[t]\n  y[t] = h[t]", "not linear with constant coefficients"),
        ("  h[t] = a * h[t+1] + u[t]\n  y[t] = h[t]", "runs backward"),
        ("  h[t] = a * h[t-1] + u[t]\n  y[t] = h[t+1]", "read ahead of its time"),
        ("  h[t] = a * h[t-1] + 1\n  y[t] = h[t] * u[t] + g[t]", "a constant that drives a state"),
        ("  h[t] = a * sum(h[t-1], D) + u[t]\n  y[t] = h[t] + g[t]", "the channels D meet each other"),
    ],
)
def test_what_is_no_convolution_says_which_law_breaks(body: str, law: str) -> None:
    compiled = smir.compile(mixer(body))
    assert CONVOLUTION not in compiled.forms
    assert law in str(compiled.compilation.obstacles[CONVOLUTION][0])


def test_a_state_that_starts_elsewhere_is_no_convolution() -> None:
    text = mixer("  h[t] = a * h[t-1] + u[t]\n  y[t] = h[t] + g[t]").replace("state h: D", "state h: D = 0.5")
    compiled = smir.compile(text)
    assert "= 0.5" in text and compiled.forms == ("step", "scan")
    assert "a state that starts at 0.5" in str(compiled.compilation.obstacles[CONVOLUTION][0])


def test_what_is_printed_is_the_cheapest_form_that_has_a_program() -> None:
    compiled = smir.compile("s4d_real")
    assert compiled.form_for(T=4096, sequences=64, N=64) == CONVOLUTION
    assert "scan" in next(iter(compiled.sources("numpy")))
    assert any("scan" in text for text in compiled.sources("triton").values())
    with pytest.raises(smir.FormError, match="has no program of its own"):
        smir.compile("s4d_real", form=CONVOLUTION).sources()


def test_a_large_batch_pays_for_the_kernel() -> None:
    """One impulse response serves every sequence, so convolution wins with many of them and many modes."""
    compiled = smir.compile("s4d_real")
    assert compiled.form_for(T=4096, sequences=1, N=64) == "scan"
    assert compiled.form_for(T=4096, sequences=64, N=64) == CONVOLUTION
