"""Mask factors: an index formula as a sum of products that separate i from j (sympy does the expansion).

A separable term is `a(i) * b(j) * <x(i), y(j)> * product of decays over the positions between`, in which y may be
turned by an angle for each of these positions, and each decay is a per-step factor over m = j+r .. i+p (below the
diagonal) or m = i+p .. j+r (above it).
"""

import math
import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from smir.ir.dims import ONE
from smir.ir.expr import const, input_of, matmul, pointwise, rotate, transpose
from smir.ir.graph import Node, substitute, walk
from smir.passes.expressions.algebra import UNITY, expand, factors, negated, product, simple, total
from smir.passes.expressions.broken_laws import BrokenLaw
from smir.passes.masks.index_formulas import AT_I, AT_J, NO_FACTORS, RANGES, Leaves, affine, at_step, gives
from smir.passes.masks.position_angles import turned

UNFACTORED = "does not factor into functions of i and of j"
_ARITHMETIC = {"add", "sub", "mul", "neg", "div", "pow", "exp", "sqrt"}


@dataclass(frozen=True)
class Segment:
    """A per-step decay `factor` (at m = t), multiplied over the positions from `j + at_j` and `i + at_i`, inclusive."""

    factor: Callable[[int], Node]
    at_i: int
    at_j: int


@dataclass(frozen=True)
class SeparableTerm:
    """Per-step expressions: scale of the query side, of the key side, their inner product if any, and decays.

    `turn`: the angle by which the key turns from each position to the next on the way to the query.
    """

    query_scale: Node
    key_scale: Node
    scores: tuple[Node, Node] | None
    segments: tuple[Segment, ...]
    turn: Node | None = None


def separate(formula: Node, lower: bool, leaves: Leaves) -> tuple[SeparableTerm, ...]:
    """The separable terms of a formula without conditions, below (`lower`) or above the diagonal. Raises BrokenLaw."""
    return _Separator(formula, lower, leaves).terms()


@dataclass(frozen=True)
class _Symbol:
    """What a sympy symbol stands for. `kind`: const, i, j, scores, or prefix (the sum of `node` before a position)."""

    kind: str
    node: Node
    end: tuple[str, int] = ("", 0)
    product: bool = False


