"""`smir.compile` and what it returns."""

from pathlib import Path

import numpy as np
import pytest

import smir
from smir.ir.tile_program import CHUNKED, QUADRATIC, STEP

TEXT = """
mixer decayed
  input q, k: K
  input v: V
  input g: scalar in [-inf, 0]
  state S: K, V
  S[t] = exp(g[t]) * S[t-1] + k[t] @ v[t].T
  y[t] = S[t].T @ q[t]
"""
# A matrix state with a decay for each token: neither a scan nor a convolution.
FORMS = (STEP, CHUNKED, QUADRATIC)
NON_LINEAR = "mixer rnn; input x: N; state h: N; h[t] = tanh(h[t-1] + x[t]); y[t] = h[t]"


def decayed_loop(q, k, v, g):
    """The same by hand, `[B, T, H, size]`."""
    state = np.zeros((q.shape[0], q.shape[2], q.shape[3], v.shape[3]))
    y = np.empty_like(v)
    for t in range(q.shape[1]):
        state = np.exp(g[:, t, :, None, None]) * state + k[:, t, :, :, None] * v[:, t, :, None, :]
        y[:, t] = np.einsum("bhk,bhkv->bhv", q[:, t], state)
    return y, state


@pytest.fixture(scope="module")
def arrays():
    return smir.sample(smir.compile(TEXT).spec, B=2, T=37, H=3, seed=1)


def test_text_path_and_name_give_the_same(tmp_path: Path):
    path = tmp_path / "decayed.smir"
    path.write_text(TEXT)
    assert smir.compile(TEXT).spec == smir.compile(path).spec == smir.compile(str(path)).spec
    assert smir.compile("scalar_decay").spec.name == "scalar_decay"


