"""Expressions of one token as tiles of the declared shape: a one to one translation.

A vector is a `K x 1` tile. Leaves that a translation can't know (states) come from a callback.
"""

from collections.abc import Callable

from smir.errors import FormError
from smir.ir import tile
from smir.ir.graph import Node
from smir.ir.mixer import Mixer
from smir.ir.ops import POINTWISE
from smir.passes.tiles.row_softmax import masked_softmax


def tilewise(mixer: Mixer, node: Node, of: Callable[[Node], Node]) -> Node:
    """The tile of `node`; `of` gives its arguments' tiles. Raises FormError for what has no value at one token."""
    args = [of(a) for a in node.args]
    if node.op in POINTWISE:
        return tile.pointwise(node.op, *args)
    rule = _RULES.get(node.op)
    if rule is None:
        raise FormError(f"`{node.op}` has no value at a single time step", mixer.span(node))
    return rule(node, args)


def _const(node: Node, args: list[Node]) -> Node:
    return tile.const(node["value"])


def _param(node: Node, args: list[Node]) -> Node:
    rows, cols = (str(d) for d in node.type.shape)
    if cols == tile.ONE != rows:
        return tile.transpose(tile.param(node["name"], tile.ONE, rows))
    return tile.param(node["name"], rows, cols)


def _input(node: Node, args: list[Node]) -> Node:
    rows, cols = (str(d) for d in node.type.shape)
    return tile.token(node["name"], rows, cols, node["offset"])


def _eye(node: Node, args: list[Node]) -> Node:
    return tile.mask(_ones(node, args), "eye")


def _ones(node: Node, args: list[Node]) -> Node:
    return tile.broadcast(tile.const(1.0), str(node.type.rows), str(node.type.cols))


def _matmul(node: Node, args: list[Node]) -> Node:
    """An outer product is a broadcast one."""
    a, b = args
    return tile.pointwise("mul", a, b) if a.type.cols == tile.ONE else tile.dot(a, b)


def _transpose(node: Node, args: list[Node]) -> Node:
    return tile.transpose(args[0])


def _sum(node: Node, args: list[Node]) -> Node:
    return tile.reduce_sum(args[0], node["axis"])


def _max(node: Node, args: list[Node]) -> Node:
    return tile.reduce_max(args[0], node["axis"])


def _softmax(node: Node, args: list[Node]) -> Node:
    return masked_softmax(*args)


def _rotate(node: Node, args: list[Node]) -> Node:
    return tile.rotate(args[0], args[1], axis=0, inverse=node["inverse"])


_RULES: dict[str, Callable[[Node, list[Node]], Node]] = {
    "const": _const,
    "param": _param,
    "input": _input,
    "eye": _eye,
    "ones": _ones,
    "matmul": _matmul,
    "transpose": _transpose,
    "sum": _sum,
    "reduce_max": _max,
    "softmax": _softmax,
    "rotate": _rotate,
}
