"""Dimensions as written to symbolic dimensions."""

from smir.errors import IRError, SpecTypeError
from smir.frontends import syntax
from smir.frontends.limits import MAX_DIMENSION
from smir.frontends.names import check_spelling
from smir.ir.dims import TIME, Dim
from smir.ir.head_groups import ALL_HEADS, is_group

_HINT = "a dimension is a name, a whole number, or + - * / of them: `K`, `16`, `K/2`"


def dimension(expr: syntax.Expr) -> Dim:
    """The dimension that an expression spells. Raises SpecTypeError when it spells none, or a number that is none."""
    dim = _convert(expr)
    if not dim.names and (not dim.terms or dim.terms[0][1].denominator != 1 or dim.terms[0][1] < 1):
        raise SpecTypeError(f"a dimension must be a positive whole number, found {dim}", expr.span, _HINT)
    return dim


def axes(exprs: tuple[syntax.Expr, ...], time_allowed: bool) -> tuple[Dim, ...]:
    """The dimensions of one declaration: none for a scalar, one, or two. Raises SpecTypeError."""
    if len(exprs) > 2:
        hint = "a value is a scalar, a column `K` or a matrix `K, V`"
        raise SpecTypeError(f"{len(exprs)} dimensions, at most 2 are possible", exprs[2].span, hint)
    dims = tuple(dimension(e) for e in exprs)
    for expr, dim in zip(exprs, dims, strict=True):
        if TIME in (dim, *map(Dim.name, dim.names)) and not time_allowed:
            hint = "inputs and states have one value per time step already; only parameters may have dimension T"
            raise SpecTypeError("`T` is the length of the sequence", expr.span, hint)
    return dims


def group(expr: syntax.Expr) -> Dim:
    """How many heads of the output a head of an input serves, from the number of heads that the input has: `H/4`, `H/G`
    or `1`. Raises SpecTypeError for anything else."""
    match expr:
        case syntax.Number(value=1.0):
            return ALL_HEADS
        case syntax.Binary(op="/", left=syntax.Name(name=heads), right=syntax.Name() | syntax.Number() as size):
            found = _convert(size)
            if heads == str(ALL_HEADS) and found not in (ALL_HEADS, TIME) and is_group(found):
                return found
    hint = "`heads H/4`: one for four heads; `heads H/G`: a call says how many; `heads 1`: one for all"
    raise SpecTypeError(f"`{expr.span.text[:40]}` is no number of heads of an input", expr.span, hint)


def _convert(expr: syntax.Expr) -> Dim:
    match expr:
        case syntax.Name(name=name):
            check_spelling(name, expr.span)
            return Dim.name(name)
        case syntax.Number(value=value) if value <= MAX_DIMENSION and value == int(value):
            return Dim.number(int(value))
        case syntax.Binary(op=op, left=left, right=right) if op in "+-*/":
            return _combine(op, _convert(left), _convert(right), expr)
    raise SpecTypeError(f"`{expr.span.text[:40]}` is not a dimension", expr.span, _HINT)


def _combine(op: str, a: Dim, b: Dim, expr: syntax.Expr) -> Dim:
    if op == "/":
        if not b.terms or b.names:
            raise SpecTypeError(f"a dimension can be divided by a number only, not by {b}", expr.span, _HINT)
        return a / b
    try:
        return a + b if op == "+" else a - b if op == "-" else a * b
    except IRError as error:
        raise SpecTypeError(error.message, expr.span, _HINT) from None
