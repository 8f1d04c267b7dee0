"""Algebraic simplification of tile programs: a table of small rules, applied bottom up until nothing changes.

A rule gets a node whose arguments are simple already and returns a better one of the same value, or None. It may
return a narrower tile; the missing rows or columns are repeated again.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

import numpy as np

from smir.ir import tile
from smir.ir.graph import Node, rebuild, walk
from smir.ir.ops import POINTWISE
from smir.ir.tile import CHUNK, ONE, Tile
from smir.ir.tile_program import TileProgram

Rule = Callable[[Node], Node | None]


def simplify(program: TileProgram) -> TileProgram:
    """The program with every value in its simplest form; it computes the same."""
    while True:
        better = _once(program)
        if better == program:
            return program
        program = better


def simplify_nodes(roots: Iterable[Node]) -> dict[Node, Node]:
    """The simple form of every node below the roots (one pass)."""
    roots = tuple(roots)
    uses = Counter(a for n in walk(roots) for a in n.args)
    uses.update(roots)
    done: dict[Node, Node] = {}
    simple_uses: Counter[Node] = Counter()
    for node in walk(roots):
        simple = _simple(rebuild(node, (done[a] for a in node.args)), simple_uses)
        done[node] = simple
        simple_uses[simple] += uses[node]
    return done


def _once(program: TileProgram) -> TileProgram:
    return mapped(program, simplify_nodes(program.roots()))


def mapped(program: TileProgram, done: Mapping[Node, Node]) -> TileProgram:
    """The program of which every root is what `done` has for it."""
    scans = tuple(
        replace(
            s,
            carries=tuple(replace(c, next=done[c.next], start=c.start and done[c.start]) for c in s.carries),
            exports=tuple((name, done[value]) for name, value in s.exports),
            each=tuple((name, done[value]) for name, value in s.each),
        )
        for s in program.scans
    )
    return replace(program, scans=scans, outputs=tuple(replace(o, value=done[o.value]) for o in program.outputs))


def _simple(node: Node, uses: Counter[Node]) -> Node:
    for rule in (*_RULES.get(node.op, ()), *(_POINTWISE_RULES if node.op in POINTWISE else ())):
        better = rule(node)
        if better is not None and (better := _widened(better, node.type)) is not node:
            return better
    if node.op in ("add", "sub"):
        return _merged(node, uses)
    return node


def _widened(node: Node, type_: Tile) -> Node:
    return tile.broadcast(node, type_.rows, type_.cols)


def _number(node: Node) -> float | None:
    """The number that a constant tile repeats."""
    if node.op == "broadcast":
        return _number(node.args[0])
    return float(node["value"]) if node.op == "const" else None


# ---- pointwise --------------------------------------------------------------------------------------------------


def _fold(node: Node) -> Node | None:
    """Operations on numbers are numbers."""
    numbers = [_number(a) for a in node.args]
    if None in numbers or POINTWISE[node.op].boolean:
        return None
    with np.errstate(all="ignore"):
        return tile.const(float(POINTWISE[node.op].numpy(*(np.float64(n) for n in numbers))))


def _narrow(node: Node) -> Node | None:
    """Repeated rows or columns are computed once and repeated after the operation."""
    if not any(a.op == "broadcast" for a in node.args):
        return None
    return tile.pointwise(node.op, *(a.args[0] if a.op == "broadcast" else a for a in node.args))


def _times_one(node: Node) -> Node | None:
    a, b = node.args
    return a if _number(b) == 1.0 else b if _number(a) == 1.0 else None


def _times_minus_one(node: Node) -> Node | None:
    a, b = node.args
    return tile.pointwise("neg", a) if _number(b) == -1.0 else tile.pointwise("neg", b) if _number(a) == -1.0 else None


def _plus_zero(node: Node) -> Node | None:
    a, b = node.args
    return a if _number(b) == 0.0 else b if _number(a) == 0.0 else None


def _plus_negative(node: Node) -> Node | None:
    a, b = node.args
    if b.op == "neg":
        return tile.pointwise("sub", a, b.args[0])
    return tile.pointwise("sub", b, a.args[0]) if a.op == "neg" else None


def _minus(node: Node) -> Node | None:
    a, b = node.args
    if _number(b) == 0.0:
        return a
    if _number(a) == 0.0:
        return tile.pointwise("neg", b)
    return tile.pointwise("add", a, b.args[0]) if b.op == "neg" else None


def _over_one(node: Node) -> Node | None:
    return node.args[0] if _number(node.args[1]) == 1.0 else None


def _negated_twice(node: Node) -> Node | None:
    return node.args[0].args[0] if node.args[0].op == "neg" else None


# ---- structure --------------------------------------------------------------------------------------------------


def _broadcast_twice(node: Node) -> Node | None:
    (a,) = node.args
    return tile.broadcast(a.args[0], node.type.rows, node.type.cols) if a.op == "broadcast" else None


def _flipped(node: Node) -> Node | None:
    (a,) = node.args
    if a.op == "transpose":
        return a.args[0]
    if a.type == Tile(ONE, ONE):
        return a
    return tile.transpose(a.args[0]) if a.op == "broadcast" and a.args[0].type == Tile(ONE, ONE) else None


def _sum_of_one(node: Node) -> Node | None:
    (a,) = node.args
    return a if (a.type.rows, a.type.cols)[node["axis"]] == ONE else None


def _times_ones(node: Node) -> Node | None:
    """A product with a tile of one repeated number is a row (column) sum."""
    a, b = node.args
    if (right := _number(b)) is not None:
        rows_first = a.op == "transpose"
        summed = tile.transpose(tile.reduce_sum(a.args[0], 0)) if rows_first else tile.reduce_sum(a, 1)
        return tile.pointwise("mul", summed, tile.const(right))
    if (left := _number(a)) is not None:
        return tile.pointwise("mul", tile.reduce_sum(b, 0), tile.const(left))
    return None


def _times_repeated(node: Node) -> Node | None:
    """Rows that are all equal come out all equal."""
    a, b = node.args
    if a.op == "broadcast" and a.args[0].type == Tile(ONE, a.type.cols):
        return tile.dot(a.args[0], b)
    return None


_RUNNING = {
    "lower": (False, False),
    "strict_lower": (False, True),
    "upper": (True, False),
    "strict_upper": (True, True),
}


def _times_triangle(node: Node) -> Node | None:
    """A product with a triangle that repeats one number in every row is a running sum."""
    a, b = node.args
    if (column := _repeated_column(a)) is not None:
        reverse, exclusive = _RUNNING[a["kind"]]
        return tile.pointwise("mul", column, tile.cumsum(b, reverse, exclusive))
    if a.op == "transpose" and (column := _repeated_column(b)) is not None:
        reverse, exclusive = _RUNNING[b["kind"]]
        return tile.transpose(tile.cumsum(tile.pointwise("mul", a.args[0], column), not reverse, exclusive))
    return None


def _repeated_column(node: Node) -> Node | None:
    """The column that every column of a triangle is."""
    if node.op != "mask" or node["kind"] not in _RUNNING or node["fill"] != 0.0:
        return None
    (a,) = node.args
    return a.args[0] if a.op == "broadcast" and a.args[0].type == Tile(CHUNK, ONE) else None


def _pull_sign(node: Node) -> Node | None:
    """Signs move out of products, where sums absorb them."""
    a, b = node.args
    if a.op == "neg":
        return tile.pointwise("neg", tile.dot(a.args[0], b))
    return tile.pointwise("neg", tile.dot(a, b.args[0])) if b.op == "neg" else None


# ---- sums of products -------------------------------------------------------------------------------------------


def _merged(node: Node, uses: Counter[Node]) -> Node:
    """`a @ v + b @ v` is `(a + b) @ v`; quotients and row sums of square tiles likewise."""
    terms = _terms(node, 1, uses)
    groups: dict[object, list[tuple[int, Node]]] = {}
    for position, (sign, term) in enumerate(terms):
        groups.setdefault(_group(term, position), []).append((sign, term))
    if len(groups) == len(terms):
        return node
    parts = [(1, _joined(group)) if len(group) > 1 else group[0] for group in groups.values()]
    return _widened(_total(parts), node.type)


def _terms(node: Node, sign: int, uses: Counter[Node]) -> list[tuple[int, Node]]:
    """The summands below additions and subtractions whose result is used here only."""
    if node.op not in ("add", "sub"):
        return [(sign, node)]
    found = []
    for a, s in zip(node.args, (sign, -sign if node.op == "sub" else sign), strict=True):
        inside = a.op in ("add", "sub") and uses[a] <= 1 and a.type == node.type
        found += _terms(a, s, uses) if inside else [(s, a)]
    return found


def _group(term: Node, position: int) -> object:
    if term.op == "dot":
        return "dot", term.args[1], term.type
    if term.op == "div":
        return "div", term.args[1], term.type
    if term.op == "sum" and term.args[0].type == Tile(CHUNK, CHUNK):
        return "sum", term["axis"]
    return position


def _joined(group: list[tuple[int, Node]]) -> Node:
    first = group[0][1]
    left = _total([(sign, term.args[0]) for sign, term in group])
    if first.op == "div":
        return tile.pointwise("div", left, first.args[1])
    return tile.dot(left, first.args[1]) if first.op == "dot" else tile.reduce_sum(left, first["axis"])


def _total(parts: list[tuple[int, Node]]) -> Node:
    parts = sorted(parts, key=lambda p: -p[0])
    sign, result = parts[0]
    if sign < 0:
        result = tile.pointwise("neg", result)
    for sign, part in parts[1:]:
        result = tile.pointwise("add" if sign > 0 else "sub", result, part)
    return result


_POINTWISE_RULES: tuple[Rule, ...] = (_fold, _narrow)
_RULES: dict[str, tuple[Rule, ...]] = {
    "mul": (_times_one, _times_minus_one),
    "div": (_over_one,),
    "add": (_plus_zero, _plus_negative),
    "sub": (_minus,),
    "neg": (_negated_twice,),
    "broadcast": (_broadcast_twice,),
    "transpose": (_flipped,),
    "sum": (_sum_of_one,),
    "dot": (_times_ones, _times_repeated, _times_triangle, _pull_sign),
}
