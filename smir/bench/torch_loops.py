"""Plain loops over tokens in torch, written by hand from the equations: what one has without a compiler."""

from typing import Any

Tensor = Any


def linear_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """q, k `[B, T, H, K]`, v `[B, T, H, V]` to y `[B, T, H, V]`."""
    return _swept(q, k, v, lambda S, t: S + _outer(k[:, t], v[:, t]))


def scalar_decay(q: Tensor, k: Tensor, v: Tensor, g: Tensor) -> Tensor:
    """g `[B, T, H]` is the logarithm of the decay."""
    return _swept(q, k, v, lambda S, t: g[:, t, :, None, None].exp() * S + _outer(k[:, t], v[:, t]))


def gla(q: Tensor, k: Tensor, v: Tensor, g: Tensor) -> Tensor:
    """g `[B, T, H, K]` is the logarithm of every key channel's decay."""
    return _swept(q, k, v, lambda S, t: g[:, t, :, :, None].exp() * S + _outer(k[:, t], v[:, t]))


def gated_delta_rule(q: Tensor, k: Tensor, v: Tensor, g: Tensor, beta: Tensor) -> Tensor:
    """beta `[B, T, H]` is the strength of the write."""

    def step(S: Tensor, t: int) -> Tensor:
        decayed = g[:, t, :, None, None].exp() * S
        new = beta[:, t, :, None] * (v[:, t] - _read(decayed, k[:, t]))
        return decayed + _outer(k[:, t], new)

    return _swept(q, k, v, step)


def _swept(q: Tensor, k: Tensor, v: Tensor, step: Any) -> Tensor:
    """y of a state `[B, H, K, V]` that `step(S, t)` moves on, from zero."""
    import torch

    S, found = q.new_zeros(q.shape[0], q.shape[2], q.shape[3], v.shape[3]), []
    for t in range(q.shape[1]):
        S = step(S, t)
        found.append(_read(S, q[:, t]))
    return torch.stack(found, 1)


def _outer(k: Tensor, v: Tensor) -> Tensor:
    return k[..., :, None] * v[..., None, :]


def _read(S: Tensor, q: Tensor) -> Tensor:
    return (q[..., None, :] @ S)[..., 0, :]
