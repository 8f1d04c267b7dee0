"""In which type values cross from one kernel to the next."""

from dataclasses import replace

from smir.ir.graph import Node, walk
from smir.ir.kernel import KernelPlan
from smir.ir.tile import BUFFER, ONE


def with_buffer_types(plan: KernelPlan) -> KernelPlan:
    """Buffers that only feed matrix products hold the products' operand type: nothing is lost by rounding early."""
    full: set[str] = set()
    for kernel in plan.kernels:
        for root in kernel.roots():
            full |= {root["name"]} if _is_buffer(root) else set()
        for n in walk(kernel.roots()):
            if _rounds_operands(n) or n.op == "transpose":
                continue
            operands = (a.args[0] if a.op == "transpose" else a for a in n.args)
            full |= {a["name"] for a in operands if _is_buffer(a)}
    typed = tuple(b if b.name in full else replace(b, dtype="product") for b in plan.buffers)
    return replace(plan, buffers=typed)


def _rounds_operands(n: Node) -> bool:
    """Whether this is a matrix product; one with an axis of length one is a sum in full precision."""
    return n.op == "dot" and ONE not in (n.type.rows, n.type.cols, n.args[0].type.cols)


def _is_buffer(n: Node) -> bool:
    return n.op == "load" and n["kind"] == BUFFER
