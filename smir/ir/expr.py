"""Mixer IR expressions: every operation of the language, with its typing rule.

A value is a matrix `rows x cols` (a vector is a column, a scalar 1 x 1) that lives at one of four times:

- `const`   no time: parameters and numbers;
- `step`    one value per time step;
- `seq`     a whole sequence at once; its rows and/or columns include T;
- `pair`    one value per pair (i, j) of positions: the inside of an index formula, with `m` bound by sums.

Constructors check types and raise SpecTypeError without a span; the front end adds the span.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from smir.errors import SpecTypeError
from smir.ir.dims import ONE, TIME, Dim
from smir.ir.graph import Node, make
from smir.ir.ops import POINTWISE

CONST, STEP, SEQ, PAIR = "const", "step", "seq", "pair"


@dataclass(frozen=True)
class ValueType:
    """Shape and time of a value of the mixer IR."""

    rows: Dim
    cols: Dim
    time: str

    def __str__(self) -> str:
        return f"{self.rows} x {self.cols} @{self.time}"

    @property
    def shape(self) -> tuple[Dim, Dim]:
        return self.rows, self.cols

    @property
    def is_scalar(self) -> bool:
        return self.shape == (ONE, ONE)


def join_time(times: Iterable[str]) -> str:
    """The time of an operation on values of these times: const fits everywhere, a mix of others is an error."""
    distinct = sorted({t for t in times if t != CONST})
    if len(distinct) > 1:
        words = {STEP: "one time step (`x[t]`)", SEQ: "the whole sequence (`x`)", PAIR: "a pair of positions (`x[i]`)"}
        raise SpecTypeError(
            "a mix of times: " + " and ".join(words[t] for t in distinct),
            hint="write every input with [t] in a step equation, and every input bare in a masked operator",
        )
    return distinct[0] if distinct else CONST


# ---- leaves -----------------------------------------------------------------------------------------------------


def const(value: float) -> Node:
    return make("const", (), ValueType(ONE, ONE, CONST), value=float(value))


def param(name: str, rows: Dim, cols: Dim = ONE) -> Node:
    return make("param", (), ValueType(rows, cols, CONST), name=name)


def input_at(name: str, rows: Dim, cols: Dim = ONE, offset: int = 0) -> Node:
    """Input `name[t + offset]`; zero outside the sequence."""
    return make("input", (), ValueType(rows, cols, STEP), name=name, offset=offset)


def state_at(name: str, rows: Dim, cols: Dim = ONE, offset: int = 0) -> Node:
    """State `name[t + offset]`; offset 0 is the value after this step's update."""
    return make("state", (), ValueType(rows, cols, STEP), name=name, offset=offset)


def read(name: str, rows: Dim) -> Node:
    """What the Read of that name gives at time t, a column (operator programs only)."""
    return make("read", (), ValueType(rows, ONE, STEP), name=name)


def sequence(name: str, cols: Dim) -> Node:
    """The T x n matrix of an input."""
    return make("sequence", (), ValueType(TIME, cols, SEQ), name=name)


def position(index: str) -> Node:
    """The number i, j (or a bound m) itself in an index formula."""
    return make("position", (), ValueType(ONE, ONE, PAIR), index=index)


def input_of(name: str, index: str, rows: Dim, offset: int = 0) -> Node:
    """Input `name` at position `index + offset` of an index formula, a column; zero outside the sequence."""
    return make("input_of", (), ValueType(rows, ONE, PAIR), name=name, index=index, offset=offset)


def param_at(name: str, row: str, col: str) -> Node:
    """The entry at two positions of an index formula of a parameter declared T x T."""
    return make("param_at", (), ValueType(ONE, ONE, PAIR), name=name, row=row, col=col)


def eye(dim: Dim) -> Node:
    return make("eye", (), ValueType(dim, dim, CONST))


def ones(dim: Dim) -> Node:
    return make("ones", (), ValueType(dim, ONE, CONST))


# ---- operations -------------------------------------------------------------------------------------------------


def pointwise(op: str, *args: Node) -> Node:
    """An operation of the POINTWISE table; axes of size one broadcast by position."""
    rows, cols = ONE, ONE
    for a in args:
        rows, cols = _broadcast(op, rows, a.type.rows), _broadcast(op, cols, a.type.cols)
    return make(op, args, ValueType(rows, cols, join_time(a.type.time for a in args)))


