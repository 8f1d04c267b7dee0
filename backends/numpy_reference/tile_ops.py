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
    """Running sum over the rows, from the last one when `reverse`; `exclusive` leaves the row itself out.

    A product with a matrix of zeros and ones: the fastest way to sum each row's own terms, and only those.
    """
    i, j = np.arange(a.shape[-2])[:, None], np.arange(a.shape[-2])
    counts = (j > i if exclusive else j >= i) if reverse else (j < i if exclusive else j <= i)
    return np.matmul(counts.astype(a.dtype), a)


def segment_sum(g: Array, reverse: bool = False, exclusive: bool = False) -> Array:
    """D_ij = sum of g over j+1..i (`exclusive`: j+1..i-1), 0 where that is empty; `reverse`: over i..j-1 (i+1..j-1).

    Column j adds up only the rows that count for it, so a huge g elsewhere never cancels.
    """
    i, j = np.arange(g.shape[-2])[:, None], np.arange(g.shape[-2])
    after = (i < j if reverse else i > j).astype(g.dtype)
    return cumsum(g * after, reverse, exclusive)


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
            x[..., second, first] = -np.matmul(
                np.matmul(x[..., second, second], n[..., second, first]), x[..., first, first]
            )
        size *= 2
    return x


def pair_counts(rows: int, level: int, reverse: bool = False, exclusive: bool = False) -> Array:
    """Which rows m (columns) count for the distance of row i: see `pair_distance`."""
    i, m = np.arange(rows)[:, None], np.arange(rows)
    if reverse:
        query, between = (i // level) % 2 == 0, (m >= i, m < i)
    else:
        query, between = (i // level) % 2 == 1, (m <= i, m > i)
    to_query = between[0] & (m != i) if exclusive else between[0]
    return (i // level == m // level) & np.where(query, to_query, between[1])


def pair_distance(g: Array, level: int, reverse: bool = False, exclusive: bool = False) -> Array:
    """Sum of g between a row and the boundary of its pair of blocks of `level` rows.

    Odd blocks: from the block's start to the row (without it when `exclusive`); even blocks: from the next row to
    the block's end. `reverse` mirrors both in time.
    """
    return np.matmul(pair_counts(g.shape[-2], level, reverse, exclusive).astype(g.dtype), g)


def pair_collect(d: Array, level: int, reverse: bool = False, exclusive: bool = False) -> Array:
    """The transpose of `pair_distance`: entry m sums d over the rows whose distance counts m."""
    return np.matmul(pair_counts(d.shape[-2], level, reverse, exclusive).T.astype(d.dtype), d)


def level_mask(a: Array, level: int, reverse: bool = False) -> Array:
    """Keeps (i, j) where i is in an odd block of `level` rows and j in the even one before it (`reverse`: swapped)."""
    block = np.arange(a.shape[-1]) // level
    i, j = (block[None, :], block[:, None]) if reverse else (block[:, None], block[None, :])
    return np.where((i % 2 == 1) & (j == i - 1), a, np.zeros((), a.dtype))


def level_scores(q: Array, k: Array, g: Array, reverse: bool = False, exclusive: bool = False) -> Array:
    """Scores sum over K of q_ik k_jk e^(sum of g_k between j and i) of all j < i (`reverse`: j > i), level by level.

    The same as summing `level_mask((q w) @ (k w)^T)` with w = e^pair_distance(g) over all levels. Going up a level
    multiplies w by the decay of the neighbouring block, so no exponent but g itself is ever taken.
    """
    if reverse:
        q, k, g = (a[..., ::-1, :] for a in (q, k, g))
        return level_scores(q, k, g, exclusive=exclusive)[..., ::-1, ::-1]
    count = g.shape[-2]
    size = 1 << (count - 1).bit_length()
    shape = np.broadcast_shapes(q.shape, k.shape, g.shape)
    q, k, decay = (np.broadcast_to(a, shape) for a in (q, k, np.exp(g)))
    if size != count:
        fill = [(0, 0)] * (len(shape) - 2) + [(0, size - count), (0, 0)]
        q, k, decay = np.pad(q, fill), np.pad(k, fill), np.pad(decay, fill, constant_values=1.0)
    scores = np.zeros((*shape[:-2], size, size), decay.dtype)
    # decay from the start of a row's block to the row, after the row to the block's end, and over the whole block
    first = np.ones_like(decay) if exclusive else decay.copy()
    last, whole = np.ones_like(decay), decay
    level = 1
    while level < size:
        pairs = (*shape[:-2], size // (2 * level), 2, level, shape[-1])
        first, last = first.reshape(pairs), last.reshape(pairs)
        whole = whole.reshape(*shape[:-2], size // (2 * level), 2, shape[-1])
        query = q.reshape(pairs)[..., 1, :, :] * first[..., 1, :, :]
        key = k.reshape(pairs)[..., 0, :, :] * last[..., 0, :, :]
        blocks = scores.reshape(*shape[:-2], size // (2 * level), 2, level, size // (2 * level), 2, level)
        blocks = np.einsum("...papb->...pab", blocks[..., :, 1, :, :, 0, :])
        blocks[...] = np.matmul(query, np.swapaxes(key, -1, -2))
        first[..., 1, :, :] *= whole[..., 0, None, :]
        last[..., 0, :, :] *= whole[..., 1, None, :]
        whole = whole[..., 0, :] * whole[..., 1, :]
        level *= 2
    return scores[..., :count, :count]


def rotate(theta: Array, a: Array, axis: int, inverse: bool = False) -> Array:
    """Rotates interleaved pairs along `axis` (0 rows, 1 columns) by the angles theta (half as long there)."""
    if axis == 0:
        return np.swapaxes(rotate(np.swapaxes(theta, -1, -2), np.swapaxes(a, -1, -2), 1, inverse), -1, -2)
    cos, sin = np.cos(theta), -np.sin(theta) if inverse else np.sin(theta)
    even, odd = a[..., 0::2], a[..., 1::2]
    turned = np.stack([even * cos - odd * sin, even * sin + odd * cos], axis=-1)
    return turned.reshape(*turned.shape[:-2], -1)


def cross_pairs(a: Array, b: Array, axis: int) -> Array:
    """Per interleaved pair along `axis`, a0 b1 - a1 b0."""
    if axis == 0:
        return np.swapaxes(cross_pairs(np.swapaxes(a, -1, -2), np.swapaxes(b, -1, -2), 1), -1, -2)
    return a[..., 0::2] * b[..., 1::2] - a[..., 1::2] * b[..., 0::2]


def turn_pairs(a: Array, b: Array, axis: int) -> Array:
    """Per interleaved pair of b along `axis`, (a b1, -a b0)."""
    if axis == 0:
        return np.swapaxes(turn_pairs(np.swapaxes(a, -1, -2), np.swapaxes(b, -1, -2), 1), -1, -2)
    turned = np.stack((a * b[..., 1::2], -a * b[..., 0::2]), axis=-1)
    return turned.reshape(*turned.shape[:-2], -1)


def scan(decay: Array, write: Array, start: Array, kind: str = "sum", reverse: bool = False) -> Array:
    """A state after each row: h = decay h- + write, or its `max` or `logsum` kin, where decays add.

    `start` is the state before the first row (`reverse`: after the last one). Row by row.
    """
    shape = np.broadcast_shapes(decay.shape, write.shape, (*start.shape[:-2], 1, 1))
    states = np.empty(shape, np.result_type(decay, write, start))
    state = start[..., 0, :]
    for row in range(shape[-2])[:: -1 if reverse else 1]:
        if kind == "sum":
            state = decay[..., row, :] * state + write[..., row, :]
        else:
            join = np.maximum if kind == "max" else np.logaddexp
            state = join(decay[..., row, :] + state, write[..., row, :])
        states[..., row, :] = state
    return states


def shift(a: Array, start: Array, reverse: bool = False) -> Array:
    """Each row holds the one before it (`reverse`: after it), the first (last) one `start`."""
    batch = np.broadcast_shapes(a.shape[:-2], start.shape[:-2])
    a, start = np.broadcast_to(a, batch + a.shape[-2:]), np.broadcast_to(start, batch + start.shape[-2:])
    return np.concatenate([a[..., 1:, :], start] if reverse else [start, a[..., :-1, :]], axis=-2)


def edge_row(a: Array, reverse: bool = False) -> Array:
    """The last row (`reverse`: the first)."""
    return a[..., :1, :] if reverse else a[..., -1:, :]


def place_row(row: Array, count: int, reverse: bool = False) -> Array:
    """`count` rows of zeros, but the last (`reverse`: first) is this one."""
    tile = np.zeros((*row.shape[:-2], count, row.shape[-1]), row.dtype)
    tile[..., 0 if reverse else -1, :] = row[..., 0, :]
    return tile


def spread_lanes(a: Array, count: int, part: int) -> Array:
    """Columns to the lanes of a matrix, repeated `count` times along the part that they lack (`part` 0: the inner)."""
    return np.repeat(a, count, axis=-1) if part == 0 else np.tile(a, count)


def fold_lanes(a: Array, count: int, part: int) -> Array:
    """Lanes of a matrix to one of its parts (0: the outer), summed over the `count` entries of the other."""
    if part == 0:
        return a.reshape(*a.shape[:-1], -1, count).sum(axis=-1)
    return a.reshape(*a.shape[:-1], count, -1).sum(axis=-2)


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
    "pair_collect": pair_collect,
    "level_mask": level_mask,
    "rotate": rotate,
    "cross_pairs": cross_pairs,
    "turn_pairs": turn_pairs,
    "scan": scan,
    "shift": shift,
    "edge_row": edge_row,
    "place_row": place_row,
    "spread": spread_lanes,
    "fold": fold_lanes,
}
TILE_OPS: dict[str, Callable[..., Array]] = STRUCTURAL | {name: op.numpy for name, op in POINTWISE.items()}
