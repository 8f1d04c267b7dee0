"""Index formulas as tiles of a chunk of rows (positions i) and a chunk of columns (positions j).

What depends on i is made of ROW loads and stands in rows, what depends on j is made of COL loads and stands in columns,
also where both are the same chunk (region `own`); before a segment (region `past`) columns are PAST loads. A sum over
the positions between i and j is cut at the ends of the two chunks; what lies between them is a tile of its own
(`Between`). All parts are sums of terms, never differences.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from smir.errors import FormError
from smir.ir import tile
from smir.ir.graph import Node, walk
from smir.ir.interval import Interval
from smir.ir.ops import POINTWISE
from smir.ir.pairs import PairProgram
from smir.ir.segment import past_of
from smir.ir.tile import COL, LOG_ZERO, ONE, token_axis
from smir.ir.tile import PAST as PAST_BLOCK
from smir.passes.analysis.exponents import declared_ranges, intervals, leaf_intervals
from smir.passes.masks.index_formulas import AT_I, AT_J, affine
from smir.passes.pairs.pair_distances import EARLIER, LATER, OWN, PAST, SIDES, settled
from smir.passes.recognition.pair_weights import at_step, indices
from smir.passes.tiles.rowwise import Rowwise

_TRUE, _FALSE = tile.const(1.0), tile.const(0.0)


@dataclass(frozen=True)
class Between:
    """A sum over all positions of the chunks between the two: the tile that stands for it, and one chunk's part."""

    load: Node
    total: Node


