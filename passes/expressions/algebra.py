"""Algebra on mixer-IR expressions: products as factors, matrices as sums of outer products and diagonals.

The smart constructors fold constants and never build a K x V matrix where vectors do.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from smir.ir.dims import ONE, Dim
from smir.ir.expr import CONST, const, matmul, ones, pointwise, rotate, sum_over, transpose
from smir.ir.graph import Node, rebuild, walk
from smir.ir.ops import POINTWISE

Factors = tuple[Node, ...]
MINUS_ONE = const(-1.0)
UNITY = const(1.0)
ZERO = const(0.0)


def is_const(node: Node, value: float) -> bool:
    """Whether the node is that number."""
    return node.op == "const" and bool(node["value"] == value)


def is_matrix(node: Node) -> bool:
    """Whether both axes are longer than one."""
    return bool(node.type.rows != ONE and node.type.cols != ONE)


# ---- products ---------------------------------------------------------------------------------------------------


def factors(node: Node) -> Factors:
    """The node as an elementwise product, with broadcasting, of simpler ones.

    Outer products become a column and a row, so do exponentials of a column plus a row. Factors of ones vanish:
    the product may have a smaller shape than the node.
    """
    found = [f for f in _factors(node) if not is_const(f, 1.0) and f.op != "ones" and not _is_row_of_ones(f)]
    number = 1.0
    for f in found:
        number *= f["value"] if f.op == "const" else 1.0
    rest = tuple(f for f in found if f.op != "const")
    return rest if number == 1.0 else (const(number), *rest)


def _is_row_of_ones(node: Node) -> bool:
    return node.op == "transpose" and node.args[0].op == "ones"


def _factors(node: Node) -> Factors:
    if node.op == "mul" or (node.op == "matmul" and node.args[0].type.cols == ONE):
        return _factors(node.args[0]) + _factors(node.args[1])
    if node.op == "neg":
        return (MINUS_ONE, *_factors(node.args[0]))
    if node.op == "div" and not is_const(node.args[0], 1.0):
        return _factors(node.args[0]) + tuple(inverse(f) for f in _factors(node.args[1]))
    if node.op == "transpose":
        inner = _factors(node.args[0])
        return (node,) if inner == (node.args[0],) else tuple(transpose(f) for f in inner)
    if node.op == "exp" and is_matrix(node) and node.args[0].op in ("add", "sub"):
        a, b = node.args[0].args
        return _factors(pointwise("exp", a)) + _factors(pointwise("exp", b if node.args[0].op == "add" else negated(b)))
    return (node,)


def inverse(node: Node) -> Node:
    """1 / node, elementwise."""
    if node.op == "const" and node["value"] != 0:
        return const(1.0 / node["value"])
    if node.op == "div" and is_const(node.args[0], 1.0):
        return node.args[1]
    return pointwise("div", UNITY, node)


def negated(node: Node) -> Node:
    """-node."""
    if node.op == "const":
        return const(-node["value"])
    return node.args[0] if node.op == "neg" else pointwise("neg", node)


def product(items: Iterable[Node]) -> Node:
    """The elementwise product: numbers folded, reciprocals as divisions, 1 for none."""
    number, result, below = 1.0, None, []
    for f in items:
        if f.op == "const":
            number *= f["value"]
        elif f.op == "div" and is_const(f.args[0], 1.0):
            below.append(f.args[1])
        else:
            result = f if result is None else pointwise("mul", result, f)
    if abs(number) != 1.0 or result is None:
        size = const(abs(number))
        result = size if result is None else pointwise("mul", size, result)
    for f in below:
        result = pointwise("div", result, f)
    return negated(result) if number < 0 else result


def is_zero(items: Iterable[Node]) -> bool:
    """Whether a product vanishes because one of its factors is the number 0."""
    return any(is_const(f, 0.0) for f in items)


def plus(a: Node | None, b: Node | None) -> Node | None:
    """a + b, where None is zero."""
    if a is None or b is None:
        return b if a is None else a
    if a.op == b.op == "const":
        return const(a["value"] + b["value"])
    if b.op == "neg":
        return pointwise("sub", a, b.args[0])
    return pointwise("sub", b, a.args[0]) if a.op == "neg" else pointwise("add", a, b)


def total(items: Iterable[Node]) -> Node | None:
    """The sum of the items, None when there are none."""
    result: Node | None = None
    for item in items:
        result = plus(result, item)
    return result


def expand(node: Node, rows: Dim, cols: Dim) -> Node:
    """The node broadcast to rows x cols, in the open: multiplied by ones."""
    if node.type.rows != rows:
        node = ones(rows) if is_const(node, 1.0) else pointwise("mul", node, ones(rows))
    if node.type.cols != cols:
        across = transpose(ones(cols))
        node = across if is_const(node, 1.0) else pointwise("mul", node, across)
    return node


def same(a: Factors, b: Factors) -> bool:
    """Whether two products have the same factors, in any order."""
    return sorted(map(id, a)) == sorted(map(id, b))


def without(items: Factors, taken: Factors) -> Factors | None:
    """The factors that are left when `taken` are removed; None when some aren't there."""
    left = list(items)
    for f in taken:
        if f not in left:
            return None
        left.remove(f)
    return tuple(left)


