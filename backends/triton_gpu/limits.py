"""What 32 bits hold: offsets inside a tile and the number of programs. Everything else is computed in 64 bits.

A kernel adds a tile's place, in 64 bits, and the offsets of its elements, in 32 bits, which are faster. So the elements
of one tile must lie within 2^31 elements of its first one, wherever the tile itself is.
"""

from collections.abc import Mapping
from math import prod
from typing import Any

from smir.backends.triton_gpu.facts import block_name, padded
from smir.backends.triton_gpu.names import identifier
from smir.backends.triton_gpu.options import Options
from smir.errors import BackendError
from smir.ir.kernel import GRID, KernelPlan
from smir.ir.tile import PAST, TOKEN

Tensor = Any
LARGEST = 2**31 - 1


def within_reach(tensor: Tensor, kind: str, chunk: int) -> Tensor:
    """The tensor, or a contiguous copy if a tile of it reaches too far.

    Only a layout does that in which neighbouring tokens or channels are millions of elements apart, for example
    channels first.
    """
    if tensor.is_contiguous():
        return tensor
    has_tokens = kind in (TOKEN, PAST)
    first = 3 if has_tokens else 1
    reach = sum((n - 1) * step for n, step in zip(tensor.shape[first:], tensor.stride()[first:], strict=True))
    reach += (chunk - 1) * tensor.stride(1) if has_tokens else 0
    return tensor if reach <= LARGEST else tensor.contiguous()


def check_reach(arrays: Mapping[str, tuple[str, Tensor]], heads: int, chunk: int) -> None:
    """A chunk of contiguous memory is within reach. `arrays`: kind and tensor by name. Raises BackendError."""
    for name, (kind, tensor) in arrays.items():
        if kind in (TOKEN, PAST) and chunk * heads * prod(tensor.shape[3:]) > LARGEST:
            raise BackendError(f"{chunk} tokens of {name} for {heads} heads have more elements than 32 bits count",
                               hint="call the mixer for some of the heads, or with a smaller chunk")  # fmt: skip


def check_programs(plan: KernelPlan, sizes: Mapping[str, int], sequences: int, chunks: int, options: Options,
                   segments: int = 1) -> None:  # fmt: skip
    """A grid has at most 2^31 - 1 programs. `sequences` is batch times heads, `chunks` those of all sequences together,
    for all heads. Raises BackendError."""
    for kernel in plan.kernels:
        chosen = options[identifier(kernel.name)]
        axes = [axis for axis, role in kernel.roles if role == GRID and axis in sizes]
        blocks = prod(-(-sizes[a] // min(chosen[block_name(a)], padded(sizes[a]))) for a in axes)
        walks = sequences * (segments if kernel.in_segments else 1)
        programs = blocks * (walks if kernel.sequential else chunks)
        if programs > LARGEST:
            raise BackendError(f"kernel {kernel.name} would need {programs} programs, and a grid has {LARGEST} at most",
                               hint="call the mixer for a part of the batch, or with a larger chunk")  # fmt: skip
