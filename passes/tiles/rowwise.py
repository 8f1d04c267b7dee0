"""Per-token expressions as chunk tiles: one row for every token.

A per-token column (n x 1) or row (1 x n) of the mixer IR becomes a `CHUNK x n` tile, before a segment `PAST_CHUNK x n`,
a constant one a `1 x n` tile; a constant matrix stays as declared. Inner products of columns are row sums, a constant
matrix times a column is one product for the whole chunk, and a per-token matrix exists only where it is applied to a
vector at once.
"""

from collections.abc import Callable

from smir.errors import FormError
from smir.ir import tile
from smir.ir.dims import ONE, Dim
from smir.ir.expr import CONST
from smir.ir.graph import Node
from smir.ir.mixer import Mixer
from smir.ir.ops import POINTWISE
from smir.ir.segment import past_of
from smir.ir.tile import PAST, ROW, token_axis
from smir.passes.tiles.padding import Padding
from smir.passes.tiles.row_softmax import masked_softmax


class Rowwise:
    """Translates expressions of one mixer for one block (ROW, COL or PAST) of tokens.

    `reads` gives the tiles of `read` leaves by name, `states` those of elementwise states. Raises FormError, with the
    sub-expression's span, for a per-token matrix that no vector consumes.
    """

    def __init__(
        self,
        mixer: Mixer,
        block: str = ROW,
        reads: Callable[[str], Node] | None = None,
        states: Callable[[Node], Node] | None = None,
    ) -> None:
        self.mixer, self.block, self.reads, self.states = mixer, block, reads, states
        self.axis = token_axis(block)
        self.padding = Padding(mixer.declarations)
        self.done: dict[Node, Node] = {}

    def vector(self, node: Node) -> Node:
        """The tile `CHUNK x n` (constant: `1 x n`) of a column, a row or a scalar."""
        if node not in self.done:
            self.done[node] = self._vector(node)
        return self.done[node]

    def rows(self, node: Node) -> Node:
        """The same with a row for every token, constants repeated."""
        found = self.vector(node)
        return tile.broadcast(found, self.axis, found.type.cols)

    # ---- vectors ------------------------------------------------------------------------------------------------

    def _vector(self, node: Node) -> Node:
        if ONE not in node.type.shape:
            raise self._refuse(node)
        if node.op in POINTWISE:
            return tile.pointwise(node.op, *(self.vector(a) for a in node.args))
        rule = _VECTOR_RULES.get(node.op)
        if rule is None:
            raise self._refuse(node)
        return rule(self, node)

    def _const(self, node: Node) -> Node:
        return tile.const(node["value"])

    def _param(self, node: Node) -> Node:
        return tile.param(node["name"], tile.ONE, str(_length(node)))

    def _input(self, node: Node) -> Node:
        if self.block == PAST:
            return tile.past(past_of(node["name"]), str(_length(node)))
        return tile.token(node["name"], self.axis, str(_length(node)), node["offset"], self.block)

    def _position(self, node: Node) -> Node:
        return tile.position(self.block)

    def _read(self, node: Node) -> Node:
        if self.reads is None:
            raise self._refuse(node)
        return self.reads(node["name"])

    def _state(self, node: Node) -> Node:
        if self.states is None:
            raise self._refuse(node)
        return self.states(node)

    def _eye(self, node: Node) -> Node:
        return tile.const(1.0)

    def _ones(self, node: Node) -> Node:
        return tile.broadcast(tile.const(1.0), tile.ONE, str(_length(node)))

    def _transpose(self, node: Node) -> Node:
        return self.vector(node.args[0])

    def _sum(self, node: Node) -> Node:
        (a,) = node.args
        if ONE in a.type.shape:
            return tile.reduce_sum(self.vector(a), 1) if a.type.shape[node["axis"]] != ONE else self.vector(a)
        n = str(a.type.shape[node["axis"]])
        return self.apply(a, tile.broadcast(tile.const(1.0), tile.ONE, n), transposed=node["axis"] == 0)

    def _max(self, node: Node) -> Node:
        (a,) = node.args
        return tile.reduce_max(self.vector(a), 1) if a.type.shape[node["axis"]] != ONE else self.vector(a)

    def _matmul(self, node: Node) -> Node:
        a, b = node.args
        if a.type.cols == ONE:
            return tile.pointwise("mul", self.vector(a), self.vector(b))
        if a.type.rows == ONE and b.type.cols == ONE:
            return tile.reduce_sum(tile.pointwise("mul", self.vector(a), self.vector(b)), 1)
        if b.type.cols == ONE:
            return self.apply(a, self.vector(b), transposed=False)
        return self.apply(b, self.vector(a), transposed=True)

    def _softmax(self, node: Node) -> Node:
        """Over the columns. A column has one entry in every row, whose weight is 1 unless it is masked out."""
        args = [self.vector(a) for a in node.args]
        if node.type.cols != ONE:
            return masked_softmax(*args)
        chosen = tile.pointwise("lt", tile.const(float("-inf")), args[0])
        for mask in args[1:]:
            chosen = tile.pointwise("and", chosen, tile.pointwise("ne", mask, tile.const(0.0)))
        return tile.pointwise("where", chosen, tile.const(1.0), tile.const(0.0))

    def _rotate(self, node: Node) -> Node:
        theta, a = node.args
        angles, vector = self.vector(theta), self.vector(a)
        if angles.type.rows == self.axis:
            vector = tile.broadcast(vector, self.axis, vector.type.cols)
        return tile.rotate(angles, vector, axis=1, inverse=node["inverse"])

    # ---- matrices -----------------------------------------------------------------------------------------------

    def apply(self, matrix: Node, x: Node, transposed: bool) -> Node:
        """`matrix @ x` (`transposed`: `matrix.T @ x`) for every row of the tile x, as rows."""
        if ONE in matrix.type.shape:
            # a row contracts with x, a column or a scalar meets a scalar x
            v, contracts = self.vector(matrix), (matrix.type.rows == ONE) != transposed and not matrix.type.is_scalar
            product = tile.pointwise("mul", v, x)
            return tile.reduce_sum(product, 1) if contracts else product
        if matrix.op == "eye":
            return x
        if matrix.type.time == CONST:
            m = self.matrix(matrix)
            return tile.dot(x, m if transposed else tile.transpose(m))
        a = matrix.args
        if matrix.op == "transpose":
            return self.apply(a[0], x, not transposed)
        if matrix.op in ("add", "sub") and all(p.type.shape == matrix.type.shape for p in a):
            return tile.pointwise(matrix.op, *(self.apply(p, x, transposed) for p in a))
        if matrix.op == "neg":
            return tile.pointwise("neg", self.apply(a[0], x, transposed))
        if matrix.op == "matmul":
            first, second = a if transposed else a[::-1]
            return self.apply(second, self.apply(first, x, transposed), transposed)
        if matrix.op == "rotate":
            return self._apply_rotation(matrix, x, transposed)
        if matrix.op in ("mul", "div"):
            return self._apply_scaled(matrix, x, transposed)
        raise self._refuse(matrix)

    def _apply_rotation(self, matrix: Node, x: Node, transposed: bool) -> Node:
        theta, inner = matrix.args
        angles = self.vector(theta)

        def turn(v: Node, inverse: bool) -> Node:
            wide = tile.broadcast(v, self.axis, v.type.cols) if angles.type.rows == self.axis else v
            return tile.rotate(angles, wide, axis=1, inverse=inverse)

        if transposed:
            return self.apply(inner, turn(x, not matrix["inverse"]), True)
        return turn(self.apply(inner, x, False), matrix["inverse"])

    def _apply_scaled(self, matrix: Node, x: Node, transposed: bool) -> Node:
        """A matrix times (over) a scalar, a column that scales its rows, or a row that scales its columns."""
        a, b = matrix.args
        if matrix.op == "mul" and ONE in a.type.shape:
            a, b = b, a
        if a.type.shape != matrix.type.shape or ONE not in b.type.shape:
            raise self._refuse(matrix)
        scale = self.vector(b)
        scales_output = b.type.is_scalar or (b.type.cols == ONE) != transposed
        if scales_output:
            return tile.pointwise(matrix.op, self.apply(a, x, transposed), scale)
        return self.apply(a, tile.pointwise(matrix.op, x, scale), transposed)

    def matrix(self, node: Node) -> Node:
        """A constant as declared: n x m."""
        rows, cols = (str(d) for d in node.type.shape)
        if node.op == "param":
            if ONE in node.type.shape:
                return _oriented(self._param(node), node)
            return tile.param(node["name"], rows, cols)
        if node.op == "eye":
            return tile.mask(tile.broadcast(tile.const(1.0), rows, cols), "eye")
        if node.op in ("const", "ones"):
            return tile.broadcast(tile.const(node.get("value", 1.0)), rows, cols)
        if node.op in POINTWISE:
            return tile.pointwise(node.op, *(self.matrix(a) for a in node.args))
        if node.op == "matmul":
            return tile.dot(*(self.matrix(a) for a in node.args))
        if node.op == "transpose":
            return tile.transpose(self.matrix(node.args[0]))
        if node.op == "sum":
            return tile.reduce_sum(self.matrix(node.args[0]), node["axis"])
        if node.op == "rotate":
            theta, a = (self.matrix(a) for a in node.args)
            return tile.rotate(theta, a, axis=0, inverse=node["inverse"])
        raise self._refuse(node)

    def _refuse(self, node: Node) -> FormError:
        rows, cols = node.type.shape
        return FormError(
            f"a {rows} x {cols} `{node.op}` for every token is not expressible on chunks of tokens",
            self.mixer.span(node),
            'apply it to a vector (`A @ x[t]`), or compile with form="step"',
        )


def _length(node: Node) -> Dim:
    rows: Dim = node.type.rows
    cols: Dim = node.type.cols
    return cols if rows == ONE else rows


def _oriented(row: Node, node: Node) -> Node:
    """A `1 x n` tile as the column or row that the node is."""
    return row if node.type.rows == ONE else tile.transpose(row)


_VECTOR_RULES: dict[str, Callable[[Rowwise, Node], Node]] = {
    "const": Rowwise._const,
    "param": Rowwise._param,
    "input": Rowwise._input,
    "position": Rowwise._position,
    "read": Rowwise._read,
    "state": Rowwise._state,
    "eye": Rowwise._eye,
    "ones": Rowwise._ones,
    "transpose": Rowwise._transpose,
    "sum": Rowwise._sum,
    "reduce_max": Rowwise._max,
    "matmul": Rowwise._matmul,
    "softmax": Rowwise._softmax,
    "rotate": Rowwise._rotate,
}
