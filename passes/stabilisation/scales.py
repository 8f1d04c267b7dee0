"""Scales: logs of factors that are kept apart from values, and the largest of several.

See `scaled` for the arithmetic of values that have one.
"""

from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from smir.ir.dims import ONE, Dim
from smir.ir.expr import CONST, const, max_over, pointwise, state_at, transpose
from smir.ir.graph import Node, substitute
from smir.ir.interval import Interval
from smir.ir.mixer import Mixer, matrix_shape
from smir.passes.analysis.exponents import LARGEST_EXPONENT
from smir.passes.analysis.ranges import node_ranges
from smir.passes.expressions.algebra import ZERO, is_const, negated, total

# The log of the scale of zero: e^LOWEST is 0 in every float type, and differences and sums of it stay finite.
LOWEST = -1e30
Term = tuple[Node, float]


@dataclass(frozen=True)
class Scale:
    """A sum of nodes, each times a number; none is zero."""

    terms: tuple[Term, ...] = ()

    def plus(self, other: "Scale", factor: float = 1.0) -> "Scale":
        """self + factor * other; what cancels is gone."""
        merged = dict(self.terms)
        for node, number in other.terms:
            merged[node] = merged.get(node, 0.0) + factor * number
        return Scale(tuple((n, c) for n, c in merged.items() if c))

    def times(self, factor: float) -> "Scale":
        return Scale().plus(self, factor)

    @staticmethod
    def of(node: Node, factor: float = 1.0) -> "Scale":
        """The node, as the terms that it adds up."""
        if node.op == "neg":
            return Scale.of(node.args[0], -factor)
        if node.op in ("add", "sub"):
            return Scale.of(node.args[0], factor).plus(Scale.of(node.args[1], factor if node.op == "add" else -factor))
        return Scale(((node, factor),))

    @property
    def transposed(self) -> "Scale":
        return Scale(tuple((transpose(n), c) for n, c in self.terms))

    def along(self, axis: int) -> "Scale":
        """The terms that change along the rows (0) or the columns (1)."""
        return Scale(tuple((n, c) for n, c in self.terms if n.type.shape[axis] != ONE))


@dataclass(frozen=True)
class Scaled:
    """core * e^scale; either may be smaller than the value and broadcast to it.

    `carried` marks the previous value of the state whose update is evaluated, times decays.
    """

    core: Node
    scale: Scale = Scale()
    carried: bool = False

    @property
    def any_scale(self) -> bool:
        """Whether it is the same number at every scale: zero and infinity are."""
        return self.core.op == "const" and self.core["value"] in (0.0, float("inf"), float("-inf"))


@dataclass(frozen=True)
class Log:
    """The state that holds the log of the scale of others."""

    name: str
    rows: Dim
    cols: Dim

    def at(self, offset: int) -> Node:
        return state_at(self.name, self.rows, self.cols, offset)

    def covers(self, node: Node) -> bool:
        """Whether the node is no larger along any axis."""
        return all(a in (ONE, own) for a, own in zip(node.type.shape, (self.rows, self.cols), strict=True))


