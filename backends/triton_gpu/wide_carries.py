"""Carried tiles that kernels of float32 inputs hold in float64: those that become what was widened."""

from smir.backends.triton_gpu.thin_products import is_thin
from smir.ir.graph import Node, walk
from smir.ir.kernel import WIDE, Kernel, KernelPlan
from smir.ir.tile import BUFFER


def wide_carries(plan: KernelPlan, kernel: Kernel) -> frozenset[Node]:
    """The loads of a kernel's wide carries. What is wide passes it on, until it is narrowed or a product takes it."""
    carries = [c for loop in kernel.loops for c in loop.scan.carries]
    values = [n for c in carries for n in (c.next, c.start) if n is not None]
    if not any(n.op == "widen" or _is_wide_buffer(plan, n) for n in walk(values)):
        return frozenset()
    found: frozenset[Node] = frozenset()
    while True:
        wide: set[Node] = set()
        for n in walk(values):
            if n in found or n.op == "widen" or _is_wide_buffer(plan, n) or (_passes_on(n) and wide & {*n.args}):
                wide.add(n)
        grown = frozenset(c.load for c in carries if c.next in wide or c.start in wide)
        if grown == found:
            return found
        found = grown


def _passes_on(node: Node) -> bool:
    return node.op != "narrow" and (node.op != "dot" or is_thin(node))


def _is_wide_buffer(plan: KernelPlan, node: Node) -> bool:
    return node.op == "load" and node["kind"] == BUFFER and plan.buffer(node["name"]).dtype == WIDE
