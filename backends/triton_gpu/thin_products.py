"""Rewrites products with an axis of size one: multiply and sum, which no matrix unit would do faster."""

from smir.ir import tile
from smir.ir.graph import Node, rebuild, walk
from smir.ir.tile import ONE


def is_thin(product: Node) -> bool:
    """Whether a `dot` has an axis of size one."""
    a, b = product.args
    return ONE in (a.type.rows, a.type.cols, b.type.cols)


def without_thin_products(root: Node) -> Node:
    """The same value with thin products written as pointwise multiplications and sums."""
    done: dict[Node, Node] = {}
    for node in walk([root]):
        same = rebuild(node, (done[a] for a in node.args))
        done[node] = _summed(*same.args) if same.op == "dot" and is_thin(same) else same
    return done[root]


def _summed(a: Node, b: Node) -> Node:
    """a @ b without transposing whatever is a matrix."""
    if a.type.cols == ONE:
        return tile.pointwise("mul", a, b)
    if b.type.cols == ONE:
        if a.op == "transpose":
            return tile.transpose(_contract(a.args[0], b, 0))
        return _contract(a, tile.transpose(b), 1)
    if b.op == "transpose":
        return tile.transpose(_contract(b.args[0], a, 1))
    return _contract(tile.transpose(a), b, 0)


def _contract(a: Node, b: Node, axis: int) -> Node:
    return tile.reduce_sum(tile.pointwise("mul", a, b), axis)
