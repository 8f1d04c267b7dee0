"""Rewrites products whose left operand is a transposed, computed tile.

Triton 3.4 to 3.7 compile `tl.dot(tl.trans(x), y)` wrongly for Hopper where x is a 16-bit cast of a dot's result.
Such an x is computed in its transposed form from the start: `(a b)^T = b^T a^T`, and so on down to loaded tiles.
"""

from collections import Counter
from collections.abc import Callable, Iterable

from smir.backends.triton_gpu.thin_products import is_thin
from smir.ir import tile
from smir.ir.graph import Node, make, rebuild, substitute, walk
from smir.ir.ops import POINTWISE
from smir.ir.tile import CARRIED

MADE_BY_PRODUCTS = frozenset("dot unit_inverse pair_distance pair_collect level_sum".split())
MIRROR = {
    "lower": "upper",
    "strict_lower": "strict_upper",
    "upper": "lower",
    "strict_upper": "strict_lower",
    "eye": "eye",
}


def has_products(root: Node) -> bool:
    """Whether the kernel computes this value with a matrix product."""
    return any(n.op in MADE_BY_PRODUCTS or _is_carried(n) or _sums_by_product(n) for n in walk([root]))


def _is_carried(n: Node) -> bool:
    return n.op == "load" and n["kind"] == CARRIED


def _sums_by_product(n: Node) -> bool:
    return (n.op == "cumsum" and n.type.cols != tile.ONE) or (n.op == "segment_sum" and n["exclusive"])


def without_transposed_products(root: Node) -> Node:
    """The same value without `dot(transpose(x), y)` of an x made by matrix products."""

    def replace(node: Node) -> Node | None:
        if node.op == "dot" and node.args[0].op == "transpose" and not is_thin(node) and has_products(node.args[0]):
            left, right = node.args
            return tile.dot(transposed(left.args[0]), without_transposed_products(right))
        return None

    return substitute(root, replace)


def with_turned_sums(roots: Iterable[Node]) -> Callable[[Node], Node]:
    """Adds up the columns of a tile that products need transposed as the rows of its transposed form, so that it is
    computed once. Gives a rewriting of values below these roots."""
    dots = [n for n in walk(roots) if n.op == "dot" and n.args[0].op == "transpose" and not is_thin(n)]
    turned = {n.args[0].args[0] for n in dots if has_products(n.args[0])}

    def replace(node: Node) -> Node | None:
        sums = node.op == "transpose" and node.args[0].op == "sum" and node.args[0]["axis"] == 0
        return tile.reduce_sum(transposed(x), 1) if sums and (x := node.args[0].args[0]) in turned else None

    return lambda root: substitute(root, replace)


def transposed(node: Node) -> Node:
    """The transposed tile, computed so; a `transpose` is left on what can't be, and on operands without products."""
    if node.type.rows == node.type.cols == tile.ONE and not has_products(node):
        return node
    over_pairs = node.op in POINTWISE and {node.type.rows, node.type.cols} <= tile.TOKEN_AXES
    if not has_products(node) and not over_pairs:
        return tile.transpose(node)
    if node.op in POINTWISE:
        return tile.pointwise(node.op, *(transposed(a) for a in node.args))
    rule = _RULES.get(node.op)
    return rule(node) if rule else tile.transpose(rebuild(node, map(without_transposed_products, node.args)))


def _dot(n: Node) -> Node:
    left, right = n.args
    return tile.dot(transposed(right), tile.transpose(without_transposed_products(left)))


def _valid_rows(n: Node) -> Node:
    ones = tile.broadcast(tile.const(1.0), n.type.rows, tile.ONE)
    valid = make("valid_rows", (ones,), ones.type, fill=0.0, block=n["block"])
    return tile.pointwise("where", tile.transpose(valid), transposed(n.args[0]), tile.const(n["fill"]))


_RULES: dict[str, Callable[[Node], Node]] = {
    "dot": _dot,
    "transpose": lambda n: without_transposed_products(n.args[0]),
    "broadcast": lambda n: tile.broadcast(transposed(n.args[0]), n.type.cols, n.type.rows),
    "sum": lambda n: tile.reduce_sum(transposed(n.args[0]), 1 - n["axis"]),
    "reduce_max": lambda n: tile.reduce_max(transposed(n.args[0]), 1 - n["axis"]),
    "valid_rows": _valid_rows,
    "mask": lambda n: tile.mask(transposed(n.args[0]), MIRROR[n["kind"]], n["fill"]),
    "unit_inverse": lambda n: tile.unit_inverse(transposed(n.args[0]), not n["reverse"]),
    "level_mask": lambda n: tile.level_mask(transposed(n.args[0]), not n["reverse"]),
    "level_sum": lambda n: tile.level_sum(transposed(n.args[0])),
    "rotate": lambda n: tile.rotate(transposed(n.args[0]), transposed(n.args[1]), 1 - n["axis"], n["inverse"]),
}


def without_transposed_results(roots: Iterable[Node]) -> Callable[[Node], Node]:
    """Computes products that are only needed transposed as `(a b)^T = b^T a^T`, where b comes from memory.

    Gives a rewriting of values below these roots.
    """
    nodes = list(walk(roots := tuple(roots)))
    uses = Counter(a for n in nodes for a in n.args)
    uses.update(roots)
    flips = {n: _flip(n.args[0]) for n in nodes if n.op == "transpose" and _is_flippable(n.args[0], uses)}

    def replace(node: Node) -> Node | None:
        return substitute(flips[node], replace) if node in flips else None

    return lambda root: substitute(root, replace)


def _is_flippable(node: Node, uses: Counter[Node]) -> bool:
    """Whether the value is made of products alone that nothing else needs, each with a right side from memory."""
    if uses[node] > 1:
        return False
    if node.op == "dot":
        return not is_thin(node) and not has_products(node.args[1])
    return node.op in ("add", "sub", "neg") and all(_is_flippable(a, uses) for a in node.args)


def _flip(node: Node) -> Node:
    if node.op == "dot":
        left, right = node.args
        return tile.dot(_flipped_mask(right), tile.transpose(left))
    return tile.pointwise(node.op, *map(_flip, node.args))


def _flipped_mask(node: Node) -> Node:
    """The transposed tile, a mask taken off it: transposing what is below may be done once for all levels."""
    if node.op == "level_mask":
        return tile.level_mask(_flipped_mask(node.args[0]), not node["reverse"])
    return tile.transpose(node)
