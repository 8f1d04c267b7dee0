"""Index formulas: how the entry (i, j) depends on the distance d = i - j, and what it is at a given distance.

Conditions, `abs`, `max`, `min` and the ends of ranges split the distances into regions in which the formula
is one smooth expression; `resolve` gives that expression, `at_distance` the value at one distance per step.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from smir.ir.dims import ONE
from smir.ir.expr import const, input_at, pointwise, rotate, sum_over, transpose
from smir.ir.graph import Node, substitute, walk
from smir.ir.interval import Interval, point
from smir.ir.ops import POINTWISE
from smir.passes.analysis.ranges import node_ranges
from smir.passes.expressions.algebra import (
    UNITY,
    ZERO,
    expand,
    factors,
    is_const,
    is_zero,
    multiply,
    negated,
    product,
    simple,
    total,
)
from smir.passes.expressions.broken_laws import BrokenLaw

AT_I, AT_J = "i", "j"
NO_FACTORS = "no recurrence does it; it runs over the whole sequence only"
NO_COMPARISON = "a condition that is no comparison of i - j with a number"
_COMPARISONS = {"lt", "le", "eq", "ne"}
_BY_SIGN = {"abs", "max", "min"}
RANGES = {"sum_range", "prod_range"}


@dataclass(frozen=True)
class Affine:
    """coefficients of indices plus a number."""

    slopes: tuple[tuple[str, float], ...]
    offset: float

    def slope(self, index: str) -> float:
        return dict(self.slopes).get(index, 0.0)

    def plus(self, other: "Affine", factor: float = 1.0) -> "Affine":
        names = {n for n, _ in self.slopes + other.slopes}
        slopes = {n: self.slope(n) + factor * other.slope(n) for n in names}
        kept = tuple(sorted((n, c) for n, c in slopes.items() if c))
        return Affine(kept, self.offset + factor * other.offset)

    def times(self, factor: float) -> "Affine":
        return Affine(tuple((n, c * factor) for n, c in self.slopes if c * factor), self.offset * factor)

    def at(self, distance: int) -> float | None:
        """The value where it depends on i - j alone; None otherwise."""
        if self.slope(AT_I) + self.slope(AT_J) != 0 or {n for n, _ in self.slopes} - {AT_I, AT_J}:
            return None
        return self.slope(AT_I) * distance + self.offset


def affine(node: Node) -> Affine | None:
    """The node as an affine function of the indices, if it is one."""
    if node.op == "position":
        return Affine(((node["index"], 1.0),), 0.0)
    if node.op == "const":
        return Affine((), node["value"])
    if node.op in ("add", "sub", "neg", "mul"):
        parts = [affine(a) for a in node.args]
        known = [p for p in parts if p is not None]
        if len(known) != len(parts):
            return None
        if node.op == "neg":
            return known[0].times(-1.0)
        if node.op == "mul":
            number = next((p for p in known if not p.slopes), None)
            other = known[1] if number is known[0] else known[0]
            return None if number is None else other.times(number.offset)
        return known[0].plus(known[1], 1.0 if node.op == "add" else -1.0)
    return None


def _gap(node: Node, left: Node, right: Node) -> Affine:
    """left - right, which must depend on i - j alone. Raises BrokenLaw."""
    return _difference(node, affine(left), affine(right))


def _difference(node: Node, a: Affine | None, b: Affine | None) -> Affine:
    gap = a.plus(b, -1.0) if a and b else None
    if gap is None or gap.at(0) is None:
        raise BrokenLaw(NO_COMPARISON, node, NO_FACTORS)
    return gap


def _is_positional(node: Node) -> bool:
    """Whether abs, max or min is of positions, not of data."""
    return all(_variants(a) for a in node.args) and any(n.op == "position" for n in walk([node]))


def breakpoints(formula: Node) -> set[int]:
    """Distances at which a new region begins: the formula is smooth from one to just before the next."""
    found = {0}
    for node in walk([formula]):
        if node.op in _COMPARISONS or (node.op in _BY_SIGN and _is_positional(node)):
            right = node.args[1] if len(node.args) == 2 else ZERO
            pairs = [(a, b) for a in _variants(node.args[0]) for b in _variants(right)]
            if not pairs:
                raise BrokenLaw(NO_COMPARISON, node, NO_FACTORS)
            for a, b in pairs:
                found |= _roots(_difference(node, a, b))
        elif node.op in RANGES:
            for high in _variants(node.args[1]):
                for low in _variants(node.args[0]):
                    length = high.plus(low, -1.0).plus(Affine((), 1.0))
                    found |= _roots(length) if length.at(0) is not None else set()
    return found


def _variants(node: Node) -> list[Affine]:
    """The affine functions that a piecewise affine one consists of; none when it is something else."""
    if node.op in _BY_SIGN:
        inner = [_variants(a) for a in node.args]
        if not all(inner):
            return []
        pieces = [v for variants in inner for v in variants]
        return pieces + [v.times(-1.0) for v in pieces] if node.op == "abs" else pieces
    if node.op in ("add", "sub"):
        sign = 1.0 if node.op == "add" else -1.0
        return [a.plus(b, sign) for a in _variants(node.args[0]) for b in _variants(node.args[1])]
    if node.op == "neg":
        return [v.times(-1.0) for v in _variants(node.args[0])]
    known = affine(node)
    return [] if known is None else [known]


def _length(node: Node) -> Affine | None:
    """Number of indices in a range (hi - lo + 1), where both ends are affine."""
    low, high = affine(node.args[0]), affine(node.args[1])
    length = high.plus(low, -1.0).plus(Affine((), 1.0)) if low and high else None
    return length if length and length.at(0) is not None else None


def _roots(gap: Affine) -> set[int]:
    """The integers around the sign change of an affine function of d; a zero of it is a region of its own."""
    slope = gap.slope(AT_I)
    if slope == 0:
        return set()
    root = -gap.offset / slope
    return {math.floor(root), math.floor(root) + 1}


def resolve(formula: Node, distance: int) -> Node:
    """The formula in the region of that distance: conditions decided, empty ranges neutral."""
    done: dict[Node, Node] = {}
    for node in walk([formula]):
        done[node] = _resolved(node, tuple(done[a] for a in node.args), distance)
        if done[node].op == "const" and math.isnan(done[node]["value"]):
            raise BrokenLaw("an entry that is no number", node, NO_FACTORS)
    return done[formula]


def _resolved(node: Node, args: tuple[Node, ...], distance: int) -> Node:
    if node.op in _COMPARISONS:
        return const(float(POINTWISE[node.op].numpy(_gap(node, *args).at(distance), 0.0)))
    if node.op in _BY_SIGN and _is_positional(node):
        return _by_sign(node, args, distance)
    if node.op in RANGES:
        changed = substitute_args(node, args)
        length = _length(changed)
        empty = (
            length is not None
            and (length.at(distance) or 0.0) <= 0
            and not (length.slope(AT_I) and length.at(distance) == 0)
        )
        return (ZERO if node.op == "sum_range" else UNITY) if empty else changed
    if node.op in POINTWISE and node.type.is_scalar:
        return simple(node.op, *args)
    if node.op == "matmul" and any(is_zero(factors(a)) for a in args):
        return expand(ZERO, *node.type.shape)
    if node.op == "where" and args[0].op == "const":
        return expand(args[1] if args[0]["value"] else args[2], *node.type.shape)
    return substitute_args(node, args)


def _by_sign(node: Node, args: tuple[Node, ...], distance: int) -> Node:
    right = args[1] if len(args) == 2 else ZERO
    positive = (_gap(node, args[0], right).at(distance) or 0.0) >= 0
    if node.op == "abs":
        return args[0] if positive else negated(args[0])
    return args[0] if positive == (node.op == "max") else args[1]


def substitute_args(node: Node, args: tuple[Node, ...]) -> Node:
    """The same operation on other arguments."""
    return substitute(node, dict(zip(node.args, args, strict=True))) if node.args else node


# ---- from a pair of positions to one step -----------------------------------------------------------------------


@dataclass(frozen=True)
class Leaves:
    """What `input_of` leaves stand for: inputs by name, and per-step columns by invented names."""

    columns: Mapping[str, Node]

    def at_step(self, leaf: Node, offset: int) -> Node:
        offset += leaf["offset"]
        column = self.columns.get(leaf["name"])
        return input_at(leaf["name"], leaf.type.rows, ONE, offset) if column is None else shift(column, offset)


def shift(column: Node, offset: int) -> Node:
    """A per-step value `offset` steps later. Raises BrokenLaw when it depends on a state."""
    if offset == 0:
        return column

    def moved(node: Node) -> Node | None:
        if node.op == "state":
            raise BrokenLaw("chained states (a delayed value needs a state)", node, "each state alone must be linear")
        if node.op == "input":
            return input_at(node["name"], node.type.rows, node.type.cols, node["offset"] + offset)
        return None

    return substitute(column, moved)


def at_step(root: Node, where: Mapping[str, int], leaves: Leaves) -> Node:
    """A formula with every index at a fixed offset from the step t. Raises BrokenLaw for positions that stay."""
    position = affine(root)
    if position is not None and position.slopes:
        if sum(c for _, c in position.slopes) != 0:
            raise BrokenLaw("a position outside a difference i - j", root, NO_FACTORS)
        return const(sum(c * where[n] for n, c in position.slopes) + position.offset)
    if root.op == "input_of":
        return leaves.at_step(root, where[root["index"]])
    if root.op in RANGES:
        return _unrolled(root, where, leaves)
    args = tuple(at_step(a, where, leaves) for a in root.args)
    if not args:
        return root
    if root.op in POINTWISE:
        return simple(root.op, *args) if root.type.is_scalar else pointwise(root.op, *args)
    if root.op == "sum":
        return sum_over(args[0], root["axis"])
    if root.op == "matmul":
        return multiply(*args)
    if root.op == "transpose":
        return transpose(*args)
    if root.op == "rotate":
        return rotate(args[0], args[1], inverse=root["inverse"])
    raise BrokenLaw("an operation that has no meaning per step", root, NO_FACTORS)


def _unrolled(node: Node, where: Mapping[str, int], leaves: Leaves) -> Node:
    low, high = (_offset(node, end, where) for end in node.args[:2])
    body = node.args[2]
    terms = [at_step(body, {**where, node["index"]: m}, leaves) for m in range(low, high + 1)]
    inside = min(where.values()) <= low and high <= max(where.values())
    neutral = 1.0 if node.op == "prod_range" else 0.0
    if terms and not inside and not gives(terms[0], neutral):
        raise BrokenLaw("a range that may leave the sequence", node, NO_FACTORS)
    if node.op == "prod_range":
        return product(t for t in terms if not is_const(t, 1.0))
    return total(terms) or ZERO


def _offset(node: Node, end: Node, where: Mapping[str, int]) -> int:
    """The end of a range relative to t."""
    position = affine(end)
    if position is None or sum(c for _, c in position.slopes) != 1:
        raise BrokenLaw("a range whose length is not fixed by i - j", node, NO_FACTORS)
    return int(sum(c * where[n] for n, c in position.slopes) + position.offset)


def gives(value: Node, number: float, offset: int | None = None) -> bool:
    """Whether a per-step value is certainly that number where its inputs (those at `offset`, or all) are zero."""
    zeros = {
        n: pointwise("mul", ZERO, n)
        for n in walk([value])
        if n.op == "input" and (offset is None or n["offset"] == offset)
    }
    changed = substitute(value, zeros)
    found = node_ranges([changed], {})
    return found[changed] == point(number) and all(_is_finite(n, found) for n in found)


def _is_finite(node: Node, found: Mapping[Node, Interval]) -> bool:
    """Whether an operation on finite values gives a finite one."""
    if node.op == "div":
        return 0.0 not in found[node.args[1]]
    if node.op == "log":
        return found[node.args[0]].lo > 0
    return node.op != "pow" or found[node.args[1]].lo >= 0 or 0.0 not in found[node.args[0]]


def at_distance(formula: Node, distance: int, leaves: Leaves) -> Node:
    """The entry (t, t - distance), per step."""
    return at_step(formula, {AT_I: 0, AT_J: -distance}, leaves)
