"""The language says mixers far beyond the library: the oracle's numbers for such specs against the golden vectors."""

from pathlib import Path

import numpy as np
import pytest

from smir.backends.numpy_reference.mixer_interpreter import run_mixer
from smir.frontends import parse_mixer
from smir.ir.mixer import INPUT
from smir.source import Source

GOLDEN = Path(__file__).parents[1] / "golden"

SPECS = {
    "mlstm": """
        input q, k: K; input v: V; input i, f: scalar
        state S: K, V; state z: K
        S[t] = sigmoid(f[t]) * S[t-1] + exp(i[t]) * k[t] @ v[t].T
        z[t] = sigmoid(f[t]) * z[t-1] + exp(i[t]) * k[t]
        y[t] = S[t].T @ q[t] / max(abs(z[t].T @ q[t]), 1)""",
    "mamba1": """
        input u, delta: D; param A: D, N; input B, C: N; param D: D
        state x: D, N
        x[t] = exp(delta[t] * A) * x[t-1] + (delta[t] * u[t]) @ B[t].T
        y[t] = x[t] @ C[t] + D * u[t]""",
    "s4d_real": """
        input u: D; param log_dt: D; param A, C: D, N; param D: D
        state x: D, N
        decayed = exp(exp(log_dt) * A)
        x[t] = decayed * x[t-1] + (decayed - 1) / A * u[t]
        y[t] = sum(C * x[t], N) + D * u[t]""",
    "s4d": """
        input u: D; param log_dt: D; param A_re, A_im, C_re, C_im: D, N; param D: D
        state x_re, x_im: D, N
        modulus = exp(exp(log_dt) * A_re)
        re = modulus * cos(exp(log_dt) * A_im)
        im = modulus * sin(exp(log_dt) * A_im)
        square = A_re ** 2 + A_im ** 2
        in_re = ((re - 1) * A_re + im * A_im) / square
        in_im = (im * A_re - (re - 1) * A_im) / square
        x_re[t] = re * x_re[t-1] - im * x_im[t-1] + in_re * u[t]
        x_im[t] = re * x_im[t-1] + im * x_re[t-1] + in_im * u[t]
        y[t] = 2 * sum(C_re * x_re[t] - C_im * x_im[t], N) + D * u[t]""",
    "rwkv4": """
        input k, v: D; param w, u: D
        state a, b: D
        y[t] = (a[t-1] + exp(u + k[t]) * v[t]) / (b[t-1] + exp(u + k[t]))
        a[t] = exp(w) * a[t-1] + exp(k[t]) * v[t]
        b[t] = exp(w) * b[t-1] + exp(k[t])""",
    "rglru": """
        input x, i, r: D; param L: D; input reset: scalar in [0, 1]
        state h: D
        la = -8 * sigmoid(r[t]) * softplus(L)
        h[t] = (1 - reset[t]) * exp(la) * h[t-1] + where(reset[t], 1, sqrt(1 - exp(2 * la))) * sigmoid(i[t]) * x[t]
        y[t] = h[t]""",
    "hgrn": "input x, g: D; state h: D; h[t] = exp(g[t]) * h[t-1] + x[t]; y[t] = h[t]",
    "abc": """
        input q, k: K; input v: V; input s: M
        state l: M = -inf; state Kt: K, M; state Vt: M, V
        l[t] = logaddexp(l[t-1], s[t])
        c = exp(l[t-1] - l[t])
        e = exp(s[t] - l[t])
        Kt[t] = Kt[t-1] @ diag(c) + k[t] @ e.T
        Vt[t] = diag(c) @ Vt[t-1] + e @ v[t].T
        y[t] = Vt[t].T @ softmax(Kt[t].T @ q[t])""",
    "gsa": """
        input q, k: K; input v: V; input s: M; input g: M in [-inf, 0]
        state Kt: K, M; state Vt: M, V
        Kt[t] = Kt[t-1] @ diag(exp(g[t])) + k[t] @ s[t].T
        Vt[t] = diag(exp(g[t])) @ Vt[t-1] + s[t] @ v[t].T
        y[t] = Vt[t].T @ softmax(Kt[t].T @ q[t])""",
    "aft_full": "input q, k, v: D; param w: T, T; y = sigmoid(q) * (exp(w) @ (exp(k) * v)) / (exp(w) @ exp(k))",
    "aft_full_causal": """
        input q, k, v: D; param w: T, T
        e = causal * exp(w)
        y = sigmoid(q) * (e @ (exp(k) * v)) / (e @ exp(k))""",
    "aft_simple": "input q, k, v: D; y = sigmoid(q) * sum(exp(k) * v, T) / sum(exp(k), T)",
    "softmax_causal": "input q, k: K; input v: V; y = softmax(q @ k.T, causal) @ v",
    "softmax_full": "input q, k: K; input v: V; y = softmax(q @ k.T) @ v",
    "softmax_window8": "input q, k: K; input v: V; const w = 8; y = softmax(q @ k.T, window(w)) @ v",
    "softmax_alibi": """
        input q, k: K; input v: V; param slopes: scalar
        distance[i, j] = i - j
        y = softmax(q @ k.T - slopes * distance, causal) @ v""",
    "forgetting_attention": """
        input q, k: K; input v: V; input g: scalar in [-inf, 0]
        logits[i, j] = q[i].T @ k[j] + sum(m, j+1, i, g[m])
        y = softmax(logits, causal) @ v""",
}


def _with_heads(array, lead, dims):
    """The canonical layout: a head axis of size 1 where the golden arrays have none."""
    return array if array.ndim == lead + 1 + dims else np.expand_dims(array, lead)


@pytest.mark.parametrize("name", SPECS)
def test_against_the_golden_vectors(name):
    mixer = parse_mixer(Source(name, f"mixer {name}\n{SPECS[name]}"))
    with np.load(GOLDEN / f"{name}.npz") as file:
        golden = {key.removeprefix("a/"): file[key] for key in file.files if key.startswith("a/")}
    arrays = {d.name: _with_heads(golden[d.name], 2 if d.kind == INPUT else 0, len(d.dims)) for d in mixer.declarations}
    y, states = run_mixer(mixer, arrays)
    np.testing.assert_allclose(y, _with_heads(golden["y"], 2, 1), rtol=1e-9, atol=1e-12)
    for state in mixer.states:
        expected = _with_heads(golden[f"final_state_{state.name}"], 1, len(state.dims))
        np.testing.assert_allclose(states[state.name], expected, rtol=1e-9, atol=1e-12)
