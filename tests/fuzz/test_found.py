"""Specs that the fuzz once caught, each in its smallest form."""

import numpy as np
import pytest

import smir
from smir.backends.numpy_reference.mixer_interpreter import run_mixer
from smir.compiled import CompiledMixer

QKV = "mixer found; input q, k: K; input v: V; "
FOUND = {
    "a constant decay padded at a ragged end": (
        "state S: K, V; S[t] = 0.9 * S[t-1] + k[t] @ v[t].T; y[t] = S[t].T @ q[t]"
    ),
    "a constant decay between pairs of chunks": "y = (decay(0.9) * (q @ k.T)) @ v",
    "a constant decay of both directions": "M[i, j] = exp(-abs(i - j)); y = (M * (q @ k.T)) @ v",
    "ranges of one gate that differ at both ends": (
        "input g: scalar in [-inf, 0]; M[i, j] = where(j <= i, prod(m, j, i-1, exp(g[m])), prod(m, i+1, j, exp(g[m])));"
        " y = (lion(exp(g)) * M * (q @ k.T)) @ v"
    ),
    "ranges of one gate that begin together and end apart": (
        "input g: scalar in [-inf, 0]; M[i, j] = where(j < i, prod(m, j+1, i-1, exp(g[m])), 0);"
        " y = (selective(exp(g)) * M * (q @ k.T)) @ v"
    ),
}  # fmt: skip


@pytest.mark.parametrize("chunk", [2, 3, 16])
@pytest.mark.parametrize("body", FOUND.values(), ids=FOUND)
def test_found(body: str, chunk: int) -> None:
    mixer = smir.compile(QKV + body)
    arrays = smir.sample(mixer.spec, B=2, T=7, H=2, extreme=True, seed=3)
    y, _ = run_mixer(mixer.spec, arrays)
    _, final = run_mixer(mixer.compilation.equations, arrays)
    assert mixer.forms == ("step", "chunked", "quadratic")
    for form in mixer.forms:
        found, end = CompiledMixer(mixer.compilation, form, "numpy", chunk)(**arrays, return_state=True)
        np.testing.assert_allclose(found, y, rtol=1e-11, atol=1e-13)
        for state in end:
            np.testing.assert_allclose(end[state], final[state], rtol=1e-11, atol=1e-13)


def test_a_masked_operator_that_looks_ahead_returns_no_states() -> None:
    mixer = smir.compile("lion_s")
    for form in mixer.forms:
        _, final = smir.compile("lion_s", form=form)(**smir.sample(mixer.spec), return_state=True)
        assert final == {}
