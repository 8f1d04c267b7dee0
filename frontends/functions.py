"""The functions of the language: the one table that calls, errors and the reference are made from."""

from collections.abc import Callable
from dataclasses import dataclass

from smir.errors import SpecTypeError
from smir.frontends.construct import diagonal, number, pointwise, rotation, shape_text, transpose
from smir.ir import expr
from smir.ir.dims import ONE, TIME, Dim
from smir.ir.graph import Node
from smir.ir.ops import POINTWISE

# What an argument is: a value, a dimension's name, an index that the call binds, the body in which it is bound.
VALUE, DIMENSION, INDEX, BODY = "value", "dimension", "index", "body"

NORM_EPS = 1e-12
RMS_EPS = 1e-6


@dataclass(frozen=True)
class Function:
    """One way to call a function. `build` gets nodes, a Dim for a dimension, a name for a bound index."""

    name: str
    signature: str
    kinds: tuple[str, ...]
    doc: str
    build: Callable[..., Node]


def _elementwise(name: str, arguments: str, doc: str) -> Function:
    kinds = (VALUE,) * POINTWISE[name].arity
    return Function(name, f"{name}({arguments})", kinds, doc, lambda *args: pointwise(name, *args))


def _derived(name: str, doc: str, build: Callable[[Node], Node]) -> Function:
    return Function(name, f"{name}(x)", (VALUE,), doc, build)


def _softplus(x: Node) -> Node:
    return pointwise("logaddexp", x, number(0))


def _logsigmoid(x: Node) -> Node:
    return pointwise("neg", _softplus(pointwise("neg", x)))


def _elu(x: Node) -> Node:
    # Written so that interval arithmetic sees elu(x) >= -1; a `where` would lose it.
    below = pointwise("sub", pointwise("exp", pointwise("min", x, number(0))), number(1))
    return pointwise("add", pointwise("max", x, number(0)), below)


def _entries(x: Node) -> int:
    """The axis of the entries of one vector: a column's rows; otherwise every row is a vector."""
    return 0 if x.type.cols == ONE and x.type.rows != TIME else 1


def _square_sum(x: Node) -> Node:
    return expr.sum_over(pointwise("mul", x, x), _entries(x))


def _l2norm(x: Node) -> Node:
    return pointwise("div", x, pointwise("sqrt", pointwise("add", _square_sum(x), number(NORM_EPS))))


def _rmsnorm(x: Node) -> Node:
    mean = pointwise("div", _square_sum(x), size(x.type.shape[_entries(x)]))
    return pointwise("div", x, pointwise("sqrt", pointwise("add", mean, number(RMS_EPS))))


def _normalize(a: Node) -> Node:
    return pointwise("div", a, expr.sum_over(a, _entries(a)))


def size(dim: Dim) -> Node:
    """The size of a dimension as a number."""
    if dim.names & TIME.names:
        raise SpecTypeError("the length of the sequence is not a value", hint="sums over T take no length: `sum(A, T)`")
    return expr.sum_over(expr.ones(dim), 0) if dim.names else number(dim.size({}))


def _softmax(a: Node) -> Node:
    if _is_zeroed(a):
        raise SpecTypeError(
            "softmax of scores times a mask: what is masked out would count as 0, not as -inf",
            hint="write `softmax(scores, mask)`, for example `softmax(q @ k.T, causal)`",
        )
    return transpose(expr.softmax(transpose(a))) if _entries(a) == 0 else expr.softmax(a)


def _masked_softmax(a: Node, mask: Node) -> Node:
    return transpose(expr.softmax(transpose(a), transpose(mask))) if _entries(a) == 0 else expr.softmax(a, mask)


def _is_zeroed(a: Node) -> bool:
    """Whether a T x T value has a factor `where(condition, .., 0)`, as every one-sided mask is."""
    factors = [a] if a.type.shape == (TIME, TIME) else []
    while factors:
        node = factors.pop()
        if node.op == "where" and node.args[2] is number(0):
            return True
        if node.op in ("mul", "div", "neg", "pairwise"):
            factors.extend(node.args)
    return False


def _sum(a: Node, dim: Dim) -> Node:
    matches = [axis for axis, d in enumerate(a.type.shape) if d == dim]
    if not matches:
        raise SpecTypeError(f"sum over {dim} of a value that is {shape_text(a)}", hint="name one of its two dimensions")
    if len(matches) == 2:
        raise SpecTypeError(
            f"sum over {dim} of a value that is {shape_text(a)}: which of the two?",
            hint=f"`ones({dim}).T @ a` sums every column, `a @ ones({dim})` every row",
        )
    return expr.sum_over(a, matches[0])


