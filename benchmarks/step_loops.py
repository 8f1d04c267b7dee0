"""Plain batched numpy step loops, written by hand from the equations: the baseline of the chunked form."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def linear_attention(q: Array, k: Array, v: Array) -> Array:
    """q, k `[B, T, H, K]`, v `[B, T, H, V]` to y `[B, T, H, V]`."""
    state, y = _start(q, v)
    for t in range(q.shape[1]):
        state = state + _outer(k[:, t], v[:, t])
        y[:, t] = _read(state, q[:, t])
    return y


def scalar_decay(q: Array, k: Array, v: Array, g: Array) -> Array:
    """g `[B, T, H]` is the logarithm of the decay."""
    state, y = _start(q, v)
    for t in range(q.shape[1]):
        state = np.exp(g[:, t, :, None, None]) * state + _outer(k[:, t], v[:, t])
        y[:, t] = _read(state, q[:, t])
    return y


def gla(q: Array, k: Array, v: Array, g: Array) -> Array:
    """g `[B, T, H, K]` is the logarithm of every key channel's decay."""
    state, y = _start(q, v)
    for t in range(q.shape[1]):
        state = np.exp(g[:, t, :, :, None]) * state + _outer(k[:, t], v[:, t])
        y[:, t] = _read(state, q[:, t])
    return y


def gated_delta_rule(q: Array, k: Array, v: Array, g: Array, beta: Array) -> Array:
    """beta `[B, T, H]` is the strength of the write."""
    state, y = _start(q, v)
    for t in range(q.shape[1]):
        decayed = np.exp(g[:, t, :, None, None]) * state
        new = beta[:, t, :, None] * (v[:, t] - _read(decayed, k[:, t]))
        state = decayed + _outer(k[:, t], new)
        y[:, t] = _read(state, q[:, t])
    return y


def _start(q: Array, v: Array) -> tuple[Array, Array]:
    """The empty state `[B, H, K, V]` and room for the output."""
    return np.zeros((q.shape[0], q.shape[2], q.shape[3], v.shape[3]), q.dtype), np.empty_like(v)


def _outer(k: Array, v: Array) -> Array:
    return k[..., :, None] * v[..., None, :]


def _read(state: Array, q: Array) -> Array:
    return (q[..., None, :] @ state)[..., 0, :]


LOOPS = {
    "linear_attention": linear_attention,
    "scalar_decay": scalar_decay,
    "gla": gla,
    "gated_delta_rule": gated_delta_rule,
}
