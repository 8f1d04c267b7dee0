"""Walks along a sequence cut into segments that are walked at once, where what is carried is affine in what it was.

With h' = a h + b in every chunk, a segment takes h to A h + B: B is where it ends when it starts from nothing, and A
the product of its a. One kernel makes both for all segments at once; the walk itself then begins every segment with the
A h + B of those before it (Blelloch 1990, section 1.4). a may be a number, a row, a column or a tile, element by
element; running maxima, and logs of sums, are the same in their own semirings, max(a + h, b). No element of h may
depend on another one.

A carry that only adds up what a walk makes is no state: each segment stores its own summand.

Everything that a walk without segments stores is stored here too, so that plans with and without them have the same
inputs and results. A carry whose factor is a number or a row makes the same A in all blocks of the axes that it lacks.
"""

from collections.abc import Mapping, Set
from dataclasses import replace
from itertools import pairwise
from typing import TypeVar

from smir.ir.formula import formula
from smir.ir.graph import substitute
from smir.ir.kernel import FLOAT32, PER_SEGMENT, WIDE, Buffer, Kernel, KernelPlan, Loop, Store
from smir.ir.tile import SEGMENT, buffer, carried, pointwise
from smir.ir.tile_program import CHUNKED, SCAN, SEGMENTS_AFTER, SEGMENTS_BEFORE, Carry, Scan
from smir.passes.kernels.affine_moves import SEMIRINGS, Affine, affine_moves

Option = TypeVar("Option")

_BEHIND = {"forward": SEGMENTS_BEFORE, "backward": SEGMENTS_AFTER}


def with_segments(plan: KernelPlan) -> KernelPlan:
    """The same plan with every sequential kernel that can be cut along segments; the plan itself where none can."""
    kernels: list[Kernel] = []
    buffers = list(plan.buffers)
    taken = {k.name for k in plan.kernels} | {b.name for b in plan.buffers} | {leaf.name for leaf in plan.leaves}
    for kernel in plan.kernels:
        affine = affine_moves(kernel) if plan.form in (CHUNKED, SCAN) else None
        if affine is None:
            kernels.append(kernel)
            continue
        names = _Names(taken, kernel)
        kernels += [_ends(kernel, affine, names), _walk(kernel, affine, names)]
        for c in (c for c in kernel.loops[0].scan.carries if c.name in affine):
            kind = _kind(plan, kernel, c)
            buffers.append(Buffer(names.end(c), c.rows, c.cols, PER_SEGMENT, kind))
            if (factor := affine[c.name].factor) is not None:
                buffers.append(Buffer(names.factor(c), factor.type.rows, factor.type.cols, PER_SEGMENT, kind))
    return plan if len(kernels) == len(plan.kernels) else replace(plan, buffers=tuple(buffers), kernels=tuple(kernels))


def _kind(plan: KernelPlan, kernel: Kernel, carry: Carry) -> str:
    """The type of what a segment ends with: wide where what the walk stores of the carry is."""
    kept = {s.target for s in kernel.loops[0].stores if s.value is carry.load}
    return WIDE if any(b.dtype == WIDE for b in plan.buffers if b.name in kept) else FLOAT32


def options_of_ends(plan: KernelPlan, options: Mapping[str, Option]) -> dict[str, Option]:
    """For the kernels that make what segments end with, the options of the walks themselves, whose work is the same."""
    pairs = pairwise(plan.kernels)
    return {ends.name: options[walk.name] for ends, walk in pairs
            if ends.in_segments and walk.in_segments and len(walk.loops) > 1 and walk.name in options}  # fmt: skip


class _Names:
    """What is new in a plan is called after what it belongs to, and differs from all that is there."""

    def __init__(self, taken: Set[str], kernel: Kernel) -> None:
        self.taken = taken | {c.name for c in kernel.loops[0].scan.carries}
        self.kernel = self._fresh(f"{kernel.name}_ends")

    def end(self, carry: Carry) -> str:
        return self._fresh(f"{carry.name}_end")

    def factor(self, carry: Carry) -> str:
        return self._fresh(f"{carry.name}_factor")

    def start(self, carry: Carry) -> str:
        return self._fresh(f"{carry.name}_start")

    def _fresh(self, name: str) -> str:
        while name in self.taken:
            name += "_"
        return name


# ---- kernels ----------------------------------------------------------------------------------------------------


def _ends(kernel: Kernel, affine: dict[str, Affine], names: _Names) -> Kernel:
    """What every segment ends with from nothing, and its factors."""
    carries: list[Carry] = []
    stores: list[Store] = []
    for c in (c for c in kernel.loops[0].scan.carries if c.name in affine):
        known = affine[c.name]
        times, nothing, one = SEMIRINGS[known.plus]
        alone = carried(names.end(c), c.rows, c.cols)
        carries.append(Carry(names.end(c), c.rows, c.cols, substitute(c.next, {c.load: alone}), nothing))
        stores.append(Store(names.end(c), alone))
        if known.factor is not None:
            rows, cols = known.factor.type.rows, known.factor.type.cols
            product = carried(names.factor(c), rows, cols)
            carries.append(Carry(names.factor(c), rows, cols, pointwise(times, product, known.factor), one))
            stores.append(Store(names.factor(c), product))
    order = kernel.loops[0].scan.order
    written = "; ".join(f"{c.name} = {formula(c.next)}" for c in carries)
    loop = Loop(Scan(order, tuple(carries)), (), tuple(stores))
    return Kernel(names.kernel, written, (loop,), (), kernel.roles, in_segments=True)


def _walk(kernel: Kernel, affine: dict[str, Affine], names: _Names) -> Kernel:
    """The kernel itself along segments, each of which begins with what those before it make."""
    loop = kernel.loops[0]
    before: list[Carry] = []
    carries: list[Carry] = []
    for c in loop.scan.carries:
        if c.name not in affine:
            carries.append(c)
            continue
        first = replace(c, name=names.start(c), final=False)
        end = buffer(names.end(c), c.rows, c.cols, SEGMENT)
        known = affine[c.name]
        factor = known.factor and buffer(names.factor(c), known.factor.type.rows, known.factor.type.cols, SEGMENT)
        before.append(replace(first, next=known.apply(first.load, factor, end)))
        carries.append(replace(c, initial=0.0, state=None, start=first.load))
    behind = Loop(Scan(_BEHIND[loop.scan.order], tuple(before)))
    walked = replace(loop, scan=replace(loop.scan, carries=tuple(carries)))
    return replace(kernel, loops=(behind, walked), in_segments=True)
