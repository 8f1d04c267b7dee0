"""Tile operations on the binary levels of a chunk: masks, mixed tiles, distances.

On a level the rows of a tile stand in blocks of 2**level tokens; an odd block and the even one before it are a pair.
Masks and sums are the constant matrices of `level_weights.py`.
"""

import triton
import triton.language as tl

from smir.backends.triton_gpu.tiles import weigh_rows


@triton.jit
def level_weights(levels_ptr, KIND: tl.constexpr, level, C: tl.constexpr):
    """A constant matrix of a level, of those in `level_weights.py`."""
    i, m = tl.arange(0, C)[:, None], tl.arange(0, C)[None, :]
    return tl.load(levels_ptr + (level * 11 + KIND) * (C * C) + i * C + m)


@triton.jit
def level_running_sum(
    x, levels_ptr, LEVELS: tl.constexpr, REVERSE: tl.constexpr, EXCLUSIVE: tl.constexpr, PARTS: tl.constexpr
):
    """`running_sum` by the constant matrices of the whole chunk, which stand after those of all levels."""
    C: tl.constexpr = x.shape[0]
    return weigh_rows(level_weights(levels_ptr, 2 * REVERSE + EXCLUSIVE, LEVELS, C), x, PARTS)


@triton.jit
def level_mask(a, levels_ptr, level, REVERSE: tl.constexpr):
    """Keeps (i, j) with i in an odd block of 2**level rows and j in the even one before it (reverse: swapped)."""
    ordered = level_weights(levels_ptr, 2 if REVERSE else 1, level, a.shape[0])
    return tl.where(ordered != 0, a, 0.0)


@triton.jit
def level_product(
    queries, keys, levels_ptr, level, REVERSE: tl.constexpr, PRODUCT: tl.constexpr, PRECISION: tl.constexpr
):
    """`level_mask(queries @ keys.T)` from one tile: the queries' rows in odd blocks, the keys' in even ones."""
    mixed = pick_rows(queries, keys, level, REVERSE).to(PRODUCT)
    return level_mask(tl.dot(mixed, tl.trans(mixed), input_precision=PRECISION), levels_ptr, level, REVERSE)


@triton.jit
def weighted_level_product(
    queries, keys, weights, levels_ptr, level, REVERSE: tl.constexpr, PRODUCT: tl.constexpr, PRECISION: tl.constexpr
):
    """`level_mask((queries * weights) @ (keys * weights).T)`."""
    mixed = (pick_rows(queries, keys, level, REVERSE).to(tl.float32) * weights).to(PRODUCT)
    return level_mask(tl.dot(mixed, tl.trans(mixed), input_precision=PRECISION), levels_ptr, level, REVERSE)


@triton.jit
def precise_level_product(
    queries, keys, weights, levels_ptr, level, REVERSE: tl.constexpr, PRODUCT: tl.constexpr, PRECISION: tl.constexpr
):
    """The same with all digits of both sides: two products more, of what rounding takes from one side and the other."""
    mixed = pick_rows(queries, keys, level, REVERSE).to(tl.float32) * weights
    high = mixed.to(PRODUCT)
    total = tl.dot(high, tl.trans(high), input_precision=PRECISION)
    if mixed.dtype != PRODUCT:
        low = (mixed - high.to(tl.float32)).to(PRODUCT)
        total = tl.dot(high, tl.trans(low), tl.dot(low, tl.trans(high), total))
    return level_mask(total, levels_ptr, level, REVERSE)


@triton.jit
def laid_out(x, PRODUCT: tl.constexpr):
    """The same tile, laid out as results of products are, if it has the products' type: as a product with ones on the
    diagonal. A loop over levels would exchange it between threads at every level.
    """
    C: tl.constexpr = x.shape[0]
    if x.dtype == PRODUCT and x.dtype != tl.float32:
        ones = (tl.arange(0, C)[:, None] == tl.arange(0, C)[None, :]).to(PRODUCT)
        y = tl.dot(ones, x).to(PRODUCT)
    else:
        y = x
    return y


@triton.jit
def pick_rows(queries, keys, level, REVERSE: tl.constexpr):
    """The queries' rows where they act as queries at this level, else the keys'."""
    C: tl.constexpr = queries.shape[0]
    odd = (((tl.arange(0, C) >> level) & 1) == 1)[:, None]
    return tl.where(odd, keys, queries) if REVERSE else tl.where(odd, queries, keys)


@triton.jit
def mirrored(a, turned, REVERSE: tl.constexpr):
    """The part below the diagonal (reverse: above it), and on the other side that of the transposed tile."""
    C: tl.constexpr = a.shape[0]
    i, j = tl.arange(0, C)[:, None], tl.arange(0, C)[None, :]
    own = i < j if REVERSE else i > j
    return tl.where(own, a, turned)


@triton.jit
def same_pair(a, levels_ptr, level):
    """Keeps (i, j) in different blocks of one pair of blocks of 2**level rows."""
    return a * level_weights(levels_ptr, 0, level, a.shape[0]).to(a.dtype)


@triton.jit
def level_rows(a, level, ODD: tl.constexpr):
    """Keeps the rows in odd (even) blocks of 2**level rows."""
    odd = (((tl.arange(0, a.shape[0]) >> level) & 1) == 1)[:, None]
    kept = odd if ODD else odd == 0
    return tl.where(kept, a, 0.0)


@triton.jit
def pair_distance(
    g, prefix, suffix, levels_ptr, level, REVERSE: tl.constexpr, EXCLUSIVE: tl.constexpr, PARTS: tl.constexpr
):
    """Sums between a row and the boundary of its pair of blocks: up to it in odd blocks, from it on in even ones.

    Sums for exponents of 16-bit products are products themselves; those of others are added up from level to level.
    """
    if (PARTS == 1 or PARTS == 2) and g.shape[1] > 1:
        total = weigh_rows(level_weights(levels_ptr, 3 + 2 * REVERSE + EXCLUSIVE, level, g.shape[0]), g, PARTS)
    else:
        odd = (((tl.arange(0, prefix.shape[0]) >> level) & 1) == 1)[:, None]
        total = tl.where(odd, prefix, suffix)
    return total


@triton.jit
def next_level(prefix, suffix, own, level, PARTS: tl.constexpr):
    """From blocks of 2**level rows to blocks of twice as many: the sums up to a row, and from it on.

    Both together are a block's sum, if one of them holds the row's `own` value.
    """
    if (PARTS != 1 and PARTS != 2) or prefix.shape[1] == 1:
        row = tl.arange(0, prefix.shape[0])[:, None]
        total = prefix + suffix + own
        other = tl.gather(total, tl.broadcast_to(row ^ (1 << level), total.shape), 0)
        odd = ((row >> level) & 1) == 1
        prefix = prefix + tl.where(odd, other, 0.0)
        suffix = suffix + tl.where(odd, 0.0, other)
    return prefix, suffix


@triton.jit
def pair_collect(d, levels_ptr, level, REVERSE: tl.constexpr, EXCLUSIVE: tl.constexpr, PARTS: tl.constexpr):
    """The transpose of the distance as a linear map: row m sums d over the rows whose distance counts m.

    These are gradients, not exponents: where products take 16 bits, so does this one.
    """
    weights = level_weights(levels_ptr, 7 + 2 * REVERSE + EXCLUSIVE, level, d.shape[0])
    if d.shape[1] == 1:
        total = tl.sum(weights.to(tl.float32) * tl.trans(d), axis=1, keep_dims=True)
    else:
        total = weigh_rows(weights, d, 1 if PARTS == 2 else PARTS)
    return total
