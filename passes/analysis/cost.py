"""Symbolic cost of a kernel plan in T, C and the dimensions: operations, bytes, and launches in sequence.

Per (batch, head). A machine turns a cost into seconds; see `select_form`.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cache
from typing import Any

import sympy

from smir.ir.convolution import ConvolutionProgram
from smir.ir.dims import Dim
from smir.ir.graph import Node, reaches, walk
from smir.ir.kernel import Kernel, KernelPlan, Loop
from smir.ir.mixer import Mixer, matrix_shape
from smir.ir.tile import CARRIED, CHUNK, COL, LEVEL_OPS, ONE
from smir.passes.analysis.tile_cost import elements, flops, levels

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
    `once` is paid a single time, however many sequences there are.
    """

    flops: sympy.Expr
    moved: sympy.Expr
    materialised: sympy.Expr
    sequential: sympy.Expr
    once: "Cost | None" = None

    def __add__(self, other: "Cost") -> "Cost":
        once = self.once + other.once if self.once and other.once else self.once or other.once
        return Cost(self.flops + other.flops, self.moved + other.moved,
                    self.materialised + other.materialised, self.sequential + other.sequential, once)  # fmt: skip

    def times(self, count: Any, sequential: Any) -> "Cost":
        """Repeated `count` times, of which `sequential` one after the other."""
        return Cost(self.flops * count, self.moved * count, self.materialised * count, self.sequential * sequential)


ZERO = Cost(*[sympy.Integer(0)] * 4)


def plan_cost(plan: KernelPlan) -> Cost:
    """The cost of all kernels of a plan."""
    return sum((_kernel_cost(k) for k in plan.kernels), ZERO)


def convolution_cost(program: ConvolutionProgram, plan_of: Callable[[Mixer], KernelPlan]) -> Cost:
    """The cost of the convolution form; `plan_of` gives the plans of its parts. Kernels are made once for a batch."""
    cost = plan_cost(plan_of(program.output))
    for term in (term for read in program.reads for term in read.terms):
        rows, _ = matrix_shape(term.response.output_dims)
        transforms = _transform(size(str(rows)))
        once = replace(plan_cost(plan_of(term.response)) + transforms, once=None)
        cost += plan_cost(plan_of(term.driver)) + replace(transforms + transforms, once=once)
    return cost


def _transform(channels: sympy.Expr) -> Cost:
    """One real Fourier transform of twice the sequence: 5/2 N log2 N operations, in passes over complex values.

    Numpy's writes about as much as three elements for each token and halving (measured, T = 4096).
    """
    halvings = sympy.log(2 * T, 2)
    work = channels * T
    return Cost(5 * work * halvings, 8 * work, 3 * work * halvings, sympy.Integer(2))


def _kernel_cost(kernel: Kernel) -> Cost:
    chunks = T / C
    nodes = list(walk(kernel.roots()))
    if kernel.sequential:
        return _evaluation(nodes, _stored(kernel)).times(chunks, chunks)
    inner = [(loop, _pair_values(loop)) for loop in kernel.loops]
    outer = [n for n in nodes if not any(n in changing for _, changing in inner)]
    cost = _evaluation(outer, [s.value for s in kernel.stores]).times(chunks, 1)
    for loop, changing in inner:
        pairs = _pairs(loop)
        work = _evaluation([n for n in nodes if n in changing], [s.value for s in loop.stores])
        cost += work.times(pairs, pairs)
    return cost


def _pairs(loop: Loop) -> sympy.Expr:
    """How many pairs of chunks a loop of a quadratic kernel visits."""
    chunks = T / C
    reach = loop.scan.reach
    return chunks * (chunks - 1) / 2 if reach is None else chunks * sympy.ceiling(reach / C)


def _pair_values(loop: Loop) -> set[Node]:
    """What changes from one visited chunk to the next inside a loop of a quadratic kernel."""
    roots = [*(c.next for c in loop.scan.carries), *(s.value for s in loop.stores)]
    own = {c.name for c in loop.scan.carries}

    def changes(n: Node) -> bool:
        if n.op != "load":
            return False
        return n["name"] in own if n["kind"] == CARRIED else COL in (n.get("block"), n.get("other"))

    return reaches(roots, changes)


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
        # a scan goes up and down a tree over the chunk's rows
        sequential=sympy.Add(*(depth * t if n.op == "scan" else t for n, t in work)),
    )
