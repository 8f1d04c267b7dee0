"""In which type values cross from one kernel to the next."""

from collections.abc import Iterable
from dataclasses import replace

from smir.ir.graph import Node, walk
from smir.ir.kernel import Kernel, KernelPlan
from smir.ir.tile import BUFFER, CARRIED, CHUNK, ONE, TOKEN


def with_buffer_types(plan: KernelPlan) -> KernelPlan:
    """Buffers that only feed products hold the products' operand type.

    Of matrix products nothing is lost by rounding early. Inner products of two states (a decay's gradient has one), or
    of vectors of which an input is one (a divisor's has one), add up as many rounded terms as these do, in float32.
    What a walk adds to a product with its state meets a state that was rounded for that.
    """
    full = {name for k in (*plan.kernels, *plan.walks) for name in _read_in_full(k)}
    typed = tuple(b if b.name in full else replace(b, dtype="product") for b in plan.buffers)
    return replace(plan, buffers=typed)


def _read_in_full(kernel: Kernel) -> set[str]:
    """The buffers of which a kernel takes elements for anything but products."""
    roots, nodes = kernel.roots(), list(walk(kernel.roots()))
    used = _used_alone(nodes) | set(roots)
    rounding = {n for n in nodes if n.op == "transpose" or _rounds_operands(n) or (_pairs(n) and n not in used)}
    rounding |= {n for n in nodes if kernel.sequential and _adds_to_state_product(n)}
    rounding |= _masked_for_products(nodes)
    operands = (a.args[0] if a.op == "transpose" else a for n in nodes if n not in rounding for a in n.args)
    return {a["name"] for a in (*operands, *roots) if _is_buffer(a)}


def _masked_for_products(nodes: Iterable[Node]) -> set[Node]:
    """The masks of levels that nothing but products reads."""
    nodes = list(nodes)
    others = {a for n in nodes if not _rounds_operands(n) for a in n.args}
    return {n for n in nodes if n.op == "level_mask" and n not in others}


def _used_alone(nodes: Iterable[Node]) -> set[Node]:
    """The values that anything but a sum reads; a sum may leave some of them out (`where`)."""
    nodes = list(nodes)
    by_sums = {a for n in nodes if n.op == "sum" for a in n.args}
    others = {a for n in nodes if n.op != "sum" for a in n.args}
    chosen = {n for n in by_sums - others if n.op == "where"}
    return {a for n in nodes if n.op != "sum" and n not in chosen for a in n.args}


def _rounds_operands(n: Node) -> bool:
    """Whether this is a matrix product; one with an axis of length one is a sum in full precision."""
    return n.op == "dot" and ONE not in (n.type.rows, n.type.cols, n.args[0].type.cols)


def _adds_to_state_product(n: Node) -> bool:
    """Whether a tile is added to a product with a carried matrix."""
    if n.op not in ("add", "sub") or ONE in (n.type.rows, n.type.cols):
        return False
    return any(_rounds_operands(m) and is_carried(m.args[1]) for a in n.args for m in walk([a]))


def is_carried(n: Node) -> bool:
    """Whether this is what a walk carries from chunk to chunk."""
    return n.op == "load" and n["kind"] == CARRIED


def _pairs(n: Node) -> bool:
    """Whether two matrices, neither of tokens, are multiplied element by element, or vectors by those of an input."""
    shapes = {axis for a in n.args for axis in (a.type.rows, a.type.cols)}
    if n.op != "mul" or ONE in shapes:
        return False
    inputs = sum(a.op == "load" and a["kind"] == TOKEN for a in n.args)
    states = CHUNK not in shapes and all(map(_is_buffer, n.args))
    return states or (inputs == 1 and sum(map(_is_buffer, n.args)) == 1)


def _is_buffer(n: Node) -> bool:
    return n.op == "load" and n["kind"] == BUFFER
