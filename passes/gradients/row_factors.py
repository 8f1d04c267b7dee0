"""What an adjoint multiplies or masks the rows of vectors with, put together in columns of one number per row.

Rows beyond the end of the sequence are masked wherever they might hold nonsense. Where a tile is zero there as it is,
the mask goes; of a product, to the factor that holds the nonsense, or to a column; columns that multiply the same tile
are multiplied first.
"""

import math
from dataclasses import dataclass, field

from smir.ir import tile
from smir.ir.graph import Node, rebuild
from smir.ir.interval import REAL
from smir.ir.tile import CHUNK, ONE, Tile
from smir.ir.tile_program import TileProgram
from smir.passes.tiles.padding import Padding
from smir.passes.tiles.simplify_tiles import mapped

_COLUMN = Tile(CHUNK, ONE)


def with_row_factors(program: TileProgram) -> TileProgram:
    """The program with as few masks and products over whole vectors as that allows."""
    padding = Padding(())
    padding.infinite |= {f.name for f in program.leaves if f.range != REAL and math.isinf(f.range.lo - f.range.hi)}
    rewriting = _Rewriting(padding.values(program.roots()))
    for node in rewriting.known:
        rewriting.done[node] = rewriting.of(node)
    return mapped(program, rewriting.done)


@dataclass(frozen=True)
class _Rewriting:
    """`known`: the numbers in the padding rows of all nodes."""

    known: dict[Node, float | None]
    done: dict[Node, Node] = field(default_factory=dict)

    def of(self, node: Node) -> Node:
        """The node, of arguments that are done."""
        if node.op == "valid_rows":
            return self._masked(node)
        new = rebuild(node, (self.done[a] for a in node.args))
        return _scaled(*new.args) if new.op == "mul" else new

    def _masked(self, node: Node) -> Node:
        (inner,) = node.args
        if self.known[inner] == node["fill"]:
            return self.done[inner]
        if inner.op == "mul" and node["fill"] == 0.0 and inner.type != _COLUMN:
            for rest, factor in (inner.args, inner.args[::-1]):
                wanted = factor.type == _COLUMN or not self._is_finite(factor)
                if wanted and self._is_finite(rest) and factor.type.rows == CHUNK:
                    return _scaled(self.done[rest], tile.valid_rows(self.done[factor], block=node["block"]))
        return rebuild(node, (self.done[inner],))

    def _is_finite(self, node: Node) -> bool:
        value = self.known[node]
        return value is None or math.isfinite(value)


def _scaled(a: Node, b: Node) -> Node:
    """The product of two tiles; of a vector per row with a second number per row, by that of both numbers."""
    for scaled, column in ((a, b), (b, a)):
        if column.type == _COLUMN and scaled.op == "mul" and scaled.type.rows == CHUNK and scaled.type.cols != ONE:
            for rows, first in (scaled.args, scaled.args[::-1]):
                if first.type == _COLUMN and rows.type == scaled.type:
                    return tile.pointwise("mul", rows, tile.pointwise("mul", first, column))
    return tile.pointwise("mul", a, b)
