"""Products with parameters that exponents are made of, in float64 where products take float32.

e^x has the absolute error of x as its relative one, and an exponent that is a product with a parameter, as those of
random features are, adds up a term for every channel: a hundred terms in one float32 number leave ten units in the last
place of the largest partial sum. Such products take widened operands, and their sum is narrowed: it is one product of
many, and tensor cores of large GPUs multiply float64 as fast as they make float32 of three parts.
"""

from collections.abc import Iterator
from dataclasses import replace

from smir.ir import tile
from smir.ir.graph import Node, substitute, walk
from smir.ir.kernel import Kernel, KernelPlan, Loop, Store
from smir.ir.summands import all_stores
from smir.ir.tile import BUFFER, CARRIED, CHUNK, ONE, PARAM
from smir.ir.tile_program import Carry

# What hands a term of a sum on, or a multiple of it.
_TERMS = frozenset("add sub neg mul div max min where stop scan shift edge_row place_row valid_rows mask broadcast "
                   "transpose widen narrow".split())  # fmt: skip

p = tile.pointwise


def with_wide_exponents(plan: KernelPlan) -> KernelPlan:
    """The same plan, marked; the plan itself where no exponent has such a product."""
    products = _products(plan)
    if not products:
        return plan
    wide: dict[Node, Node] = {}
    for product in walk(products):
        if product in products:
            a, b = (p("widen", substitute(x, wide)) for x in product.args)
            wide[product] = p("narrow", tile.dot(a, b))
    kernels, walks = (tuple(_marked(k, wide) for k in group) for group in (plan.kernels, plan.walks))
    return replace(plan, kernels=kernels, walks=walks)


def _products(plan: KernelPlan) -> set[Node]:
    """The products with parameters below arguments of `exp`, also in what kernels hand over to each other."""
    kernels = (*plan.kernels, *plan.walks)
    stored = [(s.target, s.value) for k in kernels for s in all_stores(k)]
    carried = [(c.name, n) for k in kernels for loop in k.loops for c in loop.scan.carries for n in (c.next, c.start)]
    below: dict[str, list[tuple[str, Node | None]]] = {CARRIED: carried, BUFFER: [*stored]}
    stack = [n.args[0] for k in kernels for n in walk(k.roots()) if n.op == "exp"]
    found: set[Node] = set()
    while stack:
        node = stack.pop()
        if node in found:
            continue
        found.add(node)
        if node.op in _TERMS:
            stack.extend(node.args)
        elif node.op == "load" and node["kind"] in below:
            stack.extend(n for name, n in below[node["kind"]] if name == node["name"] and n is not None)
    return {n for n in found if _is_of_param(n)}


def _is_of_param(node: Node) -> bool:
    """Whether it is a product of rows of tokens with a matrix that is a parameter."""
    if node.op != "dot" or ONE in (node.type.rows, node.type.cols, node.args[0].type.cols):
        return False
    inner = [a.args[0] if a.op == "transpose" else a for a in node.args]
    return CHUNK in (node.type.rows, node.type.cols) and any(a.op == "load" and a["kind"] == PARAM for a in inner)


def _marked(kernel: Kernel, wide: dict[Node, Node]) -> Kernel:
    if wide.keys().isdisjoint(walk(kernel.roots())):
        return kernel

    def carry(c: Carry) -> Carry:
        return replace(c, next=substitute(c.next, wide), start=c.start and substitute(c.start, wide))

    def stores(given: tuple[Store, ...]) -> tuple[Store, ...]:
        return tuple(replace(s, value=substitute(s.value, wide)) for s in given)

    def loops() -> Iterator[Loop]:
        for loop in kernel.loops:
            scan = replace(loop.scan, carries=tuple(map(carry, loop.scan.carries)))
            yield Loop(scan, stores(loop.stores), stores(loop.final_stores))

    return replace(kernel, loops=tuple(loops()), stores=stores(kernel.stores))
