"""Named masks: the one table of their index formulas. Passes see only the formula, never the name."""

from collections.abc import Callable
from dataclasses import dataclass

from smir.errors import SpecTypeError
from smir.frontends.construct import number, pointwise
from smir.frontends.positions import at_position
from smir.ir import expr
from smir.ir.graph import Node

ROW, COLUMN, BOUND = "i", "j", "m"


@dataclass(frozen=True)
class Mask:
    """A T x T matrix by name. `signature` shows its use, `formula` its entry (i, j) as documentation spells it."""

    name: str
    signature: str
    formula: str
    doc: str
    arity: int
    build: Callable[..., Node]


def _positions() -> tuple[Node, Node]:
    return expr.position(ROW), expr.position(COLUMN)


def _lower() -> Node:
    i, j = _positions()
    return pointwise("le", j, i)


def _mask(lower: Node, upper: Node) -> Node:
    return expr.pairwise(pointwise("where", _lower(), lower, upper))


def _power(gamma: Node, forward: bool) -> Node:
    i, j = _positions()
    return pointwise("pow", gamma, pointwise("sub", i, j) if forward else pointwise("sub", j, i))


def _product(decay: Node, forward: bool) -> Node:
    """The decays between the two positions multiplied: over m = j+1..i, or over m = i+1..j."""
    if decay.type.time == expr.CONST:
        return _power(_checked_number(decay), forward)
    i, j = _positions()
    low, high = (j, i) if forward else (i, j)
    factor = at_position(decay, BOUND)
    if not factor.type.is_scalar:
        message = f"a mask needs one decay per time step, found {decay.type.cols} of them"
        raise SpecTypeError(message, hint="a decay per channel belongs in a step equation: `diag(exp(g[t])) @ S[t-1]`")
    return expr.reduce_range("prod", BOUND, pointwise("add", low, number(1)), high, factor)


def _checked_number(gamma: Node) -> Node:
    if not gamma.type.is_scalar:
        shape = f"{gamma.type.rows} x {gamma.type.cols}"
        raise SpecTypeError(f"a mask's decay must be one number, found {shape}", hint="declare it `: scalar`")
    return gamma


def _causal() -> Node:
    return _mask(number(1), number(0))


def _full() -> Node:
    return expr.pairwise(number(1))


def _window(width: Node) -> Node:
    if width.op != "const" or width["value"] < 1 or width["value"] != int(width["value"]):
        message = "the width of a window must be a positive whole number that the spec gives"
        raise SpecTypeError(message, hint="`window(8)`, or `const w = 8` and `window(w)`")
    i, j = _positions()
    near = pointwise("and", _lower(), pointwise("lt", pointwise("sub", i, j), width))
    return expr.pairwise(pointwise("where", near, number(1), number(0)))


def _decay(gamma: Node) -> Node:
    if gamma.type.time != expr.CONST:
        hint = "a decay that varies in time is `selective(exp(g))`"
        raise SpecTypeError("`decay` needs a parameter or a number, found a value that varies in time", hint=hint)
    return _mask(_power(_checked_number(gamma), forward=True), number(0))


def _selective(decay: Node) -> Node:
    return _mask(_product(decay, forward=True), number(0))


def _lion(decay: Node) -> Node:
    return _mask(_product(decay, forward=True), _product(decay, forward=False))


_TABLE = (
    Mask("causal", "causal", "1 where j <= i, else 0", "every position sees itself and the past", 0, _causal),
    Mask("full", "full", "1", "every position sees all positions", 0, _full),
    Mask("window", "window(w)", "1 where j <= i and i - j < w, else 0", "the last w positions", 1, _window),
    Mask("decay", "decay(gamma)", "gamma**(i - j) where j <= i, else 0", "gamma: a parameter or a number", 1, _decay),
    Mask("selective", "selective(lam)", "prod(m, j+1, i, lam[m]) where j <= i, else 0", "lam: one decay per step", 1,
         _selective),
    Mask("lion", "lion(lam)", "prod(m, j+1, i, lam[m]) where j <= i, else prod(m, i+1, j, lam[m])",
         "the two-sided `selective`", 1, _lion),
)  # fmt: skip

MASKS: dict[str, Mask] = {mask.name: mask for mask in _TABLE}
