"""Transitions with products along segments: what many chunks make of a state together, as one matrix.

A delta rule takes a state h to `d h + a' (w h) + u`. Without u that is linear in every column of h alike, so that any
number of chunks take h to `D h + N h`, with D a number or a column and N a matrix that starts from zero: the scale
stays apart from the matrix, which is rounded where products round their operands.
"""

from collections.abc import Set
from dataclasses import dataclass

from smir.ir.graph import Node, reaches
from smir.ir.tile import ONE, const, dot, pointwise, transpose


@dataclass(frozen=True)
class Turned:
    """A value that is `scale * state + turn @ state`; None for a part that isn't there."""

    scale: Node | None
    turn: Node | None = None

    def __add__(self, other: "Turned") -> "Turned":
        return Turned(_sum(self.scale, other.scale), _sum(self.turn, other.turn))

    def __neg__(self) -> "Turned":
        return Turned(*(part and pointwise("neg", part) for part in (self.scale, self.turn)))

    def times(self, column: Node) -> "Turned":
        """With every row multiplied by a number."""
        return Turned(*(part and _product(part, column) for part in (self.scale, self.turn)))

    def multiplied(self, left: Node) -> "Turned":
        """The product of a matrix with the value."""
        scaled = self.scale and _product(left, transpose(self.scale))
        return Turned(None, _sum(scaled, self.turn and dot(left, self.turn)))


def turned(value: Node, load: Node, held: Turned) -> Turned | None:
    """The value without what doesn't depend on `load`, which is `held`; None where it is no such product."""
    try:
        return _turned(value, load, held, reaches([value], lambda n: n is load), {load: held})
    except _OtherwiseError:
        return None


class _OtherwiseError(Exception):
    """The state is used in another way."""


def _turned(n: Node, load: Node, held: Turned, touched: Set[Node], known: dict[Node, Turned]) -> Turned:
    if n not in known:
        own = [_turned(a, load, held, touched, known) for a in n.args if a in touched]
        if not own:
            raise _OtherwiseError
        known[n] = _rule(n, own, [a for a in n.args if a not in touched], n.args[0] in touched)
    return known[n]


def _rule(n: Node, own: list[Turned], others: list[Node], first: bool) -> Turned:
    if n.op == "add":
        return own[0] + own[1] if len(own) == 2 else own[0]
    if n.op == "sub":
        return own[0] + -own[1] if len(own) == 2 else own[0] if first else -own[0]
    if n.op == "neg":
        return -own[0]
    if n.op == "mul" and others and others[0].type.cols == ONE:
        return own[0].times(others[0])
    if n.op == "dot" and others and not first:
        return own[0].multiplied(others[0])
    raise _OtherwiseError


def _sum(a: Node | None, b: Node | None) -> Node | None:
    return pointwise("add", a, b) if a is not None and b is not None else a if b is None else b


def _product(a: Node, b: Node) -> Node:
    one = const(1.0)
    return b if a is one else a if one in (b, transpose(b)) else pointwise("mul", a, b)