# ---- matrices ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Piece:
    """A summand of a matrix: the elementwise product of `factors`, kept on the diagonal only when `diagonal`."""

    factors: Factors
    diagonal: bool = False

    @property
    def scalars(self) -> Factors:
        return tuple(f for f in self.factors if f.type.is_scalar)

    @property
    def columns(self) -> Factors:
        return tuple(f for f in self.factors if f.type.rows != ONE and f.type.cols == ONE)

    @property
    def rows(self) -> Factors:
        """The row factors, as columns."""
        return tuple(transpose(f) for f in self.factors if f.type.rows == ONE and f.type.cols != ONE)

    @property
    def dense(self) -> Factors:
        return tuple(f for f in self.factors if is_matrix(f))

    @property
    def transposed(self) -> "Piece":
        return Piece(tuple(transpose(f) for f in self.factors), self.diagonal)


def pieces(node: Node) -> tuple[Piece, ...]:
    """A state-free value as a sum of outer products, diagonals, and what is neither (`dense` isn't empty then)."""
    return tuple(p for p in _pieces(node) if not is_zero(p.factors))


def _pieces(node: Node) -> tuple[Piece, ...]:
    if not is_matrix(node):
        return (Piece(factors(node)),)
    if node.op == "eye":
        return (Piece((), diagonal=True),)
    if node.op == "neg":
        return tuple(Piece((MINUS_ONE, *p.factors), p.diagonal) for p in _pieces(node.args[0]))
    if node.op in ("add", "sub"):
        right = node.args[1] if node.op == "add" else pointwise("neg", node.args[1])
        return _pieces(node.args[0]) + _pieces(right)
    if node.op == "mul":
        left, right_pieces = _pieces(node.args[0]), _pieces(node.args[1])
        return tuple(Piece(p.factors + q.factors, p.diagonal or q.diagonal) for p in left for q in right_pieces)
    if node.op == "div":
        below = tuple(inverse(f) for f in factors(node.args[1]))
        return tuple(Piece(p.factors + below, p.diagonal) for p in _pieces(node.args[0]))
    if node.op == "transpose":
        return tuple(p.transposed for p in _pieces(node.args[0]))
    if node.op == "where" and not is_matrix(node.args[0]):
        return _chosen_pieces(*node.args)
    if node.op == "matmul" and node.args[0].type.cols != ONE:
        return _product_pieces(node)
    if node.op == "rotate":
        return _rotated_pieces(node)
    return (Piece(factors(node)),)


def _rotated_pieces(node: Node) -> tuple[Piece, ...]:
    """A rotation turns the column of every outer product."""
    theta, turned = node.args
    parts = _pieces(turned)
    if any(p.diagonal or p.dense for p in parts):
        return (Piece(factors(node)),)
    columns = [rotate(theta, expand(product(p.columns), node.type.rows, ONE), node["inverse"]) for p in parts]
    return tuple(Piece((*p.scalars, column, *map(transpose, p.rows))) for p, column in zip(parts, columns, strict=True))


def _chosen_pieces(condition: Node, yes: Node, no: Node) -> tuple[Piece, ...]:
    found: list[Piece] = []
    for branch, on, off in ((yes, UNITY, ZERO), (no, ZERO, UNITY)):
        indicator = pointwise("where", condition, on, off)
        found.extend(Piece((indicator, *p.factors), p.diagonal) for p in _pieces(branch))
    return tuple(found)


def _product_pieces(node: Node) -> tuple[Piece, ...]:
    inner = node.args[0].type.cols
    pairs = [(p, q) for p in _pieces(node.args[0]) for q in _pieces(node.args[1])]
    found = []
    for p, q in pairs:
        piece = _product_piece(p, q, inner)
        if piece is None:
            return (Piece((node,)),)
        found.append(piece)
    return tuple(found)


def _product_piece(p: Piece, q: Piece, inner: Dim) -> Piece | None:
    """The matrix product of two pieces; None when both factors are general matrices."""
    if p.diagonal:
        scale = p.columns + p.rows
        return None if p.dense else Piece(p.scalars + scale + q.factors, q.diagonal)
    if q.diagonal:
        across = tuple(transpose(f) for f in q.columns + q.rows)
        return None if q.dense else Piece(p.factors + q.scalars + across, p.diagonal)
    if p.dense and q.dense:
        return None
    if p.dense:
        column = matmul(product(p.dense + tuple(map(transpose, p.rows))), expand(product(q.columns), inner, ONE))
        return Piece((*p.scalars, *p.columns, *q.scalars, *map(transpose, q.rows), column))
    if q.dense:
        flipped = _product_piece(q.transposed, p.transposed, inner)
        return None if flipped is None else flipped.transposed
    dot = inner_product(product(p.rows), product(q.columns), inner)
    return Piece((*p.scalars, *q.scalars, dot, *p.columns, *map(transpose, q.rows)))


