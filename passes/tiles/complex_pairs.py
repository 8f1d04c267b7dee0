"""Complex states: two states that turn into each other, as the real and imaginary part of one recurrence.

    x = a x- - b y- + u,   y = b x- + a y- + v,   with a = r cos(theta), b = r sin(theta)

is z = r e^(i theta) z- + w. Seen from a frame that turns with the angles since the chunk's start it has the real decay
r: two real scans of turned writes, turned back. Any r and theta are allowed, changing from token to token or not.
"""

from collections.abc import Callable
from dataclasses import dataclass

from smir.ir import tile
from smir.ir.expr import const
from smir.ir.graph import Node, walk
from smir.ir.mixer import State
from smir.passes.expressions.algebra import factors, negated, product, same
from smir.passes.expressions.broken_laws import BrokenLaw
from smir.passes.recognition.elementwise import previous, split_sum

POLAR = (
    "write a pair as x = a*x[t-1] - b*y[t-1] + .., y = b*x[t-1] + a*y[t-1] + .. with a = r*cos(theta), b = r*sin(theta)"
)
# x + ANCHOR is x rounded to 2^-10 in float32, and multiples of 2^-10 up to 2^13 are float32 numbers.
ANCHOR = 1.5 * 2.0**13
p = tile.pointwise


@dataclass(frozen=True)
class ComplexPair:
    """z = radius e^(i angle) z- + write, with the names of the states that are the real and the imaginary part."""

    real: str
    imaginary: str
    direction: str
    radius: Node
    angle: Node
    real_write: Node
    imaginary_write: Node


def read_pair(first: State, second: State) -> ComplexPair:
    """The complex recurrence of two coupled states. Raises BrokenLaw."""
    rows = [_row(first, second), _row(second, first)]
    (a, b, u), (d, c, v) = rows
    polar = _polar(a, c) if a is d and b is negated(c) else None
    if polar is not None:
        return ComplexPair(first.name, second.name, previous(first)[0], *polar, u, v)
    polar = _polar(a, b) if a is d and c is negated(b) else None
    if polar is not None:
        return ComplexPair(second.name, first.name, previous(first)[0], *polar, v, u)
    law = f"states `{first.name}` and `{second.name}` need each other and are no complex number"
    raise BrokenLaw(law, first.update, POLAR)


def _row(own: State, other: State) -> tuple[Node, Node, Node]:
    """The update's coefficients of its own and of the other state's previous value, and the rest."""
    zero = const(0.0)
    _, before = previous(own)
    reads = [n for n in walk([own.update]) if n.op == "state" and n["name"] == other.name]
    if before is None or len(reads) != 1 or reads[0]["offset"] != before["offset"]:
        raise BrokenLaw(f"states `{own.name}` and `{other.name}` need each other", own.update, POLAR)
    coefficient, rest = split_sum(own.update, before)
    across, write = (None, None) if rest is None else split_sum(rest, reads[0])
    if coefficient is None or across is None or reads[0] in set(walk([coefficient])):
        raise BrokenLaw(f"states `{own.name}` and `{other.name}` need each other", own.update, POLAR)
    return coefficient, across, write or zero


def _polar(a: Node, b: Node) -> tuple[Node, Node] | None:
    """r and theta, where a is written as r cos(theta) and b as r sin(theta)."""
    for cosine in (f for f in factors(a) if f.op == "cos"):
        for sine in (f for f in factors(b) if f.op == "sin" and f.args == cosine.args):
            radius = tuple(f for f in factors(a) if f is not cosine)
            if same(radius, tuple(f for f in factors(b) if f is not sine)):
                return product(radius), cosine.args[0]
    return None


@dataclass(frozen=True)
class Turned:
    """The tiles of a pair in one chunk: `scan` runs a real recurrence with the pair's decay from a state's start."""

    angle: Node
    writes: tuple[Node, Node]
    reverse: bool
    scan: Callable[[Node, int], Node]

    def values(self) -> tuple[Node, Node]:
        """Real and imaginary part after each token. The angles must be zero beyond the end of the sequence."""
        cos, sin = self._turn()
        u, v = self.writes
        x = self.scan(p("add", p("mul", cos, u), p("mul", sin, v)), 0)
        y = self.scan(p("sub", p("mul", cos, v), p("mul", sin, u)), 1)
        return p("sub", p("mul", cos, x), p("mul", sin, y)), p("add", p("mul", sin, x), p("mul", cos, y))

    def _turn(self) -> tuple[Node, Node]:
        """Cosine and sine of the angle turned since the chunk's start.

        The angles' leading digits add up without rounding in float32, however often they go round the circle.
        """
        leading = p("sub", p("add", self.angle, tile.const(ANCHOR)), tile.const(ANCHOR))
        far = tile.cumsum(leading, reverse=self.reverse)
        near = tile.cumsum(p("sub", self.angle, leading), reverse=self.reverse)
        (a, b), (c, d) = ((p("cos", x), p("sin", x)) for x in (far, near))
        return p("sub", p("mul", a, c), p("mul", b, d)), p("add", p("mul", b, c), p("mul", a, d))
