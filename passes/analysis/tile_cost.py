"""What one tile operation costs: multiply-adds count as two operations, elements as memory traffic.

`size` maps an axis name to its length, a number or a sympy symbol: the same rules serve the partitioner's
decisions and the symbolic costs of whole forms.
"""

from collections.abc import Callable
from typing import Any

from smir.ir.graph import Node
from smir.ir.ops import POINTWISE
from smir.ir.tile import CHUNK, ONE, level_dependent

Size = Callable[[str], Any]


def elements(node: Node, size: Size) -> Any:
    """Number of elements of a tile."""
    return size(node.type.rows) * size(node.type.cols)


def levels(size: Size) -> Any:
    """Levels of the binary tree over a chunk: log2 of its rows, rounded up, at least one."""
    rows = size(CHUNK)
    if isinstance(rows, int):
        return max(1, (rows - 1).bit_length())
    import sympy

    return sympy.log(rows, 2)


def flops(node: Node, size: Size) -> Any:
    """Operations of this node alone, at one level."""
    n = elements(node, size)
    if node.op in POINTWISE:
        return POINTWISE[node.op].flops * n
    if node.op == "dot":
        return 2 * n * size(node.args[0].type.cols)
    if node.op in ("sum", "reduce_max"):
        return elements(node.args[0], size)
    if node.op == "cumsum":
        # many columns are summed at once by a product with a matrix of zeros and ones
        return n if node.type.cols == ONE else 2 * n * size(node.type.rows)
    if node.op == "scan":
        # the pair (decay, state) goes up and down a tree over the rows
        return (6 if node["kind"] == "sum" else 24) * n
    if node.op == "fold":
        return elements(node.args[0], size)
    if node.op == "segment_sum":
        return 2 * n
    if node.op == "unit_inverse":
        return 4 * n * size(node.type.rows) * levels(size)
    if node.op == "pair_distance":
        return 2 * n * size(CHUNK)
    if node.op in ("mask", "level_mask", "level_sum", "valid_rows"):
        return n
    if node.op == "turn_pairs":
        return n
    return 6 * n if node.op == "rotate" else 0 * n


def operands(node: Node) -> tuple[Node, ...]:
    """What the value is made of; a `level_sum` is one operation on everything its levels read."""
    if node.op != "level_sum":
        return node.args
    inside = level_dependent(node.args[0])
    return tuple(dict.fromkeys(a for n in inside for a in n.args if a not in inside))


def total_flops(node: Node, size: Size) -> Any:
    """`flops`, for a `level_sum` with all its levels."""
    if node.op != "level_sum":
        return flops(node, size)
    return levels(size) * (flops(node, size) + sum(flops(n, size) for n in level_dependent(node.args[0])))