class Scales:
    """Sums, bounds and maxima of the scales of one mixer whose states have the given `logs` by name."""

    def __init__(self, mixer: Mixer, logs: dict[str, Log]) -> None:
        self.logs = logs
        self.log_names = {log.name for log in logs.values()}
        self.declared = {d.name: d.range for d in mixer.declarations}
        self.now = updates_now(mixer)
        self.joins: dict[tuple[str, AbstractSet[object]], Node] = {}
        self.sums: dict[AbstractSet[Term], Node] = {}

    def exponent(self, scale: Scale) -> Node:
        """The scale as one node; the same one for the same terms in any order.

        Two large terms of opposite sign come first, logs and what grows with the sequence: their difference is small,
        and what is added to it keeps its digits. Rounding of a running maximum is made up for like this.
        """
        key = frozenset(scale.terms)
        if key not in self.sums:
            above = sorted((t for t in scale.terms if t[1] > 0), key=self._steadiness)
            below = sorted((t for t in scale.terms if t[1] < 0), key=self._steadiness)
            ordered = above[:1] + below[:1] + above[1:] + below[1:]
            self.sums[key] = total(_multiple(n, c) for n, c in ordered) or ZERO
        return self.sums[key]

    def _steadiness(self, term: Term) -> int:
        node = term[0]
        if node.op == "stop" or (node.op == "state" and node["name"] in self.log_names):
            return 0
        return 2 if node.type.time == CONST else 1

    def range(self, node: Node) -> Interval:
        return node_ranges([node], self.declared)[node]

    def bounded(self, exponent: Node) -> bool:
        """Whether e^exponent is proved to be a number in every float type."""
        return is_bounded(exponent, self.declared, self.now)

    def join(self, values: Sequence[Scaled], forced: bool = False) -> Node:
        """The largest of the scales, never -inf. Unless `forced`, the scale itself where all have the same one."""
        scales = {frozenset(v.scale.terms): v.scale for v in sorted(values, key=lambda v: not v.carried)}
        if len(scales) == 1 and not forced:
            return self.exponent(next(iter(scales.values())))
        return self._largest("max", frozenset(scales), lambda: self._maximum(tuple(scales.values())))

    def _maximum(self, scales: Sequence[Scale]) -> Node:
        items = [self.exponent(s) for s in scales]
        if not any(map(self._finite, scales)):
            items.append(const(LOWEST))
        largest = items.pop()
        for item in reversed(items):
            largest = pointwise("max", item, largest)
        return largest

    def _finite(self, scale: Scale) -> bool:
        """Whether it can't be -inf: a number, or another largest scale."""
        return all(n.op == "stop" or (n.op == "state" and n["name"] in self.log_names) for n, _ in scale.terms)

    def _largest(self, kind: str, key: AbstractSet[object], make: Callable[[], Node]) -> Node:
        if (kind, key) not in self.joins:
            self.joins[kind, key] = pointwise("stop", make())
        return self.joins[kind, key]

    def aligned(self, value: Scaled, scale: Node) -> Node:
        """The core at another scale, at least its own."""
        left = value.scale.plus(Scale(((scale, 1.0),)), -1.0)
        if not left.terms or self.exponent(value.scale) is scale or value.any_scale:
            return value.core
        return times(value.core, pointwise("exp", self.exponent(left)))

    def together(self, values: Sequence[Scaled]) -> tuple[list[Node], Scale]:
        """The cores at one scale."""
        fixed = [v for v in values if not v.any_scale]
        if not any(v.scale.terms for v in fixed):
            return [v.core for v in values], Scale()
        scale = self.join(fixed)
        same = all(frozenset(v.scale.terms) == frozenset(fixed[0].scale.terms) for v in fixed)
        return [self.aligned(v, scale) for v in values], fixed[0].scale if same else Scale(((scale, 1.0),))

    def over_axis(self, scale: Scale, axis: int) -> tuple[Node, Scale]:
        """The weights e^(scale - largest) along the rows or columns, and the largest scale."""
        own = self.exponent(scale)
        kind = f"over {axis}"
        largest = self._largest(
            kind, frozenset(scale.terms), lambda: pointwise("max", max_over(own, axis), const(LOWEST))
        )
        found = Scale(((largest, 1.0),))
        return pointwise("exp", self.exponent(scale.plus(found, -1.0))), found


def updates_now(mixer: Mixer) -> dict[Node, Node]:
    """What states are at t, by their updates."""
    return {state_at(s.name, *matrix_shape(s.dims)): s.update for s in mixer.states}


def is_bounded(exponent: Node, declared: Mapping[str, Interval], now: Mapping[Node, Node]) -> bool:
    """Whether e^exponent is proved to be a number in every float type; `now` are the updates of states read at t.

    Parameters alone don't grow with the sequence: what they are is up to whoever trains them.
    """
    if exponent.type.time == CONST or node_ranges([exponent], declared)[exponent].hi <= LARGEST_EXPONENT:
        return True
    inside = substitute(exponent, now)
    return inside is not exponent and node_ranges([inside], declared)[inside].hi <= LARGEST_EXPONENT


def _multiple(node: Node, number: float) -> Node:
    size = node if abs(number) == 1.0 else pointwise("mul", const(abs(number)), node)
    return size if number > 0 else negated(size)


def times(a: Node, b: Node) -> Node:
    """The product, without factors of 1."""
    if is_const(a, 1.0) or is_const(b, 1.0):
        return b if is_const(a, 1.0) else a
    return pointwise("mul", a, b)