def _over_range(op: str) -> Callable[[str, Node, Node, Node], Node]:
    def build(index: str, low: Node, high: Node, body: Node) -> Node:
        for end in (low, high):
            _check_end(end)
        return expr.reduce_range(op, index, low, high, body)

    return build


def _check_end(end: Node) -> None:
    """The ends of a range are positions, whole numbers, and their sums, differences, max and min."""
    pending = [end]
    while pending:
        node = pending.pop()
        if node.op in ("add", "sub", "max", "min"):
            pending.extend(node.args)
        elif node.op != "position" and not (node.op == "const" and float(node["value"]).is_integer()):
            hint = "for example `sum(m, j+1, i, g[m])`"
            raise SpecTypeError("the ends of a range must be indices plus or minus whole numbers", hint=hint)


_RANGE = (INDEX, VALUE, VALUE, BODY)
_EACH = "over a column's entries, otherwise over each row"

_TABLE = (
    _elementwise("exp", "x", "e^x"),
    _elementwise("log", "x", "natural logarithm"),
    _elementwise("logaddexp", "a, b", "log(e^a + e^b) without overflow"),
    _elementwise("sigmoid", "x", "1 / (1 + e^-x)"),
    _derived("logsigmoid", "log(sigmoid(x)) = -softplus(-x)", _logsigmoid),
    _derived("softplus", "log(1 + e^x) = logaddexp(x, 0)", _softplus),
    _derived("silu", "x * sigmoid(x)", lambda x: pointwise("mul", x, pointwise("sigmoid", x))),
    _derived("relu", "max(x, 0)", lambda x: pointwise("max", x, number(0))),
    _derived("elu", "max(x, 0) + e^min(x, 0) - 1", _elu),
    _elementwise("tanh", "x", "hyperbolic tangent"),
    _elementwise("sqrt", "x", "square root"),
    _elementwise("abs", "x", "absolute value"),
    _elementwise("floor", "x", "the largest whole number that is not above x"),
    _elementwise("max", "a, b", "the larger of two"),
    _elementwise("min", "a, b", "the smaller of two"),
    _elementwise("cos", "x", "cosine"),
    _elementwise("sin", "x", "sine"),
    _elementwise("where", "c, a, b", "a where c holds (is not 0), b elsewhere"),
    Function("cumsum", "cumsum(A)", (VALUE,), "running sum over time of a bare T x n sequence", expr.cumsum),
    Function("diag", "diag(x)", (VALUE,), "the diagonal matrix of a column: `diag(x) @ A` scales A's rows", diagonal),
    Function("eye", "eye(K)", (DIMENSION,), "the K x K identity matrix", expr.eye),
    Function("ones", "ones(K)", (DIMENSION,), "a column of K ones", expr.ones),
    Function("size", "size(K)", (DIMENSION,), "the size of a dimension as a number: `q[t] / sqrt(size(K))`", size),
    Function("sum", "sum(A, N)", (VALUE, DIMENSION), "sum over the dimension N, which keeps size 1", _sum),
    Function("sum", "sum(m, lo, hi, body)", _RANGE, "in index formulas: sum over m = lo..hi inclusive; 0 when empty",
             _over_range("sum")),
    Function("prod", "prod(m, lo, hi, body)", _RANGE, "in index formulas: product over m = lo..hi; 1 when empty",
             _over_range("prod")),
    Function("softmax", "softmax(A)", (VALUE,), f"e^x / sum(e^x) {_EACH}", _softmax),
    Function("softmax", "softmax(A, M)", (VALUE, VALUE), "the same, -inf for A where M is 0", _masked_softmax),
    _derived("l2norm", f"x / sqrt(sum of x^2 + {NORM_EPS:g}) {_EACH}", _l2norm),
    _derived("rmsnorm", f"x / sqrt(mean of x^2 + {RMS_EPS:g}) {_EACH}", _rmsnorm),
    _derived("normalize", f"x / sum(x) {_EACH}", _normalize),
    Function("rot", "rot(theta)", (VALUE,), "K x K rotation of interleaved pairs; `.T` is its inverse", rotation),
)  # fmt: skip


FUNCTIONS: dict[str, tuple[Function, ...]] = {
    name: tuple(f for f in _TABLE if f.name == name) for name in dict.fromkeys(f.name for f in _TABLE)
}
