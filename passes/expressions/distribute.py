"""Linear operations distributed over sums: `(F + B).T @ q` becomes `F.T @ q + B.T @ q`.

Worth it where the summands come from different scans: then what one hands to the other is a vector, not a state.
"""

from collections.abc import Callable

from smir.ir import expr
from smir.ir.graph import Node, make, walk

Splits = Callable[[Node], bool]


def distribute(root: Node, splits: Splits) -> Node:
    """The expression with matmul, transpose, row sums and negation moved below the sums that `splits` names."""
    done: dict[Node, Node] = {}
    for node in walk([root]):
        done[node] = _pushed(node, tuple(done[a] for a in node.args), splits)
    return done[root]


def _pushed(node: Node, args: tuple[Node, ...], splits: Splits) -> Node:
    if node.op not in _LINEAR:
        return _again(node, args)
    for position, a in enumerate(args):
        if a.op in ("add", "sub") and splits(a) and all(p.type.shape == a.type.shape for p in a.args):
            parts = [_pushed(node, (*args[:position], p, *args[position + 1 :]), splits) for p in a.args]
            return expr.pointwise(a.op, *parts)
    return _again(node, args)


def _again(node: Node, args: tuple[Node, ...]) -> Node:
    if node.op == "transpose":
        return expr.transpose(args[0])
    if node.op == "matmul":
        return expr.matmul(*args)
    if node.op == "sum":
        return expr.sum_over(args[0], node["axis"])
    return make(node.op, args, node.type, **dict(node.attrs))


_LINEAR = frozenset({"matmul", "transpose", "sum", "neg"})
