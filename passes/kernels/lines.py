"""Lines: columns, rows and numbers that a chunk has, which a loop over chunks needs.

Where sums along the chunk are in them, they are little to store, and much for a step of the loop to wait for.
"""

from collections.abc import Collection, Iterable

from smir.ir.graph import Node, walk
from smir.ir.tile import ONE, PARAM
from smir.passes.analysis.tile_cost import operands

SUMS = frozenset("sum cumsum reduce_max scan".split())


def summed_lines(values: Iterable[Node], stored: Collection[Node]) -> list[Node]:
    """The outermost lines below these values, not below `stored`, that are made of sums along the chunk."""
    found: dict[Node, None] = {}
    stack, seen = list(values)[::-1], set(stored)
    while stack:
        node = stack.pop()
        if node in seen:
            continue
        seen.add(node)
        if is_line(node) and differs(node) and any(n.op in SUMS for n in walk([node])):
            found.setdefault(node)
        else:
            stack.extend(reversed(operands(node)))
    return list(found)


def is_line(value: Node) -> bool:
    """Whether a tile is one column, one row or one number."""
    return ONE in (value.type.rows, value.type.cols) and value.op != "broadcast"


def differs(value: Node) -> bool:
    """Whether chunks have a value each: one that they have in common is made before a loop anyway."""
    return any(n.op == "valid_rows" or (n.op == "load" and n["kind"] != PARAM) for n in walk([value]))
