"""States that the step form's kernels may write where they read them."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from smir.backends.triton_gpu.runtime import prepare
from smir.ir.kernel import GRID, Kernel, KernelPlan
from smir.ir.tile import axis_parts
from smir.ir.tile_program import OUTPUT, Carry

Tensor = Any
Tensors = Mapping[str, Tensor]


def prepare_step(plan: KernelPlan, arrays: Tensors) -> Callable[[Tensors, Tensors, Tensors], tuple[Tensor, Tensors]]:
    """Makes a step form ready for tensors like these. Raises what `prepare` raises.

    What runs it takes inputs, initial states, and tensors into which final states are to be written: by the kernels
    themselves, unless another program may still read there.
    """
    launch, owned = prepare(plan, arrays, 1), owned_states(plan)

    def run(arrays: Tensors, states: Tensors, targets: Tensors) -> tuple[Tensor, Tensors]:
        direct = {n: t for n, t in targets.items() if t.is_contiguous() and (n in owned or not _lie_in(t, states))}
        results, final = launch(arrays, states, direct)
        for name, target in targets.items():
            if name not in direct:
                target.copy_(final[name])
        return results[OUTPUT], {**final, **targets}

    return run


def _lie_in(target: Tensor, states: Tensors) -> bool:
    """Whether a kernel that writes there writes where an initial state lies."""
    return any(target.untyped_storage().data_ptr() == s.untyped_storage().data_ptr() for s in states.values())


def owned_states(plan: KernelPlan) -> frozenset[str]:
    """The states of which every block is read and written by one program alone.

    Others would be overwritten while another program, which starts later, still has to read them: the log of a scale
    that blocks of the state share, or a state that two kernels start from.
    """
    kernels: dict[str, set[str]] = {}
    shared: set[str] = set()
    for kernel, carry in _state_carries(plan):
        kernels.setdefault(carry.state or "", set()).add(kernel.name)
        axes = {*axis_parts(carry.rows), *axis_parts(carry.cols)}
        if any(axis not in axes for axis, role in kernel.roles if role == GRID):
            shared.add(carry.state or "")
    return frozenset(name for name, found in kernels.items() if len(found) == 1 and name not in shared)


def _state_carries(plan: KernelPlan) -> Iterator[tuple[Kernel, Carry]]:
    for kernel in plan.kernels:
        for loop in kernel.loops:
            yield from ((kernel, c) for c in loop.scan.carries if c.state is not None)
