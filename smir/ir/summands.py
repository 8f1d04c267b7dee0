"""Sums over an axis that a kernel's grid cuts into blocks: each block's program writes the sum over its own part.

That is right where the sums end in tensors whose summands are added up after the kernel, by operations that are
linear in the sums; every other value of the kernel must do without sums over the axis.
"""

from collections.abc import Collection, Iterator

from smir.ir.graph import Node, walk
from smir.ir.kernel import Kernel, Store
from smir.ir.tile import CARRIED, axis_parts
from smir.ir.tile_program import Carry

_LINEAR = frozenset("neg transpose broadcast edge_row place_row shift stop".split())


def all_stores(kernel: Kernel) -> Iterator[Store]:
    """Everything that a kernel writes."""
    for loop in kernel.loops:
        yield from (*loop.stores, *loop.final_stores)
    yield from kernel.stores


def has_axis(node: Node, axis: str) -> bool:
    """Whether a tile extends along a dimension, maybe as a part of its lanes."""
    return axis in axis_parts(node.type.rows) or axis in axis_parts(node.type.cols)


def sums_over(node: Node, axis: str) -> bool:
    """Whether the operation adds up elements along the axis."""
    if node.op == "dot":
        return bool(node.args[0].type.cols == axis)
    if node.op == "fold":
        return bool(axis_parts(node.args[0].type.cols)[1 - node["part"]] == axis)
    if node.op == "sum":
        operand = node.args[0].type
        return bool((operand.rows if node["axis"] == 0 else operand.cols) == axis)
    return False


class Summands:
    """The values of one kernel that are sums over `axis`, of one block each if the axis is cut into blocks.

    `targets` are the tensors whose summands may be added up later; a carry that is only stored there is one more sum.
    """

    def __init__(self, kernel: Kernel, axis: str, targets: Collection[str]) -> None:
        self.axis = axis
        self.sums = [s for s in all_stores(kernel) if s.target in targets and not has_axis(s.value, axis)]
        loads = {s.value for s in self.sums if s.value.get("kind") == CARRIED}
        self.carries = [c for loop in kernel.loops for c in loop.scan.carries if c.load in loads]
        self.loads = {c.load for c in self.carries}
        self.values: set[Node] = set()
        roots = [*(s.value for s in self.sums), *(c.next for c in self.carries)]
        everywhere = list(walk(kernel.roots()))
        self.is_sound = all([self._is_sum(root) for root in roots]) and not any(map(self._is_misused, everywhere))

    def is_carried_sum(self, carry: Carry) -> bool:
        """Whether the carry starts from zero and only adds up."""
        return carry in self.carries

    def _is_misused(self, node: Node) -> bool:
        """Whether the node needs a whole sum over the axis."""
        if node in self.values:
            return False
        return sums_over(node, self.axis) or any(a in self.values for a in node.args)

    def _is_sum(self, node: Node) -> bool:
        """Whether the value is linear in sums over the axis, and nothing but them; these become `values`."""
        found = node in self.values or self._is_summand(node)
        if found and node.op != "const":
            self.values.add(node)
        return found

    def _is_summand(self, node: Node) -> bool:
        if sums_over(node, self.axis) or node in self.loads:
            return True
        if node.op == "const":
            return bool(node["value"] == 0.0)
        if node.op in _LINEAR or (node.op == "valid_rows" and node["fill"] == 0.0) or node.op in ("sum", "fold"):
            return self._is_sum(node.args[0])
        if node.op in ("add", "sub"):
            return all([self._is_sum(a) for a in node.args])
        if node.op == "mul":
            a, b = node.args
            return (self._is_free(b) and self._is_sum(a)) or (self._is_free(a) and self._is_sum(b))
        if node.op == "div":
            return self._is_free(node.args[1]) and self._is_sum(node.args[0])
        return node.op == "where" and self._is_free(node.args[0]) and all([self._is_sum(a) for a in node.args[1:]])

    def _is_free(self, node: Node) -> bool:
        """Whether nothing below the node meets the axis: it is the same in every block."""
        return not any(has_axis(n, self.axis) or n in self.loads for n in walk([node]))
