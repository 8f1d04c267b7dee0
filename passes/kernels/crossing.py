"""Which values cross from one kernel to the next: store them, or recompute them from what they were made of.

Numbers per token that a kernel makes on its way to something else are kept where later kernels would make them again.

Costs are bytes at a nominal size. Storing a value costs its write and its read; recomputing it costs the bytes
of its operands plus its operations at the rate that moves as many bytes in the same time on a current GPU.
"""

from collections.abc import Iterable, Set

from smir.ir.graph import Node, reaches, walk
from smir.ir.tile import CHUNK, ONE, level_dependent
from smir.passes.analysis.tile_cost import elements, operands, total_flops

NOMINAL = {CHUNK: 64, ONE: 1}
NOMINAL_DIMENSION = 128
ELEMENT_BYTES = 2
# Measured ceilings of one H200: 700e12 bf16 operations and 4.25e12 bytes a second.
OPERATIONS_PER_BYTE = 165
# Below this a value is always recomputed: pointwise work on a chunk's inputs.
HEAVY_OPS = frozenset({"dot", "unit_inverse", "level_sum", "segment_sum"})


def size(axis: str) -> int:
    """Nominal length of an axis."""
    return NOMINAL.get(axis, NOMINAL_DIMENSION)


def is_heavy(value: Node, within: Set[Node] | None = None) -> bool:
    """Whether computing the value takes a matrix product (only the part that depends on `within`, if given)."""
    cone = reaches([value], lambda n: n in within) if within is not None else walk([value])
    return any(n.op in HEAVY_OPS or (n.op == "cumsum" and n.type.cols != ONE) for n in cone)


def columns_on_the_way(made: Iterable[Node], later: Iterable[Node], stored: Set[Node]) -> list[Node]:
    """The numbers per token, dear to make, that are needed for what a kernel makes and by later values too.

    Those that later values read through another one, or through what is made or stored, aren't needed twice.
    """
    made = list(made)
    inner = list(walk(made))
    changing = {n for s in inner if s.op == "level_sum" for n in level_dependent(s.args[0])}
    columns = {n for n in inner if _is_dear_column(n) and n not in changing and n not in stored}
    ends, found, seen = {*made, *stored}, set[Node](), set[Node]()
    stack = list(later)
    while stack:
        node = stack.pop()
        if node not in seen and node not in ends:
            seen.add(node)
            found |= {node} & columns
            stack.extend(() if node in columns else node.args)
    return [n for n in inner if n in found]


def _is_dear_column(node: Node) -> bool:
    """Whether keeping it moves fewer bytes than its operations are worth."""
    if (node.type.rows, node.type.cols) != (CHUNK, ONE) or not is_heavy(node):
        return False
    work = sum(total_flops(n, size) for n in walk([node]) if n.args)
    return bool(2 * elements(node, size) * ELEMENT_BYTES <= work / OPERATIONS_PER_BYTE)


def stored_values(frontier: Iterable[Node]) -> list[Node]:
    """The values to store so that everything on the frontier can be had cheaply, in order of first use."""
    chosen: dict[Node, None] = {}
    memo: dict[Node, tuple[float, tuple[Node, ...]]] = {}
    for node in frontier:
        for value in _cheapest(node, memo)[1]:
            chosen.setdefault(value)
    return list(chosen)


def _cheapest(node: Node, memo: dict[Node, tuple[float, tuple[Node, ...]]]) -> tuple[float, tuple[Node, ...]]:
    """Bytes and the values to store for having this value in the next kernel."""
    if node not in memo:
        memo[node] = _decide(node, memo)
    return memo[node]


def _decide(node: Node, memo: dict[Node, tuple[float, tuple[Node, ...]]]) -> tuple[float, tuple[Node, ...]]:
    bytes_read = elements(node, size) * ELEMENT_BYTES
    if not node.args:
        return (bytes_read if node.op == "load" else 0), ()
    parts = [_cheapest(a, memo) for a in operands(node)]
    recompute = sum(cost for cost, _ in parts) + total_flops(node, size) / OPERATIONS_PER_BYTE
    if is_heavy(node) and 2 * bytes_read <= recompute:
        return 2 * bytes_read, (node,)
    return recompute, tuple(dict.fromkeys(v for _, values in parts for v in values))