def _broadcast(op: str, a: Dim, b: Dim) -> Dim:
    if ONE in (a, b) or a == b:
        return b if a == ONE else a
    raise SpecTypeError(
        f"`{op}` of values whose dimensions {a} and {b} differ",
        hint="dimension names must match exactly, even when the sizes agree; `.T` transposes",
    )


def matmul(a: Node, b: Node) -> Node:
    """Matrix product; of scalars and anything: refused, `*` says it."""
    if a.type.cols != b.type.rows:
        both_columns = a.type.cols == ONE == b.type.cols
        hint = "`a @ b.T` is the outer product, `a.T @ b` the inner one" if both_columns else None
        raise SpecTypeError(f"`@` of {a.type.rows} x {a.type.cols} and {b.type.rows} x {b.type.cols}", hint=hint)
    return make("matmul", (a, b), ValueType(a.type.rows, b.type.cols, join_time((a.type.time, b.type.time))))


def transpose(a: Node) -> Node:
    if a.op == "transpose":
        return a.args[0]
    if a.type.rows == ONE == a.type.cols:
        return a
    return make("transpose", (a,), ValueType(a.type.cols, a.type.rows, a.type.time))


def sum_over(a: Node, axis: int) -> Node:
    """Sum over the rows (axis 0) or the columns (axis 1)."""
    rows, cols = (ONE, a.type.cols) if axis == 0 else (a.type.rows, ONE)
    return make("sum", (a,), ValueType(rows, cols, a.type.time), axis=axis)


def max_over(a: Node, axis: int) -> Node:
    """Largest of the rows (axis 0) or of the columns (axis 1)."""
    rows, cols = (ONE, a.type.cols) if axis == 0 else (a.type.rows, ONE)
    return make("reduce_max", (a,), ValueType(rows, cols, a.type.time), axis=axis)


def cumsum(a: Node) -> Node:
    """Running sum along T of a T x n sequence."""
    if a.type.time != SEQ or a.type.rows != TIME:
        raise SpecTypeError("cumsum needs a sequence (T x n)", hint="`cumsum(g)` of a bare input")
    return make("cumsum", (a,), a.type)


def softmax(a: Node, mask: Node | None = None) -> Node:
    """Softmax over the columns; entries where `mask` is zero count as -inf."""
    if mask is None:
        return make("softmax", (a,), a.type)
    if mask.type.shape != a.type.shape:
        raise SpecTypeError(
            f"softmax of {a.type.rows} x {a.type.cols} with a mask of {mask.type.rows} x {mask.type.cols}"
        )
    time = join_time((a.type.time, mask.type.time))
    return make("softmax", (a, mask), ValueType(a.type.rows, a.type.cols, time))


def rotate(theta: Node, a: Node, inverse: bool = False) -> Node:
    """Rotation of interleaved pairs of rows of `a` (K x n) by the angles `theta` (K/2 x 1): `rot(theta) @ a`."""
    if theta.type.rows * Dim.number(2) != a.type.rows or theta.type.cols != ONE:
        raise SpecTypeError(f"rot of angles {theta.type.rows} x {theta.type.cols} on {a.type.rows} rows",
                            hint="theta has dimension K/2, the rotated value K")  # fmt: skip
    time = join_time((theta.type.time, a.type.time))
    return make("rotate", (theta, a), ValueType(a.type.rows, a.type.cols, time), inverse=inverse)


def pairwise(formula: Node) -> Node:
    """The T x T matrix whose entry (i, j) is the formula's scalar value."""
    if not formula.type.is_scalar or formula.type.time not in (PAIR, CONST):
        raise SpecTypeError("an index formula must give one number for every (i, j)")
    return make("pairwise", (formula,), ValueType(TIME, TIME, SEQ))


def reduce_range(op: str, index: str, low: Node, high: Node, body: Node) -> Node:
    """`sum` or `prod` of a scalar body over index = low..high inclusive; an empty range gives 0 or 1."""
    if not body.type.is_scalar:
        raise SpecTypeError(f"{op} over a range needs a scalar body")
    return make(f"{op}_range", (low, high, body), ValueType(ONE, ONE, PAIR), index=index)


STRUCTURAL = frozenset(
    "const param input state sequence position input_of param_at eye ones matmul transpose sum reduce_max cumsum "
    "softmax rotate pairwise sum_range prod_range read".split()
)
OPS = STRUCTURAL | frozenset(POINTWISE)
