"""A sequence at one position of an index formula: `exp(g)` at m is `exp(g[m])`."""

from smir.errors import SpecTypeError
from smir.frontends.construct import matmul, pointwise, transpose
from smir.ir import expr
from smir.ir.dims import ONE, TIME
from smir.ir.graph import Node
from smir.ir.ops import POINTWISE


def at_position(value: Node, index: str, offset: int = 0) -> Node:
    """Row `index + offset` of a T x n sequence, as a column; a constant row or number is the same everywhere.

    Raises SpecTypeError for a sequence whose row depends on other positions.
    """
    if value.type.time == expr.CONST and value.type.rows == ONE:
        return transpose(value)
    if value.op == "sequence":
        return expr.input_of(value["name"], index, value.type.cols, offset)
    if value.type.time == expr.SEQ and value.type.rows == TIME and value.type.cols != TIME:
        rows = tuple(at_position(a, index, offset) for a in value.args) if _is_rowwise(value) else ()
        if value.op in POINTWISE:
            return pointwise(value.op, *rows)
        if value.op == "sum" and rows:
            return expr.sum_over(rows[0], 0)
        if value.op == "softmax" and len(rows) == 1:
            return transpose(expr.softmax(transpose(rows[0])))
        if value.op == "matmul" and value.args[1].type.time == expr.CONST:
            return matmul(transpose(value.args[1]), at_position(value.args[0], index, offset))
    shape = f"{value.type.rows} x {value.type.cols}"
    raise SpecTypeError(
        f"the value of this {shape} expression at one position is not a function of the inputs there",
        hint="inside masks and index formulas, use elementwise functions of inputs: `exp(g)`",
    )


def _is_rowwise(value: Node) -> bool:
    return value.op in POINTWISE or value.op == "softmax" or (value.op == "sum" and value["axis"] == 1)
