"""Which values cross from one kernel to the next: store them, or recompute them from what they were made of.

Numbers per token that a kernel makes on its way to something else are kept where later kernels would make them again.

Costs are bytes at a nominal size. Storing a value costs its write and its read; recomputing it costs the bytes
of its operands plus its operations at the rate that moves as many bytes in the same time on a current GPU.
"""

from collections.abc import Callable, Iterable, Set

from smir.ir.graph import Node, reaches, walk
from smir.ir.ops import POINTWISE
from smir.ir.summands import has_axis
from smir.ir.tile import CHUNK, ONE, level_dependent
from smir.passes.analysis.tile_cost import elements, operands, total_flops

NOMINAL = {CHUNK: 64, ONE: 1}
NOMINAL_DIMENSION = 128
ELEMENT_BYTES = 2
# Measured ceilings of one H200: 700e12 bf16 operations and 4.25e12 bytes a second.
OPERATIONS_PER_BYTE = 165
# Into how many blocks a walk cuts its state, of which each makes what they have in common.
WALK_BLOCKS = 4
# Below this a value is always recomputed: pointwise work on a chunk's inputs.
HEAVY_OPS = frozenset({"dot", "unit_inverse", "level_sum", "segment_sum"})
# Bytes for having a value in the next kernel, and the values to store for that.
Crossing = tuple[float, tuple[Node, ...]]


def size(axis: str) -> int:
    """Nominal length of an axis."""
    return NOMINAL.get(axis, NOMINAL_DIMENSION)


def is_heavy(value: Node, within: Set[Node] | None = None) -> bool:
    """Whether computing the value takes a matrix product (only the part that depends on `within`, if given)."""
    cone = reaches([value], lambda n: n in within) if within is not None else walk([value])
    return any(n.op in HEAVY_OPS or (n.op == "cumsum" and n.type.cols != ONE) for n in cone)


def columns_on_the_way(made: Iterable[Node], later: Iterable[Node], stored: Set[Node]) -> list[Node]:
    """The numbers per token, dear to make, that are needed for what a kernel makes and by later values too; and the
    vectors per token that are sums over levels.

    Those that later values read through another one, or through what is made or stored, aren't needed twice.
    """
    return on_the_way(made, later, stored, lambda n: _is_dear_column(n) or is_dear_vector(n))


def on_the_way(
    made: Iterable[Node], later: Iterable[Node], stored: Set[Node], is_dear: Callable[[Node], bool]
) -> list[Node]:
    """The same of any values, where they are the same at all levels."""
    made = list(made)
    inner = list(walk(made))
    changing = {n for s in inner if s.op == "level_sum" for n in level_dependent(s.args[0])}
    dear = {n for n in inner if n not in changing and n not in stored and is_dear(n)}
    ends, found, seen = {*made, *stored}, set[Node](), set[Node]()
    stack = list(later)
    while stack:
        node = stack.pop()
        if node not in seen and node not in ends:
            seen.add(node)
            found |= {node} & dear
            stack.extend(() if node in dear else node.args)
    return [n for n in inner if n in found]


def is_dear_vector(node: Node) -> bool:
    """Whether a vector per token is made of a sum over levels of such vectors, one by one: a level is a product and an
    exponential for each, and a kernel that makes it again has its registers full of them."""
    wide = node.type.rows == CHUNK and node.type.cols not in (CHUNK, ONE) and bool(node.args)
    return wide and node.op != "level_sum" and _sums_levels(node)


def _sums_levels(node: Node) -> bool:
    stack, seen = [node], set[Node]()
    while stack:
        n = stack.pop()
        if n in seen or n.type != node.type:
            continue
        seen.add(n)
        if n.op == "level_sum":
            return True
        stack.extend(n.args if n.op in POINTWISE or n.op == "valid_rows" else ())
    return False


def _is_dear_column(node: Node) -> bool:
    """Whether keeping it moves fewer bytes than its operations, or the vectors that it sums over, are worth; or is less
    to wait for, where it takes a scan along the chunk."""
    if (node.type.rows, node.type.cols) != (CHUNK, ONE):
        return False
    below = list(walk([node]))
    if any(n.op == "scan" for n in below):
        return True
    if not is_heavy(node) and not any(n.op == "sum" and n["axis"] == 1 for n in below):
        return False
    read = sum(elements(n, size) for n in below if n.op == "load") * ELEMENT_BYTES
    work = sum(total_flops(n, size) for n in below if n.args)
    return bool(2 * elements(node, size) * ELEMENT_BYTES <= read + work / OPERATIONS_PER_BYTE)


def stored_values(frontier: Iterable[Node], cut: Set[str] = frozenset()) -> list[Node]:
    """The values to store so that everything on the frontier can be had cheaply, in order of first use.

    `cut`: axes along which the kernels are cut that need the frontier.
    """
    chosen: dict[Node, None] = {}
    memo: dict[Node, Crossing] = {}
    for node in frontier:
        for value in _cheapest(node, memo, cut)[1]:
            chosen.setdefault(value)
    return [v for v in chosen if v.op != "transpose" or v.args[0] not in chosen]


def is_made_by_all(node: Node, cut: Set[str]) -> bool:
    """Whether every block of a kernel that is cut along these axes would make the value again."""
    return bool(cut) and not any(has_axis(node, axis) for axis in cut)


def _cheapest(node: Node, memo: dict[Node, Crossing], cut: Set[str]) -> Crossing:
    if node not in memo:
        memo[node] = _decide(node, memo, cut)
    return memo[node]


def _decide(node: Node, memo: dict[Node, Crossing], cut: Set[str]) -> Crossing:
    bytes_read = elements(node, size) * ELEMENT_BYTES
    if not node.args:
        return (bytes_read if node.op == "load" else 0), ()
    parts = [_cheapest(a, memo, cut) for a in operands(node)]
    times = WALK_BLOCKS if is_made_by_all(node, cut) else 1
    recompute = sum(cost for cost, _ in parts) + times * total_flops(node, size) / OPERATIONS_PER_BYTE
    if is_heavy(node) and 2 * bytes_read <= recompute:
        return 2 * bytes_read, (node,)
    return recompute, tuple(dict.fromkeys(v for _, values in parts for v in values))
