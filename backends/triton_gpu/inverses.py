"""Inverses of unit triangular tiles, by the binary levels of their rows."""

import triton
import triton.language as tl


@triton.jit
def unit_inverse(n, LEVELS: tl.constexpr, REVERSE: tl.constexpr, PRECISION: tl.constexpr):
    """(I + n)^-1 of a strictly triangular tile, by binary levels: X <- X - X (n on the level) X.

    Levels within 16 rows take the blocks on the diagonal alone: small products, for which warps needn't meet.
    """
    C: tl.constexpr = n.shape[0]
    INNER: tl.constexpr = 4
    B: tl.constexpr = 2**INNER
    i, j = tl.arange(0, C // B)[:, None, None, None], tl.arange(0, C // B)[None, None, :, None]
    blocks = tl.sum(tl.where(i == j, tl.reshape(n, (C // B, B, C // B, B)), 0.0), axis=2)
    within = diagonal_inverse(blocks, INNER, REVERSE, PRECISION)
    x = tl.reshape(tl.where(i == j, tl.expand_dims(within, 2), 0.0), (C, C))
    row, col = tl.arange(0, C)[:, None], tl.arange(0, C)[None, :]
    query, key = (col, row) if REVERSE else (row, col)
    for level in tl.static_range(INNER, LEVELS):
        right = tl.dot(tl.where(meets_at(query, key, level), n, 0.0), x, input_precision=PRECISION)
        x -= tl.dot(x, right, input_precision=PRECISION)
    return x


@triton.jit
def diagonal_inverse(n, LEVELS: tl.constexpr, REVERSE: tl.constexpr, PRECISION: tl.constexpr):
    """The same of several tiles of 2**LEVELS rows each."""
    B: tl.constexpr = 2**LEVELS
    i, j = tl.arange(0, B)[None, :, None], tl.arange(0, B)[None, None, :]
    query, key = (j, i) if REVERSE else (i, j)
    x = tl.where(i == j, 1.0, 0.0) - tl.where(meets_at(query, key, 0), n, 0.0)
    for level in tl.static_range(1, LEVELS):
        right = tl.dot(tl.where(meets_at(query, key, level), n, 0.0), x, input_precision=PRECISION)
        x -= tl.dot(x, right, input_precision=PRECISION)
    return x


@triton.jit
def meets_at(query, key, level):
    """Whether the query's block of 2**level rows is odd, and the key's the even one before it."""
    return (((query >> level) & 1) == 1) & ((query >> level) == (key >> level) + 1)