class _Separator:
    def __init__(self, formula: Node, lower: bool, leaves: Leaves) -> None:
        import sympy  # 0.3 s to import, and only masks need it

        self.sp: Any = sympy
        self.formula, self.lower, self.leaves = formula, lower, leaves
        self.symbols: dict[Any, _Symbol] = {}
        self.by_meaning: dict[_Symbol, Any] = {}
        self.index = {name: sympy.Symbol(name, integer=True) for name in (AT_I, AT_J)}

    def terms(self) -> tuple[SeparableTerm, ...]:
        expanded = self.sp.expand(self._sympy(self.formula))
        return tuple(self._term(t) for t in self.sp.Add.make_args(expanded) if t != 0)

    def broken(self, node: Node | None = None) -> BrokenLaw:
        return BrokenLaw(UNFACTORED, node or self.formula, NO_FACTORS)

    # ---- to sympy -----------------------------------------------------------------------------------------------

    def _symbol(self, meaning: _Symbol) -> Any:
        if meaning not in self.by_meaning:
            self.by_meaning[meaning] = self.sp.Symbol(f"s{len(self.symbols)}", real=True)
            self.symbols[self.by_meaning[meaning]] = meaning
        return self.by_meaning[meaning]

    def _sympy(self, node: Node) -> Any:
        sp = self.sp
        if node.op == "const":
            value = node["value"]
            if not math.isfinite(value):
                raise self.broken(node)
            return sp.Integer(int(value)) if value == int(value) else sp.Float(value)
        if node.op == "position":
            return self.index[node["index"]]
        used = indices(node)
        if node.op in RANGES:
            return self._range(node)
        if len(used) < 2 and not any(n.op == "position" for n in walk([node])):
            return self._symbol(_Symbol(next(iter(used), "const"), node))
        if node.op in _ARITHMETIC:
            return self._arithmetic(node, [self._sympy(a) for a in node.args])
        if node.op == "matmul":
            parts = turned(node)
            sides = [indices(parts.x), indices(parts.y)]
            if sides in ([{AT_I}, {AT_J}], [{AT_J}, {AT_I}]):
                return self._symbol(_Symbol("scores", node))
        if node.op == "sum":
            return self._symbol(_Symbol("scores", self._inner_product(node)))
        raise self.broken(node)

    def _inner_product(self, node: Node) -> Node:
        """`sum(x * y, K)` with x of i and y of j as `x.T @ y`."""
        size = node.args[0].type.shape[node["axis"]]
        columns = [f if node["axis"] == 0 else transpose(f) for f in factors(node.args[0])]
        sides = [AT_J if indices(f) == {AT_J} else AT_I for f in columns]
        if any(len(indices(f)) > 1 for f in columns):
            raise self.broken(node)
        x, y = (expand(product(f for f, s in zip(columns, sides, strict=True) if s == side), size, ONE)
                for side in (AT_I, AT_J))  # fmt: skip
        return matmul(transpose(x), y)

    def _arithmetic(self, node: Node, args: list[Any]) -> Any:
        if node.op == "exp":
            return self.sp.exp(args[0])
        if node.op == "sqrt":
            return self.sp.sqrt(args[0])
        if node.op == "neg":
            return -args[0]
        a, b = args
        operations = {"add": operator.add, "sub": operator.sub, "mul": operator.mul, "div": operator.truediv}
        return operations.get(node.op, operator.pow)(a, b)

    def _range(self, node: Node) -> Any:
        body = node.args[2]
        bound = node["index"]
        if indices(body) - {bound} or any(n.op == "position" for n in walk([body])):
            raise self.broken(node)
        ends = [self._end(node, node.args[0], 0), self._end(node, node.args[1], 1)]
        is_product = node.op == "prod_range"
        low, high = (self._symbol(_Symbol("prefix", _renamed(body, bound), end, is_product)) for end in ends)
        return self.sp.exp(high - low) if is_product else high - low

    def _end(self, node: Node, end: Node, extra: int) -> tuple[str, int]:
        position = affine(end)
        if position is None or len(position.slopes) > 1 or any(c != 1 for _, c in position.slopes):
            raise self.broken(node)
        name = position.slopes[0][0] if position.slopes else ""
        if not name and (extra or position.offset > 1):
            # Only a prefix from the first position on cancels between i and j.
            raise self.broken(node)
        return name, int(position.offset) + extra

    # ---- from sympy ---------------------------------------------------------------------------------------------

    def _term(self, term: Any) -> SeparableTerm:
        parts = _Parts(self)
        for f in self.sp.Mul.make_args(term):
            base, power = f.as_base_exp()
            if base == self.sp.E:
                for summand in self.sp.Add.make_args(self.sp.expand(power)):
                    parts.exponent(summand)
            elif self._positions(power):
                parts.power(base, self.sp.expand(power))
            else:
                parts.factor(f)
        return parts.finish()

    def kinds(self, expr: Any) -> set[str]:
        """Which sides an expression depends on."""
        found = {self.symbols[s].kind for s in expr.free_symbols if s in self.symbols}
        return (found | {n for n, s in self.index.items() if s in expr.free_symbols}) - {"const"}

    def _positions(self, expr: Any) -> bool:
        return any(s in expr.free_symbols for s in self.index.values())

    def node(self, expr: Any) -> Node:
        """A sympy expression back as a per-step expression, its index at t."""
        if expr in self.symbols:
            return at_step(self.symbols[expr].node, {AT_I: 0, AT_J: 0}, self.leaves)
        if expr.is_number:
            return const(float(expr))
        args = [self.node(a) for a in expr.args]
        if expr.is_Add:
            return total(args) or const(0.0)
        if expr.is_Mul:
            return product(args)
        if expr.func is self.sp.exp:
            return pointwise("exp", args[0])
        if expr.is_Pow:
            return _power(args[0], args[1])
        raise self.broken()


