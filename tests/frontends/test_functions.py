"""Functions mean what their documentation says: numbers against plain numpy."""

import numpy as np
import pytest

from smir.backends.numpy_reference.mixer_interpreter import run_mixer
from smir.frontends import parse_mixer
from smir.frontends.functions import FUNCTIONS
from smir.source import Source

HEAD = "mixer m; input x, z: K; input A: K, V; input v: V; input theta: K/2\n"


def _arrays():
    rng = np.random.default_rng(1)
    shapes = {"x": (4,), "z": (4,), "A": (4, 3), "v": (3,), "theta": (2,)}
    return {name: rng.normal(size=(1, 5, 1, *shape)) for name, shape in shapes.items()}


def value(expression):
    arrays = _arrays()
    y, _ = run_mixer(parse_mixer(Source("s", HEAD + f"y[t] = {expression}")), arrays)
    return y[0, 2, 0], {name: a[0, 2, 0] for name, a in arrays.items()}


def _rotation(theta):
    matrix = np.zeros((4, 4))
    for pair, angle in enumerate(theta):
        c, s = np.cos(angle), np.sin(angle)
        matrix[2 * pair : 2 * pair + 2, 2 * pair : 2 * pair + 2] = [[c, -s], [s, c]]
    return matrix


def _sigmoid(x):
    return 1 / (1 + np.exp(-x))


CASES = {
    "exp(x[t])": lambda a: np.exp(a["x"]),
    "log(abs(x[t]))": lambda a: np.log(np.abs(a["x"])),
    "logaddexp(x[t], z[t])": lambda a: np.log(np.exp(a["x"]) + np.exp(a["z"])),
    "sigmoid(x[t])": lambda a: _sigmoid(a["x"]),
    "logsigmoid(x[t])": lambda a: np.log(_sigmoid(a["x"])),
    "softplus(x[t])": lambda a: np.log(1 + np.exp(a["x"])),
    "silu(x[t])": lambda a: a["x"] * _sigmoid(a["x"]),
    "relu(x[t])": lambda a: np.where(a["x"] > 0, a["x"], 0),
    "elu(x[t])": lambda a: np.where(a["x"] > 0, a["x"], np.exp(a["x"]) - 1),
    "tanh(x[t])": lambda a: np.tanh(a["x"]),
    "sqrt(x[t] ** 2)": lambda a: np.abs(a["x"]),
    "floor(3 * x[t])": lambda a: np.floor(3 * a["x"]),
    "max(x[t], z[t]) - min(x[t], 0)": lambda a: np.maximum(a["x"], a["z"]) - np.minimum(a["x"], 0),
    "cos(x[t]) + sin(x[t])": lambda a: np.cos(a["x"]) + np.sin(a["x"]),
    "where(x[t] < z[t] or x[t] != x[t], x[t], 2)": lambda a: np.where(a["x"] < a["z"], a["x"], 2),
    "diag(x[t]) @ A[t]": lambda a: np.diag(a["x"]) @ a["A"],
    "A[t] @ diag(v[t])": lambda a: a["A"] @ np.diag(a["v"]),
    "D @ A[t]; D = diag(x[t]) @ diag(z[t])": lambda a: np.diag(a["x"] * a["z"]) @ a["A"],
    "(diag(x[t]) + x[t] @ z[t].T) @ A[t]": lambda a: (np.diag(a["x"]) + np.outer(a["x"], a["z"])) @ a["A"],
    "(2 * eye(K)) @ x[t] + eye(K) @ z[t]": lambda a: 2 * a["x"] + a["z"],
    "ones(K) * (ones(K).T @ x[t])": lambda a: np.full(4, a["x"].sum()),
    "x[t] / sqrt(size(K))": lambda a: a["x"] / 2,
    "x[t] * size(3) * size(K/2)": lambda a: a["x"] * 6,
    "sum(A[t], K).T": lambda a: a["A"].sum(0),
    "sum(A[t], V)": lambda a: a["A"].sum(1),
    "softmax(x[t])": lambda a: np.exp(a["x"]) / np.exp(a["x"]).sum(),
    "softmax(A[t])": lambda a: np.exp(a["A"]) / np.exp(a["A"]).sum(1, keepdims=True),
    "softmax(x[t], x[t] < 0.5)": lambda a: np.exp(a["x"]) * (a["x"] < 0.5) / (np.exp(a["x"]) * (a["x"] < 0.5)).sum(),
    "l2norm(x[t])": lambda a: a["x"] / np.linalg.norm(a["x"]),
    "rmsnorm(x[t])": lambda a: a["x"] / np.sqrt(np.mean(a["x"] ** 2) + 1e-6),
    "normalize(exp(x[t]))": lambda a: np.exp(a["x"]) / np.exp(a["x"]).sum(),
    "normalize(A[t])": lambda a: a["A"] / a["A"].sum(1, keepdims=True),
    "rot(theta[t]) @ x[t]": lambda a: _rotation(a["theta"]) @ a["x"],
    "rot(theta[t]).T @ x[t]": lambda a: _rotation(-a["theta"]) @ a["x"],
    "(x[t].T @ rot(theta[t])).T": lambda a: a["x"] @ _rotation(a["theta"]),
    "R @ R.T @ x[t] + R @ R @ x[t]; R = rot(theta[t])": lambda a: a["x"] + _rotation(2 * a["theta"]) @ a["x"],
    "rot(theta[t])": lambda a: _rotation(a["theta"]),
}


