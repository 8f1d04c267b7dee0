"""Rules of kernels that walk along segments of a sequence."""

from smir.ir.graph import Node, walk
from smir.ir.kernel import PER_SEGMENT, Kernel, KernelPlan, Loop
from smir.ir.tile import BUFFER, CARRIED
from smir.ir.tile_program import SEGMENT_ORDERS
from smir.ir.verify_nodes import refuse


def check_segments(plan: KernelPlan, kernel: Kernel) -> None:
    """Raises IRError where a kernel reads or writes what segments have at a place that isn't along segments."""
    ends = {b.name for b in plan.buffers if b.extent == PER_SEGMENT}
    for loop in kernel.loops:
        if loop.scan.order in SEGMENT_ORDERS:
            _check_over_segments(kernel, loop, ends)
        else:
            _check_stores(kernel, loop, ends)
    chunkwise = [loop for loop in kernel.loops if loop.scan.order not in SEGMENT_ORDERS]
    values = [v for loop in chunkwise for v in (*(s.value for s in loop.stores), *(c.next for c in loop.scan.carries))]
    for node in walk([*values, *(s.value for s in kernel.stores)]):
        if _kind(node) == BUFFER and node["name"] in ends:
            refuse(node, "is what a segment ends with, and only loops over segments know which one")
    if kernel.in_segments and kernel.stores:
        refuse(f"kernel {kernel.name}", "walks along segments and also stores after its loops")


def _check_over_segments(kernel: Kernel, loop: Loop, ends: set[str]) -> None:
    """Such a loop has no chunk: it only knows what segments end with."""
    if loop.stores or loop.final_stores:
        refuse(f"kernel {kernel.name}", "stores in a loop over segments")
    for node in walk([c.next for c in loop.scan.carries]):
        if node.op == "load" and _kind(node) != CARRIED and node["name"] not in ends:
            refuse(node, "isn't what a segment ends with")


def _check_stores(kernel: Kernel, loop: Loop, ends: set[str]) -> None:
    for store in loop.stores:
        if store.target in ends:
            refuse(f"store to {store.target}", "a segment ends after its last chunk")
    for store in loop.final_stores:
        if store.target in ends and not kernel.in_segments:
            refuse(f"store to {store.target}", f"kernel {kernel.name} doesn't walk along segments")


def _kind(node: Node) -> object:
    return node["kind"] if node.op == "load" else None
