"""Inner products of two stored states: taken from memory piece by piece, so that registers hold neither tile."""

from typing import TYPE_CHECKING

from smir.backends.triton_gpu.facts import size_name
from smir.ir.graph import Node
from smir.ir.kernel import FULL, PER_CHUNK, WIDE
from smir.ir.tile import BUFFER, SIZELESS

if TYPE_CHECKING:
    from smir.backends.triton_gpu.emit_tiles import TilePrinter


def inner_product(p: "TilePrinter", n: Node) -> str | None:
    """The call for `sum(sum(a * b))` of two buffers' tiles; None for any other sum."""
    product = n.args[0].args[0] if n.op == n.args[0].op == "sum" else n
    inside = product is not n and p.uses[product] == p.uses[n.args[0]] == 1
    if not inside or product.op != "mul" or not all(_is_stored_state(p, a) for a in product.args):
        return None
    sizes = " * ".join(size_name(axis) for axis in (product.type.rows, product.type.cols))
    places = ", ".join(f"{p.frame.buffer_pointer(a['name'])} + here * ({sizes})" for a in product.args)
    return f"inner_product({places}, {sizes})"


def _is_stored_state(p: "TilePrinter", a: Node) -> bool:
    """Whether a parallel kernel loads a whole tile, neither side of which is tokens."""
    if p.frame.kernel.loops or a.op != "load" or a["kind"] != BUFFER:
        return False
    buffer, axes = p.frame.plan.buffer(a["name"]), (a.type.rows, a.type.cols)
    whole = all(axis not in SIZELESS and p.frame.kernel.role(axis) == FULL for axis in axes)
    return whole and buffer.extent == PER_CHUNK and buffer.dtype != WIDE
