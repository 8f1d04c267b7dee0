"""The names of a plan's tensors in its printed launcher: the spec's own names wherever they are free."""

from functools import cache

from smir.backends.triton_gpu.names import Names
from smir.ir.kernel import GIVEN, SAVED, Buffer, KernelPlan, Store
from smir.ir.tile import BUFFER as BUFFER_LEAF
from smir.ir.tile import TOKEN
from smir.ir.tile_program import OUTPUT as Y
from smir.ir.tile_program import Carry, TileLeaf

INPUT, BUFFER, INITIAL, FINAL, OUTPUT = "input", "buffer", "initial", "final", "output"
# What the launcher itself calls things.
LOCALS = frozenset(
    "os batch time heads chunks chunk options chosen dtype precision parts launch padded ceil_div common_type product "
    "TYPES "
    "OPTIONS INTERPRETED PRECISION SHORT_INVERSE cu_seqlens first_chunks sequence_of sequences all_chunks "
    "level_weights past past_chunk position filled splits segments span".split()
)


@cache
def symbols(plan: KernelPlan) -> dict[tuple[str, str], str]:
    """Launcher names by kind and name; all different, and different from the kernels'."""
    names = Names({*LOCALS, *(k.name for k in plan.kernels)})
    wanted = [(INPUT, leaf.name, leaf.name) for leaf in tensors(plan)]
    wanted += [(INITIAL, name, f"initial_{name}") for name in state_carries(plan)]
    wanted += [(FINAL, name, f"final_{name}") for name in final_stores(plan)]
    wanted += [(BUFFER, b.name, b.name) for b in plan.buffers]
    wanted += [(OUTPUT, r.name, r.name) for r in plan.results]
    return {(kind, name): names.new(text) for kind, name, text in wanted}


def tensors(plan: KernelPlan) -> tuple[TileLeaf, ...]:
    """The plan's inputs and parameters in declaration order, each once."""
    return tuple({leaf.name: leaf for leaf in plan.leaves if leaf.kind != BUFFER_LEAF}.values())


def given_buffers(plan: KernelPlan) -> tuple[Buffer, ...]:
    """The buffers that the caller gives."""
    return tuple(b for b in plan.buffers if b.owner == GIVEN)


def saved_buffers(plan: KernelPlan) -> tuple[Buffer, ...]:
    """The buffers that the caller gets."""
    return tuple(b for b in plan.buffers if b.owner == SAVED)


def is_forward(plan: KernelPlan) -> bool:
    """Whether the plan has a mixer's output as its one result, and keeps nothing."""
    return [(r.tensor, r.kind, r.offset) for r in plan.results] == [(Y, TOKEN, 0)] and not saved_buffers(plan)


def state_carries(plan: KernelPlan) -> dict[str, Carry]:
    """A carry that starts from each state."""
    carries = [c for k in plan.kernels for loop in k.loops for c in loop.scan.carries]
    return {c.state: c for c in reversed(carries) if c.state is not None}


def all_stores(plan: KernelPlan) -> list[Store]:
    """Everything that the plan's kernels write."""
    inside = [s for k in plan.kernels for loop in k.loops for s in (*loop.stores, *loop.final_stores)]
    return inside + [s for k in plan.kernels for s in k.stores]


def final_stores(plan: KernelPlan) -> dict[str, Store]:
    """The stores of final states, by state."""
    others = {b.name for b in plan.buffers} | {r.name for r in plan.results}
    return {s.target: s for s in all_stores(plan) if s.target not in others}
