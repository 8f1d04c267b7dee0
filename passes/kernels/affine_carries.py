"""Carried rows whose next value is affine in them: the loop over chunks is left with one product and one sum.

A scan along a chunk is affine in what it starts from, so a row that a loop takes through scans is `a * row + b` after
the chunk, with a and b made of the chunk alone: all chunks compute theirs at once. a is what the scans make of a one
without their writes, b what they make of the writes without the row; neither is a difference, so exact zeros and strong
decays stay what they are. Maxima are the same in their own semiring: `max(row + a, b)` (Blelloch 1990, section 1.4).
"""

from collections.abc import Callable, Set
from dataclasses import replace

import networkx as nx

from smir.ir import tile
from smir.ir.graph import Node, reaches, rebuild, walk
from smir.ir.tile import ONE
from smir.ir.tile_program import Carry, TileProgram

# A value as (what it is without the row, what the row is multiplied by); None for no row or nothing beside it.
Affine = tuple[Node | None, Node | None]
_COMBINE = {tile.MAX: "max", tile.LOGSUM: "logaddexp"}
_MOVING = frozenset("edge_row place_row shift broadcast".split())


def affine_carries(program: TileProgram) -> TileProgram:
    """The same program; carries that scans take through the chunk are updated at once, where that can be."""
    needed = _needed_together(program)

    def rewritten(carry: Carry) -> Carry:
        found = _update(carry, needed[carry.name]) if _is_scanned(carry, needed[carry.name]) else None
        return carry if found is None else replace(carry, next=found)

    scans = tuple(replace(s, carries=tuple(map(rewritten, s.carries))) for s in program.scans)
    return replace(program, scans=scans)


def is_scanned(program: TileProgram) -> bool:
    """Whether some carry's next value still needs a scan that waits for it."""
    needed = _needed_together(program)
    return any(_is_scanned(c, needed[c.name]) for c in program.carries)


def _is_scanned(carry: Carry, loads: Set[Node]) -> bool:
    return any(n.op == "scan" for n in reaches([carry.next], loads.__contains__))


def _needed_together(program: TileProgram) -> dict[str, Set[Node]]:
    """By carry the loads of those that need each other, itself among them; others are ready before or come later."""
    loads = {c.load: c.name for c in program.carries}
    graph: nx.DiGraph[str] = nx.DiGraph()
    graph.add_nodes_from(loads.values())
    graph.add_edges_from((loads[n], c.name) for c in program.carries for n in walk([c.next]) if n in loads)
    return {name: {n for n, other in loads.items() if other in group}
            for group in nx.strongly_connected_components(graph) for name in group}  # fmt: skip


def _update(carry: Carry, loads: Set[Node]) -> Node | None:
    """The affine update, if there is one."""
    if carry.rows != ONE:
        return None
    found = _split(carry.next, carry.load, loads)
    if found is None:
        return _greatest(carry, loads)
    rest, factor = found
    terms = [t for t in (factor and tile.pointwise("mul", factor, carry.load), rest) if t is not None]
    return tile.pointwise("add", *terms) if len(terms) == 2 else terms[0] if terms else None


def scanned_factor(carry: Carry) -> tuple[str, Node] | None:
    """Of a row whose next value a chunk's scans make of it: the operation that combines both (a sum, a maximum, a log
    of a sum), and what the row is multiplied by in that semiring. None where it isn't affine."""
    if carry.rows != ONE or not _is_scanned(carry, {carry.load}):
        return None
    found = _split(carry.next, carry.load, {carry.load})
    if found is not None:
        return None if found[1] is None else ("add", found[1])
    scan = _begun(carry, {carry.load})
    return None if scan is None else (_COMBINE[scan["kind"]], tile.reduce_sum(scan.args[0], 0))


def _begun(carry: Carry, loads: Set[Node]) -> Node | None:
    """The scan of a running maximum, or of a running log of a sum, that begins with the carried row and ends as it."""
    scan = carry.next.args[0] if carry.next.op == "edge_row" else carry.next
    if scan.op != "scan" or scan["kind"] not in _COMBINE or scan.args[2] is not carry.load:
        return None
    decay, write, _ = scan.args
    return None if reaches([decay, write], loads.__contains__) or scan["reverse"] != carry.next["reverse"] else scan


def _greatest(carry: Carry, loads: Set[Node]) -> Node | None:
    """The update of a running maximum, or of a running log of a sum, that begins with the carried row."""
    scan = _begun(carry, loads)
    if scan is None:
        return None
    decay, write, start = scan.args
    nothing = tile.broadcast(tile.const(float("-inf")), start.type.rows, start.type.cols)
    alone = rebuild(carry.next, [rebuild(scan, (decay, write, nothing))])
    moved = tile.pointwise("add", tile.reduce_sum(decay, 0), carry.load)
    return tile.pointwise(_COMBINE[scan["kind"]], moved, alone)


def _split(value: Node, row: Node, loads: Set[Node]) -> Affine | None:
    """None where the value isn't affine in the row, column by column, or needs other carried values too."""
    known: dict[Node, Affine | None] = {}
    touched = reaches([value], loads.__contains__)

    def split(n: Node) -> Affine | None:
        if n not in touched:
            return (None if _is_zero(n) else n), None
        if n not in known:
            known[n] = _rule(n, row, split)
        return known[n]

    return split(value)


def _rule(n: Node, row: Node, split: Callable[[Node], Affine | None]) -> Affine | None:
    if n is row:
        return None, tile.broadcast(tile.const(1.0), row.type.rows, row.type.cols)
    parts = [split(a) for a in n.args]
    if any(p is None for p in parts):
        return None
    known = [p for p in parts if p is not None]
    if n.op in ("add", "sub", "neg") or n.op in _MOVING:
        return _each(n, known)
    if n.op == "mul":
        return _product(known)
    if n.op == "scan" and n["kind"] == tile.SUM and known[0][1] is None:
        return _scan(n, known)
    return None


def _each(n: Node, parts: list[Affine]) -> Affine:
    """A linear operation on all its arguments, of both halves alike."""
    halves: list[Node | None] = []
    for half in zip(*parts, strict=True):
        if all(x is None for x in half):
            halves.append(None)
            continue
        args = [_zeros(a) if x is None else x for x, a in zip(half, n.args, strict=True)]
        halves.append(rebuild(n, args))
    return halves[0], halves[1]


def _product(parts: list[Affine]) -> Affine | None:
    (a, by_a), (b, by_b) = parts
    if by_a is not None and by_b is not None:
        return None
    value, factor = ((a, by_a), b) if by_b is None else ((b, by_b), a)
    if factor is None:
        return None, None
    rest, own = (None if x is None else tile.pointwise("mul", x, factor) for x in value)
    return rest, own


def _scan(n: Node, parts: list[Affine]) -> Affine:
    decay, writes, start = n.args
    halves: list[Node | None] = []
    for write, first in zip(parts[1], parts[2], strict=True):
        if write is None and first is None:
            halves.append(None)
        else:
            args = decay, _zeros(writes) if write is None else write, _zeros(start) if first is None else first
            halves.append(rebuild(n, args))
    return halves[0], halves[1]


def _zeros(like: Node) -> Node:
    return tile.broadcast(tile.const(0.0), like.type.rows, like.type.cols)


def _is_zero(n: Node) -> bool:
    inner = n.args[0] if n.op == "broadcast" else n
    return inner.op == "const" and inner["value"] == 0.0
