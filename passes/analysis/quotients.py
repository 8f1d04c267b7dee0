"""Where a program divides one sum over tokens by another, as a normaliser does.

Such a quotient hardly depends on what both sums share (a query, the oldest keys), so that in its derivatives large
terms cancel: `d_y S / n - (d_y y) z / n` for `y = q S / (q z)`. What rounding to 16 bits leaves of the terms can be
more than their difference.
"""

from smir.ir.graph import Node
from smir.ir.ops import POINTWISE
from smir.ir.tile import CARRIED, ONE
from smir.ir.tile_program import TileProgram

# Operations through which a sum is still a sum, or close to one. A norm (`sqrt`) and the weights of a softmax (`exp`),
# whose sums are made in full precision, are something else.
_SUMS = frozenset("add sub mul div max min neg abs where stop".split())


def divides_by_products(program: TileProgram) -> bool:
    """Whether some denominator is made of matrix products, directly or by what is carried from chunk to chunk."""
    following = {c.name: [c.next, *([c.start] if c.start is not None else [])] for c in program.carries}
    exported = {name: value for s in program.scans for name, value in s.exports}
    stack = [n.args[1] for n in program.nodes() if n.op == "div"]
    seen: set[Node] = set()
    while stack:
        node = stack.pop()
        if node in seen:
            continue
        seen.add(node)
        if is_product(node):
            return True
        if node.op == "load":
            stack += following.get(node["name"], ()) if node["kind"] == CARRIED else ()
            stack += [exported[node["name"]]] if node["name"] in exported else []
        elif node.op not in POINTWISE or node.op in _SUMS:
            stack += node.args[1:] if node.op == "where" else node.args
    return False


def is_product(n: Node) -> bool:
    """Whether this is a matrix product; one with an axis of length one is a sum in full precision."""
    return n.op == "dot" and ONE not in (n.type.rows, n.type.cols, n.args[0].type.cols)