def inner_product(a: Node, b: Node, size: Dim) -> Node:
    """The scalar a^T b of two columns of that size (1 x 1 stands for a constant column)."""
    return matmul(transpose(expand(a, size, ONE)), expand(b, size, ONE))


def apply(matrix: Node, column: Node) -> Node:
    """matrix @ column, without building an outer product or a diagonal: `(a b^T) x` becomes `a (b^T x)`."""
    if column.type.cols != ONE:
        return matmul(matrix, column)
    summands = []
    parts = pieces(matrix)
    if any(p.dense and p.diagonal for p in parts):
        return matmul(matrix, column)
    for p in parts:
        if p.dense:
            rest = p.scalars + p.columns
            across = product((*p.dense, *map(transpose, p.rows)))
            summands.append(product((*rest, matmul(across, column))))
        elif p.diagonal:
            summands.append(product(p.scalars + p.columns + p.rows + (column,)))
        else:
            dot = inner_product(product(p.rows), column, column.type.rows)
            summands.append(product((*p.scalars, dot, *p.columns)))
    result = total(summands)
    return expand(ZERO if result is None else result, matrix.type.rows, ONE)


def multiply(a: Node, b: Node) -> Node:
    """a @ b of state-free values, by `apply` where one of them is a vector."""
    if b.type.cols == ONE and is_matrix(a):
        return apply(a, b)
    if a.type.rows == ONE and is_matrix(b):
        return transpose(apply(transpose(b), transpose(a)))
    return matmul(a, b)


def sum_rows(node: Node) -> Node:
    """The sum over the rows, 1 x cols."""
    return sum_over(node, 0) if node.type.cols == ONE else multiply(transpose(ones(node.type.rows)), node)


def tidy(root: Node) -> Node:
    """The same value without matrices per time step where vectors do: products reassociated."""
    done: dict[Node, Node] = {}
    for node in walk([root]):
        args = tuple(done[a] for a in node.args)
        if node.op == "matmul":
            done[node] = multiply(*args)
        elif node.op == "sum" and is_matrix(args[0]):
            along = args[0] if node["axis"] == 0 else transpose(args[0])
            summed = sum_rows(along)
            done[node] = summed if node["axis"] == 0 else transpose(summed)
        else:
            done[node] = rebuild(node, args)
    return done[root]


def step_matrix(root: Node) -> Node | None:
    """A matrix that changes from step to step below the root, if there is one: no form but the step form has those."""
    return next((n for n in walk([root]) if is_matrix(n) and n.type.time != CONST), None)


def fold(op: str, *args: Node) -> Node:
    """A pointwise operation, computed at once when all arguments are numbers."""
    if all(a.op == "const" for a in args):
        with np.errstate(all="ignore"):
            return const(float(POINTWISE[op].numpy(*(a["value"] for a in args))))
    return pointwise(op, *args)


def simple(op: str, *args: Node) -> Node:
    """A pointwise operation on scalars with the laws of 0 and 1 applied, and 0 * anything = 0."""
    if all(a.op == "const" for a in args):
        return fold(op, *args)
    if op in ("add", "sub") and any(a.op == "const" and np.isinf(a["value"]) for a in args):
        # Infinity wins over what is not known to be infinite.
        first, second = args
        return first if first.op == "const" and np.isinf(first["value"]) else second if op == "add" else negated(second)
    if op == "mul":
        return ZERO if is_zero(args) else product(a for a in args if not is_const(a, 1.0))
    if op == "add":
        return plus(*(None if is_const(a, 0.0) else a for a in args)) or ZERO
    if op == "sub":
        return plus(*(None if is_const(a, 0.0) else a for a in (args[0], negated(args[1])))) or ZERO
    if op == "div" and (is_const(args[0], 0.0) or is_const(args[1], 1.0)):
        return args[0]
    if op == "pow" and args[1].op == "const" and args[1]["value"] in (0.0, 1.0):
        return UNITY if args[1]["value"] == 0.0 else args[0]
    if op == "where" and args[0].op == "const":
        return args[1] if args[0]["value"] != 0 else args[2]
    if op == "and" and (is_zero(args) or args[0].op == "const" or args[1].op == "const"):
        return ZERO if is_zero(args) else args[0] if args[1].op == "const" else args[1]
    if op == "or" and any(a.op == "const" for a in args):
        number, other = args if args[0].op == "const" else (args[1], args[0])
        return other if is_const(number, 0.0) else UNITY
    return pointwise(op, *args)
