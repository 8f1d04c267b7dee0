"""What is not recognised says which law breaks, at which line; it never raises."""

import pytest

from smir.frontends import parse_mixer
from smir.source import Source
from tests.passes.oracle_checks import PRELUDE, mixer_of, obstacles

READ = "y[t] = S[t].T @ q[t]\n"
LINE = PRELUDE.count("\n")

# (declarations and equations, fragment of the message, line of the sub-expression below the prelude)
BROKEN = [
    ("state S: K, V\nS[t] = tanh(S[t-1]) + k[t] @ v[t].T\n" + READ, "not linear in S: tanh(S[t-1])", 2),
    ("state S: K, V\nS[t] = S[t-1] * (k[t].T @ S[t-1] @ v[t])\n" + READ, "not linear in S", 2),
    (
        "state S: K, V\nS[t] = v[t].T / (1 + S[t-1]) + k[t]\n" + READ,
        "a quotient by a value that depends on the state",
        2,
    ),
    ("state S: K, V\nS[t] = where(S[t-1] < 1, S[t-1], 1)\n" + READ, "a condition on the state", 2),
    ("input A: K, K\nstate S: K, V\nS[t] = A[t] @ S[t-1] + k[t] @ v[t].T\n" + READ, "a dense transition", 3),
    ("input A: K, V\nstate S: K, V\nS[t] = exp(A[t]) * S[t-1] + k[t] @ v[t].T\n" + READ, "an elementwise factor", 3),
    ("input A: K, V\nstate S: K, V\nS[t] = S[t-1] + A[t]\n" + READ, "no sum of outer products: A[t]", 3),
    ("input A: K, K\nstate S: K, V\nS[t] = S[t-1] + (A[t] @ k[t]) @ v[t].T\n" + READ, "a matrix per time step", 3),
    (
        "state S, P: K, V\nS[t] = S[t-1] + k[t] @ (P[t-1].T @ k[t]).T\nP[t] = P[t-1] + q[t] @ (S[t].T @ k[t]).T\n"
        "y[t] = P[t].T @ q[t]\n",
        "states that need each other (S, P): P[t-1]",
        2,
    ),
    (
        "state S, P: K, V\nS[t] = S[t-1] + k[t] @ v[t].T\nP[t] = tanh(P[t-1] + S[t])\ny[t] = P[t].T @ q[t]\n",
        "not linear in P: tanh(P[t-1] + S[t])",
        3,
    ),
    (
        "state S, P: K, V\nS[t] = S[t-1] + k[t] @ v[t].T\nP[t] = P[t-1] + diag(k[t]) @ S[t]\ny[t] = P[t].T @ q[t]\n",
        "drives another one, scaled along an axis",
        3,
    ),
    (
        "state S, P: K, V\nS[t] = S[t-1] + k[t] @ v[t].T\nP[t] = P[t-1] + tanh(S[t])\ny[t] = P[t].T @ q[t]\n",
        "no sum of outer products: tanh(S[t])",
        3,
    ),
    (
        "state S, P: K, V\nS[t] = S[t-1] + k[t] @ v[t].T\nP[t] = P[t-1] + k[t] @ (S[t-2].T @ q[t]).T\n"
        "y[t] = P[t].T @ q[t]\n",
        "away from the current step: S[t-2]",
        3,
    ),
    (
        "state S, P: K, V\nS[t] = S[t-1] + k[t] @ v[t].T\nP[t] = P[t-1] * S[t]\ny[t] = P[t].T @ q[t]\n",
        "an elementwise factor that is no product of a column and a row",
        3,
    ),
    (
        "state S: K, V\nS[t] = S[t-1] + k[t] @ v[t].T\ny[t] = S[t].T @ q[t] + sum(S[t] @ v[t], K) * v[t]\n",
        "rows and columns are both contracted",
        2,
    ),
    ("state S: K, V\nS[t] = S[t-1] + 0.5 * S[t-2] + k[t] @ v[t].T\n" + READ, "more than one step: S[t-2]", 2),
    ("state S: K, V\nS[t] = S[t-1] + k[t] @ v[t].T\ny[t] = tanh(S[t]).T @ q[t]\n", "not linear in S: tanh(S[t])", 3),
    ("state S: K, V\nS[t] = S[t-1] + k[t] @ (gv[t] * (S[t-1].T @ k[t])).T\n" + READ, "scaled per column", 2),
    ("state S: K, K\nS[t] = S[t-1].T + k[t] @ q[t].T\ny[t] = S[t].T @ q[t]\n", "transposed state", 2),
    (
        "state z: K\nz[t] = z[t-1] - k[t] * (k[t].T @ z[t-1]) + q[t]\ny[t] = z[t] * q[t]\n",
        "read out by value and erased",
        2,
    ),
    (
        "state S: K, V\nS[t] = S[t-1] - k[t] @ v[t].T * (k[t].T @ S[t-1] @ v[t])\n" + READ,
        "contracts both axes",
        2,
    ),
]


@pytest.mark.parametrize(("body", "fragment", "line"), BROKEN)
def test_obstacle_names_the_law_and_the_line(body: str, fragment: str, line: int) -> None:
    (found, *_) = obstacles(mixer_of(body))
    assert fragment in str(found)
    assert found.span is not None
    assert found.span.line == LINE + line
    assert f"at line {LINE + line}" in str(found)


def test_every_broken_state_is_reported() -> None:
    body = "state S, P: K, V\nS[t] = tanh(S[t-1]) + k[t]\nP[t] = max(P[t-1], k[t])\ny[t] = (S[t] + P[t]).T @ q[t]\n"
    assert len(obstacles(mixer_of(body))) == 2


def test_masked_operator_is_refused_with_the_way_out() -> None:
    from smir.passes.recognition.recognise import recognise

    found = recognise(parse_mixer(Source("spec", PRELUDE + "y = (causal * (q @ k.T)) @ v\n")))
    assert isinstance(found, tuple)
    assert "step equations first" in str(found[0])
