"""What every tile operation means, in numpy: one small function each, on arrays `[..., rows, cols]`.

Leading axes are batch axes and broadcast. The functions depend on numpy alone, because the printed numpy program
contains the source of those it uses. Pointwise operations come from the shared table.

A chunk's rows are the leaves of a binary tree; a pair of rows (i, j) belongs to the level s = 1, 2, 4, .. of the
highest binary digit in which i and j differ. That holds for any number of rows, powers of two or not.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from smir.ir.ops import POINTWISE

Array = Any


def levels(count: int) -> Iterator[int]:
    """The levels of a chunk of `count` rows: 1, 2, 4, .. < count."""
    level = 1
    while level < count:
        yield level
        level *= 2


def dot(a: Array, b: Array) -> Array:
    """Matrix product, batched."""
    return np.matmul(a, b)


def transpose(a: Array) -> Array:
    """Rows and columns exchanged."""
    return np.swapaxes(a, -1, -2)


def reduce_sum(a: Array, axis: int) -> Array:
    """Sum over the rows (axis 0) or the columns (axis 1), kept as an axis of size one."""
    return a.sum(axis=axis - 2, keepdims=True)


def reduce_max(a: Array, axis: int) -> Array:
    """Maximum over the rows (axis 0) or the columns (axis 1), kept as an axis of size one."""
    return a.max(axis=axis - 2, keepdims=True)


def cumsum(a: Array, reverse: bool = False, exclusive: bool = False) -> Array:
    """Running sum over the rows, from the last one when `reverse`; `exclusive` leaves the row itself out."""
    flipped = a[..., ::-1, :] if reverse else a
    if exclusive:
        flipped = np.concatenate([np.zeros_like(flipped[..., :1, :]), flipped[..., :-1, :]], axis=-2)
    total = np.cumsum(flipped, axis=-2)
    return total[..., ::-1, :] if reverse else total


def segment_sum(g: Array, reverse: bool = False, exclusive: bool = False) -> Array:
    """D_ij = sum of g over j+1..i (`exclusive`: j+1..i-1), 0 where that is empty; `reverse`: over i..j-1 (i+1..j-1).

    Column j adds up only the rows that count for it, so a huge g elsewhere never cancels.
    """
    rows = np.arange(g.shape[-2])
    after = rows[:, None] < rows if reverse else rows[:, None] > rows
    taken = np.where(after, g, np.zeros((), g.dtype))
    if reverse:
        taken = taken[..., ::-1, :]
    total = np.cumsum(taken, axis=-2)
    if exclusive:
        total = np.concatenate([np.zeros_like(total[..., :1, :]), total[..., :-1, :]], axis=-2)
    return total[..., ::-1, :] if reverse else total


def mask(a: Array, kind: str, fill: float = 0.0) -> Array:
    """Keeps the entries of a square tile that `kind` names (lower, strict_lower, upper, strict_upper, eye)."""
    i, j = np.arange(a.shape[-2])[:, None], np.arange(a.shape[-1])
    keep = {"lower": i >= j, "strict_lower": i > j, "upper": i <= j, "strict_upper": i < j, "eye": i == j}[kind]
    return np.where(keep, a, np.asarray(fill, a.dtype))


def valid_rows(a: Array, count: Array, fill: float = 0.0) -> Array:
    """Rows from `count` on (tokens beyond the sequence's end) become `fill`."""
    return np.where(np.arange(a.shape[-2])[:, None] < count, a, np.asarray(fill, a.dtype))


def unit_inverse(n: Array, reverse: bool = False) -> Array:
    """(I + N)^-1 of a strictly lower (`reverse`: upper) triangular N, by binary levels.

    X starts as the identity; at level s two inverted blocks of s rows become one of 2s: X21 = -X22 N21 X11.
    """
    if reverse:
        return np.swapaxes(unit_inverse(np.swapaxes(n, -1, -2)), -1, -2)
    count = n.shape[-1]
    x = np.broadcast_to(np.eye(count, dtype=n.dtype), n.shape).copy()
    size = 1
    while size < count:
        for start in range(0, count - size, 2 * size):
            first, second = slice(start, start + size), slice(start + size, min(start + 2 * size, count))
            x[..., second, first] = -np.matmul(np.matmul(x[..., second, second], n[..., second, first]), x[..., first, first])
        size *= 2
    return x


def pair_distance(g: Array, level: int, reverse: bool = False, exclusive: bool = False) -> Array:
    """Sum of g between a row and the boundary of its pair of blocks of `level` rows.

    Odd blocks: from the block's start to the row (without it when `exclusive`); even blocks: from the next row to
    the block's end. `reverse` mirrors both in time.
    """
    count, size = g.shape[-2], 2 * level
    ragged = [(0, 0)] * (g.ndim - 2) + [(0, -count % size), (0, 0)]
    pairs = np.pad(g, ragged) if count % size else g
    pairs = pairs.reshape(*g.shape[:-2], -1, 2, level, g.shape[-1])
    query, key = (0, 1) if reverse else (1, 0)
    step = -1 if reverse else 1
    distance = np.zeros_like(pairs)
    inward, outward = pairs[..., query, ::step, :], pairs[..., key, ::-step, :]
    if exclusive:
        distance[..., query, ::step, :][..., 1:, :] = np.cumsum(inward[..., :-1, :], axis=-2)
    else:
        distance[..., query, ::step, :] = np.cumsum(inward, axis=-2)
    distance[..., key, ::-step, :][..., 1:, :] = np.cumsum(outward[..., :-1, :], axis=-2)
    return distance.reshape(*g.shape[:-2], -1, g.shape[-1])[..., :count, :]


def level_mask(a: Array, level: int, reverse: bool = False) -> Array:
    """Keeps (i, j) where i is in an odd block of `level` rows and j in the even one before it (`reverse`: swapped)."""
    block = np.arange(a.shape[-1]) // level
    i, j = (block[None, :], block[:, None]) if reverse else (block[:, None], block[None, :])
    return np.where((i % 2 == 1) & (j == i - 1), a, np.zeros((), a.dtype))


def rotate(theta: Array, a: Array, axis: int, inverse: bool = False) -> Array:
    """Rotates interleaved pairs along `axis` (0 rows, 1 columns) by the angles theta (half as long there)."""
    if axis == 0:
        return np.swapaxes(rotate(np.swapaxes(theta, -1, -2), np.swapaxes(a, -1, -2), 1, inverse), -1, -2)
    cos, sin = np.cos(theta), -np.sin(theta) if inverse else np.sin(theta)
    even, odd = a[..., 0::2], a[..., 1::2]
    turned = np.stack([even * cos - odd * sin, even * sin + odd * cos], axis=-1)
    return turned.reshape(*turned.shape[:-2], -1)


STRUCTURAL: dict[str, Callable[..., Array]] = {
    "dot": dot,
    "transpose": transpose,
    "sum": reduce_sum,
    "reduce_max": reduce_max,
    "cumsum": cumsum,
    "segment_sum": segment_sum,
    "mask": mask,
    "valid_rows": valid_rows,
    "unit_inverse": unit_inverse,
    "pair_distance": pair_distance,
    "level_mask": level_mask,
    "rotate": rotate,
}
TILE_OPS: dict[str, Callable[..., Array]] = STRUCTURAL | {name: op.numpy for name, op in POINTWISE.items()}