def _power(base: Node, exponent: Node) -> Node:
    if exponent.op == "const" and exponent["value"] == -1.0:
        return simple("div", UNITY, base)
    if exponent.op == "const" and exponent["value"] == 0.5:
        return pointwise("sqrt", base)
    return simple("pow", base, exponent)


class _Parts:
    """Collects the factors of one product by side."""

    def __init__(self, owner: _Separator) -> None:
        self.owner, self.sp = owner, owner.sp
        self.sides: dict[str, list[Node]] = {AT_I: [], AT_J: [], "const": []}
        self.scores: tuple[Node, Node] | None = None
        self.turn: Node | None = None
        self.slopes: dict[Any, dict[str, Any]] = {}
        self.prefixes: dict[tuple[Node, bool], list[tuple[tuple[str, int], Any]]] = {}

    def factor(self, f: Any) -> None:
        """A factor that is neither an exponential nor a power of positions."""
        kinds = self.owner.kinds(f)
        if kinds == {"scores"} and f in self.owner.symbols and self.scores is None:
            self.scores = self._score_sides(self.owner.symbols[f].node)
            return
        if len(kinds) > 1 or kinds - {AT_I, AT_J} or self.owner._positions(f):
            raise self.owner.broken()
        self.sides[next(iter(kinds), "const")].append(self.owner.node(f))

    def _score_sides(self, node: Node) -> tuple[Node, Node]:
        parts = turned(node)
        if indices(parts.x) == {AT_J}:
            parts = parts.swapped
        if parts.step is not None:
            self.turn = parts.step if self.owner.lower else negated(parts.step)
        query, key = (at_step(x, {AT_I: 0, AT_J: 0}, self.owner.leaves) for x in (parts.x, parts.y))
        return query, key if parts.rest is None else rotate(parts.rest, key)

    def exponent(self, e: Any) -> None:
        """One summand of the exponent of e."""
        owner = self.owner
        prefix = [s for s in e.free_symbols if s in owner.symbols and owner.symbols[s].kind == "prefix"]
        if len(prefix) == 1:
            meaning, scale = owner.symbols[prefix[0]], e.coeff(prefix[0], 1)
            if e.has(*owner.index.values()) or owner.kinds(scale):
                raise owner.broken()
            self.prefixes.setdefault((meaning.node, meaning.product), []).append((meaning.end, scale))
        elif owner._positions(e):
            self.power(self.sp.E, e)
        else:
            kinds = owner.kinds(e)
            if len(kinds) > 1 or kinds - {AT_I, AT_J}:
                raise owner.broken()
            self.sides[next(iter(kinds), "const")].append(pointwise("exp", owner.node(e)))

    def power(self, base: Any, exponent: Any) -> None:
        """base ** exponent, where the exponent has positions: base ** (c i - c j) is a decay."""
        owner = self.owner
        if owner.kinds(base):
            raise owner.broken()
        slopes = self.slopes.setdefault(base, {AT_I: self.sp.Integer(0), AT_J: self.sp.Integer(0)})
        rest = exponent
        for name, symbol in owner.index.items():
            slope = exponent.coeff(symbol, 1)
            slopes[name] += slope
            rest = self.sp.expand(rest - slope * symbol)
        if owner._positions(rest) or any(owner.kinds(c) for c in slopes.values()):
            raise owner.broken()
        if rest != 0:
            self.factor(base**rest)

    def finish(self) -> SeparableTerm:
        segments = [s for base, slopes in self.slopes.items() if (s := self._constant(base, slopes))]
        segments += [s for key, ends in self.prefixes.items() for s in self._segments(key, ends)]
        query = product((*self.sides["const"], *self.sides[AT_I]))
        return SeparableTerm(query, product(self.sides[AT_J]), self.scores, tuple(segments), self.turn)

    def _constant(self, base: Any, slopes: dict[str, Any]) -> Segment | None:
        if self.sp.expand(slopes[AT_I] + slopes[AT_J]) != 0:
            raise BrokenLaw("a position outside a difference i - j", self.owner.formula, NO_FACTORS)
        slope = slopes[AT_I] if self.owner.lower else slopes[AT_J]
        if slope == 0:
            return None
        decay = self.owner.node(self.sp.exp(slope) if base == self.sp.E else base**slope)
        return Segment(lambda m: decay, *((0, 1) if self.owner.lower else (1, 0)))

    def _segments(self, key: tuple[Node, bool], ends: list[tuple[tuple[str, int], Any]]) -> list[Segment]:
        """Differences of prefix sums as segments. Ranges of one factor that differ at both ends stay apart: one segment
        for all would divide by the factors that the shorter ones lack, and a factor may be zero."""
        single = [(end, scale / n) for end, scale in ends if scale.is_number for n in [_count(scale)] for _ in range(n)]
        pairs = _paired(single, self.owner.lower)
        if any(not scale.is_number for _, scale in ends) or sum(map(len, pairs)) != len(single):
            pairs = [ends]
        return [s for p in pairs if (s := self._segment(key, p))]

    def _segment(self, key: tuple[Node, bool], ends: list[tuple[tuple[str, int], Any]]) -> Segment | None:
        """A difference of prefix sums as a segment; prefixes that don't pair up have no bounded recurrence."""
        body, is_product = key
        totals: dict[str, Any] = {}
        for (name, offset), scale in ends:
            side = name or f"from {offset}"
            totals[side] = self.sp.expand(totals.get(side, 0) + scale)
        if totals.get(AT_I, 0) + totals.get(AT_J, 0) != 0 or any(
            c != 0 for n, c in totals.items() if n not in (AT_I, AT_J)
        ):
            raise self.owner.broken()
        scale = totals.get(AT_I if self.owner.lower else AT_J, self.sp.Integer(0))
        reach = {n: max((o for (name, o), _ in ends if name == n), default=0) for n in (AT_I, AT_J)}
        for (name, offset), part in ends:
            for m in range(offset, reach[name] if name else offset):
                self.sides[name].append(self._inside(self._decay(body, is_product, -part, m), m))
        if scale == 0:
            return None
        p, r = (reach[AT_I] - 1, reach[AT_J]) if self.owner.lower else (reach[AT_I], reach[AT_J] - 1)
        return Segment(lambda m: self._decay(body, is_product, scale, m), p, r)

    def _inside(self, factor: Node, offset: int) -> Node:
        """A factor away from its own position, which must be 1 beyond the ends of the sequence."""
        if offset and not gives(factor, 1.0):
            raise BrokenLaw("a product that may leave the sequence", self.owner.formula, NO_FACTORS)
        return factor

    def _decay(self, body: Node, is_product: bool, scale: Any, offset: int) -> Node:
        """The factor of one position: body ** scale, or e ** (scale * body)."""
        value, power = at_step(body, {_BOUND: offset}, self.owner.leaves), self.owner.node(scale)
        if is_product:
            return _power(value, power)
        return pointwise("exp", product((power, value)))


