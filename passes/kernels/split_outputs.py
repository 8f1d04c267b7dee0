"""Cuts the parallel work on many outputs into kernels that fit on chip.

One kernel for all gradients of a chunk would hold every tile at once. The cut goes through the values at which an axis
disappears: one kernel makes everything that contracts the axis (`gather`), outputs that keep the axis get a kernel
that runs in blocks of it (`spread`), and the rest no longer meets the axis at all (`output`).
"""

from collections.abc import Iterable
from dataclasses import dataclass

from smir.ir.graph import Node, walk
from smir.ir.tile import CHUNK, ONE, level_dependent
from smir.ir.tile_program import Output
from smir.passes.analysis.tile_cost import operands


@dataclass(frozen=True)
class Cut:
    """`gathered` values cross through memory; then come the outputs that keep the axis, and those without it."""

    axis: str
    gathered: tuple[Node, ...]
    spread: tuple[Output, ...]
    rest: tuple[Output, ...]


def cut_outputs(outputs: tuple[Output, ...], axes: Iterable[str]) -> Cut | None:
    """The cut along the one of these axes that takes the fewest products; None where one kernel may do it all."""
    cuts = [c for axis in dict.fromkeys(axes) if axis not in (CHUNK, ONE) and (c := _cut(outputs, axis)) is not None]
    return min(cuts, key=lambda c: (not c.spread, _products(c.gathered), c.axis), default=None)


def _cut(outputs: tuple[Output, ...], axis: str) -> Cut | None:
    spread = tuple(o for o in outputs if axis in (o.result.rows, o.result.cols) and not _contracts(o.value, axis))
    rest = tuple(o for o in outputs if o not in spread)
    gathered = _gathered([o.value for o in rest], axis)
    return Cut(axis, gathered, spread, rest) if rest and (gathered or spread) else None


def _products(values: Iterable[Node]) -> int:
    return sum(n.op == "dot" for n in walk(values))


def _contracts(value: Node, axis: str) -> bool:
    return any(removes(n, axis) for n in walk([value]))


def removes(node: Node, axis: str) -> bool:
    """Whether the operation sums over the axis."""
    if node.op == "dot":
        return bool(node.args[0].type.cols == axis)
    if node.op in ("sum", "reduce_max"):
        operand = node.args[0].type
        return bool(axis == (operand.rows if node["axis"] == 0 else operand.cols))
    return False


def _gathered(values: list[Node], axis: str) -> tuple[Node, ...]:
    """The values without the axis that are made of values with it, where the others begin."""
    found: dict[Node, None] = {}
    seen: set[Node] = set()
    stack = list(reversed(values))
    while stack:
        node = stack.pop()
        if node in seen:
            continue
        seen.add(node)
        if axis not in (node.type.rows, node.type.cols) and _removes_inside(node, axis):
            found.setdefault(node)
        else:
            stack.extend(reversed(operands(node)))
    return tuple(found)


def _removes_inside(node: Node, axis: str) -> bool:
    """The same for a `level_sum` with all its levels."""
    inside = level_dependent(node.args[0]) if node.op == "level_sum" else ()
    return removes(node, axis) or any(removes(n, axis) for n in inside)
