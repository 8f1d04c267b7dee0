"""Rotations of a chunk's tokens as tiles: sums of angles, and vectors turned by them.

With phi_i the sum of a chunk's angles up to row i, what is turned back by phi_i lives in the frame of the chunk's
start, where nothing rotates: queries and keys meet there as they are. A key that is turned on by the angles after it
lives in the frame of the chunk's end, like the state that the chunk hands on. Angles are summed inside a chunk only;
between chunks the state is turned, so that sums don't grow with the sequence.
"""

from dataclasses import dataclass

from smir.ir import tile
from smir.ir.graph import Node
from smir.ir.operator import BACKWARD, Operator
from smir.ir.tile import CHUNK
from smir.passes.tiles.rowwise import Rowwise


@dataclass(frozen=True)
class Angles:
    """Angles of every token, `CHUNK x n/2`. `reverse` tells that time runs from the chunk's last row to its first."""

    angle: Node
    reverse: bool

    def back(self, rows: Node, before: bool, between: Node | None = None) -> Node:
        """The rows `CHUNK x n` in the frame of the chunk's start, or of `between` (`1 x n/2`) further back.

        `before`: the row's own angle doesn't count.
        """
        return tile.rotate(self._up_to(before, between), rows, axis=1, inverse=True)

    def on(self, rows: Node, before: bool, between: Node | None = None) -> Node:
        """From that frame back to each row's own: the inverse of `back`."""
        return tile.rotate(self._up_to(before, between), rows, axis=1)

    def to_end(self, rows: Node) -> Node:
        """The rows in the frame of the chunk's end: turned by the angles after each of them."""
        return tile.rotate(tile.cumsum(self.angle, not self.reverse, exclusive=True), rows, axis=1)

    def total(self) -> Node:
        """The whole chunk's angle, `1 x n/2`."""
        return tile.reduce_sum(self.angle, 0)

    def _up_to(self, before: bool, between: Node | None) -> Node:
        summed = tile.cumsum(self.angle, self.reverse, exclusive=before)
        return summed if between is None else tile.pointwise("add", summed, between)


@dataclass(frozen=True)
class RotationTiles:
    """An operator's rotations on one block of tokens: of its rows (what queries and keys see) and of its columns."""

    rows: Angles | None = None
    cols: Angles | None = None

    def state(self, state: Node) -> Node:
        """The state turned by the whole chunk's angles."""
        if self.rows is not None:
            state = tile.rotate(tile.transpose(self.rows.total()), state, axis=0)
        return state if self.cols is None else tile.rotate(self.cols.total(), state, axis=1)


def rotation_tiles(operator: Operator, rowwise: Rowwise) -> RotationTiles:
    """The tiles of an operator's rotations. Raises FormError for angles that have no tile form."""
    reverse = operator.direction == BACKWARD

    def angles(angle: Node | None) -> Angles | None:
        return None if angle is None else Angles(_padded(rowwise, angle), reverse)

    return RotationTiles(angles(operator.rotation.rows), angles(operator.rotation.cols))


def _padded(rowwise: Rowwise, angle: Node) -> Node:
    """One row for every token; those beyond the end don't rotate."""
    found = rowwise.vector(angle)
    wide = tile.broadcast(found, CHUNK, found.type.cols)
    return wide if rowwise.padding.vanishes(wide) else tile.valid_rows(wide, block=rowwise.block)
