"""Pointwise operations: the one table of their meaning, range and cost.

The mixer IR and the tile IR share these; interpreters, printers, interval proofs and cost models read them
from here. `flops` counts what one element costs on a GPU, a transcendental function as one pass of the
special-function unit (4 by the usual rule of a quarter rate).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from smir.ir.interval import BOOLEAN, INF, Interval, point

Array = Any


@dataclass(frozen=True)
class Pointwise:
    """An elementwise operation: numpy meaning, image of intervals, cost, and its printed form in Python.

    `python` is a template over `{0}`, `{1}`.. in numpy terms, used by the printed numpy program.
    """

    name: str
    arity: int
    numpy: Callable[..., Array]
    interval: Callable[..., Interval]
    flops: int
    python: str
    boolean: bool = False


def _logaddexp(a: Array, b: Array) -> Array:
    return np.logaddexp(a, b)


def _sigmoid(x: Array) -> Array:
    return 0.5 * (1.0 + np.tanh(0.5 * x))


def _exp(x: float) -> float:
    return INF if x > 709 else math.exp(x)


def _log(x: float) -> float:
    return -INF if x <= 0 else INF if math.isinf(x) else math.log(x)


def _abs(a: Interval) -> Interval:
    low = 0.0 if a.lo <= 0 <= a.hi else min(abs(a.lo), abs(a.hi))
    return Interval(low, max(abs(a.lo), abs(a.hi)))


def _power(a: Interval, b: Interval) -> Interval:
    if b.lo == b.hi and b.lo == int(b.lo) if math.isfinite(b.lo) else False:
        n = int(b.lo)
        base = _abs(a) if n % 2 == 0 else a
        if n >= 0:
            return Interval(_pow(base.lo, n), _pow(base.hi, n))
        return point(1.0) / Interval(_pow(base.lo, -n), _pow(base.hi, -n))
    if a.lo >= 0 and a.hi <= 1 and b.lo >= 0:
        return Interval(0.0, 1.0)
    return Interval(0.0, INF) if a.lo >= 0 else Interval()


def _pow(x: float, n: int) -> float:
    try:
        return x**n
    except OverflowError:
        return INF if x > 0 or n % 2 == 0 else -INF


def _max(a: Interval, b: Interval) -> Interval:
    return Interval(max(a.lo, b.lo), max(a.hi, b.hi))


def _min(a: Interval, b: Interval) -> Interval:
    return Interval(min(a.lo, b.lo), min(a.hi, b.hi))


def _logaddexp_interval(a: Interval, b: Interval) -> Interval:
    return Interval(float(np.logaddexp(a.lo, b.lo)), float(np.logaddexp(a.hi, b.hi)))


def _compare(a: Interval, b: Interval) -> Interval:
    return BOOLEAN


_TABLE = (
    Pointwise("add", 2, np.add, lambda a, b: a + b, 1, "{0} + {1}"),
    Pointwise("sub", 2, np.subtract, lambda a, b: a - b, 1, "{0} - {1}"),
    Pointwise("mul", 2, np.multiply, lambda a, b: a * b, 1, "{0} * {1}"),
    Pointwise("div", 2, np.divide, lambda a, b: a / b, 4, "{0} / {1}"),
    Pointwise("pow", 2, np.power, _power, 8, "{0} ** {1}"),
    Pointwise("max", 2, np.maximum, _max, 1, "np.maximum({0}, {1})"),
    Pointwise("min", 2, np.minimum, _min, 1, "np.minimum({0}, {1})"),
    Pointwise("logaddexp", 2, _logaddexp, _logaddexp_interval, 10, "np.logaddexp({0}, {1})"),
    Pointwise("neg", 1, np.negative, lambda a: -a, 1, "-{0}"),
    Pointwise("exp", 1, np.exp, lambda a: a.monotone(_exp), 4, "np.exp({0})"),
    Pointwise("log", 1, np.log, lambda a: a.monotone(_log), 4, "np.log({0})"),
    Pointwise("sqrt", 1, np.sqrt, lambda a: a.monotone(lambda x: max(x, 0.0) ** 0.5), 4, "np.sqrt({0})"),
    Pointwise("abs", 1, np.abs, _abs, 1, "np.abs({0})"),
    Pointwise("floor", 1, np.floor, lambda a: a.monotone(lambda x: float(np.floor(x))), 1, "np.floor({0})"),
    Pointwise("sigmoid", 1, _sigmoid, lambda a: a.monotone(lambda x: 0.5 * (1 + math.tanh(x / 2))), 8,
              "0.5 * (1.0 + np.tanh(0.5 * {0}))"),
    Pointwise("tanh", 1, np.tanh, lambda a: a.monotone(math.tanh), 8, "np.tanh({0})"),
    Pointwise("cos", 1, np.cos, lambda a: Interval(-1.0, 1.0), 8, "np.cos({0})"),
    Pointwise("sin", 1, np.sin, lambda a: Interval(-1.0, 1.0), 8, "np.sin({0})"),
    # The value itself, as a constant to derivatives: what the result as a whole doesn't depend on.
    Pointwise("stop", 1, np.asarray, lambda a: a, 0, "{0}"),
    # The number itself. What is made of a widened one is in float64 until it is narrowed, in kernels of float32 inputs.
    Pointwise("widen", 1, np.asarray, lambda a: a, 0, "{0}"),
    Pointwise("narrow", 1, np.asarray, lambda a: a, 0, "{0}"),
    # The number itself: a product that takes a precise one keeps the digits that it rounds away otherwise, and a
    # rounded one is as products take it.
    Pointwise("precise", 1, np.asarray, lambda a: a, 0, "{0}"),
    Pointwise("rounded", 1, np.asarray, lambda a: a, 0, "{0}"),
    Pointwise("where", 3, np.where, lambda c, a, b: a.union(b), 1, "np.where({0}, {1}, {2})"),
    Pointwise("lt", 2, np.less, _compare, 1, "{0} < {1}", boolean=True),
    Pointwise("le", 2, np.less_equal, _compare, 1, "{0} <= {1}", boolean=True),
    Pointwise("eq", 2, np.equal, _compare, 1, "{0} == {1}", boolean=True),
    Pointwise("ne", 2, np.not_equal, _compare, 1, "{0} != {1}", boolean=True),
    Pointwise("and", 2, np.logical_and, _compare, 1, "np.logical_and({0}, {1})", boolean=True),
    Pointwise("or", 2, np.logical_or, _compare, 1, "np.logical_or({0}, {1})", boolean=True),
)  # fmt: skip

POINTWISE: dict[str, Pointwise] = {op.name: op for op in _TABLE}
