"""What the algebra says about declarations: decays and their ends, vectors that erase, divisors that may vanish."""

import pytest

import smir
from smir.nn.roles import find_roles
from smir.sampling import default_sizes

HEAD = "mixer m\n  input q, k, a, b: K\n  input v: V\n  input g, f: scalar in [-inf, 0]\n  input w: scalar in [0, 1]\n"
REST = "  state S: K, V\n  state z: K\n"


def roles(text: str) -> dict:
    done = smir.compile(text).compilation
    return {r.name: r for r in find_roles(done, default_sizes(done.spec))}


def body(update: str, output: str = "S[t].T @ q[t] * sum(z[t], K)", z: str = "z[t-1] + k[t]") -> str:
    return f"{HEAD}{REST}  S[t] = {update}\n  z[t] = {z}\n  y[t] = {output}\n"


@pytest.mark.parametrize(
    ("update", "kept"),
    [
        ("exp(g[t]) * S[t-1] + k[t] @ v[t].T", {"g": 0.0, "f": 0.0}),  # f decays nothing: its range decides
        ("w[t] * S[t-1] + k[t] @ v[t].T", {"w": 1.0, "g": 0.0, "f": 0.0}),
        ("(1 - w[t]) * S[t-1] + k[t] @ v[t].T", {"w": 0.0, "g": 0.0, "f": 0.0}),
        ("exp(g[t] + f[t]) * S[t-1] + k[t] @ v[t].T", {"g": 0.0}),  # one carries the memory
        ("tanh(S[t-1]) + k[t] @ v[t].T", {"g": 0.0, "f": 0.0}),  # nothing recognised: ranges only
    ],
)
def test_decays_start_at_the_end_that_keeps(update, kept):
    assert {n: r.kept for n, r in roles(body(update)).items() if r.kept is not None} == kept


def test_of_a_product_the_input_carries_the_memory():
    text = (
        "mixer m\n  input x: V\n  input d: scalar in [0, inf]\n  param A: scalar in [-inf, 0]\n  state S: V\n"
        "  S[t] = exp(A * d[t]) * S[t-1] + x[t]\n  y[t] = S[t]\n"
    )
    assert {n: r.kept for n, r in roles(text).items()} == {"x": None, "d": 0.0, "A": None}


@pytest.mark.parametrize(
    ("update", "unit"),
    [
        ("S[t-1] + k[t] @ v[t].T", set()),
        ("S[t-1] + k[t] @ (w[t] * (v[t] - S[t-1].T @ k[t])).T", {"k"}),
        ("S[t-1] + b[t] @ (S[t-1].T @ a[t]).T + k[t] @ v[t].T", {"a", "b"}),
    ],
)
def test_vectors_that_erase_have_norm_one(update, unit):
    assert {n for n, r in roles(body(update)).items() if r.unit} == unit


@pytest.mark.parametrize(
    ("output", "z", "positive"),
    [
        ("S[t].T @ q[t] / (z[t].T @ q[t])", "z[t-1] + k[t]", {"q", "k"}),
        ("S[t].T @ q[t] / (z[t].T @ exp(q[t]))", "z[t-1] + exp(k[t])", set()),
        ("S[t].T @ q[t] / max(abs(z[t].T @ q[t]), 1)", "z[t-1] + k[t]", set()),
        ("rmsnorm(S[t].T @ q[t]) * sum(z[t], K)", "z[t-1] + k[t]", set()),
    ],
)
def test_only_divisors_that_may_vanish_make_vectors_positive(output, z, positive):
    found = roles(body("S[t-1] + k[t] @ v[t].T", output, z))
    assert {n for n, r in found.items() if r.positive} == positive
