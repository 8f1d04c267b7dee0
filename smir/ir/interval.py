"""Intervals over the extended reals, in which 0 * inf = 0 (a zero factor wins)."""

import math
from collections.abc import Callable
from dataclasses import dataclass

INF = math.inf


@dataclass(frozen=True)
class Interval:
    """All numbers between `lo` and `hi`; `lo_open` / `hi_open` leave the end point out.

    Openness is kept for promises (`in (0, 1)`); arithmetic works on the closure.
    """

    lo: float = -INF
    hi: float = INF
    lo_open: bool = False
    hi_open: bool = False

    def __contains__(self, value: float) -> bool:
        above = value > self.lo if self.lo_open else value >= self.lo
        below = value < self.hi if self.hi_open else value <= self.hi
        return above and below

    def within(self, other: "Interval") -> bool:
        """Whether every number of this interval's closure is in the other's closure."""
        return other.lo <= self.lo and self.hi <= other.hi

    def __str__(self) -> str:
        left, right = "(" if self.lo_open else "[", ")" if self.hi_open else "]"
        return f"{left}{self.lo:g}, {self.hi:g}{right}"

    def __add__(self, other: "Interval") -> "Interval":
        return Interval(_plus(self.lo, other.lo, -INF), _plus(self.hi, other.hi, INF))

    def __neg__(self) -> "Interval":
        return Interval(-self.hi, -self.lo)

    def __sub__(self, other: "Interval") -> "Interval":
        return self + -other

    def __mul__(self, other: "Interval") -> "Interval":
        ends = [_times(a, b) for a in (self.lo, self.hi) for b in (other.lo, other.hi)]
        return Interval(min(ends), max(ends))

    def __truediv__(self, other: "Interval") -> "Interval":
        if other.lo <= 0 <= other.hi:
            positive = other.lo == 0 and self.lo >= 0
            return Interval(_over(self.lo, other.hi), INF) if positive else Interval()
        return self * Interval(1 / other.hi, 1 / other.lo)

    def union(self, other: "Interval") -> "Interval":
        return Interval(min(self.lo, other.lo), max(self.hi, other.hi))

    def monotone(self, f: Callable[[float], float]) -> "Interval":
        """The image under a non-decreasing function defined on the extended reals."""
        return Interval(f(self.lo), f(self.hi))


REAL = Interval()
UNIT = Interval(0.0, 1.0)
BOOLEAN = UNIT


def point(value: float) -> Interval:
    return Interval(value, value)


def _plus(a: float, b: float, tie: float) -> float:
    return tie if math.isinf(a) and math.isinf(b) and a != b else a + b


def _times(a: float, b: float) -> float:
    return 0.0 if a == 0 or b == 0 else a * b


def _over(a: float, b: float) -> float:
    return 0.0 if a == 0 or math.isinf(b) else a / b