class PairTiles:
    """Translates the formulas of one program for one region."""

    def __init__(self, program: PairProgram, region: str) -> None:
        self.program, self.region = program, region
        self.columns = dict(program.vectors)
        declared = declared_ranges(program.mixer.declarations)
        self.ranges: Mapping[str, Interval] = declared | {past_of(name): r for name, r in declared.items()}
        self.columns_block = PAST_BLOCK if region == PAST else COL
        self.columns_axis = token_axis(self.columns_block)
        self.rows, self.cols = Rowwise(program.mixer), Rowwise(program.mixer, self.columns_block)
        self.between: dict[Node, Between] = {}
        self.done: dict[Node, Node] = {}

    def number(self, formula: Node) -> Node:
        """A tile that broadcasts to rows x columns."""
        if formula not in self.done:
            self.done[formula] = self._number(formula)
        return self.done[formula]

    def mask(self, formula: Node | None, every_column: bool) -> Node | None:
        """Where pairs count: a condition, or None for all of them. Never true for columns outside the sequence.

        `every_column`: the mask may hold for columns that are later than the row.
        """
        kept = _TRUE if formula is None else self.number(formula)
        if self.region == PAST or (self.region != EARLIER and every_column):
            ones = tile.broadcast(_TRUE, self.columns_axis, ONE)
            kept = _both(tile.transpose(tile.valid_rows(ones, 0.0, self.columns_block)), kept)
        return None if kept is _TRUE else kept

    def column(self, node: Node | None) -> Node:
        """What the columns' positions offer, a row for each; without a node the number 1."""
        return tile.broadcast(_TRUE, self.columns_axis, ONE) if node is None else _finite_rows(self.cols, node)

    # ---- formulas -----------------------------------------------------------------------------------------------

    def _number(self, f: Node) -> Node:
        holds = settled(f, self.region)
        if holds is not None:
            return _TRUE if holds else _FALSE
        if f.op == "position":
            return tile.position() if f["index"] == AT_I else tile.transpose(tile.position(self.columns_block))
        if f.op == "param_at":
            if f["row"] != AT_I or self.region == PAST:
                raise self._refuse(f)
            return tile.dense(f["name"])
        if f.op == "sum_range":
            return self._range(f)
        if f.op in ("where", "and", "or"):
            return self._logical(f)
        return self._one_sided(f) or self._mixed(f)

    def _one_sided(self, f: Node) -> Node | None:
        """A formula of i alone, of j alone or of neither as a column, a row or a number."""
        used = indices(f)
        if len(used) > 1 or _has_pair_leaves(f):
            return None
        column = at_step(f, self.columns)
        if AT_J in used:
            return tile.transpose(_finite_rows(self.cols, column))
        return _finite_rows(self.rows, column) if used else self.rows.vector(column)

    def _mixed(self, f: Node) -> Node:
        if f.op in POINTWISE:
            return tile.pointwise(f.op, *(self.number(a) for a in f.args))
        if f.op == "matmul":
            return self._product(f)
        raise self._refuse(f)

    def _product(self, f: Node) -> Node:
        """An inner product of a vector of i and a vector of j."""
        a, b = f.args
        if indices(a) == {AT_J} and indices(b) == {AT_I}:
            a, b = b, a
        if indices(a) != {AT_I} or indices(b) != {AT_J} or tile.ONE not in map(str, a.type.shape):
            raise self._refuse(f)
        left, right = (at_step(side, self.columns) for side in (a, b))
        return tile.dot(_finite_rows(self.rows, left), tile.transpose(_finite_rows(self.cols, right)))

    def _logical(self, f: Node) -> Node:
        if f.op == "where":
            test = self.number(f.args[0])
            if test in (_TRUE, _FALSE):
                return self.number(f.args[1 if test is _TRUE else 2])
            return tile.pointwise("where", test, self.number(f.args[1]), self.number(f.args[2]))
        a, b = (self.number(part) for part in f.args)
        if f.op == "and":
            return _both(a, b)
        if _TRUE in (a, b):
            return _TRUE
        return b if a is _FALSE else a if b is _FALSE else tile.pointwise("or", a, b)

    # ---- sums between the two positions -------------------------------------------------------------------------

    def _range(self, f: Node) -> Node:
        """`sum over m = j+1..i`, or `i+1..j`; zero where that is empty."""
        low, high, body = f.args
        first, last = affine(low), affine(high)
        bound = f["index"]
        if indices(body) - {bound} or first is None or last is None:
            raise self._refuse(f)
        ends = dict(first.slopes), first.offset, dict(last.slopes), last.offset
        if ends == ({AT_J: 1.0}, 1.0, {AT_I: 1.0}, 0.0):
            return self._sum(at_step(body, self.columns), EARLIER)
        if ends == ({AT_I: 1.0}, 1.0, {AT_J: 1.0}, 0.0):
            return self._sum(at_step(body, self.columns), LATER)
        raise self._refuse(f)

    def _sum(self, column: Node, side: str) -> Node:
        """The sum over the positions after the earlier of the two up to the later one, where j is on that side of i."""
        if self.region == OWN:
            segments = tile.segment_sum(self._terms(column, self.rows))
            return segments if side == EARLIER else tile.transpose(segments)
        if SIDES[self.region] != side:
            return _FALSE
        here, there = self._terms(column, self.rows), self._terms(column, self.cols)
        reverse = side == LATER
        # the later position counts itself, the earlier one doesn't
        at_row = tile.cumsum(here, reverse, exclusive=reverse)
        at_column = tile.cumsum(there, not reverse, exclusive=not reverse)
        middle = self._between(column, tile.reduce_sum(there, 0))
        return tile.pointwise("add", tile.pointwise("add", at_row, middle), tile.transpose(at_column))

    def _between(self, column: Node, total: Node) -> Node:
        if column not in self.between:
            name = f"between_{self.region}_{len(self.between)}"
            self.between[column] = Between(tile.carried(name, ONE, ONE), total)
        return self.between[column].load

    def _terms(self, column: Node, vectors: Rowwise) -> Node:
        """The summed numbers: -inf as LOG_ZERO, zero beyond the end of the sequence."""
        found = vectors.rows(column)
        if intervals([found], leaf_intervals(self.ranges))[found].lo < LOG_ZERO:
            found = tile.pointwise("max", found, tile.const(LOG_ZERO))
        return found if vectors.padding.vanishes(found) else tile.valid_rows(found, 0.0, vectors.block)

    def _refuse(self, f: Node) -> FormError:
        span = self.program.mixer.span(f) or self.program.mixer.span(self.program.mixer.output)
        return FormError(
            f"an index formula with `{f.op}` is not expressible on pairs of chunks",
            span,
            "products of a vector of i and one of j, `sum(m, j+1, i, g[m])`, positions and elementwise operations are",
        )


def _finite_rows(vectors: Rowwise, node: Node) -> Node:
    """A row for each token; zeros beyond the end of the sequence where 0/0 or the like would stand."""
    found = vectors.rows(node)
    return found if vectors.padding.finite(found) else tile.valid_rows(found, 0.0, vectors.block)


def _has_pair_leaves(f: Node) -> bool:
    """Whether a formula needs the number of a position or sums over a range."""
    return any(n.op in ("position", "sum_range", "prod_range", "param_at") for n in walk([f]))


def _both(a: Node, b: Node) -> Node:
    if _FALSE in (a, b):
        return _FALSE
    return b if a is _TRUE else a if b is _TRUE else tile.pointwise("and", a, b)


def is_never(condition: Node | None) -> bool:
    """Whether a mask rules all pairs of a region out."""
    return condition is _FALSE
