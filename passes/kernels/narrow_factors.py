"""Factors of rows at the narrower side of a product: a walk multiplies its block of values by them, and takes the wider
operands, which all blocks have in common, as they lie in memory.

    (a k)' v = k' (a v)      (a q) S = a (q S)
"""

from collections.abc import Iterable
from dataclasses import replace

from smir.ir import tile
from smir.ir.graph import Node, rebuild, walk
from smir.ir.kernel import GRID, Kernel, KernelPlan, Loop
from smir.ir.tile import CHUNK, ONE


def narrow_walks(plan: KernelPlan) -> KernelPlan:
    """The plan whose walks over the chunks have such factors where their blocks are."""
    return replace(plan, kernels=tuple(_narrow_walk(k) if k.sequential else k for k in plan.kernels))


def _narrow_walk(kernel: Kernel) -> Kernel:
    axes = [axis for axis, role in kernel.roles if role == GRID]
    return replace(kernel, loops=tuple(_narrow_loop(loop, axes) for loop in kernel.loops))


def _narrow_loop(loop: Loop, axes: Iterable[str]) -> Loop:
    carries, stores = loop.scan.carries, loop.stores
    for axis in axes:
        carries = tuple(replace(c, next=narrow(c.next, axis)) for c in carries)
        stores = tuple(replace(s, value=narrow(s.value, axis)) for s in stores)
    return replace(loop, scan=replace(loop.scan, carries=carries), stores=stores)


def narrow(root: Node, axis: str) -> Node:
    """The same with factors of rows, of the left operand of a product, at the side that has the axis of blocks."""
    done: dict[Node, Node] = {}
    for n in walk([root]):
        new = rebuild(n, [done[a] for a in n.args])
        done[n] = _moved_factors(*new.args) if n.op == "dot" and n.type.cols == axis else new
    return done[root]


def _moved_factors(left: Node, right: Node) -> Node:
    turned = left.op == "transpose"
    inner = left.args[0] if turned else left
    for factor, rest in (inner.args, inner.args[::-1]) if inner.op == "mul" else ():
        if factor.type == tile.Tile(CHUNK, ONE) and rest.type == inner.type:
            if turned:
                return _moved_factors(tile.transpose(rest), tile.pointwise("mul", factor, right))
            return tile.pointwise("mul", _moved_factors(rest, right), factor)
    return tile.dot(left, right)
