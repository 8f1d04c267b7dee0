"""Axis roles: which axes of a kernel may be cut into blocks that run in parallel.

An axis is GRID when no operation of the kernel combines its elements (it is never contracted, summed, scanned
or rotated) and every value the kernel writes or carries has it, so that no two programs compute the same thing.
"""

from collections.abc import Iterable
from dataclasses import replace

from smir.ir.graph import Node, walk
from smir.ir.kernel import FULL, GRID, Kernel
from smir.ir.tile import CHUNK, ONE


def assign_roles(kernel: Kernel) -> Kernel:
    """The kernel with the role of each of its dimension axes."""
    nodes = list(walk(kernel.roots()))
    axes = sorted({a for n in nodes for a in (n.type.rows, n.type.cols)} - {CHUNK, ONE})
    mixed = set(_mixed_axes(nodes))
    written = [n.type for n in _written(kernel)]
    whole = {a for a in axes if a in mixed or any(a not in (t.rows, t.cols) for t in written)}
    return replace(kernel, roles=tuple((a, FULL if a in whole else GRID) for a in axes))


def _written(kernel: Kernel) -> list[Node]:
    stores = [s.value for loop in kernel.loops for s in (*loop.stores, *loop.final_stores)]
    carries = [c.next for loop in kernel.loops for c in loop.scan.carries]
    return [*stores, *carries, *(s.value for s in kernel.stores)]


def _mixed_axes(nodes: Iterable[Node]) -> Iterable[str]:
    """Axes along which some operation combines elements, or that stand twice in one tile."""
    for n in nodes:
        if n.type.rows == n.type.cols:
            yield n.type.rows
        if n.op == "dot":
            yield n.args[0].type.cols
        elif n.op in ("sum", "reduce_max", "rotate", "cross_pairs"):
            # of pairs, the whole axis and the one of half its length
            for part in (n, *n.args):
                yield part.type.rows if n["axis"] == 0 else part.type.cols
        elif n.op in ("cumsum", "unit_inverse", "mask"):
            yield n.type.rows
