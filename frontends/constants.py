"""Arithmetic on numbers that are known when the spec is read: ranges, initial values, `const`, index offsets."""

import math
from collections.abc import Callable, Mapping

from smir.errors import SpecTypeError
from smir.frontends import syntax
from smir.frontends.names import nearest

_ARITHMETIC: dict[str, Callable[[float, float], float]] = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "/": lambda a, b: a / b,
    "**": math.pow,
}


def combine(op: str, a: float, b: float) -> float | None:
    """The number `a op b`; None when there is none (1/0, inf - inf, an overflow, no such operator)."""
    try:
        value = _ARITHMETIC[op](a, b)
    except (ArithmeticError, ValueError, KeyError):
        return None
    overflow = math.isinf(value) and math.isfinite(a) and math.isfinite(b)
    return None if overflow or math.isnan(value) else value


def evaluate(expr: syntax.Expr, constants: Mapping[str, float], what: str) -> float:
    """The number that an expression of numbers and `const` names stands for.

    `what` names its role in the error. Raises SpecTypeError.
    """
    match expr:
        case syntax.Number(value=value):
            return value
        case syntax.Name(name=name) if name in constants:
            return constants[name]
        case syntax.Negate(arg=arg):
            return -evaluate(arg, constants, what)
        case syntax.Binary(op=op, left=left, right=right):
            result = combine(op, evaluate(left, constants, what), evaluate(right, constants, what))
            if result is None:
                message = f"`{_brief(expr.span.text)}` is not a number"
                raise SpecTypeError(message, expr.span, f"{what} is a number or `inf`")
            return result
    hint = "numbers, `inf`, names of constants and + - * / ** are allowed here"
    if isinstance(expr, syntax.Name) and (close := nearest(expr.name, constants)):
        hint = f"did you mean the constant `{close}`?"
    raise SpecTypeError(f"{what} must be a number, found `{_brief(expr.span.text)}`", expr.span, hint)


def whole_number(expr: syntax.Expr, constants: Mapping[str, float], what: str, limit: int) -> int:
    """Like `evaluate`, for an integer of at most `limit` in magnitude. Raises SpecTypeError."""
    value = evaluate(expr, constants, what)
    if not math.isfinite(value) or value != int(value) or abs(value) > limit:
        message = f"{what} must be a whole number of magnitude at most {limit}, found {value:g}"
        raise SpecTypeError(message, expr.span)
    return int(value)


def _brief(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 40 else f"{line[:37]}..."
