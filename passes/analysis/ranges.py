"""Ranges: an interval for every value of the mixer IR, from the ranges that a spec promises."""

from collections.abc import Callable, Iterable, Mapping

from smir.ir.dims import ONE
from smir.ir.graph import Node, walk
from smir.ir.interval import INF, REAL, UNIT, Interval, point
from smir.ir.ops import POINTWISE
from smir.passes.analysis.maxima import never_positive

Ranges = Mapping[Node, Interval]
_ZERO = point(0.0)


def node_ranges(roots: Iterable[Node], declared: Mapping[str, Interval]) -> dict[Node, Interval]:
    """The interval of every node below the roots.

    `declared` gives the promised range of inputs and parameters by name; other names may be anything. An input
    that is read at an offset is zero beyond the ends of the sequence, so its interval includes 0.
    """
    found: dict[Node, Interval] = {}
    for node in walk(roots):
        rule = _RULES.get(node.op)
        if rule is not None:
            found[node] = rule(node, found, declared)
        elif node.op in POINTWISE:
            found[node] = POINTWISE[node.op].interval(*(found[a] for a in node.args))
            if found[node].hi > 0 and never_positive(node):
                found[node] = Interval(found[node].lo, 0.0)
        else:
            found[node] = REAL
    return found


Rule = Callable[[Node, Ranges, Mapping[str, Interval]], Interval]


def _const(node: Node, found: Ranges, declared: Mapping[str, Interval]) -> Interval:
    return point(node["value"])


def _declared(node: Node, found: Ranges, declared: Mapping[str, Interval]) -> Interval:
    promised = declared.get(node["name"], REAL)
    return promised.union(_ZERO) if node.get("offset") else promised


def _first(node: Node, found: Ranges, declared: Mapping[str, Interval]) -> Interval:
    return found[node.args[0]]


def _body(node: Node) -> Node:
    return node.args[2]


def _sum_range(node: Node, found: Ranges, declared: Mapping[str, Interval]) -> Interval:
    return _accumulated(found[_body(node)])


def _prod_range(node: Node, found: Ranges, declared: Mapping[str, Interval]) -> Interval:
    body = found[_body(node)]
    if body.within(UNIT):
        return UNIT
    return Interval(0.0, INF) if body.lo >= 0 else REAL


def _sum(node: Node, found: Ranges, declared: Mapping[str, Interval]) -> Interval:
    (arg,) = node.args
    size = arg.type.rows if node["axis"] == 0 else arg.type.cols
    return found[arg] if size == ONE else _accumulated(found[arg])


def _matmul(node: Node, found: Ranges, declared: Mapping[str, Interval]) -> Interval:
    a, b = node.args
    term = found[a] * found[b]
    if a.type.cols == ONE:
        return term
    # x^T x: a sum of squares.
    square = a.op == "transpose" and a.args[0] is b and b.type.cols == ONE
    return Interval(0.0, INF) if square else _accumulated(term)


def _rotate(node: Node, found: Ranges, declared: Mapping[str, Interval]) -> Interval:
    angle_free = found[node.args[1]]
    reach = 2.0 * max(abs(angle_free.lo), abs(angle_free.hi))
    return Interval(-reach, reach)


def _accumulated(term: Interval) -> Interval:
    """A sum of unknown length keeps only the sign of its terms."""
    return Interval(0.0 if term.lo >= 0 else -INF, 0.0 if term.hi <= 0 else INF)


_RULES: dict[str, Rule] = {
    "const": _const,
    "param": _declared,
    "input": _declared,
    "sequence": _declared,
    "input_of": _declared,
    "state": lambda node, found, declared: declared.get(node["name"], REAL),
    "read": lambda node, found, declared: REAL,
    "position": lambda node, found, declared: Interval(0.0, INF),
    "eye": lambda node, found, declared: UNIT,
    "ones": lambda node, found, declared: point(1.0),
    "softmax": lambda node, found, declared: UNIT,
    "transpose": _first,
    "reduce_max": _first,
    "pairwise": _first,
    "cumsum": lambda node, found, declared: _accumulated(found[node.args[0]]),
    "sum": _sum,
    "matmul": _matmul,
    "rotate": _rotate,
    "sum_range": _sum_range,
    "prod_range": _prod_range,
}
