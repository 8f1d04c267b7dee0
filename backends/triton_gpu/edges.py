"""Loops over other chunks cut in two: chunks that a comparison of distances admits whole, and those at its edge.

A window of positions admits every pair of most of the chunks that it reaches. Only where its edge may run through a
chunk is each pair asked; the loop over nearer chunks goes without the comparison.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from math import ceil, floor

from smir.ir import tile
from smir.ir.graph import Node, rebuild, substitute, walk
from smir.ir.kernel import Kernel, Loop, Store
from smir.ir.tile import POSITION, ROW
from smir.ir.tile_program import EARLIER, LATER, Carry, Scan

_ONE = tile.const(1.0)


@dataclass(frozen=True)
class PartOfScan(Scan):
    """The chunks of a scan whose tokens are at most `whole` positions away from all rows, or (`far`) the others."""

    whole: int = 0
    far: bool = False


def with_edges(kernel: Kernel) -> Kernel:
    """The kernel with such loops cut in two."""
    loops: list[Loop] = []
    ends: dict[Node, Node] = {}
    for loop in kernel.loops:
        found = dict(_settled(loop)) if _may_be_cut(loop) else {}
        loop = _rewritten(loop, ends)
        loops += [loop] if not found else _cut(loop, {_after(n, ends): w for n, w in found.items()}, ends)
    stores = tuple(replace(s, value=_after(s.value, ends)) for s in kernel.stores)
    return replace(kernel, loops=tuple(loops), stores=stores) if ends else kernel


def _may_be_cut(loop: Loop) -> bool:
    scan = loop.scan
    inside = scan.order in (EARLIER, LATER) and scan.reach is not None and not scan.inward
    return inside and bool(scan.carries) and not loop.stores and not loop.final_stores


def _after(value: Node, ends: Mapping[Node, Node]) -> Node:
    """A value made after loops of which the second half has the last word."""
    return substitute(value, ends) if ends else value


def _rewritten(loop: Loop, ends: Mapping[Node, Node]) -> Loop:
    carries = tuple(replace(c, start=c.start and _after(c.start, ends), next=_after(c.next, ends))
                    for c in loop.scan.carries)  # fmt: skip
    stores = tuple(Store(s.target, _after(s.value, ends), s.transposed, s.summed) for s in loop.stores)
    return replace(loop, scan=replace(loop.scan, carries=carries), stores=stores)


def _cut(loop: Loop, found: Mapping[Node, int], ends: dict[Node, Node]) -> list[Loop]:
    """The loop without its settled comparisons, and the rest of it, which goes on from there."""
    scan, whole = loop.scan, min(found.values())
    near = tuple(replace(c, next=tile.broadcast(_held(c.next, found), c.rows, c.cols)) for c in scan.carries)
    moved = {c.load: tile.carried(f"{c.name}_far", c.rows, c.cols) for c in scan.carries}
    far = tuple(Carry(moved[c.load]["name"], c.rows, c.cols, substitute(c.next, moved), start=c.load)
                for c in scan.carries)  # fmt: skip
    ends |= moved
    given = (scan.order, near, scan.exports, scan.kernel, scan.each, scan.reach, scan.inward)
    first = PartOfScan(*given, whole=whole)
    return [replace(loop, scan=first), replace(loop, scan=replace(first, carries=far, far=True))]


def _held(root: Node, found: Mapping[Node, int]) -> Node:
    """The value where these comparisons hold."""
    done: dict[Node, Node] = {}
    for n in walk([root]):
        if n in found:
            done[n] = _ONE
            continue
        args = [done[a] for a in n.args]
        if n.op in ("broadcast", "transpose") and args[0] is _ONE and n.args[0] is not _ONE:
            done[n] = _ONE
        elif n.op == "where" and args[0] is _ONE:
            done[n] = tile.broadcast(args[1], n.type.rows, n.type.cols)
        elif n.op == "and" and _ONE in args:
            done[n] = args[1] if args[0] is _ONE else args[0]
        else:
            done[n] = rebuild(n, args) if n.args else n
    return done[root]


def _settled(loop: Loop) -> Iterator[tuple[Node, int]]:
    """The comparisons that hold up to some distance, with the largest one."""
    sign = 1.0 if loop.scan.order == EARLIER else -1.0
    for n in walk([c.next for c in loop.scan.carries]):
        if n.op not in ("lt", "le"):
            continue
        left, right = (_affine(a, sign) for a in n.args)
        if left is None or right is None:
            continue
        row, col, offset = (a - b for a, b in zip(left, right, strict=True))
        slope = row * sign
        if row == -col and slope > 0:
            yield n, ceil(-offset / slope) - 1 if n.op == "lt" else floor(-offset / slope)


# Of a value that is affine in the positions of its row and of its column: the two slopes, and the offset.
_Affine = tuple[float, float, float]


def _affine(node: Node, sign: float) -> _Affine | None:
    """None for any other value; `sign` is that of row minus column."""
    if node.op == "const":
        return 0.0, 0.0, float(node["value"])
    if node.op == "load" and node["kind"] == POSITION:
        return (1.0, 0.0, 0.0) if node["block"] == ROW else (0.0, 1.0, 0.0)
    if node.op in ("transpose", "broadcast"):
        return _affine(node.args[0], sign)
    parts = [_affine(a, sign) for a in node.args] if node.op in ("add", "sub", "neg", "abs") else [None]
    known = [x for x in parts if x is not None]
    return _combined(node.op, known, sign) if len(known) == len(parts) else None


def _combined(op: str, parts: list[_Affine], sign: float) -> _Affine | None:
    row, col, offset = parts[0]
    if op == "abs":
        # the sign of a multiple of the distance is known
        turned = -1.0 if row * sign < 0 else 1.0
        return (turned * row, turned * col, 0.0) if row == -col and not offset else None
    if op == "neg":
        return -row, -col, -offset
    factor = 1.0 if op == "add" else -1.0
    other = parts[1]
    return row + factor * other[0], col + factor * other[1], offset + factor * other[2]