def _count(scale: Any) -> int:
    """How many equal ranges end here: those that begin together may end apart."""
    return abs(int(scale)) if scale.is_integer and scale != 0 else 1


def _paired(ends: list[tuple[tuple[str, int], Any]], lower: bool) -> list[list[tuple[tuple[str, int], Any]]]:
    """Far ends with near ends of the opposite scale, the outermost with the outermost; those left over are left out."""
    near, far = (AT_J, AT_I) if lower else (AT_I, AT_J)
    starts, stops = (sorted(e for e in ends if e[0][0] == side) for side in (near, far))
    return [[a, b] for a, b in zip(starts, stops, strict=False) if b[1] > 0 and a[1] + b[1] == 0]


_BOUND = "bound"


def _renamed(body: Node, bound: str) -> Node:
    """The body of a range over a bound index of one fixed name, so that equal bodies are equal."""

    def rename(n: Node) -> Node | None:
        if n.op == "input_of" and n["index"] == bound:
            return input_of(n["name"], _BOUND, n.type.rows, n["offset"])
        return None

    return substitute(body, rename)


def indices(node: Node) -> set[str]:
    """The index variables that a formula depends on, without those that its ranges bind."""
    if node.op in ("position", "input_of"):
        return {node["index"]}
    found = set().union(*(indices(a) for a in node.args))
    return found - {node["index"]} if node.op in RANGES else found
