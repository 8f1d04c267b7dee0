"""Plain batched numpy step loops, written by hand: the baseline of the chunked form."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def linear_attention(q: Array, k: Array, v: Array) -> Array:
    """q, k `[B, T, H, K]`, v `[B, T, H, V]` to y `[B, T, H, V]`."""
    state = np.zeros((*q.shape[:1], q.shape[2], q.shape[3], v.shape[3]), q.dtype)
    y = np.empty_like(v)
    for t in range(q.shape[1]):
        state += k[:, t, :, :, None] * v[:, t, :, None, :]
        y[:, t] = (q[:, t, :, None, :] @ state)[..., 0, :]
    return y


def scalar_decay(q: Array, k: Array, v: Array, g: Array) -> Array:
    """g `[B, T, H]` is the logarithm of the decay."""
    state = np.zeros((*q.shape[:1], q.shape[2], q.shape[3], v.shape[3]), q.dtype)
    y, decay = np.empty_like(v), np.exp(g)
    for t in range(q.shape[1]):
        state *= decay[:, t, :, None, None]
        state += k[:, t, :, :, None] * v[:, t, :, None, :]
        y[:, t] = (q[:, t, :, None, :] @ state)[..., 0, :]
    return y


def gla(q: Array, k: Array, v: Array, g: Array) -> Array:
    """g `[B, T, H, K]` is the logarithm of every key channel's decay."""
    state = np.zeros((*q.shape[:1], q.shape[2], q.shape[3], v.shape[3]), q.dtype)
    y, decay = np.empty_like(v), np.exp(g)
    for t in range(q.shape[1]):
        state *= decay[:, t, :, :, None]
        state += k[:, t, :, :, None] * v[:, t, :, None, :]
        y[:, t] = (q[:, t, :, None, :] @ state)[..., 0, :]
    return y


def gated_delta_rule(q: Array, k: Array, v: Array, g: Array, beta: Array) -> Array:
    """beta `[B, T, H]` is the strength of the write."""
    state = np.zeros((*q.shape[:1], q.shape[2], q.shape[3], v.shape[3]), q.dtype)
    y, decay = np.empty_like(v), np.exp(g)
    for t in range(q.shape[1]):
        state *= decay[:, t, :, None, None]
        old = (k[:, t, :, None, :] @ state)[..., 0, :]
        new = beta[:, t, :, None] * (v[:, t] - old)
        state += k[:, t, :, :, None] * new[..., None, :]
        y[:, t] = (q[:, t, :, None, :] @ state)[..., 0, :]
    return y


LOOPS = {
    "linear_attention": linear_attention,
    "scalar_decay": scalar_decay,
    "gla": gla,
    "gated_delta_rule": gated_delta_rule,
}
