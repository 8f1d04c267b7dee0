"""Rotations by positions in an index formula: `x(i)' rot(angle) y(j)` with an angle that grows with i - j.

An inner product of rotated vectors depends on the difference of their angles alone. Where that is `step * (i - j)` plus
a constant, the key's state turns by `step` from position to position.
"""

from dataclasses import dataclass
from math import prod

from smir.ir.dims import ONE
from smir.ir.expr import const, matmul, pointwise, position, rotate, transpose
from smir.ir.graph import Node, rebuild, walk
from smir.passes.expressions.algebra import expand, factors, negated, product, total
from smir.passes.expressions.broken_laws import BrokenLaw
from smir.passes.masks.index_formulas import AT_I, AT_J, NO_FACTORS, Affine, affine

Angles = dict[Node, Affine]
_NOTHING = Affine((), 0.0)


@dataclass(frozen=True)
class Turned:
    """An inner product `x' rot(step * (i - j) + rest) y`; without an angle, None."""

    x: Node
    y: Node
    step: Node | None
    rest: Node | None

    @property
    def swapped(self) -> "Turned":
        """The same number as `y' rot(-angle) x`."""
        return Turned(self.y, self.x, self.step and negated(self.step), self.rest and negated(self.rest))


def with_differences(formula: Node) -> Node:
    """The formula with every inner product of rotated vectors as one rotation, by a function of i - j, on its right.

    Raises BrokenLaw for angles that depend on positions otherwise.
    """
    done: dict[Node, Node] = {}
    for node in walk([formula]):
        changed = rebuild(node, (done[a] for a in node.args))
        done[node] = _joined(node, changed) if _meets_rotation(changed) else changed
    return done[formula]


def turned(product_: Node) -> Turned:
    """The parts of an inner product as `with_differences` leaves it."""
    x, y = transpose(product_.args[0]), product_.args[1]
    if y.op != "rotate":
        return Turned(x, y, None, None)
    angles = _angles(y.args[0], product_)
    step = total(product((const(a.slope(AT_I)), column)) for column, a in angles.items() if a.slope(AT_I))
    rest = total(product((const(a.offset), column)) for column, a in angles.items() if a.offset)
    return Turned(x, y.args[1], step, rest)


def _meets_rotation(node: Node) -> bool:
    if node.op != "matmul" or not node.type.is_scalar:
        return False
    sides = transpose(node.args[0]), node.args[1]
    return any(s.op == "rotate" and _has_position(s.args[0]) for s in sides)


def _has_position(node: Node) -> bool:
    return any(n.op == "position" for n in walk([node]))


def _joined(origin: Node, node: Node) -> Node:
    """`(rot(a) x)' (rot(b) y)` as `x' rot(b - a) y`."""
    sides, angles = [], Angles()
    for side, sign in ((transpose(node.args[0]), -1.0), (node.args[1], 1.0)):
        while side.op == "rotate":
            found = _angles(side.args[0], origin)
            angles = _plus(angles, found, -sign if side["inverse"] else sign)
            side = side.args[1]
        sides.append(side)
    x, y = sides
    angle = total(_column(c, a, origin) for c, a in angles.items() if a != _NOTHING)
    return matmul(transpose(x), y if angle is None else rotate(angle, y))


def _column(column: Node, at: Affine, origin: Node) -> Node:
    """`column * (slope * (i - j) + offset)`."""
    if at.slope(AT_I) + at.slope(AT_J) != 0:
        raise BrokenLaw("an angle that is no function of i - j", origin, NO_FACTORS)
    distance = pointwise("sub", position(AT_I), position(AT_J))
    parts = [product((const(at.slope(AT_I)), distance))] if at.slope(AT_I) else []
    where = total([*parts, *([const(at.offset)] if at.offset else [])])
    assert where is not None
    return product((where, column))


def _plus(a: Angles, b: Angles, sign: float) -> Angles:
    return {c: a.get(c, _NOTHING).plus(b.get(c, _NOTHING), sign) for c in {**a, **b}}


def _angles(node: Node, origin: Node) -> Angles:
    """An angle as a sum of constant columns, each times an affine function of the positions."""
    if not _has_position(node):
        return _constant(node, Affine((), 1.0))
    if node.op == "neg":
        return _plus({}, _angles(node.args[0], origin), -1.0)
    if node.op in ("add", "sub") and all(a.type.shape == node.type.shape for a in node.args):
        first, second = (_angles(a, origin) for a in node.args)
        return _plus(first, second, 1.0 if node.op == "add" else -1.0)
    if node.op == "mul":
        places = [affine(a) if a.type.is_scalar else None for a in node.args]
        for place, other in zip(places, node.args[::-1], strict=True):
            if place is not None and not _has_position(other):
                return _constant(other, place)
    raise BrokenLaw("an angle that is no sum of constants times positions", origin, NO_FACTORS)


def _constant(column: Node, place: Affine) -> Angles:
    """A constant column times a place; numbers count as the place's, so that equal columns are one."""
    parts = factors(column)
    numbers = [f["value"] for f in parts if f.op == "const"]
    rest = expand(product(f for f in parts if f.op != "const"), column.type.rows, ONE)
    return {rest: place.times(prod(numbers))}
