"""The oracle on rows that no library spec covers yet: non-linear, softmax, ratio and elementwise mixers."""

import pytest

from smir.backends.numpy_reference.mixer_interpreter import run_mixer
from smir.binding import bind
from smir.frontends import parse_mixer
from smir.source import Source
from tests.golden.vectors import cases, load, relative_rms

QKV = "  input q, k: K;  input v: V\n"
SPECS = {
    "softmax_causal": QKV + "  y = softmax(q @ k.T, causal) @ v",
    "softmax_full": QKV + "  y = softmax(q @ k.T) @ v",
    "softmax_window8": QKV + "  y = softmax(q @ k.T, window(8)) @ v",
    "softmax_alibi": QKV
    + """  param slopes: scalar
  A[i, j] = q[i].T @ k[j] - slopes * (i - j)
  y = softmax(A, causal) @ v""",
    "forgetting_attention": QKV
    + """  input g: scalar in [-inf, 0]
  A[i, j] = q[i].T @ k[j] + sum(m, j+1, i, g[m])
  y = softmax(A, causal) @ v""",
    "aft_full": """  input q, k, v: D;  param w: T, T
  E = exp(w)
  y = sigmoid(q) * (E @ (exp(k) * v)) / (E @ exp(k))""",
    "aft_full_causal": """  input q, k, v: D;  param w: T, T
  E = causal * exp(w)
  y = sigmoid(q) * (E @ (exp(k) * v)) / (E @ exp(k))""",
    "aft_simple_causal": """  input q, k, v: D
  state a, b: D
  a[t] = a[t-1] + exp(k[t]) * v[t]
  b[t] = b[t-1] + exp(k[t])
  y[t] = sigmoid(q[t]) * a[t] / b[t]""",
    "abc": QKV
    + """  input s: M
  state l: M = -inf
  state Kt: K, M;  state Vt: M, V
  l[t] = logaddexp(l[t-1], s[t])
  c = exp(l[t-1] - l[t]);  e = exp(s[t] - l[t])
  Kt[t] = Kt[t-1] * c.T + k[t] @ e.T
  Vt[t] = c * Vt[t-1] + e @ v[t].T
  y[t] = Vt[t].T @ softmax(Kt[t].T @ q[t])""",
    "gsa": QKV
    + """  input s, g: M
  state Kt: K, M;  state Vt: M, V
  Kt[t] = Kt[t-1] * exp(g[t]).T + k[t] @ s[t].T
  Vt[t] = exp(g[t]) * Vt[t-1] + s[t] @ v[t].T
  y[t] = Vt[t].T @ softmax(Kt[t].T @ q[t])""",
    "mlstm": QKV
    + """  input i, f: scalar
  state S: K, V;  state z: K
  S[t] = sigmoid(f[t]) * S[t-1] + exp(i[t]) * (k[t] @ v[t].T)
  z[t] = sigmoid(f[t]) * z[t-1] + exp(i[t]) * k[t]
  y[t] = S[t].T @ q[t] / max(abs(z[t].T @ q[t]), 1)""",
    "rwkv4": """  input k, v: D;  param w, u: D
  state a, b: D
  a[t] = exp(w) * a[t-1] + exp(k[t]) * v[t]
  b[t] = exp(w) * b[t-1] + exp(k[t])
  y[t] = (a[t-1] + exp(u + k[t]) * v[t]) / (b[t-1] + exp(u + k[t]))""",
}
# States of the implementation that made the vectors, not of the spec.
FOREIGN = {"mlstm": {"m"}}


@pytest.mark.parametrize(("name", "case"), [(name, case) for name in SPECS for case in cases(name)])
def test_oracle_agrees(name: str, case: str) -> None:
    mixer = parse_mixer(Source("<spec>", f"mixer {name}\n{SPECS[name]}\n"))
    golden = load(name, case)
    bound = bind(mixer, (), golden.inputs, golden.initial or None)
    y, states = bound.restore(*run_mixer(mixer, bound.arrays, bound.states))
    assert relative_rms(y, golden.y) < 1e-10
    assert set(states) == set(golden.final) - FOREIGN.get(name, set())
    for state, found in states.items():
        assert relative_rms(found, golden.final[state]) < 1e-10
