"""Rules of kernels that walk along segments of a sequence."""

from collections.abc import Set

from smir.ir.graph import Node, walk
from smir.ir.kernel import PER_SEGMENT, Kernel, KernelPlan, Loop
from smir.ir.tile import BUFFER, CARRIED, SEGMENT
from smir.ir.tile_program import SEGMENT_ORDERS
from smir.ir.verify_nodes import refuse


def check_segments(plan: KernelPlan, kernel: Kernel) -> None:
    """Raises IRError where a kernel reads or writes what a segment ends with at a place that belongs to no segment."""
    ends = {b.name for b in plan.buffers if b.extent == PER_SEGMENT}
    over = [loop for loop in kernel.loops if loop.scan.order in SEGMENT_ORDERS]
    for loop in over:
        _check_over_segments(kernel, loop, ends)
    for loop in kernel.loops:
        _check_stores(kernel, loop, ends)
    starts = [c.start for loop in kernel.loops for c in loop.scan.carries if c.start is not None]
    values = [n for loop in kernel.loops if loop not in over for n in (*(c.next for c in loop.scan.carries),
              *(s.value for s in (*loop.stores, *loop.final_stores)))]  # fmt: skip
    for node in walk([*starts, *values, *(s.value for s in kernel.stores)]):
        if node.op == "load" and (node.get("block") == SEGMENT or (node["kind"] == BUFFER and node["name"] in ends)):
            refuse(node, "is of a segment, and only loops over segments visit them")
    if kernel.in_segments and kernel.stores:
        refuse(f"kernel {kernel.name}", "walks along segments and also stores after its loops")


def _check_over_segments(kernel: Kernel, loop: Loop, ends: Set[str]) -> None:
    """Such a loop has no chunk: it only knows what segments end with."""
    if loop.stores or loop.final_stores:
        refuse(f"kernel {kernel.name}", "stores in a loop over segments")
    for node in walk([c.next for c in loop.scan.carries]):
        if not (node.op != "load" or node["kind"] == CARRIED or _is_end(node, ends)):
            refuse(node, "isn't what a segment ends with")


def _is_end(node: Node, ends: Set[str]) -> bool:
    return bool(node["kind"] == BUFFER and node["block"] == SEGMENT and node["name"] in ends)


def _check_stores(kernel: Kernel, loop: Loop, ends: Set[str]) -> None:
    for store in loop.stores:
        if store.target in ends:
            refuse(f"store to {store.target}", "a segment ends after its last chunk")
    for store in loop.final_stores:
        if store.target in ends and not kernel.in_segments:
            refuse(f"store to {store.target}", f"kernel {kernel.name} doesn't walk along segments")
