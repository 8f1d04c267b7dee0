"""The mixers of the literature by formulas that have no state: sums over all earlier positions, one head, numpy loops.

Every function takes a spec's arguments without batch and head axes, `[T, ..]`, and gives y, `[T, ..]`.
"""

from collections.abc import Callable, Mapping

import numpy as np

Array = np.ndarray
Arguments = Mapping[str, Array]


def softmax(scores: Array) -> Array:
    """Over the last axis."""
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True)


def causal_softmax(scores: Array) -> Array:
    return softmax(np.where(np.tri(len(scores)) > 0, scores, -np.inf))


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def decayed(g: Array, i: int, j: int) -> Array:
    """e^(g_(j+1) + .. + g_i)."""
    return np.exp(g[j + 1 : i + 1].sum(0))


def past(y_at: Callable[[int], Array], tokens: int) -> Array:
    return np.stack([y_at(t) for t in range(tokens)])


def scalable_softmax(x: Arguments) -> Array:
    seen = np.arange(1, len(x["q"]) + 1)[:, None]
    return causal_softmax(x["s"] * np.log(seen) * (x["q"] @ x["k"].T)) @ x["v"]


def gated_attention(x: Arguments) -> Array:
    width = x["q"].shape[-1]
    return sigmoid(x["gate"]) * (causal_softmax(x["q"] @ x["k"].T / np.sqrt(width)) @ x["v"])


def differential_attention(x: Arguments) -> Array:
    first, second = (causal_softmax(x[f"q{n}"] @ x[f"k{n}"].T) for n in (1, 2))
    return (first - x["lam"] * second) @ x["v"]


def laser(x: Arguments) -> Array:
    return np.log(causal_softmax(x["q"] @ x["k"].T) @ np.exp(x["v"]))


def wall_attention(x: Arguments) -> Array:
    q, k, g = x["q"], x["k"], x["g"]
    scores = [[(q[i] * k[j] * decayed(g, i, j)).sum() if j <= i else 0.0 for j in range(len(q))] for i in range(len(q))]
    return causal_softmax(np.array(scores)) @ x["v"]


def power_attention(x: Arguments) -> Array:
    q, k, g = x["q"], x["k"], x["g"]

    def at(i: int) -> Array:
        weights = np.array([decayed(g, i, j) * (q[i] @ k[j]) ** 2 for j in range(i + 1)])
        return weights @ x["v"][: i + 1] / weights.sum()

    return past(at, len(q))


def higher_order(x: Arguments) -> Array:
    """Over all pairs i <= j <= t."""
    q, k, v = x["q"], x["k"], x["v"]
    return past(lambda t: sum((q[t] @ k[i]) * (k[i] @ q[j]) * v[j] for j in range(t + 1) for i in range(j + 1)), len(q))


def lightnet(x: Arguments) -> Array:
    """Every channel of the keys is a softmax over the past."""
    q, k, v = x["q"], x["k"], x["v"]
    return past(lambda t: q[t] @ softmax(k[: t + 1].T) @ v[: t + 1], len(q))


def mixture_of_memories(x: Arguments) -> Array:
    q, k, v, g = x["q"], x["k"], x["v"], x["g"]

    def memory(t: int, read: float, written: Array) -> Array:
        routed = np.where(written > 0, g, 0.0)
        return read * sum(decayed(routed, t, j) * written[j] * (q[t] @ k[j]) * v[j] for j in range(t + 1))

    ones = np.ones(len(q))
    return past(
        lambda t: memory(t, 1.0, ones) + memory(t, x["r1"][t], x["r1"]) + memory(t, x["r2"][t], x["r2"]), len(q)
    )


def mamba3_real(x: Arguments) -> Array:
    """A token is written twice: by its own weight, and by the next token's, one decay later."""
    C, B, u, dt, now = x["C"], x["B"], x["x"], x["dt"], x["l"]
    g = dt * x["A"]

    def at(t: int) -> Array:
        again = [(1 - now[j + 1]) * dt[j + 1] if j < t else 0.0 for j in range(t + 1)]
        return (
            sum((C[t] @ B[j]) * u[j] * (now[j] * dt[j] + again[j]) * decayed(g, t, j) for j in range(t + 1))
            + x["D"] * u[t]
        )

    return past(at, len(C))


