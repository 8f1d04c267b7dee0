"""Softmax over the columns of a tile, from basic operations."""

from smir.ir import tile
from smir.ir.graph import Node

# below every float32 logit that matters, and finite
_LOWEST = -3.0e38
_ZERO, _ONE = tile.const(0.0), tile.const(1.0)


def masked_softmax(logits: Node, mask: Node | None = None) -> Node:
    """Weights of every row; entries whose `mask` is zero count as -inf, and a row of nothing but -inf gives zeros."""
    if mask is not None:
        kept = tile.pointwise("ne", mask, _ZERO)
        logits = tile.pointwise("where", kept, logits, tile.const(float("-inf")))
    # the maximum is clamped so that a row of -inf gives exp(-inf) = 0, not exp(-inf + inf)
    top = tile.pointwise("max", tile.reduce_max(logits, 1), tile.const(_LOWEST))
    weights = tile.pointwise("exp", tile.pointwise("sub", logits, top))
    total = tile.reduce_sum(weights, 1)
    return tile.pointwise("div", weights, tile.pointwise("where", tile.pointwise("eq", total, _ZERO), _ONE, total))
