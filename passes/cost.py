"""Symbolic cost of a kernel plan in T, C and the dimensions: operations, bytes, and launches in sequence.

Per (batch, head). A machine turns a cost into seconds; see `select_form`.
"""

from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from typing import Any

import sympy

from smir.ir.dims import Dim
from smir.ir.graph import Node, reaches, walk
from smir.ir.kernel import Kernel, KernelPlan
from smir.ir.tile import CARRIED, CHUNK, COL, LEVEL_OPS, ONE, Carry
from smir.passes.tile_cost import elements, flops, levels

T, C = sympy.symbols("T C", positive=True)


@cache
def size(axis: str) -> Any:
    """The length of an axis as a sympy expression (`K/2` becomes K/2)."""
    if axis == ONE:
        return sympy.Integer(1)
    if axis == CHUNK:
        return C
    terms = Dim.parse(axis).terms
    return sympy.Add(*(_number(c) * sympy.Mul(*(dimension(n) for n in names)) for names, c in terms))


def dimension(name: str) -> sympy.Symbol:
    """The symbol of a dimension; its name can't clash with T and C, which stand for time and chunk."""
    return sympy.Symbol(f"dim_{name}", positive=True)


def _number(value: Fraction) -> sympy.Rational:
    return sympy.Rational(value.numerator, value.denominator)


@dataclass(frozen=True)
class Cost:
    """What one form costs per (batch, head), symbolic in T, C and the dimensions.

    `flops` operations; `moved` elements that cross memory when every kernel keeps its values on chip;
    `materialised` elements when every operation writes its result; `sequential` operations that wait for each other.
    """

    flops: sympy.Expr
    moved: sympy.Expr
    materialised: sympy.Expr
    sequential: sympy.Expr

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(self.flops + other.flops, self.moved + other.moved,
                    self.materialised + other.materialised, self.sequential + other.sequential)  # fmt: skip

    def times(self, count: Any, sequential: Any) -> "Cost":
        """Repeated `count` times, of which `sequential` one after the other."""
        return Cost(self.flops * count, self.moved * count, self.materialised * count, self.sequential * sequential)


ZERO = Cost(*[sympy.Integer(0)] * 4)


def plan_cost(plan: KernelPlan) -> Cost:
    """The cost of all kernels of a plan."""
    return sum((_kernel_cost(k) for k in plan.kernels), ZERO)


def _kernel_cost(kernel: Kernel) -> Cost:
    chunks = T / C
    nodes = list(walk(kernel.roots()))
    if kernel.sequential:
        return _evaluation(nodes, _stored(kernel)).times(chunks, chunks)
    pairs = chunks * (chunks - 1) / 2
    inner = _pair_values(kernel)
    outer = [n for n in nodes if n not in inner]
    local = _evaluation(outer, [s.value for s in kernel.stores]).times(chunks, 1)
    return local + _evaluation([n for n in nodes if n in inner], []).times(pairs, pairs)


def _pair_values(kernel: Kernel) -> set[Node]:
    """What changes from one visited chunk to the next inside the loops of a quadratic kernel."""
    nexts = [c.next for c in _carries(kernel)]
    return reaches(nexts, lambda n: n.op == "load" and (n["kind"] == CARRIED or n.get("block") == COL))


def _carries(kernel: Kernel) -> list[Carry]:
    return [c for loop in kernel.loops for c in loop.scan.carries]


def _stored(kernel: Kernel) -> list[Node]:
    return [s.value for loop in kernel.loops for s in loop.stores] + [s.value for s in kernel.stores]


def _evaluation(nodes: list[Node], stores: list[Node]) -> Cost:
    """One evaluation of these nodes; level-dependent ones count once a level."""
    repeated = reaches(nodes, lambda n: n.op in LEVEL_OPS) - reaches(nodes, lambda n: n.op == "level_sum")
    depth = levels(size)
    times = [(n, depth if n in repeated else 1) for n in nodes]
    loads = [n for n in nodes if n.op == "load" and n["kind"] != CARRIED]
    work = [(n, t) for n, t in times if n.args]
    return Cost(
        flops=sympy.Add(*(t * flops(n, size) for n, t in work)),
        moved=sympy.Add(*(elements(n, size) for n in [*loads, *stores])),
        materialised=sympy.Add(*(t * sum(elements(v, size) for v in (n, *n.args)) for n, t in work)),
        sequential=sympy.Add(*(t for _, t in work)),
    )
