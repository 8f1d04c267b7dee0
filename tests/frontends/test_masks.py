"""Masks are their index formulas: the named ones by identity, their numbers against plain loops."""

import numpy as np
import pytest

from smir.backends.numpy_reference.mixer_interpreter import run_mixer
from smir.frontends import parse_mixer
from smir.source import Source

HEAD = "mixer m; input q, k: K; input v: V; input g: scalar; input r: K; param gamma: scalar; const w = 3\n"


def output(text):
    return parse_mixer(Source("s", HEAD + text)).output


@pytest.mark.parametrize(
    ("mask", "formula"),
    [
        ("causal", "where(j <= i, 1, 0)"),
        ("full", "1"),
        ("window(3)", "where(j <= i and i - j < 3, 1, 0)"),
        ("window(w)", "where(j <= i and i - j < 3, 1, 0)"),
        ("decay(gamma)", "where(j <= i, gamma ** (i - j), 0)"),
        ("decay(exp(-gamma))", "where(j <= i, exp(-gamma) ** (i - j), 0)"),
        ("selective(exp(g))", "where(j <= i, prod(m, j+1, i, exp(g[m])), 0)"),
        ("selective(gamma)", "where(j <= i, gamma ** (i - j), 0)"),
        ("selective(sum(r, K))", "where(j <= i, prod(m, j+1, i, sum(r[m], K)), 0)"),
        ("selective(sigmoid(r @ ones(K)))", "where(j <= i, prod(m, j+1, i, sigmoid(ones(K).T @ r[m])), 0)"),
        ("lion(exp(g))", "where(j <= i, prod(m, j+1, i, exp(g[m])), prod(m, i+1, j, exp(g[m])))"),
        ("lion(gamma)", "where(j <= i, gamma ** (i - j), gamma ** (j - i))"),
        ("causal * decay(gamma)", "where(j <= i, 1, 0) * where(j <= i, gamma ** (i - j), 0)"),
        ("window(2) ∘ full", "where(j <= i and i - j < 2, 1, 0) * 1"),
        ("1 - causal", "1 - where(j <= i, 1, 0)"),
        ("gamma * causal", "gamma * where(j <= i, 1, 0)"),
        ("f * causal; f = exp(gamma)", "exp(gamma) * where(j <= i, 1, 0)"),
    ],
)
def test_a_mask_is_its_formula(mask, formula):
    mask, *definitions = mask.split(";")
    named = output(f"y = ({mask}) @ v; " + "; ".join(definitions))
    assert named is output(f"M[i, j] = {formula}; y = M @ v")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("M[i, j] = q[i].T @ k[j]", "M[row, col] = q[row].T @ k[col]"),
        ("M[i, j] = sum(m, j, i, g[m])", "M[a, b] = sum(c, b, a, g[c])"),
        ("M[i, j] = g[i-1]", "N[a, b] = g[a]; M[i, j] = N[i-1, j]"),
        ("M[i, j] = prod(m, i, j, g[m]) * g[j+2]", "N[a, b] = prod(m, b, a, g[m]) * g[a+2]; M[i, j] = N[j, i]"),
        ("M[i, j] = exp(g[j])", "f = exp(g); M[i, j] = f[j]"),
        ("M[i, j] = i - 2 - j", "N[a, b] = a - b; M[i, j] = N[i-2, j]"),
    ],
)
def test_names_of_indices_do_not_matter(one, other):
    assert output(one + "; y = M @ v") is output(other + "; y = M @ v")


def test_an_inner_sum_never_captures_an_outer_index():
    nested = output("N[a, b] = sum(m, a, b, g[m]); M[i, j] = sum(m, i, j, g[m] * N[m, j]); y = M @ v")
    assert nested is output("M[i, j] = sum(m, i, j, g[m] * sum(n, m, j, g[n])); y = M @ v")


def _numbers():
    rng = np.random.default_rng(0)
    shapes = {"q": (1, 7, 1, 3), "k": (1, 7, 1, 3), "v": (1, 7, 1, 2), "g": (1, 7, 1), "r": (1, 7, 1, 3), "gamma": (1,)}
    arrays = {name: rng.normal(size=shape) for name, shape in shapes.items()}
    return arrays | {"gamma": np.array([0.7])}


@pytest.mark.parametrize(
    ("mask", "entry"),
    [
        ("causal", lambda i, j, lam: float(j <= i)),
        ("window(3)", lambda i, j, lam: float(i - 2 <= j <= i)),
        ("decay(gamma)", lambda i, j, lam: 0.7 ** (i - j) * (j <= i)),
        ("selective(exp(g))", lambda i, j, lam: np.prod(lam[j + 1 : i + 1]) * (j <= i)),
        ("lion(exp(g))", lambda i, j, lam: np.prod(lam[j + 1 : i + 1]) if j <= i else np.prod(lam[i + 1 : j + 1])),
    ],
)
def test_numbers(mask, entry):
    arrays = _numbers()
    y, _ = run_mixer(parse_mixer(Source("s", HEAD + f"y = ({mask} * (q @ k.T)) @ v")), arrays)
    lam = np.exp(arrays["g"][0, :, 0])
    matrix = np.array([[entry(i, j, lam) for j in range(7)] for i in range(7)])
    q, k, v = (arrays[n][0, :, 0] for n in "qkv")
    np.testing.assert_allclose(y[0, :, 0], (matrix * (q @ k.T)) @ v, rtol=1e-12)