def mlstm_sigmoid(x: Arguments) -> Array:
    q, k, v, f = x["q"], x["k"], x["v"], np.log(sigmoid(x["f"]))
    i = sigmoid(x["i"])
    return past(lambda t: sum(decayed(f, t, j) * i[j] * (q[t] @ k[j]) * v[j] for j in range(t + 1)), len(q))


def regla(x: Arguments) -> Array:
    g, r = x["g"], x["r"]
    f = (1 - r) * g**2 + r * (1 - (1 - g) ** 2)
    q, k, v = softmax(x["q"]), (1 - f) * softmax(x["k"]), x["v"]
    return past(lambda t: sum((q[t] * decayed(np.log(f), t, j)) @ k[j] * v[j] for j in range(t + 1)), len(q))


def error_free(x: Arguments) -> Array:
    """The flow of S' = k (v - S' k)' over a time beta, in many small steps of Runge and Kutta."""
    S, found = np.zeros((x["k"].shape[1], x["v"].shape[1])), []
    for q, k, v, beta in zip(x["q"], x["k"], x["v"], x["beta"], strict=True):
        steps = 200
        h = beta / steps
        for _ in range(steps):
            a = np.outer(k, v - S.T @ k)
            b = np.outer(k, v - (S + h / 2 * a).T @ k)
            c = np.outer(k, v - (S + h / 2 * b).T @ k)
            d = np.outer(k, v - (S + h * c).T @ k)
            S = S + h / 6 * (a + 2 * b + 2 * c + d)
        found.append(S.T @ q)
    return np.stack(found)


def min_gru(x: Arguments) -> Array:
    keep = np.log(1 - sigmoid(x["z"]))
    new = sigmoid(x["z"]) * x["c"]
    return past(lambda t: sum(decayed(keep, t, j) * new[j] for j in range(t + 1)), len(new))


def min_lstm(x: Arguments) -> Array:
    f, i = sigmoid(x["f"]), sigmoid(x["i"])
    keep, new = np.log(f / (f + i)), i / (f + i) * x["c"]
    return past(lambda t: sum(decayed(keep, t, j) * new[j] for j in range(t + 1)), len(new))


def longhorn(x: Arguments) -> Array:
    """The step that minimises |S - S_{t-1}|^2 + sum_d beta_d (S k - x)_d^2, with k k' replaced by its diagonal."""
    q, k, u = x["q"], x["k"], x["x"]
    e = x["beta"] / (1 + x["beta"] * (k**2).sum(1, keepdims=True))
    keep = np.log(1 - e[:, :, None] * k[:, None, :] ** 2)
    return past(
        lambda t: sum((decayed(keep, t, j) * (e[j] * u[j])[:, None] * k[j]) @ q[t] for j in range(t + 1)), len(q)
    )


def h3(x: Arguments) -> Array:
    """Two convolutions with products before, between and after them."""
    q, k, v = x["q"], x["k"], x["v"]
    delayed = [np.concatenate([np.zeros_like(k[:n]), k[: len(k) - n]]) for n in range(4)]
    u = sum(x[f"w{n}"] * delayed[n] for n in range(4)) * v

    def at(t: int) -> Array:
        response = [(x["c"] * np.exp((t - j) * x["a"]) * x["b"]).sum(1) for j in range(t + 1)]
        return q[t] * (sum(response[j] * u[j] for j in range(t + 1)) + x["d"] * u[t])

    return past(at, len(q))


def mega_ema(x: Arguments) -> Array:
    def response(lag: int) -> Array:
        return (x["eta"] * (1 - x["alpha"] * x["delta"]) ** lag * x["alpha"] * x["b"]).sum(1)

    return past(lambda t: sum(response(t - j) * x["x"][j] for j in range(t + 1)), len(x["x"]))


def mega_attention(x: Arguments) -> Array:
    q, k = x["z"] * x["mq"] + x["bq"], x["z"] * x["mk"] + x["bk"]
    return x["r"] * (causal_softmax(q @ k.T / np.sqrt(q.shape[1]) + x["b"]) @ x["v"])


FORMULAS: Mapping[str, Callable[[Arguments], Array]] = {
    f.__name__: f
    for f in (
        scalable_softmax, gated_attention, differential_attention, laser, wall_attention, power_attention, higher_order,
        lightnet, mixture_of_memories, mamba3_real, mlstm_sigmoid, regla, error_free, min_gru, min_lstm, longhorn, h3,
        mega_ema, mega_attention,
    )
}  # fmt: skip
