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
_COMPARISONS = {"lt": "<", "le": "<=", "eq": "==", "ne": "!="}


def number(value: float) -> Node:
    """A number; there is one zero, so that equal numbers are one node that prints one way."""
    return expr.const(value + 0.0)


def pointwise(op: str, *args: Node) -> Node:
    """An elementwise operation. Raises SpecTypeError."""
    if all(a.op == "const" for a in args) and (op == "neg" or op in _SYMBOLS):
        return _fold(op, [a["value"] for a in args])
    if any(a.op == "pairwise" for a in args) and all(a.op == "pairwise" or _is_number(a) for a in args):
        return expr.pairwise(pointwise(op, *(a.args[0] if a.op == "pairwise" else a for a in args)))
    _check_shapes(op, args)
    return expr.pointwise(op, *args)


def matmul(a: Node, b: Node) -> Node:
    """The matrix product. Raises SpecTypeError with the transpose that would fit."""
    expr.join_time((a.type.time, b.type.time))
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
    if is_rotation(a) and is_rotation(b):
        return rotation(pointwise("add", _angle(a), _angle(b)))
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
        raise SpecTypeError(f"diag of {shape_text(x)}, expected a column", hint="`diag(x[t])` of a vector x")
    return x if x.type.is_scalar else expr.pointwise("mul", expr.eye(x.type.rows), x)


def rotation(theta: Node) -> Node:
    """The block rotation of interleaved pairs by the angles theta, K/2 x 1. Raises SpecTypeError."""
    if theta.type.cols != ONE:
        raise SpecTypeError(f"rot of {shape_text(theta)}, expected a column of angles")
    return expr.rotate(theta, expr.eye(theta.type.rows * Dim.number(2)))


def is_diagonal(a: Node) -> bool:
    """Whether this is `eye * x` of a column x, as `diagonal` makes it."""
    return a.op == "mul" and a.args[0].op == "eye" and a.args[1].type.shape == (a.type.rows, ONE)


def is_rotation(a: Node) -> bool:
    """Whether this is a rotated `eye`, as `rotation` makes it."""
    return a.op == "rotate" and a.args[1].op == "eye"


def shape_text(a: Node) -> str:
    """`K x 1`."""
    return f"{a.type.rows} x {a.type.cols}"


def _angle(a: Node) -> Node:
    return pointwise("neg", a.args[0]) if a["inverse"] else a.args[0]


def _is_number(a: Node) -> bool:
    return bool(a.type.is_scalar and a.type.time == expr.CONST)


def _check_shapes(op: str, args: tuple[Node, ...]) -> None:
    """Raises SpecTypeError, in the words of the language, for mixed times and for shapes that don't broadcast."""
    expr.join_time(a.type.time for a in args)
    for axis in (0, 1):
        sizes = list(dict.fromkeys(a.type.shape[axis] for a in args if a.type.shape[axis] != ONE))
        if len(sizes) > 1:
            symbol = (_SYMBOLS | _COMPARISONS).get(op, op)
            shapes = " and ".join(shape_text(a) for a in args)
            turned = len(args) == 2 and args[0].type.shape == args[1].type.shape[::-1]
            hint = (
                "transpose one side: `.T`" if turned else "dimension names must match exactly; only size 1 broadcasts"
            )
            raise SpecTypeError(f"`{symbol}` of {shapes}: {sizes[0]} and {sizes[1]} differ", hint=hint)


def _fold(op: str, values: list[float]) -> Node:
    if op == "neg":
        return number(-values[0])
    value = combine(_SYMBOLS[op], *values)
    if value is None:
        raise SpecTypeError(f"{values[0]:g} {_SYMBOLS[op]} {values[1]:g} is not a number")
    return number(value)


def _product_mismatch(a: Node, b: Node) -> SpecTypeError:
    message = f"`@` of {shape_text(a)} and {shape_text(b)}: {a.type.cols} and {b.type.rows} differ"
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
