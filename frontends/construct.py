"""Typed nodes with the front end's simplifications: folded numbers, fused masks, diagonal and rotation matrices.

`diag(x)` and `rot(theta)` are honest matrices, `eye * x` and a rotated `eye`; a product with one becomes the
elementwise product or the rotation that it means, wherever the matrix was defined.
"""

from smir.errors import SpecTypeError
from smir.frontends.constants import combine
from smir.ir import expr
from smir.ir.dims import ONE, Dim
from smir.ir.graph import Node

_SYMBOLS = {"add": "+", "sub": "-", "mul": "*", "div": "/", "pow": "**"}


def number(value: float) -> Node:
    """A number; there is one zero, so that equal numbers are one node that prints one way."""
    return expr.const(value + 0.0)


def pointwise(op: str, *args: Node) -> Node:
    """An elementwise operation. Raises SpecTypeError."""
    if all(a.op == "const" for a in args) and (op == "neg" or op in _SYMBOLS):
        return _fold(op, [a["value"] for a in args])
    if any(a.op == "pairwise" for a in args) and all(a.op == "pairwise" or _is_number(a) for a in args):
        return expr.pairwise(pointwise(op, *(a.args[0] if a.op == "pairwise" else a for a in args)))
    return expr.pointwise(op, *args)


def matmul(a: Node, b: Node) -> Node:
    """The matrix product. Raises SpecTypeError with the transpose that would fit."""
    if a.type.cols != b.type.rows:
        raise _product_mismatch(a, b)
    if is_diagonal(a) and is_diagonal(b):
        return diagonal(pointwise("mul", a.args[1], b.args[1]))
    if a.op == "eye" or b.op == "eye":
        return b if a.op == "eye" else a
    if is_diagonal(a) or a.type.is_scalar:
        return pointwise("mul", a if a.type.is_scalar else a.args[1], b)
    if is_diagonal(b) or b.type.is_scalar:
        return pointwise("mul", a, b if b.type.is_scalar else transpose(b.args[1]))
    if is_rotation(a):
        return expr.rotate(a.args[0], b, inverse=a["inverse"])
    if is_rotation(b):
        return transpose(expr.rotate(b.args[0], transpose(a), inverse=not b["inverse"]))
    return expr.matmul(a, b)


def transpose(a: Node) -> Node:
    if is_diagonal(a) or a.op == "eye":
        return a
    if is_rotation(a):
        return expr.rotate(a.args[0], a.args[1], inverse=not a["inverse"])
    return expr.transpose(a)


def diagonal(x: Node) -> Node:
    """The diagonal matrix of a column. Raises SpecTypeError."""
    if x.type.cols != ONE:
        raise SpecTypeError(f"diag of {x.type.rows} x {x.type.cols}, expected a column", hint="`diag(x[t])` of a vector x")
    return x if x.type.is_scalar else expr.pointwise("mul", expr.eye(x.type.rows), x)


def rotation(theta: Node) -> Node:
    """The block rotation of interleaved pairs by the angles theta, K/2 x 1. Raises SpecTypeError."""
    if theta.type.cols != ONE:
        raise SpecTypeError(f"rot of {theta.type.rows} x {theta.type.cols}, expected a column of angles")
    return expr.rotate(theta, expr.eye(theta.type.rows * Dim.number(2)))


def is_diagonal(a: Node) -> bool:
    return a.op == "mul" and a.args[0].op == "eye" and a.args[1].type.cols == ONE


def is_rotation(a: Node) -> bool:
    return a.op == "rotate" and a.args[1].op == "eye"


def _is_number(a: Node) -> bool:
    return bool(a.type.is_scalar and a.type.time == expr.CONST)


def _fold(op: str, values: list[float]) -> Node:
    if op == "neg":
        return number(-values[0])
    value = combine(_SYMBOLS[op], *values)
    if value is None:
        raise SpecTypeError(f"{values[0]:g} {_SYMBOLS[op]} {values[1]:g} is not a number")
    return number(value)


def _product_mismatch(a: Node, b: Node) -> SpecTypeError:
    message = f"`@` of {a.type.rows} x {a.type.cols} and {b.type.rows} x {b.type.cols}: {a.type.cols} and {b.type.rows} differ"
    if a.type.cols == ONE == b.type.cols:
        hint = "`a @ b.T` is the outer product, `a.T @ b` the inner one"
    elif a.type.is_scalar or b.type.is_scalar:
        hint = "multiply by a number with `*`"
    elif a.type.rows == b.type.rows:
        hint = "transpose the left side: `a.T @ b`"
    elif a.type.cols == b.type.cols:
        hint = "transpose the right side: `a @ b.T`"
    else:
        hint = "the columns of the left side must be the rows of the right side; dimension names must match exactly"
    return SpecTypeError(message, hint=hint)
