"""The two plans of a training step of a form on pairs of chunks.

The backward kernels start from what each read gave and from the logarithm of a softmax's sums: to make these again is
the whole forward pass, so they are always kept.
"""

from collections.abc import Collection
from dataclasses import replace

from smir.ir.kernel import GIVEN, PRODUCT, KernelPlan
from smir.ir.tile import BUFFER
from smir.ir.tile_program import TileLeaf, TileProgram
from smir.passes.analysis.tile_cost import total_flops
from smir.passes.gradients.saved_values import KEPT, SavedValue, TrainingPlan
from smir.passes.kernels.buffer_types import with_buffer_types
from smir.passes.kernels.crossing import ELEMENT_BYTES, NOMINAL, OPERATIONS_PER_BYTE, size
from smir.passes.kernels.partition import partition
from smir.passes.kernels.partition_pairs import has_pair_kernels, pair_plan
from smir.passes.pairs.lower_pairs import LOG, VALUE
from smir.passes.pairs.pair_adjoint import FORWARD_KERNEL
from smir.passes.tiles.leaves import with_needed_leaves

# Chunks that a row chunk meets in the forward pass, for the cost of a second one.
_NOMINAL_CHUNKS = 4096 // NOMINAL["@C"]


def pair_training_plan(forward: TileProgram, adjoint: TileProgram) -> TrainingPlan:
    """The form's program, and its simplified adjoint without the kernel that repeats the forward pass."""
    if not has_pair_kernels(forward):
        # a forward pass that keeps nothing
        return TrainingPlan(partition(forward), pair_plan(adjoint), ())
    exported = {name: value for s in forward.scans for name, value in s.exports}
    loaded = {n["name"] for n in adjoint.nodes() if n.op == "load" and n["kind"] == BUFFER} & exported.keys()
    leaves = tuple(TileLeaf(BUFFER, name, v.type.rows, v.type.cols) for name, v in exported.items() if name in loaded)
    rest = replace(adjoint, scans=tuple(s for s in adjoint.scans if s.kernel != FORWARD_KERNEL))
    again = _NOMINAL_CHUNKS * sum(total_flops(n, size) for n in forward.nodes()) / OPERATIONS_PER_BYTE
    values = []
    for leaf in leaves:
        keep = 2.0 * size(leaf.rows) * size(leaf.cols) * ELEMENT_BYTES
        values.append(SavedValue(leaf.name, leaf.name, leaf.rows, leaf.cols, keep, again, KEPT))
    backward = pair_plan(with_needed_leaves(rest, (*adjoint.leaves, *leaves)))
    made = pair_plan(forward, loaded)
    rounded = {b.name for b in with_buffer_types(backward).buffers if b.owner == GIVEN and b.dtype == PRODUCT}
    short = rounded & _means(loaded)
    return TrainingPlan(_shortened(made, short), _shortened(backward, short), tuple(values))


def _means(names: Collection[str]) -> set[str]:
    """The means of softmaxes among what is kept, which are no larger than their values; sums may be, for 16 bits."""
    reads = {name.removesuffix(LOG) for name in names if name.endswith(LOG)}
    return {name for name in names if name.removesuffix(VALUE) in reads}


def _shortened(plan: KernelPlan, names: Collection[str]) -> KernelPlan:
    """The plan with these buffers in the type of products."""
    return replace(plan, buffers=tuple(replace(b, dtype=PRODUCT) if b.name in names else b for b in plan.buffers))
