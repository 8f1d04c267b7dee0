"""Sums over a sequence apart from the loop that makes their summands.

A loop over chunks keeps the parameters that it multiplies by, the states and the sums of parameters' gradients on the
chip all the time. Where that is more than registers hold, sums that are matrices get loops of their own, one each: the
kernels before them keep the summands' factors, which are vectors or thin tiles for each chunk.
"""

from collections.abc import Iterable

from smir.ir.graph import Node, walk
from smir.ir.kernel import GRID, Kernel, Loop, Store
from smir.ir.live import peak_elements
from smir.ir.tile import CARRIED, CHUNK, ONE, PARAM, carried, pointwise
from smir.ir.tile_program import Carry, Output, Scan
from smir.passes.analysis.tile_cost import elements
from smir.passes.kernels.crossing import size
from smir.passes.kernels.fit_outputs import BLOCK, BUDGET

# Without blocks, compiled kernels spill much from here on.
MOST_ALIVE = 92 << 10


def keeps_too_much(kernel: Kernel) -> bool:
    """Whether a sequential kernel's parameters, states and sums are more than a program's registers hold."""
    blocks = {axis: BLOCK for axis, role in kernel.roles if role == GRID}
    kept = [n for n in walk(kernel.roots()) if n.op == "load" and n["kind"] in (PARAM, CARRIED)]
    return bool(sum(elements(n, lambda axis: blocks.get(axis) or size(axis)) for n in kept) > BUDGET)


def holds_too_much(kernel: Kernel) -> bool:
    """Whether more is alive at once in a sequential kernel that isn't cut into blocks than registers hold."""
    whole = GRID not in dict(kernel.roles).values()
    return whole and peak_elements(kernel.roots(), lambda n: int(elements(n, size))) > MOST_ALIVE


def is_matrix_sum(output: Output) -> bool:
    """Whether an output is the gradient of a matrix, summed over the sequence."""
    return output.result.kind == PARAM and not {ONE, CHUNK} & {output.value.type.rows, output.value.type.cols}


def factors(value: Node) -> tuple[Node, ...]:
    """What a summand is made of: the outermost smaller tiles under it that have to be computed."""
    found: dict[Node, None] = {}
    stack = [value]
    while stack:
        node = stack.pop()
        inner = node.args[0] if node.op == "transpose" else node
        if elements(inner, size) >= elements(value, size):
            stack.extend(reversed(inner.args))
        elif inner.args:
            found.setdefault(inner)
    return tuple(found)


def sum_carry(target: str, value: Node, taken: Iterable[str]) -> tuple[Carry, Store]:
    """The carry that adds the value up over all chunks, and the store of its end into a parameter's result."""
    names = set(taken)
    name = f"{target}_sum"
    while name in names:
        name += "_"
    rows, cols = value.type.rows, value.type.cols
    load = carried(name, rows, cols)
    return Carry(name, rows, cols, pointwise("add", load, value)), Store(target, load)


def sum_loop(order: str, target: str, value: Node, taken: Iterable[str]) -> Loop:
    """A loop that does nothing but add the value up."""
    carry, store = sum_carry(target, value, taken)
    return Loop(Scan(order, (carry,)), (), (store,))
