"""Exponents proved bounded: intervals of tile values, and a report on every `exp` of a tile program.

An exponent that the lowering introduced sums log decays over tokens, so it is known by the operations that mix
rows; it must be proved <= 0, or bounded where the spec promises so. An `exp` that a person wrote works on one token.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from smir.ir.graph import Node, reaches, walk
from smir.ir.interval import INF, REAL, Interval, point
from smir.ir.mixer import Declaration
from smir.ir.ops import POINTWISE
from smir.ir.tile import CARRIED, MAX, ONE, PARAM, PAST, SUM, TOKEN
from smir.ir.tile_program import STEP, Carry, TileProgram
from smir.passes.analysis.exports import opened_exports
from smir.passes.analysis.maxima import never_positive

USER, COMPILER = "user", "compiler"
# e^88 is the last power that float32 holds
LARGEST_EXPONENT = 88.0
_PASSING = frozenset({"broadcast", "transpose", "reduce_max", "edge_row", "spread"})
_MIXING = frozenset({"cumsum", "segment_sum", "pair_distance", "reduce_max", "scan", "shift", "edge_row"})
ZERO = point(0.0)


@dataclass(frozen=True)
class Exponent:
    """One `exp`: its argument's interval, who wrote it (`user` or `compiler`), and whether it is proved bounded."""

    node: Node
    interval: Interval
    origin: str
    proved: bool


def exponent_report(program: TileProgram) -> tuple[Exponent, ...]:
    """Every `exp` of a program, in the order of evaluation."""
    values = program_intervals(program)
    mixed = reaches(program.roots(), mixes_rows) if program.form != STEP else reaches(program.roots(), _is_max)
    found = []
    for node in program.nodes():
        if node.op == "exp":
            interval = values[node.args[0]]
            origin = COMPILER if node.args[0] in mixed else USER
            found.append(Exponent(node, interval, origin, interval.hi <= LARGEST_EXPONENT))
    return tuple(found)


def mixes_rows(node: Node) -> bool:
    """Whether a value combines several tokens."""
    if node.op == "load":
        return bool(node["kind"] == CARRIED)
    return node.op in _MIXING or (node.op == "sum" and node["axis"] == 0)


def _is_max(node: Node) -> bool:
    return node.op == "reduce_max"


def declared_ranges(declarations: Iterable[Declaration]) -> dict[str, Interval]:
    """The promised ranges by name."""
    return {d.name: d.range for d in declarations}


def intervals(roots: Iterable[Node], leaf: Callable[[Node], Interval]) -> dict[Node, Interval]:
    """The interval of every node below the roots, from those of the loads."""
    values: dict[Node, Interval] = {}
    for node in walk(roots):
        values[node] = leaf(node) if node.op == "load" else _interval(node, [values[a] for a in node.args])
    return values


def leaf_intervals(ranges: Mapping[str, Interval]) -> Callable[[Node], Interval]:
    """Intervals of loads: inputs are zero outside the sequence, carried tiles and buffers can be anything."""

    def leaf(node: Node) -> Interval:
        promised = ranges.get(node["name"], REAL) if node["kind"] in (TOKEN, PAST, PARAM) else REAL
        return promised.union(ZERO) if node["kind"] in (TOKEN, PAST) else promised

    return leaf


def program_intervals(program: TileProgram) -> dict[Node, Interval]:
    """The interval of every node of a program; carried tiles by induction over the scan."""
    carried = _carried_intervals(program)
    plain = leaf_intervals({leaf.name: leaf.range for leaf in program.leaves})

    def leaf(node: Node) -> Interval:
        return carried[node["name"]] if node["kind"] == CARRIED else plain(node)

    opened = opened_exports(program)
    values = intervals(opened.values(), leaf)
    return {node: values[value] for node, value in opened.items()}


def _carried_intervals(program: TileProgram) -> dict[str, Interval]:
    """Starts from the initial numbers and widens what grows to infinity until every update stays inside."""
    plain = leaf_intervals({leaf.name: leaf.range for leaf in program.leaves})
    found = {c.name: REAL if c.state or c.start else point(c.initial) for c in program.carries}

    def leaf(node: Node) -> Interval:
        return found[node["name"]] if node["kind"] == CARRIED else plain(node)

    opened = opened_exports(program)
    while True:
        values = intervals((opened[c.next] for c in program.carries), leaf)
        grown = {c.name: _widened(found[c.name], values[opened[c.next]]) for c in _scalars(program.carries)}
        if all(found[name] == value for name, value in grown.items()):
            return found
        found.update(grown)


def _scalars(carries: Iterable[Carry]) -> list[Carry]:
    return [c for c in carries if not c.state and c.start is None]


def _widened(old: Interval, new: Interval) -> Interval:
    return Interval(old.lo if new.lo >= old.lo else -INF, old.hi if new.hi <= old.hi else INF)


def _interval(node: Node, args: list[Interval]) -> Interval:
    if node.op in POINTWISE:
        found = POINTWISE[node.op].interval(*args)
        if node.op == "mul" and node.args[0] is node.args[1]:
            return Interval(max(found.lo, 0.0), found.hi)
        return Interval(found.lo, 0.0) if found.hi > 0 and never_positive(node) else found
    if node.op == "const":
        return point(node["value"])
    if node.op in _PASSING:
        return args[0]
    if node.op == "scan":
        return _scanned(node["kind"], *args)
    if node.op == "shift":
        return args[0].union(args[1])
    if node.op == "place_row":
        return args[0].union(ZERO)
    if node.op in ("cumsum", "segment_sum", "pair_distance", "sum", "level_sum", "fold"):
        return _sums(args[0], empty=node.op not in ("sum", "fold"))
    if node.op in ("mask", "valid_rows"):
        return args[0].union(point(node["fill"]))
    if node.op == "level_mask":
        return args[0].union(ZERO)
    if node.op == "dot":
        return Interval(0.0, INF) if _is_length(node) else _sums(args[0] * args[1], empty=False)
    return REAL


def _is_length(node: Node) -> bool:
    """Whether this is x^T x of a column."""
    left, right = node.args
    return left.op == "transpose" and left.args[0] is right and right.type.cols == ONE


def _scanned(kind: str, decay: Interval, write: Interval, start: Interval) -> Interval:
    """What a state can be after any number of tokens: it starts inside and no token leads out."""
    inside = start.union(write)
    while True:
        joined = "max" if kind == MAX else "logaddexp"
        moved = decay * inside + write if kind == SUM else POINTWISE[joined].interval(decay + inside, write)
        grown = _widened(inside, moved)
        if grown == inside:
            return inside
        inside = grown


def _sums(one: Interval, empty: bool) -> Interval:
    """Sums of any number of elements; an `empty` one is zero."""
    low = min(one.lo, 0.0) if empty else one.lo
    high = max(one.hi, 0.0) if empty else one.hi
    return Interval(-INF if one.lo < 0 else low, INF if one.hi > 0 else high)
