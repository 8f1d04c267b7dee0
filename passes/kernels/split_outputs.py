"""Cuts the parallel work on many outputs into kernels that fit on chip.

One kernel for all gradients of a chunk would hold every tile at once. The cut goes through the values at which an axis
disappears: one kernel makes everything that contracts the axis (`gather`), outputs that keep the axis get a kernel
that runs in blocks of it (`spread`), and the rest no longer meets the axis at all (`output`).
"""

from collections.abc import Collection, Iterable
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


def cut_outputs(outputs: tuple[Output, ...], axes: Iterable[str], stored: Collection[Node] = ()) -> Cut | None:
    """The cut along the one of these axes that takes the fewest products; None where one kernel may do it all.

    `stored`: values that kernels load.
    """
    wide = [axis for axis in dict.fromkeys(axes) if axis not in (CHUNK, ONE)]
    cuts = [c for axis in wide if (c := _cut(outputs, axis, stored)) is not None]
    return min(cuts, key=lambda c: (not c.spread, _products(c.gathered), c.axis), default=None)


def _cut(outputs: tuple[Output, ...], axis: str, stored: Collection[Node]) -> Cut | None:
    spread = tuple(o for o in outputs if axis in (o.result.rows, o.result.cols) and not _contracts(o.value, axis))
    rest = tuple(o for o in outputs if o not in spread)
    values = [o.value for o in rest]
    gathered = _with_diagonals(_with_lines(_gathered(values, axis), values, stored), values)
    return Cut(axis, gathered, spread, rest) if rest and (gathered or spread) else None


def _products(values: Iterable[Node]) -> int:
    return sum(n.op == "dot" for n in walk(values))


def _contracts(value: Node, axis: str) -> bool:
    return any(removes(n, axis) for n in walk([value]))


def removes(node: Node, axis: str) -> bool:
    """Whether the operation sums over the axis."""
    if node.op == "dot":
        return bool(node.args[0].type.cols == axis)
    return node.op in ("sum", "reduce_max") and axis == _summed_axis(node)


def _summed_axis(node: Node) -> str:
    operand = node.args[0].type
    return str(operand.rows if node["axis"] == 0 else operand.cols)


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


def _with_lines(gathered: tuple[Node, ...], roots: list[Node], stored: Collection[Node]) -> tuple[Node, ...]:
    """The same with what else happens to a value before anything reads it: turned, masked, or a line added or
    multiplied. The kernel that makes it holds less than those that read it."""
    users: dict[Node, list[Node]] = {}
    for node in walk(roots):
        for a in dict.fromkeys(operands(node)):
            users.setdefault(a, []).append(node)
    changing = {n for s in walk(roots) if s.op == "level_sum" for n in level_dependent(s.args[0])}
    fixed = {*roots, *changing, *stored}

    def whole(value: Node) -> Node:
        only = users.get(value, [])
        fits = len(only) == 1 and value not in fixed and only[0] not in fixed
        return whole(only[0]) if fits and _keeps_elements(only[0], value, stored) else value

    return tuple(dict.fromkeys(map(whole, gathered)))


def _with_diagonals(gathered: tuple[Node, ...], roots: list[Node]) -> tuple[Node, ...]:
    """The same with the diagonals that something takes of the tiles, which otherwise feed products alone."""
    own = set(gathered)
    return (*gathered, *(n for n in walk(roots) if n.op == "sum" and n["axis"] == 1 and _masks_eye(n.args[0], own)))


def _masks_eye(node: Node, tiles: Collection[Node]) -> bool:
    return node.op == "mask" and node["kind"] == "eye" and node["fill"] == 0.0 and node.args[0] in tiles


def _keeps_elements(node: Node, value: Node, stored: Collection[Node]) -> bool:
    """Whether the operation maps a whole tile to one of as many elements, with nothing but lines beside it."""
    others = [a for a in node.args if a is not value]
    axes = {value.type.rows, value.type.cols}
    if ONE in axes or axes != {node.type.rows, node.type.cols}:
        return False
    if node.op in ("add", "sub", "mul"):
        outer = others[0].op == "dot" and others[0].args[0].type.cols == ONE
        return all(_is_ready(line, stored) for line in (others[0].args if outer else others))
    return node.op in ("transpose", "mask", "neg")


def _is_ready(line: Node, stored: Collection[Node]) -> bool:
    """Whether it is a line and made of loads without sums over vectors, which belong to other kernels."""
    if ONE not in (line.type.rows, line.type.cols):
        return False
    stack, seen = [line], set(stored)
    while stack:
        node = stack.pop()
        if node in seen:
            continue
        seen.add(node)
        if node.op == "dot" or (node.op in ("sum", "reduce_max") and _summed_axis(node) != CHUNK):
            return False
        stack.extend(node.args)
    return True


def _removes_inside(node: Node, axis: str) -> bool:
    """The same for a `level_sum` with all its levels."""
    inside = level_dependent(node.args[0]) if node.op == "level_sum" else ()
    return removes(node, axis) or any(removes(n, axis) for n in inside)
