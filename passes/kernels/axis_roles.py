"""Axis roles: which axes of a kernel may be cut into blocks that run in parallel.

An axis is GRID when no operation of the kernel combines its elements (it is never contracted, summed, scanned
or rotated) and every value the kernel writes or carries in time has it, so that no two programs write the same thing.
What a loop over pairs of chunks carries for itself may be without it: every block's program then has its own.
"""

from collections.abc import Collection
from dataclasses import replace

from smir.ir.graph import Node, walk
from smir.ir.kernel import FULL, GRID, Kernel, Store
from smir.ir.summands import Summands, all_stores, has_axis
from smir.ir.tile import SIZELESS, TOKEN_AXES, axis_parts, combined_axes


def assign_roles(kernel: Kernel, summable: Collection[str] = ()) -> Kernel:
    """The kernel with the role of each of its dimension axes.

    Results that are `summable` may get a summand from each block of one more axis, where that is all that keeps a
    scan's lanes, or the columns of a matrix that is carried from token to token, together.
    """
    nodes = list(walk(kernel.roots()))
    axes = sorted({a for n in nodes for a in _dimensions(n)} - SIZELESS)
    mixed = {axis for n in nodes for axis in combined_axes(n)}
    written = [_dimensions(n) for n in _written(kernel)]
    whole = {a for a in axes if a in mixed or any(a not in dimensions for dimensions in written)}
    cut = replace(kernel, roles=tuple((a, FULL if a in whole else GRID) for a in axes))
    if GRID in dict(cut.roles).values() or not (any(n.op == "scan" for n in nodes) or _carries_by_token(kernel)):
        return cut
    return _with_summands(cut, summable)


def _carries_by_token(kernel: Kernel) -> bool:
    """Whether a kernel carries a matrix, and meets one token at a time."""
    shapes = [{c.rows, c.cols} for loop in kernel.loops for c in loop.scan.carries if kernel.sequential]
    by_token = not any(TOKEN_AXES & {n.type.rows, n.type.cols} for n in walk(kernel.roots()))
    return by_token and any(len(shape - SIZELESS) == 2 for shape in shapes)


def _with_summands(kernel: Kernel, summable: Collection[str]) -> Kernel:
    """The same with blocks of the axis over which the fewest results are sums, if there is one."""
    found = [(axis, Summands(kernel, axis, summable)) for axis, _ in kernel.roles]
    fit = [(axis, s) for axis, s in found if s.is_sound and _cuts_the_rest(kernel, axis, s)]
    if not fit:
        return kernel
    axis, sums = min(fit, key=lambda pair: (len(pair[1].sums), _is_inner(kernel, pair[0])))
    chosen = {s.target for s in sums.sums}

    def marked(stores: tuple[Store, ...]) -> tuple[Store, ...]:
        return tuple(replace(s, summed=axis) if s.target in chosen else s for s in stores)

    loops = tuple(replace(x, stores=marked(x.stores), final_stores=marked(x.final_stores)) for x in kernel.loops)
    roles = tuple((a, GRID if a == axis else role) for a, role in kernel.roles)
    return replace(kernel, loops=loops, stores=marked(kernel.stores), roles=roles)


def _cuts_the_rest(kernel: Kernel, axis: str, sums: Summands) -> bool:
    """Whether all else that the kernel writes or carries has the axis, and no operation mixes it."""
    stored = [s.value for s in all_stores(kernel) if s not in sums.sums]
    carried = [c.next for loop in kernel.loops for c in loop.scan.carries if not sums.is_carried_sum(c)]
    nodes = [n for n in walk(kernel.roots()) if n not in sums.values]
    return all(has_axis(n, axis) for n in (*stored, *carried)) and not any(axis in combined_axes(n) for n in nodes)


def _is_inner(kernel: Kernel, axis: str) -> bool:
    return any(axis in axis_parts(n.type.cols)[1:] for n in walk(kernel.roots()))


def _written(kernel: Kernel) -> list[Node]:
    stores = [s.value for loop in kernel.loops for s in (*loop.stores, *loop.final_stores)]
    carries = [c.next for loop in kernel.loops for c in loop.scan.carries if kernel.sequential]
    return [*stores, *carries, *(s.value for s in kernel.stores)]


def _dimensions(node: Node) -> tuple[str, ...]:
    """The axes of a tile, lanes as the two that they are made of."""
    return (*axis_parts(node.type.rows), *axis_parts(node.type.cols))
