"""Symbolic dimensions: names, numbers and arithmetic on them (`K`, `16`, `K/2`, `2*N+1`)."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from math import lcm, prod

from smir.errors import IRError

Monomial = tuple[str, ...]
_TOKEN = re.compile(r"\s*(\d+|[A-Za-z_]\w*|[-+*/()])")


@dataclass(frozen=True)
class Dim:
    """A polynomial in dimension names in canonical form, so that equal means equal.

    `terms` maps sorted monomials to coefficients and is kept sorted.
    """

    terms: tuple[tuple[Monomial, Fraction], ...]

    @staticmethod
    def of(terms: Mapping[Monomial, Fraction]) -> "Dim":
        return Dim(tuple(sorted((m, c) for m, c in terms.items() if c)))

    @staticmethod
    def name(name: str) -> "Dim":
        return Dim((((name,), Fraction(1)),))

    @staticmethod
    def number(value: int | Fraction) -> "Dim":
        return Dim.of({(): Fraction(value)})

    @staticmethod
    def parse(text: str) -> "Dim":
        """Reads what `str` prints; `A.B` is the product of two dimensions, a matrix's lanes. Raises IRError."""
        outer, dot, inner = text.partition(".")
        if dot:
            return Dim.parse(outer) * Dim.parse(inner)
        tokens = _TOKEN.findall(text)
        if "".join(tokens) != re.sub(r"\s", "", text):
            raise IRError(f"not a dimension: {text!r}")
        dim, rest = _sum(tokens)
        if rest:
            raise IRError(f"not a dimension: {text!r}")
        return dim

    @property
    def names(self) -> frozenset[str]:
        return frozenset(n for m, _ in self.terms for n in m)

    def __add__(self, other: "Dim") -> "Dim":
        terms = dict(self.terms)
        for m, c in other.terms:
            terms[m] = terms.get(m, Fraction(0)) + c
        return Dim.of(terms)

    def __sub__(self, other: "Dim") -> "Dim":
        return self + Dim.number(-1) * other

    def __mul__(self, other: "Dim") -> "Dim":
        terms: dict[Monomial, Fraction] = {}
        for m, c in self.terms:
            for n, d in other.terms:
                key = tuple(sorted(m + n))
                terms[key] = terms.get(key, Fraction(0)) + c * d
        return Dim.of(terms)

    def __truediv__(self, other: "Dim") -> "Dim":
        if set(dict(other.terms)) != {()}:
            raise IRError(f"a dimension can be divided by a number only, not by {other}")
        return self * Dim.number(1 / dict(other.terms)[()])

    def size(self, sizes: Mapping[str, int]) -> int:
        """The number, given sizes of the names, also symbolic ones. Raises IRError when it is no positive integer."""
        common = lcm(*(c.denominator for _, c in self.terms))
        total = sum(int(c * common) * prod(sizes[n] for n in m) for m, c in self.terms)
        if total % common or total < common:
            raise IRError(f"dimension {self} would be {total if common == 1 else Fraction(total, common)}")
        return total // common

    def __str__(self) -> str:
        return "+".join(_monomial(m, c) for m, c in reversed(self.terms)).replace("+-", "-") or "0"


ONE = Dim.number(1)
TIME = Dim.name("T")


def _monomial(names: Monomial, c: Fraction) -> str:
    if not names:
        return str(c)
    top = "*".join(([] if abs(c.numerator) == 1 else [str(abs(c.numerator))]) + list(names))
    return ("-" if c < 0 else "") + top + (f"/{c.denominator}" if c.denominator != 1 else "")


def _sum(tokens: list[str]) -> tuple[Dim, list[str]]:
    value, tokens = _product(tokens)
    while tokens and tokens[0] in "+-":
        sign, (right, tokens) = tokens[0], _product(tokens[1:])
        value = value + right if sign == "+" else value - right
    return value, tokens


def _product(tokens: list[str]) -> tuple[Dim, list[str]]:
    value, tokens = _atom(tokens)
    while tokens and tokens[0] in "*/":
        op, (right, tokens) = tokens[0], _atom(tokens[1:])
        value = value * right if op == "*" else value / right
    return value, tokens


def _atom(tokens: list[str]) -> tuple[Dim, list[str]]:
    if not tokens:
        raise IRError("a dimension ends too early")
    head, rest = tokens[0], tokens[1:]
    if head == "-":
        value, rest = _atom(rest)
        return Dim.number(-1) * value, rest
    if head == "(":
        value, rest = _sum(rest)
        if not rest or rest[0] != ")":
            raise IRError("a dimension lacks a closing parenthesis")
        return value, rest[1:]
    if not (head[0].isalnum() or head[0] == "_"):
        raise IRError(f"a dimension can't start with {head!r}")
    return (Dim.number(int(head)) if head.isdigit() else Dim.name(head)), rest
