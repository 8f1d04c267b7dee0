"""A kernel of its own around the kernels' sums between rows. Imports triton: only for processes of `conftest`."""

import numpy as np
import torch
import triton
import triton.language as tl

from smir.backends.triton_gpu.tiles import running_sum_column, segment_sum


@triton.jit
def between(g_ptr, d_ptr, s_ptr, C: tl.constexpr, REVERSE: tl.constexpr, EXCLUSIVE: tl.constexpr):
    row = tl.arange(0, C)
    g = tl.load(g_ptr + row[:, None])
    tl.store(d_ptr + row[:, None] * C + row[None, :], segment_sum(g, REVERSE, EXCLUSIVE))
    tl.store(s_ptr + row[:, None], running_sum_column(g, REVERSE, EXCLUSIVE))


def relative_error(reverse: bool, exclusive: bool, resets: bool) -> float:
    """The largest error of a sum, of logs between -1e-6 and -30 and clamped resets: of exponents, so that errors count
    relative to those above one, and as they are below."""
    rng = np.random.default_rng(0)
    g = -np.exp(rng.uniform(np.log(1e-6), np.log(30.0), 64)).astype(np.float32)
    g[rng.integers(0, 64, 5)] = -16384.0 if resets else -30.0
    found, sums = torch.empty(64, 64), torch.empty(64, 1)
    between[(1,)](torch.tensor(g)[:, None], found, sums, 64, reverse, exclusive)
    exact = np.array([[_sum(g, i, j, reverse, exclusive) for j in range(64)] for i in range(64)])
    column = np.array([_running(g, i, reverse, exclusive) for i in range(64)])
    pairs = (found.numpy(), exact), (sums.numpy()[:, 0], column)
    return max(float(np.max(np.abs(a - b) / np.maximum(np.abs(b), 1.0))) for a, b in pairs)


def _sum(g: np.ndarray, i: int, j: int, reverse: bool, exclusive: bool) -> float:
    """Of the rows between a later row i and an earlier one j, or in reverse."""
    if (i >= j) if reverse else (i <= j):
        return 0.0
    rows = range(i + exclusive, j) if reverse else range(j + 1, i + 1 - exclusive)
    return float(sum(np.float64(g[m]) for m in rows))


def _running(g: np.ndarray, i: int, reverse: bool, exclusive: bool) -> float:
    rows = range(i + exclusive, 64) if reverse else range(i + 1 - exclusive)
    return float(sum(np.float64(g[m]) for m in rows))
