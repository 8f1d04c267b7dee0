"""When kernels that make results from the start are taken: if registers hold what a program computes, and shared memory
what it reads.

Two programs of four warps on a multiprocessor hide each other's waiting: they are faster than one of eight warps
(measured on an H200 with heads of 128).
"""

from collections.abc import Callable

from smir.ir.graph import Node, walk
from smir.ir.kernel import GRID, PER_CHUNK, Kernel, KernelPlan
from smir.ir.live import HELD_BY_FOUR_WARPS, peak_computed, peak_elements
from smir.ir.tile import BUFFER, SIZELESS

WARPS = 4
# Bytes of tiles that a program still needs at one time: half of a multiprocessor's shared memory.
READ_BYTES = 112 << 10


def is_joined(plan: KernelPlan, kernel: Kernel) -> bool:
    """Whether a parallel kernel reads whole states and writes results, and nothing for other kernels."""
    results = {r.name for r in plan.results}
    whole = not kernel.loops and all(role != GRID for _, role in kernel.roles)
    only = all(s.target in results for s in kernel.stores)
    return whole and only and any(_is_state(plan, n) for n in walk(kernel.roots()))


def fit_joined(plan: KernelPlan, elements: Callable[[Node], int], float32: bool) -> bool:
    """Whether all kernels behind the last walk fit a program; `elements` of a tile at the sizes of a call.

    Products of float32 take twice the registers and the memory: results are made in pieces then.
    """
    first = max((i + 1 for i, k in enumerate(plan.kernels) if k.loops), default=0)
    return not float32 and all(_fits(k, elements) for k in plan.kernels[first:])


def _fits(kernel: Kernel, elements: Callable[[Node], int]) -> bool:
    values = [s.value for s in kernel.stores]
    read = peak_elements(values, lambda n: elements(n) if n.op == "load" else 0)
    return peak_computed(values, elements) <= HELD_BY_FOUR_WARPS and 2 * read <= READ_BYTES


def _is_state(plan: KernelPlan, n: Node) -> bool:
    """Whether it is a tile with neither tokens nor ones on a side, which a walk has stored."""
    if n.op != "load" or n["kind"] != BUFFER or {n.type.rows, n.type.cols} & SIZELESS:
        return False
    return plan.buffer(n["name"]).extent == PER_CHUNK
