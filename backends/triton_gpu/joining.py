"""When one kernel writes all results of a chunk: if registers hold what it computes, and shared memory what it reads.

Two programs of four warps on a multiprocessor hide each other's waiting: they are faster than one of eight warps, also
where some of their registers spill (measured on an H200 with heads of 128).
"""

from collections.abc import Callable

from smir.ir.graph import Node, walk
from smir.ir.kernel import GRID, PER_CHUNK, Kernel, KernelPlan
from smir.ir.live import peak_computed
from smir.ir.tile import BUFFER, CHUNK, ONE, SIZELESS

WARPS = 4
# Elements alive at once of what a program computes, and bytes of what it reads.
COMPUTED_ELEMENTS, READ_BYTES = 44 << 10, 144 << 10


def is_joined(plan: KernelPlan, kernel: Kernel) -> bool:
    """Whether a parallel kernel reads whole states and writes several results, and nothing for other kernels."""
    targets, results = {s.target for s in kernel.stores}, {r.name for r in plan.results}
    whole = not kernel.loops and all(role != GRID for _, role in kernel.roles)
    return whole and len(targets) > 1 and targets <= results and any(_is_state(plan, n) for n in walk(kernel.roots()))


def fits_one_kernel(plan: KernelPlan, elements: Callable[[Node], int], float32: bool) -> bool:
    """Whether the plan's last kernel is one that is worth it; `elements` of a tile at the sizes of a call.

    Products of float32 take twice the registers and the memory: such kernels stay apart.
    """
    kernel = plan.kernels[-1]
    loads = [n for n in walk(kernel.roots()) if n.op == "load" and ONE not in (n.type.rows, n.type.cols)]
    return (
        not float32
        and is_joined(plan, kernel)
        and peak_computed((s.value for s in kernel.stores), elements) <= COMPUTED_ELEMENTS
        and 2 * sum(map(elements, loads)) <= READ_BYTES
    )


def _is_state(plan: KernelPlan, n: Node) -> bool:
    """Whether it is a tile with neither tokens nor ones on a side, which a walk has stored."""
    axes = {n.type.rows, n.type.cols}
    return (
        n.op == "load"
        and n["kind"] == BUFFER
        and not axes & ({CHUNK} | SIZELESS)
        and plan.buffer(n["name"]).extent == PER_CHUNK
    )