@pytest.mark.parametrize("expression", CASES)
def test_value(expression):
    found, arrays = value(expression)
    np.testing.assert_allclose(found, CASES[expression](arrays), rtol=1e-11, atol=1e-12)


def test_every_function_is_tried():
    in_sequences = {"cumsum", "prod"}
    missing = [name for name in FUNCTIONS if name not in in_sequences and not any(f"{name}(" in case for case in CASES)]
    assert not missing


SEQUENCES = {
    "cumsum(x)": lambda x: np.cumsum(x, 0),
    "softmax(x)": lambda x: np.exp(x) / np.exp(x).sum(1, keepdims=True),
    "l2norm(x)": lambda x: x / np.linalg.norm(x, axis=1, keepdims=True),
    "rmsnorm(x)": lambda x: x / np.sqrt(np.mean(x**2, 1, keepdims=True) + 1e-6),
    "softmax(x @ x.T, causal) @ x": lambda x: _causal_attention(x),
    "ones(T) @ sum(x, T)": lambda x: np.ones((5, 1)) @ x.sum(0, keepdims=True),
    "M @ x; M[i, j] = prod(m, j, i, 2)": lambda x: 2.0 ** np.maximum(np.subtract.outer(range(5), range(5)) + 1, 0) @ x,
    "M @ x; M[i, j] = sum(m, j, i, x[m].T @ x[m+1])": lambda x: _score_sums(x) @ x,
}  # fmt: skip


def _causal_attention(x):
    scores = np.exp(x @ x.T) * np.tril(np.ones((5, 5)))
    return scores / scores.sum(1, keepdims=True) @ x


def _score_sums(x):
    after = np.vstack([x[1:], np.zeros((1, 4))])
    return np.array([[np.sum((x * after)[j : i + 1]) for j in range(5)] for i in range(5)])


@pytest.mark.parametrize("expression", SEQUENCES)
def test_sequence_value(expression):
    arrays = _arrays()
    y, _ = run_mixer(parse_mixer(Source("s", HEAD + f"y = {expression}")), arrays)
    np.testing.assert_allclose(y[0, :, 0], SEQUENCES[expression](arrays["x"][0, :, 0]), rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("expression", ["diag(x[t]) @ A[t]", "D @ A[t]; D = diag(x[t])", "x[t] * A[t]"])
def test_a_diagonal_product_is_the_elementwise_product(expression):
    def output(text):
        return parse_mixer(Source("s", HEAD + "y[t] = " + text)).output

    assert output(expression) is output("x[t] * A[t]")
