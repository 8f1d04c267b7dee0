"""Per-token expressions with matrices as chunk tiles: a token's K x V matrix is a row with all its entries as lanes.

Vectors are as in `rowwise`. A matrix may be any elementwise expression of states, inputs and parameters: columns and
rows are spread over its lanes, an outer product is a product of spreads, and a matrix meets a vector by a fold.
"""

from collections.abc import Callable

from smir.errors import FormError
from smir.ir import expr, tile
from smir.ir.dims import ONE
from smir.ir.graph import Node
from smir.ir.mixer import Mixer
from smir.ir.ops import POINTWISE
from smir.ir.tile import CHUNK, INNER, OUTER
from smir.passes.expressions.algebra import is_matrix
from smir.passes.tiles.rowwise import Rowwise


class Lanewise(Rowwise):
    """Translates expressions over states. `states` gives the tile of a `state` leaf: vectors as `CHUNK x K`, matrices
    as `CHUNK x K.V`. Raises FormError, with the sub-expression's span, for what is neither elementwise nor a fold."""

    def __init__(self, mixer: Mixer, states: Callable[[Node], Node]) -> None:
        super().__init__(mixer)
        self.state_tile = states

    def value(self, node: Node) -> Node:
        """The tile of any value, a row for every token (of constants maybe one for all)."""
        return self.lanes(node) if is_matrix(node) else self.vector(node)

    def along(self, node: Node, axis: str) -> Node:
        """The tile of a value that broadcasts to the axis: a vector's, or a matrix's lanes."""
        return self._widened(node, axis) if len(tile.axis_parts(axis)) > 1 else self.value(node)

    def lanes(self, node: Node) -> Node:
        """The lanes `CHUNK x K.V` (constant: `1 x K.V`) of a matrix."""
        if node not in self.done:
            self.done[node] = self._lanes(node)
        return self.done[node]

    def _vector(self, node: Node) -> Node:
        if node.op == "state":
            return self.state_tile(node)
        if node.op not in ("sum", "matmul") or not any(map(is_matrix, node.args)):
            return super()._vector(node)
        try:
            return super()._vector(node)
        except FormError:
            return self._folded(node)

    # ---- matrices -----------------------------------------------------------------------------------------------

    def _lanes(self, node: Node) -> Node:
        axis = lane_axis(node)
        if node.op in POINTWISE:
            return tile.pointwise(node.op, *(self._widened(a, axis) for a in node.args))
        if node.op == "state":
            return self.state_tile(node)
        if node.op == "input":
            return tile.token(node["name"], CHUNK, axis, node["offset"], self.block)
        if node.op == "param":
            return tile.param(node["name"], tile.ONE, axis)
        if node.op == "matmul" and node.args[0].type.cols == ONE:
            return tile.pointwise("mul", *(self._widened(a, axis) for a in node.args))
        if node.op == "transpose":
            return self.lanes(self._transposed(node.args[0]))
        raise self._refuse(node)

    def _widened(self, part: Node, axis: str) -> Node:
        """An operand of an elementwise operation on matrices: columns and rows spread, scalars as they are."""
        if is_matrix(part):
            return self.lanes(part)
        found = self.vector(part)
        return found if part.type.is_scalar else tile.spread(found, axis, OUTER if part.type.cols == ONE else INNER)

    def _transposed(self, node: Node) -> Node:
        """The transpose of a matrix with the transposition moved to vectors."""
        if node.op in POINTWISE:
            turned = (expr.transpose(a) if not is_matrix(a) else self._transposed(a) for a in node.args)
            return expr.pointwise(node.op, *turned)
        if node.op == "matmul" and node.args[0].type.cols == ONE:
            a, b = node.args
            return expr.matmul(expr.transpose(b), expr.transpose(a))
        if node.op == "transpose":
            return node.args[0]
        raise FormError(
            "a matrix and a transposed matrix of every token meet elementwise, which chunks of tokens can't express",
            self.mixer.span(node),
            'declare one of them the other way round, or compile with form="step"',
        )

    # ---- matrices that meet vectors -----------------------------------------------------------------------------

    def _folded(self, node: Node) -> Node:
        if node.op == "sum":
            return self._contracted(node.args[0], None, OUTER if node["axis"] == 0 else INNER)
        a, b = node.args
        if b.type.cols == ONE:
            return self._contracted(a, self.vector(b), INNER)
        if a.type.rows == ONE:
            return self._contracted(b, self.vector(a), OUTER)
        raise self._refuse(node)

    def _contracted(self, matrix: Node, vector: Node | None, part: int) -> Node:
        """The sum over one part of a matrix, weighted by a vector along it."""
        if matrix.op == "transpose":
            return self._contracted(matrix.args[0], vector, 1 - part)
        found = self.lanes(matrix)
        if vector is not None:
            found = tile.pointwise("mul", found, tile.spread(vector, lane_axis(matrix), part))
        return tile.fold(found, 1 - part)


def lane_axis(node: Node) -> str:
    """The axis of a matrix's lanes."""
    return tile.lanes(str(node.type.rows), str(node.type.cols))