@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_the_recurrence(form, arrays):
    y, state = smir.compile(TEXT, form=form)(**arrays, return_state=True)
    expected, final = decayed_loop(**arrays)
    np.testing.assert_allclose(y, expected, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(state["S"], final, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("chunk", [1, 5, 64])
def test_a_sequence_may_be_cut_anywhere(form, chunk, arrays):
    mixer = smir.compile(TEXT, form=form, chunk=chunk)
    whole, final = mixer(**arrays, return_state=True)
    first, state = mixer(**{n: a[:, :13] for n, a in arrays.items()}, return_state=True)
    second, state = mixer(**{n: a[:, 13:] for n, a in arrays.items()}, state=state, return_state=True)
    np.testing.assert_allclose(np.concatenate([first, second], axis=1), whole, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(state["S"], final["S"], rtol=1e-10, atol=1e-12)


def test_the_cheapest_form_grows_with_the_sequence():
    mixer = smir.compile("scalar_decay")
    assert mixer.form_for(T=1 << 16, K=64, V=64) == "chunked"
    assert mixer.form_for(T=16, K=64, V=64) != "step"
    assert smir.compile("scalar_decay", form="step").form_for(T=1 << 16) == "step"


def test_a_non_linear_mixer_has_the_step_form_only():
    mixer = smir.compile(NON_LINEAR)
    assert mixer.forms == ("step",)
    assert "tanh" in str(mixer.explain()) and "step" in str(mixer.explain())
    with pytest.raises(smir.FormError, match="tanh"):
        smir.compile(NON_LINEAR, form="chunked")
    x = smir.sample(mixer.spec)["x"]
    h = np.zeros_like(x[:, 0])
    for t in range(x.shape[1]):
        h = np.tanh(h + x[:, t])
    np.testing.assert_allclose(mixer(x)[:, -1], h, rtol=1e-12)


@pytest.mark.parametrize(
    ("weights", "form"),
    [("softmax(q @ k.T, causal)", "quadratic"), ("softmax(q @ k.T, causal) @ softmax(k @ q.T, causal)", "direct")],
)
def test_a_mask_without_a_recurrence_runs_over_pairs_or_as_written(weights, form):
    """A softmax over positions has the quadratic form; of a softmax of what a softmax made, no program is known."""
    mixer = smir.compile(f"mixer s; input q, k: K; input v: V; y = {weights} @ v")
    a = {n: x[0, :, 0] for n, x in smir.sample(mixer.spec, B=1, T=9, H=1).items()}
    expected = softmax(a["q"] @ a["k"].T) @ (a["v"] if form == "quadratic" else softmax(a["k"] @ a["q"].T) @ a["v"])
    given = {n: x[None, :, None] for n, x in a.items()}
    np.testing.assert_allclose(mixer(**given)[0, :, 0], expected, rtol=1e-12)
    assert mixer.forms == (form,)


def softmax(scores):
    """Over the columns up to the diagonal."""
    weights = np.where(np.tri(len(scores)), np.exp(scores), 0.0)
    return weights / weights.sum(axis=1, keepdims=True)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: smir.compile("glaa"), smir.SpecNameError, "did you mean gla"),
        (lambda: smir.compile("there/is/none.smir"), smir.SpecNameError, "can't read"),
        (lambda: smir.compile("x" * 100_000), smir.SpecNameError, "no spec"),
        (lambda: smir.compile("x/" * 100_000), smir.SpecNameError, "can't read"),
        (lambda: smir.compile("a\0b"), smir.SpecNameError, "no spec"),
        (lambda: smir.compile("/a\0b"), smir.SpecNameError, "can't read"),
        (lambda: smir.compile("\ud800/x"), smir.SpecNameError, "can't read"),
        (lambda: smir.compile(""), smir.SpecNameError, "no spec"),
        (lambda: smir.compile(None), smir.ArgumentError, "not a NoneType"),
        (lambda: smir.compile(b"mixer m"), smir.ArgumentError, "not a bytes"),
        (lambda: smir.compile("gla", form=3), smir.FormError, "no form 3"),
        (lambda: smir.compile("gla", backend=[]), smir.BackendError, "no backend"),
        (lambda: smir.compile("gla").verify(sizes={"Q": 3}), smir.ArgumentError, "no dimension 'Q'"),
        (lambda: smir.compile("gla").explain(Q=3), smir.ArgumentError, "no dimension 'Q'"),
        (lambda: smir.sample(smir.compile("gla").spec, sizes={"K": 0}), smir.ArgumentError, "positive"),
        (lambda: smir.compile(Path("/")), smir.SpecNameError, "can't read"),
        (lambda: smir.compile("mixer m; y[t] = z[t]"), smir.SmirError, "<spec>:1:"),
        (lambda: smir.compile("gla", form="fast"), smir.FormError, "no form 'fast'"),
        (lambda: smir.compile("gla", backend="cobol"), smir.BackendError, "numpy, triton"),
        (lambda: smir.compile("gla", chunk=0), smir.ArgumentError, "positive"),
        (lambda: smir.compile("gla", chunk=2.5), smir.ArgumentError, "positive"),
        (lambda: smir.compile("gla", chunk=True), smir.ArgumentError, "positive"),
        (lambda: smir.compile("gla").ir("assembly"), smir.ArgumentError, "mixer, recurrence"),
        (lambda: smir.compile("gla").source("cobol"), smir.BackendError, "numpy, triton"),
    ],
)
def test_bad_requests(call, error, words):
    with pytest.raises(error, match=words):
        call()


def test_every_level_of_ir_reads_back():
    from smir.ir.parser import parse_ir

    mixer = smir.compile("gated_delta_rule", form="chunked")
    made = mixer.compilation
    for level, ir in {
        "mixer": made.mixer,
        "operators": made.operators,
        "tile": made.tiles["chunked"],
        "plan": made.plans["chunked"],
    }.items():
        assert parse_ir(mixer.ir(level)) == ir


def test_explanation_names_the_algebra_and_the_crossover():
    text = str(smir.compile("gated_delta_rule").explain(K=64, V=64))
    assert "scalar + low rank" in text and "chunked is faster than" in text and "flops" in text


def test_float32_stays_float32(arrays):
    y, state = smir.compile(TEXT)(**{n: a.astype(np.float32) for n, a in arrays.items()}, return_state=True)
    assert y.dtype == state["S"].dtype == np.float32
