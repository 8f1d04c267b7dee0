"""Joint products of two queries with two keys: two mixed tiles and four products instead of four of each.

Of the queries a, c and the keys b, d, the mixed tiles (a, b) and (c, d) hold all four. The gradient of the first one's
rows is its own joint product and one with the second tile, in which odd rows (those of a) read d and even rows (those
of b) read c: a's gradient and b's, with all that both of them met.
"""

from collections.abc import Collection, Iterator, Mapping

from smir.backends.triton_gpu.joint_products import GridRow, JointProduct
from smir.backends.triton_gpu.level_terms import Share, Shares, mixed_of
from smir.backends.triton_gpu.precise import is_precise
from smir.ir.graph import Node


def merged(read: Mapping[Node, Shares]) -> Mapping[Node, Shares]:
    """The same sums, read off grids where two queries met two keys with the same weights, and every sum takes together
    what a grid adds up."""
    pairs = list(dict.fromkeys(s.pair for found in read.values() for s in found if isinstance(s.pair, JointProduct)))
    for grid in _grids(pairs):
        rows = {name: _regrouped(found, grid) for name, found in read.items()}
        if None not in rows.values():
            return merged({name: found for name, found in rows.items() if found is not None})
    return read


def _grids(pairs: Collection[JointProduct]) -> Iterator[tuple[GridRow, GridRow]]:
    known = {(m.odd, m.even, m.weights, p.reverse): p for p in pairs if (m := mixed_of(p)) and not _is_precise(p)}
    for (a, b, weights, reverse), first in known.items():
        for (c, d, *same), second in known.items():
            odd, even = known.get((a, d, weights, reverse)), known.get((c, b, weights, reverse))
            if same == [weights, reverse] and a is not c and b is not d and odd and even:
                yield GridRow(first, second, odd, even), GridRow(second, first, even, odd)


def _is_precise(pair: JointProduct) -> bool:
    return any(is_precise(half.args[1]) for half in (pair.first, pair.second))


def _regrouped(found: Shares, grid: tuple[GridRow, GridRow]) -> Shares | None:
    """The shares with those of the grid's pairs added up; None where one is without what it is added to."""
    inside = {p for row in grid for p in (row.own, row.odd, row.even)}
    rest = tuple(s for s in found if s.pair not in inside)
    halves = {(s.pair, odd): f for s in found if s.pair in inside for odd, f in ((True, s.odd), (False, s.even))}
    new = []
    for row in grid:
        sides = [{halves.get((p, is_odd)) for p in inside if row.takes(p, is_odd)} for is_odd in (True, False)]
        if any(len(side) != 1 for side in sides):
            return None
        odd, even = (side.pop() for side in sides)
        if odd is not None or even is not None:
            new.append(Share(row, odd, even))
    return (*new, *rest)
